/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A chat template, rendered over a conversation with tool calls. Checked: what is refused has a sentence and prints nothing,
 * what is printed is UTF-8 within the limit, and printing it again gives the same.
 */
#include "token/chat.h"
#include "token/jinja.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static const char vars[] = "{\"messages\":[{\"role\":\"system\",\"content\":\"Be  brief. "
			   "\"},{\"role\":\"user\",\"content\":\"Hi <b> \\u00e9\\ud83d\\ude00\\n\"},"
			   "{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"a\","
			   "\"function\":{\"name\":\"f\",\"arguments\":{\"x\":[1,2.5,"
			   "true,null]}}}]},{\"role\":\"tool\",\"content\":\"{}\"}],\"tools\":[{\"function\":"
			   "{\"name\":\"f\"}}],\"n\":3,\"s\":\" a,b \"}";

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct bmi_chat_input in = { .vars_json = vars,
					   .n_vars_json = sizeof(vars) - 1,
					   .add_generation_prompt = size & 1 };
	char *text = malloc(size ? size : 1);
	bmi_auto_str out = { 0 }, again = { 0 };
	struct bmi_chat *chat = NULL;
	struct bmi_error err = { 0 };
	int r;

	check(text != NULL);
	memcpy(text, data, size);
	r = bmi_chat_open(text, size, "<s>", "</s>", &chat, &err);
	free(text);
	check((r == 0) == (chat != NULL) && (r < 0) == (err.msg[0] != 0));
	if (r == 0) {
		r = bmi_chat_render(chat, &in, &out, &err);
		check((r < 0) == (err.msg[0] != 0) && (r == 0 || out.n == 0) && out.n <= BMI_JINJA_OUTPUT_MAX);
		check(bmi_tok_utf8_valid(out.n ? out.bytes : "", out.n) == out.n);
		check(bmi_chat_render(chat, &in, &again, &err) == r && again.n == out.n &&
		      (!out.n || !memcmp(out.bytes, again.bytes, out.n)));
	}
	bmi_chat_free(chat);
	return 0;
}

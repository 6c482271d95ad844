/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Chats: each row of cases.jsonl, a published template (or its constructs) over a conversation, equal byte for byte to what
 * Jinja2 prints under transformers' settings; then messages given as an array, and tokenizer_config.json.
 * usage: test_chat DIRECTORY
 */
#include "token/chat.h"
#include "token/template_fixture.h"

static unsigned number;
static bool all_ok = true;

static void ok(bool good, const char *name)
{
	printf("%sok %u - %s\n", good ? "" : "not ", ++number, name);
	all_ok = all_ok && good;
}

static char *text_of(const struct bmi_json *row, const char *key)
{
	const struct bmi_json *v = bmi_json_get(row, key);

	return strndup(v->n ? v->str : "", v->n);
}

static void check_row(const char *dir, const struct bmi_json *row)
{
	bmi_auto_mem char *file = text_of(row, "file"), *bos = text_of(row, "bos"), *eos = text_of(row, "eos");
	const struct bmi_json *vars = bmi_json_get(row, "vars");
	bmi_auto_str out = { 0 };
	bmi_auto(bmi_chat) chat = NULL;
	struct bmi_error err = { 0 };
	size_t n;
	bmi_auto_mem char *text = read_whole(dir, file, &n);
	int r = bmi_chat_open(text, n, bos, eos, &chat, &err);

	if (r == 0)
		r = bmi_chat_render(chat,
				    &(struct bmi_chat_input){ .vars_json = vars->str,
							      .n_vars_json = vars->n,
							      .add_generation_prompt = true,
							      .now = TEMPLATE_NOW },
				    &out, &err);
	all_ok = tell(++number, row, r, &out, err.msg) && all_ok;
}

/* The case "system" of chatml, its messages given as an array, gives the same text. */
static void check_array(const char *dir)
{
	static const struct bmi_chat_message m[] = { { "system", "a\"b\n", 4 },
						     { "user", "\0 \xe4\xbd\xa0", 5 } };
	static const char want[] =
		"<|im_start|>system\na\"b\n<|im_end|>\n<|im_start|>user\n\0 \xe4\xbd\xa0<|im_end|>\n";
	struct bmi_chat_input in = { .messages = m, .n_messages = 2 };
	bmi_auto_str out = { 0 };
	bmi_auto(bmi_chat) chat = NULL;
	struct bmi_error err = { 0 };
	size_t n;
	bmi_auto_mem char *text = read_whole(dir, "chatml.jinja", &n);

	ok(bmi_chat_open(text, n, NULL, NULL, &chat, &err) == 0 && bmi_chat_render(chat, &in, &out, &err) == 0 &&
		   out.n == sizeof(want) - 1 && !memcmp(out.bytes, want, out.n),
	   "messages as an array");
	in.messages = &(struct bmi_chat_message){ "user", "\xff", 1 };
	in.n_messages = 1;
	n = out.n;
	ok(bmi_chat_render(chat, &in, &out, &err) == -EILSEQ && out.n == n, "a message that is not UTF-8");
	in.vars_json = "[1]";
	in.n_vars_json = 3;
	ok(bmi_chat_render(chat, &in, &out, &err) == -EINVAL && out.n == n && strstr(err.msg, "object"),
	   "variables that are no object");
}

static void check_tokens(void)
{
	static const char text[] =
		"{{ bos_token is defined }}{{ eos_token }}{{ tools is none }}{{ documents is none }}"
		"{{ add_generation_prompt }}{{ messages|length }}";
	bmi_auto_str out = { 0 };
	bmi_auto(bmi_chat) chat = NULL;
	struct bmi_error err = { 0 };

	ok(bmi_chat_open(text, sizeof(text) - 1, NULL, "</s>", &chat, &err) == 0 &&
		   bmi_chat_render(chat, &(struct bmi_chat_input){ .now = 0 }, &out, &err) == 0 &&
		   !strcmp(out.bytes, "False</s>TrueTrueFalse0"),
	   "what a template sees");
	bmi_chat_free(bmi_steal(&chat));
	ok(bmi_chat_open("{{", 2, NULL, NULL, &chat, &err) == -EINVAL && !chat &&
		   strstr(err.msg, "the chat template: line 1"),
	   "a template that does not parse");
}

static const struct config {
	const char *name, *json;
	int r;
	const char *text, *bos, *eos;
} configs[] = {
	{ "a text", "{\"chat_template\":\"x\",\"bos_token\":\"<s>\",\"eos_token\":\"</s>\"}", 0, "x", "<s>",
	  "</s>" },
	{ "a list", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"},{\"name\":\"default\",\"template\":\"d\"}]}",
	  0, "d", NULL, NULL },
	{ "a list without default", "{\"chat_template\":[{\"name\":\"tool_use\",\"template\":\"t\"}]}",
	  -EINVAL, NULL, NULL, NULL },
	{ "tokens as objects", "{\"bos_token\":{\"content\":\"<s>\",\"special\":true},\"eos_token\":null}", 0,
	  NULL, "<s>", NULL },
	{ "nothing", "{}", 0, NULL, NULL, NULL },
	{ "a number", "{\"chat_template\":1}", -EINVAL, NULL, NULL, NULL },
	{ "a token that is a number", "{\"chat_template\":\"x\",\"bos_token\":1}", -EINVAL, NULL, NULL, NULL },
	{ "no object", "[]", -EINVAL, NULL, NULL, NULL },
	{ "no JSON", "{", -EINVAL, NULL, NULL, NULL },
};

static bool same(const char *a, const char *b)
{
	return a && b ? !strcmp(a, b) : a == b;
}

static void check_config(const struct config *c)
{
	struct bmi_chat_config got = { 0 };
	struct bmi_error err = { 0 };
	bmi_auto_str name = { 0 };
	const int r = bmi_chat_template_from_config(c->json, strlen(c->json), &got, &err);

	bmi_str_printf(&name, "tokenizer_config.json: %s", c->name);
	ok(r == c->r && same(got.template_text, c->text) && same(got.bos, c->bos) && same(got.eos, c->eos) &&
		   (r == 0) == !err.msg[0],
	   name.bytes);
	bmi_chat_config_fini(&got);
}

int main(int argc, char **argv)
{
	const char *dir = argc > 1 ? argv[1] : ".";
	const size_t n_configs = sizeof(configs) / sizeof(configs[0]);
	size_t n_text;
	char *text = read_whole(dir, "cases.jsonl", &n_text), *line = text;

	printf("1..%zu\n", count_lines(text) + 5 + n_configs);
	for (char *end; (end = strchr(line, '\n')); line = end + 1) {
		struct bmi_json_doc *row = NULL;
		struct bmi_error err = { 0 };

		if (bmi_json_parse(line, (size_t)(end - line), &row, &err) < 0) {
			printf("Bail out! %s\n", err.msg);
			return 2;
		}
		check_row(dir, bmi_json_root(row));
		bmi_json_free(row);
	}
	check_array(dir);
	check_tokens();
	for (size_t i = 0; i < n_configs; i++)
		check_config(&configs[i]);
	free(text);
	return all_ok ? 0 : 1;
}

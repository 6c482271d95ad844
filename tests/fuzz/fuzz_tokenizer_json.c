/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tokenizer.json. Checked on what is accepted: every id that comes out names a token, the pieces of the streaming decoder
 * are whole characters and join to what decoding at once gives.
 */
#include "token/token.h"
#include "token/utf8.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static const char text[] = "Hello  <s>world\n é ab12 ▁e\xcc\x81 你好 <0x0A> aaab</s>\t0";

static void check_decode(const struct bmi_tok *tok, const struct bmi_ids *ids, bool skip_special)
{
	bmi_auto(bmi_detok) d = bmi_detok_new(tok, skip_special);
	bmi_auto_str whole = { 0 }, pieces = { 0 };
	int r = bmi_tok_decode(tok, ids->ids, ids->n, skip_special, &whole);

	check(d != NULL);
	for (size_t i = 0; r == 0 && i <= ids->n; i++) {
		const size_t before = pieces.n;

		r = i < ids->n ? bmi_detok_push(d, ids->ids[i], &pieces) : bmi_detok_flush(d, &pieces);
		if (pieces.n > before)
			check(bmi_tok_utf8_valid(pieces.bytes + before, pieces.n - before) == pieces.n - before);
	}
	if (r == 0)
		check(whole.n == pieces.n && (!whole.n || !memcmp(whole.bytes, pieces.bytes, whole.n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *json = malloc(size ? size : 1);
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	int r;

	check(json != NULL);
	memcpy(json, data, size);
	r = bmi_tok_open_json(json, size, &tok, &err);
	free(json);
	check((r == 0) == (tok != NULL) && (r < 0) == (err.msg[0] != 0));
	for (unsigned flags = 0; r == 0 && flags < 4; flags++) {
		bmi_auto_ids ids = { 0 };

		if (bmi_tok_encode(tok, text, sizeof(text) - 1, flags, &ids, &err) < 0)
			continue;
		for (size_t i = 0; i < ids.n; i++)
			check(bmi_tok_text(tok, ids.ids[i]).bytes != NULL);
		check_decode(tok, &ids, flags & 1);
	}
	bmi_tok_free(tok);
	return 0;
}

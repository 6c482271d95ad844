/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tokenizer against all that its peer said about it: tests/data/tokenizers/README.md says how the files were made. A case is
 * one text: ids without and with special tokens, both ways to decode, and the same decoded id by id.
 * usage: test_cases HOW TOKENIZER CASES; HOW is json, gguf (a model), or the name of a pre (a tokenizer.json as GGUF).
 */
#include "token/fixture.h"
#include "token/token_priv.h"

#include <stdio.h>
#include <string.h>

/* tokenizer.json: everything must be equal. */
static const char *check_json(const struct bmi_tok *tok, const struct bmi_json *c)
{
	const struct bmi_json *text = bmi_json_get(c, "text");
	bmi_auto_ids ids = { 0 }, full = { 0 };
	bmi_auto_str out = { 0 }, skipped = { 0 };
	const char *why;

	if (bmi_tok_encode(tok, text->str, text->n, BMI_TOK_PARSE_SPECIAL, &ids, /* err= */ NULL) < 0)
		return "encode failed";
	if (!same_ids(&ids, bmi_json_get(c, "ids")))
		return "ids differ";
	if (bmi_tok_encode(tok, text->str, text->n, BMI_TOK_PARSE_SPECIAL | BMI_TOK_ADD_SPECIAL, &full,
			   /* err= */ NULL) < 0)
		return "encode with special tokens failed";
	if (!same_ids(&full, bmi_json_get(c, "ids_with_special")))
		return "ids_with_special differ";
	if (bmi_tok_decode(tok, ids.ids, ids.n, /* skip_special= */ false, &out) < 0 ||
	    !same_text(&out, bmi_json_get(c, "decoded")))
		return "decoded differs";
	if (bmi_tok_decode(tok, ids.ids, ids.n, /* skip_special= */ true, &skipped) < 0 ||
	    !same_text(&skipped, bmi_json_get(c, "decoded_skip_special")))
		return "decoded_skip_special differs";
	why = check_pieces(tok, &full, /* skip_special= */ false);
	return why ? why : check_pieces(tok, &full, /* skip_special= */ true);
}

/* GGUF: the ids are the peer's, and decoding gives the text back (U+2581 is a space to sentencepiece, so not there). */
static const char *check_gguf(const struct bmi_tok *tok, const struct bmi_json *c)
{
	const struct bmi_json *text = bmi_json_get(c, "text");
	bmi_auto_ids ids = { 0 };
	bmi_auto_str out = { 0 };

	if (bmi_tok_encode(tok, text->str, text->n, 0, &ids, /* err= */ NULL) < 0)
		return "encode failed";
	if (!same_ids(&ids, bmi_json_get(c, "ids")))
		return "ids differ";
	if (bmi_tok_decode(tok, ids.ids, ids.n, /* skip_special= */ false, &out) < 0)
		return "decode failed";
	if (!memmem(text->str, text->n, BMI_TOK_LOWLINE, 3) && !same_text(&out, text))
		return "decoding does not give the text back";
	return check_pieces(tok, &ids, /* skip_special= */ false);
}

/* A tokenizer.json as GGUF: the ids of the one must be those of the other, if the normalizer it lacks there changes nothing. */
static const char *check_pre(const struct bmi_tok *tok, const struct bmi_json *c)
{
	const struct bmi_json *text = bmi_json_get(c, "text");
	bmi_auto_ids ids = { 0 };
	bmi_auto_str nfc = { 0 };

	if (bmi_tok_form((struct bmi_tok_text){ text->str, text->n }, /* compose= */ true,
			 /* compat= */ false, &nfc) < 0)
		return "no memory";
	if (!same_text(&nfc, text))
		return NULL;
	if (bmi_tok_encode(tok, text->str, text->n, BMI_TOK_PARSE_SPECIAL, &ids, /* err= */ NULL) < 0)
		return "encode failed";
	return same_ids(&ids, bmi_json_get(c, "ids")) ? check_pieces(tok, &ids, /* skip_special= */ true)
						      : "ids differ";
}

int main(int argc, char **argv)
{
	const char *how = argc == 4 ? argv[1] : "";
	const bool json = !strcmp(how, "json"), gguf = !strcmp(how, "gguf");
	struct bmi_tok *tok;
	struct lines l;
	char path[4096];

	if (argc != 4) {
		fprintf(stderr, "usage: test_cases json|gguf|PRE TOKENIZER CASES\n");
		return 2;
	}
	if (!find_path(argv[2], path, sizeof(path)))
		return 0;
	tok = json ? open_json(path) : gguf ? open_gguf_model(path) : open_json_as_gguf(path, how);
	lines_open(&l, argv[3]);
	printf("1..%zu\n", l.n);
	for (size_t i = 0; i < l.n; i++) {
		const struct bmi_json *c = bmi_json_root(l.docs[i]), *text = bmi_json_get(c, "text");
		const char *why = json ? check_json(tok, c) : gguf ? check_gguf(tok, c) : check_pre(tok, c);

		tap(i + 1, how, text->str, text->n, why);
	}
	lines_free(&l);
	bmi_tok_free(tok);
	return tap_status();
}

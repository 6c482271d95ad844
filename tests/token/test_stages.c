/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each kind of normalizer, pre-tokenizer, decoder, added token and model option against `tokenizers`, alone and mixed:
 * tests/data/tokenizers/make_stages.py says how the answers were made. A case is one text through one tokenizer, with all four
 * combinations of flags, decoded both ways, whole and id by id. usage: test_stages DIRECTORY
 */
#include "token/fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const keys[] = { "normalizer", "pre_tokenizer", "decoder", "added_tokens", "options" };

/* Replace @key@ by the string of that name in @line. */
static bool fill(const char *template, size_t n, const struct bmi_json *line, struct bmi_str *ret)
{
	for (const char *p = template, *end = template + n; p < end;) {
		const char *at = memchr(p, '@', (size_t)(end - p));
		unsigned k = 0;

		bmi_str_put(ret, p, (size_t)((at ? at : end) - p));
		if (!at)
			break;
		while (k < BMI_ARRAY_LEN(keys) &&
		       (strncmp(at + 1, keys[k], strlen(keys[k])) != 0 || at[1 + strlen(keys[k])] != '@'))
			k++;
		if (k == BMI_ARRAY_LEN(keys)) { /* a token of the vocabulary */
			bmi_str_put(ret, at, 1);
			p = at + 1;
			continue;
		}
		bmi_str_put(ret, bmi_json_get(line, keys[k])->str, bmi_json_get(line, keys[k])->n);
		p = at + 2 + strlen(keys[k]);
	}
	return bmi_str_ok(ret);
}

static struct bmi_tok *open_line(const char *dir, const struct bmi_json *line, struct bmi_error *err)
{
	const struct bmi_json *base = bmi_json_get(line, "base");
	struct bmi_tok *tok = NULL;
	bmi_auto_str json = { 0 };
	char path[4096];
	size_t n = 0;
	char *template;

	snprintf(path, sizeof(path), "%s/stages-%.*s.json.in", dir, (int)base->n, base->str);
	template = read_file(path, &n);
	if (!template)
		bmi_fail(err, -1, "cannot read %s", path);
	else if (fill(template, n, line, &json))
		bmi_tok_open_json(json.bytes, json.n, &tok, err);
	free(template);
	return tok;
}

static const char *check(const struct bmi_tok *tok, const struct bmi_json *c)
{
	const struct bmi_json *text = bmi_json_get(c, "text"), *want = bmi_json_get(c, "ids")->child,
			      *decoded = bmi_json_get(c, "decoded")->child;
	const char *why = NULL;

	for (unsigned flags = 0; flags < 4; flags++, want = want->next) {
		bmi_auto_ids ids = { 0 };

		if (bmi_tok_encode(tok, text->str, text->n, flags, &ids, /* err= */ NULL) < 0)
			return "encode failed";
		if (!same_ids(&ids, want))
			return "ids differ";
		for (unsigned skip = 0; flags == 2 && skip < 2; skip++, decoded = decoded->next) {
			bmi_auto_str out = { 0 };

			if (bmi_tok_decode(tok, ids.ids, ids.n, skip, &out) < 0 || !same_text(&out, decoded))
				return "decoded differs";
		}
		why = check_pieces(tok, &ids, flags & 1);
		if (why)
			return why;
	}
	return NULL;
}

int main(int argc, char **argv)
{
	char path[4096], name[32];
	size_t n_cases = 0;
	struct lines l;

	if (argc != 2)
		return 2;
	snprintf(path, sizeof(path), "%s/stages.jsonl", argv[1]);
	lines_open(&l, path);
	for (size_t i = 0; i < l.n; i++) {
		const struct bmi_json *line = bmi_json_root(l.docs[i]);
		struct bmi_error err = { 0 };
		struct bmi_tok *tok = open_line(argv[1], line, &err);

		snprintf(name, sizeof(name), "tokenizer %zu", i + 1);
		for (const struct bmi_json *c = bmi_json_get(line, "cases")->child; c; c = c->next) {
			const struct bmi_json *text = bmi_json_get(c, "text");

			tap(++n_cases, name, text->str, text->n, tok ? check(tok, c) : err.msg);
		}
		bmi_tok_free(tok);
	}
	printf("1..%zu\n", n_cases);
	lines_free(&l);
	return tap_status();
}

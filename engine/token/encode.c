/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One call of encode from text to ids: added tokens are cut out, the rest is normalized, cut again, split
 * into words and given to the model. Owns the call's scratch. Invariant: out->n only grows, and is put back
 * when the call fails.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

enum {
	MAX_TEXT = 1 << 30,    /* offsets are 32 bits, and a space may grow to three bytes */
	CACHE_FROM = 2 * 1024, /* below this the 800 KiB of the cache cost more than they save */
};

/* Text between added tokens, as `tokenizers` does it. */
static int encode_text(struct bmi_tok_enc *e, struct bmi_tok_text s, bool at_start)
{
	struct bmi_tok_text text;
	bool lost = false;
	int r;

	r = bmi_tok_normalize(e->tok, e->match, s, e->norm, &text, &lost);
	if (r < 0)
		return r == -E2BIG ? bmi_fail(e->err, r,
					      "the normalizer's pattern needs too many steps on this text")
				   : r;
	r = bmi_tok_split_added(e->tok, e->match, /* normalized= */ true, e->flags & BMI_TOK_PARSE_SPECIAL,
				text, &e->normal);
	for (size_t i = 0; r == 0 && i < e->normal.n; i++) {
		const struct bmi_tok_part *part = &e->normal.parts[i];

		if (part->id != BMI_TOK_NO_ID)
			r = bmi_ids_put(e->out, part->id);
		else
			r = bmi_tok_pretokenize(e, 0, text.bytes + part->off, part->n,
						at_start && !lost && part->off == 0);
	}
	return r;
}

/*
 * Text between added tokens, as llama.cpp does it: for SPM a space in front where a token or nothing
 * stands before.
 */
static int encode_gguf_text(struct bmi_tok_enc *e, struct bmi_tok_text s, bool after_token)
{
	struct bmi_str *out = &e->norm[0];

	if (e->tok->model != BMI_TOK_SPM)
		return bmi_tok_pretokenize(e, 0, s.bytes, s.n, /* at_start= */ false);
	out->n = 0;
	if (e->tok->space_prefix && after_token)
		bmi_str_puts(out, BMI_TOK_LOWLINE);
	for (const char *p = s.bytes, *end = p + s.n, *space; p < end; p = space + 1) {
		space = memchr(p, ' ', (size_t)(end - p));
		if (!space) {
			bmi_str_put(out, p, (size_t)(end - p));
			break;
		}
		bmi_str_put(out, p, (size_t)(space - p));
		bmi_str_puts(out, BMI_TOK_LOWLINE);
	}
	return bmi_str_ok(out) ? bmi_tok_pretokenize(e, 0, out->bytes, out->n, /* at_start= */ false) : -ENOMEM;
}

static int encode(struct bmi_tok_enc *e, struct bmi_tok_text s)
{
	const bool parse_special = e->flags & BMI_TOK_PARSE_SPECIAL;
	int r;

	r = e->tok->gguf
		    ? bmi_tok_split_gguf(e->tok, parse_special, s, &e->raw)
		    : bmi_tok_split_added(e->tok, e->match, /* normalized= */ false, parse_special, s, &e->raw);
	for (size_t i = 0; r == 0 && i < e->raw.n; i++) {
		const struct bmi_tok_part *part = &e->raw.parts[i];
		const struct bmi_tok_text text = { s.bytes + part->off, part->n };

		if (part->id != BMI_TOK_NO_ID)
			r = bmi_ids_put(e->out, part->id);
		else if (e->tok->gguf)
			r = encode_gguf_text(e, text, i == 0 || e->raw.parts[i - 1].id != BMI_TOK_NO_ID);
		else
			r = encode_text(e, text, part->off == 0);
	}
	return r;
}

static int put_all(struct bmi_ids *to, const struct bmi_ids *from)
{
	int r = 0;

	for (size_t i = 0; r == 0 && i < from->n; i++)
		r = bmi_ids_put(to, from->ids[i]);
	return r;
}

static void enc_fini(struct bmi_tok_enc *e)
{
	bmi_tok_rematch_free(e->match);
	bmi_str_fini(&e->norm[0]);
	bmi_str_fini(&e->norm[1]);
	for (unsigned i = 0; i < BMI_TOK_MAX_PRE; i++)
		bmi_str_fini(&e->stage[i]);
	free(e->raw.parts);
	free(e->normal.parts);
	free(e->syms);
	free(e->heap);
	free(e->nodes);
	bmi_tok_cache_free(e->cache);
}

int bmi_tok_encode(const struct bmi_tok *tok, const char *text, size_t n, unsigned flags, struct bmi_ids *ret,
		   struct bmi_error *err)
{
	struct bmi_tok_enc e = { .tok = tok, .flags = flags, .out = ret, .err = err };
	const size_t valid = n ? bmi_tok_utf8_valid(text, n) : 0, before = ret->n;
	struct bmi_error own = { 0 };
	int r = 0;

	if (valid < n)
		return bmi_fail(err, -EILSEQ, "the text is not UTF-8 at byte %zu", valid);
	if (n >= MAX_TEXT)
		return bmi_fail(err, -EFBIG, "a text of %zu bytes is over the limit of %d", n, MAX_TEXT - 1);
	e.err = &own;
	e.match = bmi_tok_rematch_new();
	if (tok->model != BMI_TOK_UNIGRAM && n >= CACHE_FROM)
		e.cache = bmi_tok_cache_new(); /* NULL is fine: slower */
	if (!e.match)
		r = -ENOMEM;
	if (r == 0 && flags & BMI_TOK_ADD_SPECIAL)
		r = put_all(ret, &tok->prefix);
	if (r == 0 && n)
		r = encode(&e, (struct bmi_tok_text){ text, n });
	if (r == 0 && flags & BMI_TOK_ADD_SPECIAL)
		r = put_all(ret, &tok->suffix);
	enc_fini(&e);
	if (r == 0)
		return 0;
	ret->n = before;
	return own.code ? bmi_fail(err, r, "%s", own.msg) : bmi_fail_errno(err, r, "a text of %zu bytes", n);
}

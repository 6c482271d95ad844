/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cuts text into pieces by a row of stages, depth first: each piece goes through all later stages before the
 * next one is cut, so no list of pieces is kept. Invariant: e->stage[k] holds the text that stage k made and
 * is untouched until the call of that stage has returned; an empty piece goes no further.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <string.h>

uint32_t bmi_tok_byte_char(unsigned char byte)
{
	if ((byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae)
		return byte;
	/* the others follow from U+0100 on, in their order: 00-20, 7f-a0, ad */
	return 256u + (byte <= 0x20 ? byte : byte <= 0xa0 ? byte - 0x7fu + 0x21u : 0x43u);
}

int bmi_tok_char_byte(uint32_t c)
{
	if (c < 256)
		return bmi_tok_byte_char((unsigned char)c) == c ? (int)c : -1;
	c -= 256;
	return c <= 0x20 ? (int)c : c < 0x43 ? (int)(c - 0x21 + 0x7f) : c == 0x43 ? 0xad : -1;
}

/* A cut while its neighbours are awaited. */
struct cut {
	struct bmi_tok_enc *e;
	unsigned stage;
	const char *s;
	bool at_start;
	size_t start, end; /* the piece held back */
	bool held, match;  /* match: the last item was one */
};

static int emit(struct cut *c, size_t start, size_t end)
{
	if (start == end)
		return 0;
	return bmi_tok_pretokenize(c->e, c->stage + 1, c->s + start, end - start, c->at_start && start == 0);
}

static int emit_held(struct cut *c)
{
	const bool held = c->held;

	c->held = false;
	return held ? emit(c, c->start, c->end) : 0;
}

/* One item of the text, in order: matches and what lies between them. */
static int item(struct cut *c, enum bmi_tok_behavior behavior, size_t start, size_t end, bool match)
{
	bool join = false;
	int r = 0;

	switch (behavior) {
	case BMI_TOK_ISOLATED:
		return emit(c, start, end);
	case BMI_TOK_REMOVED:
		return match ? 0 : emit(c, start, end);
	case BMI_TOK_WITH_PREVIOUS: /* only to text, never to another match */
		join = c->held && match && !c->match;
		break;
	case BMI_TOK_WITH_NEXT:
		join = c->held && !match && c->match;
		break;
	case BMI_TOK_CONTIGUOUS:
		join = c->held && match == c->match;
		break;
	}
	if (!join) {
		r = emit_held(c);
		c->start = start;
	}
	c->end = end;
	c->held = true;
	c->match = match;
	return r;
}

static int split(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start)
{
	const struct bmi_tok_pre *pre = &e->tok->pre[stage];
	struct cut c = { .e = e, .stage = stage, .s = s, .at_start = at_start };
	struct bmi_tok_find f = { .s = s, .n = n };
	size_t done = 0, start, end;
	int r, found;

	while ((found = bmi_tok_pattern_next(&pre->pattern, e->match, &f, &start, &end)) > 0) {
		r = done < start ? item(&c, pre->behavior, done, start, pre->invert) : 0;
		if (r == 0)
			r = item(&c, pre->behavior, start, end, !pre->invert);
		if (r < 0)
			return r;
		done = end;
	}
	if (found < 0)
		return found == -E2BIG
			       ? bmi_fail(e->err, -E2BIG,
					  "the pre-tokenizer's pattern needs too many steps on this text")
			       : found;
	r = done < n ? item(&c, pre->behavior, done, n, pre->invert) : 0;
	return r < 0 ? r : emit_held(&c);
}

static int prefix(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start)
{
	struct bmi_str *out = &e->stage[stage];

	if (s[0] == ' ')
		return bmi_tok_pretokenize(e, stage + 1, s, n, at_start);
	out->n = 0;
	bmi_str_puts(out, " ");
	bmi_str_put(out, s, n);
	return bmi_str_ok(out) ? bmi_tok_pretokenize(e, stage + 1, out->bytes, out->n, at_start) : -ENOMEM;
}

static int meta(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start)
{
	const struct bmi_tok_pre *pre = &e->tok->pre[stage];
	struct bmi_str *out = &e->stage[stage];
	const bool has = s[0] == ' ' || (n >= pre->with.n && !memcmp(s, pre->with.bytes, pre->with.n));
	const char *space;

	out->n = 0;
	if (!has && (pre->scheme == BMI_TOK_ALWAYS || (pre->scheme == BMI_TOK_FIRST && at_start)))
		bmi_str_put(out, pre->with.bytes, pre->with.n);
	for (const char *end = s + n; s < end; s = space + 1) {
		space = memchr(s, ' ', (size_t)(end - s));
		if (!space) {
			bmi_str_put(out, s, (size_t)(end - s));
			break;
		}
		bmi_str_put(out, s, (size_t)(space - s));
		bmi_str_put(out, pre->with.bytes, pre->with.n);
	}
	return bmi_str_ok(out) ? bmi_tok_pretokenize(e, stage + 1, out->bytes, out->n, at_start) : -ENOMEM;
}

static int bytes(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start)
{
	struct bmi_str *out = &e->stage[stage];

	out->n = 0;
	if (bmi_tok_str_room(out, 2 * n) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		out->n += bmi_tok_utf8_put(out->bytes + out->n, bmi_tok_byte_char((unsigned char)s[i]));
	return bmi_tok_pretokenize(e, stage + 1, out->bytes, out->n, at_start);
}

int bmi_tok_pretokenize(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start)
{
	if (!n)
		return 0;
	if (stage == e->tok->n_pre)
		return bmi_tok_encode_piece(e, s, n);
	switch (e->tok->pre[stage].kind) {
	case BMI_TOK_PRE_SPLIT:
		return split(e, stage, s, n, at_start);
	case BMI_TOK_PRE_PREFIX:
		return prefix(e, stage, s, n, at_start);
	case BMI_TOK_PRE_META:
		return meta(e, stage, s, n, at_start);
	case BMI_TOK_PRE_BYTES:
		return bytes(e, stage, s, n, at_start);
	}
	return -EINVAL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finding all matches of a string, a regex or a class of characters, and replacing them. Invariant: matches
 * come left to right and do not overlap; offsets are character boundaries.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <string.h>
#include <utf8proc.h>

void bmi_tok_pattern_fini(struct bmi_tok_pattern *p)
{
	bmi_tok_regex_free(p->re);
	p->re = NULL;
}

static int next_class(const struct bmi_tok_pattern *p, struct bmi_tok_find *f, size_t *ret_start,
		      size_t *ret_end)
{
	unsigned n;

	for (size_t i = f->from; i < f->n; i += n) {
		if (!p->is(bmi_tok_utf8_get(f->s + i, &n)))
			continue;
		*ret_start = i;
		*ret_end = f->from = i + n;
		return 1;
	}
	f->from = f->n;
	return 0;
}

static int next_string(const struct bmi_tok_pattern *p, struct bmi_tok_find *f, size_t *ret_start,
		       size_t *ret_end)
{
	const char *at = memmem(f->s + f->from, f->n - f->from, p->str.bytes, p->str.n);

	if (!at)
		return 0;
	*ret_start = (size_t)(at - f->s);
	*ret_end = f->from = *ret_start + p->str.n;
	return 1;
}

int bmi_tok_pattern_next(const struct bmi_tok_pattern *p, struct bmi_tok_rematch *m, struct bmi_tok_find *f,
			 size_t *ret_start, size_t *ret_end)
{
	if (p->is)
		return next_class(p, f, ret_start, ret_end);
	if (!p->re)
		return next_string(p, f, ret_start, ret_end);
	while (f->from <= f->n) {
		const int r = bmi_tok_regex_find(p->re, m, f->s, f->n, f->from, ret_start, ret_end);

		if (r <= 0)
			return r;
		if (*ret_start == *ret_end && f->any && f->last == *ret_end) {
			f->from += f->from < f->n ? bmi_tok_utf8_len(f->s[f->from]) : 1;
			continue;
		}
		f->from = f->last = *ret_end;
		f->any = true;
		return 1;
	}
	return 0;
}

int bmi_tok_replace(const struct bmi_tok_pattern *p, struct bmi_tok_rematch *m, struct bmi_tok_text s,
		    struct bmi_tok_text by, struct bmi_str *ret)
{
	struct bmi_tok_find f = { .s = s.bytes, .n = s.n };
	size_t done = 0, start, end;
	int r;

	while ((r = bmi_tok_pattern_next(p, m, &f, &start, &end)) > 0) {
		bmi_str_put(ret, s.bytes + done, start - done);
		bmi_str_put(ret, by.bytes, by.n);
		done = end;
		if (ret->n > INT32_MAX) /* a long replacement of every character */
			return -EFBIG;
	}
	if (r < 0)
		return r;
	bmi_str_put(ret, s.bytes + done, s.n - done);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

bool bmi_tok_is_number(uint32_t c)
{
	const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);

	return cat == UTF8PROC_CATEGORY_ND || cat == UTF8PROC_CATEGORY_NL || cat == UTF8PROC_CATEGORY_NO;
}

bool bmi_tok_is_punct(uint32_t c)
{
	const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);

	if (c < 0x80)
		return (c >= '!' && c <= '/') || (c >= ':' && c <= '@') || (c >= '[' && c <= '`') ||
		       (c >= '{' && c <= '~');
	return cat >= UTF8PROC_CATEGORY_PC && cat <= UTF8PROC_CATEGORY_PO;
}

bool bmi_tok_is_mark(uint32_t c)
{
	const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);

	return cat == UTF8PROC_CATEGORY_MN || cat == UTF8PROC_CATEGORY_MC || cat == UTF8PROC_CATEGORY_ME;
}

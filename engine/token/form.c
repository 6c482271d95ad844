/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unicode normalization forms and lower case, by utf8proc's tables. Its own utf8proc_decompose() puts marks
 * in order by a bubble sort, quadratic on a text made of marks; here a run is sorted by counting. Invariant:
 * `cps` holds fully decomposed characters and every run of marks before `n_sorted` is in canonical order.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

struct cps {
	utf8proc_int32_t *c;
	size_t n, cap;
};

enum { MAX_DECOMPOSED = 32 }; /* the longest compatibility decomposition has 18 characters */

static int add_char(struct cps *d, uint32_t c, bool compat)
{
	const utf8proc_option_t options = UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | (compat ? UTF8PROC_COMPAT : 0);
	utf8proc_ssize_t n;
	int last = 0;

	if (d->cap - d->n < MAX_DECOMPOSED) {
		const size_t cap = d->cap * 2 + 256;
		void *more = realloc(d->c, cap * sizeof(*d->c));

		if (!more)
			return -ENOMEM;
		d->c = more;
		d->cap = cap;
	}
	n = utf8proc_decompose_char((utf8proc_int32_t)c, d->c + d->n, MAX_DECOMPOSED, options, &last);
	if (n < 0 || n > MAX_DECOMPOSED) { /* cannot be */
		d->c[d->n] = (utf8proc_int32_t)c;
		n = 1;
	}
	d->n += (size_t)n;
	return 0;
}

static unsigned ccc(utf8proc_int32_t c)
{
	return (unsigned)utf8proc_get_property(c)->combining_class & 0xff;
}

/* A stable counting sort by class. */
static int sort_run(utf8proc_int32_t *c, size_t n)
{
	size_t at[257] = { 0 };
	bmi_auto_mem utf8proc_int32_t *copy = malloc(n * sizeof(*copy));

	if (!copy)
		return -ENOMEM;
	memcpy(copy, c, n * sizeof(*c));
	for (size_t i = 0; i < n; i++)
		at[ccc(copy[i]) + 1]++;
	for (unsigned k = 1; k < 257; k++)
		at[k] += at[k - 1];
	for (size_t i = 0; i < n; i++)
		c[at[ccc(copy[i])]++] = copy[i];
	return 0;
}

static int sort_marks(struct cps *d)
{
	for (size_t i = 0; i < d->n;) {
		size_t end = i;
		bool sorted = true;

		for (; end < d->n && ccc(d->c[end]); end++)
			sorted &= end == i || ccc(d->c[end - 1]) <= ccc(d->c[end]);
		if (!sorted && sort_run(d->c + i, end - i) < 0)
			return -ENOMEM;
		i = end + 1;
	}
	return 0;
}

static int form(struct cps *d, struct bmi_tok_text s, bool compose, bool compat, struct bmi_str *ret)
{
	unsigned n;

	for (size_t i = 0; i < s.n; i += n)
		if (add_char(d, bmi_tok_utf8_get(s.bytes + i, &n), compat) < 0)
			return -ENOMEM;
	if (sort_marks(d) < 0)
		return -ENOMEM;
	if (compose && d->n) /* in place, never longer */
		d->n = (size_t)utf8proc_normalize_utf32(d->c, (utf8proc_ssize_t)d->n,
							UTF8PROC_STABLE | UTF8PROC_COMPOSE);
	if (bmi_tok_str_room(ret, d->n * 4) < 0)
		return -ENOMEM;
	for (size_t i = 0; i < d->n; i++)
		ret->n += bmi_tok_utf8_put(ret->bytes + ret->n, (uint32_t)d->c[i]);
	ret->bytes[ret->n] = 0;
	return 0;
}

int bmi_tok_form(struct bmi_tok_text s, bool compose, bool compat, struct bmi_str *ret)
{
	struct cps d = { 0 };
	int r;

	r = form(&d, s, compose, compat, ret);
	free(d.c);
	return r;
}

int bmi_tok_lower(struct bmi_tok_text s, struct bmi_str *ret)
{
	unsigned n;

	if (bmi_tok_str_room(ret, s.n * 2) <
	    0) /* U+0130 grows by one byte in two, U+023A by one in two; none by more */
		return -ENOMEM;
	for (size_t i = 0; i < s.n; i += n) {
		const uint32_t c = bmi_tok_utf8_get(s.bytes + i, &n);

		ret->n += bmi_tok_utf8_put(ret->bytes + ret->n,
					   c == 0x130 ? 'i' : (uint32_t)utf8proc_tolower((utf8proc_int32_t)c));
		if (c == 0x130) /* the one character whose small form is two */
			ret->n += bmi_tok_utf8_put(ret->bytes + ret->n, 0x307);
	}
	ret->bytes[ret->n] = 0;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns Python's str as filters and methods use it: characters are code points of valid UTF-8.
 * Letter case is Unicode's simple mapping: the few letters that become several (but for the sharp s) stay as they are.
 * Invariant: every result is valid UTF-8, for cuts are made between characters only.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <string.h>
#include <utf8proc.h>

bool bmi_py_is_space(uint32_t c)
{
	return bmi_tok_is_space(c) || (c >= 0x1c && c <= 0x1f);
}

size_t bmi_py_len(const char *s, size_t n)
{
	size_t len = 0;

	for (size_t i = 0; i < n; i++)
		len += ((unsigned char)s[i] & 0xc0) != 0x80;
	return len;
}

size_t bmi_py_offset(const char *s, size_t n, size_t chars)
{
	size_t at = 0;

	while (at < n && chars--)
		at += bmi_tok_utf8_len(s[at]);
	return at;
}

static bool is_stripped(const char *s, unsigned len, const struct bmi_jv *chars)
{
	unsigned n;

	if (!chars)
		return bmi_py_is_space(bmi_tok_utf8_get(s, &n));
	for (size_t i = 0; i < chars->n; i += bmi_tok_utf8_len(chars->s[i]))
		if (bmi_tok_utf8_len(chars->s[i]) == len && !memcmp(chars->s + i, s, len))
			return true;
	return false;
}

void bmi_py_strip(const char **s, size_t *n, const struct bmi_jv *chars, int sides)
{
	while ((sides & 1) && *n && is_stripped(*s, bmi_tok_utf8_len(**s), chars)) {
		const unsigned len = bmi_tok_utf8_len(**s);

		*s += len;
		*n -= len;
	}
	while ((sides & 2) && *n) {
		const size_t at = bmi_tok_utf8_prev(*s, *n);

		if (!is_stripped(*s + at, (unsigned)(*n - at), chars))
			break;
		*n = at;
	}
}

static bool is_letter(uint32_t c)
{
	const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);

	return cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LT;
}

int bmi_py_case(struct bmi_jinja_run *x, const struct bmi_jv *v, char how, struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	bool start = true;
	unsigned len;
	char buf[4];
	int r = 0;

	for (size_t i = 0; i < v->n; i += len) {
		const uint32_t c = bmi_tok_utf8_get(v->s + i, &len);
		const bool up = how == 'u' || (how != 'l' && start);
		const utf8proc_int32_t to = !up                        ? utf8proc_tolower((utf8proc_int32_t)c)
					    : how == 'u' || how == 'T' ? utf8proc_toupper((utf8proc_int32_t)c)
								       : utf8proc_totitle((utf8proc_int32_t)c);

		if (c == 0xdf && up)
			bmi_str_puts(&s, how == 'u' || how == 'T' ? "SS" : "Ss");
		else
			bmi_str_put(&s, buf, bmi_tok_utf8_put(buf, (uint32_t)to));
		start = how == 'c'   ? false
			: how == 't' ? !is_letter(c)
				     : c == '-' || c == '(' || c == '{' || c == '[' || c == '<' ||
					       bmi_py_is_space(c);
	}
	r = bmi_jx_take(x, &s, ret);
	ret->safe = v->safe && how != 'T';
	return r;
}

int bmi_py_replace(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *from,
		   const struct bmi_jv *to, int64_t count, struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	size_t at = 0;
	int r = bmi_jx_step(x, v->n);

	while (r == 0 && count != 0 && at <= v->n) {
		const char *hit = from->n ? (v->n > at ? memmem(v->s + at, v->n - at, from->s, from->n) : NULL)
					  : v->s + at;

		if (!hit)
			break;
		bmi_str_put(&s, v->s + at, (size_t)(hit - v->s) - at);
		bmi_str_put(&s, to->s, to->n);
		at = (size_t)(hit - v->s) + from->n;
		if (!from->n) {
			if (at == v->n) {
				at = v->n + 1;
				break;
			}
			bmi_str_put(&s, v->s + at, bmi_tok_utf8_len(v->s[at]));
			at += bmi_tok_utf8_len(v->s[at]);
		}
		count -= count > 0;
		r = s.n > BMI_JINJA_OUTPUT_MAX
			    ? bmi_jx_fail(x, -E2BIG, "a text of more than %d bytes", BMI_JINJA_OUTPUT_MAX)
			    : bmi_jx_step(x, to->n);
	}
	if (r == 0 && at < v->n)
		bmi_str_put(&s, v->s + at, v->n - at);
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

/* @strict: str.join(), which takes strings only; else the filter, which takes anything */
int bmi_py_join(struct bmi_jinja_run *x, const struct bmi_jv *sep, const struct bmi_jv_list *l, bool strict,
		struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	int r = 0;

	for (size_t i = 0; r == 0 && i < l->n; i++) {
		if (strict && l->at[i].kind != BMI_JV_STR)
			return bmi_jx_fail(x, -EINVAL, "str.join() of a %s", bmi_jv_type(&l->at[i]));
		if (i)
			r = bmi_jx_print(x, sep, &s);
		if (r == 0)
			r = bmi_jx_print(x, &l->at[i], &s);
	}
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

static bool is_line_end(uint32_t c)
{
	return (c >= 0x0a && c <= 0x0d) || (c >= 0x1c && c <= 0x1e) || c == 0x85 || c == 0x2028 || c == 0x2029;
}

int bmi_py_splitlines(struct bmi_jinja_run *x, const struct bmi_jv *v, bool keep, struct bmi_jv *ret)
{
	size_t from = 0, at = 0;
	int r = bmi_jx_list(x, BMI_JV_LIST, 0, ret);

	while (r == 0 && from < v->n) {
		size_t end = v->n, next = v->n;
		struct bmi_jv line;
		unsigned len;

		for (at = from; at < v->n; at += len) {
			const uint32_t c = bmi_tok_utf8_get(v->s + at, &len);

			if (!is_line_end(c))
				continue;
			end = at;
			next = at + len + (c == '\r' && at + 1 < v->n && v->s[at + 1] == '\n');
			break;
		}
		line = bmi_jv_lit(v->s + from, (keep ? next : end) - from);
		r = bmi_jx_push(x, ret->list, &line);
		if (r == 0)
			r = bmi_jx_step(x, next - from);
		from = next;
	}
	return r;
}

int bmi_py_chars(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret)
{
	int r = bmi_jx_list(x, BMI_JV_LIST, bmi_py_len(v->s, v->n), ret);

	for (size_t i = 0; r == 0 && i < v->n; i += bmi_tok_utf8_len(v->s[i])) {
		const struct bmi_jv c = bmi_jv_lit(v->s + i, bmi_tok_utf8_len(v->s[i]));

		r = bmi_jx_push(x, ret->list, &c);
	}
	return r;
}

static int bound(struct bmi_jinja_run *x, const struct bmi_jv *v, int64_t n, int64_t step, int64_t otherwise,
		 int64_t *ret)
{
	const int64_t low = step > 0 ? 0 : -1, high = step > 0 ? n : n - 1;
	int64_t i;
	int r;

	*ret = otherwise;
	if (v->kind == BMI_JV_MISSING || v->kind == BMI_JV_NONE)
		return 0;
	r = bmi_jx_want_int(x, "a bound of a slice", v, 0, &i);
	if (r < 0)
		return r;
	if (i < 0)
		i = i < -n ? -1 - (step > 0 ? -1 : 0) : i + n; /* past the front: 0, or -1 walking backwards */
	*ret = i < low ? low : i > high ? high : i;
	return 0;
}

int bmi_py_slice(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv bounds[3],
		 struct bmi_jv *ret)
{
	const bool text = v->kind == BMI_JV_STR;
	struct bmi_jv all = *v;
	int64_t n, step = 1, from, to;
	bmi_auto_str s = { 0 };
	int r = 0;

	if (text)
		r = bmi_py_chars(x, v, &all);
	else if (!bmi_jv_is_list(v) || v->kind == BMI_JV_ITER || v->kind == BMI_JV_VIEW)
		return bmi_jx_fail(x, -EINVAL, "a slice of a %s", bmi_jv_type(v));
	if (r == 0 && bounds[2].kind != BMI_JV_NONE)
		r = bmi_jx_want_int(x, "the step of a slice", &bounds[2], 1, &step);
	if (r == 0 && step == 0)
		r = bmi_jx_fail(x, -EINVAL, "the step of a slice is 0");
	if (r < 0)
		return r;
	n = (int64_t)all.list->n;
	r = bound(x, &bounds[0], n, step, step > 0 ? 0 : n - 1, &from);
	if (r == 0)
		r = bound(x, &bounds[1], n, step, step > 0 ? n : -1, &to);
	if (r == 0 && !text)
		r = bmi_jx_list(x, v->kind, 0, ret);
	step = step > n + 1 ? n + 1 : step < -n - 1 ? -n - 1 : step; /* no step needs to be longer */
	for (int64_t i = from; r == 0 && (step > 0 ? i < to : i > to); i += step) {
		if (text)
			bmi_str_put(&s, all.list->at[i].s, all.list->at[i].n);
		else
			r = bmi_jx_push(x, ret->list, &all.list->at[i]);
	}
	if (r == 0 && text) {
		r = bmi_jx_take(x, &s, ret);
		ret->safe = v->safe;
	}
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what ==, < and `in` say about values, as Python does, and sorting by it.
 * Invariant: x->depth bounds the walk through nested values; every comparison is a step.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

static bool is_number(const struct bmi_jv *v)
{
	return v->kind == BMI_JV_BOOL || v->kind == BMI_JV_INT || v->kind == BMI_JV_FLOAT;
}

/* -1, 0, 1; 2 when one is not a number (NaN) */
static int cmp_numbers(const struct bmi_jv *a, const struct bmi_jv *b)
{
	if (a->kind != BMI_JV_FLOAT && b->kind != BMI_JV_FLOAT) {
		const int64_t i = a->kind == BMI_JV_BOOL ? a->b : a->i,
			      j = b->kind == BMI_JV_BOOL ? b->b : b->i;

		return (i > j) - (i < j);
	}
	const long double f = a->kind == BMI_JV_FLOAT ? a->f : a->kind == BMI_JV_BOOL ? a->b : a->i;
	const long double g = b->kind == BMI_JV_FLOAT ? b->f : b->kind == BMI_JV_BOOL ? b->b : b->i;

	return f != f || g != g ? 2 : (f > g) - (f < g);
}

static int cmp_bytes(const struct bmi_jv *a, const struct bmi_jv *b)
{
	const size_t n = a->n < b->n ? a->n : b->n;
	const int c = n ? memcmp(a->s, b->s, n) : 0;

	return c ? (c > 0) - (c < 0) : (a->n > b->n) - (a->n < b->n);
}

static int eq_dicts(struct bmi_jinja_run *x, const struct bmi_jv_dict *a, const struct bmi_jv_dict *b, bool *ret)
{
	int r = 0;

	*ret = a->n == b->n;
	for (size_t i = 0; r == 0 && *ret && i < a->n; i++) {
		struct bmi_jv *at;

		r = bmi_jx_get(x, b, &a->keys[i], &at);
		if (r == 0 && !at)
			*ret = false;
		else if (r == 0)
			r = bmi_jx_eq(x, &a->values[i], at, ret);
	}
	return r;
}

static int eq_inner(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, bool *ret)
{
	int r = 0;

	if (is_number(a) && is_number(b)) {
		*ret = cmp_numbers(a, b) == 0;
	} else if (a->kind != b->kind) {
		*ret = false;
	} else if (a->kind == BMI_JV_STR) {
		*ret = a->n == b->n && (!a->n || !memcmp(a->s, b->s, a->n));
		r = bmi_jx_step(x, *ret ? a->n : 0);
	} else if (bmi_jv_is_list(a)) {
		*ret = a->list == b->list;
		if (*ret || a->kind == BMI_JV_ITER || a->kind == BMI_JV_VIEW)
			return 0;
		*ret = a->list->n == b->list->n;
		for (size_t i = 0; r == 0 && *ret && i < a->list->n; i++)
			r = bmi_jx_eq(x, &a->list->at[i], &b->list->at[i], ret);
	} else if (a->kind == BMI_JV_DICT) {
		r = eq_dicts(x, a->dict, b->dict, ret);
	} else {
		*ret = a->kind == BMI_JV_NONE || a->kind == BMI_JV_UNDEF || a->s == b->s;
	}
	return r;
}

int bmi_jx_eq(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, bool *ret)
{
	int r = bmi_jx_step(x, 0);

	if (r == 0 && ++x->depth > BMI_JINJA_RUN_DEPTH_MAX)
		r = bmi_jx_fail(x, -E2BIG, "values nested more than %d deep", BMI_JINJA_RUN_DEPTH_MAX);
	if (r == 0) {
		r = eq_inner(x, a, b, ret);
		x->depth--;
	}
	return r;
}

/* 2: not ordered */
int bmi_jx_cmp(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, int *ret)
{
	int r = bmi_jx_step(x, 0);

	if (r < 0)
		return r;
	if (is_number(a) && is_number(b)) {
		*ret = cmp_numbers(a, b);
		return 0;
	}
	if (a->kind == BMI_JV_STR && b->kind == BMI_JV_STR) {
		*ret = cmp_bytes(a, b);
		return bmi_jx_step(x, a->n < b->n ? a->n : b->n);
	}
	if (a->kind == b->kind && (a->kind == BMI_JV_LIST || a->kind == BMI_JV_TUPLE)) {
		if (++x->depth > BMI_JINJA_RUN_DEPTH_MAX)
			return bmi_jx_fail(x, -E2BIG, "values nested more than %d deep",
					   BMI_JINJA_RUN_DEPTH_MAX);
		for (size_t i = 0; i < a->list->n && i < b->list->n; i++) {
			bool eq;

			r = bmi_jx_eq(x, &a->list->at[i], &b->list->at[i], &eq);
			if (r == 0 && eq)
				continue;
			if (r == 0)
				r = bmi_jx_cmp(x, &a->list->at[i], &b->list->at[i], ret);
			x->depth--;
			return r;
		}
		x->depth--;
		*ret = (a->list->n > b->list->n) - (a->list->n < b->list->n);
		return 0;
	}
	if (a->kind == BMI_JV_UNDEF || b->kind == BMI_JV_UNDEF) {
		const struct bmi_jv *u = a->kind == BMI_JV_UNDEF ? a : b;

		return bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined", u->n > 100 ? 100 : (int)u->n, u->s);
	}
	return bmi_jx_fail(x, -EINVAL, "a %s and a %s have no order", bmi_jv_type(a), bmi_jv_type(b));
}

int bmi_jx_in(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, bool *ret)
{
	struct bmi_jv_list *l;
	struct bmi_jv *at;
	int r;

	*ret = false;
	if (b->kind == BMI_JV_STR) {
		if (a->kind != BMI_JV_STR)
			return bmi_jx_fail(x, -EINVAL, "'in' looks for a %s in a str", bmi_jv_type(a));
		r = bmi_jx_step(x, b->n);
		*ret = !a->n || (b->n && memmem(b->s, b->n, a->s, a->n));
		return r;
	}
	if (b->kind == BMI_JV_DICT) {
		r = bmi_jx_get(x, b->dict, a, &at);
		*ret = r == 0 && at;
		return r;
	}
	r = bmi_jx_iter(x, b, &l);
	for (size_t i = 0; r == 0 && !*ret && i < l->n; i++)
		r = bmi_jx_eq(x, a, &l->at[i], ret);
	return r;
}

/* A stable merge sort of values[0..n) by keys[0..n). */
int bmi_jx_sort(struct bmi_jinja_run *x, struct bmi_jv *keys, struct bmi_jv *values, size_t n, bool reverse)
{
	struct bmi_jv *k, *v;
	int r = bmi_jx_alloc(x, (n ? n : 1) * sizeof(*k), &k);

	if (r == 0)
		r = bmi_jx_alloc(x, (n ? n : 1) * sizeof(*v), &v);
	for (size_t width = 1; r == 0 && width < n; width *= 2) {
		for (size_t at = 0; r == 0 && at < n; at += 2 * width) {
			const size_t mid = at + width < n ? at + width : n,
				     end = mid + width < n ? mid + width : n;
			size_t i = at, j = mid, to = at;

			while (r == 0 && (i < mid || j < end)) {
				int c = i >= mid ? 1 : -1;

				if (i < mid && j < end)
					r = bmi_jx_cmp(x, &keys[j], &keys[i], &c);
				if (i < mid && j < end) /* take the right one only when it is truly first */
					c = reverse ? (c == 1 ? 1 : -1) : (c == -1 ? 1 : -1);
				k[to] = c == 1 ? keys[j] : keys[i];
				v[to++] = c == 1 ? values[j++] : values[i++];
			}
		}
		if (r == 0) {
			memcpy(keys, k, n * sizeof(*k));
			memcpy(values, v, n * sizeof(*v));
		}
	}
	return r;
}

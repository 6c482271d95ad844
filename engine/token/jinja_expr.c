/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the value of an expression. Attributes and items follow Jinja2's getattr() and getitem(): what is not there
 * is undefined, and an attribute, item or sum of something undefined is an error.
 * Invariant: x->depth counts every evaluation that is open, so the stack is bounded even through macros.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <math.h>
#include <string.h>

static struct bmi_jv undefined(const char *what, size_t n)
{
	return (struct bmi_jv){ .kind = BMI_JV_UNDEF, .s = what, .n = n };
}

static int fail_undefined(struct bmi_jinja_run *x, const struct bmi_jv *v)
{
	return bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined", v->n > 100 ? 100 : (int)v->n, v->s);
}

static int loop_attr(struct bmi_jinja_run *x, struct bmi_jv_loop *l, const char *name, struct bmi_jv *ret)
{
	const int64_t at = (int64_t)l->at, n = (int64_t)l->list->n;
	const struct {
		const char *name;
		struct bmi_jv v;
	} attrs[] = {
		{ "index", bmi_jv_int(at + 1) },
		{ "index0", bmi_jv_int(at) },
		{ "revindex", bmi_jv_int(n - at) },
		{ "revindex0", bmi_jv_int(n - at - 1) },
		{ "first", bmi_jv_bool(at == 0) },
		{ "last", bmi_jv_bool(at == n - 1) },
		{ "length", bmi_jv_int(n) },
		{ "depth", bmi_jv_int(1) }, /* of recursive loops, which are refused */
		{ "depth0", bmi_jv_int(0) },
		{ "previtem", at > 0 ? l->list->at[at - 1] : undefined("there is no previous item", 25) },
		{ "nextitem", at + 1 < n ? l->list->at[at + 1] : undefined("there is no next item", 21) },
	};

	for (size_t i = 0; i < BMI_ARRAY_LEN(attrs); i++) {
		if (!strcmp(name, attrs[i].name)) {
			*ret = attrs[i].v;
			return 0;
		}
	}
	return bmi_jx_fail(x, -EOPNOTSUPP, "'loop.%s'", name);
}

static int method_value(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name, struct bmi_jv *ret)
{
	struct bmi_jv_method *m;
	const int r = bmi_jx_alloc(x, sizeof(*m), &m);

	if (r < 0)
		return r;
	m->self = *v;
	m->name = name;
	*ret = (struct bmi_jv){ .kind = BMI_JV_METHOD, .method = m };
	return 0;
}

/* v.name, or (item) v['name'] where the dict's own members come first */
static int get_name(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name, size_t n, bool item,
		    struct bmi_jv *ret)
{
	const struct bmi_jv key = bmi_jv_lit(name, n);
	const struct bmi_jv_dict *d = v->kind == BMI_JV_DICT || v->kind == BMI_JV_NS ? v->dict : NULL;
	bool known = false, barred = false, has;
	struct bmi_jv *at = NULL;
	int r = 0;

	if (v->kind == BMI_JV_UNDEF)
		return fail_undefined(x, v);
	*ret = undefined(name, n);
	if (d && (item || v->kind == BMI_JV_NS))
		r = bmi_jx_get(x, d, &key, &at);
	if (r < 0 || at) {
		if (at)
			*ret = *at;
		return r;
	}
	if (n >= 2 && name[0] == '_' && name[1] == '_')
		return 0; /* the sandbox gives undefined */
	has = bmi_jx_has_method(v, name, &known, &barred);
	if (barred)
		return 0; /* the immutable sandbox too */
	if (has)
		return method_value(x, v, name, ret);
	if (known)
		return bmi_jx_fail(x, -EOPNOTSUPP, "'%s' of a %s", name, bmi_jv_type(v));
	if (v->kind == BMI_JV_LOOP)
		return loop_attr(x, v->loop, name, ret);
	if (v->kind == BMI_JV_MACRO || v->kind == BMI_JV_METHOD || v->kind == BMI_JV_GLOBAL)
		return bmi_jx_fail(x, -EOPNOTSUPP, "'%s' of a %s", name, bmi_jv_type(v));
	if (d && !item)
		r = bmi_jx_get(x, d, &key, &at);
	if (r == 0 && at)
		*ret = *at;
	return r;
}

int bmi_jx_attr(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name, struct bmi_jv *ret)
{
	return get_name(x, v, name, strlen(name), false, ret);
}

int bmi_jx_item(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *key, struct bmi_jv *ret)
{
	const bool ordered = v->kind == BMI_JV_STR || (bmi_jv_is_list(v) && v->kind <= BMI_JV_RANGE);
	struct bmi_jv *at;
	int64_t i, n;
	int r;

	if (v->kind == BMI_JV_UNDEF)
		return fail_undefined(x, v);
	if (key->kind == BMI_JV_STR) {
		char *name;

		r = bmi_jx_alloc(x, key->n + 1, &name);
		if (r < 0)
			return r;
		memcpy(name, key->s, key->n);
		return get_name(x, v, name, key->n, true, ret);
	}
	*ret = undefined("an item", 7);
	if (v->kind == BMI_JV_DICT) {
		if (bmi_jv_is_list(key) ? key->kind == BMI_JV_LIST : key->kind == BMI_JV_DICT)
			return 0;
		r = bmi_jx_get(x, v->dict, key, &at);
		if (r == 0 && at)
			*ret = *at;
		return r;
	}
	if (!ordered || (key->kind != BMI_JV_INT && key->kind != BMI_JV_BOOL))
		return 0;
	r = bmi_jx_step(x, v->kind == BMI_JV_STR ? v->n : 0);
	i = key->kind == BMI_JV_BOOL ? key->b : key->i;
	n = v->kind == BMI_JV_STR ? (int64_t)bmi_py_len(v->s, v->n) : (int64_t)v->list->n;
	i += i < 0 ? n : 0;
	if (r < 0 || i < 0 || i >= n)
		return r;
	if (v->kind == BMI_JV_STR) {
		const size_t off = bmi_py_offset(v->s, v->n, (size_t)i);

		*ret = bmi_jv_lit(v->s + off, bmi_tok_utf8_len(v->s[off]));
		ret->safe = v->safe;
	} else {
		*ret = v->list->at[i];
	}
	return 0;
}

static double as_double(const struct bmi_jv *v)
{
	return v->kind == BMI_JV_FLOAT ? v->f : v->kind == BMI_JV_BOOL ? (double)v->b : (double)v->i;
}

static int64_t floor_div(int64_t a, int64_t b)
{
	return a / b - (a % b != 0 && (a % b < 0) != (b < 0));
}

static int int_op(struct bmi_jinja_run *x, int op, int64_t a, int64_t b, struct bmi_jv *ret)
{
	bool wide = false;
	int64_t v = 0;

	if (op == BMI_JO_ADD)
		wide = __builtin_add_overflow(a, b, &v);
	else if (op == BMI_JO_SUB)
		wide = __builtin_sub_overflow(a, b, &v);
	else if (op == BMI_JO_MUL)
		wide = __builtin_mul_overflow(a, b, &v);
	else if (op == BMI_JO_POW) {
		v = 1;
		for (int64_t i = 0; !wide && i < b && !(v == 1 && a == 1) && i < 128; i++)
			wide = __builtin_mul_overflow(v, a, &v);
		if (b >= 128 && a != 1)
			return bmi_jx_fail(x, -EOPNOTSUPP, "a power of more than 127");
	} else if (b == 0) {
		return bmi_jx_fail(x, -EINVAL, "division by zero");
	} else if (b == -1) { /* INT64_MIN / -1 does not fit */
		wide = op == BMI_JO_FLOORDIV && __builtin_sub_overflow((int64_t)0, a, &v);
	} else {
		v = op == BMI_JO_FLOORDIV ? floor_div(a, b) : a - floor_div(a, b) * b;
	}
	if (wide)
		return bmi_jx_fail(x, -EOPNOTSUPP, "an integer past 64 bits");
	*ret = bmi_jv_int(v);
	return 0;
}

static int float_op(struct bmi_jinja_run *x, int op, double a, double b, struct bmi_jv *ret)
{
	double v = 0;

	if (op == BMI_JO_ADD)
		v = a + b;
	else if (op == BMI_JO_SUB)
		v = a - b;
	else if (op == BMI_JO_MUL)
		v = a * b;
	else if (op == BMI_JO_POW)
		v = pow(a, b);
	else if (!(b < 0 || b > 0) && b == b)
		return bmi_jx_fail(x, -EINVAL, "division by zero");
	else if (op == BMI_JO_DIV)
		v = a / b;
	else { /* as CPython's float_divmod() */
		double mod = fmod(a, b), div = (a - mod) / b;

		if (mod != 0 && (b < 0) != (mod < 0)) {
			mod += b;
			div -= 1;
		} else if (mod == 0) {
			mod = copysign(0, b);
		}
		v = op == BMI_JO_MOD ? mod
		    : div != 0       ? floor(div) + (div - floor(div) > 0.5)
				     : copysign(0, a / b);
	}
	if (op == BMI_JO_POW && v != v)
		return bmi_jx_fail(x, -EOPNOTSUPP, "a power that is no real number");
	*ret = bmi_jv_float(v);
	return 0;
}

static int repeat(struct bmi_jinja_run *x, const struct bmi_jv *v, int64_t times, struct bmi_jv *ret)
{
	const size_t n = v->kind == BMI_JV_STR ? v->n : v->list->n, k = times < 0 ? 0 : (size_t)times;
	char *s;
	int r;

	if (n && k > BMI_JINJA_OUTPUT_MAX / n)
		return bmi_jx_fail(x, -E2BIG, "%zu repetitions", k);
	r = bmi_jx_step(x, n * k);
	if (r == 0 && v->kind == BMI_JV_STR) {
		r = bmi_jx_alloc(x, n * k + 1, &s);
		for (size_t i = 0; r == 0 && n && i < k; i++)
			memcpy(s + i * n, v->s, n);
		if (r == 0)
			*ret = bmi_jv_lit(s, n * k);
		ret->safe = v->safe;
		return r;
	}
	if (r == 0)
		r = bmi_jx_list(x, v->kind, n * k, ret);
	for (size_t i = 0; r == 0 && i < n * k; i++)
		r = bmi_jx_push(x, ret->list, &v->list->at[i % n]);
	return r;
}

static int add_strings(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b,
		       struct bmi_jv *ret)
{
	const bool safe = a->safe || b->safe;
	struct bmi_jv p = *a, q = *b;
	char *s;
	int r = safe ? bmi_jx_escape(x, a, &p) : 0;

	if (r == 0 && safe)
		r = bmi_jx_escape(x, b, &q);
	if (r == 0)
		r = bmi_jx_step(x, p.n + q.n);
	if (r == 0)
		r = bmi_jx_alloc(x, p.n + q.n + 1, &s);
	if (r < 0)
		return r;
	memcpy(s, p.s, p.n);
	memcpy(s + p.n, q.s, q.n);
	*ret = bmi_jv_lit(s, p.n + q.n);
	ret->safe = safe;
	return 0;
}

static bool is_number(const struct bmi_jv *v)
{
	return v->kind == BMI_JV_BOOL || v->kind == BMI_JV_INT || v->kind == BMI_JV_FLOAT;
}

int bmi_jx_binary(struct bmi_jinja_run *x, int op, const struct bmi_jv *a, const struct bmi_jv *b,
		  struct bmi_jv *ret)
{
	static const char *const names[] = { "", "+", "-", "*", "/", "//", "%", "**" };
	int r = 0;

	if (a->kind == BMI_JV_UNDEF || b->kind == BMI_JV_UNDEF)
		return fail_undefined(x, a->kind == BMI_JV_UNDEF ? a : b);
	if (is_number(a) && is_number(b)) {
		const int64_t i = a->kind == BMI_JV_BOOL ? a->b : a->i,
			      j = b->kind == BMI_JV_BOOL ? b->b : b->i;

		if (a->kind == BMI_JV_FLOAT || b->kind == BMI_JV_FLOAT || op == BMI_JO_DIV ||
		    (op == BMI_JO_POW && j < 0))
			return float_op(x, op, as_double(a), as_double(b), ret);
		return int_op(x, op, i, j, ret);
	}
	if (op == BMI_JO_ADD && a->kind == BMI_JV_STR && b->kind == BMI_JV_STR)
		return add_strings(x, a, b, ret);
	if (op == BMI_JO_ADD && a->kind == b->kind && (a->kind == BMI_JV_LIST || a->kind == BMI_JV_TUPLE)) {
		r = bmi_jx_list(x, a->kind, a->list->n + b->list->n, ret);
		for (size_t i = 0; r == 0 && i < a->list->n; i++)
			r = bmi_jx_push(x, ret->list, &a->list->at[i]);
		for (size_t i = 0; r == 0 && i < b->list->n; i++)
			r = bmi_jx_push(x, ret->list, &b->list->at[i]);
		return r;
	}
	if (op == BMI_JO_MUL && (b->kind == BMI_JV_STR || b->kind == BMI_JV_LIST || b->kind == BMI_JV_TUPLE)) {
		const struct bmi_jv *t = a;

		a = b;
		b = t;
	}
	if (op == BMI_JO_MUL && (a->kind == BMI_JV_STR || a->kind == BMI_JV_LIST || a->kind == BMI_JV_TUPLE) &&
	    (b->kind == BMI_JV_INT || b->kind == BMI_JV_BOOL))
		return repeat(x, a, b->kind == BMI_JV_BOOL ? b->b : b->i, ret);
	if (op == BMI_JO_MOD && a->kind == BMI_JV_STR)
		return bmi_jx_fail(x, -EOPNOTSUPP, "'%%' on a str (formatting)");
	return bmi_jx_fail(x, -EINVAL, "a %s %s a %s", bmi_jv_type(a), names[op], bmi_jv_type(b));
}

static int unary(struct bmi_jinja_run *x, int op, struct bmi_jv *v)
{
	if (op == BMI_JO_NOT) {
		*v = bmi_jv_bool(!bmi_jv_true(v));
		return 0;
	}
	if (v->kind == BMI_JV_UNDEF)
		return fail_undefined(x, v);
	if (!is_number(v))
		return bmi_jx_fail(x, -EINVAL, "a sign before a %s", bmi_jv_type(v));
	if (v->kind == BMI_JV_BOOL)
		*v = bmi_jv_int(v->b);
	if (op == BMI_JO_SUB && v->kind == BMI_JV_FLOAT)
		v->f = -v->f;
	else if (op == BMI_JO_SUB)
		return int_op(x, BMI_JO_SUB, 0, v->i, v);
	return 0;
}

static int compare(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	struct bmi_jv a, b;
	bool ok = true;
	int r = bmi_jx_eval(x, n->at[0], &a), c = 0;

	for (unsigned i = 1; r == 0 && ok && i < n->n; i++, a = b) {
		const int op = n->at[i]->op;

		r = bmi_jx_eval(x, n->at[i]->at[0], &b);
		if (r < 0)
			break;
		if (op == BMI_JO_EQ || op == BMI_JO_NE)
			r = bmi_jx_eq(x, &a, &b, &ok);
		else if (op == BMI_JO_IN || op == BMI_JO_NOT_IN)
			r = bmi_jx_in(x, &a, &b, &ok);
		else
			r = bmi_jx_cmp(x, &a, &b, &c);
		if (op == BMI_JO_NE || op == BMI_JO_NOT_IN)
			ok = !ok;
		else if (op >= BMI_JO_LT && op <= BMI_JO_GE)
			ok = c != 2 && (op == BMI_JO_LT   ? c < 0
					: op == BMI_JO_LE ? c <= 0
					: op == BMI_JO_GT ? c > 0
							  : c >= 0);
	}
	*ret = bmi_jv_bool(ok);
	return r;
}

static int eval_args(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv_args *a)
{
	const char **names;
	int r = bmi_jx_alloc(x, n->n * sizeof(*a->at), &a->at);

	if (r == 0)
		r = bmi_jx_alloc(x, n->n * sizeof(*names), &names);
	for (unsigned i = 1; r == 0 && i < n->n; i++) { /* named ones are last */
		const bool named = n->at[i]->kind == BMI_JN_KWARG;

		r = bmi_jx_eval(x, named ? n->at[i]->at[0] : n->at[i], &a->at[a->n + a->n_kw]);
		if (named)
			names[a->n_kw++] = n->at[i]->s;
		else
			a->n++;
	}
	if (r == 0)
		a->names = names;
	return r;
}

/* FILTER, TEST and CALL: the first child, then arguments */
static int apply(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	struct bmi_jv_args a = { .what = n->s };
	struct bmi_jv v;
	bool ok;
	int r = bmi_jx_eval(x, n->at[0], &v);

	if (r == 0)
		r = eval_args(x, n, &a);
	if (r < 0)
		return r;
	x->line = n->line;
	if (n->kind == BMI_JN_CALL)
		return bmi_jx_call(x, &v, &a, ret);
	if (n->kind == BMI_JN_FILTER)
		return bmi_jx_is_pick(n->s) ? bmi_jx_pick(x, n->s, &v, &a, ret)
					    : bmi_jx_filter(x, n->s, &v, &a, ret);
	r = bmi_jx_test(x, n->s, &v, &a, &ok);
	*ret = bmi_jv_bool(r == 0 && ok != n->op);
	return r;
}

static int eval_many(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	struct bmi_jv v, key;
	int r = n->kind == BMI_JN_DICT
			? bmi_jx_dict(x, ret)
			: bmi_jx_list(x, n->kind == BMI_JN_LIST ? BMI_JV_LIST : BMI_JV_TUPLE, n->n, ret);

	for (unsigned i = 0; r == 0 && i < n->n; i++) {
		r = bmi_jx_eval(x, n->at[i], &v);
		if (r == 0 && n->kind != BMI_JN_DICT)
			r = bmi_jx_push(x, ret->list, &v);
		else if (r == 0 && i % 2)
			r = bmi_jx_put(x, ret->dict, &key, &v);
		key = v;
	}
	return r;
}

static int concat(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	struct bmi_jv v;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < n->n; i++) {
		r = bmi_jx_eval(x, n->at[i], &v);
		if (r == 0)
			r = bmi_jx_print(x, &v, &s);
	}
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

static int slice(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	struct bmi_jv v[4];
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 4; i++)
		r = bmi_jx_eval(x, n->at[i], &v[i]);
	if (r == 0 && v[0].kind == BMI_JV_UNDEF)
		r = fail_undefined(x, &v[0]);
	return r < 0 ? r : bmi_py_slice(x, &v[0], v + 1, ret);
}

static int eval_inner(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	struct bmi_jv a, b;
	int r = 0;

	switch (n->kind) {
	case BMI_JN_CONST:
		*ret = n->value;
		return 0;
	case BMI_JN_CAPTURE:
		*ret = x->capture;
		return 0;
	case BMI_JN_NAME:
		return bmi_jx_find(x, n->s, n->n_s, ret);
	case BMI_JN_LIST:
	case BMI_JN_TUPLE:
	case BMI_JN_DICT:
		return eval_many(x, n, ret);
	case BMI_JN_ATTR:
		r = bmi_jx_eval(x, n->at[0], &a);
		return r < 0 ? r : bmi_jx_attr(x, &a, n->s, ret);
	case BMI_JN_INDEX:
	case BMI_JN_BINARY:
		r = bmi_jx_eval(x, n->at[0], &a);
		if (r == 0)
			r = bmi_jx_eval(x, n->at[1], &b);
		if (r < 0)
			return r;
		return n->kind == BMI_JN_INDEX ? bmi_jx_item(x, &a, &b, ret)
					       : bmi_jx_binary(x, n->op, &a, &b, ret);
	case BMI_JN_SLICE:
		return slice(x, n, ret);
	case BMI_JN_UNARY:
		r = bmi_jx_eval(x, n->at[0], ret);
		return r < 0 ? r : unary(x, n->op, ret);
	case BMI_JN_AND:
	case BMI_JN_OR:
		for (unsigned i = 0; r == 0 && i < n->n; i++) {
			r = bmi_jx_eval(x, n->at[i], ret);
			if (r == 0 && bmi_jv_true(ret) == (n->kind == BMI_JN_OR))
				break;
		}
		return r;
	case BMI_JN_COND:
		r = bmi_jx_eval(x, n->at[0], &a);
		if (r == 0 && !bmi_jv_true(&a) && n->n < 3)
			*ret = undefined("an 'if' without 'else'", 22);
		else if (r == 0)
			r = bmi_jx_eval(x, n->at[bmi_jv_true(&a) ? 1 : 2], ret);
		return r;
	case BMI_JN_COMPARE:
		return compare(x, n, ret);
	case BMI_JN_CONCAT:
		return concat(x, n, ret);
	default:
		return apply(x, n, ret);
	}
}

int bmi_jx_eval(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret)
{
	int r = bmi_jx_step(x, 0);

	if (r == 0 && ++x->depth > BMI_JINJA_RUN_DEPTH_MAX)
		r = bmi_jx_fail(x, -E2BIG, "more than %d nested evaluations", BMI_JINJA_RUN_DEPTH_MAX);
	x->line = n->line;
	if (r == 0) {
		r = eval_inner(x, n, ret);
		x->depth--;
	}
	return r;
}

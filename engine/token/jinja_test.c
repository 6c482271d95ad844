/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the tests behind `is`, as jinja2/tests.py has them. Unknown ones are refused when a template is opened.
 * Invariant: a test never changes what it looks at, but for `in`, which reads a generator.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

enum what {
	T_DEFINED,
	T_UNDEFINED,
	T_NONE,
	T_BOOLEAN,
	T_TRUE,
	T_FALSE,
	T_INTEGER,
	T_FLOAT,
	T_NUMBER,
	T_STRING,
	T_SEQUENCE,
	T_MAPPING,
	T_ITERABLE,
	T_CALLABLE,
	T_LOWER,
	T_UPPER,
	T_ODD,
	T_EVEN,
	T_WITH_ONE,
	T_DIVISIBLE,
	T_SAME,
	T_IN,
	T_EQ,
	T_NE,
	T_LT,
	T_LE,
	T_GT,
	T_GE,
};

static const struct test {
	const char *name;
	enum what what;
} tests[] = {
	{ "defined", T_DEFINED },
	{ "undefined", T_UNDEFINED },
	{ "none", T_NONE },
	{ "boolean", T_BOOLEAN },
	{ "true", T_TRUE },
	{ "false", T_FALSE },
	{ "integer", T_INTEGER },
	{ "float", T_FLOAT },
	{ "number", T_NUMBER },
	{ "string", T_STRING },
	{ "sequence", T_SEQUENCE },
	{ "mapping", T_MAPPING },
	{ "iterable", T_ITERABLE },
	{ "callable", T_CALLABLE },
	{ "lower", T_LOWER },
	{ "upper", T_UPPER },
	{ "odd", T_ODD },
	{ "even", T_EVEN },
	{ "divisibleby", T_DIVISIBLE },
	{ "sameas", T_SAME },
	{ "in", T_IN },
	{ "eq", T_EQ },
	{ "equalto", T_EQ },
	{ "==", T_EQ },
	{ "ne", T_NE },
	{ "!=", T_NE },
	{ "lt", T_LT },
	{ "lessthan", T_LT },
	{ "<", T_LT },
	{ "le", T_LE },
	{ "<=", T_LE },
	{ "gt", T_GT },
	{ "greaterthan", T_GT },
	{ ">", T_GT },
	{ "ge", T_GE },
	{ ">=", T_GE },
};

static const struct test *find(const char *name)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(tests); i++)
		if (!strcmp(name, tests[i].name))
			return &tests[i];
	return NULL;
}

bool bmi_jx_is_test(const char *name)
{
	return find(name) != NULL;
}

static bool is_kind(enum what what, const struct bmi_jv *v)
{
	const bool number = v->kind == BMI_JV_INT || v->kind == BMI_JV_FLOAT || v->kind == BMI_JV_BOOL;
	const bool list = bmi_jv_is_list(v);

	switch (what) {
	case T_DEFINED:
		return v->kind != BMI_JV_UNDEF;
	case T_UNDEFINED:
		return v->kind == BMI_JV_UNDEF;
	case T_NONE:
		return v->kind == BMI_JV_NONE;
	case T_BOOLEAN:
		return v->kind == BMI_JV_BOOL;
	case T_TRUE:
	case T_FALSE:
		return v->kind == BMI_JV_BOOL && v->b == (what == T_TRUE);
	case T_INTEGER:
		return v->kind == BMI_JV_INT;
	case T_FLOAT:
		return v->kind == BMI_JV_FLOAT;
	case T_NUMBER:
		return number;
	case T_STRING:
		return v->kind == BMI_JV_STR;
	case T_SEQUENCE: /* has a length and takes an index; Undefined has both as methods */
		return v->kind == BMI_JV_STR || v->kind == BMI_JV_DICT || v->kind == BMI_JV_UNDEF ||
		       (list && v->kind <= BMI_JV_RANGE);
	case T_MAPPING:
		return v->kind == BMI_JV_DICT;
	case T_ITERABLE:
		return v->kind == BMI_JV_STR || v->kind == BMI_JV_DICT || v->kind == BMI_JV_UNDEF ||
		       v->kind == BMI_JV_LOOP || list;
	default: /* T_CALLABLE; Undefined has __call__ */
		return v->kind == BMI_JV_MACRO || v->kind == BMI_JV_GLOBAL || v->kind == BMI_JV_METHOD ||
		       v->kind == BMI_JV_UNDEF || v->kind == BMI_JV_LOOP;
	}
}

/* str(v).islower() and isupper() */
static int is_case(struct bmi_jinja_run *x, bool upper, const struct bmi_jv *v, bool *ret)
{
	const struct bmi_jv_args none = { .what = "is" };
	struct bmi_jv s, yes;
	int r = bmi_jx_to_str(x, v, &s);

	if (r == 0)
		r = bmi_jx_method(x, &s, upper ? "isupper" : "islower", &none, &yes);
	*ret = r == 0 && yes.b;
	return r;
}

static int is_multiple(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *of, int64_t rest,
		       bool *ret)
{
	struct bmi_jv mod;
	const struct bmi_jv want = bmi_jv_int(rest);
	const int r = bmi_jx_binary(x, BMI_JO_MOD, v, of, &mod);

	return r < 0 ? r : bmi_jx_eq(x, &mod, &want, ret);
}

static bool same(const struct bmi_jv *a, const struct bmi_jv *b)
{
	if (a->kind != b->kind)
		return false;
	return a->kind == BMI_JV_NONE || (a->kind == BMI_JV_BOOL ? a->b == b->b : a->s == b->s && a->n == b->n);
}

int bmi_jx_test(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		const struct bmi_jv_args *a, bool *ret)
{
	const struct test *t = find(name);
	const struct bmi_jv two = bmi_jv_int(2);
	struct bmi_jv arg;
	int c = 0, r;

	if (!t)
		return bmi_jx_fail(x, -EOPNOTSUPP, "the test '%s'", name);
	r = t->what > T_WITH_ONE ? bmi_jx_bind(x, a, "other", 1, &arg)
	    : a->n || a->n_kw    ? bmi_jx_fail(x, -EINVAL, "the test '%s' takes no argument", name)
				 : 0;
	if (r < 0)
		return r;
	if (t->what < T_LOWER) {
		*ret = is_kind(t->what, v);
		return 0;
	}
	switch (t->what) {
	case T_LOWER:
	case T_UPPER:
		return is_case(x, t->what == T_UPPER, v, ret);
	case T_ODD:
	case T_EVEN:
		return is_multiple(x, v, &two, t->what == T_ODD, ret);
	case T_DIVISIBLE:
		return is_multiple(x, v, &arg, 0, ret);
	case T_SAME:
		if (v->kind == BMI_JV_STR || v->kind == BMI_JV_INT || v->kind == BMI_JV_FLOAT)
			return bmi_jx_fail(x, -EOPNOTSUPP, "the test 'sameas' on a %s", bmi_jv_type(v));
		*ret = same(v, &arg);
		return 0;
	case T_IN:
		return bmi_jx_in(x, v, &arg, ret);
	case T_EQ:
	case T_NE:
		r = bmi_jx_eq(x, v, &arg, ret);
		*ret = *ret == (t->what == T_EQ);
		return r;
	default:
		r = bmi_jx_cmp(x, v, &arg, &c);
		*ret = c != 2 && (t->what == T_LT   ? c < 0
				  : t->what == T_LE ? c <= 0
				  : t->what == T_GT ? c > 0
						    : c >= 0);
		return r;
	}
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the filters that look at one value; those that pick from many are in jinja_pick.c.
 * Invariant: a name in filters[] is all that the parser lets through, so there is no unknown filter while rendering but in
 * map('name').
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

typedef int filter_fn(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		      struct bmi_jv *ret);

static bool given(const struct bmi_jv *v)
{
	return v->kind != BMI_JV_MISSING && v->kind != BMI_JV_NONE;
}

static int filter_trim(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	struct bmi_jv chars, text;
	int r = bmi_jx_bind(x, a, "chars", 0, &chars);

	if (r == 0)
		r = bmi_jx_to_str(x, v, &text);
	if (r == 0 && given(&chars) && chars.kind != BMI_JV_STR)
		r = bmi_jx_fail(x, -EINVAL, "trim() of a %s", bmi_jv_type(&chars));
	if (r == 0)
		r = bmi_jx_step(x, given(&chars) ? text.n * (1 + chars.n / 8) : text.n);
	if (r < 0)
		return r;
	bmi_py_strip(&text.s, &text.n, given(&chars) ? &chars : NULL, 3);
	*ret = text;
	return 0;
}

static int filter_case(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	struct bmi_jv text;
	int r = bmi_jx_bind(x, a, "", 0, &text);

	if (r == 0)
		r = bmi_jx_to_str(x, v, &text);
	return r < 0 ? r : bmi_py_case(x, &text, a->what[0] == 't' ? 'T' : a->what[0], ret);
}

static int filter_length(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			 struct bmi_jv *ret)
{
	int64_t n = 0;
	int r = bmi_jx_bind(x, a, "", 0, ret);

	if (r == 0 && v->kind == BMI_JV_STR) {
		r = bmi_jx_step(x, v->n);
		n = (int64_t)bmi_py_len(v->s, v->n);
	} else if (bmi_jv_is_list(v) && v->kind != BMI_JV_ITER) {
		n = (int64_t)v->list->n;
	} else if (v->kind == BMI_JV_DICT) {
		n = (int64_t)v->dict->n;
	} else if (v->kind == BMI_JV_LOOP) {
		n = (int64_t)v->loop->list->n;
	} else if (r == 0 && v->kind != BMI_JV_UNDEF) {
		r = bmi_jx_fail(x, -EINVAL, "a %s has no length", bmi_jv_type(v));
	}
	*ret = bmi_jv_int(n);
	return r;
}

static int filter_default(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			  struct bmi_jv *ret)
{
	struct bmi_jv arg[2];
	const int r = bmi_jx_bind(x, a, "default_value,boolean", 0, arg);

	if (r < 0)
		return r;
	*ret = *v;
	if (v->kind == BMI_JV_UNDEF || (bmi_jv_true(&arg[1]) && !bmi_jv_true(v)))
		*ret = arg[0].kind == BMI_JV_MISSING ? bmi_jv_lit("", 0) : arg[0];
	return 0;
}

static int filter_replace(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			  struct bmi_jv *ret)
{
	struct bmi_jv arg[3], text;
	int64_t count = -1;
	int r = bmi_jx_bind(x, a, "old,new,count", 2, arg);

	if (r == 0 && given(&arg[2]))
		r = bmi_jx_want_int(x, "count", &arg[2], -1, &count);
	for (unsigned i = 0; r == 0 && i < 2; i++)
		r = bmi_jx_to_str(x, &arg[i], &arg[i]);
	if (r == 0)
		r = bmi_jx_to_str(x, v, &text);
	return r < 0 ? r : bmi_py_replace(x, &text, &arg[0], &arg[1], count, ret);
}

static int filter_tojson(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			 struct bmi_jv *ret)
{
	return bmi_jx_to_json(x, v, a, ret);
}

static int filter_string(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			 struct bmi_jv *ret)
{
	const int r = bmi_jx_bind(x, a, "", 0, ret);

	return r < 0 ? r : bmi_jx_to_str(x, v, ret);
}

static int filter_safe(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	const int r = filter_string(x, v, a, ret);

	ret->safe = true;
	return r;
}

static int filter_escape(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			 struct bmi_jv *ret)
{
	const int r = bmi_jx_bind(x, a, "", 0, ret);

	return r < 0 ? r : bmi_jx_escape(x, v, ret);
}

/* A number that is the whole text, white space and `_` between digits aside, as int() and float() read it. */
static bool read_number(const struct bmi_jv *v, bool whole, double *ret_f, int64_t *ret_i)
{
	const char *s = v->s;
	size_t n = v->n, k = 0;
	char text[128], *end;

	bmi_py_strip(&s, &n, NULL, 3);
	for (size_t i = 0; i < n; i++) {
		const bool between = i && i + 1 < n && s[i - 1] >= '0' && s[i - 1] <= '9' &&
				     s[i + 1] >= '0' && s[i + 1] <= '9';

		if (s[i] == '_' && between)
			continue;
		if (k + 1 >= sizeof(text) || !s[i] ||
		    !strchr(whole ? "+-0123456789" : "+-0123456789.eEinfatyINFATY", s[i]))
			return false;
		text[k++] = s[i];
	}
	text[k] = 0;
	errno = 0;
	if (whole)
		*ret_i = strtoll(text, &end, 10);
	else
		*ret_f = strtod(text, &end);
	return k && !*end && (!whole || !errno);
}

static int filter_int(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		      struct bmi_jv *ret)
{
	struct bmi_jv arg[2];
	double f = 0;
	int64_t i = 0;
	int r = bmi_jx_bind(x, a, "default,base", 0, arg);

	if (r == 0 && given(&arg[1]) && !(arg[1].kind == BMI_JV_INT && arg[1].i == 10))
		r = bmi_jx_fail(x, -EOPNOTSUPP, "int() with a base that is not 10");
	if (r < 0)
		return r;
	if (v->kind == BMI_JV_UNDEF)
		return bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined", v->n > 100 ? 100 : (int)v->n, v->s);
	*ret = arg[0].kind == BMI_JV_MISSING ? bmi_jv_int(0) : arg[0];
	if (v->kind == BMI_JV_INT || v->kind == BMI_JV_BOOL) {
		*ret = bmi_jv_int(v->kind == BMI_JV_INT ? v->i : v->b);
	} else if (v->kind == BMI_JV_STR && read_number(v, true, &f, &i)) {
		*ret = bmi_jv_int(i);
	} else if (v->kind == BMI_JV_FLOAT || (v->kind == BMI_JV_STR && read_number(v, false, &f, &i))) {
		f = v->kind == BMI_JV_FLOAT ? v->f : f;
		if (isfinite(f) && (f >= 0x1p63 || f <= -0x1p63))
			return bmi_jx_fail(x, -EOPNOTSUPP, "an integer past 64 bits");
		if (isinf(f))
			return bmi_jx_fail(x, -EINVAL, "int() of infinity");
		if (isfinite(f))
			*ret = bmi_jv_int((int64_t)f);
	}
	return 0;
}

static int filter_float(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			struct bmi_jv *ret)
{
	struct bmi_jv arg;
	int64_t i;
	double f;
	const int r = bmi_jx_bind(x, a, "default", 0, &arg);

	if (r < 0)
		return r;
	if (v->kind == BMI_JV_UNDEF)
		return bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined", v->n > 100 ? 100 : (int)v->n, v->s);
	*ret = arg.kind == BMI_JV_MISSING ? bmi_jv_float(0) : arg;
	if (v->kind == BMI_JV_FLOAT)
		*ret = *v;
	else if (v->kind == BMI_JV_INT || v->kind == BMI_JV_BOOL)
		*ret = bmi_jv_float(v->kind == BMI_JV_INT ? (double)v->i : v->b);
	else if (v->kind == BMI_JV_STR && read_number(v, false, &f, &i))
		*ret = bmi_jv_float(f);
	return 0;
}

static int filter_abs(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		      struct bmi_jv *ret)
{
	const struct bmi_jv zero = bmi_jv_int(0);
	const int r = bmi_jx_bind(x, a, "", 0, ret);

	if (r < 0)
		return r;
	if (v->kind == BMI_JV_FLOAT)
		*ret = bmi_jv_float(fabs(v->f));
	else if ((v->kind == BMI_JV_INT && v->i >= 0) || v->kind == BMI_JV_BOOL)
		*ret = bmi_jv_int(v->kind == BMI_JV_INT ? v->i : v->b);
	else if (v->kind == BMI_JV_INT)
		return bmi_jx_binary(x, BMI_JO_SUB, &zero, v, ret);
	else
		return bmi_jx_fail(x, -EINVAL, "abs() of a %s", bmi_jv_type(v));
	return 0;
}

static int filter_round(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			struct bmi_jv *ret)
{
	struct bmi_jv arg[2];
	bmi_auto_str s = { 0 };
	int64_t digits = 0;
	bool up;
	int r = bmi_jx_bind(x, a, "precision,method", 0, arg);

	if (r == 0)
		r = bmi_jx_want_int(x, "the precision of round()", &arg[0], 0, &digits);
	if (r == 0 && (digits < 0 || digits > 15))
		r = bmi_jx_fail(x, -EOPNOTSUPP, "round() to %" PRId64 " digits", digits);
	if (r < 0)
		return r;
	if (v->kind != BMI_JV_INT && v->kind != BMI_JV_FLOAT)
		return bmi_jx_fail(x, -EINVAL, "round() of a %s", bmi_jv_type(v));
	if (arg[1].kind == BMI_JV_MISSING ||
	    (arg[1].kind == BMI_JV_STR && arg[1].n == 6 && !memcmp(arg[1].s, "common", 6))) {
		*ret = *v;
		if (v->kind == BMI_JV_FLOAT && isfinite(v->f)) {
			bmi_str_printf(&s, "%.*f", (int)digits, v->f);
			if (!bmi_str_ok(&s))
				return bmi_jx_fail(x, -ENOMEM, "a number");
			*ret = bmi_jv_float(strtod(s.bytes, NULL));
		}
		return 0;
	}
	up = arg[1].kind == BMI_JV_STR && arg[1].n == 4 && !memcmp(arg[1].s, "ceil", 4);
	if (!up && !(arg[1].kind == BMI_JV_STR && arg[1].n == 5 && !memcmp(arg[1].s, "floor", 5)))
		return bmi_jx_fail(x, -EINVAL, "the method of round() is not common, ceil or floor");
	const double scale = pow(10, (double)digits), f = (v->kind == BMI_JV_INT ? (double)v->i : v->f) * scale;

	*ret = bmi_jv_float((up ? ceil(f) : floor(f)) / scale);
	return 0;
}

static int filter_indent(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
			 struct bmi_jv *ret)
{
	struct bmi_jv arg[3], text, lines;
	bmi_auto_str s = { 0 }, pad = { 0 };
	int64_t width = 4;
	int r = bmi_jx_bind(x, a, "width,first,blank", 0, arg);

	if (r == 0 && v->kind != BMI_JV_STR)
		r = bmi_jx_fail(x, -EINVAL, "indent() of a %s", bmi_jv_type(v));
	if (r == 0 && arg[0].kind == BMI_JV_STR)
		bmi_str_put(&pad, arg[0].s, arg[0].n);
	else if (r == 0)
		r = bmi_jx_want_int(x, "the width of indent()", &arg[0], 4, &width);
	if (r == 0 && width > 1000)
		r = bmi_jx_fail(x, -EOPNOTSUPP, "indent() by %" PRId64, width);
	for (int64_t i = 0; r == 0 && arg[0].kind != BMI_JV_STR && i < width; i++)
		bmi_str_puts(&pad, " ");
	if (r == 0) { /* Jinja2 appends a line end, so that a last empty line counts */
		bmi_str_put(&s, v->s, v->n);
		bmi_str_puts(&s, "\n");
		r = bmi_jx_take(x, &s, &text);
		s.n = 0;
	}
	if (r == 0)
		r = bmi_py_splitlines(x, &text, false, &lines);
	for (size_t i = 0; r == 0 && i < lines.list->n; i++) {
		const struct bmi_jv *line = &lines.list->at[i];

		if (i)
			bmi_str_puts(&s, "\n");
		if (i ? (line->n || bmi_jv_true(&arg[2])) : bmi_jv_true(&arg[1]))
			bmi_str_put(&s, pad.bytes ? pad.bytes : "", pad.n);
		bmi_str_put(&s, line->s, line->n);
		r = s.n > BMI_JINJA_OUTPUT_MAX
			    ? bmi_jx_fail(x, -E2BIG, "a text of more than %d bytes", BMI_JINJA_OUTPUT_MAX)
			    : bmi_jx_step(x, pad.n);
	}
	if (r == 0)
		r = bmi_jx_take(x, &s, ret);
	ret->safe = v->safe;
	return r;
}

static const struct filter {
	const char *name;
	filter_fn *fn;
} filters[] = {
	{ "abs", filter_abs },         { "capitalize", filter_case }, { "count", filter_length },
	{ "d", filter_default },       { "default", filter_default }, { "e", filter_escape },
	{ "escape", filter_escape },   { "float", filter_float },     { "indent", filter_indent },
	{ "int", filter_int },         { "length", filter_length },   { "lower", filter_case },
	{ "replace", filter_replace }, { "round", filter_round },     { "safe", filter_safe },
	{ "string", filter_string },   { "title", filter_case },      { "tojson", filter_tojson },
	{ "trim", filter_trim },       { "upper", filter_case },
};

static const struct filter *find(const char *name)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(filters); i++)
		if (!strcmp(name, filters[i].name))
			return &filters[i];
	return NULL;
}

bool bmi_jx_is_filter(const char *name)
{
	return find(name) != NULL;
}

int bmi_jx_filter(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		  const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	const struct filter *f = find(name);

	return f ? f->fn(x, v, a, ret) : bmi_jx_fail(x, -EOPNOTSUPP, "the filter '%s'", name);
}

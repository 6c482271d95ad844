/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns calls: how arguments meet parameters, and the functions of the environment (range, namespace, dict,
 * raise_exception, strftime_now).
 * Invariant: an argument that has no parameter is an error, never dropped.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

int bmi_jx_bind(struct bmi_jinja_run *x, const struct bmi_jv_args *a, const char *spec, unsigned need,
		struct bmi_jv *ret)
{
	unsigned n = 0, used = 0;

	for (const char *s = spec; *s; n++) {
		const size_t len = strcspn(s, ",");

		ret[n] = (struct bmi_jv){ .kind = BMI_JV_MISSING };
		if (n < a->n)
			ret[n] = a->at[n];
		for (unsigned k = 0; k < a->n_kw; k++) {
			if (strlen(a->names[k]) != len || memcmp(a->names[k], s, len) != 0)
				continue;
			if (ret[n].kind != BMI_JV_MISSING)
				return bmi_jx_fail(x, -EINVAL, "'%s' gets '%s' twice", a->what, a->names[k]);
			ret[n] = a->at[a->n + k];
			used++;
		}
		if (n < need && ret[n].kind == BMI_JV_MISSING)
			return bmi_jx_fail(x, -EINVAL, "'%s' lacks the argument '%.*s'", a->what, (int)len, s);
		s += len + (s[len] == ',');
	}
	if (a->n > n)
		return bmi_jx_fail(x, -EINVAL, "'%s' takes %u arguments, not %u", a->what, n, a->n);
	if (used == a->n_kw)
		return 0;
	for (unsigned k = 0; k < a->n_kw; k++) {
		const size_t len = strlen(a->names[k]);
		const char *at = strstr(spec, a->names[k]);

		if (!at || (at != spec && at[-1] != ',') || (at[len] && at[len] != ','))
			return bmi_jx_fail(x, -EINVAL, "'%s' has no argument '%s'", a->what, a->names[k]);
	}
	return bmi_jx_fail(x, -EINVAL, "'%s' gets an argument twice", a->what);
}

int bmi_jx_want_int(struct bmi_jinja_run *x, const char *what, const struct bmi_jv *v, int64_t otherwise,
		    int64_t *ret)
{
	if (v->kind == BMI_JV_MISSING)
		*ret = otherwise;
	else if (v->kind == BMI_JV_INT || v->kind == BMI_JV_BOOL)
		*ret = v->kind == BMI_JV_INT ? v->i : v->b;
	else
		return bmi_jx_fail(x, -EINVAL, "%s is a %s, not an int", what, bmi_jv_type(v));
	return 0;
}

static int call_range(struct bmi_jinja_run *x, const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	int64_t v[3] = { 0, 0, 1 }, n;
	int r = 0;

	if (a->n_kw || a->n < 1 || a->n > 3)
		return bmi_jx_fail(x, -EINVAL, "range() takes 1 to 3 arguments");
	for (unsigned i = 0; r == 0 && i < a->n; i++)
		r = bmi_jx_want_int(x, "an argument of range()", &a->at[i], 0, &v[a->n == 1 ? 1 : i]);
	if (r == 0 && v[2] == 0)
		r = bmi_jx_fail(x, -EINVAL, "the step of range() is 0");
	if (r < 0)
		return r;
	const __int128 span = v[2] > 0 ? (__int128)v[1] - v[0] : (__int128)v[0] - v[1];
	const __int128 step = v[2] > 0 ? (__int128)v[2] : -(__int128)v[2];
	const __int128 many = span <= 0 ? 0 : (span + step - 1) / step;

	if (many > BMI_JINJA_RANGE_MAX)
		return bmi_jx_fail(x, -E2BIG, "a range of more than %d numbers", BMI_JINJA_RANGE_MAX);
	n = (int64_t)many;
	r = bmi_jx_list(x, BMI_JV_RANGE, (size_t)n, ret);
	for (int64_t i = 0; r == 0 && i < n; i++) {
		const struct bmi_jv at = bmi_jv_int(v[0] + i * v[2]);

		r = bmi_jx_push(x, ret->list, &at);
	}
	return r;
}

/* dict(other, a=1) and namespace(other, a=1) */
static int call_dict(struct bmi_jinja_run *x, const struct bmi_jv_args *a, enum bmi_jv_kind kind,
		     struct bmi_jv *ret)
{
	int r = bmi_jx_dict(x, ret);

	if (r == 0 && a->n > 1)
		r = bmi_jx_fail(x, -EINVAL, "%s() takes one argument without a name",
				kind == BMI_JV_NS ? "namespace" : "dict");
	if (r == 0 && a->n && a->at[0].kind != BMI_JV_DICT)
		r = bmi_jx_fail(x, -EOPNOTSUPP, "%s() of a %s", kind == BMI_JV_NS ? "namespace" : "dict",
				bmi_jv_type(&a->at[0]));
	for (size_t i = 0; r == 0 && a->n && i < a->at[0].dict->n; i++)
		r = bmi_jx_put(x, ret->dict, &a->at[0].dict->keys[i], &a->at[0].dict->values[i]);
	for (unsigned i = 0; r == 0 && i < a->n_kw; i++) {
		const struct bmi_jv key = bmi_jv_lit(a->names[i], strlen(a->names[i]));

		r = bmi_jx_put(x, ret->dict, &key, &a->at[a->n + i]);
	}
	ret->kind = kind;
	return r;
}

static int call_raise(struct bmi_jinja_run *x, const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	struct bmi_jv v;
	int r = bmi_jx_bind(x, a, "message", 1, &v);

	if (r == 0)
		r = bmi_jx_to_str(x, &v, ret);
	if (r < 0)
		return r;
	return bmi_jx_fail(x, -EINVAL, "the template says: %.*s", ret->n > 900 ? 900 : (int)ret->n, ret->s);
}

/* datetime.now().strftime(format); conversions whose meaning differs between C libraries are refused. */
static int call_strftime(struct bmi_jinja_run *x, const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	const time_t now = (time_t)x->now;
	char format[256], text[1024];
	struct bmi_jv v;
	struct tm tm;
	int r = bmi_jx_bind(x, a, "format", 1, &v);

	if (r < 0)
		return r;
	if (v.kind != BMI_JV_STR || v.n >= sizeof(format) || memchr(v.s, 0, v.n))
		return bmi_jx_fail(x, -EINVAL, "the format of strftime_now() is no str of at most 255 bytes");
	memcpy(format, v.s, v.n);
	format[v.n] = 0;
	for (const char *p = format; (p = strchr(p, '%')); p++) {
		p += p[1] == '-' ? 2 : 1;
		if (!*p || !strchr("aAbBdeHIjmMpSyYFTDRuGVUWw%", *p))
			return bmi_jx_fail(x, -EOPNOTSUPP, "'%%%.1s' in the format of strftime_now()", p);
	}
	if (!localtime_r(&now, &tm))
		return bmi_jx_fail(x, -EINVAL, "the time %" PRId64, x->now);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
	return bmi_jx_str(x, text, strftime(text, sizeof(text), format, &tm), ret);
#pragma GCC diagnostic pop
}

static const char *const globals[] = { "range", "namespace", "dict", "raise_exception", "strftime_now" };

bool bmi_jx_is_global(const char *name)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(globals); i++)
		if (!strcmp(name, globals[i]))
			return true;
	return false;
}

static int call_global(struct bmi_jinja_run *x, const char *name, struct bmi_jv_args *a, struct bmi_jv *ret)
{
	a->what = name;
	if (!strcmp(name, "range"))
		return call_range(x, a, ret);
	if (!strcmp(name, "namespace"))
		return call_dict(x, a, BMI_JV_NS, ret);
	if (!strcmp(name, "dict"))
		return call_dict(x, a, BMI_JV_DICT, ret);
	return !strcmp(name, "raise_exception") ? call_raise(x, a, ret) : call_strftime(x, a, ret);
}

int bmi_jx_call(struct bmi_jinja_run *x, const struct bmi_jv *f, const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	struct bmi_jv_args named = *a;

	if (f->kind == BMI_JV_UNDEF)
		return bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined and cannot be called",
				   f->n > 100 ? 100 : (int)f->n, f->s);
	if (f->kind == BMI_JV_MACRO)
		return bmi_jx_macro(x, f->macro, a, ret);
	if (f->kind == BMI_JV_GLOBAL)
		return call_global(x, f->s, &named, ret);
	if (f->kind == BMI_JV_METHOD) {
		named.what = f->method->name;
		return bmi_jx_method(x, &f->method->self, f->method->name, &named, ret);
	}
	return bmi_jx_fail(x, -EINVAL, "a %s cannot be called", bmi_jv_type(f));
}

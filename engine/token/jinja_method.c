/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the methods of str, dict, list and the loop variable. Those that Python has and this interpreter has not are known by
 * name, so that using one is refused; those that would change a value are undefined, as in Jinja2's immutable sandbox.
 * Invariant: the names in a type's list and the branches of its function are the same.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <string.h>
#include <utf8proc.h>

static const char str_has[] =
	" strip lstrip rstrip split rsplit startswith endswith replace upper lower title capitalize "
	"join find rfind count index isdigit isalpha isalnum isspace isupper islower splitlines "
	"removeprefix removesuffix ";
static const char str_lacks[] =
	" casefold center encode expandtabs format format_map isascii isdecimal isidentifier isnumeric "
	"isprintable istitle ljust maketrans partition rindex rjust rpartition swapcase translate zfill ";
static const char dict_has[] = " items keys values get copy ";
static const char dict_lacks[] = " fromkeys ";
static const char dict_barred[] = " clear pop popitem setdefault update ";
static const char list_has[] = " index count copy ";
static const char list_barred[] = " append clear pop reverse insert sort extend remove ";
static const char tuple_has[] = " index count ";
static const char number_lacks[] =
	" real imag numerator denominator bit_length bit_count conjugate to_bytes from_bytes "
	"as_integer_ratio is_integer hex fromhex ";
static const char loop_has[] = " cycle changed ";

static bool listed(const char *names, const char *name)
{
	const size_t n = strlen(name);

	for (const char *p = names; n && (p = strstr(p, name)); p++)
		if (p[-1] == ' ' && p[n] == ' ')
			return true;
	return false;
}

bool bmi_jx_has_method(const struct bmi_jv *self, const char *name, bool *ret_known, bool *ret_barred)
{
	const char *has = " ", *lacks = " ", *barred = " ";

	switch (self->kind) {
	case BMI_JV_STR:
		has = str_has;
		lacks = str_lacks;
		break;
	case BMI_JV_DICT:
		has = dict_has;
		lacks = dict_lacks;
		barred = dict_barred;
		break;
	case BMI_JV_LIST:
		has = list_has;
		barred = list_barred;
		break;
	case BMI_JV_TUPLE:
		has = tuple_has;
		break;
	case BMI_JV_LOOP:
		has = loop_has;
		break;
	case BMI_JV_BOOL:
	case BMI_JV_INT:
	case BMI_JV_FLOAT:
		lacks = number_lacks;
		break;
	default:
		break;
	}
	*ret_known = listed(lacks, name);
	*ret_barred = listed(barred, name);
	return listed(has, name);
}

static int want_str(struct bmi_jinja_run *x, const struct bmi_jv_args *a, const struct bmi_jv *v)
{
	return v->kind == BMI_JV_STR
		       ? 0
		       : bmi_jx_fail(x, -EINVAL, "'%s' takes a str, not a %s", a->what, bmi_jv_type(v));
}

static bool absent(const struct bmi_jv *v)
{
	return v->kind == BMI_JV_MISSING || v->kind == BMI_JV_NONE;
}

static int str_strip(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a, int sides,
		     struct bmi_jv *ret)
{
	const char *s = v->s;
	struct bmi_jv chars;
	size_t n = v->n;
	int r = bmi_jx_bind(x, a, "chars", 0, &chars);

	if (r == 0 && !absent(&chars))
		r = want_str(x, a, &chars);
	if (r == 0)
		r = bmi_jx_step(x, absent(&chars) ? n : n + n * (chars.n / 8));
	if (r < 0)
		return r;
	bmi_py_strip(&s, &n, absent(&chars) ? NULL : &chars, sides);
	*ret = bmi_jv_lit(s, n);
	ret->safe = v->safe;
	return 0;
}

/* The next separator in s[0..n): its place and length; false when there is none. */
static bool find_sep(const char *s, size_t n, const struct bmi_jv *sep, bool from_right, size_t *ret_at,
		     size_t *ret_len)
{
	if (sep) {
		if (!from_right) {
			const char *hit = n ? memmem(s, n, sep->s, sep->n) : NULL;

			*ret_at = hit ? (size_t)(hit - s) : 0;
			*ret_len = sep->n;
			return hit != NULL;
		}
		*ret_len = sep->n;
		for (size_t at = n >= sep->n ? n - sep->n + 1 : 0; at--;) {
			if (!memcmp(s + at, sep->s, sep->n)) {
				*ret_at = at;
				return true;
			}
		}
		return false;
	}
	/* white space: the text is stripped on the side that is read */
	const char *p = s;
	size_t left = n, at = from_right ? n : 0;
	unsigned len;

	while (from_right ? at > 0 : at < n) {
		const size_t c_at = from_right ? bmi_tok_utf8_prev(s, at) : at;

		if (bmi_py_is_space(bmi_tok_utf8_get(s + c_at, &len))) {
			p = from_right ? s : s + c_at;
			left = from_right ? at : n - c_at;
			bmi_py_strip(&p, &left, NULL, from_right ? 2 : 1);
			*ret_at = from_right ? left : c_at;
			*ret_len = from_right ? at - left : n - c_at - left;
			return true;
		}
		at = from_right ? c_at : at + len;
	}
	return false;
}

static int str_split(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a, bool right,
		     struct bmi_jv *ret)
{
	const char *s = v->s;
	struct bmi_jv arg[2], part;
	size_t n = v->n, at, len;
	int64_t max = -1;
	int r = bmi_jx_bind(x, a, "sep,maxsplit", 0, arg);
	const bool blank = absent(&arg[0]);

	if (r == 0 && !blank)
		r = want_str(x, a, &arg[0]);
	if (r == 0 && !blank && !arg[0].n)
		r = bmi_jx_fail(x, -EINVAL, "'%s' at an empty separator", a->what);
	if (r == 0)
		r = bmi_jx_want_int(x, "maxsplit", &arg[1], -1, &max);
	if (r == 0)
		r = bmi_jx_step(x, v->n);
	if (r == 0)
		r = bmi_jx_list(x, BMI_JV_LIST, 0, ret);
	if (blank)
		bmi_py_strip(&s, &n, NULL, right ? 2 : 1);
	while (r == 0 && (!blank || n) && max != 0 && find_sep(s, n, blank ? NULL : &arg[0], right, &at, &len)) {
		part = right ? bmi_jv_lit(s + at + len, n - at - len) : bmi_jv_lit(s, at);
		r = bmi_jx_push(x, ret->list, &part);
		s += right ? 0 : at + len;
		n = right ? at : n - at - len;
		max -= max > 0;
	}
	if (r == 0 && (!blank || n)) {
		part = bmi_jv_lit(s, n);
		r = bmi_jx_push(x, ret->list, &part);
	}
	for (size_t i = 0; r == 0 && right && i < ret->list->n / 2; i++) {
		part = ret->list->at[i];
		ret->list->at[i] = ret->list->at[ret->list->n - 1 - i];
		ret->list->at[ret->list->n - 1 - i] = part;
	}
	return r;
}

static int str_edges(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a, bool end,
		     struct bmi_jv *ret)
{
	struct bmi_jv arg[3];
	const struct bmi_jv *at = arg;
	size_t n = 1;
	int r = bmi_jx_bind(x, a, "prefix,start,end", 1, arg);

	if (r == 0 && (arg[1].kind != BMI_JV_MISSING || arg[2].kind != BMI_JV_MISSING))
		return bmi_jx_fail(x, -EOPNOTSUPP, "bounds of '%s'", a->what);
	if (r == 0 && arg[0].kind == BMI_JV_TUPLE) {
		at = arg[0].list->at;
		n = arg[0].list->n;
	}
	*ret = bmi_jv_bool(false);
	for (size_t i = 0; r == 0 && i < n && !ret->b; i++) {
		r = want_str(x, a, &at[i]);
		if (r == 0)
			r = bmi_jx_step(x, at[i].n);
		if (r == 0 && at[i].n <= v->n)
			ret->b = !memcmp(end ? v->s + v->n - at[i].n : v->s, at[i].s, at[i].n);
	}
	return r;
}

/* find, rfind, index and count */
static int str_find(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		    const char *name, struct bmi_jv *ret)
{
	struct bmi_jv arg[3];
	int64_t at = -1, n = 0;
	int r = bmi_jx_bind(x, a, "sub,start,end", 1, arg);

	if (r == 0 && (arg[1].kind != BMI_JV_MISSING || arg[2].kind != BMI_JV_MISSING))
		return bmi_jx_fail(x, -EOPNOTSUPP, "bounds of '%s'", name);
	if (r == 0)
		r = want_str(x, a, &arg[0]);
	if (r == 0)
		r = bmi_jx_step(x, 2 * v->n);
	if (r < 0)
		return r;
	if (!arg[0].n) {
		n = (int64_t)bmi_py_len(v->s, v->n) + 1;
		at = name[0] == 'r' ? n - 1 : 0;
	}
	for (size_t i = 0; arg[0].n && i < v->n; n++) {
		const char *hit = memmem(v->s + i, v->n - i, arg[0].s, arg[0].n);

		if (!hit)
			break;
		if (at < 0 || name[0] == 'r')
			at = hit - v->s;
		i = (size_t)(hit - v->s) + (name[0] == 'r' ? 1 : arg[0].n);
		r = bmi_jx_step(x, 0);
		if (r < 0)
			return r;
	}
	if (name[0] == 'i' && at < 0)
		return bmi_jx_fail(x, -EINVAL, "'index' of a text that is not there");
	if (at > 0 && arg[0].n)
		at = (int64_t)bmi_py_len(v->s, (size_t)at);
	*ret = bmi_jv_int(name[0] == 'c' ? n : at);
	return 0;
}

static int str_replace(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	struct bmi_jv arg[3];
	int64_t count = -1;
	int r = bmi_jx_bind(x, a, "old,new,count", 2, arg);

	if (r == 0)
		r = want_str(x, a, &arg[0]);
	if (r == 0)
		r = want_str(x, a, &arg[1]);
	if (r == 0)
		r = bmi_jx_want_int(x, "count", &arg[2], -1, &count);
	return r < 0 ? r : bmi_py_replace(x, v, &arg[0], &arg[1], count, ret);
}

static int str_is(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name, struct bmi_jv *ret)
{
	bool all = v->n > 0, cased = false;
	unsigned len;

	for (size_t i = 0; i < v->n; i += len) {
		const uint32_t c = bmi_tok_utf8_get(v->s + i, &len);
		const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);
		const bool letter = cat >= UTF8PROC_CATEGORY_LU && cat <= UTF8PROC_CATEGORY_LO;
		const bool digit = cat == UTF8PROC_CATEGORY_ND;

		if (c >= 0x80 && (digit || cat == UTF8PROC_CATEGORY_NL || cat == UTF8PROC_CATEGORY_NO) &&
		    strcmp(name, "isspace") != 0)
			return bmi_jx_fail(x, -EOPNOTSUPP, "'%s' of digits beyond ASCII", name);
		if (!strcmp(name, "isdigit"))
			all = all && digit;
		else if (!strcmp(name, "isalpha"))
			all = all && letter;
		else if (!strcmp(name, "isalnum"))
			all = all && (letter || digit);
		else if (!strcmp(name, "isspace"))
			all = all && bmi_py_is_space(c);
		else
			all = all &&
			      cat != (!strcmp(name, "isupper") ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) &&
			      cat != UTF8PROC_CATEGORY_LT;
		cased = cased || cat == UTF8PROC_CATEGORY_LU || cat == UTF8PROC_CATEGORY_LL;
	}
	*ret = bmi_jv_bool(all && (cased || (strcmp(name, "isupper") != 0 && strcmp(name, "islower") != 0)));
	return bmi_jx_step(x, v->n);
}

static int str_affix(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a, bool end,
		     struct bmi_jv *ret)
{
	struct bmi_jv hit, arg;
	int r = bmi_jx_bind(x, a, "affix", 1, &arg);

	if (r == 0 && arg.kind != BMI_JV_STR)
		r = want_str(x, a, &arg);
	if (r == 0)
		r = str_edges(x, v, a, end, &hit);
	if (r < 0)
		return r;
	*ret = !hit.b ? *v : bmi_jv_lit(end ? v->s : v->s + arg.n, v->n - arg.n);
	return 0;
}

static int str_method(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name,
		      const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	struct bmi_jv arg;
	struct bmi_jv_list *l;
	int r;

	if (strstr("lstrip rstrip", name)) /* strip too */
		return str_strip(x, v, a, name[0] == 'l' ? 1 : name[0] == 'r' ? 2 : 3, ret);
	if (!strcmp(name, "split") || !strcmp(name, "rsplit"))
		return str_split(x, v, a, name[0] == 'r', ret);
	if (!strcmp(name, "startswith") || !strcmp(name, "endswith"))
		return str_edges(x, v, a, name[0] == 'e', ret);
	if (!strcmp(name, "removeprefix") || !strcmp(name, "removesuffix"))
		return str_affix(x, v, a, name[6] == 's', ret);
	if (!strcmp(name, "replace"))
		return str_replace(x, v, a, ret);
	if (!strcmp(name, "join")) {
		r = bmi_jx_bind(x, a, "iterable", 1, &arg);
		if (r == 0)
			r = bmi_jx_iter(x, &arg, &l);
		return r < 0 ? r : bmi_py_join(x, v, l, true, ret);
	}
	if (!strcmp(name, "splitlines")) {
		r = bmi_jx_bind(x, a, "keepends", 0, &arg);
		return r < 0 ? r : bmi_py_splitlines(x, v, bmi_jv_true(&arg), ret);
	}
	if (!strcmp(name, "find") || !strcmp(name, "rfind") || !strcmp(name, "count") || !strcmp(name, "index"))
		return str_find(x, v, a, name, ret);
	if (a->n || a->n_kw)
		return bmi_jx_fail(x, -EINVAL, "'%s' takes no arguments", name);
	return name[0] == 'i' ? str_is(x, v, name, ret) : bmi_py_case(x, v, name[0], ret);
}

static int dict_method(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name,
		       const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	struct bmi_jv arg[2], *at;
	int r;

	if (!strcmp(name, "get")) {
		r = bmi_jx_bind(x, a, "key,default", 1, arg);
		if (r == 0 && a->n_kw)
			return bmi_jx_fail(x, -EINVAL, "'get' takes no named arguments");
		if (r == 0)
			r = bmi_jx_get(x, v->dict, &arg[0], &at);
		if (r == 0)
			*ret = at                              ? *at
			       : arg[1].kind != BMI_JV_MISSING ? arg[1]
							       : (struct bmi_jv){ .kind = BMI_JV_NONE };
		return r;
	}
	if (a->n || a->n_kw)
		return bmi_jx_fail(x, -EINVAL, "'%s' takes no arguments", name);
	if (!strcmp(name, "copy")) {
		*ret = *v;
		return 0;
	}
	r = bmi_jx_list(x, BMI_JV_VIEW, v->dict->n, ret);
	for (size_t i = 0; r == 0 && i < v->dict->n; i++) {
		struct bmi_jv item = name[0] == 'k' ? v->dict->keys[i] : v->dict->values[i];

		if (name[0] == 'i') {
			r = bmi_jx_list(x, BMI_JV_TUPLE, 2, &item);
			if (r == 0)
				r = bmi_jx_push(x, item.list, &v->dict->keys[i]);
			if (r == 0)
				r = bmi_jx_push(x, item.list, &v->dict->values[i]);
		}
		if (r == 0)
			r = bmi_jx_push(x, ret->list, &item);
	}
	return r;
}

static int list_method(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name,
		       const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	int64_t n = 0, first = -1;
	struct bmi_jv arg;
	bool eq;
	int r;

	if (!strcmp(name, "copy")) {
		*ret = *v;
		return a->n || a->n_kw ? bmi_jx_fail(x, -EINVAL, "'copy' takes no arguments") : 0;
	}
	r = bmi_jx_bind(x, a, "value", 1, &arg);
	for (size_t i = 0; r == 0 && i < v->list->n; i++) {
		r = bmi_jx_eq(x, &v->list->at[i], &arg, &eq);
		if (r == 0 && eq) {
			n++;
			first = first < 0 ? (int64_t)i : first;
		}
	}
	if (r == 0 && name[0] == 'i' && first < 0)
		r = bmi_jx_fail(x, -EINVAL, "'index' of a value that is not in the list");
	*ret = bmi_jv_int(name[0] == 'i' ? first : n);
	return r;
}

static int loop_method(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name,
		       const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	struct bmi_jv now;
	bool same = false;
	int r;

	if (a->n_kw || (!a->n && name[1] == 'y'))
		return bmi_jx_fail(x, -EINVAL, "the arguments of 'loop.%s'", name);
	if (!strcmp(name, "cycle")) {
		*ret = a->at[v->loop->at % a->n];
		return 0;
	}
	r = bmi_jx_list(x, BMI_JV_TUPLE, a->n, &now);
	for (unsigned i = 0; r == 0 && i < a->n; i++)
		r = bmi_jx_push(x, now.list, &a->at[i]);
	if (r == 0 && v->loop->changed.kind != BMI_JV_MISSING)
		r = bmi_jx_eq(x, &v->loop->changed, &now, &same);
	v->loop->changed = now;
	*ret = bmi_jv_bool(!same);
	return r;
}

int bmi_jx_method(struct bmi_jinja_run *x, const struct bmi_jv *self, const char *name,
		  const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	if (self->kind == BMI_JV_STR)
		return str_method(x, self, name, a, ret);
	if (self->kind == BMI_JV_DICT)
		return dict_method(x, self, name, a, ret);
	return self->kind == BMI_JV_LOOP ? loop_method(x, self, name, a, ret)
					 : list_method(x, self, name, a, ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the filters that walk through many values: join, map, select, sort and their like. Those that are generators in
 * Jinja2 make a BMI_JV_ITER at once; what differs (an error that would come when it is read) is only when it is told.
 * Invariant: the input is walked once, each value a step.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

static bool given(const struct bmi_jv *v)
{
	return v->kind != BMI_JV_MISSING && v->kind != BMI_JV_NONE;
}

/* v[a][b] for "a.b", numbers being indices; @otherwise (or NULL) stands for what is undefined. */
static int by_path(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *path,
		   const struct bmi_jv *otherwise, struct bmi_jv *ret)
{
	size_t at = 0;
	int r = 0;

	*ret = *v;
	if (path->kind == BMI_JV_INT)
		return bmi_jx_item(x, v, path, ret);
	if (path->kind != BMI_JV_STR)
		return bmi_jx_fail(x, -EINVAL, "a %s as the name of an attribute", bmi_jv_type(path));
	while (r == 0 && at <= path->n) {
		const char *dot = path->n > at ? memchr(path->s + at, '.', path->n - at) : NULL;
		const size_t n = dot ? (size_t)(dot - path->s) - at : path->n - at;
		struct bmi_jv key = bmi_jv_lit(path->s + at, n), from = *ret;
		int64_t i = 0;
		size_t k = 0;

		while (k < n && k < 9 && key.s[k] >= '0' && key.s[k] <= '9')
			i = i * 10 + (key.s[k++] - '0');
		if (n && k == n)
			key = bmi_jv_int(i);
		r = bmi_jx_item(x, &from, &key, ret);
		if (r == 0 && otherwise && ret->kind == BMI_JV_UNDEF)
			*ret = *otherwise;
		at += n + 1;
	}
	return r;
}

/* What sort, unique, min and max compare: an attribute or the value, in lower case when asked. */
static int sort_key(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *path, bool cased,
		    struct bmi_jv *ret)
{
	int r = 0;

	*ret = *v;
	if (given(path) && path->kind == BMI_JV_STR && memchr(path->s, ',', path->n))
		return bmi_jx_fail(x, -EOPNOTSUPP, "more than one attribute to sort by");
	if (given(path))
		r = by_path(x, v, path, NULL, ret);
	if (r == 0 && !cased && ret->kind == BMI_JV_STR) {
		const struct bmi_jv text = *ret;

		r = bmi_py_case(x, &text, 'l', ret);
	}
	return r;
}

static int pick_join(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		     struct bmi_jv *ret)
{
	struct bmi_jv arg[2], all;
	int r = bmi_jx_bind(x, a, "d,attribute", 0, arg);

	if (r == 0 && given(&arg[1]))
		r = bmi_jx_list(x, BMI_JV_LIST, l->n, &all);
	for (size_t i = 0; r == 0 && given(&arg[1]) && i < l->n; i++) {
		struct bmi_jv v;

		r = by_path(x, &l->at[i], &arg[1], NULL, &v);
		if (r == 0)
			r = bmi_jx_push(x, all.list, &v);
	}
	if (arg[0].kind == BMI_JV_MISSING)
		arg[0] = bmi_jv_lit("", 0);
	return r < 0 ? r : bmi_py_join(x, &arg[0], given(&arg[1]) ? all.list : l, false, ret);
}

/* The arguments behind the first @skip positional ones. */
static struct bmi_jv_args rest(const struct bmi_jv_args *a, unsigned skip, const char *what)
{
	return (struct bmi_jv_args){
		.what = what, .n = a->n - skip, .n_kw = a->n_kw, .at = a->at + skip, .names = a->names
	};
}

static int pick_map(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		    struct bmi_jv *ret)
{
	struct bmi_jv arg[2], v;
	int r = bmi_jx_list(x, BMI_JV_ITER, l->n, ret);
	const bool by_attr = !a->n;
	struct bmi_jv_args more = *a;

	if (r == 0 && by_attr)
		r = bmi_jx_bind(x, a, "attribute,default", 1, arg);
	else if (r == 0 && a->at[0].kind != BMI_JV_STR)
		r = bmi_jx_fail(x, -EINVAL, "map() with a %s as filter", bmi_jv_type(&a->at[0]));
	if (r == 0 && !by_attr) {
		r = bmi_jx_str(x, a->at[0].s, a->at[0].n, &arg[0]); /* NUL-terminated */
		more = rest(a, 1, arg[0].s);
	}
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		if (by_attr)
			r = by_path(x, &l->at[i], &arg[0], given(&arg[1]) ? &arg[1] : NULL, &v);
		else if (bmi_jx_is_pick(arg[0].s))
			r = bmi_jx_pick(x, arg[0].s, &l->at[i], &more, &v);
		else
			r = bmi_jx_filter(x, arg[0].s, &l->at[i], &more, &v);
		if (r == 0)
			r = bmi_jx_push(x, ret->list, &v);
	}
	return r;
}

/* select, reject, selectattr, rejectattr */
static int pick_select(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	const bool keep = a->what[0] == 's', by_attr = a->what[6] == 'a';
	const unsigned skip = by_attr;
	struct bmi_jv name, v;
	struct bmi_jv_args more;
	bool ok;
	int r = bmi_jx_list(x, BMI_JV_ITER, 0, ret);

	if (r == 0 && a->n < skip)
		r = bmi_jx_fail(x, -EINVAL, "'%s' without an attribute", a->what);
	if (r == 0 && a->n > skip && a->at[skip].kind != BMI_JV_STR)
		r = bmi_jx_fail(x, -EINVAL, "'%s' with a %s as test", a->what, bmi_jv_type(&a->at[skip]));
	if (r == 0 && a->n == skip && a->n_kw)
		r = bmi_jx_fail(x, -EINVAL, "'%s' with named arguments and no test", a->what);
	if (r == 0 && a->n > skip) {
		r = bmi_jx_str(x, a->at[skip].s, a->at[skip].n, &name);
		more = rest(a, skip + 1, name.s);
	}
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		v = l->at[i];
		if (by_attr)
			r = by_path(x, &l->at[i], &a->at[0], NULL, &v);
		ok = bmi_jv_true(&v);
		if (r == 0 && a->n > skip)
			r = bmi_jx_test(x, name.s, &v, &more, &ok);
		if (r == 0 && ok == keep)
			r = bmi_jx_push(x, ret->list, &l->at[i]);
	}
	return r;
}

static int pick_sort(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		     struct bmi_jv *ret)
{
	struct bmi_jv arg[3], *keys;
	int r = bmi_jx_bind(x, a, "reverse,case_sensitive,attribute", 0, arg);

	if (r == 0)
		r = bmi_jx_list(x, BMI_JV_LIST, l->n, ret);
	if (r == 0)
		r = bmi_jx_alloc(x, (l->n + 1) * sizeof(*keys), &keys);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = sort_key(x, &l->at[i], &arg[2], bmi_jv_true(&arg[1]), &keys[i]);
		if (r == 0)
			r = bmi_jx_push(x, ret->list, &l->at[i]);
	}
	return r < 0 ? r : bmi_jx_sort(x, keys, ret->list->at, l->n, bmi_jv_true(&arg[0]));
}

static int pick_unique(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		       struct bmi_jv *ret)
{
	struct bmi_jv arg[2], seen, key, *at;
	int r = bmi_jx_bind(x, a, "case_sensitive,attribute", 0, arg);

	if (r == 0)
		r = bmi_jx_list(x, BMI_JV_ITER, 0, ret);
	if (r == 0)
		r = bmi_jx_dict(x, &seen);
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = sort_key(x, &l->at[i], &arg[1], bmi_jv_true(&arg[0]), &key);
		if (r == 0)
			r = bmi_jx_get(x, seen.dict, &key, &at);
		if (r < 0 || at)
			continue;
		r = bmi_jx_put(x, seen.dict, &key, &key);
		if (r == 0)
			r = bmi_jx_push(x, ret->list, &l->at[i]);
	}
	return r;
}

/* min and max */
static int pick_end(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		    struct bmi_jv *ret)
{
	const int want = a->what[1] == 'i' ? -1 : 1;
	struct bmi_jv arg[2], best = { 0 }, key;
	int r = bmi_jx_bind(x, a, "case_sensitive,attribute", 0, arg), c;

	*ret = (struct bmi_jv){ .kind = BMI_JV_UNDEF, .s = "No aggregated item, sequence was empty.", .n = 39 };
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		r = sort_key(x, &l->at[i], &arg[1], bmi_jv_true(&arg[0]), &key);
		if (r == 0 && i) {
			r = bmi_jx_cmp(x, &key, &best, &c);
			if (c != want)
				continue;
		}
		best = key;
		*ret = l->at[i];
	}
	return r;
}

static int pick_sum(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		    struct bmi_jv *ret)
{
	struct bmi_jv arg[2], v;
	int r = bmi_jx_bind(x, a, "attribute,start", 0, arg);

	*ret = arg[1].kind == BMI_JV_MISSING ? bmi_jv_int(0) : arg[1];
	if (r == 0 && ret->kind == BMI_JV_STR)
		r = bmi_jx_fail(x, -EINVAL, "sum() of strings");
	for (size_t i = 0; r == 0 && i < l->n; i++) {
		const struct bmi_jv so_far = *ret;

		v = l->at[i];
		if (given(&arg[0]))
			r = by_path(x, &l->at[i], &arg[0], NULL, &v);
		if (r == 0)
			r = bmi_jx_binary(x, BMI_JO_ADD, &so_far, &v, ret);
	}
	return r;
}

static int pick_first(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		      struct bmi_jv *ret)
{
	const int r = bmi_jx_bind(x, a, "", 0, ret);

	if (l->n)
		*ret = l->at[a->what[0] == 'l' ? l->n - 1 : 0];
	else
		*ret = (struct bmi_jv){ .kind = BMI_JV_UNDEF, .s = "No item, sequence was empty.", .n = 28 };
	return r;
}

/* list, and reverse of what is no string */
static int pick_list(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		     struct bmi_jv *ret)
{
	const bool back = a->what[0] == 'r';
	int r = bmi_jx_bind(x, a, "", 0, ret);

	if (r == 0)
		r = bmi_jx_list(x, back ? BMI_JV_ITER : BMI_JV_LIST, l->n, ret);
	for (size_t i = 0; r == 0 && i < l->n; i++)
		r = bmi_jx_push(x, ret->list, &l->at[back ? l->n - 1 - i : i]);
	return r;
}

/* items and dictsort, over the pairs of a dict */
static int pick_pairs(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *a,
		      struct bmi_jv *ret)
{
	static const struct bmi_jv_args none = { .what = "items" };
	const bool sorted = a->what[0] == 'd';
	struct bmi_jv arg[3], pairs, *keys;
	bool by_value = false;
	int r = bmi_jx_bind(x, a, sorted ? "case_sensitive,by,reverse" : "", 0, arg);

	if (r == 0 && v->kind == BMI_JV_UNDEF && !sorted)
		return bmi_jx_list(x, BMI_JV_ITER, 0, ret);
	if (r == 0 && v->kind != BMI_JV_DICT)
		r = bmi_jx_fail(x, -EINVAL, "'%s' of a %s", a->what, bmi_jv_type(v));
	if (r == 0 && sorted && given(&arg[1])) {
		by_value = arg[1].kind == BMI_JV_STR && arg[1].n == 5 && !memcmp(arg[1].s, "value", 5);
		if (!by_value && !(arg[1].kind == BMI_JV_STR && arg[1].n == 3 && !memcmp(arg[1].s, "key", 3)))
			r = bmi_jx_fail(x, -EINVAL, "dictsort() is by neither 'key' nor 'value'");
	}
	if (r == 0)
		r = bmi_jx_method(x, v, "items", &none, &pairs);
	if (r < 0)
		return r;
	*ret = pairs;
	ret->kind = sorted ? BMI_JV_LIST : BMI_JV_ITER;
	if (!sorted)
		return 0;
	r = bmi_jx_alloc(x, (v->dict->n + 1) * sizeof(*keys), &keys);
	for (size_t i = 0; r == 0 && i < v->dict->n; i++)
		r = sort_key(x, &pairs.list->at[i].list->at[by_value],
			     &(struct bmi_jv){ .kind = BMI_JV_MISSING }, bmi_jv_true(&arg[0]), &keys[i]);
	return r < 0 ? r : bmi_jx_sort(x, keys, pairs.list->at, v->dict->n, bmi_jv_true(&arg[2]));
}

static const struct pick {
	const char *name;
	int (*fn)(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv_args *a,
		  struct bmi_jv *ret);
} picks[] = {
	{ "dictsort", NULL },      { "first", pick_first },       { "items", NULL },
	{ "join", pick_join },     { "last", pick_first },        { "list", pick_list },
	{ "map", pick_map },       { "max", pick_end },           { "min", pick_end },
	{ "reject", pick_select }, { "rejectattr", pick_select }, { "reverse", pick_list },
	{ "select", pick_select }, { "selectattr", pick_select }, { "sort", pick_sort },
	{ "sum", pick_sum },       { "unique", pick_unique },
};

static const struct pick *find(const char *name)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(picks); i++)
		if (!strcmp(name, picks[i].name))
			return &picks[i];
	return NULL;
}

bool bmi_jx_is_pick(const char *name)
{
	return find(name) != NULL;
}

int bmi_jx_pick(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		const struct bmi_jv_args *a, struct bmi_jv *ret)
{
	const struct bmi_jv back[3] = { { .kind = BMI_JV_NONE },
					{ .kind = BMI_JV_NONE },
					{ .kind = BMI_JV_INT, .i = -1 } };
	const struct pick *p = find(name);
	struct bmi_jv_list *l;
	int r;

	if (!p->fn)
		return pick_pairs(x, v, a, ret);
	if (!strcmp(name, "reverse") && v->kind == BMI_JV_STR && !a->n && !a->n_kw)
		return bmi_py_slice(x, v, back, ret);
	if (!strcmp(name, "last") && v->kind == BMI_JV_ITER)
		return bmi_jx_fail(x, -EINVAL, "'last' of a generator");
	if (v->kind == BMI_JV_ITER && !strcmp(name, "first")) { /* takes one, leaves the others */
		if (v->list->n && !v->list->used) {
			*ret = v->list->at[0];
			v->list->at++;
			v->list->cap = --v->list->n;
			return 0;
		}
	}
	/* none, false and 0 are empty for these: they ask `if seq` first */
	if ((p->fn == pick_select || p->fn == pick_map) && !bmi_jv_true(v) && v->kind <= BMI_JV_FLOAT) {
		struct bmi_jv empty;

		r = bmi_jx_list(x, BMI_JV_LIST, 0, &empty);
		l = r == 0 ? empty.list : NULL;
	} else {
		r = bmi_jx_iter(x, v, &l);
	}
	return r < 0 ? r : p->fn(x, l, a, ret);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns values while a template is rendered: how they are made, counted and walked through.
 * Everything lives in the arena of the rendering; a value never changes after it was made (Jinja2's immutable sandbox), but
 * for namespaces and the loop variable.
 * Invariant: memory and steps are counted before they are spent, against BMI_JINJA_MEMORY_MAX and BMI_JINJA_STEPS_MAX.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int bmi_jx_fail(struct bmi_jinja_run *x, int code, const char *fmt, ...)
{
	char text[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	return bmi_fail(x->err, code, "line %u: %s", x->line, text);
}

int bmi_jx_step(struct bmi_jinja_run *x, size_t bytes)
{
	x->steps += 1 + bytes / 32;
	if (x->steps > BMI_JINJA_STEPS_MAX)
		return bmi_jx_fail(x, -E2BIG, "the template takes more than %d steps", BMI_JINJA_STEPS_MAX);
	return 0;
}

int bmi_jx_alloc(struct bmi_jinja_run *x, size_t n, void *ret_ptr)
{
	void *p = NULL;

	memcpy(ret_ptr, &p, sizeof(p)); /* any kind of pointer */
	if (n > BMI_JINJA_MEMORY_MAX || x->mem + n > BMI_JINJA_MEMORY_MAX)
		return bmi_jx_fail(x, -E2BIG, "the template makes values of more than %d bytes",
				   BMI_JINJA_MEMORY_MAX);
	p = bmi_arena_alloc(x->arena, n);
	if (!p)
		return bmi_jx_fail(x, -ENOMEM, "a value of %zu bytes", n);
	x->mem += n + 16;
	memcpy(ret_ptr, &p, sizeof(p));
	return 0;
}

int bmi_jx_str(struct bmi_jinja_run *x, const char *s, size_t n, struct bmi_jv *ret)
{
	char *copy;
	int r = bmi_jx_step(x, n);

	if (r == 0)
		r = bmi_jx_alloc(x, n + 1, &copy);
	if (r < 0)
		return r;
	if (n)
		memcpy(copy, s, n);
	*ret = bmi_jv_lit(copy, n);
	return 0;
}

int bmi_jx_take(struct bmi_jinja_run *x, struct bmi_str *s, struct bmi_jv *ret)
{
	if (!bmi_str_ok(s))
		return bmi_jx_fail(x, -ENOMEM, "a text");
	return bmi_jx_str(x, s->bytes, s->n, ret);
}

int bmi_jx_list(struct bmi_jinja_run *x, enum bmi_jv_kind kind, size_t cap, struct bmi_jv *ret)
{
	struct bmi_jv_list *l;
	int r = bmi_jx_alloc(x, sizeof(*l), &l);

	if (r == 0 && cap > BMI_JINJA_MEMORY_MAX / sizeof(*l->at))
		r = bmi_jx_fail(x, -E2BIG, "a list of %zu values", cap);
	if (r == 0 && cap)
		r = bmi_jx_alloc(x, cap * sizeof(*l->at), &l->at);
	if (r < 0)
		return r;
	l->cap = cap;
	*ret = (struct bmi_jv){ .kind = kind, .list = l };
	return 0;
}

int bmi_jx_push(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv *v)
{
	if (l->n == l->cap) {
		const size_t cap = l->cap ? 2 * l->cap : 4;
		struct bmi_jv *at;
		const int r = bmi_jx_alloc(x, cap * sizeof(*at), &at);

		if (r < 0)
			return r;
		if (l->n)
			memcpy(at, l->at, l->n * sizeof(*at));
		l->at = at;
		l->cap = cap;
	}
	l->at[l->n++] = *v;
	return bmi_jx_step(x, 0);
}

int bmi_jx_dict(struct bmi_jinja_run *x, struct bmi_jv *ret)
{
	struct bmi_jv_dict *d;
	const int r = bmi_jx_alloc(x, sizeof(*d), &d);

	if (r == 0)
		*ret = (struct bmi_jv){ .kind = BMI_JV_DICT, .dict = d };
	return r;
}

int bmi_jx_get(struct bmi_jinja_run *x, const struct bmi_jv_dict *d, const struct bmi_jv *key,
	       struct bmi_jv **ret)
{
	bool eq = false;
	int r = bmi_jx_step(x, 8 * d->n);

	if (bmi_jv_is_list(key) ? key->kind == BMI_JV_LIST || key->kind == BMI_JV_VIEW
				: key->kind == BMI_JV_DICT)
		return bmi_jx_fail(x, -EINVAL, "a %s cannot be a key", bmi_jv_type(key));
	*ret = NULL;
	for (size_t i = 0; r == 0 && i < d->n; i++) {
		const struct bmi_jv *k = &d->keys[i];

		if (k->kind == BMI_JV_STR && key->kind == BMI_JV_STR)
			eq = k->n == key->n && !memcmp(k->s, key->s, k->n);
		else
			r = bmi_jx_eq(x, k, key, &eq);
		if (r == 0 && eq) {
			*ret = &d->values[i];
			break;
		}
	}
	return r;
}

int bmi_jx_put(struct bmi_jinja_run *x, struct bmi_jv_dict *d, const struct bmi_jv *key, const struct bmi_jv *v)
{
	struct bmi_jv *at;
	int r = bmi_jx_get(x, d, key, &at);

	if (r < 0)
		return r;
	if (at) {
		*at = *v;
		return 0;
	}
	if (d->n == d->cap) {
		const size_t cap = d->cap ? 2 * d->cap : 4;
		struct bmi_jv *keys, *values;

		r = bmi_jx_alloc(x, cap * sizeof(*keys), &keys);
		if (r == 0)
			r = bmi_jx_alloc(x, cap * sizeof(*values), &values);
		if (r < 0)
			return r;
		if (d->n) {
			memcpy(keys, d->keys, d->n * sizeof(*keys));
			memcpy(values, d->values, d->n * sizeof(*values));
		}
		d->keys = keys;
		d->values = values;
		d->cap = cap;
	}
	d->keys[d->n] = *key;
	d->values[d->n++] = *v;
	return 0;
}

static int number_from_json(struct bmi_jinja_run *x, const struct bmi_json *j, struct bmi_jv *ret)
{
	int64_t i;
	double f;

	if (bmi_json_to_i64(j, &i) && !memchr(j->str, '.', j->n) && !memchr(j->str, 'e', j->n) &&
	    !memchr(j->str, 'E', j->n))
		*ret = bmi_jv_int(i);
	else if ((memchr(j->str, '.', j->n) || memchr(j->str, 'e', j->n) || memchr(j->str, 'E', j->n)) &&
		 bmi_json_to_double(j, &f))
		*ret = bmi_jv_float(f);
	else
		return bmi_jx_fail(x, -EOPNOTSUPP, "the number %.*s", j->n > 60 ? 60 : (int)j->n, j->str);
	return 0;
}

/* The parser of JSON bounds the depth. Strings stay lent. */
int bmi_jx_from_json(struct bmi_jinja_run *x, const struct bmi_json *j, struct bmi_jv *ret)
{
	struct bmi_jv v;
	int r = bmi_jx_step(x, 0);

	switch (j->type) {
	case BMI_JSON_NULL:
		*ret = (struct bmi_jv){ .kind = BMI_JV_NONE };
		return r;
	case BMI_JSON_BOOL:
		*ret = bmi_jv_bool(j->boolean);
		return r;
	case BMI_JSON_NUMBER:
		return r < 0 ? r : number_from_json(x, j, ret);
	case BMI_JSON_STRING:
		*ret = bmi_jv_lit(j->str ? j->str : "", j->n);
		return r;
	case BMI_JSON_ARRAY:
		if (r == 0)
			r = bmi_jx_list(x, BMI_JV_LIST, j->n, ret);
		for (const struct bmi_json *c = j->child; r == 0 && c; c = c->next) {
			r = bmi_jx_from_json(x, c, &v);
			if (r == 0)
				r = bmi_jx_push(x, ret->list, &v);
		}
		return r;
	default:
		if (r == 0)
			r = bmi_jx_dict(x, ret);
		for (const struct bmi_json *c = j->child; r == 0 && c; c = c->next) {
			const struct bmi_jv key = bmi_jv_lit(c->key ? c->key : "", c->n_key);

			r = bmi_jx_from_json(x, c, &v);
			if (r == 0)
				r = bmi_jx_put(x, ret->dict, &key, &v);
		}
		return r;
	}
}

/* What a loop over @v sees. A generator is empty the second time. */
int bmi_jx_iter(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv_list **ret)
{
	struct bmi_jv l = { .kind = BMI_JV_LIST };
	int r = 0;

	if (bmi_jv_is_list(v)) {
		if (v->kind == BMI_JV_ITER && v->list->used)
			r = bmi_jx_list(x, BMI_JV_LIST, 0, &l);
		else
			l.list = v->list;
		if (v->kind == BMI_JV_ITER)
			v->list->used = true;
	} else if (v->kind == BMI_JV_STR) {
		r = bmi_py_chars(x, v, &l);
	} else if (v->kind == BMI_JV_DICT || v->kind == BMI_JV_UNDEF) {
		const size_t n = v->kind == BMI_JV_DICT ? v->dict->n : 0;

		r = bmi_jx_list(x, BMI_JV_LIST, n, &l);
		for (size_t i = 0; r == 0 && i < n; i++)
			r = bmi_jx_push(x, l.list, &v->dict->keys[i]);
	} else {
		return bmi_jx_fail(x, -EINVAL, "a %s cannot be iterated over", bmi_jv_type(v));
	}
	if (r == 0)
		*ret = l.list;
	return r;
}

bool bmi_jv_is_list(const struct bmi_jv *v)
{
	return v->kind >= BMI_JV_LIST && v->kind <= BMI_JV_ITER;
}

bool bmi_jv_true(const struct bmi_jv *v)
{
	switch (v->kind) {
	case BMI_JV_UNDEF:
	case BMI_JV_NONE:
	case BMI_JV_MISSING:
		return false;
	case BMI_JV_BOOL:
		return v->b;
	case BMI_JV_INT:
		return v->i != 0;
	case BMI_JV_FLOAT:
		return v->f < 0 || v->f > 0 || v->f != v->f;
	case BMI_JV_STR:
		return v->n > 0;
	case BMI_JV_LIST:
	case BMI_JV_TUPLE:
	case BMI_JV_RANGE:
	case BMI_JV_VIEW:
		return v->list->n > 0;
	case BMI_JV_DICT:
		return v->dict->n > 0;
	default:
		return true;
	}
}

const char *bmi_jv_type(const struct bmi_jv *v)
{
	static const char *const names[] = { "undefined value",
					     "none",
					     "bool",
					     "int",
					     "float",
					     "str",
					     "list",
					     "tuple",
					     "range",
					     "dict view",
					     "generator",
					     "dict",
					     "namespace",
					     "macro",
					     "function",
					     "method",
					     "loop",
					     "missing argument" };

	return names[v->kind];
}

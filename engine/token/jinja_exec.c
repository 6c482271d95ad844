/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the running of statements: scopes, loops, macros, what is printed, and the start of a rendering.
 * A loop, a macro and `with` open a scope; `if` does not. A name is looked for from the innermost scope outwards,
 * then among the functions of the environment.
 * Invariant: a scope is read by the macros that were defined in it and changed only by statements that run in it.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

int bmi_jx_find(struct bmi_jinja_run *x, const char *name, size_t n, struct bmi_jv *ret)
{
	const struct bmi_jv key = bmi_jv_lit(name, n);
	struct bmi_jv *at = NULL;
	int r = 0;

	for (struct bmi_jinja_scope *s = x->scope; r == 0 && !at && s; s = s->up)
		r = bmi_jx_get(x, &s->vars, &key, &at);
	if (r < 0)
		return r;
	if (at)
		*ret = *at;
	else if (bmi_jx_is_global(name))
		*ret = (struct bmi_jv){ .kind = BMI_JV_GLOBAL, .s = name, .n = n };
	else if (!strcmp(name, "lipsum") || !strcmp(name, "cycler") || !strcmp(name, "joiner"))
		return bmi_jx_fail(x, -EOPNOTSUPP, "the function '%s'", name);
	else
		*ret = (struct bmi_jv){ .kind = BMI_JV_UNDEF, .s = name, .n = n };
	return 0;
}

int bmi_jx_assign(struct bmi_jinja_run *x, const struct bmi_jinja_node *target, const struct bmi_jv *v)
{
	const struct bmi_jv key = bmi_jv_lit(target->s, target->n_s);
	struct bmi_jv_list *l;
	struct bmi_jv ns;
	int r;

	if (target->kind == BMI_JN_NAME)
		return bmi_jx_put(x, &x->scope->vars, &key, v);
	if (target->kind == BMI_JN_NSREF) {
		r = bmi_jx_find(x, target->at[0]->s, target->at[0]->n_s, &ns);
		if (r == 0 && ns.kind != BMI_JV_NS)
			r = bmi_jx_fail(x, -EINVAL, "'%s.%s' is set, and '%s' is no namespace",
					target->at[0]->s, target->s, target->at[0]->s);
		return r < 0 ? r : bmi_jx_put(x, ns.dict, &key, v);
	}
	r = v->kind == BMI_JV_UNDEF
		    ? bmi_jx_fail(x, -EINVAL, "'%.*s' is undefined", v->n > 100 ? 100 : (int)v->n, v->s)
		    : bmi_jx_iter(x, v, &l);
	if (r == 0 && l->n != target->n)
		r = bmi_jx_fail(x, -EINVAL, "%zu values for %u names", l->n, target->n);
	for (unsigned i = 0; r == 0 && i < target->n; i++)
		r = bmi_jx_assign(x, target->at[i], &l->at[i]);
	return r;
}

static int push_scope(struct bmi_jinja_run *x, struct bmi_jinja_scope *up)
{
	struct bmi_jinja_scope *s;
	const int r = bmi_jx_alloc(x, sizeof(*s), &s);

	if (r < 0)
		return r;
	s->up = up;
	x->scope = s;
	return 0;
}

/* Run @body with what it prints kept. */
static int capture(struct bmi_jinja_run *x, const struct bmi_jinja_node *body, struct bmi_jv *ret)
{
	struct bmi_str *const out = x->out;
	bmi_auto_str s = { 0 };
	int r;

	x->out = &s;
	r = bmi_jx_exec(x, body);
	x->out = out;
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

static int in_scope(struct bmi_jinja_run *x, const struct bmi_jinja_node *body)
{
	struct bmi_jinja_scope *const scope = x->scope;
	int r = push_scope(x, scope);

	if (r == 0)
		r = bmi_jx_exec(x, body);
	x->scope = scope;
	return r;
}

static int loop_filter(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv_list **io)
{
	struct bmi_jinja_scope *const scope = x->scope;
	struct bmi_jv kept, ok;
	int r = bmi_jx_list(x, BMI_JV_LIST, 0, &kept);

	for (size_t i = 0; r == 0 && i < (*io)->n; i++) {
		r = push_scope(x, scope);
		if (r == 0)
			r = bmi_jx_assign(x, n->at[0], &(*io)->at[i]);
		if (r == 0)
			r = bmi_jx_eval(x, n->at[4], &ok);
		if (r == 0 && bmi_jv_true(&ok))
			r = bmi_jx_push(x, kept.list, &(*io)->at[i]);
		x->scope = scope;
	}
	*io = kept.list;
	return r;
}

static int exec_for(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	static const struct bmi_jv name = { .kind = BMI_JV_STR, .s = "loop", .n = 4 };
	struct bmi_jinja_scope *const scope = x->scope;
	struct bmi_jv v, loop = { .kind = BMI_JV_LOOP };
	struct bmi_jv_list *l;
	int r = bmi_jx_eval(x, n->at[1], &v);

	if (r == 0)
		r = bmi_jx_iter(x, &v, &l);
	if (r == 0 && n->at[4])
		r = loop_filter(x, n, &l);
	if (r == 0)
		r = bmi_jx_alloc(x, sizeof(*loop.loop), &loop.loop);
	if (r < 0)
		return r;
	*loop.loop = (struct bmi_jv_loop){ .list = l, .changed.kind = BMI_JV_MISSING };
	for (size_t i = 0; r == 0 && i < l->n && x->flow != BMI_JF_BREAK; i++) {
		x->flow = BMI_JF_NONE;
		loop.loop->at = i;
		r = push_scope(x, scope);
		if (r == 0)
			r = bmi_jx_put(x, &x->scope->vars, &name, &loop);
		if (r == 0)
			r = bmi_jx_assign(x, n->at[0], &l->at[i]);
		if (r == 0)
			r = bmi_jx_exec(x, n->at[2]);
		x->scope = scope;
	}
	x->flow = BMI_JF_NONE;
	if (r == 0 && !l->n && n->at[3])
		r = in_scope(x, n->at[3]);
	return r;
}

static int exec_if(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	struct bmi_jv v;
	unsigned i;

	for (i = 0; i + 1 < n->n; i += 2) {
		const int r = bmi_jx_eval(x, n->at[i], &v);

		if (r < 0)
			return r;
		if (bmi_jv_true(&v))
			return bmi_jx_exec(x, n->at[i + 1]);
	}
	return i < n->n ? bmi_jx_exec(x, n->at[i]) : 0;
}

/* SET_BLOCK and FILTER_BLOCK: a body's text, through filters, to a name or to the output */
static int exec_block(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	const bool set = n->kind == BMI_JN_SET_BLOCK;
	struct bmi_jinja_scope *const scope = x->scope;
	const struct bmi_jv outer = x->capture;
	struct bmi_jv v = { 0 };
	int r = push_scope(x, scope);

	if (r == 0)
		r = capture(x, n->at[set], &x->capture);
	x->scope = scope;
	if (r == 0)
		r = bmi_jx_eval(x, n->at[1 + set], &v);
	x->capture = outer;
	if (r < 0)
		return r;
	return set ? bmi_jx_assign(x, n->at[0], &v) : bmi_jx_print(x, &v, x->out);
}

static int exec_with(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	struct bmi_jinja_scope *const scope = x->scope;
	struct bmi_jinja_scope *inner;
	struct bmi_jv v;
	int r = push_scope(x, scope);

	inner = x->scope;
	for (unsigned i = 1; r == 0 && i + 1 < n->n; i += 2) {
		x->scope = scope; /* values see what is outside only */
		r = bmi_jx_eval(x, n->at[i + 1], &v);
		x->scope = inner;
		if (r == 0)
			r = bmi_jx_assign(x, n->at[i], &v);
	}
	if (r == 0)
		r = bmi_jx_exec(x, n->at[0]);
	x->scope = scope;
	return r;
}

static int define_macro(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	const struct bmi_jv key = bmi_jv_lit(n->s, n->n_s);
	struct bmi_jv v = { .kind = BMI_JV_MACRO };
	const int r = bmi_jx_alloc(x, sizeof(*v.macro), &v.macro);

	if (r < 0)
		return r;
	v.macro->node = n;
	v.macro->scope = x->scope;
	return bmi_jx_put(x, &x->scope->vars, &key, &v);
}

static int bind_macro(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, const struct bmi_jv_args *a)
{
	unsigned used = 0;
	int r = 0;

	if (a->n > n->n - 1)
		return bmi_jx_fail(x, -EINVAL, "the macro '%s' takes %u arguments, not %u", n->s, n->n - 1,
				   a->n);
	for (unsigned i = 1; r == 0 && i < n->n; i++) {
		const struct bmi_jinja_node *p = n->at[i];
		const struct bmi_jv key = bmi_jv_lit(p->s, p->n_s);
		struct bmi_jv v = { .kind = BMI_JV_UNDEF, .s = p->s, .n = p->n_s };
		bool given = i - 1 < a->n;

		if (given)
			v = a->at[i - 1];
		for (unsigned k = 0; k < a->n_kw; k++) {
			if (strcmp(a->names[k], p->s) != 0)
				continue;
			if (given)
				return bmi_jx_fail(x, -EINVAL, "the macro '%s' gets '%s' twice", n->s, p->s);
			given = true;
			used++;
			v = a->at[a->n + k];
		}
		if (!given && p->n)
			r = bmi_jx_eval(x, p->at[0], &v);
		if (r == 0)
			r = bmi_jx_put(x, &x->scope->vars, &key, &v);
	}
	if (r == 0 && used != a->n_kw)
		r = bmi_jx_fail(x, -EINVAL, "the macro '%s' gets an argument with a name it does not have",
				n->s);
	return r;
}

int bmi_jx_macro(struct bmi_jinja_run *x, const struct bmi_jv_macro *m, const struct bmi_jv_args *a,
		 struct bmi_jv *ret)
{
	struct bmi_jinja_scope *const scope = x->scope;
	int r = push_scope(x, m->scope);

	if (r == 0)
		r = bind_macro(x, m->node, a);
	if (r == 0)
		r = capture(x, m->node->at[0], ret);
	x->scope = scope;
	return r;
}

static int put_out(struct bmi_jinja_run *x, const struct bmi_jv *v)
{
	const size_t before = x->out->n;
	const int r = bmi_jx_print(x, v, x->out);

	x->printed += x->out->n - before;
	if (r == 0 && x->printed > BMI_JINJA_OUTPUT_MAX)
		return bmi_jx_fail(x, -E2BIG, "the template prints more than %d bytes", BMI_JINJA_OUTPUT_MAX);
	return r;
}

static int exec_inner(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	struct bmi_jv v;
	int r = 0;

	switch (n->kind) {
	case BMI_JN_BODY:
		for (unsigned i = 0; r == 0 && i < n->n && x->flow == BMI_JF_NONE; i++)
			r = bmi_jx_exec(x, n->at[i]);
		return r;
	case BMI_JN_DATA:
		v = bmi_jv_lit(n->s, n->n_s);
		return put_out(x, &v);
	case BMI_JN_PRINT:
		r = bmi_jx_eval(x, n->at[0], &v);
		return r < 0 ? r : put_out(x, &v);
	case BMI_JN_IF:
		return exec_if(x, n);
	case BMI_JN_FOR:
		return exec_for(x, n);
	case BMI_JN_SET:
		r = bmi_jx_eval(x, n->at[1], &v);
		return r < 0 ? r : bmi_jx_assign(x, n->at[0], &v);
	case BMI_JN_SET_BLOCK:
	case BMI_JN_FILTER_BLOCK:
		return exec_block(x, n);
	case BMI_JN_MACRO:
		return define_macro(x, n);
	case BMI_JN_WITH:
		return exec_with(x, n);
	case BMI_JN_SCOPE:
		return in_scope(x, n->at[0]);
	case BMI_JN_BREAK:
	case BMI_JN_CONTINUE:
		x->flow = n->kind == BMI_JN_BREAK ? BMI_JF_BREAK : BMI_JF_CONTINUE;
		return 0;
	default:
		return bmi_jx_fail(x, -EINVAL, "a statement of kind %d", (int)n->kind);
	}
}

int bmi_jx_exec(struct bmi_jinja_run *x, const struct bmi_jinja_node *n)
{
	int r = bmi_jx_step(x, 0);

	if (r == 0 && ++x->depth > BMI_JINJA_RUN_DEPTH_MAX)
		r = bmi_jx_fail(x, -E2BIG, "more than %d nested evaluations", BMI_JINJA_RUN_DEPTH_MAX);
	x->line = n->line;
	if (r == 0) {
		r = exec_inner(x, n);
		x->depth--;
	}
	return r;
}

int bmi_jinja_render(const struct bmi_jinja *t, const struct bmi_jinja_var *vars, size_t n_vars, int64_t now,
		     struct bmi_str *ret, struct bmi_error *err)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct bmi_jinja_scope *scope = NULL;
	struct bmi_jinja_run x = { .arena = arena, .now = now, .err = err };
	bmi_auto_str out = { 0 };
	struct bmi_jv *at;
	int r;

	if (!arena)
		return bmi_fail(err, -ENOMEM, "the memory of a template");
	x.out = &out;
	r = push_scope(&x, NULL);
	scope = x.scope;
	for (size_t i = 0; r == 0 && i < n_vars; i++) {
		const struct bmi_jv key = bmi_jv_lit(vars[i].name, vars[i].n_name);
		struct bmi_jv v = bmi_jv_lit(vars[i].str, vars[i].n);

		r = bmi_jx_get(&x, &scope->vars, &key, &at);
		if (r < 0 || at)
			continue;
		if (vars[i].json)
			r = bmi_jx_from_json(&x, vars[i].json, &v);
		if (r == 0)
			r = bmi_jx_put(&x, &scope->vars, &key, &v);
	}
	if (r == 0)
		r = push_scope(&x, scope);
	if (r == 0)
		r = bmi_jx_exec(&x, t->body);
	if (r == 0 && (!bmi_str_ok(&out) || bmi_str_put(ret, out.bytes ? out.bytes : "", out.n) < 0))
		r = bmi_fail(err, -ENOMEM, "the text of a template");
	return r;
}

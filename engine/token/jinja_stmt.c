/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the grammar of statements and the opening of a template. Tags that Jinja2 knows and this interpreter does not
 * (include, import, extends, block, call, autoescape, do ...) are refused by name.
 * Invariant: a parsed template is never written again.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <string.h>

static int end_tag(struct bmi_jinja_parser *p)
{
	if (p->tok->type != BMI_JT_BLOCK_END)
		return bmi_jinja_unexpected(p, "the end of the tag");
	p->tok++;
	return 0;
}

/* The rest of an opening tag, a body, and `{% end... %}`. */
static int tagged_body(struct bmi_jinja_parser *p, const char *end, struct bmi_jinja_node *node)
{
	const char *const ends[] = { end, NULL };
	struct bmi_jinja_node *body;
	int r = end_tag(p);

	if (r == 0)
		r = bmi_jinja_parse_body(p, ends, &body);
	if (r == 0)
		r = bmi_jinja_child(p, node, body);
	if (r == 0) {
		p->tok++; /* the name that ended the body */
		r = end_tag(p);
	}
	return r;
}

/* What may stand left of `=` or `in`: a name, ns.attr, or several names. */
static int parse_target(struct bmi_jinja_parser *p, bool namespaces, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *name, *tuple = NULL;
	int r = 0;

	for (;;) {
		const bool round = bmi_jinja_is_op(p->tok, "(") && !tuple;

		if (round) {
			p->tok++;
			r = bmi_jinja_enter(p);
			if (r == 0)
				r = parse_target(p, false, &name);
			p->nest--;
			if (r == 0)
				r = bmi_jinja_expect_op(p, ")");
			if (r == 0)
				*ret = name;
			return r;
		}
		if (p->tok->type != BMI_JT_NAME)
			return bmi_jinja_unexpected(p, "a name to assign to");
		r = bmi_jinja_node(p, BMI_JN_NAME, &name);
		if (r < 0)
			return r;
		name->s = p->tok->s;
		name->n_s = p->tok->n;
		p->tok++;
		if (namespaces && bmi_jinja_is_op(p->tok, ".") && p->tok[1].type == BMI_JT_NAME) {
			struct bmi_jinja_node *ref;

			r = bmi_jinja_node(p, BMI_JN_NSREF, &ref);
			if (r == 0)
				r = bmi_jinja_child(p, ref, name);
			if (r < 0)
				return r;
			ref->s = p->tok[1].s;
			ref->n_s = p->tok[1].n;
			p->tok += 2;
			name = ref;
		}
		if (!tuple && bmi_jinja_is_op(p->tok, ","))
			r = bmi_jinja_node(p, BMI_JN_TUPLE, &tuple);
		if (r == 0 && tuple)
			r = bmi_jinja_child(p, tuple, name);
		if (r < 0)
			return r;
		if (!bmi_jinja_is_op(p->tok, ","))
			break;
		p->tok++;
		if (p->tok->type != BMI_JT_NAME || bmi_jinja_is_name(p->tok, "in"))
			break;
	}
	*ret = tuple ? tuple : name;
	return 0;
}

static int parse_for(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	static const char *const ends[] = { "endfor", "else", NULL }, *const end[] = { "endfor", NULL };
	struct bmi_jinja_node *part[5] = { 0 };
	int r = parse_target(p, false, &part[0]);

	if (r == 0 && !bmi_jinja_is_name(p->tok, "in"))
		return bmi_jinja_unexpected(p, "'in'");
	p->tok++;
	if (r == 0)
		r = bmi_jinja_parse_tuple(p, false, "recursive", &part[1]);
	if (r == 0 && bmi_jinja_is_name(p->tok, "if")) {
		p->tok++;
		r = bmi_jinja_parse_expr(p, &part[4]);
	}
	if (r == 0 && bmi_jinja_is_name(p->tok, "recursive"))
		return bmi_fail(p->err, -EOPNOTSUPP, "line %u: 'recursive' of a for loop", p->tok->line);
	if (r == 0)
		r = end_tag(p);
	p->loops++;
	if (r == 0)
		r = bmi_jinja_parse_body(p, ends, &part[2]);
	p->loops--;
	if (r == 0 && bmi_jinja_is_name(p->tok, "else")) {
		p->tok++;
		r = end_tag(p);
		if (r == 0)
			r = bmi_jinja_parse_body(p, end, &part[3]);
	}
	if (r == 0) {
		p->tok++;
		r = end_tag(p);
	}
	for (unsigned i = 0; r == 0 && i < 5; i++)
		r = bmi_jinja_child(p, node, part[i]);
	return r;
}

static int parse_if(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	static const char *const ends[] = { "elif", "else", "endif", NULL }, *const end[] = { "endif", NULL };
	bool is_else = false;
	struct bmi_jinja_node *part;
	int r;

	do {
		r = is_else ? 0 : bmi_jinja_parse_tuple(p, false, NULL, &part);
		if (r == 0 && !is_else)
			r = bmi_jinja_child(p, node, part);
		if (r == 0)
			r = end_tag(p);
		if (r == 0)
			r = bmi_jinja_parse_body(p, is_else ? end : ends, &part);
		if (r == 0)
			r = bmi_jinja_child(p, node, part);
		if (r < 0)
			return r;
		is_else = bmi_jinja_is_name(p->tok, "else");
		p->tok++;
	} while (!bmi_jinja_is_name(p->tok - 1, "endif"));
	return end_tag(p);
}

static int parse_set(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	struct bmi_jinja_node *target, *value = NULL;
	int r = parse_target(p, true, &target);

	if (r == 0)
		r = bmi_jinja_child(p, node, target);
	if (r < 0)
		return r;
	if (bmi_jinja_is_op(p->tok, "=")) {
		p->tok++;
		r = bmi_jinja_parse_tuple(p, true, NULL, &value);
		if (r == 0)
			r = bmi_jinja_child(p, node, value);
		return r < 0 ? r : end_tag(p);
	}
	node->kind = BMI_JN_SET_BLOCK;
	r = bmi_jinja_node(p, BMI_JN_CAPTURE, &value);
	if (r == 0)
		r = bmi_jinja_parse_filters(p, false, &value);
	if (r == 0)
		r = tagged_body(p, "endset", node);
	return r < 0 ? r : bmi_jinja_child(p, node, value);
}

static int parse_macro(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	const unsigned loops = p->loops;
	struct bmi_jinja_node *params, *param, *value;
	int r = bmi_jinja_node(p, BMI_JN_BODY, &params);

	if (r < 0)
		return r;
	if (p->tok->type != BMI_JT_NAME)
		return bmi_jinja_unexpected(p, "the macro's name");
	node->s = p->tok->s;
	node->n_s = p->tok->n;
	p->tok++;
	r = bmi_jinja_expect_op(p, "(");
	while (r == 0 && !bmi_jinja_is_op(p->tok, ")")) {
		if (params->n)
			r = bmi_jinja_expect_op(p, ",");
		if (r == 0 && p->tok->type != BMI_JT_NAME)
			return bmi_jinja_unexpected(p, "a parameter");
		if (r == 0)
			r = bmi_jinja_node(p, BMI_JN_KWARG, &param);
		if (r < 0)
			return r;
		param->s = p->tok->s;
		param->n_s = p->tok->n;
		p->tok++;
		if (bmi_jinja_is_op(p->tok, "=")) {
			p->tok++;
			r = bmi_jinja_parse_expr(p, &value);
			if (r == 0)
				r = bmi_jinja_child(p, param, value);
		} else if (params->n && params->at[params->n - 1]->n) {
			return bmi_fail(p->err, -EINVAL,
					"line %u: a parameter without a default behind one with one",
					param->line);
		}
		if (r == 0)
			r = bmi_jinja_child(p, params, param);
	}
	if (r == 0)
		r = bmi_jinja_expect_op(p, ")");
	p->macros++;
	p->loops = 0;
	if (r == 0)
		r = tagged_body(p, "endmacro", node);
	p->loops = loops;
	p->macros--;
	for (unsigned i = 0; r == 0 && i < params->n; i++)
		r = bmi_jinja_child(p, node, params->at[i]);
	return r;
}

static int parse_with(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	struct bmi_jinja_node *pairs, *part;
	int r = bmi_jinja_node(p, BMI_JN_BODY, &pairs);

	while (r == 0 && p->tok->type != BMI_JT_BLOCK_END) {
		if (pairs->n)
			r = bmi_jinja_expect_op(p, ",");
		if (r == 0 && p->tok->type != BMI_JT_NAME)
			return bmi_jinja_unexpected(p, "a name to assign to");
		if (r == 0)
			r = bmi_jinja_node(p, BMI_JN_NAME, &part);
		if (r < 0)
			return r;
		part->s = p->tok->s;
		part->n_s = p->tok->n;
		p->tok++;
		r = bmi_jinja_child(p, pairs, part);
		if (r == 0)
			r = bmi_jinja_expect_op(p, "=");
		if (r == 0)
			r = bmi_jinja_parse_expr(p, &part);
		if (r == 0)
			r = bmi_jinja_child(p, pairs, part);
	}
	if (r == 0)
		r = tagged_body(p, "endwith", node);
	for (unsigned i = 0; r == 0 && i < pairs->n; i++)
		r = bmi_jinja_child(p, node, pairs->at[i]);
	return r;
}

static int parse_filter_block(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	struct bmi_jinja_node *value;
	int r = bmi_jinja_node(p, BMI_JN_CAPTURE, &value);

	if (r == 0)
		r = bmi_jinja_parse_filters(p, true, &value);
	if (r == 0)
		r = tagged_body(p, "endfilter", node);
	return r < 0 ? r : bmi_jinja_child(p, node, value);
}

static int parse_jump(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	if (!p->loops)
		return bmi_fail(p->err, -EINVAL, "line %u: '%s' outside a loop", node->line,
				node->kind == BMI_JN_BREAK ? "break" : "continue");
	return end_tag(p);
}

static int parse_scope(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	const unsigned loops = p->loops;
	int r;

	p->loops = 0; /* Jinja2 makes a function of it */
	r = tagged_body(p, "endgeneration", node);
	p->loops = loops;
	return r;
}

static const struct tag {
	const char *name;
	enum bmi_jinja_kind kind;
	int (*parse)(struct bmi_jinja_parser *p, struct bmi_jinja_node *node);
} tags[] = {
	{ "for", BMI_JN_FOR, parse_for },
	{ "if", BMI_JN_IF, parse_if },
	{ "set", BMI_JN_SET, parse_set },
	{ "macro", BMI_JN_MACRO, parse_macro },
	{ "with", BMI_JN_WITH, parse_with },
	{ "filter", BMI_JN_FILTER_BLOCK, parse_filter_block },
	{ "generation", BMI_JN_SCOPE, parse_scope },
	{ "break", BMI_JN_BREAK, parse_jump },
	{ "continue", BMI_JN_CONTINUE, parse_jump },
};

/* At the name of a tag. */
static int parse_statement(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	const struct bmi_jinja_token *t = p->tok;
	int r;

	if (t->type != BMI_JT_NAME)
		return bmi_jinja_unexpected(p, "the name of a tag");
	for (size_t i = 0; i < BMI_ARRAY_LEN(tags); i++) {
		if (strcmp(t->s, tags[i].name) != 0)
			continue;
		r = bmi_jinja_enter(p);
		if (r == 0)
			r = bmi_jinja_node(p, tags[i].kind, ret);
		p->tok++;
		if (r == 0)
			r = tags[i].parse(p, *ret);
		p->nest--;
		return r;
	}
	if (!strncmp(t->s, "end", 3) || !strncmp(t->s, "el", 2))
		return bmi_fail(p->err, -EINVAL, "line %u: the tag '%s' closes nothing here", t->line, t->s);
	return bmi_fail(p->err, -EOPNOTSUPP, "line %u: the tag '%s'", t->line, t->s);
}

static bool is_end(const struct bmi_jinja_parser *p, const char *const *ends)
{
	for (; ends && *ends; ends++)
		if (bmi_jinja_is_name(p->tok, *ends))
			return true;
	return false;
}

int bmi_jinja_parse_body(struct bmi_jinja_parser *p, const char *const *ends, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *part;
	int r = bmi_jinja_node(p, BMI_JN_BODY, ret);

	while (r == 0 && p->tok->type != BMI_JT_EOF) {
		const struct bmi_jinja_token *t = p->tok++;

		if (t->type == BMI_JT_DATA) {
			p->tok--;
			r = bmi_jinja_node(p, BMI_JN_DATA, &part);
			p->tok++;
			if (r == 0) {
				part->s = t->s;
				part->n_s = t->n;
			}
		} else if (t->type == BMI_JT_VAR_BEGIN) {
			struct bmi_jinja_node *expr;

			r = bmi_jinja_node(p, BMI_JN_PRINT, &part);
			if (r == 0)
				r = bmi_jinja_parse_tuple(p, true, NULL, &expr);
			if (r == 0)
				r = bmi_jinja_child(p, part, expr);
			if (r == 0 && p->tok->type != BMI_JT_VAR_END)
				r = bmi_jinja_unexpected(p, "'}}'");
			p->tok++;
		} else {
			if (is_end(p, ends))
				return 0;
			r = parse_statement(p, &part);
		}
		if (r == 0)
			r = bmi_jinja_child(p, *ret, part);
	}
	if (r == 0 && ends)
		r = bmi_fail(p->err, -EINVAL, "line %u: the template ends before '%s'", p->tok->line, ends[0]);
	return r;
}

int bmi_jinja_parse(const char *text, size_t n, struct bmi_jinja **ret, struct bmi_error *err)
{
	bmi_auto(bmi_jinja) t = calloc(1, sizeof(*t));
	struct bmi_jinja_parser p = { .err = err };
	size_t n_tok, valid;
	int r;

	if (n > BMI_JINJA_TEXT_MAX)
		return bmi_fail(err, -E2BIG, "a template of %zu bytes, the limit is %d", n, BMI_JINJA_TEXT_MAX);
	valid = bmi_tok_utf8_valid(text, n);
	if (valid != n)
		return bmi_fail(err, -EILSEQ, "a template that is not UTF-8 at byte %zu", valid);
	if (t)
		t->arena = bmi_arena_new();
	if (!t || !t->arena)
		return bmi_fail(err, -ENOMEM, "a template of %zu bytes", n);
	p.arena = t->arena;
	r = bmi_jinja_lex(p.arena, text, n, &p.tok, &n_tok, err);
	if (r == 0)
		r = bmi_jinja_parse_body(&p, NULL, &t->body);
	if (r < 0)
		return r;
	*ret = bmi_steal(&t);
	return 0;
}

void bmi_jinja_free(struct bmi_jinja *t)
{
	if (!t)
		return;
	bmi_arena_free(t->arena);
	free(t);
}

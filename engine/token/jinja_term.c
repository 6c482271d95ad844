/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the grammar of what operators stand between: literals, names, lists, dicts, and the calls, attributes and indices
 * behind them. Filters, tests and operators are in jinja_parse.c.
 * Invariant: a parser that fails leaves its output alone.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

/* `a` `'b' 'c'`: neighbouring strings are one */
static int parse_string(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	const struct bmi_jinja_token *end = p->tok;
	size_t n = 0;
	char *s;

	for (; end->type == BMI_JT_STRING; end++)
		n += end->n;
	s = bmi_arena_alloc(p->arena, n + 1);
	if (!s)
		return bmi_fail(p->err, -ENOMEM, "a string of a template");
	n = 0;
	for (const struct bmi_jinja_token *t = p->tok; t < end; t++) {
		memcpy(s + n, t->s, t->n);
		n += t->n;
	}
	if (bmi_jinja_constant(p, bmi_jv_lit(s, n), ret) < 0)
		return -ENOMEM;
	while (p->tok->type == BMI_JT_STRING)
		p->tok++;
	return 0;
}

static int parse_name(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	static const char *const words[] = { "false", "False", "true", "True", "none", "None" };
	const struct bmi_jinja_token *t = p->tok;
	int r;

	for (size_t i = 0; i < BMI_ARRAY_LEN(words); i++) {
		if (strcmp(t->s, words[i]) != 0)
			continue;
		r = bmi_jinja_constant(p, i < 4 ? bmi_jv_bool(i >= 2) : (struct bmi_jv){ .kind = BMI_JV_NONE },
				       ret);
		p->tok++;
		return r;
	}
	if (p->macros && (!strcmp(t->s, "varargs") || !strcmp(t->s, "kwargs") || !strcmp(t->s, "caller")))
		return bmi_fail(p->err, -EOPNOTSUPP, "line %u: '%s' in a macro", t->line, t->s);
	r = bmi_jinja_node(p, BMI_JN_NAME, ret);
	if (r < 0)
		return r;
	(*ret)->s = t->s;
	(*ret)->n_s = t->n;
	p->tok++;
	return 0;
}

/* What stands in [] or {} behind its bracket. */
static int parse_items(struct bmi_jinja_parser *p, const char *close, struct bmi_jinja_node *node)
{
	struct bmi_jinja_node *item;
	int r = 0;

	while (r == 0 && !bmi_jinja_is_op(p->tok, close)) {
		if (node->n)
			r = bmi_jinja_expect_op(p, ",");
		if (r < 0 || bmi_jinja_is_op(p->tok, close))
			break;
		r = bmi_jinja_parse_expr(p, &item);
		if (r == 0)
			r = bmi_jinja_child(p, node, item);
		if (r < 0 || node->kind != BMI_JN_DICT)
			continue;
		r = bmi_jinja_expect_op(p, ":");
		if (r == 0)
			r = bmi_jinja_parse_expr(p, &item);
		if (r == 0)
			r = bmi_jinja_child(p, node, item);
	}
	return r < 0 ? r : bmi_jinja_expect_op(p, close);
}

int bmi_jinja_parse_primary(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	const struct bmi_jinja_token *t = p->tok;
	int r;

	if (t->type == BMI_JT_NAME)
		return parse_name(p, ret);
	if (t->type == BMI_JT_STRING)
		return parse_string(p, ret);
	if (t->type == BMI_JT_INT || t->type == BMI_JT_FLOAT) {
		r = bmi_jinja_constant(p, t->type == BMI_JT_INT ? bmi_jv_int(t->i) : bmi_jv_float(t->f), ret);
		p->tok++;
		return r;
	}
	if (bmi_jinja_is_op(t, "(")) {
		p->tok++;
		r = bmi_jinja_parse_tuple(p, true, ")", ret);
		return r < 0 ? r : bmi_jinja_expect_op(p, ")");
	}
	if (!bmi_jinja_is_op(t, "[") && !bmi_jinja_is_op(t, "{"))
		return bmi_jinja_unexpected(p, "an expression");
	r = bmi_jinja_node(p, t->s[0] == '[' ? BMI_JN_LIST : BMI_JN_DICT, ret);
	p->tok++;
	return r < 0 ? r : parse_items(p, t->s[0] == '[' ? "]" : "}", *ret);
}

/* `(a, b=1)` behind its bracket, as children of @node. */
int bmi_jinja_parse_args(struct bmi_jinja_parser *p, struct bmi_jinja_node *node)
{
	bool named = false, first = true;
	int r = 0;

	for (; r == 0 && !bmi_jinja_is_op(p->tok, ")"); first = false) {
		struct bmi_jinja_node *arg, *value;

		if (!first) {
			r = bmi_jinja_expect_op(p, ",");
			if (r < 0 || bmi_jinja_is_op(p->tok, ")"))
				break;
		}
		if (bmi_jinja_is_op(p->tok, "*") || bmi_jinja_is_op(p->tok, "**"))
			return bmi_fail(p->err, -EOPNOTSUPP, "line %u: '%s' before an argument", p->tok->line,
					p->tok->s);
		if (p->tok->type == BMI_JT_NAME && bmi_jinja_is_op(p->tok + 1, "=")) {
			named = true;
			r = bmi_jinja_node(p, BMI_JN_KWARG, &arg);
			if (r < 0)
				return r;
			arg->s = p->tok->s;
			p->tok += 2;
			r = bmi_jinja_parse_expr(p, &value);
			if (r == 0)
				r = bmi_jinja_child(p, arg, value);
		} else if (named) {
			return bmi_fail(p->err, -EINVAL,
					"line %u: an argument without a name behind one with a name",
					p->tok->line);
		} else {
			r = bmi_jinja_parse_expr(p, &arg);
		}
		if (r == 0)
			r = bmi_jinja_child(p, node, arg);
	}
	return r < 0 ? r : bmi_jinja_expect_op(p, ")");
}

/* `[...]` behind its bracket: an index, a tuple as index (refused), or a slice */
static int parse_index(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	struct bmi_jinja_node *part[3], *n;
	unsigned n_colons = 0;
	int r = 0;

	for (unsigned i = 0; r == 0 && i < 3; i++) {
		if (i && !bmi_jinja_is_op(p->tok, ":")) {
			r = bmi_jinja_constant(p, (struct bmi_jv){ .kind = BMI_JV_MISSING }, &part[i]);
			continue;
		}
		if (i) {
			n_colons++;
			p->tok++;
		}
		if (bmi_jinja_is_op(p->tok, ":") || (i && bmi_jinja_is_op(p->tok, "]")))
			r = bmi_jinja_constant(p, (struct bmi_jv){ .kind = BMI_JV_MISSING }, &part[i]);
		else
			r = bmi_jinja_parse_expr(p, &part[i]);
	}
	if (r == 0 && bmi_jinja_is_op(p->tok, ","))
		return bmi_fail(p->err, -EOPNOTSUPP, "line %u: more than one index in []", p->tok->line);
	if (r == 0)
		r = bmi_jinja_expect_op(p, "]");
	if (r == 0)
		r = bmi_jinja_join(p, n_colons ? BMI_JN_SLICE : BMI_JN_INDEX, 0, *io, part[0], &n);
	for (unsigned i = 1; r == 0 && n_colons && i < 3; i++)
		r = bmi_jinja_child(p, n, part[i]);
	if (r == 0)
		*io = n;
	return r;
}

int bmi_jinja_parse_call(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	struct bmi_jinja_node *n;
	int r = bmi_jinja_join(p, BMI_JN_CALL, 0, *io, NULL, &n);

	p->tok++;
	if (r == 0)
		r = bmi_jinja_parse_args(p, n);
	if (r == 0)
		*io = n;
	return r;
}

int bmi_jinja_parse_postfix(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	int r = 0;

	while (r == 0) {
		if (bmi_jinja_is_op(p->tok, ".") && p->tok[1].type == BMI_JT_NAME) {
			r = bmi_jinja_join(p, BMI_JN_ATTR, 0, *io, NULL, io);
			if (r == 0) {
				(*io)->s = p->tok[1].s;
				(*io)->n_s = p->tok[1].n;
			}
			p->tok += 2;
		} else if (bmi_jinja_is_op(p->tok, ".")) {
			p->tok++;
			return p->tok->type == BMI_JT_INT
				       ? bmi_fail(p->err, -EOPNOTSUPP, "line %u: a number behind '.'",
						  p->tok->line)
				       : bmi_jinja_unexpected(p, "a name behind '.'");
		} else if (bmi_jinja_is_op(p->tok, "[")) {
			p->tok++;
			r = parse_index(p, io);
		} else if (bmi_jinja_is_op(p->tok, "(")) {
			r = bmi_jinja_parse_call(p, io);
		} else {
			break;
		}
	}
	return r;
}

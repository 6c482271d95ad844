/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the grammar of expressions and what a tree is made of; statements are in jinja_stmt.c.
 * Precedences are those of Jinja2's parser. Names of filters and tests are checked here: an unknown one is refused
 * when the template is opened.
 * Invariant: a node's depth is one more than its deepest child's and at most BMI_JINJA_DEPTH_MAX, so walking a tree
 * needs a bounded stack; p->nest bounds the parser's own.
 */
#include "token/jinja_priv.h"

#include <errno.h>
#include <string.h>

bool bmi_jinja_is_op(const struct bmi_jinja_token *t, const char *op)
{
	return t->type == BMI_JT_OP && !strcmp(t->s, op);
}

bool bmi_jinja_is_name(const struct bmi_jinja_token *t, const char *name)
{
	return t->type == BMI_JT_NAME && !strcmp(t->s, name);
}

int bmi_jinja_unexpected(struct bmi_jinja_parser *p, const char *wanted)
{
	const struct bmi_jinja_token *t = p->tok;

	if (t->type == BMI_JT_EOF)
		return bmi_fail(p->err, -EINVAL, "line %u: the template ends where %s was expected", t->line,
				wanted);
	return bmi_fail(p->err, -EINVAL, "line %u: '%.*s' where %s was expected", t->line,
			t->n > 60 ? 60 : (int)t->n, t->s, wanted);
}

int bmi_jinja_expect_op(struct bmi_jinja_parser *p, const char *op)
{
	char wanted[16] = "'";

	if (bmi_jinja_is_op(p->tok, op)) {
		p->tok++;
		return 0;
	}
	strcat(strcat(wanted, op), "'");
	return bmi_jinja_unexpected(p, wanted);
}

int bmi_jinja_enter(struct bmi_jinja_parser *p)
{
	if (++p->nest > BMI_JINJA_DEPTH_MAX)
		return bmi_fail(p->err, -E2BIG, "line %u: more than %d nested expressions and blocks",
				p->tok->line, BMI_JINJA_DEPTH_MAX);
	return 0;
}

int bmi_jinja_node(struct bmi_jinja_parser *p, enum bmi_jinja_kind kind, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *n = bmi_arena_alloc(p->arena, sizeof(*n));

	if (!n)
		return bmi_fail(p->err, -ENOMEM, "the tree of a template");
	n->kind = kind;
	n->line = p->tok->line;
	n->depth = 1;
	n->s = "";
	*ret = n;
	return 0;
}

int bmi_jinja_child(struct bmi_jinja_parser *p, struct bmi_jinja_node *node, struct bmi_jinja_node *child)
{
	if ((node->n & (node->n - 1)) == 0) { /* full at each power of two */
		struct bmi_jinja_node **at =
			bmi_arena_array(p->arena, node->n ? 2 * (size_t)node->n : 1, sizeof(*at));

		if (!at)
			return bmi_fail(p->err, -ENOMEM, "the tree of a template");
		if (node->n)
			memcpy(at, node->at, node->n * sizeof(*at));
		node->at = at;
	}
	node->at[node->n++] = child;
	if (child && child->depth >= node->depth)
		node->depth = (uint16_t)(child->depth + 1);
	if (node->depth > BMI_JINJA_DEPTH_MAX)
		return bmi_fail(p->err, -E2BIG, "line %u: more than %d nested expressions and blocks",
				node->line, BMI_JINJA_DEPTH_MAX);
	return 0;
}

/* A node of @kind over one or two children that are there already. */
int bmi_jinja_join(struct bmi_jinja_parser *p, enum bmi_jinja_kind kind, int op, struct bmi_jinja_node *a,
		   struct bmi_jinja_node *b, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *n = NULL;
	int r = bmi_jinja_node(p, kind, &n);

	if (r < 0)
		return r;
	n->op = (uint8_t)op;
	n->line = a->line;
	r = bmi_jinja_child(p, n, a);
	if (r == 0 && b)
		r = bmi_jinja_child(p, n, b);
	if (r == 0)
		*ret = n;
	return r;
}

int bmi_jinja_constant(struct bmi_jinja_parser *p, struct bmi_jv v, struct bmi_jinja_node **ret)
{
	const int r = bmi_jinja_node(p, BMI_JN_CONST, ret);

	if (r == 0)
		(*ret)->value = v;
	return r;
}

static int parse_filter(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	const struct bmi_jinja_token *t = p->tok;
	int r;

	if (t->type != BMI_JT_NAME)
		return bmi_jinja_unexpected(p, "the name of a filter");
	if (!bmi_jx_is_filter(t->s) && !bmi_jx_is_pick(t->s))
		return bmi_fail(p->err, -EOPNOTSUPP, "line %u: the filter '%s'", t->line, t->s);
	r = bmi_jinja_join(p, BMI_JN_FILTER, 0, *io, NULL, io);
	if (r < 0)
		return r;
	(*io)->s = t->s;
	(*io)->line = t->line;
	p->tok++;
	if (bmi_jinja_is_op(p->tok, "(")) {
		p->tok++;
		r = bmi_jinja_parse_args(p, *io);
	}
	return r;
}

static int parse_unary(struct bmi_jinja_parser *p, bool filters, struct bmi_jinja_node **ret);

static int parse_test(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	const bool negated = bmi_jinja_is_name(p->tok + 1, "not");
	struct bmi_jinja_token *t = p->tok + 1 + negated;
	struct bmi_jinja_node *arg;
	int r;

	p->tok = t;
	if (t->type != BMI_JT_NAME)
		return bmi_jinja_unexpected(p, "the name of a test");
	if (!bmi_jx_is_test(t->s))
		return bmi_fail(p->err, -EOPNOTSUPP, "line %u: the test '%s'", t->line, t->s);
	r = bmi_jinja_join(p, BMI_JN_TEST, negated, *io, NULL, io);
	if (r < 0)
		return r;
	(*io)->s = t->s;
	p->tok++;
	t = p->tok;
	if (bmi_jinja_is_op(t, "(")) {
		p->tok++;
		return bmi_jinja_parse_args(p, *io);
	}
	if (t->type == BMI_JT_STRING || t->type == BMI_JT_INT || t->type == BMI_JT_FLOAT ||
	    bmi_jinja_is_op(t, "[") || bmi_jinja_is_op(t, "{") ||
	    (t->type == BMI_JT_NAME && strcmp(t->s, "else") != 0 && strcmp(t->s, "or") != 0 &&
	     strcmp(t->s, "and") != 0)) {
		if (bmi_jinja_is_name(t, "is"))
			return bmi_fail(p->err, -EINVAL, "line %u: tests cannot be chained with 'is'", t->line);
		r = bmi_jinja_parse_primary(p, &arg);
		if (r == 0)
			r = bmi_jinja_parse_postfix(p, &arg);
		if (r == 0)
			r = bmi_jinja_child(p, *io, arg);
	}
	return r;
}

int bmi_jinja_parse_filters(struct bmi_jinja_parser *p, bool first_bare, struct bmi_jinja_node **io)
{
	int r = first_bare ? parse_filter(p, io) : 0;

	while (r == 0 && bmi_jinja_is_op(p->tok, "|")) {
		p->tok++;
		r = parse_filter(p, io);
	}
	return r;
}

static int parse_filter_expr(struct bmi_jinja_parser *p, struct bmi_jinja_node **io)
{
	int r = 0;

	while (r == 0) {
		if (bmi_jinja_is_op(p->tok, "|"))
			r = bmi_jinja_parse_filters(p, false, io);
		else if (bmi_jinja_is_name(p->tok, "is"))
			r = parse_test(p, io);
		else if (bmi_jinja_is_op(p->tok, "("))
			r = bmi_jinja_parse_call(p, io);
		else
			break;
	}
	return r;
}

static int parse_unary(struct bmi_jinja_parser *p, bool filters, struct bmi_jinja_node **ret)
{
	const bool minus = bmi_jinja_is_op(p->tok, "-"), plus = bmi_jinja_is_op(p->tok, "+");
	int r = bmi_jinja_enter(p);

	if (r < 0)
		return r;
	if (minus || plus) {
		p->tok++;
		r = parse_unary(p, false, ret);
		if (r == 0)
			r = bmi_jinja_join(p, BMI_JN_UNARY, minus ? BMI_JO_SUB : BMI_JO_ADD, *ret, NULL, ret);
	} else {
		r = bmi_jinja_parse_primary(p, ret);
	}
	if (r == 0)
		r = bmi_jinja_parse_postfix(p, ret);
	if (r == 0 && filters)
		r = parse_filter_expr(p, ret);
	p->nest--;
	return r;
}

struct op_level {
	const char *op;
	int level, code;
};

/* Left-associative operators; each level binds tighter than the one before. */
static const struct op_level op_levels[] = {
	{ "+", 0, BMI_JO_ADD },       { "-", 0, BMI_JO_SUB }, { "*", 2, BMI_JO_MUL },  { "/", 2, BMI_JO_DIV },
	{ "//", 2, BMI_JO_FLOORDIV }, { "%", 2, BMI_JO_MOD }, { "**", 3, BMI_JO_POW },
};

static int parse_math(struct bmi_jinja_parser *p, int level, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *left, *right, *concat = NULL;
	int r = level == 4 ? parse_unary(p, true, &left) : parse_math(p, level + 1, &left);

	while (r == 0 && level < 4) {
		int code = 0;

		for (size_t i = 0; i < BMI_ARRAY_LEN(op_levels); i++)
			if (op_levels[i].level == level && bmi_jinja_is_op(p->tok, op_levels[i].op))
				code = op_levels[i].code;
		if (level == 1 && bmi_jinja_is_op(p->tok, "~"))
			code = -1;
		if (!code)
			break;
		p->tok++;
		r = parse_math(p, level + 1, &right);
		if (r == 0 && code > 0)
			r = bmi_jinja_join(p, BMI_JN_BINARY, code, left, right, &left);
		else if (r == 0 && concat)
			r = bmi_jinja_child(p, concat, right);
		else if (r == 0) {
			r = bmi_jinja_join(p, BMI_JN_CONCAT, 0, left, right, &concat);
			left = concat;
		}
	}
	if (r == 0)
		*ret = left;
	return r;
}

static int compare_op(struct bmi_jinja_parser *p)
{
	static const char *const ops[] = { "==", "!=", "<", "<=", ">", ">=" };

	for (size_t i = 0; i < BMI_ARRAY_LEN(ops); i++) {
		if (bmi_jinja_is_op(p->tok, ops[i])) {
			p->tok++;
			return BMI_JO_EQ + (int)i;
		}
	}
	if (bmi_jinja_is_name(p->tok, "in")) {
		p->tok++;
		return BMI_JO_IN;
	}
	if (bmi_jinja_is_name(p->tok, "not") && bmi_jinja_is_name(p->tok + 1, "in")) {
		p->tok += 2;
		return BMI_JO_NOT_IN;
	}
	return 0;
}

static int parse_compare(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *first, *right, *node = NULL;
	int r = parse_math(p, 0, &first), op;

	while (r == 0 && (op = compare_op(p))) {
		if (!node)
			r = bmi_jinja_join(p, BMI_JN_COMPARE, 0, first, NULL, &node);
		if (r == 0)
			r = parse_math(p, 0, &right);
		if (r == 0)
			r = bmi_jinja_join(p, BMI_JN_CMP, op, right, NULL, &right);
		if (r == 0)
			r = bmi_jinja_child(p, node, right);
	}
	if (r == 0)
		*ret = node ? node : first;
	return r;
}

static int parse_not(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	int r;

	if (!bmi_jinja_is_name(p->tok, "not"))
		return parse_compare(p, ret);
	p->tok++;
	r = bmi_jinja_enter(p);
	if (r == 0)
		r = parse_not(p, ret);
	p->nest--;
	return r < 0 ? r : bmi_jinja_join(p, BMI_JN_UNARY, BMI_JO_NOT, *ret, NULL, ret);
}

/* Flat: `a and b and c` is one node, so long chains are no depth. */
static int parse_chain(struct bmi_jinja_parser *p, bool is_or, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *first, *next, *node = NULL;
	int r = is_or ? parse_chain(p, false, &first) : parse_not(p, &first);

	while (r == 0 && bmi_jinja_is_name(p->tok, is_or ? "or" : "and")) {
		p->tok++;
		if (!node)
			r = bmi_jinja_join(p, is_or ? BMI_JN_OR : BMI_JN_AND, 0, first, NULL, &node);
		if (r == 0)
			r = is_or ? parse_chain(p, false, &next) : parse_not(p, &next);
		if (r == 0)
			r = bmi_jinja_child(p, node, next);
	}
	if (r == 0)
		*ret = node ? node : first;
	return r;
}

int bmi_jinja_parse_or(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	int r = bmi_jinja_enter(p);

	if (r == 0)
		r = parse_chain(p, true, ret);
	p->nest--;
	return r;
}

int bmi_jinja_parse_expr(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *then, *test, *otherwise;
	int r = bmi_jinja_parse_or(p, &then);

	while (r == 0 && bmi_jinja_is_name(p->tok, "if")) {
		p->tok++;
		r = bmi_jinja_parse_or(p, &test);
		if (r == 0)
			r = bmi_jinja_join(p, BMI_JN_COND, 0, test, then, &then);
		if (r == 0 && bmi_jinja_is_name(p->tok, "else")) {
			p->tok++;
			r = bmi_jinja_enter(p);
			if (r == 0)
				r = bmi_jinja_parse_expr(p, &otherwise);
			p->nest--;
			if (r == 0)
				r = bmi_jinja_child(p, then, otherwise);
		}
	}
	if (r == 0)
		*ret = then;
	return r;
}

/* Does a tuple end here? @end: a closing bracket or a name; NULL: the tag's end only. */
static bool at_tuple_end(const struct bmi_jinja_parser *p, const char *end)
{
	return p->tok->type == BMI_JT_VAR_END || p->tok->type == BMI_JT_BLOCK_END ||
	       p->tok->type == BMI_JT_EOF || bmi_jinja_is_op(p->tok, ")") ||
	       (end && (bmi_jinja_is_op(p->tok, end) || bmi_jinja_is_name(p->tok, end)));
}

int bmi_jinja_parse_tuple(struct bmi_jinja_parser *p, bool cond, const char *end, struct bmi_jinja_node **ret)
{
	struct bmi_jinja_node *item, *node = NULL;
	int r = 0;

	if (end && !strcmp(end, ")") && bmi_jinja_is_op(p->tok, ")"))
		return bmi_jinja_node(p, BMI_JN_TUPLE, ret);
	r = cond ? bmi_jinja_parse_expr(p, &item) : bmi_jinja_parse_or(p, &item);
	while (r == 0 && bmi_jinja_is_op(p->tok, ",")) {
		p->tok++;
		if (!node)
			r = bmi_jinja_join(p, BMI_JN_TUPLE, 0, item, NULL, &node);
		if (r < 0 || at_tuple_end(p, end))
			break;
		r = cond ? bmi_jinja_parse_expr(p, &item) : bmi_jinja_parse_or(p, &item);
		if (r == 0)
			r = bmi_jinja_child(p, node, item);
	}
	if (r == 0)
		*ret = node ? node : item;
	return r;
}

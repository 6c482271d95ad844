/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_JINJA_PRIV_H
#define BMI_TOKEN_JINJA_PRIV_H

#include "base/arena.h"
#include "token/jinja.h"

/* A bound that a build can leave out, to see the fuzzer find it; tests/fuzz/meson.build only. */
#ifdef BMI_PLANT_BUG_JINJA
enum { BMI_PLANTED_JINJA = 1 };
#else
enum { BMI_PLANTED_JINJA = 0 };
#endif

/* ---- tokens (jinja_lex.c) ---- */

enum bmi_jinja_tok {
	BMI_JT_EOF,
	BMI_JT_DATA,      /* text between tags: s[0..n) */
	BMI_JT_VAR_BEGIN, /* {{ */
	BMI_JT_VAR_END,
	BMI_JT_BLOCK_BEGIN,
	BMI_JT_BLOCK_END,
	BMI_JT_NAME,
	BMI_JT_STRING, /* s[0..n), escapes resolved */
	BMI_JT_INT,
	BMI_JT_FLOAT,
	BMI_JT_OP, /* s[0..n) is the operator */
};

struct bmi_jinja_token {
	enum bmi_jinja_tok type;
	unsigned line;
	const char *s;
	size_t n;
	int64_t i;
	double f;
};

/**
 * bmi_jinja_lex() - cut a template into tokens, white space already controlled.
 * @arena: holds the tokens and their text.
 */
int bmi_jinja_lex(struct bmi_arena *arena, const char *text, size_t n, struct bmi_jinja_token **ret,
		  size_t *ret_n, struct bmi_error *err);

/* ---- values ---- */

enum bmi_jv_kind {
	BMI_JV_UNDEF, /* s[0..n): what was looked for */
	BMI_JV_NONE,
	BMI_JV_BOOL,
	BMI_JV_INT,
	BMI_JV_FLOAT,
	BMI_JV_STR,
	BMI_JV_LIST,
	BMI_JV_TUPLE,
	BMI_JV_RANGE,
	BMI_JV_VIEW, /* dict.keys() and friends: sized, not indexed */
	BMI_JV_ITER, /* a generator: read once, without a length */
	BMI_JV_DICT,
	BMI_JV_NS, /* namespace() */
	BMI_JV_MACRO,
	BMI_JV_GLOBAL, /* a function of the environment, s[0..n) */
	BMI_JV_METHOD, /* self->s[0..n) */
	BMI_JV_LOOP,
	BMI_JV_MISSING, /* an argument that was not given; never seen by a template */
};

struct bmi_jv {
	enum bmi_jv_kind kind;
	bool safe; /* a string that is Markup: `+` escapes what it meets */
	union {
		bool b;
		int64_t i;
		double f;
		size_t n;
	};
	union {
		const char *s;
		struct bmi_jv_list *list;
		struct bmi_jv_dict *dict;
		struct bmi_jv_macro *macro;
		struct bmi_jv_loop *loop;
		const struct bmi_jv_method *method;
	};
};

struct bmi_jv_list {
	size_t n, cap;
	bool used; /* an ITER that was read */
	struct bmi_jv *at;
};

/* In the order of insertion; looked up linearly, each comparison is a step. */
struct bmi_jv_dict {
	size_t n, cap;
	struct bmi_jv *keys, *values;
};

struct bmi_jv_method {
	struct bmi_jv self;
	const char *name;
};

struct bmi_jv_loop {
	const struct bmi_jv_list *list;
	size_t at;
	struct bmi_jv changed; /* what loop.changed() was called with */
};

struct bmi_jinja_scope {
	struct bmi_jinja_scope *up;
	struct bmi_jv_dict vars;
};

struct bmi_jv_macro {
	const struct bmi_jinja_node *node;
	struct bmi_jinja_scope *scope; /* where it was defined */
};

/* ---- the tree (jinja_parse.c, jinja_stmt.c) ---- */

enum bmi_jinja_kind {
	/* expressions */
	BMI_JN_CONST,
	BMI_JN_NAME,
	BMI_JN_LIST,
	BMI_JN_TUPLE,
	BMI_JN_DICT, /* children: key, value, key, value */
	BMI_JN_ATTR,
	BMI_JN_INDEX,
	BMI_JN_SLICE, /* children: object, start, stop, step; a missing one is a CONST of kind MISSING */
	BMI_JN_CALL,  /* children: callee, arguments; named ones are KWARG */
	BMI_JN_KWARG,
	BMI_JN_FILTER, /* children: input, arguments */
	BMI_JN_TEST,   /* children: input, arguments; op 1: `is not` */
	BMI_JN_BINARY, /* op */
	BMI_JN_UNARY,  /* op '-' '+' '!' */
	BMI_JN_AND,
	BMI_JN_OR,
	BMI_JN_COND,    /* children: test, then[, else] */
	BMI_JN_COMPARE, /* children: first, then each CMP */
	BMI_JN_CMP,     /* op, child */
	BMI_JN_CONCAT,
	/* statements */
	BMI_JN_BODY,
	BMI_JN_DATA,
	BMI_JN_PRINT,
	BMI_JN_IF,           /* children: test, body, test, body ..., [body] */
	BMI_JN_FOR,          /* children: target, iterable, body, else or NULL, filter or NULL */
	BMI_JN_SET,          /* children: target, value */
	BMI_JN_SET_BLOCK,    /* children: target, body, filters or NULL (over a CAPTURE) */
	BMI_JN_NSREF,        /* a target: ns.attr; child: NAME */
	BMI_JN_MACRO,        /* children: body, then each parameter as KWARG (default or no child) */
	BMI_JN_WITH,         /* children: body, target, value, ... */
	BMI_JN_SCOPE,        /* {% generation %}: children: body */
	BMI_JN_FILTER_BLOCK, /* children: body, filters over a CAPTURE */
	BMI_JN_CAPTURE,      /* what the body of the block printed */
	BMI_JN_BREAK,
	BMI_JN_CONTINUE,
};

enum bmi_jinja_op {
	BMI_JO_ADD = 1,
	BMI_JO_SUB,
	BMI_JO_MUL,
	BMI_JO_DIV,
	BMI_JO_FLOORDIV,
	BMI_JO_MOD,
	BMI_JO_POW,
	BMI_JO_EQ,
	BMI_JO_NE,
	BMI_JO_LT,
	BMI_JO_LE,
	BMI_JO_GT,
	BMI_JO_GE,
	BMI_JO_IN,
	BMI_JO_NOT_IN,
	BMI_JO_NOT,
};

struct bmi_jinja_node {
	enum bmi_jinja_kind kind;
	uint8_t op;
	uint16_t depth;
	unsigned line;
	unsigned n; /* children */
	struct bmi_jinja_node **at;
	const char *s; /* name, attribute, text; NUL-terminated for names */
	size_t n_s;
	struct bmi_jv value; /* CONST */
};

struct bmi_jinja {
	struct bmi_arena *arena;
	struct bmi_jinja_node *body;
};

struct bmi_jinja_parser {
	struct bmi_arena *arena;
	struct bmi_jinja_token *tok; /* the current one; the last is EOF */
	unsigned nest;               /* of the parser's own calls */
	unsigned loops, macros;      /* open ones */
	struct bmi_error *err;
};

/* All return 0 or the error, and write *ret on success. */
int bmi_jinja_parse_expr(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret);
int bmi_jinja_parse_or(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret); /* without `x if y` */
int bmi_jinja_parse_tuple(struct bmi_jinja_parser *p, bool cond, const char *end, struct bmi_jinja_node **ret);
int bmi_jinja_parse_filters(struct bmi_jinja_parser *p, bool first_bare, struct bmi_jinja_node **io);
int bmi_jinja_parse_primary(struct bmi_jinja_parser *p, struct bmi_jinja_node **ret); /* jinja_term.c */
int bmi_jinja_parse_postfix(struct bmi_jinja_parser *p, struct bmi_jinja_node **io);
int bmi_jinja_parse_call(struct bmi_jinja_parser *p, struct bmi_jinja_node **io);
int bmi_jinja_parse_args(struct bmi_jinja_parser *p, struct bmi_jinja_node *node);
int bmi_jinja_join(struct bmi_jinja_parser *p, enum bmi_jinja_kind kind, int op, struct bmi_jinja_node *a,
		   struct bmi_jinja_node *b, struct bmi_jinja_node **ret);
int bmi_jinja_constant(struct bmi_jinja_parser *p, struct bmi_jv v, struct bmi_jinja_node **ret);
int bmi_jinja_parse_body(struct bmi_jinja_parser *p, const char *const *ends, struct bmi_jinja_node **ret);
int bmi_jinja_node(struct bmi_jinja_parser *p, enum bmi_jinja_kind kind, struct bmi_jinja_node **ret);
int bmi_jinja_child(struct bmi_jinja_parser *p, struct bmi_jinja_node *node, struct bmi_jinja_node *child);
bool bmi_jinja_is_op(const struct bmi_jinja_token *t, const char *op);
bool bmi_jinja_is_name(const struct bmi_jinja_token *t, const char *name);
int bmi_jinja_expect_op(struct bmi_jinja_parser *p, const char *op);
int bmi_jinja_unexpected(struct bmi_jinja_parser *p, const char *wanted);
int bmi_jinja_enter(struct bmi_jinja_parser *p);

/* ---- a rendering ---- */

struct bmi_jinja_run {
	struct bmi_arena *arena;
	size_t mem;
	uint64_t steps;
	size_t printed;
	unsigned depth, line;
	int64_t now;
	struct bmi_str *out;
	struct bmi_jinja_scope *scope;
	struct bmi_jv capture; /* for BMI_JN_CAPTURE */
	enum { BMI_JF_NONE, BMI_JF_BREAK, BMI_JF_CONTINUE } flow;
	struct bmi_error *err;
};

struct bmi_jv_args {
	const char *what; /* "filter 'join'": for the sentence */
	unsigned n, n_kw;
	struct bmi_jv *at; /* n positional, then n_kw named */
	const char *const *names;
};

/* jinja_value.c */
int bmi_jx_fail(struct bmi_jinja_run *x, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
int bmi_jx_step(struct bmi_jinja_run *x, size_t bytes);
int bmi_jx_alloc(struct bmi_jinja_run *x, size_t n, void *ret_ptr); /* a pointer to a pointer */
int bmi_jx_str(struct bmi_jinja_run *x, const char *s, size_t n, struct bmi_jv *ret); /* a copy */
int bmi_jx_take(struct bmi_jinja_run *x, struct bmi_str *s, struct bmi_jv *ret); /* a copy of a finished string */
int bmi_jx_list(struct bmi_jinja_run *x, enum bmi_jv_kind kind, size_t cap, struct bmi_jv *ret);
int bmi_jx_push(struct bmi_jinja_run *x, struct bmi_jv_list *l, const struct bmi_jv *v);
int bmi_jx_dict(struct bmi_jinja_run *x, struct bmi_jv *ret);
int bmi_jx_put(struct bmi_jinja_run *x, struct bmi_jv_dict *d, const struct bmi_jv *key,
	       const struct bmi_jv *v);
int bmi_jx_get(struct bmi_jinja_run *x, const struct bmi_jv_dict *d, const struct bmi_jv *key,
	       struct bmi_jv **ret);
int bmi_jx_from_json(struct bmi_jinja_run *x, const struct bmi_json *j, struct bmi_jv *ret);
int bmi_jx_iter(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv_list **ret);
bool bmi_jv_true(const struct bmi_jv *v);
bool bmi_jv_is_list(const struct bmi_jv *v); /* anything kept as a list */
const char *bmi_jv_type(const struct bmi_jv *v);

static inline struct bmi_jv bmi_jv_lit(const char *s, size_t n)
{
	return (struct bmi_jv){ .kind = BMI_JV_STR, .n = n, .s = s };
}

static inline struct bmi_jv bmi_jv_bool(bool b)
{
	return (struct bmi_jv){ .kind = BMI_JV_BOOL, .b = b };
}

static inline struct bmi_jv bmi_jv_int(int64_t i)
{
	return (struct bmi_jv){ .kind = BMI_JV_INT, .i = i };
}

static inline struct bmi_jv bmi_jv_float(double f)
{
	return (struct bmi_jv){ .kind = BMI_JV_FLOAT, .f = f };
}

/* jinja_order.c: what == and < say */
int bmi_jx_eq(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, bool *ret);
int bmi_jx_cmp(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, int *ret);
int bmi_jx_in(struct bmi_jinja_run *x, const struct bmi_jv *a, const struct bmi_jv *b, bool *ret);
int bmi_jx_sort(struct bmi_jinja_run *x, struct bmi_jv *keys, struct bmi_jv *values, size_t n, bool reverse);

/* jinja_print.c: str(), repr() and json.dumps() */
int bmi_jx_print(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *ret);
int bmi_jx_to_str(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret);
int bmi_jx_to_json(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *args,
		   struct bmi_jv *ret);
int bmi_jx_put_float(struct bmi_str *s, double f);
int bmi_jx_escape(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret); /* markupsafe.escape() */

/* jinja_text.c: Python's str */
bool bmi_py_is_space(uint32_t c);
size_t bmi_py_len(const char *s, size_t n);
size_t bmi_py_offset(const char *s, size_t n, size_t chars); /* bytes that many characters take */
void bmi_py_strip(const char **s, size_t *n, const struct bmi_jv *chars,
		  int sides); /* 1 left, 2 right; chars NULL: white space */
int bmi_py_case(struct bmi_jinja_run *x, const struct bmi_jv *v, char how,
		struct bmi_jv *ret); /* u l c t(itle) T(jinja) */
int bmi_py_replace(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *from,
		   const struct bmi_jv *to, int64_t count, struct bmi_jv *ret);
int bmi_py_join(struct bmi_jinja_run *x, const struct bmi_jv *sep, const struct bmi_jv_list *l, bool strict,
		struct bmi_jv *ret);
int bmi_py_splitlines(struct bmi_jinja_run *x, const struct bmi_jv *v, bool keep, struct bmi_jv *ret);
int bmi_py_slice(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv bounds[3],
		 struct bmi_jv *ret);
int bmi_py_chars(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret);

/* jinja_bind.c: arguments to parameters. @spec: "old,new,count". Missing ones become BMI_JV_MISSING. */
int bmi_jx_bind(struct bmi_jinja_run *x, const struct bmi_jv_args *a, const char *spec, unsigned need,
		struct bmi_jv *ret);
int bmi_jx_want_int(struct bmi_jinja_run *x, const char *what, const struct bmi_jv *v, int64_t otherwise,
		    int64_t *ret);

/* jinja_expr.c */
int bmi_jx_eval(struct bmi_jinja_run *x, const struct bmi_jinja_node *n, struct bmi_jv *ret);
int bmi_jx_attr(struct bmi_jinja_run *x, const struct bmi_jv *v, const char *name, struct bmi_jv *ret);
int bmi_jx_item(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv *key, struct bmi_jv *ret);
int bmi_jx_binary(struct bmi_jinja_run *x, int op, const struct bmi_jv *a, const struct bmi_jv *b,
		  struct bmi_jv *ret);

/* jinja_call.c, jinja_method.c, jinja_filter.c, jinja_pick.c, jinja_test.c */
int bmi_jx_call(struct bmi_jinja_run *x, const struct bmi_jv *f, const struct bmi_jv_args *a,
		struct bmi_jv *ret);
bool bmi_jx_is_global(const char *name);
int bmi_jx_method(struct bmi_jinja_run *x, const struct bmi_jv *self, const char *name,
		  const struct bmi_jv_args *a, struct bmi_jv *ret);
bool bmi_jx_has_method(const struct bmi_jv *self, const char *name, bool *ret_known, bool *ret_barred);
int bmi_jx_filter(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		  const struct bmi_jv_args *a, struct bmi_jv *ret);
int bmi_jx_pick(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		const struct bmi_jv_args *a, struct bmi_jv *ret);
bool bmi_jx_is_filter(const char *name);
bool bmi_jx_is_pick(const char *name);
int bmi_jx_test(struct bmi_jinja_run *x, const char *name, const struct bmi_jv *v,
		const struct bmi_jv_args *a, bool *ret);
bool bmi_jx_is_test(const char *name);

/* jinja_exec.c */
int bmi_jx_exec(struct bmi_jinja_run *x, const struct bmi_jinja_node *n);
int bmi_jx_macro(struct bmi_jinja_run *x, const struct bmi_jv_macro *m, const struct bmi_jv_args *a,
		 struct bmi_jv *ret);
int bmi_jx_find(struct bmi_jinja_run *x, const char *name, size_t n, struct bmi_jv *ret);
int bmi_jx_assign(struct bmi_jinja_run *x, const struct bmi_jinja_node *target, const struct bmi_jv *v);

#endif

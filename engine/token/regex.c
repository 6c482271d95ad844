/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to PCRE2. Owns compiled patterns and the scratch to match them; does not know what a match
 * is for. Invariant: subjects are valid UTF-8 and @from is on a character boundary, which is why
 * PCRE2_NO_UTF_CHECK is safe (its own check is of the whole subject in every call, which makes a megabyte
 * take minutes). Where machine code is refused (hardened kernels) the interpreter is used; both stop at the
 * same limits.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "token/regex.h"

#include <errno.h>
#include <pcre2.h>
#include <stdlib.h>

enum {
	MATCH_LIMIT = 10 * 1000 * 1000, /* PCRE2's default: a match that backtracks more is an attack */
	DEPTH_LIMIT = 1000 * 1000,
	HEAP_LIMIT_KIB = 64 * 1024,
	JIT_STACK = 32 * 1024,
	JIT_STACK_MAX = 1024 * 1024,
};

struct bmi_tok_regex {
	pcre2_code *code;
	bool jit;
};

struct bmi_tok_rematch {
	pcre2_match_data *data;
	pcre2_match_context *ctx;
	pcre2_jit_stack *stack;
};

int bmi_tok_regex_new(const char *pattern, size_t n, struct bmi_tok_regex **ret, struct bmi_error *err)
{
	bmi_auto(bmi_tok_regex) re = calloc(1, sizeof(*re));
	bmi_auto_str text = { 0 };
	pcre2_compile_context *ctx;
	PCRE2_UCHAR why[128];
	PCRE2_SIZE off;
	int r, code;

	if (!re)
		return bmi_fail(err, -ENOMEM, "no memory for a pattern");
	r = bmi_tok_onig_translate(pattern, n, &text, err);
	if (r < 0)
		return r;
	ctx = pcre2_compile_context_create(NULL);
	if (!ctx)
		return bmi_fail(err, -ENOMEM, "no memory for a pattern");
	pcre2_set_newline(ctx, PCRE2_NEWLINE_LF); /* the default depends on how the library was built */
	re->code = pcre2_compile((PCRE2_SPTR)(text.n ? text.bytes : ""), text.n,
				 PCRE2_UTF | PCRE2_UCP | PCRE2_NO_UTF_CHECK | PCRE2_MULTILINE |
					 PCRE2_NEVER_BACKSLASH_C,
				 &code, &off, ctx);
	pcre2_compile_context_free(ctx);
	if (!re->code && code == PCRE2_ERROR_HEAP_FAILED)
		return bmi_fail(err, -ENOMEM, "no memory for a pattern");
	if (!re->code) {
		pcre2_get_error_message(code, why, sizeof(why));
		return bmi_fail(err, -EOPNOTSUPP, "pattern cannot be compiled: %s", (const char *)why);
	}
	re->jit = pcre2_jit_compile(re->code, PCRE2_JIT_COMPLETE) == 0;
	*ret = bmi_steal(&re);
	return 0;
}

void bmi_tok_regex_free(struct bmi_tok_regex *re)
{
	if (!re)
		return;
	pcre2_code_free(re->code);
	free(re);
}

struct bmi_tok_rematch *bmi_tok_rematch_new(void)
{
	bmi_auto(bmi_tok_rematch) m = calloc(1, sizeof(*m));

	if (!m)
		return NULL;
	m->data = pcre2_match_data_create(1, NULL);
	m->ctx = pcre2_match_context_create(NULL);
	m->stack = pcre2_jit_stack_create(JIT_STACK, JIT_STACK_MAX,
					  NULL); /* NULL: the machine stack's 32 KiB do */
	if (!m->data || !m->ctx)
		return NULL;
	pcre2_set_match_limit(m->ctx, MATCH_LIMIT);
	pcre2_set_depth_limit(m->ctx, DEPTH_LIMIT);
	pcre2_set_heap_limit(m->ctx, HEAP_LIMIT_KIB);
	pcre2_jit_stack_assign(m->ctx, NULL, m->stack);
	return bmi_steal(&m);
}

void bmi_tok_rematch_free(struct bmi_tok_rematch *m)
{
	if (!m)
		return;
	pcre2_match_data_free(m->data);
	pcre2_match_context_free(m->ctx);
	pcre2_jit_stack_free(m->stack);
	free(m);
}

int bmi_tok_regex_find(const struct bmi_tok_regex *re, struct bmi_tok_rematch *m, const char *s, size_t n,
		       size_t from, size_t *ret_start, size_t *ret_end)
{
	int r = PCRE2_ERROR_JIT_STACKLIMIT;
	PCRE2_SIZE *at;

	if (re->jit)
		r = pcre2_jit_match(re->code, (PCRE2_SPTR)s, n, from, 0, m->data, m->ctx);
	if (r == PCRE2_ERROR_JIT_STACKLIMIT) /* the interpreter's stack is on the heap and larger */
		r = pcre2_match(re->code, (PCRE2_SPTR)s, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, m->data,
				m->ctx);
	if (r == PCRE2_ERROR_NOMATCH)
		return 0;
	if (r == PCRE2_ERROR_NOMEMORY)
		return -ENOMEM;
	if (r < 0)
		return -E2BIG;
	at = pcre2_get_ovector_pointer(m->data);
	*ret_start = at[0];
	*ret_end = at[1];
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_REGEX_H
#define BMI_TOKEN_REGEX_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>

/* A compiled pattern: shared by threads. */
struct bmi_tok_regex;

/* What one thread needs to match: created once, used for any pattern. */
struct bmi_tok_rematch;

/**
 * bmi_tok_regex_new() - compile a pattern as Oniguruma (Ruby syntax, UTF-8) would understand it.
 * @pattern: @n bytes of valid UTF-8.
 *
 * Return: 0, -EOPNOTSUPP (not a pattern PCRE2 can be made to match in the same way; says which part),
 * -ENOMEM.
 */
int bmi_tok_regex_new(const char *pattern, size_t n, struct bmi_tok_regex **ret, struct bmi_error *err);
void bmi_tok_regex_free(struct bmi_tok_regex *re);
BMI_AUTO(bmi_tok_regex)

/** bmi_tok_rematch_new() - NULL when memory is short. */
struct bmi_tok_rematch *bmi_tok_rematch_new(void);
void bmi_tok_rematch_free(struct bmi_tok_rematch *m);
BMI_AUTO(bmi_tok_rematch)

/**
 * bmi_tok_regex_find() - the first match in valid UTF-8 @s[0..n) that begins at @from or later.
 * @ret_start, @ret_end: set on a match; byte offsets into @s.
 *
 * Return: 1 found, 0 none, -E2BIG (past the match limits), -ENOMEM.
 */
int bmi_tok_regex_find(const struct bmi_tok_regex *re, struct bmi_tok_rematch *m, const char *s, size_t n,
		       size_t from, size_t *ret_start, size_t *ret_end);

/**
 * bmi_tok_onig_translate() - rewrite an Oniguruma pattern for PCRE2 with UTF, UCP and MULTILINE.
 * @ret: the pattern is appended.
 *
 * The two differ in: \s (PCRE2 adds U+180E), \w and \b, \h, \u, {,n}, {n,m}+, (?m), scripts in \p{} (PCRE2
 * takes script extensions). Constructs that cannot be carried over are refused: && and nested sets, POSIX
 * brackets, \W in a set, \Q.
 *
 * Return: 0, -EOPNOTSUPP, -ENOMEM.
 */
int bmi_tok_onig_translate(const char *pattern, size_t n, struct bmi_str *ret, struct bmi_error *err);

#endif

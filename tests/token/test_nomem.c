/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory runs out at the first, second, third ... allocation of our own code: everything either works or says -ENOMEM, leaks
 * nothing (seen by ASan) and leaves the ids as they were. One case a tokenizer, in the order open, encode, decode.
 */
#include "token/fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);

static long left = -1; /* allocations until one fails; negative: never */

static bool fails(void)
{
	return left >= 0 && left-- == 0;
}

void *__wrap_malloc(size_t n)
{
	return fails() ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return fails() ? NULL : __real_calloc(n, size);
}

void *__wrap_realloc(void *p, size_t n)
{
	return fails() ? NULL : __real_realloc(p, n);
}

/* Return: 0, or the first error, which must be -ENOMEM. */
static int run(const char *json, size_t n, const char *text, size_t n_text)
{
	bmi_auto(bmi_tok) tok = NULL;
	bmi_auto(bmi_detok) d = NULL;
	bmi_auto_ids ids = { 0 };
	bmi_auto_str out = { 0 };
	struct bmi_error err = { 0 };
	int r = bmi_tok_open_json(json, n, &tok, &err);

	if (r < 0)
		return tok ? -EINVAL : r;
	r = bmi_tok_encode(tok, text, n_text, BMI_TOK_PARSE_SPECIAL | BMI_TOK_ADD_SPECIAL, &ids, &err);
	if (r < 0)
		return ids.n ? -EINVAL : r;
	r = bmi_tok_decode(tok, ids.ids, ids.n, /* skip_special= */ true, &out);
	if (r < 0)
		return r;
	d = bmi_detok_new(tok, /* skip_special= */ false);
	if (!d)
		return -ENOMEM;
	out.n = 0;
	for (size_t i = 0; r == 0 && i < ids.n; i++)
		r = bmi_detok_push(d, ids.ids[i], &out);
	return r < 0 ? r : bmi_detok_flush(d, &out);
}

static void test_one(void **state)
{
	static const char line[] = "Hello <|im_end|> w\xc3\xb6rld <s>e\xcc\x81 don't word 123\n\n";
	char path[4096];
	size_t n = 0;
	char *json;
	bmi_auto_str text = { 0 };
	long k = 0;
	int r = -ENOMEM;

	for (int i = 0; i < 80; i++) /* long enough for the cache of words */
		bmi_str_puts(&text, line);
	snprintf(path, sizeof(path), "%s/%s/tokenizer.json", TOKENIZERS, (const char *)*state);
	json = read_file(path, &n);
	assert_non_null(json);
	for (; r == -ENOMEM && k < 100000; k++) {
		left = k;
		r = run(json, n, text.bytes, text.n);
		if (left >= 0) /* there was no k-th allocation: all of them were tried */
			break;
		if (r == 0) /* something that can be done without */
			r = -ENOMEM;
	}
	left = -1;
	print_message("# %ld allocations\n", k);
	assert_int_equal(r, 0);
	assert_true(k > 20);
	free(json);
}

int main(void)
{
	static const char *const names[] = { "mini-neox-added", "mini-spm-prepend", "mini-unigram",
					     "mini-qwen2-nfc" };
	struct CMUnitTest tests[BMI_ARRAY_LEN(names)] = { 0 };

	for (size_t i = 0; i < BMI_ARRAY_LEN(names); i++)
		tests[i] = (struct CMUnitTest){ names[i], test_one, NULL, NULL, (void *)(uintptr_t)names[i] };
	return _cmocka_run_group_tests("no memory", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

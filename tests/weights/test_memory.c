/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory that runs short: every allocation of opening and binding fails once, in turn. Each time the answer is -ENOMEM with
 * a sentence and nothing leaks (ASan sees that); when none fails any more the answer is 0.
 */
#include "arch/arch.h"
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <dirent.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

void *__real_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__real_realloc(void *p, size_t n);
void *__real_reallocarray(void *p, size_t n, size_t size);
void *__wrap_malloc(size_t n);
void *__wrap_calloc(size_t n, size_t size);
void *__wrap_realloc(void *p, size_t n);
void *__wrap_reallocarray(void *p, size_t n, size_t size);

static long countdown = -1; /* calls until one fails; negative: none does */

static bool fails(void)
{
	return countdown >= 0 && countdown-- == 0;
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

void *__wrap_reallocarray(void *p, size_t n, size_t size)
{
	return fails() ? NULL : __real_reallocarray(p, n, size);
}

static unsigned count_fds(void)
{
	DIR *dir = opendir("/proc/self/fd");
	unsigned n = 0;

	assert_non_null(dir);
	while (readdir(dir))
		n++;
	closedir(dir);
	return n;
}

static int open_and_bind(const char *path, const struct bmi_skel *skel, struct bmi_error *err)
{
	const struct bmi_ckpt_tensor *const *of = NULL;
	struct bmi_ckpt *ckpt = NULL;
	int r = bmi_ckpt_open(path, true, &ckpt, err);

	if (r == 0 && skel)
		r = bmi_ckpt_bind(ckpt, skel, &of, err);
	free((void *)(uintptr_t)of);
	bmi_ckpt_close(ckpt);
	return r;
}

static void every_allocation(const char *path, const struct bmi_skel *skel)
{
	const unsigned n_fds = count_fds();
	unsigned tried = 0;
	int r;

	do {
		struct bmi_error err = { 0 };

		countdown = tried++;
		r = open_and_bind(path, skel, &err);
		if (r < 0) {
			assert_int_equal(r, -ENOMEM);
			assert_int_equal(err.code, -ENOMEM);
			assert_true(err.msg[0] != 0);
		}
		assert_int_equal(count_fds(), n_fds);
	} while (r < 0 || countdown < 0);
	countdown = -1;
	assert_true(tried > 10);
	print_message("# %u allocations\n", tried - 1);
}

static void test_safetensors(void **state)
{
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_config *cfg = NULL;
	struct bmi_skel *skel = NULL;
	const char *path = TEST_DATA "/tiny/gemma3";

	(void)state;
	assert_int_equal(bmi_ckpt_open(path, true, &ckpt, NULL), 0);
	assert_int_equal(bmi_config_read(bmi_ckpt_config(ckpt), bmi_arch_find, &cfg, NULL), 0);
	assert_int_equal(bmi_skel_build(cfg, &skel, NULL), 0);
	every_allocation(path, skel);
	bmi_skel_free(skel);
	bmi_config_free(cfg);
	bmi_ckpt_close(ckpt);
}

static void test_index(void **state)
{
	struct dir d;

	(void)state;
	dir_make(&d);
	dir_puts(&d, "config.json", "{}");
	dir_puts(&d, "generation_config.json", "{}");
	dir_put_st(&d, "x", "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
	dir_put_st(&d, "y", "{\"b\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}", 8);
	dir_puts(&d, "model.safetensors.index.json",
		 "{\"metadata\":{\"dtype\":\"float32\"},\"weight_map\":{\"a\":\"x\",\"b\":\"y\"}}");
	every_allocation(d.path, NULL);
	dir_remove(&d);
}

static void test_gguf(void **state)
{
	(void)state;
	every_allocation(TEST_DATA "/tiny-gguf/llama3-rope.gguf", NULL);
}

static void test_gguf_directory(void **state)
{
	bmi_auto_str s = { 0 };
	struct dir d;

	(void)state;
	put_llama(&s);
	dir_make(&d);
	dir_put(&d, "m-00001-of-00001.gguf", s.bytes, s.n);
	every_allocation(d.path, NULL);
	dir_remove(&d);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_safetensors),
		cmocka_unit_test(test_index),
		cmocka_unit_test(test_gguf),
		cmocka_unit_test(test_gguf_directory),
	};

	return cmocka_run_group_tests_name("memory that runs short", tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Strings, error sentences, arenas, checked arithmetic and hashes. */
#include "base/arena.h"
#include "base/checked.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void test_str_grows(void **state)
{
	bmi_auto_str s = { 0 };

	for (unsigned i = 0; i < 100000; i++)
		assert_int_equal(bmi_str_printf(&s, "%u,", i % 10), 0);
	assert_int_equal(s.n, 200000);
	assert_memory_equal(s.bytes + 2 * 77777, "7,8,9,0,", 8);
	assert_int_equal(s.bytes[s.n], 0);
	assert_int_equal(strlen(s.bytes), s.n);
}

static void test_str_bytes(void **state)
{
	bmi_auto_str s = { 0 };

	bmi_str_put(&s, "a\0b", 3);
	bmi_str_put(&s, NULL, 0);
	bmi_str_puts(&s, "");
	assert_int_equal(s.n, 3);
	assert_memory_equal(s.bytes, "a\0b", 4);
	bmi_str_fini(&s);
	assert_null(s.bytes);
	bmi_str_fini(&s);
}

static void test_str_refuses_absurd(void **state)
{
	bmi_auto_str s = { 0 };

	bmi_str_puts(&s, "kept");
	assert_int_equal(bmi_str_put(&s, "x", SIZE_MAX / 2), -ENOMEM);
	assert_false(bmi_str_ok(&s));
	assert_string_equal(s.bytes, "kept");
	assert_int_equal(bmi_str_puts(&s, "later"), -ENOMEM); /* failed stays failed: no text with a hole */
	assert_string_equal(s.bytes, "kept");
}

static void test_error_sentence(void **state)
{
	struct bmi_error err;

	assert_int_equal(bmi_fail(&err, -EINVAL, "tensor %d: offset %u past end", 12, 4096u), -EINVAL);
	assert_string_equal(err.msg, "tensor 12: offset 4096 past end");
	assert_int_equal(bmi_note(&err, -EINVAL, "'%s'", "a.gguf"), -EINVAL);
	assert_string_equal(err.msg, "'a.gguf': tensor 12: offset 4096 past end");
	assert_int_equal(err.code, -EINVAL);
	assert_int_equal(bmi_fail_errno(&err, -ENOENT, "open '%s'", "x"), -ENOENT);
	assert_string_equal(err.msg, "open 'x': No such file or directory");
}

static void test_error_null(void **state)
{
	assert_int_equal(bmi_fail(NULL, -EIO, "x"), -EIO);
	assert_int_equal(bmi_fail_errno(NULL, -EIO, "x"), -EIO);
	assert_int_equal(bmi_note(NULL, -EIO, "x"), -EIO);
}

/* Sentences that do not fit are cut, never overrun, and always end. */
static void test_error_long(void **state)
{
	static char big[3 * BMI_ERROR_MSG_MAX];
	struct bmi_error err;

	memset(big, 'b', sizeof(big) - 1);
	bmi_fail(&err, -EINVAL, "%s", big);
	assert_int_equal(strlen(err.msg), BMI_ERROR_MSG_MAX - 1);
	bmi_note(&err, -EIO, "%s", big);
	assert_int_equal(strlen(err.msg), BMI_ERROR_MSG_MAX - 1);
	for (unsigned i = 0; i < 100; i++)
		bmi_note(&err, -EIO, "layer %u", i);
	assert_int_equal(strlen(err.msg), BMI_ERROR_MSG_MAX - 1);
	assert_memory_equal(err.msg, "layer 99: layer 98: ", 20);
	bmi_fail_errno(&err, -EIO, "%s", big);
	assert_int_equal(strlen(err.msg), BMI_ERROR_MSG_MAX - 1);
}

static void test_arena_alignment(void **state)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();

	for (size_t size = 0; size < 5000; size += 7) {
		unsigned char *p = bmi_arena_alloc(arena, size);

		assert_non_null(p);
		assert_int_equal((uintptr_t)p % 16, 0);
		for (size_t i = 0; i < size; i++)
			assert_int_equal(p[i], 0);
		memset(p, 0xa5, size); /* would show in the next one if they overlapped */
	}
}

static void test_arena_big(void **state)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	char *small = bmi_arena_alloc(arena, 16), *big = bmi_arena_alloc(arena, 10 << 20);

	assert_non_null(big);
	memset(big, 1, 10 << 20);
	assert_int_equal(small[0], 0);
	assert_null(bmi_arena_alloc(arena, SIZE_MAX));
	assert_null(bmi_arena_alloc(arena, SIZE_MAX - 20));
	assert_null(bmi_arena_array(arena, SIZE_MAX / 2, 3));
	assert_null(bmi_arena_strndup(arena, "x", SIZE_MAX));
	assert_non_null(bmi_arena_array(arena, 0, 8));
	bmi_arena_free(NULL);
}

static void test_arena_strings(void **state)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();

	assert_string_equal(bmi_arena_strndup(arena, "layers.12", 6), "layers");
	assert_string_equal(bmi_arena_printf(arena, "%s.%d", "layers", 12), "layers.12");
	assert_string_equal(bmi_arena_strndup(arena, NULL, 0), "");
}

static void test_checked(void **state)
{
	uint64_t x = 0;

	assert_true(bmi_add(UINT64_MAX - 1, 1, &x) && x == UINT64_MAX);
	assert_false(bmi_add(UINT64_MAX, 1, &x));
	assert_true(bmi_mul(1ull << 32, (1ull << 32) - 1, &x) && x == UINT64_MAX - 0xffffffffull);
	assert_false(bmi_mul(1ull << 32, 1ull << 32, &x));
	assert_true(bmi_mul(0, UINT64_MAX, &x) && x == 0);
	assert_true(bmi_align_up(0, 32) == 0 && bmi_align_up(1, 32) == 32 && bmi_align_up(32, 32) == 32);
}

/* Known answers of XXH3 from its own documentation: an empty input without a seed. */
static void test_hash(void **state)
{
	const struct bmi_hash128 h = bmi_hash128("", 0);

	assert_true(bmi_hash64("", 0, 0) == 0x2d06800538d394c2ull);
	assert_true(h.hi == 0x99aa06d3014798d8ull && h.lo == 0x6001c324468d497full);
	assert_true(bmi_hash64("a", 1, 0) != bmi_hash64("a", 1, 1));
	assert_true(bmi_hash64("a", 1, 0) != bmi_hash64("b", 1, 0));
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_str_grows),
		cmocka_unit_test(test_str_bytes),
		cmocka_unit_test(test_str_refuses_absurd),
		cmocka_unit_test(test_error_sentence),
		cmocka_unit_test(test_error_null),
		cmocka_unit_test(test_error_long),
		cmocka_unit_test(test_arena_alignment),
		cmocka_unit_test(test_arena_big),
		cmocka_unit_test(test_arena_strings),
		cmocka_unit_test(test_checked),
		cmocka_unit_test(test_hash),
	};

	return cmocka_run_group_tests_name("text", tests, NULL, NULL);
}

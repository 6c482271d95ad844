/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Element types: sizes of blocks, and the float conversions. Halves are checked exhaustively against ldexp(); rounding to
 * a half against the rule itself: the nearest of two neighbours, the even one on a tie.
 */
#include "base/dtype.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

static uint32_t bits_of(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	return bits;
}

static float float_of(uint32_t bits)
{
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* The value of a finite half from its fields: IEEE 754-2008, 3.4. */
static double half_value(uint16_t h)
{
	const int exp = (h >> 10) & 31, man = h & 0x3ff;
	const double mag = exp ? ldexp(1024 + man, exp - 25) : ldexp(man, -24);

	return h & 0x8000 ? -mag : mag;
}

static void test_f16_values(void **state)
{
	for (uint32_t h = 0; h < 0x10000; h++) {
		const float f = bmi_f32_from_f16((uint16_t)h);

		if ((h & 0x7c00) != 0x7c00) {
			assert_true((double)f == half_value((uint16_t)h));
			assert_int_equal(signbit(f) != 0, h >> 15);
		} else if (h & 0x3ff) {
			assert_true(isnan(f));
		} else {
			assert_true(isinf(f) && (signbit(f) != 0) == (h >> 15));
		}
	}
}

static void test_f16_round_trip(void **state)
{
	for (uint32_t h = 0; h < 0x10000; h++) {
		const uint16_t back = bmi_f16_from_f32(bmi_f32_from_f16((uint16_t)h));

		if ((h & 0x7c00) == 0x7c00 && (h & 0x3ff))
			assert_true((back & 0x7c00) == 0x7c00 && (back & 0x3ff));
		else
			assert_int_equal(back, h);
	}
}

/* Between each two neighbouring halves: the middle goes to the even one, one float above or below it to its side. */
static void test_f16_rounding(void **state)
{
	for (uint32_t h = 0; h < 0x7c00; h++) {
		/* 65504 is followed by 2^16 where the format would go on: IEEE rounds to infinity from the middle on */
		const double lo = half_value((uint16_t)h),
			     hi = h == 0x7bff ? 65536 : half_value((uint16_t)(h + 1));
		const float mid = (float)((lo + hi) / 2); /* 12 significant bits: exact */
		const uint16_t even = (uint16_t)(h & 1 ? h + 1 : h);

		assert_int_equal(bmi_f16_from_f32(mid), even);
		assert_int_equal(bmi_f16_from_f32(nextafterf(mid, 0)), h);
		assert_int_equal(bmi_f16_from_f32(nextafterf(mid, INFINITY)), h + 1);
		assert_int_equal(bmi_f16_from_f32(-mid), even | 0x8000);
	}
}

static void test_f16_extremes(void **state)
{
	assert_int_equal(bmi_f16_from_f32(INFINITY), 0x7c00);
	assert_int_equal(bmi_f16_from_f32(-INFINITY), 0xfc00);
	assert_int_equal(bmi_f16_from_f32(3.4e38f), 0x7c00);
	assert_int_equal(bmi_f16_from_f32(float_of(1)), 0); /* the smallest float */
	assert_int_equal(bmi_f16_from_f32(float_of(0x80000001)), 0x8000);
	assert_int_equal(bmi_f16_from_f32(NAN) & 0x7fff, 0x7e00);
	assert_int_equal(bmi_f16_from_f32(float_of(0x7f800001)) & 0x7e00, 0x7e00); /* a signalling NaN stays NaN */
}

static void test_bf16_round_trip(void **state)
{
	for (uint32_t h = 0; h < 0x10000; h++) {
		const float f = bmi_f32_from_bf16((uint16_t)h);
		const uint16_t back = bmi_bf16_from_f32(f);

		assert_int_equal(bits_of(f), h << 16);
		if (isnan(f))
			assert_int_equal(back, h | 0x40);
		else
			assert_int_equal(back, h);
	}
}

static void test_bf16_rounding(void **state)
{
	for (uint32_t h = 0; h < 0x7f80; h++) { /* 0x7f80 is infinity: where rounding up from the largest ends */
		const uint32_t mid = h << 16 | 0x8000;

		assert_int_equal(bmi_bf16_from_f32(float_of(mid)), h & 1 ? h + 1 : h);
		assert_int_equal(bmi_bf16_from_f32(float_of(mid - 1)), h);
		assert_int_equal(bmi_bf16_from_f32(float_of(mid + 1)), h + 1);
		assert_int_equal(bmi_bf16_from_f32(float_of(mid | 0x80000000)), (h & 1 ? h + 1 : h) | 0x8000);
	}
}

/* A NaN whose payload sits in the low bits only must not become infinity. */
static void test_bf16_nan(void **state)
{
	assert_true(isnan(bmi_f32_from_bf16(bmi_bf16_from_f32(float_of(0x7f800001)))));
	assert_true(isnan(bmi_f32_from_bf16(bmi_bf16_from_f32(float_of(0xffffffff)))));
}

static void test_bytes(void **state)
{
	static const struct {
		enum bmi_dtype dtype;
		uint64_t n, bytes;
		bool ok;
	} cases[] = {
		{ BMI_F32, 3, 12, true },
		{ BMI_BF16, 0, 0, true },
		{ BMI_F64, 5, 40, true },
		{ BMI_BOOL, 7, 7, true },
		{ BMI_Q4_0, 64, 36, true },
		{ BMI_Q4_1, 32, 20, true },
		{ BMI_Q5_0, 32, 22, true },
		{ BMI_Q5_1, 32, 24, true },
		{ BMI_Q8_0, 32, 34, true },
		{ BMI_Q4_K, 256, 144, true },
		{ BMI_Q5_K, 512, 352, true },
		{ BMI_Q6_K, 256, 210, true },
		{ BMI_Q4_0, 33, 0, false }, /* not whole blocks */
		{ BMI_Q6_K, 32, 0, false },
		{ BMI_F32, UINT64_MAX / 4 + 1, 0, false }, /* 2^64 bytes */
		{ BMI_F32, UINT64_MAX / 4, UINT64_MAX - 3, true },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		uint64_t bytes = 0;

		assert_int_equal(bmi_dtype_bytes(cases[i].dtype, cases[i].n, &bytes), cases[i].ok);
		if (cases[i].ok)
			assert_true(bytes == cases[i].bytes);
	}
}

static void test_names(void **state)
{
	for (int i = 0; i < BMI_N_DTYPES; i++) {
		assert_non_null(bmi_dtype_name((enum bmi_dtype)i));
		for (int j = 0; j < i; j++)
			assert_string_not_equal(bmi_dtype_name((enum bmi_dtype)i),
						bmi_dtype_name((enum bmi_dtype)j));
	}
	assert_string_equal(bmi_dtype_name(BMI_BF16), "bfloat16");
	assert_true(bmi_dtype_info(BMI_F16)->is_floating && !bmi_dtype_info(BMI_Q8_0)->is_floating);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_f16_values),      cmocka_unit_test(test_f16_round_trip),
		cmocka_unit_test(test_f16_rounding),    cmocka_unit_test(test_f16_extremes),
		cmocka_unit_test(test_bf16_round_trip), cmocka_unit_test(test_bf16_rounding),
		cmocka_unit_test(test_bf16_nan),        cmocka_unit_test(test_bytes),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("dtype", tests, NULL, NULL);
}

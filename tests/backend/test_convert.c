/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Conversions of stored elements: GGUF blocks against llama.cpp's own decoder (golden/quants.tsv, bit by bit), narrowing
 * against an exhaustive search of the nearest value, and the refusals. argv[1] is quants.tsv.
 */
#include "backend/cpu/cpu.h"
#include "base/cleanup.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

enum { LINE_MAX_BYTES = 64 << 10 };

static const char *golden;

static size_t from_hex(const char *hex, uint8_t *ret)
{
	size_t n = 0;
	unsigned byte;

	for (; sscanf(hex + 2 * n, "%2x", &byte) == 1; n++)
		ret[n] = (uint8_t)byte;
	return n;
}

/* The row of one type; false at a missing one. */
static bool golden_row(const char *type, uint8_t *ret_src, size_t *ret_n, float *ret_want)
{
	static char line[LINE_MAX_BYTES];
	FILE *f = fopen(golden, "r");
	bool found = false;

	assert_non_null(f);
	while (!found && fgets(line, sizeof(line), f)) {
		char *src = strchr(line, '\t'), *want = src ? strchr(src + 1, '\t') : NULL;

		if (line[0] == '#' || !want)
			continue;
		*src = *want = 0;
		found = strcmp(line, type) == 0;
		if (found) {
			from_hex(src + 1, ret_src);
			*ret_n = from_hex(want + 1, (uint8_t *)ret_want) / sizeof(float);
		}
	}
	fclose(f);
	return found;
}

static void check_quant(void **state)
{
	const enum bmi_dtype type = (enum bmi_dtype)(uintptr_t)*state;
	static uint8_t src[LINE_MAX_BYTES];
	static float want[8192], got[8192];
	static uint16_t half[8192];
	size_t n = 0;

	assert_true(golden_row(bmi_dtype_name(type), src + 1, &n, want));
	assert_true(n >= 96);
	assert_int_equal(bmi_cpu_convert(got, BMI_F32, src + 1, type, n), 0); /* off by one: any alignment */
	assert_memory_equal(got, want, n * sizeof(float));
	assert_int_equal(bmi_cpu_convert(half, BMI_BF16, src + 1, type, n), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(half[i], bmi_bf16_from_f32(want[i]));
	assert_int_equal(bmi_cpu_convert(half, BMI_F16, src + 1, type, n), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(half[i], bmi_f16_from_f32(want[i]));
	assert_int_equal(bmi_cpu_convert(got, BMI_F32, src + 1, type, n - 1), -EINVAL);
}

/* All 65536 halves widened; the midpoint of two neighbours, and one float to each side of it, must round as IEEE says. */
static void check_narrow(enum bmi_dtype type, uint16_t last_finite)
{
	for (uint32_t h = 0; h < last_finite; h++) {
		const uint16_t in[2] = { (uint16_t)h, (uint16_t)(h + 1) };
		float wide[2], probe[3];
		uint16_t out[3];
		double mid;

		assert_int_equal(bmi_cpu_convert(wide, BMI_F32, in, type, 2), 0);
		assert_true(wide[0] < wide[1]);
		mid = ((double)wide[0] + (double)wide[1]) / 2;
		probe[0] = nextafterf((float)mid, -1e38f);
		probe[1] = (float)mid;
		probe[2] = nextafterf((float)mid, INFINITY);
		assert_true((double)probe[1] == mid);
		assert_int_equal(bmi_cpu_convert(out, type, probe, BMI_F32, 3), 0);
		assert_int_equal(out[0], h);
		assert_int_equal(out[1], h + (h & 1));
		assert_int_equal(out[2], h + 1);
		for (int i = 0; i < 3; i++)
			probe[i] = -probe[i];
		assert_int_equal(bmi_cpu_convert(out, type, probe, BMI_F32, 3), 0);
		assert_int_equal(out[0], 0x8000 | h);
		assert_int_equal(out[1], 0x8000 | (h + (h & 1)));
		assert_int_equal(out[2], 0x8000 | (h + 1));
	}
}

static void narrows_to_bf16(void **state)
{
	check_narrow(BMI_BF16, 0x7f7f);
}

static void narrows_to_f16(void **state)
{
	check_narrow(BMI_F16, 0x7bff);
}

static void narrows_specials(void **state)
{
	const float in[] = { INFINITY, -INFINITY, NAN, 3.4028235e38f, 65520.0f, 65519.996f, 1e-30f, -0.0f };
	const uint16_t want_f16[] = { 0x7c00, 0xfc00, 0, 0x7c00, 0x7c00, 0x7bff, 0, 0x8000 };
	const uint16_t want_bf16[] = { 0x7f80, 0xff80, 0, 0x7f80, 0x4780, 0x4780, 0x0da2, 0x8000 };
	uint16_t f16[BMI_ARRAY_LEN(in)], bf16[BMI_ARRAY_LEN(in)];
	float back[BMI_ARRAY_LEN(in)];

	assert_int_equal(bmi_cpu_convert(f16, BMI_F16, in, BMI_F32, BMI_ARRAY_LEN(in)), 0);
	assert_int_equal(bmi_cpu_convert(bf16, BMI_BF16, in, BMI_F32, BMI_ARRAY_LEN(in)), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(in); i++) {
		if (i == 2)
			continue;
		assert_int_equal(f16[i], want_f16[i]);
		assert_int_equal(bf16[i], want_bf16[i]);
	}
	assert_int_equal(bmi_cpu_convert(back, BMI_F32, f16, BMI_F16, BMI_ARRAY_LEN(in)), 0);
	assert_true(isnan(back[2]) && isinf(back[0]) && back[7] == 0 && signbit(back[7]));
	assert_int_equal(bmi_cpu_convert(back, BMI_F32, bf16, BMI_BF16, BMI_ARRAY_LEN(in)), 0);
	assert_true(isnan(back[2]) && isinf(back[1]));
}

/* 1 + 2^-8 is the midpoint of two bfloat16; a hair above it that float32 cannot hold must still round up. */
static void rounds_doubles_once(void **state)
{
	const double in[] = { 1 + 0x1p-8, 1 + 0x1p-8 + 0x1p-40, -(1 + 0x1p-8 + 0x1p-40),
			      1 + 3 * 0x1p-8 - 0x1p-40, 1e300 };
	const uint16_t want[] = { 0x3f80, 0x3f81, 0xbf81, 0x3f81, 0x7f80 };
	float f[BMI_ARRAY_LEN(in)];
	uint16_t got[BMI_ARRAY_LEN(in)];

	assert_int_equal(bmi_cpu_convert(got, BMI_BF16, in, BMI_F64, BMI_ARRAY_LEN(in)), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(in); i++)
		assert_int_equal(got[i], want[i]);
	assert_int_equal(bmi_cpu_convert(f, BMI_F32, in, BMI_F64, BMI_ARRAY_LEN(in)), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(in); i++)
		assert_true(f[i] == (float)in[i]);
}

static void refuses(void **state)
{
	float dst[4] = { 0 };
	uint16_t half[4] = { 0 };

	assert_int_equal(bmi_cpu_convert(dst, BMI_F32, half, BMI_I16, 4), -EOPNOTSUPP);
	assert_int_equal(bmi_cpu_convert(dst, BMI_F32, half, BMI_BOOL, 4), -EOPNOTSUPP);
	assert_int_equal(bmi_cpu_convert(dst, BMI_I8, half, BMI_F16, 4), -EOPNOTSUPP);
	assert_int_equal(bmi_cpu_convert(dst, BMI_Q8_0, half, BMI_F16, 4), -EOPNOTSUPP);
	assert_int_equal(bmi_cpu_convert(dst, BMI_F32, half, BMI_Q8_0, 31), -EINVAL);
	assert_int_equal(bmi_cpu_convert(dst, BMI_F32, half, BMI_F16, 0), 0);
}

#define QUANT(type)                                                                      \
	{                                                                                \
		"decodes " #type, check_quant, NULL, NULL, (void *)(uintptr_t)BMI_##type \
	}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		QUANT(Q4_0),
		QUANT(Q4_1),
		QUANT(Q5_0),
		QUANT(Q5_1),
		QUANT(Q8_0),
		QUANT(Q4_K),
		QUANT(Q5_K),
		QUANT(Q6_K),
		cmocka_unit_test(narrows_to_bf16),
		cmocka_unit_test(narrows_to_f16),
		cmocka_unit_test(narrows_specials),
		cmocka_unit_test(rounds_doubles_once),
		cmocka_unit_test(refuses),
	};

	golden = argc > 1 ? argv[1] : "quants.tsv";
	return cmocka_run_group_tests(tests, NULL, NULL);
}

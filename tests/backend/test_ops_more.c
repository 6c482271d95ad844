/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The ops that only some families need, on every kernel set of this CPU, against sums in double; and that neither blocks
 * of rows nor threads show in a turned product's bits.
 */
#include "backend/cpu/cpu.h"
#include "base/cleanup.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { IN = 37, OUT = 1100, TOKENS = 3, HEADS = 4, KV_HEADS = 2, DIM = 24, KEYS = 70 };

static float noise(unsigned i)
{
	return (float)((int)(i * 2654435761u >> 16) - 32768) / 32768;
}

static float *numbers(size_t n, unsigned seed)
{
	float *x = malloc(n * sizeof(*x));

	assert_non_null(x);
	for (size_t i = 0; i < n; i++)
		x[i] = noise((unsigned)i + seed);
	return x;
}

static struct bmi_dev *open_cpu(const char *isa, unsigned n_threads)
{
	struct bmi_error err = { 0 };
	struct bmi_dev *dev;

	if (bmi_cpu_open(n_threads, isa, &dev, &err) < 0)
		fail_msg("%s", err.msg);
	return dev;
}

static void multiply(struct bmi_dev *dev, float *y, const float *w, const float *x, uint32_t split)
{
	const struct bmi_mat first = { w, BMI_F32, split, OUT, OUT * sizeof(float) };
	const struct bmi_mat rest = { w + (size_t)split * OUT, BMI_F32, IN - split, OUT, OUT * sizeof(float) };

	assert_int_equal(bmi_backend_cpu.ops->matmul_turned(dev, y, OUT, &first, x, IN, TOKENS, false), 0);
	if (split < IN)
		assert_int_equal(
			bmi_backend_cpu.ops->matmul_turned(dev, y, OUT, &rest, x + split, IN, TOKENS, true), 0);
}

static void test_matmul_turned(void **state)
{
	struct bmi_dev *one = open_cpu(*state, 1), *two = open_cpu(*state, 2);
	float *w = numbers((size_t)IN * OUT, 1), *x = numbers(TOKENS * IN, 77777);
	float *y = numbers(TOKENS * OUT, 3), *other = numbers(TOKENS * OUT, 4);

	multiply(one, y, w, x, IN);
	for (unsigned t = 0; t < TOKENS; t++)
		for (unsigned c = 0; c < OUT; c++) {
			double want = 0;

			for (unsigned r = 0; r < IN; r++)
				want += (double)x[t * IN + r] * w[(size_t)r * OUT + c];
			if (!(fabs(y[t * OUT + c] - want) < 1e-5))
				fail_msg("row %u column %u: %g, not %g", t, c, y[t * OUT + c], want);
		}
	multiply(two, other, w, x, 5);
	assert_memory_equal(y, other, TOKENS * OUT * sizeof(*y));
	free(w);
	free(x);
	free(y);
	free(other);
	bmi_backend_cpu.close(one);
	bmi_backend_cpu.close(two);
}

static void test_glu_pairs(void **state)
{
	struct bmi_dev *dev = open_cpu(*state, 1);
	float *x = numbers(TOKENS * 2 * DIM, 9), y[TOKENS * DIM];

	for (unsigned i = 0; i < TOKENS * 2 * DIM; i++)
		x[i] *= 10; /* beyond the limit, both ways */
	assert_int_equal(bmi_backend_cpu.ops->glu_pairs(dev, y, DIM, x, 2ul * DIM, TOKENS, DIM, 7.0f, 1.702f),
			 0);
	for (unsigned i = 0; i < TOKENS * DIM; i++) {
		const double g = fmin(x[2 * i], 7), u = fmax(fmin(x[2 * i + 1], 7), -7);
		const double want = g / (1 + exp(-1.702 * g)) * (u + 1);

		assert_true(fabs(y[i] - want) <= 1e-5 * fmax(1, fabs(want)));
	}
	free(x);
	bmi_backend_cpu.close(dev);
}

static void test_copy_and_scale(void **state)
{
	struct bmi_dev *dev = open_cpu(*state, 1);
	float x[3] = { 1, 2, 3 }, y[8] = { 0 };

	assert_int_equal(bmi_backend_cpu.ops->copy(dev, y, 4, x, 0, 2, 3), 0);
	assert_true(y[2] == 3 && y[3] == 0 && y[4] == 1 && y[6] == 3 && y[7] == 0);
	assert_int_equal(bmi_backend_cpu.ops->scale(dev, y, 7, -0.5f), 0);
	assert_true(y[0] == -0.5f && y[6] == -1.5f && y[7] == 0);
	bmi_backend_cpu.close(dev);
}

/* One query at position KEYS - 1 against a naive softmax. Blocks of 64 keys: there are two. */
static void check_attention(struct bmi_dev *dev, const float *slopes, const float *sinks)
{
	enum { BLOCK = KV_HEADS * BMI_KV_BLOCK * DIM };
	float *k = numbers(2 * BLOCK, 11), *v = numbers(2 * BLOCK, 222), *q = numbers(HEADS * DIM, 3333);
	void *const kb[] = { k, k + BLOCK }, *const vb[] = { v, v + BLOCK };
	const struct bmi_kv_table kv = { kb, vb };
	const uint32_t pos = KEYS - 1;
	float out[HEADS * DIM];
	const struct bmi_attn a = { .out = out,
				    .q = q,
				    .kv = &kv,
				    .pos = &pos,
				    .n_tok = 1,
				    .n_heads = HEADS,
				    .n_kv_heads = KV_HEADS,
				    .head_dim = DIM,
				    .scale = 0.2f,
				    .kv_dtype = BMI_F32,
				    .slopes = slopes,
				    .sinks = sinks };

	assert_int_equal(bmi_backend_cpu.ops->attention(dev, &a), 0);
	for (unsigned h = 0; h < HEADS; h++) {
		double sum = sinks ? exp(sinks[h]) : 0, want[DIM] = { 0 };

		for (unsigned i = 0; i < KEYS; i++) {
			const size_t at = (size_t)i / 64 * BLOCK + ((size_t)(h / 2) * 64 + i % 64) * DIM;
			double s = 0;

			for (unsigned d = 0; d < DIM; d++)
				s += (double)q[h * DIM + d] * k[at + d] * 0.2;
			s = exp(s + (slopes ? slopes[h] * ((double)i - pos) : 0));
			sum += s;
			for (unsigned d = 0; d < DIM; d++)
				want[d] += s * v[at + d];
		}
		for (unsigned d = 0; d < DIM; d++)
			assert_true(fabs(out[h * DIM + d] - want[d] / sum) < 1e-5);
	}
	free(k);
	free(v);
	free(q);
}

static void test_attention(void **state)
{
	static const float slopes[HEADS] = { 0.5f, 0.25f, 0.125f, 0.0625f };
	static const float sinks[HEADS] = { -2, 0, 3, 20 };
	struct bmi_dev *dev = open_cpu(*state, 1);

	check_attention(dev, NULL, NULL);
	check_attention(dev, slopes, NULL);
	check_attention(dev, NULL, sinks);
	bmi_backend_cpu.close(dev);
}

int main(void)
{
	static const char *const isas[] = { "ref", "avx2", "avx512" };
	static const struct CMUnitTest checks[] = { cmocka_unit_test(test_matmul_turned),
						    cmocka_unit_test(test_glu_pairs),
						    cmocka_unit_test(test_copy_and_scale),
						    cmocka_unit_test(test_attention) };
	static struct CMUnitTest tests[BMI_ARRAY_LEN(isas) * BMI_ARRAY_LEN(checks)];
	static char titles[BMI_ARRAY_LEN(tests)][64];

	for (size_t i = 0; i < BMI_ARRAY_LEN(tests); i++) {
		const char *isa = isas[i / BMI_ARRAY_LEN(checks)];

		tests[i] = checks[i % BMI_ARRAY_LEN(checks)];
		snprintf(titles[i], sizeof(titles[i]), "%s %s", isa, tests[i].name);
		tests[i].name = titles[i];
		tests[i].initial_state = (void *)(uintptr_t)isa;
	}
	return _cmocka_run_group_tests("ops more", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

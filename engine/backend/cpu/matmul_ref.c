/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the plain C matrix product: the truth the others are checked against, and what runs where no vector set does.
 * Invariant: y[t][r] depends on w's row r and x's row t alone; partial sums as kernels.h says, multiply then add.
 */
#include "backend/cpu/kernels_ref.h"

enum { COLS = 256, TOKENS = 8 };

static void widen(float *dst, const void *src, enum bmi_dtype from, uint32_t n)
{
	const uint16_t *half = src;

	switch (from) {
	case BMI_F16:
		for (uint32_t i = 0; i < n; i++)
			dst[i] = bmi_f32_from_f16(half[i]);
		break;
	case BMI_BF16:
		for (uint32_t i = 0; i < n; i++)
			dst[i] = bmi_f32_from_bf16(half[i]);
		break;
	default:
		memcpy(dst, src, n * sizeof(*dst));
	}
}

static void accumulate(float acc[BMI_LANES], const float *w, const float *x, uint32_t n)
{
	uint32_t c = 0;

	for (; c + BMI_LANES <= n; c += BMI_LANES)
		for (uint32_t j = 0; j < BMI_LANES; j++)
			acc[j] += w[c + j] * x[c + j];
	for (uint32_t j = 0; c + j < n; j++)
		acc[j] += w[c + j] * x[c + j];
}

static void row(const struct bmi_matmul *m, uint32_t r, uint32_t tok0, uint32_t n_tok)
{
	const struct bmi_mat *w = m->w;
	const char *wr = (const char *)w->data + r * w->stride_bytes;
	const size_t elt = w->dtype == BMI_F32 ? 4 : 2;
	float acc[TOKENS][BMI_LANES] = { 0 }, wide[COLS];

	for (uint32_t c = 0; c < w->n_cols; c += COLS) {
		const uint32_t n = w->n_cols - c < COLS ? w->n_cols - c : COLS;

		widen(wide, wr + c * elt, w->dtype, n);
		for (uint32_t t = 0; t < n_tok; t++)
			accumulate(acc[t], wide, m->x + (tok0 + t) * m->ldx + c, n);
	}
	for (uint32_t t = 0; t < n_tok; t++)
		m->y[(tok0 + t) * m->ldy + r] = bmi_lanes_sum(acc[t]);
}

void bmi_matvec_ref(const struct bmi_matmul *m, uint32_t row0, uint32_t row1)
{
	for (uint32_t r = row0; r < row1; r++)
		for (uint32_t t = 0; t < m->n_tok; t += TOKENS)
			row(m, r, t, m->n_tok - t < TOKENS ? m->n_tok - t : TOKENS);
}

void bmi_gemm_ref(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, uint32_t tok0, uint32_t tok1,
		  struct bmi_scratch *scratch)
{
	for (uint32_t r = row0; r < row1; r++)
		for (uint32_t t = tok0; t < tok1; t += TOKENS)
			row(m, r, t, tok1 - t < TOKENS ? tok1 - t : TOKENS);
}

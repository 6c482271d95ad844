/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the plain C norms of one row: the truth. Sums as kernels.h says, in float32; y may be x. */
#include "backend/cpu/kernels_ref.h"

#include <math.h>

static float sum(const float *x, uint32_t dim)
{
	float acc[BMI_LANES] = { 0 };

	for (uint32_t i = 0; i < dim; i++)
		acc[i % BMI_LANES] += x[i];
	return bmi_lanes_sum(acc);
}

static float sum_squares(const float *x, uint32_t dim, float mean)
{
	float acc[BMI_LANES] = { 0 };

	for (uint32_t i = 0; i < dim; i++)
		acc[i % BMI_LANES] += (x[i] - mean) * (x[i] - mean);
	return bmi_lanes_sum(acc);
}

void bmi_rmsnorm_ref(float *y, const float *x, const float *w, uint32_t dim, float eps, float w_offset)
{
	const float inv = 1.0f / sqrtf(sum_squares(x, dim, 0.0f) / (float)dim + eps);

	for (uint32_t i = 0; i < dim; i++)
		y[i] = x[i] * inv * (w[i] + w_offset);
}

/* The variance is taken around the mean in a second pass: E[x^2] - mean^2 cancels for rows far from zero. */
void bmi_layernorm_ref(float *y, const float *x, const float *w, const float *b, uint32_t dim, float eps)
{
	const float mean = sum(x, dim) / (float)dim;
	const float inv = 1.0f / sqrtf(sum_squares(x, dim, mean) / (float)dim + eps);

	for (uint32_t i = 0; i < dim; i++) {
		const float v = (x[i] - mean) * inv * w[i];

		y[i] = b ? v + b[i] : v;
	}
}

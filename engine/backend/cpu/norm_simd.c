/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the vector norms of one row: norm_ref.c with fused sums. y may be x. */
#include "backend/cpu/vec.h"

#include <math.h>

VEC_INLINE float sum_squares(const float *x, uint32_t dim, float mean)
{
	const vec m = vec_set(mean);
	vec acc = vec_zero();
	uint32_t i = 0;

	for (; i + BMI_LANES <= dim; i += BMI_LANES) {
		const vec v = vec_sub(vec_load(x + i), m);

		acc = vec_fma(v, v, acc);
	}
	if (i < dim) {
		float tail[BMI_LANES];
		vec v;

		vec_store(tail, m); /* lanes past the end: m - m = 0 */
		memcpy(tail, x + i, (dim - i) * sizeof(*x));
		v = vec_sub(vec_load(tail), m);
		acc = vec_fma(v, v, acc);
	}
	return vec_sum(acc);
}

void BMI_ISA(bmi_rmsnorm)(float *y, const float *x, const float *w, uint32_t dim, float eps, float w_offset)
{
	const vec inv = vec_set(1.0f / sqrtf(sum_squares(x, dim, 0.0f) / (float)dim + eps)),
		  off = vec_set(w_offset);
	uint32_t i = 0;

	for (; i + BMI_LANES <= dim; i += BMI_LANES)
		vec_store(y + i, vec_mul(vec_mul(vec_load(x + i), inv), vec_add(vec_load(w + i), off)));
	if (i < dim)
		vec_store_n(y + i,
			    vec_mul(vec_mul(vec_load_n(x + i, dim - i), inv),
				    vec_add(vec_load_n(w + i, dim - i), off)),
			    dim - i);
}

static float sum(const float *x, uint32_t dim)
{
	vec acc = vec_zero();
	uint32_t i = 0;

	for (; i + BMI_LANES <= dim; i += BMI_LANES)
		acc = vec_add(acc, vec_load(x + i));
	if (i < dim)
		acc = vec_add(acc, vec_load_n(x + i, dim - i));
	return vec_sum(acc);
}

void BMI_ISA(bmi_layernorm)(float *y, const float *x, const float *w, const float *b, uint32_t dim, float eps)
{
	const float mean = sum(x, dim) / (float)dim;
	const vec m = vec_set(mean), inv = vec_set(1.0f / sqrtf(sum_squares(x, dim, mean) / (float)dim + eps));
	uint32_t i = 0;

	for (; i + BMI_LANES <= dim; i += BMI_LANES) {
		const vec v = vec_mul(vec_sub(vec_load(x + i), m), inv);

		vec_store(y + i,
			  b ? vec_fma(v, vec_load(w + i), vec_load(b + i)) : vec_mul(v, vec_load(w + i)));
	}
	if (i < dim) {
		const uint32_t n = dim - i;
		const vec v = vec_mul(vec_sub(vec_load_n(x + i, n), m), inv), wv = vec_load_n(w + i, n);

		vec_store_n(y + i, b ? vec_fma(v, wv, vec_load_n(b + i, n)) : vec_mul(v, wv), n);
	}
}

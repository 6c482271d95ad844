/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the vector element-wise kernels: act_ref.c's formulas with vec_math.h's functions. */
#include "backend/cpu/vec_math.h"

VEC_INLINE vec act_of(vec x, const enum bmi_act act)
{
	const vec one = vec_set(1.0f), half = vec_mul(vec_set(0.5f), x);

	switch (act) {
	case BMI_ACT_SILU:
		return vec_div(x, vec_add(one, vec_exp(vec_sub(vec_zero(), x))));
	case BMI_ACT_GELU:
		return vec_mul(half, vec_add(one, vec_erf(vec_mul(x, vec_set(0.707106781f)))));
	case BMI_ACT_GELU_TANH: {
		const vec cube = vec_mul(vec_mul(vec_mul(vec_set(0.044715f), x), x), x);

		return vec_mul(half, vec_add(one, vec_tanh(vec_mul(vec_set(0.797884561f), vec_add(x, cube)))));
	}
	case BMI_ACT_RELU:
		break;
	}
	return vec_if_less(vec_zero(), x, x, vec_zero());
}

VEC_INLINE void glu(float *y, const float *gate, const float *up, uint32_t dim, const enum bmi_act act)
{
	uint32_t i = 0;

	for (; i + BMI_LANES <= dim; i += BMI_LANES) {
		const vec v = act_of(vec_load(gate + i), act);

		vec_store(y + i, up ? vec_mul(v, vec_load(up + i)) : v);
	}
	if (i < dim) {
		const vec v = act_of(vec_load_n(gate + i, dim - i), act);

		vec_store_n(y + i, up ? vec_mul(v, vec_load_n(up + i, dim - i)) : v, dim - i);
	}
}

void BMI_ISA(bmi_glu)(float *y, const float *gate, const float *up, uint32_t dim, enum bmi_act act)
{
	switch (act) {
	case BMI_ACT_SILU:
		glu(y, gate, up, dim, BMI_ACT_SILU);
		break;
	case BMI_ACT_GELU:
		glu(y, gate, up, dim, BMI_ACT_GELU);
		break;
	case BMI_ACT_GELU_TANH:
		glu(y, gate, up, dim, BMI_ACT_GELU_TANH);
		break;
	case BMI_ACT_RELU:
		glu(y, gate, up, dim, BMI_ACT_RELU);
		break;
	}
}

void BMI_ISA(bmi_add)(float *y, const float *x, size_t n, float scale)
{
	const vec s = vec_set(scale);
	size_t i = 0;

	for (; i + BMI_LANES <= n; i += BMI_LANES)
		vec_store(y + i, vec_fma(s, vec_load(x + i), vec_load(y + i)));
	if (i < n) {
		const uint32_t left = (uint32_t)(n - i);

		vec_store_n(y + i, vec_fma(s, vec_load_n(x + i, left), vec_load_n(y + i, left)), left);
	}
}

void BMI_ISA(bmi_softcap)(float *x, size_t n, float cap)
{
	const vec c = vec_set(cap);
	size_t i = 0;

	for (; i + BMI_LANES <= n; i += BMI_LANES)
		vec_store(x + i, vec_mul(c, vec_tanh(vec_div(vec_load(x + i), c))));
	if (i < n) {
		const uint32_t left = (uint32_t)(n - i);

		vec_store_n(x + i, vec_mul(c, vec_tanh(vec_div(vec_load_n(x + i, left), c))), left);
	}
}

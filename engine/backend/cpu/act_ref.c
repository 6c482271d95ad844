/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the plain C element-wise kernels: the truth. Formulas as torch's: silu, gelu, gelu with approximate='tanh', relu. */
#include "backend/cpu/kernels_ref.h"

#include <math.h>

static float act_of(float x, enum bmi_act act)
{
	switch (act) {
	case BMI_ACT_SILU:
		return x / (1.0f + expf(-x));
	case BMI_ACT_GELU:
		return 0.5f * x * (1.0f + erff(x * 0.707106781186547524f));
	case BMI_ACT_GELU_TANH:
		return 0.5f * x * (1.0f + tanhf(0.797884560802865356f * (x + 0.044715f * x * x * x)));
	case BMI_ACT_RELU:
		return x > 0.0f ? x : 0.0f;
	}
	return x;
}

void bmi_glu_ref(float *y, const float *gate, const float *up, uint32_t dim, enum bmi_act act)
{
	for (uint32_t i = 0; i < dim; i++) {
		const float v = act_of(gate[i], act);

		y[i] = up ? v * up[i] : v;
	}
}

void bmi_add_ref(float *y, const float *x, size_t n, float scale)
{
	for (size_t i = 0; i < n; i++)
		y[i] += scale * x[i];
}

void bmi_softcap_ref(float *x, size_t n, float cap)
{
	for (size_t i = 0; i < n; i++)
		x[i] = cap * tanhf(x[i] / cap);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the plain C widening and narrowing of rows: exact one way, round to nearest even the other. Any alignment. */
#include "backend/cpu/kernels_ref.h"

static uint16_t load16(const void *src, size_t i)
{
	uint16_t v;

	memcpy(&v, (const char *)src + 2 * i, sizeof(v));
	return v;
}

void bmi_widen_ref(float *y, const void *src, enum bmi_dtype from, size_t n, float scale)
{
	if (from == BMI_F32)
		memmove(y, src, n * sizeof(*y));
	else if (from == BMI_F16)
		for (size_t i = 0; i < n; i++)
			y[i] = bmi_f32_from_f16(load16(src, i));
	else
		for (size_t i = 0; i < n; i++)
			y[i] = bmi_f32_from_bf16(load16(src, i));
	if (scale != 1.0f)
		for (size_t i = 0; i < n; i++)
			y[i] *= scale;
}

void bmi_narrow_ref(void *dst, enum bmi_dtype to, const float *x, size_t n)
{
	if (to == BMI_F32) {
		memmove(dst, x, n * sizeof(*x));
		return;
	}
	for (size_t i = 0; i < n; i++) {
		const uint16_t v = to == BMI_F16 ? bmi_f16_from_f32(x[i]) : bmi_bf16_from_f32(x[i]);

		memcpy((char *)dst + 2 * i, &v, sizeof(v));
	}
}

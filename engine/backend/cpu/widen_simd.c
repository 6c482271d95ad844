/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the vector widening and narrowing of rows. Bits as widen_ref.c, but for the payload of a NaN. */
#include "backend/cpu/vec.h"

VEC_INLINE void widen(float *y, const char *src, const enum bmi_dtype from, size_t n, float scale)
{
	const vec s = vec_set(scale);
	size_t i = 0;

	for (; i + BMI_LANES <= n; i += BMI_LANES)
		vec_store(y + i, vec_mul(s, vec_load_dtype(src + i * vec_dtype_bytes(from), from)));
	if (i < n) {
		const uint32_t left = (uint32_t)(n - i);

		vec_store_n(y + i, vec_mul(s, vec_load_dtype_n(src + i * vec_dtype_bytes(from), from, left)),
			    left);
	}
}

void BMI_ISA(bmi_widen)(float *y, const void *src, enum bmi_dtype from, size_t n, float scale)
{
	if (from == BMI_F32 && scale == 1.0f)
		memmove(y, src, n * sizeof(*y));
	else if (from == BMI_F32)
		widen(y, src, BMI_F32, n, scale);
	else if (from == BMI_F16)
		widen(y, src, BMI_F16, n, scale);
	else
		widen(y, src, BMI_BF16, n, scale);
}

VEC_INLINE void store_half(void *dst, const enum bmi_dtype to, vec v)
{
	if (to == BMI_F16)
		vec_store_f16(dst, v);
	else
		vec_store_bf16(dst, v);
}

VEC_INLINE void narrow(char *dst, const enum bmi_dtype to, const float *x, size_t n)
{
	size_t i = 0;

	for (; i + BMI_LANES <= n; i += BMI_LANES)
		store_half(dst + 2 * i, to, vec_load(x + i));
	if (i < n) {
		uint16_t tail[BMI_LANES];

		store_half(tail, to, vec_load_n(x + i, (uint32_t)(n - i)));
		memcpy(dst + 2 * i, tail, (n - i) * sizeof(*tail));
	}
}

void BMI_ISA(bmi_narrow)(void *dst, enum bmi_dtype to, const float *x, size_t n)
{
	if (to == BMI_F32)
		memmove(dst, x, n * sizeof(*x));
	else if (to == BMI_F16)
		narrow(dst, BMI_F16, x, n);
	else
		narrow(dst, BMI_BF16, x, n);
}

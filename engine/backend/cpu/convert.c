/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the conversion of stored elements to the types we compute in. Everything goes through float32, a chunk at a time in
 * cache, except float64, which is rounded once, from the double, as a cast would.
 * Invariant: same bits whatever kernel set does it: widening is exact, narrowing rounds to nearest even.
 */
#include "backend/cpu/cpu.h"
#include "backend/cpu/dispatch.h"

#include <errno.h>

enum { CHUNK = 2048 }; /* elements: 8 KiB of float32; a multiple of every block length */

/* To float32 rounding to odd: the later rounding to 16 bits then is the only one that shows. */
static float f32_odd_from_f64(double d)
{
	float f = (float)d;
	uint32_t bits;

	if ((double)f == d || d != d)
		return f;
	memcpy(&bits, &f, sizeof(bits));
	if (((double)f > d) == (d > 0)) /* rounded away from zero: step back, then make it odd */
		bits--;
	bits |= 1;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

static void from_f64(float *dst, enum bmi_dtype to, const uint8_t *src, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		double d;

		memcpy(&d, src + 8 * i, sizeof(d));
		dst[i] = to == BMI_F32 ? (float)d : f32_odd_from_f64(d);
	}
}

static void to_f32(const struct bmi_kernels *k, float *dst, enum bmi_dtype to, const uint8_t *src,
		   enum bmi_dtype from, size_t n)
{
	if (from == BMI_F64)
		from_f64(dst, to, src, n);
	else if (from == BMI_F32 || from == BMI_F16 || from == BMI_BF16)
		k->widen(dst, src, from, n, 1.0f);
	else
		bmi_quant_decode(dst, from, src, n / bmi_dtype_info(from)->block_len);
}

int bmi_cpu_convert(void *dst, enum bmi_dtype to, const void *src, enum bmi_dtype from, size_t n)
{
	const struct bmi_dtype_info *info = bmi_dtype_info(from), *out = bmi_dtype_info(to);
	const bool integer = !info->is_floating && from < BMI_Q4_0;
	const struct bmi_kernels *k;
	float chunk[CHUNK];

	if (integer || !(to == BMI_F32 || to == BMI_F16 || to == BMI_BF16))
		return -EOPNOTSUPP;
	if (n % info->block_len)
		return -EINVAL;
	if (from == to) {
		if (n)
			memcpy(dst, src, n * out->block_bytes);
		return 0;
	}
	bmi_kernels_pick(/* at_most= */ NULL, &k, /* err= */ NULL);
	for (size_t at = 0; at < n; at += CHUNK) {
		const size_t part = n - at < CHUNK ? n - at : CHUNK;

		to_f32(k, chunk, to, (const uint8_t *)src + at / info->block_len * info->block_bytes, from,
		       part);
		k->narrow((char *)dst + at * out->block_bytes, to, chunk, part);
	}
	return 0;
}

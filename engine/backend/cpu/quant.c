/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the decoding of GGUF quantized blocks to float32, for conversion at load. Layouts are ggml's (ggml-common.h):
 *   q4_0 f16 d, 16 bytes: element j in the low, j + 16 in the high nibble of byte j; d * (q - 8)
 *   q4_1 f16 d, f16 m, 16 bytes; d * q + m
 *   q5_0 f16 d, u32 fifth bits (bit j: element j), 16 bytes; d * (q - 16)      q5_1: d, m, bits, bytes; d * q + m
 *   q8_0 f16 d, 32 int8; d * q
 *   q4_k f16 d, f16 dmin, 12 bytes of 6-bit scales and minima of 8 sub-blocks, 128 bytes; (d sc) q - (dmin m)
 *   q5_k as q4_k with 32 bytes of fifth bits before the nibbles               q6_k: see decode_q6_k()
 * Invariant: products and differences round where ggml's do (built with -ffp-contract=off), so results are its bits.
 */
#include "backend/cpu/kernels.h"

static float f16_at(const uint8_t *p)
{
	return bmi_f32_from_f16((uint16_t)(p[0] | p[1] << 8));
}

static uint32_t u32_at(const uint8_t *p)
{
	return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void decode_q4_0(float *dst, const uint8_t *src)
{
	const float d = f16_at(src);

	for (unsigned j = 0; j < 16; j++) {
		dst[j] = (float)((src[2 + j] & 15) - 8) * d;
		dst[j + 16] = (float)((src[2 + j] >> 4) - 8) * d;
	}
}

static void decode_q4_1(float *dst, const uint8_t *src)
{
	const float d = f16_at(src), m = f16_at(src + 2);

	for (unsigned j = 0; j < 16; j++) {
		dst[j] = (float)(src[4 + j] & 15) * d + m;
		dst[j + 16] = (float)(src[4 + j] >> 4) * d + m;
	}
}

static void decode_q5_0(float *dst, const uint8_t *src)
{
	const float d = f16_at(src);
	const uint32_t high = u32_at(src + 2);

	for (unsigned j = 0; j < 16; j++) {
		const int lo = (int)((src[6 + j] & 15) | (high >> j & 1) << 4);
		const int hi = (int)((uint32_t)src[6 + j] >> 4 | (high >> (j + 16) & 1) << 4);

		dst[j] = (float)(lo - 16) * d;
		dst[j + 16] = (float)(hi - 16) * d;
	}
}

static void decode_q5_1(float *dst, const uint8_t *src)
{
	const float d = f16_at(src), m = f16_at(src + 2);
	const uint32_t high = u32_at(src + 4);

	for (unsigned j = 0; j < 16; j++) {
		dst[j] = (float)((src[8 + j] & 15) | (high >> j & 1) << 4) * d + m;
		dst[j + 16] = (float)((uint32_t)src[8 + j] >> 4 | (high >> (j + 16) & 1) << 4) * d + m;
	}
}

static void decode_q8_0(float *dst, const uint8_t *src)
{
	const float d = f16_at(src);

	for (unsigned j = 0; j < 32; j++)
		dst[j] = (float)(int8_t)src[2 + j] * d;
}

/* Sub-block i's 6-bit scale and minimum: of 0..3 in bytes i and i + 4; of 4..7 four bits in byte i + 4 and two on top. */
static void scale_min(const uint8_t *s, unsigned i, float *ret_scale, float *ret_min)
{
	if (i < 4) {
		*ret_scale = (float)(s[i] & 63);
		*ret_min = (float)(s[i + 4] & 63);
	} else {
		*ret_scale = (float)((s[i + 4] & 15) | s[i - 4] >> 6 << 4);
		*ret_min = (float)(s[i + 4] >> 4 | s[i] >> 6 << 4);
	}
}

/* 32 bytes hold sub-block i in the low and i + 1 in the high nibbles. */
static void decode_q4_k(float *dst, const uint8_t *src)
{
	const float d = f16_at(src), dmin = f16_at(src + 2);

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *q = src + 16 + i / 2 * 32;
		float scale, min;

		scale_min(src + 4, i, &scale, &min);
		scale *= d;
		min *= dmin;
		for (unsigned j = 0; j < 32; j++)
			dst[i * 32 + j] = scale * (float)(q[j] >> i % 2 * 4 & 15) - min;
	}
}

/* Bit i of the j-th byte of fifth bits belongs to element j of sub-block i. */
static void decode_q5_k(float *dst, const uint8_t *src)
{
	const float d = f16_at(src), dmin = f16_at(src + 2);
	const uint8_t *high = src + 16;

	for (unsigned i = 0; i < 8; i++) {
		const uint8_t *q = src + 48 + i / 2 * 32;
		float scale, min;

		scale_min(src + 4, i, &scale, &min);
		scale *= d;
		min *= dmin;
		for (unsigned j = 0; j < 32; j++)
			dst[i * 32 + j] =
				scale * (float)((q[j] >> i % 2 * 4 & 15) | (high[j] >> i & 1) << 4) - min;
	}
}

/*
 * 128 bytes of low nibbles, 64 of high bit pairs, 16 int8 scales of 16 elements each, f16 d. In each half of 128 elements,
 * element 32 k + j has its low bits in byte 32 (k % 2) + j, nibble k / 2, and its high bits in byte j, pair k.
 */
static void decode_q6_k(float *dst, const uint8_t *src)
{
	const float d = f16_at(src + 208);

	for (unsigned i = 0; i < 16; i++) { /* 16 elements of one scale: half of a k */
		const unsigned half = i / 8, k = i / 2 % 4, j = i % 2 * 16;
		const uint8_t *low = src + half * 64 + k % 2 * 32 + j, *high = src + 128 + half * 32 + j;
		const float scale = d * (float)(int8_t)src[192 + i];

		for (unsigned n = 0; n < 16; n++) {
			const int q = (low[n] >> k / 2 * 4 & 15) | (high[n] >> k * 2 & 3) << 4;

			dst[i * 16 + n] = scale * (float)(q - 32);
		}
	}
}

bool bmi_quant_decode(float *dst, enum bmi_dtype from, const uint8_t *src, size_t n_blocks)
{
	static void (*const decoders[BMI_N_DTYPES])(float *dst, const uint8_t *src) = {
		[BMI_Q4_0] = decode_q4_0, [BMI_Q4_1] = decode_q4_1, [BMI_Q5_0] = decode_q5_0,
		[BMI_Q5_1] = decode_q5_1, [BMI_Q8_0] = decode_q8_0, [BMI_Q4_K] = decode_q4_k,
		[BMI_Q5_K] = decode_q5_k, [BMI_Q6_K] = decode_q6_k,
	};
	const struct bmi_dtype_info *info = bmi_dtype_info(from);

	if (!decoders[from])
		return false;
	for (size_t i = 0; i < n_blocks; i++)
		decoders[from](dst + i * info->block_len, src + i * info->block_bytes);
	return true;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_VEC_AVX512_H
#define BMI_BACKEND_CPU_VEC_AVX512_H

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512DQ__) && \
	defined(__AVX512VL__) /* empty where nobody may use it */

/* The 16-lane vector of vec.h in one 512-bit register: AVX-512 F, BW, DQ, VL. 32 registers. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BMI_ISA(name)      name##_avx512
#define BMI_ISA_NAME       "avx512"
#define VEC_DOT_TOKENS_MAX 6 /* decode: tokens one pass over the weights serves */
#define VEC_INLINE         static inline __attribute__((always_inline))

typedef __m512 vec;
typedef __m512 vec_part; /* what one register holds */

enum {
	VEC_PARTS = 1,
	VEC_DOT_WIDE = 6,    /* decode: tokens up to which 4 rows fit: 24 sums, 4 weights, 1 activation */
	VEC_TILE_TOKENS = 6, /* prefill: 4 rows x 6 tokens */
	VEC_SCORE_ROWS = 6,  /* attention: query rows x 4 keys */
	VEC_MIX_ROWS = 6,    /* attention: query rows x 4 vectors of V */
	VEC_MIX_VECS = 4,
	VEC_GEMM_MIN_TOKENS = 7,
};

VEC_INLINE vec_part part_zero(void)
{
	return _mm512_setzero_ps();
}

VEC_INLINE vec_part part_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

VEC_INLINE void part_store(float *p, vec_part a)
{
	_mm512_storeu_ps(p, a);
}

VEC_INLINE vec_part part_fma(vec_part a, vec_part b, vec_part c)
{
	return _mm512_fmadd_ps(a, b, c);
}

VEC_INLINE vec vec_zero(void)
{
	return _mm512_setzero_ps();
}

VEC_INLINE vec vec_set(float f)
{
	return _mm512_set1_ps(f);
}

VEC_INLINE vec vec_load(const float *p)
{
	return _mm512_loadu_ps(p);
}

VEC_INLINE void vec_store(float *p, vec a)
{
	_mm512_storeu_ps(p, a);
}

VEC_INLINE __mmask16 vec_first(uint32_t n)
{
	return (__mmask16)((1u << n) - 1);
}

VEC_INLINE vec vec_load_n(const float *p, uint32_t n)
{
	return _mm512_maskz_loadu_ps(vec_first(n), p);
}

VEC_INLINE void vec_store_n(float *p, vec a, uint32_t n)
{
	_mm512_mask_storeu_ps(p, vec_first(n), a);
}

VEC_INLINE vec vec_from_bf16(__m256i v)
{
	return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(v), 16));
}

VEC_INLINE vec vec_load_bf16(const void *p)
{
	return vec_from_bf16(_mm256_loadu_si256(p));
}

VEC_INLINE vec vec_load_bf16_n(const void *p, uint32_t n)
{
	return vec_from_bf16(_mm256_maskz_loadu_epi16(vec_first(n), p));
}

VEC_INLINE vec vec_load_f16(const void *p)
{
	return _mm512_cvtph_ps(_mm256_loadu_si256(p));
}

VEC_INLINE vec vec_load_f16_n(const void *p, uint32_t n)
{
	return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(vec_first(n), p));
}

VEC_INLINE void vec_store_f16(void *p, vec a)
{
	_mm256_storeu_si256(p, _mm512_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* As bmi_bf16_from_f32(). */
VEC_INLINE void vec_store_bf16(void *p, vec a)
{
	const __m512i bits = _mm512_castps_si512(a);
	const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
	const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
	const __mmask16 nan = _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q);
	const __m512i out = _mm512_mask_or_epi32(up, nan, bits, _mm512_set1_epi32(0x400000));

	_mm256_storeu_si256(p, _mm512_cvtepi32_epi16(_mm512_srli_epi32(out, 16)));
}

VEC_INLINE vec vec_add(vec a, vec b)
{
	return _mm512_add_ps(a, b);
}

VEC_INLINE vec vec_sub(vec a, vec b)
{
	return _mm512_sub_ps(a, b);
}

VEC_INLINE vec vec_mul(vec a, vec b)
{
	return _mm512_mul_ps(a, b);
}

VEC_INLINE vec vec_div(vec a, vec b)
{
	return _mm512_div_ps(a, b);
}

VEC_INLINE vec vec_fma(vec a, vec b, vec c)
{
	return _mm512_fmadd_ps(a, b, c);
}

VEC_INLINE vec vec_fnma(vec a, vec b, vec c)
{
	return _mm512_fnmadd_ps(a, b, c);
}

VEC_INLINE vec vec_max(vec a, vec b)
{
	return _mm512_max_ps(a, b);
}

VEC_INLINE vec vec_min(vec a, vec b)
{
	return _mm512_min_ps(a, b);
}

VEC_INLINE vec vec_abs(vec a)
{
	return _mm512_abs_ps(a);
}

VEC_INLINE vec vec_copysign(vec mag, vec sign)
{
	const __m512 bit = _mm512_set1_ps(-0.0f);

	return _mm512_or_ps(_mm512_andnot_ps(bit, mag), _mm512_and_ps(bit, sign));
}

VEC_INLINE vec vec_if_less(vec a, vec b, vec then, vec otherwise)
{
	return _mm512_mask_blend_ps(_mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), otherwise, then);
}

VEC_INLINE vec vec_round(vec a)
{
	return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

/* a * 2^n, n integral in [-252, 254]: in two factors, so that a subnormal result is rounded once. */
VEC_INLINE vec vec_scale2(vec a, vec n)
{
	const __m512i i = _mm512_cvtps_epi32(n), half = _mm512_srai_epi32(i, 1), bias = _mm512_set1_epi32(127);
	const __m512i e0 = _mm512_slli_epi32(_mm512_add_epi32(half, bias), 23);
	const __m512i e1 = _mm512_slli_epi32(_mm512_add_epi32(_mm512_sub_epi32(i, half), bias), 23);

	return _mm512_mul_ps(_mm512_mul_ps(a, _mm512_castsi512_ps(e0)), _mm512_castsi512_ps(e1));
}

VEC_INLINE float vec_sum4lanes(__m128 s)
{
	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

/* As bmi_lanes_sum(). */
VEC_INLINE float vec_sum(vec a)
{
	const __m256 s = _mm256_add_ps(_mm512_castps512_ps256(a), _mm512_extractf32x8_ps(a, 1));

	return vec_sum4lanes(_mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1)));
}

VEC_INLINE float vec_max_lanes(vec a)
{
	return _mm512_reduce_max_ps(a);
}

/* The four sums, each with the additions of vec_sum(): 256-bit halves, 128-bit quarters, then inside the quarters. */
VEC_INLINE __m128 vec_sum4(vec a, vec b, vec c, vec d)
{
	const __m512 ab = _mm512_add_ps(_mm512_shuffle_f32x4(a, b, 0x44), _mm512_shuffle_f32x4(a, b, 0xee));
	const __m512 cd = _mm512_add_ps(_mm512_shuffle_f32x4(c, d, 0x44), _mm512_shuffle_f32x4(c, d, 0xee));
	const __m512 q = _mm512_add_ps(_mm512_shuffle_f32x4(ab, cd, 0x88), _mm512_shuffle_f32x4(ab, cd, 0xdd));
	const __m512 h = _mm512_add_ps(q, _mm512_permute_ps(q, 0x4e));
	const __m512 s = _mm512_add_ps(h, _mm512_permute_ps(h, 0xb1));
	const __m512i first = _mm512_setr_epi32(0, 4, 8, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0);

	return _mm512_castps512_ps128(_mm512_permutexvar_ps(first, s));
}

VEC_INLINE vec vec_from_parts(const vec_part p[VEC_PARTS])
{
	return p[0];
}

#endif
#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_VEC_AVX2_H
#define BMI_BACKEND_CPU_VEC_AVX2_H

#if defined(__AVX2__) && defined(__FMA__) && defined(__F16C__) /* empty where nobody may use it */

/* The 16-lane vector of vec.h in two 256-bit registers: AVX2, FMA, F16C. 16 registers, so tiles are smaller. */
#include <immintrin.h>
#include <stdint.h>
#include <string.h>

#define BMI_ISA(name)      name##_avx2
#define BMI_ISA_NAME       "avx2"
#define VEC_DOT_TOKENS_MAX 3 /* decode: tokens one pass over the weights serves */
#define VEC_INLINE         static inline __attribute__((always_inline))

typedef struct {
	__m256 a, b; /* lanes 0..7, 8..15 */
} vec;
typedef __m256 vec_part; /* what one register holds */

enum {
	VEC_PARTS = 2,
	VEC_DOT_WIDE = 1, /* decode: tokens up to which 4 rows fit; 2 rows x 3 tokens is 12 registers of sums */
	VEC_TILE_TOKENS = 3, /* prefill: 4 rows x 3 tokens of one half of the lanes at a time */
	VEC_SCORE_ROWS = 1,  /* attention: query rows x 4 keys */
	VEC_MIX_ROWS = 3,    /* attention: query rows x 2 vectors of V */
	VEC_MIX_VECS = 2,
	VEC_GEMM_MIN_TOKENS = 7,
};

VEC_INLINE vec_part part_zero(void)
{
	return _mm256_setzero_ps();
}

VEC_INLINE vec_part part_load(const float *p)
{
	return _mm256_loadu_ps(p);
}

VEC_INLINE void part_store(float *p, vec_part a)
{
	_mm256_storeu_ps(p, a);
}

VEC_INLINE vec_part part_fma(vec_part a, vec_part b, vec_part c)
{
	return _mm256_fmadd_ps(a, b, c);
}

VEC_INLINE vec vec_zero(void)
{
	return (vec){ _mm256_setzero_ps(), _mm256_setzero_ps() };
}

VEC_INLINE vec vec_set(float f)
{
	return (vec){ _mm256_set1_ps(f), _mm256_set1_ps(f) };
}

VEC_INLINE vec vec_load(const float *p)
{
	return (vec){ _mm256_loadu_ps(p), _mm256_loadu_ps(p + 8) };
}

VEC_INLINE void vec_store(float *p, vec a)
{
	_mm256_storeu_ps(p, a.a);
	_mm256_storeu_ps(p + 8, a.b);
}

VEC_INLINE vec vec_load_n(const float *p, uint32_t n)
{
	float f[16] = { 0 };

	memcpy(f, p, n * sizeof(*f));
	return vec_load(f);
}

VEC_INLINE void vec_store_n(float *p, vec a, uint32_t n)
{
	float f[16];

	vec_store(f, a);
	memcpy(p, f, n * sizeof(*f));
}

VEC_INLINE __m256 part_from_bf16(__m128i v)
{
	return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(v), 16));
}

VEC_INLINE vec vec_load_bf16(const void *p)
{
	const __m128i *v = p;

	return (vec){ part_from_bf16(_mm_loadu_si128(v)), part_from_bf16(_mm_loadu_si128(v + 1)) };
}

VEC_INLINE vec vec_load_bf16_n(const void *p, uint32_t n)
{
	uint16_t h[16] = { 0 };

	memcpy(h, p, n * sizeof(*h));
	return vec_load_bf16(h);
}

VEC_INLINE vec vec_load_f16(const void *p)
{
	const __m128i *v = p;

	return (vec){ _mm256_cvtph_ps(_mm_loadu_si128(v)), _mm256_cvtph_ps(_mm_loadu_si128(v + 1)) };
}

VEC_INLINE vec vec_load_f16_n(const void *p, uint32_t n)
{
	uint16_t h[16] = { 0 };

	memcpy(h, p, n * sizeof(*h));
	return vec_load_f16(h);
}

VEC_INLINE void vec_store_f16(void *p, vec a)
{
	__m128i *v = p;

	_mm_storeu_si128(v, _mm256_cvtps_ph(a.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
	_mm_storeu_si128(v + 1, _mm256_cvtps_ph(a.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}

/* As bmi_bf16_from_f32(), in the low half of each lane. */
VEC_INLINE __m256i part_to_bf16(__m256 a)
{
	const __m256i bits = _mm256_castps_si256(a);
	const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
	const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
	const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
	const __m256i nan = _mm256_castps_si256(_mm256_cmp_ps(a, a, _CMP_UNORD_Q));

	return _mm256_srli_epi32(_mm256_blendv_epi8(up, quiet, nan), 16);
}

VEC_INLINE void vec_store_bf16(void *p, vec a)
{
	/* packus works in 128-bit halves: a0 b0 a1 b1 */
	const __m256i packed = _mm256_packus_epi32(part_to_bf16(a.a), part_to_bf16(a.b));

	_mm256_storeu_si256(p, _mm256_permute4x64_epi64(packed, 0xd8));
}

VEC_INLINE vec vec_add(vec x, vec y)
{
	return (vec){ _mm256_add_ps(x.a, y.a), _mm256_add_ps(x.b, y.b) };
}

VEC_INLINE vec vec_sub(vec x, vec y)
{
	return (vec){ _mm256_sub_ps(x.a, y.a), _mm256_sub_ps(x.b, y.b) };
}

VEC_INLINE vec vec_mul(vec x, vec y)
{
	return (vec){ _mm256_mul_ps(x.a, y.a), _mm256_mul_ps(x.b, y.b) };
}

VEC_INLINE vec vec_div(vec x, vec y)
{
	return (vec){ _mm256_div_ps(x.a, y.a), _mm256_div_ps(x.b, y.b) };
}

VEC_INLINE vec vec_fma(vec x, vec y, vec z)
{
	return (vec){ _mm256_fmadd_ps(x.a, y.a, z.a), _mm256_fmadd_ps(x.b, y.b, z.b) };
}

VEC_INLINE vec vec_fnma(vec x, vec y, vec z)
{
	return (vec){ _mm256_fnmadd_ps(x.a, y.a, z.a), _mm256_fnmadd_ps(x.b, y.b, z.b) };
}

VEC_INLINE vec vec_max(vec x, vec y)
{
	return (vec){ _mm256_max_ps(x.a, y.a), _mm256_max_ps(x.b, y.b) };
}

VEC_INLINE vec vec_min(vec x, vec y)
{
	return (vec){ _mm256_min_ps(x.a, y.a), _mm256_min_ps(x.b, y.b) };
}

VEC_INLINE vec vec_abs(vec x)
{
	const __m256 bit = _mm256_set1_ps(-0.0f);

	return (vec){ _mm256_andnot_ps(bit, x.a), _mm256_andnot_ps(bit, x.b) };
}

VEC_INLINE vec vec_copysign(vec mag, vec sign)
{
	const __m256 bit = _mm256_set1_ps(-0.0f);

	return (vec){ _mm256_or_ps(_mm256_andnot_ps(bit, mag.a), _mm256_and_ps(bit, sign.a)),
		      _mm256_or_ps(_mm256_andnot_ps(bit, mag.b), _mm256_and_ps(bit, sign.b)) };
}

VEC_INLINE vec vec_if_less(vec x, vec y, vec then, vec otherwise)
{
	return (vec){ _mm256_blendv_ps(otherwise.a, then.a, _mm256_cmp_ps(x.a, y.a, _CMP_LT_OQ)),
		      _mm256_blendv_ps(otherwise.b, then.b, _mm256_cmp_ps(x.b, y.b, _CMP_LT_OQ)) };
}

VEC_INLINE vec vec_round(vec x)
{
	return (vec){ _mm256_round_ps(x.a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC),
		      _mm256_round_ps(x.b, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC) };
}

VEC_INLINE __m256 part_scale2(__m256 a, __m256 n)
{
	const __m256i i = _mm256_cvtps_epi32(n), half = _mm256_srai_epi32(i, 1), bias = _mm256_set1_epi32(127);
	const __m256i e0 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
	const __m256i e1 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(i, half), bias), 23);

	return _mm256_mul_ps(_mm256_mul_ps(a, _mm256_castsi256_ps(e0)), _mm256_castsi256_ps(e1));
}

/* a * 2^n, n integral in [-252, 254]: in two factors, so that a subnormal result is rounded once. */
VEC_INLINE vec vec_scale2(vec x, vec n)
{
	return (vec){ part_scale2(x.a, n.a), part_scale2(x.b, n.b) };
}

VEC_INLINE __m128 vec_quarter(vec x)
{
	const __m256 s = _mm256_add_ps(x.a, x.b);

	return _mm_add_ps(_mm256_castps256_ps128(s), _mm256_extractf128_ps(s, 1));
}

/* As bmi_lanes_sum(). */
VEC_INLINE float vec_sum(vec x)
{
	__m128 s = vec_quarter(x);

	s = _mm_add_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_add_ss(s, _mm_movehdup_ps(s)));
}

VEC_INLINE float vec_max_lanes(vec x)
{
	const __m256 m = _mm256_max_ps(x.a, x.b);
	__m128 s = _mm_max_ps(_mm256_castps256_ps128(m), _mm256_extractf128_ps(m, 1));

	s = _mm_max_ps(s, _mm_movehl_ps(s, s));
	return _mm_cvtss_f32(_mm_max_ss(s, _mm_movehdup_ps(s)));
}

/* The four sums, each with the additions of vec_sum(). */
VEC_INLINE __m128 vec_sum4(vec x, vec y, vec z, vec w)
{
	const __m128 a = vec_quarter(x), b = vec_quarter(y), c = vec_quarter(z), d = vec_quarter(w);
	const __m128 ab = _mm_add_ps(_mm_movelh_ps(a, b), _mm_movehl_ps(b, a));
	const __m128 cd = _mm_add_ps(_mm_movelh_ps(c, d), _mm_movehl_ps(d, c));

	return _mm_add_ps(_mm_shuffle_ps(ab, cd, 0x88), _mm_shuffle_ps(ab, cd, 0xdd));
}

VEC_INLINE vec vec_from_parts(const vec_part p[VEC_PARTS])
{
	return (vec){ p[0], p[1] };
}

#endif
#endif

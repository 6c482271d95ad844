/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_VEC_H
#define BMI_BACKEND_CPU_VEC_H

/*
 * The vector kernels (x_simd.c) are written once against a vector of 16 floats and built once per instruction set, with
 * BMI_VEC_H naming the header that implements it (vec_avx2.h, vec_avx512.h) and the compiler flags it needs. All sets do
 * the same IEEE operations on the same 16 lanes, so they agree bit by bit; only tile shapes differ (enums there).
 *
 * vec_load_n() and the like touch the first n lanes, n < 16, of memory; other lanes read as 0.
 */
#include "backend/cpu/kernels.h"

#if defined(BMI_VEC_H) /* only the vector kernels are built with it */

#include BMI_VEC_H

#define VEC_UNROLL _Pragma("GCC unroll 16")

VEC_INLINE size_t vec_dtype_bytes(enum bmi_dtype dtype)
{
	return dtype == BMI_F32 ? 4 : 2;
}

VEC_INLINE vec vec_load_dtype(const void *p, enum bmi_dtype dtype)
{
	return dtype == BMI_F32 ? vec_load(p) : dtype == BMI_F16 ? vec_load_f16(p) : vec_load_bf16(p);
}

VEC_INLINE vec vec_load_dtype_n(const void *p, enum bmi_dtype dtype, uint32_t n)
{
	return dtype == BMI_F32   ? vec_load_n(p, n)
	       : dtype == BMI_F16 ? vec_load_f16_n(p, n)
				  : vec_load_bf16_n(p, n);
}

/* What this set's table points at; see kernels.h. */
void BMI_ISA(bmi_matvec)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1);
void BMI_ISA(bmi_gemm)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, uint32_t tok0, uint32_t tok1,
		       struct bmi_scratch *scratch);
void BMI_ISA(bmi_rmsnorm)(float *y, const float *x, const float *w, uint32_t dim, float eps, float w_offset);
void BMI_ISA(bmi_layernorm)(float *y, const float *x, const float *w, const float *b, uint32_t dim, float eps);
void BMI_ISA(bmi_rope)(float *x, const struct bmi_rope *rope, uint32_t pos, uint32_t n_heads,
		       uint32_t head_dim);
void BMI_ISA(bmi_glu)(float *y, const float *gate, const float *up, uint32_t dim, enum bmi_act act);
void BMI_ISA(bmi_add)(float *y, const float *x, size_t n, float scale);
void BMI_ISA(bmi_softcap)(float *x, size_t n, float cap);
void BMI_ISA(bmi_widen)(float *y, const void *src, enum bmi_dtype from, size_t n, float scale);
void BMI_ISA(bmi_narrow)(void *dst, enum bmi_dtype to, const float *x, size_t n);
void BMI_ISA(bmi_attend)(const struct bmi_attn *a, uint32_t tok0, uint32_t n_tok, uint32_t kv_head,
			 struct bmi_scratch *scratch);

extern const struct bmi_kernels BMI_ISA(bmi_kernels);

#endif
#endif

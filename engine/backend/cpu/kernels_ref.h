/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_KERNELS_REF_H
#define BMI_BACKEND_CPU_KERNELS_REF_H

#include "backend/cpu/kernels.h"

/* The plain C kernels, behind bmi_kernels_ref; what each must do is in kernels.h and backend.h. */
void bmi_matvec_ref(const struct bmi_matmul *m, uint32_t row0, uint32_t row1);
void bmi_gemm_ref(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, uint32_t tok0, uint32_t tok1,
		  struct bmi_scratch *scratch);
void bmi_rmsnorm_ref(float *y, const float *x, const float *w, uint32_t dim, float eps, float w_offset);
void bmi_layernorm_ref(float *y, const float *x, const float *w, const float *b, uint32_t dim, float eps);
void bmi_rope_ref(float *x, const struct bmi_rope *rope, uint32_t pos, uint32_t n_heads, uint32_t head_dim);
void bmi_glu_ref(float *y, const float *gate, const float *up, uint32_t dim, enum bmi_act act);
void bmi_add_ref(float *y, const float *x, size_t n, float scale);
void bmi_softcap_ref(float *x, size_t n, float cap);
void bmi_widen_ref(float *y, const void *src, enum bmi_dtype from, size_t n, float scale);
void bmi_narrow_ref(void *dst, enum bmi_dtype to, const float *x, size_t n);
void bmi_attend_ref(const struct bmi_attn *a, uint32_t tok0, uint32_t n_tok, uint32_t kv_head,
		    struct bmi_scratch *scratch);

#endif

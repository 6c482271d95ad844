/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of one vector set. */
#include "backend/cpu/vec.h"

const struct bmi_kernels BMI_ISA(bmi_kernels) = {
	.name = BMI_ISA_NAME,
	.matvec = BMI_ISA(bmi_matvec),
	.gemm = BMI_ISA(bmi_gemm),
	.gemm_min_tok = VEC_GEMM_MIN_TOKENS,
	.rmsnorm = BMI_ISA(bmi_rmsnorm),
	.layernorm = BMI_ISA(bmi_layernorm),
	.rope = BMI_ISA(bmi_rope),
	.glu = BMI_ISA(bmi_glu),
	.add = BMI_ISA(bmi_add),
	.softcap = BMI_ISA(bmi_softcap),
	.widen = BMI_ISA(bmi_widen),
	.narrow = BMI_ISA(bmi_narrow),
	.attend = BMI_ISA(bmi_attend),
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the list of kernel sets on x86-64. __builtin_cpu_supports() also asks whether the system saves the registers
 * (XGETBV), so a set on the list can run. F16C, which clang 14 does not know by name, uses AVX's registers.
 */
#include "backend/cpu/kernels.h"

#include <cpuid.h>

extern const struct bmi_kernels bmi_kernels_avx2, bmi_kernels_avx512;

static bool has_f16c(void)
{
	unsigned a, b, c, d;

	return __get_cpuid(1, &a, &b, &c, &d) && (c & bit_F16C);
}

unsigned bmi_kernels_list(const struct bmi_kernels *ret[BMI_KERNELS_MAX])
{
	unsigned n = 0;

	__builtin_cpu_init();
	if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
	    __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
	    __builtin_cpu_supports("fma"))
		ret[n++] = &bmi_kernels_avx512;
	if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && has_f16c())
		ret[n++] = &bmi_kernels_avx2;
	ret[n++] = &bmi_kernels_ref;
	return n;
}

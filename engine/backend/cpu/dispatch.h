/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_DISPATCH_H
#define BMI_BACKEND_CPU_DISPATCH_H

#include "backend/cpu/kernels.h"

/**
 * bmi_kernels_pick() - the best set this CPU runs that is not above @at_most ("ref", "avx2", "avx512"; NULL: no limit).
 *
 * Return: 0, -EINVAL (unknown name).
 */
int bmi_kernels_pick(const char *at_most, const struct bmi_kernels **ret, struct bmi_error *err);

#endif

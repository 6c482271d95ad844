/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the list of kernel sets on machines we have no vector code for: the plain C one. */
#include "backend/cpu/kernels.h"

unsigned bmi_kernels_list(const struct bmi_kernels *ret[BMI_KERNELS_MAX])
{
	ret[0] = &bmi_kernels_ref;
	return 1;
}

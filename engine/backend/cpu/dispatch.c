/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the plain C kernel set and the choice of a set by name. */
#include "backend/cpu/dispatch.h"

#include "backend/cpu/kernels_ref.h"

#include <errno.h>

const struct bmi_kernels bmi_kernels_ref = {
	.name = "ref",
	.matvec = bmi_matvec_ref,
	.gemm = bmi_gemm_ref,
	.gemm_min_tok = 32,
	.rmsnorm = bmi_rmsnorm_ref,
	.layernorm = bmi_layernorm_ref,
	.rope = bmi_rope_ref,
	.glu = bmi_glu_ref,
	.add = bmi_add_ref,
	.softcap = bmi_softcap_ref,
	.widen = bmi_widen_ref,
	.narrow = bmi_narrow_ref,
	.attend = bmi_attend_ref,
};

/* Rising order: a name asks for at most that set. */
static const char *const names[] = { "ref", "avx2", "avx512" };

static int rank_of(const char *name)
{
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++)
		if (strcmp(names[i], name) == 0)
			return (int)i;
	return -1;
}

int bmi_kernels_pick(const char *at_most, const struct bmi_kernels **ret, struct bmi_error *err)
{
	const struct bmi_kernels *list[BMI_KERNELS_MAX];
	const unsigned n = bmi_kernels_list(list);
	const int limit = at_most ? rank_of(at_most) : (int)n;

	if (limit < 0)
		return bmi_fail(err, -EINVAL, "instruction set '%s' is none of ref, avx2, avx512", at_most);
	for (unsigned i = 0; i < n; i++)
		if (!at_most || rank_of(list[i]->name) <= limit) {
			*ret = list[i];
			return 0;
		}
	*ret = &bmi_kernels_ref;
	return 0;
}

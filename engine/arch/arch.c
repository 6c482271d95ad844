/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The table of architectures. A new one is a file with its row and one line here. Invariant: model_type is unique.
 */
#include "arch/arch_priv.h"

#include <string.h>

/* clang-format off: one row, one line */
static const struct bmi_arch *const archs[] = {
	&bmi_arch_llama,       &bmi_arch_mistral,   &bmi_arch_gemma3_text, &bmi_arch_qwen2,
	&bmi_arch_qwen3,       &bmi_arch_gemma,     &bmi_arch_gemma2,      &bmi_arch_phi3,
	&bmi_arch_mixtral,     &bmi_arch_qwen2_moe, &bmi_arch_qwen3_moe,   &bmi_arch_gpt_oss,
	&bmi_arch_deepseek_v3, &bmi_arch_gpt2,      &bmi_arch_gpt_neox,    &bmi_arch_opt,
	&bmi_arch_falcon,      &bmi_arch_bloom,     &bmi_arch_granite,     &bmi_arch_smollm3,
	&bmi_arch_olmo2,       &bmi_arch_stablelm,  &bmi_arch_starcoder2,  &bmi_arch_cohere,
	&bmi_arch_phi,         &bmi_arch_gptj,
};
/* clang-format on */

const struct bmi_arch *bmi_arch_get(unsigned i)
{
	return i < BMI_ARRAY_LEN(archs) ? archs[i] : NULL;
}

const struct bmi_arch *bmi_arch_find(const char *model_type)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(archs); i++)
		if (!strcmp(archs[i]->model_type, model_type))
			return archs[i];
	return NULL;
}

const struct bmi_arch *bmi_arch_find_gguf(const char *gguf_arch)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(archs); i++)
		if (archs[i]->gguf_arch && !strcmp(archs[i]->gguf_arch, gguf_arch))
			return archs[i];
	return NULL;
}

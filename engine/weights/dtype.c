/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what dtype `auto` means for a checkpoint: config, then the index's metadata, then the tensors, in the peer's order.
 * Invariant: what comes out is a floating dtype, never a quantized one.
 */
#include "weights/ckpt_priv.h"

#include "base/checked.h"

#include <errno.h>
#include <string.h>

static int by_word(const char *word, enum bmi_dtype *ret, struct bmi_error *err)
{
	const char *name = strncmp(word, "torch.", 6) == 0 ? word + 6 : word;

	for (unsigned i = 0; i < BMI_N_DTYPES; i++) {
		const struct bmi_dtype_info *info = bmi_dtype_info((enum bmi_dtype)i);

		if (info->is_floating && strcmp(info->name, name) == 0) {
			*ret = (enum bmi_dtype)i;
			return 0;
		}
	}
	return bmi_fail(
		err, -EINVAL,
		"'model.safetensors.index.json': metadata.dtype '%s' is not a floating dtype: ask for one by "
		"name (dtype=)",
		bmi_name_show(word, strlen(word)).text);
}

/* The first file's first floating tensor, by name in byte order. */
static int by_first_tensor(const struct bmi_ckpt *ckpt, enum bmi_dtype *ret, struct bmi_error *err)
{
	const struct bmi_ckpt_tensor *any = NULL, *floating = NULL;

	for (uint32_t i = 0; i < ckpt->list.n; i++) {
		const struct bmi_ckpt_tensor *t = &ckpt->list.at[i];

		if (t->file != ckpt->files[0].name)
			continue;
		if (!any || strcmp(t->name, any->name) < 0)
			any = t;
		if (bmi_dtype_info(t->dtype)->is_floating && (!floating || strcmp(t->name, floating->name) < 0))
			floating = t;
	}
	if (!floating && any)
		return bmi_fail(err, -EINVAL,
				"'%s': tensor '%s' is %s, and none is floating: a model cannot be made in "
				"that dtype, "
				"ask for another (dtype=)",
				any->file, bmi_name_show(any->name, strlen(any->name)).text,
				bmi_dtype_name(any->dtype));
	*ret = floating ? floating->dtype : BMI_F32;
	return 0;
}

/* What most elements are stored in, if it is a dtype we compute in; blocks become bfloat16. */
static enum bmi_dtype by_majority(const struct bmi_ckpt *ckpt)
{
	uint64_t n[BMI_N_DTYPES] = { 0 };
	unsigned most = BMI_BF16;

	for (uint32_t i = 0; i < ckpt->list.n; i++) {
		const struct bmi_ckpt_tensor *t = &ckpt->list.at[i];
		const struct bmi_dtype_info *info = bmi_dtype_info(t->dtype);

		/* a tensor's bytes fit its file, so its elements and their sum fit 64 bits */
		n[t->dtype] += t->extent.len / info->block_bytes * info->block_len;
	}
	for (unsigned i = 0; i < BMI_N_DTYPES; i++)
		if (n[i] > n[most])
			most = i;
	return most == BMI_F32 || most == BMI_F16 ? (enum bmi_dtype)most : BMI_BF16;
}

int bmi_ckpt_dtype(const struct bmi_ckpt *ckpt, const struct bmi_config *cfg, enum bmi_dtype *ret,
		   struct bmi_error *err)
{
	if (cfg->has_dtype && !bmi_dtype_info(cfg->dtype)->is_floating)
		return bmi_fail(err, -EINVAL,
				"config.json: a model cannot be made in dtype %s, it is not floating: ask "
				"for another "
				"(dtype=)",
				bmi_dtype_name(cfg->dtype));
	if (cfg->has_dtype) {
		*ret = cfg->dtype;
		return 0;
	}
	if (ckpt->format == BMI_CKPT_GGUF) {
		*ret = by_majority(ckpt);
		return 0;
	}
	if (ckpt->format == BMI_CKPT_NONE) {
		*ret = BMI_F32;
		return 0;
	}
	return ckpt->index_dtype ? by_word(ckpt->index_dtype, ret, err) : by_first_tensor(ckpt, ret, err);
}

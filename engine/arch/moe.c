/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What families with experts share besides arithmetic (experts.c): numbers, trees, names. The experts' tensors are those
 * of Transformers 5, fused; checkpoints hold one matrix for each expert under older names, which bmi_moe_parts tells.
 */
#include "arch/moe.h"

#include "model/keys.h"

#include <errno.h>

const struct bmi_form bmi_moe_form = {
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.q_norm = "self_attn.q_norm",
	.k_norm = "self_attn.k_norm",
	.o = "self_attn.o_proj",
	.mlp_norm = "post_attention_layernorm",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
	.mlp = bmi_moe_mlp,
};

const char *const bmi_moe_exec[] = {
	"input_layernorm.weight",
	"self_attn.q_proj.weight",
	"self_attn.q_proj.bias",
	"self_attn.q_a_proj.weight",
	"self_attn.q_a_proj.bias",
	"self_attn.q_a_layernorm.weight",
	"self_attn.q_b_proj.weight",
	"self_attn.kv_a_proj_with_mqa.weight",
	"self_attn.kv_a_proj_with_mqa.bias",
	"self_attn.kv_a_layernorm.weight",
	"self_attn.kv_b_proj.weight",
	"self_attn.k_proj.weight",
	"self_attn.k_proj.bias",
	"self_attn.v_proj.weight",
	"self_attn.v_proj.bias",
	"self_attn.q_norm.weight",
	"self_attn.k_norm.weight",
	"self_attn.sinks",
	"self_attn.o_proj.weight",
	"self_attn.o_proj.bias",
	"post_attention_layernorm.weight",
	"mlp.gate_proj.weight",
	"mlp.up_proj.weight",
	"mlp.down_proj.weight",
	"mlp.gate.weight",
	"mlp.gate.e_score_correction_bias",
	"mlp.router.weight",
	"mlp.router.bias",
	"mlp.experts.gate_up_proj",
	"mlp.experts.gate_up_proj_bias",
	"mlp.experts.down_proj",
	"mlp.experts.down_proj_bias",
	"mlp.shared_expert.gate_proj.weight",
	"mlp.shared_expert.up_proj.weight",
	"mlp.shared_expert.down_proj.weight",
	"mlp.shared_expert_gate.weight",
	"mlp.shared_experts.gate_proj.weight",
	"mlp.shared_experts.up_proj.weight",
	"mlp.shared_experts.down_proj.weight",
	NULL,
};

const struct bmi_arch_part bmi_moe_parts[] = {
	{ "model.layers.%u.mlp.experts.%e.gate_proj.weight", "model.layers.%u.mlp.experts.gate_up_proj", 0, 2 },
	{ "model.layers.%u.mlp.experts.%e.up_proj.weight", "model.layers.%u.mlp.experts.gate_up_proj", 1, 2 },
	{ "model.layers.%u.mlp.experts.%e.down_proj.weight", "model.layers.%u.mlp.experts.down_proj", 0, 1 },
	{ NULL },
};

void *bmi_moe_new(struct bmi_config *c, size_t size, struct bmi_error *err)
{
	struct bmi_moe *moe = bmi_arena_alloc(c->arena, size);

	if (moe)
		moe->is_dense = bmi_arena_array(c->arena, c->n_layers, sizeof(bool));
	if (!moe || !moe->is_dense) {
		(void)bmi_fail(err, -ENOMEM, "config of %u layers", c->n_layers);
		return NULL;
	}
	moe->router = "mlp.gate";
	c->ext = moe;
	return moe;
}

int bmi_moe_read_dense(const struct bmi_json *json, const struct bmi_config *c, struct bmi_moe *moe,
		       struct bmi_error *err)
{
	const struct bmi_json *only = bmi_key_get(json, "mlp_only_layers");
	uint64_t layer;
	int r = bmi_key_u32(json, "decoder_sparse_step", 1, 1, INT32_MAX, &moe->sparse_step, err);

	if (r < 0)
		return r;
	for (uint32_t l = 0; l < c->n_layers; l++)
		moe->is_dense[l] = (l + 1) % moe->sparse_step != 0;
	if (only && only->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "config.json: 'mlp_only_layers' is not a list");
	for (const struct bmi_json *v = only ? only->child : NULL; v; v = v->next) {
		if (!bmi_json_to_u64(v, &layer))
			return bmi_fail(
				err, -EINVAL,
				"config.json: 'mlp_only_layers' holds something else than layer numbers");
		if (layer < c->n_layers)
			moe->is_dense[layer] = true;
	}
	return 0;
}

int bmi_moe_finish(struct bmi_config *c, const struct bmi_form *form, struct bmi_error *err)
{
	const struct bmi_moe *moe = c->ext;

	if (moe->n_used > moe->n_experts)
		return bmi_fail(err, -EINVAL, "config.json: 'num_experts_per_tok' is %u of only %u experts",
				moe->n_used, moe->n_experts);
	bmi_form_set(c, form);
	c->scratch_floats += moe->n_experts + 2 * c->hidden_size + 4 * moe->expert_size + 2 * moe->shared_size;
	return 0;
}

void bmi_moe_build_dense(const struct bmi_config *c, struct bmi_skel_builder *b, uint64_t ff)
{
	bmi_skel_linear(b, "gate_proj", ff, c->hidden_size, false);
	bmi_skel_linear(b, "up_proj", ff, c->hidden_size, false);
	bmi_skel_linear(b, "down_proj", c->hidden_size, ff, false);
	bmi_skel_empty(b, "act_fn");
}

void bmi_moe_build_experts(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_moe *moe = c->ext;
	const uint64_t n = moe->n_experts, dim = c->hidden_size, ff = moe->expert_size;

	bmi_skel_begin(b, "experts", "", false);
	bmi_skel_param(b, "gate_up_proj", 3, n, 2 * ff, dim);
	bmi_skel_param(b, "down_proj", 3, n, dim, ff);
	bmi_skel_empty(b, "act_fn");
	bmi_skel_end(b);
}

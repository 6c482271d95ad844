/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mixtral: llama with experts. The experts are moe.c's and experts.c's.
 */
#include "arch/moe.h"

#include "model/keys.h"

#include <errno.h>

static const struct bmi_arch_part parts[] = {
	{ "model.layers.%u.block_sparse_moe.gate.weight", "model.layers.%u.mlp.gate.weight", 0, 0 },
	{ "model.layers.%u.block_sparse_moe.experts.%e.w1.weight", "model.layers.%u.mlp.experts.gate_up_proj",
	  0, 2 },
	{ "model.layers.%u.block_sparse_moe.experts.%e.w3.weight", "model.layers.%u.mlp.experts.gate_up_proj",
	  1, 2 },
	{ "model.layers.%u.block_sparse_moe.experts.%e.w2.weight", "model.layers.%u.mlp.experts.down_proj", 0,
	  1 },
	{ NULL },
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const char *key = bmi_key_get(json, "num_local_experts") ? "num_local_experts" : "num_experts";
	struct bmi_moe *moe = bmi_moe_new(c, sizeof(*moe), err);
	int r;

	if (!moe)
		return -ENOMEM;
	moe->expert_size = c->intermediate_size;
	moe->normalize = true;
	r = bmi_key_u32(json, key, 8, 1, BMI_MOE_EXPERTS_MAX, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "num_experts_per_tok", 2, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", 0, 0, INT32_MAX, &c->sliding_window, err);
	for (uint32_t l = 0; r == 0 && l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	return r ? r : bmi_moe_finish(c, &bmi_moe_form, err);
}

static void mlp(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "gate", ((const struct bmi_moe *)c->ext)->n_experts, c->hidden_size, false);
	bmi_moe_build_experts(c, b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = { .layer_class = "MixtralDecoderLayer", .mlp = mlp };

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 32000,
	.hidden_size = 4096,
	.intermediate_size = 14336,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 8,
	.max_positions = 4096 * 32,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.rope_theta = 1000000,
};

const struct bmi_arch bmi_arch_mixtral = {
	.model_type = "mixtral",
	.class_name = "MixtralForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = bmi_moe_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.parts = parts,
};

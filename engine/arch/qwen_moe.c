/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Qwen 2 and 3 with experts. The experts are moe.c's and experts.c's.
 */
#include "arch/moe.h"

#include "model/keys.h"

#include <errno.h>

static int configure_qwen2(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const uint32_t window_fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	struct bmi_moe *moe = bmi_moe_new(c, sizeof(*moe), err);
	uint32_t window, last;
	bool on;
	int r;

	if (!moe)
		return -ENOMEM;
	moe->shared = "mlp.shared_expert";
	moe->shared_gate = "mlp.shared_expert_gate";
	r = bmi_key_u32(json, "num_experts", 60, 1, BMI_MOE_EXPERTS_MAX, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "num_experts_per_tok", 4, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used, err);
	r = r ? r : bmi_key_bool(json, "norm_topk_prob", false, &moe->normalize, err);
	r = r ? r : bmi_key_u32(json, "moe_intermediate_size", 1408, 1, 1 << 24, &moe->expert_size, err);
	r = r ? r
	      : bmi_key_u32(json, "shared_expert_intermediate_size", 5632, 1, 1 << 24, &moe->shared_size, err);
	r = r ? r : bmi_key_bool(json, "qkv_bias", true, &moe->qkv_bias, err);
	r = r ? r : bmi_key_bool(json, "use_sliding_window", false, &on, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", window_fallback, 0, INT32_MAX, &window, err);
	r = r ? r : bmi_key_u32(json, "max_window_layers", 28, 0, INT32_MAX, &last, err);
	if (r < 0)
		return r;
	c->sliding_window = on ? window : 0;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = on && (l + 1) % 2 && l < last;
	r = bmi_moe_read_dense(json, c, moe, err);
	return r ? r : bmi_moe_finish(c, &bmi_moe_form, err);
}

/* A window, if it is on, is on all layers. */
static int configure_qwen3(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const char *key = bmi_key_get(json, "num_local_experts") ? "num_local_experts" : "num_experts";
	const uint32_t window_fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	struct bmi_moe *moe = bmi_moe_new(c, sizeof(*moe), err);
	bool on;
	int r;

	if (!moe)
		return -ENOMEM;
	r = bmi_key_u32(json, key, 128, 1, BMI_MOE_EXPERTS_MAX, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "num_experts_per_tok", 8, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used, err);
	r = r ? r : bmi_key_bool(json, "norm_topk_prob", false, &moe->normalize, err);
	r = r ? r : bmi_key_u32(json, "moe_intermediate_size", 768, 1, 1 << 24, &moe->expert_size, err);
	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_bool(json, "use_sliding_window", false, &on, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", window_fallback, 0, INT32_MAX, &c->sliding_window, err);
	if (r < 0)
		return r;
	if (!on)
		c->sliding_window = 0;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	r = bmi_moe_read_dense(json, c, moe, err);
	return r ? r : bmi_moe_finish(c, &bmi_moe_form, err);
}

static void mlp_qwen2(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct bmi_moe *moe = c->ext;

	bmi_skel_begin(b, "mlp", "", false);
	if (moe->is_dense[layer]) {
		bmi_moe_build_dense(c, b, c->intermediate_size);
	} else {
		bmi_skel_linear(b, "gate", moe->n_experts, c->hidden_size, false);
		bmi_moe_build_experts(c, b);
		bmi_skel_begin(b, "shared_expert", "", false);
		bmi_moe_build_dense(c, b, moe->shared_size);
		bmi_skel_end(b);
		bmi_skel_linear(b, "shared_expert_gate", 1, c->hidden_size, false);
	}
	bmi_skel_end(b);
}

static void mlp_qwen3(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct bmi_moe *moe = c->ext;

	bmi_skel_begin(b, "mlp", "", false);
	if (moe->is_dense[layer]) {
		bmi_moe_build_dense(c, b, c->intermediate_size);
	} else {
		bmi_moe_build_experts(c, b);
		bmi_skel_linear(b, "gate", moe->n_experts, c->hidden_size, false);
	}
	bmi_skel_end(b);
}

static void build_qwen2(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Qwen2MoeDecoderLayer",
		.qkv_bias = ((const struct bmi_moe *)c->ext)->qkv_bias,
		.mlp = mlp_qwen2,
	};

	bmi_llamalike_build(c, b, &kind);
}

static void build_qwen3(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Qwen3MoeDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.qk_norm = true,
		.mlp = mlp_qwen3,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys_qwen2 = {
	.vocab_size = 151936,
	.hidden_size = 2048,
	.intermediate_size = 5632,
	.n_layers = 24,
	.n_heads = 16,
	.n_kv_heads = 16,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.has_layer_types = true,
	.rope_theta = 10000,
};

static const struct bmi_arch_keys keys_qwen3 = {
	.vocab_size = 151936,
	.hidden_size = 2048,
	.intermediate_size = 6144,
	.n_layers = 24,
	.n_heads = 32,
	.n_kv_heads = 4,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_qwen2_moe = {
	.model_type = "qwen2_moe",
	.class_name = "Qwen2MoeForCausalLM",
	.configure = configure_qwen2,
	.build = build_qwen2,
	.exec_layer = bmi_moe_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_qwen2,
	.parts = bmi_moe_parts,
};

const struct bmi_arch bmi_arch_qwen3_moe = {
	.model_type = "qwen3_moe",
	.class_name = "Qwen3MoeForCausalLM",
	.configure = configure_qwen3,
	.build = build_qwen3,
	.exec_layer = bmi_moe_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_qwen3,
	.parts = bmi_moe_parts,
};

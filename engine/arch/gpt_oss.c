/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpt-oss: experts stored [in][out] with biases and a limited glu, a sink in each head's softmax, every other layer slides.
 */
#include "arch/moe.h"

#include "model/keys.h"

#include <errno.h>

static const char *const gathered[] = { "*.mlp.experts.*_proj_bias", NULL };

static const struct bmi_form form = {
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.sinks = "self_attn.sinks",
	.o = "self_attn.o_proj",
	.mlp_norm = "post_attention_layernorm",
	.mlp = bmi_moe_mlp,
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const char *key = bmi_key_get(json, "num_experts") ? "num_experts" : "num_local_experts";
	const uint32_t window_fallback = bmi_json_get(json, "sliding_window") ? 0 : 128;
	struct bmi_moe *moe = bmi_moe_new(c, sizeof(*moe), err);
	double limit, alpha;
	int r;

	if (!moe)
		return -ENOMEM;
	r = bmi_key_u32(json, key, 128, 1, BMI_MOE_EXPERTS_MAX, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "num_experts_per_tok", 4, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used, err);
	r = r ? r : bmi_key_bool(json, "attention_bias", true, &c->attention_bias, err);
	r = r ? r : bmi_key_double(json, "swiglu_limit", 7, &limit, err);
	r = r ? r : bmi_key_double(json, "swiglu_alpha", 1.702, &alpha, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", window_fallback, 0, INT32_MAX, &c->sliding_window, err);
	if (r < 0)
		return r;
	if (!bmi_key_get(json, "rope_parameters") && !bmi_key_get(json, "rope_scaling"))
		return bmi_fail(
			err, -EOPNOTSUPP,
			"config.json: gpt_oss without 'rope_parameters' or 'rope_scaling' is not supported");
	moe->route = BMI_ROUTE_SOFTMAX_TOP;
	moe->router = "mlp.router";
	moe->expert_size = c->intermediate_size;
	moe->pairs = true;
	moe->limit = (float)limit;
	moe->alpha = (float)alpha;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window && (l + 1) % 2;
	return bmi_moe_finish(c, &form, err);
}

static void mlp(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct bmi_moe *moe = c->ext;
	const uint64_t n = moe->n_experts, dim = c->hidden_size, ff = moe->expert_size;

	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "router", n, dim, true);
	bmi_skel_begin(b, "experts", "", false);
	bmi_skel_param(b, "gate_up_proj", 3, n, dim, 2 * ff);
	bmi_skel_param(b, "gate_up_proj_bias", 2, n, 2 * ff);
	bmi_skel_param(b, "down_proj", 3, n, ff, dim);
	bmi_skel_param(b, "down_proj_bias", 2, n, dim);
	bmi_skel_end(b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "GptOssDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.sinks = true,
		.mlp = mlp,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 201088,
	.hidden_size = 2880,
	.intermediate_size = 2880,
	.n_layers = 36,
	.n_heads = 64,
	.n_kv_heads = 8,
	.head_dim = 64,
	.max_positions = 131072,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.has_layer_types = true,
	.rope_theta = 150000,
};

const struct bmi_arch bmi_arch_gpt_oss = {
	.model_type = "gpt_oss",
	.class_name = "GptOssForCausalLM",
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
	.gathered = gathered,
};

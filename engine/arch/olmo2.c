/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OLMo 2: norms on what attention and the MLP give, none before them; q and k normed over all heads at once.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

static const struct bmi_form form = {
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.q_norm = "self_attn.q_norm",
	.k_norm = "self_attn.k_norm",
	.qk_norm_whole = true,
	.o = "self_attn.o_proj",
	.attn_post_norm = "post_attention_layernorm",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
	.mlp_post_norm = "post_feedforward_layernorm",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bmi_form_set(c, &form);
	return bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Olmo2DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.qk_norm_whole = true,
		.post_norms = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 50304,
	.hidden_size = 4096,
	.intermediate_size = 11008,
	.n_layers = 32,
	.n_heads = 32,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_olmo2 = {
	.model_type = "olmo2",
	.class_name = "Olmo2ForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

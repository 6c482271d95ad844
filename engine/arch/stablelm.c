/* SPDX-License-Identifier: Apache-2.0 */
/*
 * StableLM: llama with LayerNorm and heads of which a part turns; attention and MLP side by side if told so.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

static const struct bmi_form serial = {
	.layer_norm = true,
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.o_proj",
	.mlp_norm = "post_attention_layernorm",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
};

static const struct bmi_form parallel = {
	.layer_norm = true,
	.parallel = true,
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.o_proj",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bool is_parallel = false;
	int r = bmi_key_refuse_true(json, "qk_layernorm", err);

	r = r ? r : bmi_key_bool(json, "use_qkv_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_bool(json, "use_parallel_residual", false, &is_parallel, err);
	bmi_form_set(c, is_parallel ? &parallel : &serial);
	return r;
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "StableLmDecoderLayer",
		.qkv_bias = c->attention_bias,
		.norm_bias = true,
		.one_norm = c->form == &parallel,
		.layer_end = "dropout",
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.eps = "layer_norm_eps",
	.vocab_size = 50304,
	.hidden_size = 2560,
	.intermediate_size = 6912,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 32,
	.max_positions = 4096,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.rope_theta = 10000,
	.rope_partial = 0.25,
};

const struct bmi_arch bmi_arch_stablelm = {
	.model_type = "stablelm",
	.class_name = "StableLmForCausalLM",
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

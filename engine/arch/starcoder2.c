/* SPDX-License-Identifier: Apache-2.0 */
/*
 * StarCoder 2: LayerNorm, biases everywhere, a plain MLP.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"self_attn.q_proj.weight",
	"self_attn.q_proj.bias",
	"self_attn.k_proj.weight",
	"self_attn.k_proj.bias",
	"self_attn.v_proj.weight",
	"self_attn.v_proj.bias",
	"self_attn.o_proj.weight",
	"self_attn.o_proj.bias",
	"post_attention_layernorm.weight",
	"post_attention_layernorm.bias",
	"mlp.c_fc.weight",
	"mlp.c_fc.bias",
	"mlp.c_proj.weight",
	"mlp.c_proj.bias",
	NULL,
};

static const struct bmi_form form = {
	.layer_norm = true,
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.o_proj",
	.mlp_norm = "post_attention_layernorm",
	.up = "mlp.c_fc",
	.down = "mlp.c_proj",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	int r = bmi_key_bool(json, "use_bias", true, &c->attention_bias, err);

	r = r ? r : bmi_key_u32(json, "sliding_window", 0, 0, INT32_MAX, &c->sliding_window, err);
	for (uint32_t l = 0; r == 0 && l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	bmi_form_set(c, &form);
	return r;
}

static void mlp(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "c_fc", c->intermediate_size, c->hidden_size, c->attention_bias);
	bmi_skel_linear(b, "c_proj", c->hidden_size, c->intermediate_size, c->attention_bias);
	bmi_skel_empty(b, "act");
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Starcoder2DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.norm_bias = true,
		.mlp = mlp,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.eps = "norm_epsilon",
	.vocab_size = 49152,
	.hidden_size = 3072,
	.intermediate_size = 12288,
	.n_layers = 30,
	.n_heads = 24,
	.n_kv_heads = 2,
	.max_positions = 4096,
	.norm_eps = 1e-5,
	.act_word = "gelu_pytorch_tanh",
	.tie = true,
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_starcoder2 = {
	.model_type = "starcoder2",
	.class_name = "Starcoder2ForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

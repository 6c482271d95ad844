/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Llama and Mistral: what their configurations say, their names in GGUF files. The tree is llamalike.c's, the arithmetic
 * decoder.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

static const char *const gguf_names[][2] = {
	{ "token_embd.weight", "model.embed_tokens.weight" },
	{ "output_norm.weight", "model.norm.weight" },
	{ "output.weight", "lm_head.weight" },
	{ "blk.%u.attn_norm.weight", "model.layers.%u.input_layernorm.weight" },
	{ "blk.%u.attn_q.weight", "model.layers.%u.self_attn.q_proj.weight" },
	{ "blk.%u.attn_q.bias", "model.layers.%u.self_attn.q_proj.bias" },
	{ "blk.%u.attn_k.weight", "model.layers.%u.self_attn.k_proj.weight" },
	{ "blk.%u.attn_k.bias", "model.layers.%u.self_attn.k_proj.bias" },
	{ "blk.%u.attn_v.weight", "model.layers.%u.self_attn.v_proj.weight" },
	{ "blk.%u.attn_v.bias", "model.layers.%u.self_attn.v_proj.bias" },
	{ "blk.%u.attn_output.weight", "model.layers.%u.self_attn.o_proj.weight" },
	{ "blk.%u.attn_output.bias", "model.layers.%u.self_attn.o_proj.bias" },
	{ "blk.%u.ffn_norm.weight", "model.layers.%u.post_attention_layernorm.weight" },
	{ "blk.%u.ffn_gate.weight", "model.layers.%u.mlp.gate_proj.weight" },
	{ "blk.%u.ffn_gate.bias", "model.layers.%u.mlp.gate_proj.bias" },
	{ "blk.%u.ffn_up.weight", "model.layers.%u.mlp.up_proj.weight" },
	{ "blk.%u.ffn_up.bias", "model.layers.%u.mlp.up_proj.bias" },
	{ "blk.%u.ffn_down.weight", "model.layers.%u.mlp.down_proj.weight" },
	{ "blk.%u.ffn_down.bias", "model.layers.%u.mlp.down_proj.bias" },
	{ NULL, NULL },
};

static int configure_llama(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	int r = bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);

	return r ? r : bmi_key_bool(json, "mlp_bias", false, &c->mlp_bias, err);
}

static void build_llama(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "LlamaDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.mlp_bias = c->mlp_bias,
	};

	bmi_llamalike_build(c, b, &kind);
}

/* A missing sliding_window is the class's 4096, null is none; the window is on all layers. */
static int configure_mistral(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const uint32_t fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	int r = bmi_key_u32(json, "sliding_window", fallback, 0, INT32_MAX, &c->sliding_window, err);

	for (uint32_t l = 0; r == 0 && l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	return r;
}

static void build_mistral(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = { .layer_class = "MistralDecoderLayer" };

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys_llama = {
	.vocab_size = 32000,
	.hidden_size = 4096,
	.intermediate_size = 11008,
	.n_layers = 32,
	.n_heads = 32,
	.max_positions = 2048,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.rope_theta = 10000,
};

static const struct bmi_arch_keys keys_mistral = {
	.vocab_size = 32000,
	.hidden_size = 4096,
	.intermediate_size = 14336,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 8,
	.max_positions = 4096 * 32,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_llama = {
	.model_type = "llama",
	.class_name = "LlamaForCausalLM",
	.configure = configure_llama,
	.build = build_llama,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.gguf_names = gguf_names,
	.gguf_arch = "llama",
	.forward = &bmi_forward_decoder,
	.keys = &keys_llama,
};

/* GGUF files of Mistral models say "llama". */
const struct bmi_arch bmi_arch_mistral = {
	.model_type = "mistral",
	.class_name = "MistralForCausalLM",
	.configure = configure_mistral,
	.build = build_mistral,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_mistral,
};

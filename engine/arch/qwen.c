/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Qwen 2 and 3, dense: what their configurations say, their names in GGUF files. The tree is llamalike.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

/* Sliding windows are off unless asked for; then layers from max_window_layers on slide. */
static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const uint32_t fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	uint32_t window, first;
	bool on;
	int r = bmi_key_bool(json, "use_sliding_window", false, &on, err);

	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", fallback, 0, INT32_MAX, &window, err);
	r = r ? r : bmi_key_u32(json, "max_window_layers", 28, 0, INT32_MAX, &first, err);
	if (r < 0)
		return r;
	c->sliding_window = on ? window : 0;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window && l >= first;
	return 0;
}

static void build_qwen2(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = { .layer_class = "Qwen2DecoderLayer", .qkv_bias = true };

	bmi_llamalike_build(c, b, &kind);
}

static void build_qwen3(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Qwen3DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.qk_norm = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys_qwen2 = {
	.vocab_size = 151936,
	.hidden_size = 4096,
	.intermediate_size = 22016,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 32,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.has_layer_types = true,
	.rope_theta = 10000,
};

static const struct bmi_arch_keys keys_qwen3 = {
	.vocab_size = 151936,
	.hidden_size = 4096,
	.intermediate_size = 22016,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 32,
	.head_dim = 128,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.has_layer_types = true,
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_qwen2 = {
	.model_type = "qwen2",
	.class_name = "Qwen2ForCausalLM",
	.configure = configure,
	.build = build_qwen2,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_qwen2,
};

const struct bmi_arch bmi_arch_qwen3 = {
	.model_type = "qwen3",
	.class_name = "Qwen3ForCausalLM",
	.configure = configure,
	.build = build_qwen3,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_qwen3,
};

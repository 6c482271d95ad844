/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Phi 3: a llama-like decoder with q, k, v and gate, up each in one matrix.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <stdio.h>

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"self_attn.qkv_proj.weight",
	"self_attn.o_proj.weight",
	"post_attention_layernorm.weight",
	"mlp.gate_up_proj.weight",
	"mlp.down_proj.weight",
	NULL,
};

static const struct bmi_form form = {
	.attn_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = "self_attn.qkv_proj",
	.qkv_rows = BMI_QKV_BLOCKS,
	.o = "self_attn.o_proj",
	.gate_up = "mlp.gate_up_proj",
	.down = "mlp.down_proj",
};

/* Frequencies that depend on how long the sequence becomes: a table per length, and so a cache that is never right. */
static bool is_longrope(const struct bmi_json *json)
{
	static const char *const places[] = { "rope_parameters", "rope_scaling" };
	static const char *const keys[] = { "rope_type", "type" };
	static const char *const words[] = { "longrope", "su" };

	for (size_t i = 0; i < 8; i++) {
		const struct bmi_json *o = bmi_key_get(json, places[i / 4]);
		const struct bmi_json *v = bmi_key_get(o, keys[i / 2 % 2]);

		if (v && bmi_json_eq(v, words[i % 2]))
			return true;
	}
	return false;
}

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	int r = bmi_key_u32(json, "sliding_window", 0, 0, INT32_MAX, &c->sliding_window, err);

	for (uint32_t l = 0; r == 0 && l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	if (is_longrope(json))
		c->cannot_run = "RoPE type 'longrope'";
	bmi_form_set(c, &form);
	return r;
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const uint64_t dim = c->hidden_size, ff = c->intermediate_size, d = c->head_dim;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "Phi3DecoderLayer", /* no_split= */ true);
	bmi_skel_begin(b, "self_attn", "", false);
	bmi_skel_linear(b, "o_proj", dim, c->n_heads * d, false);
	bmi_skel_linear(b, "qkv_proj", (c->n_heads + 2ULL * c->n_kv_heads) * d, dim, false);
	bmi_skel_end(b);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "gate_up_proj", 2 * ff, dim, false);
	bmi_skel_linear(b, "down_proj", dim, ff, false);
	bmi_skel_empty(b, "activation_fn");
	bmi_skel_end(b);
	bmi_skel_norm(b, "input_layernorm", dim, false);
	bmi_skel_norm(b, "post_attention_layernorm", dim, false);
	bmi_skel_empty(b, "resid_attn_dropout");
	bmi_skel_empty(b, "resid_mlp_dropout");
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "model", "", false);
	bmi_skel_linear(b, "embed_tokens", c->vocab_size, c->hidden_size, false);
	bmi_skel_begin(b, "layers", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "norm", c->hidden_size, false);
	bmi_arch_build_rotary(c, b);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "model.embed_tokens.weight");
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 32064,
	.hidden_size = 3072,
	.intermediate_size = 8192,
	.n_layers = 32,
	.n_heads = 32,
	.max_positions = 4096,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.rope_theta = 10000,
	.rope_partial = 1,
};

const struct bmi_arch bmi_arch_phi3 = {
	.model_type = "phi3",
	.class_name = "Phi3ForCausalLM",
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

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPT-NeoX (Pythia): LayerNorm, q, k and v of each head in one matrix, attention and MLP side by side unless told not to.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <stdio.h>

static const char *const ignored[] = { "*.attention.bias", "*.attention.masked_bias", "*rotary_emb.inv_freq",
				       NULL };

/* The head's name in checkpoints. */
static const char *const prefixes[][2] = { { "embed_out.", "lm_head." }, { NULL, NULL } };

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"attention.query_key_value.weight",
	"attention.query_key_value.bias",
	"attention.dense.weight",
	"attention.dense.bias",
	"post_attention_layernorm.weight",
	"post_attention_layernorm.bias",
	"mlp.dense_h_to_4h.weight",
	"mlp.dense_h_to_4h.bias",
	"mlp.dense_4h_to_h.weight",
	"mlp.dense_4h_to_h.bias",
	NULL,
};

#define PARTS                                                                                       \
	.layer_norm = true, .attn_norm = "input_layernorm", .mlp_norm = "post_attention_layernorm", \
	.qkv = "attention.query_key_value", .qkv_rows = BMI_QKV_GROUPS, .o = "attention.dense",     \
	.up = "mlp.dense_h_to_4h", .down = "mlp.dense_4h_to_h"

static const struct bmi_form serial = { PARTS }, parallel = { PARTS, .parallel = true };

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bool is_parallel = true;
	int r = bmi_key_bool(json, "attention_bias", true, &c->attention_bias, err);

	r = r ? r : bmi_key_bool(json, "use_parallel_residual", true, &is_parallel, err);
	c->n_kv_heads = c->n_heads;
	bmi_form_set(c, is_parallel ? &parallel : &serial);
	return r;
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const uint64_t dim = c->hidden_size, ff = c->intermediate_size;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "GPTNeoXLayer", /* no_split= */ true);
	bmi_skel_norm(b, "input_layernorm", dim, true);
	bmi_skel_norm(b, "post_attention_layernorm", dim, true);
	bmi_skel_empty(b, "post_attention_dropout");
	bmi_skel_empty(b, "post_mlp_dropout");
	bmi_skel_begin(b, "attention", "", false);
	bmi_skel_linear(b, "query_key_value", 3 * dim, dim, c->attention_bias);
	bmi_skel_linear(b, "dense", dim, dim, c->attention_bias);
	bmi_skel_end(b);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "dense_h_to_4h", ff, dim, true);
	bmi_skel_linear(b, "dense_4h_to_h", dim, ff, true);
	bmi_skel_empty(b, "act");
	bmi_skel_end(b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "gpt_neox", "", false);
	bmi_skel_linear(b, "embed_in", c->vocab_size, c->hidden_size, false);
	bmi_skel_empty(b, "emb_dropout");
	bmi_skel_begin(b, "layers", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "final_layer_norm", c->hidden_size, true);
	bmi_arch_build_rotary(c, b);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "gpt_neox.embed_in.weight");
}

static const struct bmi_arch_keys keys = {
	.eps = "layer_norm_eps",
	.vocab_size = 50432,
	.hidden_size = 6144,
	.intermediate_size = 24576,
	.n_layers = 44,
	.n_heads = 64,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "gelu",
	.rope_theta = 10000,
	.rope_partial = 0.25,
};

const struct bmi_arch bmi_arch_gpt_neox = {
	.model_type = "gpt_neox",
	.class_name = "GPTNeoXForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.layers_path = "gpt_neox.layers",
	.embed_name = "gpt_neox.embed_in",
	.final_norm_name = "gpt_neox.final_layer_norm",
	.head_name = "lm_head",
	.ignored = ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.name_prefixes = prefixes,
};

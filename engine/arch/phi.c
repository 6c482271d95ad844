/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Phi 1 and 2: LayerNorm, attention and a plain MLP side by side behind one norm, a part of each head turns, biases
 * everywhere, also on the head.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <stdio.h>

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"self_attn.q_proj.weight",
	"self_attn.q_proj.bias",
	"self_attn.k_proj.weight",
	"self_attn.k_proj.bias",
	"self_attn.v_proj.weight",
	"self_attn.v_proj.bias",
	"self_attn.dense.weight",
	"self_attn.dense.bias",
	"mlp.fc1.weight",
	"mlp.fc1.bias",
	"mlp.fc2.weight",
	"mlp.fc2.bias",
	NULL,
};

static const struct bmi_form form = {
	.layer_norm = true,
	.parallel = true,
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.dense",
	.up = "mlp.fc1",
	.down = "mlp.fc2",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bmi_form_set(c, &form);
	return bmi_key_refuse_true(json, "qk_layernorm", err);
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const uint64_t dim = c->hidden_size, q_dim = (uint64_t)c->n_heads * c->head_dim;
	const uint64_t kv_dim = (uint64_t)c->n_kv_heads * c->head_dim;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "PhiDecoderLayer", /* no_split= */ true);
	bmi_skel_begin(b, "self_attn", "", false);
	bmi_skel_linear(b, "q_proj", q_dim, dim, true);
	bmi_skel_linear(b, "k_proj", kv_dim, dim, true);
	bmi_skel_linear(b, "v_proj", kv_dim, dim, true);
	bmi_skel_linear(b, "dense", dim, q_dim, true);
	bmi_skel_end(b);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_empty(b, "activation_fn");
	bmi_skel_linear(b, "fc1", c->intermediate_size, dim, true);
	bmi_skel_linear(b, "fc2", dim, c->intermediate_size, true);
	bmi_skel_end(b);
	bmi_skel_norm(b, "input_layernorm", dim, true);
	bmi_skel_empty(b, "resid_dropout");
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
	bmi_arch_build_rotary(c, b);
	bmi_skel_empty(b, "embed_dropout");
	bmi_skel_norm(b, "final_layernorm", c->hidden_size, true);
	bmi_skel_end(b);
	bmi_skel_linear(b, "lm_head", c->vocab_size, c->hidden_size, true);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "model.embed_tokens.weight");
}

static const struct bmi_arch_keys keys = {
	.eps = "layer_norm_eps",
	.vocab_size = 51200,
	.hidden_size = 2048,
	.intermediate_size = 8192,
	.n_layers = 24,
	.n_heads = 32,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "gelu_new",
	.rope_theta = 10000,
	.rope_partial = 0.5,
};

const struct bmi_arch bmi_arch_phi = {
	.model_type = "phi",
	.class_name = "PhiForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.final_layernorm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

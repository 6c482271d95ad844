/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tree most decoders share, in the order in which Transformers creates its parts (and so in that of its state dict
 * and device maps). Owns names and shapes; what a family adds or leaves out comes in as struct bmi_llamalike.
 */
#include "arch/arch_priv.h"

#include <stdio.h>

const char *const bmi_llamalike_exec[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"self_attn.q_proj.weight",
	"self_attn.q_proj.bias",
	"self_attn.k_proj.weight",
	"self_attn.k_proj.bias",
	"self_attn.v_proj.weight",
	"self_attn.v_proj.bias",
	"self_attn.q_norm.weight",
	"self_attn.k_norm.weight",
	"self_attn.sinks",
	"self_attn.o_proj.weight",
	"self_attn.o_proj.bias",
	"post_attention_layernorm.weight", /* before the MLP, or on what attention gave: the same place in time */
	"post_attention_layernorm.bias",
	"pre_feedforward_layernorm.weight",
	"mlp.gate_proj.weight",
	"mlp.gate_proj.bias",
	"mlp.up_proj.weight",
	"mlp.up_proj.bias",
	"mlp.down_proj.weight",
	"mlp.down_proj.bias",
	"post_feedforward_layernorm.weight",
	NULL,
};

const char *const bmi_llamalike_ignored[] = {
	"*rotary_emb.inv_freq",
	"*rotary_emb.cos_cached",
	"*rotary_emb.sin_cached",
	NULL,
};

static void rotary_pair(struct bmi_skel_builder *b, const char *prefix, uint32_t n_rot)
{
	char name[64];

	snprintf(name, sizeof(name), "%sinv_freq", prefix);
	bmi_skel_buffer(b, name, /* own_dtype= */ true, BMI_F32, 1, (uint64_t)n_rot / 2);
	snprintf(name, sizeof(name), "%soriginal_inv_freq", prefix);
	bmi_skel_buffer(b, name, /* own_dtype= */ true, BMI_F32, 1, (uint64_t)n_rot / 2);
}

void bmi_arch_build_rotary(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bool sliding = false, full = false;

	for (uint32_t l = 0; l < c->n_layers; l++) {
		sliding |= c->layer_is_sliding[l];
		full |= !c->layer_is_sliding[l];
	}
	bmi_skel_begin(b, "rotary_emb", "", false);
	if (c->arch->keys->rope_theta_sliding == 0) {
		rotary_pair(b, "", c->rope_full.n_rot);
	} else {
		if (full)
			rotary_pair(b, "full_attention_", c->rope_full.n_rot);
		if (sliding)
			rotary_pair(b, "sliding_attention_", c->rope_sliding.n_rot);
	}
	bmi_skel_end(b);
}

void bmi_arch_build_head(const struct bmi_config *c, struct bmi_skel_builder *b, uint64_t width)
{
	bmi_skel_linear(b, "lm_head", c->vocab_size, width, false);
}

static void build_attention(const struct bmi_config *c, struct bmi_skel_builder *b,
			    const struct bmi_llamalike *kind)
{
	const uint64_t dim = c->hidden_size;
	const uint64_t q_dim = (uint64_t)c->n_heads * c->head_dim,
		       kv_dim = (uint64_t)c->n_kv_heads * c->head_dim;

	bmi_skel_begin(b, "self_attn", "", false);
	if (kind->sinks)
		bmi_skel_param(b, "sinks", 1, (uint64_t)c->n_heads);
	bmi_skel_linear(b, "q_proj", q_dim, dim, kind->qkv_bias);
	bmi_skel_linear(b, "k_proj", kv_dim, dim, kind->qkv_bias);
	bmi_skel_linear(b, "v_proj", kv_dim, dim, kind->qkv_bias);
	bmi_skel_linear(b, "o_proj", dim, q_dim, kind->o_bias);
	if (kind->qk_norm) {
		bmi_skel_norm(b, "q_norm", c->head_dim, false);
		bmi_skel_norm(b, "k_norm", c->head_dim, false);
	}
	if (kind->qk_norm_whole) {
		bmi_skel_norm(b, "q_norm", q_dim, false);
		bmi_skel_norm(b, "k_norm", kv_dim, false);
	}
	bmi_skel_end(b);
}

static void build_mlp(const struct bmi_config *c, struct bmi_skel_builder *b, const struct bmi_llamalike *kind)
{
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "gate_proj", c->intermediate_size, c->hidden_size, kind->mlp_bias);
	bmi_skel_linear(b, "up_proj", c->intermediate_size, c->hidden_size, kind->mlp_bias);
	bmi_skel_linear(b, "down_proj", c->hidden_size, c->intermediate_size, kind->mlp_bias);
	bmi_skel_empty(b, "act_fn");
	bmi_skel_end(b);
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b,
			const struct bmi_llamalike *kind, uint32_t layer)
{
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, kind->layer_class, /* no_split= */ true);
	if (kind->attention)
		kind->attention(c, b);
	else
		build_attention(c, b, kind);
	if (kind->mlp)
		kind->mlp(c, b, layer);
	else
		build_mlp(c, b, kind);
	if (!kind->post_norms)
		bmi_skel_norm(b, "input_layernorm", c->hidden_size, kind->norm_bias);
	if (!kind->one_norm)
		bmi_skel_norm(b, "post_attention_layernorm", c->hidden_size, kind->norm_bias);
	if (kind->sandwich)
		bmi_skel_norm(b, "pre_feedforward_layernorm", c->hidden_size, kind->norm_bias);
	if (kind->sandwich || kind->post_norms)
		bmi_skel_norm(b, "post_feedforward_layernorm", c->hidden_size, kind->norm_bias);
	if (kind->layer_end)
		bmi_skel_empty(b, kind->layer_end);
	bmi_skel_end(b);
}

void bmi_llamalike_build(const struct bmi_config *c, struct bmi_skel_builder *b,
			 const struct bmi_llamalike *kind)
{
	bmi_skel_begin(b, "model", "", false);
	bmi_skel_begin(b, "embed_tokens", "", false);
	bmi_skel_param(b, "weight", 2, (uint64_t)c->vocab_size, (uint64_t)c->hidden_size);
	if (kind->embed_scale)
		bmi_skel_buffer(b, "embed_scale", /* own_dtype= */ false, BMI_F32, 0);
	bmi_skel_end(b);
	bmi_skel_begin(b, "layers", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, kind, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "norm", c->hidden_size, kind->norm_bias);
	bmi_arch_build_rotary(c, b);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "model.embed_tokens.weight");
}

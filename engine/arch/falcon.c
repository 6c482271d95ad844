/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Falcon: three shapes of attention and of norms, told apart by flags.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>
#include <stdio.h>

struct falcon {
	bool new_arch, multi_query, parallel, bias;
	bool two_norms; /* one for attention, one for the MLP beside it */
};

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"ln_attn.weight",
	"ln_attn.bias",
	"self_attention.query_key_value.weight",
	"self_attention.query_key_value.bias",
	"self_attention.dense.weight",
	"self_attention.dense.bias",
	"post_attention_layernorm.weight",
	"post_attention_layernorm.bias",
	"ln_mlp.weight",
	"ln_mlp.bias",
	"mlp.dense_h_to_4h.weight",
	"mlp.dense_h_to_4h.bias",
	"mlp.dense_4h_to_h.weight",
	"mlp.dense_4h_to_h.bias",
	NULL,
};

#define PARTS                                                                                     \
	.layer_norm = true, .qkv = "self_attention.query_key_value", .o = "self_attention.dense", \
	.up = "mlp.dense_h_to_4h", .down = "mlp.dense_4h_to_h"

enum { SERIAL, SHARED_NORM, TWO_NORMS };

/* [how the blocks stand][are q, k and v grouped by KV head] */
static const struct bmi_form forms[][2] = {
	[SERIAL] = { { PARTS, .qkv_rows = BMI_QKV_BLOCKS, .attn_norm = "input_layernorm",
		       .mlp_norm = "post_attention_layernorm" },
		     { PARTS, .qkv_rows = BMI_QKV_GROUPS, .attn_norm = "input_layernorm",
		       .mlp_norm = "post_attention_layernorm" } },
	[SHARED_NORM] = { { PARTS, .qkv_rows = BMI_QKV_BLOCKS, .parallel = true, .attn_norm = "input_layernorm" },
			  { PARTS, .qkv_rows = BMI_QKV_GROUPS, .parallel = true,
			    .attn_norm = "input_layernorm" } },
	[TWO_NORMS] = { { PARTS, .qkv_rows = BMI_QKV_BLOCKS, .parallel = true, .attn_norm = "ln_attn",
			  .mlp_norm = "ln_mlp" },
			{ PARTS, .qkv_rows = BMI_QKV_GROUPS, .parallel = true, .attn_norm = "ln_attn",
			  .mlp_norm = "ln_mlp" } },
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	struct falcon *f = bmi_arena_alloc(c->arena, sizeof(*f));
	bool alibi = false;
	uint32_t n_norms;
	int r;

	if (!f)
		return bmi_fail(err, -ENOMEM, "config");
	c->ext = f;
	r = bmi_key_bool(json, "new_decoder_architecture", false, &f->new_arch, err);
	r = r ? r : bmi_key_bool(json, "multi_query", true, &f->multi_query, err);
	r = r ? r : bmi_key_bool(json, "parallel_attn", true, &f->parallel, err);
	r = r ? r : bmi_key_bool(json, "bias", false, &f->bias, err);
	r = r ? r : bmi_key_u32(json, "num_ln_in_parallel_attn", f->new_arch ? 2 : 1, 1, 2, &n_norms, err);
	r = r ? r : bmi_key_bool(json, "alibi", false, &alibi, err);
	if (r < 0)
		return r;
	f->two_norms = f->parallel && n_norms == 2;
	if (alibi)
		c->cannot_run = "'alibi' true";
	if (!f->new_arch)
		c->n_kv_heads = f->multi_query ? 1 : c->n_heads;
	bmi_form_set(c, &forms[!f->parallel   ? SERIAL
			       : f->two_norms ? TWO_NORMS
					      : SHARED_NORM][f->new_arch || !f->multi_query]);
	return 0;
}

static uint64_t qkv_rows(const struct bmi_config *c)
{
	const struct falcon *f = c->ext;
	const uint64_t dim = c->hidden_size, d = c->head_dim;

	if (f->new_arch)
		return (2ULL * c->n_kv_heads + c->n_heads) * d;
	return f->multi_query ? dim + 2 * d : 3 * dim;
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct falcon *f = c->ext;
	const uint64_t dim = c->hidden_size, ff = c->intermediate_size;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "FalconDecoderLayer", /* no_split= */ true);
	bmi_skel_begin(b, "self_attention", "", false);
	bmi_skel_linear(b, "query_key_value", qkv_rows(c), dim, f->bias);
	bmi_skel_linear(b, "dense", dim, dim, f->bias);
	bmi_skel_empty(b, "attention_dropout");
	bmi_skel_end(b);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "dense_h_to_4h", ff, dim, f->bias);
	bmi_skel_empty(b, "act");
	bmi_skel_linear(b, "dense_4h_to_h", dim, ff, f->bias);
	bmi_skel_end(b);
	if (f->two_norms) {
		bmi_skel_norm(b, "ln_attn", dim, true);
		bmi_skel_norm(b, "ln_mlp", dim, true);
	} else {
		if (!f->parallel)
			bmi_skel_norm(b, "post_attention_layernorm", dim, true);
		bmi_skel_norm(b, "input_layernorm", dim, true);
	}
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "transformer", "", false);
	bmi_skel_linear(b, "word_embeddings", c->vocab_size, c->hidden_size, false);
	bmi_skel_begin(b, "h", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "ln_f", c->hidden_size, true);
	bmi_arch_build_rotary(c, b); /* also where ALiBi is used instead */
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "transformer.word_embeddings.weight");
}

static const struct bmi_arch_keys keys = {
	.hidden = "n_embed",
	.intermediate = "ffn_hidden_size",
	.kv_heads = "num_kv_heads",
	.eps = "layer_norm_epsilon",
	.act = "activation",
	.vocab_size = 65024,
	.hidden_size = 4544,
	.n_layers = 32,
	.n_heads = 71,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "gelu",
	.tie = true,
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_falcon = {
	.model_type = "falcon",
	.class_name = "FalconForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.layers_path = "transformer.h",
	.embed_name = "transformer.word_embeddings",
	.final_norm_name = "transformer.ln_f",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLOOM, for planning. Positions are ALiBi's: no table, no limit of its own.
 */
#include "arch/arch_priv.h"

#include <stdio.h>

/* Published checkpoints are of the bare model. */
static const char *const prefixes[][2] = {
	{ "word_embeddings.", "transformer.word_embeddings." },
	{ "word_embeddings_layernorm.", "transformer.word_embeddings_layernorm." },
	{ "h.", "transformer.h." },
	{ "ln_f.", "transformer.ln_f." },
	{ NULL, NULL },
};

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const uint64_t dim = c->hidden_size;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "BloomBlock", /* no_split= */ true);
	bmi_skel_norm(b, "input_layernorm", dim, true);
	bmi_skel_begin(b, "self_attention", "", false);
	bmi_skel_linear(b, "query_key_value", 3 * dim, dim, true);
	bmi_skel_linear(b, "dense", dim, dim, true);
	bmi_skel_empty(b, "attention_dropout");
	bmi_skel_end(b);
	bmi_skel_norm(b, "post_attention_layernorm", dim, true);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "dense_h_to_4h", 4 * dim, dim, true);
	bmi_skel_empty(b, "gelu_impl");
	bmi_skel_linear(b, "dense_4h_to_h", dim, 4 * dim, true);
	bmi_skel_end(b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "transformer", "", false);
	bmi_skel_linear(b, "word_embeddings", c->vocab_size, c->hidden_size, false);
	bmi_skel_norm(b, "word_embeddings_layernorm", c->hidden_size, true);
	bmi_skel_begin(b, "h", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "ln_f", c->hidden_size, true);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "transformer.word_embeddings.weight");
}

static const struct bmi_arch_keys keys = {
	.hidden = "n_embed",
	.layers = "n_layer",
	.heads = "n_head",
	.positions = "seq_length",
	.eps = "layer_norm_epsilon",
	.vocab_size = 250880,
	.hidden_size = 64,
	.n_layers = 2,
	.n_heads = 8,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "gelu_pytorch_tanh",
	.tie = true,
};

const struct bmi_arch bmi_arch_bloom = {
	.model_type = "bloom",
	.class_name = "BloomForCausalLM",
	.build = build,
	.layers_path = "transformer.h",
	.embed_name = "transformer.word_embeddings",
	.final_norm_name = "transformer.ln_f",
	.head_name = "lm_head",
	.keys = &keys,
	.name_prefixes = prefixes,
};

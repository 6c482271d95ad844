/* SPDX-License-Identifier: Apache-2.0 */
/*
 * BLOOM: LayerNorm, also on the embedding. Positions are ALiBi's: no table, no limit of its own.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>

/* Published checkpoints are of the bare model. */
static const char *const prefixes[][2] = {
	{ "word_embeddings.", "transformer.word_embeddings." },
	{ "word_embeddings_layernorm.", "transformer.word_embeddings_layernorm." },
	{ "h.", "transformer.h." },
	{ "ln_f.", "transformer.ln_f." },
	{ NULL, NULL },
};

static const char *const exec_layer[] = {
	"input_layernorm.weight",
	"input_layernorm.bias",
	"self_attention.query_key_value.weight",
	"self_attention.query_key_value.bias",
	"self_attention.dense.weight",
	"self_attention.dense.bias",
	"post_attention_layernorm.weight",
	"post_attention_layernorm.bias",
	"mlp.dense_h_to_4h.weight",
	"mlp.dense_h_to_4h.bias",
	"mlp.dense_4h_to_h.weight",
	"mlp.dense_4h_to_h.bias",
	NULL,
};

static const char *const embed_exec[] = { "transformer.word_embeddings_layernorm", NULL };

static const struct bmi_form form = {
	.layer_norm = true,
	.attn_norm = "input_layernorm",
	.mlp_norm = "post_attention_layernorm",
	.qkv = "self_attention.query_key_value",
	.qkv_rows = BMI_QKV_GROUPS,
	.o = "self_attention.dense",
	.up = "mlp.dense_h_to_4h",
	.down = "mlp.dense_4h_to_h",
	.embed_norm = "transformer.word_embeddings_layernorm",
};

/* Powers of 2^(-8/n) for n heads; heads above a power of two take the odd powers of the next one's base. */
static void fill_slopes(float *slopes, uint32_t n_heads)
{
	uint32_t n = 1;

	while (2 * n <= n_heads)
		n *= 2;
	for (uint32_t h = 0; h < n_heads; h++) {
		const uint32_t of = h < n ? n : 2 * n, power = h < n ? h + 1 : 2 * (h - n) + 1;

		slopes[h] = powf((float)exp2(-exp2(3 - log2(of))), (float)power);
	}
}

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bool odd;
	int r = bmi_key_bool(json, "apply_residual_connection_post_layernorm", false, &odd, err);

	if (r < 0)
		return r;
	if (odd)
		c->cannot_run = "'apply_residual_connection_post_layernorm' true";
	c->n_kv_heads = c->n_heads;
	c->alibi = bmi_arena_array(c->arena, c->n_heads, sizeof(float));
	if (!c->alibi)
		return bmi_fail(err, -ENOMEM, "config of %u heads", c->n_heads);
	fill_slopes(c->alibi, c->n_heads);
	bmi_form_set(c, &form);
	return 0;
}

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
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.embed_exec = embed_exec,
	.layers_path = "transformer.h",
	.embed_name = "transformer.word_embeddings",
	.final_norm_name = "transformer.ln_f",
	.head_name = "lm_head",
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.name_prefixes = prefixes,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPT-2. Its matrices are stored [in][out] (Conv1D): shapes are turned around here, and products with them.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>
#include <stdio.h>

static const char *const ignored[] = { "*.attn.bias", "*.attn.masked_bias", NULL }; /* causal masks */

/* The first checkpoints are of the bare model. */
static const char *const prefixes[][2] = {
	{ "wte.", "transformer.wte." },
	{ "wpe.", "transformer.wpe." },
	{ "h.", "transformer.h." },
	{ "ln_f.", "transformer.ln_f." },
	{ NULL, NULL },
};

static const char *const exec_layer[] = {
	"ln_1.weight",
	"ln_1.bias",
	"attn.c_attn.weight",
	"attn.c_attn.bias",
	"attn.c_proj.weight",
	"attn.c_proj.bias",
	"ln_2.weight",
	"ln_2.bias",
	"mlp.c_fc.weight",
	"mlp.c_fc.bias",
	"mlp.c_proj.weight",
	"mlp.c_proj.bias",
	NULL,
};

static const char *const gathered[] = { "transformer.wpe.weight", NULL };
static const char *const embed_exec[] = { "transformer.wpe", NULL };

static const struct bmi_form form = {
	.layer_norm = true,
	.turned = true,
	.attn_norm = "ln_1",
	.mlp_norm = "ln_2",
	.qkv = "attn.c_attn",
	.qkv_rows = BMI_QKV_BLOCKS,
	.o = "attn.c_proj",
	.up = "mlp.c_fc",
	.down = "mlp.c_proj",
	.positions = "transformer.wpe",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bool scaled;
	int r = bmi_key_refuse_true(json, "add_cross_attention", err);

	r = r ? r : bmi_key_refuse_true(json, "scale_attn_by_inverse_layer_idx", err);
	r = r ? r : bmi_key_bool(json, "scale_attn_weights", true, &scaled, err);
	if (r == 0 && !scaled)
		r = bmi_fail(err, -EOPNOTSUPP, "config.json: 'scale_attn_weights' false is not supported");
	c->n_kv_heads = c->n_heads;
	bmi_form_set(c, &form);
	return r;
}

static void conv1d(struct bmi_skel_builder *b, const char *leaf, uint64_t in, uint64_t out)
{
	bmi_skel_begin(b, leaf, "", false);
	bmi_skel_param(b, "weight", 2, in, out);
	bmi_skel_param(b, "bias", 1, out);
	bmi_skel_end(b);
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const uint64_t dim = c->hidden_size, ff = c->intermediate_size;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "GPT2Block", /* no_split= */ true);
	bmi_skel_norm(b, "ln_1", dim, true);
	bmi_skel_begin(b, "attn", "", false);
	conv1d(b, "c_attn", dim, 3 * dim);
	conv1d(b, "c_proj", dim, dim);
	bmi_skel_empty(b, "attn_dropout");
	bmi_skel_empty(b, "resid_dropout");
	bmi_skel_end(b);
	bmi_skel_norm(b, "ln_2", dim, true);
	bmi_skel_begin(b, "mlp", "", false);
	conv1d(b, "c_fc", dim, ff);
	conv1d(b, "c_proj", ff, dim);
	bmi_skel_empty(b, "act");
	bmi_skel_empty(b, "dropout");
	bmi_skel_end(b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "transformer", "", false);
	bmi_skel_linear(b, "wte", c->vocab_size, c->hidden_size, false);
	bmi_skel_linear(b, "wpe", c->max_positions, c->hidden_size, false);
	bmi_skel_empty(b, "drop");
	bmi_skel_begin(b, "h", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "ln_f", c->hidden_size, true);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, c->hidden_size);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "transformer.wte.weight");
}

static const struct bmi_arch_keys keys = {
	.hidden = "n_embd",
	.intermediate = "n_inner",
	.layers = "n_layer",
	.heads = "n_head",
	.positions = "n_positions",
	.eps = "layer_norm_epsilon",
	.act = "activation_function",
	.vocab_size = 50257,
	.hidden_size = 768,
	.n_layers = 12,
	.n_heads = 12,
	.max_positions = 1024,
	.norm_eps = 1e-5,
	.act_word = "gelu_new",
	.tie = true,
};

const struct bmi_arch bmi_arch_gpt2 = {
	.model_type = "gpt2",
	.class_name = "GPT2LMHeadModel",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.embed_exec = embed_exec,
	.gathered = gathered,
	.layers_path = "transformer.h",
	.embed_name = "transformer.wte",
	.final_norm_name = "transformer.ln_f",
	.head_name = "lm_head",
	.ignored = ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.name_prefixes = prefixes,
};

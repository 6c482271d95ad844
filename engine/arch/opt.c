/* SPDX-License-Identifier: Apache-2.0 */
/*
 * OPT: LayerNorm, a table of positions, a plain MLP. Its final norm stands before the layers, and not in every size; the
 * smallest widths are projected.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>
#include <stdio.h>

enum { POSITION_OFFSET = 2 }; /* rows of the position table before position 0 */

struct opt {
	uint32_t embed_dim;
	bool bias, affine, final_norm;
};

static const char *const prefixes[][2] = { { "decoder.", "model.decoder." }, { NULL, NULL } };

static const char *const exec_layer[] = {
	"self_attn_layer_norm.weight",
	"self_attn_layer_norm.bias",
	"self_attn.q_proj.weight",
	"self_attn.q_proj.bias",
	"self_attn.k_proj.weight",
	"self_attn.k_proj.bias",
	"self_attn.v_proj.weight",
	"self_attn.v_proj.bias",
	"self_attn.out_proj.weight",
	"self_attn.out_proj.bias",
	"final_layer_norm.weight",
	"final_layer_norm.bias",
	"fc1.weight",
	"fc1.bias",
	"fc2.weight",
	"fc2.bias",
	NULL,
};

static const char *const gathered[] = { "model.decoder.embed_positions.weight", NULL };
/* project_out is read last, before the head; the sizes that have it are planned and not run */
static const char *const embed_exec[] = { "model.decoder.embed_positions", "model.decoder.project_in",
					  "model.decoder.project_out", NULL };

static const struct bmi_form form = {
	.layer_norm = true,
	.attn_norm = "self_attn_layer_norm",
	.mlp_norm = "final_layer_norm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.out_proj",
	.up = "fc1",
	.down = "fc2",
	.positions = "model.decoder.embed_positions",
	.position_offset = POSITION_OFFSET,
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	struct opt *opt = bmi_arena_alloc(c->arena, sizeof(*opt));
	bool before, removed;
	int r;

	if (!opt)
		return bmi_fail(err, -ENOMEM, "config");
	c->ext = opt;
	r = bmi_key_u32(json, "word_embed_proj_dim", c->hidden_size, 1, 1 << 24, &opt->embed_dim, err);
	r = r ? r : bmi_key_bool(json, "enable_bias", true, &opt->bias, err);
	r = r ? r : bmi_key_bool(json, "layer_norm_elementwise_affine", true, &opt->affine, err);
	r = r ? r : bmi_key_bool(json, "do_layer_norm_before", true, &before, err);
	r = r ? r : bmi_key_bool(json, "_remove_final_layer_norm", false, &removed, err);
	if (r == 0)
		opt->final_norm = before && !removed;
	if (r == 0 && !before)
		c->cannot_run = "'do_layer_norm_before' false";
	if (r == 0 && opt->embed_dim != c->hidden_size)
		c->cannot_run = "a 'word_embed_proj_dim' other than 'hidden_size'";
	if (r == 0 && !opt->affine)
		c->cannot_run = "'layer_norm_elementwise_affine' false";
	c->n_kv_heads = c->n_heads;
	bmi_form_set(c, &form);
	return r;
}

static void norm(const struct bmi_config *c, struct bmi_skel_builder *b, const char *leaf)
{
	if (((const struct opt *)c->ext)->affine)
		bmi_skel_norm(b, leaf, c->hidden_size, true);
	else
		bmi_skel_empty(b, leaf);
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	static const char *const projections[] = { "k_proj", "v_proj", "q_proj", "out_proj" };
	const struct opt *opt = c->ext;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "OPTDecoderLayer", /* no_split= */ true);
	bmi_skel_begin(b, "self_attn", "", false);
	for (size_t i = 0; i < BMI_ARRAY_LEN(projections); i++)
		bmi_skel_linear(b, projections[i], c->hidden_size, c->hidden_size, opt->bias);
	bmi_skel_end(b);
	bmi_skel_empty(b, "activation_fn");
	norm(c, b, "self_attn_layer_norm");
	bmi_skel_linear(b, "fc1", c->intermediate_size, c->hidden_size, opt->bias);
	bmi_skel_linear(b, "fc2", c->hidden_size, c->intermediate_size, opt->bias);
	norm(c, b, "final_layer_norm");
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct opt *opt = c->ext;

	bmi_skel_begin(b, "model", "", false);
	bmi_skel_begin(b, "decoder", "", false);
	bmi_skel_linear(b, "embed_tokens", c->vocab_size, opt->embed_dim, false);
	bmi_skel_linear(b, "embed_positions", (uint64_t)c->max_positions + POSITION_OFFSET, c->hidden_size,
			false);
	if (opt->embed_dim != c->hidden_size) {
		bmi_skel_linear(b, "project_out", opt->embed_dim, c->hidden_size, false);
		bmi_skel_linear(b, "project_in", c->hidden_size, opt->embed_dim, false);
	}
	if (opt->final_norm)
		norm(c, b, "final_layer_norm");
	bmi_skel_begin(b, "layers", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_end(b);
	bmi_skel_end(b);
	bmi_arch_build_head(c, b, opt->embed_dim);
	if (c->tie_embeddings)
		bmi_skel_tie(b, "lm_head.weight", "model.decoder.embed_tokens.weight");
}

static const struct bmi_arch_keys keys = {
	.intermediate = "ffn_dim",
	.act = "activation_function",
	.vocab_size = 50272,
	.hidden_size = 768,
	.intermediate_size = 3072,
	.n_layers = 12,
	.n_heads = 12,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "relu",
	.tie = true,
};

const struct bmi_arch bmi_arch_opt = {
	.model_type = "opt",
	.class_name = "OPTForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.embed_exec = embed_exec,
	.gathered = gathered,
	.layers_path = "model.decoder.layers",
	.embed_name = "model.decoder.embed_tokens",
	.final_norm_name = "model.decoder.final_layer_norm",
	.head_name = "lm_head",
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.name_prefixes = prefixes,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GPT-J: LayerNorm, attention and a plain MLP side by side behind one norm, the first rotary_dim elements of each head
 * turn in pairs (2i, 2i + 1), a bias on the head.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>
#include <stdio.h>

static const char *const ignored[] = { "*.attn.bias", "*.attn.masked_bias", NULL }; /* causal masks */

static const char *const exec_layer[] = {
	"ln_1.weight",
	"ln_1.bias",
	"attn.q_proj.weight",
	"attn.k_proj.weight",
	"attn.v_proj.weight",
	"attn.out_proj.weight",
	"mlp.fc_in.weight",
	"mlp.fc_in.bias",
	"mlp.fc_out.weight",
	"mlp.fc_out.bias",
	NULL,
};

static const struct bmi_form form = {
	.layer_norm = true,
	.parallel = true,
	.attn_norm = "ln_1",
	.q = "attn.q_proj",
	.k = "attn.k_proj",
	.v = "attn.v_proj",
	.o = "attn.out_proj",
	.up = "mlp.fc_in",
	.down = "mlp.fc_out",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const bool is_null = bmi_json_get(json, "rotary_dim") && !bmi_key_get(json, "rotary_dim");
	int r = bmi_key_u32(json, "rotary_dim", 64, 2, 1 << 14, &c->rope_dim, err);

	if (r < 0)
		return r;
	if (is_null || c->rope_dim > c->head_dim || c->rope_dim % 2)
		return bmi_fail(err, -EOPNOTSUPP,
				"config.json: 'rotary_dim' must be even and at most the head's %u elements",
				c->head_dim);
	c->n_kv_heads = c->n_heads;
	c->rope_interleaved = true;
	bmi_form_set(c, &form);
	return 0;
}

static void build_layer(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	static const char *const projections[] = { "k_proj", "v_proj", "q_proj", "out_proj" };
	const uint64_t dim = c->hidden_size, ff = c->intermediate_size;
	char leaf[16];

	snprintf(leaf, sizeof(leaf), "%u", layer);
	bmi_skel_begin(b, leaf, "GPTJBlock", /* no_split= */ true);
	bmi_skel_norm(b, "ln_1", dim, true);
	bmi_skel_begin(b, "attn", "", false);
	bmi_skel_buffer(b, "embed_positions", /* own_dtype= */ true, BMI_F32, 2, (uint64_t)c->max_positions,
			(uint64_t)c->rope_dim);
	bmi_skel_empty(b, "attn_dropout");
	bmi_skel_empty(b, "resid_dropout");
	for (size_t i = 0; i < BMI_ARRAY_LEN(projections); i++)
		bmi_skel_linear(b, projections[i], dim, dim, false);
	bmi_skel_end(b);
	bmi_skel_begin(b, "mlp", "", false);
	bmi_skel_linear(b, "fc_in", ff, dim, true);
	bmi_skel_linear(b, "fc_out", dim, ff, true);
	bmi_skel_empty(b, "act");
	bmi_skel_empty(b, "dropout");
	bmi_skel_end(b);
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	bmi_skel_begin(b, "transformer", "", false);
	bmi_skel_linear(b, "wte", c->vocab_size, c->hidden_size, false);
	bmi_skel_empty(b, "drop");
	bmi_skel_begin(b, "h", "", false);
	for (uint32_t l = 0; l < c->n_layers; l++)
		build_layer(c, b, l);
	bmi_skel_end(b);
	bmi_skel_norm(b, "ln_f", c->hidden_size, true);
	bmi_skel_end(b);
	bmi_skel_linear(b, "lm_head", c->vocab_size, c->hidden_size, true);
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
	.vocab_size = 50400,
	.hidden_size = 4096,
	.n_layers = 28,
	.n_heads = 16,
	.max_positions = 2048,
	.norm_eps = 1e-5,
	.act_word = "gelu_new",
	.rope_theta = 10000,
	.rope_partial = 1,
};

const struct bmi_arch bmi_arch_gptj = {
	.model_type = "gptj",
	.class_name = "GPTJForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = exec_layer,
	.layers_path = "transformer.h",
	.embed_name = "transformer.wte",
	.final_norm_name = "transformer.ln_f",
	.head_name = "lm_head",
	.ignored = ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

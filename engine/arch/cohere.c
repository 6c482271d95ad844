/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cohere (Command R): LayerNorm without a bias, attention and MLP side by side, pairs (2i, 2i + 1) turn, logits are scaled.
 */
#include "arch/arch_priv.h"
#include "arch/form.h"

#include "model/keys.h"

#include <errno.h>

static const struct bmi_form form = {
	.layer_norm = true,
	.parallel = true,
	.attn_norm = "input_layernorm",
	.q = "self_attn.q_proj",
	.k = "self_attn.k_proj",
	.v = "self_attn.v_proj",
	.o = "self_attn.o_proj",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	double scale;
	int r = bmi_key_refuse_true(json, "use_qk_norm", err);

	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_double(json, "logit_scale", 0.0625, &scale, err);
	if (r < 0)
		return r;
	if (scale == 0)
		return bmi_fail(err, -EINVAL, "config.json: 'logit_scale' must not be 0");
	c->logit_factor = (float)scale;
	c->rope_interleaved = true;
	bmi_form_set(c, &form);
	return 0;
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "CohereDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.one_norm = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.eps = "layer_norm_eps",
	.vocab_size = 256000,
	.hidden_size = 8192,
	.intermediate_size = 22528,
	.n_layers = 40,
	.n_heads = 64,
	.max_positions = 8192,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.tie = true,
	.rope_theta = 500000,
};

const struct bmi_arch bmi_arch_cohere = {
	.model_type = "cohere",
	.class_name = "CohereForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
};

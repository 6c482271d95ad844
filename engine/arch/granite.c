/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Granite: llama with four multipliers. The tree is llamalike.c's, the arithmetic decoder.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

#include <errno.h>

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	double embedding, attention, residual, logits;
	int r = bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);

	r = r ? r : bmi_key_bool(json, "mlp_bias", false, &c->mlp_bias, err);
	r = r ? r : bmi_key_double(json, "embedding_multiplier", 1, &embedding, err);
	r = r ? r : bmi_key_double(json, "attention_multiplier", 1, &attention, err);
	r = r ? r : bmi_key_double(json, "residual_multiplier", 1, &residual, err);
	r = r ? r : bmi_key_double(json, "logits_scaling", 1, &logits, err);
	if (r < 0)
		return r;
	if (embedding == 0 || residual == 0 || logits == 0)
		return bmi_fail(
			err, -EINVAL,
			"config.json: 'embedding_multiplier', 'residual_multiplier' and 'logits_scaling' "
			"must not be 0");
	c->embed_factor = (float)embedding;
	c->attn_scale = (float)attention;
	c->residual_factor = (float)residual;
	c->logit_factor = (float)(1 / logits);
	return 0;
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "GraniteDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.mlp_bias = c->mlp_bias,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 32000,
	.hidden_size = 4096,
	.intermediate_size = 11008,
	.n_layers = 32,
	.n_heads = 32,
	.max_positions = 2048,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_granite = {
	.model_type = "granite",
	.class_name = "GraniteForCausalLM",
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

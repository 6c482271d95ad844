/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gemma 1 and 2: what their configurations say. The tree is llamalike.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>

static int configure_gemma(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	int r = bmi_key_refuse_true(json, "use_bidirectional_attention", err);

	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	if (c->act == BMI_CFG_GELU)
		c->act = BMI_CFG_GELU_TANH; /* what the first releases meant by "gelu", says GemmaConfig */
	c->embed_scale = (float)sqrt(c->hidden_size);
	c->norm_offset = 1;
	return r;
}

static int configure_gemma2(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const double attn_fallback = bmi_json_get(json, "attn_logit_softcapping") ? 0 : 50;
	const double final_fallback = bmi_json_get(json, "final_logit_softcapping") ? 0 : 30;
	const uint32_t window_fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	double scalar, attn_softcap, final_softcap;
	int r = configure_gemma(json, c, err);

	r = r ? r : bmi_key_double(json, "query_pre_attn_scalar", 256, &scalar, err);
	r = r ? r : bmi_key_double(json, "attn_logit_softcapping", attn_fallback, &attn_softcap, err);
	r = r ? r : bmi_key_double(json, "final_logit_softcapping", final_fallback, &final_softcap, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", window_fallback, 0, INT32_MAX, &c->sliding_window, err);
	if (r < 0)
		return r;
	if (!(scalar > 0) || attn_softcap < 0 || final_softcap < 0)
		return bmi_fail(
			err, -EINVAL,
			"config.json: 'query_pre_attn_scalar' must be above 0 and the softcaps not below");
	c->attn_scale = (float)(1 / sqrt(scalar));
	c->attn_softcap = (float)attn_softcap;
	c->final_softcap = (float)final_softcap;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = l % 2 == 0;
	return 0;
}

static void build_gemma(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "GemmaDecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.embed_scale = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static void build_gemma2(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Gemma2DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.sandwich = true,
		.embed_scale = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys_gemma = {
	.vocab_size = 256000,
	.hidden_size = 3072,
	.intermediate_size = 24576,
	.n_layers = 28,
	.n_heads = 16,
	.n_kv_heads = 16,
	.head_dim = 256,
	.max_positions = 8192,
	.norm_eps = 1e-6,
	.act_word = "gelu_pytorch_tanh",
	.tie = true,
	.rope_theta = 10000,
};

static const struct bmi_arch_keys keys_gemma2 = {
	.act = "hidden_activation",
	.vocab_size = 256000,
	.hidden_size = 2304,
	.intermediate_size = 9216,
	.n_layers = 26,
	.n_heads = 8,
	.n_kv_heads = 4,
	.head_dim = 256,
	.max_positions = 8192,
	.norm_eps = 1e-6,
	.act_word = "gelu_pytorch_tanh",
	.tie = true,
	.has_layer_types = true,
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_gemma = {
	.model_type = "gemma",
	.class_name = "GemmaForCausalLM",
	.configure = configure_gemma,
	.build = build_gemma,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_gemma,
};

const struct bmi_arch bmi_arch_gemma2 = {
	.model_type = "gemma2",
	.class_name = "Gemma2ForCausalLM",
	.configure = configure_gemma2,
	.build = build_gemma2,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys_gemma2,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Gemma 3, the text model: alone (gemma3_text) or inside the multimodal wrapper, whose other parts are left out. Owns what
 * its configuration says and its names in GGUF files. The tree is llamalike.c's, the arithmetic decoder.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>

static const char *const gguf_names[][2] = {
	{ "token_embd.weight", "model.embed_tokens.weight" },
	{ "output_norm.weight", "model.norm.weight" },
	{ "output.weight", "lm_head.weight" },
	{ "blk.%u.attn_norm.weight", "model.layers.%u.input_layernorm.weight" },
	{ "blk.%u.attn_q.weight", "model.layers.%u.self_attn.q_proj.weight" },
	{ "blk.%u.attn_q_norm.weight", "model.layers.%u.self_attn.q_norm.weight" },
	{ "blk.%u.attn_k.weight", "model.layers.%u.self_attn.k_proj.weight" },
	{ "blk.%u.attn_k_norm.weight", "model.layers.%u.self_attn.k_norm.weight" },
	{ "blk.%u.attn_v.weight", "model.layers.%u.self_attn.v_proj.weight" },
	{ "blk.%u.attn_output.weight", "model.layers.%u.self_attn.o_proj.weight" },
	{ "blk.%u.post_attention_norm.weight", "model.layers.%u.post_attention_layernorm.weight" },
	{ "blk.%u.ffn_norm.weight", "model.layers.%u.pre_feedforward_layernorm.weight" },
	{ "blk.%u.ffn_gate.weight", "model.layers.%u.mlp.gate_proj.weight" },
	{ "blk.%u.ffn_up.weight", "model.layers.%u.mlp.up_proj.weight" },
	{ "blk.%u.ffn_down.weight", "model.layers.%u.mlp.down_proj.weight" },
	{ "blk.%u.post_ffw_norm.weight", "model.layers.%u.post_feedforward_layernorm.weight" },
	{ NULL, NULL },
};

/* The wrapper's checkpoints: as first published, and as Transformers 5 saves them. */
static const char *const prefixes[][2] = {
	{ "language_model.model.", "model." },
	{ "language_model.lm_head.", "lm_head." },
	{ "model.language_model.", "model." },
	{ NULL, NULL },
};

static const char *const ignored[] = {
	"*rotary_emb*.inv_freq",         "vision_tower.*",
	"model.vision_tower.*",          "multi_modal_projector.*",
	"model.multi_modal_projector.*", NULL,
};

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	double scalar, attn_softcap, final_softcap;
	uint32_t pattern;
	int r = bmi_key_refuse_true(json, "use_bidirectional_attention", err);

	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_double(json, "query_pre_attn_scalar", 256, &scalar, err);
	r = r ? r : bmi_key_double(json, "attn_logit_softcapping", 0, &attn_softcap, err);
	r = r ? r : bmi_key_double(json, "final_logit_softcapping", 0, &final_softcap, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", 4096, 0, INT32_MAX, &c->sliding_window, err);
	r = r ? r : bmi_key_u32(json, "sliding_window_pattern", 6, 1, INT32_MAX, &pattern, err);
	if (r < 0)
		return r;
	if (!(scalar > 0) || attn_softcap < 0 || final_softcap < 0)
		return bmi_fail(
			err, -EINVAL,
			"config.json: 'query_pre_attn_scalar' must be above 0 and the softcaps not below");

	c->attn_scale = (float)(1 / sqrt(scalar));
	c->attn_softcap = (float)attn_softcap;
	c->final_softcap = (float)final_softcap;
	c->embed_scale = (float)sqrt(c->hidden_size);
	c->norm_offset = 1;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = (l + 1) % pattern != 0;
	return 0;
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Gemma3DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.qk_norm = true,
		.sandwich = true,
		.embed_scale = true,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.act = "hidden_activation",
	.vocab_size = 262208,
	.hidden_size = 2304,
	.intermediate_size = 9216,
	.n_layers = 26,
	.n_heads = 8,
	.n_kv_heads = 4,
	.head_dim = 256,
	.max_positions = 131072,
	.norm_eps = 1e-6,
	.act_word = "gelu_pytorch_tanh",
	.tie = true,
	.has_layer_types = true,
	.rope_theta = 1000000,
	.rope_theta_sliding = 10000,
};

const struct bmi_arch bmi_arch_gemma3_text = {
	.model_type = "gemma3_text",
	.class_name = "Gemma3ForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = bmi_llamalike_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = ignored,
	.gguf_names = gguf_names,
	.gguf_arch = "gemma3",
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.name_prefixes = prefixes,
};

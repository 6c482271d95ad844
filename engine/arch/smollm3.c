/* SPDX-License-Identifier: Apache-2.0 */
/*
 * SmolLM 3: llama with layers whose heads are not rotated. The tree is llamalike.c's, the arithmetic decoder.c's.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

#include <errno.h>

/* no_rope_layers holds 1 for each layer that *is* rotated. */
static int read_no_rope(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const struct bmi_json *list = bmi_key_get(json, "no_rope_layers"), *v;
	uint32_t interval, l = 0;
	uint64_t word;
	int r = bmi_key_u32(json, "no_rope_layer_interval", 4, 1, INT32_MAX, &interval, err);

	if (r < 0)
		return r;
	c->layer_has_no_rope = bmi_arena_array(c->arena, c->n_layers, sizeof(bool));
	if (!c->layer_has_no_rope)
		return bmi_fail(err, -ENOMEM, "config of %u layers", c->n_layers);
	if (list && (list->type != BMI_JSON_ARRAY || list->n != c->n_layers))
		return bmi_fail(err, -EINVAL, "config.json: 'no_rope_layers' is not a list of %u numbers",
				c->n_layers);
	for (v = list ? list->child : NULL; v; v = v->next, l++) {
		if (!bmi_json_to_u64(v, &word) || word > 1)
			return bmi_fail(err, -EINVAL,
					"config.json: 'no_rope_layers' holds something else than 0 and 1");
		c->layer_has_no_rope[l] = word == 0;
	}
	for (l = 0; !list && l < c->n_layers; l++)
		c->layer_has_no_rope[l] = (l + 1) % interval == 0;
	return 0;
}

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	bool on;
	int r = bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);

	r = r ? r : bmi_key_bool(json, "mlp_bias", false, &c->mlp_bias, err);
	r = r ? r : bmi_key_bool(json, "use_sliding_window", false, &on, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", 0, 0, INT32_MAX, &c->sliding_window, err);
	r = r ? r : read_no_rope(json, c, err);
	if (r < 0)
		return r;
	if (!on)
		c->sliding_window = 0;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window && c->layer_has_no_rope[l];
	return 0;
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "SmolLM3DecoderLayer",
		.qkv_bias = c->attention_bias,
		.o_bias = c->attention_bias,
		.mlp_bias = c->mlp_bias,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 128256,
	.hidden_size = 2048,
	.intermediate_size = 11008,
	.n_layers = 36,
	.n_heads = 16,
	.n_kv_heads = 4,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.tie = true,
	.has_layer_types = true,
	.rope_theta = 2000000,
};

const struct bmi_arch bmi_arch_smollm3 = {
	.model_type = "smollm3",
	.class_name = "SmolLM3ForCausalLM",
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

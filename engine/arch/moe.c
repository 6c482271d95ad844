/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mixtral and Qwen 2 MoE, for planning: llama-like trees whose MLP is a router and fused experts. The experts' tensors are
 * those of Transformers 5; checkpoints still hold one matrix for each expert under older names.
 */
#include "arch/arch_priv.h"

#include "model/keys.h"

#include <errno.h>

enum { MAX_EXPERTS = 1 << 14 };

struct moe {
	uint32_t n_experts, expert_size, shared_size;
	uint32_t sparse_step; /* every so many layers has experts */
	bool qkv_bias;
	bool *is_dense; /* [n_layers] */
};

static struct moe *new_moe(struct bmi_config *c)
{
	struct moe *moe = bmi_arena_alloc(c->arena, sizeof(*moe));

	if (!moe)
		return NULL;
	moe->is_dense = bmi_arena_array(c->arena, c->n_layers, sizeof(bool));
	c->ext = moe;
	return moe->is_dense ? moe : NULL;
}

static int configure_mixtral(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const char *key = bmi_key_get(json, "num_local_experts") ? "num_local_experts" : "num_experts";
	struct moe *moe = new_moe(c);
	int r;

	if (!moe)
		return bmi_fail(err, -ENOMEM, "config of %u layers", c->n_layers);
	moe->expert_size = c->intermediate_size;
	r = bmi_key_u32(json, key, 8, 1, MAX_EXPERTS, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", 0, 0, INT32_MAX, &c->sliding_window, err);
	for (uint32_t l = 0; r == 0 && l < c->n_layers; l++)
		c->layer_is_sliding[l] = c->sliding_window > 0;
	return r;
}

/* Layers that are dense: those listed, and those that decoder_sparse_step leaves out. */
static int read_dense(const struct bmi_json *json, const struct bmi_config *c, struct moe *moe,
		      struct bmi_error *err)
{
	const struct bmi_json *only = bmi_key_get(json, "mlp_only_layers");
	uint64_t layer;

	for (uint32_t l = 0; l < c->n_layers; l++)
		moe->is_dense[l] = (l + 1) % moe->sparse_step != 0;
	if (only && only->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "config.json: 'mlp_only_layers' is not a list");
	for (const struct bmi_json *v = only ? only->child : NULL; v; v = v->next) {
		if (!bmi_json_to_u64(v, &layer))
			return bmi_fail(
				err, -EINVAL,
				"config.json: 'mlp_only_layers' holds something else than layer numbers");
		if (layer < c->n_layers)
			moe->is_dense[layer] = true;
	}
	return 0;
}

static int configure_qwen2_moe(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const uint32_t window_fallback = bmi_json_get(json, "sliding_window") ? 0 : 4096;
	struct moe *moe = new_moe(c);
	uint32_t window, last;
	bool on;
	int r;

	if (!moe)
		return bmi_fail(err, -ENOMEM, "config of %u layers", c->n_layers);
	r = bmi_key_u32(json, "num_experts", 60, 1, MAX_EXPERTS, &moe->n_experts, err);
	r = r ? r : bmi_key_u32(json, "moe_intermediate_size", 1408, 1, 1 << 24, &moe->expert_size, err);
	r = r ? r
	      : bmi_key_u32(json, "shared_expert_intermediate_size", 5632, 1, 1 << 24, &moe->shared_size, err);
	r = r ? r : bmi_key_u32(json, "decoder_sparse_step", 1, 1, INT32_MAX, &moe->sparse_step, err);
	r = r ? r : bmi_key_bool(json, "qkv_bias", true, &moe->qkv_bias, err);
	r = r ? r : bmi_key_bool(json, "use_sliding_window", false, &on, err);
	r = r ? r : bmi_key_u32(json, "sliding_window", window_fallback, 0, INT32_MAX, &window, err);
	r = r ? r : bmi_key_u32(json, "max_window_layers", 28, 0, INT32_MAX, &last, err);
	if (r < 0)
		return r;
	c->sliding_window = on ? window : 0;
	for (uint32_t l = 0; l < c->n_layers; l++)
		c->layer_is_sliding[l] = on && (l + 1) % 2 && l < last;
	return read_dense(json, c, moe, err);
}

static void build_experts(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct moe *moe = c->ext;
	const uint64_t n = moe->n_experts, dim = c->hidden_size, ff = moe->expert_size;

	bmi_skel_linear(b, "gate", n, dim, false);
	bmi_skel_begin(b, "experts", "", false);
	bmi_skel_param(b, "gate_up_proj", 3, n, 2 * ff, dim);
	bmi_skel_param(b, "down_proj", 3, n, dim, ff);
	bmi_skel_empty(b, "act_fn");
	bmi_skel_end(b);
}

static void mlp_mixtral(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	bmi_skel_begin(b, "mlp", "", false);
	build_experts(c, b);
	bmi_skel_end(b);
}

static void build_dense(const struct bmi_config *c, struct bmi_skel_builder *b, uint64_t ff)
{
	bmi_skel_linear(b, "gate_proj", ff, c->hidden_size, false);
	bmi_skel_linear(b, "up_proj", ff, c->hidden_size, false);
	bmi_skel_linear(b, "down_proj", c->hidden_size, ff, false);
	bmi_skel_empty(b, "act_fn");
}

static void mlp_qwen2_moe(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct moe *moe = c->ext;

	bmi_skel_begin(b, "mlp", "", false);
	if (moe->is_dense[layer]) {
		build_dense(c, b, c->intermediate_size);
	} else {
		build_experts(c, b);
		bmi_skel_begin(b, "shared_expert", "", false);
		build_dense(c, b, moe->shared_size);
		bmi_skel_end(b);
		bmi_skel_linear(b, "shared_expert_gate", 1, c->hidden_size, false);
	}
	bmi_skel_end(b);
}

static void build_mixtral(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = { .layer_class = "MixtralDecoderLayer", .mlp = mlp_mixtral };

	bmi_llamalike_build(c, b, &kind);
}

static void build_qwen2_moe(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "Qwen2MoeDecoderLayer",
		.qkv_bias = ((const struct moe *)c->ext)->qkv_bias,
		.mlp = mlp_qwen2_moe,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys_mixtral = {
	.vocab_size = 32000,
	.hidden_size = 4096,
	.intermediate_size = 14336,
	.n_layers = 32,
	.n_heads = 32,
	.n_kv_heads = 8,
	.max_positions = 4096 * 32,
	.norm_eps = 1e-5,
	.act_word = "silu",
	.rope_theta = 1000000,
};

static const struct bmi_arch_keys keys_qwen2_moe = {
	.vocab_size = 151936,
	.hidden_size = 2048,
	.intermediate_size = 5632,
	.n_layers = 24,
	.n_heads = 16,
	.n_kv_heads = 16,
	.max_positions = 32768,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.has_layer_types = true,
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_mixtral = {
	.model_type = "mixtral",
	.class_name = "MixtralForCausalLM",
	.configure = configure_mixtral,
	.build = build_mixtral,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.keys = &keys_mixtral,
};

const struct bmi_arch bmi_arch_qwen2_moe = {
	.model_type = "qwen2_moe",
	.class_name = "Qwen2MoeForCausalLM",
	.configure = configure_qwen2_moe,
	.build = build_qwen2_moe,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = bmi_llamalike_ignored,
	.keys = &keys_qwen2_moe,
};

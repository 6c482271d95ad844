/* SPDX-License-Identifier: Apache-2.0 */
/*
 * DeepSeek V3: attention through latents (MLA), experts in groups, one expert for all. The experts are moe.c's and
 * experts.c's; attention is here. Owns the order of elements in a head: those that turn first, since q and k may be in
 * any order that is the same; v is widened to a head of k with elements nobody reads. Keys and values are cached whole.
 */
#include "arch/moe.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>

struct deepseek {
	struct bmi_moe moe; /* first: experts.c finds it in cfg->ext */
	uint32_t q_rank, kv_rank, nope, rope, v;
};

static const float latent_eps = 1e-6f; /* of the norms of latents, whatever rms_norm_eps says */

static int copy(struct bmi_pass *p, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n, uint32_t dim)
{
	return bmi_form_op(p, p->ops->copy(p->dev, y, ldy, x, ldx, n, dim), "copy");
}

/* q[n_tok][n_heads][rope | nope]; @room has as much. */
static int project_q(struct bmi_pass *p, float *q, float *room, const float *x)
{
	const struct bmi_config *c = p->cfg;
	const struct deepseek *d = c->ext;
	const uint32_t head = d->nope + d->rope, all = c->n_heads * head;
	float *latent;
	int r;

	if (!d->q_rank) {
		r = bmi_form_linear(p, "self_attn.q_proj", room, all, x, c->hidden_size);
	} else {
		r = bmi_form_scratch(p, BMI_SLOT_QKV, d->q_rank, &latent);
		r = r ? r : bmi_form_linear(p, "self_attn.q_a_proj", latent, d->q_rank, x, c->hidden_size);
		r = r ? r
		      : bmi_form_norm(p, "self_attn.q_a_layernorm", latent, d->q_rank, latent, d->q_rank,
				      p->n_tok, d->q_rank, latent_eps);
		r = r ? r : bmi_form_linear(p, "self_attn.q_b_proj", room, all, latent, d->q_rank);
	}
	r = r ? r : copy(p, q, head, room + d->nope, head, p->n_tok * c->n_heads, d->rope);
	return r ? r : copy(p, q + d->rope, head, room, head, p->n_tok * c->n_heads, d->nope);
}

/* k[n_tok][n_heads][rope | nope] and v[n_tok][n_heads][v | anything] */
static int project_kv(struct bmi_pass *p, float *k, float *v, const float *x)
{
	const struct bmi_config *c = p->cfg;
	const struct deepseek *d = c->ext;
	const uint32_t head = d->nope + d->rope, n = p->n_tok * c->n_heads;
	const size_t ld = d->kv_rank + d->rope, kv_ld = d->nope + d->v;
	float *latent, *kv;
	int r = bmi_form_scratch(p, BMI_SLOT_QKV, ld, &latent);

	r = r ? r : bmi_form_scratch(p, BMI_SLOT_GATE, c->n_heads * kv_ld, &kv);
	r = r ? r : bmi_form_linear(p, "self_attn.kv_a_proj_with_mqa", latent, ld, x, c->hidden_size);
	r = r ? r
	      : bmi_form_norm(p, "self_attn.kv_a_layernorm", latent, ld, latent, ld, p->n_tok, d->kv_rank,
			      latent_eps);
	r = r ? r : bmi_form_linear(p, "self_attn.kv_b_proj", kv, c->n_heads * kv_ld, latent, ld);
	for (uint32_t h = 0; r == 0 && h < c->n_heads; h++)
		r = copy(p, k + (size_t)h * head, (size_t)c->n_heads * head, latent + d->kv_rank, ld,
			 p->n_tok, d->rope);
	r = r ? r : copy(p, k + d->rope, head, kv, kv_ld, n, d->nope);
	r = r ? r : copy(p, v, head, kv + d->nope, kv_ld, n, d->v);
	return r ? r : copy(p, v + d->v, head, k, head, n, head - d->v);
}

static int attend(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *a, const float *x)
{
	const struct bmi_config *c = p->cfg;
	const struct deepseek *d = c->ext;
	const struct bmi_rope_config *rc = &c->rope_full;
	const struct bmi_rope rope = { rc->inv_freq, rc->n_rot, rc->attention_factor, c->rope_interleaved };
	const size_t all = (size_t)c->n_heads * c->head_dim;
	float *q, *k, *v, *wide;
	int r = bmi_form_scratch(p, BMI_SLOT_Q, all, &q);

	r = r ? r : bmi_form_scratch(p, BMI_SLOT_K, all, &k);
	r = r ? r : bmi_form_scratch(p, BMI_SLOT_V, all, &v);
	r = r ? r : project_q(p, q, a, x);
	r = r ? r : project_kv(p, k, v, x);
	if (r == 0)
		r = bmi_form_op(p,
				p->ops->rope(p->dev, q, all, &rope, p->pos, p->n_tok, c->n_heads, c->head_dim),
				"rope");
	if (r == 0)
		r = bmi_form_op(p,
				p->ops->rope(p->dev, k, all, &rope, p->pos, p->n_tok, c->n_heads, c->head_dim),
				"rope");
	r = r ? r : bmi_form_scratch(p, BMI_SLOT_GATE, all, &wide);
	r = r ? r : bmi_form_attention(p, layer, wide, q, k, v);
	return r ? r : copy(p, a, d->v, wide, c->head_dim, p->n_tok * c->n_heads, d->v);
}

static uint32_t o_cols(const struct bmi_config *c)
{
	return c->n_heads * ((const struct deepseek *)c->ext)->v;
}

static const struct bmi_form form = {
	.attn_norm = "input_layernorm",
	.attend = attend,
	.o = "self_attn.o_proj",
	.o_cols = o_cols,
	.mlp_norm = "post_attention_layernorm",
	.gate = "mlp.gate_proj",
	.up = "mlp.up_proj",
	.down = "mlp.down_proj",
	.mlp = bmi_moe_mlp,
};

/* Layers of multi-token prediction lie after the model's own in published checkpoints. */
static const char *const ignored[] = { "*rotary_emb.inv_freq", "model.layers.61.*", NULL };

static int read_experts(const struct bmi_json *json, struct bmi_config *c, struct bmi_moe *moe,
			struct bmi_error *err)
{
	uint32_t n_shared, first_k;
	double factor;
	int r = bmi_key_u32(json, "n_routed_experts", 256, 1, BMI_MOE_EXPERTS_MAX, &moe->n_experts, err);

	r = r ? r : bmi_key_u32(json, "num_experts_per_tok", 8, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used, err);
	r = r ? r : bmi_key_u32(json, "moe_intermediate_size", 2048, 1, 1 << 20, &moe->expert_size, err);
	r = r ? r : bmi_key_u32(json, "n_shared_experts", 1, 1, 16, &n_shared, err);
	r = r ? r : bmi_key_u32(json, "n_group", 8, 1, BMI_MOE_EXPERTS_MAX, &moe->n_groups, err);
	r = r ? r : bmi_key_u32(json, "topk_group", 4, 1, BMI_MOE_EXPERTS_MAX, &moe->n_used_groups, err);
	r = r ? r : bmi_key_u32(json, "first_k_dense_replace", 3, 0, INT32_MAX, &first_k, err);
	r = r ? r : bmi_key_bool(json, "norm_topk_prob", true, &moe->normalize, err);
	r = r ? r : bmi_key_double(json, "routed_scaling_factor", 2.5, &factor, err);
	if (r < 0)
		return r;
	if (moe->n_experts % moe->n_groups || moe->n_experts / moe->n_groups < 2 ||
	    moe->n_used_groups > moe->n_groups ||
	    moe->n_used > moe->n_used_groups * (moe->n_experts / moe->n_groups) || factor == 0)
		return bmi_fail(err, -EINVAL,
				"config.json: %u experts in %u groups ('n_group'), %u of %u groups "
				"('topk_group') used: "
				"these do not fit together",
				moe->n_experts, moe->n_groups, moe->n_used, moe->n_used_groups);
	moe->shared_size = n_shared * moe->expert_size;
	moe->factor = (float)factor;
	for (uint32_t l = 0; l < c->n_layers; l++)
		moe->is_dense[l] = l < first_k;
	return 0;
}

/* The router as the class knows it: other words of the first release's config are of another routing. */
static int check_router(const struct bmi_json *json, struct bmi_error *err)
{
	static const char *const keys[][2] = { { "scoring_func", "sigmoid" }, { "topk_method", "noaux_tc" } };

	for (size_t i = 0; i < BMI_ARRAY_LEN(keys); i++) {
		const struct bmi_json *v = bmi_key_get(json, keys[i][0]);

		if (v && !bmi_json_eq(v, keys[i][1]))
			return bmi_fail(err, -EOPNOTSUPP, "config.json: '%s' other than '%s' is not supported",
					keys[i][0], keys[i][1]);
	}
	return 0;
}

/* With yarn and mscale_all_dim the scores are scaled by the square of its factor. */
static int read_scale(const struct bmi_json *json, struct bmi_config *c, uint32_t head, struct bmi_error *err)
{
	const struct bmi_json *rope = bmi_key_get(json, "rope_scaling");
	const struct bmi_json *type;
	double all, factor, m = 1;
	int r;

	rope = rope ? rope : bmi_key_get(json, "rope_parameters");
	type = bmi_key_get(rope, "rope_type");
	type = type ? type : bmi_key_get(rope, "type");
	r = bmi_key_double(rope, "mscale_all_dim", 0, &all, err);
	r = r ? r : bmi_key_double(rope, "factor", 1, &factor, err);
	if (r < 0)
		return r;
	if (type && !bmi_json_eq(type, "default") && all != 0 && factor > 1)
		m = 0.1 * all * log(factor) + 1;
	c->attn_scale = (float)(m * m / sqrt(head));
	return 0;
}

static int configure(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const bool no_q_rank = bmi_json_get(json, "q_lora_rank") && !bmi_key_get(json, "q_lora_rank");
	struct deepseek *d = bmi_moe_new(c, sizeof(*d), err);
	bool interleaved;
	int r;

	if (!d)
		return -ENOMEM;
	d->moe.route = BMI_ROUTE_GROUPS;
	d->moe.router_bias = "mlp.gate.e_score_correction_bias";
	d->moe.shared = "mlp.shared_experts";
	r = check_router(json, err);
	r = r ? r : read_experts(json, c, &d->moe, err);
	r = r ? r : bmi_key_u32(json, "q_lora_rank", no_q_rank ? 0 : 1536, 0, 1 << 16, &d->q_rank, err);
	r = r ? r : bmi_key_u32(json, "kv_lora_rank", 512, 1, 1 << 16, &d->kv_rank, err);
	r = r ? r : bmi_key_u32(json, "qk_nope_head_dim", 128, 1, 1 << 12, &d->nope, err);
	r = r ? r : bmi_key_u32(json, "qk_rope_head_dim", 64, 2, 1 << 12, &d->rope, err);
	r = r ? r : bmi_key_u32(json, "v_head_dim", 128, 1, 1 << 12, &d->v, err);
	r = r ? r : bmi_key_bool(json, "attention_bias", false, &c->attention_bias, err);
	r = r ? r : bmi_key_bool(json, "rope_interleave", true, &interleaved, err);
	r = r ? r : read_scale(json, c, d->nope + d->rope, err);
	if (r < 0)
		return r;
	if (d->v > d->nope + d->rope || (uint64_t)c->n_heads * (d->nope + d->rope + d->v) > 1 << 24)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"config.json: %u heads with a 'v_head_dim' of %u and keys of %u are not supported",
			c->n_heads, d->v, d->nope + d->rope);
	c->head_dim = d->nope + d->rope;
	c->rope_dim = d->rope;
	c->n_kv_heads = c->n_heads;
	c->rope_interleaved = interleaved;
	r = bmi_moe_finish(c, &form, err);
	c->scratch_floats += d->q_rank + d->kv_rank + d->rope + c->n_heads * (c->head_dim + d->v);
	return r;
}

static void build_attention(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct deepseek *d = c->ext;
	const uint64_t dim = c->hidden_size, n = c->n_heads, head = d->nope + d->rope;

	bmi_skel_begin(b, "self_attn", "", false);
	if (d->q_rank) {
		bmi_skel_linear(b, "q_a_proj", d->q_rank, dim, c->attention_bias);
		bmi_skel_norm(b, "q_a_layernorm", d->q_rank, false);
		bmi_skel_linear(b, "q_b_proj", n * head, d->q_rank, false);
	} else {
		bmi_skel_linear(b, "q_proj", n * head, dim, false);
	}
	bmi_skel_linear(b, "kv_a_proj_with_mqa", (uint64_t)d->kv_rank + d->rope, dim, c->attention_bias);
	bmi_skel_norm(b, "kv_a_layernorm", d->kv_rank, false);
	bmi_skel_linear(b, "kv_b_proj", n * (d->nope + d->v), d->kv_rank, false);
	bmi_skel_linear(b, "o_proj", dim, n * d->v, c->attention_bias);
	bmi_skel_end(b);
}

static void build_mlp(const struct bmi_config *c, struct bmi_skel_builder *b, uint32_t layer)
{
	const struct bmi_moe *moe = c->ext;

	bmi_skel_begin(b, "mlp", "", false);
	if (moe->is_dense[layer]) {
		bmi_moe_build_dense(c, b, c->intermediate_size);
	} else {
		bmi_moe_build_experts(c, b);
		bmi_skel_begin(b, "gate", "", false);
		bmi_skel_param(b, "weight", 2, (uint64_t)moe->n_experts, (uint64_t)c->hidden_size);
		bmi_skel_param(b, "e_score_correction_bias", 1, (uint64_t)moe->n_experts);
		bmi_skel_end(b);
		bmi_skel_begin(b, "shared_experts", "", false);
		bmi_moe_build_dense(c, b, moe->shared_size);
		bmi_skel_end(b);
	}
	bmi_skel_end(b);
}

static void build(const struct bmi_config *c, struct bmi_skel_builder *b)
{
	const struct bmi_llamalike kind = {
		.layer_class = "DeepseekV3DecoderLayer",
		.attention = build_attention,
		.mlp = build_mlp,
	};

	bmi_llamalike_build(c, b, &kind);
}

static const struct bmi_arch_keys keys = {
	.vocab_size = 129280,
	.hidden_size = 7168,
	.intermediate_size = 18432,
	.n_layers = 61,
	.n_heads = 128,
	.n_kv_heads = 128,
	.max_positions = 4096,
	.norm_eps = 1e-6,
	.act_word = "silu",
	.rope_theta = 10000,
};

const struct bmi_arch bmi_arch_deepseek_v3 = {
	.model_type = "deepseek_v3",
	.class_name = "DeepseekV3ForCausalLM",
	.configure = configure,
	.build = build,
	.exec_layer = bmi_moe_exec,
	.layers_path = "model.layers",
	.embed_name = "model.embed_tokens",
	.final_norm_name = "model.norm",
	.head_name = "lm_head",
	.ignored = ignored,
	.forward = &bmi_forward_decoder,
	.keys = &keys,
	.parts = bmi_moe_parts,
};

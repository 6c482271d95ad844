/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention of a layer, from the normed stream to what o_proj reads. Owns the three ways q, k and v are laid out and what
 * is done to them before the cache. Invariant: q, k and v are contiguous rows of whole heads when they leave here.
 */
#include "arch/form.h"

int bmi_form_attention(struct bmi_pass *p, uint32_t layer, float *a, const float *q, const float *k,
		       const float *v)
{
	const struct bmi_config *c = p->cfg;
	const size_t kv_dim = (size_t)c->n_kv_heads * c->head_dim;
	struct bmi_attn attn = {
		.out = a,
		.q = q,
		.kv = p->kv,
		.pos = p->pos,
		.n_tok = p->n_tok,
		.n_heads = c->n_heads,
		.n_kv_heads = c->n_kv_heads,
		.head_dim = c->head_dim,
		.window = c->layer_is_sliding[layer] ? c->sliding_window : 0,
		.scale = c->attn_scale,
		.softcap = c->attn_softcap,
		.kv_dtype = p->kv_dtype,
		.slopes = c->alibi,
	};
	int r = bmi_form_op(p,
			    p->ops->kv_store(p->dev, p->kv, p->pos, k, v, kv_dim, p->n_tok, c->n_kv_heads,
					     c->head_dim, p->kv_dtype),
			    "kv_store");

	if (r == 0 && c->form && c->form->sinks)
		r = p->vector(p, c->form->sinks, &attn.sinks);
	return r ? r : bmi_form_op(p, p->ops->attention(p->dev, &attn), "attention");
}

static int norm_heads(struct bmi_pass *p, const struct bmi_form *form, const char *module, float *x,
		      uint32_t n_heads)
{
	const uint32_t d = p->cfg->head_dim;
	const uint32_t n = form->qk_norm_whole ? p->n_tok : p->n_tok * n_heads;
	const uint32_t dim = form->qk_norm_whole ? n_heads * d : d;

	return bmi_form_has(p, module) ? bmi_form_norm(p, module, x, dim, x, dim, n, dim, p->cfg->norm_eps) : 0;
}

/* q and k of each row: the norms some families have, then rotated to their positions. */
static int norm_and_rotate(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *q, float *k)
{
	const struct bmi_config *c = p->cfg;
	const struct bmi_rope_config *rc = c->layer_is_sliding[layer] ? &c->rope_sliding : &c->rope_full;
	const struct bmi_rope rope = { rc->inv_freq, rc->n_rot, rc->attention_factor, c->rope_interleaved };
	const size_t q_dim = (size_t)c->n_heads * c->head_dim, k_dim = (size_t)c->n_kv_heads * c->head_dim;
	int r = norm_heads(p, form, form->q_norm, q, c->n_heads);

	if (r == 0)
		r = norm_heads(p, form, form->k_norm, k, c->n_kv_heads);
	if (r || rope.n_rot == 0 || c->alibi || (c->layer_has_no_rope && c->layer_has_no_rope[layer]))
		return r;
	r = bmi_form_op(p, p->ops->rope(p->dev, q, q_dim, &rope, p->pos, p->n_tok, c->n_heads, c->head_dim),
			"rope");
	return r ? r
		 : bmi_form_op(p,
			       p->ops->rope(p->dev, k, k_dim, &rope, p->pos, p->n_tok, c->n_kv_heads,
					    c->head_dim),
			       "rope");
}

static int copy(struct bmi_pass *p, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n, uint32_t dim)
{
	return bmi_form_op(p, p->ops->copy(p->dev, y, ldy, x, ldx, n, dim), "copy");
}

/* q, k and v from one projection. */
static int project_fused(struct bmi_pass *p, const struct bmi_form *form, float *q, float *k, float *v,
			 const float *x)
{
	const struct bmi_config *c = p->cfg;
	const uint32_t d = c->head_dim, q_dim = c->n_heads * d, kv_dim = c->n_kv_heads * d;
	const uint32_t all = q_dim + 2 * kv_dim, n_groups = p->n_tok * c->n_kv_heads;
	const uint32_t group = c->n_heads / c->n_kv_heads * d;
	const bool grouped = form->qkv_rows == BMI_QKV_GROUPS;
	float *qkv;
	int r = bmi_form_scratch(p, BMI_SLOT_QKV, all, &qkv);

	if (r == 0)
		r = bmi_form_linear(p, form->qkv, qkv, all, x, c->hidden_size);
	if (r == 0 && grouped) {
		r = copy(p, q, group, qkv, group + 2 * d, n_groups, group);
		r = r ? r : copy(p, k, d, qkv + group, group + 2 * d, n_groups, d);
		return r ? r : copy(p, v, d, qkv + group + d, group + 2 * d, n_groups, d);
	}
	r = r ? r : copy(p, q, q_dim, qkv, all, p->n_tok, q_dim);
	r = r ? r : copy(p, k, kv_dim, qkv + q_dim, all, p->n_tok, kv_dim);
	return r ? r : copy(p, v, kv_dim, qkv + q_dim + kv_dim, all, p->n_tok, kv_dim);
}

static int project(struct bmi_pass *p, const struct bmi_form *form, float *q, float *k, float *v,
		   const float *x)
{
	const struct bmi_config *c = p->cfg;
	const size_t q_dim = (size_t)c->n_heads * c->head_dim, kv_dim = (size_t)c->n_kv_heads * c->head_dim;
	int r;

	if (form->qkv_rows != BMI_QKV_APART)
		return project_fused(p, form, q, k, v, x);
	r = bmi_form_linear(p, form->q, q, q_dim, x, c->hidden_size);
	r = r ? r : bmi_form_linear(p, form->k, k, kv_dim, x, c->hidden_size);
	return r ? r : bmi_form_linear(p, form->v, v, kv_dim, x, c->hidden_size);
}

int bmi_form_attend(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *a, const float *x)
{
	const struct bmi_config *c = p->cfg;
	const size_t q_dim = (size_t)c->n_heads * c->head_dim, kv_dim = (size_t)c->n_kv_heads * c->head_dim;
	float *q, *k, *v;
	int r = bmi_form_scratch(p, BMI_SLOT_Q, q_dim, &q);

	r = r ? r : bmi_form_scratch(p, BMI_SLOT_K, kv_dim, &k);
	r = r ? r : bmi_form_scratch(p, BMI_SLOT_V, kv_dim, &v);
	r = r ? r : project(p, form, q, k, v, x);
	r = r ? r : norm_and_rotate(p, form, layer, q, k);
	return r ? r : bmi_form_attention(p, layer, a, q, k, v);
}

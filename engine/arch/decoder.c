/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward of decoders with RMS norms, rotary attention and a gated MLP. Owns what is computed and in which order;
 * knows no weight's place and no number's type: run/ hands both through struct bmi_pass.
 *
 * One code for all families: where norms sit is told by the parameters a layer has.
 *   input_layernorm             before attention (llama and most others)
 *   self_attn.{q,k}_norm        on each head of q and k before RoPE (gemma3, qwen3)
 *   post_feedforward_layernorm  marks "sandwich" layers (gemma2, gemma3): post_attention_layernorm is then on what
 *                               attention gives, and pre_feedforward_layernorm, if any, before the MLP
 *   post_attention_layernorm    otherwise before the MLP
 *
 * Invariant: a row of the residual stream is a function of its own row and of its sequence's cache, so rows may come in
 * any company. Weights are asked for in the order of the family's exec_layer: read-ahead of disk layers relies on it.
 */
#include "arch/arch.h"

#include <errno.h>
#include <stdio.h>

/* What each piece of working memory holds; all [n_tok][...]. */
enum { SLOT_X, SLOT_Q, SLOT_K, SLOT_V, SLOT_ATTN, SLOT_OUT, SLOT_GATE, SLOT_UP };

static int op(struct bmi_pass *p, int r, const char *name)
{
	return r < 0 ? bmi_fail_errno(p->err, r, "operation %s on %u rows", name, p->n_tok) : 0;
}

static int get_scratch(struct bmi_pass *p, unsigned slot, size_t n_cols, float **ret)
{
	const size_t bytes = p->n_tok * n_cols * sizeof(float);

	*ret = p->scratch(p, slot, bytes);
	if (!*ret)
		return bmi_fail(p->err, -ENOMEM, "%zu bytes of working memory for %u rows", bytes, p->n_tok);
	return 0;
}

/* y[n][dim] = the RMS norm of x with the parameter's weights. y may be x. */
static int norm(struct bmi_pass *p, const char *param, float *y, const float *x, uint32_t n, uint32_t dim)
{
	const float *w;
	int r = p->vector(p, param, &w);

	if (r < 0)
		return r;
	r = p->ops->rmsnorm(p->dev, y, dim, x, dim, w, n, dim, p->cfg->norm_eps, p->cfg->norm_offset);
	return op(p, r, "rmsnorm");
}

/* The same in place, if the layer has that norm. */
static int norm_if(struct bmi_pass *p, const char *param, float *x, uint32_t dim)
{
	return p->has(p, param) ? norm(p, param, x, x, p->n_tok, dim) : 0;
}

static int linear(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x, size_t ldx)
{
	return p->linear(p, module, y, ldy, x, ldx, p->n_tok);
}

/* q and k of each row: the norms some families have, then rotated to their positions. */
static int norm_and_rotate(struct bmi_pass *p, uint32_t layer, float *q, float *k)
{
	const struct bmi_config *c = p->cfg;
	const struct bmi_rope_config *rc = c->layer_is_sliding[layer] ? &c->rope_sliding : &c->rope_full;
	const struct bmi_rope rope = { rc->inv_freq, rc->n_rot, rc->attention_factor, c->rope_interleaved };
	const size_t q_dim = (size_t)c->n_heads * c->head_dim, k_dim = (size_t)c->n_kv_heads * c->head_dim;
	int r = 0;

	if (p->has(p, "self_attn.q_norm.weight"))
		r = norm(p, "self_attn.q_norm.weight", q, q, p->n_tok * c->n_heads, c->head_dim);
	if (r == 0 && p->has(p, "self_attn.k_norm.weight"))
		r = norm(p, "self_attn.k_norm.weight", k, k, p->n_tok * c->n_kv_heads, c->head_dim);
	if (r == 0)
		r = op(p, p->ops->rope(p->dev, q, q_dim, &rope, p->pos, p->n_tok, c->n_heads, c->head_dim),
		       "rope");
	if (r == 0)
		r = op(p, p->ops->rope(p->dev, k, k_dim, &rope, p->pos, p->n_tok, c->n_kv_heads, c->head_dim),
		       "rope");
	return r;
}

/* a[n_tok][n_heads * head_dim] = attention of x over each row's sequence; k and v are cached on the way. */
static int attend(struct bmi_pass *p, uint32_t layer, float *a, const float *x)
{
	const struct bmi_config *c = p->cfg;
	const uint32_t dim = c->hidden_size, n_kv = c->n_kv_heads;
	const size_t q_dim = (size_t)c->n_heads * c->head_dim, kv_dim = (size_t)n_kv * c->head_dim;
	struct bmi_attn attn = {
		.out = a,
		.kv = p->kv,
		.pos = p->pos,
		.n_tok = p->n_tok,
		.n_heads = c->n_heads,
		.n_kv_heads = n_kv,
		.head_dim = c->head_dim,
		.window = c->layer_is_sliding[layer] ? c->sliding_window : 0,
		.scale = c->attn_scale,
		.softcap = c->attn_softcap,
		.kv_dtype = p->kv_dtype,
	};
	float *q, *k, *v;
	int r = get_scratch(p, SLOT_Q, q_dim, &q);

	if (r == 0)
		r = get_scratch(p, SLOT_K, kv_dim, &k);
	if (r == 0)
		r = get_scratch(p, SLOT_V, kv_dim, &v);
	if (r == 0)
		r = linear(p, "self_attn.q_proj", q, q_dim, x, dim);
	if (r == 0)
		r = linear(p, "self_attn.k_proj", k, kv_dim, x, dim);
	if (r == 0)
		r = linear(p, "self_attn.v_proj", v, kv_dim, x, dim);
	if (r == 0)
		r = norm_and_rotate(p, layer, q, k);
	if (r)
		return r;

	r = p->ops->kv_store(p->dev, p->kv, p->pos, k, v, kv_dim, p->n_tok, n_kv, c->head_dim, p->kv_dtype);
	if (r < 0)
		return op(p, r, "kv_store");
	attn.q = q;
	return op(p, p->ops->attention(p->dev, &attn), "attention");
}

/* y = down(act(gate(x)) * up(x)) */
static int gated_mlp(struct bmi_pass *p, float *y, const float *x)
{
	static const enum bmi_act acts[] = {
		[BMI_CFG_SILU] = BMI_ACT_SILU,
		[BMI_CFG_GELU] = BMI_ACT_GELU,
		[BMI_CFG_GELU_TANH] = BMI_ACT_GELU_TANH,
		[BMI_CFG_RELU] = BMI_ACT_RELU,
	};
	const uint32_t dim = p->cfg->hidden_size, ff = p->cfg->intermediate_size;
	float *gate, *up;
	int r = get_scratch(p, SLOT_GATE, ff, &gate);

	if (r == 0)
		r = get_scratch(p, SLOT_UP, ff, &up);
	if (r == 0)
		r = linear(p, "mlp.gate_proj", gate, ff, x, dim);
	if (r == 0)
		r = linear(p, "mlp.up_proj", up, ff, x, dim);
	if (r == 0)
		r = op(p, p->ops->glu(p->dev, gate, gate, up, ff, p->n_tok, ff, acts[p->cfg->act]), "glu");
	if (r == 0)
		r = linear(p, "mlp.down_proj", y, dim, gate, ff);
	return r;
}

static int add_to_stream(struct bmi_pass *p, const float *x)
{
	return op(p, p->ops->add(p->dev, p->h, x, (size_t)p->n_tok * p->cfg->hidden_size, 1.0f), "add");
}

static int forward_attention(struct bmi_pass *p, uint32_t layer, bool sandwich)
{
	const struct bmi_config *c = p->cfg;
	const size_t q_dim = (size_t)c->n_heads * c->head_dim;
	const uint32_t dim = c->hidden_size;
	const float *in = p->h;
	float *x, *a, *out;
	int r = get_scratch(p, SLOT_X, dim, &x);

	if (r == 0)
		r = get_scratch(p, SLOT_ATTN, q_dim, &a);
	if (r == 0)
		r = get_scratch(p, SLOT_OUT, dim, &out);
	if (r == 0 && p->has(p, "input_layernorm.weight")) {
		r = norm(p, "input_layernorm.weight", x, p->h, p->n_tok, dim);
		in = x;
	}
	if (r == 0)
		r = attend(p, layer, a, in);
	if (r == 0)
		r = linear(p, "self_attn.o_proj", out, dim, a, q_dim);
	if (r == 0 && sandwich)
		r = norm_if(p, "post_attention_layernorm.weight", out, dim);
	if (r == 0)
		r = add_to_stream(p, out);
	return r;
}

static int forward_mlp(struct bmi_pass *p, bool sandwich)
{
	const char *pre = sandwich ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
	const uint32_t dim = p->cfg->hidden_size;
	const float *in = p->h;
	float *x, *out;
	int r = get_scratch(p, SLOT_X, dim, &x);

	if (r == 0)
		r = get_scratch(p, SLOT_OUT, dim, &out);
	if (r == 0 && p->has(p, pre)) {
		r = norm(p, pre, x, p->h, p->n_tok, dim);
		in = x;
	}
	if (r == 0)
		r = gated_mlp(p, out, in);
	if (r == 0 && sandwich)
		r = norm_if(p, "post_feedforward_layernorm.weight", out, dim);
	if (r == 0)
		r = add_to_stream(p, out);
	return r;
}

static int decoder_embed(struct bmi_pass *p)
{
	return p->embed(p, p->h, p->cfg->hidden_size);
}

static int decoder_layer(struct bmi_pass *p, uint32_t layer)
{
	const bool sandwich = p->has(p, "post_feedforward_layernorm.weight");
	int r = forward_attention(p, layer, sandwich);

	if (r == 0)
		r = forward_mlp(p, sandwich);
	return r < 0 ? bmi_note(p->err, r, "layer %u", layer) : 0;
}

static int decoder_head(struct bmi_pass *p)
{
	const struct bmi_config *c = p->cfg;
	const uint32_t dim = c->hidden_size;
	const float *w;
	char param[128];
	float *x;
	int r = get_scratch(p, SLOT_X, dim, &x);

	snprintf(param, sizeof(param), "%s.weight", c->arch->final_norm_name);
	if (r == 0)
		r = p->vector(p, param, &w);
	for (uint32_t i = 0; r == 0 && i < p->n_out; i++)
		r = op(p,
		       p->ops->rmsnorm(p->dev, x + (size_t)i * dim, dim, p->h + (size_t)p->out_rows[i] * dim,
				       dim, w, 1, dim, c->norm_eps, c->norm_offset),
		       "rmsnorm");
	if (r == 0)
		r = p->linear(p, c->arch->head_name, p->logits, c->vocab_size, x, dim, p->n_out);
	if (r == 0 && c->final_softcap > 0)
		r = op(p,
		       p->ops->softcap(p->dev, p->logits, (size_t)p->n_out * c->vocab_size, c->final_softcap),
		       "softcap");
	return r;
}

const struct bmi_forward bmi_forward_decoder = {
	.embed = decoder_embed,
	.layer = decoder_layer,
	.head = decoder_head,
};

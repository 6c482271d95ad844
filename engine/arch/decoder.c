/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward of every decoder. Owns what is computed and in which order; knows no weight's place and no number's type:
 * run/ hands both through struct bmi_pass. What tells families apart is data: cfg->form, and which of the form's norms a
 * layer has. Attention is attend.c's, the MLP mlp.c's.
 *
 * Without a form of its own a family is as llama: input_layernorm before attention, post_attention_layernorm before the
 * MLP; or, where a layer has post_feedforward_layernorm, the "sandwich": post_attention_layernorm is on what attention
 * gives then, and pre_feedforward_layernorm, if any, before the MLP.
 *
 * Invariant: a row of the residual stream is a function of its own row and of its sequence's cache, so rows may come in
 * any company. Weights are asked for in the order of the family's exec_layer: read-ahead of disk layers relies on it.
 */
#include "arch/form.h"

#include <errno.h>
#include <stdio.h>

#define LLAMA_PARTS                                                                          \
	.attn_norm = "input_layernorm", .q = "self_attn.q_proj", .k = "self_attn.k_proj",    \
	.v = "self_attn.v_proj", .q_norm = "self_attn.q_norm", .k_norm = "self_attn.k_norm", \
	.o = "self_attn.o_proj", .gate = "mlp.gate_proj", .up = "mlp.up_proj", .down = "mlp.down_proj"

const struct bmi_form bmi_form_llama = { LLAMA_PARTS, .mlp_norm = "post_attention_layernorm" };

static const struct bmi_form sandwich = {
	LLAMA_PARTS,
	.attn_post_norm = "post_attention_layernorm",
	.mlp_norm = "pre_feedforward_layernorm",
	.mlp_post_norm = "post_feedforward_layernorm",
};

void bmi_form_set(struct bmi_config *c, const struct bmi_form *form)
{
	const uint64_t all_heads = c->n_heads + 2ull * c->n_kv_heads;

	c->form = form;
	c->scratch_floats = (form->qkv_rows != BMI_QKV_APART ? (uint32_t)(all_heads * c->head_dim) : 0) +
			    (form->layer_norm ? c->hidden_size : 0) + 1;
}

int bmi_form_op(struct bmi_pass *p, int r, const char *name)
{
	return r < 0 ? bmi_fail_errno(p->err, r, "operation %s on %u rows", name, p->n_tok) : 0;
}

int bmi_form_scratch(struct bmi_pass *p, enum bmi_slot slot, size_t n_cols, float **ret)
{
	const size_t bytes = p->n_tok * n_cols * sizeof(float);

	*ret = p->scratch(p, slot, bytes);
	if (!*ret)
		return bmi_fail(p->err, -ENOMEM, "%zu bytes of working memory for %u rows", bytes, p->n_tok);
	return 0;
}

bool bmi_form_has(struct bmi_pass *p, const char *module)
{
	char param[128];

	if (!module)
		return false;
	snprintf(param, sizeof(param), "%s.weight", module);
	return p->has(p, param);
}

int bmi_form_linear(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x, size_t ldx)
{
	const bool turned = p->cfg->form && p->cfg->form->turned;

	return (turned ? p->linear_turned : p->linear)(p, module, y, ldy, x, ldx, p->n_tok);
}

/* A vector is lent until the next one is asked for: the weight is kept while the bias is read. */
static int layer_norm(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
		      size_t ldx, uint32_t n, uint32_t dim, float eps)
{
	const float *w, *b = NULL;
	char param[128];
	float *kept;
	int r;

	snprintf(param, sizeof(param), "%s.weight", module);
	r = p->vector(p, param, &w);
	snprintf(param, sizeof(param), "%s.bias", module);
	if (r == 0 && p->has(p, param)) {
		kept = p->scratch(p, BMI_SLOT_NORM, dim * sizeof(float));
		if (!kept)
			return bmi_fail(p->err, -ENOMEM, "working memory for a norm of %u", dim);
		r = bmi_form_op(p, p->ops->copy(p->dev, kept, dim, w, dim, 1, dim), "copy");
		w = kept;
		r = r ? r : p->vector(p, param, &b);
	}
	return r ? r
		 : bmi_form_op(p, p->ops->layernorm(p->dev, y, ldy, x, ldx, w, b, n, dim, eps), "layernorm");
}

int bmi_form_norm(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x, size_t ldx,
		  uint32_t n, uint32_t dim, float eps)
{
	char param[128];
	const float *w;
	int r;

	if (p->cfg->form && p->cfg->form->layer_norm)
		return layer_norm(p, module, y, ldy, x, ldx, n, dim, eps);
	snprintf(param, sizeof(param), "%s.weight", module);
	r = p->vector(p, param, &w);
	if (r < 0)
		return r;
	r = p->ops->rmsnorm(p->dev, y, ldy, x, ldx, w, n, dim, eps, p->cfg->norm_offset);
	return bmi_form_op(p, r, "rmsnorm");
}

/* The norm of all rows, in place or from x to y. */
static int norm(struct bmi_pass *p, const char *module, float *y, const float *x)
{
	const uint32_t dim = p->cfg->hidden_size;

	return bmi_form_norm(p, module, y, dim, x, dim, p->n_tok, dim, p->cfg->norm_eps);
}

static int add_to_stream(struct bmi_pass *p, const float *x)
{
	const float factor = p->cfg->residual_factor != 0 ? p->cfg->residual_factor : 1.0f;

	return bmi_form_op(p, p->ops->add(p->dev, p->h, x, (size_t)p->n_tok * p->cfg->hidden_size, factor),
			   "add");
}

/* y = o(attention(x)), with the norm that some families have on it */
static int forward_attention(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y,
			     const float *x)
{
	const struct bmi_config *c = p->cfg;
	const size_t q_dim = (size_t)c->n_heads * c->head_dim;
	float *a;
	int r = bmi_form_scratch(p, BMI_SLOT_ATTN, q_dim, &a);

	if (r == 0)
		r = (form->attend ? form->attend : bmi_form_attend)(p, form, layer, a, x);
	if (r == 0)
		r = bmi_form_linear(p, form->o, y, c->hidden_size, a, form->o_cols ? form->o_cols(c) : q_dim);
	if (r == 0 && bmi_form_has(p, form->attn_post_norm))
		r = norm(p, form->attn_post_norm, y, y);
	return r;
}

static int forward_mlp(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y,
		       const float *x)
{
	int r = (form->mlp ? form->mlp : bmi_form_mlp)(p, form, layer, y, x);

	if (r == 0 && bmi_form_has(p, form->mlp_post_norm))
		r = norm(p, form->mlp_post_norm, y, y);
	return r;
}

static int forward_layer(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer)
{
	const float *in = p->h;
	float *x, *out;
	int r = bmi_form_scratch(p, BMI_SLOT_X, p->cfg->hidden_size, &x);

	if (r == 0)
		r = bmi_form_scratch(p, BMI_SLOT_OUT, p->cfg->hidden_size, &out);
	if (r == 0 && bmi_form_has(p, form->attn_norm)) {
		r = norm(p, form->attn_norm, x, p->h);
		in = x;
	}
	if (r == 0)
		r = forward_attention(p, form, layer, out, in);
	if (r == 0 && !form->parallel) {
		r = add_to_stream(p, out);
		in = p->h;
	}
	if (r == 0 && bmi_form_has(p, form->mlp_norm)) {
		r = norm(p, form->mlp_norm, x, p->h);
		in = x;
	}
	if (r == 0 && form->parallel)
		r = add_to_stream(p, out);
	if (r == 0)
		r = forward_mlp(p, form, layer, out, in);
	return r == 0 ? add_to_stream(p, out) : r;
}

static int add_positions(struct bmi_pass *p, const struct bmi_form *form)
{
	const uint32_t dim = p->cfg->hidden_size;
	char param[128];
	uint32_t *ids;
	float *x;
	int r = bmi_form_scratch(p, BMI_SLOT_X, dim, &x);

	if (r < 0)
		return r;
	ids = p->scratch(p, BMI_SLOT_ROUTE, p->n_tok * sizeof(*ids));
	if (!ids)
		return bmi_fail(p->err, -ENOMEM, "working memory for %u rows", p->n_tok);
	for (uint32_t t = 0; t < p->n_tok; t++) {
		if (p->pos[t] >= p->cfg->max_positions)
			return bmi_fail(p->err, -EINVAL, "position %u: the model has a table of %u",
					p->pos[t], p->cfg->max_positions);
		ids[t] = p->pos[t] + form->position_offset;
	}
	snprintf(param, sizeof(param), "%s.weight", form->positions);
	r = p->rows(p, param, ids, p->n_tok, x, dim);
	return r ? r : bmi_form_op(p, p->ops->add(p->dev, p->h, x, (size_t)p->n_tok * dim, 1.0f), "add");
}

static int decoder_embed(struct bmi_pass *p)
{
	const struct bmi_form *form = p->cfg->form ? p->cfg->form : &bmi_form_llama;
	int r = p->embed(p, p->h, p->cfg->hidden_size);

	if (r == 0 && form->positions)
		r = add_positions(p, form);
	if (r == 0 && form->embed_norm)
		r = norm(p, form->embed_norm, p->h, p->h);
	return r;
}

static int decoder_layer(struct bmi_pass *p, uint32_t layer)
{
	const struct bmi_form *form = p->cfg->form;
	int r;

	if (!form)
		form = p->has(p, "post_feedforward_layernorm.weight") ? &sandwich : &bmi_form_llama;
	r = forward_layer(p, form, layer);
	return r < 0 ? bmi_note(p->err, r, "layer %u", layer) : 0;
}

static int decoder_head(struct bmi_pass *p)
{
	const struct bmi_config *c = p->cfg;
	const uint32_t dim = c->hidden_size;
	const size_t n = (size_t)p->n_out * c->vocab_size;
	float *x;
	int r = bmi_form_scratch(p, BMI_SLOT_X, dim, &x);

	for (uint32_t i = 0; r == 0 && i < p->n_out; i++)
		r = bmi_form_op(p,
				p->ops->copy(p->dev, x + (size_t)i * dim, dim,
					     p->h + (size_t)p->out_rows[i] * dim, dim, 1, dim),
				"copy");
	if (r == 0 && bmi_form_has(p, c->arch->final_norm_name))
		r = bmi_form_norm(p, c->arch->final_norm_name, x, dim, x, dim, p->n_out, dim, c->norm_eps);
	if (r == 0)
		r = p->linear(p, c->arch->head_name, p->logits, c->vocab_size, x, dim, p->n_out);
	if (r == 0 && c->logit_factor != 0)
		r = bmi_form_op(p, p->ops->scale(p->dev, p->logits, n, c->logit_factor), "scale");
	if (r == 0 && c->final_softcap > 0)
		r = bmi_form_op(p, p->ops->softcap(p->dev, p->logits, n, c->final_softcap), "softcap");
	return r;
}

const struct bmi_forward bmi_forward_decoder = {
	.embed = decoder_embed,
	.layer = decoder_layer,
	.head = decoder_head,
};

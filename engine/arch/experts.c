/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a mixture of experts computes: which experts a row goes to, and what they give. Owns the three ways of routing.
 * Invariant: a row's experts are taken in rising order and added up one by one, so that its bits do not depend on which
 * other rows go along; equal scores go to the lower expert.
 */
#include "arch/moe.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* Where the rows of one pass go. */
struct routes {
	uint32_t *expert; /* [n_tok][n_used] */
	float *weight;    /* [n_tok][n_used] */
};

/* The @n_used largest of s[n], largest first; -INFINITY is never taken while there is another. */
static void take_largest(const float *s, uint32_t n, uint32_t n_used, uint32_t *ret)
{
	for (uint32_t k = 0; k < n_used; k++) {
		uint32_t best = UINT32_MAX;

		for (uint32_t e = 0; e < n; e++) {
			bool taken = false;

			for (uint32_t i = 0; i < k && !taken; i++)
				taken = ret[i] == e;
			if (!taken && (best == UINT32_MAX || s[e] > s[best]))
				best = e;
		}
		ret[k] = best;
	}
}

static void softmax(float *s, uint32_t n)
{
	float max = -INFINITY, sum = 0;

	for (uint32_t i = 0; i < n; i++)
		max = fmaxf(max, s[i]);
	for (uint32_t i = 0; i < n; i++)
		sum += s[i] = expf(s[i] - max);
	for (uint32_t i = 0; i < n; i++)
		s[i] /= sum;
}

/* Experts of all but the best groups leave the choice; a group is as good as its two best. */
static void leave_groups(const struct bmi_moe *moe, float *choice, float *group, uint32_t *best)
{
	const uint32_t size = moe->n_experts / moe->n_groups;

	for (uint32_t g = 0; g < moe->n_groups; g++) {
		uint32_t two[2];

		take_largest(choice + g * size, size, 2, two);
		group[g] = choice[g * size + two[0]] + choice[g * size + two[1]];
	}
	take_largest(group, moe->n_groups, moe->n_used_groups, best);
	for (uint32_t g = 0; g < moe->n_groups; g++) {
		bool stays = false;

		for (uint32_t i = 0; i < moe->n_used_groups && !stays; i++)
			stays = best[i] == g;
		for (uint32_t e = g * size; e < (g + 1) * size && !stays; e++)
			choice[e] = -INFINITY;
	}
}

/* @s: the router's numbers of one row, overwritten. @room: [3 * n_experts] numbers. */
static void route_row(const struct bmi_moe *moe, float *s, const float *bias, float *room, uint32_t *expert,
		      float *weight)
{
	const float *choice = s;
	float sum = 0;

	if (moe->route == BMI_ROUTE_SOFTMAX)
		softmax(s, moe->n_experts);
	if (moe->route == BMI_ROUTE_GROUPS) {
		for (uint32_t e = 0; e < moe->n_experts; e++) {
			s[e] = 1.0f / (1.0f + expf(-s[e]));
			room[e] = s[e] + (bias ? bias[e] : 0);
		}
		leave_groups(moe, room, room + moe->n_experts, (uint32_t *)(room + 2ul * moe->n_experts));
		choice = room;
	}
	take_largest(choice, moe->n_experts, moe->n_used, expert);
	for (uint32_t k = 0; k < moe->n_used; k++)
		weight[k] = s[expert[k]];
	if (moe->route == BMI_ROUTE_SOFTMAX_TOP)
		softmax(weight, moe->n_used);
	for (uint32_t k = 0; k < moe->n_used; k++)
		sum += weight[k];
	if (moe->route == BMI_ROUTE_GROUPS)
		sum += 1e-20f;
	for (uint32_t k = 0; k < moe->n_used; k++) {
		if (moe->normalize)
			weight[k] /= sum;
		weight[k] *= moe->factor != 0 ? moe->factor : 1.0f;
	}
}

static int route(struct bmi_pass *p, const struct bmi_moe *moe, struct routes *to, const float *x)
{
	const uint32_t n = moe->n_experts;
	bmi_auto_mem float *s = malloc(((size_t)p->n_tok * n + 4ul * n) * sizeof(float));
	float *bias = s + (size_t)p->n_tok * n, *room = bias + n, *logits;
	const float *lent;
	int r = s ? bmi_form_scratch(p, BMI_SLOT_ROUTE, n, &logits)
		  : bmi_fail(p->err, -ENOMEM, "routing %u rows", p->n_tok);

	if (r == 0)
		r = p->linear(p, moe->router, logits, n, x, p->cfg->hidden_size, p->n_tok);
	if (r == 0)
		r = p->fetch(p, s, logits, (size_t)p->n_tok * n);
	if (r == 0 && moe->router_bias) {
		r = p->vector(p, moe->router_bias, &lent);
		if (r == 0)
			r = p->fetch(p, bias, lent, n);
	}
	for (uint32_t t = 0; r == 0 && t < p->n_tok; t++)
		route_row(moe, s + (size_t)t * n, moe->router_bias ? bias : NULL, room,
			  to->expert + (size_t)t * moe->n_used, to->weight + (size_t)t * moe->n_used);
	return r;
}

/* Row @expert of a table of biases, added to @n rows. */
static int add_bias(struct bmi_pass *p, const char *param, uint32_t expert, float *y, uint32_t dim, uint32_t n)
{
	float *b = p->scratch(p, BMI_SLOT_NORM, dim * sizeof(float));
	int r;

	if (!b)
		return bmi_fail(p->err, -ENOMEM, "working memory for a bias of %u", dim);
	r = p->rows(p, param, &expert, 1, b, dim);
	return r ? r : bmi_form_op(p, p->ops->add_bias(p->dev, y, dim, b, n, dim), "add_bias");
}

/* y[n][hidden] = the expert's MLP of x[n][hidden] */
static int run_expert(struct bmi_pass *p, const struct bmi_moe *moe, uint32_t e, float *y, const float *x,
		      uint32_t n)
{
	const uint32_t dim = p->cfg->hidden_size, ff = moe->expert_size;
	float *both, *mid;
	uint32_t ld = 2 * ff;
	int r = bmi_form_scratch(p, BMI_SLOT_GATE, 2ul * ff, &both);

	mid = both;
	r = r ? r : p->expert(p, "mlp.experts.gate_up_proj", e, moe->pairs, both, 2ul * ff, x, dim, n);
	if (r == 0 && moe->pairs) {
		ld = ff;
		r = add_bias(p, "mlp.experts.gate_up_proj_bias", e, both, 2 * ff, n);
		r = r ? r : bmi_form_scratch(p, BMI_SLOT_UP, ff, &mid);
		if (r == 0)
			r = bmi_form_op(p,
					p->ops->glu_pairs(p->dev, mid, ff, both, 2ul * ff, n, ff, moe->limit,
							  moe->alpha),
					"glu_pairs");
	} else if (r == 0) {
		r = bmi_form_op(p, p->ops->glu(p->dev, both, both, both + ff, ld, n, ff, bmi_form_act(p->cfg)),
				"glu");
	}
	r = r ? r : p->expert(p, "mlp.experts.down_proj", e, moe->pairs, y, dim, mid, ld, n);
	return r == 0 && moe->pairs ? add_bias(p, "mlp.experts.down_proj_bias", e, y, dim, n) : r;
}

/* y[t] = (begun ? y[t] : 0) + weight * out */
static int give(struct bmi_pass *p, float *y, const float *out, float weight, bool begun)
{
	const uint32_t dim = p->cfg->hidden_size;
	int r;

	if (begun)
		return bmi_form_op(p, p->ops->add(p->dev, y, out, dim, weight), "add");
	r = bmi_form_op(p, p->ops->copy(p->dev, y, dim, out, dim, 1, dim), "copy");
	return r ? r : bmi_form_op(p, p->ops->scale(p->dev, y, dim, weight), "scale");
}

/* Is one of the row's experts before this one? */
static bool has_begun(const uint32_t *expert, uint32_t n_used, uint32_t e)
{
	for (uint32_t k = 0; k < n_used; k++)
		if (expert[k] < e)
			return true;
	return false;
}

/* One expert for all rows that go to it. @in, @out: [n_tok][hidden] */
static int serve(struct bmi_pass *p, const struct bmi_moe *moe, const struct routes *to, uint32_t e, float *y,
		 const float *x, float *in, float *out)
{
	const uint32_t dim = p->cfg->hidden_size;
	uint32_t n = 0, done = 0;
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < p->n_tok * moe->n_used; i++)
		if (to->expert[i] == e)
			r = bmi_form_op(p,
					p->ops->copy(p->dev, in + (size_t)n++ * dim, dim,
						     x + (size_t)(i / moe->n_used) * dim, dim, 1, dim),
					"copy");
	if (r || n == 0)
		return r;
	r = run_expert(p, moe, e, out, in, n);
	for (uint32_t i = 0; r == 0 && i < p->n_tok * moe->n_used; i++) {
		const uint32_t t = i / moe->n_used;

		if (to->expert[i] != e)
			continue;
		r = give(p, y + (size_t)t * dim, out + (size_t)done++ * dim, to->weight[i],
			 has_begun(to->expert + (size_t)t * moe->n_used, moe->n_used, e));
	}
	return r;
}

/* y += weight * the expert that all rows go through */
static int add_shared(struct bmi_pass *p, const struct bmi_moe *moe, float *y, const float *x, float *out)
{
	static const char *const leaves[] = { "gate_proj", "up_proj", "down_proj" };
	const uint32_t dim = p->cfg->hidden_size;
	bmi_auto_mem float *weight = malloc(p->n_tok * sizeof(*weight));
	char names[3][128];
	float *gate;
	int r = weight ? 0 : bmi_fail(p->err, -ENOMEM, "weights of %u rows", p->n_tok);

	for (size_t i = 0; i < 3; i++)
		snprintf(names[i], sizeof(names[i]), "%s.%s", moe->shared, leaves[i]);
	r = r ? r : bmi_form_gated(p, names[0], names[1], names[2], moe->shared_size, out, x);
	if (r || !moe->shared_gate)
		return r ? r : bmi_form_op(p, p->ops->add(p->dev, y, out, (size_t)p->n_tok * dim, 1.0f), "add");
	r = bmi_form_scratch(p, BMI_SLOT_ROUTE, 1, &gate);
	r = r ? r : p->linear(p, moe->shared_gate, gate, 1, x, dim, p->n_tok);
	r = r ? r : p->fetch(p, weight, gate, p->n_tok);
	for (uint32_t t = 0; r == 0 && t < p->n_tok; t++)
		r = give(p, y + (size_t)t * dim, out + (size_t)t * dim, 1.0f / (1.0f + expf(-weight[t])), true);
	return r;
}

int bmi_moe_mlp(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y, const float *x)
{
	const struct bmi_moe *moe = p->cfg->ext;
	const size_t n = (size_t)p->n_tok * moe->n_used;
	bmi_auto_mem uint32_t *expert = NULL;
	bmi_auto_mem float *weight = NULL;
	struct routes to;
	float *in, *out;
	int r;

	if (moe->is_dense[layer])
		return bmi_form_mlp(p, form, layer, y, x);
	expert = malloc(n * sizeof(*expert));
	weight = malloc(n * sizeof(*weight));
	if (!expert || !weight)
		return bmi_fail(p->err, -ENOMEM, "routing %u rows", p->n_tok);
	to = (struct routes){ expert, weight };
	r = bmi_form_scratch(p, BMI_SLOT_EXPERT_IN, p->cfg->hidden_size, &in);
	r = r ? r : bmi_form_scratch(p, BMI_SLOT_EXPERT_OUT, p->cfg->hidden_size, &out);
	r = r ? r : route(p, moe, &to, x);
	for (uint32_t e = 0; r == 0 && e < moe->n_experts; e++)
		r = serve(p, moe, &to, e, y, x, in, out);
	return r == 0 && moe->shared ? add_shared(p, moe, y, x, out) : r;
}

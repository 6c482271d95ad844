/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the plain C attention: the truth. One query head at a time walks the blocks of 64 keys it can see, by absolute
 * position, with an online softmax: after each block, with m the largest score so far, out = sum exp(s - m) v and
 * l = sum exp(s - m). Invariant: nothing depends on what else is in the call, and no slot past pos is read.
 */
#include "backend/cpu/kernels_ref.h"

#include <math.h>

static float dot(const float *q, const float *k, uint32_t n)
{
	float acc[BMI_LANES] = { 0 };

	for (uint32_t i = 0; i < n; i++)
		acc[i % BMI_LANES] += q[i] * k[i];
	return bmi_lanes_sum(acc);
}

/* @distance: from the key to the query. */
static float score(const struct bmi_attn *a, uint32_t head, const float *q, const float *k, uint32_t distance)
{
	const float s = a->scale * dot(q, k, a->head_dim);

	if (a->slopes)
		return s - a->slopes[head] * (float)distance;
	return a->softcap != 0.0f ? a->softcap * tanhf(s / a->softcap) : s;
}

struct softmax {
	float max, sum;
	float *out; /* [head_dim] */
	uint32_t head;
};

/* Slots [from, to) of one block; k and v are that block's keys and values of this head, widened. @pos: from slot 0. */
static void attend_block(const struct bmi_attn *a, const float *q, const float *k, const float *v,
			 uint32_t from, uint32_t to, uint32_t pos, struct softmax *sm)
{
	float s[BMI_KV_BLOCK], max = sm->max, lanes[BMI_LANES] = { 0 }, carry;

	for (uint32_t i = from; i < to; i++) {
		s[i] = score(a, sm->head, q, k + (size_t)i * a->head_dim, pos - i);
		max = s[i] > max ? s[i] : max;
	}
	carry = expf(sm->max - max);
	for (uint32_t d = 0; d < a->head_dim; d++)
		sm->out[d] *= carry;
	for (uint32_t i = from; i < to; i++) {
		const float p = expf(s[i] - max);

		lanes[i % BMI_LANES] += p;
		for (uint32_t d = 0; d < a->head_dim; d++)
			sm->out[d] += p * v[(size_t)i * a->head_dim + d];
	}
	sm->sum = sm->sum * carry + bmi_lanes_sum(lanes);
	sm->max = max;
}

/* The key without a value: it takes its part of the softmax and gives nothing. */
static void attend_sink(const struct bmi_attn *a, struct softmax *sm)
{
	const float sink = a->sinks[sm->head], max = sink > sm->max ? sink : sm->max;
	const float carry = expf(sm->max - max);

	for (uint32_t d = 0; d < a->head_dim; d++)
		sm->out[d] *= carry;
	sm->sum = sm->sum * carry + expf(sink - max);
	sm->max = max;
}

/* All query heads of one token that read kv_head. */
static void attend_token(const struct bmi_attn *a, uint32_t t, uint32_t kv_head, struct bmi_scratch *scratch)
{
	const uint32_t group = a->n_heads / a->n_kv_heads, pos = a->pos[t];
	const uint32_t first = a->window && pos >= a->window ? pos - a->window + 1 : 0;
	const size_t elt = a->kv_dtype == BMI_F32 ? 4 : 2, head = (size_t)BMI_KV_BLOCK * a->head_dim;

	for (uint32_t h = kv_head * group; h < (kv_head + 1) * group; h++) {
		const size_t at = ((size_t)t * a->n_heads + h) * a->head_dim;
		struct softmax sm = { -INFINITY, 0.0f, a->out + at, h };

		memset(sm.out, 0, a->head_dim * sizeof(*sm.out));
		for (uint32_t b = first / BMI_KV_BLOCK; b <= pos / BMI_KV_BLOCK; b++) {
			const uint32_t p0 = b * BMI_KV_BLOCK;
			const uint32_t from = first > p0 ? first - p0 : 0;
			const uint32_t to = pos - p0 < BMI_KV_BLOCK ? pos - p0 + 1 : BMI_KV_BLOCK;
			const size_t n = (size_t)(to - from) * a->head_dim, skip = (size_t)from * a->head_dim;
			const char *k = (const char *)a->kv[t].k[b] + (kv_head * head + skip) * elt;
			const char *v = (const char *)a->kv[t].v[b] + (kv_head * head + skip) * elt;

			bmi_widen_ref(scratch->attn.k + skip, k, a->kv_dtype, n, 1.0f);
			bmi_widen_ref(scratch->attn.v + skip, v, a->kv_dtype, n, 1.0f);
			attend_block(a, a->q + at, scratch->attn.k, scratch->attn.v, from, to, pos - p0, &sm);
		}
		if (a->sinks)
			attend_sink(a, &sm);
		for (uint32_t d = 0; d < a->head_dim; d++)
			sm.out[d] /= sm.sum;
	}
}

void bmi_attend_ref(const struct bmi_attn *a, uint32_t tok0, uint32_t n_tok, uint32_t kv_head,
		    struct bmi_scratch *scratch)
{
	for (uint32_t t = tok0; t < tok0 + n_tok; t++)
		attend_token(a, t, kv_head, scratch);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the vector attention. Up to BMI_ATTN_ROWS query rows (heads that share a KV head, of tokens that share a table) walk
 * the keys together, a block of 64 at a time: K and V are widened once for all of them, scores and mixing are done in
 * register tiles of rows x keys and rows x vectors of V.
 * Invariant: one row's arithmetic is attention_ref.c's, fused: blocks by absolute position; in a block each score is one
 * dot product, exp sums go to 16 lanes by slot, and V is added slot by slot. Tiles only interleave rows. A block that
 * a row does not see is not touched for it, and no slot it does not see is multiplied in.
 */
#include "backend/cpu/kernels_ref.h"
#include "backend/cpu/vec_math.h"

#include <math.h>

enum { KEYS = 4 };

struct row {
	const float *q; /* [head_dim] */
	float *out;     /* [head_dim]: sum of exp(s - max) v so far */
	float max, sum;
	float carry;          /* exp(old max - new max), of the block at hand */
	uint32_t first, last; /* positions it sees */
	uint32_t from, to;    /* slots of the block at hand; from == to: none */
};

/* ret_s[row][64] = q . k for slots [from, to) widened to whole fours; slots never written give scores nobody reads. */
VEC_INLINE void score_tile(float *ret_s, const struct row *rows, const float *k, uint32_t dim, uint32_t slot,
			   const unsigned n_rows)
{
	vec acc[VEC_SCORE_ROWS][KEYS];
	uint32_t d = 0;

	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		VEC_UNROLL
	for (unsigned j = 0; j < KEYS; j++)
		acc[r][j] = vec_zero();
	for (; d < dim; d += BMI_LANES) {
		const uint32_t n = dim - d;
		vec kv[KEYS];

		VEC_UNROLL
		for (unsigned j = 0; j < KEYS; j++) {
			const float *p = k + (size_t)(slot + j) * dim + d;

			kv[j] = n < BMI_LANES ? vec_load_n(p, n) : vec_load(p);
		}
		VEC_UNROLL
		for (unsigned r = 0; r < n_rows; r++) {
			const vec q = n < BMI_LANES ? vec_load_n(rows[r].q + d, n) : vec_load(rows[r].q + d);

			VEC_UNROLL
			for (unsigned j = 0; j < KEYS; j++)
				acc[r][j] = vec_fma(q, kv[j], acc[r][j]);
		}
	}
	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		_mm_storeu_ps(ret_s + r * BMI_KV_BLOCK + slot,
			      vec_sum4(acc[r][0], acc[r][1], acc[r][2], acc[r][3]));
}

VEC_INLINE void score_rows(float *s, const struct row *rows, const float *k, uint32_t dim, const unsigned n_rows)
{
	for (uint32_t slot = rows[0].from / KEYS * KEYS; slot < rows[0].to; slot += KEYS)
		score_tile(s, rows, k, dim, slot, n_rows);
}

/* Scores of n_rows rows that see the same slots. */
static void scores(float *s, const struct row *rows, uint32_t n_rows, const float *k, uint32_t dim)
{
	uint32_t r = 0;

	for (; r + VEC_SCORE_ROWS <= n_rows; r += VEC_SCORE_ROWS)
		score_rows(s + r * BMI_KV_BLOCK, rows + r, k, dim, VEC_SCORE_ROWS);
	for (; VEC_SCORE_ROWS > 3 && r + 3 <= n_rows; r += 3)
		score_rows(s + r * BMI_KV_BLOCK, rows + r, k, dim, VEC_SCORE_ROWS > 3 ? 3 : 1);
	for (; r < n_rows; r++)
		score_rows(s + r * BMI_KV_BLOCK, rows + r, k, dim, 1);
}

/* Turns a row's scores of one block into weights exp(s - max), and moves its max, sum and carry on. */
static void soften(const struct bmi_attn *a, struct row *row, float s[BMI_KV_BLOCK])
{
	const vec scale = vec_set(a->scale), cap = vec_set(a->softcap);
	vec v[BMI_KV_BLOCK / BMI_LANES], top, sums;
	float max;

	for (unsigned i = 0; i < BMI_KV_BLOCK / BMI_LANES; i++) {
		v[i] = vec_mul(vec_load(s + i * BMI_LANES), scale);
		if (a->softcap != 0.0f)
			v[i] = vec_mul(cap, vec_tanh(vec_div(v[i], cap)));
	}
	if (row->to - row->from < BMI_KV_BLOCK) {
		for (unsigned i = 0; i < BMI_KV_BLOCK / BMI_LANES; i++)
			vec_store(s + i * BMI_LANES, v[i]);
		for (uint32_t i = 0; i < row->from; i++)
			s[i] = -INFINITY;
		for (uint32_t i = row->to; i < BMI_KV_BLOCK; i++)
			s[i] = -INFINITY;
		for (unsigned i = 0; i < BMI_KV_BLOCK / BMI_LANES; i++)
			v[i] = vec_load(s + i * BMI_LANES);
	}
	top = vec_max(vec_max(v[0], v[1]), vec_max(v[2], v[3]));
	max = vec_max_lanes(top);
	max = max > row->max ? max : row->max;
	sums = vec_zero();
	for (unsigned i = 0; i < BMI_KV_BLOCK / BMI_LANES; i++) {
		v[i] = vec_exp(vec_sub(v[i], vec_set(max)));
		sums = vec_add(sums, v[i]);
		vec_store(s + i * BMI_LANES, v[i]);
	}
	row->carry = row->max == max ? 1.0f : expf(row->max - max);
	row->sum = row->sum * row->carry + vec_sum(sums);
	row->max = max;
}

/* out[d..] = carry * out[d..] + sum over slots of weight * v, for n_vecs vectors of dimensions; n: lanes of the last. */
VEC_INLINE void mix_tile(const struct row *rows, const float *s, const float *v, uint32_t dim, uint32_t d,
			 uint32_t n, const unsigned n_rows, const unsigned n_vecs)
{
	const bool whole = n == BMI_LANES;
	vec acc[VEC_MIX_ROWS][VEC_MIX_VECS];

	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		VEC_UNROLL
	for (unsigned j = 0; j < n_vecs; j++) {
		const float *o = rows[r].out + d + j * BMI_LANES;

		acc[r][j] = vec_mul(vec_set(rows[r].carry), whole ? vec_load(o) : vec_load_n(o, n));
	}
	for (uint32_t i = rows[0].from; i < rows[0].to; i++) {
		const float *p = v + (size_t)i * dim + d;
		vec vv[VEC_MIX_VECS];

		VEC_UNROLL
		for (unsigned j = 0; j < n_vecs; j++)
			vv[j] = whole ? vec_load(p + j * BMI_LANES) : vec_load_n(p, n);
		VEC_UNROLL
		for (unsigned r = 0; r < n_rows; r++) {
			const vec w = vec_set(s[r * BMI_KV_BLOCK + i]);

			VEC_UNROLL
			for (unsigned j = 0; j < n_vecs; j++)
				acc[r][j] = vec_fma(w, vv[j], acc[r][j]);
		}
	}
	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		VEC_UNROLL
	for (unsigned j = 0; j < n_vecs; j++) {
		float *o = rows[r].out + d + j * BMI_LANES;

		if (whole)
			vec_store(o, acc[r][j]);
		else
			vec_store_n(o, acc[r][j], n);
	}
}

VEC_INLINE void mix_rows(const struct row *rows, const float *s, const float *v, uint32_t dim,
			 const unsigned n_rows)
{
	uint32_t d = 0;

	for (; d + VEC_MIX_VECS * BMI_LANES <= dim; d += VEC_MIX_VECS * BMI_LANES)
		mix_tile(rows, s, v, dim, d, BMI_LANES, n_rows, VEC_MIX_VECS);
	for (; d + BMI_LANES <= dim; d += BMI_LANES)
		mix_tile(rows, s, v, dim, d, BMI_LANES, n_rows, 1);
	if (d < dim)
		mix_tile(rows, s, v, dim, d, dim - d, n_rows, 1);
}

/* Values of n_rows rows that see the same slots. */
static void mix(const struct row *rows, uint32_t n_rows, const float *s, const float *v, uint32_t dim)
{
	uint32_t r = 0;

	for (; r + VEC_MIX_ROWS <= n_rows; r += VEC_MIX_ROWS)
		mix_rows(rows + r, s + r * BMI_KV_BLOCK, v, dim, VEC_MIX_ROWS);
	for (; VEC_MIX_ROWS > 3 && r + 3 <= n_rows; r += 3)
		mix_rows(rows + r, s + r * BMI_KV_BLOCK, v, dim, 3);
	for (; r < n_rows; r++)
		mix_rows(rows + r, s + r * BMI_KV_BLOCK, v, dim, 1);
}

/* The slots of block b that each row sees; the lowest and highest of all. False: none. */
static bool see(struct row *rows, uint32_t n_rows, uint32_t b, uint32_t *ret_from, uint32_t *ret_to)
{
	const uint32_t p0 = b * BMI_KV_BLOCK;

	*ret_from = BMI_KV_BLOCK;
	*ret_to = 0;
	for (uint32_t r = 0; r < n_rows; r++) {
		struct row *row = &rows[r];

		row->from = row->first > p0 ? row->first - p0 : 0;
		row->to = row->last < p0                  ? 0
			  : row->last - p0 < BMI_KV_BLOCK ? row->last - p0 + 1
							  : BMI_KV_BLOCK;
		if (row->from >= row->to) {
			row->from = row->to = 0;
			continue;
		}
		*ret_from = row->from < *ret_from ? row->from : *ret_from;
		*ret_to = row->to > *ret_to ? row->to : *ret_to;
	}
	return *ret_from < *ret_to;
}

/* This KV head's [64][head_dim] of a block as float32: itself, or slots [from, to) widened into buf. */
static const float *widened(const struct bmi_attn *a, const void *block, uint32_t kv_head, uint32_t from,
			    uint32_t to, float *buf)
{
	const size_t head = (size_t)kv_head * BMI_KV_BLOCK * a->head_dim, skip = (size_t)from * a->head_dim;

	if (a->kv_dtype == BMI_F32)
		return (const float *)block + head;
	BMI_ISA(bmi_widen)
	(buf + skip, (const uint16_t *)block + head + skip, a->kv_dtype, (size_t)(to - from) * a->head_dim,
	 1.0f);
	return buf;
}

static void walk(const struct bmi_attn *a, const struct bmi_kv_table *kv, struct row *rows, uint32_t n_rows,
		 uint32_t kv_head, struct bmi_scratch *scratch)
{
	uint32_t first = rows[0].first, last = rows[0].last, from, to;
	float *s = scratch->attn.s;

	for (uint32_t r = 1; r < n_rows; r++) {
		first = rows[r].first < first ? rows[r].first : first;
		last = rows[r].last > last ? rows[r].last : last;
	}
	for (uint32_t b = first / BMI_KV_BLOCK; b <= last / BMI_KV_BLOCK; b++) {
		const float *k, *v;

		if (!see(rows, n_rows, b, &from, &to))
			continue;
		k = widened(a, kv->k[b], kv_head, from, to, scratch->attn.k);
		v = widened(a, kv->v[b], kv_head, from, to, scratch->attn.v);
		for (uint32_t r = 0, end; r < n_rows; r = end) {
			for (end = r + 1;
			     end < n_rows && rows[end].from == rows[r].from && rows[end].to == rows[r].to;)
				end++;
			if (rows[r].from == rows[r].to)
				continue;
			scores(s + r * BMI_KV_BLOCK, rows + r, end - r, k, a->head_dim);
			for (uint32_t i = r; i < end; i++)
				soften(a, &rows[i], s + i * BMI_KV_BLOCK);
			mix(rows + r, end - r, s + r * BMI_KV_BLOCK, v, a->head_dim);
		}
	}
}

static void row_start(const struct bmi_attn *a, struct row *row, uint32_t t, uint32_t head)
{
	const size_t at = ((size_t)t * a->n_heads + head) * a->head_dim;
	const uint32_t pos = a->pos[t];

	*row = (struct row){ .q = a->q + at, .out = a->out + at, .max = -INFINITY, .last = pos };
	row->first = a->window && pos >= a->window ? pos - a->window + 1 : 0;
	memset(row->out, 0, a->head_dim * sizeof(*row->out));
}

static void row_finish(const struct row *row, uint32_t dim)
{
	const vec sum = vec_set(row->sum);
	uint32_t d = 0;

	for (; d + BMI_LANES <= dim; d += BMI_LANES)
		vec_store(row->out + d, vec_div(vec_load(row->out + d), sum));
	if (d < dim)
		vec_store_n(row->out + d, vec_div(vec_load_n(row->out + d, dim - d), sum), dim - d);
}

void BMI_ISA(bmi_attend)(const struct bmi_attn *a, uint32_t tok0, uint32_t n_tok, uint32_t kv_head,
			 struct bmi_scratch *scratch)
{
	const uint32_t group = a->n_heads / a->n_kv_heads, n_rows = n_tok * group;

	if (a->slopes || a->sinks) { /* few families: not worth tiles of their own */
		bmi_attend_ref(a, tok0, n_tok, kv_head, scratch);
		return;
	}
	for (uint32_t i = 0; i < n_rows; i += BMI_ATTN_ROWS) {
		const uint32_t n = n_rows - i < BMI_ATTN_ROWS ? n_rows - i : BMI_ATTN_ROWS;
		struct row rows[BMI_ATTN_ROWS];

		for (uint32_t r = 0; r < n; r++)
			row_start(a, &rows[r], tok0 + (i + r) / group, kv_head * group + (i + r) % group);
		walk(a, &a->kv[tok0], rows, n, kv_head, scratch);
		for (uint32_t r = 0; r < n; r++)
			row_finish(&rows[r], a->head_dim);
	}
}

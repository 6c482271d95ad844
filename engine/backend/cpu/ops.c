/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the ops table of the CPU tier: splits each op over threads by output rows and hands the pieces to the kernel set.
 * Invariant: a piece is whole output rows, so how an op is split never shows in its bits.
 */
#include "backend/cpu/device.h"

#include <errno.h>

enum {
	SMALL_BYTES = 32 << 10, /* weights: a product smaller than this is done before a worker has started */
	PIECE_BYTES = 64 << 10, /* weights in one piece of a decode product, at least: prefetching needs runs */
	PIECE_BYTES_MAX = 1 << 20, /* and at most: sharing needs pieces */
	PIECES_PER_THREAD = 4,
	GEMM_ROWS_MAX = 512,       /* weight rows in one piece of a prefill product of few tokens */
	ROW_STEP = 4,              /* rows the decode kernels take at a time */
	SMALL_ELEMENTS = 32 << 10, /* of an element-wise op: below, a join costs more than it gains */
};

static uint32_t div_up(uint64_t a, uint32_t b)
{
	return (uint32_t)((a + b - 1) / b);
}

static uint32_t min_u32(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

static bool is_plain(enum bmi_dtype dtype)
{
	return dtype == BMI_F32 || dtype == BMI_F16 || dtype == BMI_BF16;
}

struct product {
	struct bmi_matmul m;
	const struct bmi_dev *dev;
	uint32_t rows;   /* in one piece */
	uint32_t tokens; /* in one piece, gemm only */
	uint32_t n_tok_pieces;
};

static void matvec_piece(void *arg, uint32_t i, unsigned thread)
{
	const struct product *p = arg;
	const uint32_t row0 = i * p->rows;

	p->dev->k->matvec(&p->m, row0, min_u32(row0 + p->rows, p->m.w->n_rows));
}

/* Tokens run fastest: threads then work on the same rows of W at about the same time and share them in the last cache. */
static void gemm_piece(void *arg, uint32_t i, unsigned thread)
{
	const struct product *p = arg;
	const uint32_t row0 = i / p->n_tok_pieces * p->rows, tok0 = i % p->n_tok_pieces * p->tokens;

	p->dev->k->gemm(&p->m, row0, min_u32(row0 + p->rows, p->m.w->n_rows), tok0,
			min_u32(tok0 + p->tokens, p->m.n_tok), &p->dev->scratch[thread]);
}

static void run_matvec(struct bmi_dev *dev, struct product *p)
{
	const struct bmi_mat *w = p->m.w;
	const uint64_t bytes = (uint64_t)w->n_rows * w->stride_bytes;
	uint64_t piece = bytes / (dev->n_threads * PIECES_PER_THREAD);

	piece = piece < PIECE_BYTES ? PIECE_BYTES : piece > PIECE_BYTES_MAX ? PIECE_BYTES_MAX : piece;
	if (bytes < SMALL_BYTES || dev->n_threads == 1)
		p->rows = w->n_rows;
	else
		p->rows = min_u32(div_up(piece / w->stride_bytes + 1, ROW_STEP) * ROW_STEP, w->n_rows);
	bmi_pool_run(dev->pool, matvec_piece, p, div_up(w->n_rows, p->rows));
}

static int op_matmul(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *w, const float *x,
		     size_t ldx, uint32_t n_tok)
{
	struct product p = { { y, ldy, w, x, ldx, n_tok }, dev, BMI_GEMM_ROWS, 0, 0 };

	if (!is_plain(w->dtype))
		return -EOPNOTSUPP;
	if (!n_tok || !w->n_rows)
		return 0;
	if (n_tok < dev->k->gemm_min_tok) {
		run_matvec(dev, &p);
		return 0;
	}
	p.n_tok_pieces = div_up(n_tok, BMI_GEMM_TOKENS);
	if (p.n_tok_pieces == 1) { /* few tokens: long pieces, so that each prefetches its own rows */
		p.rows = w->n_rows / (dev->n_threads * PIECES_PER_THREAD) / BMI_GEMM_ROWS * BMI_GEMM_ROWS;
		p.rows = p.rows < BMI_GEMM_ROWS ? BMI_GEMM_ROWS : min_u32(p.rows, GEMM_ROWS_MAX);
	}
	p.tokens = div_up(div_up(n_tok, p.n_tok_pieces), 12) * 12; /* even pieces of whole register tiles */
	p.n_tok_pieces = div_up(n_tok, p.tokens);
	bmi_pool_run(dev->pool, gemm_piece, &p, div_up(w->n_rows, p.rows) * p.n_tok_pieces);
	return 0;
}

/* An op on rows: fn(arg, t) for each token, on all threads when there is enough of it. */
static void for_tokens(struct bmi_dev *dev, void (*fn)(void *arg, uint32_t t), void *arg, uint32_t n_tok,
		       size_t dim)
{
	if (n_tok * dim >= SMALL_ELEMENTS)
		bmi_cpu_parallel(dev, fn, arg, n_tok);
	else
		for (uint32_t t = 0; t < n_tok; t++)
			fn(arg, t);
}

struct rows {
	const struct bmi_dev *dev;
	float *y;
	const float *x, *w, *b;
	size_t ldy, ldx;
	uint32_t dim;
	float eps, offset;
};

static void add_bias_row(void *arg, uint32_t t)
{
	const struct rows *r = arg;

	r->dev->k->add(r->y + t * r->ldy, r->b, r->dim, 1.0f);
}

static int op_add_bias(struct bmi_dev *dev, float *x, size_t ldx, const float *bias, uint32_t n_tok,
		       uint32_t dim)
{
	struct rows r = { .dev = dev, .y = x, .ldy = ldx, .b = bias, .dim = dim };

	for_tokens(dev, add_bias_row, &r, n_tok, dim);
	return 0;
}

static void rmsnorm_row(void *arg, uint32_t t)
{
	const struct rows *r = arg;

	r->dev->k->rmsnorm(r->y + t * r->ldy, r->x + t * r->ldx, r->w, r->dim, r->eps, r->offset);
}

static int op_rmsnorm(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
		      uint32_t n_tok, uint32_t dim, float eps, float w_offset)
{
	struct rows r = { dev, y, x, w, NULL, ldy, ldx, dim, eps, w_offset };

	for_tokens(dev, rmsnorm_row, &r, n_tok, dim);
	return 0;
}

static void layernorm_row(void *arg, uint32_t t)
{
	const struct rows *r = arg;

	r->dev->k->layernorm(r->y + t * r->ldy, r->x + t * r->ldx, r->w, r->b, r->dim, r->eps);
}

static int op_layernorm(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
			const float *b, uint32_t n_tok, uint32_t dim, float eps)
{
	struct rows r = { dev, y, x, w, b, ldy, ldx, dim, eps, 0.0f };

	for_tokens(dev, layernorm_row, &r, n_tok, dim);
	return 0;
}

struct embed {
	const struct bmi_dev *dev;
	float *y;
	size_t ldy;
	const struct bmi_mat *table;
	const uint32_t *ids;
	float scale;
};

static void embed_row(void *arg, uint32_t t)
{
	const struct embed *e = arg;
	const char *row = (const char *)e->table->data + e->ids[t] * e->table->stride_bytes;

	e->dev->k->widen(e->y + t * e->ldy, row, e->table->dtype, e->table->n_cols, e->scale);
}

static int op_embed(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *table,
		    const uint32_t *ids, uint32_t n_tok, float scale)
{
	struct embed e = { dev, y, ldy, table, ids, scale };

	if (!is_plain(table->dtype))
		return -EOPNOTSUPP;
	for (uint32_t t = 0; t < n_tok; t++)
		if (ids[t] >= table->n_rows)
			return -EINVAL;
	for_tokens(dev, embed_row, &e, n_tok, table->n_cols);
	return 0;
}

struct rotate {
	const struct bmi_dev *dev;
	float *x;
	size_t ldx;
	const struct bmi_rope *rope;
	const uint32_t *pos;
	uint32_t n_heads, head_dim;
};

static void rope_row(void *arg, uint32_t t)
{
	const struct rotate *r = arg;

	r->dev->k->rope(r->x + t * r->ldx, r->rope, r->pos[t], r->n_heads, r->head_dim);
}

static int op_rope(struct bmi_dev *dev, float *x, size_t ldx, const struct bmi_rope *rope,
		   const uint32_t *pos, uint32_t n_tok, uint32_t n_heads, uint32_t head_dim)
{
	struct rotate r = { dev, x, ldx, rope, pos, n_heads, head_dim };

	if (rope->n_rot > head_dim || rope->n_rot % 2)
		return -EINVAL;
	for_tokens(dev, rope_row, &r, n_tok, (size_t)n_heads * head_dim);
	return 0;
}

struct store {
	const struct bmi_dev *dev;
	const struct bmi_kv_table *kv;
	const uint32_t *pos;
	const float *k, *v;
	size_t ld;
	uint32_t n_kv_heads, head_dim;
	enum bmi_dtype dtype;
};

static void kv_store_row(void *arg, uint32_t t)
{
	const struct store *s = arg;
	const uint32_t block = s->pos[t] / BMI_KV_BLOCK, slot = s->pos[t] % BMI_KV_BLOCK;
	const size_t elt = s->dtype == BMI_F32 ? 4 : 2;

	for (uint32_t h = 0; h < s->n_kv_heads; h++) {
		const size_t at = ((size_t)h * BMI_KV_BLOCK + slot) * s->head_dim * elt,
			     from = (size_t)h * s->head_dim;

		s->dev->k->narrow((char *)s->kv[t].k[block] + at, s->dtype, s->k + t * s->ld + from,
				  s->head_dim);
		s->dev->k->narrow((char *)s->kv[t].v[block] + at, s->dtype, s->v + t * s->ld + from,
				  s->head_dim);
	}
}

static int op_kv_store(struct bmi_dev *dev, const struct bmi_kv_table *kv, const uint32_t *pos,
		       const float *k, const float *v, size_t ld, uint32_t n_tok, uint32_t n_kv_heads,
		       uint32_t head_dim, enum bmi_dtype kv_dtype)
{
	struct store s = { dev, kv, pos, k, v, ld, n_kv_heads, head_dim, kv_dtype };

	if (!is_plain(kv_dtype))
		return -EOPNOTSUPP;
	for_tokens(dev, kv_store_row, &s, n_tok, 2 * (size_t)n_kv_heads * head_dim);
	return 0;
}

struct attention {
	const struct bmi_dev *dev;
	const struct bmi_attn *a;
	uint32_t tokens; /* in one piece; a piece never spans two sequences' tokens: attend_piece() splits there */
};

/* Late tokens see the most keys: taken first, so that the last pieces under way are short ones. */
static void attend_piece(void *arg, uint32_t i, unsigned thread)
{
	const struct attention *at = arg;
	const struct bmi_attn *a = at->a;
	const uint32_t kv_head = i % a->n_kv_heads, n = div_up(a->n_tok, at->tokens);
	const uint32_t from = (n - 1 - i / a->n_kv_heads) * at->tokens,
		       to = min_u32(from + at->tokens, a->n_tok);

	for (uint32_t t = from, end; t < to; t = end) {
		for (end = t + 1; end < to && a->kv[end].k == a->kv[t].k && a->kv[end].v == a->kv[t].v;)
			end++;
		at->dev->k->attend(a, t, end - t, kv_head, &at->dev->scratch[thread]);
	}
}

static int op_attention(struct bmi_dev *dev, const struct bmi_attn *a)
{
	struct attention at = { dev, a, 1 };
	uint32_t group;

	if (!is_plain(a->kv_dtype))
		return -EOPNOTSUPP;
	if (!a->n_kv_heads || a->n_heads % a->n_kv_heads || a->head_dim > BMI_HEAD_DIM_MAX)
		return -EINVAL;
	group = a->n_heads / a->n_kv_heads;
	if (group < BMI_ATTN_ROWS)
		at.tokens = BMI_ATTN_ROWS / group;
	if (a->n_tok < at.tokens * dev->n_threads)
		at.tokens = div_up(a->n_tok, dev->n_threads);
	if (a->n_tok)
		bmi_pool_run(dev->pool, attend_piece, &at, div_up(a->n_tok, at.tokens) * a->n_kv_heads);
	return 0;
}

struct gated {
	const struct bmi_dev *dev;
	float *y;
	const float *gate, *up;
	size_t ld;
	uint32_t dim;
	enum bmi_act act;
};

static void glu_row(void *arg, uint32_t t)
{
	const struct gated *g = arg;

	g->dev->k->glu(g->y + t * g->ld, g->gate + t * g->ld, g->up ? g->up + t * g->ld : NULL, g->dim, g->act);
}

static int op_glu(struct bmi_dev *dev, float *y, const float *gate, const float *up, size_t ld,
		  uint32_t n_tok, uint32_t dim, enum bmi_act act)
{
	struct gated g = { dev, y, gate, up, ld, dim, act };

	for_tokens(dev, glu_row, &g, n_tok, dim);
	return 0;
}

enum { ADD_PIECE = 16 << 10 }; /* elements */

struct elements {
	const struct bmi_dev *dev;
	float *y;
	const float *x;
	size_t n;
	float scale;
};

static void add_piece(void *arg, uint32_t i)
{
	const struct elements *e = arg;
	const size_t at = (size_t)i * ADD_PIECE, n = e->n - at < ADD_PIECE ? e->n - at : ADD_PIECE;

	e->dev->k->add(e->y + at, e->x + at, n, e->scale);
}

static int op_add(struct bmi_dev *dev, float *y, const float *x, size_t n, float scale)
{
	struct elements e = { dev, y, x, n, scale };

	for_tokens(dev, add_piece, &e, div_up(n, ADD_PIECE), ADD_PIECE);
	return 0;
}

static void softcap_piece(void *arg, uint32_t i)
{
	const struct elements *e = arg;
	const size_t at = (size_t)i * ADD_PIECE, n = e->n - at < ADD_PIECE ? e->n - at : ADD_PIECE;

	e->dev->k->softcap(e->y + at, n, e->scale);
}

static int op_softcap(struct bmi_dev *dev, float *x, size_t n, float cap)
{
	struct elements e = { dev, x, NULL, n, cap };

	for_tokens(dev, softcap_piece, &e, div_up(n, ADD_PIECE), ADD_PIECE);
	return 0;
}

const struct bmi_ops bmi_cpu_ops = {
	.matmul = op_matmul,
	.add_bias = op_add_bias,
	.embed = op_embed,
	.rmsnorm = op_rmsnorm,
	.layernorm = op_layernorm,
	.rope = op_rope,
	.kv_store = op_kv_store,
	.attention = op_attention,
	.glu = op_glu,
	.add = op_add,
	.softcap = op_softcap,
	.copy = bmi_cpu_copy,
	.scale = bmi_cpu_scale,
	.matmul_turned = bmi_cpu_matmul_turned,
	.glu_pairs = bmi_cpu_glu_pairs,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the prefill product: many tokens. A block of W is widened to float32 once and a block of X copied beside it, both
 * contiguous and padded with zeros to whole tiles, then every 4 rows of W meet every few tokens of X in registers. Between
 * two column blocks a tile's vectors of sums wait in scratch, unreduced.
 * Invariant: y[t][r] is one vector of 16 sums over the columns in order, then vec_sum(), as in matvec_simd.c. The zeros
 * added are whole steps only where rows or tokens are missing altogether, never inside a row: same bits.
 */
#include "backend/cpu/vec.h"

enum {
	ROWS = 4,
	TOKENS = VEC_TILE_TOKENS,
	TILE = ROWS * TOKENS * BMI_LANES, /* floats of one tile's sums */
	PART_LANES = BMI_LANES / VEC_PARTS,
	LINE = 64,
};

_Static_assert(BMI_GEMM_ROWS % ROWS == 0 && BMI_GEMM_TOKENS % TOKENS == 0 && BMI_GEMM_COLS % BMI_LANES == 0,
	       "blocks are whole tiles");

/* A unit of work: what of W and X, and the column block it is at. */
struct unit {
	const struct bmi_matmul *m;
	struct bmi_scratch *scratch;
	uint32_t row0, row1, tok0, tok1;
	uint32_t col0,
		n_cols; /* n_cols: of this block, rounded up to whole vectors; also the stride of both copies */
	uint32_t next_rows; /* rows of W that the caller's next block of rows has: 0 at the end */
};

VEC_INLINE void widen_row(float *to, const char *w, uint32_t n, const enum bmi_dtype dtype)
{
	uint32_t c = 0;

	for (; c + BMI_LANES <= n; c += BMI_LANES)
		vec_store(to + c, vec_load_dtype(w + c * vec_dtype_bytes(dtype), dtype));
	if (c < n)
		vec_store(to + c, vec_load_dtype_n(w + c * vec_dtype_bytes(dtype), dtype, n - c));
}

VEC_INLINE void widen_w(const struct unit *u, const enum bmi_dtype dtype)
{
	const struct bmi_mat *w = u->m->w;
	const uint32_t left = w->n_cols - u->col0, n = left < u->n_cols ? left : u->n_cols;
	const uint32_t n_rows = u->row1 - u->row0, padded = (n_rows + ROWS - 1) / ROWS * ROWS;
	float *to = u->scratch->gemm.w;

	for (uint32_t r = 0; r < n_rows; r++, to += u->n_cols)
		widen_row(to,
			  (const char *)w->data + (u->row0 + r) * w->stride_bytes +
				  u->col0 * vec_dtype_bytes(dtype),
			  n, dtype);
	memset(to, 0, (size_t)(padded - n_rows) * u->n_cols * sizeof(*to));
}

static void copy_w(const struct unit *u)
{
	switch (u->m->w->dtype) {
	case BMI_F32:
		widen_w(u, BMI_F32);
		break;
	case BMI_F16:
		widen_w(u, BMI_F16);
		break;
	default:
		widen_w(u, BMI_BF16);
	}
}

static void copy_x(const struct unit *u)
{
	const uint32_t left = u->m->w->n_cols - u->col0, n = left < u->n_cols ? left : u->n_cols;
	const uint32_t n_tok = u->tok1 - u->tok0, padded = (n_tok + TOKENS - 1) / TOKENS * TOKENS;
	float *to = u->scratch->gemm.x;

	for (uint32_t t = 0; t < n_tok; t++, to += u->n_cols)
		widen_row(to, (const char *)(u->m->x + (u->tok0 + t) * u->m->ldx + u->col0), n, BMI_F32);
	memset(to, 0, (size_t)(padded - n_tok) * u->n_cols * sizeof(*to));
}

/* One tile over one column block, a register's share of the lanes at a time. part: [VEC_PARTS][ROWS][TOKENS] registers. */
VEC_INLINE void tile_block(float *part, const float *w, const float *x, uint32_t n_cols, bool first)
{
	for (unsigned h = 0; h < VEC_PARTS; h++, part += TILE / VEC_PARTS) {
		vec_part acc[ROWS][TOKENS];

		VEC_UNROLL
		for (unsigned r = 0; r < ROWS; r++)
			VEC_UNROLL
		for (unsigned t = 0; t < TOKENS; t++)
			acc[r][t] = first ? part_zero() : part_load(part + (r * TOKENS + t) * PART_LANES);
		for (uint32_t c = h * PART_LANES; c < n_cols; c += BMI_LANES) {
			vec_part v[TOKENS];

			VEC_UNROLL
			for (unsigned t = 0; t < TOKENS; t++)
				v[t] = part_load(x + t * n_cols + c);
			VEC_UNROLL
			for (unsigned r = 0; r < ROWS; r++) {
				const vec_part a = part_load(w + r * n_cols + c);

				VEC_UNROLL
				for (unsigned t = 0; t < TOKENS; t++)
					acc[r][t] = part_fma(a, v[t], acc[r][t]);
			}
		}
		VEC_UNROLL
		for (unsigned r = 0; r < ROWS; r++)
			VEC_UNROLL
		for (unsigned t = 0; t < TOKENS; t++)
			part_store(part + (r * TOKENS + t) * PART_LANES, acc[r][t]);
	}
}

VEC_INLINE vec tile_sums(const float *part, unsigned r, unsigned t)
{
	vec_part p[VEC_PARTS];

	for (unsigned h = 0; h < VEC_PARTS; h++)
		p[h] = part_load(part + h * (TILE / VEC_PARTS) + (r * TOKENS + t) * PART_LANES);
	return vec_from_parts(p);
}

/* Writes n_rows x n_tok outputs, at most a tile. */
static void tile_finish(float *y, size_t ldy, const float *part, uint32_t n_rows, uint32_t n_tok)
{
	for (uint32_t t = 0; t < n_tok; t++) {
		const __m128 s = vec_sum4(tile_sums(part, 0, t), tile_sums(part, 1, t), tile_sums(part, 2, t),
					  tile_sums(part, 3, t));
		float out[ROWS];

		_mm_storeu_ps(out, s);
		memcpy(y + t * ldy, out, n_rows * sizeof(*out));
	}
}

/*
 * Asks for what the next block copies, a tile's share at a time: copying would otherwise wait for memory, while the tiles
 * leave it idle. The next block is to the right, or at the left end of the rows below.
 */
struct ahead {
	const char *p; /* the row at hand */
	size_t stride;
	uint32_t n_rows, row_bytes, at; /* at: bytes of this row asked for */
};

VEC_INLINE void ask(struct ahead *next, uint32_t n_lines)
{
	for (; n_lines && next->n_rows; n_lines--) {
		_mm_prefetch(next->p + next->at, _MM_HINT_T1);
		next->at += LINE;
		if (next->at >= next->row_bytes) {
			next->at = 0;
			next->p += next->stride;
			next->n_rows--;
		}
	}
}

static struct ahead w_ahead(const struct unit *u, bool last)
{
	const struct bmi_mat *w = u->m->w;
	const size_t elt = vec_dtype_bytes(w->dtype);
	const uint32_t row0 = last ? u->row1 : u->row0, col0 = last ? 0 : u->col0 + u->n_cols;

	return (struct ahead){ (const char *)w->data + row0 * w->stride_bytes + col0 * elt, w->stride_bytes,
			       last ? u->next_rows : u->row1 - u->row0, u->n_cols * (uint32_t)elt, 0 };
}

static struct ahead x_ahead(const struct unit *u, bool last)
{
	const float *x = u->m->x + u->tok0 * u->m->ldx + u->col0 + u->n_cols;

	return (struct ahead){ (const char *)x, u->m->ldx * sizeof(*x), last ? 0 : u->tok1 - u->tok0,
			       u->n_cols * (uint32_t)sizeof(*x), 0 };
}

static void column_block(const struct unit *u, bool first, bool last)
{
	const uint32_t n_rows = u->row1 - u->row0, n_tok = u->tok1 - u->tok0;
	const uint32_t n_tiles = ((n_rows + ROWS - 1) / ROWS) * ((n_tok + TOKENS - 1) / TOKENS);
	struct ahead w = w_ahead(u, last), x = x_ahead(u, last);
	const uint32_t w_lines = w.n_rows * w.row_bytes / LINE / n_tiles + 1;
	const uint32_t x_lines = x.n_rows * x.row_bytes / LINE / n_tiles + 1;
	float *part = u->scratch->gemm.part;

	copy_w(u);
	copy_x(u);
	for (uint32_t r = 0; r < n_rows; r += ROWS)
		for (uint32_t t = 0; t < n_tok; t += TOKENS, part += TILE) {
			ask(&w, w_lines);
			ask(&x, x_lines);
			tile_block(part, u->scratch->gemm.w + (size_t)r * u->n_cols,
				   u->scratch->gemm.x + (size_t)t * u->n_cols, u->n_cols, first);
			if (last)
				tile_finish(u->m->y + (u->tok0 + t) * u->m->ldy + u->row0 + r, u->m->ldy,
					    part, n_rows - r < ROWS ? n_rows - r : ROWS,
					    n_tok - t < TOKENS ? n_tok - t : TOKENS);
		}
}

static void row_block(struct unit *u)
{
	const uint32_t n_cols = u->m->w->n_cols, n_blocks = (n_cols + BMI_GEMM_COLS - 1) / BMI_GEMM_COLS;
	const uint32_t even = (n_cols + n_blocks - 1) / n_blocks;
	const uint32_t block = (even + BMI_LANES - 1) / BMI_LANES * BMI_LANES;

	for (uint32_t c = 0; c < n_cols; c += block) {
		const uint32_t left = n_cols - c;

		u->col0 = c;
		u->n_cols = left < block ? (left + BMI_LANES - 1) / BMI_LANES * BMI_LANES : block;
		column_block(u, c == 0, left <= block);
	}
}

void BMI_ISA(bmi_gemm)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, uint32_t tok0, uint32_t tok1,
		       struct bmi_scratch *scratch)
{
	struct unit u = { .m = m, .scratch = scratch, .tok0 = tok0, .tok1 = tok1 };

	for (u.row0 = row0; u.row0 < row1 && m->w->n_cols; u.row0 = u.row1) {
		u.row1 = row1 - u.row0 < BMI_GEMM_ROWS ? row1 : u.row0 + BMI_GEMM_ROWS;
		u.next_rows = row1 - u.row1 < BMI_GEMM_ROWS ? row1 - u.row1 : BMI_GEMM_ROWS;
		row_block(&u);
	}
	if (!m->w->n_cols)
		for (uint32_t t = tok0; t < tok1; t++)
			memset(m->y + t * m->ldy + row0, 0, (row1 - row0) * sizeof(*m->y));
}

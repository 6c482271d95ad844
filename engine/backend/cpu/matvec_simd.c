/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the decode product: few tokens, weights straight from memory. Four rows at a time and a
 * prefetch keep enough reads in flight to reach the memory's bandwidth; without either it is half of it.
 * Invariant: y[t][r] is one vector of 16 sums over the columns in order, then vec_sum(): the same in every tile shape,
 * and in gemm_simd.c.
 */
#include "backend/cpu/vec.h"

enum { ROWS = 4, AHEAD_BYTES = 512, SHORT_TILE_BYTES = 20 << 10, LINE = 64 };

/* Where a tile of rows and tokens starts. */
struct tile {
	const char *w;
	size_t w_stride;
	const float *x;
	size_t ldx;
	uint32_t n_cols;
};

/* n < 16: the last columns; else 16. */
VEC_INLINE void step(vec acc[ROWS][VEC_DOT_TOKENS_MAX], const struct tile *at, uint32_t c, uint32_t n,
		     const unsigned n_rows, const unsigned n_tok, const enum bmi_dtype dtype)
{
	const char *w = at->w + c * vec_dtype_bytes(dtype);
	vec wide[ROWS];

	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		wide[r] = n < BMI_LANES ? vec_load_dtype_n(w + r * at->w_stride, dtype, n)
					: vec_load_dtype(w + r * at->w_stride, dtype);
	VEC_UNROLL
	for (unsigned t = 0; t < n_tok; t++) {
		const float *x = at->x + t * at->ldx + c;
		const vec v = n < BMI_LANES ? vec_load_n(x, n) : vec_load(x);

		VEC_UNROLL
		for (unsigned r = 0; r < n_rows; r++)
			acc[r][t] = vec_fma(wide[r], v, acc[r][t]);
	}
}

/*
 * What to prefetch beside column c. A short tile of adjoining rows: the next tile, front to back, since memory serves one run
 * at twice the rate of four short ones. A long one would not fit L1: each row a little ahead of itself, and from
 * turn_col, where that passes the row's end, on into the row four below.
 */
struct ahead {
	size_t off, pitch; /* of the first row's line, and between the lines of two rows */
	uint32_t scale;    /* bytes asked for per byte of a row */
	uint32_t turn_col;
	size_t turn_by;
};

VEC_INLINE struct ahead ahead_of(const struct tile *at, const unsigned n_rows, const enum bmi_dtype dtype)
{
	const uint32_t elt = (uint32_t)vec_dtype_bytes(dtype), per_line = LINE / elt, ahead = AHEAD_BYTES / elt;
	const size_t row_bytes = (size_t)at->n_cols * elt;

	if (ROWS * row_bytes <= SHORT_TILE_BYTES && at->w_stride == row_bytes)
		return (struct ahead){ ROWS * at->w_stride, LINE, n_rows, UINT32_MAX, 0 };
	return (struct ahead){ AHEAD_BYTES, at->w_stride, 1,
			       at->n_cols > ahead ? (at->n_cols - ahead) / per_line * per_line : 0,
			       ROWS * at->w_stride - row_bytes };
}

VEC_INLINE void prefetch(const struct tile *at, struct ahead *ahead, uint32_t c, const unsigned n_rows,
			 const enum bmi_dtype dtype)
{
	const char *p;

	if (c == ahead->turn_col)
		ahead->off += ahead->turn_by;
	p = at->w + ahead->off + c * vec_dtype_bytes(dtype) * ahead->scale;
	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		_mm_prefetch(p + r * ahead->pitch, _MM_HINT_T0);
}

/* One tile; a cache line of each row between two prefetches. y points at the tile's first output. */
VEC_INLINE void dot_tile(float *y, size_t ldy, const struct tile *at, const unsigned n_rows,
			 const unsigned n_tok, const enum bmi_dtype dtype)
{
	const uint32_t per_line = LINE / (uint32_t)vec_dtype_bytes(dtype);
	struct ahead ahead = ahead_of(at, n_rows, dtype);
	vec acc[ROWS][VEC_DOT_TOKENS_MAX];
	uint32_t c = 0;

	VEC_UNROLL
	for (unsigned r = 0; r < n_rows; r++)
		VEC_UNROLL
	for (unsigned t = 0; t < n_tok; t++)
		acc[r][t] = vec_zero();
	for (; c + per_line <= at->n_cols; c += per_line) {
		prefetch(at, &ahead, c, n_rows, dtype);
		step(acc, at, c, BMI_LANES, n_rows, n_tok, dtype);
		if (per_line > BMI_LANES)
			step(acc, at, c + BMI_LANES, BMI_LANES, n_rows, n_tok, dtype);
	}
	if (c + BMI_LANES <= at->n_cols) {
		step(acc, at, c, BMI_LANES, n_rows, n_tok, dtype);
		c += BMI_LANES;
	}
	if (c < at->n_cols)
		step(acc, at, c, at->n_cols - c, n_rows, n_tok, dtype);
	VEC_UNROLL
	for (unsigned t = 0; t < n_tok; t++) {
		if (n_rows == ROWS) {
			_mm_storeu_ps(y + t * ldy, vec_sum4(acc[0][t], acc[1][t], acc[2][t], acc[3][t]));
			continue;
		}
		VEC_UNROLL
		for (unsigned r = 0; r < n_rows; r++)
			y[t * ldy + r] = vec_sum(acc[r][t]);
	}
}

/* Four rows; two and two where four rows of sums would not fit the registers. */
VEC_INLINE void four_rows(float *y, size_t ldy, const struct tile *at, const unsigned n_tok,
			  const enum bmi_dtype dtype)
{
	if (n_tok <= VEC_DOT_WIDE) {
		dot_tile(y, ldy, at, ROWS, n_tok, dtype);
	} else {
		struct tile next = *at;

		dot_tile(y, ldy, at, 2, n_tok, dtype);
		next.w += 2 * at->w_stride;
		dot_tile(y + 2, ldy, &next, 2, n_tok, dtype);
	}
}

#if VEC_DOT_TOKENS_MAX > 3
VEC_INLINE void many_tokens(float *y, size_t ldy, const struct tile *at, uint32_t n_tok,
			    const enum bmi_dtype dtype)
{
	if (n_tok == 4)
		four_rows(y, ldy, at, 4, dtype);
	else if (n_tok == 5)
		four_rows(y, ldy, at, 5, dtype);
	else
		four_rows(y, ldy, at, 6, dtype);
}
#else
VEC_INLINE void many_tokens(float *y, size_t ldy, const struct tile *at, uint32_t n_tok,
			    const enum bmi_dtype dtype)
{
	four_rows(y, ldy, at, 3, dtype);
}
#endif

/* n_tok becomes a constant: 1 to VEC_DOT_TOKENS_MAX. */
VEC_INLINE void some_tokens(float *y, size_t ldy, const struct tile *at, uint32_t n_tok,
			    const enum bmi_dtype dtype)
{
	if (n_tok == 1)
		four_rows(y, ldy, at, 1, dtype);
	else if (n_tok == 2)
		four_rows(y, ldy, at, 2, dtype);
	else if (n_tok == 3)
		four_rows(y, ldy, at, 3, dtype);
	else
		many_tokens(y, ldy, at, n_tok, dtype);
}

/* All tokens, in even groups: the rows of the second group come from cache. */
VEC_INLINE void rows_of(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, const enum bmi_dtype dtype)
{
	const uint32_t n_groups = (m->n_tok + VEC_DOT_TOKENS_MAX - 1) / VEC_DOT_TOKENS_MAX;
	const uint32_t group = (m->n_tok + n_groups - 1) / n_groups;
	struct tile at = { .w_stride = m->w->stride_bytes, .ldx = m->ldx, .n_cols = m->w->n_cols };
	uint32_t r = row0;

	for (; r + ROWS <= row1; r += ROWS) {
		at.w = (const char *)m->w->data + r * at.w_stride;
		for (uint32_t t = 0; t < m->n_tok; t += group) {
			at.x = m->x + t * m->ldx;
			some_tokens(m->y + t * m->ldy + r, m->ldy, &at,
				    m->n_tok - t < group ? m->n_tok - t : group, dtype);
		}
	}
	for (; r < row1; r++) {
		at.w = (const char *)m->w->data + r * at.w_stride;
		for (uint32_t t = 0; t < m->n_tok; t++) {
			at.x = m->x + t * m->ldx;
			dot_tile(m->y + t * m->ldy + r, m->ldy, &at, 1, 1, dtype);
		}
	}
}

void BMI_ISA(bmi_matvec)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1)
{
	switch (m->w->dtype) {
	case BMI_F32:
		rows_of(m, row0, row1, BMI_F32);
		break;
	case BMI_F16:
		rows_of(m, row0, row1, BMI_F16);
		break;
	default:
		rows_of(m, row0, row1, BMI_BF16);
	}
}

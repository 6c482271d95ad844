/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the ops that only some families need: copies of rows, products with matrices that are stored [in][out], the glu of
 * interleaved pairs. Invariant: as in ops.c, how an op is split never shows in its bits; a turned product is cut by
 * columns at fixed places and adds up its rows one by one.
 */
#include "backend/cpu/device.h"

#include <errno.h>
#include <math.h>
#include <string.h>

int bmi_cpu_copy(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_rows,
		 uint32_t dim)
{
	for (uint32_t t = 0; t < n_rows; t++)
		memcpy(y + t * ldy, x + t * ldx, dim * sizeof(*y));
	return 0;
}

int bmi_cpu_scale(struct bmi_dev *dev, float *x, size_t n, float s)
{
	for (size_t i = 0; i < n; i++)
		x[i] *= s;
	return 0;
}

enum { COLUMNS = 512 }; /* of one piece: a row of it stays in the first cache */

struct turned {
	const struct bmi_dev *dev;
	float *y;
	size_t ldy;
	const struct bmi_mat *w;
	const float *x;
	size_t ldx;
	uint32_t n_tok;
	bool more;
};

static void turned_piece(void *arg, uint32_t i)
{
	const struct turned *m = arg;
	const size_t elt = m->w->dtype == BMI_F32 ? 4 : 2, col = (size_t)i * COLUMNS;
	const size_t n = m->w->n_cols - col < COLUMNS ? m->w->n_cols - col : COLUMNS;
	_Alignas(64) float row[COLUMNS];

	for (uint32_t t = 0; t < m->n_tok && !m->more; t++)
		memset(m->y + t * m->ldy + col, 0, n * sizeof(float));
	for (uint32_t r = 0; r < m->w->n_rows; r++) {
		const char *src = (const char *)m->w->data + r * m->w->stride_bytes + col * elt;

		m->dev->k->widen(row, src, m->w->dtype, n, 1.0f);
		for (uint32_t t = 0; t < m->n_tok; t++)
			m->dev->k->add(m->y + t * m->ldy + col, row, n, m->x[t * m->ldx + r]);
	}
}

int bmi_cpu_matmul_turned(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *w, const float *x,
			  size_t ldx, uint32_t n_tok, bool more)
{
	struct turned m = { dev, y, ldy, w, x, ldx, n_tok, more };

	if (w->dtype != BMI_F32 && w->dtype != BMI_F16 && w->dtype != BMI_BF16)
		return -EOPNOTSUPP;
	if (n_tok)
		bmi_cpu_parallel(dev, turned_piece, &m, (w->n_cols + COLUMNS - 1) / COLUMNS);
	return 0;
}

int bmi_cpu_glu_pairs(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_tok,
		      uint32_t dim, float limit, float alpha)
{
	for (uint32_t t = 0; t < n_tok; t++)
		for (uint32_t i = 0; i < dim; i++) {
			const float gate = fminf(x[t * ldx + 2 * i], limit);
			const float up = fmaxf(fminf(x[t * ldx + 2 * i + 1], limit), -limit);

			y[t * ldy + i] = gate / (1.0f + expf(-alpha * gate)) * (up + 1.0f);
		}
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_BACKEND_H
#define BMI_BACKEND_BACKEND_H

#include "base/dtype.h"
#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * What a tier must do. A tier holds buffers; one that has ops computes on them too ("disk" only holds). Pointers in the
 * ops are addresses on that tier's device. Every function returns 0 or -errno, fills err on failure, never logs or exits,
 * and never calls another tier. One thread at a time uses a device; a device may use threads of its own inside an op.
 *
 * Arithmetic: float32 accumulation everywhere. The bits of one output row depend on that row's inputs alone: not on how
 * many rows or tokens a call has, nor on the number of threads. (That is what makes a placement, a batch and a chunking
 * invisible in the tokens.)
 */
struct bmi_dev; /* an open device; opaque outside its tier */

/* A weight matrix [n_rows][n_cols], row-major, rows stride_bytes apart. dtype is BMI_F32, BMI_F16 or BMI_BF16. */
struct bmi_mat {
	const void *data;
	enum bmi_dtype dtype;
	uint32_t n_rows, n_cols;
	size_t stride_bytes;
};

enum bmi_act { BMI_ACT_SILU, BMI_ACT_GELU /* erf */, BMI_ACT_GELU_TANH, BMI_ACT_RELU };

/*
 * Rotary embedding of the first n_rot of head_dim elements of each head. With half = n_rot / 2 and the angle
 * a = pos * inv_freq[i], i < half: (x0, x1) becomes scale * (x0 cos a - x1 sin a, x1 cos a + x0 sin a).
 * Pairs are (i, i + half), or (2i, 2i + 1) when interleaved. scale is yarn's attention factor, else 1.
 */
struct bmi_rope {
	const float *inv_freq; /* [n_rot / 2] */
	uint32_t n_rot;
	float scale;
	bool interleaved;
};

enum { BMI_KV_BLOCK = 64 }; /* positions in one block of the KV cache */

/*
 * The KV cache of one sequence in one layer: a table of blocks. Position p is in block p / 64, slot p % 64. A K block is
 * [n_kv_heads][64][head_dim] of kv_dtype, a V block likewise. Blocks past the last position need not exist.
 */
struct bmi_kv_table {
	void *const *k, *const *v; /* [n_blocks], device addresses */
};

/* Attention of n_tok rows, each of one sequence at one position, over that sequence's positions 0..pos. */
struct bmi_attn {
	float *out;                    /* [n_tok][n_heads * head_dim] */
	const float *q;                /* [n_tok][n_heads * head_dim], after RoPE and norms */
	const struct bmi_kv_table *kv; /* [n_tok]: the table of each row's sequence (rows of one sequence repeat it) */
	const uint32_t *pos; /* [n_tok]; row t sees keys p with p <= pos[t] and, if window, p > pos[t] - window */
	uint32_t n_tok, n_heads, n_kv_heads, head_dim;
	uint32_t window; /* 0: all */
	float scale;     /* of q . k */
	float softcap;   /* 0: none; else s = cap * tanh(s / cap) before the softmax */
	enum bmi_dtype kv_dtype;
	const float *slopes; /* [n_heads] ALiBi: slope * (key's position - pos[t]) joins the score; NULL: none */
	const float *sinks; /* [n_heads] score of one more key, without a value; NULL: none */
};

/* All float arrays are float32 on the device; ld* are row strides in elements. Outputs never overlap inputs unless said. */
struct bmi_ops {
	/* y[t][r] = sum_c w[r][c] x[t][c], t < n_tok. y is [n_tok][ldy], x is [n_tok][ldx]. */
	int (*matmul)(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *w, const float *x,
		      size_t ldx, uint32_t n_tok);
	/* x[t][i] += bias[i], i < dim; in place */
	int (*add_bias)(struct bmi_dev *dev, float *x, size_t ldx, const float *bias, uint32_t n_tok,
			uint32_t dim);
	/* y[t][:] = scale * widen(table row t): rows were gathered by the caller's list of row pointers */
	int (*embed)(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *table,
		     const uint32_t *ids, uint32_t n_tok, float scale);
	/* y[t][i] = x[t][i] / sqrt(mean(x[t]^2) + eps) * (w[i] + w_offset); y may be x. Rows are dim long, ld apart. */
	int (*rmsnorm)(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
		       uint32_t n_tok, uint32_t dim, float eps, float w_offset);
	/* y = (x - mean) / sqrt(var + eps) * w + b; b may be NULL; y may be x */
	int (*layernorm)(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx,
			 const float *w, const float *b, uint32_t n_tok, uint32_t dim, float eps);
	/* in place on [n_tok][ldx], n_heads heads of head_dim from the start of each row */
	int (*rope)(struct bmi_dev *dev, float *x, size_t ldx, const struct bmi_rope *rope,
		    const uint32_t *pos, uint32_t n_tok, uint32_t n_heads, uint32_t head_dim);
	/* write k, v of row t ([n_kv_heads * head_dim], ld apart) to kv[t] at pos[t], rounded to kv_dtype */
	int (*kv_store)(struct bmi_dev *dev, const struct bmi_kv_table *kv, const uint32_t *pos,
			const float *k, const float *v, size_t ld, uint32_t n_tok, uint32_t n_kv_heads,
			uint32_t head_dim, enum bmi_dtype kv_dtype);
	int (*attention)(struct bmi_dev *dev, const struct bmi_attn *a);
	/* y[i] = act(gate[i]) * up[i]; up may be NULL (then y = act(gate)); y may be gate. [n_tok][ld], dim used */
	int (*glu)(struct bmi_dev *dev, float *y, const float *gate, const float *up, size_t ld,
		   uint32_t n_tok, uint32_t dim, enum bmi_act act);
	/* y[i] += scale * x[i], n elements */
	int (*add)(struct bmi_dev *dev, float *y, const float *x, size_t n, float scale);
	/* x[i] = cap * tanh(x[i] / cap), n elements, in place */
	int (*softcap)(struct bmi_dev *dev, float *x, size_t n, float cap);

	/* ---- what only some families need ---- */

	/* y[t][i] = x[t][i], i < dim; ldx may be 0 */
	int (*copy)(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_rows,
		    uint32_t dim);
	/* x[i] *= s, n elements, in place */
	int (*scale)(struct bmi_dev *dev, float *x, size_t n, float s);
	/* A matrix stored [in][out]: y[t][c] = (more ? y[t][c] : 0) + sum_r x[t][r] w[r][c], in rising order of r. */
	int (*matmul_turned)(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *w,
			     const float *x, size_t ldx, uint32_t n_tok, bool more);
	/* g = min(x[t][2i], limit), u = x[t][2i+1] within +-limit: y[t][i] = g * sigmoid(alpha g) * (u + 1), i < dim */
	int (*glu_pairs)(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx,
			 uint32_t n_tok, uint32_t dim, float limit, float alpha);
};

/* Memory of a tier. */
struct bmi_buf {
	void *data;      /* device address, aligned to 64 */
	size_t size;     /* bytes asked for */
	size_t reserved; /* bytes taken from the machine for it: what budgets count */
};

struct bmi_backend {
	const char *name; /* "cpu", "cuda" */
	const struct bmi_ops *ops;
	/* allocate; contents undefined. -ENOMEM names the size. */
	int (*alloc)(struct bmi_dev *dev, size_t size, struct bmi_buf *ret, struct bmi_error *err);
	void (*release)(struct bmi_dev *dev, struct bmi_buf *buf); /* {0} is a no-op; *buf becomes {0} */
	/* copy between host memory and a buffer's address */
	int (*upload)(struct bmi_dev *dev, void *dst, const void *src, size_t n, struct bmi_error *err);
	int (*download)(struct bmi_dev *dev, void *dst, const void *src, size_t n, struct bmi_error *err);
	void (*close)(struct bmi_dev *dev); /* NULL is a no-op */
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_KERNELS_H
#define BMI_BACKEND_CPU_KERNELS_H

#include "backend/backend.h"

/*
 * The kernels of one instruction set. Every function here runs on one thread, allocates nothing, and computes whole output
 * rows, each from that row's inputs alone in one fixed order; ops.c splits rows and tokens over threads as it likes.
 *
 * The order all sets share: a sum over n elements keeps 16 partial sums, element i going to partial sum i % 16 in rising
 * order; then s[j] += s[j + 8], s[j] += s[j + 4], s[j] += s[j + 2], s[0] + s[1]. The plain C set multiplies, then adds;
 * the vector sets fuse both (and so agree with each other bit by bit).
 */
struct bmi_matmul {
	float *y;
	size_t ldy;
	const struct bmi_mat *w;
	const float *x;
	size_t ldx;
	uint32_t n_tok;
};

enum {
	BMI_LANES = 16,
	BMI_GEMM_ROWS = 64,   /* weight rows that a prefill product widens at a time */
	BMI_GEMM_TOKENS = 48, /* tokens in one unit: a multiple of every set's register tile */
	BMI_GEMM_COLS = 640,  /* columns in one step: 4 rows of W and 6 of X then share 32 KiB of L1 */
	BMI_ATTN_ROWS = 12,   /* query rows that share one walk over the keys */
	BMI_HEAD_DIM_MAX = 512,
};

/* What one thread may overwrite during a kernel. Large; aligned to 64. */
struct bmi_scratch {
	_Alignas(64) union {
		struct {
			_Alignas(64) float w[BMI_GEMM_ROWS * BMI_GEMM_COLS];
			_Alignas(64) float x[BMI_GEMM_TOKENS * BMI_GEMM_COLS];
			_Alignas(64) float part[BMI_GEMM_ROWS * BMI_GEMM_TOKENS * BMI_LANES];
		} gemm;
		struct {
			_Alignas(64) float k[BMI_KV_BLOCK * BMI_HEAD_DIM_MAX];
			_Alignas(64) float v[BMI_KV_BLOCK * BMI_HEAD_DIM_MAX];
			_Alignas(64) float s[BMI_ATTN_ROWS * BMI_KV_BLOCK];
		} attn;
	};
};

struct bmi_kernels {
	const char *name;
	/* Rows [row0, row1) of y for all tokens, reading w once from memory per few tokens: for decode. */
	void (*matvec)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1);
	/* Rows [row0, row1) x tokens [tok0, tok1), at most BMI_GEMM_TOKENS of them: for prefill. Same bits. */
	void (*gemm)(const struct bmi_matmul *m, uint32_t row0, uint32_t row1, uint32_t tok0, uint32_t tok1,
		     struct bmi_scratch *scratch);
	uint32_t gemm_min_tok; /* tokens from which gemm is the faster of the two */

	/* One row each; as the ops of the same name. */
	void (*rmsnorm)(float *y, const float *x, const float *w, uint32_t dim, float eps, float w_offset);
	void (*layernorm)(float *y, const float *x, const float *w, const float *b, uint32_t dim, float eps);
	void (*rope)(float *x, const struct bmi_rope *rope, uint32_t pos, uint32_t n_heads, uint32_t head_dim);
	void (*glu)(float *y, const float *gate, const float *up, uint32_t dim, enum bmi_act act);
	void (*add)(float *y, const float *x, size_t n, float scale);
	void (*softcap)(float *x, size_t n, float cap);
	/* y[i] = scale * widen(src[i]) of BMI_F32, BMI_F16 or BMI_BF16; and the rounding way back. src and dst: any alignment. */
	void (*widen)(float *y, const void *src, enum bmi_dtype from, size_t n, float scale);
	void (*narrow)(void *dst, enum bmi_dtype to, const float *x, size_t n);
	/* All heads that share kv_head, of tokens [tok0, tok0 + n_tok), which share one kv table. */
	void (*attend)(const struct bmi_attn *a, uint32_t tok0, uint32_t n_tok, uint32_t kv_head,
		       struct bmi_scratch *scratch);
};

extern const struct bmi_kernels bmi_kernels_ref;

/**
 * bmi_kernels_list() - the sets this program was built with and this CPU and system can run, best first; the plain C
 * set is always there, last.
 * @ret: room for BMI_KERNELS_MAX pointers.
 *
 * Return: how many, at least 1.
 */
enum { BMI_KERNELS_MAX = 4 };
unsigned bmi_kernels_list(const struct bmi_kernels *ret[BMI_KERNELS_MAX]);

/** bmi_quant_decode() - @n_blocks blocks of a GGUF quantized type to float32, any alignment. False: not such a type. */
bool bmi_quant_decode(float *dst, enum bmi_dtype from, const uint8_t *src, size_t n_blocks);

/** bmi_lanes_sum() - the fixed last step of every sum. */
static inline float bmi_lanes_sum(const float s[BMI_LANES])
{
	float a[8];

	for (unsigned j = 0; j < 8; j++)
		a[j] = s[j] + s[j + 8];
	for (unsigned j = 0; j < 4; j++)
		a[j] += a[j + 4];
	return (a[0] + a[2]) + (a[1] + a[3]);
}

#endif

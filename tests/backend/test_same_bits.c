/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The promise behind "the same tokens": a row's bits depend on that row alone. Every op, with 1 to 40 tokens at once on 1, 2
 * and 3 threads, against the same tokens one at a time on one thread.
 */
#include "backend/cpu/cpu.h"
#include "backend/kcheck.h"

#include <stdio.h>
#include <stdlib.h>

enum {
	TOKENS = 40,
	COLS = 1301,
	ROWS = 331,
	HEADS = 6,
	KV_HEADS = 2,
	DIM = 48,
	ROW = HEADS * DIM,
	BLOCKS = 4
};

struct world {
	struct bmi_dev *dev;
	const struct bmi_ops *ops;
	float *x;     /* [TOKENS][COLS]: input of every op */
	float *w, *b; /* [COLS] */
	void *mat;    /* [ROWS][COLS] of any type */
	uint32_t pos[TOKENS], ids[TOKENS];
	struct bmi_kv_table kv[TOKENS];
	struct bmi_rope rope;
	enum bmi_dtype dtype;
	uint32_t window;
};

/* An op on tokens [t, t + n): reads the world, writes n rows of COLS floats at out. */
typedef void op_fn(const struct world *w, float *out, uint32_t t, uint32_t n);

static void must(int r)
{
	if (r != 0)
		abort();
}

static const float *rows_at(const struct world *w, uint32_t t)
{
	return w->x + (size_t)t * COLS;
}

static void matmul(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	const struct bmi_mat m = { w->mat, w->dtype, ROWS, COLS, COLS * (w->dtype == BMI_F32 ? 4 : 2) };

	must(w->ops->matmul(w->dev, out, COLS, &m, rows_at(w, t), COLS, n));
}

static void embed(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	const struct bmi_mat m = { w->mat, w->dtype, ROWS, COLS, COLS * (w->dtype == BMI_F32 ? 4 : 2) };

	must(w->ops->embed(w->dev, out, COLS, &m, w->ids + t, n, 1.7f));
}

static void rmsnorm(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	must(w->ops->rmsnorm(w->dev, out, COLS, rows_at(w, t), COLS, w->w, n, COLS, 1e-6f, 1.0f));
}

static void layernorm(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	must(w->ops->layernorm(w->dev, out, COLS, rows_at(w, t), COLS, w->w, w->b, n, COLS, 1e-6f));
}

static void rope(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	memcpy(out, rows_at(w, t), (size_t)n * COLS * sizeof(*out));
	must(w->ops->rope(w->dev, out, COLS, &w->rope, w->pos + t, n, HEADS, DIM));
	must(w->ops->add_bias(w->dev, out, COLS, w->b, n, COLS));
}

static void glu(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		memcpy(out + (size_t)i * COLS, w->b, COLS * sizeof(*out));
	must(w->ops->glu(w->dev, out, rows_at(w, t), out, COLS, n, COLS, BMI_ACT_GELU));
	must(w->ops->glu(w->dev, out, out, rows_at(w, t), COLS, n, COLS, BMI_ACT_SILU));
	must(w->ops->softcap(w->dev, out, (size_t)n * COLS, 3.0f));
	must(w->ops->add(w->dev, out, rows_at(w, t), (size_t)n * COLS, 0.3f));
}

static void attention(const struct world *w, float *out, uint32_t t, uint32_t n)
{
	float *q = malloc(2 * (size_t)n * ROW * sizeof(*q)), *o = q + (size_t)n * ROW;
	struct bmi_attn a = { o,        q,   w->kv + t, w->pos + t, n, HEADS,
			      KV_HEADS, DIM, w->window, 0.2f,       0, w->dtype };

	for (uint32_t i = 0; i < n; i++)
		memcpy(q + (size_t)i * ROW, rows_at(w, t + i), ROW * sizeof(*q));
	must(w->ops->attention(w->dev, &a));
	for (uint32_t i = 0; i < n; i++)
		memcpy(out + (size_t)i * COLS, o + (size_t)i * ROW, ROW * sizeof(*q));
	free(q);
}

static const struct {
	const char *name;
	op_fn *fn;
	bool typed; /* depends on world.dtype */
	uint32_t window;
} ops[] = {
	{ "matmul", matmul, true, 0 },       { "embed", embed, true, 0 },
	{ "rmsnorm", rmsnorm, false, 0 },    { "layernorm", layernorm, false, 0 },
	{ "rope add_bias", rope, false, 0 }, { "glu softcap add", glu, false, 0 },
	{ "attention", attention, true, 0 }, { "attention, window 70", attention, true, 70 },
};

static void world_fill(struct kcheck *kc, struct world *w)
{
	float *exact = malloc((size_t)ROWS * COLS * sizeof(*exact));
	static void *blocks[3][2][BLOCKS];

	kcheck_fill(kc, w->x, (size_t)TOKENS * COLS, KC_NORMAL);
	kcheck_fill(kc, w->w, COLS, KC_NORMAL);
	kcheck_fill(kc, w->b, COLS, KC_NORMAL);
	kcheck_fill_dtype(kc, w->mat, w->dtype, exact, (size_t)ROWS * COLS, KC_NORMAL);
	for (unsigned s = 0; s < 3; s++)
		for (unsigned i = 0; i < 2 * BLOCKS; i++) {
			void **block = &blocks[s][i / BLOCKS][i % BLOCKS];
			const size_t n = (size_t)KV_HEADS * BMI_KV_BLOCK * DIM;

			free(*block);
			*block = malloc(n * 4);
			kcheck_fill_dtype(kc, *block, w->dtype, exact, n, KC_NORMAL);
		}
	/* two prompts and some single tokens of a third sequence */
	for (uint32_t t = 0; t < TOKENS; t++) {
		const unsigned s = t < 17 ? 0 : t < 33 ? 1 : 2;

		w->kv[t] = (struct bmi_kv_table){ blocks[s][0], blocks[s][1] };
		w->pos[t] = s == 0 ? 50 + t : s == 1 ? 180 + t : kcheck_random(kc) % (BLOCKS * BMI_KV_BLOCK);
		w->ids[t] = kcheck_random(kc) % ROWS;
	}
	free(exact);
}

static void check_op(struct kcheck *kc, struct world *w, op_fn *fn, const char *isa)
{
	float *want = calloc((size_t)TOKENS * COLS, sizeof(*want)),
	      *got = calloc((size_t)TOKENS * COLS, sizeof(*got));

	must(bmi_cpu_open(1, isa, &w->dev, NULL));
	for (uint32_t t = 0; t < TOKENS; t++)
		fn(w, want + (size_t)t * COLS, t, 1);
	bmi_backend_cpu.close(w->dev);
	for (unsigned threads = 1; threads <= 3; threads++) {
		must(bmi_cpu_open(threads, isa, &w->dev, NULL));
		for (uint32_t n = 1; n <= TOKENS; n++) {
			const uint32_t t = kcheck_random(kc) % (TOKENS - n + 1);

			fn(w, got, t, n);
			kcheck_same(kc, want + (size_t)t * COLS, got, (size_t)n * COLS, "row");
			memset(got, 0, (size_t)TOKENS * COLS * sizeof(*got));
		}
		bmi_backend_cpu.close(w->dev);
	}
	free(want);
	free(got);
}

int main(void)
{
	static const enum bmi_dtype plain[] = { BMI_F32, BMI_F16, BMI_BF16 };
	struct kcheck kc;
	struct world w = { .ops = bmi_backend_cpu.ops };
	float freq[DIM / 2];

	kcheck_init(&kc);
	w.x = malloc((size_t)TOKENS * COLS * sizeof(float));
	w.w = malloc(COLS * sizeof(float));
	w.b = malloc(COLS * sizeof(float));
	w.mat = malloc((size_t)ROWS * COLS * 4);
	kcheck_fill(&kc, freq, DIM / 2, KC_NORMAL);
	w.rope = (struct bmi_rope){ freq, DIM, 1.0f, false };
	for (unsigned k = 0; k < kc.n_sets; k++)
		for (unsigned i = 0; i < sizeof(ops) / sizeof(ops[0]); i++)
			for (unsigned d = 0; d < (ops[i].typed ? 3 : 1); d++) {
				w.dtype = plain[d];
				w.window = ops[i].window;
				world_fill(&kc, &w);
				check_op(&kc, &w, ops[i].fn, kc.sets[k]->name);
				kcheck_line(&kc, "%s %s %s, 1 to 40 tokens, 1 to 3 threads", ops[i].name,
					    bmi_dtype_name(w.dtype), kc.sets[k]->name);
			}
	free(w.x);
	free(w.w);
	free(w.b);
	free(w.mat);
	return kcheck_finish(&kc);
}

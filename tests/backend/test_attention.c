/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Attention and the KV cache of every kernel set against a softmax in double over the keys as stored. Slots that a row must
 * not see hold NaN, so one multiplied in would show.
 */
#include "backend/cpu/cpu.h"
#include "backend/kcheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BLOCKS = 6, POSITIONS = BLOCKS * BMI_KV_BLOCK, SEQUENCES = 3 };

struct shape {
	uint32_t heads, kv_heads, dim, window;
	float softcap;
	enum bmi_dtype dtype;
};

static const struct shape shapes[] = {
	{ 9, 3, 64, 0, 0, BMI_F32 },    { 9, 3, 64, 0, 0, BMI_F16 },    { 9, 3, 64, 0, 0, BMI_BF16 },
	{ 4, 1, 256, 0, 0, BMI_BF16 },  { 4, 1, 256, 100, 0, BMI_F16 }, { 8, 4, 128, 0, 50, BMI_F32 },
	{ 3, 3, 80, 64, 0, BMI_F32 },   { 2, 1, 5, 0, 0, BMI_F32 },     { 30, 2, 33, 1, 0, BMI_F16 },
	{ 16, 1, 64, 7, 30, BMI_BF16 }, { 6, 2, 512, 0, 0, BMI_F32 },   { 1, 1, 16, 65, 0, BMI_F32 },
};

/* One layer's cache of a few sequences, filled with NaN, and what was stored, widened: [position][kv_head][dim]. */
struct cache {
	size_t block_bytes;
	void *k[BLOCKS], *v[BLOCKS];
	struct bmi_kv_table table;
	float *wide_k, *wide_v;
};

static void cache_init(struct cache *c, const struct shape *s)
{
	const size_t n = (size_t)s->kv_heads * BMI_KV_BLOCK * s->dim;

	c->block_bytes = n * (s->dtype == BMI_F32 ? 4 : 2);
	for (unsigned b = 0; b < BLOCKS; b++) {
		c->k[b] = kcheck_alloc(c->block_bytes);
		c->v[b] = kcheck_alloc(c->block_bytes);
		memset(c->k[b], 0xff, c->block_bytes);
		memset(c->v[b], 0xff, c->block_bytes);
	}
	c->table = (struct bmi_kv_table){ c->k, c->v };
	c->wide_k = malloc(n * BLOCKS * 4);
	c->wide_v = malloc(n * BLOCKS * 4);
}

static void round_to(float *dst, const float *src, size_t n, enum bmi_dtype dtype)
{
	for (size_t i = 0; i < n; i++)
		dst[i] = dtype == BMI_F32   ? src[i]
			 : dtype == BMI_F16 ? bmi_f32_from_f16(bmi_f16_from_f32(src[i]))
					    : bmi_f32_from_bf16(bmi_bf16_from_f32(src[i]));
}

/* Stores positions [0, n) through the op under test. */
static void cache_store(struct kcheck *kc, struct bmi_dev *dev, struct cache *c, const struct shape *s,
			uint32_t n, enum kc_fill fill)
{
	const size_t row = (size_t)s->kv_heads * s->dim;
	float *k = kcheck_alloc(n * row * 4), *v = kcheck_alloc(n * row * 4);
	struct bmi_kv_table *tables = malloc(n * sizeof(*tables));
	uint32_t *pos = malloc(n * sizeof(*pos));

	kcheck_fill(kc, k, n * row, fill);
	kcheck_fill(kc, v, n * row, fill);
	for (uint32_t i = 0; i < n; i++) {
		tables[i] = c->table;
		pos[i] = i;
	}
	if (bmi_backend_cpu.ops->kv_store(dev, tables, pos, k, v, row, n, s->kv_heads, s->dim, s->dtype) != 0)
		abort();
	round_to(c->wide_k, k, n * row, s->dtype);
	round_to(c->wide_v, v, n * row, s->dtype);
	free(tables);
	free(pos);
}

/*
 * With m = scale sum|q k| the largest magnitude behind a score: a score is off by e = (2 n/16 + 7) u m, and by 6 u cap more
 * under a softcap; a weight exp(s - max) by 2 e and its own rounding, u of |s - max| <= 2 m, and 4 u; numerator and
 * denominator add one rounding a key, twice where not fused, and one a block. So: (4 e + 4 u m + (4 keys + 30) u) times the
 * weighted mean of |v|.
 */
static void check_row(struct kcheck *kc, const struct shape *s, const struct cache *c, const float *q,
		      const float *out, uint32_t head, uint32_t pos)
{
	const uint32_t kv_head = head / (s->heads / s->kv_heads),
		       first = s->window && pos >= s->window ? pos - s->window + 1 : 0;
	const size_t row = (size_t)s->kv_heads * s->dim;
	const float scale = 0.3f;
	double p[POSITIONS], max = -INFINITY, sum = 0, m = 0, rel;

	for (uint32_t i = first; i <= pos; i++) {
		double mag = 0;

		p[i] = 0;
		for (uint32_t d = 0; d < s->dim; d++) {
			const double v = (double)q[d] * c->wide_k[i * row + kv_head * s->dim + d];

			p[i] += v;
			mag += fabs(v);
		}
		p[i] *= scale;
		p[i] = s->softcap != 0 ? s->softcap * tanh(p[i] / s->softcap) : p[i];
		m = fmax(m, mag * scale);
		max = fmax(max, p[i]);
	}
	for (uint32_t i = first; i <= pos; i++)
		sum += p[i] = exp(p[i] - max);
	rel = (4 * (2 * (s->dim / 16 + 1) + 7) * m + 4 * m + 24 * s->softcap + 4 * (pos - first + 1) + 30) *
	      KC_U;
	for (uint32_t d = 0; d < s->dim; d++) {
		double want = 0, mag = 0;

		for (uint32_t i = first; i <= pos; i++) {
			const double v = p[i] / sum * c->wide_v[i * row + kv_head * s->dim + d];

			want += v;
			mag += fabs(v);
		}
		kcheck_close(kc, want, out[d], rel * mag + 0x1p-140, "out", d);
	}
}

/* A few tokens of several sequences, at the ends of blocks and of what is stored; then the fused sets bit by bit. */
static void check_shape(struct kcheck *kc, const struct shape *s)
{
	static const uint32_t at[] = { 0,   1,   2,   62,  63,  64,  65,  66,  67, 68,
				       127, 128, 200, 201, 202, 203, 204, 205, 330 };
	enum { N = SEQUENCES * (sizeof(at) / sizeof(at[0])) };
	const size_t row = (size_t)s->heads * s->dim;
	float *q = kcheck_alloc(N * row * 4), *out = kcheck_alloc(N * row * 4), *fused = NULL;
	const uint64_t state = kc->state;

	for (unsigned k = 0; k < kc->n_sets; k++) {
		struct bmi_kv_table tables[N];
		struct cache cache[SEQUENCES];
		uint32_t pos[N];
		struct bmi_attn a = { out,         q,      tables,    pos,  N,          s->heads,
				      s->kv_heads, s->dim, s->window, 0.3f, s->softcap, s->dtype };
		struct bmi_dev *dev;

		kc->state = state;
		if (bmi_cpu_open(2, kc->sets[k]->name, &dev, NULL) != 0)
			abort();
		for (unsigned i = 0; i < SEQUENCES; i++) {
			cache_init(&cache[i], s);
			cache_store(kc, dev, &cache[i], s, 331, i == 2 ? KC_TINY : KC_NORMAL);
		}
		kcheck_fill(kc, q, N * row, KC_NORMAL);
		for (unsigned t = 0; t < N; t++) {
			tables[t] = cache[t * SEQUENCES / N].table;
			pos[t] = at[t % (N / SEQUENCES)];
		}
		if (bmi_backend_cpu.ops->attention(dev, &a) != 0)
			abort();
		for (unsigned t = 0; t < N; t++)
			for (uint32_t h = 0; h < s->heads; h++)
				check_row(kc, s, &cache[t * SEQUENCES / N], q + t * row + (size_t)h * s->dim,
					  out + t * row + (size_t)h * s->dim, h, pos[t]);
		if (kc->sets[k] != &bmi_kernels_ref && fused)
			kcheck_same(kc, fused, out, N * row, "another set");
		if (kc->sets[k] != &bmi_kernels_ref && !fused) {
			fused = malloc(N * row * 4);
			memcpy(fused, out, N * row * 4);
		}
		for (unsigned i = 0; i < SEQUENCES; i++) {
			free(cache[i].wide_k);
			free(cache[i].wide_v);
		}
		bmi_backend_cpu.close(dev);
		kcheck_line(kc, "attention %s %s %u/%u heads of %u, window %u, softcap %g",
			    bmi_dtype_name(s->dtype), kc->sets[k]->name, s->heads, s->kv_heads, s->dim,
			    s->window, s->softcap);
	}
	free(fused);
}

int main(void)
{
	struct kcheck kc;

	kcheck_init(&kc);
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		check_shape(&kc, &shapes[i]);
	return kcheck_finish(&kc);
}

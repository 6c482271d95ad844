/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Times the CPU tier's ops for every kernel set this machine runs: bench_kernels [threads] [filter]. Products rotate over
 * enough matrices to come from memory; the first line is the read bandwidth of the same threads, the limit of decode.
 * Prints the best of several rounds.
 */
#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum { ROUNDS = 7, WEIGHT_BYTES = 256 << 20, X_MAX = 8 << 20 };

struct bench {
	struct bmi_dev *dev;
	const struct bmi_ops *ops;
	const char *isa, *filter;
	unsigned n_threads;
	char *weights;    /* WEIGHT_BYTES */
	float *x, *y, *z; /* X_MAX floats */
};

/* One thread is timed by the CPU time it took, which other work on the machine disturbs less. */
static double now_s(const struct bench *b)
{
	struct timespec ts;

	clock_gettime(b->n_threads == 1 ? CLOCK_THREAD_CPUTIME_ID : CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + 1e-9 * (double)ts.tv_nsec;
}

static void report(const struct bench *b, const char *what, double best_s, double n, const char *unit)
{
	printf("%-8s %u thr  %-34s %10.2f us  %8.2f %s\n", b->isa, b->n_threads, what, best_s * 1e6,
	       n / best_s * 1e-9, unit);
	fflush(stdout);
}

#define BEST(best, ...)                                           \
	do {                                                      \
		best = 1e9;                                       \
		for (int round_ = 0; round_ < ROUNDS; round_++) { \
			const double t0_ = now_s(b);              \
			double dt_;                               \
			__VA_ARGS__;                              \
			dt_ = now_s(b) - t0_;                     \
			best = dt_ < best ? dt_ : best;           \
		}                                                 \
	} while (0)

struct reading {
	const char *from;
	size_t n;
	uint64_t sums[64];
};

static void read_part(void *arg, uint32_t i)
{
	struct reading *r = arg;
	const uint64_t *p = (const uint64_t *)(const void *)(r->from + i * r->n);
	uint64_t a[16] = { 0 };

	for (size_t j = 0; j + 16 <= r->n / 8; j += 16) {
		__builtin_prefetch(p + j + 128);
		__builtin_prefetch(p + j + 136);
		for (unsigned k = 0; k < 16; k++)
			a[k] ^= p[j + k];
	}
	for (unsigned k = 1; k < 16; k++)
		a[0] ^= a[k];
	r->sums[i % 64] ^= a[0];
}

static void bench_read(const struct bench *b)
{
	struct reading r = { b->weights, 1 << 20, { 0 } };
	double best;

	BEST(best, bmi_cpu_parallel(b->dev, read_part, &r, WEIGHT_BYTES >> 20));
	report(b, "read memory", best, WEIGHT_BYTES, "GB/s");
}

static bool wanted(const struct bench *b, const char *what)
{
	return !b->filter || strstr(what, b->filter);
}

static void bench_matmul(const struct bench *b, enum bmi_dtype dtype, uint32_t rows, uint32_t cols,
			 uint32_t n_tok)
{
	const size_t elt = dtype == BMI_F32 ? 4 : 2, bytes = (size_t)rows * cols * elt;
	const size_t n_mats = n_tok > 16 ? 1 : WEIGHT_BYTES / bytes;
	char what[64];
	double best;

	snprintf(what, sizeof(what), "matmul %s %ux%u x%u", bmi_dtype_name(dtype), rows, cols, n_tok);
	if (!wanted(b, what))
		return;
	BEST(best, {
		for (size_t i = 0; i < n_mats; i++) {
			const struct bmi_mat w = { b->weights + i * bytes, dtype, rows, cols, cols * elt };

			b->ops->matmul(b->dev, b->y, rows, &w, b->x, cols, n_tok);
		}
	});
	best /= (double)n_mats;
	if (n_tok <= 8)
		report(b, what, best, (double)bytes, "GB/s");
	else
		report(b, what, best, 2.0 * rows * cols * n_tok, "GFLOP/s");
}

static void bench_attention(const struct bench *b, uint32_t n_tok, uint32_t pos0, uint32_t heads,
			    uint32_t kv_heads, uint32_t dim, enum bmi_dtype dtype)
{
	void *blocks[256];
	struct bmi_kv_table table = { blocks, blocks }, *tables = calloc(n_tok, sizeof(*tables));
	uint32_t *pos = calloc(n_tok, sizeof(*pos));
	const size_t block = (size_t)kv_heads * 64 * dim * (dtype == BMI_F32 ? 4 : 2);
	struct bmi_attn a = { b->y, b->x, tables, pos, n_tok, heads, kv_heads, dim, 0, 0.1f, 0, dtype };
	double best, keys = 0;
	char what[64];

	snprintf(what, sizeof(what), "attention %s %u/%ux%u %u at %u", bmi_dtype_name(dtype), heads, kv_heads,
		 dim, n_tok, pos0);
	for (uint32_t t = 0; t < n_tok; t++) {
		tables[t] = table;
		pos[t] = pos0 + t;
		keys += pos[t] + 1;
	}
	for (uint32_t i = 0; i < 256; i++)
		blocks[i] = b->weights + i * block;
	if (wanted(b, what)) {
		BEST(best, b->ops->attention(b->dev, &a));
		report(b, what, best, keys * heads * dim * 4, "GFLOP/s");
	}
	free(tables);
	free(pos);
}

static void bench_rows(const struct bench *b, uint32_t n_tok)
{
	const uint32_t dim = 576, wide = 1536;
	float freq[32];
	uint32_t pos[512];
	const struct bmi_rope rope = { freq, 64, 1.0f, false };
	double best;
	char what[64];

	for (unsigned i = 0; i < 32; i++)
		freq[i] = 1.0f / (float)(1 << i % 16);
	for (unsigned i = 0; i < n_tok; i++)
		pos[i] = i + 100;
	snprintf(what, sizeof(what), "rmsnorm %u x%u", dim, n_tok);
	BEST(best, b->ops->rmsnorm(b->dev, b->y, dim, b->x, dim, b->z, n_tok, dim, 1e-5f, 0));
	if (wanted(b, what))
		report(b, what, best, (double)n_tok * dim, "Gelt/s");
	snprintf(what, sizeof(what), "rope 9x64 x%u", n_tok);
	BEST(best, b->ops->rope(b->dev, b->y, dim, &rope, pos, n_tok, 9, 64));
	if (wanted(b, what))
		report(b, what, best, (double)n_tok * dim, "Gelt/s");
	for (enum bmi_act act = BMI_ACT_SILU; act <= BMI_ACT_RELU; act++) {
		snprintf(what, sizeof(what), "glu act %u %u x%u", (unsigned)act, wide, n_tok);
		BEST(best, b->ops->glu(b->dev, b->y, b->x, b->z, wide, n_tok, wide, act));
		if (wanted(b, what))
			report(b, what, best, (double)n_tok * wide, "Gelt/s");
	}
}

/* One thread; elements a second, into bfloat16. */
static void bench_convert(const struct bench *b, enum bmi_dtype from)
{
	enum { N = 1 << 20 };
	double best;
	char what[64];

	snprintf(what, sizeof(what), "convert %s to bfloat16", bmi_dtype_name(from));
	if (!wanted(b, what))
		return;
	BEST(best, bmi_cpu_convert(b->y, BMI_BF16, b->weights, from, N));
	report(b, what, best, N, "Gelt/s");
}

static void bench_all(struct bench *b)
{
	static const struct {
		uint32_t rows, cols;
	} shapes[] = { { 576, 576 },   { 1536, 576 },  { 576, 1536 }, { 49152, 576 },
		       { 2048, 2048 }, { 5632, 2048 }, { 2048, 5632 } };

	if (wanted(b, "read"))
		bench_read(b);
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		bench_matmul(b, BMI_BF16, shapes[i].rows, shapes[i].cols, 1);
	for (uint32_t n_tok = 1; n_tok <= 8; n_tok *= 2)
		bench_matmul(b, BMI_BF16, 5632, 2048, n_tok);
	bench_matmul(b, BMI_F16, 2048, 2048, 1);
	bench_matmul(b, BMI_F32, 2048, 2048, 1);
	for (unsigned i = 0; i < sizeof(shapes) / sizeof(shapes[0]); i++)
		if (shapes[i].rows < 10000)
			bench_matmul(b, BMI_BF16, shapes[i].rows, shapes[i].cols, 512);
	for (uint32_t n_tok = 4; n_tok <= 24; n_tok += n_tok < 12 ? 1 : 3)
		bench_matmul(b, BMI_BF16, 1536, 576, n_tok);
	bench_attention(b, 1, 511, 9, 3, 64, BMI_F32);
	bench_attention(b, 1, 511, 9, 3, 64, BMI_F16);
	bench_attention(b, 512, 0, 9, 3, 64, BMI_F32);
	bench_attention(b, 512, 0, 9, 3, 64, BMI_BF16);
	bench_attention(b, 512, 0, 32, 4, 64, BMI_F16);
	bench_attention(b, 512, 0, 4, 1, 256, BMI_F16);
	bench_rows(b, 1);
	bench_rows(b, 512);
	for (enum bmi_dtype from = BMI_Q4_0; from <= BMI_Q6_K; from++)
		bench_convert(b, from);
	bench_convert(b, BMI_F32);
	bench_convert(b, BMI_F16);
}

int main(int argc, char **argv)
{
	struct bench b = { .ops = bmi_backend_cpu.ops, .filter = argc > 2 ? argv[2] : NULL };
	const unsigned n_threads = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
	const struct bmi_kernels *list[BMI_KERNELS_MAX];
	const unsigned n = bmi_kernels_list(list);
	struct bmi_buf weights, floats;

	for (unsigned i = 0; i < n; i++) {
		if (bmi_cpu_open(n_threads, list[i]->name, &b.dev, NULL) < 0 ||
		    bmi_backend_cpu.alloc(b.dev, WEIGHT_BYTES, &weights, NULL) < 0 ||
		    bmi_backend_cpu.alloc(b.dev, 3 * sizeof(float) * X_MAX, &floats, NULL) < 0)
			return 1;
		b.isa = list[i]->name;
		b.n_threads = (unsigned)atoi(strchr(bmi_cpu_describe(b.dev), ',') + 1);
		b.weights = weights.data;
		b.x = floats.data;
		b.y = b.x + X_MAX;
		b.z = b.y + X_MAX;
		memset(b.weights, 0x3c, WEIGHT_BYTES);
		for (size_t j = 0; j < 3 * (size_t)X_MAX; j++)
			b.x[j] = (float)(j % 17) * 0.1f - 0.8f;
		bench_all(&b);
		bmi_backend_cpu.release(b.dev, &weights);
		bmi_backend_cpu.release(b.dev, &floats);
		bmi_backend_cpu.close(b.dev);
	}
	return 0;
}

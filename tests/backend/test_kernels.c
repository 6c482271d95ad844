/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every kernel of every set this CPU runs, the plain C one included, against a naive computation in double. A bound is
 * derived where it is used, from the roundings a kernel makes: KC_U each, relative to what is rounded. A result may also be
 * flushed or rounded in the subnormal range: SLACK. The sets with fused sums must moreover agree bit by bit.
 */
#include "backend/kcheck.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#define SLACK 0x1p-140

static const enum bmi_dtype plain[] = { BMI_F32, BMI_F16, BMI_BF16 };

static size_t bytes_of(enum bmi_dtype dtype)
{
	return dtype == BMI_F32 ? 4 : 2;
}

/* One product: memory that ends at a wall, inputs in the type and exact, outputs between canaries. */
struct product {
	uint32_t rows, cols, toks;
	enum bmi_dtype dtype;
	void *w;
	float *wide, *x, *y;
	struct bmi_mat mat;
	struct bmi_matmul m;
};

enum { LDY_EXTRA = 3, CANARY = 12345 };

static struct product product_new(uint32_t rows, uint32_t cols, uint32_t toks, enum bmi_dtype dtype)
{
	struct product p = { rows, cols, toks, dtype, NULL, NULL, NULL, NULL, { 0 }, { 0 } };
	const size_t ldy = rows + LDY_EXTRA;

	p.w = kcheck_alloc((size_t)rows * cols * bytes_of(dtype));
	p.wide = kcheck_alloc((size_t)rows * cols * 4);
	p.x = kcheck_alloc((size_t)toks * cols * 4);
	p.y = kcheck_alloc((toks * ldy - LDY_EXTRA) * 4);
	return p;
}

static void product_fill(struct kcheck *kc, struct product *p, enum kc_fill fill)
{
	const size_t ldy = p->rows + LDY_EXTRA, elt = bytes_of(p->dtype);

	kcheck_fill_dtype(kc, p->w, p->dtype, p->wide, (size_t)p->rows * p->cols, fill);
	kcheck_fill(kc, p->x, (size_t)p->toks * p->cols, fill);
	for (size_t i = 0; i < p->toks * ldy - LDY_EXTRA; i++)
		p->y[i] = CANARY;
	p->mat = (struct bmi_mat){ p->w, p->dtype, p->rows, p->cols, p->cols * elt };
	p->m = (struct bmi_matmul){ p->y, ldy, &p->mat, p->x, p->cols, p->toks };
}

/*
 * Each of the 16 sums takes n/16 products, rounded once (fused) or twice, and n/16 additions; then 4 additions: relative to
 * the sum of |w x| that is at most 2 n/16 + 4 roundings. A product may underflow.
 */
static void product_check(struct kcheck *kc, const struct product *p)
{
	const size_t ldy = p->rows + LDY_EXTRA;

	for (uint32_t t = 0; t < p->toks; t++)
		for (uint32_t r = 0; r < p->rows; r++) {
			double sum = 0, mag = 0;

			for (uint32_t c = 0; c < p->cols; c++) {
				const double v = (double)p->wide[(size_t)r * p->cols + c] *
						 p->x[(size_t)t * p->cols + c];

				sum += v;
				mag += fabs(v);
			}
			kcheck_close(kc, sum, p->y[t * ldy + r],
				     (2 * (p->cols / 16 + 1) + 4) * KC_U * mag + p->cols * 0x1p-149, "y",
				     t * ldy + r);
		}
	for (uint32_t t = 0; t + 1 < p->toks; t++)
		for (uint32_t i = 0; i < LDY_EXTRA; i++)
			kcheck_close(kc, CANARY, p->y[t * ldy + p->rows + i], 0, "canary", t);
}

static void run_gemm(const struct bmi_kernels *k, const struct product *p, struct bmi_scratch *scratch)
{
	for (uint32_t r = 0; r < p->rows; r += BMI_GEMM_ROWS)
		for (uint32_t t = 0; t < p->toks; t += BMI_GEMM_TOKENS) {
			const uint32_t r1 = r + BMI_GEMM_ROWS < p->rows ? r + BMI_GEMM_ROWS : p->rows;
			const uint32_t t1 = t + BMI_GEMM_TOKENS < p->toks ? t + BMI_GEMM_TOKENS : p->toks;

			k->gemm(&p->m, r, r1, t, t1, scratch);
		}
}

static void check_products(struct kcheck *kc, struct bmi_scratch *scratch)
{
	static const uint32_t shapes[][3] = { { 1, 1, 1 },    { 3, 5, 2 },     { 4, 16, 1 },
					      { 7, 31, 3 },   { 6, 33, 9 },    { 64, 576, 5 },
					      { 65, 640, 8 }, { 13, 641, 13 }, { 67, 1299, 50 },
					      { 2, 2048, 7 } };

	for (unsigned s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++)
		for (unsigned d = 0; d < 3; d++) {
			struct product p = product_new(shapes[s][0], shapes[s][1], shapes[s][2], plain[d]);
			const size_t n_y = p.toks * (size_t)(p.rows + LDY_EXTRA) - LDY_EXTRA;
			float *fused[KC_N_FILLS] = { NULL };
			const uint64_t state = kc->state;

			for (unsigned k = 0; k < kc->n_sets; k++) {
				const bool is_ref = kc->sets[k] == &bmi_kernels_ref;

				kc->state = state; /* all sets see the same inputs */
				for (enum kc_fill fill = 0; fill < KC_N_FILLS; fill++) {
					float *first = malloc(n_y * sizeof(*first));

					product_fill(kc, &p, fill);
					kc->sets[k]->matvec(&p.m, 0, p.rows);
					product_check(kc, &p);
					memcpy(first, p.y, n_y * sizeof(*first));
					run_gemm(kc->sets[k], &p, scratch);
					kcheck_same(kc, first, p.y, n_y, "gemm against matvec");
					if (!is_ref && fused[fill])
						kcheck_same(kc, fused[fill], p.y, n_y, "another set");
					if (is_ref || fused[fill])
						free(first);
					else
						fused[fill] = first;
				}
				kcheck_line(kc, "matmul %s %s %ux%u, %u tokens", bmi_dtype_name(p.dtype),
					    kc->sets[k]->name, p.rows, p.cols, p.toks);
			}
			for (unsigned f = 0; f < KC_N_FILLS; f++)
				free(fused[f]);
		}
}

static const uint32_t dims[] = { 1, 7, 16, 33, 64, 576, 2048 + 7 };

/*
 * 1 / sqrt(mean + eps): the sum of squares is off by 2 n/16 + 4 roundings, halved by the root; division, eps, root, division
 * and two products add 6. w + offset rounds once, relative to |w| + |offset|.
 */
static void check_rmsnorm(struct kcheck *kc, const struct bmi_kernels *k, uint32_t dim, float *const in[4])
{
	const float eps = 1e-5f;

	for (enum kc_fill fill = 0; fill < KC_N_FILLS; fill++)
		for (int offset = 0; offset < 2; offset++) {
			double sum = 0, inv;

			kcheck_fill(kc, in[0], dim, fill);
			kcheck_fill(kc, in[1], dim, KC_NORMAL);
			for (uint32_t i = 0; i < dim; i++)
				sum += (double)in[0][i] * in[0][i];
			inv = 1 / sqrt(sum / dim + eps);
			k->rmsnorm(in[3], in[0], in[1], dim, eps, (float)offset);
			for (uint32_t i = 0; i < dim; i++) {
				const double want = in[0][i] * inv * ((double)in[1][i] + offset);

				kcheck_close(kc, want, in[3][i],
					     ((double)(dim / 16 + 1) + 2 + 6) * KC_U * fabs(want) +
						     fabs(in[0][i] * inv) * (fabs(in[1][i]) + offset) * KC_U +
						     SLACK,
					     "y", i);
			}
			k->rmsnorm(in[0], in[0], in[1], dim, eps, (float)offset);
			kcheck_same(kc, in[3], in[0], dim, "in place");
		}
	kcheck_line(kc, "rmsnorm float32 %s %u", k->name, dim);
}

/*
 * The mean is off by e = (n/16 + 5) u mean|x|; the variance around it by e^2 and by 2 n/16 + 8 roundings; the difference
 * x - mean by e and one rounding.
 */
static void check_layernorm(struct kcheck *kc, const struct bmi_kernels *k, uint32_t dim, float *const in[4])
{
	const float eps = 1e-5f;

	for (enum kc_fill fill = 0; fill < KC_N_FILLS; fill++)
		for (int bias = 0; bias < 2; bias++) {
			double mean = 0, mag = 0, var = 0, inv, e, rel;

			kcheck_fill(kc, in[0], dim, fill);
			kcheck_fill(kc, in[1], dim, KC_NORMAL);
			kcheck_fill(kc, in[2], dim, KC_NORMAL);
			for (uint32_t i = 0; i < dim; i++) {
				mean += (double)in[0][i] / dim;
				mag += fabs((double)in[0][i]) / dim;
			}
			for (uint32_t i = 0; i < dim; i++)
				var += (in[0][i] - mean) * (in[0][i] - mean) / dim;
			inv = 1 / sqrt(var + eps);
			e = (dim / 16 + 6) * KC_U * mag;
			rel = (dim / 16 + 10) * KC_U + e * e * inv * inv;
			k->layernorm(in[3], in[0], in[1], bias ? in[2] : NULL, dim, eps);
			for (uint32_t i = 0; i < dim; i++) {
				const double d = (in[0][i] - mean) * inv,
					     want = d * in[1][i] + (bias ? in[2][i] : 0);

				kcheck_close(kc, want, in[3][i],
					     fabs(in[1][i]) * (e * inv + fabs(d) * rel) + KC_U * fabs(want) +
						     SLACK,
					     "y", i);
			}
			k->layernorm(in[0], in[0], in[1], bias ? in[2] : NULL, dim, eps);
			kcheck_same(kc, in[3], in[0], dim, "in place");
		}
	kcheck_line(kc, "layernorm float32 %s %u", k->name, dim);
}

/*
 * Relative to |x|: silu has exp (2 ulp, 4 u), a sum, a quotient: 8 u, but where exp overflows the result is 0 instead of
 * |x| 2^-128. The gelus lose 1 + f(x) to cancellation, so their error is that of f near -1: tanh and erf 2 ulp (4 u), its
 * argument's 4 roundings weigh at most 0.5, then two products: 8 u.
 */
static double act_in_double(double x, enum bmi_act act)
{
	switch (act) {
	case BMI_ACT_SILU:
		return x / (1 + exp(-x));
	case BMI_ACT_GELU:
		return 0.5 * x * erfc(-x / sqrt(2));
	case BMI_ACT_GELU_TANH:
		return 0.5 * x * (1 + tanh(sqrt(2 / acos(-1)) * (x + 0.044715 * x * x * x)));
	case BMI_ACT_RELU:
		break;
	}
	return x > 0 ? x : 0;
}

static void check_glu(struct kcheck *kc, const struct bmi_kernels *k, uint32_t dim, float *const in[4],
		      enum bmi_act act)
{
	static const char *const names[] = { "silu", "gelu", "gelu_tanh", "relu" };

	for (enum kc_fill fill = 0; fill < KC_N_FILLS + 2; fill++)
		for (int up = 0; up < 2; up++) {
			kcheck_fill(kc, in[0], dim, fill < KC_N_FILLS ? fill : KC_NORMAL);
			kcheck_fill(kc, in[1], dim, KC_NORMAL);
			for (uint32_t i = 0; fill >= KC_N_FILLS && i < dim; i++)
				in[0][i] *= fill == KC_N_FILLS ? 5.0f
							       : 55.0f; /* through the bends and the tails */
			k->glu(in[3], in[0], up ? in[1] : NULL, dim, act);
			for (uint32_t i = 0; i < dim; i++) {
				const double mul = up ? in[1][i] : 1, want = act_in_double(in[0][i], act) * mul;
				const double mag =
					act == BMI_ACT_SILU ? fabs(want) : fabs((double)in[0][i] * mul);

				kcheck_close(kc, want, in[3][i],
					     8 * KC_U * mag + fabs(in[0][i] * mul) * 0x1p-127 + SLACK, "y", i);
			}
			k->glu(in[0], in[0], up ? in[1] : NULL, dim, act);
			kcheck_same(kc, in[3], in[0], dim, "in place");
		}
	kcheck_line(kc, "glu %s %s %u", names[act], k->name, dim);
}

/* y + scale x: two roundings. cap tanh(x / cap): quotient (weighs at most 1), tanh 2 ulp, product: 6 u. */
static void check_add_softcap(struct kcheck *kc, const struct bmi_kernels *k, uint32_t dim, float *const in[4])
{
	for (enum kc_fill fill = 0; fill < KC_N_FILLS; fill++)
		for (float cap = 1.0f; cap < 100.0f; cap *= 30.0f) {
			kcheck_fill(kc, in[0], dim, fill);
			kcheck_fill(kc, in[1], dim, KC_NORMAL);
			memcpy(in[3], in[1], dim * sizeof(float));
			k->add(in[3], in[0], dim, cap * 0.7f);
			for (uint32_t i = 0; i < dim; i++) {
				const double v = (double)(cap * 0.7f) * in[0][i], want = in[1][i] + v;

				kcheck_close(kc, want, in[3][i], KC_U * (fabs(v) + fabs(want)) + SLACK, "add",
					     i);
			}
			memcpy(in[3], in[0], dim * sizeof(float));
			k->softcap(in[3], dim, cap);
			for (uint32_t i = 0; i < dim; i++) {
				const double want = cap * tanh(in[0][i] / (double)cap);

				kcheck_close(kc, want, in[3][i], 6 * KC_U * fabs(want) + SLACK, "softcap", i);
			}
		}
	kcheck_line(kc, "add softcap float32 %s %u", k->name, dim);
}

static void check_rows(struct kcheck *kc)
{
	for (unsigned d = 0; d < sizeof(dims) / sizeof(dims[0]); d++) {
		float *in[4];

		for (unsigned i = 0; i < 4; i++)
			in[i] = kcheck_alloc(dims[d] * sizeof(float));
		for (unsigned k = 0; k < kc->n_sets; k++) {
			check_rmsnorm(kc, kc->sets[k], dims[d], in);
			check_layernorm(kc, kc->sets[k], dims[d], in);
			check_add_softcap(kc, kc->sets[k], dims[d], in);
			for (enum bmi_act act = BMI_ACT_SILU; act <= BMI_ACT_RELU; act++)
				check_glu(kc, kc->sets[k], dims[d], in, act);
		}
	}
}

/* Every float32 of a coarse sweep of tanh, and exp and erf through the activations, near the bends. */
static void check_sweep(struct kcheck *kc)
{
	enum { N = 1 << 16 };
	float *x = kcheck_alloc(N * sizeof(*x)), *y = kcheck_alloc(N * sizeof(*y));

	for (unsigned k = 0; k < kc->n_sets; k++) {
		for (uint32_t i = 0; i < N; i++)
			x[i] = (float)i * (24.0f / N) - 12.0f;
		memcpy(y, x, N * sizeof(*y));
		kc->sets[k]->softcap(y, N, 1.0f);
		for (uint32_t i = 0; i < N; i++)
			kcheck_close(kc, tanh(x[i]), y[i], 4 * KC_U * fabs(tanh(x[i])), "tanh", i);
		kc->sets[k]->glu(y, x, NULL, N, BMI_ACT_GELU);
		for (uint32_t i = 0; i < N; i++)
			kcheck_close(kc, act_in_double(x[i], BMI_ACT_GELU), y[i], 5 * KC_U * fabs(x[i]),
				     "gelu", i);
		for (uint32_t i = 0; i < N; i++)
			x[i] = (float)i * (170.0f / N) - 85.0f;
		kc->sets[k]->glu(y, x, NULL, N, BMI_ACT_SILU);
		for (uint32_t i = 0; i < N; i++)
			kcheck_close(kc, act_in_double(x[i], BMI_ACT_SILU), y[i],
				     8 * KC_U * fabs(act_in_double(x[i], BMI_ACT_SILU)), "silu", i);
		kcheck_line(kc, "sweep float32 %s", kc->sets[k]->name);
	}
}

/* Not a number and infinity go where the formulas send them; relu(NaN) is 0 as max(NaN, 0) may be. */
static void check_specials(struct kcheck *kc)
{
	static const float in[] = { NAN, INFINITY, 3e38f, -3e38f, 1e-45f, -0.0f };

	for (unsigned k = 0; k < kc->n_sets; k++)
		for (enum bmi_act act = BMI_ACT_SILU; act <= BMI_ACT_GELU_TANH; act++) {
			float want[6], got[6];

			bmi_kernels_ref.glu(want, in, NULL, 6, act);
			kc->sets[k]->glu(got, in, NULL, 6, act);
			kc->failed = !isnan(got[0]) || got[1] != INFINITY || got[2] != 3e38f || got[3] != 0;
			if (kc->failed)
				snprintf(kc->why, sizeof(kc->why), "%g %g %g %g", got[0], got[1], got[2],
					 got[3]);
			kcheck_close(kc, want[4], got[4], SLACK, "subnormal", 4);
			kcheck_same(kc, &want[5], &got[5], 1, "-0");
			kcheck_line(kc, "specials act %u %s", (unsigned)act, kc->sets[k]->name);
		}
}

/*
 * Sine and cosine to 1 ulp (2 u), times scale, times x, plus: 5 u of |x0| + |x1|. Angles are the float32 product, so
 * that is where the double computation starts.
 */
static void check_rope(struct kcheck *kc, const struct bmi_kernels *k, uint32_t head_dim, uint32_t n_rot,
		       bool inter)
{
	static const uint32_t positions[] = { 0, 1, 63, 511, 4097, 131071, 1 << 24 };
	enum { HEADS = 3 };
	const size_t n = (size_t)HEADS * head_dim;
	float *x = kcheck_alloc(n * sizeof(*x)), *y = kcheck_alloc(n * sizeof(*y));
	float *freq = kcheck_alloc(n_rot / 2 * sizeof(*freq));
	const struct bmi_rope rope = { freq, n_rot, 1.1f, inter };

	for (uint32_t i = 0; i < n_rot / 2; i++)
		freq[i] = powf(10000.0f, -2.0f * (float)i / (float)n_rot);
	for (unsigned p = 0; p < sizeof(positions) / sizeof(positions[0]); p++) {
		kcheck_fill(kc, x, n, p % KC_N_FILLS);
		memcpy(y, x, n * sizeof(*x));
		k->rope(y, &rope, positions[p], HEADS, head_dim);
		for (uint32_t h = 0; h < HEADS; h++) {
			const float *v = x + (size_t)h * head_dim, *got = y + (size_t)h * head_dim;

			for (uint32_t i = 0; i < n_rot / 2; i++) {
				const uint32_t a = inter ? 2 * i : i, b = inter ? 2 * i + 1 : i + n_rot / 2;
				const double angle = (float)positions[p] * freq[i], c = cos(angle),
					     s = sin(angle);
				const double mag = 1.1f * (fabs(v[a]) + fabs(v[b])) * 5 * KC_U + SLACK;

				kcheck_close(kc, 1.1f * (v[a] * c - v[b] * s), got[a], mag, "x0", i);
				kcheck_close(kc, 1.1f * (v[b] * c + v[a] * s), got[b], mag, "x1", i);
			}
			kcheck_same(kc, v + n_rot, got + n_rot, head_dim - n_rot, "past n_rot");
		}
	}
	kcheck_line(kc, "rope float32 %s %u of %u%s", k->name, n_rot, head_dim, inter ? ", interleaved" : "");
}

/* Widening and narrowing have one right answer; the scalar conversions of base/dtype.h give it (tested there). */
static void check_widen_narrow(struct kcheck *kc, const struct bmi_kernels *k, enum bmi_dtype dtype)
{
	enum { N = 65536 };
	uint16_t *half = kcheck_alloc(N * 2 + 1), *back = malloc(N * 2);
	float *wide = kcheck_alloc(N * 4), *want = malloc(N * 4);

	half = (uint16_t *)(void *)((char *)half + 1); /* any alignment */
	for (uint32_t i = 0; i < N; i++) {
		const uint16_t h = (uint16_t)(i * 40503u); /* all of them, mixed */

		memcpy((char *)half + 2 * i, &h, 2);
		want[i] = dtype == BMI_F16 ? bmi_f32_from_f16(h) : bmi_f32_from_bf16(h);
	}
	for (size_t n = 0; n < 40; n++) {
		float *end = wide + N - n;

		k->widen(end, (char *)half + 2 * (N - n), dtype, n, 1.0f);
		kcheck_same(kc, want + N - n, end, n, "tail widened");
		k->narrow(back, dtype, end, n);
		k->widen(want + N - n, back, dtype, n, 1.0f);
		kcheck_same(kc, end, want + N - n, n, "tail narrowed");
	}
	k->widen(wide, half, dtype, N, 1.0f);
	kcheck_same(kc, want, wide, N, "widened");
	for (uint32_t i = 0; i < N; i++) {
		const uint32_t bits = kcheck_random(kc);

		memcpy(&wide[i], &bits, 4);
		if (dtype == BMI_F16 && i % 2)
			wide[i] =
				(float)(int32_t)kcheck_random(kc) * 0x1p-31f * (i % 4 == 1 ? 70000.0f : 1e-4f);
	}
	k->narrow(back, dtype, wide, N);
	for (uint32_t i = 0; i < N; i++) {
		const uint16_t h = dtype == BMI_F16 ? bmi_f16_from_f32(wide[i]) : bmi_bf16_from_f32(wide[i]);

		if (isnan(wide[i]))
			kcheck_close(kc, 1,
				     isnan(dtype == BMI_F16 ? bmi_f32_from_f16(back[i])
							    : bmi_f32_from_bf16(back[i])),
				     0, "NaN narrowed", i);
		else
			kcheck_close(kc, h, back[i], 0, "narrowed", i);
	}
	free(back);
	free(want);
	kcheck_line(kc, "widen narrow %s %s", bmi_dtype_name(dtype), k->name);
}

int main(void)
{
	struct kcheck kc;
	struct bmi_scratch *scratch = aligned_alloc(64, sizeof(*scratch));

	kcheck_init(&kc);
	memset(scratch, 0xff, sizeof(*scratch)); /* NaN: nothing may be read before it is written */
	check_products(&kc, scratch);
	check_rows(&kc);
	check_sweep(&kc);
	check_specials(&kc);
	for (unsigned k = 0; k < kc.n_sets; k++)
		for (int inter = 0; inter < 2; inter++) {
			check_rope(&kc, kc.sets[k], 64, 64, inter);
			check_rope(&kc, kc.sets[k], 80, 20, inter);
			check_rope(&kc, kc.sets[k], 96, 96, inter);
			check_rope(&kc, kc.sets[k], 6, 2, inter);
		}
	for (unsigned k = 0; k < kc.n_sets; k++)
		for (unsigned d = 1; d < 3; d++)
			check_widen_narrow(&kc, kc.sets[k], plain[d]);
	free(scratch);
	return kcheck_finish(&kc);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the vector rotary embedding. Sine and cosine of the float32 angle (rope_ref.c says why that one) are computed in
 * double and rounded once; 16 angles serve all heads of a row.
 */
#include "backend/cpu/vec.h"

/*
 * sin and cos of 16 angles, |a| < 2^31. a = n pi/2 + r in double, pi/2 in two parts: r is off by 1e-16 n at most; then the
 * Taylor series up to r^15 and r^16, whose rests are below 1e-16 for |r| <= pi/4. Plain loops: the compiler makes
 * vectors of them, and no order depends on whether it does.
 */
static void sincos16(const float angle[BMI_LANES], float ret_sin[BMI_LANES], float ret_cos[BMI_LANES])
{
	for (unsigned i = 0; i < BMI_LANES; i++) {
		const double a = angle[i], n = __builtin_rint(a * 0.63661977236758134308);
		const double r =
			__builtin_fma(n, -6.123233995736766e-17, __builtin_fma(n, -1.5707963267948966, a));
		const double z = r * r;
		double s = -1.0 / 1307674368000.0, c = 1.0 / 20922789888000.0;
		const int quadrant = (int)n & 3;

		s = __builtin_fma(s, z, 1.0 / 6227020800.0);
		s = __builtin_fma(s, z, -1.0 / 39916800.0);
		s = __builtin_fma(s, z, 1.0 / 362880.0);
		s = __builtin_fma(s, z, -1.0 / 5040.0);
		s = __builtin_fma(s, z, 1.0 / 120.0);
		s = __builtin_fma(s, z, -1.0 / 6.0);
		s = __builtin_fma(s * z, r, r);
		c = __builtin_fma(c, z, -1.0 / 87178291200.0);
		c = __builtin_fma(c, z, 1.0 / 479001600.0);
		c = __builtin_fma(c, z, -1.0 / 3628800.0);
		c = __builtin_fma(c, z, 1.0 / 40320.0);
		c = __builtin_fma(c, z, -1.0 / 720.0);
		c = __builtin_fma(c, z, 1.0 / 24.0);
		c = __builtin_fma(c, z, -0.5);
		c = __builtin_fma(c, z, 1.0);
		ret_sin[i] = (float)((quadrant & 1 ? c : s) * (quadrant & 2 ? -1.0 : 1.0));
		ret_cos[i] = (float)((quadrant & 1 ? s : c) * ((quadrant + 1) & 2 ? -1.0 : 1.0));
	}
}

/* Pairs (i, i + half) of one head, i in [i0, i0 + n), n <= 16. */
static void rotate_halves(float *x, uint32_t half, vec c, vec s, uint32_t n)
{
	const vec x0 = n < BMI_LANES ? vec_load_n(x, n) : vec_load(x);
	const vec x1 = n < BMI_LANES ? vec_load_n(x + half, n) : vec_load(x + half);
	const vec y0 = vec_fnma(x1, s, vec_mul(x0, c)), y1 = vec_fma(x0, s, vec_mul(x1, c));

	if (n < BMI_LANES) {
		vec_store_n(x, y0, n);
		vec_store_n(x + half, y1, n);
	} else {
		vec_store(x, y0);
		vec_store(x + half, y1);
	}
}

/* Pairs (2i, 2i + 1); the same operations one at a time. */
static void rotate_pairs(float *x, const float *c, const float *s, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++) {
		const float x0 = x[2 * i], x1 = x[2 * i + 1];

		x[2 * i] = __builtin_fmaf(-x1, s[i], x0 * c[i]);
		x[2 * i + 1] = __builtin_fmaf(x0, s[i], x1 * c[i]);
	}
}

void BMI_ISA(bmi_rope)(float *x, const struct bmi_rope *rope, uint32_t pos, uint32_t n_heads, uint32_t head_dim)
{
	const uint32_t half = rope->n_rot / 2;

	for (uint32_t i = 0; i < half; i += BMI_LANES) {
		const uint32_t n = half - i < BMI_LANES ? half - i : BMI_LANES;
		float angle[BMI_LANES] = { 0 }, s[BMI_LANES], c[BMI_LANES];

		for (uint32_t j = 0; j < n; j++)
			angle[j] = (float)pos * rope->inv_freq[i + j];
		sincos16(angle, s, c);
		vec_store(s, vec_mul(vec_load(s), vec_set(rope->scale)));
		vec_store(c, vec_mul(vec_load(c), vec_set(rope->scale)));
		for (uint32_t h = 0; h < n_heads; h++) {
			float *head = x + (size_t)h * head_dim;

			if (rope->interleaved)
				rotate_pairs(head + 2 * i, c, s, n);
			else
				rotate_halves(head + i, half, vec_load(c), vec_load(s), n);
		}
	}
}

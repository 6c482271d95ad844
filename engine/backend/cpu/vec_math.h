/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_VEC_MATH_H
#define BMI_BACKEND_CPU_VEC_MATH_H

#include "backend/cpu/vec.h"

#if defined(BMI_VEC_H) /* see vec.h */

/*
 * exp, tanh and erf of 16 floats. The polynomials are minimax fits (Remez) of the functions named; the error given first is
 * theirs, before rounding. tests/backend/test_kernels.c sweeps all three against libm in double: at most 2 ulp.
 */

/* exp(x) = 2^n exp(r), |r| <= ln2 / 2. 0 below -104, infinity above 88.73, NaN stays. exp(r) = 1 + r + r^2 q(r): 2^-28. */
VEC_INLINE vec vec_exp(vec x)
{
	const vec c = vec_min(vec_set(89.0f),
			      vec_max(vec_set(-104.0f), x)); /* a NaN is the second operand: it wins */
	const vec n = vec_round(vec_mul(c, vec_set(1.44269504f)));
	const vec r = vec_fnma(n, vec_set(-2.12194440e-4f), vec_fnma(n, vec_set(0.693359375f), c));
	vec q = vec_set(1.38131448e-3f);

	q = vec_fma(q, r, vec_set(8.36941879e-3f));
	q = vec_fma(q, r, vec_set(4.16684560e-2f));
	q = vec_fma(q, r, vec_set(0.166665152f));
	q = vec_fma(q, r, vec_set(0.49999994f));
	q = vec_fma(vec_mul(q, r), r, r);
	return vec_scale2(vec_add(q, vec_set(1.0f)), n);
}

/* Below 0.625 an odd polynomial (2^-27), above it 1 - 2 / (exp(2x) + 1), where the subtraction no longer cancels. */
VEC_INLINE vec vec_tanh(vec x)
{
	const vec t = vec_abs(x), z = vec_mul(x, x), one = vec_set(1.0f);
	const vec big = vec_sub(one, vec_div(vec_set(2.0f), vec_add(vec_exp(vec_add(t, t)), one)));
	vec p = vec_set(-5.70498733e-3f);

	p = vec_fma(p, z, vec_set(2.06390340e-2f));
	p = vec_fma(p, z, vec_set(-5.37397154e-2f));
	p = vec_fma(p, z, vec_set(0.133314416f));
	p = vec_fma(p, z, vec_set(-0.333332807f));
	return vec_if_less(t, vec_set(0.625f), vec_fma(vec_mul(p, z), x, x), vec_copysign(big, x));
}

/* Below 1, x + x p(x^2) (2^-29); above, 1 - exp(p(x)) with p a fit of log(erfc(x)) on [1, 4] (2^-35); 1 from 4 on. */
VEC_INLINE vec vec_erf(vec x)
{
	const vec t = vec_abs(x), u = vec_min(vec_set(4.0f), t), z = vec_mul(x, x);
	vec p = vec_set(7.85386146e-5f), e = vec_set(-2.16867156e-5f);

	p = vec_fma(p, z, vec_set(-8.01019371e-4f));
	p = vec_fma(p, z, vec_set(5.18832775e-3f));
	p = vec_fma(p, z, vec_set(-2.68538129e-2f));
	p = vec_fma(p, z, vec_set(0.112835854f));
	p = vec_fma(p, z, vec_set(-0.37612626f));
	p = vec_fma(p, z, vec_set(0.128379166f));

	e = vec_fma(e, u, vec_set(4.41334734e-4f));
	e = vec_fma(e, u, vec_set(-4.20455355e-3f));
	e = vec_fma(e, u, vec_set(2.52082329e-2f));
	e = vec_fma(e, u, vec_set(-0.108418539f));
	e = vec_fma(e, u, vec_set(-0.633219957f));
	e = vec_fma(e, u, vec_set(-1.12957835f));
	e = vec_fma(e, u, vec_set(1.88035643e-4f));
	e = vec_sub(vec_set(1.0f), vec_exp(e));
	return vec_if_less(t, vec_set(1.0f), vec_fma(p, x, x), vec_copysign(e, x));
}

#endif
#endif

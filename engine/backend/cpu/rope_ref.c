/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the plain C rotary embedding: the truth. The angle is the float32 product pos * inv_freq, as the peers compute it:
 * at position 100000 its rounding is worth 0.004 rad, so an angle in double would be another function, not a better one.
 */
#include "backend/cpu/kernels_ref.h"

#include <math.h>

void bmi_rope_ref(float *x, const struct bmi_rope *rope, uint32_t pos, uint32_t n_heads, uint32_t head_dim)
{
	const uint32_t half = rope->n_rot / 2;

	for (uint32_t i = 0; i < half; i++) {
		const float angle = (float)pos * rope->inv_freq[i];
		const float c = cosf(angle) * rope->scale, s = sinf(angle) * rope->scale;
		const uint32_t at0 = rope->interleaved ? 2 * i : i,
			       at1 = rope->interleaved ? 2 * i + 1 : i + half;

		for (uint32_t h = 0; h < n_heads; h++) {
			float *v = x + (size_t)h * head_dim;
			const float x0 = v[at0], x1 = v[at1];

			v[at0] = x0 * c - x1 * s;
			v[at1] = x1 * c + x0 * s;
		}
	}
}

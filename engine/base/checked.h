/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_CHECKED_H
#define BMI_BASE_CHECKED_H

#include <stdbool.h>
#include <stdint.h>

/* Arithmetic on sizes that came from a file. True: *ret holds the exact result. False: overflow, *ret is useless. */
static inline bool bmi_add(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_add_overflow(a, b, ret);
}

static inline bool bmi_mul(uint64_t a, uint64_t b, uint64_t *ret)
{
	return !__builtin_mul_overflow(a, b, ret);
}

/* Round up to a power of two. The caller knows that a + to does not overflow. */
static inline uint64_t bmi_align_up(uint64_t a, uint64_t to)
{
	return (a + to - 1) & ~(to - 1);
}

#endif

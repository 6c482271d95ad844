/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_HASH_H
#define BMI_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* XXH3, 64 bits: for tables in memory. Not a defence against chosen keys unless @seed is secret. */
uint64_t bmi_hash64(const void *bytes, size_t n, uint64_t seed);

/* XXH3, 128 bits: names a content (a tensor, a token prefix). */
struct bmi_hash128 {
	uint64_t lo, hi;
};
struct bmi_hash128 bmi_hash128(const void *bytes, size_t n);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* The only door to xxHash. */
#include "base/hash.h"

#include <xxhash.h>

uint64_t bmi_hash64(const void *bytes, size_t n, uint64_t seed)
{
	return XXH3_64bits_withSeed(bytes, n, seed);
}

struct bmi_hash128 bmi_hash128(const void *bytes, size_t n)
{
	const XXH128_hash_t h = XXH3_128bits(bytes, n);

	return (struct bmi_hash128){ h.low64, h.high64 };
}

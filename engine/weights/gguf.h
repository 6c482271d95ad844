/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_WEIGHTS_GGUF_H
#define BMI_WEIGHTS_GGUF_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* GGUF metadata (key, value). Strings are lent, not NUL-terminated, and were checked to lie in the header. */
struct bmi_gguf;

struct bmi_gguf_str {
	const char *bytes;
	uint64_t n;
};

/* True and *ret only when the key is there and has that kind (any integer width; float32 and float64). */
bool bmi_gguf_get_str(const struct bmi_gguf *g, const char *key, struct bmi_gguf_str *ret);
bool bmi_gguf_get_u64(const struct bmi_gguf *g, const char *key, uint64_t *ret);
bool bmi_gguf_get_double(const struct bmi_gguf *g, const char *key, double *ret);
bool bmi_gguf_get_bool(const struct bmi_gguf *g, const char *key, bool *ret);

/* Arrays: *ret is on the heap, the caller frees it (strings in it are lent). 0, -ENOENT, -EINVAL (other kind), -ENOMEM. */
int bmi_gguf_get_strs(const struct bmi_gguf *g, const char *key, struct bmi_gguf_str **ret, size_t *ret_n);
int bmi_gguf_get_floats(const struct bmi_gguf *g, const char *key, float **ret, size_t *ret_n);
int bmi_gguf_get_ints(const struct bmi_gguf *g, const char *key, int64_t **ret, size_t *ret_n);

#endif

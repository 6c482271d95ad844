/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_ARENA_H
#define BMI_BASE_ARENA_H

#include "base/cleanup.h"

#include <stddef.h>

/* Memory for things that die together. Not thread-safe. Nothing taken from an arena is freed alone. */
struct bmi_arena;

struct bmi_arena *bmi_arena_new(void);
void bmi_arena_free(struct bmi_arena *arena);
BMI_AUTO(bmi_arena)

/** bmi_arena_alloc() - @size zeroed bytes aligned to 16, or NULL when memory is short. A size of 0 gives a valid pointer. */
void *bmi_arena_alloc(struct bmi_arena *arena, size_t size);

/** bmi_arena_array() - @n zeroed elements of @size bytes; NULL when memory is short or n * size overflows. */
void *bmi_arena_array(struct bmi_arena *arena, size_t n, size_t size);

/** bmi_arena_strndup() - a NUL-terminated copy of @n bytes. */
char *bmi_arena_strndup(struct bmi_arena *arena, const char *s, size_t n);

/** bmi_arena_printf() - a formatted string. */
char *bmi_arena_printf(struct bmi_arena *arena, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

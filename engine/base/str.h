/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_STR_H
#define BMI_BASE_STR_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/*
 * Bytes that grow. `{ 0 }` is empty. `bytes` is NUL-terminated once anything was put. When memory is short the string
 * stays as it was and `failed` is set: writers need not check each call, only bmi_str_ok() at the end.
 */
struct bmi_str {
	char *bytes;
	size_t n, cap;
	bool failed;
};

void bmi_str_fini(struct bmi_str *s);

/** bmi_str_put() - append @n bytes. Return: 0 or -ENOMEM. */
int bmi_str_put(struct bmi_str *s, const void *bytes, size_t n);

/** bmi_str_puts() - append a C string. Return: 0 or -ENOMEM. */
int bmi_str_puts(struct bmi_str *s, const char *text);

/** bmi_str_printf() - append formatted text. Return: 0 or -ENOMEM. */
int bmi_str_printf(struct bmi_str *s, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** bmi_str_put_json() - append @n bytes as a JSON string with its quotes; control bytes become escapes. */
int bmi_str_put_json(struct bmi_str *s, const char *bytes, size_t n);

static inline bool bmi_str_ok(const struct bmi_str *s)
{
	return !s->failed;
}

#define bmi_auto_str __attribute__((cleanup(bmi_str_fini))) struct bmi_str

#endif

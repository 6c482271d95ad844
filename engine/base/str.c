/* SPDX-License-Identifier: Apache-2.0 */
/* Owns growing byte strings. Invariant: n < cap and bytes[n] == 0 whenever bytes is not NULL. */
#include "base/str.h"

#include <errno.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void bmi_str_fini(struct bmi_str *s)
{
	free(s->bytes);
	*s = (struct bmi_str){ 0 };
}

static int reserve(struct bmi_str *s, size_t more)
{
	size_t cap = s->cap ? s->cap : 64;
	char *bytes;

	if (s->failed || more > SIZE_MAX / 4 || s->n > SIZE_MAX / 4) {
		s->failed = true;
		return -ENOMEM;
	}
	while (cap < s->n + more + 1)
		cap *= 2;
	if (cap == s->cap)
		return 0;
	bytes = realloc(s->bytes, cap);
	if (!bytes) {
		s->failed = true;
		return -ENOMEM;
	}
	s->bytes = bytes;
	s->cap = cap;
	return 0;
}

int bmi_str_put(struct bmi_str *s, const void *bytes, size_t n)
{
	int r = reserve(s, n);

	if (r < 0)
		return r;
	if (n)
		memcpy(s->bytes + s->n, bytes, n);
	s->n += n;
	s->bytes[s->n] = 0;
	return 0;
}

int bmi_str_puts(struct bmi_str *s, const char *text)
{
	return bmi_str_put(s, text, strlen(text));
}

int bmi_str_printf(struct bmi_str *s, const char *fmt, ...)
{
	va_list ap, again;
	int n, r;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	r = n < 0 ? -EINVAL : reserve(s, (size_t)n);
	if (r == 0) {
		vsnprintf(s->bytes + s->n, (size_t)n + 1, fmt, again);
		s->n += (size_t)n;
	}
	va_end(again);
	return r;
}

int bmi_str_put_json(struct bmi_str *s, const char *bytes, size_t n)
{
	size_t from = 0;

	bmi_str_put(s, "\"", 1);
	for (size_t i = 0; i < n; i++) {
		const unsigned char c = (unsigned char)bytes[i];

		if (c >= 0x20 && c != '"' && c != '\\')
			continue;
		bmi_str_put(s, bytes + from, i - from);
		from = i + 1;
		if (c == '"' || c == '\\')
			bmi_str_printf(s, "\\%c", c);
		else if (c == '\n')
			bmi_str_puts(s, "\\n");
		else if (c == '\t')
			bmi_str_puts(s, "\\t");
		else
			bmi_str_printf(s, "\\u%04x", c);
	}
	bmi_str_put(s, bytes + from, n - from);
	bmi_str_put(s, "\"", 1);
	return s->failed ? -ENOMEM : 0;
}

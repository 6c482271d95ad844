/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes as Accelerate's convert_file_size_to_int() reads them: a number as Python's float() takes it and a unit in any
 * case; a decimal unit that ends in a small b means bits. Invariant: never more than 18446744073709551615.
 */
#include "place/place_priv.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

static const struct {
	const char *suffix;
	double unit;
	bool decimal;
} units[] = {
	{ "GiB", 0x1p30, false }, { "MiB", 0x1p20, false }, { "KiB", 0x1p10, false },
	{ "GB", 1e9, true },      { "MB", 1e6, true },      { "KB", 1e3, true },
};

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Digits, single underscores between them allowed. Return: how many bytes, 0 when there is no digit or a stray underscore. */
static size_t digits(const char *s, size_t n, char *out, size_t *n_out)
{
	size_t i = 0;

	for (; i < n && (isdigit((unsigned char)s[i]) || s[i] == '_'); i++) {
		if (s[i] != '_')
			out[(*n_out)++] = s[i];
		else if (i == 0 || i + 1 == n || !isdigit((unsigned char)s[i - 1]) ||
			 !isdigit((unsigned char)s[i + 1]))
			return 0;
	}
	return i;
}

/* Python's float() of finite decimal text. */
static bool number(const char *s, size_t n, double *ret)
{
	char buf[128], *end;
	size_t n_buf = 0, i = 0, whole, part = 0, k;

	while (n && is_blank(*s))
		s++, n--;
	while (n && is_blank(s[n - 1]))
		n--;
	if (n == 0 || n > 100)
		return false;
	if (s[i] == '+' || s[i] == '-')
		buf[n_buf++] = s[i++];
	whole = digits(s + i, n - i, buf, &n_buf);
	i += whole;
	if (i < n && s[i] == '.') {
		buf[n_buf++] = s[i++];
		part = digits(s + i, n - i, buf, &n_buf);
		i += part;
	}
	if (whole + part == 0)
		return false;
	if (i < n && (s[i] == 'e' || s[i] == 'E')) {
		buf[n_buf++] = s[i++];
		if (i < n && (s[i] == '+' || s[i] == '-'))
			buf[n_buf++] = s[i++];
		k = digits(s + i, n - i, buf, &n_buf);
		if (k == 0)
			return false;
		i += k;
	}
	buf[n_buf] = 0;
	*ret = strtod(buf, &end);
	return i == n && *end == 0 && isfinite(*ret);
}

int bmi_size_parse(const char *text, size_t n, uint64_t *ret_bytes, struct bmi_error *err)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(units); i++) {
		const size_t n_suffix = strlen(units[i].suffix);
		double d;

		if (n < n_suffix || strncasecmp(text + n - n_suffix, units[i].suffix, n_suffix))
			continue;
		if (!number(text, n - n_suffix, &d))
			break;
		d = trunc(d * units[i].unit);
		if (d < 0 || !isfinite(d))
			break;
		*ret_bytes = d < 0x1p64 ? (uint64_t)d : UINT64_MAX;
		if (units[i].decimal && text[n - 1] == 'b')
			*ret_bytes /= 8;
		return 0;
	}
	return bmi_fail(err, -EINVAL,
			"'%.*s' is no size: write a number with GiB, MiB, KiB, GB, MB or KB, as in 5.5GiB",
			n < 60 ? (int)n : 60, text);
}

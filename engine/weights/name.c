/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what is done to text that a file brought: is it UTF-8, is it a plain file name, and how it looks in a message.
 * Invariant: what bmi_name_show() gives has no control byte, is valid UTF-8 and fits its buffer.
 */
#include "weights/ckpt_priv.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* Length of the well-formed sequence at @s (RFC 3629, table of section 4), 0 when there is none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	const unsigned c = s[0];
	unsigned lo = 0x80, hi = 0xbf;
	size_t len;

	if (c < 0x80)
		return 1;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	len = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	if (n < len)
		return 0;
	if (c == 0xe0)
		lo = 0xa0;
	else if (c == 0xed)
		hi = 0x9f;
	else if (c == 0xf0)
		lo = 0x90;
	else if (c == 0xf4)
		hi = 0x8f;
	if (s[1] < lo || s[1] > hi)
		return 0;
	for (size_t i = 2; i < len; i++)
		if (s[i] < 0x80 || s[i] > 0xbf)
			return 0;
	return len;
}

bool bmi_name_is_utf8(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;

	while (n) {
		const size_t len = utf8_len(p, n);

		if (!len)
			return false;
		p += len;
		n -= len;
	}
	return true;
}

bool bmi_name_is_plain(const char *s, size_t n)
{
	if (n == 0 || n > 255 || memchr(s, '/', n) || memchr(s, 0, n))
		return false;
	return !(n == 1 && s[0] == '.') && !(n == 2 && s[0] == '.' && s[1] == '.');
}

struct bmi_shown bmi_name_show(const char *s, size_t n)
{
	enum { LAST_PIECE = 8 }; /* "\xff" or 4 bytes of UTF-8, then "..." and the NUL */
	const unsigned char *p = (const unsigned char *)s;
	struct bmi_shown out;
	size_t at = 0;

	while (n && at < sizeof(out.text) - LAST_PIECE) {
		const size_t len = utf8_len(p, n);

		if (len > 1 || (len == 1 && p[0] >= 0x20 && p[0] != 0x7f)) {
			memcpy(out.text + at, p, len);
			at += len;
			p += len;
			n -= len;
		} else {
			at += (size_t)snprintf(out.text + at, 5, "\\x%02x", p[0]);
			p++;
			n--;
		}
	}
	if (n) {
		memcpy(out.text + at, "...", 3);
		at += 3;
	}
	out.text[at] = 0;
	return out;
}

struct bmi_shown bmi_shape_show(const uint64_t *shape, unsigned n_dims)
{
	struct bmi_shown out = { "[" };
	size_t at = 1;

	for (unsigned i = 0; i < n_dims && i < BMI_MAX_DIMS; i++) /* 4 * 22 bytes fit */
		at += (size_t)snprintf(out.text + at, sizeof(out.text) - at, "%s%" PRIu64, i ? ", " : "",
				       shape[i]);
	snprintf(out.text + at, sizeof(out.text) - at, n_dims > BMI_MAX_DIMS ? ", ...]" : "]");
	return out;
}

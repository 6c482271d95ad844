/* SPDX-License-Identifier: Apache-2.0 */
/*
 * UTF-8 in and out, one character at a time. Knows nothing of tokens. Invariant: text is checked once, by
 * bmi_tok_utf8_valid(), where it enters the room; everything behind that takes valid text and stays on
 * character boundaries.
 */
#include "token/utf8.h"

#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/*
 * May @c follow @lead as second byte? This is what excludes overlong forms, surrogates and values past
 * U+10FFFF.
 */
static bool second_ok(unsigned char lead, unsigned char c)
{
	switch (lead) {
	case 0xe0:
		return c >= 0xa0 && c <= 0xbf;
	case 0xed:
		return c >= 0x80 && c <= (BMI_PLANTED_TOKENIZER_ENCODE ? 0xbf : 0x9f);
	case 0xf0:
		return c >= 0x90 && c <= 0xbf;
	case 0xf4:
		return c >= 0x80 && c <= 0x8f;
	default:
		return c >= 0x80 && c <= 0xbf;
	}
}

static bool lead_ok(unsigned char c)
{
	return c >= 0xc2 && c <= 0xf4;
}

size_t bmi_tok_utf8_valid(const char *s, size_t n)
{
	size_t i = 0;

	while (i < n) {
		const unsigned char c = (unsigned char)s[i];
		unsigned len;

		if (c < 0x80) {
			uint64_t word;

			while (n - i >= sizeof(word)) {
				memcpy(&word, s + i, sizeof(word));
				if (word & UINT64_C(0x8080808080808080))
					break;
				i += sizeof(word);
			}
			while (i < n && (unsigned char)s[i] < 0x80)
				i++;
			continue;
		}
		len = bmi_tok_utf8_len(s[i]);
		if (!lead_ok(c) || n - i < len || !second_ok(c, (unsigned char)s[i + 1]))
			return i;
		for (unsigned k = 2; k < len; k++)
			if (((unsigned char)s[i + k] & 0xc0) != 0x80)
				return i;
		i += len;
	}
	return n;
}

uint32_t bmi_tok_utf8_get(const char *s, unsigned *ret_n)
{
	const unsigned n = bmi_tok_utf8_len(s[0]);
	uint32_t c = (unsigned char)s[0];

	*ret_n = n;
	if (n == 1)
		return c;
	c &= 0x7fu >> n;
	for (unsigned k = 1; k < n; k++)
		c = c << 6 | ((unsigned char)s[k] & 0x3f);
	return c;
}

unsigned bmi_tok_utf8_put(char *dst, uint32_t c)
{
	if (c < 0x80) {
		dst[0] = (char)c;
		return 1;
	}
	if (c < 0x800) {
		dst[0] = (char)(0xc0 | c >> 6);
		dst[1] = (char)(0x80 | (c & 0x3f));
		return 2;
	}
	if (c < 0x10000) {
		dst[0] = (char)(0xe0 | c >> 12);
		dst[1] = (char)(0x80 | (c >> 6 & 0x3f));
		dst[2] = (char)(0x80 | (c & 0x3f));
		return 3;
	}
	dst[0] = (char)(0xf0 | c >> 18);
	dst[1] = (char)(0x80 | (c >> 12 & 0x3f));
	dst[2] = (char)(0x80 | (c >> 6 & 0x3f));
	dst[3] = (char)(0x80 | (c & 0x3f));
	return 4;
}

bool bmi_tok_is_space(uint32_t c)
{
	return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
	       (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
	       c == 0x3000;
}

void bmi_tok_lossy_put(struct bmi_tok_lossy *l, const char *bytes, size_t n, struct bmi_str *ret)
{
	for (size_t i = 0; i < n; i++) {
		const unsigned char c = (unsigned char)bytes[i];

		if (l->n && !(l->n == 1 ? second_ok(l->part[0], c) : (c & 0xc0) == 0x80)) {
			l->n = 0; /* @c begins something new */
			bmi_str_puts(ret, BMI_TOK_FFFD);
		}
		if (!l->n && c < 0x80) {
			bmi_str_put(ret, &bytes[i], 1);
		} else if (!l->n && !lead_ok(c)) {
			bmi_str_puts(ret, BMI_TOK_FFFD);
		} else {
			l->part[l->n++] = c;
			if (l->n == bmi_tok_utf8_len((char)l->part[0])) {
				bmi_str_put(ret, l->part, l->n);
				l->n = 0;
			}
		}
	}
}

void bmi_tok_lossy_flush(struct bmi_tok_lossy *l, struct bmi_str *ret)
{
	if (l->n)
		bmi_str_puts(ret, BMI_TOK_FFFD);
	l->n = 0;
}

int bmi_tok_str_room(struct bmi_str *s, size_t n)
{
	size_t cap;
	char *bytes;

	if (s->failed || n > SIZE_MAX / 4 || s->n > SIZE_MAX / 4) {
		s->failed = true;
		return -ENOMEM;
	}
	if (s->cap - s->n > n) /* one byte more, for the NUL */
		return 0;
	cap = s->n + n + 1;
	if (cap < s->cap * 2)
		cap = s->cap * 2;
	bytes = realloc(s->bytes, cap);
	if (!bytes) {
		s->failed = true;
		return -ENOMEM;
	}
	s->bytes = bytes;
	s->cap = cap;
	return 0;
}

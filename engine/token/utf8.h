/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_UTF8_H
#define BMI_TOKEN_UTF8_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define BMI_TOK_FFFD    "\xef\xbf\xbd"
#define BMI_TOK_LOWLINE "\xe2\x96\x81" /* U+2581, how sentencepiece writes a space */

/** bmi_tok_utf8_valid() - how many bytes from the start are valid UTF-8 (RFC 3629); @n when all are. */
size_t bmi_tok_utf8_valid(const char *s, size_t n);

/** bmi_tok_utf8_len() - bytes of the character that begins with @lead; the text is known to be valid. */
static inline unsigned bmi_tok_utf8_len(char lead)
{
	const unsigned char c = (unsigned char)lead;

	return c < 0x80 ? 1 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
}

/** bmi_tok_utf8_get() - the character at @s of valid text; @ret_n gets its length. */
uint32_t bmi_tok_utf8_get(const char *s, unsigned *ret_n);

/** bmi_tok_utf8_prev() - where the last character of the valid, not empty text @s[0..n) begins. */
static inline size_t bmi_tok_utf8_prev(const char *s, size_t n)
{
	do
		n--;
	while (n && ((unsigned char)s[n] & 0xc0) == 0x80);
	return n;
}

/** bmi_tok_utf8_put() - write @c to @dst[4]. Return: its length. */
unsigned bmi_tok_utf8_put(char *dst, uint32_t c);

/** bmi_tok_is_space() - Unicode White_Space: what Rust's is_whitespace() and Oniguruma's \s say. */
bool bmi_tok_is_space(uint32_t c);

/* The unfinished character at the end of a stream of bytes. */
struct bmi_tok_lossy {
	unsigned char part[4];
	unsigned n;
};

/**
 * bmi_tok_lossy_put() - append @n bytes as UTF-8: whole characters as they are, each maximal ill-formed part
 * as U+FFFD (Unicode 15, 3.9 "Substitution of Maximal Subparts", and Rust's from_utf8_lossy). What may still
 * become a character waits.
 */
void bmi_tok_lossy_put(struct bmi_tok_lossy *l, const char *bytes, size_t n, struct bmi_str *ret);
void bmi_tok_lossy_flush(struct bmi_tok_lossy *l, struct bmi_str *ret);

/**
 * bmi_tok_str_room() - @n bytes more can be written behind s->bytes[s->n]. Return: 0, or -ENOMEM with
 * s->failed set.
 */
int bmi_tok_str_room(struct bmi_str *s, size_t n);

#endif

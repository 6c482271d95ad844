/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rewrites Oniguruma (Ruby syntax) patterns, the dialect of tokenizer.json, to PCRE2's. Purely text to text.
 * Invariant: what is written matches the same strings, or the pattern is refused by naming the construct;
 * nothing passes by luck: an escape or group that is not listed here is refused.
 */
#include "token/regex.h"

#include <errno.h>
#include <stdint.h>
#include <string.h>

/* Unicode White_Space, and its complement, as the inside of a set. */
#define SPACE                                                                                                \
	"\\x{9}-\\x{d}\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}\\x{202f}\\x{205f}" \
	"\\x{3000}"
#define NO_SPACE                                                                                        \
	"\\x{0}-\\x{8}\\x{e}-\\x{1f}\\x{21}-\\x{84}\\x{86}-\\x{9f}\\x{a1}-\\x{167f}\\x{1681}-\\x{1fff}" \
	"\\x{200b}-\\x{2027}\\x{202a}-\\x{202e}\\x{2030}-\\x{205e}\\x{2060}-\\x{2fff}\\x{3001}-\\x{10ffff}"
/*
 * UTS 18's word characters: what \w means inside a set. Outside, and for \b, Oniguruma asks a Latin-1 table
 * below U+0100, which has superscript digits and fractions too.
 */
#define SET_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}"
#define WORD     SET_WORD "\\x{b2}\\x{b3}\\x{b9}\\x{bc}-\\x{be}"
#define HEX      "0-9a-fA-F"

struct scan {
	const char *p, *end; /* what is left of the pattern */
	bool in_set;
	size_t last_interval; /* where in ret a {n,m} just ended; SIZE_MAX: the last thing was none */
	struct bmi_str *ret;
	struct bmi_error *err;
};

static int refuse(struct scan *s, const char *what)
{
	return bmi_fail(s->err, -EOPNOTSUPP, "pattern uses %s, which PCRE2 does not read as Oniguruma does",
			what);
}

static bool is_hex(char c)
{
	return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F');
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/*
 * \p{Name}, s->p at the brace. One or two letters are a general category, "Alphabetic" and the like a
 * property, else a script.
 */
static int property(struct scan *s, char p)
{
	const char *name = s->p + 1, *close = s->p < s->end ? memchr(s->p, '}', (size_t)(s->end - s->p)) : NULL;
	bool negate = p == 'P';
	size_t n;

	if (!close || *s->p != '{')
		return refuse(s, "\\p without {}");
	if (name < close && *name == '^') {
		negate = !negate;
		name++;
	}
	n = (size_t)(close - name);
	if (!n || n > 32)
		return refuse(s, "\\p{} with no name or a very long one");
	for (size_t i = 0; i < n; i++)
		if (!((name[i] | 32) >= 'a' && (name[i] | 32) <= 'z') && name[i] != '_')
			return refuse(s, "\\p{} with a name that is not letters");
	s->p = close + 1;
	if (n == 5 && (!strncmp(name, "Space", 5) || !strncmp(name, "space", 5)))
		return refuse(s, "\\p{Space}");
	return bmi_str_printf(s->ret, "\\%c{%s%.*s}", negate ? 'P' : 'p',
			      n <= 2 || (n == 10 && !strncmp(name, "Alphabetic", 10)) ? "" : "sc:", (int)n,
			      name);
}

/* \uHHHH */
static int four_hex(struct scan *s)
{
	if (s->end - s->p < 4 || !is_hex(s->p[0]) || !is_hex(s->p[1]) || !is_hex(s->p[2]) || !is_hex(s->p[3]))
		return refuse(s, "\\u without four digits");
	s->p += 4;
	return bmi_str_printf(s->ret, "\\x{%.4s}", s->p - 4);
}

/* \xHH or \x{H...} */
static int hex(struct scan *s)
{
	const bool braces = s->p < s->end && *s->p == '{';
	const char *from = s->p + braces;
	const char *p = from;

	while (p < s->end && p < from + (braces ? 8 : 2) && is_hex(*p))
		p++;
	if (p == from || (braces && (p == s->end || *p != '}')))
		return refuse(s, "\\x without digits");
	s->p = p + braces;
	return bmi_str_printf(s->ret, "\\x{%.*s}", (int)(p - from), from);
}

/* A shorthand set: bare inside a set, else in brackets. */
static int put_set(struct scan *s, const char *set, const char *negated, const char *name)
{
	if (s->in_set)
		return set ? bmi_str_puts(s->ret, set) : refuse(s, name);
	return set && !negated ? bmi_str_printf(s->ret, "[%s]", set) : bmi_str_printf(s->ret, "[^%s]", negated);
}

static int escape(struct scan *s)
{
	const char c = s->p < s->end ? *s->p++ : 0;

	switch (c) {
	case 's':
		return put_set(s, SPACE, NULL, NULL);
	case 'S':
		return s->in_set ? bmi_str_puts(s->ret, NO_SPACE) : bmi_str_puts(s->ret, "[^" SPACE "]");
	case 'w':
		return put_set(s, s->in_set ? SET_WORD : WORD, NULL, NULL);
	case 'W':
		return put_set(s, NULL, WORD, "\\W in a set");
	case 'h':
		return put_set(s, HEX, NULL, NULL);
	case 'H':
		return put_set(s, NULL, HEX, "\\H in a set");
	case 'b':
		if (s->in_set)
			return refuse(s, "\\b in a set");
		return bmi_str_puts(s->ret,
				    "(?:(?<=[" WORD "])(?![" WORD "])|(?<![" WORD "])(?=[" WORD "]))");
	case 'p':
	case 'P':
		return property(s, c);
	case 'u':
		return four_hex(s);
	case 'x':
		return hex(s);
	case 'A':
	case 'z':
	case 'Z':
		if (s->in_set)
			return refuse(s, "an anchor in a set");
		return bmi_str_printf(s->ret, "\\%c", c);
	case 'd':
	case 'D':
	case 't':
	case 'n':
	case 'r':
	case 'f':
	case 'v':
	case 'a':
	case 'e':
		if (c == 'v') /* Ruby: the one character; PCRE2: all vertical space */
			return bmi_str_puts(s->ret, "\\x{b}");
		return bmi_str_printf(s->ret, "\\%c", c);
	default:
		if (c && (unsigned char)c < 0x80 && !is_digit(c) && !((c | 32) >= 'a' && (c | 32) <= 'z'))
			return bmi_str_printf(s->ret, "\\%c", c);
		if ((unsigned char)c >= 0x80) /* an escaped letter of some other script is itself */
			return bmi_str_put(s->ret, &c, 1);
		return bmi_fail(s->err, -EOPNOTSUPP, "pattern uses the escape \\%c, which is not supported",
				c ? c : ' ');
	}
}

/* [ ... ], s->p behind the bracket. */
static int set(struct scan *s)
{
	int r = bmi_str_puts(s->ret, "[");

	s->in_set = true;
	if (s->p < s->end && *s->p == '^')
		r = bmi_str_put(s->ret, s->p++, 1);
	if (s->p < s->end && *s->p == ']')
		return refuse(s, "] as the first of a set");
	while (r == 0 && s->p < s->end && *s->p != ']') {
		const char c = *s->p++;

		if (c == '[')
			r = refuse(s, "[ in a set");
		else if (c == '&' && s->p < s->end && *s->p == '&')
			r = refuse(s, "&& in a set");
		else
			r = c == '\\' ? escape(s) : bmi_str_put(s->ret, &c, 1);
	}
	if (r < 0)
		return r;
	if (s->p == s->end)
		return refuse(s, "a set that does not end");
	s->p++;
	s->in_set = false;
	return bmi_str_puts(s->ret, "]");
}

/* What follows "(?", up to and with the ':' or ')' of options, or the kind of a group. */
static int group(struct scan *s)
{
	static const char *const plain[] = { ":", "=", "!", ">", "<=", "<!" };

	for (size_t i = 0; i < sizeof(plain) / sizeof(plain[0]); i++) {
		const size_t n = strlen(plain[i]);

		if ((size_t)(s->end - s->p) >= n && !memcmp(s->p, plain[i], n)) {
			s->p += n;
			return bmi_str_puts(s->ret, plain[i]);
		}
	}
	while (s->p < s->end) {
		const char c = *s->p++;
		const char as = c == 'm' ? 's' : c; /* Ruby's m: the dot takes newlines too */

		if (!strchr("im-:)", c) || !c)
			break;
		if (bmi_str_put(s->ret, &as, 1) < 0)
			return -ENOMEM;
		if (c == ':' || c == ')')
			return 0;
	}
	return refuse(s, "a group that begins with (? and is not (?: (?= (?! (?<= (?<! (?> (?i) or (?m)");
}

/* "{" outside a set: {n}, {n,}, {,m}, {n,m}; else a brace. */
static int brace(struct scan *s)
{
	const char *p = s->p;
	int n_low = 0, n_high = 0;

	for (; p < s->end && is_digit(*p); p++)
		n_low++;
	if (p < s->end && *p == ',')
		for (p++; p < s->end && is_digit(*p); p++)
			n_high++;
	if (p == s->end || *p != '}' || (!n_low && !n_high))
		return bmi_str_puts(s->ret, "\\{");
	if (bmi_str_printf(s->ret, "{%s%.*s}", n_low ? "" : "0", (int)(p - s->p), s->p) < 0)
		return -ENOMEM;
	s->p = p + 1;
	s->last_interval = s->ret->n;
	return 0;
}

int bmi_tok_onig_translate(const char *pattern, size_t n, struct bmi_str *ret, struct bmi_error *err)
{
	struct scan s = { pattern, pattern + n, false, SIZE_MAX, ret, err };
	int r = 0;

	while (r == 0 && s.p < s.end) {
		const char c = *s.p++;

		switch (c) {
		case '\\':
			r = escape(&s);
			break;
		case '[':
			r = set(&s);
			break;
		case '{':
			r = brace(&s);
			break;
		case '(':
			r = bmi_str_puts(ret, "(");
			if (r == 0 && s.p < s.end && *s.p == '?') {
				s.p++;
				r = bmi_str_puts(ret, "?");
				if (r == 0)
					r = group(&s);
			} else if (r == 0 && s.p < s.end && *s.p == '*') {
				r = refuse(&s, "(*");
			}
			break;
		case '+':
			/* Ruby's x{1,3}+ repeats the interval; PCRE2 would make it possessive */
			r = s.last_interval == ret->n ? refuse(&s, "{n,m}+") : bmi_str_puts(ret, "+");
			break;
		default:
			r = bmi_str_put(ret, &c, 1);
		}
	}
	if (r == -ENOMEM)
		return bmi_fail(err, -ENOMEM, "no memory for a pattern");
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns how a template is cut into tokens: tags, the white space around them, literals. Knows no grammar.
 * Follows Jinja2's lexer with trim_blocks and lstrip_blocks set: line ends become \n, one at the end of the text goes.
 * Invariant: every step moves on by at least one byte, so the cost is linear in the text.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct lex {
	struct bmi_arena *arena;
	char *s;
	size_t n, at;
	unsigned line;
	size_t line_at; /* line is that of this offset */
	bool lstrip_next;
	struct bmi_jinja_token *tok;
	size_t n_tok, cap_tok;
	struct bmi_error *err;
};

static unsigned line_of(struct lex *l, size_t at)
{
	for (; l->line_at < at; l->line_at++)
		l->line += l->s[l->line_at] == '\n';
	return l->line;
}

static struct bmi_jinja_token *emit(struct lex *l, enum bmi_jinja_tok type, size_t at, const char *s, size_t n)
{
	struct bmi_jinja_token *t;

	if (l->n_tok == l->cap_tok) {
		const size_t cap = l->cap_tok ? 2 * l->cap_tok : 64;

		t = bmi_arena_array(l->arena, cap, sizeof(*t));
		if (!t) {
			bmi_fail(l->err, -ENOMEM, "the tokens of a template");
			return NULL;
		}
		if (l->n_tok)
			memcpy(t, l->tok, l->n_tok * sizeof(*t));
		l->tok = t;
		l->cap_tok = cap;
	}
	t = &l->tok[l->n_tok++];
	*t = (struct bmi_jinja_token){ .type = type, .line = line_of(l, at), .s = s, .n = n };
	return t;
}

static bool has(const struct lex *l, size_t at, const char *what)
{
	const size_t n = strlen(what);

	return l->n - at >= n && !memcmp(l->s + at, what, n);
}

static bool is_blank(char c)
{
	return c == ' ' || (c >= '\t' && c <= '\r');
}

static size_t skip_blank(const struct lex *l, size_t at)
{
	while (at < l->n && is_blank(l->s[at]))
		at++;
	return at;
}

/* Text from l->at to the tag at @end: what its sign, or lstrip_blocks, leaves of it. */
static int put_data(struct lex *l, size_t end, char sign, bool is_var)
{
	const char *s = l->s + l->at;
	size_t n = end - l->at;

	if (sign == '-') {
		bmi_py_strip(&s, &n, NULL, 2);
	} else if (sign != '+' && !is_var) {
		size_t from = n;

		while (from && s[from - 1] != '\n' && is_blank(s[from - 1]))
			from--;
		if (from ? s[from - 1] == '\n' : (l->at == 0 || l->s[l->at - 1] == '\n'))
			n = from;
	}
	if (n && !emit(l, BMI_JT_DATA, l->at, s, n))
		return -ENOMEM;
	return 0;
}

/* Behind a tag whose end is at @at: `-%}`, `+%}` or `%}`, @close being the two last bytes. */
static size_t after_tag(const struct lex *l, size_t at, const char *close, bool trim)
{
	const char sign = l->s[at];

	at += (sign == '-' || sign == '+') + strlen(close);
	if (sign == '-')
		return skip_blank(l, at);
	if (sign != '+' && trim && at < l->n && l->s[at] == '\n')
		at++;
	return at;
}

static bool at_close(const struct lex *l, size_t at, const char *close, bool plus)
{
	return has(l, at, close) ||
	       (at < l->n && (l->s[at] == '-' || (plus && l->s[at] == '+')) && has(l, at + 1, close));
}

static int lex_comment(struct lex *l, size_t start)
{
	size_t at = start + 2 + (has(l, start + 2, "-") || has(l, start + 2, "+"));

	while (at < l->n && !at_close(l, at, "#}", true))
		at++;
	if (at >= l->n)
		return bmi_fail(l->err, -EINVAL, "line %u: a comment is not closed", line_of(l, start));
	l->at = after_tag(l, at, "#}", true);
	return 0;
}

/* `{% raw %}` at @start? Then everything up to `{% endraw %}` is text. */
static int lex_raw(struct lex *l, size_t start, bool *ret_is)
{
	size_t at = start + 2;

	at = skip_blank(l, at + (has(l, at, "-") || has(l, at, "+")));
	*ret_is = has(l, at, "raw");
	at = skip_blank(l, at + (*ret_is ? 3 : 0));
	*ret_is = *ret_is && (has(l, at, "%}") || has(l, at, "-%}"));
	if (!*ret_is)
		return 0;
	l->at = after_tag(l, at, "%}", false);
	if (l->at == l->n) /* as Jinja2: nothing is left that would have to be closed */
		return 0;
	for (at = l->at; at < l->n; at++) {
		size_t end = at + 2;
		char sign;

		if (!has(l, at, "{%"))
			continue;
		sign = l->s[end];
		end = skip_blank(l, end + (sign == '-' || sign == '+'));
		if (!has(l, end, "endraw"))
			continue;
		end = skip_blank(l, end + 6);
		if (!at_close(l, end, "%}", true))
			continue;
		if (put_data(l, at, sign, false) < 0)
			return -ENOMEM;
		l->at = after_tag(l, end, "%}", true);
		return 0;
	}
	return bmi_fail(l->err, -EINVAL, "line %u: a raw block is not closed", line_of(l, start));
}

static int hex_value(struct lex *l, size_t at, unsigned n, uint32_t *ret)
{
	uint32_t v = 0;

	for (unsigned i = 0; i < n; i++) {
		const char c = at + i < l->n ? l->s[at + i] : 0;
		const int d = c >= '0' && c <= '9'   ? c - '0'
			      : c >= 'a' && c <= 'f' ? c - 'a' + 10
			      : c >= 'A' && c <= 'F' ? c - 'A' + 10
						     : -1;

		if (d < 0)
			return bmi_fail(l->err, -EINVAL, "line %u: a broken escape in a string",
					line_of(l, at));
		v = v << 4 | (unsigned)d;
	}
	if (v > 0x10ffff || (v >= 0xd800 && v < 0xe000 && !BMI_PLANTED_JINJA))
		return bmi_fail(l->err, -EOPNOTSUPP, "line %u: the escape of half a character in a string",
				line_of(l, at));
	*ret = v;
	return 0;
}

/* The escape whose backslash is at *io_at, as Python reads it. */
static int lex_escape(struct lex *l, size_t *io_at, char *dst, size_t *io_n)
{
	static const char from[] = "abfnrtv\\'\"", to[] = "\a\b\f\n\r\t\v\\'\"";
	const char c = l->s[*io_at + 1];
	const char *p = c ? strchr(from, c) : NULL;
	const unsigned n_hex = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
	uint32_t v = 0;

	if (p) {
		dst[(*io_n)++] = to[p - from];
	} else if (n_hex) {
		const int r = hex_value(l, *io_at + 2, n_hex, &v);

		if (r < 0)
			return r;
		*io_n += bmi_tok_utf8_put(dst + *io_n, v);
	} else if (c >= '0' && c <= '7') {
		size_t at = *io_at + 1;

		for (unsigned i = 0; i < 3 && l->s[at] >= '0' && l->s[at] <= '7'; i++)
			v = v << 3 | (uint32_t)(l->s[at++] - '0');
		*io_n += bmi_tok_utf8_put(dst + *io_n, v);
		*io_at = at;
		return 0;
	} else if (c == 'N') {
		return bmi_fail(l->err, -EOPNOTSUPP, "line %u: the escape \\N in a string", line_of(l, *io_at));
	} else if (c != '\n') {
		dst[(*io_n)++] = '\\';
		dst[(*io_n)++] = c;
	}
	*io_at += 2 + n_hex;
	return 0;
}

static int lex_string(struct lex *l)
{
	const size_t start = l->at;
	const char quote = l->s[start];
	size_t end = start + 1, n = 0;
	char *dst;

	while (end < l->n && l->s[end] != quote)
		end += l->s[end] == '\\' && end + 1 < l->n ? 2 : 1;
	if (end >= l->n)
		return bmi_fail(l->err, -EINVAL, "line %u: a string is not closed", line_of(l, start));
	dst = bmi_arena_alloc(l->arena, end - start + 4);
	if (!dst)
		return bmi_fail(l->err, -ENOMEM, "a string of a template");
	for (size_t at = start + 1; at < end;) {
		if (l->s[at] != '\\') {
			dst[n++] = l->s[at++];
		} else {
			const int r = lex_escape(l, &at, dst, &n);

			if (r < 0)
				return r;
		}
	}
	l->at = end + 1;
	return emit(l, BMI_JT_STRING, start, dst, n) ? 0 : -ENOMEM;
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* Decimal numbers; `_` between digits is dropped as in Python. */
static int lex_number(struct lex *l)
{
	const size_t start = l->at;
	size_t at = start, n = 0;
	struct bmi_jinja_token *t;
	bool is_float = false;
	char text[64];

	for (;; at++) {
		const char c = at < l->n ? l->s[at] : 0, d = at + 1 < l->n ? l->s[at + 1] : 0;

		if (c == '_' && is_digit(d))
			continue;
		if ((c == '.' && is_digit(d) && !is_float) ||
		    ((c == 'e' || c == 'E') &&
		     (is_digit(d) || ((d == '-' || d == '+') && at + 2 < l->n && is_digit(l->s[at + 2])))))
			is_float = true;
		else if (!is_digit(c) &&
			 !(is_float && (c == '-' || c == '+') && (l->s[at - 1] == 'e' || l->s[at - 1] == 'E')))
			break;
		if (n + 1 >= sizeof(text))
			return bmi_fail(l->err, -EOPNOTSUPP, "line %u: a number of more than 62 digits",
					line_of(l, start));
		text[n++] = c;
	}
	text[n] = 0;
	if (text[0] == '0' && n > 1 && !is_float && strspn(text, "0") != n)
		return bmi_fail(l->err, -EINVAL, "line %u: a number with a leading zero", line_of(l, start));
	if (text[0] == '0' && n == 1 && at < l->n && strchr("xXoObB", l->s[at]))
		return bmi_fail(l->err, -EOPNOTSUPP, "line %u: a number that is not decimal",
				line_of(l, start));
	t = emit(l, is_float ? BMI_JT_FLOAT : BMI_JT_INT, start, l->s + start, at - start);
	if (!t)
		return -ENOMEM;
	errno = 0;
	if (is_float)
		t->f = strtod(text, NULL);
	else
		t->i = strtoll(text, NULL, 10);
	if (!is_float && errno)
		return bmi_fail(l->err, -EOPNOTSUPP, "line %u: a number past 64 bits", line_of(l, start));
	l->at = at;
	return 0;
}

static bool is_name(char c, bool first)
{
	return c == '_' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (!first && is_digit(c));
}

static int lex_op(struct lex *l, unsigned *nest)
{
	static const char *const ops[] = { "==", "!=", ">=", "<=", "//", "**", "+", "-", "*",
					   "/",  "%",  "~",  "(",  ")",  "[",  "]", "{", "}",
					   "<",  ">",  "=",  ".",  ":",  "|",  ",", ";" };

	for (size_t i = 0; i < BMI_ARRAY_LEN(ops); i++) {
		if (!has(l, l->at, ops[i]))
			continue;
		if (strchr("([{", ops[i][0]))
			(*nest)++;
		if (strchr(")]}", ops[i][0]) && (*nest)-- == 0)
			return bmi_fail(l->err, -EINVAL, "line %u: unexpected '%s'", line_of(l, l->at), ops[i]);
		if (!emit(l, BMI_JT_OP, l->at, ops[i], strlen(ops[i])))
			return -ENOMEM;
		l->at += strlen(ops[i]);
		return 0;
	}
	return bmi_fail(l->err, -EINVAL, "line %u: unexpected byte 0x%02x", line_of(l, l->at),
			(unsigned)(unsigned char)l->s[l->at]);
}

/* The inside of a tag, from l->at to behind its end. */
static int lex_tag(struct lex *l, const char *close, bool is_var)
{
	const size_t start = l->at;
	unsigned nest = 0;
	int r = 0;

	while (r == 0) {
		l->at = skip_blank(l, l->at);
		if (l->at >= l->n)
			return bmi_fail(l->err, -EINVAL, "line %u: a tag is not closed with '%s'",
					line_of(l, start), close);
		if (!nest && at_close(l, l->at, close, !is_var)) {
			if (!emit(l, is_var ? BMI_JT_VAR_END : BMI_JT_BLOCK_END, l->at, close, 2))
				return -ENOMEM;
			l->at = after_tag(l, l->at, close, !is_var);
			return 0;
		}
		if (l->s[l->at] == '"' || l->s[l->at] == '\'') {
			r = lex_string(l);
		} else if (is_digit(l->s[l->at])) {
			r = lex_number(l);
		} else if (is_name(l->s[l->at], true)) {
			const size_t at = l->at;
			const char *name;

			while (l->at < l->n && is_name(l->s[l->at], false))
				l->at++;
			name = bmi_arena_strndup(l->arena, l->s + at, l->at - at);
			if (!name || !emit(l, BMI_JT_NAME, at, name, l->at - at))
				return bmi_fail(l->err, -ENOMEM, "a name of a template");
		} else {
			r = lex_op(l, &nest);
		}
	}
	return r;
}

static int lex_text(struct lex *l)
{
	size_t at = l->at;
	bool is_var, is_raw = false;
	int r;

	while (at < l->n && !(l->s[at] == '{' && at + 1 < l->n && strchr("{%#", l->s[at + 1]) && l->s[at + 1]))
		at++;
	is_var = at < l->n && l->s[at + 1] == '{';
	r = at < l->n ? put_data(l, at, l->s[at + 2], is_var)
	    : (l->n > l->at && !emit(l, BMI_JT_DATA, l->at, l->s + l->at, l->n - l->at)) ? -ENOMEM
											 : 0;
	if (r < 0 || at >= l->n) {
		l->at = l->n;
		return r;
	}
	if (l->s[at + 1] == '#')
		return lex_comment(l, at);
	if (!is_var)
		r = lex_raw(l, at, &is_raw);
	if (r < 0 || is_raw)
		return r;
	if (!emit(l, is_var ? BMI_JT_VAR_BEGIN : BMI_JT_BLOCK_BEGIN, at, l->s + at, 2))
		return -ENOMEM;
	l->at = at + 2;
	if (l->at < l->n && (l->s[l->at] == '-' || l->s[l->at] == '+'))
		l->at++;
	return lex_tag(l, is_var ? "}}" : "%}", is_var);
}

int bmi_jinja_lex(struct bmi_arena *arena, const char *text, size_t n, struct bmi_jinja_token **ret,
		  size_t *ret_n, struct bmi_error *err)
{
	struct lex l = { .arena = arena, .line = 1, .err = err };
	int r = 0;

	l.s = bmi_arena_alloc(arena, n + 4); /* zeros behind the text: looking three bytes ahead is safe */
	if (!l.s)
		return bmi_fail(err, -ENOMEM, "a template of %zu bytes", n);
	for (size_t i = 0; i < n; i++) {
		if (text[i] == '\r' && i + 1 < n && text[i + 1] == '\n')
			continue;
		l.s[l.n++] = text[i] == '\r' ? '\n' : text[i];
	}
	if (l.n && l.s[l.n - 1] == '\n')
		l.s[--l.n] = 0;
	while (r == 0 && l.at < l.n)
		r = lex_text(&l);
	if (r == 0 && !emit(&l, BMI_JT_EOF, l.n, "", 0))
		r = -ENOMEM;
	if (r < 0)
		return r;
	*ret = l.tok;
	*ret_n = l.n_tok;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns how values become text: Python's str() and repr(), and json.dumps() as Transformers' tojson calls it.
 * Invariant: output is counted as steps while it grows, and nesting is bounded by x->depth.
 */
#include "token/jinja_priv.h"
#include "token/utf8.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <utf8proc.h>

/* Python's repr of a float: the fewest digits that give it back, an exponent outside 1e-4 .. 1e16. */
int bmi_jx_put_float(struct bmi_str *s, double f)
{
	char text[40], digits[24];
	int exp = 0, n = 0;
	char *e;

	if (isnan(f) || isinf(f))
		return bmi_str_puts(s, isnan(f) ? "nan" : f < 0 ? "-inf" : "inf");
	for (int prec = 0; prec < 17; prec++) {
		snprintf(text, sizeof(text), "%.*e", prec, f);
		if (strtod(text, NULL) == f)
			break;
	}
	e = strchr(text, 'e');
	exp = atoi(e + 1);
	for (const char *c = text; c < e; c++)
		if (*c >= '0' && *c <= '9')
			digits[n++] = *c;
	if (signbit(f))
		bmi_str_puts(s, "-");
	if (exp >= 16 || exp < -4) {
		bmi_str_put(s, digits, 1);
		if (n > 1)
			bmi_str_printf(s, ".%.*s", n - 1, digits + 1);
		return bmi_str_printf(s, "e%c%02d", exp < 0 ? '-' : '+', exp < 0 ? -exp : exp);
	}
	if (exp < 0) {
		bmi_str_puts(s, "0.");
		for (int i = -1; i > exp; i--)
			bmi_str_puts(s, "0");
		return bmi_str_put(s, digits, (size_t)n);
	}
	for (int i = 0; i < n || i <= exp; i++) {
		if (i == exp + 1)
			bmi_str_puts(s, ".");
		bmi_str_put(s, i < n ? &digits[i] : "0", 1);
	}
	return n <= exp + 1 ? bmi_str_puts(s, ".0") : 0;
}

static bool is_printable(uint32_t c)
{
	const utf8proc_category_t cat = utf8proc_category((utf8proc_int32_t)c);

	return c == ' ' ||
	       !(cat == UTF8PROC_CATEGORY_CN || cat == UTF8PROC_CATEGORY_CC || cat == UTF8PROC_CATEGORY_CF ||
		 cat == UTF8PROC_CATEGORY_CS || cat == UTF8PROC_CATEGORY_CO || cat == UTF8PROC_CATEGORY_ZL ||
		 cat == UTF8PROC_CATEGORY_ZP || cat == UTF8PROC_CATEGORY_ZS);
}

static void repr_str(struct bmi_str *s, const char *p, size_t n)
{
	const char quote = memchr(p, '\'', n) && !memchr(p, '"', n) ? '"' : '\'';
	unsigned len;

	bmi_str_put(s, &quote, 1);
	for (size_t i = 0; i < n; i += len) {
		const uint32_t c = bmi_tok_utf8_get(p + i, &len);

		if (c == (uint32_t)quote || c == '\\')
			bmi_str_printf(s, "\\%c", (int)c);
		else if (c == '\n' || c == '\r' || c == '\t')
			bmi_str_puts(s, c == '\n' ? "\\n" : c == '\r' ? "\\r" : "\\t");
		else if (is_printable(c))
			bmi_str_put(s, p + i, len);
		else
			bmi_str_printf(s, c < 0x100 ? "\\x%02x" : c < 0x10000 ? "\\u%04x" : "\\U%08x", c);
	}
	bmi_str_put(s, &quote, 1);
}

static int repr(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *s);

static int repr_list(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *s)
{
	const bool tuple = v->kind == BMI_JV_TUPLE;
	int r = 0;

	if (v->kind == BMI_JV_ITER || v->kind == BMI_JV_RANGE || v->kind == BMI_JV_VIEW)
		return bmi_jx_fail(x, -EOPNOTSUPP, "printing a %s", bmi_jv_type(v));
	bmi_str_puts(s, tuple ? "(" : "[");
	for (size_t i = 0; r == 0 && i < v->list->n; i++) {
		if (i)
			bmi_str_puts(s, ", ");
		r = repr(x, &v->list->at[i], s);
	}
	bmi_str_puts(s, !tuple ? "]" : v->list->n == 1 ? ",)" : ")");
	return r;
}

static int repr_inner(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *s)
{
	int r = 0;

	switch (v->kind) {
	case BMI_JV_UNDEF:
		return bmi_str_puts(s, "Undefined");
	case BMI_JV_NONE:
		return bmi_str_puts(s, "None");
	case BMI_JV_BOOL:
		return bmi_str_puts(s, v->b ? "True" : "False");
	case BMI_JV_INT:
		return bmi_str_printf(s, "%" PRId64, v->i);
	case BMI_JV_FLOAT:
		return bmi_jx_put_float(s, v->f);
	case BMI_JV_STR:
		if (v->safe)
			return bmi_jx_fail(x, -EOPNOTSUPP, "printing a safe string inside of another value");
		repr_str(s, v->s, v->n);
		return bmi_jx_step(x, v->n);
	case BMI_JV_DICT:
		bmi_str_puts(s, "{");
		for (size_t i = 0; r == 0 && i < v->dict->n; i++) {
			if (i)
				bmi_str_puts(s, ", ");
			r = repr(x, &v->dict->keys[i], s);
			bmi_str_puts(s, ": ");
			if (r == 0)
				r = repr(x, &v->dict->values[i], s);
		}
		bmi_str_puts(s, "}");
		return r;
	default:
		if (bmi_jv_is_list(v))
			return repr_list(x, v, s);
		return bmi_jx_fail(x, -EOPNOTSUPP, "printing a %s", bmi_jv_type(v));
	}
}

static int repr(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *s)
{
	int r = bmi_jx_step(x, 0);

	if (r == 0 && ++x->depth > BMI_JINJA_RUN_DEPTH_MAX)
		r = bmi_jx_fail(x, -E2BIG, "values nested more than %d deep", BMI_JINJA_RUN_DEPTH_MAX);
	if (r == 0 && s->n > BMI_JINJA_OUTPUT_MAX)
		r = bmi_jx_fail(x, -E2BIG, "a text of more than %d bytes", BMI_JINJA_OUTPUT_MAX);
	if (r == 0) {
		r = repr_inner(x, v, s);
		x->depth--;
	}
	return r;
}

int bmi_jx_print(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_str *ret)
{
	if (v->kind == BMI_JV_UNDEF)
		return 0;
	if (v->kind != BMI_JV_STR)
		return repr(x, v, ret);
	if (ret->n + v->n > BMI_JINJA_OUTPUT_MAX)
		return bmi_jx_fail(x, -E2BIG, "a text of more than %d bytes", BMI_JINJA_OUTPUT_MAX);
	bmi_str_put(ret, v->s, v->n);
	return bmi_jx_step(x, v->n);
}

int bmi_jx_to_str(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	int r;

	if (v->kind == BMI_JV_STR) {
		*ret = *v;
		return 0;
	}
	r = bmi_jx_print(x, v, &s);
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

int bmi_jx_escape(struct bmi_jinja_run *x, const struct bmi_jv *v, struct bmi_jv *ret)
{
	bmi_auto_str s = { 0 };
	struct bmi_jv text;
	int r = bmi_jx_to_str(x, v, &text);

	for (size_t i = 0; r == 0 && !text.safe && i < text.n; i++) {
		const char c = text.s[i];

		if (c == '&' || c == '<' || c == '>' || c == '"' || c == '\'')
			bmi_str_puts(&s, c == '&'   ? "&amp;"
					 : c == '<' ? "&lt;"
					 : c == '>' ? "&gt;"
					 : c == '"' ? "&#34;"
						    : "&#39;");
		else
			bmi_str_put(&s, &c, 1);
	}
	if (r == 0 && text.safe)
		*ret = text;
	else if (r == 0)
		r = bmi_jx_take(x, &s, ret);
	ret->safe = true;
	return r;
}

struct dump {
	bool ascii, sorted;
	const char *indent; /* NULL: on one line */
	size_t n_indent;
	const char *item, *key; /* separators */
	size_t n_item, n_key;
};

static void dump_str(const struct dump *d, const char *p, size_t n, struct bmi_str *s)
{
	static const char from[] = "\"\\\n\r\t\f\b", to[] = "\"\\nrtfb";
	unsigned len;

	bmi_str_puts(s, "\"");
	for (size_t i = 0; i < n; i += len) {
		const uint32_t c = bmi_tok_utf8_get(p + i, &len);
		const char *esc = c && c < 0x80 ? strchr(from, (int)c) : NULL;

		if (esc)
			bmi_str_printf(s, "\\%c", to[esc - from]);
		else if (c < 0x20 || (d->ascii && c > 0x7e && c < 0x10000))
			bmi_str_printf(s, "\\u%04x", c);
		else if (d->ascii && c >= 0x10000)
			bmi_str_printf(s, "\\u%04x\\u%04x", 0xd7c0 + (c >> 10), 0xdc00 + (c & 0x3ff));
		else
			bmi_str_put(s, p + i, len);
	}
	bmi_str_puts(s, "\"");
}

static void dump_line(const struct dump *d, unsigned level, struct bmi_str *s)
{
	if (!d->indent)
		return;
	bmi_str_puts(s, "\n");
	while (level--)
		bmi_str_put(s, d->indent, d->n_indent);
}

static int dump(struct bmi_jinja_run *x, const struct dump *d, const struct bmi_jv *v, unsigned level,
		struct bmi_str *s);

static int dump_key(struct bmi_jinja_run *x, const struct dump *d, const struct bmi_jv *k, struct bmi_str *s)
{
	int r = 0;

	if (k->kind == BMI_JV_STR) {
		dump_str(d, k->s, k->n, s);
	} else if (k->kind == BMI_JV_NONE || k->kind == BMI_JV_BOOL || k->kind == BMI_JV_INT ||
		   k->kind == BMI_JV_FLOAT) {
		bmi_str_puts(s, "\"");
		r = dump(x, d, k, 0, s);
		bmi_str_puts(s, "\"");
	} else {
		r = bmi_jx_fail(x, -EINVAL, "tojson of a dict with a %s as key", bmi_jv_type(k));
	}
	bmi_str_put(s, d->key, d->n_key);
	return r;
}

static int dump_many(struct bmi_jinja_run *x, const struct dump *d, const struct bmi_jv *v, unsigned level,
		     struct bmi_str *s)
{
	const bool dict = v->kind == BMI_JV_DICT;
	const size_t n = dict ? v->dict->n : v->list->n;
	struct bmi_jv *keys = NULL, *values = dict ? v->dict->values : v->list->at;
	int r = 0;

	if (dict && d->sorted && n) {
		r = bmi_jx_alloc(x, n * sizeof(*keys), &keys);
		if (r == 0)
			r = bmi_jx_alloc(x, n * sizeof(*keys), &values);
		if (r < 0)
			return r;
		memcpy(keys, v->dict->keys, n * sizeof(*keys));
		memcpy(values, v->dict->values, n * sizeof(*keys));
		r = bmi_jx_sort(x, keys, values, n, false);
	} else if (dict) {
		keys = v->dict->keys;
	}
	bmi_str_puts(s, dict ? "{" : "[");
	for (size_t i = 0; r == 0 && i < n; i++) {
		if (i)
			bmi_str_put(s, d->item, d->n_item);
		dump_line(d, level + 1, s);
		if (dict)
			r = dump_key(x, d, &keys[i], s);
		if (r == 0)
			r = dump(x, d, &values[i], level + 1, s);
	}
	if (n)
		dump_line(d, level, s);
	bmi_str_puts(s, dict ? "}" : "]");
	return r;
}

static int dump(struct bmi_jinja_run *x, const struct dump *d, const struct bmi_jv *v, unsigned level,
		struct bmi_str *s)
{
	int r = bmi_jx_step(x, d->n_indent * level + (v->kind == BMI_JV_STR ? v->n : 0));

	if (r < 0)
		return r;
	if (level > BMI_JINJA_DEPTH_MAX)
		return bmi_jx_fail(x, -E2BIG, "tojson of values nested more than %d deep", BMI_JINJA_DEPTH_MAX);
	if (s->n > BMI_JINJA_OUTPUT_MAX)
		return bmi_jx_fail(x, -E2BIG, "a text of more than %d bytes", BMI_JINJA_OUTPUT_MAX);
	switch (v->kind) {
	case BMI_JV_NONE:
		return bmi_str_puts(s, "null");
	case BMI_JV_BOOL:
		return bmi_str_puts(s, v->b ? "true" : "false");
	case BMI_JV_INT:
		return bmi_str_printf(s, "%" PRId64, v->i);
	case BMI_JV_FLOAT:
		if (isnan(v->f) || isinf(v->f))
			return bmi_str_puts(s, isnan(v->f) ? "NaN" : v->f < 0 ? "-Infinity" : "Infinity");
		return bmi_jx_put_float(s, v->f);
	case BMI_JV_STR:
		dump_str(d, v->s, v->n, s);
		return 0;
	case BMI_JV_LIST:
	case BMI_JV_TUPLE:
	case BMI_JV_DICT:
		return dump_many(x, d, v, level, s);
	default:
		return bmi_jx_fail(x, -EINVAL, "tojson of a %s", bmi_jv_type(v));
	}
}

/* json.dumps(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False), Transformers' chat_template_utils.py */
int bmi_jx_to_json(struct bmi_jinja_run *x, const struct bmi_jv *v, const struct bmi_jv_args *args,
		   struct bmi_jv *ret)
{
	struct dump d = { .item = ", ", .n_item = 2, .key = ": ", .n_key = 2 };
	bmi_auto_str s = { 0 };
	struct bmi_jv a[4], spaces;
	int64_t width = 0;
	int r = bmi_jx_bind(x, args, "ensure_ascii,indent,separators,sort_keys", 0, a);

	if (r < 0)
		return r;
	d.ascii = bmi_jv_true(&a[0]);
	d.sorted = bmi_jv_true(&a[3]);
	if (a[1].kind == BMI_JV_STR) {
		d.indent = a[1].s;
		d.n_indent = a[1].n;
	} else if (a[1].kind != BMI_JV_MISSING && a[1].kind != BMI_JV_NONE) {
		r = bmi_jx_want_int(x, "the indent of tojson", &a[1], 0, &width);
		if (r == 0 && width > 64)
			r = bmi_jx_fail(x, -EOPNOTSUPP, "an indent of %" PRId64 " for tojson", width);
		if (r == 0)
			r = bmi_jx_str(x, "                                                                ",
				       width < 0 ? 0 : (size_t)width, &spaces);
		if (r < 0)
			return r;
		d.indent = spaces.s;
		d.n_indent = spaces.n;
	}
	if (d.indent)
		d.n_item = 1; /* "," at the end of a line */
	if (a[2].kind != BMI_JV_MISSING && a[2].kind != BMI_JV_NONE) {
		const struct bmi_jv_list *l = bmi_jv_is_list(&a[2]) ? a[2].list : NULL;

		if (!l || l->n != 2 || l->at[0].kind != BMI_JV_STR || l->at[1].kind != BMI_JV_STR)
			return bmi_jx_fail(x, -EINVAL, "the separators of tojson are not two strings");
		d.item = l->at[0].s;
		d.n_item = l->at[0].n;
		d.key = l->at[1].s;
		d.n_key = l->at[1].n;
	}
	r = dump(x, &d, v, 0, &s);
	return r < 0 ? r : bmi_jx_take(x, &s, ret);
}

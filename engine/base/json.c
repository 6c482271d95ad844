/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The only door to yajl. Builds a compact tree in an arena; strings without escapes are not copied. yajl checks the
 * syntax; UTF-8 (yajl lets overlong forms, surrogates and what lies above U+10FFFF pass), depth, duplicate keys and
 * trailing bytes are checked here. Invariant: `open` holds the arrays and objects not closed yet, outermost first.
 */
#include "base/json.h"

#include "base/arena.h"
#include "base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yajl/yajl_parse.h>

enum { MAX_DEPTH = 64, FEW_KEYS = 8 };

struct level {
	struct bmi_json *v, *last;
};

struct bmi_json_doc {
	struct bmi_arena *arena;
	struct bmi_json root;
	bool has_root;
	const char *text; /* lent */
	size_t n_text;
	struct level open[MAX_DEPTH];
	unsigned depth;
	const char *key; /* of the next value */
	uint32_t n_key;
	int code; /* why a callback stopped the parse */
	const char *why;
};

static int stop(struct bmi_json_doc *doc, int code, const char *why)
{
	doc->code = code;
	doc->why = why;
	return 0; /* yajl: cancel */
}

/* Bytes of the sequence that starts at @s (Unicode 15, table 3-7), 0 when it is none. */
static size_t utf8_len(const unsigned char *s, size_t n)
{
	const unsigned char c = s[0];
	const size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
	const unsigned char lo = c == 0xe0   ? 0xa0
				 : c == 0xf0 ? 0x90
					     : 0x80,
			    hi = c == 0xed   ? 0x9f
				 : c == 0xf4 ? 0x8f
					     : 0xbf;

	if (len > n || (len > 1 && (s[1] < lo || s[1] > hi)))
		return 0;
	for (size_t i = 2; i < len; i++)
		if ((s[i] & 0xc0) != 0x80)
			return 0;
	return len;
}

static bool is_utf8(const unsigned char *s, size_t n)
{
	for (size_t i = 0, len; i < n; i += len) {
		len = utf8_len(s + i, n - i);
		if (!len)
			return false;
	}
	return true;
}

/* Bytes that stay: the text's own, or a copy when yajl unescaped into its buffer. */
static const char *keep(struct bmi_json_doc *doc, const void *bytes, size_t n)
{
	const char *s = bytes;

	if (s >= doc->text && s + n <= doc->text + doc->n_text)
		return s;
	return bmi_arena_strndup(doc->arena, s, n);
}

static struct bmi_json *add(struct bmi_json_doc *doc, enum bmi_json_type type)
{
	struct level *up = doc->depth ? &doc->open[doc->depth - 1] : NULL;
	struct bmi_json *v;

	if (!up) {
		v = &doc->root;
		doc->has_root = true;
	} else {
		v = bmi_arena_alloc(doc->arena, sizeof(*v));
		if (!v) {
			stop(doc, -ENOMEM, "no memory");
			return NULL;
		}
		if (up->last)
			up->last->next = v;
		else
			up->v->child = v;
		up->last = v;
		up->v->n++;
	}
	v->type = type;
	v->key = doc->key;
	v->n_key = doc->n_key;
	doc->key = NULL;
	doc->n_key = 0;
	return v;
}

static int on_null(void *ctx)
{
	return add(ctx, BMI_JSON_NULL) != NULL;
}

static int on_bool(void *ctx, int b)
{
	struct bmi_json *v = add(ctx, BMI_JSON_BOOL);

	if (v)
		v->boolean = b;
	return v != NULL;
}

static int on_text(struct bmi_json_doc *doc, enum bmi_json_type type, const void *bytes, size_t n)
{
	struct bmi_json *v = add(doc, type);

	if (!v)
		return 0;
	v->str = keep(doc, bytes, n);
	v->n = (uint32_t)n;
	return v->str ? 1 : stop(doc, -ENOMEM, "no memory");
}

static int on_number(void *ctx, const char *s, size_t n)
{
	return on_text(ctx, BMI_JSON_NUMBER, s, n);
}

static int on_string(void *ctx, const unsigned char *s, size_t n)
{
	if (!is_utf8(s, n))
		return stop(ctx, -EINVAL, "a string is not UTF-8");
	return on_text(ctx, BMI_JSON_STRING, s, n);
}

static int on_key(void *ctx, const unsigned char *s, size_t n)
{
	struct bmi_json_doc *doc = ctx;

	if (!is_utf8(s, n))
		return stop(doc, -EINVAL, "a key is not UTF-8");
	doc->key = keep(doc, s, n);
	doc->n_key = (uint32_t)n;
	return doc->key ? 1 : stop(doc, -ENOMEM, "no memory");
}

static int on_open(struct bmi_json_doc *doc, enum bmi_json_type type)
{
	struct bmi_json *v;

	if (doc->depth == MAX_DEPTH)
		return stop(doc, -EINVAL, "nested deeper than 64");
	v = add(doc, type);
	if (!v)
		return 0;
	doc->open[doc->depth++] = (struct level){ v, NULL };
	return 1;
}

static int on_open_map(void *ctx)
{
	return on_open(ctx, BMI_JSON_OBJECT);
}

static int on_open_array(void *ctx)
{
	return on_open(ctx, BMI_JSON_ARRAY);
}

static bool same_key(const struct bmi_json *a, const struct bmi_json *b)
{
	return a->n_key == b->n_key && memcmp(a->key, b->key, a->n_key) == 0;
}

/* 1: a key comes twice. 0: none does. -ENOMEM. */
static int has_twin(const struct bmi_json *obj)
{
	const struct bmi_json **table;
	size_t size = 16;
	int twin = 0;

	if (obj->n <= FEW_KEYS) {
		for (const struct bmi_json *a = obj->child; a; a = a->next)
			for (const struct bmi_json *b = a->next; b; b = b->next)
				if (same_key(a, b))
					return 1;
		return 0;
	}
	while (size < 2 * (size_t)obj->n)
		size *= 2;
	table = calloc(size, sizeof(const struct bmi_json *));
	if (!table)
		return -ENOMEM;
	for (const struct bmi_json *v = obj->child; v && !twin; v = v->next) {
		/* the address seeds the hash: a file cannot choose keys that collide */
		size_t i = bmi_hash64(v->key, v->n_key, (uintptr_t)table) & (size - 1);

		for (; table[i] && !twin; i = (i + 1) & (size - 1))
			twin = same_key(table[i], v);
		table[i] = v;
	}
	free(table);
	return twin;
}

static int on_close_map(void *ctx)
{
	struct bmi_json_doc *doc = ctx;
	const int twin = has_twin(doc->open[--doc->depth].v);

	if (twin < 0)
		return stop(doc, -ENOMEM, "no memory");
	return twin ? stop(doc, -EINVAL, "a key comes twice in one object") : 1;
}

static int on_close_array(void *ctx)
{
	struct bmi_json_doc *doc = ctx;

	doc->depth--;
	return 1;
}

static const yajl_callbacks callbacks = {
	.yajl_null = on_null,
	.yajl_boolean = on_bool,
	.yajl_number = on_number,
	.yajl_string = on_string,
	.yajl_start_map = on_open_map,
	.yajl_map_key = on_key,
	.yajl_end_map = on_close_map,
	.yajl_start_array = on_open_array,
	.yajl_end_array = on_close_array,
};

static int run(struct bmi_json_doc *doc, struct bmi_error *err)
{
	yajl_handle h = yajl_alloc(&callbacks, /* afs= */ NULL, doc);
	yajl_status st;
	size_t at;

	if (!h)
		return bmi_fail(err, -ENOMEM, "no memory to parse JSON");
	st = yajl_parse(h, (const unsigned char *)doc->text, doc->n_text);
	at = yajl_get_bytes_consumed(h);
	if (st == yajl_status_ok)
		st = yajl_complete_parse(h);
	if (st == yajl_status_client_canceled) {
		bmi_fail(err, doc->code, "JSON, byte %zu: %s", at, doc->why);
	} else if (st != yajl_status_ok || !doc->has_root) {
		unsigned char *why = yajl_get_error(h, /* verbose= */ 0, NULL, 0);

		doc->code = -EINVAL;
		if (why && why[0])
			why[strcspn((char *)why, "\n")] = 0;
		bmi_fail(err, -EINVAL, "JSON, byte %zu: %s", at, why ? (char *)why : "parse error");
		if (why)
			yajl_free_error(h, why);
	}
	yajl_free(h);
	return doc->code;
}

int bmi_json_parse(const char *text, size_t n, struct bmi_json_doc **ret_doc, struct bmi_error *err)
{
	struct bmi_json_doc *doc;
	int r;

	if (n > UINT32_MAX)
		return bmi_fail(err, -EINVAL, "JSON of %zu bytes: more than 4 GiB", n);
	doc = calloc(1, sizeof(*doc));
	if (!doc)
		return bmi_fail(err, -ENOMEM, "no memory to parse JSON");
	doc->arena = bmi_arena_new();
	doc->text = text;
	doc->n_text = n;
	r = doc->arena ? run(doc, err) : bmi_fail(err, -ENOMEM, "no memory to parse JSON");
	if (r < 0)
		bmi_json_free(doc);
	else
		*ret_doc = doc;
	return r;
}

void bmi_json_free(struct bmi_json_doc *doc)
{
	if (doc)
		bmi_arena_free(doc->arena);
	free(doc);
}

const struct bmi_json *bmi_json_root(const struct bmi_json_doc *doc)
{
	return &doc->root;
}

const struct bmi_json *bmi_json_get(const struct bmi_json *v, const char *key)
{
	const size_t n = strlen(key);

	if (!v || v->type != BMI_JSON_OBJECT)
		return NULL;
	for (v = v->child; v; v = v->next)
		if (v->n_key == n && memcmp(v->key, key, n) == 0)
			return v;
	return NULL;
}

bool bmi_json_eq(const struct bmi_json *v, const char *text)
{
	return v && v->type == BMI_JSON_STRING && v->n == strlen(text) && memcmp(v->str, text, v->n) == 0;
}

/* The text of a number as a C string; false when it is no number or too long to be one that we use. */
static bool number_text(const struct bmi_json *v, char buf[64])
{
	if (!v || v->type != BMI_JSON_NUMBER || v->n >= 64)
		return false;
	memcpy(buf, v->str, v->n);
	buf[v->n] = 0;
	return true;
}

bool bmi_json_to_i64(const struct bmi_json *v, int64_t *ret)
{
	char buf[64], *end;
	long long x;

	if (!number_text(v, buf))
		return false;
	errno = 0;
	x = strtoll(buf, &end, 10);
	if (errno || *end)
		return false;
	*ret = x;
	return true;
}

bool bmi_json_to_u64(const struct bmi_json *v, uint64_t *ret)
{
	char buf[64], *end;
	unsigned long long x;

	if (!number_text(v, buf) || buf[0] == '-')
		return false;
	errno = 0;
	x = strtoull(buf, &end, 10);
	if (errno || *end)
		return false;
	*ret = x;
	return true;
}

bool bmi_json_to_double(const struct bmi_json *v, double *ret)
{
	char buf[64];

	if (!number_text(v, buf))
		return false;
	*ret = strtod(buf, NULL);
	return true;
}

bool bmi_json_to_bool(const struct bmi_json *v, bool *ret)
{
	if (!v || v->type != BMI_JSON_BOOL)
		return false;
	*ret = v->boolean;
	return true;
}

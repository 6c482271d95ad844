/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_JSON_H
#define BMI_BASE_JSON_H

#include "base/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum bmi_json_type {
	BMI_JSON_NULL,
	BMI_JSON_BOOL,
	BMI_JSON_NUMBER,
	BMI_JSON_STRING,
	BMI_JSON_ARRAY,
	BMI_JSON_OBJECT
};

/*
 * One value. Members and elements form a list in the order of the text. Everything is lent by the document.
 * Strings are UTF-8, checked, n bytes, not NUL-terminated, and may hold NUL bytes: compare with bmi_json_eq().
 */
struct bmi_json {
	const char *key;        /* in an object; else NULL */
	const char *str;        /* string: its bytes. number: its text */
	struct bmi_json *child; /* array, object: first element */
	struct bmi_json *next;  /* next element of the parent */
	uint32_t n_key, n;      /* bytes of key; bytes of str, or number of elements */
	enum bmi_json_type type : 8;
	bool boolean;
};

struct bmi_json_doc;

/**
 * bmi_json_parse() - a tree from JSON text.
 * @text:     @n bytes; must stay as they are until the document is freed (strings without escapes point into them).
 * @ret_doc:  on success the caller frees it with bmi_json_free(); untouched on failure.
 *
 * Hostile text is expected: depth is at most 64, strings are valid UTF-8, a key that comes twice in one object is
 * refused, nothing may follow the value. Cost: linear in @n (objects of more than 8 keys are checked by a hash table).
 *
 * Return: 0, -EINVAL (not JSON, with where and why), -ENOMEM.
 */
int bmi_json_parse(const char *text, size_t n, struct bmi_json_doc **ret_doc, struct bmi_error *err);
void bmi_json_free(struct bmi_json_doc *doc);

/** bmi_json_root() - the value, lent by the document. */
const struct bmi_json *bmi_json_root(const struct bmi_json_doc *doc);

/** bmi_json_get() - member @key of an object; NULL when @v is NULL, no object, or lacks it. Cost: linear in the members. */
const struct bmi_json *bmi_json_get(const struct bmi_json *v, const char *key);

/** bmi_json_eq() - is @v a string with exactly the bytes of @text? NULL is not. */
bool bmi_json_eq(const struct bmi_json *v, const char *text);

/* Typed access. True and *ret only when @v is there and has just that kind; a fraction or a value out of range is no int. */
bool bmi_json_to_u64(const struct bmi_json *v, uint64_t *ret);
bool bmi_json_to_i64(const struct bmi_json *v, int64_t *ret);
bool bmi_json_to_double(const struct bmi_json *v, double *ret);
bool bmi_json_to_bool(const struct bmi_json *v, bool *ret);

#endif

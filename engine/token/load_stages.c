/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The normalizers and pre-tokenizers of tokenizer.json as flat rows of stages: sequences in sequences are
 * unfolded, and what the peer does in one object (ByteLevel, Metaspace) becomes the two or three stages it
 * is made of. Invariant: a stage is counted before its pattern is compiled, so freeing a half-read tokenizer
 * frees it.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NORMS = 64 };

static int refuse_type(const char *what, const struct bmi_json *v, struct bmi_error *err)
{
	const struct bmi_json *type = bmi_json_get(v, "type");

	if (!type || type->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "%s has no type", what);
	return bmi_fail(err, -EOPNOTSUPP, "%s '%.*s' is not supported", what,
			(int)(type->n < 60 ? type->n : 60), type->str);
}

/* The elements of a Sequence's array @key. */
static int list_of(const struct bmi_json *v, const char *what, const char *key, const struct bmi_json **ret,
		   struct bmi_error *err)
{
	const char *const keys[] = { "type", key, NULL };
	const struct bmi_json *list = bmi_json_get(v, key);
	int r = bmi_tok_json_keys(v, what, keys, err);

	if (r < 0)
		return r;
	if (!list || list->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "%s Sequence: %s is not an array", what, key);
	*ret = list->child;
	return 0;
}

static int load_norm(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const bare[] = { "type", NULL }, *const prepend[] = { "type", "prepend", NULL },
				 *const replace[] = { "type", "pattern", "content", NULL },
				 *const strip[] = { "type", "strip_left", "strip_right", NULL };
	static const char *const forms[] = { "NFD", "NFC", "NFKD", "NFKC" };
	const struct bmi_json *type = bmi_json_get(v, "type");
	struct bmi_tok_norm *norm;
	void *more;
	int r;

	if (tok->n_norms == MAX_NORMS)
		return bmi_fail(err, -EOPNOTSUPP, "more than %d normalizers", MAX_NORMS);
	more = realloc(tok->norms, (tok->n_norms + 1) * sizeof(*tok->norms));
	if (!more)
		return bmi_fail(err, -ENOMEM, "no memory for the normalizers");
	tok->norms = more;
	norm = &tok->norms[tok->n_norms++];
	*norm = (struct bmi_tok_norm){ .left = true, .right = true };
	for (unsigned i = 0; i < BMI_ARRAY_LEN(forms); i++) {
		if (!bmi_json_eq(type, forms[i]))
			continue;
		norm->kind = BMI_TOK_NORM_FORM;
		norm->compose = i & 1;
		norm->compat = i & 2;
		return bmi_tok_json_keys(v, forms[i], bare, err);
	}
	if (bmi_json_eq(type, "Lowercase") || bmi_json_eq(type, "StripAccents")) {
		norm->kind = bmi_json_eq(type, "Lowercase") ? BMI_TOK_NORM_LOWER : BMI_TOK_NORM_ACCENTS;
		return bmi_tok_json_keys(v, "a normalizer", bare, err);
	}
	if (bmi_json_eq(type, "Prepend")) {
		norm->kind = BMI_TOK_NORM_PREPEND;
		r = bmi_tok_json_keys(v, "Prepend", prepend, err);
		return r < 0 ? r : bmi_tok_json_text(tok, v, "Prepend", "prepend", &norm->text, err);
	}
	if (bmi_json_eq(type, "Replace")) {
		norm->kind = BMI_TOK_NORM_REPLACE;
		r = bmi_tok_json_keys(v, "Replace", replace, err);
		if (r == 0)
			r = bmi_tok_json_text(tok, v, "Replace", "content", &norm->text, err);
		return r < 0 ? r : bmi_tok_json_pattern(tok, v, "Replace", &norm->pattern, err);
	}
	if (bmi_json_eq(type, "Strip")) {
		norm->kind = BMI_TOK_NORM_STRIP;
		r = bmi_tok_json_keys(v, "Strip", strip, err);
		if (r == 0)
			r = bmi_tok_json_bool(v, "Strip", "strip_left", &norm->left, err);
		return r < 0 ? r : bmi_tok_json_bool(v, "Strip", "strip_right", &norm->right, err);
	}
	return refuse_type("normalizer", v, err);
}

int bmi_tok_load_norms(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	const struct bmi_json *e = NULL;
	int r;

	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (!bmi_json_eq(bmi_json_get(v, "type"), "Sequence"))
		return load_norm(tok, v, err);
	r = list_of(v, "normalizer", "normalizers", &e, err);
	for (; r == 0 && e; e = e->next)
		r = bmi_tok_load_norms(tok, e, err);
	return r;
}

struct bmi_tok_pre *bmi_tok_add_pre(struct bmi_tok *tok, enum bmi_tok_pre_kind kind)
{
	if (tok->n_pre == BMI_TOK_MAX_PRE)
		return NULL;
	tok->pre[tok->n_pre].kind = kind;
	return &tok->pre[tok->n_pre++];
}

static int too_many(struct bmi_error *err)
{
	return bmi_fail(err, -EOPNOTSUPP, "more than %d pre-tokenizer stages", BMI_TOK_MAX_PRE);
}

int bmi_tok_add_split(struct bmi_tok *tok, const char *regex, enum bmi_tok_behavior behavior, bool invert,
		      struct bmi_error *err)
{
	struct bmi_tok_pre *pre = bmi_tok_add_pre(tok, BMI_TOK_PRE_SPLIT);

	if (!pre)
		return too_many(err);
	pre->behavior = behavior;
	pre->invert = invert;
	return bmi_tok_regex_new(regex, strlen(regex), &pre->pattern.re, err);
}

static int add_class(struct bmi_tok *tok, bool (*is)(uint32_t), enum bmi_tok_behavior behavior,
		     struct bmi_error *err)
{
	struct bmi_tok_pre *pre = bmi_tok_add_pre(tok, BMI_TOK_PRE_SPLIT);

	if (!pre)
		return too_many(err);
	pre->behavior = behavior;
	pre->pattern.is = is;
	return 0;
}

static int load_behavior(const struct bmi_json *v, const char *what, enum bmi_tok_behavior *ret,
			 struct bmi_error *err)
{
	static const char *const names[] = { "Removed", "Isolated", "MergedWithPrevious", "MergedWithNext",
					     "Contiguous" };
	const struct bmi_json *b = bmi_json_get(v, "behavior");

	for (unsigned i = 0; i < BMI_ARRAY_LEN(names); i++) {
		if (bmi_json_eq(b, names[i])) {
			*ret = (enum bmi_tok_behavior)i;
			return 0;
		}
	}
	return b ? bmi_fail(err, -EOPNOTSUPP, "%s: this behavior is not supported", what) : 0;
}

static int load_byte_level(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "add_prefix_space", "trim_offsets", "use_regex", NULL };
	bool prefix = true, regex = true;
	int r = bmi_tok_json_keys(v, "ByteLevel", keys, err);

	if (r == 0)
		r = bmi_tok_json_bool(v, "ByteLevel", "add_prefix_space", &prefix, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, "ByteLevel", "use_regex", &regex, err);
	if (r == 0 && prefix && !bmi_tok_add_pre(tok, BMI_TOK_PRE_PREFIX))
		return too_many(err);
	if (r == 0 && regex)
		r = bmi_tok_add_split(tok, BMI_TOK_GPT2_REGEX, BMI_TOK_ISOLATED, /* invert= */ false, err);
	if (r == 0 && !bmi_tok_add_pre(tok, BMI_TOK_PRE_BYTES))
		return too_many(err);
	return r;
}

static int load_split(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "pattern", "behavior", "invert", NULL };
	struct bmi_tok_pre *pre = bmi_tok_add_pre(tok, BMI_TOK_PRE_SPLIT);
	int r = bmi_tok_json_keys(v, "Split", keys, err);

	if (!pre)
		return too_many(err);
	if (r == 0 && !bmi_json_get(v, "behavior"))
		return bmi_fail(err, -EINVAL, "Split has no behavior");
	if (r == 0)
		r = load_behavior(v, "Split", &pre->behavior, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, "Split", "invert", &pre->invert, err);
	return r < 0 ? r : bmi_tok_json_pattern(tok, v, "Split", &pre->pattern, err);
}

static int load_metaspace(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type",           "replacement", "str_rep", "add_prefix_space",
					    "prepend_scheme", "split",       NULL };
	struct bmi_tok_pre *pre = bmi_tok_add_pre(tok, BMI_TOK_PRE_META), *cut;
	bool split = true;
	int r = bmi_tok_json_keys(v, "Metaspace", keys, err);

	if (!pre)
		return too_many(err);
	if (r == 0)
		r = bmi_tok_json_text(tok, v, "Metaspace", "replacement", &pre->with, err);
	if (r == 0 && (!pre->with.n || bmi_tok_utf8_len(pre->with.bytes[0]) != pre->with.n))
		return bmi_fail(err, -EINVAL, "Metaspace: replacement is not one character");
	if (r == 0)
		r = bmi_tok_json_scheme(v, "Metaspace", &pre->scheme, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, "Metaspace", "split", &split, err);
	if (r < 0 || !split)
		return r;
	cut = bmi_tok_add_pre(tok, BMI_TOK_PRE_SPLIT);
	if (!cut)
		return too_many(err);
	cut->pattern.str = pre->with;
	cut->behavior = BMI_TOK_WITH_NEXT;
	return 0;
}

static int load_digits(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "individual_digits", NULL };
	bool single = false;
	int r = bmi_tok_json_keys(v, "Digits", keys, err);

	if (r == 0)
		r = bmi_tok_json_bool(v, "Digits", "individual_digits", &single, err);
	return r < 0 ? r
		     : add_class(tok, bmi_tok_is_number, single ? BMI_TOK_ISOLATED : BMI_TOK_CONTIGUOUS, err);
}

static int load_one_pre(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const bare[] = { "type", NULL }, *const punct[] = { "type", "behavior", NULL };
	const struct bmi_json *type = bmi_json_get(v, "type");
	enum bmi_tok_behavior behavior = BMI_TOK_ISOLATED;
	int r;

	if (bmi_json_eq(type, "ByteLevel"))
		return load_byte_level(tok, v, err);
	if (bmi_json_eq(type, "Split"))
		return load_split(tok, v, err);
	if (bmi_json_eq(type, "Metaspace"))
		return load_metaspace(tok, v, err);
	if (bmi_json_eq(type, "Digits"))
		return load_digits(tok, v, err);
	if (bmi_json_eq(type, "Punctuation")) {
		r = bmi_tok_json_keys(v, "Punctuation", punct, err);
		if (r == 0)
			r = load_behavior(v, "Punctuation", &behavior, err);
		return r < 0 ? r : add_class(tok, bmi_tok_is_punct, behavior, err);
	}
	if (bmi_json_eq(type, "WhitespaceSplit")) {
		r = bmi_tok_json_keys(v, "WhitespaceSplit", bare, err);
		return r < 0 ? r : add_class(tok, bmi_tok_is_space, BMI_TOK_REMOVED, err);
	}
	if (bmi_json_eq(type, "Whitespace")) {
		r = bmi_tok_json_keys(v, "Whitespace", bare, err);
		return r < 0 ? r
			     : bmi_tok_add_split(tok, "[" BMI_TOK_RUST_WORD "]+|[^" BMI_TOK_RUST_WORD "\\s]+",
						 BMI_TOK_REMOVED,
						 /* invert= */ true, err);
	}
	return refuse_type("pre_tokenizer", v, err);
}

int bmi_tok_load_pre(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	const struct bmi_json *e = NULL;
	int r;

	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (!bmi_json_eq(bmi_json_get(v, "type"), "Sequence"))
		return load_one_pre(tok, v, err);
	r = list_of(v, "pre_tokenizer", "pretokenizers", &e, err);
	for (; r == 0 && e; e = e->next)
		r = bmi_tok_load_pre(tok, e, err);
	return r;
}

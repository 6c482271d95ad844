/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tokenizer.json, the outer object, the added tokens and the post-processor; and the small readers that the
 * files beside this one use. Invariant: every member of every object is looked at: what is not known is
 * refused by its name.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <string.h>

int bmi_tok_json_keys(const struct bmi_json *v, const char *what, const char *const *keys, struct bmi_error *err)
{
	if (!v || v->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "%s is not an object", what);
	for (const struct bmi_json *m = v->child; m; m = m->next) {
		unsigned i = 0;

		while (keys[i] && (strlen(keys[i]) != m->n_key || memcmp(keys[i], m->key, m->n_key) != 0))
			i++;
		if (!keys[i])
			return bmi_fail(err, -EOPNOTSUPP, "%s has a member '%.*s', which is not supported",
					what, (int)(m->n_key < 60 ? m->n_key : 60), m->key);
	}
	return 0;
}

int bmi_tok_json_bool(const struct bmi_json *v, const char *what, const char *key, bool *ret,
		      struct bmi_error *err)
{
	const struct bmi_json *m = bmi_json_get(v, key);

	if (!m || m->type == BMI_JSON_NULL || bmi_json_to_bool(m, ret))
		return 0;
	return bmi_fail(err, -EINVAL, "%s: %s is not true or false", what, key);
}

int bmi_tok_json_text(struct bmi_tok *tok, const struct bmi_json *v, const char *what, const char *key,
		      struct bmi_tok_text *ret, struct bmi_error *err)
{
	const struct bmi_json *m = bmi_json_get(v, key);

	if (!m || m->type == BMI_JSON_NULL)
		return 0;
	if (m->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "%s: %s is not a string", what, key);
	*ret = (struct bmi_tok_text){ bmi_arena_strndup(tok->arena, m->str, m->n), m->n };
	return ret->bytes ? 0 : bmi_fail(err, -ENOMEM, "no memory for the tokenizer");
}

/* { "String": "x" } or { "Regex": "x" } */
int bmi_tok_json_pattern(struct bmi_tok *tok, const struct bmi_json *v, const char *what,
			 struct bmi_tok_pattern *ret, struct bmi_error *err)
{
	static const char *const keys[] = { "String", "Regex", NULL };
	const struct bmi_json *pattern = bmi_json_get(v, "pattern"), *regex = bmi_json_get(pattern, "Regex");
	int r = bmi_tok_json_keys(pattern, "a pattern", keys, err);

	if (r < 0)
		return bmi_note(err, r, "%s", what);
	if (pattern->n != 1)
		return bmi_fail(err, -EINVAL, "%s: the pattern is not one of String and Regex", what);
	if (!regex) {
		r = bmi_tok_json_text(tok, pattern, what, "String", &ret->str, err);
		if (r == 0 && !ret->str.n)
			return bmi_fail(err, -EOPNOTSUPP, "%s: an empty pattern is not supported", what);
		return r;
	}
	if (regex->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "%s: the pattern is not a string", what);
	r = bmi_tok_regex_new(regex->str, regex->n, &ret->re, err);
	return r < 0 ? bmi_note(err, r, "%s", what) : 0;
}

int bmi_tok_json_scheme(const struct bmi_json *v, const char *what, enum bmi_tok_scheme *ret,
			struct bmi_error *err)
{
	const struct bmi_json *scheme = bmi_json_get(v, "prepend_scheme");
	bool prefix = true;
	int r = bmi_tok_json_bool(v, what, "add_prefix_space", &prefix, err);

	if (r < 0)
		return r;
	if (!scheme)
		*ret = prefix ? BMI_TOK_ALWAYS : BMI_TOK_NEVER; /* files from before the scheme */
	else if (bmi_json_eq(scheme, "always"))
		*ret = BMI_TOK_ALWAYS;
	else if (bmi_json_eq(scheme, "first"))
		*ret = BMI_TOK_FIRST;
	else if (bmi_json_eq(scheme, "never"))
		*ret = BMI_TOK_NEVER;
	else
		return bmi_fail(err, -EOPNOTSUPP, "%s: this prepend_scheme is not supported", what);
	if (!prefix && *ret != BMI_TOK_NEVER)
		return bmi_fail(err, -EINVAL, "%s: add_prefix_space contradicts prepend_scheme", what);
	return 0;
}

static int load_one_added(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_tok_added *a,
			  struct bmi_error *err)
{
	static const char *const keys[] = { "id",     "content",    "single_word", "lstrip",
					    "rstrip", "normalized", "special",     NULL };
	static const char what[] = "an added token";
	uint64_t id = UINT64_MAX;
	int r = bmi_tok_json_keys(v, what, keys, err);

	if (r == 0)
		r = bmi_tok_json_text(tok, v, what, "content", &a->text, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, what, "special", &a->special, err);
	a->normalized = !a->special; /* the peer's default */
	if (r == 0)
		r = bmi_tok_json_bool(v, what, "single_word", &a->single_word, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, what, "lstrip", &a->lstrip, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, what, "rstrip", &a->rstrip, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, what, "normalized", &a->normalized, err);
	if (r < 0)
		return r;
	if (!bmi_json_to_u64(bmi_json_get(v, "id"), &id) || id >= BMI_TOK_MAX_ID)
		return bmi_fail(err, -EINVAL, "%s has no id below %d", what, BMI_TOK_MAX_ID);
	if (!a->text.n)
		return bmi_fail(err, -EINVAL, "added token %u has no content", (unsigned)id);
	a->id = (uint32_t)id;
	return 0;
}

/* The id that is written must be the model's own if the model has the text, else a free one. */
static int place_added(struct bmi_tok *tok, const struct bmi_tok_added *a, struct bmi_error *err)
{
	const uint32_t own = bmi_tok_vocab_get(&tok->vocab, a->text.bytes, a->text.n);
	const unsigned flags = BMI_TOK_ADDED | (a->special ? BMI_TOK_SPECIAL : 0u);
	int r;

	if (own != BMI_TOK_NO_ID && own != a->id)
		return bmi_fail(err, -EINVAL, "added token %u is token %u in the model's vocabulary", a->id,
				own);
	if (own == BMI_TOK_NO_ID) {
		r = bmi_tok_vocab_set(&tok->vocab, a->id, a->text, flags);
		return r < 0 ? bmi_fail(err, r == -EEXIST ? -EINVAL : r,
					"added token %u takes the id of another token", a->id)
			     : 0;
	}
	if (tok->vocab.flags[own] & BMI_TOK_ADDED)
		return bmi_fail(err, -EINVAL, "added token %u comes twice", own);
	tok->vocab.flags[own] |= (uint8_t)flags;
	return 0;
}

int bmi_tok_load_added(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	uint32_t i = 0;
	int r = 0;

	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (v->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "added_tokens is not an array");
	tok->added = bmi_arena_array(tok->arena, v->n, sizeof(*tok->added));
	if (!tok->added)
		return bmi_fail(err, -ENOMEM, "no memory for the added tokens");
	for (const struct bmi_json *t = v->child; r == 0 && t; t = t->next, i++) {
		r = load_one_added(tok, t, &tok->added[i], err);
		if (r == 0)
			r = place_added(tok, &tok->added[i], err);
	}
	tok->n_added = i;
	return r;
}

/* One element of a template's `single`: the sequence, or a special token whose ids special_tokens tells. */
static int load_element(struct bmi_tok *tok, const struct bmi_json *v, const struct bmi_json *specials,
			struct bmi_ids *ids, bool *seen, struct bmi_error *err)
{
	static const char *const keys[] = { "SpecialToken", "Sequence", NULL };
	const struct bmi_json *special = bmi_json_get(v, "SpecialToken"), *seq = bmi_json_get(v, "Sequence"),
			      *name, *list = NULL;
	int r = bmi_tok_json_keys(v, "TemplateProcessing", keys, err);
	uint64_t id;

	if (r < 0)
		return r;
	if (v->n != 1 || (seq && (*seen || !bmi_json_eq(bmi_json_get(seq, "id"), "A"))))
		return bmi_fail(err, -EOPNOTSUPP,
				"TemplateProcessing: single is not one sequence A among special tokens");
	if (seq) {
		*seen = true;
		return 0;
	}
	name = bmi_json_get(special, "id");
	for (const struct bmi_json *s = specials ? specials->child : NULL;
	     s && name && name->type == BMI_JSON_STRING; s = s->next)
		if (s->n_key == name->n && !memcmp(s->key, name->str, name->n))
			list = bmi_json_get(s, "ids");
	if (!list || list->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "TemplateProcessing: a special token has no ids");
	for (const struct bmi_json *i = list->child; r == 0 && i; i = i->next) {
		if (!bmi_json_to_u64(i, &id) || id >= BMI_TOK_MAX_ID ||
		    !bmi_tok_vocab_has(&tok->vocab, (uint32_t)id))
			return bmi_fail(err, -EINVAL,
					"TemplateProcessing: a special token's id is not in the vocabulary");
		r = bmi_ids_put(ids, (uint32_t)id);
	}
	return r < 0 ? bmi_fail(err, r, "no memory for the post-processor") : 0;
}

static int load_template(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "single", "pair", "special_tokens", NULL };
	const struct bmi_json *single = bmi_json_get(v, "single");
	bool seen = false;
	int r = bmi_tok_json_keys(v, "TemplateProcessing", keys, err);

	if (r < 0)
		return r;
	if (tok->prefix.n || tok->suffix.n)
		return bmi_fail(err, -EOPNOTSUPP, "more than one TemplateProcessing is not supported");
	if (!single || single->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EOPNOTSUPP, "TemplateProcessing: single is not an array");
	for (const struct bmi_json *e = single->child; r == 0 && e; e = e->next)
		r = load_element(tok, e, bmi_json_get(v, "special_tokens"),
				 seen ? &tok->suffix : &tok->prefix, &seen, err);
	if (r == 0 && !seen)
		return bmi_fail(err, -EINVAL, "TemplateProcessing: single has no sequence");
	return r;
}

int bmi_tok_load_post(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const sequence[] = { "type", "processors", NULL };
	static const char *const byte_level[] = { "type", "add_prefix_space", "trim_offsets", "use_regex",
						  NULL };
	const struct bmi_json *type = bmi_json_get(v, "type"), *list;
	int r;

	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (bmi_json_eq(type, "TemplateProcessing"))
		return load_template(tok, v, err);
	if (bmi_json_eq(type, "ByteLevel")) /* only moves offsets, which we do not give */
		return bmi_tok_json_keys(v, "ByteLevel", byte_level, err);
	if (!bmi_json_eq(type, "Sequence"))
		return bmi_fail(err, -EOPNOTSUPP, "post_processor '%.*s' is not supported",
				type && type->type == BMI_JSON_STRING && type->n < 60 ? (int)type->n : 0,
				type ? type->str : "");
	r = bmi_tok_json_keys(v, "Sequence", sequence, err);
	list = bmi_json_get(v, "processors");
	if (r == 0 && (!list || list->type != BMI_JSON_ARRAY))
		return bmi_fail(err, -EINVAL, "post_processor: processors is not an array");
	for (const struct bmi_json *p = r == 0 ? list->child : NULL; r == 0 && p; p = p->next)
		r = bmi_tok_load_post(tok, p, err);
	return r;
}

static int load(struct bmi_tok *tok, const struct bmi_json *root, struct bmi_error *err)
{
	static const char *const keys[] = {
		"version",       "truncation",     "padding", "added_tokens", "normalizer",
		"pre_tokenizer", "post_processor", "decoder", "model",        NULL
	};
	const struct bmi_json *version = bmi_json_get(root, "version");
	int r = bmi_tok_json_keys(root, "tokenizer.json", keys, err);

	if (r == 0 && version && !bmi_json_eq(version, "1.0"))
		return bmi_fail(err, -EOPNOTSUPP, "only version 1.0 of tokenizer.json is supported");
	if (r == 0)
		r = bmi_tok_load_model(tok, bmi_json_get(root, "model"), err);
	if (r == 0)
		r = bmi_tok_load_norms(tok, bmi_json_get(root, "normalizer"), err);
	if (r == 0)
		r = bmi_tok_load_pre(tok, bmi_json_get(root, "pre_tokenizer"), err);
	if (r == 0 && bmi_tok_joins_pairs(tok) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the merges");
	if (r == 0)
		r = bmi_tok_load_dec(tok, bmi_json_get(root, "decoder"), err);
	if (r == 0)
		r = bmi_tok_load_added(tok, bmi_json_get(root, "added_tokens"), err);
	if (r == 0)
		r = bmi_tok_added_build(tok, err);
	if (r == 0)
		r = bmi_tok_load_post(tok, bmi_json_get(root, "post_processor"), err);
	return r;
}

int bmi_tok_open_json(const char *json, size_t n, struct bmi_tok **ret, struct bmi_error *err)
{
	bmi_auto(bmi_tok) tok = bmi_tok_new();
	struct bmi_json_doc *doc = NULL;
	int r;

	if (!tok)
		return bmi_fail(err, -ENOMEM, "no memory for the tokenizer");
	r = bmi_json_parse(json, n, &doc, err);
	if (r == 0)
		r = load(tok, bmi_json_root(doc), err);
	bmi_json_free(doc);
	if (r < 0)
		return r;
	*ret = bmi_steal(&tok);
	return 0;
}

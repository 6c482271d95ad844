/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The `model` of tokenizer.json: BPE and Unigram. Invariant: every id in a table made here names a token of
 * the vocabulary, so nothing behind this has to check an id again.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static int shown(size_t n)
{
	return n < 60 ? (int)n : 60;
}

static int load_vocab(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	uint64_t id;
	int r;

	if (!v || v->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "BPE: vocab is not an object");
	if (bmi_tok_vocab_init(&tok->vocab, v->n) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the vocabulary");
	for (const struct bmi_json *t = v->child; t; t = t->next) {
		if (!bmi_json_to_u64(t, &id) || id >= BMI_TOK_MAX_ID)
			return bmi_fail(err, -EINVAL, "BPE: token '%.*s' has no id below %d", shown(t->n_key),
					t->key, BMI_TOK_MAX_ID);
		r = bmi_tok_vocab_set(&tok->vocab, (uint32_t)id, (struct bmi_tok_text){ t->key, t->n_key }, 0);
		if (r < 0)
			return bmi_fail(err, r == -EEXIST ? -EINVAL : r,
					"BPE: token '%.*s' takes id %u, which another one has",
					shown(t->n_key), t->key, (unsigned)id);
		bmi_tok_vocab_index(&tok->vocab, (uint32_t)id);
	}
	return 0;
}

/* ["a", "b"], or "a b" as older files write it. */
static bool merge_sides(const struct bmi_json *m, struct bmi_tok_text *a, struct bmi_tok_text *b)
{
	const struct bmi_json *left = m->child, *right = left ? left->next : NULL;
	const char *space;

	if (m->type == BMI_JSON_ARRAY && m->n == 2 && left->type == BMI_JSON_STRING &&
	    right->type == BMI_JSON_STRING) {
		*a = (struct bmi_tok_text){ left->str, left->n };
		*b = (struct bmi_tok_text){ right->str, right->n };
		return true;
	}
	space = m->type == BMI_JSON_STRING ? memchr(m->str, ' ', m->n) : NULL;
	if (!space || memchr(space + 1, ' ', (size_t)(m->str + m->n - space - 1)))
		return false;
	*a = (struct bmi_tok_text){ m->str, (size_t)(space - m->str) };
	*b = (struct bmi_tok_text){ space + 1, (size_t)(m->str + m->n - space - 1) };
	return true;
}

int bmi_tok_add_merge(struct bmi_tok *tok, struct bmi_tok_text a, struct bmi_tok_text b, uint32_t rank,
		      bool keep_first, struct bmi_str *buf, struct bmi_error *err)
{
	const uint32_t left = bmi_tok_vocab_get(&tok->vocab, a.bytes, a.n),
		       right = bmi_tok_vocab_get(&tok->vocab, b.bytes, b.n);
	uint32_t both;

	buf->n = 0;
	bmi_str_put(buf, a.bytes, a.n);
	if (bmi_str_put(buf, b.bytes, b.n) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the merges");
	both = bmi_tok_vocab_get(&tok->vocab, buf->bytes, buf->n);
	if (left == BMI_TOK_NO_ID || right == BMI_TOK_NO_ID || both == BMI_TOK_NO_ID)
		return bmi_fail(err, -EINVAL,
				"merge %u: '%.*s' and '%.*s', or what they become, is not in the vocabulary",
				rank, shown(a.n), a.bytes, shown(b.n), b.bytes);
	if (!keep_first || !bmi_tok_pairs_get(&tok->pairs, left, right))
		bmi_tok_pairs_set(&tok->pairs, left, right, rank, both);
	return 0;
}

static int load_merges(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	bmi_auto_str buf = { 0 };
	struct bmi_tok_text a, b;
	uint32_t rank = 0;
	int r = 0;

	if (!v || v->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "BPE: merges is not an array");
	if (bmi_tok_pairs_init(&tok->pairs, v->n) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the merges");
	for (const struct bmi_json *m = v->child; r == 0 && m; m = m->next) {
		if (m->type == BMI_JSON_STRING && m->n >= 8 && !memcmp(m->str, "#version", 8))
			continue;
		if (!merge_sides(m, &a, &b))
			return bmi_fail(err, -EINVAL, "BPE: merge %u is not two strings", rank);
		r = bmi_tok_add_merge(tok, a, b, rank++, /* keep_first= */ false, &buf, err);
	}
	return r;
}

static int load_bpe(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type",
					    "dropout",
					    "unk_token",
					    "continuing_subword_prefix",
					    "end_of_word_suffix",
					    "fuse_unk",
					    "byte_fallback",
					    "ignore_merges",
					    "vocab",
					    "merges",
					    NULL };
	static const char *const affixes[] = { "continuing_subword_prefix", "end_of_word_suffix" };
	const struct bmi_json *dropout = bmi_json_get(v, "dropout"), *unk = bmi_json_get(v, "unk_token");
	double share = 0;
	int r = bmi_tok_json_keys(v, "BPE", keys, err);

	tok->model = BMI_TOK_BPE;
	if (r < 0)
		return r;
	if (dropout && dropout->type != BMI_JSON_NULL && (!bmi_json_to_double(dropout, &share) || share != 0))
		return bmi_fail(err, -EOPNOTSUPP, "BPE: dropout is not supported");
	for (unsigned i = 0; i < BMI_ARRAY_LEN(affixes); i++) {
		const struct bmi_json *affix = bmi_json_get(v, affixes[i]);

		if (affix && affix->type != BMI_JSON_NULL && !bmi_json_eq(affix, ""))
			return bmi_fail(err, -EOPNOTSUPP, "BPE: %s is not supported", affixes[i]);
	}
	r = bmi_tok_json_bool(v, "BPE", "fuse_unk", &tok->fuse_unk, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, "BPE", "byte_fallback", &tok->byte_fallback, err);
	if (r == 0)
		r = bmi_tok_json_bool(v, "BPE", "ignore_merges", &tok->ignore_merges, err);
	if (r == 0)
		r = load_vocab(tok, bmi_json_get(v, "vocab"), err);
	if (r == 0)
		r = load_merges(tok, bmi_json_get(v, "merges"), err);
	if (r < 0)
		return r;
	bmi_tok_set_chars(tok);
	if (!unk || unk->type == BMI_JSON_NULL)
		return 0;
	if (unk->type == BMI_JSON_STRING)
		tok->model_unk = tok->unk = bmi_tok_vocab_get(&tok->vocab, unk->str, unk->n);
	return tok->unk == BMI_TOK_NO_ID ? bmi_fail(err, -EINVAL, "BPE: unk_token is not in the vocabulary")
					 : 0;
}

/* vocab: [ ["token", log probability], ... ], ids are places in it. */
static int load_pieces(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	uint32_t id = 0;
	int r = 0;

	if (!v || v->type != BMI_JSON_ARRAY || !v->n || v->n >= BMI_TOK_MAX_ID)
		return bmi_fail(err, -EINVAL, "Unigram: vocab is not an array of 1 to %d tokens",
				BMI_TOK_MAX_ID - 1);
	tok->score = calloc(v->n, sizeof(*tok->score));
	if (!tok->score || bmi_tok_vocab_init(&tok->vocab, v->n) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the vocabulary");
	tok->min_score = HUGE_VAL;
	for (const struct bmi_json *t = v->child; t; t = t->next, id++) {
		const struct bmi_json *text = t->child;

		if (t->type != BMI_JSON_ARRAY || t->n != 2 || text->type != BMI_JSON_STRING || !text->n ||
		    !bmi_json_to_double(text->next, &tok->score[id]) || !isfinite(tok->score[id]))
			return bmi_fail(err, -EINVAL, "Unigram: token %u is not a text and a number", id);
		r = bmi_tok_vocab_set(&tok->vocab, id, (struct bmi_tok_text){ text->str, text->n }, 0);
		if (r < 0)
			return bmi_fail(err, r, "no room for the vocabulary");
		bmi_tok_vocab_index(&tok->vocab, id);
		if (tok->score[id] < tok->min_score)
			tok->min_score = tok->score[id];
	}
	return 0;
}

static int build_pieces(struct bmi_tok *tok, struct bmi_error *err)
{
	const struct bmi_tok_vocab *vocab = &tok->vocab;
	bmi_auto_mem struct bmi_tok_trie_item *items = calloc(vocab->n, sizeof(*items));
	uint32_t n = 0;
	int r;

	if (!items)
		return bmi_fail(err, -ENOMEM, "no memory for the vocabulary");
	for (uint32_t id = 0; id < vocab->n; id++) {
		const struct bmi_tok_text text = bmi_tok_vocab_text(vocab, id);

		if (bmi_tok_vocab_get(vocab, text.bytes, text.n) ==
		    id) /* of equal texts the last counts, as in the peer */
			items[n++] = (struct bmi_tok_trie_item){ text, id };
	}
	r = bmi_tok_trie_build(&tok->trie, items, n);
	return r < 0 ? bmi_fail(err, r, "no room for the vocabulary") : 0;
}

static int load_unigram(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "unk_id", "vocab", "byte_fallback", NULL };
	const struct bmi_json *unk = bmi_json_get(v, "unk_id");
	uint64_t id;
	int r = bmi_tok_json_keys(v, "Unigram", keys, err);

	tok->model = BMI_TOK_UNIGRAM;
	if (r == 0)
		r = bmi_tok_json_bool(v, "Unigram", "byte_fallback", &tok->byte_fallback, err);
	if (r == 0)
		r = load_pieces(tok, bmi_json_get(v, "vocab"), err);
	if (r == 0)
		r = build_pieces(tok, err);
	if (r < 0)
		return r;
	bmi_tok_set_chars(tok);
	if (!unk || unk->type == BMI_JSON_NULL)
		return 0;
	if (!bmi_json_to_u64(unk, &id) || (id >= tok->vocab.n && !BMI_PLANTED_TOKENIZER_JSON))
		return bmi_fail(err, -EINVAL, "Unigram: unk_id is not in the vocabulary");
	tok->model_unk = tok->unk = (uint32_t)id;
	return 0;
}

int bmi_tok_load_model(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	const struct bmi_json *type = bmi_json_get(v, "type");

	if (!v || v->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "tokenizer.json has no model");
	if (bmi_json_eq(type, "BPE") || (!type && bmi_json_get(v, "merges"))) /* older files do not name it */
		return load_bpe(tok, v, err);
	if (bmi_json_eq(type, "Unigram"))
		return load_unigram(tok, v, err);
	if (!type || type->type != BMI_JSON_STRING)
		return bmi_fail(err, -EOPNOTSUPP, "the model has no type");
	return bmi_fail(err, -EOPNOTSUPP, "model '%.*s' is not supported", shown(type->n), type->str);
}

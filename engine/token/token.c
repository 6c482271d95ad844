/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tokenizer object: its life, its facts. Owns everything that bmi_tok points to. Invariant: after it was
 * opened nothing in it changes but bos, eos and unk, and those only before it is shared.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void bmi_ids_fini(struct bmi_ids *ids)
{
	free(ids->ids);
	*ids = (struct bmi_ids){ 0 };
}

int bmi_ids_put(struct bmi_ids *ids, uint32_t id)
{
	if (ids->n == ids->cap) {
		const size_t cap = ids->cap ? ids->cap * 2 : 64;
		uint32_t *more = cap > SIZE_MAX / sizeof(*more) ? NULL : realloc(ids->ids, cap * sizeof(*more));

		if (!more)
			return -ENOMEM;
		ids->ids = more;
		ids->cap = cap;
	}
	ids->ids[ids->n++] = id;
	return 0;
}

struct bmi_tok *bmi_tok_new(void)
{
	struct bmi_tok *tok = calloc(1, sizeof(*tok));

	if (!tok)
		return NULL;
	tok->arena = bmi_arena_new();
	if (!tok->arena) {
		free(tok);
		return NULL;
	}
	tok->bos = tok->eos = tok->unk = tok->model_unk = BMI_TOK_NO_ID;
	memset(tok->low_id, 0xff, sizeof(tok->low_id));
	memset(tok->byte_id, 0xff, sizeof(tok->byte_id));
	return tok;
}

void bmi_tok_free(struct bmi_tok *tok)
{
	if (!tok)
		return;
	bmi_tok_vocab_fini(&tok->vocab);
	bmi_tok_trie_fini(&tok->plain);
	bmi_tok_trie_fini(&tok->normal);
	bmi_tok_trie_fini(&tok->trie);
	bmi_tok_regex_free(tok->word);
	for (unsigned i = 0; i < tok->n_norms; i++)
		bmi_tok_pattern_fini(&tok->norms[i].pattern);
	free(tok->norms);
	for (unsigned i = 0; i < tok->n_pre; i++)
		bmi_tok_pattern_fini(&tok->pre[i].pattern);
	for (unsigned i = 0; i < tok->n_dec; i++)
		bmi_tok_pattern_fini(&tok->dec[i].pattern);
	bmi_ids_fini(&tok->prefix);
	bmi_ids_fini(&tok->suffix);
	free(tok->pairs.slots);
	free(tok->joins.bits);
	free(tok->order);
	free(tok->score);
	bmi_arena_free(tok->arena);
	free(tok);
}

void bmi_tok_set_chars(struct bmi_tok *tok)
{
	char buf[4];

	for (uint32_t c = 0; c < BMI_TOK_LOW_CHARS; c++)
		tok->low_id[c] = bmi_tok_vocab_get(&tok->vocab, buf, bmi_tok_utf8_put(buf, c));
	for (unsigned b = 0; b < 256; b++)
		tok->byte_id[b] = bmi_tok_vocab_byte(&tok->vocab, (unsigned char)b);
}

uint32_t bmi_tok_n_vocab(const struct bmi_tok *tok)
{
	return tok->vocab.n;
}

uint32_t bmi_tok_bos(const struct bmi_tok *tok)
{
	return tok->bos;
}

uint32_t bmi_tok_eos(const struct bmi_tok *tok)
{
	return tok->eos;
}

uint32_t bmi_tok_unk(const struct bmi_tok *tok)
{
	return tok->unk;
}

bool bmi_tok_is_special(const struct bmi_tok *tok, uint32_t id)
{
	return bmi_tok_vocab_has(&tok->vocab, id) && tok->vocab.flags[id] & BMI_TOK_SPECIAL;
}

struct bmi_tok_text bmi_tok_text(const struct bmi_tok *tok, uint32_t id)
{
	return bmi_tok_vocab_has(&tok->vocab, id) ? bmi_tok_vocab_text(&tok->vocab, id)
						  : (struct bmi_tok_text){ NULL, 0 };
}

uint32_t bmi_tok_find(const struct bmi_tok *tok, const char *text, size_t n)
{
	for (uint32_t i = 0; i < tok->n_added; i++)
		if (tok->added[i].text.n == n && !memcmp(tok->added[i].text.bytes, text, n))
			return tok->added[i].id;
	return bmi_tok_vocab_get(&tok->vocab, text, n);
}

/* "bos_token": "<s>", or { "content": "<s>", ... }, or null. */
static int config_token(const struct bmi_tok *tok, const struct bmi_json *root, const char *key,
			uint32_t *ret, struct bmi_error *err)
{
	const struct bmi_json *v = bmi_json_get(root, key);
	uint32_t id;

	if (v && v->type == BMI_JSON_OBJECT)
		v = bmi_json_get(v, "content");
	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (v->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "%s is not a string", key);
	id = bmi_tok_find(tok, v->str, v->n);
	if (id == BMI_TOK_NO_ID)
		return bmi_fail(err, -EINVAL, "%s '%.*s' is not in the vocabulary", key,
				(int)(v->n < 80 ? v->n : 80), v->str);
	*ret = id;
	return 0;
}

int bmi_tok_set_config(struct bmi_tok *tok, const char *json, size_t n, struct bmi_error *err)
{
	uint32_t bos = tok->bos, eos = tok->eos, unk = tok->unk;
	struct bmi_json_doc *doc = NULL;
	const struct bmi_json *root;
	int r;

	r = bmi_json_parse(json, n, &doc, err);
	if (r < 0)
		return r;
	root = bmi_json_root(doc);
	r = config_token(tok, root, "bos_token", &bos, err);
	if (r == 0)
		r = config_token(tok, root, "eos_token", &eos, err);
	if (r == 0)
		r = config_token(tok, root, "unk_token", &unk, err);
	bmi_json_free(doc);
	if (r < 0)
		return r;
	tok->bos = bos;
	tok->eos = eos;
	tok->unk = unk;
	return 0;
}

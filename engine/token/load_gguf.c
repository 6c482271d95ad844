/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tokenizer from GGUF metadata, as llama.cpp reads it. Invariant: `added`
 * is sorted longest first, the order in which its tokens cut a text.
 */
#include "token/gguf_names.h"
#include "token/token_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

/* tokenizer.ggml.token_type, llama.h's enum llama_token_type */
enum {
	TYPE_NORMAL = 1,
	TYPE_UNKNOWN = 2,
	TYPE_CONTROL = 3,
	TYPE_USER_DEFINED = 4,
	TYPE_UNUSED = 5,
	TYPE_BYTE = 6
};

static int load_tokens(struct bmi_tok *tok, const struct bmi_tok_gguf *g, struct bmi_error *err)
{
	int r;

	if (!g->n_tokens || g->n_tokens >= BMI_TOK_MAX_ID)
		return bmi_fail(err, -EINVAL, "the vocabulary has %u tokens; 1 to %d are possible",
				g->n_tokens, BMI_TOK_MAX_ID - 1);
	if (bmi_tok_vocab_init(&tok->vocab, g->n_tokens) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the vocabulary");
	for (uint32_t id = 0; id < g->n_tokens; id++) {
		const struct bmi_tok_text text = g->tokens[id];
		const int32_t type = g->types ? g->types[id] : TYPE_NORMAL;
		unsigned flags = 0;

		if (text.n && bmi_tok_utf8_valid(text.bytes, text.n) != text.n)
			return bmi_fail(err, -EINVAL, "token %u is not UTF-8", id);
		if (type == TYPE_CONTROL || type == TYPE_UNKNOWN)
			flags = BMI_TOK_SPECIAL | BMI_TOK_ADDED;
		else if (type == TYPE_USER_DEFINED)
			flags = BMI_TOK_ADDED;
		else if (type == TYPE_BYTE)
			flags = BMI_TOK_BYTE;
		else if (type != TYPE_NORMAL && type != TYPE_UNUSED && type != 0)
			return bmi_fail(err, -EOPNOTSUPP,
					"token %u has type %" PRId32 ", which is not supported", id, type);
		if (bmi_tok_gguf_is_control(text)) /* whatever its type says */
			flags = BMI_TOK_SPECIAL | BMI_TOK_ADDED;
		r = bmi_tok_vocab_set(&tok->vocab, id, text, flags);
		if (r < 0)
			return bmi_fail(err, r, "no room for the vocabulary");
		bmi_tok_vocab_index(&tok->vocab, id);
		tok->n_added += text.n && flags & BMI_TOK_ADDED;
	}
	bmi_tok_set_chars(tok);
	return 0;
}

static int by_length(const void *a, const void *b)
{
	const struct bmi_tok_added *x = a, *y = b;

	if (x->text.n != y->text.n)
		return x->text.n > y->text.n ? -1 : 1;
	return (x->id > y->id) - (x->id < y->id);
}

static int load_added(struct bmi_tok *tok, struct bmi_error *err)
{
	uint32_t n = 0;

	tok->added = bmi_arena_array(tok->arena, tok->n_added, sizeof(*tok->added));
	if (!tok->added)
		return bmi_fail(err, -ENOMEM, "no memory for the added tokens");
	for (uint32_t id = 0; id < tok->vocab.n; id++) {
		const struct bmi_tok_text text =
			bmi_tok_vocab_text(&tok->vocab, id); /* the texts lie still by now */

		if (text.n && tok->vocab.flags[id] & BMI_TOK_ADDED)
			tok->added[n++] = (struct bmi_tok_added){
				.text = text, .id = id, .special = tok->vocab.flags[id] & BMI_TOK_SPECIAL
			};
	}
	qsort(tok->added, n, sizeof(*tok->added), by_length);
	return bmi_tok_added_build(tok, err);
}

/* Floats in descending order as unsigned numbers in ascending order. */
static uint32_t descending(float f)
{
	uint32_t bits;

	f += 0.0f; /* -0 counts as 0 */
	memcpy(&bits, &f, sizeof(bits));
	return bits & UINT32_C(0x80000000) ? bits : ~bits & UINT32_C(0x7fffffff);
}

static int load_spm(struct bmi_tok *tok, const struct bmi_tok_gguf *g, struct bmi_error *err)
{
	static const struct bmi_tok_text space = { " ", 1 };
	struct bmi_tok_dec *dec = &tok->dec[tok->n_dec++];

	tok->model = BMI_TOK_SPM;
	tok->space_prefix = g->add_space_prefix != 0;
	if (!g->scores)
		return bmi_fail(err, -EINVAL, "tokenizer.ggml.scores is missing, which model 'llama' needs");
	tok->order = calloc(g->n_tokens, sizeof(*tok->order));
	if (!tok->order || bmi_tok_joins_texts(tok) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the vocabulary");
	for (uint32_t id = 0; id < g->n_tokens; id++) {
		if (!isfinite(g->scores[id]))
			return bmi_fail(err, -EINVAL, "the score of token %u is not a finite number", id);
		tok->order[id] = descending(g->scores[id]);
	}
	for (unsigned b = 0; b < 256;
	     b++) { /* a missing byte token: the byte's own character, then the unknown token */
		const char c = (char)b;

		if (tok->byte_id[b] == BMI_TOK_NO_ID)
			tok->byte_id[b] = bmi_tok_vocab_get(&tok->vocab, &c, 1);
		if (tok->byte_id[b] == BMI_TOK_NO_ID)
			tok->byte_id[b] = g->unk_id;
		if (tok->byte_id[b] == BMI_TOK_NO_ID)
			return bmi_fail(err, -EINVAL,
					"the vocabulary has no token for byte 0x%02X and no unknown token", b);
	}
	dec->kind = BMI_TOK_DEC_GGUF_SPM;
	if (tok->space_prefix)
		tok->dec[tok->n_dec++] =
			(struct bmi_tok_dec){ .kind = BMI_TOK_DEC_STRIP, .text = space, .start = 1 };
	return 0;
}

static int load_bpe(struct bmi_tok *tok, const struct bmi_tok_gguf *g, const struct bmi_tok_gguf_pre *pre,
		    struct bmi_error *err)
{
	bmi_auto_str buf = { 0 };
	int r = 0;

	tok->model = BMI_TOK_BPE;
	tok->ignore_merges = pre->ignore_merges;
	tok->dec[tok->n_dec++].kind = BMI_TOK_DEC_GGUF_BPE;
	if (!g->merges || !g->n_merges)
		return bmi_fail(err, -EINVAL, "tokenizer.ggml.merges is missing, which model 'gpt2' needs");
	if (bmi_tok_pairs_init(&tok->pairs, g->n_merges) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the merges");
	for (uint32_t i = 0; r == 0 && i < g->n_merges; i++) {
		const struct bmi_tok_text m = g->merges[i];
		const char *space = m.n > 1 ? memchr(m.bytes + 1, ' ', m.n - 1) : NULL;

		if (!space)
			return bmi_fail(err, -EINVAL, "merge %u is not two tokens with a space between", i);
		r = bmi_tok_add_merge(tok, (struct bmi_tok_text){ m.bytes, (size_t)(space - m.bytes) },
				      (struct bmi_tok_text){ space + 1, (size_t)(m.bytes + m.n - space - 1) },
				      i,
				      /* keep_first= */ true, &buf, err);
	}
	for (unsigned i = 0; r == 0 && i < BMI_ARRAY_LEN(pre->regex) && pre->regex[i]; i++)
		r = bmi_tok_add_split(tok, pre->regex[i], BMI_TOK_ISOLATED, /* invert= */ false, err);
	if (r == 0)
		bmi_tok_add_pre(tok, BMI_TOK_PRE_BYTES);
	return r;
}

static int check_id(uint32_t id, const char *name, const struct bmi_tok_gguf *g, struct bmi_error *err)
{
	if (id == BMI_TOK_NO_ID || id < g->n_tokens)
		return 0;
	return bmi_fail(err, -EINVAL, "tokenizer.ggml.%s_token_id is %u, and there are %u tokens", name, id,
			g->n_tokens);
}

static int load(struct bmi_tok *tok, const struct bmi_tok_gguf *g, struct bmi_error *err)
{
	const bool spm = g->model && !strcmp(g->model, "llama");
	const struct bmi_tok_gguf_pre *pre = bmi_tok_gguf_find_pre(g->pre ? g->pre : "default");
	bool add_bos, add_eos;
	int r;

	if (!g->model || (!spm && strcmp(g->model, "gpt2") != 0))
		return bmi_fail(err, -EOPNOTSUPP, "tokenizer.ggml.model '%.60s' is not supported",
				g->model ? g->model : "");
	if (!spm && !pre)
		return bmi_fail(err, -EOPNOTSUPP, "tokenizer.ggml.pre '%.60s' is not supported", g->pre);
	r = check_id(g->bos_id, "bos", g, err);
	if (r == 0)
		r = check_id(g->eos_id, "eos", g, err);
	if (r == 0)
		r = check_id(g->unk_id, "unknown", g, err);
	if (r == 0)
		r = load_tokens(tok, g, err);
	if (r == 0)
		r = spm ? load_spm(tok, g, err) : load_bpe(tok, g, pre, err);
	if (r == 0)
		r = load_added(tok, err);
	if (r < 0)
		return r;
	tok->bos = g->bos_id;
	tok->eos = g->eos_id;
	tok->unk = g->unk_id;
	add_bos = g->add_bos >= 0 ? g->add_bos : spm || pre->add_bos;
	add_eos = g->add_eos > 0;
	if ((add_bos && tok->bos == BMI_TOK_NO_ID) || (add_eos && tok->eos == BMI_TOK_NO_ID))
		return bmi_fail(err, -EINVAL,
				"add_bos_token or add_eos_token is set, but there is no such token");
	if ((add_bos && bmi_ids_put(&tok->prefix, tok->bos) < 0) ||
	    (add_eos && bmi_ids_put(&tok->suffix, tok->eos) < 0))
		return bmi_fail(err, -ENOMEM, "no memory for the tokenizer");
	return 0;
}

int bmi_tok_open_gguf(const struct bmi_tok_gguf *vocab, struct bmi_tok **ret, struct bmi_error *err)
{
	bmi_auto(bmi_tok) tok = bmi_tok_new();
	int r;

	if (!tok)
		return bmi_fail(err, -ENOMEM, "no memory for the tokenizer");
	tok->gguf = true;
	r = load(tok, vocab, err);
	if (r < 0)
		return r;
	*ret = bmi_steal(&tok);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from GGUF metadata (tokenizer.ggml.*) to a tokenizer: which key is which member. */
#include "run/engine_priv.h"

#include "weights/gguf.h"

#include <errno.h>
#include <string.h>

/* What the vocabulary is made of while it is handed over. */
struct parts {
	struct bmi_gguf_str *tokens, *merges;
	struct bmi_tok_text *token_texts, *merge_texts;
	float *scores;
	int64_t *types;
	int32_t *types32;
	char *model, *pre;
};

static void parts_fini(struct parts *p)
{
	free(p->tokens);
	free(p->merges);
	free(p->token_texts);
	free(p->merge_texts);
	free(p->scores);
	free(p->types);
	free(p->types32);
	free(p->model);
	free(p->pre);
}

static uint32_t get_id(const struct bmi_gguf *g, const char *key)
{
	uint64_t id;

	return bmi_gguf_get_u64(g, key, &id) && id < BMI_TOK_NO_ID ? (uint32_t)id : BMI_TOK_NO_ID;
}

static int get_flag(const struct bmi_gguf *g, const char *key)
{
	bool flag;

	return bmi_gguf_get_bool(g, key, &flag) ? flag : -1;
}

static int get_word(const struct bmi_gguf *g, const char *key, char **ret)
{
	struct bmi_gguf_str s;

	if (!bmi_gguf_get_str(g, key, &s))
		return 0;
	*ret = strndup(s.bytes, s.n);
	return *ret ? 0 : -ENOMEM;
}

/* An array of strings, as the tokenizer wants it. Absent: nothing. */
static int get_texts(const struct bmi_gguf *g, const char *key, struct bmi_gguf_str **ret_strs,
		     struct bmi_tok_text **ret, uint32_t *ret_n)
{
	size_t n = 0;
	int r = bmi_gguf_get_strs(g, key, ret_strs, &n);

	if (r == -ENOENT)
		return 0;
	if (r < 0)
		return r;
	if (n >= BMI_TOK_NO_ID)
		return -EINVAL;
	*ret = calloc(n ? n : 1, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		(*ret)[i] = (struct bmi_tok_text){ (*ret_strs)[i].bytes, (*ret_strs)[i].n };
	*ret_n = (uint32_t)n;
	return 0;
}

/* Optional numbers, one a token. */
static int get_numbers(const struct bmi_gguf *g, struct parts *p, uint32_t n_tokens)
{
	size_t n = n_tokens;
	int r = bmi_gguf_get_floats(g, "tokenizer.ggml.scores", &p->scores, &n);

	if (r < 0 && r != -ENOENT)
		return r;
	if (n != n_tokens)
		return -EINVAL;
	r = bmi_gguf_get_ints(g, "tokenizer.ggml.token_type", &p->types, &n);
	if (r == -ENOENT)
		return 0;
	if (r < 0 || n != n_tokens)
		return r < 0 ? r : -EINVAL;
	p->types32 = calloc(n ? n : 1, sizeof(*p->types32));
	if (!p->types32)
		return -ENOMEM;
	for (size_t i = 0; i < n; i++)
		p->types32[i] = (int32_t)p->types[i];
	return 0;
}

static int read_parts(const struct bmi_gguf *g, struct parts *p, struct bmi_tok_gguf *v)
{
	int r = get_word(g, "tokenizer.ggml.model", &p->model);

	if (r == 0)
		r = get_word(g, "tokenizer.ggml.pre", &p->pre);
	if (r == 0)
		r = get_texts(g, "tokenizer.ggml.tokens", &p->tokens, &p->token_texts, &v->n_tokens);
	if (r == 0)
		r = get_texts(g, "tokenizer.ggml.merges", &p->merges, &p->merge_texts, &v->n_merges);
	if (r == 0)
		r = get_numbers(g, p, v->n_tokens);
	v->model = p->model;
	v->pre = p->pre;
	v->tokens = p->token_texts;
	v->merges = p->merge_texts;
	v->scores = p->scores;
	v->types = p->types32;
	return r;
}

int bmi_vocab_open_gguf(const struct bmi_gguf *g, struct bmi_tok **ret, struct bmi_error *err)
{
	struct bmi_tok_gguf v = {
		.bos_id = get_id(g, "tokenizer.ggml.bos_token_id"),
		.eos_id = get_id(g, "tokenizer.ggml.eos_token_id"),
		.unk_id = get_id(g, "tokenizer.ggml.unknown_token_id"),
		.add_bos = get_flag(g, "tokenizer.ggml.add_bos_token"),
		.add_eos = get_flag(g, "tokenizer.ggml.add_eos_token"),
		.add_space_prefix = get_flag(g, "tokenizer.ggml.add_space_prefix"),
	};
	struct parts p = { 0 };
	int r = read_parts(g, &p, &v);

	if (r < 0)
		bmi_fail_errno(err, r, "the vocabulary in the GGUF metadata (tokenizer.ggml.*) cannot be used");
	else if (!v.tokens || !v.model)
		r = bmi_fail(err, -EINVAL, "the GGUF metadata has no tokenizer.ggml.tokens");
	else
		r = bmi_tok_open_gguf(&v, ret, err);
	parts_fini(&p);
	return r;
}

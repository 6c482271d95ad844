/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_TOKEN_H
#define BMI_TOKEN_TOKEN_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * A tokenizer: text <-> ids. Never changes after it was opened and configured, so any number of threads
 * may use one.
 */
struct bmi_tok;

/* A decoder that is fed id by id. Belongs to one thread at a time; the tokenizer must outlive it. */
struct bmi_detok;

#define BMI_TOK_NO_ID UINT32_MAX /* "there is no such token" wherever an id is given or taken */

enum {
	BMI_TOK_ADD_SPECIAL =
		1, /* what the post-processor (tokenizer.json) or add_bos/add_eos (GGUF) puts around */
	BMI_TOK_PARSE_SPECIAL =
		2, /* special tokens written in the text become their ids; else they are plain text */
};

/* Bytes lent by somebody; not NUL-terminated. */
struct bmi_tok_text {
	const char *bytes;
	size_t n;
};

/* Ids that grow. `{ 0 }` is empty. */
struct bmi_ids {
	uint32_t *ids;
	size_t n, cap;
};

void bmi_ids_fini(struct bmi_ids *ids);

/** bmi_ids_put() - append one id. Return: 0 or -ENOMEM (@ids stays as it was). */
int bmi_ids_put(struct bmi_ids *ids, uint32_t id);

#define bmi_auto_ids __attribute__((cleanup(bmi_ids_fini))) struct bmi_ids

/*
 * The vocabulary of a GGUF file, lent for the call of bmi_tok_open_gguf(). Names are those of its
 * metadata, tokenizer.ggml.*
 */
struct bmi_tok_gguf {
	const char *model;                 /* "gpt2" or "llama" */
	const char *pre;                   /* how gpt2 cuts words; NULL: absent, which means "default" */
	const struct bmi_tok_text *tokens; /* [n_tokens] */
	const float *scores;               /* [n_tokens]; needed by "llama", else may be NULL */
	const int32_t *types;              /* [n_tokens], token_type; NULL: all are normal */
	const struct bmi_tok_text *merges; /* [n_merges], "left right"; needed by "gpt2" */
	uint32_t n_tokens, n_merges;
	uint32_t bos_id, eos_id, unk_id; /* BMI_TOK_NO_ID: absent */
	int add_bos, add_eos; /* 0, 1, or -1: absent; then the model's own default, as llama.cpp has it */
	int add_space_prefix; /* same; only "llama" looks at it */
};

/**
 * bmi_tok_open_json() - a tokenizer from the text of a Hugging Face tokenizer.json.
 * @json:  @n bytes; may be freed when the call is over.
 * @ret:   on success the caller frees it with bmi_tok_free(); untouched on failure.
 * @err:   why, in one sentence; may be NULL.
 *
 * Answers what the peer (crate `tokenizers` 0.23) answers for the same file. Models: BPE, Unigram. A
 * normalizer, pre-tokenizer, post-processor, decoder, model or option that is not known here is refused by
 * name. `truncation` and `padding` are not applied: transformers overrides both in every call. Every value
 * is checked before use; patterns run under PCRE2's match limits. Cost: linear in @n; 0.8 s and 150 MB at
 * its peak for Gemma's 33 MB on one core.
 *
 * Return: 0, -EINVAL (not JSON, or values that contradict each other), -EOPNOTSUPP (named), -ENOMEM.
 */
int bmi_tok_open_json(const char *json, size_t n, struct bmi_tok **ret, struct bmi_error *err);

/**
 * bmi_tok_open_gguf() - a tokenizer from the metadata of a GGUF file.
 * @vocab: lent for the call.
 * @ret:   on success the caller frees it with bmi_tok_free(); untouched on failure.
 *
 * Answers what the peer, llama.cpp, answers: "llama" merges neighbours by score with byte fallback, "gpt2"
 * is byte-level BPE with the pattern that @vocab->pre names. User-defined tokens are found longest first, as
 * there.
 *
 * Return: 0, -EINVAL (contradictions, with the token's number), -EOPNOTSUPP (a model or pre that is not
 * known), -ENOMEM.
 */
int bmi_tok_open_gguf(const struct bmi_tok_gguf *vocab, struct bmi_tok **ret, struct bmi_error *err);

/**
 * bmi_tok_set_config() - take bos_token, eos_token and unk_token from the text of a tokenizer_config.json.
 * @json: @n bytes; may be freed afterwards. Other members do not touch text <-> ids and are left alone.
 *
 * For tokenizer.json, which does not name them. To be called before the tokenizer is shared.
 *
 * Return: 0, -EINVAL (not JSON, or a token that is not in the vocabulary; nothing is changed then), -ENOMEM.
 */
int bmi_tok_set_config(struct bmi_tok *tok, const char *json, size_t n, struct bmi_error *err);

void bmi_tok_free(struct bmi_tok *tok);
BMI_AUTO(bmi_tok)

/**
 * bmi_tok_encode() - the ids of a text.
 * @text:  @n bytes of UTF-8; NUL bytes are text. Less than 1 GiB.
 * @flags: BMI_TOK_ADD_SPECIAL, BMI_TOK_PARSE_SPECIAL. Added tokens that are not special are always
 *         recognised.
 * @ret:   ids are appended; on failure it is as it was before.
 *
 * Cost: O(n log n) at worst; 10 to 18 MB/s on English text on one core here. Memory: about 52 bytes per
 * character of the longest word (BPE, llama), 24 per byte (Unigram). Any number of threads at once.
 *
 * Return: 0, -EILSEQ (not UTF-8, with the offset), -EFBIG, -E2BIG (a pattern of the tokenizer needs too many
 * steps on this text), -EINVAL (a character that the vocabulary cannot say and no unknown token to stand for
 * it), -ENOMEM.
 */
int bmi_tok_encode(const struct bmi_tok *tok, const char *text, size_t n, unsigned flags, struct bmi_ids *ret,
		   struct bmi_error *err);

/**
 * bmi_tok_decode() - the text of ids.
 * @skip_special: leave special tokens out (all of them: the peer forgets those that its normalizer changes).
 * @ret: always valid UTF-8 is appended. Ids that name no token are left out, as the peer does.
 *
 * Return: 0, -ENOMEM, -E2BIG (a Replace pattern of the decoder needs too many steps). On failure @ret holds
 * a part.
 */
int bmi_tok_decode(const struct bmi_tok *tok, const uint32_t *ids, size_t n, bool skip_special,
		   struct bmi_str *ret);

/**
 * bmi_detok_new() - a decoder at the start of a text; NULL when memory is short. Free with
 * bmi_detok_free().
 */
struct bmi_detok *bmi_detok_new(const struct bmi_tok *tok, bool skip_special);
void bmi_detok_free(struct bmi_detok *d);
BMI_AUTO(bmi_detok)

/**
 * bmi_detok_push() - one more id.
 * @ret: the text that no later id can change is appended: whole characters, maybe none.
 *
 * All pieces and the flush, joined, are exactly what bmi_tok_decode() gives for the same ids.
 *
 * Return: 0, -ENOMEM, -E2BIG.
 */
int bmi_detok_push(struct bmi_detok *d, uint32_t id, struct bmi_str *ret);

/**
 * bmi_detok_flush() - the text is over: append what was held back (half a character becomes U+FFFD) and
 * start anew.
 *
 * Return: 0, -ENOMEM, -E2BIG.
 */
int bmi_detok_flush(struct bmi_detok *d, struct bmi_str *ret);

/** bmi_tok_n_vocab() - one more than the largest id. */
uint32_t bmi_tok_n_vocab(const struct bmi_tok *tok);

/** bmi_tok_bos() - the id, or BMI_TOK_NO_ID when nothing named it. */
uint32_t bmi_tok_bos(const struct bmi_tok *tok);
uint32_t bmi_tok_eos(const struct bmi_tok *tok);
uint32_t bmi_tok_unk(const struct bmi_tok *tok);

/** bmi_tok_is_special() - is it a token that skip_special leaves out? False for an id that names none. */
bool bmi_tok_is_special(const struct bmi_tok *tok, uint32_t id);

/**
 * bmi_tok_text() - a token as the vocabulary writes it ("Ġthe", "<0x0A>"), lent; { NULL, 0 } for an id
 * that names none.
 */
struct bmi_tok_text bmi_tok_text(const struct bmi_tok *tok, uint32_t id);

/** bmi_tok_find() - the id of a token as the vocabulary writes it; BMI_TOK_NO_ID when there is none. */
uint32_t bmi_tok_find(const struct bmi_tok *tok, const char *text, size_t n);

#endif

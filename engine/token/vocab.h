/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_VOCAB_H
#define BMI_TOKEN_VOCAB_H

#include "token/token.h"

enum {
	BMI_TOK_SPECIAL = 1,  /* left out by skip_special */
	BMI_TOK_ADDED = 2,    /* an added (tokenizer.json), control, unknown or user-defined (GGUF) token */
	BMI_TOK_BYTE = 4,     /* GGUF token_type 6: stands for one byte */
	BMI_TOK_THERE = 8,    /* some token has this id */
	BMI_TOK_RENAMED = 16, /* is decoded to another text */
};

enum {
	BMI_TOK_MAX_ID = 1 << 23
}; /* ids above are refused: they would cost memory for nothing; the largest known is 2^18 + a few */

/* Tokens by id, and the model's own tokens by text. A copy of every text in one block. */
struct bmi_tok_vocab {
	struct bmi_str text;
	struct bmi_tok_word {
		uint32_t off, n;
	} * word;       /* [n] */
	uint8_t *flags; /* [n] */
	uint32_t n, cap;
	struct bmi_tok_slot {
		uint32_t hash, id;
	} * slots;     /* open addressing; id BMI_TOK_NO_ID: free */
	uint32_t mask; /* n_slots - 1 */
	uint32_t n_used;
	uint64_t seed;      /* so that a file cannot be made to collide */
	uint32_t n_longest; /* bytes of the longest of the model's own tokens */
};

/** bmi_tok_vocab_init() - room for @n_tokens of the model. Return: 0 or -ENOMEM. */
int bmi_tok_vocab_init(struct bmi_tok_vocab *v, size_t n_tokens);
void bmi_tok_vocab_fini(struct bmi_tok_vocab *v);

/**
 * bmi_tok_vocab_set() - give @id its text, copied; its flags become @flags and BMI_TOK_THERE.
 *
 * Return: 0, -EEXIST (the id has a text already), -ERANGE (the id is too large), -ENOMEM, -EFBIG (4 GiB of
 * text).
 */
int bmi_tok_vocab_set(struct bmi_tok_vocab *v, uint32_t id, struct bmi_tok_text text, unsigned flags);

/**
 * bmi_tok_vocab_index() - make bmi_tok_vocab_get() find @id by its text, instead of an earlier id with the
 * same text.
 */
void bmi_tok_vocab_index(struct bmi_tok_vocab *v, uint32_t id);

/** bmi_tok_vocab_get() - the id of a text among the indexed ones, or BMI_TOK_NO_ID. */
uint32_t bmi_tok_vocab_get(const struct bmi_tok_vocab *v, const char *s, size_t n);

/** bmi_tok_vocab_byte() - the id of "<0xHH>", or BMI_TOK_NO_ID. */
uint32_t bmi_tok_vocab_byte(const struct bmi_tok_vocab *v, unsigned char byte);

static inline struct bmi_tok_text bmi_tok_vocab_text(const struct bmi_tok_vocab *v, uint32_t id)
{
	return (struct bmi_tok_text){ v->text.bytes + v->word[id].off, v->word[id].n };
}

static inline bool bmi_tok_vocab_has(const struct bmi_tok_vocab *v, uint32_t id)
{
	return id < v->n && v->flags[id] & BMI_TOK_THERE;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which neighbouring characters may ever end up in one token: lets a text that is one word for the model
 * (sentencepiece-like tokenizers do not split) be done word by word. Invariant: a bit may be set for
 * nothing, but is never missing.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum { JOIN_BITS = 1 << 20 }; /* 128 KiB; Gemma's merges set 3 % of them */

static uint32_t bit_of(uint32_t a, uint32_t b)
{
	return (uint32_t)(((uint64_t)a << 32 | b) * UINT64_C(0x9e3779b97f4a7c15) >> 44);
}

static void set(struct bmi_tok_joins *j, uint32_t a, uint32_t b)
{
	const uint32_t bit = bit_of(a, b);

	j->bits[bit / 64] |= UINT64_C(1) << bit % 64;
}

bool bmi_tok_joins_get(const struct bmi_tok_joins *j, uint32_t a, uint32_t b)
{
	const uint32_t bit = bit_of(a, b);

	return j->bits[bit / 64] >> bit % 64 & 1;
}

/*
 * Symbols that do not look like their text would make neighbours that no bit speaks of: bytes and unknown
 * tokens in a merge, characters that vanish, unknown tokens that are joined or wait. Then every text is
 * merged as a whole.
 */
static bool may_cut(const struct bmi_tok *tok)
{
	bool all_bytes = tok->byte_fallback;

	for (unsigned b = 0; b < 256; b++)
		all_bytes &= tok->byte_id[b] != BMI_TOK_NO_ID;
	for (unsigned i = 0; i < tok->n_pre; i++)
		if (tok->pre[i].kind == BMI_TOK_PRE_BYTES) /* words are short anyway */
			return false;
	return !tok->ignore_merges &&
	       (all_bytes || (!tok->byte_fallback && !tok->fuse_unk && tok->model_unk != BMI_TOK_NO_ID));
}

static bool is_byte(struct bmi_tok_text s)
{
	return s.n == 6 && !memcmp(s.bytes, "<0x", 3) && s.bytes[5] == '>';
}

int bmi_tok_joins_pairs(struct bmi_tok *tok)
{
	struct bmi_tok_joins joins = { 0 };
	unsigned n;

	if (tok->model != BMI_TOK_BPE || !may_cut(tok))
		return 0;
	joins.bits = calloc(JOIN_BITS / 64, sizeof(*joins.bits));
	if (!joins.bits)
		return -ENOMEM;
	for (uint32_t i = 0; i <= tok->pairs.mask; i++) {
		const uint64_t key = tok->pairs.slots[i].key;
		const uint32_t left = (uint32_t)(key >> 32), right = (uint32_t)key;
		struct bmi_tok_text a, b;

		if (key == UINT64_MAX)
			continue;
		a = bmi_tok_vocab_text(&tok->vocab, left);
		b = bmi_tok_vocab_text(&tok->vocab, right);
		if (!a.n || !b.n || is_byte(a) || is_byte(b) || left == tok->model_unk ||
		    right == tok->model_unk) {
			free(joins.bits);
			return 0;
		}
		set(&joins, bmi_tok_utf8_get(a.bytes + bmi_tok_utf8_prev(a.bytes, a.n), &n),
		    bmi_tok_utf8_get(b.bytes, &n));
	}
	tok->joins = joins;
	return 0;
}

int bmi_tok_joins_texts(struct bmi_tok *tok)
{
	unsigned n;

	tok->joins.bits = calloc(JOIN_BITS / 64, sizeof(*tok->joins.bits));
	if (!tok->joins.bits)
		return -ENOMEM;
	for (uint32_t id = 0; id < tok->vocab.n; id++) {
		const struct bmi_tok_text s = bmi_tok_vocab_text(&tok->vocab, id);
		uint32_t a = s.n ? bmi_tok_utf8_get(s.bytes, &n) : 0;

		for (size_t i = s.n ? n : 0; i < s.n; i += n) {
			const uint32_t b = bmi_tok_utf8_get(s.bytes + i, &n);

			set(&tok->joins, a, b);
			a = b;
		}
	}
	return 0;
}

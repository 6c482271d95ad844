/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the tokens' texts and the table text -> id of the model's own tokens. Added tokens have a text here
 * but are not in the table: the model must not find them. Invariant: at most half of the slots are used, so
 * every search ends; word[i] of an id that is not BMI_TOK_THERE is { 0, 0 }.
 */
#include "token/vocab.h"

#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

int bmi_tok_vocab_init(struct bmi_tok_vocab *v, size_t n_tokens)
{
	uint64_t n_slots = 64;

	if (getrandom(&v->seed, sizeof(v->seed), GRND_NONBLOCK) != sizeof(v->seed))
		v->seed = (uintptr_t)v; /* early boot: the address is better than nothing */
	while (n_slots < 2 * (uint64_t)n_tokens + 2)
		n_slots *= 2;
	if (n_slots > UINT32_MAX / 2)
		return -ENOMEM;
	v->slots = malloc(n_slots * sizeof(*v->slots));
	if (!v->slots)
		return -ENOMEM;
	memset(v->slots, 0xff, n_slots * sizeof(*v->slots));
	v->mask = (uint32_t)(n_slots - 1);
	return 0;
}

void bmi_tok_vocab_fini(struct bmi_tok_vocab *v)
{
	bmi_str_fini(&v->text);
	free(v->word);
	free(v->flags);
	free(v->slots);
	*v = (struct bmi_tok_vocab){ 0 };
}

static int grow(struct bmi_tok_vocab *v, uint32_t n)
{
	uint32_t cap = v->cap ? v->cap : 1024;
	void *p;

	while (cap < n)
		cap *= 2;
	if (cap != v->cap) {
		p = realloc(v->word, (size_t)cap * sizeof(*v->word));
		if (!p)
			return -ENOMEM;
		v->word = p;
		p = realloc(v->flags, cap);
		if (!p)
			return -ENOMEM;
		v->flags = p;
		v->cap = cap;
	}
	if (n > v->n) {
		memset(v->word + v->n, 0, (size_t)(n - v->n) * sizeof(*v->word));
		memset(v->flags + v->n, 0, n - v->n);
		v->n = n;
	}
	return 0;
}

int bmi_tok_vocab_set(struct bmi_tok_vocab *v, uint32_t id, struct bmi_tok_text text, unsigned flags)
{
	if (id >= BMI_TOK_MAX_ID)
		return -ERANGE;
	if (bmi_tok_vocab_has(v, id))
		return -EEXIST;
	if (v->text.n + text.n > UINT32_MAX)
		return -EFBIG;
	if (grow(v, id + 1) < 0 || bmi_str_put(&v->text, text.bytes, text.n) < 0)
		return -ENOMEM;
	v->word[id] = (struct bmi_tok_word){ (uint32_t)(v->text.n - text.n), (uint32_t)text.n };
	v->flags[id] = (uint8_t)(flags | BMI_TOK_THERE);
	return 0;
}

/* The slot that holds the text, or the free one where it would be put. */
static struct bmi_tok_slot *find(const struct bmi_tok_vocab *v, const char *s, size_t n, uint32_t *ret_hash)
{
	const uint64_t hash = bmi_hash64(s, n, v->seed);
	const uint32_t tag = (uint32_t)(hash >> 32);

	*ret_hash = tag;
	for (uint32_t i = (uint32_t)hash & v->mask;; i = (i + 1) & v->mask) {
		struct bmi_tok_slot *slot = &v->slots[i];

		if (slot->id == BMI_TOK_NO_ID)
			return slot;
		if (slot->hash == tag && v->word[slot->id].n == n &&
		    !memcmp(v->text.bytes + v->word[slot->id].off, s, n))
			return slot;
	}
}

void bmi_tok_vocab_index(struct bmi_tok_vocab *v, uint32_t id)
{
	const struct bmi_tok_text text = bmi_tok_vocab_text(v, id);
	uint32_t hash;
	struct bmi_tok_slot *slot = find(v, text.bytes, text.n, &hash);

	if (slot->id == BMI_TOK_NO_ID && v->n_used > v->mask / 2)
		return; /* cannot be: init was told how many come */
	v->n_used += slot->id == BMI_TOK_NO_ID;
	*slot = (struct bmi_tok_slot){ hash, id };
	if (text.n > v->n_longest)
		v->n_longest = (uint32_t)text.n;
}

uint32_t bmi_tok_vocab_get(const struct bmi_tok_vocab *v, const char *s, size_t n)
{
	uint32_t hash;

	if (n > v->n_longest)
		return BMI_TOK_NO_ID;
	return find(v, s, n, &hash)->id;
}

uint32_t bmi_tok_vocab_byte(const struct bmi_tok_vocab *v, unsigned char byte)
{
	char name[8];

	return bmi_tok_vocab_get(v, name, (size_t)snprintf(name, sizeof(name), "<0x%02X>", byte));
}

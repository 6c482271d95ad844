/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tables that merging looks into (pairs, words seen), and the step from a piece of text to words.
 * Invariant: what is cut and remembered here is exactly what merging the whole piece would give; where that
 * is not certain, nothing is cut.
 */
#include "token/token_priv.h"

#include "base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

static uint64_t mix(uint64_t x)
{
	x ^= x >> 33; /* MurmurHash3's finalizer */
	x *= UINT64_C(0xff51afd7ed558ccd);
	x ^= x >> 33;
	x *= UINT64_C(0xc4ceb9fe1a85ec53);
	return x ^ x >> 33;
}

int bmi_tok_pairs_init(struct bmi_tok_pairs *p, size_t n)
{
	uint64_t n_slots = 64;

	while (n_slots < 2 * (uint64_t)n + 2)
		n_slots *= 2;
	if (n_slots > UINT32_MAX / 2)
		return -ENOMEM;
	if (getrandom(&p->seed, sizeof(p->seed), GRND_NONBLOCK) != sizeof(p->seed))
		p->seed = (uintptr_t)p;
	p->slots = malloc(n_slots * sizeof(*p->slots));
	if (!p->slots)
		return -ENOMEM;
	memset(p->slots, 0xff, n_slots * sizeof(*p->slots));
	p->mask = (uint32_t)(n_slots - 1);
	return 0;
}

static struct bmi_tok_pair *find_pair(const struct bmi_tok_pairs *p, uint64_t key)
{
	for (uint32_t i = (uint32_t)mix(key ^ p->seed) & p->mask;; i = (i + 1) & p->mask)
		if (p->slots[i].key == key || p->slots[i].key == UINT64_MAX)
			return &p->slots[i];
}

void bmi_tok_pairs_set(struct bmi_tok_pairs *p, uint32_t left, uint32_t right, uint32_t rank, uint32_t id)
{
	const uint64_t key = (uint64_t)left << 32 | right;

	*find_pair(p, key) = (struct bmi_tok_pair){ key, rank, id };
}

const struct bmi_tok_pair *bmi_tok_pairs_get(const struct bmi_tok_pairs *p, uint32_t left, uint32_t right)
{
	const struct bmi_tok_pair *pair = find_pair(p, (uint64_t)left << 32 | right);

	return pair->key == UINT64_MAX ? NULL : pair;
}

/* One place per hash, the newest word wins: no chains to walk and nothing to evict. */
enum { CACHE_SLOTS = 8192, CACHE_WORD = 39, CACHE_IDS = 12 };

struct bmi_tok_cache {
	struct {
		uint32_t ids[CACHE_IDS];
		uint8_t n_ids, n; /* n == 0: free */
		char word[CACHE_WORD];
	} slot[CACHE_SLOTS];
};

struct bmi_tok_cache *bmi_tok_cache_new(void)
{
	return calloc(1, sizeof(struct bmi_tok_cache));
}

void bmi_tok_cache_free(struct bmi_tok_cache *c)
{
	free(c);
}

int bmi_tok_cache_get(struct bmi_tok_cache *c, const char *s, size_t n, struct bmi_ids *out)
{
	const size_t at = bmi_hash64(s, n, 0) % CACHE_SLOTS;
	int r = 1;

	if (n > CACHE_WORD || c->slot[at].n != n || memcmp(c->slot[at].word, s, n) != 0)
		return 0;
	for (unsigned i = 0; r == 1 && i < c->slot[at].n_ids; i++)
		r = bmi_ids_put(out, c->slot[at].ids[i]) < 0 ? -ENOMEM : 1;
	return r;
}

void bmi_tok_cache_put(struct bmi_tok_cache *c, const char *s, size_t n, const struct bmi_ids *out, size_t first)
{
	const size_t at = bmi_hash64(s, n, 0) % CACHE_SLOTS, n_ids = out->n - first;

	if (n > CACHE_WORD || n_ids > CACHE_IDS)
		return;
	c->slot[at].n = (uint8_t)n;
	c->slot[at].n_ids = (uint8_t)n_ids;
	memcpy(c->slot[at].word, s, n);
	if (n_ids)
		memcpy(c->slot[at].ids, out->ids + first, n_ids * sizeof(*out->ids));
}

static int encode_word(struct bmi_tok_enc *e, const char *s, size_t n)
{
	const size_t first = e->out->n;
	int r;

	if (e->cache) {
		r = bmi_tok_cache_get(e->cache, s, n, e->out);
		if (r)
			return r < 0 ? r : 0;
	}
	if (e->tok->ignore_merges) {
		const uint32_t id = bmi_tok_vocab_get(&e->tok->vocab, s, n);

		if (id != BMI_TOK_NO_ID)
			return bmi_ids_put(e->out, id);
	}
	r = bmi_tok_merge_word(e, s, n);
	if (r == 0 && e->cache)
		bmi_tok_cache_put(e->cache, s, n, e->out, first);
	return r;
}

int bmi_tok_encode_piece(struct bmi_tok_enc *e, const char *s, size_t n)
{
	const struct bmi_tok_joins *joins = &e->tok->joins;
	size_t start = 0, i;
	unsigned len;
	uint32_t a, b;
	int r = 0;

	if (n > INT32_MAX) /* the stages before made more of the text */
		return -EFBIG;
	if (e->tok->model == BMI_TOK_UNIGRAM)
		return bmi_tok_encode_unigram(e, s, n);
	if (!joins->bits)
		return encode_word(e, s, n);
	a = bmi_tok_utf8_get(s, &len);
	for (i = len; r == 0 && i < n; i += len, a = b) {
		b = bmi_tok_utf8_get(s + i, &len);
		if (bmi_tok_joins_get(joins, a, b))
			continue;
		r = encode_word(e, s + start, i - start);
		start = i;
	}
	return r < 0 ? r : encode_word(e, s + start, n - start);
}

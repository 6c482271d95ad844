/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Merging a word: BPE and sentencepiece's greedy merge are one loop that differs only in what a pair is
 * worth. Symbols are a linked list, candidates a binary heap, so n characters cost O(n log n). Invariant: a
 * candidate is fresh exactly when its left symbol lives, has a right neighbour, and both together are still
 * as long as when it was found; a span of bytes is made of the same two symbols as long as both live, so
 * nothing else needs comparing.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int room(void *array, size_t *cap, size_t need, size_t size)
{
	void **p = array, *more;
	size_t n = *cap ? *cap : 64;

	while (n < need)
		n *= 2;
	if (n == *cap)
		return 0;
	more = realloc(*p, n * size);
	if (!more)
		return -ENOMEM;
	*p = more;
	*cap = n;
	return 0;
}

static void sift_down(struct bmi_tok_cand *heap, size_t n, size_t i)
{
	const struct bmi_tok_cand c = heap[i];

	for (size_t kid; (kid = 2 * i + 1) < n; i = kid) {
		if (kid + 1 < n && heap[kid + 1].key < heap[kid].key)
			kid++;
		if (heap[kid].key >= c.key)
			break;
		heap[i] = heap[kid];
	}
	heap[i] = c;
}

static void push(struct bmi_tok_cand *heap, size_t *n, struct bmi_tok_cand c)
{
	size_t i = (*n)++;

	for (size_t up; i && heap[up = (i - 1) / 2].key > c.key; i = up)
		heap[i] = heap[up];
	heap[i] = c;
}

/* What the symbols at @left and its neighbour become, if anything. */
static bool candidate(const struct bmi_tok_enc *e, const char *s, int32_t left, struct bmi_tok_cand *ret)
{
	const struct bmi_tok *tok = e->tok;
	const struct bmi_tok_sym *l = &e->syms[left], *r = &e->syms[l->next];

	ret->n = l->n + r->n;
	if (tok->model == BMI_TOK_SPM) {
		ret->id = bmi_tok_vocab_get(&tok->vocab, s + l->off, ret->n);
		if (ret->id == BMI_TOK_NO_ID)
			return false;
		ret->key = (uint64_t)tok->order[ret->id] << 32 | (uint32_t)left;
	} else {
		const struct bmi_tok_pair *pair = bmi_tok_pairs_get(&tok->pairs, l->id, r->id);

		if (!pair)
			return false;
		ret->id = pair->id;
		ret->key = (uint64_t)pair->rank << 32 | (uint32_t)left;
	}
	return true;
}

static int add_sym(struct bmi_tok_enc *e, size_t *n_syms, uint32_t id, size_t off, size_t n)
{
	if (*n_syms >= INT32_MAX)
		return -EFBIG;
	if (*n_syms == e->cap_syms && room(&e->syms, &e->cap_syms, *n_syms + 1, sizeof(*e->syms)) < 0)
		return -ENOMEM;
	e->syms[*n_syms] = (struct bmi_tok_sym){ (uint32_t)off, (uint32_t)n, id, (int32_t)*n_syms - 1,
						 (int32_t)*n_syms + 1 };
	(*n_syms)++;
	return 0;
}

static uint32_t char_id(const struct bmi_tok *tok, const char *s, unsigned *ret_n)
{
	const uint32_t c = bmi_tok_utf8_get(s, ret_n);

	return c < BMI_TOK_LOW_CHARS ? tok->low_id[c] : bmi_tok_vocab_get(&tok->vocab, s, *ret_n);
}

static bool has_bytes(const struct bmi_tok *tok, const char *s, unsigned n)
{
	for (unsigned i = 0; i < n; i++)
		if (tok->byte_id[(unsigned char)s[i]] == BMI_TOK_NO_ID)
			return false;
	return true;
}

/*
 * One symbol per character. Characters that are not in the vocabulary become bytes, or unknown tokens,
 * joined if the file says so, or nothing. As in the peer, an unknown token waits for the next known
 * character, even past bytes.
 */
static int split_bpe(struct bmi_tok_enc *e, const char *s, size_t n, size_t *n_syms)
{
	const struct bmi_tok *tok = e->tok;
	size_t unk_n = 0, unk_off = 0;
	unsigned len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i += len) {
		const uint32_t id = char_id(tok, s + i, &len);

		if (id != BMI_TOK_NO_ID) {
			if (unk_n)
				r = add_sym(e, n_syms, tok->model_unk, unk_off, unk_n);
			unk_n = 0;
			if (r == 0)
				r = add_sym(e, n_syms, id, i, len);
		} else if (tok->byte_fallback && has_bytes(tok, s + i, len)) {
			for (unsigned k = 0; r == 0 && k < len; k++)
				r = add_sym(e, n_syms, tok->byte_id[(unsigned char)s[i + k]], i + k, 1);
		} else if (tok->model_unk != BMI_TOK_NO_ID) {
			if (unk_n && !tok->fuse_unk) {
				r = add_sym(e, n_syms, tok->model_unk, unk_off, unk_n);
				unk_n = 0;
			}
			unk_off = unk_n ? unk_off : i;
			unk_n += len;
		}
	}
	if (r == 0 && unk_n)
		r = add_sym(e, n_syms, tok->model_unk, unk_off, unk_n);
	return r;
}

static int split_spm(struct bmi_tok_enc *e, const char *s, size_t n, size_t *n_syms)
{
	unsigned len;
	int r = 0;

	for (size_t i = 0; r == 0 && i < n; i += len) {
		const uint32_t id = char_id(e->tok, s + i, &len);

		r = add_sym(e, n_syms, id, i, len);
	}
	return r;
}

static void merge_all(struct bmi_tok_enc *e, const char *s, size_t n_heap)
{
	struct bmi_tok_sym *syms = e->syms;
	struct bmi_tok_cand *heap = e->heap;
	struct bmi_tok_cand more;

	for (size_t i = n_heap / 2; i-- > 0;)
		sift_down(heap, n_heap, i);
	while (n_heap) {
		const struct bmi_tok_cand top = heap[0];
		const int32_t left = (int32_t)(uint32_t)top.key, right = syms[left].next;

		heap[0] = heap[--n_heap];
		if (n_heap)
			sift_down(heap, n_heap, 0);
		if (!syms[left].n || right < 0 || syms[left].n + syms[right].n != top.n)
			continue;
		syms[left].n = top.n;
		syms[left].id = top.id;
		syms[left].next = syms[right].next;
		syms[right].n = 0;
		if (syms[left].next >= 0)
			syms[syms[left].next].prev = left;
		if (syms[left].prev >= 0 && candidate(e, s, syms[left].prev, &more))
			push(heap, &n_heap, more);
		if (syms[left].next >= 0 && candidate(e, s, left, &more))
			push(heap, &n_heap, more);
	}
}

static int put_spm(struct bmi_tok_enc *e, const char *s, const struct bmi_tok_sym *sym)
{
	int r = 0;

	if (sym->id != BMI_TOK_NO_ID)
		return bmi_ids_put(e->out, sym->id);
	for (uint32_t k = 0; r == 0 && k < sym->n; k++)
		r = bmi_ids_put(e->out, e->tok->byte_id[(unsigned char)s[sym->off + k]]);
	return r;
}

int bmi_tok_merge_word(struct bmi_tok_enc *e, const char *s, size_t n)
{
	size_t n_syms = 0, n_heap = 0;
	int r;

	r = e->tok->model == BMI_TOK_SPM ? split_spm(e, s, n, &n_syms) : split_bpe(e, s, n, &n_syms);
	if (r < 0)
		return r;
	if (!n_syms)
		return 0;
	e->syms[n_syms - 1].next = -1;
	/* n - 1 at first; each of n - 1 merges takes one out and puts at most two in */
	if (2 * n_syms > e->cap_heap && room(&e->heap, &e->cap_heap, 2 * n_syms, sizeof(*e->heap)) < 0)
		return -ENOMEM;
	for (size_t i = 0; i + 1 < n_syms; i++)
		n_heap += candidate(e, s, (int32_t)i, &e->heap[n_heap]);
	merge_all(e, s, n_heap);
	for (int32_t i = 0; r == 0 && i >= 0; i = e->syms[i].next)
		r = e->tok->model == BMI_TOK_SPM ? put_spm(e, s, &e->syms[i])
						 : bmi_ids_put(e->out, e->syms[i].id);
	return r;
}

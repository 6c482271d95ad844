/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A byte trie in four flat arrays, built once from sorted strings, level by level: node i owns the run
 * lo[i]..hi[i] of the sorted items, all of which share its path. Invariant while building: runs of brothers
 * are disjoint and ascending, so children can be appended in order. Owns its arrays only.
 */
#include "token/trie.h"

#include <errno.h>
#include <stdlib.h>

struct run {
	uint32_t lo, hi, depth;
};

struct build {
	struct bmi_tok_trie *t;
	struct run *runs; /* [cap], beside the nodes */
	uint32_t cap;
};

static int by_key(const void *a, const void *b)
{
	const struct bmi_tok_trie_item *x = a, *y = b;
	const int d = memcmp(x->key.bytes, y->key.bytes, x->key.n < y->key.n ? x->key.n : y->key.n);

	if (d || x->key.n != y->key.n)
		return d ? d : x->key.n < y->key.n ? -1 : 1;
	return (x->value > y->value) - (x->value < y->value);
}

static int grow(void *p, uint32_t n, size_t size)
{
	void **at = p, *more = realloc(*at, (size_t)n * size);

	if (!more)
		return -ENOMEM;
	*at = more;
	return 0;
}

static int add_node(struct build *b, uint8_t label, struct run run)
{
	struct bmi_tok_trie *t = b->t;

	if (t->n_nodes == b->cap) {
		if (b->cap >= UINT32_C(1) << 30)
			return -EFBIG;
		b->cap = b->cap ? b->cap * 2 : 256;
		if (grow(&t->first, b->cap, sizeof(*t->first)) < 0 ||
		    grow(&t->value, b->cap, sizeof(*t->value)) < 0 ||
		    grow(&t->n, b->cap, sizeof(*t->n)) < 0 || grow(&t->label, b->cap, sizeof(*t->label)) < 0 ||
		    grow(&b->runs, b->cap, sizeof(*b->runs)) < 0)
			return -ENOMEM;
	}
	t->first[t->n_nodes] = 0;
	t->n[t->n_nodes] = 0;
	t->value[t->n_nodes] = BMI_TOK_NO_ID;
	t->label[t->n_nodes] = label;
	b->runs[t->n_nodes++] = run;
	return 0;
}

static int add_children(struct build *b, const struct bmi_tok_trie_item *items, uint32_t node)
{
	const struct run run = b->runs[node];
	uint32_t lo = run.lo;

	if (items[lo].key.n == run.depth) {
		b->t->value[node] = items[lo].value;
		while (lo < run.hi && items[lo].key.n == run.depth) /* equal strings: the first stays */
			lo++;
	}
	b->t->first[node] = b->t->n_nodes;
	while (lo < run.hi) {
		const char byte = items[lo].key.bytes[run.depth];
		uint32_t hi = lo + 1;
		int r;

		while (hi < run.hi && items[hi].key.bytes[run.depth] == byte)
			hi++;
		r = add_node(b, (uint8_t)byte, (struct run){ lo, hi, run.depth + 1 });
		if (r < 0)
			return r;
		b->t->n[node]++;
		lo = hi;
	}
	return 0;
}

int bmi_tok_trie_build(struct bmi_tok_trie *t, struct bmi_tok_trie_item *items, size_t n)
{
	struct build b = { .t = t };
	int r;

	if (!n)
		return 0;
	if (n > UINT32_MAX)
		return -EFBIG;
	qsort(items, n, sizeof(*items), by_key);
	r = add_node(&b, 0, (struct run){ 0, (uint32_t)n, 0 });
	for (uint32_t i = 0; r == 0 && i < t->n_nodes; i++)
		r = add_children(&b, items, i);
	free(b.runs);
	return r;
}

void bmi_tok_trie_fini(struct bmi_tok_trie *t)
{
	free(t->first);
	free(t->value);
	free(t->n);
	free(t->label);
	*t = (struct bmi_tok_trie){ 0 };
}

size_t bmi_tok_trie_longest(const struct bmi_tok_trie *t, const char *s, size_t n, uint32_t *ret_value)
{
	uint32_t node = 0;
	size_t best = 0;

	for (size_t i = 0; i < n; i++) {
		node = bmi_tok_trie_step(t, node, s[i]);
		if (!node)
			break;
		if (t->value[node] != BMI_TOK_NO_ID) {
			best = i + 1;
			*ret_value = t->value[node];
		}
	}
	return best;
}

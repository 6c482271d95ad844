/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_TRIE_H
#define BMI_TOKEN_TRIE_H

#include "token/token.h"

#include <string.h>

/*
 * Strings by their bytes. Node 0 is the root; the children of node i are the nodes first[i] .. first[i] +
 * n[i] - 1, and label[] of a node is the byte that leads to it, ascending among brothers. 11 bytes a node.
 */
struct bmi_tok_trie {
	uint32_t *first, *value; /* value: what ends here, or BMI_TOK_NO_ID */
	uint16_t *n;
	uint8_t *label;
	uint32_t n_nodes; /* 0: nothing is in it */
};

struct bmi_tok_trie_item {
	struct bmi_tok_text key; /* lent for the build */
	uint32_t value;
};

/**
 * bmi_tok_trie_build() - fill an empty trie.
 * @items: not empty strings; sorted in place. Of equal keys the one with the smallest value stays.
 *
 * Return: 0, -ENOMEM, -EFBIG (more than 2^31 nodes). On failure the trie is still fit for
 * bmi_tok_trie_fini().
 */
int bmi_tok_trie_build(struct bmi_tok_trie *t, struct bmi_tok_trie_item *items, size_t n);
void bmi_tok_trie_fini(struct bmi_tok_trie *t);

/** bmi_tok_trie_step() - the child of @node along @byte; 0, the root, when there is none. */
static inline uint32_t bmi_tok_trie_step(const struct bmi_tok_trie *t, uint32_t node, char byte)
{
	const uint8_t *at = memchr(t->label + t->first[node], (unsigned char)byte, t->n[node]);

	return at ? (uint32_t)(at - t->label) : 0;
}

/**
 * bmi_tok_trie_longest() - the longest string in it that @s[0..n) begins with. Return: its length; 0:
 * none.
 */
size_t bmi_tok_trie_longest(const struct bmi_tok_trie *t, const char *s, size_t n, uint32_t *ret_value);

#endif

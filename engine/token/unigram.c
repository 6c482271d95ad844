/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Unigram: the cut of a piece with the highest sum of log probabilities, by Viterbi over byte positions
 * (Kudo 2018; the order of additions and the strict comparison are the peer's, so that ties fall alike).
 * Invariant: nodes[i] is final once every start before i was tried; a node with prev == SIZE_MAX is not
 * reachable, and only ends of characters are.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define UNK_PENALTY 10.0 /* sentencepiece's kUnkPenalty */

struct node {
	double score;
	size_t prev;
	uint32_t id;
};

static void offer(struct node *to, double score, size_t prev, uint32_t id)
{
	if (to->prev == SIZE_MAX || score > to->score)
		*to = (struct node){ score, prev, id };
}

static int fill(struct bmi_tok_enc *e, struct node *nodes, const char *s, size_t n)
{
	const struct bmi_tok *tok = e->tok;
	const double unk_score = tok->min_score - UNK_PENALTY;

	nodes[0].prev = 0;
	for (size_t at = 0; at < n; at += bmi_tok_utf8_len(s[at])) {
		const size_t one = bmi_tok_utf8_len(s[at]);
		uint32_t where = 0;
		bool has_one = false;

		for (size_t i = at; i < n; i++) {
			where = bmi_tok_trie_step(&tok->trie, where, s[i]);
			if (!where)
				break;
			if (tok->trie.value[where] == BMI_TOK_NO_ID)
				continue;
			offer(&nodes[i + 1], tok->score[tok->trie.value[where]] + nodes[at].score, at,
			      tok->trie.value[where]);
			has_one |= i + 1 - at == one;
		}
		if (has_one)
			continue;
		if (tok->model_unk == BMI_TOK_NO_ID)
			return bmi_fail(
				e->err, -EINVAL,
				"the text has a character that no token can say, and there is no unk_id");
		offer(&nodes[at + one], unk_score + nodes[at].score, at, tok->model_unk);
	}
	return 0;
}

static int put_unknown(struct bmi_tok_enc *e, const char *s, size_t n)
{
	const struct bmi_tok *tok = e->tok;
	uint32_t id = bmi_tok_vocab_get(&tok->vocab, s, n);
	int r = 0;

	if (id != BMI_TOK_NO_ID)
		return bmi_ids_put(e->out, id);
	for (size_t i = 0; i < n && tok->byte_fallback; i++)
		if (tok->byte_id[(unsigned char)s[i]] == BMI_TOK_NO_ID)
			return bmi_ids_put(e->out, tok->model_unk);
	if (!tok->byte_fallback)
		return bmi_ids_put(e->out, tok->model_unk);
	for (size_t i = 0; r == 0 && i < n; i++)
		r = bmi_ids_put(e->out, tok->byte_id[(unsigned char)s[i]]);
	return r;
}

int bmi_tok_encode_unigram(struct bmi_tok_enc *e, const char *s, size_t n)
{
	struct node *nodes;
	size_t after = SIZE_MAX;
	int r;

	if (n + 1 > e->cap_nodes) {
		free(e->nodes);
		e->cap_nodes = 0;
		e->nodes = malloc((n + 1) * sizeof(*nodes));
		if (!e->nodes)
			return -ENOMEM;
		e->cap_nodes = n + 1;
	}
	nodes = e->nodes;
	for (size_t i = 0; i <= n; i++)
		nodes[i] = (struct node){ 0, SIZE_MAX, BMI_TOK_NO_ID };
	r = fill(e, nodes, s, n);
	if (r < 0)
		return r;
	/* turn the path round: prev becomes next, for reading from the start */
	for (size_t at = n; at;) {
		const size_t prev = nodes[at].prev;

		nodes[at].prev = after;
		after = at;
		at = prev;
	}
	for (size_t at = 0, end = after; r == 0 && at < n; at = end, end = nodes[at].prev) {
		while (nodes[end].id == e->tok->model_unk && end < n &&
		       nodes[nodes[end].prev].id == e->tok->model_unk)
			end = nodes[end].prev; /* unknown neighbours are one token */
		r = nodes[end].id == e->tok->model_unk ? put_unknown(e, s + at, end - at)
						       : bmi_ids_put(e->out, nodes[end].id);
	}
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Finds added tokens in text. Two ways, because the peers differ: `tokenizers` takes the leftmost, there the
 * longest; llama.cpp lets the longest token of the vocabulary cut the whole text first, then the next.
 * Invariant: the parts lie in order and cover the text, except that a token's part may take in the white
 * space beside it (lstrip, rstrip).
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int put(struct bmi_tok_parts *parts, size_t off, size_t n, uint32_t id)
{
	if (parts->n == parts->cap) {
		const size_t cap = parts->cap ? parts->cap * 2 : 32;
		void *more = realloc(parts->parts, cap * sizeof(*parts->parts));

		if (!more)
			return -ENOMEM;
		parts->parts = more;
		parts->cap = cap;
	}
	parts->parts[parts->n++] = (struct bmi_tok_part){ off, n, id };
	return 0;
}

static bool is_word(const struct bmi_tok *tok, struct bmi_tok_rematch *m, const char *s)
{
	size_t start, end;

	return bmi_tok_regex_find(tok->word, m, s, bmi_tok_utf8_len(s[0]), 0, &start, &end) > 0;
}

/* Is the match at @off a word of its own? */
static bool stands_alone(const struct bmi_tok *tok, struct bmi_tok_rematch *m, struct bmi_tok_text s,
			 size_t off, size_t n)
{
	if (off && is_word(tok, m, s.bytes + bmi_tok_utf8_prev(s.bytes, off)))
		return false;
	return off + n == s.n || !is_word(tok, m, s.bytes + off + n);
}

static size_t spaces_before(struct bmi_tok_text s, size_t off, size_t min)
{
	unsigned n;

	while (off > min) {
		const size_t at = bmi_tok_utf8_prev(s.bytes, off);

		if (at < min || !bmi_tok_is_space(bmi_tok_utf8_get(s.bytes + at, &n)))
			break;
		off = at;
	}
	return off;
}

static size_t spaces_after(struct bmi_tok_text s, size_t off)
{
	unsigned n;

	while (off < s.n && bmi_tok_is_space(bmi_tok_utf8_get(s.bytes + off, &n)))
		off += n;
	return off;
}

int bmi_tok_split_added(const struct bmi_tok *tok, struct bmi_tok_rematch *m, bool normalized,
			bool parse_special, struct bmi_tok_text s, struct bmi_tok_parts *ret)
{
	const struct bmi_tok_trie *trie = normalized ? &tok->normal : &tok->plain;
	size_t done = 0, n;
	uint32_t which = 0;
	int r = 0;

	ret->n = 0;
	for (size_t at = 0; r == 0 && trie->n_nodes && at < s.n; at += n ? n : 1) {
		const struct bmi_tok_added *a;
		size_t start = at, stop;

		n = bmi_tok_trie_longest(trie, s.bytes + at, s.n - at, &which);
		if (!n)
			continue;
		a = &tok->added[which];
		stop = at + n;
		if ((a->special && !parse_special) || (a->single_word && !stands_alone(tok, m, s, at, n)))
			continue; /* its characters are taken all the same: no match begins inside */
		if (a->lstrip) /* spaces that the match before took with rstrip are gone, maybe all of this one */
			start = done < at ? spaces_before(s, at, done) : done;
		if (a->rstrip)
			stop = spaces_after(s, stop);
		if (done < start)
			r = put(ret, done, start - done, BMI_TOK_NO_ID);
		if (r == 0 && start < stop)
			r = put(ret, start, stop - start, a->id);
		done = stop;
	}
	if (r == 0 && done < s.n)
		r = put(ret, done, s.n - done, BMI_TOK_NO_ID);
	return r;
}

/*
 * Which added tokens occur at all, each once, in the order in which they cut: the order of `added`,
 * longest first.
 */
static int find_present(const struct bmi_tok *tok, bool parse_special, struct bmi_tok_text s, uint8_t *present)
{
	int any = 0;

	for (size_t at = 0; tok->plain.n_nodes && at < s.n; at++) {
		uint32_t node = 0;

		for (size_t i = at; i < s.n; i++) {
			uint32_t which;

			node = bmi_tok_trie_step(&tok->plain, node, s.bytes[i]);
			if (!node)
				break;
			which = tok->plain.value[node];
			if (which != BMI_TOK_NO_ID && (parse_special || !tok->added[which].special))
				any = present[which] = 1;
		}
	}
	return any;
}

static int cut_at(const struct bmi_tok_added *a, struct bmi_tok_text s, const struct bmi_tok_parts *from,
		  struct bmi_tok_parts *to)
{
	int r = 0;

	to->n = 0;
	for (size_t i = 0; r == 0 && i < from->n; i++) {
		size_t off = from->parts[i].off;
		const size_t end = off + from->parts[i].n;
		const char *at;

		if (from->parts[i].id != BMI_TOK_NO_ID) {
			r = put(to, off, end - off, from->parts[i].id);
			continue;
		}
		while (r == 0 && (at = memmem(s.bytes + off, end - off, a->text.bytes, a->text.n)) != NULL) {
			const size_t start = (size_t)(at - s.bytes);

			if (off < start)
				r = put(to, off, start - off, BMI_TOK_NO_ID);
			if (r == 0)
				r = put(to, start, a->text.n, a->id);
			off = start + a->text.n;
		}
		if (r == 0 && off < end)
			r = put(to, off, end - off, BMI_TOK_NO_ID);
	}
	return r;
}

int bmi_tok_split_gguf(const struct bmi_tok *tok, bool parse_special, struct bmi_tok_text s,
		       struct bmi_tok_parts *ret)
{
	bmi_auto_mem uint8_t *present = calloc(1, tok->n_added + 1);
	struct bmi_tok_parts next = { 0 }, old;
	int r;

	ret->n = 0;
	if (!present)
		return -ENOMEM;
	r = s.n ? put(ret, 0, s.n, BMI_TOK_NO_ID) : 0;
	if (r == 0 && find_present(tok, parse_special, s, present)) {
		for (uint32_t i = 0; r == 0 && i < tok->n_added; i++) {
			if (!present[i])
				continue;
			r = cut_at(&tok->added[i], s, ret, &next);
			old = *ret;
			*ret = next;
			next = old;
		}
	}
	free(next.parts);
	return r;
}

/* What a normalized token looks like in normalized text. */
static int normal_text(struct bmi_tok *tok, struct bmi_tok_rematch *m, const struct bmi_tok_added *a,
		       struct bmi_tok_text *ret, struct bmi_error *err)
{
	bmi_auto_str one = { 0 }, two = { 0 };
	struct bmi_str spare[2] = { one, two };
	struct bmi_tok_text text;
	bool lost = false;
	int r = bmi_tok_normalize(tok, m, a->text, spare, &text, &lost);

	one = spare[0];
	two = spare[1];
	if (r < 0)
		return bmi_fail(err, r, "cannot normalize added token %u", a->id);
	if (!text.n)
		return bmi_fail(err, -EOPNOTSUPP, "added token %u is nothing once normalized", a->id);
	*ret = (struct bmi_tok_text){ bmi_arena_strndup(tok->arena, text.bytes, text.n), text.n };
	return ret->bytes ? 0 : bmi_fail(err, -ENOMEM, "no memory for the added tokens");
}

static int by_id(const void *a, const void *b)
{
	const struct bmi_tok_rename *x = a, *y = b;

	return (x->id > y->id) - (x->id < y->id);
}

/* A normalized token is decoded to what it looks like in normalized text (`tokenizers` from 0.22 on). */
static void rename_added(struct bmi_tok *tok, const struct bmi_tok_added *a, struct bmi_tok_text text)
{
	if (text.n == a->text.n && !memcmp(text.bytes, a->text.bytes, text.n))
		return;
	tok->renames[tok->n_renames++] = (struct bmi_tok_rename){ a->id, text };
	tok->vocab.flags[a->id] |= BMI_TOK_RENAMED;
}

struct bmi_tok_text bmi_tok_spoken(const struct bmi_tok *tok, uint32_t id)
{
	const struct bmi_tok_rename key = { .id = id }, *found = NULL;

	if (tok->vocab.flags[id] & BMI_TOK_RENAMED)
		found = bsearch(&key, tok->renames, tok->n_renames, sizeof(key), by_id);
	return found ? found->text : bmi_tok_vocab_text(&tok->vocab, id);
}

int bmi_tok_added_build(struct bmi_tok *tok, struct bmi_error *err)
{
	bmi_auto_mem struct bmi_tok_trie_item *items = calloc((size_t)tok->n_added + 1, 2 * sizeof(*items));
	struct bmi_tok_trie_item *normal;
	bmi_auto(bmi_tok_rematch) m = bmi_tok_rematch_new();
	size_t n_plain = 0, n_normal = 0;
	int r = 0;

	if (!items || !m)
		return bmi_fail(err, -ENOMEM, "no memory for the added tokens");
	normal = items + tok->n_added;
	tok->renames = bmi_arena_array(tok->arena, tok->n_added, sizeof(*tok->renames));
	if (!tok->renames)
		return bmi_fail(err, -ENOMEM, "no memory for the added tokens");
	for (uint32_t i = 0; i < tok->n_added; i++) {
		const struct bmi_tok_added *a = &tok->added[i];
		struct bmi_tok_text text = a->text;

		if (a->single_word && !tok->word)
			r = bmi_tok_regex_new("[" BMI_TOK_RUST_WORD "]", strlen("[" BMI_TOK_RUST_WORD "]"),
					      &tok->word, err);
		if (r == 0 && a->normalized)
			r = normal_text(tok, m, a, &text, err);
		if (r < 0)
			return r;
		if (a->normalized)
			rename_added(tok, a, text);
		if (a->normalized)
			normal[n_normal++] = (struct bmi_tok_trie_item){ text, i };
		else
			items[n_plain++] = (struct bmi_tok_trie_item){ text, i };
	}
	qsort(tok->renames, tok->n_renames, sizeof(*tok->renames), by_id);
	r = bmi_tok_trie_build(&tok->plain, items, n_plain);
	if (r == 0)
		r = bmi_tok_trie_build(&tok->normal, normal, n_normal);
	return r < 0 ? bmi_fail(err, r, "no room for the added tokens") : 0;
}

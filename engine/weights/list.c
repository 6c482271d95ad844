/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the list of a checkpoint's tensors: growing it, finding one by name, and the check that no two share a byte.
 * It does not know the formats. Invariant: at[0 .. n) have names that the arena owns; the table holds each index once.
 */
#include "weights/ckpt_priv.h"

#include "base/hash.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

struct bmi_ckpt_tensor *bmi_ckpt_list_add(struct bmi_ckpt_list *list, const char *name, size_t n)
{
	struct bmi_ckpt_tensor *t;

	if (list->n == list->cap) {
		const uint32_t cap = list->cap ? 2 * list->cap : 256;

		if (cap < list->cap)
			return NULL;
		t = reallocarray(list->at, cap, sizeof(*t));
		if (!t)
			return NULL;
		list->at = t;
		list->cap = cap;
	}
	t = &list->at[list->n];
	memset(t, 0, sizeof(*t));
	t->name = bmi_arena_strndup(list->arena, name, n);
	if (!t->name)
		return NULL;
	list->n++;
	return t;
}

void bmi_ckpt_list_fini(struct bmi_ckpt_list *list)
{
	free(list->at);
	list->at = NULL;
	list->n = list->cap = 0;
}

static int by_offset(const void *a, const void *b)
{
	const struct bmi_ckpt_tensor *x = *(struct bmi_ckpt_tensor *const *)a,
				     *y = *(struct bmi_ckpt_tensor *const *)b;

	if (x->extent.off != y->extent.off)
		return x->extent.off < y->extent.off ? -1 : 1;
	if (x->extent.len != y->extent.len)
		return x->extent.len < y->extent.len ? -1 : 1;
	return strcmp(x->name, y->name);
}

#define SHOW(t) bmi_name_show((t)->name, strlen((t)->name)).text

int bmi_ckpt_list_check(const struct bmi_ckpt_list *list, uint32_t first, bool cover, uint64_t cover_off,
			uint64_t cover_end, struct bmi_error *err)
{
	const uint32_t n = list->n - first;
	bmi_auto_mem struct bmi_ckpt_tensor **sorted = calloc(n ? n : 1, sizeof(*sorted));
	const struct bmi_ckpt_tensor *last = NULL; /* that has bytes */
	uint64_t end = cover_off;

	if (!sorted)
		return bmi_fail(err, -ENOMEM, "no memory to check %" PRIu32 " tensors", n);
	for (uint32_t i = 0; i < n; i++)
		sorted[i] = &list->at[first + i];
	qsort(sorted, n, sizeof(*sorted), by_offset);
	for (uint32_t i = 0; i < n; i++) {
		const struct bmi_ckpt_tensor *t = sorted[i];

		if (t->extent.off < end && last)
			return bmi_fail(err, -EINVAL,
					"tensor '%s' begins at byte %" PRIu64
					" of the file, inside tensor '%s', "
					"which ends at byte %" PRIu64 ": they overlap",
					SHOW(t), t->extent.off, SHOW(last), end);
		if (cover && t->extent.off > end)
			return bmi_fail(err, -EINVAL,
					"tensor '%s' begins at byte %" PRIu64
					" of the file, but the one before "
					"it ends at byte %" PRIu64 ": a hole of %" PRIu64 " bytes",
					SHOW(t), t->extent.off, end, t->extent.off - end);
		end = t->extent.off + t->extent.len;
		if (t->extent.len)
			last = t;
	}
	if (cover && end != cover_end)
		return bmi_fail(err, -EINVAL,
				"the last tensor ends at byte %" PRIu64 ", but the file has %" PRIu64
				" bytes: "
				"%" PRIu64 " bytes at its end belong to no tensor",
				end, cover_end, cover_end - end);
	return 0;
}

static size_t slot_of(const struct bmi_ckpt *ckpt, const char *name, size_t n)
{
	/* the address seeds the hash: a file cannot choose names that collide */
	return bmi_hash64(name, n, (uintptr_t)ckpt->table) & (ckpt->n_table - 1);
}

int bmi_ckpt_index(struct bmi_ckpt *ckpt, struct bmi_error *err)
{
	size_t size = 16;

	while (size < 2 * (size_t)ckpt->list.n)
		size *= 2;
	ckpt->table = calloc(size, sizeof(*ckpt->table));
	if (!ckpt->table)
		return bmi_fail(err, -ENOMEM, "no memory for the names of %" PRIu32 " tensors", ckpt->list.n);
	ckpt->n_table = size;
	for (uint32_t i = 0; i < ckpt->list.n; i++) {
		const struct bmi_ckpt_tensor *t = &ckpt->list.at[i], *twin;
		size_t at = slot_of(ckpt, t->name, strlen(t->name));

		for (; ckpt->table[at]; at = (at + 1) & (size - 1)) {
			twin = &ckpt->list.at[ckpt->table[at] - 1];
			if (strcmp(twin->name, t->name) != 0)
				continue;
			if (strcmp(twin->file, t->file) == 0)
				return bmi_fail(err, -EINVAL, "'%s': tensor '%s' comes twice", t->file,
						SHOW(t));
			return bmi_fail(err, -EINVAL, "tensor '%s' is in both '%s' and '%s'", SHOW(t),
					twin->file, t->file);
		}
		ckpt->table[at] = i + 1;
	}
	return 0;
}

const struct bmi_ckpt_tensor *bmi_ckpt_find(const struct bmi_ckpt *ckpt, const char *name, size_t n)
{
	if (!ckpt->n_table)
		return NULL;
	for (size_t at = slot_of(ckpt, name, n); ckpt->table[at]; at = (at + 1) & (ckpt->n_table - 1)) {
		const struct bmi_ckpt_tensor *t = &ckpt->list.at[ckpt->table[at] - 1];

		if (strncmp(t->name, name, n) == 0 && t->name[n] == 0)
			return t;
	}
	return NULL;
}

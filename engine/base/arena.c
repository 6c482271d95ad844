/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns chains of blocks that double from 4 KiB to 1 MiB, so a small skeleton costs one page and a tokenizer of 30 MB
 * costs few calls. Invariant: `used <= cap` in every block, and every pointer handed out is 16-aligned.
 */
#include "base/arena.h"

#include "base/checked.h"

#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { FIRST_BLOCK = 4096, LAST_BLOCK = 1 << 20, ALIGN = 16 };

struct block {
	struct block *next;
	size_t used, cap; /* of data[] */
	_Alignas(ALIGN) char data[];
};

struct bmi_arena {
	struct block *head; /* the one being filled; older ones follow */
	size_t next_cap;
};

struct bmi_arena *bmi_arena_new(void)
{
	struct bmi_arena *arena = calloc(1, sizeof(*arena));

	if (arena)
		arena->next_cap = FIRST_BLOCK;
	return arena;
}

void bmi_arena_free(struct bmi_arena *arena)
{
	if (!arena)
		return;
	for (struct block *b = arena->head, *next; b; b = next) {
		next = b->next;
		free(b);
	}
	free(arena);
}

static struct block *grow(struct bmi_arena *arena, size_t need)
{
	const size_t cap = need > arena->next_cap ? need : arena->next_cap;
	struct block *b;

	if (cap > SIZE_MAX - sizeof(*b))
		return NULL;
	b = calloc(1, sizeof(*b) + cap);
	if (!b)
		return NULL;
	b->cap = cap;
	if (arena->next_cap < LAST_BLOCK)
		arena->next_cap *= 2;
	b->next = arena->head;
	arena->head = b;
	return b;
}

void *bmi_arena_alloc(struct bmi_arena *arena, size_t size)
{
	struct block *b = arena->head;
	void *p;

	if (size > SIZE_MAX - ALIGN)
		return NULL;
	size = bmi_align_up(size ? size : 1, ALIGN);
	if (!b || b->cap - b->used < size)
		b = grow(arena, size);
	if (!b)
		return NULL;
	p = b->data + b->used;
	b->used += size;
	return p;
}

void *bmi_arena_array(struct bmi_arena *arena, size_t n, size_t size)
{
	uint64_t bytes;

	if (!bmi_mul(n, size, &bytes))
		return NULL;
	return bmi_arena_alloc(arena, bytes);
}

char *bmi_arena_strndup(struct bmi_arena *arena, const char *s, size_t n)
{
	char *copy = n < SIZE_MAX ? bmi_arena_alloc(arena, n + 1) : NULL;

	if (!copy)
		return NULL;
	if (n)
		memcpy(copy, s, n);
	copy[n] = 0;
	return copy;
}

char *bmi_arena_printf(struct bmi_arena *arena, const char *fmt, ...)
{
	va_list ap, again;
	char *s;
	int n;

	va_start(ap, fmt);
	va_copy(again, ap);
	n = vsnprintf(NULL, 0, fmt, ap);
	va_end(ap);
	s = n < 0 ? NULL : bmi_arena_alloc(arena, (size_t)n + 1);
	if (s)
		vsnprintf(s, (size_t)n + 1, fmt, again);
	va_end(again);
	return s;
}

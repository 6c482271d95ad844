/* SPDX-License-Identifier: Apache-2.0 */
/*
 * max_memory: text to budgets. Owns the three forms of it. Invariant: devices are in the peer's order (GPUs ascending,
 * mps, cpu, disk), each once.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* The peer's order of devices. */
static int rank(bmi_device d)
{
	switch (d) {
	case BMI_DEVICE_MPS:
		return INT32_MAX - 2;
	case BMI_DEVICE_CPU:
		return INT32_MAX - 1;
	case BMI_DEVICE_DISK:
		return INT32_MAX;
	default:
		return d;
	}
}

static int parse_device(const char *word, bmi_device *ret, enum bmi_place_error *kind, struct bmi_error *err)
{
	if (bmi_device_parse(word, strlen(word), ret))
		return 0;
	return bmi_refuse(kind, BMI_PLACE_BAD_MAX_MEMORY_DEVICE, err, -EINVAL,
			  "max_memory: '%.60s' is no device: write a GPU's number, cpu or disk", word);
}

/* Bytes as a number (only without quotes, as the peer tells ints from strings), or a size with its unit. */
static int parse_bytes(const char *device, const char *text, bool plain, double *ret,
		       enum bmi_place_error *kind, struct bmi_error *err)
{
	uint64_t bytes;
	char *end;
	int r;

	if (plain && *text) {
		const char *digit = text + (*text == '-' || *text == '+');

		if (strspn(digit, "0123456789") == strlen(digit) && *digit) {
			*ret = strtod(text, &end);
			return 0;
		}
	}
	r = bmi_size_parse(text, strlen(text), &bytes, err);
	if (r < 0) {
		if (kind)
			*kind = BMI_PLACE_BAD_SIZE;
		return bmi_note(err, r, "max_memory of %.60s", device);
	}
	*ret = (double)bytes;
	return 0;
}

int bmi_budget_check_line(const char *device, const char *size, bool plain, enum bmi_place_error *kind,
			  struct bmi_error *err)
{
	bmi_device d;
	double bytes;
	int r = parse_device(device, &d, kind, err);

	return r ? r : parse_bytes(device, size, plain, &bytes, kind, err);
}

static int add(struct bmi_budget *b, const char *device, const char *size, bool plain,
	       enum bmi_place_error *kind, struct bmi_error *err)
{
	bmi_device d;
	double bytes;
	uint32_t at = 0;
	int r = parse_device(device, &d, kind, err);

	r = r ? r : parse_bytes(device, size, plain, &bytes, kind, err);
	if (r < 0)
		return r;
	while (at < b->n && rank(b->dev[at].device) < rank(d))
		at++;
	if (at < b->n && b->dev[at].device == d)
		return bmi_refuse(kind, BMI_PLACE_BAD_MAX_MEMORY_DEVICE, err, -EINVAL,
				  "max_memory names device %.60s twice", device);
	if (b->n == BMI_ARRAY_LEN(b->dev))
		return bmi_refuse(kind, BMI_PLACE_BAD_MAX_MEMORY_DEVICE, err, -EINVAL,
				  "max_memory names more than %zu devices", BMI_ARRAY_LEN(b->dev));
	memmove(&b->dev[at + 1], &b->dev[at], (b->n - at) * sizeof(b->dev[0]));
	b->dev[at].device = d;
	b->dev[at].bytes = bytes;
	b->n++;
	return 0;
}

int bmi_budget_from_node(const struct bmi_node *map, struct bmi_budget *ret, enum bmi_place_error *kind,
			 struct bmi_error *err)
{
	struct bmi_budget b = { .given = true };
	int r = 0;

	if (map->value)
		return bmi_refuse(kind, BMI_PLACE_SYNTAX, err, -EINVAL,
				  "max_memory: '%.60s' is no list of DEVICE: SIZE lines", map->value);
	for (const struct bmi_node *c = map->child; c && r == 0; c = c->next) {
		if (!c->value)
			r = bmi_refuse(kind, BMI_PLACE_SYNTAX, err, -EINVAL,
				       "max_memory of %.60s: a size is expected", c->key);
		else
			r = add(&b, c->key, c->value, c->plain, kind, err);
	}
	if (r == 0 && b.n)
		*ret = b;
	else if (r == 0)
		*ret = (struct bmi_budget){ 0 }; /* nothing in it: as if not given */
	return r;
}

/* 0=10GiB:cuda:1=10GiB:cpu=20GiB, the form of a mount option. @s is cut up. */
static int from_option(char *s, struct bmi_budget *ret, enum bmi_place_error *kind, struct bmi_error *err)
{
	struct bmi_budget b = { .given = true };
	char *device = s, *eq, *end;
	int r = 0;

	for (; r == 0 && *device; device = end) {
		eq = strchr(device, '=');
		if (!eq)
			return bmi_refuse(kind, BMI_PLACE_SYNTAX, err, -EINVAL,
					  "max_memory: '%.60s' lacks its size: write DEVICE=SIZE:DEVICE=SIZE",
					  device);
		*eq++ = 0;
		end = eq + strcspn(eq, ":,");
		if (*end)
			*end++ = 0;
		r = add(&b, device, eq, /* plain= */ true, kind, err);
	}
	if (r == 0)
		*ret = b;
	return r;
}

static bool is_option(const char *text, size_t n)
{
	const char *eq = memchr(text, '=', n);

	return eq && !memchr(text, '{', (size_t)(eq - text)) && !memchr(text, '\n', (size_t)(eq - text)) &&
	       !memchr(text, '#', (size_t)(eq - text));
}

int bmi_budget_parse(const char *text, size_t n, bool complete, struct bmi_budget *ret,
		     enum bmi_place_error *ret_kind, struct bmi_error *err)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct bmi_node *root = NULL;
	char *copy;
	int r;

	if (!arena)
		return bmi_fail(err, -ENOMEM, "max_memory");
	if (ret_kind)
		*ret_kind = BMI_PLACE_OK;
	if (!complete) { /* what ends in the middle of a line is not judged yet */
		while (n && text[n - 1] != '\n')
			n--;
		if (memchr(text, '{', n))
			return 0;
	}
	while (n && strchr(" \t\r\n", text[n - 1]) && text[n - 1])
		n--;
	if (n <= BMI_TEXT_MAX && is_option(text, n)) {
		copy = memchr(text, 0, n) ? NULL : bmi_arena_strndup(arena, text, n);
		return copy ? from_option(copy, ret, ret_kind, err)
			    : bmi_refuse(ret_kind, BMI_PLACE_SYNTAX, err, -EINVAL, "max_memory: a NUL byte");
	}
	r = bmi_node_parse(text, n, arena, &root, err);
	if (r < 0) {
		if (ret_kind)
			*ret_kind = BMI_PLACE_SYNTAX;
		return bmi_note(err, r, "max_memory");
	}
	if (!root) {
		*ret = (struct bmi_budget){ 0 };
		return 0;
	}
	if (!root->value && root->child && !root->child->next && !root->child->value &&
	    !strcmp(root->child->key, "max_memory"))
		root = root->child; /* the block as it stands in a device map */
	return bmi_budget_from_node(root, ret, ret_kind, err);
}

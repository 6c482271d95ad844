/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_map text to a map: a mode, one device for all, or modules and their devices; and the max_memory block beside
 * them. Owns which words mean what; the forms of the text are node.c's. Invariant: a map that leaves here has each key once.
 */
#include "place/missing.h"

#include "base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *word;
	enum bmi_place_mode mode;
} modes[] = {
	{ "auto", BMI_PLACE_AUTO },
	{ "balanced", BMI_PLACE_BALANCED },
	{ "balanced_low_0", BMI_PLACE_BALANCED_LOW_0 },
	{ "sequential", BMI_PLACE_SEQUENTIAL },
	{ "fastest", BMI_PLACE_FASTEST },
};

struct parse {
	struct bmi_map *map;
	const struct bmi_skel *skel;
	enum bmi_place_error *kind;
	struct bmi_error *err;
};

static bool is_negative(const char *word)
{
	return word[0] == '-' && word[1] && strspn(word + 1, "0123456789") == strlen(word + 1);
}

bool bmi_map_is_word(const char *word)
{
	bmi_device device;

	for (size_t i = 0; i < BMI_ARRAY_LEN(modes); i++)
		if (!strcmp(word, modes[i].word))
			return true;
	return bmi_device_parse(word, strlen(word), &device);
}

/* A mode, or a device that takes the whole model. */
static int take_word(struct parse *p, const char *word)
{
	bmi_device device;

	for (size_t i = 0; i < BMI_ARRAY_LEN(modes); i++)
		if (!strcmp(word, modes[i].word)) {
			p->map->mode = modes[i].mode;
			return 0;
		}
	if (is_negative(word))
		return bmi_refuse(p->kind, BMI_PLACE_NEGATIVE_DEVICE, p->err, -EINVAL,
				  "device_map: %.60s is no device; to put the model on the CPU write cpu",
				  word);
	if (!bmi_device_parse(word, strlen(word), &device))
		return bmi_refuse(p->kind, BMI_PLACE_BAD_MODE, p->err, -EINVAL,
				  "device_map: '%.60s' is no placement: write auto, fastest, balanced, "
				  "balanced_low_0 or sequential, a device (cpu, disk, a GPU's number), or "
				  "MODULE: DEVICE lines",
				  word);
	p->map->entries = bmi_arena_array(p->map->arena, 1, sizeof(*p->map->entries));
	if (!p->map->entries)
		return bmi_fail(p->err, -ENOMEM, "device map");
	p->map->entries[0] = (struct bmi_map_entry){ "", device };
	p->map->n_entries = 1;
	return 0;
}

static int take_budget(struct parse *p, const struct bmi_node *node)
{
	struct bmi_budget budget;
	int r = bmi_budget_from_node(node, &budget, p->kind, p->err);

	if (r < 0 || !budget.given)
		return r;
	p->map->max_memory = bmi_arena_alloc(p->map->arena, sizeof(budget));
	if (!p->map->max_memory)
		return bmi_fail(p->err, -ENOMEM, "device map");
	*p->map->max_memory = budget;
	return 0;
}

/* Names that mean nothing are refused here already; what is missing is not, but is named beside them. */
static int check_names(struct parse *p)
{
	bmi_auto_mem bmi_device *device = calloc((size_t)p->skel->n_tensors + 1, sizeof(*device));

	if (!device)
		return bmi_fail(p->err, -ENOMEM, "device map");
	return bmi_map_spread(p->skel, p->map, /* need_all= */ false, device, /* list= */ NULL, p->kind,
			      p->err);
}

static int take_entry(struct parse *p, const struct bmi_node *node)
{
	bmi_device device;

	if (!node->value)
		return bmi_refuse(
			p->kind, BMI_PLACE_SYNTAX, p->err, -EINVAL,
			"device_map: '%.200s' has lines below it, a device is expected: write the whole name "
			"(model.layers.0: cpu) on each line",
			node->key);
	if (!bmi_device_parse(node->value, strlen(node->value), &device))
		return bmi_refuse(
			p->kind, BMI_PLACE_BAD_DEVICE, p->err,
			-EINVAL, "device_map: '%.60s' for module '%.200s' is no device: write cpu, disk or a GPU's number",
			node->value, node->key);
	p->map->entries[p->map->n_entries++] = (struct bmi_map_entry){ node->key, device };
	return 0;
}

/* Two lines for one module: most likely a slip, and either reading would surprise someone. */
static int check_once(struct parse *p)
{
	const uint32_t n = p->map->n_entries;
	uint32_t cap = 16;
	uint32_t *slots;

	while (cap < 2 * n)
		cap *= 2;
	slots = bmi_arena_array(p->map->arena, cap, sizeof(*slots));
	if (!slots)
		return bmi_fail(p->err, -ENOMEM, "device map");
	for (uint32_t i = 0; i < n; i++) {
		const char *name = p->map->entries[i].module;
		uint32_t at = (uint32_t)bmi_hash64(name, strlen(name), 0) & (cap - 1);

		for (; slots[at]; at = (at + 1) & (cap - 1))
			if (!strcmp(p->map->entries[slots[at] - 1].module, name))
				return bmi_refuse(p->kind, BMI_PLACE_SYNTAX, p->err, -EINVAL,
						  "device_map names module '%.200s' twice", name);
		slots[at] = i + 1;
	}
	return 0;
}

static int take_root(struct parse *p, const struct bmi_node *root)
{
	const struct bmi_node *word = NULL, *lines = root;
	uint32_t n = 0;
	int r = 0;

	if (!root)
		return bmi_refuse(p->kind, BMI_PLACE_BAD_MODE, p->err, -EINVAL,
				  "device_map is empty: write auto, a device, or MODULE: DEVICE lines");
	if (root->value)
		return take_word(p, root->value);

	for (const struct bmi_node *c = root->child; c && r == 0; c = c->next) {
		n++;
		if (!strcmp(c->key, "max_memory"))
			r = take_budget(p, c);
		else if (!strcmp(c->key, "device_map"))
			word = c;
	}
	if (r < 0)
		return r;
	if (word && word->value)
		return n > 1 + (p->map->max_memory != NULL)
			       ? bmi_refuse(p->kind, BMI_PLACE_SYNTAX, p->err,
					    -EINVAL, "device_map: '%.60s' stands beside lines for modules: write one or the other",
					    word->value)
			       : take_word(p, word->value);
	if (word) { /* device_map: {module: device} */
		lines = word;
		for (n = 0, word = word->child; word; word = word->next)
			n++;
	} else if (p->map->max_memory && n == 1) {
		p->map->mode = BMI_PLACE_AUTO; /* a max_memory block alone */
		return 0;
	}

	p->map->entries = bmi_arena_array(p->map->arena, n, sizeof(*p->map->entries));
	if (!p->map->entries)
		return bmi_fail(p->err, -ENOMEM, "device map of %u lines", n);
	for (const struct bmi_node *c = lines->child; c && r == 0; c = c->next)
		if (lines != root || strcmp(c->key, "max_memory"))
			r = take_entry(p, c);
	r = r ? r : check_once(p);
	return r || !p->skel ? r : check_names(p);
}

int bmi_map_parse(const char *text, size_t n, bool complete, const struct bmi_skel *skel,
		  struct bmi_map **ret, enum bmi_place_error *ret_kind, struct bmi_error *err)
{
	bmi_auto(bmi_arena) arena = NULL;
	struct parse p = { .skel = skel, .kind = ret_kind, .err = err };
	struct bmi_node *root;
	int r;

	if (ret_kind)
		*ret_kind = BMI_PLACE_OK;
	if (!complete)
		return bmi_map_check_lines(text, n, skel, ret_kind, err);

	arena = bmi_arena_new();
	p.map = arena ? bmi_arena_alloc(arena, sizeof(*p.map)) : NULL;
	if (!p.map)
		return bmi_fail(err, -ENOMEM, "device map");
	p.map->arena = arena;
	r = bmi_node_parse(text, n, arena, &root, err);
	if (r < 0) {
		if (ret_kind && r == -EINVAL)
			*ret_kind = BMI_PLACE_SYNTAX;
		return bmi_note(err, r, "device_map");
	}
	r = take_root(&p, root);
	if (r < 0)
		return r;
	bmi_steal(&arena);
	*ret = p.map;
	return 0;
}

void bmi_map_free(struct bmi_map *map)
{
	if (map)
		bmi_arena_free(map->arena);
}

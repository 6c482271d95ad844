/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A finished skeleton: look-up by name, sizes, and the order in which a pass reads the parameters. Owns the name tables.
 * Invariant: a skeleton is never changed once it left bmi_skel_finish(), so any thread may read it.
 */
#include "model/skel_priv.h"

#include "base/hash.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Open addressing, at most half full; a slot is an index + 1, 0 is free. */
struct table {
	uint32_t *slots;
	uint32_t mask;
};

struct bmi_skel_index {
	struct table modules, tensors;
};

static const char *module_name(const struct bmi_skel *skel, uint32_t i)
{
	return skel->modules[i].name;
}

static const char *tensor_name(const struct bmi_skel *skel, uint32_t i)
{
	return skel->tensors[i].name;
}

/* The slot that holds @name, or the free one where it would go. */
static uint32_t *find_slot(const struct bmi_skel *skel, const struct table *t,
			   const char *(*name_of)(const struct bmi_skel *, uint32_t), const char *name,
			   size_t n)
{
	uint32_t i = (uint32_t)bmi_hash64(name, n, 0) & t->mask;

	for (;; i = (i + 1) & t->mask) {
		const char *have = t->slots[i] ? name_of(skel, t->slots[i] - 1) : NULL;

		if (!have || (!strncmp(have, name, n) && have[n] == 0))
			return &t->slots[i];
	}
}

static int fill(const struct bmi_skel *skel, struct table *t, uint32_t n,
		const char *(*name_of)(const struct bmi_skel *, uint32_t), struct bmi_error *err)
{
	uint32_t cap = 16;

	while (cap < 2 * n)
		cap *= 2;
	t->mask = cap - 1;
	t->slots = bmi_arena_array(skel->arena, cap, sizeof(*t->slots));
	if (!t->slots)
		return bmi_fail(err, -ENOMEM, "name table");
	for (uint32_t i = 0; i < n; i++) {
		const char *name = name_of(skel, i);
		uint32_t *slot = find_slot(skel, t, name_of, name, strlen(name));

		if (*slot)
			return bmi_fail(err, -EINVAL, "two parts of the model are named '%s'", name);
		*slot = i + 1;
	}
	return 0;
}

int bmi_skel_make_index(struct bmi_skel *skel, struct bmi_error *err)
{
	int r;

	skel->index = bmi_arena_alloc(skel->arena, sizeof(*skel->index));
	if (!skel->index)
		return bmi_fail(err, -ENOMEM, "name table");
	r = fill(skel, &skel->index->modules, skel->n_modules, module_name, err);
	return r ? r : fill(skel, &skel->index->tensors, skel->n_tensors, tensor_name, err);
}

uint32_t bmi_skel_find_module(const struct bmi_skel *skel, const char *name, size_t n)
{
	return *find_slot(skel, &skel->index->modules, module_name, name, n) - 1; /* a free slot gives BMI_NONE */
}

uint32_t bmi_skel_find_tensor(const struct bmi_skel *skel, const char *name, size_t n)
{
	return *find_slot(skel, &skel->index->tensors, tensor_name, name, n) - 1;
}

uint64_t bmi_skel_tensor_bytes(const struct bmi_skel *skel, uint32_t tensor, enum bmi_dtype dtype)
{
	const struct bmi_tensor *t = &skel->tensors[tensor];
	uint64_t bytes = 0;
	bool ok;

	if (t->tied_to != BMI_NONE)
		return 0;
	ok = bmi_dtype_bytes(t->own_dtype ? t->dtype : dtype, t->n_elements, &bytes);
	assert(ok); /* plain types only, and bmi_skel_finish() bounded the total */
	(void)ok;
	return bytes;
}

uint64_t bmi_skel_module_bytes(const struct bmi_skel *skel, uint32_t module, enum bmi_dtype dtype)
{
	const struct bmi_module *last = &skel->modules[skel->modules[module].end - 1];
	uint64_t bytes = 0;

	/* Depth first: the tensors of a subtree lie side by side. */
	for (uint32_t i = skel->modules[module].first_tensor; i < last->first_tensor + last->n_tensors; i++)
		bytes += bmi_skel_tensor_bytes(skel, i, dtype);
	return bytes;
}

/* All own parameters of a module, if there is such a module. */
static void exec_module(struct bmi_skel *skel, const char *name)
{
	const uint32_t m = name ? bmi_skel_find_module(skel, name, strlen(name)) : BMI_NONE;

	if (m == BMI_NONE)
		return;
	for (uint32_t i = 0; i < skel->modules[m].n_tensors; i++)
		if (skel->tensors[skel->modules[m].first_tensor + i].kind == BMI_PARAM)
			skel->exec[skel->n_exec++] = skel->modules[m].first_tensor + i;
}

static int exec_layer(struct bmi_skel *skel, const struct bmi_arch *arch, uint32_t layer, struct bmi_error *err)
{
	for (const char *const *leaf = arch->exec_layer; *leaf; leaf++) {
		char name[256];
		const int n = snprintf(name, sizeof(name), "%s.%u.%s", arch->layers_path, layer, *leaf);
		const uint32_t t = bmi_skel_find_tensor(skel, name, (size_t)n);

		assert(n > 0 && (size_t)n < sizeof(name));
		if (t == BMI_NONE)
			continue; /* a bias this model does not have */
		if (skel->n_exec == skel->n_tensors)
			return bmi_fail(err, -EINVAL, "%s reads a parameter twice", arch->model_type);
		skel->exec[skel->n_exec++] = t;
	}
	return 0;
}

int bmi_skel_make_exec(struct bmi_skel *skel, struct bmi_error *err)
{
	const struct bmi_arch *arch = skel->cfg ? skel->cfg->arch : NULL;
	int r = 0;

	skel->exec = bmi_arena_array(skel->arena, skel->n_tensors, sizeof(*skel->exec));
	if (!skel->exec)
		return bmi_fail(err, -ENOMEM, "order of %u tensors", skel->n_tensors);
	if (!arch || !arch->exec_layer) {
		for (uint32_t i = 0; i < skel->n_tensors; i++)
			if (skel->tensors[i].kind == BMI_PARAM)
				skel->exec[skel->n_exec++] = i;
		return 0;
	}

	exec_module(skel, arch->embed_name);
	for (const char *const *m = arch->embed_exec; m && *m; m++)
		exec_module(skel, *m);
	for (uint32_t l = 0; l < skel->cfg->n_layers && r == 0; l++)
		r = exec_layer(skel, arch, l, err);
	if (r == 0) {
		exec_module(skel, arch->final_norm_name);
		exec_module(skel, arch->head_name);
	}
	return r;
}

int bmi_skel_build(const struct bmi_config *cfg, struct bmi_skel **ret, struct bmi_error *err)
{
	struct bmi_skel_builder *b = bmi_skel_builder_new();

	if (!b)
		return bmi_fail(err, -ENOMEM, "model tree");
	bmi_skel_builder_set_layers(b, cfg->arch->layers_path);
	cfg->arch->build(cfg, b);
	return bmi_skel_finish(b, cfg, ret, err);
}

void bmi_skel_free(struct bmi_skel *skel)
{
	if (skel)
		bmi_arena_free(skel->arena);
}

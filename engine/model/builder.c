/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Builds a skeleton depth first. Owns the growing arrays until bmi_skel_finish() hands them to the arena. Errors stick:
 * after one, every call is a no-op. Invariant: `open` is the path from the root to the module now open.
 */
#include "model/skel_priv.h"

#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_DEPTH = 16 };

struct tie {
	const char *target, *source;
};

struct bmi_skel_builder {
	struct bmi_arena *arena;
	struct bmi_module *modules;
	uint32_t n_modules, cap_modules;
	struct bmi_tensor *tensors;
	uint32_t n_tensors, cap_tensors;
	struct tie ties[4];
	unsigned n_ties;
	uint32_t open[MAX_DEPTH];
	unsigned depth;
	const char *layers_path; /* lent; NULL: no module is a layer */
	int code;                /* the first error */
	const char *why;
};

static void fail(struct bmi_skel_builder *b, int code, const char *why)
{
	if (b->code == 0) {
		b->code = code;
		b->why = why;
	}
}

/* Room for one more element; NULL sticks as -ENOMEM. */
static void *grow(struct bmi_skel_builder *b, void *array, uint32_t n, uint32_t *cap, size_t size)
{
	const uint32_t want = *cap ? *cap * 2 : 256;
	void *bigger;

	if (n < *cap)
		return array;
	bigger = n < UINT32_MAX / 4 ? realloc(array, (size_t)want * size) : NULL;
	if (!bigger) {
		fail(b, -ENOMEM, "out of memory");
		return NULL;
	}
	*cap = want;
	return bigger;
}

static struct bmi_module *here(struct bmi_skel_builder *b)
{
	return &b->modules[b->open[b->depth - 1]];
}

static const char *join(struct bmi_skel_builder *b, const char *leaf)
{
	const char *up = here(b)->name;
	char *name = *up ? bmi_arena_printf(b->arena, "%s.%s", up, leaf)
			 : bmi_arena_strndup(b->arena, leaf, strlen(leaf));

	if (!name)
		fail(b, -ENOMEM, "out of memory");
	return name;
}

/* Append a module and open it; the root when nothing is open yet. */
static void open_module(struct bmi_skel_builder *b, const char *name, const char *leaf,
			const char *class_name, bool no_split)
{
	const uint32_t parent = b->depth ? b->open[b->depth - 1] : BMI_NONE;
	struct bmi_module *modules = grow(b, b->modules, b->n_modules, &b->cap_modules, sizeof(*modules));
	struct bmi_module *m;

	if (!modules)
		return;
	b->modules = modules;
	if (b->depth == MAX_DEPTH) {
		fail(b, -EINVAL, "modules nested too deep");
		return;
	}
	m = &modules[b->n_modules];
	*m = (struct bmi_module){
		.name = name,
		.leaf = leaf,
		.class_name = class_name ? class_name : "",
		.parent = parent,
		.first_tensor = b->n_tensors,
		.no_split = no_split,
		.layer = parent == BMI_NONE ? BMI_NONE : modules[parent].layer,
	};
	if (parent != BMI_NONE && b->layers_path && !strcmp(modules[parent].name, b->layers_path))
		m->layer = (uint32_t)strtoul(leaf, NULL, 10);
	b->open[b->depth++] = b->n_modules++;
}

struct bmi_skel_builder *bmi_skel_builder_new(void)
{
	struct bmi_skel_builder *b = calloc(1, sizeof(*b));

	if (!b)
		return NULL;
	b->arena = bmi_arena_new();
	if (!b->arena) {
		free(b);
		return NULL;
	}
	open_module(b, "", "", "", false);
	return b;
}

void bmi_skel_builder_set_layers(struct bmi_skel_builder *b, const char *layers_path)
{
	b->layers_path = layers_path;
}

static void builder_free(struct bmi_skel_builder *b)
{
	bmi_arena_free(b->arena);
	free(b->modules);
	free(b->tensors);
	free(b);
}

void bmi_skel_begin(struct bmi_skel_builder *b, const char *leaf, const char *class_name, bool no_split)
{
	const char *name, *kept;

	if (b->code)
		return;
	name = join(b, leaf);
	if (!name)
		return;
	kept = strrchr(name, '.');
	open_module(b, name, kept ? kept + 1 : name, class_name, no_split);
}

void bmi_skel_end(struct bmi_skel_builder *b)
{
	if (b->code)
		return;
	assert(b->depth > 1);
	here(b)->end = b->n_modules;
	b->depth--;
}

static void add_tensor(struct bmi_skel_builder *b, const char *leaf, const struct bmi_tensor *proto,
		       unsigned n_dims, va_list shape)
{
	struct bmi_tensor *tensors, *t;
	struct bmi_module *m;

	if (b->code)
		return;
	tensors = grow(b, b->tensors, b->n_tensors, &b->cap_tensors, sizeof(*tensors));
	if (!tensors)
		return;
	b->tensors = tensors;
	m = here(b);
	assert(n_dims <= BMI_MAX_DIMS);
	assert(m->first_tensor + m->n_tensors == b->n_tensors); /* own tensors come before children */

	t = &tensors[b->n_tensors];
	*t = *proto;
	t->name = join(b, leaf);
	t->module = b->open[b->depth - 1];
	t->tied_to = BMI_NONE;
	t->n_dims = (uint8_t)n_dims;
	t->n_elements = 1;
	for (unsigned i = 0; i < n_dims; i++) {
		t->shape[i] = va_arg(shape, uint64_t);
		if (t->shape[i] == 0 || !bmi_mul(t->n_elements, t->shape[i], &t->n_elements))
			fail(b, -EINVAL, "a tensor's shape is empty or too large");
	}
	m->n_tensors++;
	b->n_tensors++;
}

void bmi_skel_param(struct bmi_skel_builder *b, const char *leaf, unsigned n_dims, ...)
{
	const struct bmi_tensor proto = { .kind = BMI_PARAM };
	va_list shape;

	va_start(shape, n_dims);
	add_tensor(b, leaf, &proto, n_dims, shape);
	va_end(shape);
}

void bmi_skel_buffer(struct bmi_skel_builder *b, const char *leaf, bool own_dtype, enum bmi_dtype dtype,
		     unsigned n_dims, ...)
{
	const struct bmi_tensor proto = { .kind = BMI_BUFFER, .own_dtype = own_dtype, .dtype = dtype };
	va_list shape;

	va_start(shape, n_dims);
	add_tensor(b, leaf, &proto, n_dims, shape);
	va_end(shape);
}

void bmi_skel_linear(struct bmi_skel_builder *b, const char *leaf, uint64_t rows, uint64_t cols, bool bias)
{
	bmi_skel_begin(b, leaf, "", false);
	bmi_skel_param(b, "weight", 2, rows, cols);
	if (bias)
		bmi_skel_param(b, "bias", 1, rows);
	bmi_skel_end(b);
}

void bmi_skel_norm(struct bmi_skel_builder *b, const char *leaf, uint64_t dim, bool bias)
{
	bmi_skel_begin(b, leaf, "", false);
	bmi_skel_param(b, "weight", 1, dim);
	if (bias)
		bmi_skel_param(b, "bias", 1, dim);
	bmi_skel_end(b);
}

void bmi_skel_empty(struct bmi_skel_builder *b, const char *leaf)
{
	bmi_skel_begin(b, leaf, "", false);
	bmi_skel_end(b);
}

void bmi_skel_tie(struct bmi_skel_builder *b, const char *target, const char *source)
{
	assert(b->n_ties < BMI_ARRAY_LEN(b->ties));
	b->ties[b->n_ties++] = (struct tie){ target, source };
}

static int resolve_ties(const struct bmi_skel_builder *b, struct bmi_skel *skel, struct bmi_error *err)
{
	for (unsigned i = 0; i < b->n_ties; i++) {
		const struct tie *tie = &b->ties[i];
		const uint32_t target = bmi_skel_find_tensor(skel, tie->target, strlen(tie->target));
		const uint32_t source = bmi_skel_find_tensor(skel, tie->source, strlen(tie->source));

		if (target == BMI_NONE || source == BMI_NONE)
			return bmi_fail(err, -EINVAL, "'%s' cannot be tied to '%s': no such tensor",
					tie->target, tie->source);
		if (skel->tensors[target].n_elements != skel->tensors[source].n_elements)
			return bmi_fail(err, -EINVAL, "'%s' cannot be tied to '%s': other shape", tie->target,
					tie->source);
		skel->tensors[target].tied_to = source;
	}
	return 0;
}

/* No sum over tensors, in any type, may overflow; 8 bytes is the widest element. */
static int check_total(const struct bmi_skel_builder *b, struct bmi_error *err)
{
	uint64_t total = 0, bytes;

	for (uint32_t i = 0; i < b->n_tensors; i++)
		if (!bmi_mul(b->tensors[i].n_elements, 8, &bytes) || !bmi_add(total, bytes, &total) ||
		    total > INT64_MAX)
			return bmi_fail(
				err, -EINVAL,
				"the sizes in config.json describe a model of more than 2^60 weights");
	return 0;
}

static int finish(struct bmi_skel_builder *b, const struct bmi_config *cfg, struct bmi_skel **ret,
		  struct bmi_error *err)
{
	struct bmi_skel *skel;
	int r;

	if (b->code)
		return bmi_fail(err, b->code, "model tree: %s", b->why);
	assert(b->depth == 1);
	b->modules[0].end = b->n_modules;
	r = check_total(b, err);
	if (r < 0)
		return r;

	skel = bmi_arena_alloc(b->arena, sizeof(*skel));
	if (!skel)
		return bmi_fail(err, -ENOMEM, "model tree");
	*skel = (struct bmi_skel){
		.arena = b->arena,
		.cfg = cfg,
		.modules = bmi_arena_array(b->arena, b->n_modules, sizeof(*skel->modules)),
		.n_modules = b->n_modules,
		.tensors = bmi_arena_array(b->arena, b->n_tensors, sizeof(*skel->tensors)),
		.n_tensors = b->n_tensors,
	};
	if (!skel->modules || !skel->tensors)
		return bmi_fail(err, -ENOMEM, "model tree of %u tensors", b->n_tensors);
	memcpy(skel->modules, b->modules, b->n_modules * sizeof(*skel->modules));
	if (b->n_tensors)
		memcpy(skel->tensors, b->tensors, b->n_tensors * sizeof(*skel->tensors));

	r = bmi_skel_make_index(skel, err);
	r = r ? r : resolve_ties(b, skel, err);
	r = r ? r : bmi_skel_make_exec(skel, err);
	if (r < 0)
		return r;
	b->arena = NULL; /* the skeleton's from here */
	*ret = skel;
	return 0;
}

int bmi_skel_finish(struct bmi_skel_builder *b, const struct bmi_config *cfg, struct bmi_skel **ret,
		    struct bmi_error *err)
{
	int r = finish(b, cfg, ret, err);

	builder_free(b);
	return r;
}

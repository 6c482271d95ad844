/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The greedy walk of Transformers' infer_auto_device_map(): pieces in tree order, devices in order, never back. A piece
 * that does not fit is split into its children as long as it may be, else the device is closed. On the main devices room
 * for the largest piece still to come is kept, as the peer does. Invariant: the pieces in `todo` (its end is its front)
 * and in the answer cover every parameter once, save the second names that went with their source.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct walk {
	const struct bmi_skel *skel;
	const struct bmi_budget *budget;
	uint64_t *size; /* [n_modules], second names count 0 */
	enum bmi_dtype dtype;
	struct bmi_part *todo; /* a stack: the front is the last element */
	uint32_t n_todo;
	uint64_t big;           /* the largest piece that cannot be split ... */
	struct bmi_part *names; /* ... and all that are as large and not placed yet */
	uint32_t n_names;
	uint32_t device; /* index into budget; == n: disk */
	double used;     /* on that device: the walk never comes back to one */
	uint32_t main_devices[2];
	uint32_t owners[4]; /* entries of todo that hold second names of what is inside the piece at hand */
	uint32_t n_owners;
	struct bmi_placed *ret;
	uint32_t n_ret;
};

static uint64_t part_size(const struct walk *w, struct bmi_part p)
{
	return p.module != BMI_NONE ? w->size[p.module] : bmi_skel_tensor_bytes(w->skel, p.tensor, w->dtype);
}

/* May it be split? A module of no indivisible class that has children. */
static bool can_split(const struct walk *w, struct bmi_part p)
{
	const struct bmi_module *m = p.module != BMI_NONE ? &w->skel->modules[p.module] : NULL;

	return m && !m->no_split && m->end > p.module + 1;
}

static bool holds_tensor(const struct walk *w, struct bmi_part p, uint32_t tensor)
{
	const struct bmi_module *m;

	if (p.module == BMI_NONE)
		return p.tensor == tensor;
	m = &w->skel->modules[p.module];
	return w->skel->tensors[tensor].module >= p.module && w->skel->tensors[tensor].module < m->end;
}

static bool holds(const struct walk *w, struct bmi_part p, struct bmi_part inner)
{
	if (inner.module == BMI_NONE)
		return holds_tensor(w, p, inner.tensor);
	return p.module != BMI_NONE && inner.module >= p.module &&
	       inner.module < w->skel->modules[p.module].end;
}

static void measure(struct walk *w, struct bmi_part p)
{
	const uint64_t size = part_size(w, p);

	if (can_split(w, p)) {
		const uint32_t end = w->skel->modules[p.module].end;

		for (uint32_t i = p.module + 1; i < end; i = w->skel->modules[i].end)
			measure(w, (struct bmi_part){ i, BMI_NONE });
		return;
	}
	if (size < w->big)
		return;
	if (size > w->big)
		w->n_names = 0;
	w->big = size;
	w->names[w->n_names++] = p;
}

/* The largest piece of all modules in todo; at the start of its own parameters and buffers too. */
static void find_big(struct walk *w, bool also_tensors)
{
	w->big = 0;
	w->n_names = 0;
	for (uint32_t i = w->n_todo; i-- > 0;)
		if (also_tensors || w->todo[i].module != BMI_NONE)
			measure(w, w->todo[i]);
}

static void drop_names(struct walk *w, struct bmi_part p)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < w->n_names; i++)
		if (!holds(w, p, w->names[i]))
			w->names[n++] = w->names[i];
	w->n_names = n;
	if (n == 0)
		find_big(w, false);
}

/* Put a module's own tensors and children where position @at of todo is; what lies in front of it moves up. */
static void put_parts(struct walk *w, uint32_t at, uint32_t module, bool buffers)
{
	const struct bmi_skel *skel = w->skel;
	const struct bmi_module *m = &skel->modules[module];
	uint32_t n = 0, k;

	for (uint32_t t = m->first_tensor; t < m->first_tensor + m->n_tensors; t++)
		n += skel->tensors[t].kind == BMI_PARAM || buffers;
	for (uint32_t i = module + 1; i < m->end; i = skel->modules[i].end)
		n++;
	memmove(w->todo + at + n, w->todo + at, (w->n_todo - at) * sizeof(*w->todo));
	w->n_todo += n;

	k = at + n; /* from the front: parameters, children, buffers */
	for (uint32_t t = m->first_tensor; t < m->first_tensor + m->n_tensors; t++)
		if (skel->tensors[t].kind == BMI_PARAM)
			w->todo[--k] = (struct bmi_part){ BMI_NONE, t };
	for (uint32_t i = module + 1; i < m->end; i = skel->modules[i].end)
		w->todo[--k] = (struct bmi_part){ i, BMI_NONE };
	for (uint32_t t = m->first_tensor; buffers && t < m->first_tensor + m->n_tensors; t++)
		if (skel->tensors[t].kind == BMI_BUFFER)
			w->todo[--k] = (struct bmi_part){ BMI_NONE, t };
}

static void add_owner(struct walk *w, uint32_t tensor)
{
	for (uint32_t i = w->n_todo; i-- > 0;) {
		if (!holds_tensor(w, w->todo[i], tensor))
			continue;
		for (uint32_t k = 0; k < w->n_owners; k++)
			if (w->owners[k] == i)
				return;
		if (w->n_owners < BMI_ARRAY_LEN(w->owners))
			w->owners[w->n_owners++] = i;
		return;
	}
}

/* Entries of todo that are tied to something inside @p. */
static void find_owners(struct walk *w, struct bmi_part p)
{
	w->n_owners = 0;
	for (uint32_t t = 0; t < w->skel->n_tensors; t++) {
		const uint32_t source = w->skel->tensors[t].tied_to;

		if (source == BMI_NONE)
			continue;
		if (holds_tensor(w, p, t) && !holds_tensor(w, p, source))
			add_owner(w, source);
		else if (holds_tensor(w, p, source) && !holds_tensor(w, p, t))
			add_owner(w, t);
	}
}

static void place(struct walk *w, struct bmi_part p)
{
	const bmi_device device = w->device < w->budget->n ? w->budget->dev[w->device].device : BMI_DEVICE_DISK;

	w->ret[w->n_ret++] = (struct bmi_placed){ p, device };
}

static void place_with_owners(struct walk *w, struct bmi_part p)
{
	place(w, p);
	for (uint32_t k = 0; k < w->n_owners; k++) {
		const uint32_t at = w->owners[k];

		place(w, w->todo[at]);
		memmove(w->todo + at, w->todo + at + 1, (w->n_todo - at - 1) * sizeof(*w->todo));
		w->n_todo--;
		for (uint32_t i = k + 1; i < w->n_owners; i++)
			w->owners[i] -= w->owners[i] > at;
	}
}

/* Make a tied entry smaller, so that @p and less beside it may fit. */
static bool split_owner(struct walk *w, struct bmi_part p)
{
	for (uint32_t k = 0; k < w->n_owners; k++) {
		const uint32_t at = w->owners[k];
		const struct bmi_part owner = w->todo[at];

		if (!can_split(w, owner))
			continue;
		memmove(w->todo + at, w->todo + at + 1, (w->n_todo - at - 1) * sizeof(*w->todo));
		w->n_todo--;
		put_parts(w, at, owner.module, /* buffers= */ false);
		w->todo[w->n_todo++] = p;
		find_big(w, false);
		return true;
	}
	return false;
}

static bool is_main(const struct walk *w)
{
	return w->device == w->main_devices[0] || w->device == w->main_devices[1];
}

static void next_device(struct walk *w)
{
	do
		w->device++;
	while (w->device < w->budget->n && w->budget->dev[w->device].device == BMI_DEVICE_DISK);
	w->used = 0;
}

/* One step: take the piece at the front, and place it, split it, or close the device. */
static void step(struct walk *w)
{
	const struct bmi_part p = w->todo[--w->n_todo];
	const bool on_disk = w->device >= w->budget->n;
	double limit = 0, with_ties;

	drop_names(w, p);
	find_owners(w, p);
	with_ties = (double)part_size(w, p);
	for (uint32_t k = 0; k < w->n_owners; k++)
		with_ties += (double)part_size(w, w->todo[w->owners[k]]);
	if (!on_disk)
		limit = w->budget->dev[w->device].bytes - (is_main(w) ? (double)w->big : 0);

	if (on_disk || w->used + with_ties <= limit) {
		w->used += with_ties;
		place_with_owners(w, p);
		return;
	}
	if (w->n_owners && w->used + (double)part_size(w, p) <= limit && split_owner(w, p))
		return;
	if (can_split(w, p)) {
		put_parts(w, w->n_todo, p.module, /* buffers= */ false);
		find_big(w, false);
		return;
	}
	w->todo[w->n_todo++] = p;
	next_device(w);
}

/* The devices that execute what others hold: the first accelerator and the CPU. */
static void find_main(struct walk *w)
{
	uint32_t first = BMI_NONE, cpu = BMI_NONE, mps = BMI_NONE;

	for (uint32_t i = w->budget->n; i-- > 0;) {
		const bmi_device d = w->budget->dev[i].device;

		cpu = d == BMI_DEVICE_CPU ? i : cpu;
		mps = d == BMI_DEVICE_MPS ? i : mps;
		first = d >= 0 ? i : first;
	}
	w->main_devices[0] = mps != BMI_NONE ? mps : first;
	w->main_devices[1] = mps != BMI_NONE ? BMI_NONE : cpu;
}

int bmi_place_walk(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget,
		   struct bmi_placed *ret, uint32_t *ret_n, struct bmi_error *err)
{
	const size_t n = (size_t)skel->n_modules + skel->n_tensors + 1;
	struct walk w = { .skel = skel, .budget = budget, .dtype = dtype, .ret = ret, .device = UINT32_MAX };

	w.size = calloc(skel->n_modules, sizeof(*w.size));
	w.todo = calloc(n, sizeof(*w.todo));
	w.names = calloc(n, sizeof(*w.names));
	if (w.size && w.todo && w.names) {
		for (uint32_t i = 0; i < skel->n_modules; i++)
			w.size[i] = bmi_skel_module_bytes(skel, i, dtype);
		find_main(&w);
		put_parts(&w, 0, 0, /* buffers= */ true);
		find_big(&w, true);
		next_device(&w); /* to the first */
		while (w.n_todo)
			step(&w);
		*ret_n = w.n_ret;
	}
	free(w.size);
	free(w.todo);
	free(w.names);
	return w.size && w.todo && w.names ? 0 : bmi_fail(err, -ENOMEM, "plan of %u modules", skel->n_modules);
}

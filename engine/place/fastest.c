/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mode `fastest`. Owns the search: pieces by bytes read per byte stored, the densest first, each into the fastest
 * device that still has room; then the better of that and the peer's walk, by bmi_place_cost(). Invariant: what a device
 * gets, with the keys and values of the layers computed there, is never more than its budget.
 *
 * GPUs take pieces that keep a layer together (its experts apart), in the order they run, so that activations cross few
 * links. RAM and disk compute in one place, so there any module can be a piece: whole layers first, then the largest
 * modules that fit into what is left. The embedding is read by the row and goes last, unless it is the head as well.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

/* Modules that are less than this of their layer stay with it: a norm's time is not worth a line in the map. */
#define SMALL 0.02

struct piece {
	uint32_t layer; /* BMI_NONE: outside the layers */
	bool is_experts;
	double bytes, read; /* stored, and what a token reads of it */
	uint32_t order;
};

struct search {
	const struct bmi_skel *skel;
	enum bmi_dtype dtype;
	const struct bmi_budget *budget;
	bmi_device *owner; /* [n_modules] of modules with tensors of their own; BMI_DEVICE_NONE: nobody yet */
	uint32_t *piece_of;   /* [n_modules] */
	struct piece *pieces; /* [n_pieces] */
	uint32_t n_pieces;
	uint32_t *sorted; /* [n_pieces] the densest first */
	double cpu_left;
};

static double own_bytes(const struct search *s, uint32_t module, double *ret_read)
{
	const struct bmi_module *m = &s->skel->modules[module];
	double bytes = 0;

	*ret_read = 0;
	for (uint32_t t = m->first_tensor; t < m->first_tensor + m->n_tensors; t++) {
		const double b = (double)bmi_skel_tensor_bytes(s->skel, t, s->dtype);

		bytes += b;
		*ret_read += b * bmi_skel_read_share(s->skel, t);
	}
	return bytes;
}

static bool is_experts(const struct bmi_module *m)
{
	return !strcmp(m->leaf, "experts");
}

static uint32_t find_piece(struct search *s, uint32_t module)
{
	const struct bmi_module *m = &s->skel->modules[module];

	if (m->layer != BMI_NONE)
		for (uint32_t i = s->n_pieces; i-- > 0 && s->pieces[i].layer == m->layer;)
			if (s->pieces[i].is_experts == is_experts(m))
				return i;
	s->pieces[s->n_pieces] =
		(struct piece){ .layer = m->layer, .is_experts = is_experts(m), .order = s->n_pieces };
	return s->n_pieces++;
}

static void make_pieces(struct search *s)
{
	for (uint32_t i = 0; i < s->skel->n_modules; i++) {
		double read, bytes;

		s->owner[i] = BMI_DEVICE_NONE;
		s->piece_of[i] = BMI_NONE;
		if (!s->skel->modules[i].n_tensors)
			continue;
		bytes = own_bytes(s, i, &read);
		s->piece_of[i] = find_piece(s, i);
		s->pieces[s->piece_of[i]].bytes += bytes;
		s->pieces[s->piece_of[i]].read += read;
	}
}

static int by_density(const void *a, const void *b, void *ctx)
{
	const struct piece *p = &((const struct piece *)ctx)[*(const uint32_t *)a];
	const struct piece *q = &((const struct piece *)ctx)[*(const uint32_t *)b];
	const double x = p->read * q->bytes, y = q->read * p->bytes; /* read / bytes, without dividing by 0 */

	if (x != y && (p->bytes > 0 || q->bytes > 0))
		return x > y ? -1 : 1;
	return p->order < q->order ? -1 : 1;
}

/* Give a piece's modules to a device. */
static void take(struct search *s, uint32_t piece, bmi_device device)
{
	for (uint32_t i = 0; i < s->skel->n_modules; i++)
		if (s->piece_of[i] == piece && s->owner[i] == BMI_DEVICE_NONE)
			s->owner[i] = device;
}

static bool *alloc_taken(const struct search *s)
{
	return calloc(s->n_pieces ? s->n_pieces : 1, sizeof(bool));
}

/* The GPUs, the fastest first (of equals the lowest number). */
static void fill_gpus(struct search *s, bool *taken)
{
	bool done[BMI_ARRAY_LEN(s->budget->dev)] = { 0 };

	for (;;) {
		uint32_t best = BMI_NONE;
		double left;

		for (uint32_t i = 0; i < s->budget->n; i++) {
			const double rate = s->budget->dev[i].rate > 0 ? s->budget->dev[i].rate
								       : bmi_place_default_rate(0);

			if (s->budget->dev[i].device >= 0 && !done[i] &&
			    (best == BMI_NONE ||
			     rate > (s->budget->dev[best].rate > 0 ? s->budget->dev[best].rate
								   : bmi_place_default_rate(0))))
				best = i;
		}
		if (best == BMI_NONE)
			return;
		done[best] = true;
		left = s->budget->dev[best].bytes;
		for (uint32_t k = 0; k < s->n_pieces; k++) {
			const struct piece *p = &s->pieces[s->sorted[k]];
			const double kv =
				p->layer != BMI_NONE && !p->is_experts ? s->budget->kv_layer_bytes : 0;

			if (taken[s->sorted[k]] || p->bytes + kv > left)
				continue;
			left -= p->bytes + kv;
			taken[s->sorted[k]] = true;
			take(s, s->sorted[k], s->budget->dev[best].device);
		}
	}
}

/* Whole pieces while they fit, then single modules, the largest first, into what is left. */
static void fill_cpu(struct search *s, bool *taken)
{
	for (uint32_t k = 0; k < s->n_pieces; k++) {
		const uint32_t i = s->sorted[k];

		if (taken[i] || s->pieces[i].bytes > s->cpu_left)
			continue;
		s->cpu_left -= s->pieces[i].bytes;
		taken[i] = true;
		take(s, i, BMI_DEVICE_CPU);
	}
	for (;;) {
		uint32_t best = BMI_NONE;
		double best_bytes = 0;

		for (uint32_t i = 0; i < s->skel->n_modules; i++) {
			double read, bytes;

			if (s->owner[i] != BMI_DEVICE_NONE || s->piece_of[i] == BMI_NONE)
				continue;
			bytes = own_bytes(s, i, &read);
			if (bytes <= best_bytes || bytes > s->cpu_left || read < bytes)
				continue; /* read by the row or the expert: not worth the room that is left */
			if (bytes < s->pieces[s->piece_of[i]].bytes * SMALL)
				continue;
			best = i;
			best_bytes = bytes;
		}
		if (best == BMI_NONE)
			return;
		s->owner[best] = BMI_DEVICE_CPU;
		s->cpu_left -= best_bytes;
	}
}

/* What RAM has for weights: keys and values of all layers that no GPU computes come first. */
static int reserve_kv(struct search *s, const bool *taken, struct bmi_error *err)
{
	double kv = 0, room = 0;
	bool has_cpu = false;

	for (uint32_t i = 0; i < s->n_pieces; i++)
		if (s->pieces[i].layer != BMI_NONE && !s->pieces[i].is_experts && !taken[i])
			kv += s->budget->kv_layer_bytes;
	for (uint32_t i = 0; i < s->budget->n; i++)
		if (s->budget->dev[i].device == BMI_DEVICE_CPU) {
			room = s->budget->dev[i].bytes;
			has_cpu = true;
		}
	s->cpu_left = room - kv;
	if (kv > 0 && has_cpu && s->cpu_left < 0)
		return bmi_fail(err, -ENOSPC,
				"fastest: keys and values need %.0f bytes of RAM, %.0f are there: ask for a "
				"smaller n_ctx or raise max_memory",
				kv, room);
	return 0;
}

static int fill(struct search *s, struct bmi_error *err)
{
	bool *taken = alloc_taken(s);
	int r;

	if (!taken)
		return bmi_fail(err, -ENOMEM, "plan of %u pieces", s->n_pieces);
	fill_gpus(s, taken);
	r = reserve_kv(s, taken, err);
	if (r == 0)
		fill_cpu(s, taken);
	for (uint32_t i = 0; i < s->skel->n_modules && r == 0; i++)
		if (s->piece_of[i] != BMI_NONE && s->owner[i] == BMI_DEVICE_NONE)
			s->owner[i] = BMI_DEVICE_DISK;
	free(taken);
	return r;
}

/* A module whose only tensor is a second name goes with the first one. */
static void follow_ties(struct search *s)
{
	for (uint32_t t = 0; t < s->skel->n_tensors; t++) {
		const struct bmi_tensor *tensor = &s->skel->tensors[t];

		if (tensor->tied_to != BMI_NONE)
			s->owner[tensor->module] = s->owner[s->skel->tensors[tensor->tied_to].module];
	}
}

/* The device of all modules with tensors from @from to @end - 1; BMI_DEVICE_NONE: several, or there are none. */
static bmi_device one_owner(const struct search *s, uint32_t from, uint32_t end)
{
	bmi_device device = BMI_DEVICE_NONE;

	for (uint32_t i = from; i < end; i++) {
		if (s->piece_of[i] == BMI_NONE)
			continue;
		if (device != BMI_DEVICE_NONE && s->owner[i] != device)
			return BMI_DEVICE_NONE;
		device = s->owner[i];
	}
	return device;
}

/* The shortest list in the order of the tree that says where everything below @module is. */
static void list_module(const struct search *s, uint32_t module, struct bmi_placed *ret, uint32_t *n)
{
	const struct bmi_module *m = &s->skel->modules[module];
	const bmi_device device = one_owner(s, module, m->end);

	if (device != BMI_DEVICE_NONE) {
		ret[(*n)++] = (struct bmi_placed){ { module, BMI_NONE }, device };
		return;
	}
	for (uint32_t t = m->first_tensor; t < m->first_tensor + m->n_tensors; t++)
		ret[(*n)++] = (struct bmi_placed){ { BMI_NONE, t }, s->owner[module] };
	for (uint32_t i = module + 1; i < m->end; i = s->skel->modules[i].end)
		list_module(s, i, ret, n);
}

static double list_cost(const struct search *s, const struct bmi_placed *list, uint32_t n, bmi_device *device,
			struct bmi_error *err)
{
	if (bmi_place_spread(s->skel, list, n, device, err) < 0)
		return 1e300;
	for (uint32_t i = 0; i < s->skel->n_tensors; i++)
		if (device[i] == BMI_DEVICE_NONE)
			device[i] = BMI_DEVICE_DISK;
	return bmi_place_cost(s->skel, s->dtype, device, s->budget);
}

/* Weights, and keys and values, within every budget? @device: [n_tensors]. */
static bool keeps_budget(const struct search *s, const bmi_device *device)
{
	for (uint32_t b = 0; b < s->budget->n; b++) {
		const bmi_device d = s->budget->dev[b].device;
		uint32_t last_layer = BMI_NONE;
		double used = 0;

		for (uint32_t i = 0; i < s->skel->n_tensors && d != BMI_DEVICE_DISK; i++) {
			const uint32_t layer = s->skel->modules[s->skel->tensors[i].module].layer;
			const bool here =
				device[i] == d || (d == BMI_DEVICE_CPU && device[i] == BMI_DEVICE_DISK);

			if (device[i] == d)
				used += (double)bmi_skel_tensor_bytes(s->skel, i, s->dtype);
			if (here && layer != BMI_NONE && layer != last_layer) {
				used += s->budget->kv_layer_bytes;
				last_layer = layer;
			}
		}
		if (d != BMI_DEVICE_DISK && used > s->budget->dev[b].bytes)
			return false;
	}
	return true;
}

/* The peer's plan on the same budgets, where it keeps to them and is better. */
static int try_walk(const struct search *s, struct bmi_placed *ret, uint32_t *ret_n, bmi_device *device,
		    double ours, struct bmi_error *err)
{
	const size_t most = (size_t)s->skel->n_modules + s->skel->n_tensors;
	struct bmi_placed *list = calloc(most, sizeof(*list));
	struct bmi_budget budget = *s->budget;
	uint32_t n;
	int r;

	if (!list)
		return bmi_fail(err, -ENOMEM, "plan of %u modules", s->skel->n_modules);
	bmi_place_balance(s->skel, s->dtype, BMI_PLACE_AUTO, &budget);
	r = bmi_place_walk(s->skel, s->dtype, &budget, list, &n, err);
	if (r == 0 && list_cost(s, list, n, device, err) < ours && keeps_budget(s, device)) {
		memcpy(ret, list, n * sizeof(*list));
		*ret_n = n;
	}
	free(list);
	return r;
}

static int run_search(struct search *s, struct bmi_placed *ret, uint32_t *ret_n, struct bmi_error *err)
{
	bmi_device *device;
	int r;

	make_pieces(s);
	for (uint32_t i = 0; i < s->n_pieces; i++)
		s->sorted[i] = i;
	qsort_r(s->sorted, s->n_pieces, sizeof(*s->sorted), by_density, s->pieces);
	r = fill(s, err);
	if (r < 0)
		return r;
	follow_ties(s);
	*ret_n = 0;
	list_module(s, 0, ret, ret_n);
	device = malloc((s->skel->n_tensors ? s->skel->n_tensors : 1) * sizeof(*device));
	if (!device)
		return bmi_fail(err, -ENOMEM, "plan of %u tensors", s->skel->n_tensors);
	r = try_walk(s, ret, ret_n, device, list_cost(s, ret, *ret_n, device, err), err);
	free(device);
	return r;
}

int bmi_place_fastest(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget,
		      struct bmi_placed *ret, uint32_t *ret_n, struct bmi_error *err)
{
	const size_t n = skel->n_modules;
	struct search s = {
		.skel = skel,
		.dtype = dtype,
		.budget = budget,
		.owner = calloc(n, sizeof(*s.owner)),
		.piece_of = calloc(n, sizeof(*s.piece_of)),
		.pieces = calloc(n, sizeof(*s.pieces)),
		.sorted = calloc(n, sizeof(*s.sorted)),
	};
	int r = s.owner && s.piece_of && s.pieces && s.sorted
			? run_search(&s, ret, ret_n, err)
			: bmi_fail(err, -ENOMEM, "plan of %u modules", skel->n_modules);

	free(s.owner);
	free(s.piece_of);
	free(s.pieces);
	free(s.sorted);
	return r;
}

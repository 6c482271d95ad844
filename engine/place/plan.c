/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Skeleton, dtype, budgets and a mode or map in; a device for every tensor out, or one sentence why not. Pure: opens no
 * file, asks no machine. Invariant: a plan that leaves here gives every tensor a device that exists.
 */
#include "place/missing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct request {
	const struct bmi_skel *skel;
	const struct bmi_map *map;
	uint32_t n_gpus;
	struct bmi_plan *plan;
	enum bmi_place_error *kind;
	struct bmi_error *err;
};

static int check_device(const struct request *rq, bmi_device device, const char *file, const char *module)
{
	char word[16];

	if (device == BMI_DEVICE_CPU || device == BMI_DEVICE_DISK || rq->n_gpus == UINT32_MAX)
		return 0;
	if (device >= 0 && (uint32_t)device < rq->n_gpus)
		return 0;
	bmi_device_print(device, word);
	if (rq->n_gpus == 0)
		return bmi_refuse(
			rq->kind, BMI_PLACE_DEVICE_UNAVAILABLE, rq->err, -ENODEV,
			"%s names device %s%s%.200s%s, but no GPU can be used here: write cpu or disk", file,
			word, module ? " for '" : "", module ? module : "", module ? "'" : "");
	return bmi_refuse(
		rq->kind, BMI_PLACE_DEVICE_UNAVAILABLE, rq->err, -ENODEV,
		"%s names device %s%s%.200s%s, but the GPUs here are 0 to %u: write one of them, cpu or disk",
		file, word, module ? " for '" : "", module ? module : "", module ? "'" : "", rq->n_gpus - 1);
}

/* Lines of the answer, copied into the plan. */
static int keep_entries(const struct request *rq, const struct bmi_placed *list, uint32_t n)
{
	struct bmi_plan *plan = rq->plan;

	plan->entries = bmi_arena_array(plan->arena, n, sizeof(*plan->entries));
	if (!plan->entries)
		return bmi_fail(rq->err, -ENOMEM, "plan of %u lines", n);
	for (uint32_t i = 0; i < n; i++) {
		const struct bmi_part p = list[i].part;
		const char *name = p.module != BMI_NONE ? rq->skel->modules[p.module].name
							: rq->skel->tensors[p.tensor].name;

		plan->entries[i].module = bmi_arena_strndup(plan->arena, name, strlen(name));
		plan->entries[i].device = list[i].device;
		if (!plan->entries[i].module)
			return bmi_fail(rq->err, -ENOMEM, "plan of %u lines", n);
	}
	plan->n_entries = n;
	return 0;
}

/* Buffers that no line covers go with the tensor before them (the first ones with the first that has a device). */
static void lend_devices(const struct bmi_skel *skel, bmi_device *device)
{
	bmi_device last = BMI_DEVICE_CPU;

	for (uint32_t i = skel->n_tensors; i-- > 0;)
		last = device[i] != BMI_DEVICE_NONE ? device[i] : last;
	for (uint32_t i = 0; i < skel->n_tensors; i++) {
		if (device[i] == BMI_DEVICE_NONE)
			device[i] = last;
		last = device[i];
	}
}

static int plan_mode(const struct request *rq, const struct bmi_budget *budget)
{
	struct bmi_budget b = budget ? *budget : (struct bmi_budget){ 0 };
	bmi_auto_mem struct bmi_placed *list = NULL;
	uint32_t n = 0;
	int r = 0;

	for (uint32_t i = 0; i < b.n && r == 0; i++)
		r = check_device(rq, b.dev[i].device, "max_memory", /* module= */ NULL);
	if (r < 0)
		return r;
	list = calloc((size_t)rq->skel->n_modules + rq->skel->n_tensors, sizeof(*list));
	if (!list)
		return bmi_fail(rq->err, -ENOMEM, "plan of %u modules", rq->skel->n_modules);

	if (rq->map->mode == BMI_PLACE_FASTEST) {
		r = bmi_place_fastest(rq->skel, rq->plan->dtype, &b, list, &n, rq->err);
		if (r == -ENOSPC && rq->kind)
			*rq->kind = BMI_PLACE_NO_ROOM;
	} else {
		bmi_place_balance(rq->skel, rq->plan->dtype, rq->map->mode, &b);
		r = bmi_place_walk(rq->skel, rq->plan->dtype, &b, list, &n, rq->err);
	}
	if (r < 0)
		return r;
	bmi_place_collapse(rq->skel, list, &n);
	r = bmi_place_spread(rq->skel, list, n, rq->plan->tensor_device, rq->err);
	return r ? r : keep_entries(rq, list, n);
}

static int plan_custom(const struct request *rq)
{
	const struct bmi_map *map = rq->map;
	bmi_auto_mem struct bmi_placed *list = calloc((size_t)map->n_entries + 1, sizeof(*list));
	int r = 0;

	if (!list)
		return bmi_fail(rq->err, -ENOMEM, "plan of %u lines", map->n_entries);
	for (uint32_t i = 0; i < map->n_entries && r == 0; i++)
		r = check_device(rq, map->entries[i].device, "device_map", map->entries[i].module);
	r = r ? r
	      : bmi_map_spread(rq->skel, map, /* need_all= */ true, rq->plan->tensor_device, list, rq->kind,
			       rq->err);
	return r ? r : keep_entries(rq, list, map->n_entries);
}

int bmi_place_plan(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_map *map,
		   const struct bmi_budget *budget, uint32_t n_gpus, struct bmi_plan **ret,
		   enum bmi_place_error *ret_kind, struct bmi_error *err)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct request rq = { skel, map, n_gpus, NULL, ret_kind, err };
	int r;

	if (ret_kind)
		*ret_kind = BMI_PLACE_OK;
	rq.plan = arena ? bmi_arena_alloc(arena, sizeof(*rq.plan)) : NULL;
	if (!rq.plan)
		return bmi_fail(err, -ENOMEM, "plan");
	rq.plan->arena = arena;
	rq.plan->dtype = dtype;
	rq.plan->tensor_device = bmi_arena_array(arena, skel->n_tensors, sizeof(*rq.plan->tensor_device));
	if (!rq.plan->tensor_device)
		return bmi_fail(err, -ENOMEM, "plan of %u tensors", skel->n_tensors);

	r = map->mode == BMI_PLACE_CUSTOM ? plan_custom(&rq) : plan_mode(&rq, budget);
	if (r < 0)
		return r;
	lend_devices(skel, rq.plan->tensor_device);
	bmi_steal(&arena);
	*ret = rq.plan;
	return 0;
}

void bmi_plan_free(struct bmi_plan *plan)
{
	if (plan)
		bmi_arena_free(plan->arena);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way from one placement to another: a diff, taken in steps of one layer. First all that gives memory back, then
 * all that takes it, so the sum never exceeds the larger of before and after. A change of dtype gives back everything that
 * is resident in one step and loads it again from the checkpoint: never twice rounded, and whatever happens the dtype in
 * force is that of every resident tensor.
 * Invariant: between steps every tensor is whole, where device[] says, and the limit holds.
 */
#include "run/residency_priv.h"

#include "backend/cpu/cpu.h"
#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { PAGE = 4096 };

static bool is_weight(const struct bmi_residency *res, uint32_t t)
{
	return res->weight[t].src != NULL;
}

/* Has a state that moves: not a second name. Buffers move too, but are made of no bytes here. */
static bool has_state(const struct bmi_residency *res, uint32_t t)
{
	return res->skel->tensors[t].tied_to == BMI_NONE;
}

static bool converts(const struct bmi_residency *res, uint32_t t)
{
	return is_weight(res, t) && bmi_residency_dtype_of(res, t, res->move.dtype) !=
					    bmi_residency_dtype_of(res, t, bmi_residency_dtype(res));
}

/* A vector is float32 in memory, but rounded to the dtype in force: so it converts as well. */
static bool must_release(const struct bmi_residency *res, uint32_t t)
{
	return has_state(res, t) && res->device[t] == BMI_DEVICE_CPU &&
	       (res->move.target[t] == BMI_DEVICE_DISK || converts(res, t));
}

static bool must_load(const struct bmi_residency *res, uint32_t t)
{
	return has_state(res, t) && res->move.target[t] == BMI_DEVICE_CPU &&
	       (res->device[t] == BMI_DEVICE_DISK || converts(res, t));
}

/* Bytes of the progress report: what is read, or given back for good. */
static uint64_t work_of(const struct bmi_residency *res, uint32_t t)
{
	if (!is_weight(res, t))
		return 0;
	if (must_load(res, t))
		return res->weight[t].src->extent.len;
	return must_release(res, t) ? res->weight[t].buf.size : 0;
}

static int check_target(const struct bmi_residency *res, const bmi_device *target, enum bmi_dtype dtype,
			struct bmi_error *err)
{
	if (dtype != BMI_F32 && dtype != BMI_F16 && dtype != BMI_BF16)
		return bmi_fail(err, -EOPNOTSUPP, "weights cannot be computed with as %s",
				bmi_dtype_name(dtype));
	for (uint32_t t = 0; t < res->skel->n_tensors; t++)
		if (target[t] != BMI_DEVICE_CPU && target[t] != BMI_DEVICE_DISK)
			return bmi_fail(
				err, -ENODEV,
				"tensor '%s' is to be on device %d, and this process has only cpu and disk",
				res->skel->tensors[t].name, (int)target[t]);
	return 0;
}

static int check_limit(const struct bmi_residency *res, const bmi_device *target, enum bmi_dtype dtype,
		       struct bmi_error *err)
{
	const uint64_t limit = res->opt.cpu_limit;
	struct bmi_residency_need need;
	uint64_t reserved = 0;

	bmi_residency_need(res, target, dtype, &need);
	for (uint32_t t = 0; t < res->skel->n_tensors; t++)
		if (is_weight(res, t) && target[t] == BMI_DEVICE_CPU)
			reserved += bmi_align_up(bmi_residency_buf_bytes(res, t, dtype), PAGE);
	if (!limit || reserved + need.staging_bytes <= limit)
		return 0;
	return bmi_fail(err, -ENOMEM,
			"%" PRIu64 " bytes of weights on cpu in %s and %" PRIu64
			" bytes to read disk layers into need "
			"%" PRIu64 " bytes, and %" PRIu64
			" may be used; put more layers on disk, or choose a smaller dtype",
			reserved, bmi_dtype_name(dtype), need.staging_bytes, reserved + need.staging_bytes,
			limit);
}

static bool touches(const struct bmi_residency *res, const struct bmi_group *g)
{
	for (uint32_t t = g->first; t < g->first + g->n; t++)
		if (must_release(res, t) || must_load(res, t))
			return true;
	return false;
}

static void end_move(struct bmi_residency *res)
{
	if (res->move.phase == BMI_MOVE_NONE)
		return;
	res->move.phase = BMI_MOVE_NONE;
	bmi_stream_stop(res);
	bmi_staging_close(res); /* its size was for the time of the move */
}

int bmi_residency_move_begin(struct bmi_residency *res, const bmi_device *tensor_device, enum bmi_dtype dtype,
			     struct bmi_error *err)
{
	struct bmi_move *move = &res->move;
	uint64_t todo = 0;
	uint32_t layers = 0;
	int r = check_target(res, tensor_device, dtype, err);

	if (r == 0)
		r = check_limit(res, tensor_device, dtype, err);
	if (r < 0)
		return r;
	end_move(res);
	memcpy(move->target, tensor_device, res->skel->n_tensors * sizeof(*tensor_device));
	move->dtype = dtype;
	move->group = 0;
	for (uint32_t t = 0; t < res->skel->n_tensors; t++)
		todo += work_of(res, t);
	for (uint32_t g = 0; g < res->n_groups; g++)
		layers += touches(res, &res->group[g]);
	pthread_mutex_lock(&res->lock);
	res->shared.move_done_bytes = res->shared.move_done_layers = 0;
	res->shared.move_todo_bytes = todo;
	res->shared.move_todo_layers = layers;
	pthread_mutex_unlock(&res->lock);
	move->phase = BMI_MOVE_RELEASE;
	return 0;
}

void bmi_residency_move_cancel(struct bmi_residency *res)
{
	end_move(res);
}

/* Give one tensor's memory back. */
static void release(struct bmi_residency *res, uint32_t t)
{
	const int64_t reserved = (int64_t)res->weight[t].buf.reserved;

	pthread_mutex_lock(&res->lock);
	res->device[t] = BMI_DEVICE_DISK;
	pthread_mutex_unlock(&res->lock);
	bmi_backend_cpu.release(res->opt.cpu, &res->weight[t].buf);
	bmi_residency_count(res, -reserved, 0, 0);
}

static void layer_done(struct bmi_residency *res)
{
	pthread_mutex_lock(&res->lock);
	res->shared.move_done_layers++;
	pthread_mutex_unlock(&res->lock);
}

/* Return: did the group give anything back? */
static bool release_group(struct bmi_residency *res, const struct bmi_group *g)
{
	bool any = false, loads = false;

	for (uint32_t t = g->first; t < g->first + g->n; t++) {
		loads |= must_load(res, t);
		if (!must_release(res, t))
			continue;
		any = true;
		if (res->move.target[t] == BMI_DEVICE_DISK)
			bmi_residency_count(res, 0, work_of(res, t), 0);
		release(res, t);
	}
	if (any && !loads)
		layer_done(res);
	return any;
}

/* Return: 1 something was released, 0 nothing is left to be. */
static int release_step(struct bmi_residency *res)
{
	struct bmi_move *move = &res->move;
	const bool all = move->dtype != bmi_residency_dtype(res);
	bool any = false;

	while (move->group < res->n_groups && (all || !any)) {
		const struct bmi_group *g = &res->group[move->group++];

		if (!any && touches(res, g))
			bmi_stream_stop(res);
		any |= release_group(res, g);
	}
	if (all) {
		bmi_stream_stop(res);
		bmi_staging_close(res); /* made for the other dtype */
		pthread_mutex_lock(&res->lock);
		res->shared.dtype = move->dtype;
		pthread_mutex_unlock(&res->lock);
	}
	return any;
}

/* A layer that could not be loaded is on disk, all of it. */
static void give_up_group(struct bmi_residency *res, const struct bmi_group *g)
{
	for (uint32_t t = g->first; t < g->first + g->n; t++)
		if (has_state(res, t))
			release(res, t);
}

static int load_group(struct bmi_residency *res, const struct bmi_group *g, struct bmi_error *err)
{
	bmi_auto_mem uint32_t *list = calloc(g->n, sizeof(*list));
	uint64_t bytes = 0;
	uint32_t n = 0;
	int r;

	if (!list)
		return bmi_fail(err, -ENOMEM, "no memory for a list of %u tensors", g->n);
	for (uint32_t t = g->first; t < g->first + g->n; t++) {
		if (!must_load(res, t) || !is_weight(res, t))
			continue;
		list[n++] = t;
		bytes += bmi_align_up(bmi_residency_buf_bytes(res, t, res->move.dtype), PAGE);
	}
	if (n) {
		bmi_stream_stop(res);
		r = bmi_residency_check_files(res, err);
		if (r == 0)
			r = bmi_staging_open_bounce(res, bmi_staging_room(res, bytes), err);
		if (r == 0)
			r = bmi_residency_load(res, list, n, err);
		if (r < 0)
			return r;
	}
	pthread_mutex_lock(&res->lock);
	for (uint32_t t = g->first; t < g->first + g->n; t++)
		if (has_state(res, t) && !is_weight(res, t))
			res->device[t] = res->move.target[t];
	pthread_mutex_unlock(&res->lock);
	layer_done(res);
	return 0;
}

/* The next group that has something to load. Return: 1 loaded, 0 none is left. */
static int load_step(struct bmi_residency *res, struct bmi_error *err)
{
	struct bmi_move *move = &res->move;
	int r;

	while (move->group < res->n_groups && !touches(res, &res->group[move->group]))
		move->group++;
	if (move->group == res->n_groups)
		return 0;
	r = load_group(res, &res->group[move->group], err);
	if (r < 0) {
		give_up_group(res, &res->group[move->group]);
		end_move(res);
		return r;
	}
	move->group++;
	return 1;
}

/* Is there more to do? Looks without moving. */
static bool is_done(const struct bmi_residency *res)
{
	if (bmi_residency_dtype(res) != res->move.dtype)
		return false;
	for (uint32_t g = 0; g < res->n_groups; g++)
		if (touches(res, &res->group[g]))
			return false;
	return true;
}

int bmi_residency_move_step(struct bmi_residency *res, struct bmi_error *err)
{
	struct bmi_move *move = &res->move;
	int r = 0;

	if (move->phase == BMI_MOVE_RELEASE) {
		r = release_step(res);
		if (r == 0 || move->group == res->n_groups) {
			move->phase = BMI_MOVE_LOAD;
			move->group = 0;
		}
	}
	if (r == 0 && move->phase == BMI_MOVE_LOAD)
		r = load_step(res, err);
	if (r < 0)
		return r;
	if (move->phase != BMI_MOVE_NONE && is_done(res))
		end_move(res);
	return move->phase != BMI_MOVE_NONE;
}

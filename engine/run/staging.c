/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the memory that files are read into: slots in flight, one block of converted rows, one vector; and the sums that
 * say how much of each. Bounded by options.staging_bytes and by what the limit leaves, except that two of the longest
 * rows always fit: with less nothing could be streamed at all.
 * Invariant: shared.staging_bytes is what is allocated here.
 */
#include "run/residency_priv.h"

#include "base/checked.h"

#include <errno.h>

enum {
	STAGING_DEFAULT =
		16 << 20, /* 16 reads of a megabyte keep this kind of disk busy while both cores compute */
	DEPTH = 16,
	SLOT_MIN = 8 << 10,
	SLOT_MAX = 1 << 20, /* shorter reads are slower, longer ones no faster */
	BOUNCE_MIN = 64 << 10,
	PAGE = 4096,
};

static size_t staging_bytes(const struct bmi_residency *res)
{
	return res->opt.staging_bytes ? res->opt.staging_bytes : STAGING_DEFAULT;
}

uint64_t bmi_staging_room(const struct bmi_residency *res, uint64_t extra)
{
	const uint64_t used = res->shared.cpu_bytes + extra, limit = res->opt.cpu_limit;

	if (!limit)
		return UINT64_MAX;
	return used < limit ? limit - used : 0;
}

bool bmi_staging_must_convert(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype)
{
	const struct bmi_weight *w = &res->weight[tensor];

	const uint32_t size = bmi_dtype_info(w->src->dtype)->block_bytes;
	bool odd = w->src->extent.off % size;

	/* kernels may assume that elements are aligned; the files promise nothing */
	for (uint32_t i = 0; i < w->src->n_parts && !odd; i++)
		odd = w->src->parts[i].off % size;
	return odd || w->src->dtype != bmi_residency_dtype_of(res, tensor, dtype);
}

static size_t max_size(size_t a, size_t b)
{
	return a > b ? a : b;
}

/* The longest of each kind over all tensors that are on disk. */
struct longest {
	bool any;   /* a tensor is streamed, not only gathered */
	size_t row; /* in the file */
	size_t converted_row;
	size_t vector; /* elements */
};

static struct longest find_longest(const struct bmi_residency *res, const bmi_device *device,
				   enum bmi_dtype dtype)
{
	struct longest l = { 0 };

	for (uint32_t i = 0; i < res->skel->n_exec; i++) {
		const uint32_t t = bmi_residency_source(res, res->skel->exec[i]);
		const struct bmi_weight *w = &res->weight[t];
		uint64_t bytes = 0;

		if (!w->src || device[t] != BMI_DEVICE_DISK)
			continue;
		l.any |= !bmi_residency_is_gathered(res, res->skel->exec[i]);
		l.row = max_size(l.row, w->row_bytes);
		if (w->is_vector)
			l.vector = max_size(l.vector, w->n_cols);
		else if (bmi_staging_must_convert(res, t, dtype) &&
			 bmi_dtype_bytes(bmi_residency_dtype_of(res, t, dtype), w->n_cols, &bytes))
			l.converted_row = max_size(l.converted_row, bytes);
	}
	return l;
}

void bmi_staging_plan(const struct bmi_residency *res, const bmi_device *device, enum bmi_dtype dtype,
		      uint64_t room, struct bmi_staging_size *ret)
{
	const struct longest l = find_longest(res, device, dtype);
	const size_t all = staging_bytes(res) < room ? staging_bytes(res) : (size_t)room;
	size_t slot = all / DEPTH / PAGE * PAGE, other;

	*ret = (struct bmi_staging_size){ 0 };
	if (!l.any)
		return;
	slot = slot < SLOT_MIN ? SLOT_MIN : slot > SLOT_MAX ? SLOT_MAX : slot;
	ret->slot_bytes = max_size(slot - PAGE /* for the ends of an extent */, l.row);
	ret->n_vector = l.vector;
	if (l.converted_row) /* a quarter: blocks then hold fewer rows than slots could, which costs less than fewer slots */
		ret->converted_bytes = max_size(l.converted_row, all / 4);
	other = ret->converted_bytes + ret->n_vector * sizeof(float);
	ret->n_slots = (uint32_t)(other < all ? (all - other) / bmi_disk_slot_reserved(ret->slot_bytes) : 0);
	ret->n_slots = ret->n_slots < 2 ? 2 : ret->n_slots;
	if (ret->n_slots > BMI_STAGING_SLOTS_MAX)
		ret->n_slots = BMI_STAGING_SLOTS_MAX;
	ret->total = ret->n_slots * bmi_disk_slot_reserved(ret->slot_bytes) + other;
}

static void publish(struct bmi_residency *res)
{
	pthread_mutex_lock(&res->lock);
	res->shared.staging_bytes = res->staging.size.total;
	if (res->staging.disk)
		res->shared.io = bmi_disk_describe(res->staging.disk);
	pthread_mutex_unlock(&res->lock);
}

void bmi_staging_close(struct bmi_residency *res)
{
	publish(res); /* how it was read is known better now than when it was opened */
	bmi_disk_close(res->staging.disk);
	free(res->staging.converted);
	free(res->staging.vector);
	res->staging = (struct bmi_staging){ 0 };
	publish(res);
}

static int open_new(struct bmi_residency *res, const struct bmi_staging_size *size, struct bmi_error *err)
{
	struct bmi_staging *st = &res->staging;
	int r;

	bmi_staging_close(res);
	r = bmi_disk_open(size->n_slots, size->slot_bytes, 0, &st->disk, err);
	if (r < 0)
		return r;
	st->converted =
		size->converted_bytes ? aligned_alloc(PAGE, bmi_align_up(size->converted_bytes, PAGE)) : NULL;
	st->vector = size->n_vector ? malloc(size->n_vector * sizeof(float)) : NULL;
	st->size = *size;
	if ((size->converted_bytes && !st->converted) || (size->n_vector && !st->vector)) {
		bmi_staging_close(res);
		return bmi_fail(err, -ENOMEM, "no memory for %zu bytes to read layers from disk into",
				size->total);
	}
	publish(res);
	return 0;
}

int bmi_staging_open(struct bmi_residency *res, const struct bmi_staging_size *size, uint64_t room,
		     struct bmi_error *err)
{
	const struct bmi_staging_size *have = &res->staging.size;

	if (res->staging.disk && have->n_slots >= 2 && have->slot_bytes >= size->slot_bytes &&
	    have->total <= room && have->converted_bytes >= size->converted_bytes &&
	    have->n_vector >= size->n_vector)
		return 0;
	return open_new(res, size, err);
}

int bmi_staging_open_bounce(struct bmi_residency *res, uint64_t room, struct bmi_error *err)
{
	const size_t all = staging_bytes(res) < room ? staging_bytes(res) : (size_t)room;
	struct bmi_staging_size size = { .n_slots = DEPTH };
	size_t slot = all / DEPTH / PAGE * PAGE;

	if (res->staging.disk && res->staging.size.total <= room)
		return 0;
	slot = slot < BOUNCE_MIN ? BOUNCE_MIN : slot > SLOT_MAX ? SLOT_MAX : slot;
	size.slot_bytes = slot - PAGE;
	if (slot * size.n_slots > all)
		size.n_slots = all / slot ? (uint32_t)(all / slot) : 1;
	size.total = size.n_slots * bmi_disk_slot_reserved(size.slot_bytes);
	return open_new(res, &size, err);
}

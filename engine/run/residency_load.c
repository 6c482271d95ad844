/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way of a weight into memory: its extent is read in pieces through the slots of staging, many in flight, each
 * piece converted to its place by all threads. What the page cache has already is read into place at once when nothing
 * must be converted. Nothing is added to the page cache, so there are never two copies.
 * Invariant: a tensor's device becomes the CPU only when all its bytes are there.
 */
#include "run/residency_priv.h"

#include "backend/cpu/cpu.h"
#include "base/file.h"

#include <errno.h>
#include <stdatomic.h>

/* Walks over the pieces of a list of tensors; two of them run, one that asks and one that takes. */
struct cursor {
	const uint32_t *tensors;
	uint32_t i, n;
	uint64_t off; /* in tensor i */
};

struct piece {
	uint32_t tensor;
	uint64_t off, len;
	bool last; /* of its tensor */
};

static bool next_piece(const struct bmi_residency *res, struct cursor *c, struct piece *ret)
{
	const struct bmi_weight *w;
	uint64_t most, left;

	if (c->i == c->n)
		return false;
	w = &res->weight[c->tensors[c->i]];
	most = res->staging.size.slot_bytes;
	most -= most % bmi_dtype_info(w->src->dtype)->block_bytes;
	ret->tensor = c->tensors[c->i];
	ret->off = c->off;
	left = bmi_ckpt_part_bytes(w->src) - c->off % bmi_ckpt_part_bytes(w->src);
	ret->len = left < most ? left : most;
	c->off += ret->len;
	ret->last = c->off == w->src->extent.len;
	if (ret->last) {
		c->i++;
		c->off = 0;
	}
	return true;
}

/* Where the elements from byte @off of the file on belong. */
static void *place_of(struct bmi_residency *res, uint32_t t, uint64_t off)
{
	const struct bmi_weight *w = &res->weight[t];
	const struct bmi_dtype_info *from = bmi_dtype_info(w->src->dtype);
	const uint64_t element = off / from->block_bytes * from->block_len;
	const uint64_t all = (uint64_t)w->n_rows * w->n_cols;

	return (char *)w->buf.data + element * (w->buf.size / all);
}

static int alloc(struct bmi_residency *res, uint32_t t, struct bmi_error *err)
{
	struct bmi_weight *w = &res->weight[t];
	const uint64_t bytes = bmi_residency_buf_bytes(res, t, bmi_residency_dtype(res));
	int r = bmi_backend_cpu.alloc(res->opt.cpu, bytes, &w->buf, err);

	if (r < 0)
		return bmi_note(err, r, "tensor '%s'", res->skel->tensors[t].name);
	bmi_residency_count(res, (int64_t)w->buf.reserved, 0, 0);
	return 0;
}

static void arrived(struct bmi_residency *res, uint32_t t)
{
	pthread_mutex_lock(&res->lock);
	res->device[t] = BMI_DEVICE_CPU;
	pthread_mutex_unlock(&res->lock);
}

static int ask(struct bmi_residency *res, const struct piece *p, uint32_t slot, struct bmi_error *err)
{
	const struct bmi_extent ext = bmi_ckpt_piece(res->weight[p->tensor].src, p->off, p->len);
	int r = bmi_disk_submit(res->staging.disk, slot, &ext, err);

	return r < 0 ? bmi_residency_blame(res, p->tensor, r, err) : 0;
}

static int take(struct bmi_residency *res, const struct piece *p, uint32_t slot, struct bmi_error *err)
{
	const struct bmi_dtype_info *from = bmi_dtype_info(res->weight[p->tensor].src->dtype);
	const size_t n = p->len / from->block_bytes * from->block_len;
	const void *data;
	int r;

	if (!res->weight[p->tensor].buf.data) {
		r = alloc(res, p->tensor, err);
		if (r < 0)
			return r;
	}
	r = bmi_disk_wait(res->staging.disk, slot, &data, err);
	if (r < 0)
		return bmi_residency_blame(res, p->tensor, r, err);
	r = bmi_residency_convert(res, p->tensor, place_of(res, p->tensor, p->off), data, n);
	if (r < 0)
		return bmi_fail_errno(err, r, "convert tensor '%s'", res->skel->tensors[p->tensor].name);
	bmi_residency_count(res, 0, p->len, 0);
	if (p->last)
		arrived(res, p->tensor);
	return 0;
}

static int load_through_slots(struct bmi_residency *res, const uint32_t *tensors, uint32_t n,
			      struct bmi_error *err)
{
	const uint32_t n_slots = res->staging.size.n_slots;
	struct cursor asking = { .tensors = tensors, .n = n }, taking = asking;
	uint64_t n_asked = 0, n_taken = 0;
	struct piece p;
	int r = 0;

	while (r == 0) {
		while (r == 0 && n_asked - n_taken < n_slots && next_piece(res, &asking, &p))
			r = ask(res, &p, (uint32_t)(n_asked++ % n_slots), err);
		if (r < 0 || !next_piece(res, &taking, &p))
			break;
		r = take(res, &p, (uint32_t)(n_taken++ % n_slots), err);
	}
	if (r < 0)
		bmi_disk_drain(res->staging.disk);
	return r;
}

/* ---- from the page cache ---- */

enum { CACHED_PIECE = 256 << 10 };

struct copy_job {
	struct bmi_extent ext;
	char *dst;
	atomic_int code;
};

static void copy_piece(void *arg, uint32_t i)
{
	struct copy_job *job = arg;
	const uint64_t at = (uint64_t)i * CACHED_PIECE;
	const uint64_t n = job->ext.len - at < CACHED_PIECE ? job->ext.len - at : CACHED_PIECE;
	const int r = bmi_file_pread(job->ext.fd, job->dst + at, n, job->ext.off + at, /* err= */ NULL);

	if (r < 0)
		atomic_store(&job->code, r);
}

int bmi_residency_copy_cached(struct bmi_residency *res, const struct bmi_extent *ext, void *dst)
{
	struct copy_job job = { .ext = *ext, .dst = dst };
	const uint32_t n = (uint32_t)((ext->len + CACHED_PIECE - 1) / CACHED_PIECE);

	if (n == 1)
		copy_piece(&job, 0);
	else
		bmi_cpu_parallel(res->opt.cpu, copy_piece, &job, n);
	return atomic_load(&job.code);
}

/* Return: 1 loaded, 0 not fit for this way or it failed (then the slots say why), -ENOMEM. */
static int load_cached(struct bmi_residency *res, uint32_t t, struct bmi_error *err)
{
	const struct bmi_weight *w = &res->weight[t];
	int r;

	if (w->is_vector || w->src->parts ||
	    w->src->dtype != bmi_residency_dtype_of(res, t, bmi_residency_dtype(res)) ||
	    !bmi_disk_is_cached(&w->src->extent))
		return 0;
	r = alloc(res, t, err);
	if (r < 0)
		return r;
	if (bmi_residency_copy_cached(res, &w->src->extent, w->buf.data) < 0)
		return 0;
	bmi_residency_count(res, 0, w->src->extent.len, 0);
	arrived(res, t);
	return 1;
}

int bmi_residency_load(struct bmi_residency *res, const uint32_t *tensors, uint32_t n, struct bmi_error *err)
{
	bmi_auto_mem uint32_t *rest = calloc(n + 1, sizeof(*rest));
	uint32_t n_rest = 0;

	if (!rest)
		return bmi_fail(err, -ENOMEM, "no memory for a list of %u tensors", n);
	for (uint32_t i = 0; i < n; i++) {
		const int r = load_cached(res, tensors[i], err);

		if (r < 0)
			return r;
		if (r == 0)
			rest[n_rest++] = tensors[i];
	}
	return load_through_slots(res, rest, n_rest, err);
}

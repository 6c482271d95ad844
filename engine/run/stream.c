/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the read-ahead: which block of which tensor is read into which slot. The order is that of skel->exec, over and
 * over, so the disk works across the end of a pass too. Submission is by the thread that consumes: at a megabyte a read
 * it costs nothing.
 * Invariant: the n blocks from head on are neighbours in the order, each in its own slot, read or being read; a slot
 * that is lent is not read into. A consumer that leaves the order costs time, never a wrong byte.
 */
#include "run/residency_priv.h"

#include <assert.h>
#include <errno.h>

/* Rows are computed a few at a time: blocks of a multiple of this are a little faster. */
enum { ROWS_MULTIPLE = 16 };

uint32_t bmi_stream_rows_per_block(const struct bmi_residency *res, uint32_t tensor)
{
	const struct bmi_weight *w = &res->weight[tensor];
	const struct bmi_staging_size *size = &res->staging.size;
	const enum bmi_dtype dtype = bmi_residency_dtype(res);
	uint64_t rows = size->slot_bytes / w->row_bytes, bytes = 0;

	if (w->is_vector)
		return 1;
	if (bmi_staging_must_convert(res, tensor, dtype) &&
	    bmi_dtype_bytes(bmi_residency_dtype_of(res, tensor, dtype), w->n_cols, &bytes) &&
	    rows > size->converted_bytes / bytes)
		rows = size->converted_bytes / bytes;
	if (rows > w->n_rows)
		rows = w->n_rows;
	else if (rows > ROWS_MULTIPLE)
		rows -= rows % ROWS_MULTIPLE;
	assert(rows >= 1);
	return (uint32_t)rows;
}

static uint32_t slot_of(const struct bmi_residency *res, uint64_t num)
{
	return (uint32_t)(num % res->staging.size.n_slots);
}

static struct bmi_block *block_at(struct bmi_residency *res, uint64_t num)
{
	return &res->stream.block[slot_of(res, num)];
}

static struct bmi_extent extent_of(const struct bmi_residency *res, const struct bmi_block *b)
{
	const struct bmi_weight *w = &res->weight[res->stream.order[b->item]];

	return bmi_ckpt_piece(w->src, b->row0 * w->row_bytes, b->n_rows * w->row_bytes);
}

/* Keep every slot busy; but no block twice, where all that is on disk fits into staging. */
static int fill(struct bmi_residency *res, struct bmi_error *err)
{
	struct bmi_stream *s = &res->stream;

	while (s->n < res->staging.size.n_slots) {
		const uint32_t t = s->order[s->next_item], i = slot_of(res, s->head + s->n);
		const struct bmi_weight *w = &res->weight[t];
		struct bmi_block b = { s->next_item, s->next_row, bmi_stream_rows_per_block(res, t) };
		const struct bmi_block *oldest = block_at(res, s->head);
		struct bmi_extent ext;
		int r = 0;

		if (s->n && oldest->item == b.item && oldest->row0 == b.row0)
			return 0;
		if (b.n_rows > w->run_rows - b.row0 % w->run_rows)
			b.n_rows = w->run_rows - b.row0 % w->run_rows;
		ext = extent_of(res, &b);
		b.cached = bmi_disk_is_cached(&ext);
		if (!b.cached)
			r = bmi_disk_submit(res->staging.disk, i, &ext, err);
		if (r < 0)
			return bmi_residency_blame(res, t, r, err);
		s->block[i] = b;
		s->n++;
		s->next_row += b.n_rows;
		if (s->next_row == w->n_rows) {
			s->next_row = 0;
			s->next_item = (s->next_item + 1) % s->n_order;
		}
	}
	return 0;
}

/* The oldest block is done with. Counted here, so that what was read for nothing is counted too. */
static void pop(struct bmi_residency *res)
{
	struct bmi_stream *s = &res->stream;
	const struct bmi_block *b = block_at(res, s->head);

	bmi_residency_count(res, 0, 0, b->n_rows * res->weight[s->order[b->item]].row_bytes);
	s->head++;
	s->n--;
	s->lent = false;
}

/*
 * The bytes of the oldest block. One that the page cache has is copied now, by all threads, and always to the same place
 * unless slot 0 is being read into: there it is still in the CPU's cache when it is computed with.
 */
static int wait_oldest(struct bmi_residency *res, const void **ret, struct bmi_error *err)
{
	struct bmi_disk *disk = res->staging.disk;
	const struct bmi_block *b = block_at(res, res->stream.head);
	const uint32_t slot = slot_of(res, res->stream.head);
	const struct bmi_extent ext = extent_of(res, b);
	int r;

	if (b->cached) {
		void *to = bmi_disk_slot(disk, res->stream.block[0].cached ? 0 : slot);

		*ret = to;
		if (bmi_residency_copy_cached(res, &ext, to) == 0)
			return 0;
		r = bmi_disk_submit(disk, slot, &ext, err); /* this way tells what is wrong with the file */
		if (r < 0)
			return r;
	}
	return bmi_disk_wait(disk, slot, ret, err);
}

static void discard_to(struct bmi_residency *res, uint64_t num)
{
	const void *ignored;

	while (res->stream.head < num) {
		if (!block_at(res, res->stream.head)->cached &&
		    bmi_disk_wait(res->staging.disk, slot_of(res, res->stream.head), &ignored, NULL) < 0) {
			bmi_disk_drain(res->staging.disk);
			res->stream.n = 0; /* nothing in the slots can be trusted to be there */
			return;
		}
		pop(res);
	}
}

static void discard_all(struct bmi_residency *res)
{
	struct bmi_stream *s = &res->stream;

	if (s->n)
		bmi_disk_drain(res->staging.disk);
	while (s->n)
		pop(res);
}

void bmi_stream_stop(struct bmi_residency *res)
{
	discard_all(res);
	res->stream.ready = false;
}

/* The order of tensors that are on disk now, and staging for them. */
static int prepare(struct bmi_residency *res, struct bmi_error *err)
{
	struct bmi_stream *s = &res->stream;
	const uint64_t room = bmi_staging_room(res, 0);
	struct bmi_staging_size size;
	int r;

	if (s->ready)
		return 0;
	assert(!s->n && !s->lent);
	s->n_order = 0;
	for (uint32_t i = 0; i < res->skel->n_exec; i++) {
		const uint32_t t = bmi_residency_source(res, res->skel->exec[i]);

		if (res->weight[t].src && res->device[t] == BMI_DEVICE_DISK &&
		    !bmi_residency_is_gathered(res, res->skel->exec[i]))
			s->order[s->n_order++] = t;
	}
	bmi_staging_plan(res, res->device, bmi_residency_dtype(res), room, &size);
	if (size.total) {
		r = bmi_staging_open(res, &size, room, err);
		if (r < 0)
			return r;
	}
	s->head = 0;
	s->next_item = s->next_row = 0;
	s->ready = true;
	return 0;
}

/* The place of a tensor in the order, looking onwards from where reading is. One that exec does not name is put at its end. */
static int find_item(struct bmi_residency *res, uint32_t tensor, uint32_t *ret, struct bmi_error *err)
{
	struct bmi_stream *s = &res->stream;
	struct bmi_staging_size *size = &res->staging.size;

	for (uint32_t i = 0; i < s->n_order; i++) {
		*ret = (s->next_item + i) % s->n_order;
		if (s->order[*ret] == tensor)
			return 0;
	}
	if (s->n_order == s->cap_order || !size->total || size->slot_bytes < res->weight[tensor].row_bytes)
		return bmi_fail(err, -EINVAL,
				"tensor '%s' is asked for, but not in the model's order of execution",
				res->skel->tensors[tensor].name);
	*ret = s->n_order;
	s->order[s->n_order++] = tensor;
	return 0;
}

/* Make the block (item's tensor, row0) the oldest one. */
static int seek(struct bmi_residency *res, uint32_t tensor, uint32_t row0, struct bmi_error *err)
{
	struct bmi_stream *s = &res->stream;
	uint32_t item = 0;
	int r;

	for (uint64_t num = s->head; num < s->head + s->n; num++) {
		const struct bmi_block *b = block_at(res, num);

		if (s->order[b->item] == tensor && b->row0 == row0) {
			discard_to(res, num);
			return s->n ? fill(res, err)
				    : seek(res, tensor, row0, err); /* no deeper than this: n is 0 */
		}
	}
	discard_all(res);
	r = find_item(res, tensor, &item, err);
	if (r < 0)
		return r;
	s->next_item = item;
	s->next_row = row0;
	return fill(res, err);
}

int bmi_stream_give_back(struct bmi_residency *res, struct bmi_error *err)
{
	int r;

	if (!res->stream.lent)
		return 0;
	pop(res);
	r = fill(res, err);
	if (r < 0)
		bmi_stream_stop(res);
	return r;
}

int bmi_stream_begin(struct bmi_residency *res, struct bmi_error *err)
{
	int r = bmi_stream_give_back(res, err);

	if (r == 0)
		r = prepare(res, err);
	if (r == 0 && res->stream.n_order)
		r = seek(res, res->stream.order[0], 0, err);
	if (r < 0)
		bmi_stream_stop(res);
	return r;
}

int bmi_stream_get(struct bmi_residency *res, uint32_t tensor, uint32_t row0, const void **ret,
		   uint32_t *ret_n_rows, struct bmi_error *err)
{
	int r = bmi_stream_give_back(res, err);

	if (r == 0)
		r = prepare(res, err);
	if (r == 0)
		r = seek(res, tensor, row0, err);
	if (r == 0) {
		r = wait_oldest(res, ret, err);
		if (r < 0)
			r = bmi_residency_blame(res, tensor, r, err);
	}
	if (r < 0) {
		bmi_stream_stop(res);
		return r;
	}
	*ret_n_rows = block_at(res, res->stream.head)->n_rows;
	res->stream.lent = true;
	return 0;
}

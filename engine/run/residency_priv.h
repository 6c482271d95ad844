/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_RESIDENCY_PRIV_H
#define BMI_RUN_RESIDENCY_PRIV_H

#include "run/residency.h"

#include "backend/disk/disk.h"

#include <pthread.h>
#include <sys/stat.h>

/*
 * The insides of residency, one struct for several files: residency.c (tensors, the pass), residency_convert.c (elements),
 * staging.c (memory to read into), stream.c (read-ahead), residency_move.c and residency_load.c (moves). All but lock,
 * shared and device belong to the scheduler alone.
 */
enum { BMI_STAGING_SLOTS_MAX = 64 };

/* A parameter with a state of its own. Second names and buffers have src == NULL. */
struct bmi_weight {
	const struct bmi_ckpt_tensor *src;
	uint32_t n_rows, n_cols; /* a vector is one row; a fused tensor of experts has the rows of all */
	uint32_t run_rows; /* rows of one expert's piece, else n_rows: what is read at once stays within such a run */
	bool is_vector;
	bool is_gathered;   /* read by single rows only: nothing to read ahead */
	uint64_t row_bytes; /* in the file */
	struct bmi_buf buf; /* when resident */
};

/* What memory a set of streamed tensors wants. All 0: nothing is streamed. */
struct bmi_staging_size {
	uint32_t n_slots;
	size_t slot_bytes;      /* the longest read */
	size_t converted_bytes; /* one block in the dtype in force, where that is not the file's */
	size_t n_vector;        /* elements of the longest 1-D tensor */
	size_t total;           /* bytes of all this */
};

struct bmi_staging {
	struct bmi_staging_size size; /* what there is; all 0: nothing */
	struct bmi_disk *disk;
	void *converted;
	float *vector;
};

/* A part of a tensor in a slot of staging. */
struct bmi_block {
	uint32_t item; /* index into the order */
	uint32_t row0, n_rows;
	bool cached; /* the page cache has it: not asked for, but copied when its turn comes */
};

/* The read-ahead: blocks head .. head + n - 1 of an endless walk over `order` are in slots head % n_slots ... */
struct bmi_stream {
	bool ready;      /* order and staging fit where tensors are now */
	uint32_t *order; /* [n_order] tensors on disk, as a pass reads them */
	uint32_t n_order, cap_order;
	uint32_t next_item, next_row; /* the block to be asked for next */
	uint64_t head;
	uint32_t n;
	bool lent; /* block head is with the caller */
	struct bmi_block block[BMI_STAGING_SLOTS_MAX];
};

enum bmi_move_phase { BMI_MOVE_NONE, BMI_MOVE_RELEASE, BMI_MOVE_LOAD };

struct bmi_move {
	enum bmi_move_phase phase;
	bmi_device *target; /* [n_tensors] */
	enum bmi_dtype dtype;
	uint32_t group; /* the next to look at */
};

/* Tensors that move together: one decoder layer, or one module outside of the layers. Neighbours in the state dict. */
struct bmi_group {
	uint32_t first, n;
};

/* A checkpoint file as it was at the start. */
struct bmi_watched_file {
	int fd;
	const char *name;
	struct stat st;
};

struct bmi_residency {
	struct bmi_residency_options opt;
	const struct bmi_skel *skel;
	struct bmi_weight *weight; /* [n_tensors] */
	bmi_device *device; /* [n_tensors], of weights and buffers; changed under lock, by the scheduler */
	uint32_t embed;     /* the tensor that is gathered, not streamed; BMI_NONE */
	struct bmi_group *group;
	uint32_t n_groups;
	struct bmi_watched_file *file;
	uint32_t n_files;
	struct bmi_staging staging;
	struct bmi_stream stream;
	struct bmi_move move;
	pthread_mutex_t lock;              /* guards shared and changes of device; never held across I/O */
	struct bmi_residency_state shared; /* under lock; disk_bytes is computed when asked */
};

/* ---- residency.c ---- */

/** bmi_residency_source() - the tensor whose bytes a tensor has: itself, or the one it is tied to. */
uint32_t bmi_residency_source(const struct bmi_residency *res, uint32_t tensor);

/** bmi_residency_is_gathered() - is this entry of the model's order read by single rows, and not streamed? */
static inline bool bmi_residency_is_gathered(const struct bmi_residency *res, uint32_t exec)
{
	return exec == res->embed || res->weight[exec].is_gathered;
}

/** bmi_residency_dtype_of() - the element type a tensor is computed in when @dtype is in force. */
enum bmi_dtype bmi_residency_dtype_of(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype);

/** bmi_residency_dtype() - the dtype in force. For the scheduler's thread. */
enum bmi_dtype bmi_residency_dtype(const struct bmi_residency *res);

/** bmi_residency_buf_bytes() - bytes that a resident weight has; its buffer may take a page more. */
uint64_t bmi_residency_buf_bytes(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype);

/** bmi_residency_blame() - name file and tensor of a failed read, and make its code -EIO unless memory was short. */
int bmi_residency_blame(const struct bmi_residency *res, uint32_t tensor, int code, struct bmi_error *err);

/** bmi_residency_check_files() - -EIO when a checkpoint file is not what it was at the start. */
int bmi_residency_check_files(const struct bmi_residency *res, struct bmi_error *err);

/** bmi_residency_count() - add to what other threads see. */
void bmi_residency_count(struct bmi_residency *res, int64_t cpu_bytes, uint64_t moved_bytes,
			 uint64_t streamed_bytes);

/* ---- residency_convert.c ---- */

/** bmi_residency_bytes() - bytes of @n elements, which are whole blocks. */
static inline size_t bmi_residency_bytes(enum bmi_dtype dtype, size_t n)
{
	return n / bmi_dtype_info(dtype)->block_len * bmi_dtype_info(dtype)->block_bytes;
}

/** bmi_residency_convert() - @n elements of a weight, as its file has them, to what they are computed as. */
int bmi_residency_convert(struct bmi_residency *res, uint32_t tensor, void *dst, const void *src, size_t n);

/** bmi_residency_convert_rounded() - round to the type @via, then widen to float32. One thread. */
int bmi_residency_convert_rounded(float *dst, enum bmi_dtype via, const char *src, enum bmi_dtype from,
				  size_t n);

/* ---- staging.c ---- */

/** bmi_staging_plan() - what streaming the tensors on disk wants. @room: bytes to stay within where that is possible. */
void bmi_staging_plan(const struct bmi_residency *res, const bmi_device *device, enum bmi_dtype dtype,
		      uint64_t room, struct bmi_staging_size *ret);

/** bmi_staging_open() - have staging that serves as @size; what there is already may do. */
int bmi_staging_open(struct bmi_residency *res, const struct bmi_staging_size *size, uint64_t room,
		     struct bmi_error *err);

/** bmi_staging_open_bounce() - have slots to load through, whatever their size. */
int bmi_staging_open_bounce(struct bmi_residency *res, uint64_t room, struct bmi_error *err);
void bmi_staging_close(struct bmi_residency *res);

/** bmi_staging_room() - bytes of the limit that are left for staging when @extra more become resident. */
uint64_t bmi_staging_room(const struct bmi_residency *res, uint64_t extra);

/** bmi_staging_must_convert() - is a weight computed with in another form than the file's bytes have? */
bool bmi_staging_must_convert(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype);

/* ---- stream.c ---- */

/** bmi_stream_begin() - read ahead from the first block of the order on. Nothing on disk: does nothing. */
int bmi_stream_begin(struct bmi_residency *res, struct bmi_error *err);

/** bmi_stream_get() - the block that begins at a row, in the file's form. Lent until the next call of bmi_stream_*(). */
int bmi_stream_get(struct bmi_residency *res, uint32_t tensor, uint32_t row0, const void **ret,
		   uint32_t *ret_n_rows, struct bmi_error *err);

/** bmi_stream_give_back() - the lent block, if there is one; its slot is read into again. */
int bmi_stream_give_back(struct bmi_residency *res, struct bmi_error *err);

/** bmi_stream_stop() - wait for all reads and forget the order: something is about to move. */
void bmi_stream_stop(struct bmi_residency *res);

/** bmi_stream_rows_per_block() - how many rows of a weight go into one block. */
uint32_t bmi_stream_rows_per_block(const struct bmi_residency *res, uint32_t tensor);

/* ---- residency_load.c ---- */

/** bmi_residency_load() - read the @n tensors listed into new buffers. On failure some have one and some have not. */
int bmi_residency_load(struct bmi_residency *res, const uint32_t *tensors, uint32_t n, struct bmi_error *err);

/** bmi_residency_copy_cached() - read what the page cache has, on all threads. -errno when it cannot be read after all. */
int bmi_residency_copy_cached(struct bmi_residency *res, const struct bmi_extent *ext, void *dst);

#endif

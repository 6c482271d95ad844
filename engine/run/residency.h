/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_RESIDENCY_H
#define BMI_RUN_RESIDENCY_H

#include "backend/backend.h"
#include "place/place.h"
#include "weights/ckpt.h"

/*
 * Where every weight really is. Holds the buffers of resident tensors, streams the others from the checkpoint, and turns
 * one placement into another as a diff. One thread (the scheduler) calls everything here but the two snapshot functions.
 *
 * States of a tensor: on disk (no memory at all) or resident on a computing device in the dtype in force. 1-D tensors are
 * kept as float32 (their values first rounded to the dtype in force). A tensor tied to another has no state of its own.
 */
struct bmi_residency;

struct bmi_residency_options {
	const struct bmi_skel *skel;
	const struct bmi_ckpt *ckpt;
	const struct bmi_ckpt_tensor *const *source; /* from bmi_ckpt_bind(); lent */
	struct bmi_dev *cpu;                         /* an open CPU tier; lent */
	size_t staging_bytes;                        /* room for streaming; 0: the default (16 MiB) */
	uint64_t cpu_limit; /* bytes of RAM that weights and staging may take together; 0: no limit */
};

/** Nothing is read and nothing resident yet: every tensor is on disk. */
int bmi_residency_new(const struct bmi_residency_options *opt, enum bmi_dtype dtype,
		      struct bmi_residency **ret, struct bmi_error *err);
void bmi_residency_free(struct bmi_residency *res);

/**
 * bmi_residency_need() - what a plan costs, without doing it: bytes resident per device and of staging.
 */
struct bmi_residency_need {
	uint64_t cpu_bytes, disk_bytes; /* weights */
	uint64_t staging_bytes;         /* 0 when nothing is streamed */
};
void bmi_residency_need(const struct bmi_residency *res, const bmi_device *tensor_device,
			enum bmi_dtype dtype, struct bmi_residency_need *ret);

/**
 * bmi_residency_move_begin() - set a new target. Steps then bring each tensor there, what frees memory first.
 * A target that needs more than the limit is refused: -ENOMEM with the numbers; nothing changes then.
 * @tensor_device: [n_tensors], copied.   @dtype: another one than now converts everything that is resident.
 */
int bmi_residency_move_begin(struct bmi_residency *res, const bmi_device *tensor_device, enum bmi_dtype dtype,
			     struct bmi_error *err);

/**
 * bmi_residency_move_step() - one layer's worth of the move. Between two steps passes may run: each tensor is whole, where
 * the snapshot says, and in the dtype in force (a dtype move must run all its steps without a pass in between).
 *
 * A change of dtype gives back all that is resident in its first step, and loads it anew from the checkpoint. To load,
 * a step takes up to staging_bytes of what the limit leaves, and 64 KiB where it leaves nothing.
 *
 * Return: 1 more to do, 0 done, -errno with the sentence (-EIO, -ENOMEM): the layer that failed is on disk then, the rest
 * where the snapshot says, the target forgotten.
 */
int bmi_residency_move_step(struct bmi_residency *res, struct bmi_error *err);

/** bmi_residency_move_cancel() - forget the target at this layer boundary. */
void bmi_residency_move_cancel(struct bmi_residency *res);

/* Progress and truth, from any thread, without waiting for a step. */
struct bmi_residency_state {
	uint64_t cpu_bytes, disk_bytes, staging_bytes; /* weights resident, weights not, staging allocated */
	uint64_t move_done_bytes, move_todo_bytes;     /* todo counts all of the move */
	uint32_t move_done_layers, move_todo_layers;
	uint64_t streamed_bytes; /* read from the checkpoint for passes, ever */
	enum bmi_dtype dtype;
	const char *io; /* "io_uring O_DIRECT", "pread": how disk layers are read */
};
void bmi_residency_state(struct bmi_residency *res, struct bmi_residency_state *ret);
/** bmi_residency_devices() - a copy of where each tensor is now, [n_tensors]. */
void bmi_residency_devices(struct bmi_residency *res, bmi_device *ret);

/* ---- for a pass ---- */

/** bmi_residency_pass_begin() - a walk over all weights in exec order starts: read-ahead of the disk tensors may begin. */
int bmi_residency_pass_begin(struct bmi_residency *res, struct bmi_error *err);
/** bmi_residency_pass_end() - the walk is over (or was given up). Read-ahead for the next one may go on. */
void bmi_residency_pass_end(struct bmi_residency *res);

/* Rows of a 2-D weight that can be computed with now. Zero it before the first call for a tensor. */
struct bmi_rows {
	struct bmi_mat mat; /* rows row0 .. row0 + mat.n_rows - 1, in the dtype in force */
	uint32_t row0;
	uint32_t first, end; /* set before the first call: only rows [first, end); end 0: all */
	uint32_t slot;       /* residency's own */
	bool last;
};

/**
 * bmi_residency_next_rows() - the next block of rows of a weight: all of it when resident, else a part in staging.
 * The block before, of whatever tensor, is given back by this call, by bmi_residency_vector() and at the pass's end.
 *
 * Return: 1 a block, 0 no more, -errno (-EIO: the checkpoint cannot be read).
 */
int bmi_residency_next_rows(struct bmi_residency *res, uint32_t tensor, struct bmi_rows *rows,
			    struct bmi_error *err);

/** bmi_residency_gather() - @n single rows of a 2-D weight as float32 [n][n_cols], for the embedding. */
int bmi_residency_gather(struct bmi_residency *res, uint32_t tensor, const uint32_t *rows, uint32_t n,
			 float *dst, size_t ldd, struct bmi_error *err);

/** bmi_residency_vector() - a 1-D weight as float32; lent until the next call here. */
int bmi_residency_vector(struct bmi_residency *res, uint32_t tensor, const float **ret, struct bmi_error *err);

#endif

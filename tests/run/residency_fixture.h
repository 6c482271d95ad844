/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_RUN_RESIDENCY_FIXTURE_H
#define BMI_TESTS_RUN_RESIDENCY_FIXTURE_H

#include "run/residency.h"

/*
 * A small model made here: its skeleton, a file with its tensors at awkward offsets, and every element's value as float32,
 * so that what residency hands out can be compared with what was written, by arithmetic that is not the engine's.
 */
enum {
	N_LAYERS = 4,
	DIM = 64,
	VOCAB = 50,
	WIDE = 160,
	PER_LAYER = 6, /* norm, q, k, bias, norm2, down */
	T_EMBED = 0,
	T_LAYER0 = 1,
	T_FINAL = T_LAYER0 + N_LAYERS * PER_LAYER,
	T_HEAD,
	T_ROTARY,
	N_TENSORS,
};

struct fixture {
	struct bmi_skel skel;
	struct bmi_config cfg;
	struct bmi_arch arch;
	struct bmi_tensor tensor[N_TENSORS];
	struct bmi_module module[N_LAYERS + 5];
	uint32_t exec[N_TENSORS];
	struct bmi_ckpt_tensor stored[N_TENSORS];
	const struct bmi_ckpt_tensor *source[N_TENSORS];
	float *value[N_TENSORS]; /* exactly what the file says */
	char names[N_TENSORS][48];
	char path[64];
	int fd;
	struct bmi_dev *cpu;
};

/** Write the model's file. @stored: its matrices' type; vectors are float32. @tied: the head is the embedding. */
void fixture_init(struct fixture *fix, enum bmi_dtype stored, bool tied);
void fixture_fini(struct fixture *fix);

/** Bring all of the file into the page cache. */
void fixture_warm(const struct fixture *fix);

/** The value of an element when @dtype is in force. */
float fixture_rounded(float value, enum bmi_dtype dtype);

uint32_t fixture_rows(uint32_t tensor);
uint32_t fixture_cols(uint32_t tensor);

/** Compare rows that residency gave with the file. Fails the test when one differs. */
void fixture_check_rows(const struct fixture *fix, uint32_t tensor, const struct bmi_rows *rows,
			enum bmi_dtype dtype);

/** Read a whole tensor as a pass does, comparing everything. Return: blocks it came in, or -errno. */
int fixture_read(const struct fixture *fix, struct bmi_residency *res, uint32_t tensor, struct bmi_error *err);

/** A pass: some rows of the embedding, then everything else in order, comparing everything. @between: may be NULL. */
int fixture_pass(const struct fixture *fix, struct bmi_residency *res,
		 int (*between)(void *ctx, uint32_t layer), void *ctx, struct bmi_error *err);

/** Bytes that one pass reads when tensors are where @device says. */
uint64_t fixture_pass_bytes(const struct fixture *fix, const bmi_device *device);

/* A residency over such a model. */
struct world {
	struct fixture fix;
	struct bmi_residency *res;
	struct bmi_error err;
};

/** @staging, @limit: as in struct bmi_residency_options. */
void world_init(struct world *w, enum bmi_dtype stored, enum bmi_dtype dtype, bool tied, size_t staging,
		uint64_t limit);
void world_fini(struct world *w);

enum place { CPU, DISK, EVEN, ODD, INSIDE, N_PLACES };

/** Where each tensor is to be: EVEN, ODD: every second layer on the CPU. INSIDE: layers are split too. */
void world_map(enum place place, bmi_device *ret);

/** Every tensor is where the map says, second names where their source is. */
void world_assert_at(struct world *w, const bmi_device *want);

struct bmi_residency_state world_state(struct world *w);

/** Take all steps of a move. */
int world_finish_move(struct world *w);

/** A whole move, which succeeds and whose report adds up. */
void world_move(struct world *w, enum place place, enum bmi_dtype dtype);

/** A pass, which succeeds. The counted one reads exactly the bytes that are on disk. */
void world_pass(struct world *w);
void world_counted_pass(struct world *w);

#endif

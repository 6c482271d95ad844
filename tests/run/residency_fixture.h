/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_RUN_RESIDENCY_FIXTURE_H
#define BMI_TESTS_RUN_RESIDENCY_FIXTURE_H

#include "run/residency.h"

/*
 * A small model made here: its skeleton, a file with its tensors at awkward offsets, and every element's value as float32,
 * so that what residency hands out can be compared with what was written, by arithmetic that is not the engine's.
 */
enum {
	N_LAYERS = 4, DIM = 64, VOCAB = 50, WIDE = 160,
	PER_LAYER = 6, /* norm, q, k, bias, norm2, down */
	T_EMBED = 0, T_LAYER0 = 1, T_FINAL = T_LAYER0 + N_LAYERS * PER_LAYER, T_HEAD, T_ROTARY, N_TENSORS,
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

/** The value of an element when @dtype is in force. */
float fixture_rounded(float value, enum bmi_dtype dtype);

uint32_t fixture_rows(uint32_t tensor);
uint32_t fixture_cols(uint32_t tensor);

/** Compare rows that residency gave with the file. Fails the test when one differs. */
void fixture_check_rows(const struct fixture *fix, uint32_t tensor, const struct bmi_rows *rows, enum bmi_dtype dtype);

/** Read a whole tensor as a pass does, comparing everything. Return: blocks it came in, or -errno. */
int fixture_read(const struct fixture *fix, struct bmi_residency *res, uint32_t tensor, struct bmi_error *err);

/** A pass: some rows of the embedding, then everything else in order, comparing everything. @between: may be NULL. */
int fixture_pass(const struct fixture *fix, struct bmi_residency *res, int (*between)(void *ctx, uint32_t layer), void *ctx,
		 struct bmi_error *err);

/** Bytes that one pass reads when tensors are where @device says. */
uint64_t fixture_pass_bytes(const struct fixture *fix, const bmi_device *device);

#endif

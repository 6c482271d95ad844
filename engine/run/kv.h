/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_KV_H
#define BMI_RUN_KV_H

#include "backend/backend.h"
#include "base/cleanup.h"
#include "model/config.h"

/*
 * The KV cache: what attention remembers of each sequence. Memory comes in blocks of BMI_KV_BLOCK positions as the
 * sequence grows, each block a buffer per layer on the tier of that layer, all sequences together within one budget.
 *
 * One thread (the scheduler) calls everything here but bmi_kv_bytes(), which any thread may.
 */
struct bmi_kv;
struct bmi_seq;

struct bmi_kv_options {
	const struct bmi_config *cfg;      /* lent */
	const struct bmi_backend *backend; /* of every layer */
	struct bmi_dev *dev;               /* lent */
	enum bmi_dtype dtype;              /* of the cached elements: BMI_F32, BMI_F16 or BMI_BF16 */
	uint64_t budget_bytes;             /* of all sequences; 0: no limit */
};

/** bmi_kv_new() - an empty cache. A change of dtype needs another one. Return: 0, -ENOMEM, -EINVAL (dtype, sizes overflow). */
int bmi_kv_new(const struct bmi_kv_options *opt, struct bmi_kv **ret, struct bmi_error *err);
/** bmi_kv_free() - no sequence may be left. NULL is a no-op. */
void bmi_kv_free(struct bmi_kv *kv);
BMI_AUTO(bmi_kv)

/** bmi_kv_bytes() - memory taken by all sequences now. Any thread. */
uint64_t bmi_kv_bytes(const struct bmi_kv *kv);
enum bmi_dtype bmi_kv_dtype(const struct bmi_kv *kv);

/** bmi_kv_need() - bytes that are enough for a sequence of @n_positions; for budgets. Saturates at UINT64_MAX. */
uint64_t bmi_kv_need(const struct bmi_config *cfg, enum bmi_dtype dtype, uint32_t n_positions);

/** bmi_seq_new() - a sequence without positions. Return: 0, -ENOMEM. */
int bmi_seq_new(struct bmi_kv *kv, struct bmi_seq **ret, struct bmi_error *err);
/** bmi_seq_free() - its blocks go back at once. NULL is a no-op. */
void bmi_seq_free(struct bmi_seq *seq);
BMI_AUTO(bmi_seq)

/**
 * bmi_seq_reserve() - memory for positions 0 .. @n_positions - 1; what is there stays.
 * Return: 0, -ENOMEM (the budget, with the numbers, or the machine); the sequence is as before then.
 */
int bmi_seq_reserve(struct bmi_seq *seq, uint32_t n_positions, struct bmi_error *err);

/** bmi_seq_truncate() - forget positions from @n_positions on; blocks that hold only those are freed. */
void bmi_seq_truncate(struct bmi_seq *seq, uint32_t n_positions);

/** bmi_seq_room() - positions there is memory for, a multiple of BMI_KV_BLOCK. */
uint32_t bmi_seq_room(const struct bmi_seq *seq);

/** bmi_seq_kv() - the cache it belongs to. Lent. */
const struct bmi_kv *bmi_seq_kv(const struct bmi_seq *seq);

/** bmi_seq_table() - the blocks of one layer; valid until the sequence is reserved, truncated or freed. */
struct bmi_kv_table bmi_seq_table(const struct bmi_seq *seq, uint32_t layer);

#endif

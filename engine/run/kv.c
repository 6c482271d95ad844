/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the memory of the KV cache and counts it against its budget. What is written there is the business of the tier's
 * kv_store; which positions are filled is the caller's to know.
 *
 * A block is an object of its own (64 positions in all layers), so that sequences with a common beginning can share it
 * once it is counted by references. Invariant: kv->bytes is the sum of what the blocks of all sequences reserved, and is
 * never above the budget when a function returns.
 */
#include "run/kv.h"

#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <inttypes.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct bmi_kv {
	const struct bmi_backend *backend;
	struct bmi_dev *dev;
	enum bmi_dtype dtype;
	uint32_t n_layers;
	uint32_t n_seqs;
	size_t half_bytes; /* K or V of one block in one layer */
	uint64_t budget_bytes;
	_Atomic uint64_t bytes;
};

struct block {
	uint32_t n_layers;
	struct bmi_buf buf[]; /* [n_layers]: K, then V */
};

struct bmi_seq {
	struct bmi_kv *kv;
	uint32_t n_blocks, cap_blocks;
	struct block **blocks; /* [cap_blocks] */
	void **k, **v;         /* [n_layers][cap_blocks]: what the kernels see */
};

/* Bytes of K (or V) of one block in one layer; sizes of a checked config cannot overflow here but for absurd ones. */
static bool half_block_bytes(const struct bmi_config *cfg, enum bmi_dtype dtype, uint64_t *ret)
{
	uint64_t n;

	return bmi_mul(cfg->n_kv_heads, cfg->head_dim, &n) && bmi_mul(n, BMI_KV_BLOCK, &n) &&
	       bmi_dtype_bytes(dtype, n, ret);
}

/* What a tier takes for a buffer at most: whole pages, and its own notes about it. */
static bool buffer_cost(uint64_t size, uint64_t *ret)
{
	enum { PAGE = 4096, NOTES = 64 };
	uint64_t unused;

	if (!bmi_add(size, PAGE + NOTES, &unused))
		return false;
	*ret = bmi_align_up(size, PAGE) + NOTES;
	return true;
}

uint64_t bmi_kv_need(const struct bmi_config *cfg, enum bmi_dtype dtype, uint32_t n_positions)
{
	const uint64_t n_blocks = ((uint64_t)n_positions + BMI_KV_BLOCK - 1) / BMI_KV_BLOCK;
	uint64_t n;

	if (!half_block_bytes(cfg, dtype, &n) || !bmi_mul(n, 2, &n) || !buffer_cost(n, &n) ||
	    !bmi_mul(n, cfg->n_layers, &n) || !bmi_mul(n, n_blocks, &n))
		return UINT64_MAX;
	return n;
}

int bmi_kv_new(const struct bmi_kv_options *opt, struct bmi_kv **ret, struct bmi_error *err)
{
	struct bmi_kv *kv;
	uint64_t half;

	if (opt->dtype != BMI_F32 && opt->dtype != BMI_F16 && opt->dtype != BMI_BF16)
		return bmi_fail(err, -EINVAL, "KV cache of %s", bmi_dtype_name(opt->dtype));
	if (!half_block_bytes(opt->cfg, opt->dtype, &half) || half > SIZE_MAX / 4)
		return bmi_fail(err, -EINVAL, "KV cache of %u heads of %u elements", opt->cfg->n_kv_heads,
				opt->cfg->head_dim);

	kv = calloc(1, sizeof(*kv));
	if (!kv)
		return bmi_fail(err, -ENOMEM, "KV cache");
	kv->backend = opt->backend;
	kv->dev = opt->dev;
	kv->dtype = opt->dtype;
	kv->n_layers = opt->cfg->n_layers;
	kv->half_bytes = half;
	kv->budget_bytes = opt->budget_bytes ? opt->budget_bytes : UINT64_MAX;
	*ret = kv;
	return 0;
}

void bmi_kv_free(struct bmi_kv *kv)
{
	if (!kv)
		return;
	assert(kv->n_seqs == 0);
	free(kv);
}

uint64_t bmi_kv_bytes(const struct bmi_kv *kv)
{
	return atomic_load_explicit(&kv->bytes, memory_order_relaxed);
}

enum bmi_dtype bmi_kv_dtype(const struct bmi_kv *kv)
{
	return kv->dtype;
}

static void free_block(struct bmi_kv *kv, struct block *block)
{
	if (!block)
		return;
	for (uint32_t i = 0; i < block->n_layers; i++) {
		atomic_fetch_sub_explicit(&kv->bytes, block->buf[i].reserved, memory_order_relaxed);
		kv->backend->release(kv->dev, &block->buf[i]);
	}
	free(block);
}

static int new_block(struct bmi_kv *kv, struct block **ret, struct bmi_error *err)
{
	struct block *block = calloc(1, sizeof(*block) + kv->n_layers * sizeof(block->buf[0]));
	int r = 0;

	if (!block)
		return bmi_fail(err, -ENOMEM, "a block of the KV cache");
	block->n_layers = kv->n_layers;
	for (uint32_t i = 0; r == 0 && i < kv->n_layers; i++) {
		r = kv->backend->alloc(kv->dev, 2 * kv->half_bytes, &block->buf[i], err);
		if (r == 0)
			atomic_fetch_add_explicit(&kv->bytes, block->buf[i].reserved, memory_order_relaxed);
	}
	/* what a tier reserves can be more than what was asked for: known only now */
	if (r == 0 && bmi_kv_bytes(kv) > kv->budget_bytes)
		r = bmi_fail(err, -ENOMEM, "%" PRIu64 " bytes do not fit the %" PRIu64 " of the budget",
			     bmi_kv_bytes(kv), kv->budget_bytes);
	if (r < 0) {
		free_block(kv, block);
		return r;
	}
	*ret = block;
	return 0;
}

int bmi_seq_new(struct bmi_kv *kv, struct bmi_seq **ret, struct bmi_error *err)
{
	struct bmi_seq *seq = calloc(1, sizeof(*seq));

	if (!seq)
		return bmi_fail(err, -ENOMEM, "a sequence");
	seq->kv = kv;
	kv->n_seqs++;
	*ret = seq;
	return 0;
}

void bmi_seq_free(struct bmi_seq *seq)
{
	if (!seq)
		return;
	bmi_seq_truncate(seq, 0);
	seq->kv->n_seqs--;
	free(seq->blocks);
	free(seq->k);
	free(seq);
}

/* Room for n_blocks in the tables. Doubles, so that growing by positions costs amortised O(1). */
static int grow_tables(struct bmi_seq *seq, uint32_t n_blocks, struct bmi_error *err)
{
	const uint32_t n_layers = seq->kv->n_layers, old = seq->cap_blocks;
	const uint32_t cap = n_blocks > 2 * old ? n_blocks : 2 * old;
	struct block **blocks;
	void **tables;

	if (n_blocks <= old)
		return 0;
	blocks = reallocarray(seq->blocks, cap, sizeof(struct block *));
	if (!blocks)
		return bmi_fail(err, -ENOMEM, "a table of %u KV blocks", cap);
	seq->blocks = blocks;
	tables = calloc((size_t)2 * n_layers, cap * sizeof(void *));
	if (!tables)
		return bmi_fail(err, -ENOMEM, "a table of %u KV blocks", cap);
	for (size_t i = 0; i < (size_t)2 * n_layers && seq->n_blocks; i++)
		memcpy(tables + i * cap, seq->k + i * old, seq->n_blocks * sizeof(void *));
	free(seq->k);
	seq->k = tables;
	seq->v = tables + (size_t)n_layers * cap;
	seq->cap_blocks = cap;
	return 0;
}

static void add_block(struct bmi_seq *seq, struct block *block)
{
	for (uint32_t i = 0; i < seq->kv->n_layers; i++) {
		const size_t at = (size_t)i * seq->cap_blocks + seq->n_blocks;

		seq->k[at] = block->buf[i].data;
		seq->v[at] = (char *)block->buf[i].data + seq->kv->half_bytes;
	}
	seq->blocks[seq->n_blocks++] = block;
}

int bmi_seq_reserve(struct bmi_seq *seq, uint32_t n_positions, struct bmi_error *err)
{
	struct bmi_kv *kv = seq->kv;
	const uint32_t had = seq->n_blocks;
	const uint32_t n_blocks = n_positions / BMI_KV_BLOCK + (n_positions % BMI_KV_BLOCK != 0);
	const uint64_t used = bmi_kv_bytes(kv);
	uint64_t need;
	int r;

	if (n_blocks <= had)
		return 0;
	if (!bmi_mul(n_blocks - had, (uint64_t)2 * kv->n_layers, &need) ||
	    !bmi_mul(need, kv->half_bytes, &need))
		need = UINT64_MAX;
	if (used >= kv->budget_bytes || need > kv->budget_bytes - used)
		return bmi_fail(err, -ENOMEM,
				"the KV cache of %u positions needs %" PRIu64 " bytes more; %" PRIu64
				" of the %" PRIu64 " it may take are in use",
				n_positions, need, used, kv->budget_bytes);

	r = grow_tables(seq, n_blocks, err);
	while (r == 0 && seq->n_blocks < n_blocks) {
		struct block *block = NULL;

		r = new_block(kv, &block, err);
		if (r == 0)
			add_block(seq, block);
	}
	if (r < 0) {
		bmi_seq_truncate(seq, had * BMI_KV_BLOCK);
		return bmi_note(err, r, "KV cache of %u positions", n_positions);
	}
	return 0;
}

void bmi_seq_truncate(struct bmi_seq *seq, uint32_t n_positions)
{
	const uint32_t n_blocks = n_positions / BMI_KV_BLOCK + (n_positions % BMI_KV_BLOCK != 0);

	while (seq->n_blocks > n_blocks)
		free_block(seq->kv, seq->blocks[--seq->n_blocks]);
}

uint32_t bmi_seq_room(const struct bmi_seq *seq)
{
	return seq->n_blocks * BMI_KV_BLOCK;
}

const struct bmi_kv *bmi_seq_kv(const struct bmi_seq *seq)
{
	return seq->kv;
}

struct bmi_kv_table bmi_seq_table(const struct bmi_seq *seq, uint32_t layer)
{
	const size_t at = (size_t)layer * seq->cap_blocks;

	assert(layer < seq->kv->n_layers);
	return (struct bmi_kv_table){ seq->k + at, seq->v + at };
}

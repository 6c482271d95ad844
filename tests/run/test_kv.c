/* SPDX-License-Identifier: Apache-2.0 */
/* The KV cache: growth, addresses, the budget and what failing memory leaves behind. The tier is a counting malloc. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run/kv.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct bmi_dev {
	uint64_t live_bytes, n_live;
	int fail_after;  /* allocations until one fails; < 0: never */
	size_t rounding; /* what a buffer reserves is rounded up to this */
};

static int fake_alloc(struct bmi_dev *dev, size_t size, struct bmi_buf *ret, struct bmi_error *err)
{
	if (dev->fail_after == 0)
		return bmi_fail(err, -ENOMEM, "%zu bytes", size);
	if (dev->fail_after > 0)
		dev->fail_after--;
	ret->data = aligned_alloc(64, (size + 63) / 64 * 64);
	assert_non_null(ret->data);
	ret->size = size;
	ret->reserved = (size + dev->rounding - 1) / dev->rounding * dev->rounding;
	dev->live_bytes += ret->reserved;
	dev->n_live++;
	return 0;
}

static void fake_release(struct bmi_dev *dev, struct bmi_buf *buf)
{
	if (buf->data) {
		dev->live_bytes -= buf->reserved;
		dev->n_live--;
	}
	free(buf->data);
	memset(buf, 0, sizeof(*buf));
}

static const struct bmi_backend fake = { .name = "fake", .alloc = fake_alloc, .release = fake_release };

enum { LAYERS = 3, KV_HEADS = 2, HEAD_DIM = 24 };
static const struct bmi_config cfg = { .n_layers = LAYERS, .n_kv_heads = KV_HEADS, .head_dim = HEAD_DIM };
static const uint64_t block_bytes =
	2ull * LAYERS * KV_HEADS * BMI_KV_BLOCK * HEAD_DIM * 2; /* of a 2-byte type */

static struct bmi_kv *open_kv(struct bmi_dev *dev, enum bmi_dtype dtype, uint64_t budget)
{
	const struct bmi_kv_options opt = { &cfg, &fake, dev, dtype, budget };
	struct bmi_kv *kv;

	assert_int_equal(bmi_kv_new(&opt, &kv, NULL), 0);
	return kv;
}

static struct bmi_seq *open_seq(struct bmi_kv *kv)
{
	struct bmi_seq *seq;

	assert_int_equal(bmi_seq_new(kv, &seq, NULL), 0);
	return seq;
}

static void test_grows_by_blocks(void **state)
{
	static const struct {
		uint32_t n_positions, room;
	} steps[] = { { 0, 0 }, { 1, 64 }, { 64, 64 }, { 65, 128 }, { 3, 128 }, { 128, 128 }, { 1000, 1024 } };
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 };
	struct bmi_kv *kv = open_kv(&dev, BMI_BF16, 0);
	struct bmi_seq *seq = open_seq(kv);

	for (size_t i = 0; i < BMI_ARRAY_LEN(steps); i++) {
		assert_int_equal(bmi_seq_reserve(seq, steps[i].n_positions, NULL), 0);
		assert_int_equal(bmi_seq_room(seq), steps[i].room);
		assert_int_equal(bmi_kv_bytes(kv), steps[i].room / BMI_KV_BLOCK * block_bytes);
		assert_int_equal(bmi_kv_bytes(kv), dev.live_bytes);
	}
	bmi_seq_free(seq);
	assert_int_equal(dev.n_live, 0);
	assert_int_equal(bmi_kv_bytes(kv), 0);
	bmi_kv_free(kv);
}

/* A budget of just what need() says is enough, whatever a tier's pages and headers; and not much more than is asked for. */
static void test_need_is_enough(void **state)
{
	static const enum bmi_dtype dtypes[] = { BMI_F32, BMI_F16, BMI_BF16 };
	static const size_t roundings[] = { 1, 64, 4096 };
	static const uint32_t positions[] = { 1, 64, 65, 1000 };

	for (size_t i = 0; i < BMI_ARRAY_LEN(dtypes); i++)
		for (size_t j = 0; j < BMI_ARRAY_LEN(roundings); j++)
			for (size_t k = 0; k < BMI_ARRAY_LEN(positions); k++) {
				const uint64_t need = bmi_kv_need(&cfg, dtypes[i], positions[k]);
				const uint64_t n_blocks = (positions[k] + 63) / 64;
				struct bmi_dev dev = { .fail_after = -1, .rounding = roundings[j] };
				struct bmi_kv *kv = open_kv(&dev, dtypes[i], need);
				struct bmi_seq *seq = open_seq(kv);

				assert_int_equal(bmi_seq_reserve(seq, positions[k], NULL), 0);
				assert_true(need <=
					    n_blocks * (block_bytes * (i ? 1 : 2) + LAYERS * (4096 + 64)));
				bmi_seq_free(seq);
				bmi_kv_free(kv);
			}
}

static void test_need_saturates(void **state)
{
	const struct bmi_config huge = { .n_layers = UINT32_MAX,
					 .n_kv_heads = UINT32_MAX,
					 .head_dim = UINT32_MAX };

	assert_int_equal(bmi_kv_need(&cfg, BMI_F32, 0), 0);
	assert_true(bmi_kv_need(&huge, BMI_F32, UINT32_MAX) == UINT64_MAX);
}

/* Every block of every layer is memory of its own, and old blocks stay where they are and keep what they hold. */
static void test_blocks_do_not_overlap(void **state)
{
	enum { BLOCKS = 5 };
	const size_t half = (size_t)KV_HEADS * BMI_KV_BLOCK * HEAD_DIM * 4;
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 };
	struct bmi_kv *kv = open_kv(&dev, BMI_F32, 0);
	struct bmi_seq *seq = open_seq(kv);

	for (unsigned b = 0; b < BLOCKS; b++) {
		assert_int_equal(bmi_seq_reserve(seq, b * BMI_KV_BLOCK + 1, NULL), 0);
		for (unsigned layer = 0; layer < LAYERS; layer++) {
			const struct bmi_kv_table table = bmi_seq_table(seq, layer);

			memset(table.k[b], (int)(b * 16 + layer * 2), half);
			memset(table.v[b], (int)(b * 16 + layer * 2 + 1), half);
		}
	}
	for (unsigned b = 0; b < BLOCKS; b++)
		for (unsigned layer = 0; layer < LAYERS; layer++) {
			const struct bmi_kv_table table = bmi_seq_table(seq, layer);
			const unsigned char *k = table.k[b], *v = table.v[b];

			assert_int_equal((uintptr_t)k % 64, 0);
			assert_int_equal((uintptr_t)v % 64, 0);
			for (size_t i = 0; i < half; i++)
				if (k[i] != b * 16 + layer * 2 || v[i] != b * 16 + layer * 2 + 1)
					fail_msg("block %u of layer %u was written by another one", b, layer);
		}
	bmi_seq_free(seq);
	bmi_kv_free(kv);
}

static void test_truncate_frees_whole_blocks(void **state)
{
	static const struct {
		uint32_t to, room;
	} steps[] = { { 300, 320 }, { 257, 320 }, { 256, 256 }, { 1, 64 }, { 400, 64 }, { 0, 0 } };
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 };
	struct bmi_kv *kv = open_kv(&dev, BMI_BF16, 0);
	struct bmi_seq *seq = open_seq(kv);

	assert_int_equal(bmi_seq_reserve(seq, 320, NULL), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(steps); i++) {
		bmi_seq_truncate(seq, steps[i].to);
		assert_int_equal(bmi_seq_room(seq), steps[i].room);
		assert_int_equal(dev.live_bytes, steps[i].room / BMI_KV_BLOCK * block_bytes);
	}
	bmi_seq_free(seq);
	bmi_kv_free(kv);
}

/* Two sequences share one budget; a refusal says the numbers and changes nothing; what is freed can be used. */
static void test_budget_is_shared(void **state)
{
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 };
	struct bmi_kv *kv = open_kv(&dev, BMI_BF16, 3 * block_bytes + 1);
	struct bmi_seq *a = open_seq(kv), *b = open_seq(kv);
	struct bmi_error err = { 0 };
	char number[32];

	assert_int_equal(bmi_seq_reserve(a, 100, NULL), 0);
	assert_int_equal(bmi_seq_reserve(b, 100, &err), -ENOMEM);
	snprintf(number, sizeof(number), "%llu", (unsigned long long)(3 * block_bytes + 1));
	assert_non_null(strstr(err.msg, number));
	assert_int_equal(bmi_seq_room(b), 0);
	assert_int_equal(dev.live_bytes, 2 * block_bytes);
	assert_int_equal(bmi_seq_reserve(b, 64, NULL), 0);
	assert_int_equal(bmi_seq_reserve(a, 129, NULL), -ENOMEM);
	assert_int_equal(bmi_seq_room(a), 128);
	bmi_seq_free(b);
	assert_int_equal(bmi_seq_reserve(a, 129, NULL), 0);
	bmi_seq_free(a);
	bmi_kv_free(kv);
}

/* A tier may reserve more than it is asked for: the budget counts that. */
static void test_budget_counts_what_is_reserved(void **state)
{
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 << 16 };
	struct bmi_kv *kv = open_kv(&dev, BMI_BF16, LAYERS * (1 << 16) + block_bytes + 100);
	struct bmi_seq *seq = open_seq(kv);
	struct bmi_error err;

	assert_int_equal(bmi_seq_reserve(seq, 1, NULL), 0);
	assert_int_equal(bmi_kv_bytes(kv), LAYERS * (1 << 16));
	assert_int_equal(bmi_seq_reserve(seq, 65, &err), -ENOMEM);
	assert_int_equal(bmi_seq_room(seq), 64);
	assert_int_equal(bmi_kv_bytes(kv), LAYERS * (1 << 16));
	bmi_seq_free(seq);
	assert_int_equal(dev.n_live, 0);
	bmi_kv_free(kv);
}

/* Memory runs out at each single allocation of a reserve: the sequence is as before, nothing leaks. */
static void test_failing_memory(void **state)
{
	struct bmi_dev dev = { .rounding = 1 };
	struct bmi_kv *kv = open_kv(&dev, BMI_BF16, 0);
	struct bmi_seq *seq = open_seq(kv);
	struct bmi_kv_table before;

	dev.fail_after = -1;
	assert_int_equal(bmi_seq_reserve(seq, 64, NULL), 0);
	before = bmi_seq_table(seq, 1);
	memset(before.k[0], 42, 64);
	for (int n = 0; n < 4 * LAYERS; n++) {
		struct bmi_error err = { 0 };

		dev.fail_after = n;
		assert_int_equal(bmi_seq_reserve(seq, 5 * 64, &err), -ENOMEM);
		assert_non_null(strstr(err.msg, "320 positions"));
		assert_int_equal(bmi_seq_room(seq), 64);
		assert_int_equal(dev.n_live, LAYERS);
		assert_int_equal(bmi_kv_bytes(kv), block_bytes);
		assert_int_equal(*(char *)bmi_seq_table(seq, 1).k[0], 42);
	}
	dev.fail_after = 4 * LAYERS;
	assert_int_equal(bmi_seq_reserve(seq, 5 * 64, NULL), 0);
	bmi_seq_free(seq);
	assert_int_equal(dev.n_live, 0);
	bmi_kv_free(kv);
}

static void test_refuses_other_dtypes(void **state)
{
	struct bmi_dev dev = { .fail_after = -1, .rounding = 1 };
	const struct bmi_kv_options opt = { &cfg, &fake, &dev, BMI_Q4_0, 0 };
	struct bmi_kv *kv = NULL;

	assert_int_equal(bmi_kv_new(&opt, &kv, NULL), -EINVAL);
	assert_null(kv);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_grows_by_blocks),
		cmocka_unit_test(test_need_is_enough),
		cmocka_unit_test(test_need_saturates),
		cmocka_unit_test(test_blocks_do_not_overlap),
		cmocka_unit_test(test_truncate_frees_whole_blocks),
		cmocka_unit_test(test_budget_is_shared),
		cmocka_unit_test(test_budget_counts_what_is_reserved),
		cmocka_unit_test(test_failing_memory),
		cmocka_unit_test(test_refuses_other_dtypes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

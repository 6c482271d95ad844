/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Random trees, budgets and modes (each case is a seed of its own, printed in its name): every tensor is placed once, on a
 * device that has a budget or on disk; no budget is exceeded; the same question gets the same answer; and the answer is
 * itself a map that is accepted and means the same. Trees have ties, own parameters anywhere, empty modules, blocks of
 * unequal size; budgets have gaps in the ids, zeros and negative numbers.
 */
#include "place/place_priv.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_CASES = 64, N_ROUNDS = 40 };

struct rng {
	uint64_t s;
};

/* xorshift64*, Vigna */
static uint32_t below(struct rng *r, uint32_t n)
{
	r->s ^= r->s >> 12;
	r->s ^= r->s << 25;
	r->s ^= r->s >> 27;
	return (uint32_t)((r->s * 0x2545f4914f6cdd1dULL) >> 33) % n;
}

static void add_param(struct rng *r, struct bmi_skel_builder *b, const char *leaf)
{
	bmi_skel_param(b, leaf, 1, (uint64_t)(1 + below(r, below(r, 8) ? 200 : 4000)));
}

static void add_children(struct rng *r, struct bmi_skel_builder *b, unsigned depth)
{
	const uint32_t n = 1 + below(r, depth < 2 ? 6 : 3);

	for (uint32_t i = 0; i < n; i++) {
		char leaf[16];

		snprintf(leaf, sizeof(leaf), below(r, 2) ? "%u" : "m%u", i);
		bmi_skel_begin(b, leaf, "", /* no_split= */ below(r, 3) == 0);
		if (depth < 4 && below(r, 3)) {
			if (below(r, 4) == 0)
				add_param(r, b, "own");
			add_children(r, b, depth + 1);
		} else if (below(r, 6)) {
			add_param(r, b, "weight");
			if (below(r, 3) == 0)
				bmi_skel_buffer(b, "table", /* own_dtype= */ true, BMI_F32, 1,
						(uint64_t)1 + below(r, 9));
		}
		bmi_skel_end(b);
	}
}

static struct bmi_skel *random_skel(struct rng *r)
{
	struct bmi_skel_builder *b = bmi_skel_builder_new();
	const uint64_t vocab = 1 + below(r, 5000);
	struct bmi_skel *skel = NULL;
	struct bmi_error err = { 0 };

	assert_non_null(b);
	if (below(r, 8) == 0)
		add_param(r, b, "scale");
	bmi_skel_begin(b, "model", "", false);
	bmi_skel_linear(b, "embed", vocab, 2, false);
	bmi_skel_begin(b, "layers", "", false);
	add_children(r, b, 0);
	bmi_skel_end(b);
	bmi_skel_norm(b, "norm", 1 + below(r, 100), below(r, 2));
	bmi_skel_end(b);
	if (below(r, 2))
		add_children(r, b, 2);
	bmi_skel_linear(b, "head", vocab, 2, false);
	if (below(r, 2))
		bmi_skel_tie(b, "head.weight", "model.embed.weight");
	if (bmi_skel_finish(b, NULL, &skel, &err) < 0)
		fail_msg("%s", err.msg);
	return skel;
}

static void random_budget(struct rng *r, uint64_t total, struct bmi_budget *b)
{
	const uint32_t n_gpus = below(r, 5);
	bmi_device id = 0;

	*b = (struct bmi_budget){ .given = below(r, 4) > 0 };
	for (uint32_t i = 0; i < n_gpus; i++, id++) {
		id += below(r, 4) == 0 ? (bmi_device)(1 + below(r, 3)) : 0;
		b->dev[b->n].device = id;
		b->dev[b->n++].bytes = below(r, 6) == 0
					       ? (double)below(r, 3) - 1
					       : (double)total * below(r, 1000) / 600 / (1 + below(r, n_gpus));
	}
	if (below(r, 4)) {
		b->dev[b->n].device = BMI_DEVICE_CPU;
		b->dev[b->n++].bytes = (double)total * below(r, 1000) / 700;
	}
	if (below(r, 3) == 0) {
		b->dev[b->n].device = BMI_DEVICE_DISK;
		b->dev[b->n++].bytes = below(r, 100);
	}
}

static void check_limits(const struct bmi_skel *skel, const struct bmi_plan *plan, const struct bmi_budget *b)
{
	for (uint32_t t = 0; t < skel->n_tensors; t++) {
		bool found = plan->tensor_device[t] == BMI_DEVICE_DISK;
		const uint32_t source = skel->tensors[t].tied_to;

		for (uint32_t d = 0; d < b->n; d++)
			found |= plan->tensor_device[t] == b->dev[d].device;
		assert_true(found);
		if (source != BMI_NONE)
			assert_int_equal(plan->tensor_device[t], plan->tensor_device[source]);
	}
	for (uint32_t d = 0; d < b->n; d++) {
		double used = 0;

		if (b->dev[d].device == BMI_DEVICE_DISK)
			continue;
		for (uint32_t t = 0; t < skel->n_tensors; t++)
			if (plan->tensor_device[t] == b->dev[d].device)
				used += (double)bmi_skel_tensor_bytes(skel, t, plan->dtype);
		if (used > 0 && used > b->dev[d].bytes)
			fail_msg("device %d holds %.0f bytes, its budget is %.1f", b->dev[d].device, used,
				 b->dev[d].bytes);
	}
}

/* No line lies below another: each tensor has just one. */
static void check_once(const struct bmi_skel *skel, const struct bmi_plan *plan)
{
	for (uint32_t i = 0; i < plan->n_entries; i++)
		for (uint32_t k = 0; k < plan->n_entries; k++) {
			const char *a = plan->entries[i].module, *b = plan->entries[k].module;
			const size_t n = strlen(a);

			assert_false(i != k && (n == 0 || (!strncmp(a, b, n) && (b[n] == 0 || b[n] == '.'))));
		}
}

static bool same_devices(const struct bmi_skel *skel, const struct bmi_plan *a, const struct bmi_plan *b)
{
	return !memcmp(a->tensor_device, b->tensor_device, skel->n_tensors * sizeof(*a->tensor_device));
}

static void check_as_map(const struct bmi_skel *skel, const struct bmi_plan *plan)
{
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) again = NULL;
	bmi_auto_str text = { 0 };
	struct bmi_error err = { 0 };

	assert_int_equal(bmi_map_print_json(plan->entries, plan->n_entries, &text), 0);
	assert_int_equal(bmi_map_parse(text.bytes, text.n, false, skel, NULL, NULL, NULL), 0);
	if (bmi_map_parse(text.bytes, text.n, true, skel, &map, NULL, &err) < 0 ||
	    bmi_place_plan(skel, plan->dtype, map, NULL, UINT32_MAX, &again, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(again->n_entries, plan->n_entries);
	assert_true(same_devices(skel, again, plan));
}

static void round_of(struct rng *r)
{
	static const enum bmi_dtype dtypes[] = { BMI_F32, BMI_F16, BMI_BF16, BMI_F64 };
	static const enum bmi_place_mode modes[] = { BMI_PLACE_AUTO, BMI_PLACE_BALANCED,
						     BMI_PLACE_BALANCED_LOW_0, BMI_PLACE_SEQUENTIAL };
	bmi_auto(bmi_skel) skel = random_skel(r);
	const enum bmi_dtype dtype = dtypes[below(r, 4)];
	const struct bmi_map map = { .mode = modes[below(r, 4)] };
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto(bmi_plan) again = NULL;
	struct bmi_budget budget;
	struct bmi_error err = { 0 };

	random_budget(r, bmi_skel_module_bytes(skel, 0, dtype), &budget);
	if (bmi_place_plan(skel, dtype, &map, &budget, UINT32_MAX, &plan, NULL, &err) < 0)
		fail_msg("%s", err.msg);
	check_limits(skel, plan, &budget);
	check_once(skel, plan);
	check_as_map(skel, plan);
	assert_int_equal(bmi_place_plan(skel, dtype, &map, &budget, UINT32_MAX, &again, NULL, NULL), 0);
	assert_true(same_devices(skel, plan, again) && plan->n_entries == again->n_entries);
}

static void run_seed(void **state)
{
	struct rng r = { (uint64_t)(uintptr_t)*state * 0x9e3779b97f4a7c15ULL | 1 };

	for (int i = 0; i < N_ROUNDS; i++)
		round_of(&r);
}

int main(void)
{
	static char names[N_CASES][24];
	struct CMUnitTest tests[N_CASES];

	for (uintptr_t i = 0; i < N_CASES; i++) {
		snprintf(names[i], sizeof(names[i]), "seed %u", (unsigned)i + 1);
		tests[i] = (struct CMUnitTest){ names[i], run_seed, NULL, NULL, (void *)(i + 1) };
	}
	return _cmocka_run_group_tests("place property", tests, N_CASES, NULL, NULL);
}

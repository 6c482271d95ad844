/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The mode `fastest` on random trees and budgets, each case a seed of its own: no budget is exceeded, keys and values
 * included; never predicted slower than `auto` where auto keeps the same budgets; never better than the bound, and the
 * bound is below everything; deterministic. On small trees every placement is tried, and fastest exists whenever one does.
 */
#include "model/skel_priv.h"
#include "place/place.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_CASES = 32, N_ROUNDS = 60, MAX_LAYERS = 12 };

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

/* A decoder: embedding, layers of two parts, norm, head that may be tied. */
static struct bmi_skel *make_skel(struct rng *r, uint32_t n_layers)
{
	struct bmi_skel_builder *b = bmi_skel_builder_new();
	const uint64_t vocab = 10 + below(r, 3000), a = 1 + below(r, 300), m = 1 + below(r, 900);
	struct bmi_skel *skel = NULL;
	struct bmi_error err = { 0 };
	char leaf[16];

	assert_non_null(b);
	bmi_skel_builder_set_layers(b, "model.layers");
	bmi_skel_begin(b, "model", "", false);
	bmi_skel_linear(b, "embed_tokens", vocab, 4, false);
	bmi_skel_begin(b, "layers", "", false);
	for (uint32_t i = 0; i < n_layers; i++) {
		snprintf(leaf, sizeof(leaf), "%u", i);
		bmi_skel_begin(b, leaf, "Layer", true);
		bmi_skel_linear(b, "attn", a, 4, false);
		bmi_skel_linear(b, "mlp", m, 4, false);
		bmi_skel_end(b);
	}
	bmi_skel_end(b);
	bmi_skel_norm(b, "norm", 4, false);
	bmi_skel_end(b);
	bmi_skel_linear(b, "lm_head", vocab, 4, false);
	if (below(r, 2))
		bmi_skel_tie(b, "lm_head.weight", "model.embed_tokens.weight");
	if (bmi_skel_finish(b, NULL, &skel, &err) < 0)
		fail_msg("%s", err.msg);
	return skel;
}

static void make_budget(struct rng *r, uint64_t total, uint32_t n_gpus, struct bmi_budget *b)
{
	*b = (struct bmi_budget){ .given = true, .kv_layer_bytes = below(r, 2) ? below(r, 500) : 0 };
	for (uint32_t i = 0; i < n_gpus; i++, b->n++) {
		b->dev[b->n].device = (bmi_device)i;
		b->dev[b->n].bytes = (double)total * below(r, 1000) / 1200;
		b->dev[b->n].rate = 1e9 * (1 + below(r, 900));
	}
	b->dev[b->n].device = BMI_DEVICE_CPU;
	b->dev[b->n].bytes = (double)total * below(r, 1000) / 700;
	b->dev[b->n++].rate = 1e9 * (1 + below(r, 50));
	b->dev[b->n].device = BMI_DEVICE_DISK;
	b->dev[b->n++].rate = 1e8 * (1 + below(r, 9));
}

/* Weights, and keys and values where a layer is computed. */
static bool keeps(const struct bmi_skel *skel, enum bmi_dtype dtype, const bmi_device *dev,
		  const struct bmi_budget *b)
{
	for (uint32_t d = 0; d + 1 < b->n; d++) {
		const bmi_device me = b->dev[d].device;
		double used = 0;

		for (uint32_t t = 0; t < skel->n_tensors; t++)
			if (dev[t] == me)
				used += (double)bmi_skel_tensor_bytes(skel, t, dtype);
		for (uint32_t m = 0; m < skel->n_modules; m++) {
			bool here = false;

			if (!skel->modules[m].no_split)
				continue;
			for (uint32_t t = 0; t < skel->n_tensors; t++)
				here |= skel->tensors[t].module > m &&
					skel->tensors[t].module < skel->modules[m].end &&
					(dev[t] == me || (me == BMI_DEVICE_CPU && dev[t] == BMI_DEVICE_DISK));
			used += here ? b->kv_layer_bytes : 0;
		}
		if (used > b->dev[d].bytes && used > 0)
			return false;
	}
	return true;
}

static int plan_with(const struct bmi_skel *skel, enum bmi_place_mode mode, const struct bmi_budget *b,
		     struct bmi_plan **ret, struct bmi_error *err)
{
	const struct bmi_map map = { .mode = mode };

	return bmi_place_plan(skel, BMI_BF16, &map, b, UINT32_MAX, ret, NULL, err);
}

static void round_of(struct rng *r)
{
	bmi_auto(bmi_skel) skel = make_skel(r, 1 + below(r, MAX_LAYERS));
	bmi_auto(bmi_plan) fast = NULL;
	bmi_auto(bmi_plan) again = NULL;
	bmi_auto(bmi_plan) walk = NULL;
	struct bmi_error err = { 0 };
	struct bmi_budget b;
	double cost, bound;

	make_budget(r, bmi_skel_module_bytes(skel, 0, BMI_BF16), below(r, 4), &b);
	if (plan_with(skel, BMI_PLACE_FASTEST, &b, &fast, &err) < 0) {
		/* only keys and values that do not fit may refuse */
		assert_int_equal(err.code, -28);
		assert_true(b.kv_layer_bytes > 0);
		return;
	}
	assert_true(keeps(skel, BMI_BF16, fast->tensor_device, &b));
	cost = bmi_place_cost(skel, BMI_BF16, fast->tensor_device, &b);
	bound = bmi_place_bound(skel, BMI_BF16, &b);
	if (cost < bound * (1 - 1e-9))
		fail_msg("cost %g is below the bound %g", cost, bound);
	assert_int_equal(plan_with(skel, BMI_PLACE_AUTO, &b, &walk, &err), 0);
	if (keeps(skel, BMI_BF16, walk->tensor_device, &b) &&
	    cost > bmi_place_cost(skel, BMI_BF16, walk->tensor_device, &b) * (1 + 1e-9))
		fail_msg("fastest takes %g s, auto %g", cost,
			 bmi_place_cost(skel, BMI_BF16, walk->tensor_device, &b));
	assert_int_equal(plan_with(skel, BMI_PLACE_FASTEST, &b, &again, &err), 0);
	assert_memory_equal(fast->tensor_device, again->tensor_device, skel->n_tensors * sizeof(bmi_device));
	for (uint32_t t = 0; t < skel->n_tensors; t++)
		if (skel->tensors[t].tied_to != BMI_NONE)
			assert_int_equal(fast->tensor_device[t], fast->tensor_device[skel->tensors[t].tied_to]);
}

/* Every placement of a tree of a few tensors: the least cost, and whether any keeps the budgets. */
static bool try_all(const struct bmi_skel *skel, const struct bmi_budget *b, double *ret_best)
{
	bmi_device dev[16];
	uint64_t n = 1;
	bool any = false;

	assert_true(skel->n_tensors <= 16);
	for (uint32_t t = 0; t < skel->n_tensors; t++)
		n *= skel->tensors[t].tied_to == BMI_NONE ? b->n : 1;
	*ret_best = INFINITY;
	for (uint64_t i = 0; i < n; i++) {
		uint64_t left = i;
		double cost;

		for (uint32_t t = 0; t < skel->n_tensors; t++) {
			if (skel->tensors[t].tied_to != BMI_NONE) {
				dev[t] = dev[skel->tensors[t].tied_to];
				continue;
			}
			dev[t] = b->dev[left % b->n].device;
			left /= b->n;
		}
		if (!keeps(skel, BMI_BF16, dev, b))
			continue;
		any = true;
		cost = bmi_place_cost(skel, BMI_BF16, dev, b);
		*ret_best = cost < *ret_best ? cost : *ret_best;
	}
	return any;
}

static void small_round(struct rng *r)
{
	bmi_auto(bmi_skel) skel = make_skel(r, 1 + below(r, 3));
	bmi_auto(bmi_plan) fast = NULL;
	struct bmi_error err = { 0 };
	struct bmi_budget b;
	double best, cost, bound;
	bool any;

	make_budget(r, bmi_skel_module_bytes(skel, 0, BMI_BF16), below(r, 2), &b);
	any = try_all(skel, &b, &best);
	bound = bmi_place_bound(skel, BMI_BF16, &b);
	assert_true(!any || best >= bound * (1 - 1e-9));
	if (plan_with(skel, BMI_PLACE_FASTEST, &b, &fast, &err) < 0) {
		if (any)
			fail_msg("there is a placement, fastest found none: %s", err.msg);
		return;
	}
	cost = bmi_place_cost(skel, BMI_BF16, fast->tensor_device, &b);
	assert_true(cost >= best * (1 - 1e-9));
}

static void run_seed(void **state)
{
	struct rng r = { (uint64_t)(uintptr_t)*state * 0x9e3779b97f4a7c15ULL | 1 };

	for (int i = 0; i < N_ROUNDS; i++)
		round_of(&r);
	for (int i = 0; i < 4; i++)
		small_round(&r);
}

int main(void)
{
	static char names[N_CASES][24];
	struct CMUnitTest tests[N_CASES];

	for (uintptr_t i = 0; i < N_CASES; i++) {
		snprintf(names[i], sizeof(names[i]), "seed %u", (unsigned)i + 1);
		tests[i] = (struct CMUnitTest){ names[i], run_seed, NULL, NULL, (void *)(i + 1) };
	}
	return _cmocka_run_group_tests("place fastest", tests, N_CASES, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Budgets of the balanced modes (transformers/integrations/accelerate.py, get_balanced_memory()). Owns the rule of how
 * much each GPU may take so that all take about the same. Invariant: no budget is ever raised.
 */
#include "place/place_priv.h"

#include <math.h>

static bool is_accelerator(bmi_device d)
{
	return d >= 0 || d == BMI_DEVICE_MPS;
}

/* What one piece can overshoot a fair share by: a quarter more than the largest block or the largest leaf. */
static uint64_t slack(const struct bmi_skel *skel, enum bmi_dtype dtype)
{
	uint64_t largest = 0;

	for (uint32_t i = 0; i < skel->n_modules; i++) {
		const struct bmi_module *m = &skel->modules[i];
		uint64_t own = 0;

		for (uint32_t t = m->first_tensor; i > 0 && t < m->first_tensor + m->n_tensors; t++)
			own += bmi_skel_tensor_bytes(skel, t, dtype);
		if (m->no_split)
			own = bmi_skel_module_bytes(skel, i, dtype);
		if (own > largest)
			largest = own;
	}
	return (uint64_t)(1.25 * (double)largest);
}

/* The GPU to be kept low: GPU 0, or the lowest that may be used when GPU 0 is not among the budgets. */
static uint32_t find_low(const struct bmi_budget *b)
{
	for (uint32_t i = 0; i < b->n; i++)
		if (b->dev[i].device == 0 || (b->dev[i].device > 0 && b->dev[i].bytes > 0))
			return i;
	return BMI_NONE;
}

/*
 * What the other GPUs take. The peer adds up GPUs 1 to n - 1, n being how many have a budget: with a budget of 0 among
 * them it misses the last ones, and we do the same, for the same map; where one of these ids does not exist it crashes,
 * and we add up those that do.
 */
static double beside(const struct bmi_budget *b, uint32_t low, uint32_t n)
{
	double all = 0, counted = 0;
	uint32_t n_counted = 0;

	for (uint32_t i = 0; i < b->n; i++) {
		if (!is_accelerator(b->dev[i].device) || i == low)
			continue;
		all += fmax(0, b->dev[i].bytes);
		if (b->dev[i].device > 0 && (uint32_t)b->dev[i].device < n) {
			counted += b->dev[i].bytes;
			n_counted++;
		}
	}
	return b->dev[low].device == 0 && n_counted == n - 1 ? counted : all;
}

void bmi_place_balance(const struct bmi_skel *skel, enum bmi_dtype dtype, enum bmi_place_mode mode,
		       struct bmi_budget *budget)
{
	const uint64_t total = bmi_skel_module_bytes(skel, 0, dtype);
	bool low_0 = mode == BMI_PLACE_BALANCED_LOW_0;
	uint32_t n = 0, last = BMI_NONE, low;
	double others;
	uint64_t share;

	if (mode == BMI_PLACE_SEQUENTIAL)
		return;
	for (uint32_t i = 0; i < budget->n; i++) {
		n += is_accelerator(budget->dev[i].device) && budget->dev[i].bytes > 0;
		if (budget->dev[i].device >= 0 && budget->dev[i].bytes > 0)
			last = i;
	}
	if (n == 0)
		return;
	if (n == 1) {
		low_0 = false;
		if (!budget->given && last != BMI_NONE)
			budget->dev[last].bytes *= 0.9; /* room for what is not weights */
	}

	share = total / (low_0 ? n - 1 : n) + slack(skel, dtype);
	low = low_0 ? find_low(budget) : BMI_NONE;
	for (uint32_t i = 0; last != BMI_NONE && i < last;
	     i++) /* the last one keeps all: it takes what rounding left */
		if (budget->dev[i].device >= 0 && budget->dev[i].bytes > 0 && i != low)
			budget->dev[i].bytes = fmin((double)share, budget->dev[i].bytes);
	if (low == BMI_NONE)
		return;

	others = beside(budget, low, n);
	budget->dev[low].bytes = fmin(fmax(0, (double)total - others), budget->dev[low].bytes);
}

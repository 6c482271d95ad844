/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the cost model: seconds per token of a placement, and the bound that none can beat. Invariant: for one budget,
 * bound <= cost of every placement that keeps to it.
 */
#include "place/place_priv.h"

#include <stdlib.h>

double bmi_place_default_rate(bmi_device device)
{
	if (device == BMI_DEVICE_DISK)
		return 0.5e9;                           /* a SATA SSD */
	return device == BMI_DEVICE_CPU ? 10e9 : 200e9; /* a third of two channels of DDR4; a small card */
}

static double rate_of(const struct bmi_budget *budget, bmi_device device)
{
	for (uint32_t i = 0; i < budget->n; i++)
		if (budget->dev[i].device == device && budget->dev[i].rate > 0)
			return budget->dev[i].rate;
	return bmi_place_default_rate(device);
}

double bmi_place_cost(const struct bmi_skel *skel, enum bmi_dtype dtype, const bmi_device *tensor_device,
		      const struct bmi_budget *budget)
{
	double seconds = 0;

	for (uint32_t i = 0; i < skel->n_tensors; i++)
		if (skel->tensors[i].kind == BMI_PARAM)
			seconds += (double)bmi_skel_tensor_bytes(skel, i, dtype) *
				   bmi_skel_read_share(skel, i) / rate_of(budget, tensor_device[i]);
	return seconds;
}

struct load {
	double bytes, share;
};

struct tier {
	double room, rate;
};

static int by_share(const void *a, const void *b)
{
	const struct load *x = a, *y = b;

	return (x->share < y->share) - (x->share > y->share);
}

static int by_rate(const void *a, const void *b)
{
	const struct tier *x = a, *y = b;

	return (x->rate < y->rate) - (x->rate > y->rate);
}

/* Devices with room, the fastest first; the last is disk, which has no end. */
static uint32_t sort_tiers(const struct bmi_budget *budget, struct tier *ret)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < budget->n; i++)
		if (budget->dev[i].device != BMI_DEVICE_DISK && budget->dev[i].bytes > 0)
			ret[n++] =
				(struct tier){ budget->dev[i].bytes, rate_of(budget, budget->dev[i].device) };
	qsort(ret, n, sizeof(*ret), by_rate);
	ret[n++] = (struct tier){ 1e300, rate_of(budget, BMI_DEVICE_DISK) };
	return n;
}

double bmi_place_bound(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget)
{
	struct tier tiers[BMI_ARRAY_LEN(budget->dev) + 1];
	struct load *loads = calloc(skel->n_tensors ? skel->n_tensors : 1, sizeof(*loads));
	uint32_t n_loads = 0, tier = 0;
	double seconds = 0;

	if (!loads)
		return 0; /* true of every placement, if useless */
	sort_tiers(budget, tiers);
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		if (skel->tensors[i].kind == BMI_PARAM)
			loads[n_loads++] = (struct load){ (double)bmi_skel_tensor_bytes(skel, i, dtype),
							  bmi_skel_read_share(skel, i) };
	qsort(loads, n_loads, sizeof(*loads), by_share);
	for (uint32_t i = 0; i < n_loads; i++)
		for (double left = loads[i].bytes; left > 0;) {
			const double take = left < tiers[tier].room ? left : tiers[tier].room;

			seconds += take * loads[i].share / tiers[tier].rate;
			left -= take;
			tiers[tier].room -= take;
			if (left > 0)
				tier++;
		}
	free(loads);
	return seconds;
}

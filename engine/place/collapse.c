/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lines of a map after the walk: siblings on one device become one line (Accelerate's clean_device_map()), and lines become
 * the devices of tensors. Invariant: neither changes where any tensor goes.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool strictly_below(const struct bmi_skel *skel, uint32_t module, struct bmi_part p)
{
	if (p.module != BMI_NONE)
		return p.module > module && p.module < skel->modules[module].end;
	return skel->tensors[p.tensor].module >= module &&
	       skel->tensors[p.tensor].module < skel->modules[module].end;
}

/* One module: its lines become one, if there are two or more and all name one device. Then what is left below it. */
static void collapse(const struct bmi_skel *skel, uint32_t module, struct bmi_placed *list, uint32_t *n)
{
	uint32_t n_below = 0, kept = 0;
	bmi_device device = BMI_DEVICE_NONE;
	bool same = true;

	for (uint32_t i = 0; i < *n; i++) {
		if (!strictly_below(skel, module, list[i].part))
			continue;
		same = same && (n_below == 0 || device == list[i].device);
		device = list[i].device;
		n_below++;
	}
	if (n_below == 0)
		return;
	if (same && n_below > 1) {
		for (uint32_t i = 0; i < *n; i++)
			if (!strictly_below(skel, module, list[i].part))
				list[kept++] = list[i];
		list[kept++] = (struct bmi_placed){ { module, BMI_NONE }, device };
		*n = kept;
		return;
	}
	for (uint32_t i = module + 1; i < skel->modules[module].end; i = skel->modules[i].end)
		collapse(skel, i, list, n);
}

void bmi_place_collapse(const struct bmi_skel *skel, struct bmi_placed *list, uint32_t *n)
{
	collapse(skel, 0, list, n);
}

int bmi_place_spread(const struct bmi_skel *skel, const struct bmi_placed *list, uint32_t n,
		     bmi_device *device, struct bmi_error *err)
{
	bmi_device *of = malloc(skel->n_modules * sizeof(*of));

	if (!of)
		return bmi_fail(err, -ENOMEM, "plan of %u modules", skel->n_modules);
	for (uint32_t i = 0; i < skel->n_modules; i++)
		of[i] = BMI_DEVICE_NONE;
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		device[i] = BMI_DEVICE_NONE;
	for (uint32_t i = 0; i < n; i++) {
		if (list[i].part.module != BMI_NONE)
			of[list[i].part.module] = list[i].device;
		else
			device[list[i].part.tensor] = list[i].device;
	}
	for (uint32_t i = 1; i < skel->n_modules; i++) /* parents come before children */
		if (of[i] == BMI_DEVICE_NONE)
			of[i] = of[skel->modules[i].parent];
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		if (device[i] == BMI_DEVICE_NONE)
			device[i] = of[skel->tensors[i].module];
	free(of);
	return 0;
}

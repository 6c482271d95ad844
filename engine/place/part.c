/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names in maps: which module or tensor a key means, and what to tell someone whose key means nothing.
 */
#include "place/place_priv.h"

#include <stdlib.h>
#include <string.h>

struct bmi_part bmi_part_find(const struct bmi_skel *skel, const char *name, size_t n)
{
	struct bmi_part part = { bmi_skel_find_module(skel, name, n), BMI_NONE };

	if (part.module == BMI_NONE)
		part.tensor = bmi_skel_find_tensor(skel, name, n);
	return part;
}

/* The nearest module above a name that exists; the root at last. */
static uint32_t known_above(const struct bmi_skel *skel, const char *name, size_t n)
{
	while (n) {
		uint32_t m;

		while (n && name[n - 1] != '.')
			n--;
		if (n == 0)
			break;
		m = bmi_skel_find_module(skel, name, --n);
		if (m != BMI_NONE)
			return m;
	}
	return 0;
}

void bmi_part_hint(const struct bmi_skel *skel, const char *name, size_t n, struct bmi_str *ret)
{
	const uint32_t up = known_above(skel, name, n);
	const struct bmi_module *m = &skel->modules[up];
	uint32_t n_children = 0, last = 0;

	for (uint32_t i = up + 1; i < m->end; i = skel->modules[i].end) {
		n_children++;
		last = i;
	}
	if (up)
		bmi_str_printf(ret, "'%s' has ", m->name);
	else
		bmi_str_puts(ret, "the model has ");
	if (n_children == 0) {
		bmi_str_puts(ret, "no parts");
	} else if (n_children > 2 &&
		   strspn(skel->modules[last].leaf, "0123456789") == strlen(skel->modules[last].leaf)) {
		bmi_str_printf(ret, "%s to %s", skel->modules[up + 1].leaf, skel->modules[last].leaf);
	} else {
		const char *comma = "";

		for (uint32_t i = up + 1; i < m->end; i = skel->modules[i].end, comma = ", ")
			bmi_str_printf(ret, "%s%s", comma, skel->modules[i].leaf);
	}
}

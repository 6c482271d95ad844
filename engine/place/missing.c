/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a map of one's own leaves out, and what it names that is not there: found, and put into one sentence. Modules are
 * named rather than their parameters wherever all of a module is missing.
 */
#include "place/missing.h"

#include <errno.h>
#include <string.h>

/* All names fit in a sentence of this length for any model we know of with one line per layer; beyond it they are counted. */
enum { MAX_NAMES_BYTES = 3000 };

struct names {
	const struct bmi_skel *skel;
	const bmi_device *device;
	struct bmi_str *out;
	uint32_t n_left_out;
};

static void name(struct names *s, const char *what)
{
	if (s->out->n > MAX_NAMES_BYTES)
		s->n_left_out++;
	else
		bmi_str_printf(s->out, "%s%s", s->out->n ? ", " : "", what);
}

/* Parameters in [first, end) of a kind: how many there are, and how many of them lack a device. */
static void count(const struct names *s, uint32_t first, uint32_t end, uint32_t *n, uint32_t *n_missing)
{
	*n = *n_missing = 0;
	for (uint32_t i = first; i < end; i++) {
		if (s->skel->tensors[i].kind != BMI_PARAM)
			continue;
		++*n;
		*n_missing += s->device[i] == BMI_DEVICE_NONE;
	}
}

static void visit(struct names *s, uint32_t module)
{
	const struct bmi_module *m = &s->skel->modules[module];
	const struct bmi_module *last = &s->skel->modules[m->end - 1];
	uint32_t n, n_missing;

	count(s, m->first_tensor, last->first_tensor + last->n_tensors, &n, &n_missing);
	if (n_missing == 0)
		return;
	if (n == n_missing && module) {
		name(s, m->name);
		return;
	}
	for (uint32_t i = m->first_tensor; i < m->first_tensor + m->n_tensors; i++)
		if (s->skel->tensors[i].kind == BMI_PARAM && s->device[i] == BMI_DEVICE_NONE)
			name(s, s->skel->tensors[i].name);
	for (uint32_t i = module + 1; i < m->end; i = s->skel->modules[i].end)
		visit(s, i);
}

int bmi_missing_names(const struct bmi_skel *skel, const bmi_device *device, struct bmi_str *ret)
{
	struct names s = { skel, device, ret, 0 };

	visit(&s, 0);
	if (s.n_left_out)
		bmi_str_printf(ret, " and %u more", s.n_left_out);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a map of one's own leaves out, and what it names that is not there: found, and put into one sentence. Modules are
 * named rather than their parameters wherever all of a module is missing.
 */
#include "place/missing.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* All names fit in a sentence of this length for any model we know of with one line per layer; beyond it they are counted. */
enum { MAX_NAMES_BYTES = 2600, MAX_UNKNOWN_BYTES = 800 };

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

/* "model.layers.3, model.norm": all that lacks a device. */
static void list_missing(const struct bmi_skel *skel, const bmi_device *device, struct bmi_str *out)
{
	struct names s = { skel, device, out, 0 };

	visit(&s, 0);
	if (s.n_left_out)
		bmi_str_printf(out, " and %u more", s.n_left_out);
}

static void list_unknown(const struct bmi_skel *skel, const char *name, struct bmi_str *out)
{
	bmi_auto_str hint = { 0 };

	if (out->n > MAX_UNKNOWN_BYTES)
		return;
	bmi_part_hint(skel, name, strlen(name), &hint);
	bmi_str_printf(out, "%s'%.200s' (%.200s)", out->n ? ", " : "", name, hint.bytes ? hint.bytes : "");
}

static int refuse(const struct bmi_str *unknown, const struct bmi_str *missing, bool need_all,
		  enum bmi_place_error *kind, struct bmi_error *err)
{
	if (unknown->n && missing->n)
		return bmi_refuse(kind, BMI_PLACE_UNKNOWN_MODULE, err, -EINVAL,
				  "device_map names what the model does not have: %s; correct these lines; "
				  "it also gives no "
				  "device for: %s",
				  unknown->bytes, missing->bytes);
	if (unknown->n)
		return bmi_refuse(
			kind, BMI_PLACE_UNKNOWN_MODULE, err, -EINVAL,
			"device_map names what the model does not have: %s; correct or remove these lines",
			unknown->bytes);
	if (missing->n && need_all)
		return bmi_refuse(
			kind, BMI_PLACE_MISSING_PARAMS, err,
			-EINVAL, "device_map gives no device for: %s; add a line for each, or one for all the rest: \"\": cpu",
			missing->bytes);
	return 0;
}

int bmi_map_spread(const struct bmi_skel *skel, const struct bmi_map *map, bool need_all, bmi_device *device,
		   struct bmi_placed *list, enum bmi_place_error *kind, struct bmi_error *err)
{
	bmi_auto_mem struct bmi_placed *known = calloc((size_t)map->n_entries + 1, sizeof(*known));
	bmi_auto_str unknown = { 0 }, missing = { 0 };
	uint32_t n = 0;
	int r;

	if (!known)
		return bmi_fail(err, -ENOMEM, "map of %u lines", map->n_entries);
	for (uint32_t i = 0; i < map->n_entries; i++) {
		const char *name = map->entries[i].module;

		known[n] =
			(struct bmi_placed){ bmi_part_find(skel, name, strlen(name)), map->entries[i].device };
		if (known[n].part.module != BMI_NONE || known[n].part.tensor != BMI_NONE)
			n++;
		else
			list_unknown(skel, name, &unknown);
	}
	r = bmi_place_spread(skel, known, n, device, err);
	if (r < 0)
		return r;
	list_missing(skel, device, &missing);
	if (!bmi_str_ok(&unknown) || !bmi_str_ok(&missing))
		return bmi_fail(err, -ENOMEM, "list of missing modules");
	r = refuse(&unknown, &missing, need_all, kind, err);
	if (r == 0 && list && n)
		memcpy(list, known, n * sizeof(*known));
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what layers/ shows: which modules are placed as one, what each is made of, and how moving one becomes a map for all.
 * Invariant: the map in force is read and replaced under one hold of the lock, so that two writers of two modules both win.
 */
#include "run/engine_priv.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

/* The lines that say where one module is to be: its own, and those of the other names of its tensors. */
struct lines {
	const char **names; /* [n]; nothing in the map below one of them stays */
	uint32_t n;
	bmi_device device;
};

/* Is @name the module itself, or something in it? */
static bool is_within(const char *name, const char *module)
{
	const size_t n = strlen(module);

	return n == 0 || (strncmp(name, module, n) == 0 && (name[n] == '.' || name[n] == 0));
}

static uint32_t tensors_end(const struct bmi_skel *skel, const struct bmi_module *m)
{
	const struct bmi_module *last = &skel->modules[m->end - 1];

	return last->first_tensor + last->n_tensors;
}

static bool has_params(const struct bmi_skel *skel, const struct bmi_module *m)
{
	for (uint32_t i = m->first_tensor; i < tensors_end(skel, m); i++)
		if (skel->tensors[i].kind == BMI_PARAM)
			return true;
	return false;
}

/* Layers are looked for below what is not in one itself. */
static bool has_layers(const struct bmi_skel *skel, uint32_t module)
{
	const struct bmi_module *m = &skel->modules[module];

	for (uint32_t i = module + 1; i < m->end && m->layer == BMI_NONE; i++)
		if (skel->modules[i].layer != BMI_NONE)
			return true;
	return false;
}

const char *bmi_module_name(struct bmi_engine *eng, unsigned i)
{
	const struct bmi_skel *skel = eng->skel;

	for (uint32_t m = 0; m < skel->n_modules;) {
		if (has_layers(skel, m)) {
			m++;
			continue;
		}
		if (has_params(skel, &skel->modules[m]) && i-- == 0)
			return skel->modules[m].name;
		m = skel->modules[m].end;
	}
	return NULL;
}

static const struct bmi_module *find_module(const struct bmi_engine *eng, const char *name)
{
	const uint32_t i = bmi_skel_find_module(eng->skel, name, strlen(name));

	return i == BMI_NONE ? NULL : &eng->skel->modules[i];
}

/* ---- what is told ---- */

/* The order of devices in maps: GPUs ascending, cpu, disk. */
static int64_t rank_of(bmi_device device)
{
	return device >= 0 ? device : INT32_MAX - (int64_t)device;
}

/* Each device that holds some of the module, once. */
static int print_device(struct bmi_engine *eng, const struct bmi_module *m, struct bmi_str *ret)
{
	bmi_auto_mem bmi_device *device = NULL;
	int r = bmi_report_devices(eng, &device);
	int64_t last = -1;

	while (r == 0) {
		bmi_device next = BMI_DEVICE_NONE;
		char word[16];

		for (uint32_t i = m->first_tensor; i < tensors_end(eng->skel, m); i++) {
			const struct bmi_tensor *t = &eng->skel->tensors[i];
			const bmi_device d = device[t->tied_to != BMI_NONE ? t->tied_to : i];

			if (t->kind == BMI_PARAM && rank_of(d) > last && rank_of(d) < rank_of(next))
				next = d;
		}
		if (next == BMI_DEVICE_NONE)
			break;
		r = bmi_str_printf(ret, "%s%s", last < 0 ? "" : " ", bmi_device_print(next, word));
		last = rank_of(next);
	}
	return r < 0 ? r : bmi_str_puts(ret, "\n");
}

/* The dtype weights are held in at this moment. */
static enum bmi_dtype now_dtype(struct bmi_engine *eng)
{
	struct bmi_residency_state st = { 0 };
	enum bmi_dtype dtype;

	if (eng->res) {
		bmi_residency_state(eng->res, &st);
		return st.dtype;
	}
	pthread_mutex_lock(&eng->lock);
	dtype = eng->req.dtype;
	pthread_mutex_unlock(&eng->lock);
	return dtype;
}

static int print_bytes(struct bmi_engine *eng, const struct bmi_module *m, struct bmi_str *ret)
{
	const enum bmi_dtype dtype = now_dtype(eng);
	uint64_t bytes = 0;

	for (uint32_t i = m->first_tensor; i < tensors_end(eng->skel, m); i++)
		if (eng->skel->tensors[i].kind == BMI_PARAM)
			bytes += bmi_skel_tensor_bytes(eng->skel, i, dtype);
	return bmi_str_printf(ret, "%" PRIu64 "\n", bytes);
}

static int print_tensors(const struct bmi_engine *eng, const struct bmi_module *m, struct bmi_str *ret)
{
	for (uint32_t i = m->first_tensor; i < tensors_end(eng->skel, m); i++) {
		const struct bmi_tensor *t = &eng->skel->tensors[i];
		const struct bmi_ckpt_tensor *src = eng->source[i];

		if (t->kind != BMI_PARAM || !src)
			continue;
		bmi_str_printf(ret, "%s [", t->name);
		for (unsigned d = 0; d < t->n_dims; d++)
			bmi_str_printf(ret, "%s%" PRIu64, d ? "," : "", t->shape[d]);
		bmi_str_printf(ret, "] %s %s %" PRIu64, bmi_dtype_name(src->dtype), src->file, src->extent.off);
		if (src->parts)
			bmi_str_printf(ret, " and %u more pieces", src->n_parts - 1);
		if (t->tied_to != BMI_NONE)
			bmi_str_printf(ret, " tied to %s", eng->skel->tensors[t->tied_to].name);
		bmi_str_puts(ret, "\n");
	}
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

int bmi_module_report(struct bmi_engine *eng, const char *module, enum bmi_module_fact what, struct bmi_str *ret)
{
	const struct bmi_module *m = find_module(eng, module);

	if (!m)
		return -ENOENT;
	switch (what) {
	case BMI_MODULE_DEVICE:
		return print_device(eng, m, ret);
	case BMI_MODULE_DTYPE:
		return bmi_str_printf(ret, "%s\n", bmi_dtype_name(now_dtype(eng)));
	case BMI_MODULE_BYTES:
		return print_bytes(eng, m, ret);
	case BMI_MODULE_TENSORS:
		return print_tensors(eng, m, ret);
	}
	return -EINVAL;
}

/* ---- what is written ---- */

static int parse_device(struct bmi_engine *eng, const char *module, const char *text, size_t n,
			bmi_device *ret, struct bmi_error *err)
{
	bmi_auto_str line = { 0 };
	bmi_auto(bmi_map) map = NULL;
	char word[16];
	int r;

	for (; n && isspace((unsigned char)text[n - 1]); n--)
		;
	for (; n && isspace((unsigned char)*text); n--)
		text++;
	if (n == 0)
		return bmi_fail(err, -EINVAL, "no device: write cpu, disk or a GPU's number");
	for (size_t i = 0; i < n; i++)
		if (!isalnum((unsigned char)text[i]) && !memchr(":-_.", text[i], 4))
			return bmi_fail(err, -EINVAL,
					"one device is wanted: write cpu, disk or a GPU's number");
	if (bmi_str_printf(&line, "\"%s\": %.*s\n", module, n < 64 ? (int)n : 64, text) < 0)
		return bmi_fail(err, -ENOMEM, "no memory");
	r = bmi_map_parse(line.bytes, line.n, /* complete= */ true, eng->skel, &map, /* ret_kind= */ NULL, err);
	if (r < 0)
		return r;
	if (map->n_entries != 1)
		return bmi_fail(err, -EINVAL, "one device is wanted: write cpu, disk or a GPU's number");
	*ret = map->entries[0].device;
	if (*ret == BMI_DEVICE_CPU || *ret == BMI_DEVICE_DISK || (*ret >= 0 && (uint32_t)*ret < eng->n_gpus))
		return 0;
	return bmi_fail(err, -ENODEV, "device %s is not here: write cpu or disk%s",
			bmi_device_print(*ret, word),
			eng->n_gpus ? ", or the number of a GPU" : "; no GPU can be used");
}

int bmi_module_check(struct bmi_engine *eng, const char *module, const char *text, size_t n, bool complete,
		     struct bmi_error *err)
{
	bmi_device device;

	if (!find_module(eng, module))
		return bmi_fail(err, -ENOENT, "there is no module '%s'", module);
	if (!complete && !memchr(text, '\n', n))
		return 0;
	return parse_device(eng, module, text, n, &device, err);
}

/* The name under which one tensor of another module goes along: its module's, when that has no other parameter. */
static const char *partner_name(const struct bmi_skel *skel, uint32_t tensor)
{
	const struct bmi_module *m = &skel->modules[skel->tensors[tensor].module];
	uint32_t n = 0;

	for (uint32_t i = m->first_tensor; i < tensors_end(skel, m); i++)
		n += skel->tensors[i].kind == BMI_PARAM;
	return n == 1 ? m->name : skel->tensors[tensor].name;
}

static void add_name(struct lines *lines, const char *name)
{
	for (uint32_t i = 0; i < lines->n; i++)
		if (!strcmp(lines->names[i], name))
			return;
	lines->names[lines->n++] = name;
}

/* A tensor is in one place, whatever it is called: its other names in the map go along. */
static int list_lines(const struct bmi_skel *skel, const struct bmi_module *m, struct bmi_arena *arena,
		      struct lines *ret)
{
	const uint32_t first = m->first_tensor, end = tensors_end(skel, m);

	ret->names = bmi_arena_array(arena, (size_t)skel->n_tensors + 1, sizeof(*ret->names));
	if (!ret->names)
		return -ENOMEM;
	add_name(ret, m->name);
	for (uint32_t i = 0; i < skel->n_tensors; i++) {
		const uint32_t source = skel->tensors[i].tied_to;
		const bool is_own = i >= first && i < end;

		if (source == BMI_NONE)
			continue;
		if (is_own && (source < first || source >= end))
			add_name(ret, partner_name(skel, source));
		else if (!is_own && source >= first && source < end)
			add_name(ret, partner_name(skel, i));
	}
	return 0;
}

static void print_line(const char *module, bmi_device device, struct bmi_str *ret)
{
	char word[16];

	bmi_str_printf(ret, *module ? "%s: %s\n" : "\"%s\": %s\n", module, bmi_device_print(device, word));
}

/* What the budget in the accepted text said stays said. */
static void print_budget(const struct bmi_budget *budget, struct bmi_str *ret)
{
	char word[16];

	if (budget)
		bmi_str_puts(ret, "max_memory:\n");
	for (uint32_t i = 0; budget && i < budget->n; i++)
		bmi_str_printf(ret, "  %s: %.0f\n", bmi_device_print(budget->dev[i].device, word),
			       budget->dev[i].bytes);
}

/* The map for all: @entries without what is in the moved modules, then their lines where another would decide. */
static int print_map(const struct bmi_map_entry *entries, uint32_t n, const struct lines *lines,
		     const struct bmi_budget *budget, struct bmi_str *ret)
{
	for (uint32_t i = 0; i < n; i++) {
		bool is_moved = false;

		for (uint32_t k = 0; k < lines->n; k++)
			is_moved |= is_within(entries[i].module, lines->names[k]);
		if (!is_moved)
			print_line(entries[i].module, entries[i].device, ret);
	}
	for (uint32_t k = 0; k < lines->n; k++) {
		const struct bmi_map_entry *over = NULL; /* the deepest that covers it */

		for (uint32_t i = 0; i < n; i++)
			if (is_within(lines->names[k], entries[i].module) &&
			    strcmp(lines->names[k], entries[i].module) != 0 &&
			    (!over || strlen(entries[i].module) > strlen(over->module)))
				over = &entries[i];
		if (!over || over->device != lines->device)
			print_line(lines->names[k], lines->device, ret);
	}
	print_budget(budget, ret);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* Lock held. While a move runs, its target counts; a move that ended early left things elsewhere than planned. */
static int base_entries(struct bmi_engine *eng, struct bmi_arena *arena, struct bmi_map_entry **ret,
			uint32_t *n)
{
	bmi_auto_mem bmi_device *device = NULL;
	int r;

	if (bmi_moves_are_running(eng)) {
		*ret = eng->req.plan->entries;
		*n = eng->req.plan->n_entries;
		return 0;
	}
	r = bmi_report_devices(eng, &device);
	return r < 0 ? r : bmi_plan_entries_from(eng->skel, eng->req.plan, device, arena, ret, n);
}

/* Lock held. */
static int set_locked(struct bmi_engine *eng, const struct bmi_module *m, bmi_device device,
		      uint64_t *ret_move, struct bmi_error *err)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct lines lines = { .device = device };
	struct bmi_map_entry *entries = NULL;
	bmi_auto_str text = { 0 };
	uint32_t n = 0;
	int r;

	if (!eng->req.plan)
		return bmi_fail(err, -EINVAL,
				"nothing is placed yet, so one module cannot be moved: "
				"write a whole placement to device_map.yaml");
	r = arena ? list_lines(eng->skel, m, arena, &lines) : -ENOMEM;
	if (r == 0)
		r = base_entries(eng, arena, &entries, &n);
	if (r == 0)
		r = print_map(entries, n, &lines, eng->req.map->max_memory, &text);
	if (r < 0)
		return bmi_fail(err, r, "no memory for a map");
	return bmi_request_set(eng, BMI_KNOB_DEVICE_MAP, text.bytes, text.n, ret_move, err);
}

int bmi_module_set(struct bmi_engine *eng, const char *module, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err)
{
	const struct bmi_module *m = find_module(eng, module);
	bmi_device device;
	int r;

	if (!m)
		return bmi_fail(err, -ENOENT, "there is no module '%s'", module);
	r = parse_device(eng, module, text, n, &device, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&eng->lock);
	r = set_locked(eng, m, device, ret_move, err);
	pthread_mutex_unlock(&eng->lock);
	if (r == 0)
		bmi_engine_tell(eng);
	return r;
}

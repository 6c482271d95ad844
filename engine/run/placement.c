/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what `placement` and mount.bmifs --plan print: modules, bytes and budgets per device, and the time a token must
 * take. Invariant: the per-device sums are over the same tensors as the rows.
 */
#include "run/engine_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

enum { MAX_DEV = 66 };

struct dev_sum {
	bmi_device device;
	uint64_t weights; /* stored bytes */
	uint64_t kv;
	double limit; /* bytes for weights; < 0: none known */
};

struct sums {
	struct dev_sum dev[MAX_DEV]; /* GPUs ascending, cpu, disk */
	uint32_t n;
};

static bool is_below(const char *name, const char *module)
{
	const size_t n = strlen(module);

	return n == 0 || (strncmp(name, module, n) == 0 && (name[n] == '.' || name[n] == 0));
}

static double limit_of(const struct bmi_placement_view *v, bmi_device device)
{
	for (uint32_t i = 0; i < v->budget.n; i++)
		if (v->budget.dev[i].device == device && device != BMI_DEVICE_DISK)
			return v->budget.dev[i].bytes;
	return -1;
}

static struct dev_sum *get_dev(const struct bmi_placement_view *v, struct sums *s, bmi_device device)
{
	const int64_t rank = device >= 0 ? device : INT32_MAX - (int64_t)device; /* cpu is -1, disk -2 */
	uint32_t at = 0;

	for (; at < s->n; at++) {
		const bmi_device d = s->dev[at].device;
		const int64_t other = d >= 0 ? d : INT32_MAX - (int64_t)d;

		if (other == rank)
			return &s->dev[at];
		if (other > rank)
			break;
	}
	if (s->n == MAX_DEV)
		return &s->dev[MAX_DEV - 1];
	memmove(&s->dev[at + 1], &s->dev[at], (s->n - at) * sizeof(s->dev[0]));
	s->n++;
	s->dev[at] = (struct dev_sum){ .device = device, .limit = limit_of(v, device) };
	return &s->dev[at];
}

/* Keys and values live with their layer; those of disk layers in RAM, where they are computed. */
static void sum_kv(const struct bmi_placement_view *v, struct sums *s)
{
	const uint64_t per_layer = v->split.kv_bytes / v->skel->cfg->n_layers;
	uint32_t seen = BMI_NONE;

	for (uint32_t i = 0; i < v->skel->n_tensors; i++) {
		const uint32_t layer = v->skel->modules[v->skel->tensors[i].module].layer;
		const bmi_device device = v->tensor_device[i];

		if (layer == BMI_NONE || layer == seen)
			continue;
		seen = layer;
		get_dev(v, s, device == BMI_DEVICE_DISK ? BMI_DEVICE_CPU : device)->kv += per_layer;
	}
}

static void sum_up(const struct bmi_placement_view *v, struct sums *s)
{
	*s = (struct sums){ 0 };
	get_dev(v, s, BMI_DEVICE_CPU);
	get_dev(v, s, BMI_DEVICE_DISK);
	for (uint32_t i = 0; i < v->skel->n_tensors; i++) {
		const uint64_t bytes = bmi_skel_tensor_bytes(v->skel, i, v->dtype);
		struct dev_sum *d;

		if (v->skel->tensors[i].kind != BMI_PARAM || v->skel->tensors[i].tied_to != BMI_NONE)
			continue;
		d = get_dev(v, s, v->tensor_device[i]);
		d->weights += bytes;
	}
	sum_kv(v, s);
}

static double predicted(const struct bmi_placement_view *v)
{
	return bmi_place_cost(v->skel, v->dtype, v->tensor_device, &v->budget);
}

static double lower_bound(const struct bmi_placement_view *v)
{
	return bmi_place_bound(v->skel, v->dtype, &v->budget);
}

static uint64_t activation_bytes(const struct bmi_placement_view *v)
{
	return bmi_runner_need(v->skel->cfg, PASS_ROWS);
}

/* Activations and staging of one device: RAM has them, the others do not yet. */
static uint64_t staging_bytes(const struct bmi_placement_view *v, const struct sums *s)
{
	return s->dev[s->n - 1].weights ? BMI_STAGING_BYTES : 0; /* the last one is disk */
}

static int print_json(const struct bmi_placement_view *v, const struct sums *s, struct bmi_str *ret)
{
	bmi_auto_str map = { 0 };

	if (bmi_map_print_json(v->entries, v->n_entries, &map) < 0)
		return -ENOMEM;
	while (map.n && map.bytes[map.n - 1] == '\n')
		map.bytes[--map.n] = 0;
	bmi_str_printf(ret, "{\n\"hf_device_map\": %s,\n\"dtype\": \"%s\",\n\"devices\": {", map.bytes,
		       bmi_dtype_name(v->dtype));
	for (uint32_t i = 0; i < s->n; i++) {
		const struct dev_sum *d = &s->dev[i];
		const bool is_cpu = d->device == BMI_DEVICE_CPU;
		char name[16];

		bmi_str_printf(ret,
			       "%s\n\"%s\": {\"weights\": %" PRIu64 ", \"kv\": %" PRIu64
			       ", \"activations\": %" PRIu64 ", \"staging\": %" PRIu64 ", \"limit\": ",
			       i ? "," : "", bmi_device_print(d->device, name), d->weights, d->kv,
			       is_cpu ? activation_bytes(v) : 0, is_cpu ? staging_bytes(v, s) : 0);
		if (d->limit < 0)
			bmi_str_puts(ret, "null}");
		else
			bmi_str_printf(ret, "%.0f}", d->limit);
	}
	bmi_str_printf(ret, "\n},\n\"n_ctx\": %u,\n\"seconds_per_token\": %.6g,\n\"lower_bound\": %.6g\n}\n",
		       v->split.n_ctx, predicted(v), lower_bound(v));
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* "model.layers." and 17 of "model.layers.17"; false when the name does not end in a number. */
static bool split_number(const char *name, size_t *ret_prefix, uint32_t *ret_number)
{
	size_t n = strlen(name);

	while (n && name[n - 1] >= '0' && name[n - 1] <= '9')
		n--;
	if (n == 0 || name[n - 1] != '.' || !name[n])
		return false;
	*ret_prefix = n;
	*ret_number = (uint32_t)strtoul(name + n, NULL, 10);
	return true;
}

/* How many entries from @i on are layers that follow one another on one device: they make one row. */
static uint32_t count_run(const struct bmi_placement_view *v, uint32_t i)
{
	const struct bmi_map_entry *first = &v->entries[i];
	uint32_t n = 1, from, number;
	size_t prefix, other;

	if (!split_number(first->module, &prefix, &from))
		return 1;
	for (; i + n < v->n_entries; n++) {
		const struct bmi_map_entry *e = &v->entries[i + n];

		if (e->device != first->device || !split_number(e->module, &other, &number) ||
		    other != prefix || number != from + n || memcmp(e->module, first->module, prefix) != 0)
			break;
	}
	return n;
}

static void print_row(const struct bmi_placement_view *v, uint32_t from, uint32_t n, uint64_t total,
		      struct bmi_str *ret)
{
	const struct bmi_map_entry *first = &v->entries[from], *last = first + n - 1;
	char bar[25], dev[16], name[160];
	uint64_t bytes = 0;
	unsigned len;

	for (uint32_t i = 0; i < v->skel->n_tensors; i++) {
		const struct bmi_tensor *t = &v->skel->tensors[i];

		for (uint32_t k = 0; k < n && t->kind == BMI_PARAM; k++)
			if (is_below(t->name, v->entries[from + k].module) &&
			    v->tensor_device[i] == first->device)
				bytes += bmi_skel_tensor_bytes(v->skel, i, v->dtype);
	}
	if (n > 1)
		snprintf(name, sizeof(name), "%s to %s", first->module, strrchr(last->module, '.') + 1);
	else
		snprintf(name, sizeof(name), "%s", first->module[0] ? first->module : "(all)");
	len = total ? (unsigned)(24.0 * (double)bytes / (double)total) : 0;
	memset(bar, '#', sizeof(bar));
	bar[len ? len : bytes > 0] = 0;
	bmi_str_printf(ret, "%-36s %-5s %-9s %10.2f MiB  %s\n", name, bmi_device_print(first->device, dev),
		       bmi_dtype_name(v->dtype), (double)bytes / 0x1p20, bar);
}

static double rate_of(const struct bmi_placement_view *v, bmi_device device)
{
	for (uint32_t i = 0; i < v->budget.n; i++)
		if (v->budget.dev[i].device == device && v->budget.dev[i].rate > 0)
			return v->budget.dev[i].rate;
	return bmi_place_default_rate(device);
}

static void print_devices(const struct bmi_placement_view *v, const struct sums *s, struct bmi_str *ret)
{
	for (uint32_t i = 0; i < s->n; i++) {
		const struct dev_sum *d = &s->dev[i];
		char name[16];

		bmi_str_printf(ret, "%-5s weights %.2f MiB", bmi_device_print(d->device, name),
			       (double)d->weights / 0x1p20);
		if (d->limit >= 0)
			bmi_str_printf(ret, " of %.2f MiB", d->limit / 0x1p20);
		if (d->kv)
			bmi_str_printf(ret, ", keys and values up to %.2f MiB (n_ctx %u)",
				       (double)d->kv / 0x1p20, v->split.n_ctx);
		if (d->device == BMI_DEVICE_CPU)
			bmi_str_printf(ret, ", activations %.2f MiB, staging %.2f MiB",
				       (double)activation_bytes(v) / 0x1p20,
				       (double)staging_bytes(v, s) / 0x1p20);
		if (d->device == BMI_DEVICE_DISK && d->weights)
			bmi_str_puts(ret, ", read for each pass");
		if (d->weights)
			bmi_str_printf(ret, ", %.1f GB/s", rate_of(v, d->device) / 1e9);
		bmi_str_puts(ret, "\n");
	}
}

/* Why each device has what it has. */
static void print_why(const struct bmi_placement_view *v, const struct sums *s, struct bmi_str *ret)
{
	static const char *const rules[] = {
		[BMI_PLACE_CUSTOM] = "as device_map.yaml says",
		[BMI_PLACE_AUTO] = "auto fills GPUs evenly, then RAM, then disk, and never goes back",
		[BMI_PLACE_BALANCED] = "balanced fills GPUs evenly, then RAM, then disk, and never goes back",
		[BMI_PLACE_BALANCED_LOW_0] = "balanced_low_0 spares GPU 0, then fills RAM, then disk",
		[BMI_PLACE_SEQUENTIAL] = "sequential fills each device before the next and never goes back",
		[BMI_PLACE_FASTEST] = "fastest gives the fastest device what is read most per byte",
	};

	bmi_str_printf(ret, "why:  %s\n", rules[v->mode]);
	for (uint32_t i = 0; i + 1 < s->n; i++) {
		const struct dev_sum *d = &s->dev[i], *next = &s->dev[i + 1];
		char name[16], other[16];

		if (d->limit >= 0 && next->weights && v->mode != BMI_PLACE_CUSTOM)
			bmi_str_printf(
				ret, "      %s has what %s had no room for: %.2f MiB were left there\n",
				bmi_device_print(next->device, other), bmi_device_print(d->device, name),
				(d->limit - (double)d->weights -
				 (v->budget.kv_layer_bytes > 0 && v->mode == BMI_PLACE_FASTEST ? (double)d->kv
											       : 0)) /
					0x1p20);
	}
}

int bmi_placement_print(const struct bmi_placement_view *v, bool json, struct bmi_str *ret)
{
	uint64_t total = 0;
	struct sums s;

	sum_up(v, &s);
	if (json)
		return print_json(v, &s, ret);
	for (uint32_t i = 0; i < s.n; i++)
		total += s.dev[i].weights;
	bmi_str_printf(ret, "%-36s %-5s %-9s %14s\n", "module", "on", "dtype", "weights");
	for (uint32_t i = 0, n; i < v->n_entries; i += n) {
		n = count_run(v, i);
		print_row(v, i, n, total, ret);
	}
	bmi_str_puts(ret, "\n");
	print_devices(v, &s, ret);
	print_why(v, &s, ret);
	bmi_str_printf(
		ret, "time per token: %.3f ms predicted, %.3f ms at best on these budgets (bandwidths %s)\n",
		1e3 * predicted(v), 1e3 * lower_bound(v),
		v->measured ? "measured on this machine"
			    : "assumed: mount.bmifs --measure MODEL measures them");
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

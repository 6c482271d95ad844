/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What planning costs in-process: the skeleton of a config.json, and the plan over 8 GPUs of 80 GiB, 200 GiB of RAM and
 * disk, in the modes auto and fastest. Prints microseconds, the best and the median of many, as JSON.
 *
 * usage: bench_plan CONFIGS.json MODEL
 */
#include "arch/arch.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "place/place.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_TIMES = 200 };

static const char max_memory[] = "0=80GiB:1=80GiB:2=80GiB:3=80GiB:4=80GiB:5=80GiB:6=80GiB:7=80GiB:cpu=200GiB";

static double now_us(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec * 1e6 + (double)ts.tv_nsec / 1e3;
}

static int compare(const void *a, const void *b)
{
	const double x = *(const double *)a, y = *(const double *)b;

	return x < y ? -1 : x > y;
}

static void print_row(const char *name, double us[N_TIMES], const char *end)
{
	qsort(us, N_TIMES, sizeof(*us), compare);
	printf("\"%s\": {\"best_us\": %.1f, \"median_us\": %.1f}%s", name, us[0], us[N_TIMES / 2], end);
}

static int time_skeleton(const struct bmi_json *config, struct bmi_error *err)
{
	double us[N_TIMES];

	for (unsigned i = 0; i < N_TIMES; i++) {
		const double start = now_us();
		struct bmi_config *cfg = NULL;
		struct bmi_skel *skel = NULL;
		int r = bmi_config_read(config, bmi_arch_find, &cfg, err);

		if (r == 0)
			r = bmi_skel_build(cfg, &skel, err);
		us[i] = now_us() - start;
		bmi_skel_free(skel);
		bmi_config_free(cfg);
		if (r < 0)
			return r;
	}
	print_row("skeleton", us, ", ");
	return 0;
}

/* From the text of a mode and of a budget to the device of each tensor and the entries of hf_device_map. */
static int time_plan(const struct bmi_skel *skel, const char *mode, const char *end, struct bmi_error *err)
{
	double us[N_TIMES];

	for (unsigned i = 0; i < N_TIMES; i++) {
		const double start = now_us();
		struct bmi_budget budget;
		struct bmi_map *map = NULL;
		struct bmi_plan *plan = NULL;
		int r = bmi_budget_parse(max_memory, strlen(max_memory), true, &budget, /* ret_kind= */ NULL,
					 err);

		budget.kv_layer_bytes = 64 << 20;
		if (r == 0)
			r = bmi_map_parse(mode, strlen(mode), true, skel, &map, /* ret_kind= */ NULL, err);
		if (r == 0)
			r = bmi_place_plan(skel, BMI_BF16, map, &budget, UINT32_MAX, &plan,
					   /* ret_kind= */ NULL, err);
		us[i] = now_us() - start;
		bmi_plan_free(plan);
		bmi_map_free(map);
		if (r < 0)
			return r;
	}
	print_row(mode, us, end);
	return 0;
}

static int run(const char *path, const char *model, struct bmi_error *err)
{
	bmi_auto_fd dir = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	bmi_auto_mem char *text = NULL;
	struct bmi_json_doc *doc = NULL;
	const struct bmi_json *config;
	struct bmi_config *cfg = NULL;
	struct bmi_skel *skel = NULL;
	size_t n;
	int r = bmi_file_read(dir, path, 1 << 24, &text, &n, err);

	if (r == 0)
		r = bmi_json_parse(text, n, &doc, err);
	if (r < 0)
		return r;
	config = bmi_json_get(bmi_json_root(doc), model);
	r = config ? bmi_config_read(config, bmi_arch_find, &cfg, err) : bmi_fail(err, -1, "no such model");
	if (r == 0)
		r = bmi_skel_build(cfg, &skel, err);
	if (r == 0) {
		printf("{\"tensors\": %u, \"modules\": %u, ", skel->n_tensors, skel->n_modules);
		r = time_skeleton(config, err);
	}
	if (r == 0)
		r = time_plan(skel, "auto", ", ", err);
	if (r == 0)
		r = time_plan(skel, "fastest", "}\n", err);
	bmi_skel_free(skel);
	bmi_config_free(cfg);
	bmi_json_free(doc);
	return r;
}

int main(int argc, char **argv)
{
	struct bmi_error err = { 0 };

	if (argc != 3) {
		fprintf(stderr, "usage: bench_plan CONFIGS.json MODEL\n");
		return 2;
	}
	if (run(argv[1], argv[2], &err) < 0) {
		fprintf(stderr, "bench_plan: %s\n", err.msg);
		return 1;
	}
	return 0;
}

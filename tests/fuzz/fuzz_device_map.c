/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of device_map.yaml and max_memory: any bytes, whole and as they come. Checked: what is refused while it is
 * written is refused in the end; what is accepted gives every tensor a device that exists, or names what is missing; what
 * the plan prints is a map again that means the same; budgets are in order and each device once.
 */
#include "arch/arch.h"
#include "place/place.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { N_GPUS = 2 };

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

/* A small model, made once; the process's end frees it. */
static const struct bmi_skel *model(void)
{
	static const char config[] =
		"{\"model_type\":\"llama\",\"hidden_size\":8,\"intermediate_size\":8,\"vocab_size\":9,"
		"\"num_attention_heads\":2,\"num_hidden_layers\":3,\"tie_word_embeddings\":true}";
	static struct bmi_skel *skel;
	static struct bmi_config *c;
	static struct bmi_json_doc *doc;

	if (!skel) {
		check(bmi_json_parse(config, strlen(config), &doc, NULL) == 0);
		check(bmi_config_read(bmi_json_root(doc), bmi_arch_find, &c, NULL) == 0);
		check(bmi_skel_build(c, &skel, NULL) == 0);
	}
	return skel;
}

/* Halfway through a move: what is reported is a map of just these places. */
static void check_truth(const struct bmi_plan *plan, uint32_t n_moved)
{
	const struct bmi_skel *skel = model();
	struct bmi_arena *arena = bmi_arena_new();
	bmi_device *now = arena ? bmi_arena_array(arena, skel->n_tensors, sizeof(*now)) : NULL;
	struct bmi_map_entry *list;
	struct bmi_map map = { .mode = BMI_PLACE_CUSTOM };
	struct bmi_plan *told = NULL;

	check(now != NULL);
	for (uint32_t t = 0; t < skel->n_tensors; t++)
		now[t] = t < n_moved ? BMI_DEVICE_DISK : plan->tensor_device[t];
	check(bmi_plan_entries_from(skel, plan, now, arena, &list, &map.n_entries) == 0);
	map.entries = list;
	check(bmi_place_plan(skel, plan->dtype, &map, NULL, N_GPUS, &told, NULL, NULL) == 0);
	for (uint32_t t = 0; t < skel->n_tensors; t++)
		check(skel->tensors[t].kind == BMI_BUFFER || skel->tensors[t].tied_to != BMI_NONE ||
		      told->tensor_device[t] == now[t]);
	bmi_plan_free(told);
	bmi_arena_free(arena);
}

static void check_plan(const struct bmi_map *map, const struct bmi_plan *plan)
{
	const struct bmi_skel *skel = model();
	struct bmi_map *again;
	struct bmi_plan *plan_again;
	bmi_auto_str text = { 0 };

	for (uint32_t t = 0; t < skel->n_tensors; t++)
		check(plan->tensor_device[t] == BMI_DEVICE_CPU || plan->tensor_device[t] == BMI_DEVICE_DISK ||
		      (plan->tensor_device[t] >= 0 && plan->tensor_device[t] < N_GPUS));
	check(bmi_map_print_json(plan->entries, plan->n_entries, &text) == 0);
	check(bmi_map_parse(text.bytes, text.n, true, skel, &again, NULL, NULL) == 0);
	check(bmi_place_plan(skel, plan->dtype, again, NULL, N_GPUS, &plan_again, NULL, NULL) == 0);
	check(!memcmp(plan->tensor_device, plan_again->tensor_device, skel->n_tensors * sizeof(bmi_device)));
	check_truth(plan, (uint32_t)text.n % skel->n_tensors);
	bmi_plan_free(plan_again);
	bmi_map_free(again);
}

static void check_map(const char *text, size_t n)
{
	const struct bmi_skel *skel = model();
	const int early = bmi_map_parse(text, n, false, skel, NULL, NULL, NULL);
	enum bmi_place_error kind;
	struct bmi_error err = { 0 };
	struct bmi_map *map = NULL;
	struct bmi_plan *plan = NULL;
	int r = bmi_map_parse(text, n, true, skel, &map, &kind, &err);

	check(early == 0 || r < 0);
	check((r < 0) == (kind != BMI_PLACE_OK) && (r < 0) == (map == NULL));
	if (r == 0) {
		r = bmi_place_plan(skel, BMI_BF16, map, map->max_memory, N_GPUS, &plan, &kind, &err);
		check(r == 0 || r == -EINVAL || r == -ENODEV || r == -ENOSPC);
		if (r == 0)
			check_plan(map, plan);
	}
	check(r == 0 || err.msg[0]);
	bmi_plan_free(plan);
	bmi_map_free(map);
}

static void check_budget(const char *text, size_t n)
{
	struct bmi_budget b = { 0 };

	if (bmi_budget_parse(text, n, true, &b, NULL, NULL) < 0)
		return;
	check(b.n <= BMI_ARRAY_LEN(b.dev) && b.given == (b.n > 0));
	for (uint32_t i = 0; i + 1 < b.n; i++)
		for (uint32_t k = i + 1; k < b.n; k++)
			check(b.dev[i].device != b.dev[k].device &&
			      (b.dev[i].device < 0 || b.dev[k].device < 0 || b.dev[i].device < b.dev[k].device));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const char *text = (const char *)data;
	static const char *const stored[] = { "F8_E4M3", "BF16" };
	char *word = strndup(text, size);
	enum bmi_dtype dtype;
	uint64_t bytes;
	bool none;

	check(word != NULL);
	check_map(text, size);
	check_budget(text, size);
	bmi_size_parse(text, size, &bytes, NULL);
	if (bmi_dtype_parse(text, size, &dtype, &none, NULL, NULL) == 0 && !none)
		check(bmi_dtype_info(dtype)->is_floating);
	if (bmi_dtype_resolve("auto", word, stored, size % 3, &dtype, NULL, NULL) == 0)
		check(bmi_dtype_info(dtype)->is_floating);
	free(word);
	return 0;
}

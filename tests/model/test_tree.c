/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Skeletons against checkpoints that Transformers saved (data/model/tiny.jsonl: config.json, and names and shapes from
 * the safetensors header): every tensor is in the skeleton with its shape, and every parameter of the skeleton is in the
 * checkpoint or tied to one that is.
 */
#include "arch/arch.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "model/jsonl.h"

static void check_shape(const struct bmi_tensor *t, const struct bmi_json *want)
{
	const struct bmi_json *v = want->child;
	uint64_t d;

	assert_int_equal(t->n_dims, want->n);
	for (unsigned i = 0; i < t->n_dims; i++, v = v->next) {
		assert_true(bmi_json_to_u64(v, &d));
		assert_int_equal(t->shape[i], d);
	}
}

/* A checkpoint's tensor under the name it has here. */
static uint32_t find(const struct bmi_skel *skel, const char *name, size_t n)
{
	const char *const(*p)[2] = skel->cfg->arch->name_prefixes;
	char renamed[256];

	for (; p && (*p)[0]; p++)
		if (n > strlen((*p)[0]) && !memcmp(name, (*p)[0], strlen((*p)[0]))) {
			snprintf(renamed, sizeof(renamed), "%s%.*s", (*p)[1], (int)(n - strlen((*p)[0])),
				 name + strlen((*p)[0]));
			return bmi_skel_find_tensor(skel, renamed, strlen(renamed));
		}
	return bmi_skel_find_tensor(skel, name, n);
}

/* Each parameter exactly once, layers in order. */
static void check_exec(const struct bmi_skel *skel)
{
	uint8_t seen[4096] = { 0 };
	uint32_t n_params = 0, layer = 0;

	assert_true(skel->n_tensors <= sizeof(seen));
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		n_params += skel->tensors[i].kind == BMI_PARAM;
	assert_int_equal(skel->n_exec, n_params);
	for (uint32_t i = 0; i < skel->n_exec; i++) {
		const struct bmi_tensor *t = &skel->tensors[skel->exec[i]];
		const uint32_t l = skel->modules[t->module].layer;

		assert_false(seen[skel->exec[i]]);
		seen[skel->exec[i]] = 1;
		assert_int_equal(t->kind, BMI_PARAM);
		if (l != BMI_NONE && skel->cfg->arch->exec_layer) {
			assert_true(l >= layer);
			layer = l;
		}
	}
}

static void check_modules(const struct bmi_skel *skel)
{
	for (uint32_t i = 0; i < skel->n_modules; i++) {
		const struct bmi_module *m = &skel->modules[i];

		assert_int_equal(bmi_skel_find_module(skel, m->name, strlen(m->name)), i);
		assert_true(m->end > i && m->end <= skel->n_modules);
		if (i)
			assert_true(m->parent < i && m->end <= skel->modules[m->parent].end);
	}
	for (uint32_t i = 0; i < skel->n_tensors; i++) {
		const struct bmi_tensor *t = &skel->tensors[i];
		const struct bmi_module *m = &skel->modules[t->module];

		assert_int_equal(bmi_skel_find_tensor(skel, t->name, strlen(t->name)), i);
		assert_true(i >= m->first_tensor && i < m->first_tensor + m->n_tensors);
	}
	assert_int_equal(bmi_skel_find_module(skel, "model.layers.99", 15), BMI_NONE);
	assert_int_equal(bmi_skel_find_tensor(skel, "model", 5), BMI_NONE);
}

static void run_case(void **state)
{
	const struct bmi_json *row = *state, *tensors = bmi_json_get(row, "tensors");
	bmi_auto(bmi_config) c = NULL;
	bmi_auto(bmi_skel) skel = NULL;
	struct bmi_error err = { 0 };
	uint32_t n_found = 0, n_params = 0;

	if (bmi_config_read(bmi_json_get(row, "config"), bmi_arch_find, &c, &err) < 0 ||
	    bmi_skel_build(c, &skel, &err) < 0)
		fail_msg("%s", err.msg);
	for (const struct bmi_json *t = tensors->child; t; t = t->next, n_found++) {
		const uint32_t i = find(skel, t->key, t->n_key);

		if (i == BMI_NONE)
			fail_msg("no '%.*s' in the skeleton", (int)t->n_key, t->key);
		assert_int_equal(skel->tensors[i].kind, BMI_PARAM);
		check_shape(&skel->tensors[i], t);
	}
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		n_params += skel->tensors[i].kind == BMI_PARAM && skel->tensors[i].tied_to == BMI_NONE;
	assert_int_equal(n_params, n_found);
	check_modules(skel);
	check_exec(skel);
}

int main(void)
{
	struct jsonl t = { 0 };

	jsonl_load(&t, "model/tiny.jsonl", "name", run_case);
	return jsonl_run(&t, "model tree");
}

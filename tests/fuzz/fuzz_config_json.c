/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json: any bytes as JSON, read for the family they name, and the tree they describe. Checked: what was accepted has
 * sizes in bounds and finite numbers, and its tree is a tree: parents around children, tensors in their modules, names
 * found where they are, every parameter read once.
 */
#include "arch/arch.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { MAX_LAYERS = 40 }; /* a tree of thousands of layers is no other code, only slower */

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static void check_rope(const struct bmi_rope_config *rope)
{
	check(rope->n_rot % 2 == 0);
	check(isfinite(rope->attention_factor));
	for (uint32_t i = 0; rope->inv_freq && i < rope->n_rot / 2; i++)
		check(isfinite(rope->inv_freq[i]));
}

static void check_config(const struct bmi_config *c)
{
	check(c->vocab_size && c->hidden_size && c->intermediate_size && c->n_layers && c->n_heads &&
	      c->n_kv_heads);
	check(c->head_dim && c->max_positions && c->n_heads % c->n_kv_heads == 0);
	check(c->n_layers <= 4096 && (uint64_t)c->n_heads * c->head_dim <= 1 << 24);
	check(isfinite(c->norm_eps) && isfinite(c->embed_scale) && isfinite(c->attn_scale));
	check(isfinite(c->attn_softcap) && isfinite(c->final_softcap));
	check_rope(&c->rope_full);
	check_rope(&c->rope_sliding);
}

static void check_tree(const struct bmi_skel *skel)
{
	uint32_t n_params = 0;

	for (uint32_t i = 0; i < skel->n_modules; i++) {
		const struct bmi_module *m = &skel->modules[i];

		check(m->end > i && m->end <= skel->n_modules);
		check(i == 0 || (m->parent < i && m->end <= skel->modules[m->parent].end));
		check(bmi_skel_find_module(skel, m->name, strlen(m->name)) == i);
	}
	for (uint32_t i = 0; i < skel->n_tensors; i++) {
		const struct bmi_tensor *t = &skel->tensors[i];
		const struct bmi_module *m = &skel->modules[t->module];

		n_params += t->kind == BMI_PARAM;
		check(i >= m->first_tensor && i < m->first_tensor + m->n_tensors);
		check(bmi_skel_find_tensor(skel, t->name, strlen(t->name)) == i);
	}
	check(skel->n_exec == n_params);
	check(bmi_skel_module_bytes(skel, 0, BMI_F64) <= INT64_MAX);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bmi_json_doc *doc;
	struct bmi_config *c;
	struct bmi_skel *skel;
	struct bmi_error err;

	if (bmi_json_parse((const char *)data, size, &doc, &err) < 0)
		return 0;
	if (bmi_config_read(bmi_json_root(doc), bmi_arch_find, &c, &err) == 0) {
		check_config(c);
		if (c->n_layers <= MAX_LAYERS && bmi_skel_build(c, &skel, &err) == 0) {
			check_tree(skel);
			bmi_skel_free(skel);
		}
		bmi_config_free(c);
	}
	bmi_json_free(doc);
	return 0;
}

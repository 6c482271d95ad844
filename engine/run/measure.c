/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the way from a model's directory to measured rates: which bytes of the checkpoint the disk is tried with. */
#include "run/engine_priv.h"

#include "backend/cpu/cpu.h"

#include <errno.h>

/* Where the parameters lie, one extent each. The caller frees *ret. */
static int list_extents(const struct bmi_engine *eng, struct bmi_extent **ret, size_t *ret_n)
{
	size_t n = 0;

	for (uint32_t i = 0; i < eng->skel->n_tensors; i++)
		n += eng->source[i] && eng->source[i]->parts ? eng->source[i]->n_parts : 1;
	*ret = calloc(n, sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	*ret_n = 0;
	for (uint32_t i = 0; i < eng->skel->n_tensors; i++) {
		const struct bmi_ckpt_tensor *t = eng->source[i];

		if (!t || eng->skel->tensors[i].tied_to != BMI_NONE)
			continue;
		for (uint32_t k = 0; k < (t->parts ? t->n_parts : 1); k++)
			(*ret)[(*ret_n)++] = t->parts ? t->parts[k] : t->extent;
	}
	return 0;
}

static int measure(struct bmi_engine *eng, struct bmi_rates *ret, struct bmi_error *err)
{
	bmi_auto_mem struct bmi_extent *extents = NULL;
	size_t n;
	int r = list_extents(eng, &extents, &n);

	if (r < 0)
		return bmi_fail(err, r, "no memory to measure with");
	r = bmi_cpu_open(eng->opt.n_threads, eng->cpu_isa, &eng->cpu, err);
	return r < 0 ? r : bmi_rates_measure(eng->cpu, extents, n, ret, err);
}

int bmi_measure(const char *model_path, struct bmi_str *ret, struct bmi_error *err)
{
	const struct bmi_engine_options opt = { .model_path = model_path };
	struct bmi_engine *eng = bmi_engine_alloc(&opt, err);
	struct bmi_rates rates;
	char path[4096];
	int r;

	if (!eng)
		return err ? err->code : -ENOMEM;
	r = bmi_engine_open_model(eng, model_path, /* to_run= */ true, err);
	if (r == 0)
		r = measure(eng, &rates, err);
	if (r == 0 && bmi_rates_path(path, sizeof(path)) < 0)
		r = bmi_fail(err, -ENAMETOOLONG, "the path of the cache directory is too long");
	if (r == 0)
		r = bmi_rates_save(path, &rates, err);
	if (r == 0)
		r = bmi_str_printf(ret, "RAM  %.2f GB/s\ndisk %.2f GB/s\nkept in %s\n", rates.ram / 1e9,
				   rates.disk / 1e9, path);
	bmi_engine_close(eng);
	return r;
}

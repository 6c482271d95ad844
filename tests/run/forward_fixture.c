/* SPDX-License-Identifier: Apache-2.0 */
/* What every test of the forward needs: a model from its directory to a runner, and the peers' answers from their files. */
#include "forward_fixture.h"

#include "backend/cpu/cpu.h"
#include "base/file.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static void must(int r, const struct bmi_error *err)
{
	if (r < 0)
		fail_msg("%s (%d)", err->msg, r);
}

void model_begin_move(struct model *m, enum placement placement, enum bmi_dtype dtype)
{
	bmi_device *device = calloc(m->skel->n_tensors, sizeof(*device));
	struct bmi_error err = { 0 };

	assert_non_null(device);
	for (uint32_t i = 0; i < m->skel->n_tensors; i++) {
		const uint32_t source =
			m->skel->tensors[i].tied_to == BMI_NONE ? i : m->skel->tensors[i].tied_to;
		const bool on_disk = placement == ALL_DISK || (placement == SPLIT && source % 2);

		device[i] = on_disk ? BMI_DEVICE_DISK : BMI_DEVICE_CPU;
	}
	must(bmi_residency_move_begin(m->res, device, dtype, &err), &err);
	free(device);
}

void model_place(struct model *m, enum placement placement, enum bmi_dtype dtype)
{
	struct bmi_error err = { 0 };
	int r;

	model_begin_move(m, placement, dtype);
	while ((r = bmi_residency_move_step(m->res, &err)) > 0)
		;
	must(r, &err);
}

void model_open(struct model *m, const struct model_options *opt)
{
	struct bmi_error err = { 0 };

	memset(m, 0, sizeof(*m));
	must(bmi_ckpt_open(opt->path, /* need_weights= */ true, &m->ckpt, &err), &err);
	must(bmi_config_read(bmi_ckpt_config(m->ckpt), bmi_arch_find, &m->cfg, &err), &err);
	must(bmi_skel_build(m->cfg, &m->skel, &err), &err);
	must(bmi_ckpt_bind(m->ckpt, m->skel, &m->source, &err), &err);
	must(bmi_cpu_open(opt->n_threads, opt->isa, &m->cpu, &err), &err);
	must(bmi_residency_new(
		     &(struct bmi_residency_options){
			     .skel = m->skel, .ckpt = m->ckpt, .source = m->source, .cpu = m->cpu },
		     opt->dtype, &m->res, &err),
	     &err);
	must(bmi_kv_new(&(struct bmi_kv_options){ m->cfg, &bmi_backend_cpu, m->cpu, opt->dtype, 0 }, &m->kv,
			&err),
	     &err);
	must(bmi_runner_new(&(struct bmi_runner_options){ m->skel, m->res, &bmi_backend_cpu, m->cpu },
			    &m->run, &err),
	     &err);
	model_place(m, opt->placement, opt->dtype);
}

void model_close(struct model *m)
{
	bmi_runner_free(m->run);
	bmi_kv_free(m->kv);
	bmi_residency_free(m->res);
	bmi_backend_cpu.close(m->cpu);
	free((void *)(uintptr_t)m->source);
	bmi_skel_free(m->skel);
	bmi_config_free(m->cfg);
	bmi_ckpt_close(m->ckpt);
}

struct bmi_seq *model_new_seq(struct model *m)
{
	struct bmi_error err = { 0 };
	struct bmi_seq *seq;

	must(bmi_seq_new(m->kv, &seq, &err), &err);
	return seq;
}

void model_run(struct model *m, struct bmi_seq *seq, const uint32_t *ids, uint32_t n, uint32_t pos0,
	       uint32_t chunk, float *logits)
{
	struct bmi_row *rows = calloc(chunk, sizeof(*rows));
	struct bmi_error err = { 0 };

	assert_non_null(rows);
	must(bmi_seq_reserve(seq, pos0 + n, &err), &err);
	for (uint32_t done = 0, n_rows; done < n; done += n_rows) {
		n_rows = n - done < chunk ? n - done : chunk;
		for (uint32_t t = 0; t < n_rows; t++)
			rows[t] = (struct bmi_row){ seq, ids[done + t], pos0 + done + t, true };
		must(bmi_run_pass(
			     m->run,
			     &(struct bmi_run_request){ .rows = rows,
							.n_rows = n_rows,
							.logits = logits + (size_t)done * m->cfg->vocab_size },
			     &err),
		     &err);
	}
	free(rows);
}

uint32_t best_of(const float *logits, uint32_t n, float *ret_gap)
{
	uint32_t best = logits[1] > logits[0], second = !best;

	for (uint32_t i = 2; i < n; i++) {
		if (logits[i] > logits[best]) {
			second = best;
			best = i;
		} else if (logits[i] > logits[second]) {
			second = i;
		}
	}
	*ret_gap = logits[best] - logits[second];
	return best;
}

void answer_open(struct answer *a, const char *path)
{
	struct bmi_error err = { 0 };
	size_t n;

	must(bmi_file_read(AT_FDCWD, path, 16u << 20, &a->text, &n, &err), &err);
	must(bmi_json_parse(a->text, n, &a->doc, &err), &err);
	a->root = bmi_json_root(a->doc);
}

void answer_close(struct answer *a)
{
	bmi_json_free(a->doc);
	free(a->text);
}

double *answer_reals(const struct bmi_json *array, uint32_t *ret_n)
{
	double *reals;
	uint32_t n = 0;

	assert_non_null(array);
	reals = calloc(array->n + 1, sizeof(*reals));
	assert_non_null(reals);
	for (const struct bmi_json *v = array->child; v; v = v->next)
		assert_true(bmi_json_to_double(v, &reals[n++]));
	*ret_n = n;
	return reals;
}

uint32_t *answer_ids(const struct bmi_json *array, uint32_t *ret_n)
{
	double *reals = answer_reals(array, ret_n);
	uint32_t *ids = calloc(*ret_n + 1, sizeof(*ids));

	assert_non_null(ids);
	for (uint32_t i = 0; i < *ret_n; i++)
		ids[i] = (uint32_t)reals[i];
	free(reals);
	return ids;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_RUN_FORWARD_FIXTURE_H
#define BMI_TESTS_RUN_FORWARD_FIXTURE_H

#include "run/pass.h"

/* A model opened from its directory down to a runner, placed and ready; everything fails the running cmocka test. */
struct model {
	struct bmi_ckpt *ckpt;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	const struct bmi_ckpt_tensor *const *source;
	struct bmi_dev *cpu;
	struct bmi_residency *res;
	struct bmi_kv *kv;
	struct bmi_runner *run;
};

enum placement { ALL_CPU, ALL_DISK, SPLIT /* every second tensor on disk */ };

struct model_options {
	const char *path;
	enum bmi_dtype dtype;
	unsigned n_threads;
	const char *isa; /* NULL: the best */
	enum placement placement;
};

void model_open(struct model *m, const struct model_options *opt);
void model_close(struct model *m);
/* Only begin (bmi_residency_move_step() goes on), or move all the way. */
void model_begin_move(struct model *m, enum placement placement, enum bmi_dtype dtype);
void model_place(struct model *m, enum placement placement, enum bmi_dtype dtype);

struct bmi_seq *model_new_seq(struct model *m);

/* Run ids at positions pos0.. in chunks of at most @chunk rows; logits[n][vocab] of every row. */
void model_run(struct model *m, struct bmi_seq *seq, const uint32_t *ids, uint32_t n, uint32_t pos0,
	       uint32_t chunk, float *logits);

/* The best two: *ret_gap is the difference of their logits. Return: the best one's id. */
uint32_t best_of(const float *logits, uint32_t n, float *ret_gap);

/* expected.json and the like. Freed with answer_close(). */
struct answer {
	char *text;
	struct bmi_json_doc *doc;
	const struct bmi_json *root;
};
void answer_open(struct answer *a, const char *path);
void answer_close(struct answer *a);

/* An array of numbers; the caller frees it. */
uint32_t *answer_ids(const struct bmi_json *array, uint32_t *ret_n);
double *answer_reals(const struct bmi_json *array, uint32_t *ret_n);

#endif

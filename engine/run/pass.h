/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_PASS_H
#define BMI_RUN_PASS_H

#include "arch/arch.h"
#include "base/cleanup.h"
#include "run/kv.h"
#include "run/residency.h"

/*
 * A runner walks the model once per pass for rows of any sequences, asking residency for each weight in execution order.
 * It keeps its working memory between passes. One thread (the scheduler) uses it.
 */
struct bmi_runner;

struct bmi_runner_options {
	const struct bmi_skel *skel;       /* with its config; lent */
	struct bmi_residency *residency;   /* lent */
	const struct bmi_backend *backend; /* of every layer; lent */
	struct bmi_dev *dev;               /* lent */
};

/** bmi_runner_new() - Return: 0, -ENOMEM, -EOPNOTSUPP (an architecture that can be planned only). */
int bmi_runner_new(const struct bmi_runner_options *opt, struct bmi_runner **ret, struct bmi_error *err);
void bmi_runner_free(struct bmi_runner *run);
BMI_AUTO(bmi_runner)

/** bmi_runner_bytes() - working memory held now. */
uint64_t bmi_runner_bytes(const struct bmi_runner *run);

/** bmi_runner_need() - working memory that passes of up to @n_rows rows take (logits excluded); for budgets. */
uint64_t bmi_runner_need(const struct bmi_config *cfg, uint32_t n_rows);

/** bmi_runner_trim() - give the working memory back; the next pass takes it anew. */
void bmi_runner_trim(struct bmi_runner *run);

/* One token of one sequence. */
struct bmi_row {
	struct bmi_seq *seq; /* has room for pos (bmi_seq_reserve); positions before it are cached or in this pass */
	uint32_t id, pos;
	bool want_logits;
};

struct bmi_run_request {
	const struct bmi_row *rows; /* [n_rows], in any order, >= 1; all of one bmi_kv */
	uint32_t n_rows;
	float *logits; /* [rows that want them][vocab_size], in the order of rows; may be NULL when none does */
	/*
	 * Called before each layer and before the head (layer = n_layers); NULL: nobody asks. No weight is lent then, so a
	 * placement step may run in it. Anything but 0 ends the pass, which returns it.
	 */
	int (*between_layers)(void *ctx, uint32_t layer);
	void *ctx;
};

/**
 * bmi_run_pass() - one pass: caches K and V of the rows and computes the logits that are wanted.
 *
 * The result of a row depends on its sequence alone: the same bits in any company and in any chunks. A pass that failed
 * or was ended leaves positions of its rows undefined in the cache and nothing else; run them again or truncate.
 *
 * Return: 0, -EINVAL (id not in the vocabulary, no room for the position), -ENOMEM, -EIO (a weight cannot be read), or
 *         what between_layers() returned (err is left alone then).
 */
int bmi_run_pass(struct bmi_runner *run, const struct bmi_run_request *req, struct bmi_error *err);

#endif

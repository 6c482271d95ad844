/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward of real models in float32 against Transformers' float32 answers (tests/golden/real, one file a model; they
 * hold ids and logits, no weights). The models are looked for below the directory that BMIFS_TEST_MODELS names; one that
 * is not there is skipped.
 *
 * Bounds: a logit 2e-4 of max(|logit|, 1) and half of the last digit the file has; the chosen ids up to the first whose
 * best two logits are less than 1e-3 apart.
 */
#include "forward_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

enum { MAX_CASES = 16 };

static struct golden {
	const char *name;
	bool is_there;
	char path[512]; /* of the model */
	struct answer answer;
	struct model m; /* opened by its first case */
	bool is_open;
} goldens[] = {
	{ .name = "smollm2" }, { .name = "smollm2-gguf" }, { .name = "gemma3" }, { .name = "gemma3-gguf" }
};

struct one {
	struct golden *golden;
	const struct bmi_json *json;
	char title[64];
};

/* One model is open at a time: they take a gigabyte. */
static void open_only(struct golden *golden)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++)
		if (goldens[i].is_open && &goldens[i] != golden) {
			model_close(&goldens[i].m);
			goldens[i].is_open = false;
		}
	if (golden && !golden->is_open) {
		model_open(&golden->m, &(struct model_options){ golden->path, BMI_F32, 0, NULL, ALL_CPU });
		golden->is_open = true;
	}
}

static void check_top8(const struct bmi_json *json, const float *logits, uint32_t vocab)
{
	for (const struct bmi_json *pair = bmi_json_get(json, "first_top8")->child; pair; pair = pair->next) {
		uint64_t id;
		double want;

		assert_true(bmi_json_to_u64(pair->child, &id) && bmi_json_to_double(pair->child->next, &want));
		assert_true(id < vocab);
		if (!(fabs(logits[id] - want) <= 2e-4 * fmax(fabs(want), 1) + 5e-5))
			fail_msg("logit of %u is %g, not %g", (unsigned)id, logits[id], want);
	}
}

static void check_greedy(struct model *m, struct bmi_seq *seq, const struct bmi_json *json, uint32_t pos,
			 float *logits)
{
	uint32_t n, n_gaps, *want = answer_ids(bmi_json_get(json, "greedy_ids"), &n);
	double *gaps = answer_reals(bmi_json_get(json, "gaps"), &n_gaps);

	assert_int_equal(n, n_gaps);
	for (uint32_t i = 0; i < n && gaps[i] >= 1e-3; i++) {
		float gap;
		const uint32_t best = best_of(logits, m->cfg->vocab_size, &gap);

		if (best != want[i])
			fail_msg("token %u is %u, not %u (gap %g, there %g)", i, best, want[i], gap, gaps[i]);
		model_run(m, seq, &best, 1, pos + i, 1, logits);
	}
	free(want);
	free(gaps);
}

static void test_case(void **state)
{
	struct one *one = *state;
	struct model *m = &one->golden->m;
	uint32_t n, *ids, vocab;
	struct bmi_seq *seq;
	float *logits;

	if (!one->golden->is_there) {
		print_message("# no %s in BMIFS_TEST_MODELS\n", one->golden->name);
		skip();
	}
	open_only(one->golden);
	vocab = m->cfg->vocab_size;
	ids = answer_ids(bmi_json_get(one->json, "prompt_ids"), &n);
	logits = calloc((size_t)n * vocab, sizeof(float));
	assert_non_null(logits);
	seq = model_new_seq(m);
	model_run(m, seq, ids, n, 0, n, logits);
	memmove(logits, logits + (size_t)(n - 1) * vocab, vocab * sizeof(float));
	check_top8(one->json, logits, vocab);
	check_greedy(m, seq, one->json, n, logits);
	bmi_seq_free(seq);
	free(logits);
	free(ids);
}

static void find_models(const char *dir)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++) {
		struct golden *g = &goldens[i];
		struct stat st;
		char path[512];

		snprintf(path, sizeof(path), "%s/%s.json", TEST_GOLDEN, g->name);
		answer_open(&g->answer, path);
		snprintf(g->path, sizeof(g->path), "%s/%s", dir, g->name);
		g->is_there = stat(g->path, &st) == 0;
	}
}

int main(void)
{
	static struct one ones[BMI_ARRAY_LEN(goldens) * MAX_CASES];
	static struct CMUnitTest tests[BMI_ARRAY_LEN(ones)];
	const char *dir = getenv("BMIFS_TEST_MODELS");
	size_t n = 0;
	int r;

	if (!dir || !*dir) {
		printf("1..0 # SKIP BMIFS_TEST_MODELS names no directory of models\n");
		return 0;
	}
	find_models(dir);
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++) {
		const struct bmi_json *json = bmi_json_get(goldens[i].answer.root, "cases")->child;

		for (unsigned k = 0; json && k < MAX_CASES; k++, json = json->next) {
			ones[n].golden = &goldens[i];
			ones[n].json = json;
			snprintf(ones[n].title, sizeof(ones[n].title), "%s float32 prompt %u",
				 goldens[i].name, k);
			tests[n] = (struct CMUnitTest){ ones[n].title, test_case, NULL, NULL, &ones[n] };
			n++;
		}
	}
	r = _cmocka_run_group_tests("real models", tests, n, NULL, NULL);
	open_only(NULL);
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++)
		answer_close(&goldens[i].answer);
	return r;
}

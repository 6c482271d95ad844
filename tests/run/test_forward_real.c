/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward of real models against Transformers' float32 answers (tests/golden/real, one file a model; they
 * hold ids and logits, no weights). The models are looked for below the directory that BMIFS_TEST_MODELS names; one that
 * is not there is skipped.
 *
 * Bounds: a logit 2e-4 of max(|logit|, 1) and half of the last digit the file has; the chosen ids up to the first whose
 * best two logits are less than 1e-3 apart. In bfloat16, which these weights are: one step between two bfloat16 numbers at
 * the largest logit, which is what the answer of a forward that is bfloat16 throughout is rounded to; ids up to a gap of
 * two such steps. In float16, an eighth of that.
 */
#include "forward_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

enum { MAX_CASES = 16 };

static struct golden {
	const char *name;
	char path[512]; /* of the model */
	struct answer answer;
	struct model m; /* opened by its first case */
	bool is_open;
	enum bmi_dtype dtype; /* it is open in */
} goldens[] = {
	{ .name = "smollm2" }, { .name = "smollm2-gguf" }, { .name = "gemma3" }, { .name = "gemma3-gguf" }
};

struct one {
	struct golden *golden;
	const struct bmi_json *json;
	enum bmi_dtype dtype;
	char title[64];
};

/* One model is open at a time: they take a gigabyte. */
static void open_only(struct golden *golden, enum bmi_dtype dtype)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++)
		if (goldens[i].is_open && (&goldens[i] != golden || golden->dtype != dtype)) {
			model_close(&goldens[i].m);
			goldens[i].is_open = false;
		}
	if (golden && !golden->is_open) {
		model_open(&golden->m, &(struct model_options){ golden->path, dtype, 0, NULL, ALL_CPU });
		golden->is_open = true;
		golden->dtype = dtype;
	}
}

/* How far a logit may be off in a narrow type; 0 for float32, which has a bound of its own. */
static double bound_of(const struct bmi_json *json, enum bmi_dtype dtype)
{
	double best, step;

	assert_true(bmi_json_to_double(bmi_json_get(json, "first_top8")->child->child->next, &best));
	step = ldexp(1, ilogb(best) - 7); /* bfloat16 has 7 bits behind the first */
	return dtype == BMI_BF16 ? step : dtype == BMI_F16 ? step / 8 : 0;
}

static void check_top8(const struct bmi_json *json, double bound, const float *logits, uint32_t vocab)
{
	for (const struct bmi_json *pair = bmi_json_get(json, "first_top8")->child; pair; pair = pair->next) {
		uint64_t id = 0;
		double want = 0;

		assert_true(bmi_json_to_u64(pair->child, &id) && bmi_json_to_double(pair->child->next, &want));
		assert_true(id < vocab);
		if (!(fabs(logits[id] - want) <= fmax(bound, 2e-4 * fmax(fabs(want), 1)) + 5e-5))
			fail_msg("logit of %u is %g, not %g", (unsigned)id, logits[id], want);
	}
}

static void check_greedy(struct model *m, struct bmi_seq *seq, const struct bmi_json *json, double bound,
			 uint32_t pos, float *logits)
{
	uint32_t n, n_gaps, *want = answer_ids(bmi_json_get(json, "greedy_ids"), &n);
	double *gaps = answer_reals(bmi_json_get(json, "gaps"), &n_gaps);

	assert_int_equal(n, n_gaps);
	for (uint32_t i = 0; i < n && gaps[i] >= fmax(1e-3, 2 * bound); i++) {
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
	double bound;
	float *logits;

	open_only(one->golden, one->dtype);
	vocab = m->cfg->vocab_size;
	ids = answer_ids(bmi_json_get(one->json, "prompt_ids"), &n);
	logits = calloc((size_t)n * vocab, sizeof(float));
	assert_non_null(logits);
	seq = model_new_seq(m);
	model_run(m, seq, ids, n, 0, n, logits);
	memmove(logits, logits + (size_t)(n - 1) * vocab, vocab * sizeof(float));
	bound = bound_of(one->json, one->dtype);
	check_top8(one->json, bound, logits, vocab);
	check_greedy(m, seq, one->json, bound, n, logits);
	bmi_seq_free(seq);
	free(logits);
	free(ids);
}

static void open_answers(const char *dir)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++) {
		struct golden *g = &goldens[i];
		char path[512];

		snprintf(path, sizeof(path), "%s/%s.json", TEST_GOLDEN, g->name);
		answer_open(&g->answer, path);
		snprintf(g->path, sizeof(g->path), "%s/%s", dir, g->name);
	}
}

static size_t add_cases(struct golden *golden, enum bmi_dtype dtype, unsigned max, struct one *ones,
			struct CMUnitTest *tests)
{
	const struct bmi_json *json = bmi_json_get(golden->answer.root, "cases")->child;
	size_t n = 0;

	for (; json && n < max; json = json->next, n++) {
		ones[n] = (struct one){ .golden = golden, .json = json, .dtype = dtype };
		snprintf(ones[n].title, sizeof(ones[n].title), "%s %s prompt %zu", golden->name,
			 bmi_dtype_name(dtype), n);
		tests[n] = (struct CMUnitTest){ ones[n].title, test_case, NULL, NULL, &ones[n] };
	}
	return n;
}

int main(void)
{
	enum { SOME = 3 }; /* prompts in the narrow types */
	static struct one ones[BMI_ARRAY_LEN(goldens) * (MAX_CASES + 2 * SOME)];
	static struct CMUnitTest tests[BMI_ARRAY_LEN(ones)];
	const char *dir = getenv("BMIFS_TEST_MODELS");
	size_t n = 0;
	int r;

	if (!dir || !*dir) {
		printf("1..0 # SKIP BMIFS_TEST_MODELS names no directory of models\n");
		return 0;
	}
	open_answers(dir);
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++) {
		if (access(goldens[i].path, R_OK) < 0) {
			printf("# %s is skipped: no %s\n", goldens[i].name, goldens[i].path);
			continue;
		}
		n += add_cases(&goldens[i], BMI_F32, MAX_CASES, ones + n, tests + n);
		if (strstr(goldens[i].name, "gguf"))
			continue; /* their weights are not bfloat16: rounding them adds an error of its own */
		n += add_cases(&goldens[i], BMI_BF16, SOME, ones + n, tests + n);
		n += add_cases(&goldens[i], BMI_F16, SOME, ones + n, tests + n);
	}
	if (!n)
		printf("1..0 # SKIP none of the models is in %s\n", dir);
	r = n == 0 ? 0 : _cmocka_run_group_tests("real models", tests, n, NULL, NULL);
	open_only(NULL, BMI_F32);
	for (size_t i = 0; i < BMI_ARRAY_LEN(goldens); i++)
		answer_close(&goldens[i].answer);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny models as llama.cpp's converter writes them must answer as their originals do: so the config made of metadata,
 * the permuted q and k, the baked norms and the rope factors are right together, not only one by one. Bound: 2e-4 of
 * max(|logit|, 1), as for the originals; the norms of Gemma hold 1 + w rounded to float32, 2^-24 each.
 */
#include "run/forward_fixture.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

static void test_last_logits(void **state)
{
	const char *variant = *state;
	char file[512];
	struct answer answer;
	struct bmi_seq *seq;
	struct model m;
	uint32_t n_ids, n_vocab, *ids, *argmax;
	double *want;
	float *logits;

	snprintf(file, sizeof(file), "%s/tiny/%s/expected.json", TEST_DATA, variant);
	answer_open(&answer, file);
	ids = answer_ids(bmi_json_get(answer.root, "input_ids"), &n_ids);
	want = answer_reals(bmi_json_get(answer.root, "last_logits"), &n_vocab);
	argmax = answer_ids(bmi_json_get(answer.root, "argmax_per_position"), &n_ids);
	snprintf(file, sizeof(file), "%s/tiny-gguf/%s.gguf", TEST_DATA, variant);
	model_open(&m, &(struct model_options){ file, BMI_F32, 1, NULL, ALL_CPU });
	assert_int_equal(m.cfg->vocab_size, n_vocab);
	logits = calloc((size_t)n_ids * n_vocab, sizeof(float));
	assert_non_null(logits);
	seq = model_new_seq(&m);
	model_run(&m, seq, ids, n_ids, 0, n_ids, logits);
	for (uint32_t i = 0; i < n_vocab; i++) {
		const double got = logits[(size_t)(n_ids - 1) * n_vocab + i];

		if (!(fabs(got - want[i]) <= 2e-4 * fmax(fabs(want[i]), 1)))
			fail_msg("logit %u is %g, not %g", i, got, want[i]);
	}
	for (uint32_t t = 0; t < n_ids; t++) {
		float gap;
		const uint32_t best = best_of(logits + (size_t)t * n_vocab, n_vocab, &gap);

		if (gap > 1e-3f)
			assert_int_equal(best, argmax[t]);
	}
	bmi_seq_free(seq);
	model_close(&m);
	answer_close(&answer);
	free(ids);
	free(want);
	free(argmax);
	free(logits);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		{ "gemma3", test_last_logits, NULL, NULL, (void *)(uintptr_t) "gemma3" },
		{ "llama", test_last_logits, NULL, NULL, (void *)(uintptr_t) "llama" },
		{ "llama-tied-bias", test_last_logits, NULL, NULL, (void *)(uintptr_t) "llama-tied-bias" },
		{ "llama3-rope", test_last_logits, NULL, NULL, (void *)(uintptr_t) "llama3-rope" },
	};

	return cmocka_run_group_tests_name("tiny models from GGUF", tests, NULL, NULL);
}

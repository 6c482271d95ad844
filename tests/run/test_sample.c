/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sampling. Each filter and their combinations are checked twice: the tokens that can come are exactly those of a plain
 * reading of Transformers' logits_process.py (whole sorts, doubles, below), and 100000 draws have its frequencies by a
 * chi-square test at 1e-6. Seeds are fixed, so a result is the same in every run.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "run/sample.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

enum { VOCAB = 61, DRAWS = 100000 };

struct row {
	const char *name;
	struct bmi_sample_params p;
	uint64_t seed;
	uint32_t n_kept; /* tokens that can come, from a hand count where there is one; 0: not checked */
	bool ties, history;
};

static const uint32_t history_ids[] = { 3, 7, 7, 60, 5, 7, 3, 9, 9, 9 };
static const struct bmi_history history = { history_ids, 10, 4 };

static void make_logits(float *logits, bool ties)
{
	struct bmi_rng rng;

	bmi_rng_init(&rng, 99);
	for (int i = 0; i < VOCAB; i++) {
		const double x = 8 * bmi_rng_uniform(&rng) - 5;

		logits[i] = (float)(ties ? floor(x) : x);
	}
}

struct ranked {
	double x;
	int id;
};

static int compare_ascending(const void *va, const void *vb)
{
	const struct ranked *a = va, *b = vb;

	if (a->x != b->x)
		return a->x < b->x ? -1 : 1;
	return b->id - a->id; /* of equal ones the lowest id ranks best, as ours promises */
}

static void softmax(double *ret, const double *x)
{
	double best = -INFINITY, sum = 0;

	for (int i = 0; i < VOCAB; i++)
		best = fmax(best, x[i]);
	for (int i = 0; i < VOCAB; i++)
		sum += ret[i] = exp(x[i] - best);
	for (int i = 0; i < VOCAB; i++)
		ret[i] /= sum;
}

static void expect_penalties(double *x, const struct bmi_sample_params *p)
{
	for (int i = 0; i < VOCAB; i++) {
		int said = 0, generated = 0;

		for (uint32_t j = 0; j < history.n; j++) {
			said += history.ids[j] == (uint32_t)i;
			generated += j >= history.n_prompt && history.ids[j] == (uint32_t)i;
		}
		if (said)
			x[i] = x[i] < 0 ? x[i] * p->repetition_penalty : x[i] / p->repetition_penalty;
		x[i] -= generated * p->frequency_penalty + (generated > 0) * p->presence_penalty;
	}
}

/* TopKLogitsWarper, then TopPLogitsWarper, then MinPLogitsWarper, each on what the one before left. */
static void expect_filters(double *x, const struct bmi_sample_params *p)
{
	struct ranked order[VOCAB];
	double prob[VOCAB], best = 0, sum = 0;

	for (int i = 0; i < VOCAB; i++)
		order[i] = (struct ranked){ x[i], i };
	qsort(order, VOCAB, sizeof(order[0]), compare_ascending);
	if (p->top_k && p->top_k < VOCAB)
		for (int i = 0; i < VOCAB; i++)
			if (x[i] < order[VOCAB - p->top_k].x)
				x[i] = -INFINITY;
	softmax(prob, x);
	for (int i = 0; p->top_p < 1 && i < VOCAB - 1; i++) { /* the last, the best, is never removed */
		sum += prob[order[i].id];
		if (sum <= 1 - p->top_p)
			x[order[i].id] = -INFINITY;
	}
	softmax(prob, x);
	for (int i = 0; i < VOCAB; i++)
		best = fmax(best, prob[i]);
	for (int i = 0; i < VOCAB; i++)
		if (prob[i] < p->min_p * best)
			x[i] = -INFINITY;
}

static void expect(double *prob, const float *logits, const struct row *row)
{
	double x[VOCAB];

	for (int i = 0; i < VOCAB; i++)
		x[i] = logits[i];
	if (row->history)
		expect_penalties(x, &row->p);
	for (int i = 0; i < VOCAB; i++)
		x[i] /= row->p.temperature;
	expect_filters(x, &row->p);
	softmax(prob, x);
}

/* The value a chi-square variable of n degrees passes once in 10^6: Wilson and Hilferty (1931); z of 1e-6 is 4.7534. */
static double chi_square_limit(int n)
{
	const double a = 2.0 / (9 * n);

	return n * pow(1 - a + 4.7534 * sqrt(a), 3);
}

static void check_frequencies(const double *prob, const uint32_t *seen)
{
	double chi = 0, rest = 0, rest_seen = 0;
	int n = -1;

	for (int i = 0; i < VOCAB; i++) {
		const double want = prob[i] * DRAWS;

		if (want < 5) { /* too rare for the approximation: all such in one class */
			rest += want;
			rest_seen += seen[i];
			continue;
		}
		chi += (seen[i] - want) * (seen[i] - want) / want;
		n++;
	}
	if (rest >= 5) {
		chi += (rest_seen - rest) * (rest_seen - rest) / rest;
		n++;
	}
	if (n > 0 && chi > chi_square_limit(n))
		fail_msg("chi-square %.1f of %d degrees, limit %.1f", chi, n, chi_square_limit(n));
}

static void test_row(void **state)
{
	const struct row *row = *state;
	static uint32_t seen[VOCAB];
	struct bmi_sampler *sampler;
	struct bmi_rng rng;
	double prob[VOCAB];
	float logits[VOCAB];
	uint32_t n_kept = 0, id;

	make_logits(logits, row->ties);
	expect(prob, logits, row);
	memset(seen, 0, sizeof(seen));
	assert_int_equal(bmi_sampler_new(VOCAB, &sampler, NULL), 0);
	bmi_rng_init(&rng, row->seed);
	for (int i = 0; i < DRAWS; i++) {
		assert_int_equal(
			bmi_sample(sampler, &row->p, logits, row->history ? &history : NULL, &rng, &id, NULL),
			0);
		assert_true(id < VOCAB);
		seen[id]++;
	}
	bmi_sampler_free(sampler);

	for (int i = 0; i < VOCAB; i++) {
		n_kept += prob[i] > 0;
		if (prob[i] == 0 && seen[i])
			fail_msg("token %d came %u times and cannot", i, seen[i]);
		if (prob[i] * DRAWS > 30 && !seen[i]) /* e^-30 */
			fail_msg("token %d never came; %.0f times expected", i, prob[i] * DRAWS);
	}
	if (row->n_kept)
		assert_int_equal(n_kept, row->n_kept);
	check_frequencies(prob, seen);
}

#define P(temperature, top_k, top_p, min_p)               \
	{                                                 \
		temperature, top_k, top_p, min_p, 1, 0, 0 \
	}
static struct row rows[] = {
	{ "temperature 1", P(1, 0, 1, 0), 1, VOCAB },
	{ "temperature 0.3", P(0.3, 0, 1, 0), 2, VOCAB },
	{ "temperature 5", P(5, 0, 1, 0), 3, VOCAB },
	{ "top_k 1", P(1, 1, 1, 0), 4, 1 },
	{ "top_k 10", P(1, 10, 1, 0), 5, 10 },
	{ "top_k past the vocabulary", P(1, 1000, 1, 0), 6, VOCAB },
	{ "top_k 5 with ties at the 5th", P(1, 5, 1, 0), 7, 0, .ties = true },
	{ "top_p 0.9", P(1, 0, 0.9, 0), 8 },
	{ "top_p 0.5", P(1, 0, 0.5, 0), 9 },
	{ "top_p 0 keeps the best", P(1, 0, 0, 0), 10, 1 },
	{ "top_p 0.999999", P(0.5, 0, 0.999999, 0), 11 },
	{ "min_p 0.1", P(1, 0, 1, 0.1), 12 },
	{ "min_p 1 keeps the best", P(1, 0, 1, 1), 13, 1 },
	{ "top_k 20, top_p 0.8", P(1, 20, 0.8, 0), 14 },
	{ "top_k 30, min_p 0.2", P(1, 30, 1, 0.2), 15 },
	{ "top_p 0.95, min_p 0.05", P(2, 0, 0.95, 0.05), 16 },
	{ "all filters", P(1.5, 25, 0.9, 0.1), 17 },
	{ "all filters on ties", P(1.5, 25, 0.9, 0.1), 18, 0, .ties = true },
	{ "repetition penalty 1.3", { 1, 0, 1, 0, 1.3, 0, 0 }, 19, VOCAB, .history = true },
	{ "presence 0.7, frequency 0.4", { 1, 0, 1, 0, 1, 0.7, 0.4 }, 20, VOCAB, .history = true },
	{ "everything", { 0.8, 30, 0.92, 0.02, 1.2, 0.3, 0.2 }, 21, 0, .history = true },
};

static void test_rng_is_the_published_one(void **state)
{
	/* first outputs for the state 1, 2, 3, 4, as other implementations of xoshiro256** print them */
	static const uint64_t want[] = { 11520u, 0u, 1509978240u, 1215971899390074240u, 1216172134540287360u };
	/* splitmix64 of seed 1234567 */
	static const uint64_t want_state[] = { 6457827717110365317u, 3203168211198807973u,
					       9817491932198370423u, 4593380528125082431u };
	struct bmi_rng rng = { { 1, 2, 3, 4 } };

	for (size_t i = 0; i < BMI_ARRAY_LEN(want); i++)
		assert_true(bmi_rng_next(&rng) == want[i]);
	bmi_rng_init(&rng, 1234567);
	for (int i = 0; i < 4; i++)
		assert_true(rng.s[i] == want_state[i]);
	for (int i = 0; i < 100000; i++) {
		const double u = bmi_rng_uniform(&rng);

		assert_true(u >= 0 && u < 1);
	}
}

static void test_greedy(void **state)
{
	static const struct {
		float logits[4];
		uint32_t want;
	} cases[] = {
		{ { 1, 2, 3, 0 }, 2 },
		{ { 5, 5, 5, 5 }, 0 },
		{ { -3, -1, -1, -2 }, 1 },
		{ { -INFINITY, -9, -INFINITY, -9 }, 1 },
	};
	const struct bmi_sample_params greedy = BMI_SAMPLE_GREEDY;
	struct bmi_sampler *sampler;
	struct bmi_rng rng = { { 1, 2, 3, 4 } };

	assert_int_equal(bmi_sampler_new(4, &sampler, NULL), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(cases); i++) {
		uint32_t id = 99;

		assert_int_equal(bmi_sample(sampler, &greedy, cases[i].logits, NULL, &rng, &id, NULL), 0);
		assert_int_equal(id, cases[i].want);
	}
	assert_true(rng.s[0] == 1 && rng.s[3] == 4); /* no draw was taken */
	bmi_sampler_free(sampler);
}

/* The best, a tie with a later one, and a NaN are found wherever they are. */
static void test_greedy_anywhere(void **state)
{
	const struct bmi_sample_params greedy = BMI_SAMPLE_GREEDY;
	struct bmi_sampler *sampler;
	float logits[VOCAB];
	uint32_t id;

	assert_int_equal(bmi_sampler_new(VOCAB, &sampler, NULL), 0);
	make_logits(logits, false);
	for (uint32_t i = 0; i < VOCAB; i++) {
		const float was = logits[i], last = logits[VOCAB - 1];

		logits[i] = logits[VOCAB - 1] = 9;
		assert_int_equal(bmi_sample(sampler, &greedy, logits, NULL, NULL, &id, NULL), 0);
		assert_int_equal(id, i);
		logits[i] = NAN;
		assert_int_equal(bmi_sample(sampler, &greedy, logits, NULL, NULL, &id, NULL), -EDOM);
		logits[i] = was;
		logits[VOCAB - 1] = last;
	}
	bmi_sampler_free(sampler);
}

/* Penalties count for greedy too, and their memory is clean afterwards. */
static void test_greedy_with_penalty(void **state)
{
	static const float logits[4] = { 1, 4, 3.9f, -1 };
	static const uint32_t ids[] = { 1, 77 /* not in the vocabulary: ignored */ };
	const struct bmi_history said = { ids, 2, 2 };
	struct bmi_sample_params p = BMI_SAMPLE_GREEDY;
	struct bmi_sampler *sampler;
	uint32_t id;

	p.repetition_penalty = 1.1;
	assert_int_equal(bmi_sampler_new(4, &sampler, NULL), 0);
	assert_int_equal(bmi_sample(sampler, &p, logits, &said, NULL, &id, NULL), 0);
	assert_int_equal(id, 2);
	assert_int_equal(bmi_sample(sampler, &p, logits, NULL, NULL, &id, NULL), 0);
	assert_int_equal(id, 1);
	bmi_sampler_free(sampler);
}

static void test_refuses_what_is_no_number(void **state)
{
	static const float bad[][3] = {
		{ NAN, 1, 2 }, { 1, 2, NAN }, { 1, INFINITY, 2 }, { -INFINITY, -INFINITY, -INFINITY }
	};
	const struct bmi_sample_params params[] = { BMI_SAMPLE_GREEDY, P(1, 2, 1, 0) };
	struct bmi_sampler *sampler;
	struct bmi_rng rng;

	bmi_rng_init(&rng, 0);
	assert_int_equal(bmi_sampler_new(3, &sampler, NULL), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(bad); i++)
		for (size_t j = 0; j < BMI_ARRAY_LEN(params); j++) {
			struct bmi_error err = { 0 };
			uint32_t id = 99;

			assert_int_equal(bmi_sample(sampler, &params[j], bad[i], NULL, &rng, &id, &err), -EDOM);
			assert_true(err.msg[0]);
			assert_int_equal(id, 99);
		}
	bmi_sampler_free(sampler);
}

/* The same seed gives the same tokens, whatever was sampled with the same memory before; another seed gives others. */
static void test_seed_reproduces(void **state)
{
	const struct bmi_sample_params p = P(2, 40, 0.95, 0);
	struct bmi_sampler *a, *b;
	float logits[VOCAB];
	uint32_t first[200], id;
	unsigned n_equal = 0;
	struct bmi_rng rng;

	make_logits(logits, false);
	assert_int_equal(bmi_sampler_new(VOCAB, &a, NULL), 0);
	assert_int_equal(bmi_sampler_new(VOCAB, &b, NULL), 0);
	bmi_rng_init(&rng, 5);
	for (int i = 0; i < 200; i++)
		assert_int_equal(bmi_sample(a, &p, logits, NULL, &rng, &first[i], NULL), 0);
	bmi_rng_init(&rng, 5);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(bmi_sample(i % 2 ? a : b, &p, logits, NULL, &rng, &id, NULL), 0);
		assert_int_equal(id, first[i]);
	}
	bmi_rng_init(&rng, 6);
	for (int i = 0; i < 200; i++) {
		assert_int_equal(bmi_sample(a, &p, logits, NULL, &rng, &id, NULL), 0);
		n_equal += id == first[i];
	}
	assert_true(n_equal < 100);
	bmi_sampler_free(a);
	bmi_sampler_free(b);
}

/* A temperature so small that the scores overflow a float is greedy, not an error. */
static void test_tiny_temperature(void **state)
{
	const struct bmi_sample_params p = P(1e-300, 0, 0.9, 0);
	struct bmi_sampler *sampler;
	float logits[VOCAB];
	struct bmi_rng rng;
	uint32_t id, best = 0;

	make_logits(logits, false);
	for (uint32_t i = 1; i < VOCAB; i++)
		best = logits[i] > logits[best] ? i : best;
	bmi_rng_init(&rng, 1);
	assert_int_equal(bmi_sampler_new(VOCAB, &sampler, NULL), 0);
	for (int i = 0; i < 100; i++) {
		assert_int_equal(bmi_sample(sampler, &p, logits, NULL, &rng, &id, NULL), 0);
		assert_int_equal(id, best);
	}
	bmi_sampler_free(sampler);
}

int main(void)
{
	enum { N_OTHERS = 7, N_ROWS = BMI_ARRAY_LEN(rows) };
	struct CMUnitTest tests[N_OTHERS + N_ROWS] = {
		cmocka_unit_test(test_rng_is_the_published_one),  cmocka_unit_test(test_greedy),
		cmocka_unit_test(test_greedy_anywhere),           cmocka_unit_test(test_greedy_with_penalty),
		cmocka_unit_test(test_refuses_what_is_no_number), cmocka_unit_test(test_seed_reproduces),
		cmocka_unit_test(test_tiny_temperature),
	};

	for (size_t i = 0; i < N_ROWS; i++)
		tests[N_OTHERS + i] = (struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, &rows[i] };
	return _cmocka_run_group_tests("sample", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward against Transformers (tests/data/tiny: random models, float32 answers in expected.json), for every family
 * and every kernel set of this CPU; and against itself: the bits of a row do not depend on chunks, company, placement or
 * threads.
 *
 * Bounds. A float32 answer: 2e-4 of max(|logit|, 1); sums of a few hundred products in another order differ by some 1e-6,
 * RoPE angles by 1e-5 or so. bfloat16: twice the error that the peer's own bfloat16 forward has, which also rounds
 * activations; ours keeps them in float32. Ids are compared while the best two logits are 1e-3 apart.
 */
#include "forward_fixture.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { PROMPT = 40, GREEDY = 16 };
static const double clear_gap = 1e-3;

struct variant {
	const char *name, *isa;
};

/* One model with its answer and the logits of all prompt positions. */
struct run {
	struct model m;
	struct answer answer;
	uint32_t *ids;
	uint32_t vocab;
	struct bmi_seq *seq;
	float *logits; /* [PROMPT + 1][vocab] */
};

static void run_open(struct run *run, const struct variant *v, enum bmi_dtype dtype, unsigned n_threads,
		     enum placement placement)
{
	char path[512];
	uint32_t n;

	snprintf(path, sizeof(path), "%s/%s", TEST_DATA, v->name);
	model_open(&run->m, &(struct model_options){ path, dtype, n_threads, v->isa, placement });
	snprintf(path, sizeof(path), "%s/%s/expected.json", TEST_DATA, v->name);
	answer_open(&run->answer, path);
	run->ids = answer_ids(bmi_json_get(run->answer.root, "input_ids"), &n);
	assert_int_equal(n, PROMPT);
	run->vocab = run->m.cfg->vocab_size;
	run->logits = calloc((size_t)(PROMPT + 1) * run->vocab, sizeof(float));
	assert_non_null(run->logits);
	run->seq = model_new_seq(&run->m);
}

static void run_close(struct run *run)
{
	bmi_seq_free(run->seq);
	model_close(&run->m);
	answer_close(&run->answer);
	free(run->ids);
	free(run->logits);
}

static void run_prompt(struct run *run, uint32_t chunk)
{
	model_run(&run->m, run->seq, run->ids, PROMPT, 0, chunk, run->logits);
}

static const float *logits_at(const struct run *run, uint32_t pos)
{
	return run->logits + (size_t)pos * run->vocab;
}

static double largest_error(const struct run *run, bool relative)
{
	uint32_t n;
	double *want = answer_reals(bmi_json_get(run->answer.root, "last_logits"), &n), worst = 0;

	assert_int_equal(n, run->vocab);
	for (uint32_t i = 0; i < n; i++) {
		const double error = fabs(logits_at(run, PROMPT - 1)[i] - want[i]);

		worst = fmax(worst, relative ? error / fmax(fabs(want[i]), 1) : error);
		if (isnan(error))
			worst = INFINITY;
	}
	free(want);
	return worst;
}

static void test_last_logits(void **state)
{
	struct run run;

	run_open(&run, *state, BMI_F32, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	if (!(largest_error(&run, true) <= 2e-4))
		fail_msg("off by %g of max(|logit|, 1)", largest_error(&run, true));
	run_close(&run);
}

static void test_every_position(void **state)
{
	struct run run;
	uint32_t n, n_rms, *argmax;
	double *rms;

	run_open(&run, *state, BMI_F32, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	argmax = answer_ids(bmi_json_get(run.answer.root, "argmax_per_position"), &n);
	rms = answer_reals(bmi_json_get(run.answer.root, "logit_rms_per_position"), &n_rms);
	assert_true(n == PROMPT && n_rms == PROMPT);
	for (uint32_t t = 0; t < PROMPT; t++) {
		double sum = 0;
		float gap;
		const uint32_t best = best_of(logits_at(&run, t), run.vocab, &gap);

		for (uint32_t i = 0; i < run.vocab; i++)
			sum += (double)logits_at(&run, t)[i] * logits_at(&run, t)[i];
		if (gap > clear_gap && best != argmax[t])
			fail_msg("position %u: %u is best, not %u", t, best, argmax[t]);
		if (!(fabs(sqrt(sum / run.vocab) - rms[t]) <= 2e-4 * fmax(rms[t], 1)))
			fail_msg("position %u: rms %g, not %g", t, sqrt(sum / run.vocab), rms[t]);
	}
	free(argmax);
	free(rms);
	run_close(&run);
}

static void test_greedy_ids(void **state)
{
	struct run run;
	uint32_t n, *want;

	run_open(&run, *state, BMI_F32, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	want = answer_ids(bmi_json_get(run.answer.root, "greedy_ids"), &n);
	assert_int_equal(n, GREEDY);
	for (uint32_t i = 0; i < n; i++) {
		float gap;
		const uint32_t best = best_of(logits_at(&run, i ? PROMPT : PROMPT - 1), run.vocab, &gap);

		if (gap <= clear_gap)
			break;
		if (best != want[i])
			fail_msg("token %u is %u, not %u (gap %g)", i, best, want[i], gap);
		model_run(&run.m, run.seq, &best, 1, PROMPT + i, 1, run.logits + (size_t)PROMPT * run.vocab);
	}
	free(want);
	run_close(&run);
}

static void test_bfloat16(void **state)
{
	struct run run;
	double bound;

	run_open(&run, *state, BMI_BF16, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	assert_true(bmi_json_to_double(bmi_json_get(run.answer.root, "bfloat16_last_logits_max_abs_err"),
				       &bound));
	if (!(largest_error(&run, false) <= 2 * bound))
		fail_msg("off by %g, bound 2 x %g", largest_error(&run, false), bound);
	run_close(&run);
}

/* float16 rounds eight times finer than bfloat16 and these models are far from its range. */
static void test_float16(void **state)
{
	struct run run;
	double bound;

	run_open(&run, *state, BMI_F16, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	assert_true(bmi_json_to_double(bmi_json_get(run.answer.root, "bfloat16_last_logits_max_abs_err"),
				       &bound));
	if (!(largest_error(&run, false) <= bound / 4))
		fail_msg("off by %g, bound %g / 4", largest_error(&run, false), bound);
	run_close(&run);
}

static void check_same_bits(const struct run *a, const struct run *b, const char *what)
{
	for (uint32_t t = 0; t < PROMPT; t++)
		if (memcmp(logits_at(a, t), logits_at(b, t), a->vocab * sizeof(float)))
			fail_msg("%s: other bits at position %u", what, t);
}

static void check_way(const struct variant *v, enum bmi_dtype dtype, uint32_t chunk, unsigned n_threads,
		      enum placement placement, const char *what)
{
	struct bmi_residency_state state;
	struct run plain, other;

	run_open(&plain, v, dtype, 1, ALL_CPU);
	run_prompt(&plain, PROMPT);
	run_open(&other, v, dtype, n_threads, placement);
	run_prompt(&other, chunk);
	check_same_bits(&plain, &other, what);
	bmi_residency_state(other.m.res, &state);
	if (placement == ALL_DISK)
		assert_true(state.cpu_bytes == 0 && state.streamed_bytes > 0);
	run_close(&other);
	run_close(&plain);
}

static const enum bmi_dtype dtypes[] = { BMI_F32, BMI_BF16 };

static void test_same_in_any_chunks(void **state)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(dtypes); i++) {
		check_way(*state, dtypes[i], 1, 1, ALL_CPU, "chunks of 1");
		check_way(*state, dtypes[i], 7, 1, ALL_CPU, "chunks of 7");
	}
}

static void test_same_on_disk(void **state)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(dtypes); i++) {
		check_way(*state, dtypes[i], PROMPT, 1, ALL_DISK, "all disk");
		check_way(*state, dtypes[i], 7, 1, SPLIT, "split");
	}
}

static void test_same_with_two_threads(void **state)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(dtypes); i++) {
		check_way(*state, dtypes[i], PROMPT, 2, ALL_CPU, "two threads");
		check_way(*state, dtypes[i], 1, 2, SPLIT, "two threads, one row, split");
	}
}

/* Another sequence, the prompt backwards, goes along: its rows interleaved, at other positions. */
static void test_same_beside_another(void **state)
{
	enum { CHUNK = 10 };
	struct run plain, other;
	struct bmi_error err = { 0 };
	struct bmi_seq *guest;

	run_open(&plain, *state, BMI_BF16, 1, ALL_CPU);
	run_prompt(&plain, PROMPT);
	run_open(&other, *state, BMI_BF16, 2, ALL_CPU);
	guest = model_new_seq(&other.m);
	assert_int_equal(bmi_seq_reserve(other.seq, PROMPT, NULL), 0);
	assert_int_equal(bmi_seq_reserve(guest, PROMPT, NULL), 0);
	model_run(&other.m, guest, other.ids, 3, 0, 3, other.logits);
	for (uint32_t at = 0; at < PROMPT; at += CHUNK) {
		struct bmi_row rows[2 * CHUNK];
		uint32_t n = 0;

		for (uint32_t t = at; t < at + CHUNK; t++) {
			if (t + 3 < PROMPT)
				rows[n++] = (struct bmi_row){ guest, other.ids[PROMPT - 1 - t], t + 3, false };
			rows[n++] = (struct bmi_row){ other.seq, other.ids[t], t, true };
		}
		assert_int_equal(bmi_run_pass(other.m.run,
					      &(struct bmi_run_request){ .rows = rows,
									 .n_rows = n,
									 .logits = other.logits +
										   (size_t)at * other.vocab },
					      &err),
				 0);
	}
	check_same_bits(&plain, &other, "beside another sequence");
	bmi_seq_free(guest);
	run_close(&other);
	run_close(&plain);
}

/* Forget the end of a sequence and go on otherwise: as if it had never been. */
static void test_truncate_and_go_on(void **state)
{
	struct run plain, other;

	run_open(&plain, *state, BMI_F32, 1, ALL_CPU);
	run_prompt(&plain, PROMPT);
	run_open(&other, *state, BMI_F32, 1, ALL_CPU);
	model_run(&other.m, other.seq, plain.ids, 11, 0, 11, other.logits);
	for (uint32_t i = 0; i < 100; i += 10)
		model_run(&other.m, other.seq, plain.ids + 20, 10, 11 + i, 10,
			  other.logits + 11 * (size_t)other.vocab);
	bmi_seq_truncate(other.seq, 11);
	model_run(&other.m, other.seq, plain.ids + 11, PROMPT - 11, 11, 5,
		  other.logits + 11 * (size_t)other.vocab);
	check_same_bits(&plain, &other, "after a truncation");
	run_close(&other);
	run_close(&plain);
}

/* ---- what a pass refuses and how it ends early ---- */

struct stop {
	uint32_t at, n_calls, last;
};

static int stop_there(void *ctx, uint32_t layer)
{
	struct stop *stop = ctx;

	assert_int_equal(layer, stop->n_calls++);
	stop->last = layer;
	return layer == stop->at ? -ECANCELED : 0;
}

static void test_ends_between_layers(void **state)
{
	const struct variant *v = *state;
	struct run run, plain;

	run_open(&plain, v, BMI_F32, 1, ALL_CPU);
	run_prompt(&plain, PROMPT);
	run_open(&run, v, BMI_F32, 1, SPLIT);
	assert_int_equal(bmi_seq_reserve(run.seq, 1, NULL), 0);
	for (uint32_t at = 0; at <= run.m.cfg->n_layers + 1; at++) {
		struct stop stop = { .at = at };
		const struct bmi_row row = { run.seq, run.ids[0], 0, true };
		const struct bmi_run_request req = {
			.rows = &row, .n_rows = 1, .logits = run.logits, .between_layers = stop_there, .ctx = &stop
		};
		const bool stops = at <= run.m.cfg->n_layers;

		assert_int_equal(bmi_run_pass(run.m.run, &req, NULL), stops ? -ECANCELED : 0);
		assert_int_equal(stop.last, stops ? at : run.m.cfg->n_layers);
	}
	run_prompt(&run, PROMPT);
	check_same_bits(&plain, &run, "after passes that were ended");
	run_close(&run);
	run_close(&plain);
}

/* Weights go to disk and come back one step before each layer, as prompts are processed. */
struct mover {
	struct model *m;
	unsigned n_steps;
};

static int move_a_step(void *ctx, uint32_t layer)
{
	struct mover *mover = ctx;
	struct bmi_error err = { 0 };
	const int r = bmi_residency_move_step(mover->m->res, &err);

	if (r < 0)
		fail_msg("%s", err.msg);
	mover->n_steps += r > 0;
	return 0;
}

static void test_same_while_moving(void **state)
{
	enum { CHUNK = 5 };
	struct run plain, other;
	struct mover mover = { .m = &other.m };
	struct bmi_error err = { 0 };

	run_open(&plain, *state, BMI_BF16, 1, ALL_CPU);
	run_prompt(&plain, PROMPT);
	run_open(&other, *state, BMI_BF16, 1, ALL_CPU);
	assert_int_equal(bmi_seq_reserve(other.seq, PROMPT, NULL), 0);
	for (uint32_t at = 0; at < PROMPT; at += CHUNK) {
		struct bmi_row rows[CHUNK];
		const struct bmi_run_request req = { .rows = rows,
						     .n_rows = CHUNK,
						     .logits = other.logits + (size_t)at * other.vocab,
						     .between_layers = move_a_step,
						     .ctx = &mover };

		for (uint32_t t = 0; t < CHUNK; t++)
			rows[t] = (struct bmi_row){ other.seq, other.ids[at + t], at + t, true };
		if (at % (2 * CHUNK) == 0)
			model_begin_move(&other.m, at % (4 * CHUNK) ? ALL_CPU : ALL_DISK, BMI_BF16);
		assert_int_equal(bmi_run_pass(other.m.run, &req, &err), 0);
	}
	assert_true(mover.n_steps >= 8);
	check_same_bits(&plain, &other, "while moving");
	run_close(&other);
	run_close(&plain);
}

static void test_refuses_bad_rows(void **state)
{
	struct bmi_error err = { 0 };
	struct run run;

	run_open(&run, *state, BMI_F32, 1, ALL_CPU);
	assert_int_equal(bmi_seq_reserve(run.seq, 1, NULL), 0);
	for (int i = 0; i < 2; i++) {
		const struct bmi_row row = { run.seq, i ? 0 : run.vocab, i ? BMI_KV_BLOCK : 0, true };
		const struct bmi_run_request req = { .rows = &row, .n_rows = 1, .logits = run.logits };

		assert_int_equal(bmi_run_pass(run.m.run, &req, &err), -EINVAL);
		assert_non_null(strstr(err.msg, i ? "position 64" : "token id 320"));
	}
	run_close(&run);
}

/* Working memory is as told beforehand, kept between passes, and given back. */
static void test_working_memory(void **state)
{
	struct run run;
	uint64_t bytes;

	run_open(&run, *state, BMI_F32, 1, ALL_CPU);
	run_prompt(&run, PROMPT);
	bytes = bmi_runner_bytes(run.m.run);
	assert_true(bytes > 0 && bytes <= bmi_runner_need(run.m.cfg, PROMPT));
	run_prompt(&run, 7);
	assert_int_equal(bmi_runner_bytes(run.m.run), bytes);
	bmi_runner_trim(run.m.run);
	assert_int_equal(bmi_runner_bytes(run.m.run), 0);
	run_prompt(&run, 7);
	run_close(&run);
}

static const struct {
	const char *name;
	CMUnitTestFunction fn;
	bool every_isa;
} checks[] = {
	{ "last logits", test_last_logits, true },
	{ "best and rms of every position", test_every_position, true },
	{ "greedy ids", test_greedy_ids, true },
	{ "bfloat16", test_bfloat16, true },
	{ "float16", test_float16, true },
	{ "same bits in any chunks", test_same_in_any_chunks, true },
	{ "same bits from disk", test_same_on_disk, true },
	{ "same bits with two threads", test_same_with_two_threads, true },
	{ "same bits beside another", test_same_beside_another, true },
	{ "same bits while weights move", test_same_while_moving, false },
	{ "truncate and go on", test_truncate_and_go_on, false },
	{ "ends between layers", test_ends_between_layers, false },
	{ "refuses bad rows", test_refuses_bad_rows, false },
	{ "working memory", test_working_memory, false },
};

int main(void)
{
	static const char *const names[] = {
		"llama",
		"llama-headdim",
		"llama-linear-rope",
		"llama-tied-bias",
		"llama-yarn-rope",
		"llama3-rope",
		"mistral-nowindow",
		"mistral-window",
		"gemma3",
		"qwen2",
		"qwen2-tied",
		"qwen3",
		"gemma",
		"gemma2",
		"granite",
		"smollm3",
		"olmo2",
		"stablelm",
		"starcoder2",
		"cohere",
		"phi",
		"phi3",
		"phi3-window",
		"gpt2",
		"gptj",
		"gpt_neox",
		"gpt_neox-serial",
		"opt",
		"falcon-mqa",
		"falcon-new",
		"bloom",
		"mixtral",
		"qwen2_moe",
		"qwen3_moe",
		"gpt_oss",
		"deepseek_v3",
	};
	static const char *const isas[] = { "ref", "avx2", "avx512" };
	enum { MAX = BMI_ARRAY_LEN(names) * BMI_ARRAY_LEN(isas) * BMI_ARRAY_LEN(checks) };
	static struct variant variants[BMI_ARRAY_LEN(names)][BMI_ARRAY_LEN(isas)];
	static struct CMUnitTest tests[MAX];
	static char titles[MAX][96];
	size_t n = 0;

	for (size_t i = 0; i < BMI_ARRAY_LEN(names); i++)
		for (size_t j = 0; j < BMI_ARRAY_LEN(isas); j++)
			for (size_t k = 0; k < BMI_ARRAY_LEN(checks); k++) {
				if (j && !checks[k].every_isa)
					continue;
				variants[i][j] = (struct variant){ names[i], isas[j] };
				snprintf(titles[n], sizeof(titles[n]), "%s %s: %s", names[i], isas[j],
					 checks[k].name);
				tests[n] = (struct CMUnitTest){ titles[n], checks[k].fn, NULL, NULL,
								&variants[i][j] };
				n++;
			}
	return _cmocka_run_group_tests("forward", tests, n, NULL, NULL);
}

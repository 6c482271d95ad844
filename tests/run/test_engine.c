/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine through its door: prompts in, answers out, while layers move. The model is the reference's tiny llama
 * (no tokenizer: token ids in and out); what it must say is in its expected.json, made by Transformers.
 */
#include "engine_fixture.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static void test_answer_and_logits(void **state)
{
	struct fix f;
	struct bmi_turn *turn;
	const float *logits;
	size_t n;
	char got[1024];

	open_default(&f);
	turn = submit(f.root, prompt);
	WAIT_UNTIL(&f, bmi_turn_logits(turn, &logits, &n) == 0);
	assert_int_equal(n, VOCAB);
	for (unsigned i = 0; i < VOCAB; i++)
		if (fabsf(logits[i] - last_logits[i]) > 2e-4f * fmaxf(fabsf(last_logits[i]), 1))
			fail_msg("logit %u: %g, the reference has %g", i, (double)logits[i],
				 (double)last_logits[i]);
	assert_int_equal(finish(&f, turn, got, sizeof(got)), 0);
	assert_string_equal(got, answer);
	assert_true(report_has(&f, BMI_REPORT_STATUS, "finish: length\n"));
	expect_report(&f, BMI_REPORT_HF_DEVICE_MAP, "{\n  \"\": \"cpu\"\n}\n");
	close_fix(&f);
}

static void test_placements(void **state)
{
	static const char *const maps[] = {
		"cpu",
		"disk",
		"auto",
		"\"\": disk\nmodel.layers.1: cpu\n",
		"{\"model\": \"disk\", \"model.norm\": \"cpu\", \"lm_head\": \"cpu\"}",
	};
	struct bmi_error err;
	struct fix f;

	for (unsigned threads = 1; threads <= 2; threads++) {
		open_with(&f, &(struct bmi_engine_options){ .model_path = MODEL,
							    .dtype = "float32",
							    .n_threads = threads,
							    .device_map = "disk" });
		expect_answer(&f, f.root);
		for (unsigned i = 0; i < sizeof(maps) / sizeof(maps[0]); i++) {
			if (set(&f, BMI_KNOB_DEVICE_MAP, maps[i], &err) < 0)
				fail_msg("%s: %s", maps[i], err.msg);
			expect_answer(&f, f.root);
		}
		close_fix(&f);
	}
}

static void test_refusals_keep_the_old_map(void **state)
{
	static const struct {
		enum bmi_knob knob;
		const char *text;
		int code;
		const char *says;
	} cases[] = {
		{ BMI_KNOB_DEVICE_MAP, "model.layers.9: cpu\n\"\": cpu\n", -EINVAL, "model.layers.9" },
		{ BMI_KNOB_DEVICE_MAP, "model.layers.0: cpu\n", -EINVAL, "model.embed_tokens" },
		{ BMI_KNOB_DEVICE_MAP, "\"\": 0\n", -ENODEV, "GPU" },
		{ BMI_KNOB_DEVICE_MAP, "quickest", -EINVAL, "quickest" },
		{ BMI_KNOB_DEVICE_MAP, "", -EINVAL, "empty" },
		{ BMI_KNOB_DTYPE, "int8", -EINVAL, "int8" },
		{ BMI_KNOB_DTYPE, "float64", -EOPNOTSUPP, "float64" },
		{ BMI_KNOB_DTYPE, "bf17", -EINVAL, "bf17" },
		{ BMI_KNOB_MAX_MEMORY, "cpu: 10XB", -EINVAL, "10XB" },
		{ BMI_KNOB_MAX_MEMORY, "tpu: 1GB", -EINVAL, "tpu" },
	};
	struct bmi_error err;
	struct fix f;

	open_default(&f);
	assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP, "\"\": cpu\nmodel.layers.0: disk\n", &err), 0);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const int r = set(&f, cases[i].knob, cases[i].text, &err);

		if (r != cases[i].code || !strstr(err.msg, cases[i].says))
			fail_msg("'%s': %d, %s", cases[i].text, r, err.msg);
	}
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "\"\": cpu\nmodel.layers.0: disk\n");
	expect_report(&f, BMI_REPORT_DTYPE, "float32\n");
	expect_report(&f, BMI_REPORT_MAX_MEMORY, "");
	assert_true(report_has(&f, BMI_REPORT_HF_DEVICE_MAP, "\"model.layers.0\": \"disk\""));
	expect_answer(&f, f.root);
	close_fix(&f);
}

static void test_max_memory(void **state)
{
	struct bmi_error err;
	struct fix f;

	open_default(&f);
	/* 571 kB in float32: auto must leave some of it on disk */
	assert_int_equal(set(&f, BMI_KNOB_MAX_MEMORY, "cpu: 400KB\n", &err), 0);
	assert_true(report_has(&f, BMI_REPORT_HF_DEVICE_MAP, "\"disk\""));
	assert_true(report_has(&f, BMI_REPORT_HF_DEVICE_MAP, "\"cpu\""));
	expect_answer(&f, f.root);
	assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP, "cpu", &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "max_memory"));
	assert_int_equal(set(&f, BMI_KNOB_MAX_MEMORY, "", &err), 0);
	expect_report(&f, BMI_REPORT_HF_DEVICE_MAP, "{\n  \"\": \"cpu\"\n}\n");
	close_fix(&f);
}

static void test_dtype(void **state)
{
	struct bmi_error err;
	struct fix f;

	open_with(&f, &(struct bmi_engine_options){ .model_path = MODEL });
	expect_report(&f, BMI_REPORT_DTYPE, "bfloat16\n");
	assert_int_equal(set(&f, BMI_KNOB_DTYPE, "torch.float32\n", &err), 0);
	expect_report(&f, BMI_REPORT_DTYPE, "float32\n");
	expect_answer(&f, f.root);
	assert_int_equal(set(&f, BMI_KNOB_DTYPE, "auto", &err), 0);
	expect_report(&f, BMI_REPORT_DTYPE, "bfloat16\n");
	close_fix(&f);
}

static void test_moves_while_generating(void **state)
{
	static const char *const maps[] = { "disk", "cpu", "\"\": cpu\nmodel.layers.1: disk\n" };
	char want[8192], got[8192];
	struct bmi_error err;
	struct fix f;
	struct bmi_turn *turn;

	open_default(&f);
	assert_int_equal(bmi_session_set_param(f.root, "max_tokens", "300", 3, &err), 0);
	assert_int_equal(finish(&f, submit(f.root, prompt), want, sizeof(want)), 0);
	turn = submit(f.root, prompt);
	for (unsigned i = 0; i < 12 && !is_done(turn); i++)
		assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP, maps[i % 3], &err), 0);
	assert_int_equal(finish(&f, turn, got, sizeof(got)), 0);
	assert_string_equal(got, want);
	/* a dtype write waits for the turn, which ends in the old dtype */
	turn = submit(f.root, prompt);
	assert_int_equal(set(&f, BMI_KNOB_DTYPE, "bfloat16", &err), 0);
	assert_true(is_done(turn));
	assert_int_equal(finish(&f, turn, got, sizeof(got)), 0);
	assert_string_equal(got, want);
	close_fix(&f);
}

static void test_sessions_side_by_side(void **state)
{
	struct bmi_session *ses[6];
	struct bmi_turn *turn[6];
	char got[1024];
	struct fix f;

	open_default(&f);
	for (unsigned i = 0; i < 6; i++) { /* more than slots */
		assert_int_equal(bmi_session_new(f.eng, &ses[i], NULL), 0);
		turn[i] = submit(ses[i], prompt);
	}
	for (unsigned i = 0; i < 6; i++) {
		assert_int_equal(finish(&f, turn[i], got, sizeof(got)), 0);
		assert_string_equal(got, answer);
	}
	for (unsigned i = 0; i < 6; i++)
		bmi_session_close(ses[i]);
	close_fix(&f);
}

static void test_queue_and_cancel(void **state)
{
	struct bmi_error err = { 0 };
	struct bmi_turn *first, *second;
	char got[8192];
	struct fix f;

	open_with(&f, &(struct bmi_engine_options){ .model_path = MODEL, .dtype = "float32", .queue_max = 2 });
	assert_int_equal(bmi_session_set_param(f.root, "max_tokens", "400", 3, &err), 0);
	first = submit(f.root, prompt);
	second = submit(f.root, prompt);
	for (int r = 0; (r = bmi_session_submit(f.root, "1", 1, NULL, &err)) != -EBUSY;)
		assert_int_equal(r, 0); /* ends: the first turn runs for 400 tokens, two may wait */
	assert_non_null(strstr(err.msg, "queue=2"));
	assert_int_equal(bmi_session_has_room(f.root, &err), -EBUSY);
	bmi_turn_cancel(second);
	assert_int_equal(finish(&f, second, got, sizeof(got)), -ECANCELED);
	assert_string_equal(got, "");
	bmi_turn_cancel(first);
	assert_int_equal(finish(&f, first, got, sizeof(got)), -ECANCELED);
	bmi_session_cancel(f.root);
	first = bmi_session_last_turn(f.root);
	assert_int_equal(finish(&f, first, got, sizeof(got)), -ECANCELED);
	assert_int_equal(bmi_session_set_param(f.root, "max_tokens", "16", 2, &err), 0);
	expect_answer(&f, f.root);
	close_fix(&f);
}

static void test_bad_prompts(void **state)
{
	char text[8192] = "";
	struct bmi_error err;
	struct bmi_turn *turn;
	char got[64];
	struct fix f;

	open_default(&f);
	for (int i = 0; i < 600; i++)
		strcat(text, "7 ");
	assert_int_equal(bmi_session_submit(f.root, text, strlen(text), NULL, &err), -EMSGSIZE);
	turn = bmi_session_last_turn(f.root); /* a reader sees it too */
	assert_int_equal(finish(&f, turn, got, sizeof(got)), -EMSGSIZE);
	assert_int_equal(bmi_session_submit(f.root, "1 2 320", 7, NULL, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "320"));
	assert_int_equal(bmi_session_submit(f.root, "1 two", 5, NULL, &err), -EILSEQ);
	assert_int_equal(bmi_session_set_param(f.root, "template", "raw", 3, &err),
			 -EOPNOTSUPP); /* no tokenizer */
	expect_answer(&f, f.root);
	close_fix(&f);
}

static void test_stop_while_busy(void **state)
{
	struct bmi_error err;
	struct bmi_turn_info info;
	struct bmi_turn *turn;
	uint64_t move;
	struct fix f;

	open_default(&f);
	assert_int_equal(bmi_session_set_param(f.root, "max_tokens", "400", 3, &err), 0);
	turn = submit(f.root, prompt);
	assert_int_equal(bmi_engine_set(f.eng, BMI_KNOB_DEVICE_MAP, "disk", 4, &move, &err), 0);
	close_fix(&f);
	bmi_turn_info(turn, &info); /* outlives the engine */
	assert_true(info.done);
	bmi_turn_put(turn);
}

static void test_refused_map_can_be_mended(void **state)
{
	struct bmi_error err;
	struct fix f;

	open_with(&f, &(struct bmi_engine_options){
			      .model_path = MODEL, .dtype = "float32", .device_map = "model.layers: 0" });
	assert_int_equal(bmi_engine_state(f.eng), BMI_STATE_FAILED);
	assert_true(bmi_engine_problem(f.eng, &err));
	assert_int_equal(bmi_session_submit(f.root, prompt, strlen(prompt), NULL, &err), -ENODEV);
	assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP, "auto", &err), 0);
	assert_int_equal(bmi_engine_state(f.eng), BMI_STATE_READY);
	expect_answer(&f, f.root);
	close_fix(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_answer_and_logits),
		cmocka_unit_test(test_placements),
		cmocka_unit_test(test_refusals_keep_the_old_map),
		cmocka_unit_test(test_max_memory),
		cmocka_unit_test(test_dtype),
		cmocka_unit_test(test_moves_while_generating),
		cmocka_unit_test(test_sessions_side_by_side),
		cmocka_unit_test(test_queue_and_cancel),
		cmocka_unit_test(test_bad_prompts),
		cmocka_unit_test(test_stop_while_busy),
		cmocka_unit_test(test_refused_map_can_be_mended),
	};

	return cmocka_run_group_tests_name("engine", tests, load_reference, NULL);
}

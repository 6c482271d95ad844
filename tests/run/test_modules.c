/* SPDX-License-Identifier: Apache-2.0 */
/* One module at a time: what is told of it, what is refused, and that moving it changes neither the rest nor the answer. */
#include "engine_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

static int set_module(struct fix *f, const char *module, const char *device, struct bmi_error *err)
{
	uint64_t move = 0;
	int r;

	*err = (struct bmi_error){ 0 };
	r = bmi_module_set(f->eng, module, device, strlen(device), &move, err);
	if (r < 0)
		return r;
	WAIT_UNTIL(f, bmi_engine_move(f->eng, move, NULL) != -EAGAIN);
	return bmi_engine_move(f->eng, move, err);
}

static void expect_fact(struct fix *f, const char *module, enum bmi_module_fact what, const char *want)
{
	struct bmi_str s = { 0 };

	assert_int_equal(bmi_module_report(f->eng, module, what, &s), 0);
	assert_string_equal(s.bytes, want);
	bmi_str_fini(&s);
}

static void test_modules(void **state)
{
	static const char *const names[] = { "model.embed_tokens",
					     "model.layers.0",
					     "model.layers.1",
					     "model.layers.2",
					     "model.norm",
					     "lm_head",
					     NULL };
	struct bmi_str s = { 0 };
	struct bmi_error err;
	struct fix f;

	open_default(&f);
	for (unsigned i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		const char *name = bmi_module_name(f.eng, i);

		assert_true(names[i] ? name && !strcmp(name, names[i]) : !name);
	}
	expect_fact(&f, "model.norm", BMI_MODULE_DEVICE, "cpu\n");
	expect_fact(&f, "model.norm", BMI_MODULE_DTYPE, "float32\n");
	expect_fact(&f, "model.norm", BMI_MODULE_BYTES, "256\n"); /* hidden_size 64 */
	assert_int_equal(bmi_module_report(f.eng, "model.norm", BMI_MODULE_TENSORS, &s), 0);
	assert_non_null(strstr(s.bytes, "model.norm.weight [64] "));
	bmi_str_fini(&s);
	assert_int_equal(bmi_module_report(f.eng, "model.nose", BMI_MODULE_DEVICE, &s), -ENOENT);
	bmi_str_fini(&s);

	/* what else was mapped stays: the budget, and a part of another layer */
	assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP,
			     "\"\": cpu\nmodel.layers.0.mlp: disk\nmax_memory:\n  cpu: 1MB\n", &err),
			 0);
	expect_fact(&f, "model.layers.0", BMI_MODULE_DEVICE, "cpu disk\n");
	assert_int_equal(set_module(&f, "model.layers.1", "disk\n", &err), 0);
	expect_report(
		&f, BMI_REPORT_DEVICE_MAP,
		"\"\": cpu\nmodel.layers.0.mlp: disk\nmodel.layers.1: disk\nmax_memory:\n  cpu: 1000000\n");
	expect_fact(&f, "model.layers.0", BMI_MODULE_DEVICE, "cpu disk\n");
	expect_fact(&f, "model.layers.1", BMI_MODULE_DEVICE, "disk\n");
	expect_answer(&f, f.root);
	assert_int_equal(set_module(&f, "model.layers.0", "cpu", &err), 0);
	assert_int_equal(set_module(&f, "model.layers.1", "cpu", &err), 0);
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "\"\": cpu\nmax_memory:\n  cpu: 1000000\n");
	close_fix(&f);
}

static void test_module_refusals(void **state)
{
	static const struct {
		const char *module, *text;
		int code;
	} cases[] = {
		{ "model.layers.1", "tpu", -EINVAL },
		{ "model.layers.1", "auto", -EINVAL },
		{ "model.layers.1", "", -EINVAL },
		{ "model.layers.1", "cpu\ndisk", -EINVAL },
		{ "model.layers.1", "cpu, a: disk", -EINVAL },
		{ "model.layers.1", "-1", -EINVAL },
		{ "model.layers.1", "cuda:0", -ENODEV },
		{ "model.layers.1", "3", -ENODEV },
		{ "model.layers.9", "cpu", -ENOENT },
	};
	struct bmi_error err;
	struct fix f;

	open_default(&f);
	for (unsigned i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		const char *text = cases[i].text;

		err = (struct bmi_error){ 0 };
		assert_int_equal(bmi_module_check(f.eng, cases[i].module, text, strlen(text),
						  /* complete= */ true, &err),
				 cases[i].code);
		assert_true(err.msg[0]);
		assert_int_equal(set_module(&f, cases[i].module, text, &err), cases[i].code);
	}
	assert_int_equal(bmi_module_check(f.eng, "model.norm", "tp", 2, /* complete= */ false, &err), 0);
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "auto\n");
	/* a layer has 136 kB in float32, the head 82 kB */
	assert_int_equal(set(&f, BMI_KNOB_DEVICE_MAP, "disk", &err), 0);
	assert_int_equal(set(&f, BMI_KNOB_MAX_MEMORY, "cpu: 100KB\n", &err), 0);
	assert_int_equal(set_module(&f, "model.layers.1", "cpu", &err), -ENOMEM);
	expect_fact(&f, "model.layers.1", BMI_MODULE_DEVICE, "disk\n");
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "disk\n");
	assert_int_equal(set_module(&f, "lm_head", "cpu", &err), 0);
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "\"\": disk\nlm_head: cpu\n");
	expect_answer(&f, f.root);
	close_fix(&f);
}

static void test_module_moves_while_generating(void **state)
{
	char want[8192], got[8192];
	struct bmi_error err;
	struct bmi_turn *turn;
	struct fix f;

	open_default(&f);
	assert_int_equal(bmi_session_set_param(f.root, "max_tokens", "300", 3, &err), 0);
	assert_int_equal(finish(&f, submit(f.root, prompt), want, sizeof(want)), 0);
	turn = submit(f.root, prompt);
	for (unsigned i = 0; i < 12 && !is_done(turn); i++) {
		const char *device = i % 2 ? "cpu" : "disk";

		assert_int_equal(set_module(&f, "model.layers.1", device, &err), 0);
		expect_fact(&f, "model.layers.1", BMI_MODULE_DEVICE, i % 2 ? "cpu\n" : "disk\n");
		expect_fact(&f, "model.layers.0", BMI_MODULE_DEVICE, "cpu\n");
	}
	assert_int_equal(finish(&f, turn, got, sizeof(got)), 0);
	assert_string_equal(got, want);
	close_fix(&f);
}

static void test_tied_modules(void **state)
{
	struct bmi_error err;
	struct fix f;

	open_with(&f, &(struct bmi_engine_options){ .model_path = TIED_MODEL, .dtype = "float32" });
	assert_int_equal(set_module(&f, "lm_head", "disk", &err), 0);
	expect_fact(&f, "lm_head", BMI_MODULE_DEVICE, "disk\n");
	expect_fact(&f, "model.embed_tokens", BMI_MODULE_DEVICE, "disk\n");
	expect_fact(&f, "lm_head", BMI_MODULE_BYTES, "0\n");
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "\"\": cpu\nlm_head: disk\nmodel.embed_tokens: disk\n");
	assert_int_equal(set_module(&f, "model.embed_tokens", "cpu", &err), 0);
	expect_fact(&f, "lm_head", BMI_MODULE_DEVICE, "cpu\n");
	expect_report(&f, BMI_REPORT_DEVICE_MAP, "\"\": cpu\n");
	close_fix(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_modules),
		cmocka_unit_test(test_module_refusals),
		cmocka_unit_test(test_module_moves_while_generating),
		cmocka_unit_test(test_tied_modules),
	};

	return cmocka_run_group_tests_name("modules", tests, load_reference, NULL);
}

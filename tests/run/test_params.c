/* SPDX-License-Identifier: Apache-2.0 */
/* params/: every value that is accepted reads back, every other one is refused with its errno and changes nothing. */
#include "run/params.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

struct set_case {
	const char *name, *text;
	int code;
	const char *reads; /* afterwards */
};

static const struct set_case set_cases[] = {
	{ "temperature", "0.7\n", 0, "0.7\n" },
	{ "temperature", "  1e-1 ", 0, "0.1\n" },
	{ "temperature", "hot", -EINVAL, "0\n" },
	{ "temperature", "nan", -EINVAL, "0\n" },
	{ "temperature", "0x1", -EINVAL, "0\n" },
	{ "temperature", "-1", -ERANGE, "0\n" },
	{ "temperature", "inf", -ERANGE, "0\n" },
	{ "temperature", "", -EINVAL, "0\n" },
	{ "top_p", "1.01", -ERANGE, "1\n" },
	{ "top_p", "0", 0, "0\n" },
	{ "top_k", "40", 0, "40\n" },
	{ "top_k", "1.5", -EINVAL, "0\n" },
	{ "max_tokens", "0", -ERANGE, "512\n" },
	{ "max_tokens", "7", 0, "7\n" },
	{ "seed", "random", 0, "random\n" },
	{ "seed", "-1", 0, "random\n" },
	{ "seed", "4611686018427387903", 0, "4611686018427387903\n" },
	{ "seed", "18446744073709551616", -ERANGE, "random\n" },
	{ "parse_special", "1", 0, "1\n" },
	{ "parse_special", "2", -ERANGE, "0\n" },
	{ "ignore_eos", "yes", -EINVAL, "0\n" },
	{ "template", "ids\n", 0, "ids\n" },
	{ "template", "chat", 0, "chat\n" },
	{ "template", "jinja", -EINVAL, "raw\n" },
	{ "stop", "###\nEND\n", 0, "###\nEND\n" },
	{ "stop", "a\\nb\\x41\\\\", 0, "a\\nbA\\\\\n" },
	{ "stop", "bad\\q", -EINVAL, "" },
	{ "stop", "bad\\", -EINVAL, "" },
	{ "stop", "\n\n", 0, "" },
	{ "presence_penalty", "-2", 0, "-2\n" },
	{ "frequency_penalty", "2.5", -ERANGE, "0\n" },
	{ "no_such", "1", -ENOENT, NULL },
};

static void test_set(void **state)
{
	for (size_t i = 0; i < sizeof(set_cases) / sizeof(set_cases[0]); i++) {
		const struct set_case *c = &set_cases[i];
		struct bmi_params p;
		struct bmi_str got = { 0 };
		struct bmi_error err = { 0 };

		bmi_params_init(&p, NULL);
		if (bmi_params_set(&p, c->name, c->text, strlen(c->text), &err) != c->code)
			fail_msg("%s = '%s': %s", c->name, c->text, err.msg);
		if (c->code)
			assert_true(err.code == c->code && err.msg[0]);
		if (c->reads) {
			assert_int_equal(bmi_params_get(&p, c->name, &got), 0);
			if (strcmp(got.bytes ? got.bytes : "", c->reads) != 0)
				fail_msg("%s = '%s' reads '%s'", c->name, c->text, got.bytes);
		}
		bmi_str_fini(&got);
	}
}

static void test_limits_of_stop(void **state)
{
	char text[4096];
	struct bmi_params p;
	struct bmi_error err = { 0 };

	bmi_params_init(&p, NULL);
	memset(text, 'x', sizeof(text));
	assert_int_equal(bmi_params_set(&p, "stop", text, BMI_MAX_STOP_BYTES + 1, &err), -EINVAL);
	assert_int_equal(bmi_params_set(&p, "stop", text, BMI_MAX_STOP_BYTES, &err), 0);
	assert_int_equal(p.stop[0].n, BMI_MAX_STOP_BYTES);
	for (int i = 0; i < 2 * (BMI_MAX_STOPS + 1); i += 2)
		text[i + 1] = '\n';
	assert_int_equal(bmi_params_set(&p, "stop", text, 2 * (BMI_MAX_STOPS + 1), &err), -ERANGE);
	assert_int_equal(p.n_stops, 1); /* the one from before */
	assert_int_equal(bmi_params_set(&p, "stop", text, 2 * BMI_MAX_STOPS, &err), 0);
	assert_int_equal(p.n_stops, BMI_MAX_STOPS);
}

static void init_from(const char *json, struct bmi_params *p)
{
	struct bmi_json_doc *doc;

	assert_int_equal(bmi_json_parse(json, strlen(json), &doc, NULL), 0);
	bmi_params_init(p, bmi_json_root(doc));
	bmi_json_free(doc);
}

static void test_generation_config(void **state)
{
	struct bmi_params p;

	init_from("{\"temperature\": 0.6, \"top_p\": 0.9}", &p);
	assert_true(p.temperature == 0 && p.top_p == 1); /* greedy: do_sample is not said */
	init_from("{\"do_sample\": true, \"temperature\": 0.6, \"top_p\": 0.9, \"top_k\": 64, "
		  "\"max_new_tokens\": 9}",
		  &p);
	assert_true(p.temperature == 0.6 && p.top_p == 0.9 && p.top_k == 64 && p.max_tokens == 9);
	init_from("{\"do_sample\": true, \"temperature\": -3, \"top_k\": \"many\", \"max_new_tokens\": 0}", &p);
	assert_true(p.temperature == 1 && p.top_k == 50 && p.max_tokens == 512); /* nonsense is not taken */
}

static void test_names(void **state)
{
	struct bmi_params p;
	unsigned n = 0;

	bmi_params_init(&p, NULL);
	for (const char *name; (name = bmi_params_name(n)); n++) {
		struct bmi_str got = { 0 };

		assert_int_equal(bmi_params_get(&p, name, &got), 0);
		/* what is read can be written */
		assert_int_equal(bmi_params_set(&p, name, got.bytes ? got.bytes : "", got.n, NULL), 0);
		bmi_str_fini(&got);
	}
	assert_true(n >= 9);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_set),
		cmocka_unit_test(test_limits_of_stop),
		cmocka_unit_test(test_generation_config),
		cmocka_unit_test(test_names),
	};

	return cmocka_run_group_tests_name("params", tests, NULL, NULL);
}

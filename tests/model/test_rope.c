/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotary frequencies against Transformers' own functions (data/model/rope.jsonl was made by running the functions of
 * modeling_rope_utils.py 5.23.0 on float32 arrays). Bound: each of at most 8 float32 operations behind a frequency rounds
 * once, and pow is good to 1 ulp: 16 ulp = 2^-20 relative.
 */
#include "arch/arch.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

#include "model/jsonl.h"

static void run_case(void **state)
{
	const struct bmi_json *row = *state, *want = bmi_json_get(row, "inv_freq")->child;
	bmi_auto(bmi_config) c = NULL;
	struct bmi_error err = { 0 };
	double attention_factor;

	if (bmi_config_read(bmi_json_get(row, "config"), bmi_arch_find, &c, &err) < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(c->rope_full.n_rot / 2, bmi_json_get(row, "inv_freq")->n);
	for (uint32_t i = 0; i < c->rope_full.n_rot / 2; i++, want = want->next) {
		double w;

		assert_true(bmi_json_to_double(want, &w));
		if (fabs(c->rope_full.inv_freq[i] - w) > 0x1p-20 * fabs(w))
			fail_msg("inv_freq[%u] is %.9g, not %.9g", i, (double)c->rope_full.inv_freq[i], w);
		assert_true(c->rope_sliding.inv_freq[i] == c->rope_full.inv_freq[i]);
	}
	assert_true(bmi_json_to_double(bmi_json_get(row, "attention_factor"), &attention_factor));
	assert_true(fabs(c->rope_full.attention_factor - attention_factor) <= 0x1p-23 * attention_factor);
}

int main(void)
{
	struct jsonl t = { 0 };

	jsonl_load(&t, "model/rope.jsonl", "name", run_case);
	return jsonl_run(&t, "model rope");
}

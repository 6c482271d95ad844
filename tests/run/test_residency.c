/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What residency gives a pass, against the values of a file written here: every stored type in every dtype in force, in
 * memory and streamed, with rings of all sizes, in order and out of it.
 */
#include "tests/run/residency_fixture.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

/* ---- every stored type in every dtype, everywhere ---- */

struct bytes_case {
	char name[64];
	enum bmi_dtype stored;
	enum place place;
	bool tied, warm;
	size_t staging;
};

static void test_bytes(void **state)
{
	static const enum bmi_dtype in_force[] = { BMI_F32, BMI_F16, BMI_BF16 };
	const struct bytes_case *c = *state;
	struct world w;

	world_init(&w, c->stored, in_force[0], c->tied, c->staging, 0);
	for (unsigned i = 0; i < 3; i++) {
		if (c->warm)
			fixture_warm(&w.fix);
		world_move(&w, c->place, in_force[i]);
		for (unsigned n = 0; n < 3; n++)
			world_counted_pass(&w);
	}
	world_fini(&w);
}

/* ---- streaming ---- */

static void test_many_blocks_in_a_tiny_ring(void **state)
{
	enum {
		STAGING = 2 * (2 * 4096 + 4096) + 4096
	}; /* two slots and what is converted: 2 rows of a matrix a block */
	struct world w;

	world_init(&w, BMI_F32, BMI_BF16, false, STAGING, 0);
	assert_int_equal(bmi_residency_pass_begin(w.res, &w.err), 0);
	assert_true(fixture_read(&w.fix, w.res, T_LAYER0 + 5, &w.err) > 4);
	bmi_residency_pass_end(w.res);
	assert_true(world_state(&w).staging_bytes > 0 && world_state(&w).staging_bytes <= STAGING);
	world_pass(&w);
	world_counted_pass(&w);
	world_fini(&w);
}

static void test_longest_row_always_fits(void **state)
{
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, true, 1, 0);
	world_counted_pass(&w);
	world_fini(&w);
}

static void test_all_of_it_fits_into_the_ring(void **state)
{
	struct world w;
	bmi_device map[N_TENSORS];

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_map(CPU, map);
	map[T_HEAD] = BMI_DEVICE_DISK; /* one block, and sixteen slots */
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	assert_int_equal(world_finish_move(&w), 0);
	for (unsigned i = 0; i < 5; i++)
		world_counted_pass(&w);
	world_fini(&w);
}

/* The order is only a promise of speed. */
static void test_consumers_that_leave_the_order(void **state)
{
	static const uint32_t order[] = { T_LAYER0 + 5,  T_LAYER0 + 1,  T_HEAD,
					  T_LAYER0 + 2,  T_LAYER0 + 2,  T_LAYER0 + 3,
					  T_LAYER0 + 14, T_LAYER0 + 13, T_LAYER0 };
	struct world w;

	for (size_t staging = 1; staging <= 1 << 20; staging *= 32) {
		world_init(&w, BMI_BF16, BMI_F32, false, staging, 0);
		for (unsigned round = 0; round < 3; round++) {
			assert_int_equal(bmi_residency_pass_begin(w.res, &w.err), 0);
			for (unsigned i = 0; i < sizeof(order) / sizeof(order[0]); i++)
				assert_true(fixture_read(&w.fix, w.res, order[i], &w.err) > 0);
			bmi_residency_pass_end(w.res);
		}
		world_pass(&w);
		world_counted_pass(&w);
		world_fini(&w);
	}
}

static void test_pass_given_up_within_a_tensor(void **state)
{
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 64 << 10, 0);
	for (unsigned i = 0; i < 3; i++) {
		struct bmi_rows rows = { 0 };

		assert_int_equal(bmi_residency_pass_begin(w.res, &w.err), 0);
		assert_true(fixture_read(&w.fix, w.res, T_LAYER0, &w.err) > 0);
		assert_int_equal(bmi_residency_next_rows(w.res, T_LAYER0 + 1, &rows, &w.err), 1);
		if (i == 1)
			bmi_residency_pass_end(w.res);
	}
	world_pass(&w);
	world_counted_pass(&w);
	world_fini(&w);
}

static void test_head_skipped(void **state)
{
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 64 << 10, 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(bmi_residency_pass_begin(w.res, &w.err), 0);
		for (uint32_t t = T_LAYER0; t <= T_FINAL; t++)
			assert_true(fixture_read(&w.fix, w.res, t, &w.err) > 0);
		bmi_residency_pass_end(w.res);
	}
	world_pass(&w);
	world_fini(&w);
}

static void test_reading_is_named(void **state)
{
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_pass(&w);
	assert_true(strncmp(world_state(&w).io, "io_uring", 8) == 0 ||
		    strncmp(world_state(&w).io, "pread", 5) == 0);
	world_fini(&w);
}

/* ---- all of them ---- */

static const struct CMUnitTest plain_tests[] = {
	cmocka_unit_test(test_many_blocks_in_a_tiny_ring),
	cmocka_unit_test(test_longest_row_always_fits),
	cmocka_unit_test(test_all_of_it_fits_into_the_ring),
	cmocka_unit_test(test_consumers_that_leave_the_order),
	cmocka_unit_test(test_pass_given_up_within_a_tensor),
	cmocka_unit_test(test_head_skipped),
	cmocka_unit_test(test_reading_is_named),
};

int main(void)
{
	static const enum bmi_dtype stored[] = { BMI_F32, BMI_F16, BMI_BF16, BMI_Q8_0 };
	static const char *const place_name[N_PLACES] = { "cpu", "disk", "even layers on cpu",
							  "odd layers on cpu", "split layers" };
	enum { N_BYTES = 4 * 2 * N_PLACES, N_PLAIN = sizeof(plain_tests) / sizeof(plain_tests[0]) };
	static struct bytes_case cases[N_BYTES];
	static struct CMUnitTest tests[N_BYTES + N_PLAIN];

	for (unsigned i = 0; i < N_BYTES; i++) {
		struct bytes_case *c = &cases[i];

		c->stored = stored[i / 2 % 4];
		c->place = i / 8;
		c->warm = i % 2;
		c->tied = i / 2 % 3 == 0;
		c->staging = i / 4 % 2 ? 0 : 20 << 10;
		snprintf(c->name, sizeof(c->name), "%s%s, %s, %s ring, %s", bmi_dtype_name(c->stored),
			 c->tied ? " tied" : "", place_name[c->place], c->staging ? "small" : "default",
			 c->warm ? "cached" : "cold");
		tests[i] = (struct CMUnitTest){ .name = c->name, .test_func = test_bytes, .initial_state = c };
	}
	memcpy(tests + N_BYTES, plain_tests, sizeof(plain_tests));
	return _cmocka_run_group_tests("residency", tests, N_BYTES + N_PLAIN, NULL, NULL);
}

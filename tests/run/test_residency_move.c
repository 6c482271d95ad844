/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Moves of residency in every direction, the limit at every moment, and what happens when reading or memory fails.
 * Failures are injected by the linker's --wrap: bmi_disk_wait() is what every read of a layer ends in, aligned_alloc()
 * makes the buffers of small tensors.
 */
#include "tests/run/residency_fixture.h"

#include "backend/disk/disk.h"

#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

/* ---- failures on demand ---- */

static atomic_bool none_cached;
static atomic_int waits_left, allocs_left; /* the call that makes it 0 fails; never set: 0 stays away from 0 */

int __real_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err);
int __wrap_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err);
bool __real_bmi_disk_is_cached(const struct bmi_extent *ext);
bool __wrap_bmi_disk_is_cached(const struct bmi_extent *ext);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);

int __wrap_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err)
{
	const int r = __real_bmi_disk_wait(disk, slot, ret, err);

	return atomic_fetch_sub(&waits_left, 1) == 1 ? bmi_fail(err, -EIO, "the device failed") : r;
}

/* What is in the page cache is not waited for, and a file system in memory has everything there. */
bool __wrap_bmi_disk_is_cached(const struct bmi_extent *ext)
{
	return !atomic_load(&none_cached) && __real_bmi_disk_is_cached(ext);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
	return atomic_fetch_sub(&allocs_left, 1) == 1 ? NULL : __real_aligned_alloc(align, n);
}

/* ---- moves ---- */

static void test_every_move(void **state)
{
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, true, 32 << 10, 0);
	for (unsigned from = 0; from < N_PLACES; from++)
		for (unsigned to = 0; to < N_PLACES; to++) {
			world_move(&w, from, BMI_BF16);
			world_move(&w, to, BMI_BF16);
			world_counted_pass(&w);
		}
	world_move(&w, DISK, BMI_BF16);
	assert_int_equal(world_state(&w).cpu_bytes, 0);
	world_fini(&w);
}

static void test_move_to_where_it_is(void **state)
{
	struct world w;
	bmi_device map[N_TENSORS];

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_move(&w, EVEN, BMI_BF16);
	world_map(EVEN, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	assert_int_equal(world_state(&w).move_todo_bytes, 0);
	assert_int_equal(world_state(&w).move_todo_layers, 0);
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0);
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0);
	world_fini(&w);
}

struct moving {
	struct world *w;
	unsigned n_steps;
	int r;
};

static int step_between(void *ctx, uint32_t layer)
{
	struct moving *m = ctx;
	struct bmi_error err = { 0 };

	if (m->r == 1) {
		m->r = bmi_residency_move_step(m->w->res, &err);
		m->n_steps++;
	}
	return m->r < 0 ? m->r : 0;
}

static void test_moves_within_passes(void **state)
{
	static const enum place route[] = { CPU, EVEN, ODD, DISK, INSIDE, CPU, DISK };
	bmi_device map[N_TENSORS];
	struct world w;

	world_init(&w, BMI_F32, BMI_F16, false, 24 << 10, 0);
	for (unsigned i = 0; i < sizeof(route) / sizeof(route[0]); i++) {
		struct moving m = { &w, 0, 1 };

		world_map(route[i], map);
		assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_F16, &w.err), 0);
		while (m.r == 1)
			assert_int_equal(fixture_pass(&w.fix, w.res, step_between, &m, &w.err), 0);
		assert_int_equal(m.r, 0);
		assert_true(m.n_steps > 1);
		world_assert_at(&w, map);
		world_counted_pass(&w);
	}
	world_fini(&w);
}

static void test_dtype_moves(void **state)
{
	static const enum bmi_dtype route[] = { BMI_F16, BMI_F32, BMI_BF16, BMI_F16, BMI_BF16, BMI_F32 };
	struct world w;

	world_init(&w, BMI_F32, BMI_BF16, true, 0, 0);
	for (unsigned i = 0; i < sizeof(route) / sizeof(route[0]); i++) {
		world_move(&w, i % N_PLACES, route[i]);
		world_counted_pass(&w); /* a value rounded twice would differ */
	}
	world_fini(&w);
}

static void test_cancel_between_layers(void **state)
{
	bmi_device map[N_TENSORS], now[N_TENSORS];
	unsigned n_cpu = 0;
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(bmi_residency_move_step(w.res, &w.err), 1);
	bmi_residency_move_cancel(w.res);
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0);
	bmi_residency_devices(w.res, now);
	for (uint32_t t = 0; t < N_TENSORS; t++)
		n_cpu += now[t] == BMI_DEVICE_CPU;
	assert_int_equal(n_cpu, 1 + 2 * PER_LAYER); /* the embedding and two layers */
	world_counted_pass(&w);
	world_move(&w, CPU, BMI_BF16);
	world_fini(&w);
}

static void test_new_target_during_a_move(void **state)
{
	bmi_device map[N_TENSORS];
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 1);
	world_move(&w, ODD, BMI_F32);
	world_counted_pass(&w);
	world_fini(&w);
}

static void test_refused_targets_change_nothing(void **state)
{
	bmi_device map[N_TENSORS], before[N_TENSORS];
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_move(&w, EVEN, BMI_BF16);
	bmi_residency_devices(w.res, before);
	world_map(CPU, map);
	map[5] = 0;
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), -ENODEV);
	assert_non_null(strstr(w.err.msg, w.fix.names[5]));
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_F64, &w.err), -EOPNOTSUPP);
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0);
	world_assert_at(&w, before);
	world_counted_pass(&w);
	world_fini(&w);
}

static void test_what_cannot_be_loaded_is_refused_at_once(void **state)
{
	struct bmi_residency *res = NULL;
	struct bmi_error err = { 0 };
	struct fixture fix;

	fixture_init(&fix, BMI_BF16, false);
	const struct bmi_residency_options opt = { .skel = &fix.skel, .source = fix.source, .cpu = fix.cpu };

	assert_int_equal(bmi_residency_new(&opt, BMI_I8, &res, &err), -EOPNOTSUPP);
	fix.stored[T_FINAL].dtype = BMI_I32;
	assert_int_equal(bmi_residency_new(&opt, BMI_BF16, &res, &err), -EOPNOTSUPP);
	assert_non_null(strstr(err.msg, "norm.weight"));
	fix.stored[T_FINAL].dtype = BMI_F32;
	fix.stored[T_FINAL].extent.len -= 4;
	assert_int_equal(bmi_residency_new(&opt, BMI_BF16, &res, &err), -EINVAL);
	fix.source[T_FINAL] = NULL;
	assert_int_equal(bmi_residency_new(&opt, BMI_BF16, &res, &err), -EINVAL);
	assert_null(res);
	bmi_residency_free(NULL);
	fixture_fini(&fix);
}

/* ---- the limit ---- */

struct sampler {
	struct bmi_residency *res;
	atomic_bool stop;
	uint64_t most;
	unsigned n;
};

/* What another thread sees at any moment. */
static void *sample(void *arg)
{
	struct sampler *s = arg;
	bmi_device now[N_TENSORS];

	while (!atomic_load(&s->stop) || s->n < 10) {
		struct bmi_residency_state state;

		bmi_residency_state(s->res, &state);
		bmi_residency_devices(s->res, now);
		if (state.cpu_bytes + state.staging_bytes > s->most)
			s->most = state.cpu_bytes + state.staging_bytes;
		s->n++;
	}
	return NULL;
}

static void test_limit_holds_at_every_moment(void **state)
{
	enum { STAGING = 256 << 10 };
	static const enum place route[] = { EVEN, ODD, DISK, ODD, EVEN, INSIDE, EVEN, DISK };
	bmi_device map[N_TENSORS];
	struct bmi_residency_need need;
	struct sampler s = { 0 };
	pthread_t thread;
	uint64_t limit = 0;
	struct world w;

	world_init(&w, BMI_BF16, BMI_F32, false, STAGING, 0);
	for (unsigned i = 0; i < sizeof(route) / sizeof(route[0]); i++) {
		world_map(route[i], map);
		bmi_residency_need(w.res, map, BMI_F32, &need);
		if (need.cpu_bytes + need.staging_bytes > limit)
			limit = need.cpu_bytes + need.staging_bytes;
	}
	world_fini(&w);

	limit += N_TENSORS * 4096; /* each buffer is whole pages */
	world_init(&w, BMI_BF16, BMI_F32, false, STAGING, limit);
	s.res = w.res;
	assert_int_equal(pthread_create(&thread, NULL, sample, &s), 0);
	for (unsigned i = 0; i < sizeof(route) / sizeof(route[0]); i++) {
		struct moving m = { &w, 0, 1 };

		world_map(route[i], map);
		assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_F32, &w.err), 0);
		while (m.r == 1)
			assert_int_equal(fixture_pass(&w.fix, w.res, step_between, &m, &w.err), 0);
		world_counted_pass(&w);
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	assert_true(s.most <= limit);
	assert_true(s.most > limit / 2);
	world_fini(&w);
}

static void test_never_two_copies(void **state)
{
	bmi_device map[N_TENSORS];
	struct bmi_residency_need need;
	struct sampler s = { 0 };
	pthread_t thread;
	struct world w;

	world_init(&w, BMI_F32, BMI_BF16, false, 64 << 10, 0);
	world_map(CPU, map);
	bmi_residency_need(w.res, map, BMI_BF16, &need);
	assert_int_equal(need.disk_bytes, 0);
	assert_int_equal(need.staging_bytes, 0);
	s.res = w.res;
	assert_int_equal(pthread_create(&thread, NULL, sample, &s), 0);
	for (unsigned i = 0; i < 4; i++) {
		world_move(&w, CPU, BMI_BF16);
		assert_true(world_state(&w).cpu_bytes >= need.cpu_bytes);
		world_move(&w, CPU, BMI_F16);
		world_move(&w, DISK, BMI_F16);
	}
	atomic_store(&s.stop, true);
	pthread_join(thread, NULL);
	assert_true(s.most <= need.cpu_bytes + N_TENSORS * 4096 + (64 << 10));
	world_fini(&w);
}

static void test_too_much_is_refused_with_numbers(void **state)
{
	bmi_device map[N_TENSORS];
	struct bmi_residency_need need;
	struct world w;
	char text[32];

	world_init(&w, BMI_BF16, BMI_BF16, false, 64 << 10, 200 << 10);
	world_map(CPU, map);
	bmi_residency_need(w.res, map, BMI_F32, &need);
	assert_true(need.cpu_bytes > 200 << 10);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_F32, &w.err), -ENOMEM);
	snprintf(text, sizeof(text), "%d", 200 << 10);
	assert_non_null(strstr(w.err.msg, text));
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0);
	world_map(DISK, map);
	world_assert_at(&w, map);
	world_move(&w, EVEN, BMI_BF16);
	world_counted_pass(&w);
	world_fini(&w);
}

/* With no room for staging at all, a load goes through the smallest bounce there is. */
static void test_everything_fits_exactly(void **state)
{
	bmi_device map[N_TENSORS];
	struct sampler s = { 0 };
	pthread_t thread;
	uint64_t limit;
	struct world w;

	world_init(&w, BMI_F32, BMI_BF16, false, 0, 0);
	world_map(CPU, map);
	world_move(&w, CPU, BMI_BF16);
	limit = world_state(&w).cpu_bytes;
	world_fini(&w);
	for (uint64_t extra = 0; extra <= N_TENSORS * 4096; extra += N_TENSORS * 2048) {
		world_init(&w, BMI_F32, BMI_BF16, false, 0, limit + extra);
		if (bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err) == 0) {
			struct moving m = { &w, 0, 1 };

			s = (struct sampler){ .res = w.res };
			assert_int_equal(pthread_create(&thread, NULL, sample, &s), 0);
			while (m.r == 1)
				assert_int_equal(fixture_pass(&w.fix, w.res, step_between, &m, &w.err), 0);
			atomic_store(&s.stop, true);
			pthread_join(thread, NULL);
			assert_true(s.most <= limit + extra + (64 << 10));
			world_counted_pass(&w);
		} else {
			assert_true(extra < N_TENSORS * 4096);
		}
		world_fini(&w);
	}
}

/* ---- failures ---- */

/* One layer fails to load: it is on disk, what was there before stays, and a later target works. */
static void check_failed_load(atomic_int *left, int at, int code)
{
	bmi_device map[N_TENSORS], now[N_TENSORS];
	uint32_t n_layers_on_disk = 0, n_split = 0;
	struct world w;

	atomic_store(&none_cached, true);
	world_init(&w, BMI_F32, BMI_BF16, false, 64 << 10, 0);
	world_move(&w, EVEN, BMI_BF16);
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	atomic_store(left, at);
	assert_int_equal(world_finish_move(&w), code);
	atomic_store(left, 0);
	assert_non_null(strstr(w.err.msg, "layers."));
	assert_int_equal(bmi_residency_move_step(w.res, &w.err), 0); /* the target is forgotten */
	bmi_residency_devices(w.res, now);
	for (uint32_t layer = 0; layer < N_LAYERS; layer++) {
		uint32_t n = 0;

		for (uint32_t i = 0; i < PER_LAYER; i++)
			n += now[T_LAYER0 + layer * PER_LAYER + i] == BMI_DEVICE_DISK;
		n_layers_on_disk += n == PER_LAYER;
		n_split += n && n < PER_LAYER;
		if (layer % 2 == 0)
			assert_int_equal(n, 0);
	}
	assert_int_equal(n_split, 0);
	assert_true(n_layers_on_disk == 1 || n_layers_on_disk == 2);
	assert_int_equal(world_state(&w).staging_bytes, 0);
	world_counted_pass(&w);
	world_move(&w, CPU, BMI_BF16);
	world_counted_pass(&w);
	atomic_store(&none_cached, false);
	world_fini(&w);
}

static void test_read_fails_during_a_move(void **state)
{
	for (int at = 1; at <= 8;
	     at++) /* 6 tensors of a layer, the last in two pieces: of both layers that load */
		check_failed_load(&waits_left, at, -EIO);
}

static void test_memory_fails_during_a_move(void **state)
{
	for (int at = 1; at <= 8; at++)
		check_failed_load(&allocs_left, at, -ENOMEM);
}

static void test_read_fails_during_a_dtype_move(void **state)
{
	struct world w;
	bmi_device map[N_TENSORS];

	atomic_store(&none_cached, true);
	world_init(&w, BMI_F32, BMI_BF16, false, 0, 0);
	world_move(&w, CPU, BMI_BF16);
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_F16, &w.err), 0);
	atomic_store(&waits_left, 12);
	assert_int_equal(world_finish_move(&w), -EIO);
	assert_int_equal(world_state(&w).dtype, BMI_F16);
	world_counted_pass(&w); /* everything in the new dtype, part of it from disk */
	world_move(&w, CPU, BMI_F32);
	world_counted_pass(&w);
	atomic_store(&none_cached, false);
	world_fini(&w);
}

static void test_read_fails_during_a_pass(void **state)
{
	struct world w;

	atomic_store(&none_cached, true);
	world_init(&w, BMI_BF16, BMI_F32, false, 48 << 10, 0);
	world_pass(&w);
	for (int at = 1; at < 40; at += 7) {
		atomic_store(&waits_left, at);
		assert_int_equal(fixture_pass(&w.fix, w.res, NULL, NULL, &w.err), -EIO);
		assert_non_null(strstr(w.err.msg, "model.safetensors"));
		atomic_store(&waits_left, 0);
		world_pass(&w);
		world_counted_pass(&w);
	}
	atomic_store(&none_cached, false);
	world_fini(&w);
}

static int cut_file(void *ctx, uint32_t layer)
{
	const struct fixture *fix = ctx;

	return layer == 1 ? ftruncate(fix->fd, (off_t)fix->stored[T_LAYER0 + 2 * PER_LAYER].extent.off) : 0;
}

static void check_file_shrinks(bool warm)
{
	bmi_device map[N_TENSORS];
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 24 << 10, 0);
	world_pass(&w);
	if (warm)
		fixture_warm(&w.fix);
	assert_int_equal(fixture_pass(&w.fix, w.res, cut_file, &w.fix, &w.err), -EIO);
	assert_non_null(strstr(w.err.msg, "the file ends at byte"));
	assert_non_null(strstr(w.err.msg, "layers."));
	assert_int_equal(fixture_pass(&w.fix, w.res, NULL, NULL, &w.err), -EIO);
	assert_non_null(strstr(w.err.msg, "'model.safetensors' has"));
	world_map(CPU, map);
	assert_int_equal(bmi_residency_move_begin(w.res, map, BMI_BF16, &w.err), 0);
	assert_int_equal(world_finish_move(&w), -EIO);
	world_map(DISK, map);
	world_assert_at(&w, map);
	world_fini(&w);
}

static void test_file_shrinks(void **state)
{
	check_file_shrinks(false);
	check_file_shrinks(true);
}

static void test_file_is_rewritten(void **state)
{
	const struct timespec then[2] = { { 1, 0 }, { 1, 0 } };
	struct world w;

	world_init(&w, BMI_BF16, BMI_BF16, false, 0, 0);
	world_move(&w, CPU, BMI_BF16);
	assert_int_equal(futimens(w.fix.fd, then), 0);
	assert_int_equal(fixture_pass(&w.fix, w.res, NULL, NULL, &w.err), -EIO);
	assert_non_null(strstr(w.err.msg, "written to"));
	world_fini(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_every_move),
		cmocka_unit_test(test_move_to_where_it_is),
		cmocka_unit_test(test_moves_within_passes),
		cmocka_unit_test(test_dtype_moves),
		cmocka_unit_test(test_cancel_between_layers),
		cmocka_unit_test(test_new_target_during_a_move),
		cmocka_unit_test(test_refused_targets_change_nothing),
		cmocka_unit_test(test_what_cannot_be_loaded_is_refused_at_once),
		cmocka_unit_test(test_limit_holds_at_every_moment),
		cmocka_unit_test(test_never_two_copies),
		cmocka_unit_test(test_too_much_is_refused_with_numbers),
		cmocka_unit_test(test_everything_fits_exactly),
		cmocka_unit_test(test_read_fails_during_a_move),
		cmocka_unit_test(test_memory_fails_during_a_move),
		cmocka_unit_test(test_read_fails_during_a_dtype_move),
		cmocka_unit_test(test_read_fails_during_a_pass),
		cmocka_unit_test(test_file_shrinks),
		cmocka_unit_test(test_file_is_rewritten),
	};

	return cmocka_run_group_tests_name("moves", tests, NULL, NULL);
}

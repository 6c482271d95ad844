/* SPDX-License-Identifier: Apache-2.0 */
/* The pool under many short runs: each item exactly once, results visible to the caller, sleepers woken, more threads than
 * CPUs, none at all. Run under TSan too. */
#include "backend/cpu/pool.h"
#include "backend/cpu/cpu.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <cmocka.h>

enum { ITEMS = 257 };

struct run {
	uint32_t counts[ITEMS]; /* plain: the pool's own ordering must make them safe */
	unsigned n_threads;
	bool bad_thread;
};

static void count_item(void *arg, uint32_t i, unsigned thread)
{
	struct run *r = arg;

	r->counts[i]++;
	if (thread >= r->n_threads)
		r->bad_thread = true;
}

static void many_runs(unsigned n_threads, unsigned n_runs)
{
	struct bmi_pool *pool;
	struct run r = { .n_threads = n_threads };
	uint32_t want[ITEMS] = { 0 };

	assert_int_equal(bmi_pool_new(n_threads, &pool, NULL), 0);
	assert_int_equal(bmi_pool_threads(pool), n_threads);
	for (unsigned i = 0; i < n_runs; i++) {
		const uint32_t n = i % (ITEMS + 1);

		bmi_pool_run(pool, count_item, &r, n);
		for (uint32_t j = 0; j < n; j++)
			want[j]++;
		assert_memory_equal(r.counts, want, sizeof(want));
	}
	assert_false(r.bad_thread);
	bmi_pool_free(pool);
}

static void one_thread(void **state)
{
	many_runs(1, 600);
}

static void two_threads(void **state)
{
	many_runs(2, 20000);
}

static void more_than_cpus(void **state)
{
	many_runs(23, 3000);
}

static void starts_and_stops(void **state)
{
	for (unsigned i = 0; i < 200; i++) {
		struct bmi_pool *pool;

		assert_int_equal(bmi_pool_new(1 + i % 5, &pool, NULL), 0);
		bmi_pool_free(pool);
	}
	bmi_pool_free(NULL);
}

static uint64_t cpu_time_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static void sleep_ms(unsigned ms)
{
	const struct timespec ts = { 0, (long)ms * 1000000 };

	nanosleep(&ts, NULL);
}

/* CPU time, not wall time: other work on the machine does not show. Spinning on would cost the whole 200 ms, four times. */
static void sleeps_when_idle(void **state)
{
	struct run r = { .n_threads = 5 };
	struct bmi_pool *pool;
	uint64_t before;

	assert_int_equal(bmi_pool_new(5, &pool, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		bmi_pool_run(pool, count_item, &r, ITEMS); /* wakes them again */
		sleep_ms(2);
	}
	assert_int_equal(r.counts[ITEMS - 1], 20);
	sleep_ms(20);
	before = cpu_time_ns();
	sleep_ms(200);
	assert_true(cpu_time_ns() - before < 50000000);
	bmi_pool_free(pool);
}

static void add_one(void *arg, uint32_t i)
{
	((uint32_t *)arg)[i]++;
}

static void opens_a_device(void **state)
{
	struct bmi_dev *dev = NULL;
	struct bmi_error err;
	uint32_t n[100] = { 0 };

	assert_int_equal(bmi_cpu_open(2, "sse9", &dev, &err), -EINVAL);
	assert_null(dev);
	assert_non_null(strstr(err.msg, "sse9"));
	assert_int_equal(bmi_cpu_open(100000, NULL, &dev, &err), -EINVAL);
	assert_int_equal(bmi_cpu_open(3, "ref", &dev, &err), 0);
	assert_string_equal(bmi_cpu_describe(dev), "ref, 3 threads");
	bmi_cpu_parallel(dev, add_one, n, 100);
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(n[i], 1);
	bmi_backend_cpu.close(dev);
	setenv("BMIFS_CPU", "ref", 1);
	assert_int_equal(bmi_cpu_open(1, NULL, &dev, &err), 0);
	assert_string_equal(bmi_cpu_describe(dev), "ref, 1 thread");
	bmi_backend_cpu.close(dev);
	setenv("BMIFS_CPU", "mmx", 1);
	assert_int_equal(bmi_cpu_open(1, NULL, &dev, &err), -EINVAL);
	unsetenv("BMIFS_CPU");
	bmi_backend_cpu.close(NULL);
}

/* Every size class: aligned, writable to the end, accounted at no less than asked and not much more. */
static void holds_buffers(void **state)
{
	static const size_t sizes[] = { 0,      1,       63,      64,      4097,    262143,
					262144, 2097151, 2097152, 5000001, 33554432 };
	struct bmi_dev *dev;
	struct bmi_error err;
	struct bmi_buf buf;

	assert_int_equal(bmi_cpu_open(1, NULL, &dev, NULL), 0);
	for (unsigned i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		char back[7] = "";

		assert_int_equal(bmi_backend_cpu.alloc(dev, sizes[i], &buf, NULL), 0);
		assert_int_equal((uintptr_t)buf.data % 64, 0);
		assert_int_equal(buf.size, sizes[i]);
		assert_true(buf.reserved >= sizes[i] && buf.reserved < sizes[i] + 4096);
		memset(buf.data, 1, sizes[i]);
		if (sizes[i] > 7) {
			char *end = (char *)buf.data + sizes[i] - 7;

			assert_int_equal(bmi_backend_cpu.upload(dev, end, "abcdef", 7, NULL), 0);
			assert_int_equal(bmi_backend_cpu.download(dev, back, end, 7, NULL), 0);
			assert_string_equal(back, "abcdef");
		}
		bmi_backend_cpu.release(dev, &buf);
		assert_null(buf.data);
		assert_int_equal(buf.size + buf.reserved, 0);
		bmi_backend_cpu.release(dev, &buf);
	}
	assert_int_equal(bmi_backend_cpu.alloc(dev, SIZE_MAX - 5, &buf, &err), -ENOMEM);
	assert_non_null(strstr(err.msg, "18446744073709551610"));
	assert_int_equal(bmi_backend_cpu.alloc(dev, (size_t)1 << 60, &buf, &err), -ENOMEM);
	bmi_backend_cpu.close(dev);
}

static void refuses_wrong_ops(void **state)
{
	const struct bmi_ops *ops = bmi_backend_cpu.ops;
	float x[64] = { 0 }, y[64] = { 0 };
	uint32_t id = 4, pos = 0;
	struct bmi_kv_table kv = { 0 };
	const struct bmi_mat table = { x, BMI_F32, 4, 8, 32 }, ints = { x, BMI_I32, 4, 8, 32 };
	const struct bmi_rope rope = { x, 10, 1.0f, false };
	struct bmi_attn a = { y, x, &kv, &pos, 1, 3, 2, 8, 0, 1.0f, 0, BMI_F32 };
	struct bmi_dev *dev;

	assert_int_equal(bmi_cpu_open(1, NULL, &dev, NULL), 0);
	assert_int_equal(ops->embed(dev, y, 8, &table, &id, 1, 1.0f), -EINVAL);
	assert_int_equal(ops->embed(dev, y, 8, &ints, &pos, 1, 1.0f), -EOPNOTSUPP);
	assert_int_equal(ops->matmul(dev, y, 4, &ints, x, 8, 1), -EOPNOTSUPP);
	assert_int_equal(ops->rope(dev, y, 8, &rope, &pos, 1, 1, 8), -EINVAL);
	assert_int_equal(ops->attention(dev, &a), -EINVAL);
	assert_int_equal(ops->matmul(dev, y, 4, &table, x, 8, 0), 0);
	bmi_backend_cpu.close(dev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_thread),       cmocka_unit_test(two_threads),
		cmocka_unit_test(more_than_cpus),   cmocka_unit_test(starts_and_stops),
		cmocka_unit_test(sleeps_when_idle), cmocka_unit_test(opens_a_device),
		cmocka_unit_test(holds_buffers),    cmocka_unit_test(refuses_wrong_ops),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

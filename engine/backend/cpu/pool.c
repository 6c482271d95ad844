/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the worker threads of the CPU tier and nothing they compute.
 *
 * `state` says whether a run is open and how many workers are inside it. A worker may enter only while it is open, and the
 * caller, when the items are gone, closes it and waits for those inside; fn, arg and n therefore change only while nobody
 * is inside. `epoch` is only the bell: a worker that hears it late finds the run closed and goes back to waiting.
 * Invariant: outside bmi_pool_run() state is 0.
 */
#include "backend/cpu/pool.h"

#include "base/checked.h"

#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>

enum {
	STATE_OPEN = 1u << 30,
	STATE_WAITED = 1u << 29, /* the caller sleeps on state: whoever leaves last wakes it */
	STATE_COUNT = STATE_WAITED - 1,
	SPIN_NS = 100000, /* longer than the gap between two products of one layer, shorter than anybody notices */
	SPIN_BURST = 64, /* pauses between two looks at the clock */
};

struct bmi_pool {
	_Alignas(64) atomic_uint epoch; /* futex word of the workers */
	atomic_uint n_asleep;           /* workers in futex(2) on epoch, or about to be */
	atomic_bool stop;
	_Alignas(64) atomic_uint state; /* futex word of the caller */
	_Alignas(64) atomic_uint next;  /* the next item */
	_Alignas(64) bmi_pool_fn *fn;
	void *arg;
	uint32_t n;
	unsigned n_threads, n_started;
	struct seat {
		struct bmi_pool *pool;
		pthread_t tid;
		unsigned thread;
	} seats[];
};

#if defined(__x86_64__) || defined(__i386__)
static inline void relax(void)
{
	__builtin_ia32_pause();
}
#elif defined(__aarch64__)
static inline void relax(void)
{
	__asm__ volatile("yield");
}
#else
static inline void relax(void)
{
	__asm__ volatile("" ::: "memory");
}
#endif

static void futex_wait(atomic_uint *word, unsigned val)
{
	syscall(SYS_futex, word, FUTEX_WAIT_PRIVATE, val, NULL, NULL, 0);
}

static void futex_wake(atomic_uint *word, int n)
{
	syscall(SYS_futex, word, FUTEX_WAKE_PRIVATE, n, NULL, NULL, 0);
}

static uint64_t now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

static unsigned wait_epoch(struct bmi_pool *pool, unsigned seen)
{
	const uint64_t until = now_ns() + SPIN_NS;
	unsigned epoch;

	do {
		for (unsigned i = 0; i < SPIN_BURST; i++) {
			epoch = atomic_load_explicit(&pool->epoch, memory_order_acquire);
			if (epoch != seen)
				return epoch;
			relax();
		}
	} while (now_ns() < until);

	atomic_fetch_add(&pool->n_asleep, 1); /* seq_cst with the caller's epoch, or a wake could be lost */
	while ((epoch = atomic_load(&pool->epoch)) == seen)
		futex_wait(&pool->epoch, seen);
	atomic_fetch_sub(&pool->n_asleep, 1);
	return epoch;
}

static void work(struct bmi_pool *pool, unsigned thread)
{
	for (;;) {
		const uint32_t i = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);

		if (i >= pool->n)
			return;
		pool->fn(pool->arg, i, thread);
	}
}

static bool enter(struct bmi_pool *pool)
{
	unsigned state = atomic_load_explicit(&pool->state, memory_order_relaxed);

	while (state & STATE_OPEN)
		if (atomic_compare_exchange_weak_explicit(&pool->state, &state, state + 1,
							  memory_order_acquire, memory_order_relaxed))
			return true;
	return false;
}

static void leave(struct bmi_pool *pool)
{
	const unsigned state = atomic_fetch_sub_explicit(&pool->state, 1, memory_order_acq_rel) - 1;

	if (state == STATE_WAITED)
		futex_wake(&pool->state, 1);
}

static void *worker(void *p)
{
	struct seat *seat = p;
	struct bmi_pool *pool = seat->pool;
	unsigned seen = 0;

	for (;;) {
		seen = wait_epoch(pool, seen);
		if (atomic_load(&pool->stop))
			return NULL;
		if (enter(pool)) {
			work(pool, seat->thread);
			leave(pool);
		}
	}
}

static void ring(struct bmi_pool *pool)
{
	atomic_fetch_add(&pool->epoch, 1);
	if (atomic_load(&pool->n_asleep))
		futex_wake(&pool->epoch, INT_MAX);
}

/* Spins first: the items under way are of the size of those just done. */
static void wait_all_left(struct bmi_pool *pool)
{
	unsigned state = atomic_fetch_and_explicit(&pool->state, ~(unsigned)STATE_OPEN, memory_order_acq_rel) &
			 STATE_COUNT;
	const uint64_t until = state ? now_ns() + SPIN_NS : 0;

	while (state) {
		for (unsigned i = 0; state && i < SPIN_BURST; i++) {
			relax();
			state = atomic_load_explicit(&pool->state, memory_order_acquire);
		}
		if (state && now_ns() >= until)
			break;
	}
	if (!state)
		return;
	state = atomic_fetch_or_explicit(&pool->state, STATE_WAITED, memory_order_acq_rel) | STATE_WAITED;
	while (state != STATE_WAITED) {
		futex_wait(&pool->state, state);
		state = atomic_load_explicit(&pool->state, memory_order_acquire);
	}
	atomic_store_explicit(&pool->state, 0, memory_order_relaxed);
}

void bmi_pool_run(struct bmi_pool *pool, bmi_pool_fn *fn, void *arg, uint32_t n)
{
	if (n <= 1 || pool->n_threads == 1) {
		for (uint32_t i = 0; i < n; i++)
			fn(arg, i, 0);
		return;
	}
	pool->fn = fn;
	pool->arg = arg;
	pool->n = n;
	atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
	atomic_store_explicit(&pool->state, STATE_OPEN, memory_order_release);
	ring(pool);
	work(pool, 0);
	wait_all_left(pool);
}

/* Workers take no signals: those are the front's business. */
static int start_workers(struct bmi_pool *pool)
{
	sigset_t all, old;
	int r = 0;

	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	for (unsigned i = 1; i < pool->n_threads && r == 0; i++) {
		struct seat *seat = &pool->seats[i - 1];

		*seat = (struct seat){ .pool = pool, .thread = i };
		r = pthread_create(&seat->tid, /* attr= */ NULL, worker, seat);
		if (r == 0)
			pool->n_started++;
	}
	pthread_sigmask(SIG_SETMASK, &old, /* oldset= */ NULL);
	return -r;
}

int bmi_pool_new(unsigned n_threads, struct bmi_pool **ret, struct bmi_error *err)
{
	const size_t size = sizeof(struct bmi_pool) + n_threads * sizeof(struct seat);
	struct bmi_pool *pool = aligned_alloc(64, bmi_align_up(size, 64));
	int r;

	if (!pool)
		return bmi_fail(err, -ENOMEM, "pool of %u threads", n_threads);
	*pool = (struct bmi_pool){ .n_threads = n_threads };
	r = start_workers(pool);
	if (r < 0) {
		bmi_fail_errno(err, r, "start %u worker threads", n_threads - 1);
		bmi_pool_free(pool);
		return -EAGAIN;
	}
	*ret = pool;
	return 0;
}

void bmi_pool_free(struct bmi_pool *pool)
{
	if (!pool)
		return;
	atomic_store(&pool->stop, true);
	ring(pool);
	for (unsigned i = 0; i < pool->n_started; i++)
		pthread_join(pool->seats[i].tid, /* retval= */ NULL);
	free(pool);
}

unsigned bmi_pool_threads(const struct bmi_pool *pool)
{
	return pool->n_threads;
}

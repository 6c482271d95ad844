/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_POOL_H
#define BMI_BACKEND_CPU_POOL_H

#include "base/error.h"

#include <stdint.h>

/* Fork and join over a fixed set of threads; the caller is thread 0. */
struct bmi_pool;

/* Item @i of a run, on thread @thread < n_threads (its number picks its scratch memory). */
typedef void bmi_pool_fn(void *arg, uint32_t i, unsigned thread);

/**
 * bmi_pool_new() - start @n_threads - 1 workers (n_threads >= 1).
 *
 * Return: 0, -ENOMEM, -EAGAIN (a thread could not be started; none is left running).
 */
int bmi_pool_new(unsigned n_threads, struct bmi_pool **ret, struct bmi_error *err);

/** bmi_pool_free() - stop and join the workers. NULL is a no-op. */
void bmi_pool_free(struct bmi_pool *pool);

/**
 * bmi_pool_run() - call fn(arg, i, thread) once for each i < @n; returns when all are done.
 *
 * Items are handed out in rising order by a counter. One caller at a time, never from inside an item. A worker that
 * is asleep or descheduled when the caller runs out of items is not waited for: only items under way are. Costs no
 * system call unless a worker sleeps (it does after about 0.1 ms without work).
 */
void bmi_pool_run(struct bmi_pool *pool, bmi_pool_fn *fn, void *arg, uint32_t n);

unsigned bmi_pool_threads(const struct bmi_pool *pool);

#endif

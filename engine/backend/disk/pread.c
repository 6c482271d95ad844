/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns two threads that do pread(2) for machines without io_uring, and the two queues between them and the caller.
 * Two, because a disk is as fast with two reads of a megabyte in flight as with many, and slower with one.
 * Invariant: a read is in exactly one place: the todo queue, one thread's hands, or the done queue.
 */
#include "backend/disk/disk_priv.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

enum { N_THREADS = 2 };

struct done {
	uint32_t tag;
	int64_t res;
};

struct pread_engine {
	pthread_mutex_t lock;
	pthread_cond_t todo_some, done_some;
	bool stop; /* these under lock */
	uint32_t depth;
	uint32_t todo_at, n_todo, done_at, n_done;
	struct bmi_disk_op *todo; /* [depth], a ring */
	struct done *done;        /* [depth], a ring */
	unsigned n_threads;       /* the caller's */
	pthread_t thread[N_THREADS];
};

static void *pread_thread(void *arg)
{
	struct pread_engine *eng = arg;

	pthread_mutex_lock(&eng->lock);
	for (;;) {
		struct bmi_disk_op op;
		int64_t res;

		while (!eng->n_todo && !eng->stop)
			pthread_cond_wait(&eng->todo_some, &eng->lock);
		if (!eng->n_todo)
			break;
		op = eng->todo[eng->todo_at];
		eng->todo_at = (eng->todo_at + 1) % eng->depth;
		eng->n_todo--;
		pthread_mutex_unlock(&eng->lock);

		res = pread(op.fd, op.buf, op.len, (off_t)op.off);
		if (res < 0)
			res = -errno;

		pthread_mutex_lock(&eng->lock);
		eng->done[(eng->done_at + eng->n_done++) % eng->depth] = (struct done){ op.tag, res };
		pthread_cond_signal(&eng->done_some);
	}
	pthread_mutex_unlock(&eng->lock);
	return NULL;
}

static void pread_close(void *engine)
{
	struct pread_engine *eng = engine;

	if (!eng)
		return;
	pthread_mutex_lock(&eng->lock);
	eng->stop = true;
	pthread_cond_broadcast(&eng->todo_some);
	pthread_mutex_unlock(&eng->lock);
	while (eng->n_threads)
		pthread_join(eng->thread[--eng->n_threads], NULL);
	pthread_cond_destroy(&eng->todo_some);
	pthread_cond_destroy(&eng->done_some);
	pthread_mutex_destroy(&eng->lock);
	free(eng->todo);
	free(eng->done);
	free(eng);
}

static int pread_open(uint32_t depth, void **ret, struct bmi_error *err)
{
	struct pread_engine *eng = calloc(1, sizeof(*eng));
	sigset_t all, before;
	int r = 0;

	if (!eng)
		return bmi_fail(err, -ENOMEM, "no memory for reading threads");
	pthread_mutex_init(&eng->lock, NULL);
	pthread_cond_init(&eng->todo_some, NULL);
	pthread_cond_init(&eng->done_some, NULL);
	eng->depth = depth;
	eng->todo = calloc(depth, sizeof(*eng->todo));
	eng->done = calloc(depth, sizeof(*eng->done));
	if (!eng->todo || !eng->done) {
		pread_close(eng);
		return bmi_fail(err, -ENOMEM, "no memory for a queue of %u reads", depth);
	}
	sigfillset(&all); /* signals are for the threads that were there before */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	while (eng->n_threads < N_THREADS) {
		r = -pthread_create(&eng->thread[eng->n_threads], NULL, pread_thread, eng);
		if (r < 0)
			break;
		eng->n_threads++;
	}
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	if (!eng->n_threads) {
		pread_close(eng);
		return bmi_fail_errno(err, r, "start a reading thread");
	}
	*ret = eng;
	return 0;
}

static int pread_submit(void *engine, const struct bmi_disk_op *op)
{
	struct pread_engine *eng = engine;
	int r = -EBUSY;

	pthread_mutex_lock(&eng->lock);
	if (eng->n_todo < eng->depth) {
		eng->todo[(eng->todo_at + eng->n_todo++) % eng->depth] = *op;
		pthread_cond_signal(&eng->todo_some);
		r = 0;
	}
	pthread_mutex_unlock(&eng->lock);
	return r;
}

static int pread_reap(void *engine, uint32_t *ret_tag, int64_t *ret_res)
{
	struct pread_engine *eng = engine;

	pthread_mutex_lock(&eng->lock);
	while (!eng->n_done)
		pthread_cond_wait(&eng->done_some, &eng->lock);
	*ret_tag = eng->done[eng->done_at].tag;
	*ret_res = eng->done[eng->done_at].res;
	eng->done_at = (eng->done_at + 1) % eng->depth;
	eng->n_done--;
	pthread_mutex_unlock(&eng->lock);
	return 0;
}

const struct bmi_disk_engine bmi_disk_engine_pread = {
	.name = "pread",
	.open = pread_open,
	.submit = pread_submit,
	.reap = pread_reap,
	.close = pread_close,
};

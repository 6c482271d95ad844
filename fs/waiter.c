/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns requests that wait: a READ with nothing to read yet, a FLUSH whose layers are still moving. No libfuse thread
 * waits with them (ten would freeze the mount); the waker answers. Invariant: a waiter is on the list, or one thread
 * is about to answer it, never both; every request is answered once. Order that libfuse needs: off the list, take the
 * interrupt function away with no lock held, reply, free.
 */
#include "mount.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

struct bmi_fs_waiter {
	struct bmi_fs_waiter *prev, *next; /* under mnt->lock; next also links what one sweep answers */
	struct bmi_fs_mount *mnt;
	fuse_req_t req;
	struct bmi_fs_handle *h; /* a READ; the kernel sends no RELEASE before its answer. NULL: a FLUSH */
	size_t size;
	uint64_t off;
	uint64_t move;
	uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0: none */
	atomic_bool interrupted;
	int code;
	struct bmi_str text;
};

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

void bmi_fs_wake(struct bmi_fs_mount *mnt)
{
	const uint64_t one = 1;

	if (write(mnt->wake_fd, &one, sizeof(one)) < 0)
		return; /* the counter is full: it is awake */
}

/* Called by libfuse with the request locked: only a flag and a wake-up. */
static void on_interrupt(fuse_req_t req, void *ctx)
{
	struct bmi_fs_waiter *w = ctx;

	atomic_store(&w->interrupted, true);
	bmi_fs_wake(w->mnt);
}

/* Can it be answered? Fills code and text. mnt->lock is held. */
static bool try(struct bmi_fs_waiter *w, bool nonblock)
{
	const bool interrupted = atomic_load(&w->interrupted);
	struct bmi_error err;

	if (w->h) {
		w->code = bmi_fs_handle_read(w->h, w->size, w->off, nonblock, &w->text);
		if (interrupted)
			w->h->was_interrupted = true; /* even if bytes came just now: who closes next gave up */
	} else {
		w->code = bmi_engine_move(w->mnt->eng, w->move, &err);
	}
	if (w->code != -EAGAIN || nonblock)
		return true;
	if (interrupted) {
		w->code = -EINTR;
		return true;
	}
	if (w->deadline_ns && now_ns() >= w->deadline_ns) {
		/* The kernel would abort the whole mount. A read is tried again by its caller, a close is not: the move
		 * goes on and status tells. */
		w->code = w->h ? -EINTR : 0;
		return true;
	}
	return false;
}

static void reply(struct bmi_fs_waiter *w)
{
	if (w->code < 0 || !w->h)
		fuse_reply_err(w->req, -w->code);
	else
		fuse_reply_buf(w->req, w->text.bytes, w->text.n);
	bmi_str_fini(&w->text);
}

static void answer(struct bmi_fs_waiter *w)
{
	fuse_req_interrupt_func(w->req, /* func= */ NULL, /* data= */ NULL);
	reply(w);
	free(w);
}

static void link_waiter(struct bmi_fs_waiter *w)
{
	w->prev = NULL;
	w->next = w->mnt->waiters;
	if (w->next)
		w->next->prev = w;
	w->mnt->waiters = w;
}

static void unlink_waiter(struct bmi_fs_waiter *w)
{
	*(w->prev ? &w->prev->next : &w->mnt->waiters) = w->next;
	if (w->next)
		w->next->prev = w->prev;
}

/* Keep a request that could not be answered. The try after the interrupt function is set sees what came in between. */
static void park(const struct bmi_fs_waiter *from)
{
	struct bmi_fs_mount *mnt = from->mnt;
	struct bmi_fs_waiter *w = malloc(sizeof(*w));
	bool ready;

	if (!w) {
		fuse_reply_err(from->req, ENOMEM);
		return;
	}
	*w = (struct bmi_fs_waiter){
		.mnt = mnt,
		.req = from->req,
		.h = from->h,
		.size = from->size,
		.off = from->off,
		.move = from->move,
	};
	atomic_init(&w->interrupted, false);
	if (mnt->cap_ns)
		w->deadline_ns = now_ns() + mnt->cap_ns;
	fuse_req_interrupt_func(w->req, on_interrupt, w);
	pthread_mutex_lock(&mnt->lock);
	ready = try(w, /* nonblock= */ false);
	if (!ready)
		link_waiter(w);
	pthread_mutex_unlock(&mnt->lock);
	if (ready)
		answer(w);
	else if (mnt->cap_ns)
		bmi_fs_wake(mnt); /* the waker must learn of the deadline */
}

void bmi_fs_wait_read(struct bmi_fs_handle *h, fuse_req_t req, size_t size, uint64_t off, bool nonblock)
{
	struct bmi_fs_waiter w = { .mnt = h->mnt, .req = req, .h = h, .size = size, .off = off };
	bool ready;

	pthread_mutex_lock(&h->mnt->lock);
	h->was_interrupted = false;
	ready = try(&w, nonblock);
	pthread_mutex_unlock(&h->mnt->lock);
	if (ready)
		reply(&w);
	else
		park(&w);
}

void bmi_fs_wait_move(struct bmi_fs_mount *mnt, fuse_req_t req, uint64_t move)
{
	const struct bmi_fs_waiter w = { .mnt = mnt, .req = req, .move = move };

	park(&w);
}

/* Tell pollers whose file has become ready; each asks again. Taking the poll handle off makes the loop end. */
static void notify_pollers(struct bmi_fs_mount *mnt)
{
	enum { BATCH = 32 };
	struct fuse_pollhandle *ready[BATCH];
	unsigned n;

	do {
		n = 0;
		pthread_mutex_lock(&mnt->lock);
		for (struct bmi_fs_handle *h = mnt->handles; h && n < BATCH; h = h->next) {
			if (!h->poller || !bmi_fs_handle_poll(h))
				continue;
			ready[n++] = h->poller;
			h->poller = NULL;
		}
		pthread_mutex_unlock(&mnt->lock);
		for (unsigned i = 0; i < n; i++) {
			fuse_lowlevel_notify_poll(ready[i]);
			fuse_pollhandle_destroy(ready[i]);
		}
	} while (n == BATCH);
}

uint64_t bmi_fs_wait_sweep(struct bmi_fs_mount *mnt)
{
	struct bmi_fs_waiter *answered = NULL, *next;
	uint64_t first_deadline = 0;

	pthread_mutex_lock(&mnt->lock);
	for (struct bmi_fs_waiter *w = mnt->waiters; w; w = next) {
		next = w->next;
		if (try(w, /* nonblock= */ false)) {
			unlink_waiter(w);
			w->next = answered;
			answered = w;
		} else if (w->deadline_ns && (!first_deadline || w->deadline_ns < first_deadline)) {
			first_deadline = w->deadline_ns;
		}
	}
	pthread_mutex_unlock(&mnt->lock);
	for (struct bmi_fs_waiter *w = answered; w; w = next) {
		next = w->next;
		answer(w);
	}
	notify_pollers(mnt);
	if (first_deadline) {
		const uint64_t now = now_ns();

		return first_deadline > now ? first_deadline - now : 1;
	}
	return 0;
}

void bmi_fs_wait_abort(struct bmi_fs_mount *mnt)
{
	struct bmi_fs_waiter *w, *next;

	pthread_mutex_lock(&mnt->lock);
	w = mnt->waiters;
	mnt->waiters = NULL;
	pthread_mutex_unlock(&mnt->lock);
	for (; w; w = next) {
		next = w->next;
		w->code = -ECONNABORTED;
		answer(w);
	}
}

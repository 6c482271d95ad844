/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns an io_uring, and is the only file that sees liburing. Reads are submitted by the thread that uses them: at a
 * megabyte a read that costs nothing, and no I/O thread competes with the ones that compute. Buffers are not registered:
 * no gain was measured, and it fails beyond RLIMIT_MEMLOCK.
 * Invariant: a read that submit() took is in the kernel, one that it refused is not and never will be.
 */
#include "backend/disk/disk_priv.h"

#include <errno.h>
#include <liburing.h>
#include <stdlib.h>

#define TAG_NOP UINT64_MAX

static int uring_open(uint32_t depth, void **ret, struct bmi_error *err)
{
	struct io_uring *ring = calloc(1, sizeof(*ring));
	int r;

	if (!ring)
		return bmi_fail(err, -ENOMEM, "no memory for an io_uring");
	r = io_uring_queue_init(depth, ring, 0); /* -ENOSYS, -EPERM (seccomp, sysctl), -ENOMEM (RLIMIT_MEMLOCK) */
	if (r < 0) {
		free(ring);
		return bmi_fail_errno(err, r, "io_uring of %u entries", depth);
	}
	*ret = ring;
	return 0;
}

static int uring_submit(void *engine, const struct bmi_disk_op *op)
{
	struct io_uring *ring = engine;
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	int r;

	if (!sqe)
		return -EBUSY;
	io_uring_prep_read(sqe, op->fd, op->buf, (unsigned)op->len, op->off);
	io_uring_sqe_set_data64(sqe, op->tag);
	do
		r = io_uring_submit(ring);
	while (r == -EINTR || r == -EAGAIN); /* -EAGAIN: the kernel is short of memory for a moment */
	if (r < 0) {
		io_uring_prep_nop(sqe); /* it is still queued: harmless when a later call takes it along */
		io_uring_sqe_set_data64(sqe, TAG_NOP);
		return r;
	}
	return 0;
}

static int uring_reap(void *engine, uint32_t *ret_tag, int64_t *ret_res)
{
	struct io_uring *ring = engine;
	struct io_uring_cqe *cqe;
	uint64_t tag;
	int r;

	do {
		r = io_uring_wait_cqe(ring, &cqe);
		if (r == -EINTR)
			continue;
		if (r < 0)
			return r;
		tag = io_uring_cqe_get_data64(cqe);
		*ret_tag = (uint32_t)tag;
		*ret_res = cqe->res;
		io_uring_cqe_seen(ring, cqe);
	} while (r == -EINTR || tag == TAG_NOP);
	return 0;
}

static void uring_close(void *engine)
{
	if (!engine)
		return;
	io_uring_queue_exit(engine);
	free(engine);
}

const struct bmi_disk_engine bmi_disk_engine_uring = {
	.name = "io_uring",
	.open = uring_open,
	.submit = uring_submit,
	.reap = uring_reap,
	.close = uring_close,
};

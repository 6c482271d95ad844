/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the open CPU tier and its memory. Buffers are host memory: small ones from malloc, large ones from mmap on huge
 * pages, because a matrix on 4 KiB pages is read 4 to 8 % slower.
 * Invariant: how a buffer was made follows from its size alone, so release() needs no header in front of the data.
 */
#include "backend/cpu/device.h"

#include "backend/cpu/dispatch.h"
#include "base/checked.h"
#include "base/cleanup.h"

#include <errno.h>
#include <sched.h>
#include <stdio.h>
#include <sys/mman.h>

enum {
	ALIGN = 64,
	MALLOC_COST = 32,      /* a malloc chunk's header and the slack of aligning it, on average */
	MMAP_FROM = 256 << 10, /* bytes: from here on pages of our own */
	PAGE = 4096,
	HUGE_PAGE = 2 << 20,
	THREADS_MAX = 1024,
};

/* CPUs the process may run on; a mask wider than 1024 CPUs makes the call fail, then ask for those online. */
static unsigned usable_cpus(void)
{
	cpu_set_t set;
	long n;

	if (sched_getaffinity(0, sizeof(set), &set) == 0 && CPU_COUNT(&set) > 0)
		return (unsigned)CPU_COUNT(&set);
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}

static void dev_close(struct bmi_dev *dev)
{
	if (!dev)
		return;
	bmi_pool_free(dev->pool);
	free(dev->scratch);
	free(dev);
}

static int dev_init(struct bmi_dev *dev, unsigned n_threads, const char *isa, struct bmi_error *err)
{
	int r;

	if (!isa)
		isa = getenv("BMIFS_CPU");
	r = bmi_kernels_pick(isa && *isa ? isa : NULL, &dev->k, err);
	if (r < 0)
		return r;
	dev->n_threads = n_threads ? n_threads : usable_cpus();
	if (dev->n_threads > THREADS_MAX)
		return bmi_fail(err, -EINVAL, "%u threads, at most %u", dev->n_threads, (unsigned)THREADS_MAX);
	dev->scratch = aligned_alloc(ALIGN, dev->n_threads * sizeof(*dev->scratch));
	if (!dev->scratch)
		return bmi_fail(err, -ENOMEM, "scratch of %u threads", dev->n_threads);
	snprintf(dev->describe, sizeof(dev->describe), "%s, %u thread%s", dev->k->name, dev->n_threads,
		 dev->n_threads == 1 ? "" : "s");
	return bmi_pool_new(dev->n_threads, &dev->pool, err);
}

int bmi_cpu_open(unsigned n_threads, const char *isa, struct bmi_dev **ret, struct bmi_error *err)
{
	struct bmi_dev *dev = calloc(1, sizeof(*dev));
	int r;

	if (!dev)
		return bmi_fail(err, -ENOMEM, "the cpu tier");
	r = dev_init(dev, n_threads, isa, err);
	if (r < 0) {
		dev_close(dev);
		return r;
	}
	*ret = dev;
	return 0;
}

const char *bmi_cpu_describe(const struct bmi_dev *dev)
{
	return dev->describe;
}

struct parallel {
	void (*fn)(void *arg, uint32_t i);
	void *arg;
};

static void parallel_item(void *arg, uint32_t i, unsigned thread)
{
	const struct parallel *p = arg;

	p->fn(p->arg, i);
}

void bmi_cpu_parallel(struct bmi_dev *dev, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n)
{
	struct parallel p = { fn, arg };

	bmi_pool_run(dev->pool, parallel_item, &p, n);
}

/* Starts at a huge page where it is worth one: maps one too much and gives the ends back. */
static void *map_pages(size_t size)
{
	const size_t extra = size >= HUGE_PAGE ? HUGE_PAGE - PAGE : 0;
	char *p = mmap(/* addr= */ NULL, size + extra, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
		       -1, 0);
	size_t skip;

	if (p == MAP_FAILED)
		return NULL;
	if (!extra)
		return p;
	skip = (size_t)(bmi_align_up((uintptr_t)p, HUGE_PAGE) - (uintptr_t)p);
	if (skip)
		munmap(p, skip);
	if (extra - skip)
		munmap(p + skip + size, extra - skip);
	(void)madvise(p + skip, size, MADV_HUGEPAGE); /* a kernel without them: 4 KiB pages do */
	return p + skip;
}

static int cpu_alloc(struct bmi_dev *dev, size_t size, struct bmi_buf *ret, struct bmi_error *err)
{
	struct bmi_buf buf = { .size = size };

	if (size > SIZE_MAX / 2)
		return bmi_fail(err, -ENOMEM, "cpu: %zu bytes", size);
	if (size < MMAP_FROM) {
		const size_t rounded = bmi_align_up(size ? size : 1, ALIGN);

		buf.reserved = rounded + MALLOC_COST;
		buf.data = aligned_alloc(ALIGN, rounded);
	} else {
		buf.reserved = bmi_align_up(size, PAGE);
		buf.data = map_pages(buf.reserved);
	}
	if (!buf.data)
		return bmi_fail(err, -ENOMEM, "cpu: %zu bytes", size);
	*ret = buf;
	return 0;
}

static void cpu_release(struct bmi_dev *dev, struct bmi_buf *buf)
{
	if (buf->data && buf->size < MMAP_FROM)
		free(buf->data);
	else if (buf->data)
		munmap(buf->data, buf->reserved);
	*buf = (struct bmi_buf){ 0 };
}

static int cpu_copy(struct bmi_dev *dev, void *dst, const void *src, size_t n, struct bmi_error *err)
{
	if (n)
		memcpy(dst, src, n);
	return 0;
}

const struct bmi_backend bmi_backend_cpu = {
	.name = "cpu",
	.ops = &bmi_cpu_ops,
	.alloc = cpu_alloc,
	.release = cpu_release,
	.upload = cpu_copy,
	.download = cpu_copy,
	.close = dev_close,
};

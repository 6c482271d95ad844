/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the slots and what each is waiting for. O_DIRECT wants whole blocks, so a slot reads the aligned window around
 * its extent and gives back a pointer into it; the last block of a file ends early, and a read may be cut short for
 * other reasons, so a window is read from where the last read stopped until the extent is there.
 * Invariant: a BUSY slot has exactly one read with the engine; memory of a BUSY slot belongs to the kernel.
 */
#include "backend/disk/disk.h"

#include "backend/disk/disk_priv.h"
#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* headers before Linux 6.5 lack it */
#endif

enum {
	ALIGN = 4096, /* at least the logical block of any disk in use, and a page */
	HUGE_PAGE = 2 << 20,
	MAX_REAP_ERRORS = 1000, /* when closing: then the slots are left to the kernel */
};

enum state { IDLE, BUSY, FULL, FAILED };

struct slot {
	char *mem;
	enum state state;
	struct bmi_extent ext;
	uint64_t window; /* file offset that mem[0] is for */
	uint64_t pos;    /* file offset of the next byte to read */
	uint32_t file;   /* index */
	bool direct;     /* the read under way is with O_DIRECT */
	bool drop;       /* the page cache did not have it before: drop what the read leaves there */
	int code;        /* FAILED: why */
};

/* A file opened twice more through /proc, because flags and read-ahead belong to an open file and fd is only lent. */
struct file {
	int fd;
	int direct_fd;   /* with O_DIRECT; -1 when the file system has none */
	int buffered_fd; /* without read-ahead: what is read is what gets dropped again; -1: use fd */
	bool direct;     /* use direct_fd */
};

struct bmi_disk {
	const struct bmi_disk_engine *impl;
	void *engine;
	unsigned flags;
	uint32_t n_slots, n_busy;
	size_t slot_bytes, slot_reserved;
	char *mem;
	struct slot *slot;
	struct file *file;
	uint32_t n_files;
	bool any_buffered; /* some file has no O_DIRECT */
};

size_t bmi_disk_slot_reserved(size_t slot_bytes)
{
	return bmi_align_up(slot_bytes, ALIGN) + ALIGN;
}

size_t bmi_disk_reserved(const struct bmi_disk *disk)
{
	return disk->n_slots * disk->slot_reserved;
}

static int open_engine(struct bmi_disk *disk, struct bmi_error *err)
{
	disk->impl = &bmi_disk_engine_uring;
	if (!(disk->flags & BMI_DISK_NO_URING) && disk->impl->open(disk->n_slots, &disk->engine, NULL) == 0)
		return 0;
	disk->impl = &bmi_disk_engine_pread;
	return disk->impl->open(disk->n_slots, &disk->engine, err);
}

int bmi_disk_open(uint32_t n_slots, size_t slot_bytes, unsigned flags, struct bmi_disk **ret,
		  struct bmi_error *err)
{
	struct bmi_disk *disk = calloc(1, sizeof(*disk));
	size_t total;
	int r;

	if (!disk)
		return bmi_fail(err, -ENOMEM, "no memory to read files");
	disk->n_slots = n_slots;
	disk->slot_bytes = slot_bytes;
	disk->slot_reserved = bmi_disk_slot_reserved(slot_bytes);
	disk->flags = flags;
	disk->any_buffered = flags & BMI_DISK_NO_DIRECT;
	disk->slot = calloc(n_slots, sizeof(*disk->slot));
	total = bmi_disk_reserved(disk);
	disk->mem = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (disk->mem == MAP_FAILED)
		disk->mem = NULL;
	if (!disk->slot || !disk->mem)
		r = bmi_fail(err, -ENOMEM, "no memory for %u slots of %zu bytes to read files into", n_slots,
			     slot_bytes);
	else
		r = open_engine(disk, err);
	if (r < 0) {
		bmi_disk_close(disk);
		return r;
	}
	if (total >= HUGE_PAGE)
		(void)madvise(disk->mem, total, MADV_HUGEPAGE); /* fewer pages to pin for each read */
	for (uint32_t i = 0; i < n_slots; i++)
		disk->slot[i].mem = disk->mem + i * disk->slot_reserved;
	*ret = disk;
	return 0;
}

void bmi_disk_close(struct bmi_disk *disk)
{
	if (!disk)
		return;
	if (disk->engine) {
		bmi_disk_drain(disk);
		disk->impl->close(disk->engine);
	}
	for (uint32_t i = 0; i < disk->n_files; i++) {
		if (disk->file[i].direct_fd >= 0)
			close(disk->file[i].direct_fd);
		if (disk->file[i].buffered_fd >= 0)
			close(disk->file[i].buffered_fd);
	}
	/* A read that nobody could wait for may still write here: leak rather than hand that memory to somebody else. */
	if (disk->mem && !disk->n_busy)
		munmap(disk->mem, bmi_disk_reserved(disk));
	free(disk->file);
	free(disk->slot);
	free(disk);
}

const char *bmi_disk_describe(const struct bmi_disk *disk)
{
	if (disk->impl == &bmi_disk_engine_uring)
		return disk->any_buffered ? "io_uring" : "io_uring O_DIRECT";
	return disk->any_buffered ? "pread" : "pread O_DIRECT";
}

static int reopen(int fd, int flags)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return open(path, O_RDONLY | O_CLOEXEC | flags);
}

/* The file of a descriptor, opened again on its first use. */
static int find_file(struct bmi_disk *disk, int fd, uint32_t *ret)
{
	struct file *file;

	for (uint32_t i = 0; i < disk->n_files; i++) {
		if (disk->file[i].fd == fd) {
			*ret = i;
			return 0;
		}
	}
	file = realloc(disk->file, (disk->n_files + 1) * sizeof(*file));
	if (!file)
		return -ENOMEM;
	disk->file = file;
	file += disk->n_files;
	file->fd = fd;
	file->direct_fd = disk->flags & BMI_DISK_NO_DIRECT ? -1 : reopen(fd, O_DIRECT);
	file->buffered_fd = reopen(fd, 0);
	if (file->buffered_fd >= 0)
		(void)posix_fadvise(file->buffered_fd, 0, 0, POSIX_FADV_RANDOM);
	file->direct = file->direct_fd >= 0;
	if (!file->direct)
		disk->any_buffered = true;
	*ret = disk->n_files++;
	return 0;
}

/* Hand the rest of a slot's extent to the engine. */
static void start(struct bmi_disk *disk, uint32_t i)
{
	struct slot *s = &disk->slot[i];
	const struct file *file = &disk->file[s->file];
	const uint64_t end = s->ext.off + s->ext.len;
	struct bmi_disk_op op = { .tag = i };
	int r;

	if (!s->direct && s->pos < s->ext.off)
		s->pos = s->ext.off;
	op.fd = s->direct ? file->direct_fd : file->buffered_fd >= 0 ? file->buffered_fd : file->fd;
	op.buf = s->mem + (s->pos - s->window);
	op.off = s->pos;
	op.len = (s->direct ? bmi_align_up(end, ALIGN) : end) - s->pos;
	r = disk->impl->submit(disk->engine, &op);
	if (r < 0) {
		s->state = FAILED;
		s->code = r;
		return;
	}
	s->state = BUSY;
	disk->n_busy++;
}

/* The file system accepted O_DIRECT in open(2) and refuses it in read(2). */
static void give_up_direct(struct bmi_disk *disk, struct slot *s)
{
	disk->file[s->file].direct = false; /* the descriptor stays open: other reads with it are under way */
	disk->any_buffered = true;
	s->direct = false;
	s->drop = true;
}

/* A read of slot i ended with res. */
static void finish(struct bmi_disk *disk, uint32_t i, int64_t res)
{
	struct slot *s = &disk->slot[i];
	uint64_t pos;

	disk->n_busy--;
	if (res < 0 && s->direct && (res == -EINVAL || res == -EOPNOTSUPP)) {
		give_up_direct(disk, s);
		start(disk, i);
		return;
	}
	if (res == -EINTR || res == -EAGAIN) {
		start(disk, i);
		return;
	}
	if (res < 0 || (res == 0 && !s->direct)) {
		s->state = FAILED;
		s->code = res < 0 ? (int)res : 0; /* 0: the file ends at pos */
		return;
	}
	pos = s->pos + (uint64_t)res;
	if (pos >= s->ext.off + s->ext.len) {
		s->state = FULL;
		if (!s->direct && s->drop)
			bmi_disk_drop_cache(&s->ext);
		return;
	}
	if (s->direct && pos - pos % ALIGN == s->pos)
		s->direct = false; /* ended within a block: the end of the file, or nothing O_DIRECT gets past */
	else if (s->direct)
		pos -= pos % ALIGN;
	s->pos = pos;
	start(disk, i);
}

static int reap_one(struct bmi_disk *disk)
{
	uint32_t i;
	int64_t res;
	const int r = disk->impl->reap(disk->engine, &i, &res);

	if (r < 0)
		return r;
	assert(i < disk->n_slots && disk->slot[i].state == BUSY);
	finish(disk, i, res);
	return 0;
}

int bmi_disk_submit(struct bmi_disk *disk, uint32_t slot, const struct bmi_extent *ext, struct bmi_error *err)
{
	struct slot *s = &disk->slot[slot];
	int r;

	assert(slot < disk->n_slots && s->state != BUSY);
	if (!ext->len || ext->len > disk->slot_bytes)
		return bmi_fail(err, -EINVAL, "%" PRIu64 " bytes to read, a slot takes 1 to %zu", ext->len,
				disk->slot_bytes);
	r = find_file(disk, ext->fd, &s->file);
	if (r < 0)
		return bmi_fail(err, r, "no memory to open a file again");
	s->ext = *ext;
	s->window = ext->off - ext->off % ALIGN;
	s->pos = s->window;
	s->direct = disk->file[s->file].direct;
	s->drop = true;
	if (bmi_disk_is_cached(ext))
		s->direct = s->drop = false; /* copying from the page cache is faster than the disk */
	start(disk, slot);
	return 0;
}

int bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err)
{
	struct slot *s = &disk->slot[slot];

	assert(s->state != IDLE);
	while (s->state == BUSY) {
		const int r = reap_one(disk);

		if (r < 0)
			return bmi_fail_errno(
				err, -EIO, "wait for a read of %" PRIu64 " bytes at %" PRIu64 " (error %d)",
				s->ext.len, s->ext.off, -r);
	}
	if (s->state == FULL) {
		*ret = s->mem + (s->ext.off - s->window);
		return 0;
	}
	s->state = IDLE;
	if (s->code)
		return bmi_fail_errno(err, s->code, "read %" PRIu64 " bytes at byte %" PRIu64, s->ext.len,
				      s->ext.off);
	return bmi_fail(err, -EIO,
			"the file ends at byte %" PRIu64 ", %" PRIu64
			" bytes too early: it shrank after it was opened",
			s->pos, s->ext.off + s->ext.len - s->pos);
}

void *bmi_disk_slot(const struct bmi_disk *disk, uint32_t slot)
{
	assert(slot < disk->n_slots && disk->slot[slot].state != BUSY);
	return disk->slot[slot].mem;
}

void bmi_disk_drain(struct bmi_disk *disk)
{
	unsigned n_errors = 0;

	while (disk->n_busy && n_errors < MAX_REAP_ERRORS)
		if (reap_one(disk) < 0)
			n_errors++;
	for (uint32_t i = 0; i < disk->n_slots; i++)
		if (disk->slot[i].state != BUSY)
			disk->slot[i].state = IDLE;
}

bool bmi_disk_is_cached(const struct bmi_extent *ext)
{
	struct {
		uint64_t off, len;
	} range = { ext->off, ext->len };
	struct {
		uint64_t n_cache, n_dirty, n_writeback, n_evicted, n_recently_evicted;
	} stat = { 0 };
	const uint64_t n_pages = (ext->off + ext->len - 1) / ALIGN - ext->off / ALIGN +
				 1; /* too many if pages are larger: "no" */

	return ext->len && syscall(SYS_cachestat, ext->fd, &range, &stat, 0) == 0 && stat.n_cache >= n_pages;
}

void bmi_disk_drop_cache(const struct bmi_extent *ext)
{
	/* The kernel keeps a folio that is named in part, and one may reach across extents: begin well before. */
	const uint64_t from = ext->off < HUGE_PAGE ? 0 : bmi_align_up(ext->off - HUGE_PAGE, ALIGN);

	(void)posix_fadvise(ext->fd, (off_t)from, (off_t)(ext->off + ext->len - from), POSIX_FADV_DONTNEED);
}

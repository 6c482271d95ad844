/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_DISK_DISK_H
#define BMI_BACKEND_DISK_DISK_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/extent.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The disk tier: storage only. Reads extents of files into slots of memory with many reads in flight. The best way the
 * machine offers is found at run time: io_uring, or two threads with pread(2) where the kernel or a seccomp filter says
 * no; O_DIRECT, or the page cache where the file system refuses that (tmpfs, some overlays) and where the pages are in
 * the page cache already (cachestat(2)). Pages that a read brings into the cache are dropped behind it, so that a process
 * with little memory is not flooded.
 *
 * One thread at a time uses a struct bmi_disk.
 */
struct bmi_disk;

/* Ways not to take: for tests, and for machines where one of them misbehaves. */
enum bmi_disk_flags {
	BMI_DISK_NO_URING = 1 << 0,
	BMI_DISK_NO_DIRECT = 1 << 1,
};

/**
 * bmi_disk_open() - slots and a way to fill them.
 * @n_slots:    reads that can be in flight, >= 1.
 * @slot_bytes: the longest extent a slot takes, >= 1.
 * @flags:      of enum bmi_disk_flags.
 *
 * Return: 0, -ENOMEM, -EAGAIN (no io_uring and no thread either).
 */
int bmi_disk_open(uint32_t n_slots, size_t slot_bytes, unsigned flags, struct bmi_disk **ret,
		  struct bmi_error *err);

/** bmi_disk_close() - wait for what is in flight, then free. NULL is a no-op. */
void bmi_disk_close(struct bmi_disk *disk);

/** bmi_disk_slot_reserved() - memory that one slot for extents of @slot_bytes takes: room for whole 4 KiB blocks at both ends. */
size_t bmi_disk_slot_reserved(size_t slot_bytes);

/** bmi_disk_reserved() - memory of all slots. */
size_t bmi_disk_reserved(const struct bmi_disk *disk);

/** bmi_disk_describe() - "io_uring O_DIRECT", "io_uring", "pread O_DIRECT" or "pread". A string constant. */
const char *bmi_disk_describe(const struct bmi_disk *disk);

/**
 * bmi_disk_submit() - begin to read an extent into a slot.
 * @slot: one that is not being read; what it held is overwritten.
 * @ext:  ext->len of 1 to slot_bytes; copied. ext->fd stays open, and keeps meaning this file, until bmi_disk_close().
 *
 * Return: 0. Errors of the read come from bmi_disk_wait(). -EINVAL: too long.
 */
int bmi_disk_submit(struct bmi_disk *disk, uint32_t slot, const struct bmi_extent *ext, struct bmi_error *err);

/**
 * bmi_disk_wait() - wait until a submitted slot is full.
 * @ret: the extent's first byte, as unaligned as it is in the file; valid until the slot is submitted again.
 *
 * Return: 0, -EIO (the file has become shorter, or the device failed), or what read(2) says. After an error call
 * bmi_disk_drain() before this slot is used again.
 */
int bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err);

/** bmi_disk_slot() - the memory of a slot that is not being read, for other uses: slot_bytes, aligned to 4096. */
void *bmi_disk_slot(const struct bmi_disk *disk, uint32_t slot);

/** bmi_disk_drain() - wait for all reads in flight and forget them. */
void bmi_disk_drain(struct bmi_disk *disk);

/** bmi_disk_is_cached() - is all of an extent in the page cache? False too when the kernel cannot tell (before Linux 6.5). */
bool bmi_disk_is_cached(const struct bmi_extent *ext);

/** bmi_disk_drop_cache() - let the pages of an extent go, also those it begins among (up to 2 MiB before it). */
void bmi_disk_drop_cache(const struct bmi_extent *ext);

#endif

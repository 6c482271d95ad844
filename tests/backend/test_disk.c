/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The disk tier against the bytes of a file that this program wrote: every way of reading, every alignment, short reads,
 * EINTR, files that shrink, and file systems that refuse O_DIRECT. The linker wraps pread64(), which pread(2) is with
 * 64-bit offsets, to inject faults.
 */
#include "backend/disk/disk.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

enum { FILE_BYTES = 300 * 1000 + 13, SLOTS = 4, SLOT_BYTES = 20000 };

static uint8_t expected[FILE_BYTES];
static char dir[] = "/tmp/bmi-disk-XXXXXX";

/* ---- faults ---- */

enum fault { NO_FAULT, SHORT, INTERRUPTED, REFUSES_DIRECT, BROKEN };

static atomic_int fault;
static atomic_uint n_calls;

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	const unsigned call = atomic_fetch_add(&n_calls, 1);

	switch (atomic_load(&fault)) {
	case SHORT: /* a length that is no multiple of anything, but never 0 */
		return __real_pread64(fd, buf, n > 5000 ? n - n / 3 - call % 7 : n, off);
	case INTERRUPTED:
		errno = EINTR;
		return call % 2 ? __real_pread64(fd, buf, n, off) : -1;
	case REFUSES_DIRECT:
		errno = EINVAL;
		return fcntl(fd, F_GETFL) & O_DIRECT ? -1 : __real_pread64(fd, buf, n, off);
	case BROKEN:
		errno = EIO;
		return -1;
	}
	return __real_pread64(fd, buf, n, off);
}

/* ---- helpers ---- */

static int make_file(const char *where, size_t n)
{
	char path[128];
	int fd;

	snprintf(path, sizeof(path), "%s/XXXXXX", where);
	fd = mkstemp(path);
	assert_true(fd >= 0);
	unlink(path);
	assert_int_equal(write(fd, expected, n), n);
	assert_int_equal(fsync(fd), 0);
	(void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	return fd;
}

static struct bmi_disk *open_disk(unsigned flags)
{
	struct bmi_error err = { 0 };
	struct bmi_disk *disk = NULL;

	atomic_store(&fault, NO_FAULT);
	assert_int_equal(bmi_disk_open(SLOTS, SLOT_BYTES, flags, &disk, &err), 0);
	assert_int_equal(bmi_disk_reserved(disk), SLOTS * bmi_disk_slot_reserved(SLOT_BYTES));
	return disk;
}

static void wait_and_compare(struct bmi_disk *disk, uint32_t slot, const struct bmi_extent *ext)
{
	struct bmi_error err = { 0 };
	const void *data = NULL;
	const int r = bmi_disk_wait(disk, slot, &data, &err);

	if (r < 0)
		print_error("%s\n", err.msg);
	assert_int_equal(r, 0);
	assert_memory_equal(data, expected + ext->off, ext->len);
}

/* The whole file in order, extents of odd lengths, all slots in flight; then the corners. */
static void read_all(struct bmi_disk *disk, int fd)
{
	static const uint64_t corner[][2] = {
		{ 0, 1 },
		{ 0, 4096 },
		{ 1, 4096 },
		{ 4095, 2 },
		{ 4096, SLOT_BYTES },
		{ 8191, SLOT_BYTES },
		{ FILE_BYTES - 1, 1 },
		{ FILE_BYTES - SLOT_BYTES, SLOT_BYTES },
		{ FILE_BYTES - 4096, 4096 },
	};
	struct bmi_extent ext[SLOTS];
	uint64_t off = 0, n = 0, done = 0;

	while (off < FILE_BYTES || done < n) {
		if (off < FILE_BYTES && n - done < SLOTS) {
			struct bmi_extent *e = &ext[n % SLOTS];

			*e = (struct bmi_extent){ fd, off, 1 + (n * 7919) % SLOT_BYTES };
			if (e->len > FILE_BYTES - off)
				e->len = FILE_BYTES - off;
			assert_int_equal(bmi_disk_submit(disk, (uint32_t)(n++ % SLOTS), e, NULL), 0);
			off += e->len;
		} else {
			wait_and_compare(disk, (uint32_t)(done % SLOTS), &ext[done % SLOTS]);
			done++;
		}
	}
	for (size_t i = 0; i < sizeof(corner) / sizeof(corner[0]); i++) {
		const struct bmi_extent e = { fd, corner[i][0], corner[i][1] };

		assert_int_equal(bmi_disk_submit(disk, 1, &e, NULL), 0);
		wait_and_compare(disk, 1, &e);
	}
}

/* ---- cases ---- */

static void check_way(unsigned flags, enum fault with, const char *where, const char *describe)
{
	struct bmi_disk *disk = open_disk(flags);
	const int fd = make_file(where, FILE_BYTES);

	atomic_store(&fault, with);
	read_all(disk, fd);
	if (describe)
		assert_string_equal(bmi_disk_describe(disk), describe);
	bmi_disk_close(disk);
	close(fd);
	atomic_store(&fault, NO_FAULT);
}

static void test_best(void **state)
{
	check_way(0, NO_FAULT, dir, NULL); /* whatever this machine and file system offer */
}

static void test_uring_buffered(void **state)
{
	check_way(BMI_DISK_NO_DIRECT, NO_FAULT, dir, NULL);
}

static void test_pread_direct(void **state)
{
	check_way(BMI_DISK_NO_URING, NO_FAULT, dir, NULL);
}

static void test_pread_buffered(void **state)
{
	check_way(BMI_DISK_NO_URING | BMI_DISK_NO_DIRECT, NO_FAULT, dir, "pread");
}

static void test_memory_file_system(void **state)
{
	check_way(0, NO_FAULT, "/dev/shm", NULL);
}

static void test_short_reads(void **state)
{
	check_way(BMI_DISK_NO_URING, SHORT, dir, NULL);
}

static void test_short_reads_buffered(void **state)
{
	check_way(BMI_DISK_NO_URING | BMI_DISK_NO_DIRECT, SHORT, dir, "pread");
}

static void test_interrupted(void **state)
{
	check_way(BMI_DISK_NO_URING, INTERRUPTED, dir, NULL);
}

static void test_direct_refused_by_read(void **state)
{
	check_way(BMI_DISK_NO_URING, REFUSES_DIRECT, dir, "pread");
}

static void test_cached_pages_are_used_and_kept(void **state)
{
	struct bmi_disk *disk = open_disk(0);
	const int fd = make_file(dir, FILE_BYTES);
	const struct bmi_extent all = { fd, 0, FILE_BYTES };
	static uint8_t buf[FILE_BYTES];

	assert_int_equal(__real_pread64(fd, buf, FILE_BYTES, 0), FILE_BYTES);
	if (!bmi_disk_is_cached(&all)) {
		bmi_disk_close(disk);
		close(fd);
		print_message("# skipped: no cachestat(2) before Linux 6.5\n"); /* cmocka's skip() is `not ok` in TAP */
		return;
	}
	read_all(disk, fd);
	assert_true(bmi_disk_is_cached(&all));
	bmi_disk_close(disk);
	close(fd);
}

static void test_cold_pages_are_not_left_behind(void **state)
{
	struct bmi_disk *disk = open_disk(BMI_DISK_NO_DIRECT);
	const int fd = make_file(dir, FILE_BYTES);
	unsigned char vec[FILE_BYTES / 4096 + 1];
	unsigned n_left = 0;
	void *map;

	if (bmi_disk_is_cached(&(struct bmi_extent){ fd, 0, FILE_BYTES })) {
		bmi_disk_close(disk);
		close(fd);
		print_message("# skipped: the file system is in memory, there is nothing to drop\n");
		return;
	}
	read_all(disk, fd);
	map = mmap(NULL, FILE_BYTES, PROT_READ, MAP_SHARED, fd, 0);
	assert_true(map != MAP_FAILED);
	assert_int_equal(mincore(map, FILE_BYTES, vec), 0);
	for (size_t i = 0; i < sizeof(vec); i++)
		n_left += vec[i] & 1;
	munmap(map, FILE_BYTES);
	assert_true(n_left <= 12); /* of 74: the page that each corner ends in is named in part, and stays */
	bmi_disk_close(disk);
	close(fd);
}

static void check_shrunk(unsigned flags, uint64_t cut)
{
	struct bmi_disk *disk = open_disk(flags);
	const int fd = make_file(dir, FILE_BYTES);
	const struct bmi_extent gone = { fd, cut - 10, 5000 }, there = { fd, cut - 3000, 3000 },
				past = { fd, cut + 90000, 10 };
	const void *data;
	struct bmi_error err = { 0 };
	char want[64];

	assert_int_equal(ftruncate(fd, (off_t)cut), 0);
	assert_int_equal(bmi_disk_submit(disk, 0, &gone, NULL), 0);
	assert_int_equal(bmi_disk_submit(disk, 1, &there, NULL), 0);
	assert_int_equal(bmi_disk_submit(disk, 2, &past, NULL), 0);
	assert_int_equal(bmi_disk_wait(disk, 0, &data, &err), -EIO);
	snprintf(want, sizeof(want), "ends at byte %llu", (unsigned long long)cut);
	assert_non_null(strstr(err.msg, want));
	assert_non_null(strstr(err.msg, "shrank"));
	wait_and_compare(disk, 1, &there);
	assert_int_equal(bmi_disk_wait(disk, 2, &data, &err), -EIO);
	bmi_disk_drain(disk);

	/* it grows back, and reading works again */
	assert_int_equal(pwrite(fd, expected + cut, FILE_BYTES - cut, (off_t)cut), FILE_BYTES - cut);
	read_all(disk, fd);
	bmi_disk_close(disk);
	close(fd);
}

static void test_shrunk_direct(void **state)
{
	check_shrunk(0, 100001);
	check_shrunk(0, 8192 * 10); /* at a block's end */
}

static void test_shrunk_pread(void **state)
{
	check_shrunk(BMI_DISK_NO_URING, 100001);
}

static void test_shrunk_buffered(void **state)
{
	check_shrunk(BMI_DISK_NO_URING | BMI_DISK_NO_DIRECT, 100001);
	check_shrunk(BMI_DISK_NO_DIRECT, 8192 * 10);
}

static void test_device_error(void **state)
{
	struct bmi_disk *disk = open_disk(BMI_DISK_NO_URING);
	const int fd = make_file(dir, FILE_BYTES);
	const struct bmi_extent ext = { fd, 4711, 1234 };
	struct bmi_error err = { 0 };
	const void *data;

	atomic_store(&fault, BROKEN);
	assert_int_equal(bmi_disk_submit(disk, 3, &ext, NULL), 0);
	assert_int_equal(bmi_disk_wait(disk, 3, &data, &err), -EIO);
	assert_non_null(strstr(err.msg, "1234 bytes at byte 4711"));
	bmi_disk_drain(disk);
	atomic_store(&fault, NO_FAULT);
	read_all(disk, fd);
	bmi_disk_close(disk);
	close(fd);
}

static void test_bad_descriptor(void **state)
{
	struct bmi_disk *disk = open_disk(0);
	const struct bmi_extent ext = { 9999, 0, 10 };
	struct bmi_error err = { 0 };
	const void *data;

	assert_int_equal(bmi_disk_submit(disk, 0, &ext, NULL), 0);
	assert_int_equal(bmi_disk_wait(disk, 0, &data, &err), -EBADF);
	bmi_disk_close(disk);
}

static void test_too_long(void **state)
{
	struct bmi_disk *disk = open_disk(0);
	struct bmi_error err = { 0 };

	assert_int_equal(bmi_disk_submit(disk, 0, &(struct bmi_extent){ 0, 0, SLOT_BYTES + 1 }, &err), -EINVAL);
	assert_int_equal(bmi_disk_submit(disk, 0, &(struct bmi_extent){ 0, 0, 0 }, &err), -EINVAL);
	bmi_disk_close(disk);
}

static void test_closed_while_reading(void **state)
{
	for (unsigned flags = 0; flags < 4; flags++) {
		struct bmi_disk *disk = open_disk(flags);
		const int fd = make_file(dir, FILE_BYTES);

		for (uint32_t i = 0; i < SLOTS; i++)
			assert_int_equal(
				bmi_disk_submit(disk, i, &(struct bmi_extent){ fd, i * 777, SLOT_BYTES }, NULL),
				0);
		if (flags & 1)
			bmi_disk_drain(disk);
		bmi_disk_close(disk);
		close(fd);
	}
	bmi_disk_close(NULL);
}

static int setup(void **state)
{
	for (uint64_t i = 0, x = 1; i < FILE_BYTES; i++) {
		x = x * 6364136223846793005u + 1442695040888963407u;
		expected[i] = (uint8_t)(x >> 56);
	}
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state)
{
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_best),
		cmocka_unit_test(test_uring_buffered),
		cmocka_unit_test(test_pread_direct),
		cmocka_unit_test(test_pread_buffered),
		cmocka_unit_test(test_memory_file_system),
		cmocka_unit_test(test_short_reads),
		cmocka_unit_test(test_short_reads_buffered),
		cmocka_unit_test(test_interrupted),
		cmocka_unit_test(test_direct_refused_by_read),
		cmocka_unit_test(test_cached_pages_are_used_and_kept),
		cmocka_unit_test(test_cold_pages_are_not_left_behind),
		cmocka_unit_test(test_shrunk_direct),
		cmocka_unit_test(test_shrunk_pread),
		cmocka_unit_test(test_shrunk_buffered),
		cmocka_unit_test(test_device_error),
		cmocka_unit_test(test_bad_descriptor),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_closed_while_reading),
	};

	return cmocka_run_group_tests_name("disk", tests, setup, teardown);
}

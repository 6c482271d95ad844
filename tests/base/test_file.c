/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing whole ranges. Built with --wrap=pread64, --wrap=write and --wrap=malloc: short counts, EINTR and
 * failing memory come when a case asks for them.
 */
#include "base/file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

/* What the wrapped calls do next: at most `most` bytes each, EINTR every second call, an error, no memory. */
static struct {
	size_t most;
	bool interrupts, no_memory;
	int error;
	unsigned n_calls;
} inject;

ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __real_write(int fd, const void *buf, size_t n);
ssize_t __wrap_write(int fd, const void *buf, size_t n);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);

static bool injected(size_t *n)
{
	inject.n_calls++;
	if (inject.error || (inject.interrupts && inject.n_calls % 2)) {
		errno = inject.error ? inject.error : EINTR;
		return true;
	}
	if (inject.most && *n > inject.most)
		*n = inject.most;
	return false;
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	return injected(&n) ? -1 : __real_pread64(fd, buf, n, off);
}

ssize_t __wrap_write(int fd, const void *buf, size_t n)
{
	if (fd <= 2)
		return __real_write(fd, buf, n);
	return injected(&n) ? -1 : __real_write(fd, buf, n);
}

void *__wrap_malloc(size_t n)
{
	return inject.no_memory ? NULL : __real_malloc(n);
}

struct dir {
	char path[64];
	int fd;
};

static int setup(void **state)
{
	static struct dir dir;
	int fd;

	memset(&inject, 0, sizeof(inject));
	strcpy(dir.path, "/tmp/bmifs-test-file-XXXXXX");
	if (!mkdtemp(dir.path))
		return -1;
	dir.fd = open(dir.path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	fd = openat(dir.fd, "ten", O_CREAT | O_WRONLY, 0600);
	if (dir.fd < 0 || fd < 0 || __real_write(fd, "0123456789", 10) != 10)
		return -1;
	close(fd);
	*state = &dir;
	return 0;
}

static int teardown(void **state)
{
	struct dir *dir = *state;

	memset(&inject, 0, sizeof(inject));
	unlinkat(dir->fd, "ten", 0);
	unlinkat(dir->fd, "other", 0);
	close(dir->fd);
	return rmdir(dir->path);
}

static void test_read(void **state)
{
	const struct dir *dir = *state;
	bmi_auto_mem char *text = NULL;
	size_t n = 0;

	assert_int_equal(bmi_file_read(dir->fd, "ten", 10, &text, &n, /* err= */ NULL), 0);
	assert_int_equal(n, 10);
	assert_string_equal(text, "0123456789");
}

static void test_read_pieces(void **state)
{
	const struct dir *dir = *state;
	bmi_auto_mem char *text = NULL;
	size_t n = 0;

	inject.most = 3;
	inject.interrupts = true;
	assert_int_equal(bmi_file_read(dir->fd, "ten", 10, &text, &n, /* err= */ NULL), 0);
	assert_string_equal(text, "0123456789");
	assert_int_equal(inject.n_calls, 8); /* four pieces, each after an EINTR */
}

static void test_read_io_error(void **state)
{
	const struct dir *dir = *state;
	struct bmi_error err;
	char *text = NULL;
	size_t n = 0;

	inject.error = EIO;
	assert_int_equal(bmi_file_read(dir->fd, "ten", 10, &text, &n, &err), -EIO);
	assert_non_null(strstr(err.msg, "'ten'"));
	assert_null(text);
}

static void test_read_no_memory(void **state)
{
	const struct dir *dir = *state;
	struct bmi_error err;
	char *text = NULL;
	size_t n = 0;
	int r;

	inject.no_memory = true;
	r = bmi_file_read(dir->fd, "ten", 10, &text, &n, &err);
	inject.no_memory = false;
	assert_int_equal(r, -ENOMEM);
	assert_null(text);
}

static void test_read_refusals(void **state)
{
	const struct dir *dir = *state;
	struct bmi_error err;
	char *text = NULL;
	size_t n = 0;

	assert_int_equal(bmi_file_read(dir->fd, "absent", 10, &text, &n, &err), -ENOENT);
	assert_string_equal(err.msg, "open 'absent': No such file or directory");
	assert_int_equal(bmi_file_read(dir->fd, "ten", 9, &text, &n, &err), -EFBIG);
	assert_non_null(strstr(err.msg, "10 bytes"));
	assert_int_equal(bmi_file_read(dir->fd, ".", 9, &text, &n, &err), -EINVAL);
	assert_int_equal(mkfifoat(dir->fd, "other", 0600), 0); /* must not wait for a writer */
	assert_int_equal(bmi_file_read(dir->fd, "other", 9, &text, &n, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "not a regular file"));
	assert_null(text);
}

static void test_read_symlink(void **state)
{
	const struct dir *dir = *state;
	bmi_auto_mem char *text = NULL;
	size_t n = 0;

	assert_int_equal(symlinkat("ten", dir->fd, "other"), 0);
	assert_int_equal(bmi_file_read(dir->fd, "other", 10, &text, &n, /* err= */ NULL), 0);
	assert_int_equal(n, 10);
}

static void test_pread_past_end(void **state)
{
	const struct dir *dir = *state;
	bmi_auto_fd fd = openat(dir->fd, "ten", O_RDONLY | O_CLOEXEC);
	struct bmi_error err;
	char buf[8];

	assert_int_equal(bmi_file_pread(fd, buf, 4, 6, &err), 0);
	assert_memory_equal(buf, "6789", 4);
	assert_int_equal(bmi_file_pread(fd, buf, 5, 6, &err), -EIO);
	assert_non_null(strstr(err.msg, "shrank"));
	assert_int_equal(bmi_file_pread(fd, buf, 0, 1000, &err), 0);
}

static void test_write(void **state)
{
	const struct dir *dir = *state;
	bmi_auto_fd fd = openat(dir->fd, "other", O_CREAT | O_RDWR | O_CLOEXEC, 0600);
	char buf[10];

	inject.most = 4;
	inject.interrupts = true;
	assert_int_equal(bmi_file_write(fd, "abcdefghij", 10), 0);
	assert_int_equal(inject.n_calls, 6);
	assert_int_equal(__real_pread64(fd, buf, 10, 0), 10);
	assert_memory_equal(buf, "abcdefghij", 10);
	inject.error = ENOSPC;
	assert_int_equal(bmi_file_write(fd, "x", 1), -ENOSPC);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_read, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_pieces, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_io_error, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_no_memory, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_refusals, setup, teardown),
		cmocka_unit_test_setup_teardown(test_read_symlink, setup, teardown),
		cmocka_unit_test_setup_teardown(test_pread_past_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_write, setup, teardown),
	};

	return cmocka_run_group_tests_name("file", tests, NULL, NULL);
}

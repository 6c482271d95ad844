/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the loops that plain read(2) and write(2) need: EINTR, short counts, files that shrink while they are read. */
#include "base/file.h"

#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

int bmi_file_pread(int fd, void *buf, size_t n, uint64_t off, struct bmi_error *err)
{
	char *p = buf;

	while (n) {
		const ssize_t got = pread(fd, p, n, (off_t)off);

		if (got < 0 && errno == EINTR)
			continue;
		if (got < 0)
			return bmi_fail_errno(err, -errno, "read at byte %" PRIu64, off);
		if (got == 0)
			return bmi_fail(err, -EIO,
					"the file ends at byte %" PRIu64 ", %zu bytes too early: "
					"it shrank after it was opened",
					off, n);
		p += got;
		off += (uint64_t)got;
		n -= (size_t)got;
	}
	return 0;
}

int bmi_file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_n, struct bmi_error *err)
{
	bmi_auto_fd fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	bmi_auto_mem char *buf = NULL;
	struct stat st;
	int r;

	if (fd < 0)
		return bmi_fail_errno(err, -errno, "open '%s'", name);
	if (fstat(fd, &st) < 0)
		return bmi_fail_errno(err, -errno, "stat '%s'", name);
	if (!S_ISREG(st.st_mode))
		return bmi_fail(err, -EINVAL, "'%s' is not a regular file", name);
	if ((uint64_t)st.st_size > max)
		return bmi_fail(err, -EFBIG, "'%s' has %" PRIu64 " bytes, more than the %zu accepted here",
				name, (uint64_t)st.st_size, max);
	buf = malloc((size_t)st.st_size + 1);
	if (!buf)
		return bmi_fail(err, -ENOMEM, "no memory for '%s'", name);
	r = bmi_file_pread(fd, buf, (size_t)st.st_size, 0, err);
	if (r < 0)
		return bmi_note(err, r, "'%s'", name);
	buf[st.st_size] = 0;
	*ret = bmi_steal(&buf);
	*ret_n = (size_t)st.st_size;
	return 0;
}

int bmi_file_write(int fd, const void *buf, size_t n)
{
	const char *p = buf;

	while (n) {
		const ssize_t put = write(fd, p, n);

		if (put < 0 && errno == EINTR)
			continue;
		if (put < 0)
			return -errno;
		p += put;
		n -= (size_t)put;
	}
	return 0;
}

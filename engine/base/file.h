/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_FILE_H
#define BMI_BASE_FILE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/**
 * bmi_file_pread() - read exactly @n bytes at @off, going on after EINTR and short reads.
 *
 * Return: 0, -EIO with a sentence when the file ends before (it shrank under us), or the errno of pread(2).
 */
int bmi_file_pread(int fd, void *buf, size_t n, uint64_t off, struct bmi_error *err);

/**
 * bmi_file_read() - a whole small file in a directory, as bytes with a NUL behind them.
 * @dirfd:  the directory; @name is opened below it, symlinks followed, and must end at a regular file.
 * @max:    the largest size accepted, in bytes.
 * @ret:    the caller frees it.
 * @ret_n:  its length without the NUL.
 *
 * Return: 0, -ENOENT, -EINVAL (not a regular file), -EFBIG, -ENOMEM, or what open(2) and read(2) say.
 */
int bmi_file_read(int dirfd, const char *name, size_t max, char **ret, size_t *ret_n, struct bmi_error *err);

/** bmi_file_write() - write exactly @n bytes, going on after EINTR and short writes. Return: 0 or -errno. */
int bmi_file_write(int fd, const void *buf, size_t n);

#endif

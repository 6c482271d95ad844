/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns scratch files: what editors create beside the file they change and then rename over it. In memory, few and
 * small. Invariant: no scratch file is larger than -o scratch.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <time.h>

static void scratch_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
			 struct stat *st)
{
	st->st_size = (off_t)node->data.n;
}

static int scratch_read(struct bmi_fs_handle *h, size_t size, uint64_t off, struct bmi_str *ret)
{
	const struct bmi_str *data = &h->node->data;
	size_t left;

	if (off >= data->n)
		return 0;
	left = data->n - (size_t)off;
	return bmi_str_put(ret, data->bytes + off, size < left ? size : left);
}

static int scratch_resize(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, uint64_t size,
			  struct bmi_error *err)
{
	static const char zeros[BMI_FS_PAGE];
	struct bmi_str *data = &node->data;

	if (size > mnt->opt->scratch_max)
		return bmi_fail(err, -EFBIG, "a scratch file holds %zu bytes at most",
				(size_t)mnt->opt->scratch_max);
	if (size < data->n) {
		data->n = (size_t)size;
		data->bytes[size] = 0;
	}
	while (data->n < size) {
		const size_t more = (size_t)size - data->n;

		if (bmi_str_put(data, zeros, more < sizeof(zeros) ? more : sizeof(zeros)) < 0) {
			data->failed = false;
			return bmi_fail(err, -ENOMEM, "no memory for %zu bytes", (size_t)size);
		}
	}
	clock_gettime(CLOCK_REALTIME, &node->mtime);
	return 0;
}

static int scratch_write(struct bmi_fs_handle *h, const char *bytes, size_t n, uint64_t off,
			 struct bmi_error *err)
{
	struct bmi_str *data = &h->node->data;
	int r = 0;

	if (h->flags & O_APPEND)
		off = data->n;
	if (off > h->mnt->opt->scratch_max)
		off = h->mnt->opt->scratch_max; /* resize says that it is too much */
	if (off + n > data->n)
		r = scratch_resize(h->mnt, h->node, off + n, err);
	if (r < 0)
		return r;
	memcpy(data->bytes + off, bytes, n);
	clock_gettime(CLOCK_REALTIME, &h->node->mtime);
	return 0;
}

const struct bmi_fs_kind bmi_fs_kind_scratch = {
	.mode = S_IFREG | 0600,
	.stat = scratch_stat,
	.read = scratch_read,
	.write = scratch_write,
	.resize = scratch_resize,
};

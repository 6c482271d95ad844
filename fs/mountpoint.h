/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_FS_MOUNTPOINT_H
#define BMI_FS_MOUNTPOINT_H

#include "bmi.h"

/**
 * bmi_fs_mountpoint_prepare() - make a path fit to be mounted on.
 * @path:     as the user gave it; "/dev/fd/N" (mounted by somebody else already) passes unchanged.
 * @ret_path: absolute, without links; the caller frees it. Untouched on failure.
 * @ret_note: a sentence for the user when a dead mount was cleared away, else empty.
 *
 * A FUSE mount whose daemon died (ENOTCONN) is lazily unmounted. Checks that FUSE can be used at all.
 *
 * Return: 0, -ENOTDIR, -ENOENT, -EACCES, -EBUSY (a bmifs lives there), -ENODEV (no /dev/fuse), -ENOTCONN, -ENOMEM.
 */
int bmi_fs_mountpoint_prepare(const char *path, char **ret_path, struct bmi_str *ret_note,
			      struct bmi_error *err);

#endif

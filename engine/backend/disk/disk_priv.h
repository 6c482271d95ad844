/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_DISK_DISK_PRIV_H
#define BMI_BACKEND_DISK_DISK_PRIV_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>

/* One read(2) to be done: plain numbers; what they mean is the caller's business. */
struct bmi_disk_op {
	int fd;
	void *buf;
	size_t len;
	uint64_t off;
	uint32_t tag;
};

/* Something that does reads in the background. At most @depth of them at once, as given to open(). */
struct bmi_disk_engine {
	const char *name; /* "io_uring", "pread" */
	int (*open)(uint32_t depth, void **ret, struct bmi_error *err);
	/* 0: it is under way and reap() will tell; -errno: it is not. */
	int (*submit)(void *engine, const struct bmi_disk_op *op);
	/* wait for one to end. *ret_res: bytes read or -errno. 0, or -errno when waiting itself failed */
	int (*reap)(void *engine, uint32_t *ret_tag, int64_t *ret_res);
	void (*close)(void *engine); /* nothing may be in flight */
};

extern const struct bmi_disk_engine bmi_disk_engine_uring;
extern const struct bmi_disk_engine bmi_disk_engine_pread;

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_EXTENT_H
#define BMI_BASE_EXTENT_H

#include <stdint.h>

/* A run of bytes in an open file. The fd is lent: whoever opened the checkpoint closes it. */
struct bmi_extent {
	int fd;
	uint64_t off, len; /* bytes */
};

#endif

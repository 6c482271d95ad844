/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_LIMITS_H
#define BMI_RUN_LIMITS_H

#include "base/error.h"

#include <stdint.h>

/**
 * bmi_limits_available() - bytes of memory this process may take on top of what it has now.
 * @root:      put in front of every path: "" for this machine, a directory with proc/ and mounted trees in tests.
 * @ret_bytes: the lowest of MemAvailable and, for the process's memory control group and each one above it that can be
 *             seen, limit - (usage - page cache that can be given back). Nothing is set aside.
 *
 * Control groups of both versions are read (memory.max and memory.high, memory.limit_in_bytes), found through
 * /proc/self/cgroup and /proc/self/mountinfo as cgroups(7) and cgroup_namespaces(7) describe; one that cannot be
 * read sets no limit.
 *
 * Return: 0, or -errno when /proc/meminfo cannot be read.
 */
int bmi_limits_available(const char *root, uint64_t *ret_bytes, struct bmi_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/* Owns nothing but the way a line takes out of the daemon. Invariant: no line holds a byte of a prompt or an answer. */
#include "log.h"

#include "bmi.h"

#include <fuse3/fuse_log.h>

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

static int to_priority(enum bmi_fs_log_level level)
{
	switch (level) {
	case BMI_FS_LOG_ERROR:
		return LOG_ERR;
	case BMI_FS_LOG_INFO:
		return LOG_INFO;
	case BMI_FS_LOG_DEBUG:
		break;
	}
	return LOG_DEBUG;
}

void bmi_fs_log(const struct bmi_fs_log *log, enum bmi_fs_log_level level, const char *fmt, ...)
{
	char line[BMI_ERROR_MSG_MAX + 128];
	size_t n = 0;
	va_list ap;

	if (level == BMI_FS_LOG_DEBUG && !log->with_debug)
		return;
	va_start(ap, fmt);
	if (log->fd < 0) {
		vsyslog(to_priority(level), fmt, ap);
		va_end(ap);
		return;
	}
	if (log->with_time) {
		const time_t now = time(/* ret= */ NULL);
		struct tm tm;

		gmtime_r(&now, &tm);
		n = strftime(line, sizeof(line), "%Y-%m-%dT%H:%M:%SZ ", &tm);
	}
	n += (size_t)snprintf(line + n, sizeof(line) - n, "mount.bmifs: ");
	vsnprintf(line + n, sizeof(line) - n - 1, fmt, ap);
	va_end(ap);
	n += strnlen(line + n, sizeof(line) - n - 1);
	line[n++] = '\n';
	if (write(log->fd, line, n) < 0)
		return; /* a full disk must not stop the service */
}

static void fuse_to_syslog(enum fuse_log_level level, const char *fmt, va_list ap)
{
	vsyslog(level <= FUSE_LOG_ERR ? LOG_ERR : LOG_INFO, fmt, ap);
}

void bmi_fs_log_to_syslog(struct bmi_fs_log *log)
{
	openlog("mount.bmifs", LOG_PID, LOG_DAEMON);
	log->fd = -1;
	fuse_set_log_func(fuse_to_syslog);
}

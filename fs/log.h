/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_FS_LOG_H
#define BMI_FS_LOG_H

#include <stdbool.h>

enum bmi_fs_log_level { BMI_FS_LOG_ERROR, BMI_FS_LOG_INFO, BMI_FS_LOG_DEBUG };

/* Where the daemon's own lines go: stderr while in the foreground, else a file (-o log=) or syslog. */
struct bmi_fs_log {
	int fd;          /* stderr or the log file; -1: syslog */
	bool with_time;  /* a file's lines start with the time */
	bool with_debug; /* -v and -d */
};

/**
 * bmi_fs_log() - one line. Prompts, answers and what users write are never passed to it.
 * Any thread; a line is one write(2), so lines do not mix.
 */
void bmi_fs_log(const struct bmi_fs_log *log, enum bmi_fs_log_level level, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));

/** bmi_fs_log_to_syslog() - from now on lines of @log, and libfuse's own, go to syslog. */
void bmi_fs_log_to_syslog(struct bmi_fs_log *log);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_FS_ERRLOG_H
#define BMI_FS_ERRLOG_H

#include "bmi.h"

#include <pthread.h>

/* The file last_error keeps this many lines: enough to see what went wrong in a script, short enough for a screen. */
enum { BMI_FS_ERRLOG_LINES = 16 };

/* The last errors told to users, oldest first. Its lock is a leaf: nothing is called while it is held. */
struct bmi_fs_errlog {
	pthread_mutex_t lock;
	char *lines[BMI_FS_ERRLOG_LINES]; /* under lock; a ring, NULL where none yet */
	unsigned n_added;                 /* under lock */
};

void bmi_fs_errlog_init(struct bmi_fs_errlog *log);
void bmi_fs_errlog_fini(struct bmi_fs_errlog *log);

/**
 * bmi_fs_errlog_add() - remember one error as `time file errno-text: sentence`.
 * @file: the virtual file to blame, as the user names it.
 * @err:  code and sentence. Line breaks in the sentence become spaces: one error is one line.
 *
 * Any thread; never fails (without memory the line is lost), never blocks on anything but the log's own lock.
 */
void bmi_fs_errlog_add(struct bmi_fs_errlog *log, const char *file, const struct bmi_error *err);

/** bmi_fs_errlog_render() - append all lines, oldest first. Return: 0 or -ENOMEM. */
int bmi_fs_errlog_render(struct bmi_fs_errlog *log, struct bmi_str *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the lines of last_error, in memory only: sentences may name what a user wrote into a control file, so they never
 * reach the system's log. Invariant: lines[i] is NULL or one whole line with its newline.
 */
#include "errlog.h"

#include <ctype.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

void bmi_fs_errlog_init(struct bmi_fs_errlog *log)
{
	*log = (struct bmi_fs_errlog){ 0 };
	pthread_mutex_init(&log->lock, /* attr= */ NULL);
}

void bmi_fs_errlog_fini(struct bmi_fs_errlog *log)
{
	for (unsigned i = 0; i < BMI_FS_ERRLOG_LINES; i++)
		free(log->lines[i]);
	pthread_mutex_destroy(&log->lock);
}

static char *make_line(const char *file, const struct bmi_error *err)
{
	const time_t now = time(/* ret= */ NULL);
	struct bmi_str line = { 0 };
	char when[32];
	struct tm tm;

	gmtime_r(&now, &tm);
	strftime(when, sizeof(when), "%Y-%m-%dT%H:%M:%SZ", &tm);
	bmi_str_printf(&line, "%s %s %s: %s", when, file, strerror(-err->code), err->msg);
	for (size_t i = 0; i < line.n; i++) {
		if (iscntrl((unsigned char)line.bytes[i]))
			line.bytes[i] = ' ';
	}
	bmi_str_puts(&line, "\n");
	if (!bmi_str_ok(&line)) {
		bmi_str_fini(&line);
		return NULL;
	}
	return line.bytes;
}

void bmi_fs_errlog_add(struct bmi_fs_errlog *log, const char *file, const struct bmi_error *err)
{
	char *line = make_line(file, err);
	char *oldest;

	if (!line)
		return;
	pthread_mutex_lock(&log->lock);
	oldest = log->lines[log->n_added % BMI_FS_ERRLOG_LINES];
	log->lines[log->n_added % BMI_FS_ERRLOG_LINES] = line;
	log->n_added++;
	pthread_mutex_unlock(&log->lock);
	free(oldest);
}

int bmi_fs_errlog_render(struct bmi_fs_errlog *log, struct bmi_str *ret)
{
	pthread_mutex_lock(&log->lock);
	for (unsigned i = 0; i < BMI_FS_ERRLOG_LINES; i++) {
		const char *line = log->lines[(log->n_added + i) % BMI_FS_ERRLOG_LINES];

		if (line)
			bmi_str_puts(ret, line);
	}
	pthread_mutex_unlock(&log->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_ERROR_H
#define BMI_BASE_ERROR_H

#include <stdarg.h>

enum { BMI_ERROR_MSG_MAX = 4096 };

/* Why something failed: a negative errno and one sentence. Lives on the caller's stack; needs no fini. */
struct bmi_error {
	int code;
	char msg[BMI_ERROR_MSG_MAX];
};

/**
 * bmi_fail() - start an error.
 * @err:  where the sentence goes; NULL is fine.
 * @code: a negative errno.
 * @fmt:  names the thing, the value and the limit, and what to do. No newline, no final full stop.
 *
 * Return: @code, so that `return bmi_fail(...)` reads well.
 */
int bmi_fail(struct bmi_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** bmi_fail_errno() - as bmi_fail(), with ": strerror(-code)" appended, for a system call that failed. */
int bmi_fail_errno(struct bmi_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/** bmi_note() - put an outer name in front of a sentence that is there already: "outer: inner". Return: @code. */
int bmi_note(struct bmi_error *err, int code, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the wording of errors: a sentence is started once and then only gets names put in front of it. Nothing here
 * allocates or fails; a sentence longer than the room for it is cut.
 */
#include "base/error.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

static void start(struct bmi_error *err, int code, const char *fmt, va_list ap)
{
	assert(code < 0);
	err->code = code;
	vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
}

int bmi_fail(struct bmi_error *err, int code, const char *fmt, ...)
{
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	start(err, code, fmt, ap);
	va_end(ap);
	return code;
}

int bmi_fail_errno(struct bmi_error *err, int code, const char *fmt, ...)
{
	va_list ap;
	size_t n;

	if (!err)
		return code;
	va_start(ap, fmt);
	start(err, code, fmt, ap);
	va_end(ap);
	n = strlen(err->msg);
	snprintf(err->msg + n, sizeof(err->msg) - n, ": %s", strerror(-code));
	return code;
}

int bmi_note(struct bmi_error *err, int code, const char *fmt, ...)
{
	char outer[256];
	va_list ap;
	size_t n, rest;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(outer, sizeof(outer) - 2, fmt, ap);
	va_end(ap);
	n = strlen(outer);
	outer[n++] = ':';
	outer[n++] = ' ';
	rest = strnlen(err->msg, sizeof(err->msg) - 1 - n);
	memmove(err->msg + n, err->msg, rest);
	memcpy(err->msg, outer, n);
	err->msg[n + rest] = 0;
	err->code = code;
	return code;
}

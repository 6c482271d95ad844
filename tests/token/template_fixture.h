/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_TOKEN_TEMPLATE_FIXTURE_H
#define BMI_TESTS_TOKEN_TEMPLATE_FIXTURE_H

#include "base/json.h"
#include "base/str.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TEMPLATE_NOW = 1753531200 }; /* as in tests/golden/make_templates.py */

/* The whole of a file, NUL-terminated; ends the program when it cannot be read. */
static inline char *read_whole(const char *dir, const char *name, size_t *ret_n)
{
	bmi_auto_str path = { 0 };
	struct bmi_str s = { 0 };
	char buf[8192];
	FILE *f;
	size_t n;

	bmi_str_printf(&path, "%s/%s", dir, name);
	f = fopen(path.bytes, "r");
	if (!f) {
		printf("Bail out! %s: %s\n", path.bytes, strerror(errno));
		exit(2);
	}
	while ((n = fread(buf, 1, sizeof(buf), f)) > 0)
		bmi_str_put(&s, buf, n);
	fclose(f);
	*ret_n = s.n;
	return s.bytes;
}

static inline size_t count_lines(const char *text)
{
	size_t n = 0;

	for (; *text; text++)
		n += *text == '\n';
	return n;
}

/* One TAP line for what a row of a .jsonl file expects: its "out", or an error when it has "error". */
static inline bool tell(unsigned number, const struct bmi_json *row, int r, const struct bmi_str *out,
			const char *why)
{
	const struct bmi_json *name = bmi_json_get(row, "name"), *want = bmi_json_get(row, "out");
	const bool ok =
		want ? r == 0 && out->n == want->n && !memcmp(out->n ? out->bytes : "", want->str, want->n)
		     : r == -EINVAL || r == -EOPNOTSUPP || r == -E2BIG;

	printf("%sok %u - ", ok ? "" : "not ", number);
	for (unsigned i = 0; i < name->n; i++) /* '#' would be a directive */
		putchar(name->str[i] == '#' ? '*' : name->str[i]);
	putchar('\n');
	if (!ok)
		printf("# want %.*s\n# got  %d %.*s %s\n", want ? (int)want->n : 8,
		       want ? want->str : "an error", r, (int)out->n, out->n ? out->bytes : "",
		       r < 0 ? why : "");
	return ok;
}

#endif

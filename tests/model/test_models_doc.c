/* SPDX-License-Identifier: Apache-2.0 */
/* docs/models.md against the table of architectures: one case for each row of either. */
#include "arch/arch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

static char *page;

static void read_page(void)
{
	FILE *f = fopen(DOC, "r");
	size_t n;

	page = calloc(1, 1 << 16);
	if (!f || !page)
		exit(1);
	n = fread(page, 1, (1 << 16) - 1, f);
	page[n] = 0;
	fclose(f);
}

/* The text of column @i of an architecture's row, without the spaces around it. */
static void column(const struct bmi_arch *arch, unsigned i, char *ret, size_t size)
{
	const char *at, *end;
	char start[128];

	snprintf(start, sizeof(start), "\n| `%s` |", arch->model_type);
	at = strstr(page, start);
	if (!at)
		fail_msg("no row of %s", arch->model_type);
	for (at++; i > 0; i--) {
		at = strchr(at + 1, '|');
		assert_non_null(at);
	}
	end = strchr(at + 1, '|');
	assert_non_null(end);
	at = end - at > 2 ? at + 2 : end;
	snprintf(ret, size, "%.*s", end > at ? (int)(end - at - 1) : 0, at);
}

static void check_row(void **state)
{
	const struct bmi_arch *arch = *state;
	char text[512], path[512], *name, *rest;
	struct stat st;

	column(arch, 1, text, sizeof(text));
	assert_string_equal(text, arch->class_name);
	column(arch, 2, text, sizeof(text));
	assert_string_equal(text, arch->gguf_names                      ? "yes"
				  : strcmp(arch->model_type, "mistral") ? "no"
									: "as llama");
	assert_non_null(arch->forward);
	column(arch, 3, text, sizeof(text));
	if (strchr(text, ';'))
		*strchr(text, ';') = 0; /* after it: real models */
	for (name = strtok_r(text, ", ", &rest); name; name = strtok_r(NULL, ", ", &rest)) {
		snprintf(path, sizeof(path), "%s/tiny/%s/expected.json", TEST_DATA, name);
		if (stat(path, &st) < 0)
			fail_msg("no answer %s", path);
	}
}

static void check_count(void **state)
{
	unsigned n_rows = 0, n = 0;

	for (const char *at = page; (at = strstr(at, "\n| `")); at++)
		n_rows++;
	while (bmi_arch_get(n))
		n++;
	assert_int_equal(n_rows, n);
}

int main(void)
{
	static struct CMUnitTest tests[128];
	const struct bmi_arch *arch;
	size_t n = 0;

	read_page();
	for (unsigned i = 0; (arch = bmi_arch_get(i)) && n < BMI_ARRAY_LEN(tests) - 1; i++)
		tests[n++] = (struct CMUnitTest){ arch->model_type, check_row, NULL, NULL,
						  (void *)(uintptr_t)arch };
	tests[n++] = (struct CMUnitTest){ "no row too many", check_count, NULL, NULL, NULL };
	return _cmocka_run_group_tests("docs/models.md", tests, n, NULL, NULL);
}

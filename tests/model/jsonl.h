/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_MODEL_JSONL_H
#define BMI_TESTS_MODEL_JSONL_H

/*
 * Table tests whose table is a file under tests/data with one JSON object a line: each line becomes a cmocka case of its
 * own. Include after cmocka.h.
 */
#include "base/arena.h"
#include "base/file.h"
#include "base/json.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct jsonl {
	char *text;
	struct CMUnitTest *tests;
	struct bmi_json_doc **docs;
	size_t n;
	struct bmi_arena *arena;
};

/* A member as a C string; aborts the program when it is none: the table is ours. */
static inline char *jsonl_str(struct bmi_arena *arena, const struct bmi_json *o, const char *key)
{
	const struct bmi_json *v = bmi_json_get(o, key);

	if (!v || v->type != BMI_JSON_STRING)
		abort();
	return bmi_arena_strndup(arena, v->str, v->n);
}

/* Append one case per line of TEST_DATA/@path to @t, named by the line's @name_key; its state is the line's object. */
static inline void jsonl_load(struct jsonl *t, const char *path, const char *name_key, CMUnitTestFunction fn)
{
	const int dir = open(TEST_DATA, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct bmi_error err = { 0 };
	char *line, *end;
	size_t n;

	if (dir < 0 || bmi_file_read(dir, path, 16 << 20, &t->text, &n, &err) < 0) {
		printf("Bail out! %s/%s: %s\n", TEST_DATA, path, err.msg);
		exit(1);
	}
	close(dir);
	t->arena = bmi_arena_new();
	for (line = t->text; *line; line = end + 1) {
		end = strchr(line, '\n');
		t->tests = realloc(t->tests, (t->n + 1) * sizeof(*t->tests));
		t->docs = realloc(t->docs, (t->n + 1) * sizeof(*t->docs));
		if (!end || bmi_json_parse(line, (size_t)(end - line), &t->docs[t->n], &err) < 0) {
			printf("Bail out! %s/%s: %s\n", TEST_DATA, path, err.msg);
			exit(1);
		}
		t->tests[t->n] = (struct CMUnitTest){
			.name = jsonl_str(t->arena, bmi_json_root(t->docs[t->n]), name_key),
			.test_func = fn,
			.initial_state = (void *)(uintptr_t)bmi_json_root(t->docs[t->n]),
		};
		t->n++;
	}
}

static inline int jsonl_run(struct jsonl *t, const char *group)
{
	const int r = _cmocka_run_group_tests(group, t->tests, t->n, NULL, NULL);

	for (size_t i = 0; i < t->n; i++)
		bmi_json_free(t->docs[i]);
	bmi_arena_free(t->arena);
	free(t->tests);
	free(t->docs);
	free(t->text);
	return r;
}

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_JINJA_H
#define BMI_TOKEN_JINJA_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * The part of Jinja2 that published chat templates use, as Transformers sets it up: ImmutableSandboxedEnvironment,
 * trim_blocks, lstrip_blocks, loopcontrols, no autoescape, its own tojson. What is not known here is refused by
 * name. A parsed template never changes: any number of threads may render one.
 */
struct bmi_jinja;

/* What a template may cost. All are constants: a hostile template fails, in bounded time. */
enum {
	BMI_JINJA_TEXT_MAX = 1 << 20,    /* bytes of a template */
	BMI_JINJA_DEPTH_MAX = 200,       /* nested expressions and blocks */
	BMI_JINJA_RUN_DEPTH_MAX = 800,   /* the same while rendering, through macros */
	BMI_JINJA_OUTPUT_MAX = 16 << 20, /* bytes that a rendering may print */
	BMI_JINJA_MEMORY_MAX = 96 << 20, /* bytes of values that a rendering may make */
	BMI_JINJA_STEPS_MAX = 8000000,   /* nodes evaluated, and 32 bytes copied or compared each */
	BMI_JINJA_RANGE_MAX = 100000,    /* as Jinja2's MAX_RANGE */
};

/**
 * bmi_jinja_parse() - a template from its text.
 * @text: @n bytes of UTF-8; may be freed afterwards.
 * @ret:  on success the caller frees it with bmi_jinja_free(); untouched on failure.
 *
 * Return: 0, -EINVAL (syntax, with the line), -EOPNOTSUPP (a construct that is not known here, by name), -E2BIG (a limit,
 * named), -EILSEQ (not UTF-8), -ENOMEM.
 */
int bmi_jinja_parse(const char *text, size_t n, struct bmi_jinja **ret, struct bmi_error *err);
void bmi_jinja_free(struct bmi_jinja *t);
BMI_AUTO(bmi_jinja)

/* One variable that a template is given: JSON, or (json NULL) the text str[0..n). */
struct bmi_jinja_var {
	const char *name;
	size_t n_name;
	const struct bmi_json *json;
	const char *str;
	size_t n;
};

/**
 * bmi_jinja_render() - print a template.
 * @vars: lent for the call; of two with one name the first counts.
 * @now:  seconds since 1970 for strftime_now(), shown in the local time zone.
 * @ret:  the text is appended; on failure a part may have been.
 *
 * Return: 0, -EINVAL (the template's error or its raise_exception(), with the line), -EOPNOTSUPP, -E2BIG, -ENOMEM.
 */
int bmi_jinja_render(const struct bmi_jinja *t, const struct bmi_jinja_var *vars, size_t n_vars, int64_t now,
		     struct bmi_str *ret, struct bmi_error *err);

#endif

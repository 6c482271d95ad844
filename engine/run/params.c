/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what may be written to params/ and what it means. One table says each parameter's kind, range and place; reading,
 * writing and listing all walk it. Invariant: a value that is in a struct bmi_params is in its range.
 */
#include "run/params.h"

#include <ctype.h>
#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

enum kind { REAL, COUNT, SEED, FLAG, TEMPLATE, STOP };

struct param {
	const char *name;
	enum kind kind;
	size_t offset;
	double min, max;
};

#define AT(field) offsetof(struct bmi_params, field)

static const struct param table[] = {
	{ "temperature", REAL, AT(temperature), 0, 100 },
	{ "top_k", COUNT, AT(top_k), 0, 1 << 24 },
	{ "top_p", REAL, AT(top_p), 0, 1 },
	{ "min_p", REAL, AT(min_p), 0, 1 },
	{ "repetition_penalty", REAL, AT(repetition_penalty), 0.01, 100 },
	{ "presence_penalty", REAL, AT(presence_penalty), -2, 2 },
	{ "frequency_penalty", REAL, AT(frequency_penalty), -2, 2 },
	{ "seed", SEED, AT(seed), -1, 0x1p62 },
	{ "max_tokens", COUNT, AT(max_tokens), 1, 1 << 30 },
	{ "stop", STOP, 0, 0, 0 },
	{ "parse_special", FLAG, AT(parse_special), 0, 1 },
	{ "ignore_eos", FLAG, AT(ignore_eos), 0, 1 },
	{ "template", TEMPLATE, AT(template), 0, 0 },
};

enum { N_PARAMS = sizeof(table) / sizeof(table[0]) };

const char *bmi_params_name(unsigned i)
{
	return i < N_PARAMS ? table[i].name : NULL;
}

static const struct param *find(const char *name)
{
	for (unsigned i = 0; i < N_PARAMS; i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

void bmi_params_init(struct bmi_params *p, const struct bmi_json *gen)
{
	bool do_sample = false;
	double x;
	uint64_t u;

	*p = (struct bmi_params){ .top_p = 1, .repetition_penalty = 1, .max_tokens = 512, .seed = -1 };
	bmi_json_to_bool(bmi_json_get(gen, "do_sample"), &do_sample);
	if (do_sample) {
		/* Transformers' own defaults where the file says do_sample and nothing else */
		p->temperature = 1;
		p->top_k = 50;
		if (bmi_json_to_double(bmi_json_get(gen, "temperature"), &x) && x >= 0 && x <= 100)
			p->temperature = x;
		if (bmi_json_to_u64(bmi_json_get(gen, "top_k"), &u) && u <= 1 << 24)
			p->top_k = (uint32_t)u;
		if (bmi_json_to_double(bmi_json_get(gen, "top_p"), &x) && x >= 0 && x <= 1)
			p->top_p = x;
		if (bmi_json_to_double(bmi_json_get(gen, "min_p"), &x) && x >= 0 && x <= 1)
			p->min_p = x;
	}
	if (bmi_json_to_double(bmi_json_get(gen, "repetition_penalty"), &x) && x >= 0.01 && x <= 100)
		p->repetition_penalty = x;
	if (bmi_json_to_u64(bmi_json_get(gen, "max_new_tokens"), &u) && u >= 1 && u <= 1 << 30)
		p->max_tokens = (uint32_t)u;
}

/* C escapes of one line into bytes. -1: a bad escape or too long. */
static int unescape(const char *s, size_t n, char *out)
{
	size_t k = 0;

	for (size_t i = 0; i < n; i++) {
		char c = s[i];

		if (k == BMI_MAX_STOP_BYTES)
			return -1;
		if (c == '\\') {
			static const char from[] = "ntr0\\\"'abfve", to[] = "\n\t\r\0\\\"'\a\b\f\v\x1b";
			const char *at;

			if (++i == n)
				return -1;
			if (s[i] == 'x' && i + 2 < n && isxdigit((unsigned char)s[i + 1]) &&
			    isxdigit((unsigned char)s[i + 2])) {
				const char hex[3] = { s[i + 1], s[i + 2], 0 };

				c = (char)strtoul(hex, NULL, 16);
				i += 2;
			} else {
				at = s[i] ? strchr(from, s[i]) : NULL;
				if (!at)
					return -1;
				c = to[at - from];
			}
		}
		out[k++] = c;
	}
	return (int)k;
}

static int set_stop(struct bmi_params *p, const char *text, size_t n, struct bmi_error *err)
{
	struct bmi_params next = *p;

	next.n_stops = 0;
	for (size_t i = 0; i < n;) {
		const char *nl = memchr(text + i, '\n', n - i);
		const size_t len = nl ? (size_t)(nl - text) - i : n - i;
		int k;

		if (len) {
			if (next.n_stops == BMI_MAX_STOPS)
				return bmi_fail(err, -ERANGE, "stop: at most %d strings, one a line",
						BMI_MAX_STOPS);
			k = unescape(text + i, len, next.stop[next.n_stops].bytes);
			if (k < 0)
				return bmi_fail(err, -EINVAL,
						"stop: line %u is longer than %d bytes or has an unknown "
						"escape; \\n, \\t, \\\\ and \\xHH are known",
						next.n_stops + 1, BMI_MAX_STOP_BYTES);
			next.stop[next.n_stops++].n = (uint16_t)k;
		}
		i += len + 1;
	}
	*p = next;
	return 0;
}

static const char *const template_words[] = {
	[BMI_TEMPLATE_RAW] = "raw",
	[BMI_TEMPLATE_CHAT] = "chat",
	[BMI_TEMPLATE_IDS] = "ids",
};

static int set_template(struct bmi_params *p, const char *word, struct bmi_error *err)
{
	for (unsigned i = 0; i < sizeof(template_words) / sizeof(template_words[0]); i++)
		if (strcmp(word, template_words[i]) == 0) {
			p->template = (enum bmi_template)i;
			return 0;
		}
	return bmi_fail(err, -EINVAL, "template: '%s' is none of raw, chat, ids", word);
}

static int set_number(struct bmi_params *p, const struct param *par, const char *word, struct bmi_error *err)
{
	char *end;
	double x;

	errno = 0;
	x = strtod(word, &end);
	if (end == word || *end || isnan(x) || strpbrk(word, "xX"))
		return bmi_fail(err, -EINVAL, "%s: '%s' is not a number", par->name, word);
	if (x < par->min || x > par->max)
		return bmi_fail(err, -ERANGE, "%s: %s is not in the range %g to %g", par->name, word,
				par->min, par->max);
	if (par->kind != REAL && x != floor(x))
		return bmi_fail(err, -EINVAL, "%s: %s is not a whole number", par->name, word);
	switch (par->kind) {
	case REAL:
		*(double *)(void *)((char *)p + par->offset) = x;
		break;
	case COUNT:
		*(uint32_t *)(void *)((char *)p + par->offset) = (uint32_t)x;
		break;
	case FLAG:
		*(bool *)(void *)((char *)p + par->offset) = x != 0;
		break;
	default: /* a seed: all 62 bits count, a double has 53 */
		*(int64_t *)(void *)((char *)p + par->offset) =
			strpbrk(word, ".eE") ? (int64_t)x : strtoll(word, NULL, 10);
	}
	return 0;
}

int bmi_params_set(struct bmi_params *p, const char *name, const char *text, size_t n, struct bmi_error *err)
{
	const struct param *par = find(name);
	char word[64];

	if (!par)
		return bmi_fail(err, -ENOENT, "there is no parameter '%s'", name);
	if (memchr(text, 0, n))
		return bmi_fail(err, -EINVAL, "%s: a NUL byte", name);
	if (par->kind == STOP)
		return set_stop(p, text, n, err);
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	while (n && isspace((unsigned char)*text))
		text++, n--;
	if (n == 0 || n >= sizeof(word))
		return bmi_fail(err, -EINVAL, "%s: one value is expected", name);
	memcpy(word, text, n);
	word[n] = 0;
	if (par->kind == TEMPLATE)
		return set_template(p, word, err);
	if (par->kind == SEED && strcmp(word, "random") == 0) {
		p->seed = -1;
		return 0;
	}
	return set_number(p, par, word, err);
}

static void get_stop(const struct bmi_params *p, struct bmi_str *ret)
{
	for (uint32_t i = 0; i < p->n_stops; i++) {
		for (unsigned k = 0; k < p->stop[i].n; k++) {
			const unsigned char c = (unsigned char)p->stop[i].bytes[k];

			if (c == '\n')
				bmi_str_puts(ret, "\\n");
			else if (c == '\\')
				bmi_str_puts(ret, "\\\\");
			else if (c < 0x20 || c == 0x7f)
				bmi_str_printf(ret, "\\x%02x", c);
			else
				bmi_str_put(ret, &c, 1);
		}
		bmi_str_puts(ret, "\n");
	}
}

int bmi_params_get(const struct bmi_params *p, const char *name, struct bmi_str *ret)
{
	const struct param *par = find(name);
	const void *at;

	if (!par)
		return -ENOENT;
	at = (const char *)p + par->offset;
	switch (par->kind) {
	case REAL:
		return bmi_str_printf(ret, "%.10g\n", *(const double *)at);
	case COUNT:
		return bmi_str_printf(ret, "%u\n", *(const uint32_t *)at);
	case FLAG:
		return bmi_str_printf(ret, "%d\n", *(const bool *)at);
	case SEED:
		if (p->seed < 0)
			return bmi_str_puts(ret, "random\n");
		return bmi_str_printf(ret, "%lld\n", (long long)p->seed);
	case TEMPLATE:
		return bmi_str_printf(ret, "%s\n", template_words[p->template]);
	case STOP:
		get_stop(p, ret);
	}
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A map that is still being written, often a line at a time: what can be said of its complete lines without parsing
 * them as YAML or JSON each time. Only a line that is one `name: device`, by itself at the left edge or as a member of
 * JSON's outer object, is judged; whatever else stands in the text is left to the parse of the whole. One pass, no memory.
 * Invariant: what is refused here is refused by the parse of the whole text too, whatever lines follow.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <string.h>

enum { MAX_WORD = 256 };

/* One line's key and value, without quotes. */
struct line {
	char key[MAX_WORD], value[MAX_WORD];
	bool value_quoted;
};

static size_t skip_blanks(const char *s, size_t i, size_t n)
{
	while (i < n && (s[i] == ' ' || s[i] == '\t' || s[i] == '\r'))
		i++;
	return i;
}

/* A word of plain characters, or in double quotes without escapes. Return: the place behind it, 0 when it is neither. */
static size_t take_word(const char *s, size_t i, size_t n, char word[MAX_WORD], bool *quoted)
{
	const size_t start = i + (i < n && s[i] == '"');
	size_t end = start;

	*quoted = start != i;
	if (*quoted) {
		while (end < n && s[end] != '"')
			end++;
		if (end == n || memchr(s + start, '\\', end - start))
			return 0;
	} else {
		while (end < n &&
		       (strchr("._-:", s[end]) || (s[end] >= '0' && s[end] <= '9') ||
			(s[end] >= 'a' && s[end] <= 'z') || (s[end] >= 'A' && s[end] <= 'Z')) &&
		       s[end]) {
			if (s[end] == ':' && (end + 1 == n || strchr(" \t\r", s[end + 1])))
				break; /* the colon behind a key */
			end++;
		}
		if (end == start || s[start] == '-' || s[start] == ':')
			return 0; /* a list, an empty key: not judged here */
	}
	if (end - start >= MAX_WORD)
		return 0;
	memcpy(word, s + start, end - start);
	word[end - start] = 0;
	return end + *quoted;
}

/* `key: value`, then nothing, a comma (JSON) or a comment. */
static bool split(const char *s, size_t n, bool json, struct line *line)
{
	bool quoted;
	size_t i = take_word(s, skip_blanks(s, 0, n), n, line->key, &quoted);

	if (i == 0 || (json && !quoted))
		return false;
	i = json ? skip_blanks(s, i, n) : i;
	if (i == n || s[i] != ':')
		return false;
	i = take_word(s, skip_blanks(s, i + 1, n), n, line->value, &line->value_quoted);
	if (i == 0)
		return false;
	i = skip_blanks(s, i, n);
	if (json && i < n && s[i] == ',')
		i = skip_blanks(s, i + 1, n);
	return i == n || (!json && s[i] == '#' && (s[i - 1] == ' ' || s[i - 1] == '\t'));
}

static int judge(const struct line *line, const struct bmi_skel *skel, enum bmi_place_error *kind,
		 struct bmi_error *err)
{
	bmi_device device;
	struct bmi_part part;

	if (!strcmp(line->key, "device_map") || !strcmp(line->key, "max_memory"))
		return 0;
	if (!bmi_device_parse(line->value, strlen(line->value), &device))
		return bmi_refuse(
			kind, BMI_PLACE_BAD_DEVICE, err,
			-EINVAL, "device_map: '%.60s' for module '%.200s' is no device: write cpu, disk or a GPU's number",
			line->value, line->key);
	if (!skel)
		return 0;
	part = bmi_part_find(skel, line->key, strlen(line->key));
	if (part.module == BMI_NONE && part.tensor == BMI_NONE) {
		bmi_auto_str hint = { 0 };

		bmi_part_hint(skel, line->key, strlen(line->key), &hint);
		return bmi_refuse(kind, BMI_PLACE_UNKNOWN_MODULE, err, -EINVAL,
				  "device_map: the model has no module '%.200s': %.300s", line->key,
				  hint.bytes ? hint.bytes : "");
	}
	return 0;
}

/* A word alone on the first line is the whole map: it must be a mode or a device. */
static int judge_word(const char *s, size_t n, enum bmi_place_error *kind, struct bmi_error *err)
{
	char word[MAX_WORD];
	bool quoted;
	const size_t i = take_word(s, 0, n, word, &quoted);

	if (i == 0 || quoted || skip_blanks(s, i, n) != n || strchr(word, ':') || bmi_map_is_word(word))
		return 0;
	return bmi_refuse(
		kind, BMI_PLACE_BAD_MODE, err, -EINVAL,
		"device_map: '%.60s' is no placement: write auto, fastest, balanced, balanced_low_0 "
		"or sequential, a device (cpu, disk, a GPU's number), or MODULE: DEVICE lines",
		word);
}

static bool is_blank_line(const char *s, size_t n)
{
	const size_t i = skip_blanks(s, 0, n);

	return i == n || s[i] == '#';
}

int bmi_map_check_lines(const char *text, size_t n, const struct bmi_skel *skel, enum bmi_place_error *kind,
			struct bmi_error *err)
{
	struct line line;
	const char *end;
	bool json = false, first = true;
	int r = 0;

	if (n > BMI_TEXT_MAX)
		return bmi_refuse(kind, BMI_PLACE_SYNTAX, err, -EINVAL,
				  "device_map: more than %d bytes of text", BMI_TEXT_MAX);
	for (const char *s = text; r == 0 && (end = memchr(s, '\n', (size_t)(text + n - s))); s = end + 1) {
		const size_t n_line = (size_t)(end - s);

		if (is_blank_line(s, n_line))
			continue;
		if (!json && s[skip_blanks(s, 0, n_line)] == '{') {
			if (skip_blanks(s, 1, n_line) != n_line || *s != '{')
				return 0; /* more on the brace's line: judged when whole */
			json = true;
			continue;
		}
		if (json ? memchr(s, '{', n_line) || memchr(s, '}', n_line) : *s == ' ' || *s == '\t') {
			if (json)
				return 0; /* a member's own object begins, or all ends */
			continue;         /* below a key: max_memory's lines */
		}
		if (!split(s, n_line, json, &line)) {
			r = first ? judge_word(s, n_line, kind, err) : 0;
			first = false;
			if (memchr(s, '{', n_line) || memchr(s, '[', n_line) || memchr(s, '"', n_line) ||
			    memchr(s, '\'', n_line) || memchr(s, '&', n_line) || memchr(s, '|', n_line))
				return r; /* something over several lines may begin here */
			continue;
		}
		first = false;
		r = judge(&line, skel, kind, err);
	}
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a user wrote, as a tree, whichever form it has. JSON is tried where a text starts with a brace or a quote, so that
 * a hf_device_map copied back is read by the JSON rules; what is no JSON then may still be YAML's flow form.
 */
#include "place/place_priv.h"

#include "base/json.h"

#include <errno.h>
#include <string.h>

enum { MAX_DEPTH = 3 };

static int from_json(const struct bmi_json *v, unsigned depth, struct bmi_arena *arena, struct bmi_node **ret,
		     struct bmi_error *err)
{
	struct bmi_node *node = bmi_arena_alloc(arena, sizeof(*node)), **tail;
	int r = 0;

	if (!node)
		return bmi_fail(err, -ENOMEM, "device map");
	if (v->key && memchr(v->key, 0, v->n_key))
		return bmi_fail(err, -EINVAL, "a NUL byte in a name");
	node->key = v->key ? bmi_arena_strndup(arena, v->key, v->n_key) : NULL;
	node->plain = v->type != BMI_JSON_STRING;
	switch (v->type) {
	case BMI_JSON_STRING:
	case BMI_JSON_NUMBER:
		if (memchr(v->str, 0, v->n))
			return bmi_fail(err, -EINVAL, "a NUL byte in a word");
		node->value = bmi_arena_strndup(arena, v->str, v->n);
		break;
	case BMI_JSON_NULL:
		node->value = "";
		break;
	case BMI_JSON_BOOL:
		node->value = v->boolean ? "true" : "false";
		break;
	case BMI_JSON_ARRAY:
		return bmi_fail(err, -EINVAL, "a list, where an object of \"module\": device is expected");
	case BMI_JSON_OBJECT:
		if (depth == MAX_DEPTH)
			return bmi_fail(err, -EINVAL, "nested too deep: members are \"module\": device");
		tail = &node->child;
		for (const struct bmi_json *c = v->child; c && r == 0; c = c->next) {
			r = from_json(c, depth + 1, arena, tail, err);
			if (r == 0)
				tail = &(*tail)->next;
		}
		break;
	}
	if (r == 0 && ((v->key && !node->key) || (v->type != BMI_JSON_OBJECT && !node->value)))
		r = bmi_fail(err, -ENOMEM, "device map");
	if (r == 0)
		*ret = node;
	return r;
}

static int parse_json(const char *text, size_t n, struct bmi_arena *arena, struct bmi_node **ret,
		      struct bmi_error *err)
{
	struct bmi_json_doc *doc;
	int r = bmi_json_parse(text, n, &doc, err);

	if (r < 0)
		return r;
	r = from_json(bmi_json_root(doc), 0, arena, ret, err);
	bmi_json_free(doc);
	return r;
}

int bmi_node_parse(const char *text, size_t n, struct bmi_arena *arena, struct bmi_node **ret,
		   struct bmi_error *err)
{
	struct bmi_error yaml_err = { 0 };
	size_t start = 0, at = 0; /* the first byte that is no blank, and its line's first byte */
	uint32_t line = 1;
	int r;

	*ret = NULL;
	if (n > BMI_TEXT_MAX)
		return bmi_fail(err, -EINVAL, "%zu bytes of text, at most %d are read", n, BMI_TEXT_MAX);
	for (; start < n && text[start] && strchr(" \t\r\n", text[start]); start++)
		if (text[start] == '\n') {
			at = start + 1;
			line++;
		}
	if (start == n)
		return 0;
	if (text[start] != '{' && text[start] != '[' && text[start] != '"')
		return bmi_yaml_parse(text + at, n - at, line, arena, ret, err);

	r = parse_json(text, n, arena, ret, err);
	if (r == -EINVAL && text[start] == '"') /* "": cpu is YAML */
		return bmi_yaml_parse(text + at, n - at, line, arena, ret, err);
	if (r == -EINVAL && text[start] == '{' &&
	    bmi_yaml_parse(text + at, n - at, line, arena, ret, &yaml_err) == 0)
		return 0; /* so is {model: cpu} */
	return r;
}

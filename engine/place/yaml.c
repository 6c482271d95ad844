/* SPDX-License-Identifier: Apache-2.0 */
/*
 * YAML to nodes; the only door to libyaml. The text is hostile: no aliases or anchors (a few lines of them describe
 * gigabytes), no tags, one document, two levels of mappings, no lists. Invariant: `open` are the mappings not closed yet.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <string.h>
#include <yaml.h>

enum { MAX_DEPTH = 3 };

struct reader {
	yaml_parser_t parser;
	struct bmi_arena *arena;
	struct bmi_node *root;
	struct bmi_node *open[MAX_DEPTH];
	struct bmi_node *last[MAX_DEPTH]; /* newest child of each */
	unsigned depth;
	const char *key; /* of the value that comes next; NULL: a key comes next */
	bool done;
	uint32_t line; /* of the text's first one */
	struct bmi_error *err;
};

static int refuse(struct reader *r, const yaml_event_t *ev, const char *what)
{
	return bmi_fail(r->err, -EINVAL, "line %zu: %s", ev->start_mark.line + r->line, what);
}

static int add(struct reader *r, const yaml_event_t *ev, struct bmi_node **ret)
{
	struct bmi_node *node = bmi_arena_alloc(r->arena, sizeof(*node));

	if (!node)
		return bmi_fail(r->err, -ENOMEM, "device map");
	node->key = r->key;
	node->line = (uint32_t)ev->start_mark.line + r->line;
	r->key = NULL;
	if (r->depth == 0)
		r->root = node;
	else if (r->last[r->depth - 1])
		r->last[r->depth - 1]->next = node;
	else
		r->open[r->depth - 1]->child = node;
	if (r->depth)
		r->last[r->depth - 1] = node;
	*ret = node;
	return 0;
}

static int on_scalar(struct reader *r, const yaml_event_t *ev)
{
	const char *bytes = (const char *)ev->data.scalar.value;
	const size_t n = ev->data.scalar.length;
	const bool plain = ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE;
	struct bmi_node *node = NULL;
	char *text;
	int code;

	if (ev->data.scalar.anchor || ev->data.scalar.tag)
		return refuse(r, ev, "anchors and tags are not taken here");
	if (ev->data.scalar.style == YAML_LITERAL_SCALAR_STYLE ||
	    ev->data.scalar.style == YAML_FOLDED_SCALAR_STYLE)
		return refuse(r, ev, "text blocks (| and >) are not taken here");
	if (memchr(bytes, 0, n))
		return refuse(r, ev, "a NUL byte");
	text = bmi_arena_strndup(r->arena, bytes, n);
	if (!text)
		return bmi_fail(r->err, -ENOMEM, "device map");

	if (r->depth && !r->key) {
		if (plain && n == 0)
			return refuse(r, ev, "a line without a module: for all modules write \"\": DEVICE");
		r->key = text;
		return 0;
	}
	code = add(r, ev, &node);
	if (code == 0) {
		node->value = text;
		node->plain = plain;
	}
	return code;
}

static int on_mapping(struct reader *r, const yaml_event_t *ev)
{
	struct bmi_node *node = NULL;
	int code;

	if (ev->data.mapping_start.anchor || ev->data.mapping_start.tag)
		return refuse(r, ev, "anchors and tags are not taken here");
	if (r->depth && !r->key)
		return refuse(r, ev, "a key must be a word");
	if (r->depth == MAX_DEPTH && !BMI_PLANTED_DEVICE_MAP)
		return refuse(r, ev, "nested too deep: lines are MODULE: DEVICE");
	code = add(r, ev, &node);
	if (code < 0)
		return code;
	r->open[r->depth] = node;
	r->last[r->depth++] = NULL;
	return 0;
}

static int on_event(struct reader *r, const yaml_event_t *ev)
{
	switch (ev->type) {
	case YAML_DOCUMENT_START_EVENT:
		return r->root ? refuse(r, ev, "a second document") : 0;
	case YAML_SCALAR_EVENT:
		return on_scalar(r, ev);
	case YAML_MAPPING_START_EVENT:
		return on_mapping(r, ev);
	case YAML_MAPPING_END_EVENT:
		r->depth--;
		return 0;
	case YAML_ALIAS_EVENT:
		return refuse(r, ev, "aliases are not taken here");
	case YAML_SEQUENCE_START_EVENT:
		return refuse(r, ev, "a list, where MODULE: DEVICE lines are expected");
	case YAML_STREAM_END_EVENT:
		r->done = true;
		return 0;
	default:
		return 0;
	}
}

int bmi_yaml_parse(const char *text, size_t n, uint32_t line, struct bmi_arena *arena, struct bmi_node **ret,
		   struct bmi_error *err)
{
	struct reader r = { .arena = arena, .line = line, .err = err };
	int code = 0;

	if (!yaml_parser_initialize(&r.parser))
		return bmi_fail(err, -ENOMEM, "YAML reader");
	yaml_parser_set_input_string(&r.parser, (const unsigned char *)text, n);
	yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
	while (code == 0 && !r.done) {
		yaml_event_t ev;

		if (!yaml_parser_parse(&r.parser, &ev)) {
			code = r.parser.error == YAML_MEMORY_ERROR
				       ? bmi_fail(err, -ENOMEM, "YAML reader")
				       : bmi_fail(err, -EINVAL, "line %zu: %s",
						  r.parser.problem_mark.line + r.line,
						  r.parser.problem ? r.parser.problem : "not YAML");
			break;
		}
		code = on_event(&r, &ev);
		yaml_event_delete(&ev);
	}
	yaml_parser_delete(&r.parser);
	if (code == 0)
		*ret = r.root;
	return code;
}

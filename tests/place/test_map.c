/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The text of device_map.yaml and max_memory in every form, and every refusal with its kind and words: a case each. The
 * model is a llama of three layers; a map that parses is planned too, with two GPUs.
 */
#include "arch/arch.h"
#include "place/place_priv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct bmi_config *cfg;
static struct bmi_skel *skel;

/* ---- device maps ---- */

struct map_case {
	const char *name, *text;
	enum bmi_place_error kind; /* OK: `want` is the plan */
	const char *want;          /* "module=device ..." in order; or a part of the sentence */
	size_t n;                  /* bytes of text, 0: strlen */
};

#define ALL_BUT_NORM "model.embed_tokens: cpu\nmodel.layers: disk\nlm_head: 0\n"

static const struct map_case map_cases[] = {
	{ "word cpu", "cpu\n", BMI_PLACE_OK, "=cpu" },
	{ "word disk", "disk", BMI_PLACE_OK, "=disk" },
	{ "word 0", "0\n", BMI_PLACE_OK, "=0" },
	{ "word cuda:1", "cuda:1\n", BMI_PLACE_OK, "=1" },
	{ "word gpu1", "gpu1", BMI_PLACE_OK, "=1" },
	{ "word in quotes", "\"cpu\"\n", BMI_PLACE_OK, "=cpu" },
	{ "word among comments", "# mine\n\ncpu # all\n", BMI_PLACE_OK, "=cpu" },
	{ "word among blanks", " \t\n cpu \r\n", BMI_PLACE_OK, "=cpu" },
	{ "yaml", "model: cpu\nlm_head: disk\n", BMI_PLACE_OK, "model=cpu lm_head=disk" },
	{ "yaml keeps the order", "lm_head: disk\nmodel: cpu\n", BMI_PLACE_OK, "lm_head=disk model=cpu" },
	{ "yaml without last newline", "model: cpu\nlm_head: disk", BMI_PLACE_OK, "model=cpu lm_head=disk" },
	{ "yaml quotes", "\"model\": 'cpu'\n'lm_head': \"1\"\n", BMI_PLACE_OK, "model=cpu lm_head=1" },
	{ "yaml comments", "# map\nmodel: cpu # RAM\n\n# end\nlm_head: 0\n", BMI_PLACE_OK,
	  "model=cpu lm_head=0" },
	{ "yaml all", "\"\": cpu\nmodel.layers.1: disk\n", BMI_PLACE_OK, "=cpu model.layers.1=disk" },
	{ "yaml all in single quotes", "'': cpu\n", BMI_PLACE_OK, "=cpu" },
	{ "yaml document marks", "---\nmodel: cpu\nlm_head: cpu\n...\n", BMI_PLACE_OK, "model=cpu lm_head=cpu" },
	{ "yaml carriage returns", "model: cpu\r\nlm_head: disk\r\n", BMI_PLACE_OK, "model=cpu lm_head=disk" },
	{ "yaml flow", "{model: cpu, lm_head: disk}\n", BMI_PLACE_OK, "model=cpu lm_head=disk" },
	{ "yaml under device_map", "device_map:\n  model: cpu\n  lm_head: disk\n", BMI_PLACE_OK,
	  "model=cpu lm_head=disk" },
	{ "every spelling of a gpu",
	  "model.embed_tokens: 0\nmodel.layers: \"0\"\nmodel.norm: cuda:0\nlm_head: cuda\n", BMI_PLACE_OK,
	  "model.embed_tokens=0 model.layers=0 model.norm=0 lm_head=0" },
	{ "json", "{\"model\": \"cpu\", \"lm_head\": 1}", BMI_PLACE_OK, "model=cpu lm_head=1" },
	{ "json lines", "{\n  \"model\": \"cpu\",\n  \"lm_head\": 1\n}\n", BMI_PLACE_OK, "model=cpu lm_head=1" },
	{ "json all", "{\"\": \"disk\"}\n", BMI_PLACE_OK, "=disk" },
	{ "json escapes", "{\"\\u006dodel\": \"cpu\", \"lm_head\": 1}", BMI_PLACE_OK, "model=cpu lm_head=1" },
	{ "parameter names", "\"\": cpu\nmodel.layers.0.mlp.up_proj.weight: disk\n", BMI_PLACE_OK,
	  "=cpu model.layers.0.mlp.up_proj.weight=disk" },
	{ "the deepest line counts", "model.layers.1.mlp: disk\nmodel.layers.1: 0\n\"\": cpu\n", BMI_PLACE_OK,
	  "model.layers.1.mlp=disk model.layers.1=0 =cpu" },
	{ "buffers may be named", "model: cpu\nmodel.rotary_emb: 0\nlm_head: cpu\n", BMI_PLACE_OK,
	  "model=cpu model.rotary_emb=0 lm_head=cpu" },
	{ "memory beside lines", "model: cpu\nlm_head: cpu\nmax_memory:\n  cpu: 1GB\n", BMI_PLACE_OK,
	  "model=cpu lm_head=cpu" },

	{ "empty", "", BMI_PLACE_BAD_MODE, "empty" },
	{ "only blanks", " \n\t\n", BMI_PLACE_BAD_MODE, "empty" },
	{ "only a comment", "# nothing\n", BMI_PLACE_BAD_MODE, "empty" },
	{ "unknown word", "fast\n", BMI_PLACE_BAD_MODE, "'fast'" },
	{ "upper case", "AUTO", BMI_PLACE_BAD_MODE, "'AUTO'" },
	{ "negative", "-1\n", BMI_PLACE_NEGATIVE_DEVICE, "write cpu" },
	{ "fraction", "0.5", BMI_PLACE_BAD_MODE, "'0.5'" },
	{ "value unknown", "model: gpu\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "'gpu' for module 'model'" },
	{ "value negative", "model: -1\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "'-1'" },
	{ "value missing", "model:\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "''" },
	{ "value null", "{\"model\": null}", BMI_PLACE_BAD_DEVICE, "''" },
	{ "value true", "{\"model\": true}", BMI_PLACE_BAD_DEVICE, "'true'" },
	{ "value a fraction", "{\"model\": 1.5}", BMI_PLACE_BAD_DEVICE, "'1.5'" },
	{ "value hexadecimal", "model: 0x0\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "'0x0'" },
	{ "value huge", "model: 99999999999\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "'99999999999'" },
	{ "value cuda:", "model: \"cuda:\"\nlm_head: cpu\n", BMI_PLACE_BAD_DEVICE, "'cuda:'" },
	{ "no such gpu", "model: 2\nlm_head: cpu\n", BMI_PLACE_DEVICE_UNAVAILABLE, "GPUs here are 0 to 1" },
	{ "mps", "model: mps\nlm_head: cpu\n", BMI_PLACE_DEVICE_UNAVAILABLE, "mps" },
	{ "unknown layer", "\"\": cpu\nmodel.layers.3: disk\n", BMI_PLACE_UNKNOWN_MODULE,
	  "'model.layers' has 0 to 2" },
	{ "unknown module", "\"\": cpu\ntransformer.h.0: disk\n", BMI_PLACE_UNKNOWN_MODULE, "model, lm_head" },
	{ "half a name", "\"\": cpu\nmodel.lay: disk\n", BMI_PLACE_UNKNOWN_MODULE, "'model.lay'" },
	{ "a dot too many", "\"\": cpu\nmodel.: disk\n", BMI_PLACE_UNKNOWN_MODULE, "'model.'" },
	{ "layer 1 is no prefix of 10", "\"\": cpu\nmodel.layers.10: disk\n", BMI_PLACE_UNKNOWN_MODULE,
	  "'model.layers.10'" },
	{ "unknown and missing", "model: cpu\nlm_haed: disk\n", BMI_PLACE_UNKNOWN_MODULE,
	  "no device for: lm_head" },
	{ "missing module", ALL_BUT_NORM, BMI_PLACE_MISSING_PARAMS, "no device for: model.norm;" },
	{ "missing layer",
	  "model.embed_tokens: cpu\nmodel.layers.0: cpu\nmodel.layers.2: cpu\nmodel.norm: cpu\nlm_head: 0\n",
	  BMI_PLACE_MISSING_PARAMS, "no device for: model.layers.1;" },
	{ "missing parameter", "model: cpu\n", BMI_PLACE_MISSING_PARAMS, "no device for: lm_head;" },
	{ "missing inside a layer",
	  "model.embed_tokens: 0\nmodel.layers.0: 0\nmodel.layers.1: 0\nmodel.norm: 0\nlm_head: 0\n"
	  "model.layers.2.self_attn: 0\nmodel.layers.2.mlp.up_proj: 0\n",
	  BMI_PLACE_MISSING_PARAMS,
	  "no device for: model.layers.2.mlp.gate_proj, model.layers.2.mlp.down_proj, "
	  "model.layers.2.input_layernorm, "
	  "model.layers.2.post_attention_layernorm;" },
	{ "nothing named", "{}", BMI_PLACE_MISSING_PARAMS, "no device for: model, lm_head;" },
	{ "named twice", "model: cpu\nlm_head: 0\nmodel: disk\n", BMI_PLACE_SYNTAX, "'model' twice" },
	{ "named twice in json", "{\"model\": 0, \"lm_head\": 0, \"model\": 1}", BMI_PLACE_SYNTAX,
	  "'model' twice" },
	{ "nested", "model:\n  layers: cpu\nlm_head: cpu\n", BMI_PLACE_SYNTAX, "whole name" },
	{ "nested deep", "a:\n  b:\n    c:\n      d: cpu\n", BMI_PLACE_SYNTAX, "too deep" },
	{ "nested deep json", "{\"a\":{\"b\":{\"c\":{\"d\":1}}}}", BMI_PLACE_SYNTAX, "too deep" },
	{ "list", "- model: cpu\n", BMI_PLACE_SYNTAX, "a list" },
	{ "list json", "[1, 2]", BMI_PLACE_SYNTAX, "a list" },
	{ "list as value", "model: [0, 1]\n", BMI_PLACE_SYNTAX, "a list" },
	{ "anchor", "model: &a cpu\nlm_head: cpu\n", BMI_PLACE_SYNTAX, "anchors" },
	{ "anchor on a map", "device_map: &a\n  model: cpu\n", BMI_PLACE_SYNTAX, "anchors" },
	{ "alias", "model: cpu\nlm_head: *a\n", BMI_PLACE_SYNTAX, "aliases" },
	{ "tag", "model: !!str cpu\nlm_head: cpu\n", BMI_PLACE_SYNTAX, "tags" },
	{ "text block", "model: |\n  cpu\nlm_head: cpu\n", BMI_PLACE_SYNTAX, "text blocks" },
	{ "two documents", "cpu\n---\ndisk\n", BMI_PLACE_SYNTAX, "second document" },
	{ "complex key", "? [a]\n: cpu\n", BMI_PLACE_SYNTAX, "line 1" },
	{ "empty key", ": cpu\n", BMI_PLACE_SYNTAX, "line 1" },
	{ "null key", "?\n: cpu\n", BMI_PLACE_SYNTAX, "for all modules" },
	{ "lines are counted", "\n\n- cpu\n", BMI_PLACE_SYNTAX, "line 3" },
	{ "tab before a key", "model: cpu\n\tlm_head: cpu\n", BMI_PLACE_SYNTAX, "line 2" },
	{ "open quote", "model: \"cpu\n", BMI_PLACE_SYNTAX, "device_map" },
	{ "open brace", "{\"model\": 0", BMI_PLACE_SYNTAX, "device_map" },
	{ "not UTF-8", "model: \xff\xfe\n", BMI_PLACE_SYNTAX, "device_map" },
	{ "nul byte", "model: c\0pu\n", BMI_PLACE_SYNTAX, "device_map", 12 },
	{ "nul in json", "{\"mo\\u0000del\": 0}", BMI_PLACE_SYNTAX, "NUL" },
	{ "mode beside lines", "device_map: auto\nmodel: cpu\n", BMI_PLACE_SYNTAX, "one or the other" },
	{ "memory of nothing", "max_memory: 10GB\nmodel: cpu\nlm_head: cpu\n", BMI_PLACE_SYNTAX,
	  "DEVICE: SIZE" },
	{ "memory bad size", "model: cpu\nlm_head: cpu\nmax_memory:\n  cpu: 10\n  0: 5TB\n",
	  BMI_PLACE_BAD_SIZE, "'5TB'" },
	{ "memory bad device", "max_memory:\n  ram: 1GB\n", BMI_PLACE_BAD_MAX_MEMORY_DEVICE, "'ram'" },
};

static void print_entries(const struct bmi_plan *plan, struct bmi_str *s)
{
	char word[16];

	for (uint32_t i = 0; i < plan->n_entries; i++)
		bmi_str_printf(s, "%s%s=%s", i ? " " : "", plan->entries[i].module,
			       bmi_device_print(plan->entries[i].device, word));
}

/* A copy without a NUL behind it, so that ASan sees a read past the end. */
static char *copy(const char *text, size_t n)
{
	char *s = malloc(n ? n : 1);

	assert_non_null(s);
	memcpy(s, text, n);
	return s;
}

/* Written in pieces of a line, then a byte: never refused before the end unless the end refuses too. */
static void check_pieces(const char *text, size_t n, int r)
{
	int early = 0;

	for (size_t i = 0; i <= n; i++) {
		char *s = copy(text, i);

		early = bmi_map_parse(s, i, false, skel, NULL, NULL, NULL);
		free(s);
		assert_true(early == 0 || early == -EINVAL);
		if (early < 0 && r == 0)
			fail_msg("refused after %zu bytes, accepted in the end", i);
	}
}

static void run_map(void **state)
{
	const struct map_case *t = *state;
	const size_t n = t->n ? t->n : strlen(t->text);
	char *text = copy(t->text, n);
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto_str got = { 0 };
	struct bmi_error err = { 0 };
	enum bmi_place_error kind;
	int r = bmi_map_parse(text, n, true, skel, &map, &kind, &err);

	free(text); /* nothing may point into it */
	if (r == 0)
		r = bmi_place_plan(skel, BMI_BF16, map, NULL, 2, &plan, &kind, &err);
	assert_string_equal(bmi_place_error_name(kind), bmi_place_error_name(t->kind));
	if (t->kind == BMI_PLACE_OK) {
		assert_int_equal(r, 0);
		print_entries(plan, &got);
		assert_string_equal(got.bytes, t->want);
	} else {
		assert_int_equal(r, t->kind == BMI_PLACE_DEVICE_UNAVAILABLE ? -ENODEV : -EINVAL);
		assert_null(plan);
		if (!strstr(err.msg, t->want))
			fail_msg("'%s' does not say '%s'", err.msg, t->want);
	}
	check_pieces(t->text, n, r);
}

/* ---- complete lines of a map that is still being written ---- */

struct line_case {
	const char *name, *text;
	const char *says; /* NULL: nothing wrong so far */
};

static const struct line_case line_cases[] = {
	{ "nothing yet", "", NULL },
	{ "half a line", "model.lay", NULL },
	{ "half a line after a good one", "model: cpu\nmodel.lay", NULL },
	{ "good lines", "model: cpu\nlm_head: disk\n", NULL },
	{ "word", "auto\n", NULL },
	{ "bad word", "fast\n", "'fast'" },
	{ "bad module", "model: cpu\nmodel.lay: cpu\n", "'model.lay'" },
	{ "bad module, more to come", "model: cpu\nmodel.lay: cpu\nmodel", "'model.lay'" },
	{ "bad device", "model: cpu\nlm_head: gpu\n", "'gpu'" },
	{ "bad device in quotes", "\"model\": \"gpu\"\n", "'gpu'" },
	{ "comment", "# model: gpu\nmodel: cpu # gpu\n", NULL },
	{ "json", "{\n  \"model\": \"cpu\",\n", NULL },
	{ "json bad module", "{\n  \"model\": \"cpu\",\n  \"lm_haed\": 0,\n", "'lm_haed'" },
	{ "json bad device", "{\n  \"model\": null,\n", "'null'" },
	{ "json on one line", "{\"modle\": 0,\n", NULL },
	{ "memory block", "model: cpu\nmax_memory:\n  cpu: 1GB\n  0: 2GB\n", NULL },
	{ "after a memory block", "max_memory:\n  cpu: 1GB\nmodle: cpu\n", "'modle'" },
	{ "something longer begins", "model: \"cp\nmodle: x\n", NULL },
};

static void run_lines(void **state)
{
	const struct line_case *t = *state;
	const size_t n = strlen(t->text);
	char *text = copy(t->text, n);
	struct bmi_error err = { 0 };
	const int r = bmi_map_parse(text, n, false, skel, NULL, NULL, &err);

	free(text);
	assert_int_equal(r, t->says ? -EINVAL : 0);
	if (t->says && !strstr(err.msg, t->says))
		fail_msg("'%s' does not say '%s'", err.msg, t->says);
}

/* ---- max_memory ---- */

struct memory_case {
	const char *name, *text;
	enum bmi_place_error kind;
	const char *want; /* "device=bytes ..."; or a part of the sentence */
};

static const struct memory_case memory_cases[] = {
	{ "empty", "", BMI_PLACE_OK, "" },
	{ "blank", "\n", BMI_PLACE_OK, "" },
	{ "no devices", "{}", BMI_PLACE_OK, "" },
	{ "lines", "0: 10GiB\ncpu: 20GB\n", BMI_PLACE_OK, "0=10737418240 cpu=20000000000" },
	{ "order is the peer's", "disk: 1GB\ncpu: 1GB\n2: 3GB\nmps: 1KB\n0: 2GB\n", BMI_PLACE_OK,
	  "0=2000000000 2=3000000000 mps=1000 cpu=1000000000 disk=1000000000" },
	{ "bytes", "cpu: 123456\n", BMI_PLACE_OK, "cpu=123456" },
	{ "bits", "cpu: 10gb\n", BMI_PLACE_OK, "cpu=1250000000" },
	{ "negative bytes", "0: -5\ncpu: 1GB\n", BMI_PLACE_OK, "0=-5 cpu=1000000000" },
	{ "json", "{\"0\": \"1KiB\", \"cpu\": 7}", BMI_PLACE_OK, "0=1024 cpu=7" },
	{ "option", "0=10GiB:cpu=20GB", BMI_PLACE_OK, "0=10737418240 cpu=20000000000" },
	{ "option with cuda", "cuda:1=1KB:cuda:0=2KB:cpu=30", BMI_PLACE_OK, "0=2000 1=1000 cpu=30" },
	{ "option newline", "cpu=1KB\n", BMI_PLACE_OK, "cpu=1000" },
	{ "block", "max_memory:\n  cpu: 1KB\n", BMI_PLACE_OK, "cpu=1000" },
	{ "spellings", "cuda:0: 1KB\ngpu1: 2KB\n", BMI_PLACE_OK, "0=1000 1=2000" },
	{ "string without unit", "{\"cpu\": \"10\"}", BMI_PLACE_BAD_SIZE, "'10'" },
	{ "no unit", "cpu: 10.5\n", BMI_PLACE_BAD_SIZE, "'10.5'" },
	{ "terabytes", "cpu: 10TB\n", BMI_PLACE_BAD_SIZE, "'10TB'" },
	{ "nothing", "cpu:\n", BMI_PLACE_BAD_SIZE, "''" },
	{ "negative size", "cpu: -1GB\n", BMI_PLACE_BAD_SIZE, "'-1GB'" },
	{ "device", "ram: 1GB\n", BMI_PLACE_BAD_MAX_MEMORY_DEVICE, "'ram'" },
	{ "twice", "0: 1GB\ncuda:0: 2GB\n", BMI_PLACE_BAD_MAX_MEMORY_DEVICE, "twice" },
	{ "word", "lots\n", BMI_PLACE_SYNTAX, "'lots'" },
	{ "list", "- 0: 1GB\n", BMI_PLACE_SYNTAX, "a list" },
	{ "nested", "cpu:\n  a: 1GB\n", BMI_PLACE_SYNTAX, "size" },
	{ "option without size", "cpu=1GB:disk", BMI_PLACE_SYNTAX, "'disk'" },
	{ "option bad size", "cpu=much", BMI_PLACE_BAD_SIZE, "'much'" },
};

static void run_memory(void **state)
{
	const struct memory_case *t = *state;
	const size_t n = strlen(t->text);
	char *text = copy(t->text, n), word[16];
	struct bmi_budget b = { .n = 99 };
	struct bmi_error err = { 0 };
	enum bmi_place_error kind;
	bmi_auto_str got = { 0 };
	const int r = bmi_budget_parse(text, n, true, &b, &kind, &err);

	free(text);
	assert_string_equal(bmi_place_error_name(kind), bmi_place_error_name(t->kind));
	if (r < 0) {
		assert_int_equal(r, -EINVAL);
		assert_int_equal(b.n, 99);
		if (!strstr(err.msg, t->want))
			fail_msg("'%s' does not say '%s'", err.msg, t->want);
		return;
	}
	bmi_str_puts(&got, "");
	for (uint32_t i = 0; i < b.n; i++)
		bmi_str_printf(&got, "%s%s=%.0f", i ? " " : "", bmi_device_print(b.dev[i].device, word),
			       b.dev[i].bytes);
	assert_string_equal(got.bytes, t->want);
	assert_int_equal(b.given, b.n > 0);
}

/* ---- by themselves ---- */

static void modes(void **state)
{
	static const struct {
		const char *text;
		enum bmi_place_mode mode;
		uint32_t n_memory;
	} cases[] = {
		{ "auto\n", BMI_PLACE_AUTO, 0 },
		{ "balanced", BMI_PLACE_BALANCED, 0 },
		{ "'balanced_low_0'\n", BMI_PLACE_BALANCED_LOW_0, 0 },
		{ "\"sequential\"", BMI_PLACE_SEQUENTIAL, 0 },
		{ "device_map: sequential\n", BMI_PLACE_SEQUENTIAL, 0 },
		{ "max_memory:\n  cpu: 1GB\n  disk: 1GB\n", BMI_PLACE_AUTO, 2 },
		{ "device_map: balanced\nmax_memory: {0: 1GB}\n", BMI_PLACE_BALANCED, 1 },
		{ "{\"max_memory\": {\"cpu\": \"1GB\"}, \"device_map\": \"sequential\"}",
		  BMI_PLACE_SEQUENTIAL, 1 },
		{ "model: cpu\nmax_memory:\n  cpu: 1GB\nlm_head: cpu\n", BMI_PLACE_CUSTOM, 1 },
	};

	for (size_t i = 0; i < BMI_ARRAY_LEN(cases); i++) {
		struct bmi_map *map;

		assert_int_equal(
			bmi_map_parse(cases[i].text, strlen(cases[i].text), true, skel, &map, NULL, NULL), 0);
		assert_int_equal(map->mode, cases[i].mode);
		assert_int_equal(map->max_memory ? map->max_memory->n : 0, cases[i].n_memory);
		bmi_map_free(map);
	}
}

static void too_long(void **state)
{
	char *text = malloc(BMI_TEXT_MAX + 1);
	struct bmi_map *map = NULL;
	struct bmi_budget b;

	assert_non_null(text);
	memset(text, '#', BMI_TEXT_MAX + 1);
	assert_int_equal(bmi_map_parse(text, BMI_TEXT_MAX + 1, true, skel, &map, NULL, NULL), -EINVAL);
	assert_int_equal(bmi_map_parse(text, BMI_TEXT_MAX + 1, false, skel, NULL, NULL, NULL), -EINVAL);
	assert_int_equal(bmi_budget_parse(text, BMI_TEXT_MAX + 1, true, &b, NULL, NULL), -EINVAL);
	free(text);
}

/* What hf_device_map prints is a device_map again, and the same one. */
static void round_trip(void **state)
{
	static const char text[] = "\"\": cpu\nmodel.layers.1: disk\nmodel.layers.2.mlp: 1\n";
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_map) again = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto_str json = { 0 };

	assert_int_equal(bmi_map_parse(text, strlen(text), true, skel, &map, NULL, NULL), 0);
	assert_int_equal(bmi_place_plan(skel, BMI_BF16, map, NULL, 2, &plan, NULL, NULL), 0);
	assert_int_equal(bmi_map_print_json(plan->entries, plan->n_entries, &json), 0);
	assert_string_equal(
		json.bytes,
		"{\n  \"\": \"cpu\",\n  \"model.layers.1\": \"disk\",\n  \"model.layers.2.mlp\": 1\n}\n");
	assert_int_equal(bmi_map_parse(json.bytes, json.n, true, skel, &again, NULL, NULL), 0);
	assert_int_equal(bmi_map_parse(json.bytes, json.n, false, skel, NULL, NULL, NULL), 0);
	assert_int_equal(again->n_entries, 3);
	for (uint32_t i = 0; i < 3; i++) {
		assert_string_equal(again->entries[i].module, map->entries[i].module);
		assert_int_equal(again->entries[i].device, map->entries[i].device);
	}
}

/* The plan's own lines while it is true, else the shortest that is. */
static void entries_while_moving(void **state)
{
	static const char text[] = "model.layers: disk\n\"\": cpu\n";
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	bmi_auto_str json = { 0 };
	struct bmi_map_entry *list;
	bmi_device *now;
	uint32_t n;

	assert_int_equal(bmi_map_parse(text, strlen(text), true, skel, &map, NULL, NULL), 0);
	assert_int_equal(bmi_place_plan(skel, BMI_BF16, map, NULL, 0, &plan, NULL, NULL), 0);
	now = bmi_arena_array(arena, skel->n_tensors, sizeof(*now));
	memcpy(now, plan->tensor_device, skel->n_tensors * sizeof(*now));
	assert_int_equal(bmi_plan_entries_from(skel, plan, now, arena, &list, &n), 0);
	assert_ptr_equal(list, plan->entries);
	assert_int_equal(n, 2);

	for (uint32_t t = 0; t < skel->n_tensors; t++) {
		const uint32_t layer = skel->modules[skel->tensors[t].module].layer;

		if (layer == 1 || skel->tensors[t].kind == BMI_BUFFER)
			now[t] = BMI_DEVICE_CPU; /* where buffers are tells nothing */
		if (!strcmp(skel->tensors[t].name, "model.layers.2.mlp.up_proj.weight"))
			now[t] = 1;
	}
	assert_int_equal(bmi_plan_entries_from(skel, plan, now, arena, &list, &n), 0);
	assert_int_equal(bmi_map_print_json(list, n, &json), 0);
	assert_string_equal(json.bytes,
			    "{\n  \"model.embed_tokens\": \"cpu\",\n  \"model.layers.0\": \"disk\",\n"
			    "  \"model.layers.1\": \"cpu\",\n  \"model.layers.2.self_attn\": \"disk\",\n"
			    "  \"model.layers.2.mlp.gate_proj\": \"disk\",\n"
			    "  \"model.layers.2.mlp.up_proj\": 1,\n"
			    "  \"model.layers.2.mlp.down_proj\": \"disk\",\n"
			    "  \"model.layers.2.input_layernorm\": \"disk\",\n"
			    "  \"model.layers.2.post_attention_layernorm\": \"disk\",\n"
			    "  \"model.norm\": \"cpu\",\n  \"lm_head\": \"cpu\"\n}\n");
	for (uint32_t t = 0; t < skel->n_tensors; t++)
		now[t] = BMI_DEVICE_DISK;
	assert_int_equal(bmi_plan_entries_from(skel, plan, now, arena, &list, &n), 0);
	assert_int_equal(n, 1);
	assert_string_equal(list[0].module, "");
	assert_int_equal(list[0].device, BMI_DEVICE_DISK);
}

/* auto over cpu and disk, with room in RAM for some of the layers. */
static void auto_without_gpu(void **state)
{
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto_str json = { 0 };
	struct bmi_budget b = { .n = 1, .given = true };
	const uint64_t layer =
		bmi_skel_module_bytes(skel, bmi_skel_find_module(skel, "model.layers.0", 14), BMI_BF16);
	const uint64_t embed =
		bmi_skel_module_bytes(skel, bmi_skel_find_module(skel, "model.embed_tokens", 18), BMI_BF16);

	b.dev[0].device = BMI_DEVICE_CPU;
	b.dev[0].bytes =
		(double)(embed + layer + (layer > embed ? layer : embed)); /* the largest to come is kept free */
	assert_int_equal(bmi_map_parse("auto", 4, true, skel, &map, NULL, NULL), 0);
	assert_int_equal(bmi_place_plan(skel, BMI_BF16, map, &b, 0, &plan, NULL, NULL), 0);
	assert_int_equal(bmi_map_print_json(plan->entries, plan->n_entries, &json), 0);
	assert_string_equal(json.bytes,
			    "{\n  \"model.embed_tokens\": \"cpu\",\n  \"model.layers.0\": \"cpu\",\n"
			    "  \"model.layers.1\": \"disk\",\n  \"model.layers.2\": \"disk\",\n  "
			    "\"model.norm\": \"disk\",\n"
			    "  \"model.rotary_emb\": \"disk\",\n  \"lm_head\": \"disk\"\n}\n");
}

static void no_gpu(void **state)
{
	static const char text[] = "model: cuda:0\nlm_head: cpu\n";
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_map) sequential = NULL;
	struct bmi_plan *plan = NULL;
	struct bmi_budget b = { .n = 1, .dev = { { 0, 1e9 } }, .given = true };
	struct bmi_error err = { 0 };
	enum bmi_place_error kind;

	assert_int_equal(bmi_map_parse(text, strlen(text), true, skel, &map, NULL, NULL), 0);
	assert_int_equal(bmi_place_plan(skel, BMI_BF16, map, NULL, 0, &plan, &kind, &err), -ENODEV);
	assert_int_equal(kind, BMI_PLACE_DEVICE_UNAVAILABLE);
	assert_non_null(strstr(err.msg, "device 0 for 'model', but no GPU"));
	assert_int_equal(bmi_map_parse("sequential", 10, true, skel, &sequential, NULL, NULL), 0);
	assert_int_equal(bmi_place_plan(skel, BMI_BF16, sequential, &b, 0, &plan, &kind, &err), -ENODEV);
	assert_non_null(strstr(err.msg, "max_memory names device 0"));
	assert_null(plan);
}

static const char config[] = "{\"model_type\": \"llama\", \"hidden_size\": 64, \"intermediate_size\": 160, "
			     "\"num_hidden_layers\": 3, \"num_attention_heads\": 4, \"vocab_size\": 512}";

int main(void)
{
	static const struct CMUnitTest alone[] = {
		cmocka_unit_test(modes),
		cmocka_unit_test(too_long),
		cmocka_unit_test(round_trip),
		cmocka_unit_test(entries_while_moving),
		cmocka_unit_test(auto_without_gpu),
		cmocka_unit_test(no_gpu),
	};
	enum {
		N_MAPS = BMI_ARRAY_LEN(map_cases),
		N_LINES = BMI_ARRAY_LEN(line_cases),
		N_MEMORY = BMI_ARRAY_LEN(memory_cases),
		N_ALONE = BMI_ARRAY_LEN(alone)
	};
	struct CMUnitTest tests[N_MAPS + N_LINES + N_MEMORY + N_ALONE];
	struct CMUnitTest *t = tests;
	struct bmi_json_doc *doc;
	int r;

	if (bmi_json_parse(config, strlen(config), &doc, NULL) < 0 ||
	    bmi_config_read(bmi_json_root(doc), bmi_arch_find, &cfg, NULL) < 0 ||
	    bmi_skel_build(cfg, &skel, NULL) < 0) {
		printf("Bail out! the model\n");
		return 1;
	}
	for (size_t i = 0; i < N_MAPS; i++)
		*t++ = (struct CMUnitTest){ map_cases[i].name, run_map, NULL, NULL,
					    (void *)(uintptr_t)&map_cases[i] };
	for (size_t i = 0; i < N_LINES; i++)
		*t++ = (struct CMUnitTest){ line_cases[i].name, run_lines, NULL, NULL,
					    (void *)(uintptr_t)&line_cases[i] };
	for (size_t i = 0; i < N_MEMORY; i++)
		*t++ = (struct CMUnitTest){ memory_cases[i].name, run_memory, NULL, NULL,
					    (void *)(uintptr_t)&memory_cases[i] };
	memcpy(t, alone, sizeof(alone));
	r = _cmocka_run_group_tests("place map", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
	bmi_skel_free(skel);
	bmi_config_free(cfg);
	bmi_json_free(doc);
	return r;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* JSON: what is accepted and what is refused (RFC 8259, with our limits), a case each; and the typed access. */
#include "base/json.h"

#include "base/str.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* A copy without a NUL behind it, so that ASan sees a read past the end. */
static int parse(const char *text, size_t n, struct bmi_json_doc **ret, struct bmi_error *err, char **ret_copy)
{
	*ret_copy = malloc(n ? n : 1);
	assert_non_null(*ret_copy);
	memcpy(*ret_copy, text, n);
	return bmi_json_parse(*ret_copy, n, ret, err);
}

struct text_case {
	const char *name, *text;
	size_t n;         /* 0: strlen */
	const char *says; /* in the sentence; NULL: accepted */
};

static void run_text_case(void **state)
{
	const struct text_case *c = *state;
	struct bmi_json_doc *doc = NULL;
	struct bmi_error err = { 0 };
	char *copy;
	const int r = parse(c->text, c->n ? c->n : strlen(c->text), &doc, &err, &copy);

	if (c->says) {
		assert_int_equal(r, -EINVAL);
		assert_null(doc);
		if (!strstr(err.msg, c->says))
			fail_msg("'%s' does not say '%s'", err.msg, c->says);
		assert_null(strchr(err.msg, '\n'));
	} else {
		if (r)
			fail_msg("refused: %s", err.msg);
		bmi_json_free(doc);
	}
	free(copy);
}

static const struct text_case texts[] = {
	{ "a number", "12", 0, NULL },
	{ "an empty object", " {} ", 0, NULL },
	{ "an escaped string", "\"\\u00e9\\ud83d\\ude00\\n\"", 0, NULL },
	{ "a NUL in a string", "\"a\\u0000b\"", 0, NULL },
	{ "1e400 is a number", "1e400", 0, NULL },
	{ "nothing", "", 0, "byte 0" },
	{ "white space alone", " \n", 0, "JSON" },
	{ "an object cut short", "{\"a\":1", 0, "JSON" },
	{ "a string cut short", "\"abc", 0, "JSON" },
	{ "an escape cut short", "\"abc\\u00", 0, "JSON" },
	{ "a second value", "1 2", 0, "JSON" },
	{ "rubbish after the value", "{} x", 0, "JSON" },
	{ "a trailing comma", "[1,]", 0, "JSON" },
	{ "single quotes", "{'a':1}", 0, "JSON" },
	{ "NaN", "[NaN]", 0, "JSON" },
	{ "a leading zero", "[01]", 0, "JSON" },
	{ "a bare sign", "[-]", 0, "JSON" },
	{ "a control byte in a string", "\"a\nb\"", 0, "JSON" },
	{ "a NUL byte", "{\"a\":\0 1}", 9, "JSON" },
	{ "a lone continuation byte", "\"\x80\"", 0, "JSON" },
	{ "a cut UTF-8 sequence", "\"\xe2\x82\"", 0, "JSON" },
	{ "an overlong slash", "\"\xc0\xaf\"", 0, "UTF-8" },
	{ "an overlong slash in three bytes", "\"\xe0\x80\xaf\"", 0, "UTF-8" },
	{ "a surrogate in UTF-8", "\"\xed\xa0\x80\"", 0, "UTF-8" },
	{ "a code point above U+10FFFF", "\"\xf4\x90\x80\x80\"", 0, "UTF-8" },
	{ "an overlong key", "{\"\xc0\xaf\":1}", 0, "UTF-8" },
	{ "the ends of what UTF-8 has",
	  "\"\xc2\x80\xdf\xbf\xe0\xa0\x80\xed\x9f\xbf\xee\x80\x80\xf0\x90\x80\x80\xf4\x8f\xbf\xbf\"", 0, NULL },
	{ "a byte that UTF-8 never has", "\"\xff\"", 0, "JSON" },
	{ "a comment", "/* x */ 1", 0, "JSON" },
	{ "a key twice", "{\"a\":1,\"b\":2,\"a\":3}", 0, "twice" },
	{ "a key twice, escaped", "{\"a\":1,\"\\u0061\":2}", 0, "twice" },
	{ "a key twice among many",
	  "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1,\"j\":1,\"b\":2}", 0,
	  "twice" },
	{ "the same key on two levels", "{\"a\":{\"a\":1}}", 0, NULL },
};

static void nest(char *buf, unsigned depth)
{
	memset(buf, '[', depth);
	memset(buf + depth, ']', depth);
	buf[2 * depth] = 0;
}

static void test_depth(void **state)
{
	char buf[2 * 100000 + 1];
	struct bmi_json_doc *doc = NULL;
	struct bmi_error err;

	nest(buf, 64);
	assert_int_equal(bmi_json_parse(buf, strlen(buf), &doc, &err), 0);
	bmi_json_free(doc);
	nest(buf, 65);
	assert_int_equal(bmi_json_parse(buf, strlen(buf), &doc, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "deeper than 64"));
	nest(buf, 100000);
	assert_int_equal(bmi_json_parse(buf, strlen(buf), &doc, &err), -EINVAL);
}

static void test_tree(void **state)
{
	static const char text[] = "{\"x\":[1,\"t\\u0077o\",null,true],\"y\":{\"z\":-2.5}}";
	struct bmi_json_doc *doc = NULL;
	const struct bmi_json *root, *x, *v;
	double d;
	bool b;

	assert_int_equal(bmi_json_parse(text, strlen(text), &doc, /* err= */ NULL), 0);
	root = bmi_json_root(doc);
	assert_int_equal(root->type, BMI_JSON_OBJECT);
	assert_int_equal(root->n, 2);
	x = bmi_json_get(root, "x");
	assert_int_equal(x->type, BMI_JSON_ARRAY);
	assert_int_equal(x->n, 4);
	v = x->child;
	assert_int_equal(v->type, BMI_JSON_NUMBER);
	v = v->next;
	assert_true(bmi_json_eq(v, "two"));
	assert_false(bmi_json_eq(v, "tw"));
	v = v->next;
	assert_int_equal(v->type, BMI_JSON_NULL);
	v = v->next;
	assert_true(bmi_json_to_bool(v, &b) && b);
	assert_null(v->next);
	assert_true(bmi_json_to_double(bmi_json_get(bmi_json_get(root, "y"), "z"), &d));
	assert_true(d == -2.5);
	assert_null(bmi_json_get(root, "q"));
	assert_null(bmi_json_get(NULL, "q"));
	assert_null(bmi_json_get(x, "q"));
	assert_false(bmi_json_eq(NULL, ""));
	bmi_json_free(doc);
	bmi_json_free(NULL);
}

static void test_ints(void **state)
{
	static const struct {
		const char *text;
		bool is_u64, is_i64;
		uint64_t u;
		int64_t i;
	} cases[] = {
		{ "0", true, true, 0, 0 },
		{ "-1", false, true, 0, -1 },
		{ "-0", false, true, 0, 0 },
		{ "9223372036854775807", true, true, INT64_MAX, INT64_MAX },
		{ "9223372036854775808", true, false, (uint64_t)INT64_MAX + 1, 0 },
		{ "18446744073709551615", true, false, UINT64_MAX, 0 },
		{ "18446744073709551616", false, false, 0, 0 },
		{ "-9223372036854775808", false, true, 0, INT64_MIN },
		{ "1.0", false, false, 0, 0 },
		{ "1e3", false, false, 0, 0 },
		{ "\"1\"", false, false, 0, 0 },
		{ "true", false, false, 0, 0 },
		{ "100000000000000000000000000000000000000000000000000000000000000000000000000", false, false,
		  0, 0 },
	};

	for (size_t k = 0; k < sizeof(cases) / sizeof(cases[0]); k++) {
		struct bmi_json_doc *doc = NULL;
		uint64_t u = 7;
		int64_t i = 7;

		assert_int_equal(bmi_json_parse(cases[k].text, strlen(cases[k].text), &doc, /* err= */ NULL),
				 0);
		assert_int_equal(bmi_json_to_u64(bmi_json_root(doc), &u), cases[k].is_u64);
		assert_int_equal(bmi_json_to_i64(bmi_json_root(doc), &i), cases[k].is_i64);
		assert_true(u == (cases[k].is_u64 ? cases[k].u : 7));
		assert_true(i == (cases[k].is_i64 ? cases[k].i : 7));
		bmi_json_free(doc);
	}
}

/* A million keys: the check for twins must not be quadratic (it would take minutes), and a twin at the end is found. */
static void test_many_keys(void **state)
{
	bmi_auto_str s = { 0 };
	struct bmi_json_doc *doc = NULL;
	struct bmi_error err;

	bmi_str_puts(&s, "{");
	for (unsigned i = 0; i < 1000000; i++)
		bmi_str_printf(&s, "\"k%u\":%u,", i, i);
	bmi_str_puts(&s, "\"last\":0}");
	assert_true(bmi_str_ok(&s));
	assert_int_equal(bmi_json_parse(s.bytes, s.n, &doc, &err), 0);
	assert_int_equal(bmi_json_root(doc)->n, 1000001);
	bmi_json_free(doc);
	memcpy(s.bytes + s.n - strlen("\"last\":0}"), "\"k77\":0 }", strlen("\"last\":0}"));
	assert_int_equal(bmi_json_parse(s.bytes, s.n, &doc, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "twice"));
}

/* What bmi_str_put_json() writes reads back as the same bytes. */
static void test_put_json(void **state)
{
	static const char raw[] = "a\"b\\c\n\t\r\x01\x1f/\x7f\xc3\xa9\0end";
	const size_t n = sizeof(raw) - 1;
	bmi_auto_str s = { 0 };
	struct bmi_json_doc *doc = NULL;
	const struct bmi_json *v;

	assert_int_equal(bmi_str_put_json(&s, raw, n), 0);
	assert_int_equal(bmi_json_parse(s.bytes, s.n, &doc, /* err= */ NULL), 0);
	v = bmi_json_root(doc);
	assert_int_equal(v->n, n);
	assert_memory_equal(v->str, raw, n);
	bmi_json_free(doc);
}

int main(void)
{
	enum { N_TEXTS = sizeof(texts) / sizeof(texts[0]) };
	static struct CMUnitTest tests[N_TEXTS + 5] = {
		[N_TEXTS] = cmocka_unit_test(test_depth),
		cmocka_unit_test(test_tree),
		cmocka_unit_test(test_ints),
		cmocka_unit_test(test_many_keys),
		cmocka_unit_test(test_put_json),
	};
	static struct text_case copies[N_TEXTS]; /* cmocka wants its state writable */

	memcpy(copies, texts, sizeof(texts));
	for (size_t i = 0; i < N_TEXTS; i++)
		tests[i] = (struct CMUnitTest){ texts[i].name, run_text_case, NULL, NULL, &copies[i] };
	return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}

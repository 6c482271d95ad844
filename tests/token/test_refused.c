/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What tokenizer.json and GGUF vocabularies are refused for: one case a row, with the errno and the name that the sentence
 * must hold. A row changes one part of a good file.
 */
#include "token/token.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define MODEL         "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[[\"a\",\"b\"]]}"
#define BPE(more)     "{\"type\":\"BPE\"," more ",\"vocab\":{\"a\":0},\"merges\":[]}"
#define UNIGRAM(more) "{\"type\":\"Unigram\"," more "}"
#define TOKEN(more)   "[{\"id\":9,\"content\":\"<x>\",\"special\":true" more "}]"

static const struct row {
	const char *name;
	const char *key, *value; /* what is changed; key NULL: value is the whole file */
	int code;                /* 0: it is accepted */
	const char *says;
} rows[] = {
	{ "good", "model", MODEL, 0, "" },
	{ "empty", NULL, "", -EINVAL, "" },
	{ "no JSON", NULL, "{\"model\":", -EINVAL, "" },
	{ "an array", NULL, "[]", -EINVAL, "not an object" },
	{ "no model", NULL, "{}", -EINVAL, "no model" },
	{ "unknown member", "extra", "1", -EOPNOTSUPP, "'extra'" },
	{ "version", "version", "\"2.0\"", -EOPNOTSUPP, "version" },
	{ "truncation is not ours", "truncation", "{\"max_length\":5}", 0, "" },
	{ "model WordPiece", "model", "{\"type\":\"WordPiece\",\"vocab\":{}}", -EOPNOTSUPP, "'WordPiece'" },
	{ "model without type", "model", "{\"vocab\":{}}", -EOPNOTSUPP, "no type" },
	{ "BPE without type", "model", "{\"vocab\":{\"a\":0},\"merges\":[]}", 0, "" },
	{ "BPE option", "model", BPE("\"subword\":1"), -EOPNOTSUPP, "'subword'" },
	{ "BPE dropout", "model", BPE("\"dropout\":0.1"), -EOPNOTSUPP, "dropout" },
	{ "BPE dropout 0", "model", BPE("\"dropout\":0.0"), 0, "" },
	{ "BPE prefix", "model", BPE("\"continuing_subword_prefix\":\"##\""), -EOPNOTSUPP,
	  "continuing_subword_prefix" },
	{ "BPE suffix", "model", BPE("\"end_of_word_suffix\":\"</w>\""), -EOPNOTSUPP, "end_of_word_suffix" },
	{ "BPE unk absent", "model", BPE("\"unk_token\":\"u\""), -EINVAL, "unk_token" },
	{ "BPE fuse_unk kind", "model", BPE("\"fuse_unk\":1"), -EINVAL, "fuse_unk" },
	{ "BPE vocab kind", "model", "{\"type\":\"BPE\",\"vocab\":[],\"merges\":[]}", -EINVAL, "vocab" },
	{ "BPE id kind", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":-1},\"merges\":[]}", -EINVAL, "'a'" },
	{ "BPE id huge", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":4000000000},\"merges\":[]}", -EINVAL,
	  "'a'" },
	{ "BPE id twice", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":0},\"merges\":[]}", -EINVAL,
	  "'b'" },
	{ "BPE no merges", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0}}", -EINVAL, "merges" },
	{ "BPE merge kind", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}", -EINVAL,
	  "merge 0" },
	{ "BPE merge text", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a b c\"]}", -EINVAL,
	  "merge 0" },
	{ "BPE merge of unknown", "model", "{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[\"a a\"]}",
	  -EINVAL, "merge 0" },
	{ "Unigram empty", "model", UNIGRAM("\"vocab\":[]"), -EINVAL, "vocab" },
	{ "Unigram score", "model", UNIGRAM("\"vocab\":[[\"a\",\"b\"]]"), -EINVAL, "token 0" },
	{ "Unigram empty token", "model", UNIGRAM("\"vocab\":[[\"\",1]]"), -EINVAL, "token 0" },
	{ "Unigram unk_id", "model", UNIGRAM("\"unk_id\":1,\"vocab\":[[\"a\",1]]"), -EINVAL, "unk_id" },
	{ "added not an array", "added_tokens", "{}", -EINVAL, "added_tokens" },
	{ "added member", "added_tokens", TOKEN(",\"color\":1"), -EOPNOTSUPP, "'color'" },
	{ "added flag", "added_tokens", TOKEN(",\"lstrip\":\"yes\""), -EINVAL, "lstrip" },
	{ "added without id", "added_tokens", "[{\"content\":\"x\"}]", -EINVAL, "id" },
	{ "added empty", "added_tokens", "[{\"id\":9,\"content\":\"\"}]", -EINVAL, "content" },
	{ "added id taken", "added_tokens", "[{\"id\":1,\"content\":\"x\"}]", -EINVAL, "takes the id" },
	{ "added other id", "added_tokens", "[{\"id\":7,\"content\":\"ab\"}]", -EINVAL, "is token 2" },
	{ "added twice", "added_tokens", "[{\"id\":2,\"content\":\"ab\"},{\"id\":2,\"content\":\"ab\"}]",
	  -EINVAL, "twice" },
	{ "normalizer BertNormalizer", "normalizer", "{\"type\":\"BertNormalizer\"}", -EOPNOTSUPP,
	  "'BertNormalizer'" },
	{ "normalizer Precompiled", "normalizer", "{\"type\":\"Precompiled\"}", -EOPNOTSUPP, "'Precompiled'" },
	{ "normalizer without type", "normalizer", "{}", -EINVAL, "type" },
	{ "normalizer member", "normalizer", "{\"type\":\"NFC\",\"x\":1}", -EOPNOTSUPP, "'x'" },
	{ "normalizer Sequence kind", "normalizer", "{\"type\":\"Sequence\",\"normalizers\":1}", -EINVAL,
	  "normalizers" },
	{ "Replace without pattern", "normalizer", "{\"type\":\"Replace\",\"content\":\"\"}", -EINVAL,
	  "Replace" },
	{ "Replace nothing", "normalizer",
	  "{\"type\":\"Replace\",\"pattern\":{\"String\":\"\"},\"content\":\"\"}", -EOPNOTSUPP,
	  "empty pattern" },
	{ "Replace both", "normalizer",
	  "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\",\"Regex\":\"a\"},\"content\":\"\"}", -EINVAL,
	  "Replace" },
	{ "pre_tokenizer", "pre_tokenizer", "{\"type\":\"UnicodeScripts\"}", -EOPNOTSUPP, "'UnicodeScripts'" },
	{ "Split behavior", "pre_tokenizer",
	  "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"},\"behavior\":\"Never\"}", -EOPNOTSUPP,
	  "behavior" },
	{ "Split no behavior", "pre_tokenizer", "{\"type\":\"Split\",\"pattern\":{\"String\":\"a\"}}",
	  -EINVAL, "behavior" },
	{ "Metaspace replacement", "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"ab\"}",
	  -EINVAL, "replacement" },
	{ "Metaspace scheme", "pre_tokenizer",
	  "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"last\"}", -EOPNOTSUPP,
	  "prepend_scheme" },
	{ "Metaspace contradiction",
	  "pre_tokenizer", "{\"type\":\"Metaspace\",\"replacement\":\"_\",\"prepend_scheme\":\"first\",\"add_prefix_space\":false}",
	  -EINVAL, "contradicts" },
	{ "post_processor", "post_processor", "{\"type\":\"BertProcessing\"}", -EOPNOTSUPP, "'BertProcessing'" },
	{ "template pair only", "post_processor", "{\"type\":\"TemplateProcessing\",\"single\":[]}", -EINVAL,
	  "no sequence" },
	{ "template B", "post_processor",
	  "{\"type\":\"TemplateProcessing\",\"single\":[{\"Sequence\":{\"id\":\"B\"}}]}", -EOPNOTSUPP,
	  "single" },
	{ "template id", "post_processor",
	  "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},{\"Sequence\":{"
	  "\"id\":\"A\"}}],"
	  "\"special_tokens\":{\"x\":{\"ids\":[77]}}}",
	  -EINVAL, "not in the vocabulary" },
	{ "template unnamed", "post_processor",
	  "{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"x\"}},"
	  "{\"Sequence\":{\"id\":\"A\"}}]}",
	  -EINVAL, "no ids" },
	{ "decoder", "decoder", "{\"type\":\"WordPiece\"}", -EOPNOTSUPP, "'WordPiece'" },
	{ "decoder behind Fuse", "decoder",
	  "{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"Fuse\"},{\"type\":\"ByteFallback\"}]}",
	  -EOPNOTSUPP, "Fuse" },
	{ "decoder Strip", "decoder", "{\"type\":\"Strip\",\"content\":\"a\",\"start\":-1,\"stop\":0}",
	  -EINVAL, "Strip" },
	{ "nested for ever", "normalizer",
	  "{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{\"a\":{}}}}}}}}}}}", -EINVAL,
	  "type" },
};

/* Patterns that PCRE2 would read in another way than Oniguruma, or not at all. */
static const char *const patterns[] = {
	"[a&&b]",       "[a[bc]]",     "[[:alpha:]]", "a{2}+", "(?<n>a)", "(a)\\1", "\\Qa\\E",
	"[\\W]",        "(?~a)",       "\\K",         "(?x)a", "(*UTF)",  "\\p{",   "\\pL",
	"\\p{Latin1 }", "(a",          "a)",          "[a",    "\\",      "\\x",    "\\u12",
	"(?<=a+)b",     "\\p{Nosuch}", "\\R",         "\\X",   "\\C",     "*a",     "\\g<1>",
};

static void check(const char *json, size_t n, int code, const char *says)
{
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	int r = bmi_tok_open_json(json, n, &tok, &err);

	if (r != code)
		print_message("# %s\n", r ? err.msg : "accepted");
	assert_int_equal(r, code);
	assert_true((tok != NULL) == (code == 0));
	if (code && !strstr(err.msg, says))
		print_message("# says: %s\n", err.msg);
	assert_true(!code || strstr(err.msg, says));
	bmi_tok_free(tok);
	assert_int_equal(bmi_tok_open_json(json, n, &tok, /* err= */ NULL), code);
	if (!code)
		bmi_tok_free(tok);
}

static void test_row(void **state)
{
	const struct row *row = *state;
	bmi_auto_str json = { 0 };

	if (row->key)
		bmi_str_printf(&json, "{\"%s\":%s%s}", row->key, row->value,
			       strcmp(row->key, "model") != 0 ? ",\"model\":" MODEL : "");
	else
		bmi_str_puts(&json, row->value);
	check(json.bytes, json.n, row->code, row->says);
}

static void test_pattern(void **state)
{
	bmi_auto_str json = { 0 };

	bmi_str_puts(&json, "{\"model\":" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",");
	bmi_str_puts(&json, "\"behavior\":\"Isolated\",\"pattern\":{\"Regex\":");
	bmi_str_put_json(&json, *state, strlen(*state));
	bmi_str_puts(&json, "}}}");
	check(json.bytes, json.n, -EOPNOTSUPP, "Split");
}

/* Every file cut short anywhere is refused, and nothing is read behind it. */
static void test_cut_short(void **state)
{
	static const char json[] = "{\"model\":" MODEL ",\"added_tokens\":" TOKEN("") "}";

	for (size_t n = 0; n + 1 < sizeof(json); n++) {
		char *copy = malloc(n + 1);
		struct bmi_tok *tok = NULL;

		assert_non_null(copy);
		memcpy(copy, json, n);
		copy = realloc(copy, n ? n : 1);
		if (n + 1 < sizeof(json) - 1)
			assert_int_equal(bmi_tok_open_json(copy, n, &tok, /* err= */ NULL), -EINVAL);
		free(copy);
	}
}

int main(void)
{
	const size_t n_rows = BMI_ARRAY_LEN(rows), n_patterns = BMI_ARRAY_LEN(patterns);
	struct CMUnitTest tests[BMI_ARRAY_LEN(rows) + BMI_ARRAY_LEN(patterns) + 1] = { 0 };

	for (size_t i = 0; i < n_rows; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	for (size_t i = 0; i < n_patterns; i++)
		tests[n_rows + i] = (struct CMUnitTest){ patterns[i], test_pattern, NULL, NULL,
							 (void *)(uintptr_t)patterns[i] };
	tests[n_rows + n_patterns] = (struct CMUnitTest)cmocka_unit_test(test_cut_short);
	return _cmocka_run_group_tests("refused", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

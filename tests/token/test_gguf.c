/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Vocabularies as GGUF files hold them, made by hand: what llama.cpp's rules give was worked out on paper, and stands beside
 * each case. Both models, and what is refused.
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

enum { FIRST = 259, MAX = 700 }; /* behind <unk> <s> </s> and 256 bytes */

struct vocab {
	struct bmi_tok_gguf g;
	struct bmi_tok_text tokens[MAX], merges[MAX];
	float scores[MAX];
	int32_t types[MAX];
	char bytes[256][8];
};

static void add(struct vocab *v, const char *text, float score, int32_t type)
{
	v->tokens[v->g.n_tokens] = (struct bmi_tok_text){ text, strlen(text) };
	v->scores[v->g.n_tokens] = score;
	v->types[v->g.n_tokens++] = type;
}

static void init(struct vocab *v, const char *model, const char *pre)
{
	memset(v, 0, sizeof(*v));
	v->g = (struct bmi_tok_gguf){ .model = model,
				      .pre = pre,
				      .tokens = v->tokens,
				      .scores = v->scores,
				      .types = v->types,
				      .merges = v->merges,
				      .bos_id = 1,
				      .eos_id = 2,
				      .unk_id = 0,
				      .add_bos = -1,
				      .add_eos = -1,
				      .add_space_prefix = -1 };
	add(v, "<unk>", 0, 2);
	add(v, "<s>", 0, 3);
	add(v, "</s>", 0, 3);
}

static void init_spm(struct vocab *v)
{
	static const struct {
		const char *text;
		float score;
		int32_t type;
	} words[] = { { "▁", -10, 1 }, { "a", -10, 1 },  { "b", -10, 1 },    { "c", -10, 1 }, { "ab", -2, 1 },
		      { "bc", -1, 1 }, { "abc", -3, 1 }, { "aa", -1.5f, 1 }, { "▁a", -4, 1 }, { "xy", 0, 4 },
		      { "yzw", 0, 4 }, { "  ", 0, 4 },   { "   ", 0, 4 },    { "bcbc", 0, 1 } };

	init(v, "llama", "default");
	for (unsigned b = 0; b < 256; b++) {
		snprintf(v->bytes[b], sizeof(v->bytes[b]), "<0x%02X>", b);
		add(v, v->bytes[b], 0, 6);
	}
	for (size_t i = 0; i < BMI_ARRAY_LEN(words); i++)
		add(v, words[i].text, words[i].score, words[i].type);
}

/* ids as text: a word of the vocabulary each, joined by |, bytes as <0xHH>. */
static void assert_tokens(const struct bmi_tok *tok, const char *text, unsigned flags, const char *want)
{
	bmi_auto_ids ids = { 0 };
	bmi_auto_str got = { 0 };

	assert_int_equal(bmi_tok_encode(tok, text, strlen(text), flags, &ids, /* err= */ NULL), 0);
	bmi_str_puts(&got, "");
	for (size_t i = 0; i < ids.n; i++) {
		const struct bmi_tok_text t = bmi_tok_text(tok, ids.ids[i]);

		bmi_str_printf(&got, "%s%.*s", i ? "|" : "", (int)t.n, t.bytes);
	}
	assert_string_equal(got.bytes, want);
}

static struct bmi_tok *open_vocab(const struct vocab *v)
{
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	int r = bmi_tok_open_gguf(&v->g, &tok, &err);

	if (r < 0)
		print_message("# %s\n", err.msg);
	assert_int_equal(r, 0);
	return tok;
}

static void test_spm_merges(void **state)
{
	struct vocab v;
	struct bmi_tok *tok;

	init_spm(&v);
	v.g.add_space_prefix = 0;
	tok = open_vocab(&v);
	assert_tokens(tok, "", 0, "");
	assert_tokens(tok, "abc", 0, "abc"); /* b c at -1, then a bc at -3 */
	assert_tokens(tok, "ab", 0, "ab");
	assert_tokens(tok, "aaa", 0, "aa|a"); /* a tie: the left one first */
	assert_tokens(tok, "aaaaa", 0, "aa|aa|a");
	assert_tokens(tok, "bcbc", 0, "bcbc"); /* two merges make what a third joins */
	assert_tokens(tok, "abcb", 0, "abc|b");
	assert_tokens(tok, "a a", 0, "a|▁a");
	assert_tokens(tok, "é", 0, "<0xC3>|<0xA9>");
	assert_tokens(tok, "abéc", 0, "ab|<0xC3>|<0xA9>|c");
	assert_tokens(tok, "\n", 0, "<0x0A>");
	bmi_tok_free(tok);
}

static void test_spm_specials(void **state)
{
	struct vocab v;
	struct bmi_tok *tok;

	init_spm(&v);
	v.g.add_eos = 1;
	tok = open_vocab(&v);
	assert_tokens(tok, "a", 0, "▁a");                            /* add_space_prefix is the default */
	assert_tokens(tok, "a", BMI_TOK_ADD_SPECIAL, "<s>|▁a|</s>"); /* so is add_bos */
	assert_tokens(tok, "", BMI_TOK_ADD_SPECIAL, "<s>|</s>");
	assert_tokens(tok, "a<s>a", BMI_TOK_PARSE_SPECIAL, "▁a|<s>|▁a"); /* a prefix behind every token */
	assert_tokens(tok, "<s>", 0, "▁|<0x3C>|<0x73>|<0x3E>");
	assert_tokens(tok, "axyb", 0, "▁a|xy|▁|b");    /* user-defined: always */
	assert_tokens(tok, "xyzw", 0, "▁|<0x78>|yzw"); /* the longest first, not the leftmost */
	assert_tokens(tok, "     ", 0, "   |  ");
	assert_true(bmi_tok_is_special(tok, 1) && bmi_tok_is_special(tok, 0) && !bmi_tok_is_special(tok, FIRST));
	assert_int_equal(bmi_tok_bos(tok), 1);
	assert_int_equal(bmi_tok_eos(tok), 2);
	bmi_tok_free(tok);
}

static void test_spm_decode(void **state)
{
	const uint32_t ids[] = { 1, FIRST + 8, FIRST + 9, 3 + 0xc3, 3 + 0xa9, 3 + 0xe2, FIRST, 3 + 0x41, 2 };
	struct vocab v;
	struct bmi_tok *tok;
	bmi_auto_str out = { 0 }, skipped = { 0 };

	init_spm(&v);
	tok = open_vocab(&v);
	assert_int_equal(bmi_tok_decode(tok, ids, BMI_ARRAY_LEN(ids), /* skip_special= */ false, &out), 0);
	assert_string_equal(out.bytes, "<s> axyé\xef\xbf\xbd A</s>"); /* a byte that never became a character */
	assert_int_equal(bmi_tok_decode(tok, ids, BMI_ARRAY_LEN(ids), /* skip_special= */ true, &skipped), 0);
	assert_string_equal(skipped.bytes, "axyé\xef\xbf\xbd A"); /* the prefix is gone */
	bmi_tok_free(tok);
}

/* The 256 byte characters for printable ASCII are themselves; that is all these cases need. */
static void init_bpe(struct vocab *v, const char *pre)
{
	static char chars[127][2];
	static const char *const words[] = { "12", "123", "ab", "abc", "bc", "<end_of_turn>" };
	static const char *const merges[] = { "1 2", "12 3", "b c", "a b", "ab c", "b c" };

	init(v, "gpt2", pre);
	for (unsigned c = '!'; c < 127; c++) {
		chars[c][0] = (char)c;
		add(v, chars[c], 0, 1);
	}
	add(v, "Ġ", 0, 1);
	for (size_t i = 0; i < BMI_ARRAY_LEN(words); i++)
		add(v, words[i], 0, 1);
	for (size_t i = 0; i < BMI_ARRAY_LEN(merges); i++)
		v->merges[v->g.n_merges++] = (struct bmi_tok_text){ merges[i], strlen(merges[i]) };
}

static void test_bpe_pre(void **state)
{
	static const struct {
		const char *pre, *text, *want;
	} cases[] = {
		{ "gpt-2", "1234 a", "123|4|Ġ|a" },   { "smollm", "1234 a", "1|2|3|4|Ġ|a" },
		{ "default", "12123", "12|1|2|3" },   { NULL, "12123", "12|1|2|3" },
		{ "llama-bpe", "12123", "12|1|2|3" }, { "qwen2", "123", "1|2|3" },
		{ "gpt-2", "abc", "a|bc" }, /* of two equal merges the first has the rank */
	};

	for (size_t i = 0; i < BMI_ARRAY_LEN(cases); i++) {
		struct vocab v;
		struct bmi_tok *tok;

		init_bpe(&v, cases[i].pre);
		tok = open_vocab(&v);
		assert_tokens(tok, cases[i].text, 0, cases[i].want);
		bmi_tok_free(tok);
	}
}

static void test_bpe_specials(void **state)
{
	struct vocab v;
	struct bmi_tok *tok;
	bmi_auto_str out = { 0 };

	init_bpe(&v, "gpt-2");
	tok = open_vocab(&v);
	assert_tokens(tok, "ab", BMI_TOK_ADD_SPECIAL, "ab"); /* no BOS unless asked */
	assert_tokens(tok, "<s>a", BMI_TOK_PARSE_SPECIAL, "<s>|a");
	assert_tokens(tok, "<s>", 0, "<|s|>");
	assert_tokens(tok, "<end_of_turn>", BMI_TOK_PARSE_SPECIAL,
		      "<end_of_turn>"); /* by its name, not its type */
	assert_true(bmi_tok_is_special(tok, bmi_tok_find(tok, "<end_of_turn>", 13)));
	assert_int_equal(bmi_tok_decode(tok, (uint32_t[]){ 1, 3, 97, 4 }, 4, /* skip_special= */ false, &out),
			 0);
	assert_string_equal(out.bytes, "<s>! \"");
	bmi_tok_free(tok);
	init_bpe(&v, "llama-bpe"); /* adds BOS where the file does not say */
	tok = open_vocab(&v);
	assert_tokens(tok, "ab", BMI_TOK_ADD_SPECIAL, "<s>|ab");
	bmi_tok_free(tok);
}

static void assert_refused(const struct vocab *v, int code, const char *says)
{
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };

	assert_int_equal(bmi_tok_open_gguf(&v->g, &tok, &err), code);
	assert_null(tok);
	if (!strstr(err.msg, says))
		print_message("# says: %s\n", err.msg);
	assert_non_null(strstr(err.msg, says));
}

static void test_refused(void **state)
{
	struct vocab v;

	init(&v, "bert", NULL);
	assert_refused(&v, -EOPNOTSUPP, "'bert'");
	v.g.model = NULL;
	assert_refused(&v, -EOPNOTSUPP, "model");
	init_bpe(&v, "tekken");
	assert_refused(&v, -EOPNOTSUPP, "'tekken'");
	init_bpe(&v, "gpt-2");
	v.g.merges = NULL;
	assert_refused(&v, -EINVAL, "merges");
	init_bpe(&v, "gpt-2");
	v.merges[1] = (struct bmi_tok_text){ "12", 2 };
	assert_refused(&v, -EINVAL, "merge 1");
	v.merges[1] = (struct bmi_tok_text){ "12 9", 4 };
	assert_refused(&v, -EINVAL, "merge 1");
	init_bpe(&v, "gpt-2");
	v.g.bos_id = v.g.n_tokens;
	assert_refused(&v, -EINVAL, "bos");
	init_bpe(&v, "gpt-2");
	v.g.eos_id = BMI_TOK_NO_ID;
	v.g.add_eos = 1;
	assert_refused(&v, -EINVAL, "add_eos");
	init_spm(&v);
	v.g.scores = NULL;
	assert_refused(&v, -EINVAL, "scores");
	init_spm(&v);
	v.scores[5] = NAN;
	assert_refused(&v, -EINVAL, "token 5");
	init_spm(&v);
	v.types[5] = 9;
	assert_refused(&v, -EOPNOTSUPP, "token 5");
	init_spm(&v);
	v.tokens[270] = (struct bmi_tok_text){ "\xff", 1 };
	assert_refused(&v, -EINVAL, "token 270");
	init_spm(&v);
	v.tokens[3 + 0x7f] = (struct bmi_tok_text){ "zz", 2 };
	v.g.unk_id = BMI_TOK_NO_ID;
	assert_refused(&v, -EINVAL, "0x7F");
	init_spm(&v);
	v.g.n_tokens = 0;
	assert_refused(&v, -EINVAL, "0 tokens");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_spm_merges),   cmocka_unit_test(test_spm_specials),
		cmocka_unit_test(test_spm_decode),   cmocka_unit_test(test_bpe_pre),
		cmocka_unit_test(test_bpe_specials), cmocka_unit_test(test_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The doors of the room beyond what the peers' cases reach: errors that leave things as they were, facts, pieces of a stream,
 * very long words, and random text and ids. The seed is fixed; BMIFS_TEST_LONG=1 runs a hundred times as many rounds.
 */
#include "token/fixture.h"

#include "token/token_priv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const byte_level[] = { "mini-gpt2-prefix", "mini-llama3", "mini-neox-added",
					  "mini-starcoder-digits" };

static struct bmi_tok *open_named(const char *name)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s/%s/tokenizer.json", TOKENIZERS, name);
	return open_json(path);
}

static void test_not_utf8(void **state)
{
	static const struct {
		const char *text;
		size_t n;
		const char *at;
	} bad[] = { { "ab\xff", 3, "byte 2" },           { "\xc3", 1, "byte 0" },
		    { "a\xc0\xaf", 3, "byte 1" },        { "\xed\xa0\x80", 3, "byte 0" },
		    { "\xf4\x90\x80\x80", 4, "byte 0" }, { "12345678\xe2\x82", 10, "byte 8" },
		    { "\xe0\x80\x80", 3, "byte 0" } };
	struct bmi_tok *tok = open_named("mini-llama3");
	bmi_auto_ids ids = { 0 };

	assert_int_equal(bmi_ids_put(&ids, 7), 0);
	for (size_t i = 0; i < BMI_ARRAY_LEN(bad); i++) {
		struct bmi_error err = { 0 };

		assert_int_equal(bmi_tok_encode(tok, bad[i].text, bad[i].n, 3, &ids, &err), -EILSEQ);
		assert_non_null(strstr(err.msg, bad[i].at));
		assert_true(ids.n == 1 && ids.ids[0] == 7);
	}
	bmi_tok_free(tok);
}

static void test_facts(void **state)
{
	static const char config[] =
		"{\"bos_token\":\"<|im_start|>\",\"eos_token\":{\"content\":\"<|im_end|>\",\"lstrip\":false},"
		"\"unk_token\":null,\"model_max_length\":1e30}";
	struct bmi_tok *tok = open_named("mini-neox-added");
	struct bmi_error err = { 0 };

	assert_int_equal(bmi_tok_n_vocab(tok), 1504);
	assert_int_equal(bmi_tok_bos(tok), BMI_TOK_NO_ID);
	assert_int_equal(bmi_tok_set_config(tok, config, sizeof(config) - 1, &err), 0);
	assert_int_equal(bmi_tok_bos(tok), 1);
	assert_int_equal(bmi_tok_eos(tok), 2);
	assert_int_equal(bmi_tok_unk(tok), BMI_TOK_NO_ID);
	assert_int_equal(bmi_tok_set_config(tok, "{\"bos_token\":\"<nosuch>\"}", 24, &err), -EINVAL);
	assert_non_null(strstr(err.msg, "<nosuch>"));
	assert_int_equal(bmi_tok_set_config(tok, "{\"eos_token\":5}", 15, &err), -EINVAL);
	assert_int_equal(bmi_tok_set_config(tok, "{", 1, &err), -EINVAL);
	assert_int_equal(bmi_tok_bos(tok), 1);
	assert_true(bmi_tok_is_special(tok, 0) && bmi_tok_is_special(tok, 1502));
	assert_false(bmi_tok_is_special(tok, 1503) || bmi_tok_is_special(tok, 3) ||
		     bmi_tok_is_special(tok, 99999));
	assert_int_equal(bmi_tok_find(tok, "</tool>", 7), 1503);
	assert_int_equal(bmi_tok_find(tok, "<|im_end|>", 10), 2);
	assert_int_equal(bmi_tok_find(tok, "no such token", 13), BMI_TOK_NO_ID);
	assert_null(bmi_tok_text(tok, 1504).bytes);
	assert_memory_equal(bmi_tok_text(tok, 1502).bytes, "<tool>", 6);
	bmi_tok_free(tok);
}

/* A character of four bytes in four tokens: nothing, nothing, nothing, all; cut off: one U+FFFD. */
static void test_stream(void **state)
{
	struct bmi_tok *tok = open_named("mini-llama3");
	bmi_auto(bmi_detok) d = bmi_detok_new(tok, /* skip_special= */ true);
	bmi_auto_str out = { 0 };
	uint32_t id[4];

	assert_non_null(d);
	for (unsigned i = 0; i < 4; i++) {
		char c[4];
		const unsigned n = bmi_tok_utf8_put(c, bmi_tok_byte_char((unsigned char)"\xf0\x9f\x98\x80"[i]));

		id[i] = bmi_tok_find(tok, c, n);
		assert_int_not_equal(id[i], BMI_TOK_NO_ID);
		assert_int_equal(bmi_detok_push(d, id[i], &out), 0);
		assert_int_equal(out.n, i < 3 ? 0 : 4);
	}
	assert_int_equal(bmi_detok_push(d, 0xfffffff0, &out), 0); /* no such token: left out, as the peer does */
	assert_int_equal(bmi_detok_push(d, 1, &out), 0);          /* special: skipped */
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(bmi_detok_push(d, id[i], &out), 0);
	assert_int_equal(out.n, 4);
	assert_int_equal(bmi_detok_flush(d, &out), 0);
	assert_string_equal(out.bytes, "\xf0\x9f\x98\x80\xef\xbf\xbd");
	bmi_tok_free(tok);
}

/* One word of 300 000 letters must not take quadratic time (the test would run out of its own), and must be merged right. */
static void test_long_word(void **state)
{
	enum { N = 300 * 1000 };
	static const char json[] = "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2},"
				   "\"merges\":[\"a a\",\"aa aa\"]}}";
	struct bmi_tok *tok = NULL;
	bmi_auto_ids ids = { 0 };
	char *text = malloc(N + 3);

	assert_non_null(text);
	memset(text, 'a', N + 3);
	assert_int_equal(bmi_tok_open_json(json, sizeof(json) - 1, &tok, /* err= */ NULL), 0);
	assert_int_equal(bmi_tok_encode(tok, text, N + 3, 0, &ids, /* err= */ NULL), 0);
	assert_int_equal(ids.n, N / 4 + 2); /* N is a multiple of 4 */
	for (size_t i = 0; i < N / 4; i++)
		assert_int_equal(ids.ids[i], 2);
	assert_true(ids.ids[N / 4] == 1 && ids.ids[N / 4 + 1] == 0);
	free(text);
	bmi_tok_free(tok);
}

/* A pattern that would try for ever is given up, and says so. */
static void test_steps(void **state)
{
	static const char json[] =
		"{\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(?:a+)+b\"},\"behavior\":"
		"\"Isolated\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0},\"merges\":[]}}";
	/* the b behind the c is there because PCRE2 looks for it first */
	static const char text[] = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaacb";
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_ids ids = { 0 };

	assert_int_equal(bmi_tok_open_json(json, sizeof(json) - 1, &tok, &err), 0);
	assert_int_equal(bmi_tok_encode(tok, text, sizeof(text) - 3, 0, &ids, &err), 0);
	assert_int_equal(ids.n, sizeof(text) - 3);
	assert_int_equal(bmi_tok_encode(tok, text, sizeof(text) - 1, 0, &ids, &err), -E2BIG);
	assert_non_null(strstr(err.msg, "too many steps"));
	assert_int_equal(ids.n, sizeof(text) - 3); /* as it was */
	bmi_tok_free(tok);
}

/* Marks in the wrong order: sorted by class, stable, in one pass however many there are. */
static void test_many_marks(void **state)
{
	enum { PAIRS = 50 * 1000 };
	bmi_auto_str in = { 0 }, out = { 0 };

	bmi_str_puts(&in, "a");
	for (int i = 0; i < PAIRS; i++)
		bmi_str_puts(&in, "\xcc\x81\xcc\xa3"); /* U+0301 (class 230), U+0323 (220) */
	assert_int_equal(bmi_tok_form((struct bmi_tok_text){ in.bytes, in.n }, false, false, &out), 0);
	assert_int_equal(out.n, in.n);
	for (int i = 0; i < PAIRS; i++) {
		assert_memory_equal(out.bytes + 1 + 2 * i, "\xcc\xa3", 2);
		assert_memory_equal(out.bytes + 1 + 2 * (PAIRS + i), "\xcc\x81", 2);
	}
}

static uint64_t next_random(uint64_t *s)
{
	*s ^= *s << 13; /* xorshift64 */
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

static int rounds(void)
{
	const char *l = getenv("BMIFS_TEST_LONG");

	return l && *l == '1' ? 100 * 1000 : 1000;
}

/* Byte-level vocabularies lose nothing: text of any characters comes back. */
static void test_round_trip(void **state)
{
	uint64_t seed = 0x2545f4914f6cdd1d;

	for (size_t t = 0; t < BMI_ARRAY_LEN(byte_level); t++) {
		struct bmi_tok *tok = open_named(byte_level[t]);
		const bool prefix = t == 0;

		for (int k = 0; k < rounds(); k++) {
			char text[80 * 4];
			size_t n = 0;
			bmi_auto_ids ids = { 0 };
			bmi_auto_str out = { 0 };

			for (uint64_t len = next_random(&seed) % 80; len; len--) {
				const uint64_t r = next_random(&seed);
				uint32_t c = (uint32_t)(r >> 8) % (r & 3   ? 0x250
								   : r & 4 ? 0x10000
									   : 0x110000);

				if (c >= 0xd800 && c < 0xe000)
					c = ' ';
				n += bmi_tok_utf8_put(text + n, c);
			}
			assert_int_equal(bmi_tok_encode(tok, text, n, 0, &ids, /* err= */ NULL), 0);
			assert_int_equal(bmi_tok_decode(tok, ids.ids, ids.n, /* skip_special= */ false, &out),
					 0);
			if (t == 2) /* its added tokens swallow white space */
				continue;
			if (prefix && n && text[0] != ' ')
				assert_int_equal(out.n, n + 1);
			assert_memory_equal((out.n ? out.bytes : "") + (out.n - n), text, n);
		}
		bmi_tok_free(tok);
	}
}

/* Any ids decode to valid text, the same in pieces. */
static void test_random_ids(void **state)
{
	static const char *const names[] = { "mini-llama3", "mini-spm-prepend", "mini-unigram",
					     "mini-neox-added" };
	uint64_t seed = 0x9e3779b97f4a7c15;

	for (size_t t = 0; t < BMI_ARRAY_LEN(names); t++) {
		struct bmi_tok *tok = open_named(names[t]);

		for (int k = 0; k < rounds() / 4; k++) {
			bmi_auto_ids ids = { 0 };

			for (uint64_t len = next_random(&seed) % 40; len; len--)
				assert_int_equal(bmi_ids_put(&ids, (uint32_t)(next_random(&seed) %
									      (k & 1 ? 300 : 1600))),
						 0);
			assert_null(check_pieces(tok, &ids, k & 2));
		}
		bmi_tok_free(tok);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_not_utf8),   cmocka_unit_test(test_facts),
		cmocka_unit_test(test_stream),     cmocka_unit_test(test_steps),
		cmocka_unit_test(test_long_word),  cmocka_unit_test(test_many_marks),
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_random_ids),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A text through a tokenizer of each kind: the first byte picks the tokenizer and the flags. Checked: text is taken exactly
 * when it is UTF-8 by a second opinion, every id names a token, byte-level text comes back, cutting a text where no token can span
 * changes nothing, pieces are whole characters and join to the whole.
 */
#include "token/token_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define SPECIALS                                                                                          \
	"{\"id\":0,\"content\":\"<u>\",\"special\":true},{\"id\":1,\"content\":\"<s>\",\"special\":true," \
	"\"rstrip\":true},"                                                                               \
	"{\"id\":900,\"content\":\"cd\",\"single_word\":true},{\"id\":901,\"content\":\"  "               \
	"\",\"lstrip\":true,\"normalized\":true}"
#define POST                                                                                                 \
	"\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"s\"}}," \
	"{\"Sequence\":"                                                                                     \
	"{\"id\":\"A\"}}],\"special_tokens\":{\"s\":{\"ids\":[1]}}},"

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

/* The same file with three kinds of model and stages around. */
static struct bmi_tok *make(unsigned kind)
{
	static const char *const merges =
		"\"merges\":[\"a b\",\"b a\",\"ab ab\",\"aa a\",\"a a\",\"l l\",\"1 2\",\"ab c\"]}}";
	static const char *const words[] = { "ab", "ba", "abab", "aa", "aaa", "ll", "12", "abc" };
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_str json = { 0 };
	unsigned id = 2;

	bmi_str_puts(
		&json,
		kind == 0 ? "{\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},"
			    "\"decoder\":{\"type\":"
			    "\"ByteLevel\"},\"model\":{\"type\":\"BPE\",\"vocab\":{\"<u>\":0,\"<s>\":1"
		: kind == 1
			? "{" POST "\"added_tokens\":[" SPECIALS
			  "],\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFKC\"},{"
			  "\"type\":"
			  "\"Replace\",\"pattern\":{\"String\":\" "
			  "\"},\"content\":\"▁\"}]},\"decoder\":{\"type\":\"Sequence\","
			  "\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Fuse\"},{\"type\":\"Strip\","
			  "\"content\":\" "
			  "\",\"start\":1,\"stop\":1}]},\"model\":{\"type\":\"BPE\",\"byte_fallback\":true,"
			  "\"unk_token\":"
			  "\"<u>\",\"fuse_unk\":true,\"vocab\":{\"<u>\":0,\"<s>\":1"
			: "{\"added_tokens\":[" SPECIALS "],\"normalizer\":{\"type\":\"Lowercase\"},\"pre_"
			  "tokenizer\":{\"type\":\"Metaspace\","
			  "\"replacement\":\"▁\",\"prepend_scheme\":\"first\"},\"decoder\":{\"type\":"
			  "\"Metaspace\","
			  "\"replacement\":\"▁\"},\"model\":{\"type\":\"Unigram\",\"unk_id\":0,\"vocab\":[["
			  "\"<u>\",0],[\"<s>\",0]");
	for (unsigned b = 0; b < 256 + BMI_ARRAY_LEN(words); b++, id++) {
		char name[8];

		if (b >= 256)
			strcpy(name, words[b - 256]);
		else if (kind == 0)
			name[bmi_tok_utf8_put(name, bmi_tok_byte_char((unsigned char)b))] = 0;
		else
			snprintf(name, sizeof(name), "<0x%02X>", b);
		bmi_str_puts(&json, kind == 2 ? ",[" : ",");
		bmi_str_put_json(&json, name, strlen(name));
		bmi_str_printf(&json, kind == 2 ? ",-%u.5]" : ":%u", kind == 2 ? b % 9 : id);
	}
	if (kind == 1)
		bmi_str_printf(&json,
			       ",\"▁\":%u,\"a\":%u,\"b\":%u,\"c\":%u,\"l\":%u,\"1\":%u,\"2\":%u,\"é\":%u", id,
			       id + 1, id + 2, id + 3, id + 4, id + 5, id + 6, id + 7);
	bmi_str_puts(&json, kind == 2 ? ",[\"▁\",-2],[\"a\",-3],[\"b\",-3.5]]}}" : "},");
	if (kind < 2)
		bmi_str_puts(&json, merges);
	if (bmi_tok_open_json(json.bytes, json.n, &tok, &err) < 0) {
		fprintf(stderr, "%s\n", err.msg);
		abort();
	}
	return tok;
}

/* RFC 3629 once more, by value instead of by tables. */
static bool is_utf8(const uint8_t *s, size_t n)
{
	static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };

	for (size_t i = 0; i < n;) {
		const unsigned len = s[i] < 0x80       ? 1
				     : s[i] >> 5 == 6  ? 2
				     : s[i] >> 4 == 14 ? 3
				     : s[i] >> 3 == 30 ? 4
						       : 0;
		uint32_t c = len == 1 ? s[i] : s[i] & (0x7f >> len);

		if (!len || n - i < len)
			return false;
		for (unsigned k = 1; k < len; k++) {
			if (s[i + k] >> 6 != 2)
				return false;
			c = c << 6 | (s[i + k] & 0x3f);
		}
		if (c < least[len] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000))
			return false;
		i += len;
	}
	return true;
}

static void check_decode(const struct bmi_tok *tok, const struct bmi_ids *ids, struct bmi_str *whole)
{
	bmi_auto(bmi_detok) d = bmi_detok_new(tok, /* skip_special= */ false);
	bmi_auto_str pieces = { 0 };

	check(d && bmi_tok_decode(tok, ids->ids, ids->n, /* skip_special= */ false, whole) == 0);
	for (size_t i = 0; i <= ids->n; i++) {
		const size_t before = pieces.n;

		check((i < ids->n ? bmi_detok_push(d, ids->ids[i], &pieces) : bmi_detok_flush(d, &pieces)) == 0);
		check(pieces.n == before || is_utf8((uint8_t *)pieces.bytes + before, pieces.n - before));
	}
	check(whole->n == pieces.n && (!whole->n || !memcmp(whole->bytes, pieces.bytes, whole->n)));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct bmi_tok *toks[3];
	struct bmi_tok *tok;
	bmi_auto_ids ids = { 0 }, again = { 0 };
	bmi_auto_str out = { 0 };
	uint64_t *bits;
	char *text;
	int r;

	if (!size)
		return 0;
	if (!toks[data[0] % 3])
		toks[data[0] % 3] = make(data[0] % 3);
	tok = toks[data[0] % 3];
	text = malloc(size);
	check(text != NULL);
	memcpy(text, data + 1, size - 1);
	r = bmi_tok_encode(tok, text, size - 1, data[0] / 3 % 4, &ids, /* err= */ NULL);
	check((r == 0) == is_utf8(data + 1, size - 1));
	if (r == 0) {
		for (size_t i = 0; i < ids.n; i++)
			check(bmi_tok_text(tok, ids.ids[i]).bytes != NULL);
		check_decode(tok, &ids, &out);
		if (data[0] % 3 == 0)
			check(out.n == size - 1 && (!out.n || !memcmp(out.bytes, text, out.n)));
		bits = tok->joins.bits;
		tok->joins.bits = NULL; /* never cut */
		check(bmi_tok_encode(tok, text, size - 1, data[0] / 3 % 4, &again, /* err= */ NULL) == 0);
		tok->joins.bits = bits;
		check(ids.n == again.n && (!ids.n || !memcmp(ids.ids, again.ids, ids.n * sizeof(*ids.ids))));
	}
	free(text);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Reads what the tests of this room read: case files, tokenizers, GGUF vocabularies. Prints TAP, a line a case. */
#include "token/fixture.h"

#include "token/utf8.h"
#include "weights/ckpt.h"
#include "weights/gguf.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static bool failed;

static void __attribute__((noreturn, format(printf, 1, 2))) bail(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	printf("Bail out! ");
	vprintf(fmt, ap);
	printf("\n");
	va_end(ap);
	exit(1);
}

char *read_file(const char *path, size_t *ret_n)
{
	FILE *f = fopen(path, "rb");
	struct stat st;
	char *text = NULL;

	if (f && fstat(fileno(f), &st) == 0)
		text = malloc((size_t)st.st_size + 1);
	if (text && fread(text, 1, (size_t)st.st_size, f) != (size_t)st.st_size) {
		free(text);
		text = NULL;
	}
	if (f)
		fclose(f);
	if (text)
		*ret_n = (size_t)st.st_size;
	return text;
}

void lines_open(struct lines *l, const char *path)
{
	struct bmi_error err = { 0 };
	size_t n, cap = 0;

	*l = (struct lines){ .text = read_file(path, &n) };
	if (!l->text)
		bail("cannot read %s", path);
	for (char *p = l->text, *end = p + n, *nl; p < end; p = nl + 1) {
		nl = memchr(p, '\n', (size_t)(end - p));
		if (!nl)
			nl = end;
		if (l->n == cap) {
			cap = cap ? 2 * cap : 256;
			l->docs = realloc(l->docs, cap * sizeof(*l->docs));
		}
		if (!l->docs || bmi_json_parse(p, (size_t)(nl - p), &l->docs[l->n], &err) < 0)
			bail("%s line %zu: %s", path, l->n + 1, err.msg);
		l->n++;
	}
}

void lines_free(struct lines *l)
{
	for (size_t i = 0; i < l->n; i++)
		bmi_json_free(l->docs[i]);
	free(l->docs);
	free(l->text);
}

struct bmi_tok *open_json(const char *path)
{
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	size_t n = 0;
	char *text = read_file(path, &n);

	if (!text)
		bail("cannot read %s", path);
	if (bmi_tok_open_json(text, n, &tok, &err) < 0)
		bail("%s: %s", path, err.msg);
	memset(text, '#', n); /* nothing may point into it any more */
	free(text);
	return tok;
}

static struct bmi_tok_text *texts(const struct bmi_gguf *g, const char *key, uint32_t *ret_n)
{
	struct bmi_gguf_str *strs = NULL;
	struct bmi_tok_text *t;
	size_t n = 0;

	if (bmi_gguf_get_strs(g, key, &strs, &n) < 0)
		return NULL;
	t = calloc(n + 1, sizeof(*t));
	for (size_t i = 0; t && i < n; i++)
		t[i] = (struct bmi_tok_text){ strs[i].bytes, strs[i].n };
	free(strs);
	*ret_n = (uint32_t)n;
	return t;
}

static uint32_t id_of(const struct bmi_gguf *g, const char *key)
{
	uint64_t id;

	return bmi_gguf_get_u64(g, key, &id) ? (uint32_t)id : BMI_TOK_NO_ID;
}

static int flag_of(const struct bmi_gguf *g, const char *key)
{
	bool flag;

	return bmi_gguf_get_bool(g, key, &flag) ? flag : -1;
}

static char *word_of(const struct bmi_gguf *g, const char *key)
{
	struct bmi_gguf_str s;

	return bmi_gguf_get_str(g, key, &s) ? strndup(s.bytes, s.n) : NULL;
}

struct bmi_tok *open_gguf_model(const char *path)
{
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	struct bmi_tok *tok = NULL;
	const struct bmi_gguf *g;
	int64_t *types = NULL;
	int32_t *types32 = NULL;
	float *scores = NULL;
	size_t n = 0;
	int r;

	if (bmi_ckpt_open(path, /* need_weights= */ true, &ckpt, &err) < 0)
		bail("%s: %s", path, err.msg);
	g = bmi_ckpt_gguf(ckpt);
	struct bmi_tok_gguf v = {
		.model = word_of(g, "tokenizer.ggml.model"),
		.pre = word_of(g, "tokenizer.ggml.pre"),
		.bos_id = id_of(g, "tokenizer.ggml.bos_token_id"),
		.eos_id = id_of(g, "tokenizer.ggml.eos_token_id"),
		.unk_id = id_of(g, "tokenizer.ggml.unknown_token_id"),
		.add_bos = flag_of(g, "tokenizer.ggml.add_bos_token"),
		.add_eos = flag_of(g, "tokenizer.ggml.add_eos_token"),
		.add_space_prefix = flag_of(g, "tokenizer.ggml.add_space_prefix"),
	};

	v.tokens = texts(g, "tokenizer.ggml.tokens", &v.n_tokens);
	v.merges = texts(g, "tokenizer.ggml.merges", &v.n_merges);
	if (bmi_gguf_get_floats(g, "tokenizer.ggml.scores", &scores, &n) == 0 && n == v.n_tokens)
		v.scores = scores;
	if (bmi_gguf_get_ints(g, "tokenizer.ggml.token_type", &types, &n) == 0 && n == v.n_tokens)
		v.types = types32 = calloc(n + 1, sizeof(*types32));
	for (size_t i = 0; types32 && i < n; i++)
		types32[i] = (int32_t)types[i];
	r = bmi_tok_open_gguf(&v, &tok, &err);
	if (r < 0)
		bail("%s: %s", path, err.msg);
	free((void *)(uintptr_t)v.model);
	free((void *)(uintptr_t)v.pre);
	free((void *)(uintptr_t)v.tokens);
	free((void *)(uintptr_t)v.merges);
	free(types);
	free(types32);
	free(scores);
	bmi_ckpt_close(ckpt);
	return tok;
}

/* Give the token of every id its place, and its type if it is added. */
static void fill_vocab(const struct bmi_json *root, struct bmi_tok_text *tokens, int32_t *types, uint32_t max)
{
	uint64_t id;
	bool special;

	for (const struct bmi_json *t = bmi_json_get(bmi_json_get(root, "model"), "vocab")->child; t;
	     t = t->next)
		if (bmi_json_to_u64(t, &id) && id < max)
			tokens[id] = (struct bmi_tok_text){ t->key, t->n_key };
	for (const struct bmi_json *t = bmi_json_get(root, "added_tokens")->child; t; t = t->next) {
		const struct bmi_json *text = bmi_json_get(t, "content");

		if (!bmi_json_to_u64(bmi_json_get(t, "id"), &id) || id >= max)
			continue;
		tokens[id] = (struct bmi_tok_text){ text->str, text->n };
		types[id] = bmi_json_to_bool(bmi_json_get(t, "special"), &special) && special ? 3 : 4;
	}
}

struct bmi_tok *open_json_as_gguf(const char *path, const char *pre)
{
	struct bmi_tok_gguf v = { .model = "gpt2",
				  .pre = pre,
				  .bos_id = BMI_TOK_NO_ID,
				  .eos_id = BMI_TOK_NO_ID,
				  .unk_id = BMI_TOK_NO_ID,
				  .add_bos = 0,
				  .add_eos = -1,
				  .add_space_prefix = -1 };
	struct bmi_json_doc *doc = NULL;
	struct bmi_error err = { 0 };
	struct bmi_tok *tok = NULL;
	const struct bmi_json *root, *merges;
	struct bmi_tok_text *tokens, *pairs;
	int32_t *types;
	bmi_auto_str joined = { 0 };
	size_t n = 0, *offs;
	char *text = read_file(path, &n);

	if (!text || bmi_json_parse(text, n, &doc, &err) < 0)
		bail("%s: %s", path, err.msg);
	root = bmi_json_root(doc);
	merges = bmi_json_get(bmi_json_get(root, "model"), "merges");
	v.n_tokens = bmi_json_get(bmi_json_get(root, "model"), "vocab")->n;
	tokens = calloc(v.n_tokens, sizeof(*tokens));
	types = calloc(v.n_tokens, sizeof(*types));
	pairs = calloc(merges->n, sizeof(*pairs));
	offs = calloc(merges->n + 1u, sizeof(*offs));
	if (!tokens || !types || !pairs || !offs)
		bail("no memory");
	for (uint32_t i = 0; i < v.n_tokens; i++)
		types[i] = 1;
	fill_vocab(root, tokens, types, v.n_tokens);
	for (const struct bmi_json *m = merges->child; m; m = m->next) {
		bmi_str_put(&joined, m->child->str, m->child->n);
		bmi_str_puts(&joined, " ");
		bmi_str_put(&joined, m->child->next->str, m->child->next->n);
		offs[++v.n_merges] = joined.n;
	}
	for (uint32_t i = 0; i < v.n_merges; i++)
		pairs[i] = (struct bmi_tok_text){ joined.bytes + offs[i], offs[i + 1] - offs[i] };
	v.tokens = tokens;
	v.types = types;
	v.merges = pairs;
	if (bmi_tok_open_gguf(&v, &tok, &err) < 0)
		bail("%s as GGUF: %s", path, err.msg);
	free(tokens);
	free(types);
	free(pairs);
	free(offs);
	bmi_json_free(doc);
	free(text);
	return tok;
}

bool find_path(const char *arg, char *ret, size_t n_ret)
{
	const char *dir = getenv("BMIFS_TEST_MODELS");
	struct stat st;

	if (strncmp(arg, "models:", 7) != 0) {
		snprintf(ret, n_ret, "%s", arg);
		return true;
	}
	if (!dir || !*dir) {
		printf("1..0 # SKIP BMIFS_TEST_MODELS names no directory of models\n");
		return false;
	}
	snprintf(ret, n_ret, "%s/%s", dir, arg + 7);
	if (stat(ret, &st) == 0)
		return true;
	printf("1..0 # SKIP there is no %s in BMIFS_TEST_MODELS\n", arg + 7);
	return false;
}

bool same_ids(const struct bmi_ids *ids, const struct bmi_json *want)
{
	const struct bmi_json *v = want ? want->child : NULL;
	uint64_t id;

	if (!want || want->n != ids->n)
		return false;
	for (size_t i = 0; i < ids->n; i++, v = v->next)
		if (!bmi_json_to_u64(v, &id) || id != ids->ids[i])
			return false;
	return true;
}

bool same_text(const struct bmi_str *s, const struct bmi_json *want)
{
	return want && want->type == BMI_JSON_STRING && want->n == s->n &&
	       (!s->n || !memcmp(want->str, s->bytes, s->n));
}

const char *check_pieces(const struct bmi_tok *tok, const struct bmi_ids *ids, bool skip_special)
{
	bmi_auto(bmi_detok) d = bmi_detok_new(tok, skip_special);
	bmi_auto_str whole = { 0 }, all = { 0 };

	if (!d || bmi_tok_decode(tok, ids->ids, ids->n, skip_special, &whole) < 0)
		return "decode failed";
	for (int round = 0; round < 2; round++) { /* a flushed decoder begins anew */
		all.n = 0;
		for (size_t i = 0; i <= ids->n; i++) {
			const size_t before = all.n;

			if ((i < ids->n ? bmi_detok_push(d, ids->ids[i], &all) : bmi_detok_flush(d, &all)) < 0)
				return "the streaming decoder failed";
			if (all.n > before &&
			    bmi_tok_utf8_valid(all.bytes + before, all.n - before) != all.n - before)
				return "a piece is not whole characters";
		}
		if (all.n != whole.n || (all.n && memcmp(all.bytes, whole.bytes, all.n) != 0))
			return "the pieces are not the whole";
	}
	return NULL;
}

void tap(size_t n, const char *name, const char *text, size_t n_text, const char *why)
{
	printf("%sok %zu - %s: ", why ? "not " : "", n, name);
	for (size_t i = 0; i < n_text && i < 40; i++) {
		const char c = text[i];

		printf("%c", c >= ' ' && c <= '~' && c != '#' && c != '\\' ? c : '.');
	}
	printf("\n");
	if (why)
		printf("# %s\n", why);
	failed |= why != NULL;
}

int tap_status(void)
{
	return failed;
}

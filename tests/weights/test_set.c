/* SPDX-License-Identifier: Apache-2.0 */
/* Split GGUF sets, what GGUF metadata becomes as a config, typed access to metadata, and what dtype `auto` means. */
#include "arch/arch.h"
#include "weights/ckpt.h"
#include "weights/gguf.h"
#include "weights/maker.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define PART1 "m-00001-of-00002.gguf"
#define PART2 "m-00002-of-00002.gguf"

static void put_kv_u16(struct bmi_str *s, const char *key, uint16_t x)
{
	put_str(s, key);
	put_u32(s, 2);
	put_u8(s, (uint8_t)x);
	put_u8(s, (uint8_t)(x >> 8));
}

/* A part with its split keys and the tensors first .. end - 1; the first part has the model's keys too. */
static void put_part(const struct dir *d, const char *name, unsigned no, unsigned count, unsigned first,
		     unsigned end, unsigned total)
{
	bmi_auto_str s = { 0 };
	uint64_t n_data;

	bmi_str_puts(&s, "GGUF");
	put_u32(&s, 3);
	put_u64(&s, end - first);
	put_u64(&s, (no == 0 ? LLAMA_N_KVS : 0) + 3);
	if (no == 0)
		put_llama_kvs(&s);
	put_kv_u16(&s, "split.no", (uint16_t)no);
	put_kv_u16(&s, "split.count", (uint16_t)count);
	put_kv_u32(&s, "split.tensors.count", total);
	n_data = put_llama_some(&s, first, end);
	while (s.n % 32)
		put_u8(&s, 0);
	put_zeros(&s, n_data);
	dir_put(d, name, s.bytes, s.n);
}

static void make_good(const struct dir *d)
{
	put_part(d, PART1, 0, 2, 0, 5, LLAMA_N_TENSORS);
	put_part(d, PART2, 1, 2, 5, LLAMA_N_TENSORS, LLAMA_N_TENSORS);
}

static void make_missing(const struct dir *d)
{
	put_part(d, PART1, 0, 2, 0, 5, LLAMA_N_TENSORS);
}

static void make_first_missing(const struct dir *d)
{
	put_part(d, PART2, 1, 2, 5, LLAMA_N_TENSORS, LLAMA_N_TENSORS);
}

static void make_count(const struct dir *d)
{
	put_part(d, PART1, 0, 3, 0, 5, LLAMA_N_TENSORS);
	put_part(d, PART2, 1, 3, 5, LLAMA_N_TENSORS, LLAMA_N_TENSORS);
}

static void make_order(const struct dir *d)
{
	put_part(d, PART1, 1, 2, 5, LLAMA_N_TENSORS, LLAMA_N_TENSORS);
	put_part(d, PART2, 0, 2, 0, 5, LLAMA_N_TENSORS);
}

static void make_twice(const struct dir *d)
{
	put_part(d, PART1, 0, 2, 0, 5, LLAMA_N_TENSORS + 1);
	put_part(d, PART2, 1, 2, 4, LLAMA_N_TENSORS, LLAMA_N_TENSORS + 1);
}

static void make_total(const struct dir *d)
{
	put_part(d, PART1, 0, 2, 0, 5, 99);
	put_part(d, PART2, 1, 2, 5, LLAMA_N_TENSORS, 99);
}

static void make_renamed(const struct dir *d)
{
	put_part(d, "model.gguf", 0, 2, 0, 5, LLAMA_N_TENSORS);
}

static void make_two_sets(const struct dir *d)
{
	make_good(d);
	put_part(d, "n-00001-of-00001.gguf", 0, 1, 0, LLAMA_N_TENSORS, LLAMA_N_TENSORS);
}

static void make_fifo(const struct dir *d)
{
	make_missing(d);
	dir_fifo(d, PART2);
}

static void make_many(const struct dir *d)
{
	put_part(d, "m-00001-of-10000.gguf", 0, 10000, 0, 5, LLAMA_N_TENSORS);
}

struct set_row {
	const char *name;
	int code;
	const char *words[4];
	const char *below;
	void (*make)(const struct dir *d);
};

static const struct set_row set_rows[] = {
	{ "set: a directory with two parts", 0, { 0 }, NULL, make_good },
	{ "set: by its first part", 0, { 0 }, "/" PART1, make_good },
	{ "set: by another part", 0, { 0 }, "/" PART2, make_good },
	{ "set: a part is missing", -ENOENT, { PART2, "set" }, NULL, make_missing },
	{ "set: the first part is missing", -ENOENT, { PART1, "set" }, NULL, make_first_missing },
	{ "set: a part is a FIFO", -EINVAL, { PART2, "regular" }, NULL, make_fifo },
	{ "set: another number of parts", -EINVAL, { PART1, "split.count is 3", "2" }, NULL, make_count },
	{ "set: parts in another order", -EINVAL, { PART1, "split.no is 1" }, NULL, make_order },
	{ "set: a tensor in both parts", -EINVAL, { "'blk.0.attn_v.weight'", PART1, PART2 }, NULL, make_twice },
	{ "set: another number of tensors", -EINVAL, { "split.tensors.count is 99", "11" }, NULL, make_total },
	{ "set: a part renamed to a whole model", -EINVAL, { "model.gguf", "split.count is 2" }, NULL, make_renamed },
	{ "set: 10000 parts", -EINVAL, { "m-00001-of-10000.gguf", "10000", "9999" }, NULL, make_many },
	{ "set: two models", -EINVAL, { PART1, "n-00001-of-00001.gguf", "several" }, NULL, make_two_sets },
};

static void test_set(void **state)
{
	const struct set_row *row = *state;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	const char *words[5] = { 0 };
	char path[256];
	struct dir d;
	int r;

	dir_make(&d);
	row->make(&d);
	snprintf(path, sizeof(path), "%s%s", d.path, row->below ? row->below : "");
	r = bmi_ckpt_open(path, true, &ckpt, &err);
	dir_remove(&d);
	if (r != row->code)
		print_message("# the sentence is: %s\n", err.msg);
	assert_int_equal(r, row->code);
	memcpy(words, row->words, sizeof(row->words));
	if (r < 0)
		assert_true(says(err.msg, words));
	bmi_ckpt_close(ckpt);
}

/* Two families' metadata as a config: GGUF keys in, the wanted members of the JSON out. */
struct kv {
	const char *key;
	char kind; /* u f s b(ool list) t(ensor of float32, n elements of value 2) */
	double number;
	const char *text;
};

struct config_row {
	const char *name, *arch;
	struct kv kvs[8];
	const char *json;     /* the wanted members; or */
	const char *words[4]; /* of the refusal */
	int code;
};

static const struct config_row config_rows[] = {
	{ "config: nothing special",
	  "llama",
	  { { 0 } },
	  "{\"model_type\":\"llama\",\"hidden_act\":\"silu\",\"hidden_size\":32,\"intermediate_size\":64,"
	  "\"num_hidden_layers\":2,"
	  "\"num_attention_heads\":4,\"vocab_size\":8,\"tie_word_embeddings\":true,\"attention_bias\":false,"
	  "\"mlp_bias\":false,"
	  "\"max_position_embeddings\":128,\"_bmifs_rope_interleaved\":true,"
	  "\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"default\"}}" },
	{ "config: rotation slowed evenly",
	  "llama",
	  { { "llama.rope.scaling.type", 's', 0, "linear" },
	    { "llama.rope.scaling.factor", 'f', 4 },
	    { "llama.rope.freq_base", 'f', 5e5 } },
	  "{\"rope_parameters\":{\"rope_theta\":500000,\"rope_type\":\"linear\",\"factor\":4}}" },
	{ "config: a factor without a type is linear",
	  "llama",
	  { { "llama.rope.scaling.factor", 'f', 8 } },
	  "{\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"linear\",\"factor\":8}}" },
	{ "config: the older name of the factor",
	  "llama",
	  { { "llama.rope.scale_linear", 'f', 2 } },
	  "{\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"linear\",\"factor\":2}}" },
	{ "config: no scaling, by name",
	  "llama",
	  { { "llama.rope.scaling.type", 's', 0, "none" }, { "llama.rope.scaling.factor", 'f', 8 } },
	  "{\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"default\"}}" },
	{ "config: yarn",
	  "llama",
	  { { "llama.rope.scaling.type", 's', 0, "yarn" },
	    { "llama.rope.scaling.factor", 'f', 4 },
	    { "llama.rope.scaling.original_context_length", 'u', 32 },
	    { "llama.rope.scaling.yarn_beta_fast", 'f', 16 },
	    { "llama.rope.scaling.yarn_beta_slow", 'f', 2 } },
	  "{\"rope_parameters\":{\"rope_theta\":10000,\"rope_type\":\"yarn\",\"factor\":4,\"original_max_"
	  "position_embeddings\":32,"
	  "\"beta_fast\":16,\"beta_slow\":2}}" },
	{ "config: rope factors from their tensor",
	  "llama",
	  { { "rope_freqs.weight", 't', 4 } },
	  "{\"_bmifs_rope_factors\":[2,2,2,2]}" },
	{ "config: length of a head",
	  "llama",
	  { { "llama.attention.key_length", 'u', 16 }, { "llama.rope.dimension_count", 'u', 16 } },
	  "{\"head_dim\":16}" },
	{ "config: end of turn ends too",
	  "llama",
	  { { "tokenizer.ggml.bos_token_id", 'u', 1 },
	    { "tokenizer.ggml.eos_token_id", 'u', 2 },
	    { "tokenizer.ggml.eot_token_id", 'u', 3 } },
	  "{\"bos_token_id\":1,\"eos_token_id\":[2,3]}" },
	{ "config: one end",
	  "llama",
	  { { "tokenizer.ggml.eos_token_id", 'u', 2 }, { "tokenizer.ggml.eot_token_id", 'u', 2 } },
	  "{\"eos_token_id\":2}" },
	{ "config: a bias",
	  "llama",
	  { { "blk.0.attn_q.bias", 't', 32 } },
	  "{\"attention_bias\":true,\"mlp_bias\":false}" },
	{ "config: a head of its own", "llama", { { "output.weight", 't', 4 } }, "{\"tie_word_embeddings\":false}" },
	{ "config: gemma 3",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 },
	    { "gemma3.attention.sliding_window", 'u', 512 },
	    { "gemma3.rope.freq_base", 'f', 1e6 } },
	  "{\"model_type\":\"gemma3_text\",\"hidden_activation\":\"gelu_pytorch_tanh\",\"head_dim\":16,"
	  "\"sliding_window\":512,"
	  "\"query_pre_attn_scalar\":16,\"layer_types\":[\"sliding_attention\",\"sliding_attention\"],\"_"
	  "bmifs_norm_baked\":true,"
	  "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":1000000,\"rope_type\":\"default\"},"
	  "\"sliding_attention\":{\"rope_theta\":10000,\"rope_type\":\"default\"}}}" },
	{ "config: gemma 3, full layers slowed",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 },
	    { "gemma3.attention.sliding_window", 'u', 512 },
	    { "gemma3.rope.scaling.type", 's', 0, "linear" },
	    { "gemma3.rope.scaling.factor", 'f', 8 },
	    { "gemma3.rope.freq_base_swa", 'f', 2e4 },
	    { "gemma3.attention.sliding_window_pattern", 'u', 2 } },
	  "{\"layer_types\":[\"sliding_attention\",\"full_attention\"],"
	  "\"rope_parameters\":{\"full_attention\":{\"rope_theta\":10000,\"rope_type\":\"linear\",\"factor\":"
	  "8},"
	  "\"sliding_attention\":{\"rope_theta\":20000,\"rope_type\":\"default\"}}}" },
	{ "config: gemma 3, layers listed",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 },
	    { "gemma3.attention.sliding_window", 'u', 512 },
	    { "gemma3.attention.sliding_window_pattern", 'b', 2 } },
	  "{\"layer_types\":[\"sliding_attention\",\"full_attention\"]}" },
	{ "config: gemma 3, fewer layers listed",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 },
	    { "gemma3.attention.sliding_window", 'u', 512 },
	    { "gemma3.attention.sliding_window_pattern", 'b', 1 } },
	  NULL,
	  { "sliding_window_pattern", "1 entries", "2 layers" },
	  -EINVAL },
	{ "config: gemma 3, pattern 0",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 },
	    { "gemma3.attention.sliding_window", 'u', 512 },
	    { "gemma3.attention.sliding_window_pattern", 'u', 0 } },
	  NULL,
	  { "sliding_window_pattern" },
	  -EINVAL },
	{ "config: gemma 3, no length of a head",
	  "gemma3",
	  { { "gemma3.attention.sliding_window", 'u', 512 } },
	  NULL,
	  { "'gemma3.attention.key_length'", "missing" },
	  -EINVAL },
	{ "config: gemma 3, no window",
	  "gemma3",
	  { { "gemma3.attention.key_length", 'u', 16 } },
	  NULL,
	  { "'gemma3.attention.sliding_window'", "missing" },
	  -EINVAL },
	{ "config: keys and values of two lengths",
	  "llama",
	  { { "llama.attention.key_length", 'u', 16 }, { "llama.attention.value_length", 'u', 32 } },
	  NULL,
	  { "16", "32" },
	  -EOPNOTSUPP },
};

static void put_kv(struct bmi_str *s, const struct kv *kv)
{
	if (kv->kind == 'u') {
		put_kv_u32(s, kv->key, (uint32_t)kv->number);
	} else if (kv->kind == 'f') {
		put_kv_f32(s, kv->key, (float)kv->number);
	} else if (kv->kind == 's') {
		put_kv_str(s, kv->key, kv->text);
	} else if (kv->kind == 'b') { /* true, false, false, ... */
		put_str(s, kv->key);
		put_u32(s, 9);
		put_u32(s, 7);
		put_u64(s, (uint64_t)kv->number);
		for (unsigned i = 0; i < (unsigned)kv->number; i++)
			put_u8(s, i == 0);
	}
}

static void put_config_gguf(struct bmi_str *s, const struct config_row *row)
{
	static const char *const sizes[] = { "block_count", "context_length", "embedding_length",
					     "feed_forward_length", "attention.head_count" };
	static const uint32_t values[] = { 2, 128, 32, 64, 4 };
	const struct kv *tensor = NULL;
	unsigned n_kvs = 7;
	char key[128];

	for (const struct kv *kv = row->kvs; kv->key; kv++) {
		tensor = kv->kind == 't' ? kv : tensor;
		n_kvs += kv->kind != 't';
	}
	bmi_str_puts(s, "GGUF");
	put_u32(s, 3);
	put_u64(s, 1 + (tensor != NULL));
	put_u64(s, n_kvs);
	put_kv_str(s, "general.architecture", row->arch);
	for (unsigned i = 0; i < 5; i++) {
		snprintf(key, sizeof(key), "%s.%s", row->arch, sizes[i]);
		put_kv_u32(s, key, values[i]);
	}
	snprintf(key, sizeof(key), "%s.attention.layer_norm_rms_epsilon", row->arch);
	put_kv_f32(s, key, 1e-6f);
	for (const struct kv *kv = row->kvs; kv->key; kv++)
		put_kv(s, kv);
	put_info(s, "token_embd.weight", 0, 0, 2, 32, 8);
	if (tensor)
		put_info(s, tensor->key, 0, 1024, 1, (uint64_t)tensor->number, 1);
	while (s->n % 32)
		put_u8(s, 0);
	put_zeros(s, 1024);
	for (unsigned i = 0; tensor && i < (unsigned)tensor->number; i++)
		put_f32(s, 2);
}

static bool same(const struct bmi_json *a, const struct bmi_json *b)
{
	double x, y;

	if (!a || !b || a->type != b->type)
		return false;
	if (a->type == BMI_JSON_NUMBER)
		return bmi_json_to_double(a, &x) && bmi_json_to_double(b, &y) && fabs(x - y) <= 1e-7 * fabs(y);
	if (a->type == BMI_JSON_BOOL)
		return a->boolean == b->boolean;
	if (a->type == BMI_JSON_STRING)
		return a->n == b->n && memcmp(a->str, b->str, a->n) == 0;
	if (a->n != b->n)
		return false;
	a = a->child;
	for (b = b->child; b; a = a->next, b = b->next)
		if (a->n_key != b->n_key || (b->key && memcmp(a->key, b->key, b->n_key) != 0) || !same(a, b))
			return false;
	return true;
}

static void test_config(void **state)
{
	const struct config_row *row = *state;
	struct bmi_json_doc *want = NULL;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_str s = { 0 };
	struct dir d;
	int r;

	put_config_gguf(&s, row);
	dir_make(&d);
	dir_put(&d, "m.gguf", s.bytes, s.n);
	r = bmi_ckpt_open(d.path, true, &ckpt, &err);
	dir_remove(&d);
	if (row->code) {
		const char *words[5] = { 0 };

		memcpy(words, row->words, sizeof(row->words));
		assert_int_equal(r, row->code);
		assert_true(says(err.msg, words));
		return;
	}
	if (r < 0)
		fail_msg("%s", err.msg);
	assert_int_equal(bmi_json_parse(row->json, strlen(row->json), &want, &err), 0);
	for (const struct bmi_json *v = bmi_json_root(want)->child; v; v = v->next) {
		char key[64];

		snprintf(key, sizeof(key), "%.*s", (int)v->n_key, v->key);
		if (!same(bmi_json_get(bmi_ckpt_config(ckpt), key), v))
			fail_msg("'%s' differs or is missing", key);
	}
	bmi_json_free(want);
	bmi_ckpt_close(ckpt);
}

static void test_metadata(void **state)
{
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_gguf_str str, *strs = NULL;
	struct bmi_error err = { 0 };
	const struct bmi_gguf *g;
	bmi_auto_str s = { 0 };
	float *floats = NULL;
	int64_t *ints = NULL;
	uint64_t u = 77;
	struct dir d;
	double x = 77;
	size_t n = 77;
	bool b = true;

	(void)state;
	put_llama(&s);
	dir_make(&d);
	dir_put(&d, "m.gguf", s.bytes, s.n);
	assert_int_equal(bmi_ckpt_open(d.path, true, &ckpt, &err), 0);
	dir_remove(&d);
	g = bmi_ckpt_gguf(ckpt);
	assert_true(bmi_gguf_get_str(g, "general.architecture", &str));
	assert_int_equal(str.n, 5);
	assert_memory_equal(str.bytes, "llama", 5);
	assert_true(bmi_gguf_get_u64(g, "llama.context_length", &u) && u == 128);
	assert_true(bmi_gguf_get_double(g, "llama.rope.freq_base", &x) && x == 10000);
	assert_int_equal(bmi_gguf_get_strs(g, "tokenizer.ggml.tokens", &strs, &n), 0);
	assert_int_equal(n, 8);
	assert_int_equal(strs[3].n, 0);
	assert_int_equal(strs[4].n, 7);
	assert_memory_equal(strs[4].bytes, "\xc4\xa0 four", 7);
	assert_memory_equal(strs[7].bytes, "t", 1);
	free(strs);

	/* other kinds, and keys that are not there, leave the result as it was */
	u = 77;
	assert_false(bmi_gguf_get_u64(g, "general.architecture", &u) ||
		     bmi_gguf_get_u64(g, "llama.context_lengt", &u));
	assert_int_equal(u, 77);
	x = 77;
	assert_false(bmi_gguf_get_double(g, "llama.context_length", &x));
	assert_true(x == 77);
	assert_false(bmi_gguf_get_bool(g, "llama.context_length", &b));
	assert_false(bmi_gguf_get_str(g, "tokenizer.ggml.tokens", &str));
	assert_int_equal(bmi_gguf_get_strs(g, "nothing", &strs, &n), -ENOENT);
	assert_int_equal(bmi_gguf_get_strs(g, "general.architecture", &strs, &n), -EINVAL);
	assert_int_equal(bmi_gguf_get_floats(g, "tokenizer.ggml.tokens", &floats, &n), -EINVAL);
	assert_int_equal(bmi_gguf_get_ints(g, "tokenizer.ggml.tokens", &ints, &n), -EINVAL);
	bmi_ckpt_close(ckpt);
}

/* What `auto` means; rules of docs/format-safetensors.md. */
struct dtype_row {
	const char *name;
	int code;
	enum bmi_dtype want;
	const char *config, *header, *index;
};

#define T(name, dtype, from, to) \
	"\"" name "\":{\"dtype\":\"" dtype "\",\"shape\":[1],\"data_offsets\":[" #from "," #to "]}"

static const struct dtype_row dtype_rows[] = {
	{ "dtype: the config's", 0, BMI_F16, ",\"dtype\":\"float16\"",
	  "{" T("a", "BF16", 0, 2) "," T("b", "F32", 2, 6) "}", NULL },
	{ "dtype: the config's older key", 0, BMI_F32, ",\"torch_dtype\":\"float32\"",
	  "{" T("a", "BF16", 0, 2) "," T("b", "F16", 2, 4) "}", NULL },
	{ "dtype: the first by name, not by place", 0, BMI_BF16, "",
	  "{" T("b", "F32", 0, 4) "," T("a", "BF16", 4, 6) "}", NULL },
	{ "dtype: byte order: capitals come first", 0, BMI_F32, "",
	  "{" T("B", "F32", 0, 4) "," T("a", "BF16", 4, 6) "}", NULL },
	{ "dtype: the first that is floating", 0, BMI_F16, "",
	  "{" T("a", "I64", 0, 8) "," T("b", "F16", 8, 10) "}", NULL },
	{ "dtype: the index's metadata before the tensors", 0, BMI_F16, "",
	  "{" T("a", "F32", 0, 4) "," T("b", "F32", 4, 8) "}",
	  "{\"metadata\":{\"dtype\":\"torch.float16\"},\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"x."
	  "safetensors\"}}" },
	{ "dtype: the index says none", 0, BMI_F32, "", "{" T("a", "F32", 0, 4) "," T("b", "F16", 4, 6) "}",
	  "{\"metadata\":{},\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"x.safetensors\"}}" },
	{ "dtype: no tensor is floating", -EINVAL, 0, "", "{" T("a", "I64", 0, 8) "," T("b", "I8", 8, 9) "}",
	  NULL },
	{ "dtype: an integer in the config", -EINVAL, 0, ",\"dtype\":\"int8\"",
	  "{" T("a", "F32", 0, 4) "," T("b", "F16", 4, 6) "}", NULL },
	{ "dtype: a word in the index that is none", -EINVAL, 0, "",
	  "{" T("a", "F32", 0, 4) "," T("b", "F16", 4, 6) "}",
	  "{\"metadata\":{\"dtype\":\"int8\"},\"weight_map\":{\"a\":\"x.safetensors\",\"b\":\"x."
	  "safetensors\"}}" },
};

static uint64_t data_of(const char *header)
{
	const char *last = strrchr(header, ',');

	return strtoull(last + 1, NULL, 10);
}

static void test_dtype(void **state)
{
	const struct dtype_row *row = *state;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_config *cfg = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_str s = { 0 };
	enum bmi_dtype got = BMI_N_DTYPES;
	struct dir d;

	dir_make(&d);
	bmi_str_printf(&s, "{\"model_type\":\"llama\"%s}", row->config);
	dir_puts(&d, "config.json", s.bytes);
	dir_put_st(&d, row->index ? "x.safetensors" : "model.safetensors", row->header, data_of(row->header));
	if (row->index)
		dir_puts(&d, "model.safetensors.index.json", row->index);
	if (bmi_ckpt_open(d.path, true, &ckpt, &err) < 0 ||
	    bmi_config_read(bmi_ckpt_config(ckpt), bmi_arch_find, &cfg, &err) < 0)
		fail_msg("%s", err.msg);
	dir_remove(&d);
	assert_int_equal(bmi_ckpt_dtype(ckpt, cfg, &got, &err), row->code);
	if (row->code == 0)
		assert_int_equal(got, row->want);
	else
		assert_true(err.msg[0] != 0);
	bmi_config_free(cfg);
	bmi_ckpt_close(ckpt);
}

int main(void)
{
	enum {
		N_SET = sizeof(set_rows) / sizeof(set_rows[0]),
		N_CONFIG = sizeof(config_rows) / sizeof(config_rows[0])
	};
	enum { N_DTYPE = sizeof(dtype_rows) / sizeof(dtype_rows[0]), N = N_SET + N_CONFIG + N_DTYPE + 1 };
	struct CMUnitTest tests[N];
	size_t n = 0;

	for (size_t i = 0; i < N_SET; i++)
		tests[n++] = (struct CMUnitTest){ set_rows[i].name, test_set, NULL, NULL,
						  (void *)(uintptr_t)&set_rows[i] };
	for (size_t i = 0; i < N_CONFIG; i++)
		tests[n++] = (struct CMUnitTest){ config_rows[i].name, test_config, NULL, NULL,
						  (void *)(uintptr_t)&config_rows[i] };
	for (size_t i = 0; i < N_DTYPE; i++)
		tests[n++] = (struct CMUnitTest){ dtype_rows[i].name, test_dtype, NULL, NULL,
						  (void *)(uintptr_t)&dtype_rows[i] };
	tests[n++] = (struct CMUnitTest)cmocka_unit_test(test_metadata);
	return _cmocka_run_group_tests("sets, configs and dtypes", tests, n, NULL, NULL);
}

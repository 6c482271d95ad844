/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint against skeleton: one case a row. A row changes a good model (one layer, hidden 32, 4 heads, 2 of them
 * key/value heads, mlp 64, vocabulary 8) and says what binding must answer.
 */
#include "arch/arch.h"
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define CONFIG(more)                                                                                  \
	"{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":32,\"intermediate_size\":64,"     \
	"\"num_hidden_layers\":1,\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_" \
	"embeddings\":128" more "}"
#define TIED ",\"tie_word_embeddings\":true"
#define GEMMA_SIZES                                                                                          \
	"\"vocab_size\":8,\"hidden_size\":32,\"intermediate_size\":64,\"num_hidden_layers\":1,\"head_dim\":" \
	"8,"                                                                                                 \
	"\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":128,\"sliding_"     \
	"window\":16"

struct spec {
	const char *name, *dtype;
	uint64_t rows, cols; /* cols 0: one dimension */
};

static const struct spec llama[] = {
	{ "model.embed_tokens.weight", "F32", 8, 32 },
	{ "model.layers.0.self_attn.q_proj.weight", "F32", 32, 32 },
	{ "model.layers.0.self_attn.k_proj.weight", "F32", 16, 32 },
	{ "model.layers.0.self_attn.v_proj.weight", "F32", 16, 32 },
	{ "model.layers.0.self_attn.o_proj.weight", "F32", 32, 32 },
	{ "model.layers.0.mlp.gate_proj.weight", "F32", 64, 32 },
	{ "model.layers.0.mlp.up_proj.weight", "F32", 64, 32 },
	{ "model.layers.0.mlp.down_proj.weight", "F32", 32, 64 },
	{ "model.layers.0.input_layernorm.weight", "F32", 32, 0 },
	{ "model.layers.0.post_attention_layernorm.weight", "F32", 32, 0 },
	{ "model.norm.weight", "F32", 32, 0 },
	{ "lm_head.weight", "F32", 8, 32 },
	{ NULL, NULL, 0, 0 },
};

static const struct spec gemma3[] = {
	{ "model.layers.0.self_attn.q_norm.weight", "F32", 8, 0 },
	{ "model.layers.0.self_attn.k_norm.weight", "F32", 8, 0 },
	{ "model.layers.0.pre_feedforward_layernorm.weight", "F32", 32, 0 },
	{ "model.layers.0.post_feedforward_layernorm.weight", "F32", 32, 0 },
	{ NULL, NULL, 0, 0 },
};

struct row {
	const char *name;
	int code;
	const char *words[4];
	const char *config; /* NULL: the good one */
	const char *drop;   /* a name of the llama list */
	struct spec add;    /* one more tensor */
	const char *prefix; /* stands before every name; then `llama` and `gemma3` are both there */
	const char *model;  /* with prefix: what "model." becomes */
};

static const struct row rows[] = {
	{ "good", 0 },
	{ "good: tied, no lm_head", 0, .config = CONFIG(TIED), .drop = "lm_head.weight" },
	{ "good: tied, and lm_head is there", 0, .config = CONFIG(TIED) },
	{ "good: tied, and only lm_head is there", 0, .config = CONFIG(TIED),
	  .drop = "model.embed_tokens.weight" },
	{ "good: stored rotary tables are ignored", 0,
	  .add = { "model.layers.0.self_attn.rotary_emb.inv_freq", "F32", 4, 0 } },
	{ "good: a rotary table under the buffer's own name", 0,
	  .add = { "model.rotary_emb.inv_freq", "F32", 4, 0 } },
	{ "good: gemma 3", 0, .config = "{\"model_type\":\"gemma3_text\"," GEMMA_SIZES "}", .prefix = "",
	  .model = "model." },
	{ "good: gemma 3, multimodal as published", 0,
	  .config = "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\"," GEMMA_SIZES
		    "}}",
	  .prefix = "language_model.", .model = "model.", .add = { "vision_tower.x.weight", "F32", 3, 5 } },
	{ "good: gemma 3, multimodal as saved now", 0,
	  .config = "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\"," GEMMA_SIZES
		    "}}",
	  .prefix = "", .model = "model.language_model.",
	  .add = { "model.multi_modal_projector.w", "F32", 3, 5 } },
	{ "gemma 3: two tensors for one parameter",
	  -EINVAL,
	  { "'language_model.model.norm.weight'", "'model.norm.weight'", "both" },
	  .config = "{\"model_type\":\"gemma3_text\"," GEMMA_SIZES "}",
	  .prefix = "",
	  .model = "model.",
	  .add = { "language_model.model.norm.weight", "F32", 32, 0 } },
	{ "missing",
	  -EINVAL,
	  { "'model.layers.0.mlp.up_proj.weight'", "missing", "config.json" },
	  .drop = "model.layers.0.mlp.up_proj.weight" },
	{ "missing: lm_head, not tied", -EINVAL, { "'lm_head.weight'", "missing" }, .drop = "lm_head.weight" },
	{ "missing: a layer",
	  -EINVAL,
	  { "'model.layers.1.", "missing", "others" },
	  .config = "{\"model_type\":\"llama\",\"vocab_size\":8,\"hidden_size\":32,\"intermediate_size\":64,"
		    "\"num_hidden_layers\":2,"
		    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":128}" },
	{ "wrong shape",
	  -EINVAL,
	  { "model.safetensors", "'model.layers.0.self_attn.k_proj.weight'", "[8, 32]", "[16, 32]" },
	  .drop = "model.layers.0.self_attn.k_proj.weight",
	  .add = { "model.layers.0.self_attn.k_proj.weight", "F32", 8, 32 } },
	{ "transposed",
	  -EINVAL,
	  { "'model.layers.0.mlp.down_proj.weight'", "[64, 32]", "[32, 64]" },
	  .drop = "model.layers.0.mlp.down_proj.weight",
	  .add = { "model.layers.0.mlp.down_proj.weight", "F32", 64, 32 } },
	{ "another number of dimensions",
	  -EINVAL,
	  { "'model.norm.weight'", "[32, 1]", "[32]" },
	  .drop = "model.norm.weight",
	  .add = { "model.norm.weight", "F32", 32, 1 } },
	{ "tied lm_head of another shape",
	  -EINVAL,
	  { "'lm_head.weight'", "[9, 32]", "[8, 32]" },
	  .config = CONFIG(TIED),
	  .drop = "lm_head.weight",
	  .add = { "lm_head.weight", "F32", 9, 32 } },
	{ "vocabulary of another size",
	  -EINVAL,
	  { "'model.embed_tokens.weight'", "[8, 32]", "[9, 32]" },
	  .config = "{\"model_type\":\"llama\",\"vocab_size\":9,\"hidden_size\":32,\"intermediate_size\":64,"
		    "\"num_hidden_layers\":1,"
		    "\"num_attention_heads\":4,\"num_key_value_heads\":2,\"max_position_embeddings\":128}" },
	{ "unexpected",
	  -EINVAL,
	  { "model.safetensors", "'model.layers.0.extra.weight'", "llama", "1 such" },
	  .add = { "model.layers.0.extra.weight", "F32", 32, 0 } },
	{ "unexpected: one layer more",
	  -EINVAL,
	  { "'model.layers.1.input_layernorm.weight'" },
	  .add = { "model.layers.1.input_layernorm.weight", "F32", 32, 0 } },
	{ "unexpected: a bias that the config denies",
	  -EINVAL,
	  { "'model.layers.0.self_attn.q_proj.bias'" },
	  .add = { "model.layers.0.self_attn.q_proj.bias", "F32", 32, 0 } },
	{ "integers",
	  -EOPNOTSUPP,
	  { "'model.layers.0.self_attn.q_proj.weight'", "int8" },
	  .drop = "model.layers.0.self_attn.q_proj.weight",
	  .add = { "model.layers.0.self_attn.q_proj.weight", "I8", 32, 32 } },
};

static void put_spec(struct bmi_str *s, uint64_t *off, const struct spec *spec, const char *name)
{
	const uint64_t n = spec->rows * (spec->cols ? spec->cols : 1);
	const uint64_t bytes = spec->dtype[0] == 'I' ? n : 4 * n;

	bmi_str_printf(s, "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%" PRIu64, s->n > 1 ? "," : "", name,
		       spec->dtype, spec->rows);
	if (spec->cols)
		bmi_str_printf(s, ",%" PRIu64, spec->cols);
	bmi_str_printf(s, "],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}", *off, *off + bytes);
	*off += bytes;
}

static void put_list(struct bmi_str *s, uint64_t *off, const struct row *row, const struct spec *list)
{
	for (; list->name; list++) {
		char name[200];

		if (row->drop && strcmp(row->drop, list->name) == 0)
			continue;
		if (row->prefix && strcmp(list->name, "lm_head.weight") == 0)
			continue; /* gemma's is tied */
		if (row->prefix)
			snprintf(name, sizeof(name), "%s%s%s", row->prefix, row->model,
				 list->name + strlen("model."));
		else
			snprintf(name, sizeof(name), "%s", list->name);
		put_spec(s, off, list, name);
	}
}

struct bound {
	struct bmi_ckpt *ckpt;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	const struct bmi_ckpt_tensor *const *of;
	struct bmi_error err;
	int r;
};

static void bind_path(struct bound *b, const char *path)
{
	memset(b, 0, sizeof(*b));
	b->r = bmi_ckpt_open(path, true, &b->ckpt, &b->err);
	if (b->r == 0)
		b->r = bmi_config_read(bmi_ckpt_config(b->ckpt), bmi_arch_find, &b->cfg, &b->err);
	if (b->r == 0)
		b->r = bmi_skel_build(b->cfg, &b->skel, &b->err);
	if (b->r < 0) {
		print_message("# before binding: %s\n", b->err.msg);
		fail();
	}
	b->r = bmi_ckpt_bind(b->ckpt, b->skel, &b->of, &b->err);
}

static void bound_fini(struct bound *b)
{
	free((void *)(uintptr_t)b->of);
	bmi_skel_free(b->skel);
	bmi_config_free(b->cfg);
	bmi_ckpt_close(b->ckpt);
}

static const struct bmi_ckpt_tensor *of(const struct bound *b, const char *name)
{
	const uint32_t i = bmi_skel_find_tensor(b->skel, name, strlen(name));

	assert_int_not_equal(i, BMI_NONE);
	return b->of[i];
}

static void check_complete(const struct bound *b)
{
	for (uint32_t i = 0; i < b->skel->n_tensors; i++) {
		const struct bmi_tensor *t = &b->skel->tensors[i];

		if (t->kind == BMI_BUFFER) {
			assert_null(b->of[i]);
			continue;
		}
		assert_non_null(b->of[i]);
		assert_int_equal(b->of[i]->n_dims, t->n_dims);
		assert_memory_equal(b->of[i]->shape, t->shape, t->n_dims * sizeof(t->shape[0]));
		if (t->tied_to != BMI_NONE)
			assert_ptr_equal(b->of[i], b->of[t->tied_to]);
	}
}

static void test_row(void **state)
{
	const struct row *row = *state;
	const char *words[5] = { 0 };
	bmi_auto_str s = { 0 };
	struct bound b;
	struct dir d;
	uint64_t off = 0;

	dir_make(&d);
	bmi_str_puts(&s, "{");
	put_list(&s, &off, row, llama);
	if (row->prefix)
		put_list(&s, &off, row, gemma3);
	if (row->add.name)
		put_spec(&s, &off, &row->add, row->add.name);
	bmi_str_puts(&s, "}");
	dir_put_st(&d, "model.safetensors", s.bytes, off);
	dir_puts(&d, "config.json", row->config ? row->config : CONFIG(""));
	bind_path(&b, d.path);
	dir_remove(&d);
	if (b.r != row->code)
		print_message("# the sentence is: %s\n", b.err.msg);
	assert_int_equal(b.r, row->code);
	memcpy(words, row->words, sizeof(row->words));
	if (b.r < 0) {
		assert_true(says(b.err.msg, words));
		assert_non_null(strstr(b.err.msg, d.path));
	} else {
		check_complete(&b);
	}
	bound_fini(&b);
}

/* A good GGUF, in which @n bytes @from become those of @to. */
static void put_gguf(const struct dir *d, const void *from, const void *to, size_t n)
{
	bmi_auto_str s = { 0 };
	void *at;

	put_llama(&s);
	at = n ? memmem(s.bytes, s.n, from, n) : NULL;
	if (n && !at)
		abort();
	if (n)
		memcpy(at, to, n);
	dir_put(d, "m.gguf", s.bytes, s.n);
}

static void test_gguf_good(void **state)
{
	struct bound b;
	struct dir d;

	(void)state;
	dir_make(&d);
	put_gguf(&d, NULL, NULL, 0);
	bind_path(&b, d.path);
	dir_remove(&d);
	assert_int_equal(b.r, 0);
	check_complete(&b);
	assert_string_equal(of(&b, "model.layers.0.mlp.down_proj.weight")->name, "blk.0.ffn_down.weight");
	assert_int_equal(of(&b, "model.layers.0.mlp.down_proj.weight")->shape[0], 32); /* [64, 32] in the file */
	assert_int_equal(of(&b, "model.layers.0.self_attn.v_proj.weight")->dtype, BMI_Q8_0);
	assert_int_equal(of(&b, "model.layers.0.self_attn.v_proj.weight")->extent.len, 32 * 16 / 32 * 34);
	assert_ptr_equal(of(&b, "lm_head.weight"), of(&b, "model.embed_tokens.weight"));
	bound_fini(&b);
}

static void gguf_refused(const void *from, const void *to, size_t n, const char *const *words)
{
	struct bound b;
	struct dir d;

	dir_make(&d);
	put_gguf(&d, from, to, n);
	bind_path(&b, d.path);
	dir_remove(&d);
	assert_int_equal(b.r, -EINVAL);
	assert_true(says(b.err.msg, words));
	bound_fini(&b);
}

static void test_gguf_unexpected(void **state)
{
	static const char *const words[] = { "'m.gguf'", "'blk.0.attn_x.weight'", "llama", NULL };

	(void)state;
	gguf_refused("blk.0.attn_q.weight", "blk.0.attn_x.weight", 19, words);
}

static void test_gguf_missing(void **state)
{
	/* rotary tables of old converters are known and not needed: what is renamed so is only missing */
	static const char *const words[] = { "'blk.0.attn_output.weight'", "missing", "metadata", NULL };

	(void)state;
	gguf_refused("blk.0.attn_output.weight", "blk.123456.attn_rot_embd", 24, words);
}

static void test_gguf_layer_spelled_00(void **state)
{
	static const char *const words[] = { "'blk.00.ffn_dow.weight'", NULL };

	(void)state;
	gguf_refused("blk.0.ffn_down.weight", "blk.00.ffn_dow.weight", 21, words);
}

static void test_gguf_shape(void **state)
{
	static const char *const words[] = { "'blk.0.ffn_gate.weight'", "[64, 32]", "[65, 32]", NULL };

	(void)state;
	gguf_refused("feed_forward_length\4\0\0\0\x40", "feed_forward_length\4\0\0\0\x41", 24, words);
}

static void test_no_weights(void **state)
{
	static const char *const words[] = { "config.json", "no weights", NULL };
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_config *cfg = NULL;
	struct bmi_skel *skel = NULL;
	const struct bmi_ckpt_tensor *const *of = NULL;
	struct bmi_error err = { 0 };
	struct dir d;

	(void)state;
	dir_make(&d);
	dir_puts(&d, "config.json", CONFIG(""));
	assert_int_equal(bmi_ckpt_open(d.path, /* need_weights= */ false, &ckpt, &err), 0);
	dir_remove(&d);
	assert_int_equal(bmi_config_read(bmi_ckpt_config(ckpt), bmi_arch_find, &cfg, &err), 0);
	assert_int_equal(bmi_skel_build(cfg, &skel, &err), 0);
	assert_int_equal(bmi_ckpt_bind(ckpt, skel, &of, &err), -ENOENT);
	assert_true(says(err.msg, words));
	assert_null(of);
	bmi_skel_free(skel);
	bmi_config_free(cfg);
	bmi_ckpt_close(ckpt);
}

int main(void)
{
	enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
	const struct CMUnitTest more[] = {
		cmocka_unit_test(test_gguf_good),    cmocka_unit_test(test_gguf_unexpected),
		cmocka_unit_test(test_gguf_missing), cmocka_unit_test(test_gguf_layer_spelled_00),
		cmocka_unit_test(test_gguf_shape),   cmocka_unit_test(test_no_weights),
	};
	enum { N_MORE = sizeof(more) / sizeof(more[0]) };
	struct CMUnitTest tests[N_ROWS + N_MORE];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	memcpy(&tests[N_ROWS], more, sizeof(more));
	return _cmocka_run_group_tests("bind", tests, N_ROWS + N_MORE, NULL, NULL);
}

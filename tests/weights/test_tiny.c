/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The tiny reference models, as safetensors and as GGUF: each tensor's name, dtype, shape and bytes are what the peers
 * read (tests/golden/tiny-tensors.tsv), all are bound, and a GGUF's config says what config.json of the same model says.
 */
#include "arch/arch.h"
#include "base/file.h"
#include "weights/ckpt_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static const char *const files[] = {
	"tiny/gemma3",
	"tiny/llama",
	"tiny/llama-headdim",
	"tiny/llama-linear-rope",
	"tiny/llama-tied-bias",
	"tiny/llama-yarn-rope",
	"tiny/llama3-rope",
	"tiny/mistral-nowindow",
	"tiny/mistral-window",
	"tiny-gguf/gemma3.gguf",
	"tiny-gguf/llama-tied-bias.gguf",
	"tiny-gguf/llama.gguf",
	"tiny-gguf/llama3-rope.gguf",
};

static uint32_t crc32_of(const unsigned char *p, size_t n)
{
	uint32_t crc = UINT32_MAX;

	for (; n; n--) {
		crc ^= *p++;
		for (unsigned bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0xedb88320 : 0);
	}
	return ~crc;
}

struct model {
	struct bmi_ckpt *ckpt;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	const struct bmi_ckpt_tensor *const *of;
};

static void model_open(struct model *m, const char *file)
{
	struct bmi_error err = { 0 };
	char path[512];
	int r;

	memset(m, 0, sizeof(*m));
	snprintf(path, sizeof(path), "%s/%s", TEST_DATA, file);
	r = bmi_ckpt_open(path, true, &m->ckpt, &err);
	if (r == 0)
		r = bmi_config_read(bmi_ckpt_config(m->ckpt), bmi_arch_find, &m->cfg, &err);
	if (r == 0)
		r = bmi_skel_build(m->cfg, &m->skel, &err);
	if (r == 0)
		r = bmi_ckpt_bind(m->ckpt, m->skel, &m->of, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
}

static void model_close(struct model *m)
{
	free((void *)(uintptr_t)m->of);
	bmi_skel_free(m->skel);
	bmi_config_free(m->cfg);
	bmi_ckpt_close(m->ckpt);
}

static void check_line(const struct bmi_ckpt *ckpt, const char *name, const char *dtype, char *shape,
		       const char *crc)
{
	const struct bmi_ckpt_tensor *t = bmi_ckpt_find(ckpt, name, strlen(name));
	unsigned char *bytes;
	unsigned n_dims = 0;

	if (!t)
		fail_msg("%s is not there", name);
	assert_string_equal(bmi_dtype_name(t->dtype), dtype);
	for (char *save = NULL, *d = strtok_r(shape, ",", &save); d; d = strtok_r(NULL, ",", &save))
		assert_int_equal(t->shape[n_dims++], strtoull(d, NULL, 10));
	assert_int_equal(t->n_dims, n_dims);
	bytes = malloc(t->extent.len);
	assert_non_null(bytes);
	assert_int_equal(bmi_file_pread(t->extent.fd, bytes, t->extent.len, t->extent.off, NULL), 0);
	if (crc32_of(bytes, t->extent.len) != strtoul(crc, NULL, 16))
		fail_msg("%s: other bytes than the peer's", name);
	free(bytes);
}

static void test_tensors(void **state)
{
	const char *file = *state;
	FILE *tsv = fopen(TEST_DATA "/../golden/tiny-tensors.tsv", "r");
	char line[1024];
	struct model m;
	uint32_t n = 0;

	assert_non_null(tsv);
	model_open(&m, file);
	while (fgets(line, sizeof(line), tsv)) {
		char in[256], name[256], dtype[32], shape[128], crc[16];

		if (sscanf(line, "%255[^\t]\t%255[^\t]\t%31[^\t]\t%127[^\t]\t%15s", in, name, dtype, shape,
			   crc) != 5)
			continue;
		if (strcmp(in, file) != 0)
			continue;
		check_line(m.ckpt, name, dtype, shape, crc);
		n++;
	}
	fclose(tsv);
	assert_true(n > 0);
	assert_int_equal(n, m.ckpt->list.n);
	model_close(&m);
}

static void check_rope(const struct bmi_rope_config *a, const struct bmi_rope_config *b)
{
	/* rope_freqs is float32 factors of llama.cpp's arithmetic: two roundings from ours */
	assert_int_equal(a->n_rot, b->n_rot);
	for (uint32_t i = 0; a->inv_freq && i < a->n_rot / 2; i++)
		assert_true(fabsf(a->inv_freq[i] - b->inv_freq[i]) <= 4 * 0x1p-24f * fabsf(b->inv_freq[i]));
	assert_true(a->attention_factor == b->attention_factor);
}

/* A GGUF's config against config.json of the model it was converted from. */
static void test_same_config(void **state)
{
	const char *variant = *state;
	char file[128];
	struct model g, h;
	enum bmi_dtype dtype;

	snprintf(file, sizeof(file), "tiny-gguf/%s.gguf", variant);
	model_open(&g, file);
	snprintf(file, sizeof(file), "tiny/%s", variant);
	model_open(&h, file);
	assert_string_equal(g.cfg->model_type, h.cfg->model_type);
	assert_int_equal(g.cfg->vocab_size, h.cfg->vocab_size);
	assert_int_equal(g.cfg->hidden_size, h.cfg->hidden_size);
	assert_int_equal(g.cfg->intermediate_size, h.cfg->intermediate_size);
	assert_int_equal(g.cfg->n_layers, h.cfg->n_layers);
	assert_int_equal(g.cfg->n_heads, h.cfg->n_heads);
	assert_int_equal(g.cfg->n_kv_heads, h.cfg->n_kv_heads);
	assert_int_equal(g.cfg->head_dim, h.cfg->head_dim);
	assert_int_equal(g.cfg->max_positions, h.cfg->max_positions);
	assert_true(g.cfg->norm_eps == h.cfg->norm_eps);
	assert_int_equal(g.cfg->act, h.cfg->act);
	assert_int_equal(g.cfg->tie_embeddings, h.cfg->tie_embeddings);
	assert_int_equal(g.cfg->attention_bias, h.cfg->attention_bias);
	assert_int_equal(g.cfg->mlp_bias, h.cfg->mlp_bias);
	assert_true(g.cfg->embed_scale == h.cfg->embed_scale);
	assert_true(g.cfg->attn_scale == h.cfg->attn_scale);
	assert_true(g.cfg->attn_softcap == h.cfg->attn_softcap && g.cfg->final_softcap == h.cfg->final_softcap);
	assert_int_equal(g.cfg->sliding_window, h.cfg->sliding_window);
	assert_memory_equal(g.cfg->layer_is_sliding, h.cfg->layer_is_sliding, g.cfg->n_layers * sizeof(bool));
	check_rope(&g.cfg->rope_full, &h.cfg->rope_full);
	check_rope(&g.cfg->rope_sliding, &h.cfg->rope_sliding);
	assert_true(g.cfg->norm_offset == 0);
	assert_int_equal(g.cfg->rope_interleaved, strcmp(g.cfg->model_type, "llama") == 0);
	assert_false(h.cfg->rope_interleaved);
	assert_int_equal(bmi_ckpt_dtype(g.ckpt, g.cfg, &dtype, NULL), 0);
	assert_int_equal(dtype, BMI_BF16);
	assert_int_equal(bmi_ckpt_dtype(h.ckpt, h.cfg, &dtype, NULL), 0);
	assert_int_equal(dtype, BMI_BF16);
	model_close(&g);
	model_close(&h);
}

int main(void)
{
	static const char *const converted[] = { "gemma3", "llama", "llama-tied-bias", "llama3-rope" };
	enum { N_FILES = BMI_ARRAY_LEN(files), N_CONVERTED = BMI_ARRAY_LEN(converted) };
	struct CMUnitTest tests[N_FILES + N_CONVERTED];
	static char names[N_CONVERTED][64];

	for (size_t i = 0; i < N_FILES; i++)
		tests[i] =
			(struct CMUnitTest){ files[i], test_tensors, NULL, NULL, (void *)(uintptr_t)files[i] };
	for (size_t i = 0; i < N_CONVERTED; i++) {
		snprintf(names[i], sizeof(names[i]), "config of %s from GGUF", converted[i]);
		tests[N_FILES + i] = (struct CMUnitTest){ names[i], test_same_config, NULL, NULL,
							  (void *)(uintptr_t)converted[i] };
	}
	return _cmocka_run_group_tests("tiny models", tests, N_FILES + N_CONVERTED, NULL, NULL);
}

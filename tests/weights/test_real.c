/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two real models, each as Hugging Face directory and as GGUF file (BMIFS_TEST_MODELS): both bind, say the same sizes,
 * and the norms, which are float32 in the GGUF and its bfloat16 rounding in the directory, are the same numbers. So names,
 * shapes, offsets and "baked" norms are right in both.
 */
#include "arch/arch.h"
#include "base/dtype.h"
#include "base/file.h"
#include "weights/ckpt.h"
#include "weights/gguf.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

struct model {
	struct bmi_ckpt *ckpt;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	const struct bmi_ckpt_tensor *const *of;
};

/* False, and the case is skipped, when the model is not here. */
static bool model_open(struct model *m, const char *name)
{
	const char *top = getenv("BMIFS_TEST_MODELS");
	struct bmi_error err = { 0 };
	struct stat st;
	char path[512];
	int r;

	memset(m, 0, sizeof(*m));
	snprintf(path, sizeof(path), "%s/%s", top ? top : "", name);
	if (!top || stat(path, &st) < 0) {
		print_message("# skipped: BMIFS_TEST_MODELS has no %s (see docs)\n", name);
		return false;
	}
	r = bmi_ckpt_open(path, true, &m->ckpt, &err);
	if (r == 0)
		r = bmi_config_read(bmi_ckpt_config(m->ckpt), bmi_arch_find, &m->cfg, &err);
	if (r == 0)
		r = bmi_skel_build(m->cfg, &m->skel, &err);
	if (r == 0)
		r = bmi_ckpt_bind(m->ckpt, m->skel, &m->of, &err);
	if (r < 0)
		fail_msg("%s", err.msg);
	return true;
}

static void model_close(struct model *m)
{
	free((void *)(uintptr_t)m->of);
	bmi_skel_free(m->skel);
	bmi_config_free(m->cfg);
	bmi_ckpt_close(m->ckpt);
}

static void *bytes_of(const struct bmi_ckpt_tensor *t)
{
	void *bytes = malloc(t->extent.len);

	assert_non_null(bytes);
	assert_int_equal(bmi_file_pread(t->extent.fd, bytes, t->extent.len, t->extent.off, NULL), 0);
	return bytes;
}

static void same_norm(const struct bmi_ckpt_tensor *hf, const struct bmi_ckpt_tensor *gguf, float baked)
{
	uint16_t *a = bytes_of(hf);
	float *b = bytes_of(gguf);

	assert_int_equal(hf->dtype, BMI_BF16);
	assert_int_equal(gguf->dtype, BMI_F32);
	for (uint64_t i = 0; i < hf->shape[0]; i++)
		assert_int_equal(a[i], bmi_bf16_from_f32(b[i] - baked));
	free(a);
	free(b);
}

static void compare(const char *name, float baked)
{
	char gguf_name[64];
	struct model h = { 0 }, g = { 0 };
	unsigned n_norms = 0;

	snprintf(gguf_name, sizeof(gguf_name), "%s-gguf", name);
	if (!model_open(&h, name) || !model_open(&g, gguf_name)) {
		model_close(&h);
		return; /* said above; cmocka's skip() is `not ok` in TAP */
	}
	assert_int_equal(h.skel->n_tensors, g.skel->n_tensors);
	for (uint32_t i = 0; i < h.skel->n_tensors; i++) {
		const struct bmi_ckpt_tensor *a = h.of[i], *b = g.of[i];

		assert_string_equal(h.skel->tensors[i].name, g.skel->tensors[i].name);
		assert_int_equal(a == NULL, b == NULL);
		if (!a)
			continue;
		assert_int_equal(a->n_dims, b->n_dims);
		assert_memory_equal(a->shape, b->shape, a->n_dims * sizeof(a->shape[0]));
		if (a->n_dims == 1) {
			same_norm(a, b, baked);
			n_norms++;
		}
	}
	assert_true(n_norms > 30);
	assert_int_equal(h.cfg->max_positions, g.cfg->max_positions);
	assert_true(h.cfg->norm_eps == g.cfg->norm_eps);
	assert_true(h.cfg->attn_scale == g.cfg->attn_scale && h.cfg->embed_scale == g.cfg->embed_scale);
	assert_int_equal(h.cfg->sliding_window, g.cfg->sliding_window);
	assert_memory_equal(h.cfg->layer_is_sliding, g.cfg->layer_is_sliding, h.cfg->n_layers);
	assert_memory_equal(h.cfg->rope_full.inv_freq, g.cfg->rope_full.inv_freq,
			    h.cfg->head_dim / 2 * sizeof(float));
	model_close(&h);
	model_close(&g);
}

static void test_smollm2(void **state)
{
	(void)state;
	compare("smollm2", 0);
}

static void test_gemma3(void **state)
{
	(void)state;
	compare("gemma3", 1);
}

/* 262144 tokens, each with a score and a type. */
static void test_gemma3_vocabulary(void **state)
{
	struct bmi_gguf_str *tokens = NULL;
	float *scores = NULL;
	int64_t *types = NULL;
	size_t n, n_scores, n_types;
	struct model g;

	(void)state;
	if (!model_open(&g, "gemma3-gguf"))
		return; /* said above; cmocka's skip() is `not ok` in TAP */
	assert_int_equal(bmi_gguf_get_strs(bmi_ckpt_gguf(g.ckpt), "tokenizer.ggml.tokens", &tokens, &n), 0);
	assert_int_equal(
		bmi_gguf_get_floats(bmi_ckpt_gguf(g.ckpt), "tokenizer.ggml.scores", &scores, &n_scores), 0);
	assert_int_equal(
		bmi_gguf_get_ints(bmi_ckpt_gguf(g.ckpt), "tokenizer.ggml.token_type", &types, &n_types), 0);
	assert_int_equal(n, 262144);
	assert_int_equal(n_scores, n);
	assert_int_equal(n_types, n);
	assert_memory_equal(tokens[2].bytes, "<bos>", tokens[2].n);
	assert_int_equal(types[2], 3);
	assert_true(scores[2] == -1000);
	free(tokens);
	free(scores);
	free(types);
	model_close(&g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_smollm2),
		cmocka_unit_test(test_gemma3),
		cmocka_unit_test(test_gemma3_vocabulary),
	};

	if (!getenv("BMIFS_TEST_MODELS")) {
		puts("1..0 # SKIP BMIFS_TEST_MODELS names no directory of real models");
		return 0;
	}
	return cmocka_run_group_tests_name("real models", tests, NULL, NULL);
}

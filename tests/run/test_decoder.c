/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder's forward without arithmetic: that it asks for each weight once and in the order the skeleton says (read-
 * ahead of disk layers relies on it), and that a failure of any single call inside it comes out with its place.
 */
#include "forward_fixture.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { N_TOK = 2 };

/* A pass whose every call is counted, recorded if it reads a weight, and failed when its turn comes. */
struct recorder {
	struct bmi_pass pass;
	uint32_t layer;
	uint32_t *asked; /* [skel->n_exec] tensors in the order they were read */
	uint32_t n_asked;
	int fail_at, n_calls; /* fail_at < 0: never */
	float *memory;
};

static struct recorder *recorder_of(struct bmi_pass *p)
{
	return bmi_container_of(p, struct recorder, pass);
}

static bool is_turn(struct recorder *rec)
{
	return rec->n_calls++ == rec->fail_at;
}

static uint32_t find(struct recorder *rec, const char *name, const char *suffix)
{
	const struct bmi_config *cfg = rec->pass.cfg;
	char full[256];

	if (rec->layer < cfg->n_layers)
		snprintf(full, sizeof(full), "%s.%u.%s%s", cfg->arch->layers_path, rec->layer, name, suffix);
	else
		snprintf(full, sizeof(full), "%s%s", name, suffix);
	return bmi_skel_find_tensor(rec->pass.skel, full, strlen(full));
}

static void record(struct recorder *rec, uint32_t tensor)
{
	assert_int_not_equal(tensor, BMI_NONE);
	assert_true(rec->n_asked < rec->pass.skel->n_exec);
	rec->asked[rec->n_asked++] = tensor;
}

static bool fake_has(struct bmi_pass *p, const char *param)
{
	return find(recorder_of(p), param, "") != BMI_NONE;
}

static int fake_vector(struct bmi_pass *p, const char *param, const float **ret)
{
	struct recorder *rec = recorder_of(p);

	if (is_turn(rec))
		return bmi_fail(p->err, -EIO, "vector %s", param);
	record(rec, find(rec, param, ""));
	*ret = rec->memory;
	return 0;
}

static int fake_linear(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
		       size_t ldx, uint32_t n)
{
	struct recorder *rec = recorder_of(p);

	if (is_turn(rec))
		return bmi_fail(p->err, -EIO, "linear %s", module);
	record(rec, find(rec, module, ".weight"));
	if (find(rec, module, ".bias") != BMI_NONE)
		record(rec, find(rec, module, ".bias"));
	return 0;
}

static int fake_embed(struct bmi_pass *p, float *y, size_t ldy)
{
	struct recorder *rec = recorder_of(p);

	if (is_turn(rec))
		return bmi_fail(p->err, -EIO, "embed");
	record(rec, find(rec, p->cfg->arch->embed_name, ".weight"));
	return 0;
}

static int fake_rows(struct bmi_pass *p, const char *param, const uint32_t *ids, uint32_t n, float *y,
		     size_t ldy)
{
	struct recorder *rec = recorder_of(p);

	if (is_turn(rec))
		return bmi_fail(p->err, -EIO, "rows of %s", param);
	record(rec, find(rec, param, ""));
	return 0;
}

static void *fake_scratch(struct bmi_pass *p, unsigned slot, size_t bytes)
{
	struct recorder *rec = recorder_of(p);

	return is_turn(rec) ? NULL : rec->memory;
}

struct bmi_dev {
	struct recorder *rec;
};

static int fake_op(struct bmi_dev *dev)
{
	return is_turn(dev->rec) ? -EIO : 0;
}

static int fake_rmsnorm(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, const float *w,
			uint32_t n_tok, uint32_t dim, float eps, float w_offset)
{
	return fake_op(dev);
}

static int fake_rope(struct bmi_dev *dev, float *x, size_t ldx, const struct bmi_rope *rope,
		     const uint32_t *pos, uint32_t n_tok, uint32_t n_heads, uint32_t head_dim)
{
	return fake_op(dev);
}

static int fake_kv_store(struct bmi_dev *dev, const struct bmi_kv_table *kv, const uint32_t *pos,
			 const float *k, const float *v, size_t ld, uint32_t n_tok, uint32_t n_kv_heads,
			 uint32_t head_dim, enum bmi_dtype kv_dtype)
{
	return fake_op(dev);
}

static int fake_attention(struct bmi_dev *dev, const struct bmi_attn *a)
{
	return fake_op(dev);
}

static int fake_glu(struct bmi_dev *dev, float *y, const float *gate, const float *up, size_t ld,
		    uint32_t n_tok, uint32_t dim, enum bmi_act act)
{
	return fake_op(dev);
}

static int fake_add(struct bmi_dev *dev, float *y, const float *x, size_t n, float scale)
{
	return fake_op(dev);
}

static int fake_layernorm(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx,
			  const float *w, const float *b, uint32_t n_tok, uint32_t dim, float eps)
{
	return fake_op(dev);
}

static int fake_copy(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_rows,
		     uint32_t dim)
{
	return fake_op(dev);
}

static int fake_scale(struct bmi_dev *dev, float *x, size_t n, float s)
{
	return fake_op(dev);
}

static int fake_softcap(struct bmi_dev *dev, float *x, size_t n, float cap)
{
	return fake_op(dev);
}

static const struct bmi_ops ops = {
	.softcap = fake_softcap,
	.layernorm = fake_layernorm,
	.copy = fake_copy,
	.scale = fake_scale,
	.rmsnorm = fake_rmsnorm,
	.rope = fake_rope,
	.kv_store = fake_kv_store,
	.attention = fake_attention,
	.glu = fake_glu,
	.add = fake_add,
};

static int walk(struct recorder *rec, struct bmi_error *err)
{
	const struct bmi_config *cfg = rec->pass.cfg;
	const struct bmi_forward *forward = cfg->arch->forward;
	int r;

	rec->n_calls = 0;
	rec->n_asked = 0;
	rec->pass.err = err;
	rec->layer = cfg->n_layers;
	r = forward->embed(&rec->pass);
	for (uint32_t layer = 0; r == 0 && layer < cfg->n_layers; layer++) {
		rec->layer = layer;
		r = forward->layer(&rec->pass, layer);
	}
	rec->layer = cfg->n_layers;
	return r == 0 ? forward->head(&rec->pass) : r;
}

struct plan {
	struct answer config;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	struct bmi_dev dev;
	struct recorder rec;
};

static void plan_open(struct plan *plan, const char *name)
{
	static const uint32_t out_rows[] = { 1 }, positions[N_TOK] = { 0, 1 };
	struct bmi_error err = { 0 };
	char path[512];

	memset(plan, 0, sizeof(*plan));
	snprintf(path, sizeof(path), "%s/%s/config.json", TEST_DATA, name);
	answer_open(&plan->config, path);
	if (bmi_config_read(plan->config.root, bmi_arch_find, &plan->cfg, &err) < 0 ||
	    bmi_skel_build(plan->cfg, &plan->skel, &err) < 0)
		fail_msg("%s", err.msg);
	plan->rec = (struct recorder){
		.pass = {
			.cfg = plan->cfg,
			.skel = plan->skel,
			.n_tok = N_TOK,
			.out_rows = out_rows,
			.n_out = 1,
			.ops = &ops,
			.dev = &plan->dev,
			.scratch = fake_scratch,
			.has = fake_has,
			.linear = fake_linear,
			.linear_turned = fake_linear,
			.rows = fake_rows,
			.pos = positions,
			.vector = fake_vector,
			.embed = fake_embed,
		},
		.asked = calloc(plan->skel->n_exec, sizeof(uint32_t)),
		.fail_at = -1,
		.memory = calloc(1 << 16, sizeof(float)),
	};
	assert_true(plan->rec.asked && plan->rec.memory);
	plan->rec.pass.h = plan->rec.pass.logits = plan->rec.memory;
	plan->dev.rec = &plan->rec;
}

static void plan_close(struct plan *plan)
{
	free(plan->rec.asked);
	free(plan->rec.memory);
	bmi_skel_free(plan->skel);
	bmi_config_free(plan->cfg);
	answer_close(&plan->config);
}

static void test_asks_in_order(void **state)
{
	struct bmi_error err = { 0 };
	struct plan plan;

	plan_open(&plan, *state);
	if (walk(&plan.rec, &err) < 0)
		fail_msg("%s", err.msg);
	for (uint32_t i = 0; i < plan.rec.n_asked; i++)
		assert_string_equal(plan.skel->tensors[plan.rec.asked[i]].name,
				    plan.skel->tensors[plan.skel->exec[i]].name);
	assert_int_equal(plan.rec.n_asked, plan.skel->n_exec);
	plan_close(&plan);
}

static void test_any_call_may_fail(void **state)
{
	struct bmi_error err = { 0 };
	struct plan plan;
	int n_calls;

	plan_open(&plan, *state);
	assert_int_equal(walk(&plan.rec, &err), 0);
	n_calls = plan.rec.n_calls;
	for (int i = 0; i < n_calls; i++) {
		int r;

		plan.rec.fail_at = i;
		err = (struct bmi_error){ 0 };
		r = walk(&plan.rec, &err);
		assert_true(r == -EIO || r == -ENOMEM);
		assert_int_equal(plan.rec.n_calls, i + 1); /* nothing is called after what failed */
		assert_true(err.msg[0] != '\0');
		if (plan.rec.layer < plan.cfg->n_layers)
			assert_memory_equal(err.msg, "layer ", 6);
	}
	plan_close(&plan);
}

int main(void)
{
	static const char *const names[] = {
		"llama",
		"llama-headdim",
		"llama-linear-rope",
		"llama-tied-bias",
		"llama-yarn-rope",
		"llama3-rope",
		"mistral-nowindow",
		"mistral-window",
		"gemma3",
		"qwen2",
		"qwen2-tied",
		"qwen3",
		"gemma",
		"gemma2",
		"granite",
		"smollm3",
		"olmo2",
		"stablelm",
		"starcoder2",
		"cohere",
		"phi",
		"phi3",
		"phi3-window",
		"gpt2",
		"gptj",
		"gpt_neox",
		"gpt_neox-serial",
		"opt",
		"falcon-mqa",
		"falcon-new",
		"bloom",
	};
	static struct CMUnitTest tests[2 * BMI_ARRAY_LEN(names)];
	static char titles[BMI_ARRAY_LEN(tests)][64];

	for (size_t i = 0; i < BMI_ARRAY_LEN(tests); i++) {
		const char *name = names[i / 2];
		char *argument = (char *)(uintptr_t)name;

		snprintf(titles[i], sizeof(titles[i]), i % 2 ? "%s: any call may fail" : "%s: asks in order",
			 name);
		tests[i] = (struct CMUnitTest){ titles[i], i % 2 ? test_any_call_may_fail : test_asks_in_order,
						NULL, NULL, argument };
	}
	return _cmocka_run_group_tests("decoder", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

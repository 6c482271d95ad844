/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The forward over several blocks of the KV cache, where the peers' short answers do not reach: 300 positions against a
 * forward written here in doubles, straight from the formulas, without cache, blocks or kernels. Windows are set to lie
 * inside, at and across the borders of blocks. On 40 positions both agree with the peers (test_forward.c).
 */
#include "forward_fixture.h"

#include "base/file.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

enum { LENGTH = 300 };

static const struct one {
	const char *name;
	uint32_t window; /* of the layers that have one; 0: as the model says */
	uint32_t chunk;
} ones[] = {
	{ "llama", 0, 300 },          { "llama-tied-bias", 0, 37 }, { "llama-yarn-rope", 0, 64 },
	{ "llama3-rope", 0, 65 },     { "mistral-window", 0, 300 }, { "mistral-window", 1, 50 },
	{ "mistral-window", 63, 64 }, { "mistral-window", 64, 1 },  { "mistral-window", 65, 128 },
	{ "mistral-window", 200, 9 }, { "gemma3", 0, 100 },         { "gemma3", 130, 63 },
};

static double *zeros(size_t n)
{
	double *x = calloc(n, sizeof(*x));

	assert_non_null(x);
	return x;
}

/* A bfloat16 tensor of the checkpoint; NULL when the model has none of that name. Freed by the caller. */
static double *load(const struct model *m, const char *name)
{
	uint32_t t = bmi_skel_find_tensor(m->skel, name, strlen(name));
	const struct bmi_ckpt_tensor *src;
	uint16_t *raw;
	double *x;
	size_t n;

	if (t == BMI_NONE)
		return NULL;
	if (m->skel->tensors[t].tied_to != BMI_NONE)
		t = m->skel->tensors[t].tied_to;
	src = m->source[t];
	assert_int_equal(src->dtype, BMI_BF16);
	n = src->extent.len / 2;
	raw = malloc(src->extent.len);
	x = zeros(n);
	assert_non_null(raw);
	assert_int_equal(bmi_file_pread(src->extent.fd, raw, src->extent.len, src->extent.off, NULL), 0);
	for (size_t i = 0; i < n; i++)
		x[i] = bmi_f32_from_bf16(raw[i]);
	free(raw);
	return x;
}

static double *load_of_layer(const struct model *m, uint32_t layer, const char *name)
{
	char full[128];

	snprintf(full, sizeof(full), "model.layers.%u.%s", layer, name);
	return load(m, full);
}

/* x W^T + b of [LENGTH][cols]; freed by the caller */
static double *project(const struct model *m, uint32_t layer, const char *module, const double *x,
		       uint32_t rows, uint32_t cols)
{
	double *y = zeros((size_t)LENGTH * rows), *w, *b;
	char name[64];

	snprintf(name, sizeof(name), "%s.weight", module);
	w = load_of_layer(m, layer, name);
	snprintf(name, sizeof(name), "%s.bias", module);
	b = load_of_layer(m, layer, name);
	for (size_t t = 0; t < LENGTH; t++)
		for (size_t r = 0; r < rows; r++) {
			double sum = b ? b[r] : 0;

			for (size_t c = 0; c < cols; c++)
				sum += w[r * cols + c] * x[t * cols + c];
			y[t * rows + r] = sum;
		}
	free(w);
	free(b);
	return y;
}

static void normalize(const struct bmi_config *c, double *x, const double *w, size_t n, size_t dim)
{
	for (size_t t = 0; t < n; t++) {
		double sum = 0;

		for (size_t i = 0; i < dim; i++)
			sum += x[t * dim + i] * x[t * dim + i];
		for (size_t i = 0; i < dim; i++)
			x[t * dim + i] *= (w[i] + c->norm_offset) / sqrt(sum / (double)dim + c->norm_eps);
	}
}

static void normalize_by(const struct model *m, uint32_t layer, const char *name, double *x, size_t n,
			 size_t dim)
{
	double *w = load_of_layer(m, layer, name);

	if (w)
		normalize(m->cfg, x, w, n, dim);
	free(w);
}

static double *normalized_copy(const struct model *m, uint32_t layer, const char *name, const double *x)
{
	const size_t dim = m->cfg->hidden_size;
	double *y = zeros(LENGTH * dim);

	memcpy(y, x, LENGTH * dim * sizeof(*y));
	normalize_by(m, layer, name, y, LENGTH, dim);
	return y;
}

/* The angle is a float32 product in the peers too. */
static void rotate(const struct bmi_rope_config *rope, double *x, size_t n_heads, size_t head_dim)
{
	const size_t half = rope->n_rot / 2;

	for (size_t t = 0; t < LENGTH; t++)
		for (size_t h = 0; h < n_heads; h++)
			for (size_t i = 0; i < half; i++) {
				double *a = &x[(t * n_heads + h) * head_dim + i], *b = a + half, was = *a;
				const float angle = (float)t * rope->inv_freq[i];
				const double c = cos(angle) * rope->attention_factor,
					     s = sin(angle) * rope->attention_factor;

				*a = was * c - *b * s;
				*b = *b * c + was * s;
			}
}

/* One head at one position over the keys it sees. */
static void attend(double *out, const double *q, const double *k, const double *v, size_t stride,
		   uint32_t first, uint32_t last, const struct bmi_config *c)
{
	double p[LENGTH], best = -INFINITY, sum = 0;

	for (uint32_t j = first; j <= last; j++) {
		p[j] = 0;
		for (uint32_t i = 0; i < c->head_dim; i++)
			p[j] += q[i] * k[j * stride + i];
		p[j] *= c->attn_scale;
		best = fmax(best, p[j]);
	}
	for (uint32_t j = first; j <= last; j++)
		sum += p[j] = exp(p[j] - best);
	for (uint32_t i = 0; i < c->head_dim; i++) {
		out[i] = 0;
		for (uint32_t j = first; j <= last; j++)
			out[i] += p[j] / sum * v[j * stride + i];
	}
}

static void attention_block(const struct model *m, uint32_t layer, double *h, bool sandwich)
{
	const struct bmi_config *c = m->cfg;
	const size_t dim = c->hidden_size, q_dim = c->n_heads * c->head_dim,
		     kv_dim = c->n_kv_heads * c->head_dim;
	const struct bmi_rope_config *rope = c->layer_is_sliding[layer] ? &c->rope_sliding : &c->rope_full;
	const uint32_t window = c->layer_is_sliding[layer] ? c->sliding_window : 0;
	double *x = normalized_copy(m, layer, "input_layernorm.weight", h);
	double *q = project(m, layer, "self_attn.q_proj", x, (uint32_t)q_dim, (uint32_t)dim);
	double *k = project(m, layer, "self_attn.k_proj", x, (uint32_t)kv_dim, (uint32_t)dim);
	double *v = project(m, layer, "self_attn.v_proj", x, (uint32_t)kv_dim, (uint32_t)dim);
	double *a = zeros(LENGTH * q_dim), *out;

	normalize_by(m, layer, "self_attn.q_norm.weight", q, (size_t)LENGTH * c->n_heads, c->head_dim);
	normalize_by(m, layer, "self_attn.k_norm.weight", k, (size_t)LENGTH * c->n_kv_heads, c->head_dim);
	rotate(rope, q, c->n_heads, c->head_dim);
	rotate(rope, k, c->n_kv_heads, c->head_dim);
	for (uint32_t t = 0; t < LENGTH; t++)
		for (uint32_t head = 0; head < c->n_heads; head++) {
			const size_t kv = head / (c->n_heads / c->n_kv_heads) * c->head_dim;
			const size_t at = t * q_dim + head * c->head_dim;

			attend(a + at, q + at, k + kv, v + kv, kv_dim,
			       window && t >= window ? t - window + 1 : 0, t, c);
		}
	out = project(m, layer, "self_attn.o_proj", a, (uint32_t)dim, (uint32_t)q_dim);
	if (sandwich)
		normalize_by(m, layer, "post_attention_layernorm.weight", out, LENGTH, dim);
	for (size_t i = 0; i < LENGTH * dim; i++)
		h[i] += out[i];
	free(x);
	free(q);
	free(k);
	free(v);
	free(a);
	free(out);
}

static double activate(enum bmi_act_kind act, double x)
{
	if (act == BMI_CFG_GELU_TANH)
		return 0.5 * x * (1 + tanh(sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
	assert_int_equal(act, BMI_CFG_SILU);
	return x / (1 + exp(-x));
}

static void mlp_block(const struct model *m, uint32_t layer, double *h, bool sandwich)
{
	const uint32_t dim = m->cfg->hidden_size, ff = m->cfg->intermediate_size;
	const char *pre = sandwich ? "pre_feedforward_layernorm.weight" : "post_attention_layernorm.weight";
	double *x = normalized_copy(m, layer, pre, h), *out;
	double *gate = project(m, layer, "mlp.gate_proj", x, ff, dim);
	double *up = project(m, layer, "mlp.up_proj", x, ff, dim);

	for (size_t i = 0; i < (size_t)LENGTH * ff; i++)
		gate[i] = activate(m->cfg->act, gate[i]) * up[i];
	out = project(m, layer, "mlp.down_proj", gate, dim, ff);
	if (sandwich)
		normalize_by(m, layer, "post_feedforward_layernorm.weight", out, LENGTH, dim);
	for (size_t i = 0; i < (size_t)LENGTH * dim; i++)
		h[i] += out[i];
	free(x);
	free(gate);
	free(up);
	free(out);
}

/* [LENGTH][vocab] logits; freed by the caller */
static double *plain_forward(const struct model *m, const uint32_t *ids)
{
	const size_t dim = m->cfg->hidden_size, vocab = m->cfg->vocab_size;
	double *embed = load(m, "model.embed_tokens.weight"), *w = load(m, "model.norm.weight");
	double *head = load(m, "lm_head.weight"), *h = zeros(LENGTH * dim), *logits = zeros(LENGTH * vocab);
	double *marker = load_of_layer(m, 0, "post_feedforward_layernorm.weight");

	for (size_t t = 0; t < LENGTH; t++)
		for (size_t i = 0; i < dim; i++)
			h[t * dim + i] = embed[ids[t] * dim + i] * m->cfg->embed_scale;
	for (uint32_t layer = 0; layer < m->cfg->n_layers; layer++) {
		attention_block(m, layer, h, marker != NULL);
		mlp_block(m, layer, h, marker != NULL);
	}
	normalize(m->cfg, h, w, LENGTH, dim);
	for (size_t t = 0; t < LENGTH; t++)
		for (size_t r = 0; r < vocab; r++)
			for (size_t i = 0; i < dim; i++)
				logits[t * vocab + r] += head[r * dim + i] * h[t * dim + i];
	free(embed);
	free(w);
	free(head);
	free(h);
	free(marker);
	return logits;
}

static void test_long(void **state)
{
	const struct one *one = *state;
	uint32_t ids[LENGTH], vocab;
	struct model m;
	struct bmi_seq *seq;
	char path[512];
	double *want;
	float *got;

	snprintf(path, sizeof(path), "%s/%s", TEST_DATA, one->name);
	model_open(&m, &(struct model_options){ path, BMI_F32, 2, NULL, ALL_CPU });
	if (one->window)
		m.cfg->sliding_window = one->window;
	vocab = m.cfg->vocab_size;
	for (uint32_t t = 0, x = 12345; t < LENGTH; t++, x = x * 1664525 + 1013904223)
		ids[t] = (x >> 8) % vocab;
	want = plain_forward(&m, ids);
	got = calloc((size_t)LENGTH * vocab, sizeof(*got));
	assert_non_null(got);
	seq = model_new_seq(&m);
	model_run(&m, seq, ids, LENGTH, 0, one->chunk, got);
	for (size_t i = 0; i < (size_t)LENGTH * vocab; i++)
		if (!(fabs(got[i] - want[i]) <= 2e-4 * fmax(fabs(want[i]), 1)))
			fail_msg("position %zu: logit of %zu is %g, not %g", i / vocab, i % vocab, got[i],
				 want[i]);
	bmi_seq_free(seq);
	model_close(&m);
	free(want);
	free(got);
}

int main(void)
{
	static struct CMUnitTest tests[BMI_ARRAY_LEN(ones)];
	static char titles[BMI_ARRAY_LEN(ones)][64];

	for (size_t i = 0; i < BMI_ARRAY_LEN(ones); i++) {
		snprintf(titles[i], sizeof(titles[i]), "%s, window %u, chunks of %u", ones[i].name,
			 ones[i].window, ones[i].chunk);
		tests[i] = (struct CMUnitTest){ titles[i], test_long, NULL, NULL, (void *)(uintptr_t)&ones[i] };
	}
	return _cmocka_run_group_tests("long", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns one walk over the model: the rows, their KV tables and the working memory; gives an architecture's forward the
 * functions that find weights. Knows which tensor a name means, not what the forward does with it nor where residency
 * keeps it.
 *
 * Invariant: no weight is lent and no pass of residency is open when bmi_run_pass() returns, however it ends.
 */
#include "run/pass.h"

#include "base/arena.h"
#include "base/checked.h"

#include <assert.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

enum { N_SLOTS = 16, SLOT_H = N_SLOTS, SLOT_ROWS, N_BUFS };
enum { MAX_NAMES = 64 }; /* different names one family's forward asks for: about 30 */

/* Which tensors a name of the forward means in each layer; BMI_NONE where there is none. */
struct name {
	const char *text;
	bool is_module;
	uint32_t *weight, *bias; /* [n_layers + 1]; the last is outside the layers. bias: of modules only */
};

struct bmi_runner {
	struct bmi_runner_options opt;
	const struct bmi_config *cfg;
	const struct bmi_forward *forward;
	struct bmi_arena *arena; /* of the names */
	struct name names[MAX_NAMES];
	uint32_t n_names;
	struct bmi_buf bufs[N_BUFS]; /* the forward's slots, the residual stream, the rows */
};

/* The pass as this file sees it. */
struct walk {
	struct bmi_pass pass; /* what the forward sees */
	struct bmi_runner *run;
	uint32_t layer;       /* n_layers outside the layers */
	enum bmi_dtype dtype; /* in force for weights */
	bool failed;          /* has() could not tell for want of memory */
};

static struct walk *to_walk(struct bmi_pass *p)
{
	return bmi_container_of(p, struct walk, pass);
}

static uint32_t find_tensor(const struct bmi_skel *skel, uint32_t layer, const char *text, const char *suffix)
{
	const struct bmi_config *cfg = skel->cfg;
	char full[256];
	uint32_t t;
	int n;

	if (layer < cfg->n_layers)
		n = snprintf(full, sizeof(full), "%s.%u.%s%s", cfg->arch->layers_path, layer, text, suffix);
	else
		n = snprintf(full, sizeof(full), "%s%s", text, suffix);
	assert(n > 0 && (size_t)n < sizeof(full));
	t = bmi_skel_find_tensor(skel, full, (size_t)n);
	while (t != BMI_NONE && skel->tensors[t].tied_to != BMI_NONE)
		t = skel->tensors[t].tied_to;
	return t;
}

static const struct name *add_name(struct bmi_runner *run, const char *text, bool is_module)
{
	const uint32_t n = run->cfg->n_layers + 1;
	struct name *name = &run->names[run->n_names];

	assert(run->n_names < MAX_NAMES);
	name->text = bmi_arena_printf(run->arena, "%s", text);
	name->is_module = is_module;
	name->weight = bmi_arena_array(run->arena, n, sizeof(uint32_t));
	name->bias = bmi_arena_array(run->arena, n, sizeof(uint32_t));
	if (!name->text || !name->weight || !name->bias)
		return NULL;
	for (uint32_t i = 0; i < n; i++) {
		name->weight[i] = find_tensor(run->opt.skel, i, text, is_module ? ".weight" : "");
		name->bias[i] = is_module ? find_tensor(run->opt.skel, i, text, ".bias") : BMI_NONE;
	}
	run->n_names++;
	return name;
}

/* Cost: a few string comparisons; the tensors of all layers are looked up when a name comes for the first time. */
static const struct name *get_name(struct walk *w, const char *text, bool is_module)
{
	struct bmi_runner *run = w->run;

	for (uint32_t i = 0; i < run->n_names; i++)
		if (run->names[i].is_module == is_module && strcmp(run->names[i].text, text) == 0)
			return &run->names[i];
	return add_name(run, text, is_module);
}

static int get_tensor(struct walk *w, const char *text, bool is_module, uint32_t *ret_weight, uint32_t *ret_bias)
{
	const struct name *name = get_name(w, text, is_module);

	if (!name)
		return bmi_fail(w->pass.err, -ENOMEM, "name %s", text);
	*ret_weight = name->weight[w->layer];
	*ret_bias = name->bias[w->layer];
	if (*ret_weight == BMI_NONE)
		return bmi_fail(w->pass.err, -EINVAL, "the model has no %s", text);
	return 0;
}

/* At least @bytes in a buffer that keeps its size between passes. NULL: short of memory. */
static void *get_buf(struct bmi_runner *run, unsigned i, size_t bytes, struct bmi_error *err)
{
	struct bmi_buf *buf = &run->bufs[i];

	if (bytes > buf->size) {
		run->opt.backend->release(run->opt.dev, buf);
		if (run->opt.backend->alloc(run->opt.dev, bytes, buf, err) < 0)
			return NULL;
	}
	return buf->data;
}

static void *pass_scratch(struct bmi_pass *p, unsigned slot, size_t bytes)
{
	assert(slot < N_SLOTS);
	return get_buf(to_walk(p)->run, slot, bytes, p->err);
}

static bool pass_has(struct bmi_pass *p, const char *param)
{
	struct walk *w = to_walk(p);
	const struct name *name = get_name(w, param, /* is_module= */ false);

	w->failed |= !name;
	return name && name->weight[w->layer] != BMI_NONE;
}

static int pass_vector(struct bmi_pass *p, const char *param, const float **ret)
{
	struct walk *w = to_walk(p);
	uint32_t weight, bias;
	int r = get_tensor(w, param, /* is_module= */ false, &weight, &bias);

	return r ? r : bmi_residency_vector(w->run->opt.residency, weight, ret, p->err);
}

/* What is multiplied: y [n][ldy], x [n][ldx]. */
struct product {
	float *y;
	size_t ldy;
	const float *x;
	size_t ldx;
	uint32_t n;
};

/* With rows [first, end) of a weight (end 0: all); turned: they are the inputs, not the outputs. */
static int multiply(struct bmi_pass *p, uint32_t weight, uint32_t first, uint32_t end, bool turned,
		    const struct product *m)
{
	struct bmi_rows rows = { .first = first, .end = end };
	int r;

	while ((r = bmi_residency_next_rows(to_walk(p)->run->opt.residency, weight, &rows, p->err)) > 0) {
		const uint32_t at = rows.row0 - first;

		if (turned)
			r = p->ops->matmul_turned(p->dev, m->y, m->ldy, &rows.mat, m->x + at, m->ldx, m->n,
						  at > 0);
		else
			r = p->ops->matmul(p->dev, m->y + at, m->ldy, &rows.mat, m->x, m->ldx, m->n);
		if (r < 0)
			return bmi_fail_errno(p->err, r, "operation matmul of %s on %u rows",
					      p->skel->tensors[weight].name, m->n);
	}
	return r;
}

static int multiply_module(struct bmi_pass *p, const char *module, bool turned, const struct product *m)
{
	uint32_t weight, bias = BMI_NONE;
	const float *b;
	int r = get_tensor(to_walk(p), module, /* is_module= */ true, &weight, &bias);

	if (r)
		return r;
	r = multiply(p, weight, 0, 0, turned, m);
	if (r < 0 || bias == BMI_NONE)
		return r;
	r = bmi_residency_vector(to_walk(p)->run->opt.residency, bias, &b, p->err);
	if (r < 0)
		return r;
	r = p->ops->add_bias(p->dev, m->y, m->ldy, b, m->n, (uint32_t)p->skel->tensors[bias].n_elements);
	return r < 0 ? bmi_fail_errno(p->err, r, "operation add_bias of %s", module) : 0;
}

static int pass_linear(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
		       size_t ldx, uint32_t n)
{
	return multiply_module(p, module, /* turned= */ false, &(struct product){ y, ldy, x, ldx, n });
}

static int pass_linear_turned(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
			      size_t ldx, uint32_t n)
{
	return multiply_module(p, module, /* turned= */ true, &(struct product){ y, ldy, x, ldx, n });
}

static int pass_expert(struct bmi_pass *p, const char *param, uint32_t expert, bool turned, float *y,
		       size_t ldy, const float *x, size_t ldx, uint32_t n)
{
	uint32_t weight, bias, n_rows;
	int r = get_tensor(to_walk(p), param, /* is_module= */ false, &weight, &bias);

	if (r)
		return r;
	assert(p->skel->tensors[weight].n_dims == 3 && expert < p->skel->tensors[weight].shape[0]);
	n_rows = (uint32_t)p->skel->tensors[weight].shape[1];
	return multiply(p, weight, expert * n_rows, (expert + 1) * n_rows, turned,
			&(struct product){ y, ldy, x, ldx, n });
}

static int pass_rows(struct bmi_pass *p, const char *param, const uint32_t *ids, uint32_t n, float *y,
		     size_t ldy)
{
	uint32_t weight, bias;
	int r = get_tensor(to_walk(p), param, /* is_module= */ false, &weight, &bias);

	if (r)
		return r;
	return bmi_residency_gather(to_walk(p)->run->opt.residency, weight, ids, n, y, ldy, p->err);
}

static int pass_fetch(struct bmi_pass *p, float *dst, const float *src, size_t n)
{
	const struct bmi_runner_options *opt = &to_walk(p)->run->opt;

	return opt->backend->download(opt->dev, dst, src, n * sizeof(*dst), p->err);
}

static float round_to(enum bmi_dtype dtype, float x)
{
	if (dtype == BMI_BF16)
		return bmi_f32_from_bf16(bmi_bf16_from_f32(x));
	return dtype == BMI_F16 ? bmi_f32_from_f16(bmi_f16_from_f32(x)) : x;
}

/* Gemma multiplies by sqrt(hidden_size) rounded to the dtype of the weights (modeling_gemma3.py, ScaledWordEmbedding). */
static int pass_embed(struct bmi_pass *p, float *y, size_t ldy)
{
	struct walk *w = to_walk(p);
	const uint32_t dim = p->cfg->hidden_size;
	const float factor = p->cfg->embed_factor ? p->cfg->embed_factor : 1;
	const float scale = round_to(w->dtype, p->cfg->embed_scale) * factor;
	uint32_t weight, bias;
	int r = get_tensor(w, p->cfg->arch->embed_name, /* is_module= */ true, &weight, &bias);

	if (r == 0)
		r = bmi_residency_gather(w->run->opt.residency, weight, p->ids, p->n_tok, y, ldy, p->err);
	if (r < 0)
		return r;
	for (uint32_t t = 0; t < p->n_tok && scale != 1.0f; t++)
		for (uint32_t i = 0; i < dim; i++)
			y[t * ldy + i] *= scale;
	return 0;
}

int bmi_runner_new(const struct bmi_runner_options *opt, struct bmi_runner **ret, struct bmi_error *err)
{
	const struct bmi_config *cfg = opt->skel->cfg;
	bmi_auto(bmi_runner) run = NULL;

	if (!cfg || !cfg->arch->forward)
		return bmi_fail(err, -EOPNOTSUPP, "models of type %s can be placed but not run yet",
				cfg ? cfg->model_type : "?");
	if (cfg->cannot_run)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"config.json: %s is not supported for running %s; the model can be placed only",
			cfg->cannot_run, cfg->model_type);
	run = calloc(1, sizeof(*run));
	if (!run)
		return bmi_fail(err, -ENOMEM, "runner");
	run->opt = *opt;
	run->cfg = cfg;
	run->forward = cfg->arch->forward;
	run->arena = bmi_arena_new();
	if (!run->arena)
		return bmi_fail(err, -ENOMEM, "runner");
	*ret = bmi_steal(&run);
	return 0;
}

void bmi_runner_trim(struct bmi_runner *run)
{
	for (unsigned i = 0; i < N_BUFS; i++)
		run->opt.backend->release(run->opt.dev, &run->bufs[i]);
}

void bmi_runner_free(struct bmi_runner *run)
{
	if (!run)
		return;
	bmi_runner_trim(run);
	bmi_arena_free(run->arena);
	free(run);
}

uint64_t bmi_runner_bytes(const struct bmi_runner *run)
{
	uint64_t bytes = 0;

	for (unsigned i = 0; i < N_BUFS; i++)
		bytes += run->bufs[i].reserved;
	return bytes;
}

/* What arrays in SLOT_ROWS take: ids, pos, out_rows and a KV table for each row. */
static size_t rows_bytes(uint32_t n_rows)
{
	return (size_t)n_rows * (sizeof(struct bmi_kv_table) + 3 * sizeof(uint32_t));
}

uint64_t bmi_runner_need(const struct bmi_config *cfg, uint32_t n_rows)
{
	/* the stream, its norm and what a block gives; q and what attention gives; k, v; gate, up: as arch/decoder.c */
	const uint64_t floats = 3ull * cfg->hidden_size + 2ull * cfg->n_heads * cfg->head_dim +
				2ull * cfg->n_kv_heads * cfg->head_dim + 2ull * cfg->intermediate_size +
				cfg->scratch_floats;

	return n_rows * floats * sizeof(float) + rows_bytes(n_rows) + (uint64_t)N_BUFS * 4096;
}

static int check_row(const struct bmi_runner *run, const struct bmi_row *row, struct bmi_error *err)
{
	if (row->id >= run->cfg->vocab_size)
		return bmi_fail(err, -EINVAL, "token id %u is not below the vocabulary's size, %u", row->id,
				run->cfg->vocab_size);
	if (row->pos >= bmi_seq_room(row->seq))
		return bmi_fail(err, -EINVAL, "position %u is past the %u the sequence has room for",
				row->pos, bmi_seq_room(row->seq));
	return 0;
}

/* Split the rows into the arrays that kernels read. */
static int take_rows(struct walk *w, const struct bmi_run_request *req, struct bmi_kv_table **ret_kv,
		     struct bmi_error *err)
{
	const uint32_t n = req->n_rows;
	struct bmi_kv_table *kv = get_buf(w->run, SLOT_ROWS, rows_bytes(n), err);
	uint32_t *ids, *pos, *out_rows;
	int r;

	if (!kv)
		return -ENOMEM;
	ids = (uint32_t *)(kv + n);
	pos = ids + n;
	out_rows = pos + n;
	for (uint32_t t = 0; t < n; t++) {
		r = check_row(w->run, &req->rows[t], err);
		if (r < 0)
			return r;
		ids[t] = req->rows[t].id;
		pos[t] = req->rows[t].pos;
		if (req->rows[t].want_logits)
			out_rows[w->pass.n_out++] = t;
	}
	w->pass.n_tok = n;
	w->pass.ids = ids;
	w->pass.pos = pos;
	w->pass.out_rows = out_rows;
	w->pass.kv = kv;
	*ret_kv = kv;
	return 0;
}

static int ask(const struct bmi_run_request *req, uint32_t layer)
{
	return req->between_layers ? req->between_layers(req->ctx, layer) : 0;
}

static int walk_layers(struct walk *w, const struct bmi_run_request *req, struct bmi_kv_table *kv)
{
	const struct bmi_forward *forward = w->run->forward;
	const uint32_t n_layers = w->run->cfg->n_layers;
	int r;

	w->layer = n_layers;
	r = forward->embed(&w->pass);
	for (uint32_t layer = 0; r == 0 && layer < n_layers; layer++) {
		r = ask(req, layer);
		if (r)
			return r;
		for (uint32_t t = 0; t < req->n_rows; t++)
			kv[t] = bmi_seq_table(req->rows[t].seq, layer);
		w->layer = layer;
		r = forward->layer(&w->pass, layer);
		if (r == 0 && w->failed)
			r = bmi_fail(w->pass.err, -ENOMEM, "names of layer %u", layer);
	}
	w->layer = n_layers;
	if (r == 0)
		r = ask(req, n_layers);
	if (r == 0 && w->pass.n_out)
		r = forward->head(&w->pass);
	return r;
}

int bmi_run_pass(struct bmi_runner *run, const struct bmi_run_request *req, struct bmi_error *err)
{
	struct bmi_residency_state state;
	struct bmi_kv_table *kv;
	struct walk w = {
		.pass = {
			.cfg = run->cfg,
			.skel = run->opt.skel,
			.kv_dtype = bmi_kv_dtype(bmi_seq_kv(req->rows[0].seq)),
			.logits = req->logits,
			.scratch = pass_scratch,
			.ops = run->opt.backend->ops,
			.dev = run->opt.dev,
			.has = pass_has,
			.linear = pass_linear,
			.vector = pass_vector,
			.embed = pass_embed,
			.linear_turned = pass_linear_turned,
			.expert = pass_expert,
			.rows = pass_rows,
			.fetch = pass_fetch,
			.err = err,
		},
		.run = run,
	};
	int r;

	assert(req->n_rows > 0);
	r = take_rows(&w, req, &kv, err);
	if (r < 0)
		return r;
	w.pass.h = get_buf(run, SLOT_H, (size_t)req->n_rows * run->cfg->hidden_size * sizeof(float), err);
	if (!w.pass.h)
		return -ENOMEM;
	bmi_residency_state(run->opt.residency, &state);
	w.dtype = state.dtype;

	r = bmi_residency_pass_begin(run->opt.residency, err);
	if (r < 0)
		return r;
	r = walk_layers(&w, req, kv);
	bmi_residency_pass_end(run->opt.residency);
	return r;
}

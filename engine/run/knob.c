/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what was asked for (device map, dtype, max_memory) and how moves stand. A new text is parsed, planned and held
 * against the memory there is, all before anything changes. Invariant: eng->req is always one that was accepted, whole.
 */
#include "run/engine_priv.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const char *const knob_files[] = { "device_map.yaml", "dtype", "max_memory" };

void bmi_request_fini(struct request *rq)
{
	for (unsigned i = 0; i < BMI_ARRAY_LEN(rq->text); i++)
		free(rq->text[i]);
	bmi_map_free(rq->map);
	bmi_plan_free(rq->plan);
	*rq = (struct request){ 0 };
}

static bool is_blank(const char *text, size_t n)
{
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	return n == 0;
}

void bmi_request_budget(const struct bmi_engine *eng, const struct request *rq, struct bmi_budget *ret)
{
	if (rq->map->max_memory) {
		*ret = *rq->map->max_memory;
	} else if (rq->has_budget) {
		*ret = rq->budget;
	} else {
		*ret = (struct bmi_budget){ .n = 2, .given = false };
		ret->dev[0].device = BMI_DEVICE_CPU;
		ret->dev[0].bytes = (double)rq->split.weights_bytes;
		ret->dev[1].device = BMI_DEVICE_DISK;
		ret->dev[1].bytes = 0; /* not read: disk has no limit */
	}
	for (uint32_t i = 0; i < ret->n; i++) {
		const bmi_device d = ret->dev[i].device;

		ret->dev[i].rate = d == BMI_DEVICE_DISK  ? eng->rates.disk
				   : d == BMI_DEVICE_CPU ? eng->rates.ram
							 : eng->rates.gpu;
	}
	/* of a budget of our own, keys and values were taken already */
	ret->kv_layer_bytes = ret->given ? (double)rq->split.kv_bytes / eng->cfg->n_layers : 0;
}

/* What the plan puts into RAM, as the peer counts it. */
static uint64_t planned_cpu_bytes(const struct bmi_engine *eng, const struct bmi_plan *plan)
{
	uint64_t bytes = 0;

	for (uint32_t i = 0; i < eng->skel->n_tensors; i++)
		if (plan->tensor_device[i] == BMI_DEVICE_CPU)
			bytes += bmi_skel_tensor_bytes(eng->skel, i, plan->dtype);
	return bytes;
}

static int check_fits(const struct bmi_engine *eng, const struct request *rq, struct bmi_error *err)
{
	const uint64_t need = planned_cpu_bytes(eng, rq->plan), limit = rq->split.weights_bytes;
	struct bmi_budget budget;

	bmi_request_budget(eng, rq, &budget);
	for (uint32_t i = 0; i < budget.n && budget.given; i++)
		if (budget.dev[i].device == BMI_DEVICE_CPU && (double)need > budget.dev[i].bytes)
			return bmi_fail(err, -ENOMEM,
					"cpu: the map needs %" PRIu64 " bytes, max_memory gives it %.0f: map "
					"more modules to disk, or raise max_memory",
					need, budget.dev[i].bytes);
	if (need > limit)
		return bmi_fail(err, -ENOMEM,
				"cpu: the map needs %" PRIu64 " MiB, %" PRIu64
				" MiB are there for weights (%" PRIu64 " MiB may be used, %" PRIu64
				" MiB of them are for keys and values, activations and staging): "
				"map more modules to disk",
				need >> 20, limit >> 20, eng->allowed_bytes >> 20,
				(eng->allowed_bytes - limit) >> 20);
	return 0;
}

static int resolve_dtype(const struct bmi_engine *eng, const char *text, size_t n, struct request *rq,
			 struct bmi_error *err)
{
	bool is_auto;
	enum bmi_dtype *dtype = &rq->dtype;
	int r = bmi_dtype_parse(text, n, dtype, &is_auto, &rq->refusal, err);

	if (r == 0 && is_auto)
		r = bmi_ckpt_dtype(eng->ckpt, eng->cfg, dtype, err);
	if (r == 0 && *dtype != BMI_F32 && *dtype != BMI_F16 && *dtype != BMI_BF16 && eng->n_gpus == 0) {
		rq->refusal = BMI_PLACE_UNSUPPORTED_DTYPE;
		r = bmi_fail(err, -EOPNOTSUPP,
			     "dtype: %s can be planned but not run; write float32, float16 or bfloat16",
			     bmi_dtype_name(*dtype));
	}
	return r;
}

/* The meaning of one text into *rq. */
static int parse_knob(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n,
		      struct request *rq, struct bmi_error *err)
{
	switch (knob) {
	case BMI_KNOB_DEVICE_MAP:
		if (is_blank(text, n))
			return bmi_fail(
				err, -EINVAL,
				"device_map.yaml: empty; write auto, cpu, disk or module: device lines");
		return bmi_map_parse(text, n, /* complete= */ true, eng->skel, &rq->map, &rq->refusal, err);
	case BMI_KNOB_DTYPE: {
		const int r = resolve_dtype(eng, text, n, rq, err);

		return r < 0 ? r : bmi_budget_split(eng, rq->dtype, &rq->split, err);
	}
	case BMI_KNOB_MAX_MEMORY:
		rq->has_budget = !is_blank(text, n);
		if (!rq->has_budget)
			return 0;
		return bmi_budget_parse(text, n, /* complete= */ true, &rq->budget, &rq->refusal, err);
	}
	return bmi_fail(err, -EINVAL, "no such setting");
}

static int plan_request(struct bmi_engine *eng, struct request *rq, struct bmi_error *err)
{
	struct bmi_budget budget;
	int r;

	bmi_request_budget(eng, rq, &budget);
	r = bmi_place_plan(eng->skel, rq->dtype, rq->map, &budget, eng->n_gpus, &rq->plan, &rq->refusal, err);
	return r < 0 || eng->n_gpus ? r : check_fits(eng, rq, err);
}

/* A copy of the accepted request with one text replaced; what is not replaced is parsed again, so nothing is shared. */
static int derive(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, struct request *rq,
		  struct bmi_error *err)
{
	for (unsigned k = 0; k < BMI_ARRAY_LEN(rq->text); k++) {
		const bool is_new = k == (unsigned)knob;
		const char *from = is_new ? text : eng->req.text[k];
		const size_t len = is_new ? n : strlen(from);
		int r;

		rq->text[k] = strndup(from, len);
		if (!rq->text[k])
			return bmi_fail(err, -ENOMEM, "no memory");
		r = parse_knob(eng, (enum bmi_knob)k, from, len, rq, err);
		if (r < 0)
			return r;
	}
	return plan_request(eng, rq, err);
}

/* The plan stands: let the scheduler bring the layers there. Lock held. */
static uint64_t order_move(struct bmi_engine *eng)
{
	eng->moves.wanted++;
	eng->moves.cancel = false;
	eng->moves.barrier = eng->n_submitted;
	pthread_cond_signal(&eng->wake);
	return eng->moves.wanted;
}

int bmi_request_first(struct bmi_engine *eng, const struct bmi_engine_options *opt, struct bmi_error *err)
{
	const char *text[3] = { opt->device_map ? opt->device_map : "auto", opt->dtype ? opt->dtype : "auto",
				opt->max_memory ? opt->max_memory : "" };
	int r = 0;

	for (unsigned k = 0; k < 3 && r == 0; k++) {
		eng->req.text[k] = strdup(text[k]);
		if (!eng->req.text[k])
			return bmi_fail(err, -ENOMEM, "no memory");
	}
	r = bmi_budget_allowed(&eng->allowed_bytes, err);
	if (r == 0)
		r = parse_knob(eng, BMI_KNOB_DTYPE, text[BMI_KNOB_DTYPE], strlen(text[BMI_KNOB_DTYPE]),
			       &eng->req, err);
	if (r == 0)
		r = parse_knob(eng, BMI_KNOB_MAX_MEMORY, text[BMI_KNOB_MAX_MEMORY],
			       strlen(text[BMI_KNOB_MAX_MEMORY]), &eng->req, err);
	if (r < 0)
		return r;
	/* a map that is refused leaves the mount up, so that a better one can be written */
	r = parse_knob(eng, BMI_KNOB_DEVICE_MAP, text[BMI_KNOB_DEVICE_MAP], strlen(text[BMI_KNOB_DEVICE_MAP]),
		       &eng->req, &eng->problem);
	if (r == 0)
		r = plan_request(eng, &eng->req, &eng->problem);
	if (r == 0)
		order_move(eng);
	eng->failed = r < 0;
	eng->loaded = r < 0;
	return r == -ENOMEM && !eng->req.map ? r : 0;
}

int bmi_engine_check(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, bool complete,
		     struct bmi_error *err)
{
	struct request rq = { 0 };
	int r;

	if (complete) {
		r = parse_knob(eng, knob, text, n, &rq, err);
		bmi_request_fini(&rq);
		return r;
	}
	switch (knob) {
	case BMI_KNOB_DEVICE_MAP:
		return bmi_map_parse(text, n, /* complete= */ false, eng->skel, /* ret= */ NULL,
				     /* ret_kind= */ NULL, err);
	case BMI_KNOB_MAX_MEMORY:
		return bmi_budget_parse(text, n, /* complete= */ false, &rq.budget, /* ret_kind= */ NULL, err);
	case BMI_KNOB_DTYPE: /* a line is a whole text */
		if (!memchr(text, '\n', n) || is_blank(text, n))
			return 0;
		return resolve_dtype(eng, text, n, &rq, err);
	}
	return 0;
}

int bmi_request_set(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n,
		    uint64_t *ret_move, struct bmi_error *err)
{
	struct request rq = { 0 };
	int r = derive(eng, knob, text, n, &rq, err);

	if (r < 0) {
		bmi_request_fini(&rq);
		return r;
	}
	bmi_request_fini(&eng->req);
	eng->req = rq;
	*ret_move = order_move(eng);
	return 0;
}

int bmi_engine_set(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err)
{
	int r;

	if (memchr(text, 0, n))
		return bmi_fail(err, -EINVAL, "%s: a NUL byte", knob_files[knob]);
	pthread_mutex_lock(&eng->lock);
	r = bmi_request_set(eng, knob, text, n, ret_move, err);
	pthread_mutex_unlock(&eng->lock);
	if (r == 0)
		bmi_engine_tell(eng);
	return r;
}

void bmi_moves_end(struct bmi_engine *eng, int code, const char *why)
{
	struct moves *m = &eng->moves;

	m->ended = m->active;
	m->active = 0;
	m->ended_code = code;
	free(m->ended_why);
	m->ended_why = why ? strdup(why) : NULL;
	eng->loaded = true;
}

int bmi_engine_move(struct bmi_engine *eng, uint64_t move, struct bmi_error *err)
{
	struct moves *m = &eng->moves;
	int r = 0;

	pthread_mutex_lock(&eng->lock);
	if (move > m->ended)
		r = move < m->wanted ? 0 : -EAGAIN; /* one that was superseded is over */
	else if (move == m->ended && m->ended_code)
		r = bmi_fail(err, m->ended_code, "%s", m->ended_why ? m->ended_why : "the move failed");
	pthread_mutex_unlock(&eng->lock);
	return r;
}

/* A move is under way or about to be. */
bool bmi_moves_are_running(const struct bmi_engine *eng)
{
	return eng->moves.active || eng->moves.wanted > eng->moves.ended;
}

bool bmi_engine_is_moving(struct bmi_engine *eng)
{
	bool moving;

	pthread_mutex_lock(&eng->lock);
	moving = bmi_moves_are_running(eng);
	pthread_mutex_unlock(&eng->lock);
	return moving;
}

enum bmi_state bmi_engine_state(struct bmi_engine *eng)
{
	enum bmi_state state = BMI_STATE_READY;

	pthread_mutex_lock(&eng->lock);
	if (!eng->loaded)
		state = BMI_STATE_LOADING;
	else if (bmi_moves_are_running(eng))
		state = BMI_STATE_PLACING;
	else if (eng->failed)
		state = BMI_STATE_FAILED;
	pthread_mutex_unlock(&eng->lock);
	return state;
}

void bmi_engine_cancel_move(struct bmi_engine *eng)
{
	pthread_mutex_lock(&eng->lock);
	eng->moves.cancel = bmi_moves_are_running(eng);
	pthread_cond_signal(&eng->wake);
	pthread_mutex_unlock(&eng->lock);
}

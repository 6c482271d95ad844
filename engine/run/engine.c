/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns an engine's life: open (headers, plan; no thread), start (threads), close. Lock order: eng->lock, then a turn's
 * lock. Events are sent with no lock held.
 */
#include "run/engine_priv.h"

#include "backend/cpu/cpu.h"
#include "token/chat.h"

#include <errno.h>
#include <string.h>
#include <time.h>

#ifndef BMI_VERSION
#define BMI_VERSION "0"
#endif

const char *bmi_version(void)
{
	return BMI_VERSION;
}

uint64_t bmi_now_ns(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

void bmi_engine_tell(struct bmi_engine *eng)
{
	atomic_fetch_add(&eng->changes, 1);
	if (eng->events.changed)
		eng->events.changed(eng->events.ctx);
}

void bmi_engine_blame(struct bmi_engine *eng, const char *file, const struct bmi_error *err)
{
	if (eng->events.failed)
		eng->events.failed(eng->events.ctx, file, err);
}

static int resolve_options(struct bmi_engine *eng, const struct bmi_engine_options *opt, struct bmi_error *err)
{
	eng->opt = *opt;
	eng->opt.model_path = eng->opt.device_map = eng->opt.dtype = eng->opt.max_memory = NULL;
	eng->opt.slots = opt->slots ? opt->slots : DEFAULT_SLOTS;
	eng->opt.queue_max = opt->queue_max ? opt->queue_max : DEFAULT_QUEUE;
	eng->opt.prompt_max = opt->prompt_max ? opt->prompt_max : DEFAULT_PROMPT_MAX;
	if (eng->opt.slots > MAX_SLOTS)
		return bmi_fail(err, -EINVAL, "slots=%u: at most %d", opt->slots, MAX_SLOTS);
	eng->cpu_isa = opt->cpu_isa ? strdup(opt->cpu_isa) : NULL;
	return opt->cpu_isa && !eng->cpu_isa ? bmi_fail(err, -ENOMEM, "no memory") : 0;
}

static void load_rates(struct bmi_engine *eng)
{
	char path[4096];

	bmi_rates_default(&eng->rates);
	if (bmi_rates_path(path, sizeof(path)) == 0)
		bmi_rates_load(path, &eng->rates);
}

int bmi_engine_open_model(struct bmi_engine *eng, const char *path, bool to_run, struct bmi_error *err)
{
	int r = bmi_ckpt_open(path, /* need_weights= */ to_run, &eng->ckpt, err);

	if (r == 0)
		r = bmi_config_read(bmi_ckpt_config(eng->ckpt), bmi_arch_find, &eng->cfg, err);
	if (r < 0)
		return r;
	if (to_run && !eng->cfg->arch->forward)
		return bmi_fail(err, -EOPNOTSUPP,
				"model_type '%s' can be planned (mount.bmifs --plan) but not run yet",
				eng->cfg->model_type);
	if (to_run && eng->cfg->cannot_run)
		return bmi_fail(
			err,
			-EOPNOTSUPP, "config.json: %s is not supported for running %s; the model can be placed only (--plan)",
			eng->cfg->cannot_run, eng->cfg->model_type);
	r = bmi_skel_build(eng->cfg, &eng->skel, err);
	if (r == 0 && to_run)
		r = bmi_ckpt_bind(eng->ckpt, eng->skel, &eng->source, err);
	if (r == 0)
		eng->model_dir = bmi_ckpt_dir(eng->ckpt);
	return r;
}

struct bmi_engine *bmi_engine_alloc(const struct bmi_engine_options *opt, struct bmi_error *err)
{
	struct bmi_engine *eng = calloc(1, sizeof(*eng));

	if (!eng) {
		bmi_fail(err, -ENOMEM, "no memory for an engine");
		return NULL;
	}
	pthread_mutex_init(&eng->lock, NULL);
	pthread_cond_init(&eng->wake, NULL);
	load_rates(eng);
	if (resolve_options(eng, opt, err) < 0) {
		bmi_engine_close(eng);
		return NULL;
	}
	return eng;
}

int bmi_engine_open(const struct bmi_engine_options *opt, struct bmi_engine **ret, struct bmi_error *err)
{
	struct bmi_error why = { 0 };
	struct bmi_engine *eng = bmi_engine_alloc(opt, &why);
	int r = eng ? bmi_engine_open_model(eng, opt->model_path, /* to_run= */ true, &why) : why.code;

	if (r == 0) {
		eng->has_tokenizer = bmi_vocab_is_present(eng->ckpt);
		bmi_vocab_find_eos(eng);
		bmi_session_init_root(eng);
		r = bmi_request_first(eng, opt, &why);
	}
	if (r < 0) {
		bmi_engine_close(eng);
		return bmi_fail(err, r, "%s", why.msg);
	}
	*ret = eng;
	return 0;
}

static int start_tiers(struct bmi_engine *eng, struct bmi_error *err)
{
	int r = bmi_cpu_open(eng->opt.n_threads, eng->cpu_isa, &eng->cpu, err);

	if (r < 0)
		return r;
	r = bmi_residency_new(
		&(struct bmi_residency_options){
			.skel = eng->skel,
			.ckpt = eng->ckpt,
			.source = eng->source,
			.cpu = eng->cpu,
			.cpu_limit = eng->allowed_bytes - eng->req.split.fixed_bytes + BMI_STAGING_BYTES,
		},
		eng->req.dtype, &eng->res, err);
	if (r < 0)
		return r;
	r = bmi_runner_new(&(struct bmi_runner_options){ .skel = eng->skel,
							 .residency = eng->res,
							 .backend = &bmi_backend_cpu,
							 .dev = eng->cpu },
			   &eng->runner, err);
	if (r == 0)
		r = bmi_sampler_new(eng->cfg->vocab_size, &eng->sampler, err);
	if (r < 0)
		return r;
	eng->logits = calloc((size_t)eng->opt.slots * eng->cfg->vocab_size, sizeof(*eng->logits));
	eng->rows = calloc(PASS_ROWS, sizeof(*eng->rows));
	if (!eng->logits || !eng->rows)
		return bmi_fail(err, -ENOMEM, "no memory for the logits of %u sessions", eng->opt.slots);
	return 0;
}

int bmi_engine_start(struct bmi_engine *eng, const struct bmi_events *events, struct bmi_error *err)
{
	int r = start_tiers(eng, err);

	if (r < 0)
		return r;
	eng->events = *events;
	pthread_mutex_lock(&eng->lock);
	eng->started = true;
	pthread_mutex_unlock(&eng->lock);
	if (eng->has_tokenizer) {
		r = -pthread_create(&eng->tok_loader, NULL, bmi_vocab_load, eng);
		if (r < 0)
			return bmi_fail_errno(err, r, "start the tokenizer's thread");
		eng->has_tok_loader = true;
	}
	r = -pthread_create(&eng->scheduler, NULL, bmi_schedule_main, eng);
	if (r < 0)
		return bmi_fail_errno(err, r, "start the scheduler's thread");
	eng->has_scheduler = true;
	return 0;
}

/* No thread of ours runs any more: end what is left of the turns, so that their readers see it. */
static void drop_turns(struct bmi_engine *eng)
{
	pthread_mutex_lock(&eng->lock);
	for (struct bmi_session *ses = eng->sessions; ses; ses = ses->next)
		while (ses->queue)
			bmi_session_finish(ses->queue, TURN_CANCELLED, -ECANCELED,
					   "the file system was unmounted");
	pthread_mutex_unlock(&eng->lock);
}

static void free_sessions(struct bmi_engine *eng)
{
	while (eng->sessions) {
		struct bmi_session *ses = eng->sessions;

		eng->sessions = ses->next;
		bmi_turn_put(ses->last);
		if (ses != &eng->root)
			free(ses);
	}
}

void bmi_engine_close(struct bmi_engine *eng)
{
	if (!eng)
		return;
	pthread_mutex_lock(&eng->lock);
	eng->stop = true;
	pthread_cond_broadcast(&eng->wake);
	pthread_mutex_unlock(&eng->lock);
	if (eng->has_tok_loader)
		pthread_join(eng->tok_loader, NULL);
	if (eng->has_scheduler)
		pthread_join(eng->scheduler, NULL);
	drop_turns(eng);
	if (eng->has_scheduler)
		bmi_engine_tell(eng);
	free_sessions(eng);
	bmi_kv_free(eng->kv);
	bmi_sampler_free(eng->sampler);
	bmi_runner_free(eng->runner);
	bmi_residency_free(eng->res);
	if (eng->cpu)
		bmi_backend_cpu.close(eng->cpu);
	free(eng->logits);
	free(eng->rows);
	bmi_chat_free(eng->chat);
	bmi_tok_free(eng->tok);
	bmi_request_fini(&eng->req);
	free(eng->moves.ended_why);
	free((void *)(uintptr_t)eng->source);
	bmi_skel_free(eng->skel);
	bmi_config_free(eng->cfg);
	bmi_ckpt_close(eng->ckpt);
	free(eng->cpu_isa);
	pthread_cond_destroy(&eng->wake);
	pthread_mutex_destroy(&eng->lock);
	free(eng);
}

bool bmi_engine_problem(struct bmi_engine *eng, struct bmi_error *ret)
{
	bool failed;

	pthread_mutex_lock(&eng->lock);
	failed = eng->failed;
	if (failed && ret)
		*ret = eng->problem;
	pthread_mutex_unlock(&eng->lock);
	return failed;
}

const char *bmi_engine_model_dir(const struct bmi_engine *eng)
{
	return eng->model_dir;
}

uint64_t bmi_engine_changes(struct bmi_engine *eng)
{
	return atomic_load(&eng->changes);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The fake engine itself: opening, closing, parameters. See fake.h. */
#include "fake.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static unsigned env_ms(const char *name, unsigned def)
{
	const char *value = getenv(name);

	return value ? (unsigned)atoi(value) : def;
}

void fake_sleep_ms(struct bmi_engine *eng, unsigned ms)
{
	const struct timespec t = { ms / 1000, (long)(ms % 1000) * 1000000 };

	nanosleep(&t, NULL);
}

void fake_changed(struct bmi_engine *eng)
{
	if (eng->events.changed)
		eng->events.changed(eng->events.ctx);
}

static void session_init(struct bmi_session *ses, struct bmi_engine *eng)
{
	*ses = (struct bmi_session){ .eng = eng, .temperature = 0.8, .max_tokens = 512, .seed = 1 };
}

int bmi_engine_open(const struct bmi_engine_options *opt, struct bmi_engine **ret, struct bmi_error *err)
{
	const char *const map = opt->device_map ? opt->device_map : "auto";
	struct bmi_engine *eng;
	struct bmi_str config = { 0 };
	struct stat st;

	if (stat(opt->model_path, &st) < 0)
		return bmi_fail_errno(err, -errno, "model '%s'", opt->model_path);
	bmi_str_printf(&config, "%s/config.json", opt->model_path);
	if (access(config.bytes, R_OK) < 0) {
		bmi_str_fini(&config);
		return bmi_fail(err, -ENOENT, "model '%s': no config.json and no .gguf file", opt->model_path);
	}
	bmi_str_fini(&config);
	if (opt->dtype && !strcmp(opt->dtype, "nonsense"))
		return bmi_fail(err, -EINVAL, "unknown dtype '%s'", opt->dtype);
	eng = calloc(1, sizeof(*eng));
	eng->opt = *opt;
	eng->model_dir = realpath(opt->model_path, NULL);
	eng->token_ms = env_ms("BMI_FAKE_TOKEN_MS", 20);
	eng->layer_ms = env_ms("BMI_FAKE_LAYER_MS", 150);
	eng->load_ms = env_ms("BMI_FAKE_LOAD_MS", 0);
	eng->fault = getenv("BMI_FAKE_FAULT");
	strcpy(eng->dtype, "bfloat16");
	strcpy(eng->want_dtype, "bfloat16");
	pthread_mutex_init(&eng->lock, NULL);
	pthread_cond_init(&eng->cond, NULL);
	session_init(&eng->root, eng);
	if (fake_map_parse(map, strlen(map), true, eng->want, &eng->problem) < 0) {
		eng->has_failed = true;
		fake_map_parse("cpu", 3, true, eng->want, NULL);
	} else if (opt->device_map) {
		bmi_str_puts(&eng->map_text, opt->device_map);
		if (!strchr(opt->device_map, '\n'))
			bmi_str_puts(&eng->map_text, "\n");
	}
	memcpy(eng->now, eng->want, sizeof(eng->now));
	*ret = eng;
	return 0;
}

int bmi_engine_start(struct bmi_engine *eng, const struct bmi_events *events, struct bmi_error *err)
{
	if (eng->fault && !strcmp(eng->fault, "start"))
		return bmi_fail(err, -ENOMEM, "no memory for the threads");
	eng->events = *events;
	eng->is_started = true;
	pthread_create(&eng->mover, NULL, fake_move_layers, eng);
	for (; eng->n_runners < 4; eng->n_runners++)
		pthread_create(&eng->runners[eng->n_runners], NULL, fake_run_turns, eng);
	return 0;
}

static void drop_queue(struct bmi_engine *eng)
{
	while (eng->queue) {
		struct bmi_turn *t = eng->queue;

		eng->queue = t->queued;
		bmi_turn_put(t);
	}
}

void bmi_engine_close(struct bmi_engine *eng)
{
	if (!eng)
		return;
	if (eng->is_started) {
		pthread_mutex_lock(&eng->lock);
		eng->is_stopping = true;
		pthread_cond_broadcast(&eng->cond);
		pthread_mutex_unlock(&eng->lock);
		pthread_join(eng->mover, NULL);
		for (unsigned i = 0; i < eng->n_runners; i++)
			pthread_join(eng->runners[i], NULL);
	}
	drop_queue(eng);
	bmi_turn_put(eng->root.last);
	bmi_str_fini(&eng->map_text);
	bmi_str_fini(&eng->memory_text);
	pthread_cond_destroy(&eng->cond);
	pthread_mutex_destroy(&eng->lock);
	free(eng->model_dir);
	free(eng);
}

bool bmi_engine_problem(struct bmi_engine *eng, struct bmi_error *ret)
{
	bool has;

	pthread_mutex_lock(&eng->lock);
	has = eng->has_failed;
	*ret = eng->problem;
	pthread_mutex_unlock(&eng->lock);
	return has;
}

const char *bmi_engine_model_dir(const struct bmi_engine *eng)
{
	return eng->model_dir;
}

enum bmi_state bmi_engine_state(struct bmi_engine *eng)
{
	enum bmi_state state = BMI_STATE_READY;

	pthread_mutex_lock(&eng->lock);
	if (!eng->is_loaded)
		state = BMI_STATE_LOADING;
	else if (eng->has_failed)
		state = BMI_STATE_FAILED;
	else if (eng->ended_move < eng->last_move)
		state = BMI_STATE_PLACING;
	pthread_mutex_unlock(&eng->lock);
	return state;
}

uint64_t bmi_engine_changes(struct bmi_engine *eng)
{
	uint64_t n;

	pthread_mutex_lock(&eng->lock);
	n = eng->n_changes;
	pthread_mutex_unlock(&eng->lock);
	return n;
}

struct bmi_session *bmi_engine_root_session(struct bmi_engine *eng)
{
	return &eng->root;
}

int bmi_session_new(struct bmi_engine *eng, struct bmi_session **ret, struct bmi_error *err)
{
	*ret = malloc(sizeof(**ret));
	session_init(*ret, eng);
	pthread_mutex_lock(&eng->lock);
	(*ret)->temperature = eng->root.temperature;
	(*ret)->max_tokens = eng->root.max_tokens;
	(*ret)->is_raw = eng->root.is_raw;
	pthread_mutex_unlock(&eng->lock);
	return 0;
}

void bmi_session_close(struct bmi_session *ses)
{
	if (!ses)
		return;
	bmi_session_cancel(ses);
	pthread_mutex_lock(&ses->eng->lock);
	while (ses->n_turns && !ses->eng->is_stopping)
		pthread_cond_wait(&ses->eng->cond, &ses->eng->lock);
	pthread_mutex_unlock(&ses->eng->lock);
	bmi_turn_put(ses->last);
	free(ses);
}

int bmi_session_status(struct bmi_session *ses, struct bmi_str *ret)
{
	struct bmi_turn *t = bmi_session_last_turn(ses);
	struct bmi_turn_info info = { 0 };
	const char *state = "idle";
	unsigned number;

	pthread_mutex_lock(&ses->eng->lock);
	number = ses->n_submitted;
	pthread_mutex_unlock(&ses->eng->lock);
	if (t) {
		bmi_turn_info(t, &info);
		state = !info.done                ? (info.n_bytes ? "generating" : "queued")
			: !info.code              ? "done"
			: info.code == -ECANCELED ? "cancelled"
						  : "failed";
	}
	bmi_str_printf(ret, "turn: %u\n%s: %s\n", number, ses == &ses->eng->root ? "turn_state" : "state",
		       state);
	bmi_turn_put(t);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

const char *bmi_param_name(unsigned i)
{
	static const char *const names[] = { "temperature", "max_tokens", "seed", "template", "stop" };

	return i < sizeof(names) / sizeof(names[0]) ? names[i] : NULL;
}

static int set_number(const char *value, double min, double max, double *ret, struct bmi_error *err)
{
	char *end;
	const double d = strtod(value, &end);

	if (!*value || *end)
		return bmi_fail(err, -EINVAL, "'%s' is not a number", value);
	if (!(d >= min && d <= max))
		return bmi_fail(err, -ERANGE, "%s is not from %g to %g", value, min, max);
	*ret = d;
	return 0;
}

int bmi_session_set_param(struct bmi_session *ses, const char *name, const char *text, size_t n,
			  struct bmi_error *err)
{
	char value[sizeof(ses->stop)];
	double d = 0;
	int r = 0;

	if (n >= sizeof(value))
		return bmi_fail(err, -EINVAL, "the value is too long");
	memcpy(value, text, n);
	value[n] = 0;
	while (n && strcmp(name, "stop") && isspace((unsigned char)value[n - 1]))
		value[--n] = 0;
	pthread_mutex_lock(&ses->eng->lock);
	if (!strcmp(name, "temperature")) {
		r = set_number(value, 0, 5, &d, err);
		ses->temperature = r ? ses->temperature : d;
	} else if (!strcmp(name, "max_tokens")) {
		r = set_number(value, 1, 1e6, &d, err);
		ses->max_tokens = r ? ses->max_tokens : (unsigned)d;
	} else if (!strcmp(name, "seed")) {
		r = set_number(value, 0, 1e9, &d, err);
		ses->seed = r ? ses->seed : (unsigned)d;
	} else if (!strcmp(name, "template")) {
		if (strcmp(value, "chat") && strcmp(value, "raw"))
			r = bmi_fail(err, -EINVAL, "'%s' is not chat or raw", value);
		else
			ses->is_raw = !strcmp(value, "raw");
	} else {
		snprintf(ses->stop, sizeof(ses->stop), "%s", value);
	}
	pthread_mutex_unlock(&ses->eng->lock);
	return r;
}

int bmi_session_get_param(struct bmi_session *ses, const char *name, struct bmi_str *ret)
{
	pthread_mutex_lock(&ses->eng->lock);
	if (!strcmp(name, "temperature"))
		bmi_str_printf(ret, "%g\n", ses->temperature);
	else if (!strcmp(name, "max_tokens"))
		bmi_str_printf(ret, "%u\n", ses->max_tokens);
	else if (!strcmp(name, "seed"))
		bmi_str_printf(ret, "%u\n", ses->seed);
	else if (!strcmp(name, "template"))
		bmi_str_puts(ret, ses->is_raw ? "raw\n" : "chat\n");
	else
		bmi_str_puts(ret, ses->stop);
	pthread_mutex_unlock(&ses->eng->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

int bmi_plan_report(const struct bmi_engine_options *opt, bool json, struct bmi_str *ret, struct bmi_error *err)
{
	const char *const map = opt->device_map ? opt->device_map : "auto";
	fake_map out;
	int r = fake_map_parse(map, strlen(map), /* complete= */ true, out, err);

	if (r == 0)
		bmi_str_puts(ret, json ? "{\"hf_device_map\": {}}\n" : "all modules placed\n");
	else if (json)
		bmi_str_puts(ret, "{\"error\": {\"kind\": \"map\", \"message\": \"refused\"}}\n");
	return r;
}

int bmi_measure(const char *model_path, struct bmi_str *ret, struct bmi_error *err)
{
	struct stat st;

	if (stat(model_path, &st) < 0)
		return bmi_fail_errno(err, -errno, "model '%s'", model_path);
	return bmi_str_puts(ret, "RAM  10.00 GB/s\ndisk 0.50 GB/s\n");
}

const char *bmi_version(void)
{
	return "0.1.0";
}

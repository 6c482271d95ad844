/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Decoding without a file system, for the cost of the files: the same 64 tokens after a prompt of 16 ids as bench.py asks for,
 * asked of the engine in this process. usage: inproc MODEL THREADS "ID ..."; prints tokens per second from the first token
 * to the last, the best of three.
 */
#include "bmi.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { N_TOKENS = 64 };

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void on_change(void *ctx)
{
	pthread_mutex_lock(&lock);
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Ids in the text so far: one more than its spaces once there is any. */
static unsigned count_ids(struct bmi_turn *turn)
{
	char buf[N_TOKENS * 12];
	const size_t n = bmi_turn_read(turn, 0, buf, sizeof(buf));
	unsigned count = n > 0;

	for (size_t i = 0; i < n; i++)
		count += buf[i] == ' ' && i + 1 < n;
	return count;
}

/* Tokens per second; 0 when the turn failed. */
static double time_turn(struct bmi_turn *turn)
{
	struct bmi_turn_info info = { 0 };
	double t_first = 0, t_last = 0;
	unsigned n_first = 0, n = 0;

	pthread_mutex_lock(&lock);
	while (!info.done) {
		bmi_turn_info(turn, &info);
		n = count_ids(turn);
		t_last = now_s();
		if (n && !n_first) {
			n_first = n;
			t_first = t_last;
		}
		if (!info.done)
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
	return info.code == 0 && n == N_TOKENS ? (n - n_first) / (t_last - t_first) : 0;
}

static int set_params(struct bmi_session *ses, struct bmi_error *err)
{
	static const struct {
		const char *name, *value;
	} params[] = {
		{ "template", "ids" }, { "temperature", "0" }, { "max_tokens", "64" }, { "ignore_eos", "1" }
	};
	int r = 0;

	for (size_t i = 0; i < sizeof(params) / sizeof(params[0]) && r == 0; i++)
		r = bmi_session_set_param(ses, params[i].name, params[i].value, strlen(params[i].value), err);
	return r;
}

int main(int argc, char **argv)
{
	struct bmi_engine_options opt = { .device_map = "cpu", .dtype = "bfloat16" };
	const struct bmi_events events = { .changed = on_change };
	struct bmi_engine *eng = NULL;
	struct bmi_error err = { .msg = "usage: inproc MODEL THREADS \"ID ...\"" };
	double best = 0;
	int r = argc == 4 ? 0 : -1;

	if (r == 0) {
		opt.model_path = argv[1];
		opt.n_threads = (uint32_t)strtoul(argv[2], NULL, 10);
		r = bmi_engine_open(&opt, &eng, &err);
	}
	if (r == 0)
		r = bmi_engine_start(eng, &events, &err);
	if (r == 0)
		r = set_params(bmi_engine_root_session(eng), &err);
	for (unsigned i = 0; i < 3 && r == 0; i++) {
		struct bmi_turn *turn = NULL;
		double rate;

		r = bmi_session_submit(bmi_engine_root_session(eng), argv[3], strlen(argv[3]), &turn, &err);
		rate = r == 0 ? time_turn(turn) : 0;
		best = rate > best ? rate : best;
		bmi_turn_put(turn);
	}
	if (r < 0)
		fprintf(stderr, "inproc: %s\n", err.msg);
	else
		printf("%.3f\n", best);
	bmi_engine_close(eng);
	return r < 0 || best <= 0;
}

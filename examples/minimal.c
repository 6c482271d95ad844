/* SPDX-License-Identifier: Apache-2.0 */
/* The engine without a file system: `minimal MODEL PROMPT` prints the greedy continuation as it comes, with bmi.h alone. */
#include "bmi.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void on_change(void *ctx)
{
	pthread_mutex_lock(&lock);
	pthread_cond_signal(&changed);
	pthread_mutex_unlock(&lock);
}

static void print_turn(struct bmi_turn *turn)
{
	struct bmi_turn_info info = { 0 };
	char buf[4096];

	pthread_mutex_lock(&lock);
	for (size_t off = 0, n; !info.done;) {
		bmi_turn_info(turn, &info); /* before reading: what is there once it is done is all */
		for (; (n = bmi_turn_read(turn, off, buf, sizeof(buf))); off += n)
			fwrite(buf, 1, n, stdout);
		fflush(stdout);
		if (!info.done)
			pthread_cond_wait(&changed, &lock);
	}
	pthread_mutex_unlock(&lock);
}

int main(int argc, char **argv)
{
	struct bmi_engine_options opt = { .model_path = argc == 3 ? argv[1] : "" };
	const struct bmi_events events = { .changed = on_change };
	struct bmi_engine *eng = NULL;
	struct bmi_turn *turn = NULL;
	struct bmi_error err = { .msg = "usage: minimal MODEL PROMPT" };
	int r = argc == 3 ? bmi_engine_open(&opt, &eng, &err) : -1;

	if (r == 0)
		r = bmi_engine_start(eng, &events, &err);
	if (r == 0)
		r = bmi_session_set_param(bmi_engine_root_session(eng), "temperature", "0", 1, &err);
	if (r == 0)
		r = bmi_session_submit(bmi_engine_root_session(eng), argv[2], strlen(argv[2]), &turn, &err);
	if (r == 0)
		print_turn(turn);
	if (r < 0)
		fprintf(stderr, "minimal: %s\n", err.msg);
	bmi_turn_put(turn);
	bmi_engine_close(eng);
	return r < 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* An engine to test, its events counted, so that a test waits for what happens and never for time. */
#include "engine_fixture.h"

#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

char prompt[1024], answer[256];
float last_logits[VOCAB];

static void on_changed(void *ctx)
{
	struct fix *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->n_events++;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void on_failed(void *ctx, const char *file, const struct bmi_error *err)
{
	struct fix *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->n_failed++;
	snprintf(f->failed_file, sizeof(f->failed_file), "%s", file);
	pthread_mutex_unlock(&f->lock);
}

/* Wait for the next event, half a minute at most: a hang is a failure. */
void wait_event(struct fix *f, uint64_t seen)
{
	struct timespec until;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&f->lock);
	while (f->n_events == seen)
		if (pthread_cond_timedwait(&f->cond, &f->lock, &until))
			break;
	if (f->n_events == seen) {
		pthread_mutex_unlock(&f->lock);
		fail_msg("nothing happened for 30 s");
	}
	pthread_mutex_unlock(&f->lock);
}

uint64_t events(struct fix *f)
{
	uint64_t n;

	pthread_mutex_lock(&f->lock);
	n = f->n_events;
	pthread_mutex_unlock(&f->lock);
	return n;
}

static void wait_moves(struct fix *f)
{
	WAIT_UNTIL(f, !bmi_engine_is_moving(f->eng));
}

void open_with(struct fix *f, const struct bmi_engine_options *opt)
{
	struct bmi_error err = { 0 };
	const struct bmi_events ev = { on_changed, on_failed, f };

	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	if (bmi_engine_open(opt, &f->eng, &err) < 0 || bmi_engine_start(f->eng, &ev, &err) < 0)
		fail_msg("%s", err.msg);
	f->root = bmi_engine_root_session(f->eng);
	assert_int_equal(bmi_session_set_param(f->root, "ignore_eos", "1", 1, &err), 0);
	assert_int_equal(bmi_session_set_param(f->root, "max_tokens", "16", 2, &err), 0);
	wait_moves(f);
}

void open_default(struct fix *f)
{
	open_with(f, &(struct bmi_engine_options){ .model_path = MODEL, .dtype = "float32", .n_threads = 2 });
}

void close_fix(struct fix *f)
{
	bmi_engine_close(f->eng);
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
}

bool is_done(struct bmi_turn *turn)
{
	struct bmi_turn_info info;

	bmi_turn_info(turn, &info);
	return info.done;
}

/* The whole answer as a string, for comparison; the turn's code. Takes the reference. */
int finish(struct fix *f, struct bmi_turn *turn, char *buf, size_t size)
{
	struct bmi_turn_info info;
	size_t n;

	WAIT_UNTIL(f, is_done(turn));
	bmi_turn_info(turn, &info);
	n = bmi_turn_read(turn, 0, buf, size - 1);
	buf[n] = 0;
	bmi_turn_put(turn);
	return info.code;
}

struct bmi_turn *submit(struct bmi_session *ses, const char *text)
{
	struct bmi_error err = { 0 };
	struct bmi_turn *turn = NULL;

	if (bmi_session_submit(ses, text, strlen(text), &turn, &err) < 0)
		fail_msg("%s", err.msg);
	return turn;
}

void expect_answer(struct fix *f, struct bmi_session *ses)
{
	char got[1024];

	assert_int_equal(finish(f, submit(ses, prompt), got, sizeof(got)), 0);
	assert_string_equal(got, answer);
}

int set(struct fix *f, enum bmi_knob knob, const char *text, struct bmi_error *err)
{
	uint64_t move = 0;
	int r;

	*err = (struct bmi_error){ 0 };
	r = bmi_engine_set(f->eng, knob, text, strlen(text), &move, err);
	if (r < 0)
		return r;
	WAIT_UNTIL(f, bmi_engine_move(f->eng, move, NULL) != -EAGAIN);
	return bmi_engine_move(f->eng, move, err);
}

void expect_report(struct fix *f, enum bmi_report what, const char *want)
{
	struct bmi_str s = { 0 };

	assert_int_equal(bmi_engine_report(f->eng, what, &s), 0);
	assert_string_equal(s.bytes, want);
	bmi_str_fini(&s);
}

bool report_has(struct fix *f, enum bmi_report what, const char *part)
{
	struct bmi_str s = { 0 };
	bool has;

	assert_int_equal(bmi_engine_report(f->eng, what, &s), 0);
	has = strstr(s.bytes, part) != NULL;
	bmi_str_fini(&s);
	return has;
}

/* ---- the reference ---- */

static void print_ids(const struct bmi_json *list, unsigned n, char *buf, size_t size)
{
	size_t used = 0;

	for (const struct bmi_json *v = list->child; v && n--; v = v->next)
		used += (size_t)snprintf(buf + used, size - used, "%s%.*s", used ? " " : "", (int)v->n, v->str);
}

int load_reference(void **state)
{
	int dir = open(MODEL, O_RDONLY | O_DIRECTORY);
	struct bmi_json_doc *doc;
	const struct bmi_json *root;
	struct bmi_error err;
	unsigned i = 0;
	char *text;
	size_t n;

	if (dir < 0 || bmi_file_read(dir, "expected.json", 1 << 20, &text, &n, &err) < 0)
		return -1;
	close(dir);
	if (bmi_json_parse(text, n, &doc, &err) < 0)
		return -1;
	root = bmi_json_root(doc);
	print_ids(bmi_json_get(root, "input_ids"), UINT32_MAX, prompt, sizeof(prompt));
	print_ids(bmi_json_get(root, "greedy_ids"), N_GREEDY, answer, sizeof(answer) - 1);
	strcat(answer, "\n");
	for (const struct bmi_json *v = bmi_json_get(root, "last_logits")->child; v && i < VOCAB; v = v->next) {
		double x;

		bmi_json_to_double(v, &x);
		last_logits[i++] = (float)x;
	}
	bmi_json_free(doc);
	free(text);
	return i == VOCAB ? 0 : -1;
}

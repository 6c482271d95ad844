/* SPDX-License-Identifier: Apache-2.0 */
/* The fake engine's turns: first in, first out per session, sessions side by side; each repeats its prompt. */
#include "fake.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* The longest sequence start that is no character yet counts as broken: prompts arrive whole. */
static bool is_utf8(const unsigned char *s, size_t n)
{
	for (size_t i = 0; i < n;) {
		size_t len = s[i] < 0x80                   ? 1
			     : s[i] >= 0xc2 && s[i] < 0xe0 ? 2
			     : s[i] >= 0xe0 && s[i] < 0xf0 ? 3
			     : s[i] >= 0xf0 && s[i] < 0xf5 ? 4
							   : 0;

		if (!len || i + len > n || !s[i])
			return false;
		for (size_t k = 1; k < len; k++) {
			if ((s[i + k] & 0xc0) != 0x80)
				return false;
		}
		i += len;
	}
	return true;
}

static struct bmi_turn *turn_new(struct bmi_session *ses, const char *text, size_t n)
{
	struct bmi_turn *t = calloc(1, sizeof(*t));

	pthread_mutex_init(&t->lock, NULL);
	t->eng = ses->eng;
	t->ses = ses;
	t->n_refs = 1;
	bmi_str_put(&t->prompt, text, n);
	return t;
}

struct bmi_turn *bmi_turn_ref(struct bmi_turn *t)
{
	pthread_mutex_lock(&t->lock);
	t->n_refs++;
	pthread_mutex_unlock(&t->lock);
	return t;
}

void bmi_turn_put(struct bmi_turn *t)
{
	unsigned left;

	if (!t)
		return;
	pthread_mutex_lock(&t->lock);
	left = --t->n_refs;
	pthread_mutex_unlock(&t->lock);
	if (left)
		return;
	bmi_str_fini(&t->prompt);
	bmi_str_fini(&t->text);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

void bmi_turn_info(struct bmi_turn *t, struct bmi_turn_info *ret)
{
	pthread_mutex_lock(&t->lock);
	*ret = (struct bmi_turn_info){
		.n_bytes = t->text.n, .done = t->done, .code = t->code, .prompt_done = t->prompt_done
	};
	pthread_mutex_unlock(&t->lock);
}

size_t bmi_turn_read(struct bmi_turn *t, uint64_t off, void *buf, size_t size)
{
	size_t n = 0;

	pthread_mutex_lock(&t->lock);
	if (off < t->text.n) {
		n = t->text.n - (size_t)off;
		n = n < size ? n : size;
		memcpy(buf, t->text.bytes + off, n);
	}
	pthread_mutex_unlock(&t->lock);
	return n;
}

void bmi_turn_error(struct bmi_turn *t, struct bmi_error *ret)
{
	pthread_mutex_lock(&t->lock);
	*ret = t->err;
	pthread_mutex_unlock(&t->lock);
}

void bmi_turn_cancel(struct bmi_turn *t)
{
	pthread_mutex_lock(&t->lock);
	t->is_cancelled = true;
	pthread_mutex_unlock(&t->lock);
}

int bmi_turn_logits(struct bmi_turn *t, const float **ret, size_t *ret_n)
{
	int r = -EAGAIN;

	pthread_mutex_lock(&t->lock);
	if (t->prompt_done || t->done) {
		*ret = t->logits;
		*ret_n = t->prompt_done ? FAKE_VOCAB : 0;
		r = 0;
	}
	pthread_mutex_unlock(&t->lock);
	return r;
}

unsigned bmi_turn_add_reader(struct bmi_turn *t)
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = ++t->n_readers;
	pthread_mutex_unlock(&t->lock);
	return n;
}

unsigned bmi_turn_drop_reader(struct bmi_turn *t)
{
	unsigned n;

	pthread_mutex_lock(&t->lock);
	n = --t->n_readers;
	pthread_mutex_unlock(&t->lock);
	return n;
}

static void finish(struct bmi_turn *t, int code, const char *why)
{
	pthread_mutex_lock(&t->lock);
	if (code)
		bmi_fail(&t->err, code, "%s", why);
	t->code = code;
	t->done = true;
	pthread_mutex_unlock(&t->lock);
}

int bmi_session_has_room(struct bmi_session *ses, struct bmi_error *err)
{
	const unsigned max = ses->eng->opt.queue_max ? ses->eng->opt.queue_max : 16;
	unsigned n;

	pthread_mutex_lock(&ses->eng->lock);
	n = ses->n_turns;
	pthread_mutex_unlock(&ses->eng->lock);
	return n > max ? bmi_fail(err, -EBUSY, "%u prompts wait already, the queue holds %u", n - 1, max) : 0;
}

int bmi_session_submit(struct bmi_session *ses, const char *text, size_t n, struct bmi_turn **ret_turn,
		       struct bmi_error *err)
{
	struct bmi_engine *eng = ses->eng;
	struct bmi_turn *t, *old, **at;
	int r = bmi_session_has_room(ses, err);

	if (r == 0 && eng->fault && !strcmp(eng->fault, "load"))
		r = bmi_fail(err, -ENODEV, "the model is not loaded");
	if (r < 0)
		return r;
	t = turn_new(ses, text, n);
	if (n > FAKE_PROMPT_MAX)
		r = bmi_fail(err, -EMSGSIZE, "the prompt has %zu tokens, the context %d", n, FAKE_PROMPT_MAX);
	else if (!is_utf8((const unsigned char *)text, n))
		r = bmi_fail(err, -EILSEQ, "the prompt is not UTF-8");
	if (r < 0)
		finish(t, r, err ? err->msg : "refused");
	if (ret_turn)
		*ret_turn = bmi_turn_ref(t);
	pthread_mutex_lock(&eng->lock);
	old = ses->last;
	ses->last = t;
	ses->n_submitted++;
	if (r == 0) {
		for (at = &eng->queue; *at; at = &(*at)->queued)
			;
		*at = bmi_turn_ref(t);
		ses->n_turns++;
	}
	eng->n_changes++;
	pthread_cond_broadcast(&eng->cond);
	pthread_mutex_unlock(&eng->lock);
	bmi_turn_put(old);
	fake_changed(eng);
	return r;
}

struct bmi_turn *bmi_session_last_turn(struct bmi_session *ses)
{
	struct bmi_turn *t;

	pthread_mutex_lock(&ses->eng->lock);
	t = ses->last ? bmi_turn_ref(ses->last) : NULL;
	pthread_mutex_unlock(&ses->eng->lock);
	return t;
}

void bmi_session_cancel(struct bmi_session *ses)
{
	pthread_mutex_lock(&ses->eng->lock);
	for (struct bmi_turn *t = ses->eng->queue; t; t = t->queued) {
		if (t->ses == ses)
			bmi_turn_cancel(t);
	}
	pthread_cond_broadcast(&ses->eng->cond);
	pthread_mutex_unlock(&ses->eng->lock);
}

static void say(struct bmi_turn *t, const char *word, size_t n)
{
	pthread_mutex_lock(&t->lock);
	t->prompt_done = true;
	bmi_str_put(&t->text, word, n);
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_lock(&t->eng->lock);
	t->eng->n_changes++;
	pthread_mutex_unlock(&t->eng->lock);
	fake_changed(t->eng);
}

static bool is_over(struct bmi_turn *t)
{
	bool over;

	pthread_mutex_lock(&t->lock);
	over = t->is_cancelled;
	pthread_mutex_unlock(&t->lock);
	pthread_mutex_lock(&t->eng->lock);
	over |= t->eng->is_stopping;
	pthread_mutex_unlock(&t->eng->lock);
	return over;
}

/* The words of "[BYTES] PROMPT", each with the blank before it. */
static void answer(struct bmi_turn *t, unsigned max_words, bool is_raw)
{
	const bool fails = t->prompt.n >= 4 && !memcmp(t->prompt.bytes, "fail", 4);
	struct bmi_str text = { 0 };
	size_t from = 0;

	bmi_str_printf(&text, "[%zu] ", t->prompt.n);
	bmi_str_put(&text, t->prompt.bytes, t->prompt.n);
	for (unsigned n_words = 0; from < text.n && n_words < max_words; n_words++) {
		size_t to = from + 1;

		while (to < text.n && text.bytes[to] != ' ')
			to++;
		fake_sleep_ms(t->eng, t->eng->token_ms);
		if (is_over(t)) {
			finish(t, -ECANCELED, "cancelled");
			break;
		}
		say(t, text.bytes + from, to - from);
		from = to;
		if (fails && n_words == 1) {
			finish(t, -EIO, "a layer cannot be read");
			t->eng->events.failed(t->eng->events.ctx, "output", &t->err);
			break;
		}
	}
	if (!t->done) {
		if (!is_raw && text.bytes[from - 1] != '\n')
			say(t, "\n", 1);
		finish(t, 0, "");
	}
	bmi_str_fini(&text);
}

/* The first turn whose session has none running. eng->lock is held. */
static struct bmi_turn *next_turn(struct bmi_engine *eng)
{
	if (!eng->is_loaded || eng->ended_move < eng->last_move)
		return NULL;
	for (struct bmi_turn *t = eng->queue; t; t = t->queued) {
		bool busy = t->is_running;

		for (struct bmi_turn *u = eng->queue; u != t && !busy; u = u->queued)
			busy = u->ses == t->ses;
		if (!busy)
			return t;
	}
	return NULL;
}

void *fake_run_turns(void *ctx)
{
	struct bmi_engine *eng = ctx;

	pthread_mutex_lock(&eng->lock);
	while (!eng->is_stopping) {
		struct bmi_turn *t = next_turn(eng), **at;
		unsigned max_words;
		bool is_raw;

		if (!t) {
			pthread_cond_wait(&eng->cond, &eng->lock);
			continue;
		}
		t->is_running = true;
		max_words = t->ses->max_tokens;
		is_raw = t->ses->is_raw;
		pthread_mutex_unlock(&eng->lock);
		answer(t, max_words, is_raw);
		pthread_mutex_lock(&eng->lock);
		for (at = &eng->queue; *at != t; at = &(*at)->queued)
			;
		*at = t->queued;
		t->ses->n_turns--;
		eng->n_changes++;
		pthread_cond_broadcast(&eng->cond);
		pthread_mutex_unlock(&eng->lock);
		fake_changed(eng);
		bmi_turn_put(t);
		pthread_mutex_lock(&eng->lock);
	}
	pthread_mutex_unlock(&eng->lock);
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what readers see of a turn: its text, whether it ended and how. Invariant: text only grows, and once `done` is set
 * nothing under the lock changes any more. What the scheduler keeps in a turn is freed by generate.c when it ends.
 */
#include "run/engine_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bmi_turn *bmi_turn_new(struct bmi_engine *eng, struct bmi_session *ses)
{
	struct bmi_turn *turn = calloc(1, sizeof(*turn));

	if (!turn)
		return NULL;
	atomic_init(&turn->refs, 1);
	pthread_mutex_init(&turn->lock, NULL);
	turn->eng = eng;
	turn->ses = ses;
	turn->finish = "";
	return turn;
}

struct bmi_turn *bmi_turn_ref(struct bmi_turn *turn)
{
	atomic_fetch_add(&turn->refs, 1);
	return turn;
}

void bmi_turn_put(struct bmi_turn *turn)
{
	if (!turn || atomic_fetch_sub(&turn->refs, 1) != 1)
		return;
	bmi_turn_release(turn);
	pthread_mutex_destroy(&turn->lock);
	bmi_str_fini(&turn->text);
	free(turn->why);
	free(turn->logits);
	free(turn->ids);
	free(turn->prompt);
	free(turn);
}

void bmi_turn_append(struct bmi_turn *turn, const char *bytes, size_t n)
{
	pthread_mutex_lock(&turn->lock);
	bmi_str_put(&turn->text, bytes, n);
	pthread_mutex_unlock(&turn->lock);
}

void bmi_turn_set_logits(struct bmi_turn *turn, const float *logits, size_t n)
{
	float *copy = malloc(n * sizeof(*copy));

	if (copy)
		memcpy(copy, logits, n * sizeof(*copy));
	pthread_mutex_lock(&turn->lock);
	turn->logits = copy;
	turn->n_logits = copy ? n : 0;
	turn->prompt_done = true;
	pthread_mutex_unlock(&turn->lock);
}

void bmi_turn_end(struct bmi_turn *turn, int code, const char *why)
{
	pthread_mutex_lock(&turn->lock);
	if (!turn->done) {
		if (code == 0 && !bmi_str_ok(&turn->text)) {
			code = -ENOMEM;
			why = "no memory for the answer's text";
		}
		turn->done = turn->prompt_done = true;
		turn->code = code;
		turn->why = why ? strdup(why) : NULL;
	}
	pthread_mutex_unlock(&turn->lock);
}

void bmi_turn_info(struct bmi_turn *turn, struct bmi_turn_info *ret)
{
	pthread_mutex_lock(&turn->lock);
	*ret = (struct bmi_turn_info){ turn->text.n, turn->done, turn->code, turn->prompt_done };
	pthread_mutex_unlock(&turn->lock);
}

size_t bmi_turn_read(struct bmi_turn *turn, uint64_t off, void *buf, size_t size)
{
	size_t n = 0;

	pthread_mutex_lock(&turn->lock);
	if (off < turn->text.n) {
		n = turn->text.n - off < size ? (size_t)(turn->text.n - off) : size;
		memcpy(buf, turn->text.bytes + off, n);
	}
	pthread_mutex_unlock(&turn->lock);
	return n;
}

void bmi_turn_error(struct bmi_turn *turn, struct bmi_error *ret)
{
	pthread_mutex_lock(&turn->lock);
	if (turn->code)
		bmi_fail(ret, turn->code, "%s", turn->why ? turn->why : strerror(-turn->code));
	else
		*ret = (struct bmi_error){ 0 };
	pthread_mutex_unlock(&turn->lock);
}

int bmi_turn_logits(struct bmi_turn *turn, const float **ret, size_t *ret_n)
{
	int r = 0;

	pthread_mutex_lock(&turn->lock);
	if (!turn->prompt_done) {
		r = -EAGAIN;
	} else {
		*ret = turn->logits; /* set once, before prompt_done */
		*ret_n = turn->n_logits;
	}
	pthread_mutex_unlock(&turn->lock);
	return r;
}

unsigned bmi_turn_add_reader(struct bmi_turn *turn)
{
	return atomic_fetch_add(&turn->readers, 1) + 1;
}

unsigned bmi_turn_drop_reader(struct bmi_turn *turn)
{
	return atomic_fetch_sub(&turn->readers, 1) - 1;
}

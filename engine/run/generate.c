/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way from logits to the text of one turn: the draw, end of sequence, stop strings, the streaming
 * detokenizer. Invariant: what was appended to a turn's text is final; text that may still turn out to be part of a stop
 * string, or half a character, is held back.
 */
#include "run/engine_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* The decoder has read the prompt: what it says of the answer is then the continuation, with its leading space. */
static int start_detok(struct bmi_turn *turn, struct bmi_error *err)
{
	bmi_auto_str said = { 0 };
	int r = 0;

	turn->detok = bmi_detok_new(turn->eng->tok, /* skip_special= */ true);
	if (!turn->detok)
		return bmi_fail(err, -ENOMEM, "no memory for a decoder");
	for (uint32_t i = 0; i < turn->n_prompt && r == 0; i++) {
		said.n = 0;
		r = bmi_detok_push(turn->detok, turn->ids[i], &said);
	}
	return r < 0 ? bmi_fail(err, r, "the prompt's ids cannot be decoded") : 0;
}

int bmi_turn_begin(struct bmi_turn *turn, struct bmi_error *err)
{
	int r = turn->params.template != BMI_TEMPLATE_IDS ? start_detok(turn, err) : 0;

	bmi_rng_init(&turn->rng, turn->seed);
	return r < 0 ? r : bmi_seq_new(turn->eng->kv, &turn->seq, err);
}

void bmi_turn_release(struct bmi_turn *turn)
{
	bmi_seq_free(turn->seq);
	turn->seq = NULL;
	bmi_detok_free(turn->detok);
	turn->detok = NULL;
	bmi_str_fini(&turn->held);
}

/* Bytes at the end of @text that are a proper prefix of some stop string. */
static size_t partial_stop(const struct bmi_params *p, const char *text, size_t n)
{
	size_t longest = 0;

	for (uint32_t i = 0; i < p->n_stops; i++) {
		size_t k = p->stop[i].n - 1u < n ? p->stop[i].n - 1u : n;

		for (; k > longest; k--)
			if (memcmp(text + n - k, p->stop[i].bytes, k) == 0)
				longest = k;
	}
	return longest;
}

/* Where the first stop string begins in @text; n when there is none. */
static size_t find_stop(const struct bmi_params *p, const char *text, size_t n)
{
	size_t first = n;

	for (uint32_t i = 0; i < p->n_stops; i++) {
		const char *at = memmem(text, first, p->stop[i].bytes, p->stop[i].n);

		if (!at)
			at = memmem(text, n, p->stop[i].bytes, p->stop[i].n);
		if (at && (size_t)(at - text) < first)
			first = (size_t)(at - text);
	}
	return first;
}

/* Pass held text on. @final: nothing can follow. Return: 0 a stop string came and the rest is dropped, 1 go on. */
static int let_go(struct bmi_turn *turn, bool final)
{
	struct bmi_str *held = &turn->held;
	const size_t stop = find_stop(&turn->params, held->bytes, held->n);
	size_t n = stop;

	if (stop == held->n && !final)
		n -= partial_stop(&turn->params, held->bytes, held->n);
	if (n)
		bmi_turn_append(turn, held->bytes, n);
	if (stop < held->n) {
		held->n = 0;
		return 0;
	}
	memmove(held->bytes, held->bytes + n, held->n - n);
	held->n -= n;
	return 1;
}

static int put_text(struct bmi_turn *turn, uint32_t id, struct bmi_error *err)
{
	const int r = bmi_detok_push(turn->detok, id, &turn->held);

	if (r < 0)
		return bmi_fail(err, r, "token %u cannot be decoded", id);
	return turn->held.n ? let_go(turn, /* final= */ false) : 1;
}

static int put_id(struct bmi_turn *turn, uint32_t id)
{
	char word[16];
	const int n = snprintf(word, sizeof(word), turn->n_ids > turn->n_prompt + 1 ? " %u" : "%u", id);

	bmi_turn_append(turn, word, (size_t)n);
	return 1;
}

static bool is_eos(const struct bmi_engine *eng, uint32_t id)
{
	for (uint32_t i = 0; i < eng->n_eos; i++)
		if (eng->eos[i] == id)
			return true;
	return false;
}

/* An answer in chat ends its line, so that `cat output` leaves the prompt of a shell where it belongs. */
static void end_line(struct bmi_turn *turn)
{
	if (turn->params.template == BMI_TEMPLATE_CHAT && turn->text.n &&
	    turn->text.bytes[turn->text.n - 1] != '\n')
		bmi_turn_append(turn, "\n", 1); /* only this thread changes the text */
}

/* What is held back when no more tokens come. */
static int finish_text(struct bmi_turn *turn, const char *how, struct bmi_error *err)
{
	int r = 0;

	turn->finish = how;
	if (turn->params.template == BMI_TEMPLATE_IDS) {
		bmi_turn_append(turn, "\n", 1);
	} else {
		r = bmi_detok_flush(turn->detok, &turn->held);
		if (r < 0)
			return bmi_fail(err, r, "the end of the answer cannot be decoded");
		if (turn->held.n && let_go(turn, /* final= */ true) == 0)
			turn->finish = "stop";
		end_line(turn);
	}
	return r;
}

static int sample(struct bmi_turn *turn, const float *logits, uint32_t *ret_id, struct bmi_error *err)
{
	const struct bmi_params *p = &turn->params;
	const struct bmi_history history = { turn->ids, turn->n_ids, turn->n_prompt };
	const struct bmi_sample_params sp = {
		.temperature = p->temperature,
		.top_k = p->top_k,
		.top_p = p->top_p,
		.min_p = p->min_p,
		.repetition_penalty = p->repetition_penalty,
		.presence_penalty = p->presence_penalty,
		.frequency_penalty = p->frequency_penalty,
	};

	return bmi_sample(turn->eng->sampler, &sp, logits, &history, &turn->rng, ret_id, err);
}

int bmi_turn_take(struct bmi_turn *turn, const float *logits, struct bmi_error *err)
{
	struct bmi_engine *eng = turn->eng;
	uint32_t id;
	int r = sample(turn, logits, &id, err);

	if (r < 0)
		return r;
	turn->t_last_ns = bmi_now_ns();
	if (turn->n_ids == turn->n_prompt)
		turn->t_first_ns = turn->t_last_ns;
	if (!turn->params.ignore_eos && is_eos(eng, id))
		return finish_text(turn, "stop", err);
	if (turn->n_ids == turn->cap_ids)
		return bmi_fail(err, -ENOMEM,
				"no room for a token"); /* cap_ids is the turn's longest length: not reached */
	turn->ids[turn->n_ids++] = id;
	r = turn->params.template == BMI_TEMPLATE_IDS ? put_id(turn, id) : put_text(turn, id, err);
	if (r <= 0) {
		turn->finish = "stop";
		end_line(turn);
		return r;
	}
	if (turn->n_ids == turn->cap_ids)
		return finish_text(turn, "length", err);
	return 1;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the model while it runs: one thread gathers the next rows of all active turns into a pass, and takes one step of a
 * move between two layers. Each pass gives every turn that generates one row, and what is left of PASS_ROWS to prompts,
 * the oldest first. Invariant: a turn in eng->active is first in its session's queue, and only this thread changes it.
 *
 * A dtype move waits for the turns submitted before it, and later ones wait for it: its steps run without a pass between
 * them. Any other move goes on between layers, whoever generates.
 */
#include "run/engine_priv.h"

#include "backend/cpu/cpu.h"

#include <errno.h>
#include <string.h>

/* ---- moves ---- */

/* Put the state of a move into the engine. Lock held. */
static void end_move(struct bmi_engine *eng, int code, const struct bmi_error *why)
{
	bmi_moves_end(eng, code, code < 0 ? why->msg : NULL);
	if (code == -ECANCELED)
		return; /* the map is true, and the model runs where it is */
	eng->failed = code < 0;
	if (code < 0)
		eng->problem = *why;
}

static int fit_kv(struct bmi_engine *eng, enum bmi_dtype dtype, uint64_t budget, struct bmi_error *err)
{
	if (eng->kv && bmi_kv_dtype(eng->kv) == dtype)
		return 0;
	bmi_kv_free(eng->kv);
	eng->kv = NULL;
	return bmi_kv_new(&(struct bmi_kv_options){ .cfg = eng->cfg,
						    .backend = &bmi_backend_cpu,
						    .dev = eng->cpu,
						    .dtype = dtype,
						    .budget_bytes = budget },
			  &eng->kv, err);
}

/* A newer target, if there is one: supersedes what runs. Lock held on entry and return, not while residency is asked. */
static void begin_move(struct bmi_engine *eng)
{
	struct moves *m = &eng->moves;
	const size_t n = eng->skel->n_tensors;
	bmi_device *target;
	enum bmi_dtype dtype;
	struct bmi_error err = { 0 };
	struct bmi_residency_state now;
	uint64_t kv_bytes;
	int r;

	if (m->active)
		bmi_residency_move_cancel(eng->res);
	m->active = m->wanted;
	dtype = eng->req.dtype;
	kv_bytes = eng->req.split.kv_bytes;
	target = malloc(n * sizeof(*target));
	if (target)
		memcpy(target, eng->req.plan->tensor_device, n * sizeof(*target));
	pthread_mutex_unlock(&eng->lock);

	bmi_residency_state(eng->res, &now);
	r = target ? bmi_residency_move_begin(eng->res, target, dtype, &err)
		   : bmi_fail(&err, -ENOMEM, "no memory for a move");
	if (r == 0) {
		r = fit_kv(eng, dtype, kv_bytes, &err);
		if (r < 0)
			bmi_residency_move_cancel(eng->res);
	}
	free(target);

	pthread_mutex_lock(&eng->lock);
	m->active_is_dtype = dtype != now.dtype;
	if (r < 0)
		end_move(eng, r, &err);
	pthread_mutex_unlock(&eng->lock);
	if (r < 0)
		bmi_engine_blame(eng, "device_map.yaml", &err);
	bmi_engine_tell(eng);
	pthread_mutex_lock(&eng->lock);
}

/* One step of the active move. No lock held. Return: 1 more to do, 0 none. */
static int step_move(struct bmi_engine *eng)
{
	struct bmi_error err = { 0 };
	bool cancel;
	int r;

	pthread_mutex_lock(&eng->lock);
	cancel = eng->moves.cancel && !eng->moves.active_is_dtype; /* half a dtype cannot be computed with */
	eng->moves.cancel = false;
	pthread_mutex_unlock(&eng->lock);
	if (cancel) {
		bmi_residency_move_cancel(eng->res);
		r = bmi_fail(&err, -ECANCELED,
			     "the move was cancelled at a layer boundary; hf_device_map says what is where");
	} else {
		r = bmi_residency_move_step(eng->res, &err);
	}
	if (r <= 0) {
		pthread_mutex_lock(&eng->lock);
		end_move(eng, r, &err);
		pthread_mutex_unlock(&eng->lock);
	}
	if (r < 0)
		bmi_engine_blame(eng, "device_map.yaml", &err);
	bmi_engine_tell(eng);
	return r > 0;
}

/* ---- turns ---- */

static bool is_active(const struct bmi_engine *eng, const struct bmi_turn *turn)
{
	for (uint32_t i = 0; i < eng->n_active; i++)
		if (eng->active[i] == turn)
			return true;
	return false;
}

/* Take a turn out of the active ones and let its readers know. Lock held. */
static void retire(struct bmi_engine *eng, uint32_t i, enum turn_state state, int code, const char *why)
{
	struct bmi_turn *turn = eng->active[i];

	eng->active[i] = eng->active[--eng->n_active];
	bmi_turn_release(turn);
	bmi_session_finish(turn, state, code, why);
	bmi_turn_put(turn);
}

/* Turns that wait and were cancelled, and active ones. Lock held. True: some ended. */
static bool reap_cancelled(struct bmi_engine *eng)
{
	bool some = false;

	for (uint32_t i = eng->n_active; i-- > 0;)
		if (atomic_load(&eng->active[i]->cancel)) {
			retire(eng, i, TURN_CANCELLED, -ECANCELED, "the turn was cancelled");
			some = true;
		}
	for (struct bmi_session *ses = eng->sessions, *next; ses; ses = next) {
		next = ses->next;
		for (struct bmi_turn *turn = ses->queue, *after; turn; turn = after) {
			after = turn->next;
			if (!atomic_load(&turn->cancel) || is_active(eng, turn))
				continue;
			bmi_session_finish(turn, TURN_CANCELLED, -ECANCELED, "the turn was cancelled");
			some = true;
			if (!after) /* the session itself may be gone */
				break;
		}
	}
	return some;
}

/* Whether the keys and values of one more turn fit, beside the longest that the active ones may become. Lock held. */
static bool kv_fits(const struct bmi_engine *eng, const struct bmi_turn *turn)
{
	uint64_t need = bmi_kv_need(eng->cfg, bmi_kv_dtype(eng->kv), turn->cap_ids);

	for (uint32_t i = 0; i < eng->n_active; i++)
		need += bmi_kv_need(eng->cfg, bmi_kv_dtype(eng->kv), eng->active[i]->cap_ids);
	return need <= eng->req.split.kv_bytes || eng->n_active == 0;
}

/* Make a turn active; drops the lock while its prompt is encoded. False: it failed and is finished. */
static bool admit(struct bmi_engine *eng, struct bmi_turn *turn)
{
	struct bmi_error err = { 0 };
	int r = 0;

	bmi_turn_ref(turn);
	eng->active[eng->n_active++] = turn;
	turn->state = TURN_PROMPT;
	turn->t_start_ns = bmi_now_ns();
	pthread_mutex_unlock(&eng->lock);
	if (turn->prompt)
		r = bmi_vocab_encode(eng, turn, &err);
	if (r == 0)
		r = bmi_turn_begin(turn, &err);
	if (r < 0)
		bmi_engine_blame(eng, "output", &err);
	pthread_mutex_lock(&eng->lock);
	if (r < 0)
		retire(eng, eng->n_active - 1, TURN_FAILED, r, err.msg);
	return r == 0;
}

/* A move to another dtype is wanted: turns submitted before it go first, later ones wait for it. Lock held. */
static bool dtype_waits(const struct bmi_engine *eng)
{
	return eng->moves.wanted > eng->moves.ended && eng->kv && eng->req.dtype != bmi_kv_dtype(eng->kv);
}

/* The first turn of a session that has none active, of the session that waits longest. Lock held. */
static struct bmi_turn *next_turn(struct bmi_engine *eng)
{
	struct bmi_turn *best = NULL;

	for (struct bmi_session *ses = eng->sessions; ses; ses = ses->next) {
		struct bmi_turn *turn = ses->queue;

		if (!turn || turn->state != TURN_QUEUED || is_active(eng, turn))
			continue;
		if (turn->prompt && !bmi_vocab_is_decided(eng, &turn->params))
			continue;
		if (dtype_waits(eng) && turn->order > eng->moves.barrier)
			continue;
		if (!best || turn->order < best->order)
			best = turn;
	}
	return best;
}

/* Lock held. True: something changed. */
static bool admit_turns(struct bmi_engine *eng)
{
	bool some = false;

	while (eng->n_active < eng->opt.slots) {
		struct bmi_turn *turn = next_turn(eng);

		if (!turn || (!turn->prompt && !kv_fits(eng, turn)))
			break;
		admit(eng, turn);
		some = true;
	}
	return some;
}

/* The model cannot run: what waits ends with the reason. Lock held. */
static bool fail_turns(struct bmi_engine *eng)
{
	bool some = false;

	while (eng->n_active) {
		retire(eng, eng->n_active - 1, TURN_FAILED, eng->problem.code, eng->problem.msg);
		some = true;
	}
	for (struct bmi_turn *turn; (turn = next_turn(eng));) {
		bmi_session_finish(turn, TURN_FAILED, eng->problem.code, eng->problem.msg);
		some = true;
	}
	return some;
}

/* ---- passes ---- */

/* Between two layers: nothing is lent, so a move may go on; and a pass that nobody wants any more ends here. */
static int between_layers(void *ctx, uint32_t layer)
{
	struct bmi_engine *eng = ctx;
	bool wanted = false, moving;

	for (uint32_t i = 0; i < eng->n_active; i++)
		wanted |= !atomic_load(&eng->active[i]->cancel);
	pthread_mutex_lock(&eng->lock);
	if (eng->stop)
		wanted = false;
	if (eng->moves.wanted > eng->moves.active && eng->moves.wanted > eng->moves.ended && !dtype_waits(eng))
		begin_move(eng);
	moving = eng->moves.active && !eng->moves.active_is_dtype;
	pthread_mutex_unlock(&eng->lock);
	if (moving && wanted)
		step_move(eng);
	return wanted ? 0 : -ECANCELED;
}

/* Rows of the next pass. Return: how many; ret_rows[i] those of active turn i, in the same order. */
static uint32_t gather_rows(struct bmi_engine *eng, uint32_t ret_rows[MAX_SLOTS])
{
	uint32_t n = 0, room = PASS_ROWS - eng->n_active; /* a turn that generates always gets its row */

	for (uint32_t i = 0; i < eng->n_active; i++) {
		struct bmi_turn *turn = eng->active[i];
		const uint32_t todo = turn->n_ids - turn->n_done, extra = todo - 1 < room ? todo - 1 : room;

		ret_rows[i] = 1 + extra;
		room -= extra;
		for (uint32_t k = 0; k < ret_rows[i]; k++, n++) {
			const uint32_t pos = turn->n_done + k;

			eng->rows[n] =
				(struct bmi_row){ turn->seq, turn->ids[pos], pos, pos + 1 == turn->n_ids };
		}
	}
	return n;
}

static int reserve(struct bmi_engine *eng, const uint32_t *n_rows, struct bmi_error *err)
{
	for (uint32_t i = 0; i < eng->n_active; i++) {
		struct bmi_turn *turn = eng->active[i];
		int r = bmi_seq_reserve(turn->seq, turn->n_done + n_rows[i], err);

		if (r < 0)
			return r;
	}
	return 0;
}

/* What a pass gave: the next token of each turn whose rows are all done. Lock held; retires from the end on. */
static void take_tokens(struct bmi_engine *eng, const uint32_t *n_rows, struct bmi_error *first_err)
{
	const size_t vocab = eng->cfg->vocab_size;
	uint32_t out = 0;
	int how[MAX_SLOTS];

	for (uint32_t i = 0; i < eng->n_active; i++) {
		struct bmi_turn *turn = eng->active[i];
		const float *logits = eng->logits + out * vocab;
		struct bmi_error err = { 0 };

		how[i] = 1;
		turn->n_done += n_rows[i];
		if (turn->n_done < turn->n_ids)
			continue;
		out++;
		if (turn->state == TURN_PROMPT)
			bmi_turn_set_logits(turn, logits, vocab);
		turn->state = TURN_GENERATING;
		how[i] = bmi_turn_take(turn, logits, &err);
		if (how[i] < 0 && !first_err->code)
			*first_err = err;
	}
	for (uint32_t i = eng->n_active; i-- > 0;)
		if (how[i] <= 0)
			retire(eng, i, how[i] ? TURN_FAILED : TURN_DONE, how[i],
			       how[i] ? first_err->msg : NULL);
}

/* A pass that failed: its turns end with the reason. One that could not read weights stops the model. Lock held. */
static void fail_pass(struct bmi_engine *eng, int code, const struct bmi_error *err)
{
	while (eng->n_active)
		retire(eng, eng->n_active - 1, TURN_FAILED, code, err->msg);
	if (code == -EIO) {
		eng->failed = true;
		eng->problem = *err;
	}
}

static void run_pass(struct bmi_engine *eng)
{
	uint32_t n_rows[MAX_SLOTS];
	struct bmi_error err = { 0 };
	struct bmi_run_request req = {
		.rows = eng->rows, .logits = eng->logits, .between_layers = between_layers, .ctx = eng
	};
	int r;

	req.n_rows = gather_rows(eng, n_rows);
	r = reserve(eng, n_rows, &err);
	if (r == 0)
		r = bmi_run_pass(eng->runner, &req, &err);

	pthread_mutex_lock(&eng->lock);
	if (r == 0)
		take_tokens(eng, n_rows, &err);
	else if (r != -ECANCELED)
		fail_pass(eng, r, &err);
	pthread_mutex_unlock(&eng->lock);
	if (err.code)
		bmi_engine_blame(eng, "output", &err);
	bmi_engine_tell(eng);
}

/* ---- the thread ---- */

/* Lock held on entry and return. True: a move took the time of this round. */
static bool tend_move(struct bmi_engine *eng)
{
	struct moves *m = &eng->moves;
	const bool pending =
		m->wanted > m->active && m->wanted > m->ended && !(m->active && m->active_is_dtype);

	if (pending && (!dtype_waits(eng) || (eng->n_active == 0 && !next_turn(eng)))) {
		begin_move(eng); /* drops the lock: what was asked for meanwhile is looked at in another round */
		return true;
	}
	/* with turns running, steps are taken between their layers */
	if (!m->active || (eng->n_active && !m->active_is_dtype))
		return false;
	pthread_mutex_unlock(&eng->lock);
	step_move(eng);
	pthread_mutex_lock(&eng->lock);
	return true;
}

/* May turns become active? Lock held. */
static bool is_open(const struct bmi_engine *eng)
{
	return eng->loaded && eng->kv && !(eng->moves.active && eng->moves.active_is_dtype);
}

void *bmi_schedule_main(void *arg)
{
	struct bmi_engine *eng = arg;

	pthread_mutex_lock(&eng->lock);
	while (!eng->stop) {
		bool busy = reap_cancelled(eng);

		if (tend_move(eng))
			continue;
		if (eng->failed && eng->moves.wanted <= eng->moves.ended)
			busy |= fail_turns(eng);
		else if (is_open(eng))
			busy |= admit_turns(eng);
		if (eng->n_active) {
			pthread_mutex_unlock(&eng->lock);
			run_pass(eng);
			pthread_mutex_lock(&eng->lock);
		} else if (busy) {
			pthread_mutex_unlock(&eng->lock);
			bmi_engine_tell(eng);
			pthread_mutex_lock(&eng->lock);
		} else {
			pthread_cond_wait(&eng->wake, &eng->lock);
		}
	}
	while (eng->n_active)
		retire(eng, eng->n_active - 1, TURN_CANCELLED, -ECANCELED, "the file system was unmounted");
	pthread_mutex_unlock(&eng->lock);
	return NULL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the queue of prompts of each conversation. Invariant: a session's queue holds its turns that are not finished, the
 * oldest first; only that one may be active, so turns of one session never run side by side.
 */
#include "run/engine_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>

void bmi_session_init_root(struct bmi_engine *eng)
{
	eng->root.eng = eng;
	eng->sessions = &eng->root;
	bmi_params_init(&eng->root.params, bmi_ckpt_generation_config(eng->ckpt));
	if (!eng->has_tokenizer)
		eng->root.params.template = BMI_TEMPLATE_IDS;
}

struct bmi_session *bmi_engine_root_session(struct bmi_engine *eng)
{
	return &eng->root;
}

int bmi_session_new(struct bmi_engine *eng, struct bmi_session **ret, struct bmi_error *err)
{
	struct bmi_session *ses = calloc(1, sizeof(*ses));

	if (!ses)
		return bmi_fail(err, -ENOMEM, "no memory for a session");
	ses->eng = eng;
	pthread_mutex_lock(&eng->lock);
	ses->params = eng->root.params;
	ses->next = eng->root.next;
	eng->root.next = ses;
	pthread_mutex_unlock(&eng->lock);
	*ret = ses;
	return 0;
}

static void unlink_session(struct bmi_session *ses)
{
	struct bmi_session **p = &ses->eng->sessions;

	while (*p != ses)
		p = &(*p)->next;
	*p = ses->next;
	bmi_turn_put(ses->last);
	free(ses);
}

void bmi_session_close(struct bmi_session *ses)
{
	struct bmi_engine *eng = ses ? ses->eng : NULL;

	if (!ses)
		return;
	bmi_session_cancel(ses);
	pthread_mutex_lock(&eng->lock);
	ses->closed = true; /* the last turn to finish unlinks it */
	if (!ses->queue)
		unlink_session(ses);
	pthread_mutex_unlock(&eng->lock);
}

void bmi_session_finish(struct bmi_turn *turn, enum turn_state state, int code, const char *why)
{
	struct bmi_session *ses = turn->ses;
	struct bmi_turn **p = &ses->queue;

	while (*p != turn)
		p = &(*p)->next;
	*p = turn->next;
	turn->next = NULL;
	turn->ses = NULL;
	turn->state = state;
	if (state == TURN_CANCELLED)
		turn->finish = "cancelled";
	else if (state == TURN_FAILED)
		turn->finish = "error";
	turn->t_last_ns = bmi_now_ns();
	ses->n_queue--;
	bmi_turn_end(turn, code, why);
	bmi_turn_put(turn);
	if (ses->closed && !ses->queue)
		unlink_session(ses);
}

/* -EBUSY when as many turns wait as may; the running one does not count. Lock held. */
static int has_room(const struct bmi_session *ses, struct bmi_error *err)
{
	const uint32_t n_waiting = ses->n_queue ? ses->n_queue - (ses->queue->state != TURN_QUEUED) : 0;

	if (n_waiting < ses->eng->opt.queue_max)
		return 0;
	return bmi_fail(err, -EBUSY, "%u prompts wait already, the most of queue=%u: read output first",
			n_waiting, ses->eng->opt.queue_max);
}

int bmi_session_has_room(struct bmi_session *ses, struct bmi_error *err)
{
	int r;

	pthread_mutex_lock(&ses->eng->lock);
	r = has_room(ses, err);
	pthread_mutex_unlock(&ses->eng->lock);
	return r;
}

/* Lock held. The queue and `last` hold a reference each. */
static void enqueue(struct bmi_session *ses, struct bmi_turn *turn)
{
	struct bmi_turn **p = &ses->queue;

	while (*p)
		p = &(*p)->next;
	*p = bmi_turn_ref(turn);
	ses->n_queue++;
	turn->number = ++ses->n_turns;
	turn->order = ++ses->eng->n_submitted;
	bmi_turn_put(ses->last);
	ses->last = bmi_turn_ref(turn);
}

/* The model cannot answer: why, as an errno that a writer understands. Lock held. */
static int refuse_if_failed(struct bmi_engine *eng, struct bmi_error *err)
{
	const int code = eng->problem.code;

	if (!eng->failed)
		return 0;
	return bmi_fail(err, code == -ENOMEM || code == -EIO ? code : -ENODEV, "%s", eng->problem.msg);
}

static struct bmi_turn *make_turn(struct bmi_session *ses, const char *text, size_t n)
{
	struct bmi_turn *turn = bmi_turn_new(ses->eng, ses);

	if (!turn)
		return NULL;
	turn->prompt = malloc(n + 1);
	if (!turn->prompt) {
		bmi_turn_put(turn);
		return NULL;
	}
	memcpy(turn->prompt, text, n);
	turn->prompt[n] = 0;
	turn->n_prompt_bytes = n;
	turn->params = ses->params;
	if (turn->params.seed >= 0)
		turn->seed = (uint64_t)turn->params.seed;
	else if (getrandom(&turn->seed, sizeof(turn->seed), 0) != sizeof(turn->seed))
		turn->seed = bmi_now_ns();
	turn->seed &= UINT64_MAX >> 2; /* what params/seed accepts, so that a turn can be had again */
	return turn;
}

int bmi_session_submit(struct bmi_session *ses, const char *text, size_t n, struct bmi_turn **ret_turn,
		       struct bmi_error *err)
{
	struct bmi_engine *eng = ses->eng;
	struct bmi_error why = { 0 };
	struct bmi_turn *turn;
	bool encode_now;
	int r;

	pthread_mutex_lock(&eng->lock);
	r = refuse_if_failed(eng, err);
	if (r == 0)
		r = has_room(ses, err);
	turn = r == 0 ? make_turn(ses, text, n) : NULL;
	encode_now = turn && bmi_vocab_is_decided(eng, &turn->params);
	pthread_mutex_unlock(&eng->lock);
	if (r < 0)
		return r;
	if (!turn)
		return bmi_fail(err, -ENOMEM, "no memory for a prompt of %zu bytes", n);
	if (encode_now)
		r = bmi_vocab_encode(eng, turn, &why);

	pthread_mutex_lock(&eng->lock);
	enqueue(ses, turn);
	if (r < 0)
		bmi_session_finish(turn, TURN_FAILED, r, why.msg);
	pthread_cond_signal(&eng->wake);
	pthread_mutex_unlock(&eng->lock);
	bmi_engine_tell(eng);
	if (r < 0)
		bmi_fail(err, r, "%s", why.msg);
	if (ret_turn)
		*ret_turn = turn;
	else
		bmi_turn_put(turn);
	return r;
}

struct bmi_turn *bmi_session_last_turn(struct bmi_session *ses)
{
	struct bmi_turn *turn;

	pthread_mutex_lock(&ses->eng->lock);
	turn = ses->last ? bmi_turn_ref(ses->last) : NULL;
	pthread_mutex_unlock(&ses->eng->lock);
	return turn;
}

void bmi_session_cancel(struct bmi_session *ses)
{
	pthread_mutex_lock(&ses->eng->lock);
	for (struct bmi_turn *turn = ses->queue; turn; turn = turn->next)
		atomic_store(&turn->cancel, true);
	pthread_cond_signal(&ses->eng->wake);
	pthread_mutex_unlock(&ses->eng->lock);
}

void bmi_turn_cancel(struct bmi_turn *turn)
{
	struct bmi_turn_info info;

	atomic_store(&turn->cancel, true);
	bmi_turn_info(turn, &info);
	if (info.done) /* the engine may be gone */
		return;
	pthread_mutex_lock(&turn->eng->lock);
	pthread_cond_signal(&turn->eng->wake);
	pthread_mutex_unlock(&turn->eng->lock);
}

const char *bmi_param_name(unsigned i)
{
	return bmi_params_name(i);
}

int bmi_session_set_param(struct bmi_session *ses, const char *name, const char *text, size_t n,
			  struct bmi_error *err)
{
	struct bmi_params p;
	int r;

	pthread_mutex_lock(&ses->eng->lock);
	p = ses->params;
	r = bmi_params_set(&p, name, text, n, err);
	if (r == 0 && p.template != BMI_TEMPLATE_IDS && !ses->eng->has_tokenizer)
		r = bmi_fail(err, -EOPNOTSUPP,
			     "template: the model directory has no tokenizer, only ids can be used");
	if (r == 0 && p.template == BMI_TEMPLATE_CHAT && ses->eng->tok_ready && !ses->eng->chat)
		r = bmi_fail(err, -EOPNOTSUPP, "template: %s", ses->eng->chat_problem.msg);
	if (r == 0)
		ses->params = p;
	pthread_mutex_unlock(&ses->eng->lock);
	return r;
}

int bmi_session_get_param(struct bmi_session *ses, const char *name, struct bmi_str *ret)
{
	struct bmi_params p;

	pthread_mutex_lock(&ses->eng->lock);
	p = ses->params;
	pthread_mutex_unlock(&ses->eng->lock);
	return bmi_params_get(&p, name, ret);
}

static const char *const turn_states[] = { "queued", "prompt", "generating", "done", "failed", "cancelled" };

static void print_turn(struct bmi_turn *turn, struct bmi_str *ret)
{
	const uint32_t n_gen = turn->n_ids - turn->n_prompt;
	const uint64_t until = turn->t_last_ns, from = turn->t_first_ns;
	struct bmi_error why;

	bmi_str_printf(ret, "turn: %" PRIu64 "\n", turn->number);
	bmi_str_printf(ret, "prompt_tokens: %u/%u\n",
		       turn->n_done < turn->n_prompt ? turn->n_done : turn->n_prompt, turn->n_prompt);
	bmi_str_printf(ret, "tokens: %u\n", n_gen);
	if (n_gen > 1 && until > from)
		bmi_str_printf(ret, "tokens_per_s: %.2f\n", (n_gen - 1) * 1e9 / (double)(until - from));
	if (turn->t_start_ns && from > turn->t_start_ns)
		bmi_str_printf(ret, "prompt_s: %.3f\n", (double)(from - turn->t_start_ns) / 1e9);
	bmi_str_printf(ret, "seed: %" PRIu64 "\n", turn->seed);
	bmi_str_printf(ret, "finish: %s\n", turn->finish[0] ? turn->finish : "none");
	bmi_turn_error(turn, &why);
	bmi_str_printf(ret, "error: %s\n", why.code ? why.msg : "none");
}

void bmi_session_print(struct bmi_session *ses, bool is_root, struct bmi_str *ret)
{
	const char *state = ses->last ? turn_states[ses->last->state] : "idle";

	/* the root's `state` is the engine's */
	bmi_str_printf(ret, "%s: %s\n", is_root ? "turn_state" : "state", state);
	bmi_str_printf(ret, "position: %u\n", ses->n_queue ? ses->n_queue - 1 : 0);
	if (ses->last)
		print_turn(ses->last, ret);
}

int bmi_session_status(struct bmi_session *ses, struct bmi_str *ret)
{
	pthread_mutex_lock(&ses->eng->lock);
	bmi_session_print(ses, /* is_root= */ false, ret);
	pthread_mutex_unlock(&ses->eng->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_ENGINE_PRIV_H
#define BMI_RUN_ENGINE_PRIV_H

#include "bmi.h"

#include "arch/arch.h"
#include "place/place.h"
#include "run/kv.h"
#include "run/params.h"
#include "run/pass.h"
#include "run/rates.h"
#include "run/residency.h"
#include "run/sample.h"
#include "token/token.h"
#include "weights/ckpt.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
	PASS_ROWS = 256, /* rows of one pass: a new prompt stalls the others for one such chunk at most */
	MAX_SLOTS = 64,
	DEFAULT_SLOTS = 4,
	DEFAULT_QUEUE = 16,
	DEFAULT_CTX = 4096,
	MIN_CTX = 64,
	DEFAULT_PROMPT_MAX = 1 << 20,
	BMI_STAGING_BYTES = 32 << 20, /* reads in flight and their converted rows */
};

enum turn_state { TURN_QUEUED, TURN_PROMPT, TURN_GENERATING, TURN_DONE, TURN_FAILED, TURN_CANCELLED };

/*
 * One prompt and its answer. Referenced by its session (queue and `last`), by the scheduler while it is active, and by
 * whoever reads it; readable after the engine is gone.
 */
struct bmi_turn {
	atomic_uint refs, readers;
	atomic_bool cancel;

	pthread_mutex_t lock; /* guards text, held, done, prompt_done, code, why, logits until prompt_done */
	struct bmi_str text;
	bool done, prompt_done;
	int code;
	char *why;     /* the sentence of code; NULL: none */
	float *logits; /* [n_logits] after the last prompt token */
	size_t n_logits;

	/* under eng->lock; prompt, ids, seq, rng, detok and held belong to the scheduler once the turn is active */
	struct bmi_engine *eng;
	struct bmi_session *ses; /* NULL once finished */
	struct bmi_turn *next;   /* in the session's queue */
	uint64_t number;         /* in its session, from 1 */
	uint64_t order;          /* in the engine: who waits longest */
	enum turn_state state;
	const char *finish; /* "stop", "length", "cancelled", "error" */
	struct bmi_params params;
	uint64_t seed; /* the one in use */
	char *prompt;  /* text that waits for the tokenizer; NULL once there are ids */
	size_t n_prompt_bytes;
	uint32_t *ids; /* [cap_ids]: prompt, then what was generated */
	uint32_t n_ids, cap_ids, n_prompt;
	uint32_t n_done; /* of ids whose keys and values are in the cache */
	uint64_t t_start_ns, t_first_ns, t_last_ns;
	struct bmi_seq *seq;
	struct bmi_rng rng;
	struct bmi_detok *detok;
	struct bmi_str held; /* text that may be the start of a stop string */
};

struct bmi_session {
	struct bmi_engine *eng;
	struct bmi_session *next; /* under eng->lock from here on */
	struct bmi_params params;
	struct bmi_turn *queue; /* submitted and not finished, the oldest first: that one may be active */
	struct bmi_turn *last;
	uint32_t n_queue;
	uint64_t n_turns;
	bool closed;
};

/* How the allowed memory is split for one dtype. */
struct split {
	uint64_t fixed_bytes;   /* activations, logits, staging, the process itself */
	uint64_t kv_bytes;      /* keys and values of all sessions */
	uint64_t weights_bytes; /* what is left for weights */
	uint32_t n_ctx;         /* positions of a session */
};

/* What is asked for: the three texts, and what they mean. */
struct request {
	char *text[3]; /* by enum bmi_knob */
	struct bmi_map *map;
	struct bmi_budget budget;
	bool has_budget;
	enum bmi_dtype dtype; /* resolved */
	struct split split;   /* for that dtype */
	struct bmi_plan *plan;
	enum bmi_place_error refusal; /* why it was not accepted */
};

/* The three moves that matter: the last one asked for, the one the scheduler works on, and how the last one ended. */
struct moves {
	uint64_t wanted, active; /* numbers; active 0: none */
	uint64_t ended;
	int ended_code;
	char *ended_why;
	uint64_t barrier; /* turns up to this order were submitted before the last one was asked for */
	bool active_is_dtype;
	bool cancel;
};

struct bmi_engine {
	struct bmi_engine_options opt; /* numbers resolved; strings not kept */
	char *cpu_isa;
	struct bmi_ckpt *ckpt;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	const struct bmi_ckpt_tensor *const *source;
	const char *model_dir;
	bool has_tokenizer;
	uint32_t n_gpus; /* 0; UINT32_MAX while planning for an imaginary machine */
	uint32_t eos[16], n_eos;

	uint64_t allowed_bytes; /* RAM this process may take in all; fixed at open */
	struct bmi_rates rates;

	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool started, stop; /* under lock from here on */
	struct bmi_error problem;
	bool failed;
	bool loaded; /* the first move ended */
	struct request req;
	struct moves moves;
	struct bmi_session *sessions;
	struct bmi_session root;
	struct bmi_turn *active[MAX_SLOTS];
	uint32_t n_active;
	struct bmi_tok *tok;
	bool tok_ready;
	struct bmi_error tok_problem; /* code 0: none */
	struct bmi_chat *chat;        /* NULL: chat_problem says why */
	struct bmi_error chat_problem;
	uint64_t n_submitted; /* turns ever: their order */
	atomic_uint_fast64_t changes;

	pthread_t scheduler, tok_loader;
	bool has_scheduler, has_tok_loader;
	struct bmi_events events;

	/* the scheduler's own */
	struct bmi_dev *cpu;
	struct bmi_residency *res;
	struct bmi_kv *kv;
	struct bmi_runner *runner;
	struct bmi_sampler *sampler;
	float *logits;        /* [slots][vocab_size] */
	struct bmi_row *rows; /* [PASS_ROWS] */
};

/* engine.c */
struct bmi_engine *bmi_engine_alloc(const struct bmi_engine_options *opt, struct bmi_error *err);
/* checkpoint, config and skeleton; @to_run: weights are bound, and an architecture without forward is refused */
int bmi_engine_open_model(struct bmi_engine *eng, const char *path, bool to_run, struct bmi_error *err);
void bmi_engine_tell(struct bmi_engine *eng); /* something changed; no lock held */
void bmi_engine_blame(struct bmi_engine *eng, const char *file, const struct bmi_error *err); /* no lock held */

/* budget.c */
int bmi_budget_allowed(uint64_t *ret_bytes, struct bmi_error *err);
int bmi_budget_split(const struct bmi_engine *eng, enum bmi_dtype dtype, struct split *ret,
		     struct bmi_error *err);

/* knob.c: requests; lock held where it says so */
void bmi_request_fini(struct request *rq);
void bmi_request_budget(const struct bmi_engine *eng, const struct request *rq,
			struct bmi_budget *ret); /* bytes each device may take for weights */
int bmi_request_first(struct bmi_engine *eng, const struct bmi_engine_options *opt, struct bmi_error *err);
/* bmi_engine_set() of a text without a NUL; lock held. The caller tells afterwards. */
int bmi_request_set(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n,
		    uint64_t *ret_move, struct bmi_error *err);
bool bmi_moves_are_running(const struct bmi_engine *eng);              /* lock held */
void bmi_moves_end(struct bmi_engine *eng, int code, const char *why); /* lock held */

/* vocab.c, vocab_gguf.c */
int bmi_vocab_open_gguf(const struct bmi_gguf *g, struct bmi_tok **ret, struct bmi_error *err);
void *bmi_vocab_load(void *eng);
int bmi_vocab_encode(struct bmi_engine *eng, struct bmi_turn *turn,
		     struct bmi_error *err); /* fills ids from prompt */
bool bmi_vocab_is_decided(const struct bmi_engine *eng,
			  const struct bmi_params *p); /* can encode() be called? lock held */
bool bmi_vocab_is_present(const struct bmi_ckpt *ckpt);
void bmi_vocab_find_eos(struct bmi_engine *eng);

/* chat.c */
int bmi_chat_load(struct bmi_engine *eng, const struct bmi_tok *tok, struct bmi_error *err);
int bmi_chat_prompt(const struct bmi_engine *eng, const char *prompt, size_t n, struct bmi_str *ret,
		    struct bmi_error *err);

/* turn.c */
struct bmi_turn *bmi_turn_new(struct bmi_engine *eng, struct bmi_session *ses);
void bmi_turn_append(struct bmi_turn *turn, const char *bytes, size_t n);
void bmi_turn_set_logits(struct bmi_turn *turn, const float *logits, size_t n);
void bmi_turn_end(struct bmi_turn *turn, int code, const char *why); /* readers see it; not the lists */

/* generate.c: one turn's tokens; the scheduler alone calls these. The lock is held by the caller of take. */
int bmi_turn_begin(struct bmi_turn *turn, struct bmi_error *err);
/* the next token from the logits of the last row: 1 go on, 0 finished (turn->finish says how), -errno */
int bmi_turn_take(struct bmi_turn *turn, const float *logits, struct bmi_error *err);
void bmi_turn_release(struct bmi_turn *turn); /* free what an active turn holds; before the KV cache goes */

/* session.c: take a turn off its session's queue and tell readers; lock held */
void bmi_session_finish(struct bmi_turn *turn, enum turn_state state, int code, const char *why);
void bmi_session_init_root(struct bmi_engine *eng);
void bmi_session_print(struct bmi_session *ses, bool is_root, struct bmi_str *ret); /* lock held */

/* schedule.c */
void *bmi_schedule_main(void *eng);

/* placement.c: the picture of a placement, from plain data */
struct bmi_placement_view {
	const struct bmi_skel *skel;
	const bmi_device *tensor_device; /* [n_tensors] */
	struct bmi_map_entry *entries;
	uint32_t n_entries;
	enum bmi_dtype dtype;
	struct bmi_budget budget; /* what each device may take for weights */
	struct split split;
	enum bmi_place_mode mode;
	bool measured; /* the budget's rates were */
};
int bmi_placement_print(const struct bmi_placement_view *view, bool json, struct bmi_str *ret);

/* report.c */
const char *bmi_state_name(enum bmi_state state);
/* where each tensor is: the residency's word, or all on disk before it exists; the caller frees *ret */
int bmi_report_devices(struct bmi_engine *eng, bmi_device **ret);

uint64_t bmi_now_ns(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_FS_FAKE_H
#define BMI_TESTS_FS_FAKE_H

/*
 * An engine that computes nothing, for testing fs/ alone: it answers bmi.h with turns that repeat their prompt word by
 * word and with seven modules that move at a fixed pace. Delays and faults come from the environment, so a test knows
 * what it will see:
 *
 *   BMI_FAKE_TOKEN_MS  time of one word (default 20)
 *   BMI_FAKE_LAYER_MS  time one module takes to move (default 150)
 *   BMI_FAKE_LOAD_MS   time of the first load (default 0)
 *   BMI_FAKE_FAULT     "start": bmi_engine_start() fails; "load": the first load fails
 *
 * An answer to PROMPT is "[BYTES] PROMPT" and a newline (none if params/template is raw). A prompt that starts with
 * "fail" ends with EIO after two words, one of more than 4000 bytes is refused with EMSGSIZE.
 */
#include "bmi.h"

#include <pthread.h>

enum { FAKE_MODULES = 7, FAKE_VOCAB = 1000, FAKE_PROMPT_MAX = 4000, FAKE_GPU_MODULES = 5 };
enum { FAKE_DEVICE_MAX = 8 };

struct bmi_turn {
	struct bmi_turn *queued; /* behind this one */
	struct bmi_session *ses; /* NULL once done */
	struct bmi_engine *eng;
	pthread_mutex_t lock; /* guards all below */
	unsigned n_refs, n_readers;
	struct bmi_str prompt, text;
	bool done, prompt_done, is_cancelled, is_running;
	int code;
	struct bmi_error err;
	float logits[FAKE_VOCAB];
};

struct bmi_session {
	struct bmi_engine *eng;
	struct bmi_session *next;
	struct bmi_turn *last;
	unsigned n_turns;     /* not done */
	unsigned n_submitted; /* ever */
	double temperature;
	unsigned max_tokens, seed;
	bool is_raw;
	char stop[256];
};

typedef char fake_map[FAKE_MODULES][FAKE_DEVICE_MAX];

struct bmi_engine {
	struct bmi_engine_options opt;
	char *model_dir;
	unsigned token_ms, layer_ms, load_ms;
	const char *fault;
	struct bmi_events events;
	pthread_t mover, runners[4];
	unsigned n_runners;
	bool is_started;

	pthread_mutex_t lock; /* guards all below and the sessions; a turn's lock is inside it */
	pthread_cond_t cond;
	bool is_stopping, is_loaded;
	struct bmi_session root;
	struct bmi_session *sessions;
	struct bmi_turn *queue;
	uint64_t n_changes;
	fake_map now, want;
	char dtype[16], want_dtype[16];
	struct bmi_str map_text, memory_text;
	uint64_t last_move;  /* accepted */
	uint64_t ended_move; /* all up to this one have ended */
	int move_code;       /* of ended_move */
	bool cancel_move;
	unsigned n_moved, n_to_move;
	bool has_failed;
	struct bmi_error problem;
};

void fake_sleep_ms(struct bmi_engine *eng, unsigned ms); /* ends early when the engine stops */
void fake_changed(struct bmi_engine *eng);               /* eng->lock not held */
void *fake_run_turns(void *eng);
void *fake_move_layers(void *eng);
int fake_map_parse(const char *text, size_t n, bool complete, fake_map ret, struct bmi_error *err);

#endif

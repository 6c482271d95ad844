/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_RUN_ENGINE_FIXTURE_H
#define BMI_TESTS_RUN_ENGINE_FIXTURE_H

#include "bmi.h"

#include <pthread.h>

/*
 * An engine opened, started and placed, and what Transformers says of its model. Everything fails the running cmocka test;
 * so does waiting for half a minute for an event that does not come.
 */
#define MODEL      TEST_DATA_DIR "/tiny/llama"
#define TIED_MODEL TEST_DATA_DIR "/tiny/llama-tied-bias"

enum { N_GREEDY = 16, VOCAB = 320 };

/* What Transformers says; load_reference() fills them. */
extern char prompt[1024], answer[256];
extern float last_logits[VOCAB];

struct fix {
	struct bmi_engine *eng;
	struct bmi_session *root;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t n_events;
	unsigned n_failed;
	char failed_file[64];
};

void wait_event(struct fix *f, uint64_t seen); /* the next one after @seen of them */
uint64_t events(struct fix *f);

#define WAIT_UNTIL(f, condition)                                          \
	for (uint64_t seen_ = events(f); !(condition); seen_ = events(f)) \
	wait_event(f, seen_)

void open_with(struct fix *f, const struct bmi_engine_options *opt);
void open_default(struct fix *f);
void close_fix(struct fix *f);

bool is_done(struct bmi_turn *turn);
/* the whole answer as a string; the turn's code. Takes the reference. */
int finish(struct fix *f, struct bmi_turn *turn, char *buf, size_t size);
struct bmi_turn *submit(struct bmi_session *ses, const char *text);
void expect_answer(struct fix *f, struct bmi_session *ses);

/* accept a text and wait for its move */
int set(struct fix *f, enum bmi_knob knob, const char *text, struct bmi_error *err);
void expect_report(struct fix *f, enum bmi_report what, const char *want);
bool report_has(struct fix *f, enum bmi_report what, const char *part);

int load_reference(void **state); /* a group's setup */

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_H
#define BMI_H

/*
 * The engine's only door. fs/, examples/ and tests/bench include this and nothing deeper; base/error.h and base/str.h
 * come with it.
 *
 * Objects: an engine is one opened model; a session is one conversation with its parameters; a turn is one prompt and its
 * answer. Functions may be called from any thread and none waits for the model: what takes long is asked for here and
 * told by an event. Exceptions say so.
 *
 * Errors: 0 or a negative errno, and the sentence in err (may be NULL).
 */
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct bmi_engine;
struct bmi_session;
struct bmi_turn;

struct bmi_engine_options {
	const char *model_path; /* a model directory or a .gguf file */
	const char *device_map; /* text as device_map.yaml accepts; NULL: "auto" */
	const char *dtype;      /* as the file dtype accepts; NULL: "auto" */
	const char *max_memory; /* as the file max_memory accepts, or 0=..:cpu=..; NULL: what the machine has */
	uint32_t n_ctx;         /* positions of a session; 0: the model's maximum, at most 4096 */
	uint32_t n_threads;     /* 0: the CPUs this process may use */
	uint32_t queue_max;     /* prompts waiting per session; 0: 16 */
	uint32_t slots;         /* sessions computed together; 0: 4 */
	size_t prompt_max;      /* bytes of one prompt; 0: 1 MiB */
	const char *cpu_isa;    /* NULL: the best; "ref", "avx2", "avx512" */
};

/* What the engine tells. Called from threads of its own, with no lock held; must not block and must not call the engine. */
struct bmi_events {
	void (*changed)(void *ctx); /* some turn has more text or ended, or the state or placement changed */
	/* something failed after it was accepted: @file is the virtual file to blame ("output", "device_map.yaml", "dtype") */
	void (*failed)(void *ctx, const char *file, const struct bmi_error *err);
	void *ctx;
};

/**
 * bmi_engine_open() - open a model: parse and check its headers, plan the placement.
 * Reads no weight and starts no thread, so that the caller may fork afterwards.
 * A placement that is refused is no error here: the engine opens in state `failed` (see bmi_engine_problem()) and waits
 * for a better map. Damage and models that are not run yet are errors.
 *
 * Return: 0, -ENOENT, -ENOTDIR, -EINVAL (damage, bad option), -EOPNOTSUPP (not run yet), -EACCES, -ENOMEM.
 */
int bmi_engine_open(const struct bmi_engine_options *opt, struct bmi_engine **ret, struct bmi_error *err);

/** bmi_engine_start() - start the threads; weights load in the background. Once. @events is copied. */
int bmi_engine_start(struct bmi_engine *eng, const struct bmi_events *events, struct bmi_error *err);

/**
 * bmi_engine_close() - stop everything, cancel all turns, wait for the threads, free. NULL is a no-op.
 * Turns that are still referenced stay readable.
 */
void bmi_engine_close(struct bmi_engine *eng);

/** bmi_engine_problem() - true and the sentence when the engine is in state `failed`. */
bool bmi_engine_problem(struct bmi_engine *eng, struct bmi_error *ret);

/** bmi_engine_model_dir() - absolute path of the model directory. Lent. */
const char *bmi_engine_model_dir(const struct bmi_engine *eng);

enum bmi_state {
	BMI_STATE_LOADING,
	BMI_STATE_READY,
	BMI_STATE_PLACING,
	BMI_STATE_UNLOADED,
	BMI_STATE_FAILED
};
enum bmi_state bmi_engine_state(struct bmi_engine *eng);

/* The texts of root files. HF_DEVICE_MAP is what is true now; DEVICE_MAP, DTYPE and MAX_MEMORY what was last accepted. */
enum bmi_report {
	BMI_REPORT_HF_DEVICE_MAP,
	BMI_REPORT_PLACEMENT,
	BMI_REPORT_PLACEMENT_JSON,
	BMI_REPORT_STATUS, /* the engine's lines, then those of the root session */
	BMI_REPORT_DEVICE_MAP,
	BMI_REPORT_DTYPE,
	BMI_REPORT_MAX_MEMORY,
};
/** bmi_engine_report() - append a report to @ret. Always answered at once. Return: 0, -ENOMEM. */
int bmi_engine_report(struct bmi_engine *eng, enum bmi_report what, struct bmi_str *ret);

/** bmi_engine_changes() - a number that grows whenever `status` would read differently: for poll. */
uint64_t bmi_engine_changes(struct bmi_engine *eng);

/* What can be written to re-place the model. */
enum bmi_knob { BMI_KNOB_DEVICE_MAP, BMI_KNOB_DTYPE, BMI_KNOB_MAX_MEMORY };

/**
 * bmi_engine_check() - could this text still become an accepted one? For write().
 * @complete: false: a text still being written: only its complete lines are judged.
 * Return: 0, -EINVAL, -ENODEV (no such GPU), -EOPNOTSUPP (dtype).
 */
int bmi_engine_check(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, bool complete,
		     struct bmi_error *err);

/**
 * bmi_engine_set() - accept a text: plan, and if the plan is good begin to move. For close(), fsync(), rename().
 * @ret_move: names the move; ask bmi_engine_move() about it. A refusal changes nothing.
 * A set during a move supersedes it: the earlier move ends with 0 as if done, the later one goes on from where things are.
 * Return: 0, -EINVAL, -ENODEV, -EOPNOTSUPP, -ENOMEM (does not fit, with the numbers).
 */
int bmi_engine_set(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err);

/** bmi_engine_move() - how a move stands: -EAGAIN while it runs, 0 done, else how it failed. Moves long over are 0. */
int bmi_engine_move(struct bmi_engine *eng, uint64_t move, struct bmi_error *err);

/** bmi_engine_is_moving() - is any move running (the first load counts)? */
bool bmi_engine_is_moving(struct bmi_engine *eng);

/** bmi_engine_cancel_move() - stop at the next layer boundary; the move ends with -ECANCELED. */
void bmi_engine_cancel_move(struct bmi_engine *eng);

/* ---- modules: the directories in layers/ ---- */

/**
 * bmi_module_name() - the i-th module that is placed as one: embedding, each layer, norm, head; in the order of the model.
 * Lent; NULL past the end. The list is fixed from bmi_engine_open() on.
 */
const char *bmi_module_name(struct bmi_engine *eng, unsigned i);

/* What is told of one. DEVICE is where it is now (several words while it is in several places), the sizes are as placed. */
enum bmi_module_fact { BMI_MODULE_DEVICE, BMI_MODULE_DTYPE, BMI_MODULE_BYTES, BMI_MODULE_TENSORS };

/** bmi_module_report() - append one fact, with its newline. Always answered at once. Return: 0, -ENOENT, -ENOMEM. */
int bmi_module_report(struct bmi_engine *eng, const char *module, enum bmi_module_fact what,
		      struct bmi_str *ret);

/**
 * bmi_module_check() - is @text one device that is there? As bmi_engine_check(); a text without a newline may go on and is
 * judged only if @complete. Return: 0, -EINVAL, -ENODEV, -ENOENT, -ENOMEM.
 */
int bmi_module_check(struct bmi_engine *eng, const char *module, const char *text, size_t n, bool complete,
		     struct bmi_error *err);

/**
 * bmi_module_set() - move one module: the map in force becomes lines that say where everything is, with this one elsewhere,
 * and is accepted or refused as bmi_engine_set() does it. A tensor with two names moves under both.
 */
int bmi_module_set(struct bmi_engine *eng, const char *module, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err);

/* ---- sessions ---- */

/** bmi_engine_root_session() - the session of the root files. Lent; lives as long as the engine. */
struct bmi_session *bmi_engine_root_session(struct bmi_engine *eng);

/** bmi_session_new() - another conversation, with a copy of the root's parameters. Closed with bmi_session_close(). */
int bmi_session_new(struct bmi_engine *eng, struct bmi_session **ret, struct bmi_error *err);
/** bmi_session_close() - cancels its turns; NULL is a no-op. */
void bmi_session_close(struct bmi_session *ses);

/** bmi_session_has_room() - may another prompt be submitted now? For the first write(). Return: 0 or -EBUSY. */
int bmi_session_has_room(struct bmi_session *ses, struct bmi_error *err);

/**
 * bmi_session_submit() - a prompt: @n bytes as written, without the one newline at the end that the caller removed.
 * @ret_turn: a reference for the caller (bmi_turn_put), may be NULL.
 * A prompt that is refused with -EMSGSIZE (does not fit the context) or -EILSEQ (NUL byte or bad UTF-8, or not ids in
 * template ids) still becomes the session's last turn, failed with that error, so that a reader of `output` sees it too.
 *
 * Return: 0, -EBUSY (queue full), -EMSGSIZE, -EILSEQ, -EINVAL (ids out of range), -ENODEV/-EIO (model failed to load), -ENOMEM.
 */
int bmi_session_submit(struct bmi_session *ses, const char *text, size_t n, struct bmi_turn **ret_turn,
		       struct bmi_error *err);

/** bmi_session_last_turn() - the turn submitted last, a reference for the caller; NULL when there is none yet. */
struct bmi_turn *bmi_session_last_turn(struct bmi_session *ses);

/** bmi_session_cancel() - cancel all turns of a session, running and waiting. */
void bmi_session_cancel(struct bmi_session *ses);

/** bmi_session_status() - its `status` lines appended to @ret. */
int bmi_session_status(struct bmi_session *ses, struct bmi_str *ret);

/* ---- parameters: the files in params/ ---- */

/** bmi_param_name() - the i-th parameter's name, NULL past the end. */
const char *bmi_param_name(unsigned i);

/**
 * bmi_session_set_param() - check and apply a value; later turns use it.
 * @text: one value, white space around it ignored (not for `stop`: one string a line with C escapes; empty: none).
 * Return: 0, -EINVAL (no number, unknown word), -ERANGE (with the range), -ENOENT (no such parameter), -ENOMEM.
 */
int bmi_session_set_param(struct bmi_session *ses, const char *name, const char *text, size_t n,
			  struct bmi_error *err);

/** bmi_session_get_param() - append the value and a newline. */
int bmi_session_get_param(struct bmi_session *ses, const char *name, struct bmi_str *ret);

/* ---- turns: reference counted ---- */

struct bmi_turn *bmi_turn_ref(struct bmi_turn *turn);
void bmi_turn_put(struct bmi_turn *turn); /* NULL is a no-op */

struct bmi_turn_info {
	uint64_t n_bytes; /* of text there so far; grows until done */
	bool done;        /* no more text will come: complete, failed or cancelled */
	int code; /* when done: 0, or -errno (-ECANCELED, -EIO, -EMSGSIZE, ...) that comes after the text */
	bool prompt_done; /* the prompt was processed: logits are there (or the turn is done) */
};
void bmi_turn_info(struct bmi_turn *turn, struct bmi_turn_info *ret);

/** bmi_turn_read() - copy text from @off on. Return: bytes copied, 0 when there is none past @off now (see info). */
size_t bmi_turn_read(struct bmi_turn *turn, uint64_t off, void *buf, size_t size);

/** bmi_turn_error() - the sentence of a failed turn. */
void bmi_turn_error(struct bmi_turn *turn, struct bmi_error *ret);

/** bmi_turn_cancel() - end it; takes effect within one layer. Done turns stay as they are. */
void bmi_turn_cancel(struct bmi_turn *turn);

/**
 * bmi_turn_logits() - float32[vocab] after the last prompt token, lent until the turn is put.
 * Return: 0 (with *ret_n = 0 when the prompt failed), -EAGAIN while the prompt is being processed.
 */
int bmi_turn_logits(struct bmi_turn *turn, const float **ret, size_t *ret_n);

/* Readers of a turn: the count lets the last interrupted reader's close() cancel it. Return: readers now. */
unsigned bmi_turn_add_reader(struct bmi_turn *turn);
unsigned bmi_turn_drop_reader(struct bmi_turn *turn);

/* ---- planning without mounting ---- */

/** bmi_plan_report() - what mount.bmifs --plan prints: the placement of @opt, as text or JSON. 0 or what refused it. */
int bmi_plan_report(const struct bmi_engine_options *opt, bool json, struct bmi_str *ret,
		    struct bmi_error *err);

/**
 * bmi_measure() - how fast this machine reads weights from RAM and from the disk that @model_path is on; takes a second or
 * two. What is measured is kept in a file of the user's cache directory and used by later plans. @ret: what it found, as text.
 */
int bmi_measure(const char *model_path, struct bmi_str *ret, struct bmi_error *err);

/** bmi_version() - "0.1.0". */
const char *bmi_version(void);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What fails while layers move and a turn generates, through the engine's door: at one point after the other a read fails,
 * ends early or is short, or memory runs out, on the engine's own threads (the linker's --wrap; the test's thread is spared).
 * Afterwards: no token is wrong, hf_device_map is what is resident, the engine serves on or is failed with a sentence, and
 * a better map works.
 */
#include "bmi.h"

#include "backend/disk/disk.h"
#include "base/file.h"
#include "base/json.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#define MODEL TEST_DATA_DIR "/tiny/llama"

enum { N_REFERENCE = 16, N_POINTS = 160 };

/* ---- failures on demand ---- */

enum fault {
	NO_FAULT,
	WAIT_EIO,  /* a read of a layer that is not in the page cache */
	READ_EIO,  /* pread(2): rows of the embedding, and what the page cache has */
	READ_ENDS, /* pread(2): the file ends here */
	READ_SHORT, /* pread(2): fewer bytes than asked for, as signals and some file systems do: no failure at all */
	NO_ALIGNED, /* aligned_alloc(3): buffers of tensors, keys and values */
	NO_PAGES,   /* mmap(2): staging and large buffers */
	NO_HEAP,    /* malloc(3), calloc(3) */
};

static atomic_int fault, calls_left; /* the call that makes it 0 fails */
static atomic_bool none_cached;
static _Thread_local bool is_tester;

int __real_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err);
int __wrap_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err);
bool __real_bmi_disk_is_cached(const struct bmi_extent *ext);
bool __wrap_bmi_disk_is_cached(const struct bmi_extent *ext);
ssize_t __real_pread64(int fd, void *buf, size_t n, off_t off);
ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off);
void *__real_aligned_alloc(size_t align, size_t n);
void *__wrap_aligned_alloc(size_t align, size_t n);
void *__real_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off);
void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off);
void *__real_malloc(size_t n);
void *__wrap_malloc(size_t n);
void *__real_calloc(size_t n, size_t size);
void *__wrap_calloc(size_t n, size_t size);

static bool is_time(enum fault kind)
{
	return !is_tester && atomic_load(&fault) == (int)kind && atomic_fetch_sub(&calls_left, 1) == 1;
}

int __wrap_bmi_disk_wait(struct bmi_disk *disk, uint32_t slot, const void **ret, struct bmi_error *err)
{
	const int r = __real_bmi_disk_wait(disk, slot, ret, err);

	return is_time(WAIT_EIO) ? bmi_fail(err, -EIO, "the device failed") : r;
}

bool __wrap_bmi_disk_is_cached(const struct bmi_extent *ext)
{
	return !atomic_load(&none_cached) && __real_bmi_disk_is_cached(ext);
}

ssize_t __wrap_pread64(int fd, void *buf, size_t n, off_t off)
{
	if (is_time(READ_EIO)) {
		errno = EIO;
		return -1;
	}
	if (is_time(READ_ENDS))
		return 0;
	return __real_pread64(fd, buf, is_time(READ_SHORT) ? (n + 1) / 2 : n, off);
}

void *__wrap_aligned_alloc(size_t align, size_t n)
{
	return is_time(NO_ALIGNED) ? NULL : __real_aligned_alloc(align, n);
}

void *__wrap_mmap64(void *addr, size_t n, int prot, int flags, int fd, off_t off)
{
	if (is_time(NO_PAGES)) {
		errno = ENOMEM;
		return MAP_FAILED;
	}
	return __real_mmap64(addr, n, prot, flags, fd, off);
}

void *__wrap_malloc(size_t n)
{
	return is_time(NO_HEAP) ? NULL : __real_malloc(n);
}

void *__wrap_calloc(size_t n, size_t size)
{
	return is_time(NO_HEAP) ? NULL : __real_calloc(n, size);
}

static void arm(enum fault kind, int at)
{
	atomic_store(&calls_left, at);
	atomic_store(&fault, kind);
}

/* Return: did it strike? */
static bool disarm(void)
{
	atomic_store(&fault, NO_FAULT);
	return atomic_load(&calls_left) <= 0;
}

/* ---- the engine ---- */

static const char *const modules[] = { "model.embed_tokens", "model.layers.0", "model.layers.1",
				       "model.layers.2",     "model.norm",     "lm_head" };
enum { N_MODULES = sizeof(modules) / sizeof(modules[0]) };

static char prompt[1024], reference[256]; /* the first ids, by Transformers */
static char want[8192];                   /* the whole answer, undisturbed; begins with the reference's */

struct fix {
	struct bmi_engine *eng;
	struct bmi_session *root;
	pthread_mutex_t lock;
	pthread_cond_t cond;
	uint64_t n_events;
	unsigned n_failed;            /* under lock, like n_events */
	uint64_t bytes[2][N_MODULES]; /* resident, in float32 and in bfloat16 */
};

static void on_changed(void *ctx)
{
	const struct timespec a_while = { 0, 100000 };
	struct fix *f = ctx;

	if (atomic_load(&fault) != NO_FAULT)
		nanosleep(&a_while, NULL); /* so that the answer is not over before the moves are */
	pthread_mutex_lock(&f->lock);
	f->n_events++;
	pthread_cond_broadcast(&f->cond);
	pthread_mutex_unlock(&f->lock);
}

static void on_failed(void *ctx, const char *file, const struct bmi_error *err)
{
	struct fix *f = ctx;

	pthread_mutex_lock(&f->lock);
	f->n_failed += err->msg[0] != 0 && file[0] != 0;
	pthread_mutex_unlock(&f->lock);
}

/* Half a minute without an event is a failure. */
static void wait_event(struct fix *f, uint64_t seen)
{
	struct timespec until;
	bool came;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 30;
	pthread_mutex_lock(&f->lock);
	while (f->n_events == seen && pthread_cond_timedwait(&f->cond, &f->lock, &until) == 0)
		continue;
	came = f->n_events != seen;
	pthread_mutex_unlock(&f->lock);
	if (!came)
		fail_msg("nothing happened for 30 s");
}

static uint64_t events(struct fix *f)
{
	uint64_t n;

	pthread_mutex_lock(&f->lock);
	n = f->n_events;
	pthread_mutex_unlock(&f->lock);
	return n;
}

#define WAIT_UNTIL(f, condition)                                          \
	for (uint64_t seen_ = events(f); !(condition); seen_ = events(f)) \
	wait_event(f, seen_)

static int set(struct fix *f, enum bmi_knob knob, const char *text, struct bmi_error *err)
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

static bool is_done(struct bmi_turn *turn)
{
	struct bmi_turn_info info;

	bmi_turn_info(turn, &info);
	return info.done;
}

/* Wait for the end; how it ended. Takes the reference. */
static int finish(struct fix *f, struct bmi_turn *turn, char buf[8192])
{
	struct bmi_turn_info info;
	struct bmi_error err = { 0 };

	WAIT_UNTIL(f, is_done(turn));
	bmi_turn_info(turn, &info);
	buf[bmi_turn_read(turn, 0, buf, 8191)] = 0;
	if (info.code) {
		bmi_turn_error(turn, &err);
		assert_true(err.msg[0]);
	}
	bmi_turn_put(turn);
	return info.code;
}

static struct bmi_turn *submit(struct fix *f)
{
	struct bmi_error err = { 0 };
	struct bmi_turn *turn = NULL;

	if (bmi_session_submit(f->root, prompt, strlen(prompt), &turn, &err) < 0)
		fail_msg("%s", err.msg);
	return turn;
}

static uint64_t resident(struct fix *f)
{
	static const char key[] = "loaded_bytes_cpu: ";
	struct bmi_str s = { 0 };
	const char *at;
	uint64_t n;

	assert_int_equal(bmi_engine_report(f->eng, BMI_REPORT_STATUS, &s), 0);
	at = strstr(s.bytes, key);
	assert_non_null(at);
	n = strtoull(at + sizeof(key) - 1, NULL, 10);
	bmi_str_fini(&s);
	return n;
}

/* What hf_device_map says of a module: its own line, or that of the longest name above it. */
static bool is_on_cpu(const struct bmi_json *map, const char *module)
{
	const struct bmi_json *best = NULL;

	for (const struct bmi_json *e = map->child; e; e = e->next) {
		const bool covers = !e->n_key || (!strncmp(e->key, module, e->n_key) &&
						  (!module[e->n_key] || module[e->n_key] == '.'));

		if (covers && (!best || e->n_key > best->n_key))
			best = e;
	}
	assert_non_null(best);
	return best->n == 3 && !memcmp(best->str, "cpu", 3);
}

/* The bytes of the modules that the map has on the CPU are those that are resident. */
static void assert_true_map(struct fix *f)
{
	struct bmi_str s = { 0 };
	struct bmi_json_doc *doc;
	uint64_t sum[2] = { 0 };

	assert_int_equal(bmi_engine_report(f->eng, BMI_REPORT_HF_DEVICE_MAP, &s), 0);
	assert_int_equal(bmi_json_parse(s.bytes, s.n, &doc, NULL), 0);
	for (unsigned i = 0; i < N_MODULES; i++)
		for (unsigned d = 0; d < 2 && is_on_cpu(bmi_json_root(doc), modules[i]); d++)
			sum[d] += f->bytes[d][i];
	if (resident(f) != sum[0] && resident(f) != sum[1])
		fail_msg("%" PRIu64 " bytes resident, the map says %" PRIu64 " or %" PRIu64 ": %s",
			 resident(f), sum[0], sum[1], s.bytes);
	bmi_json_free(doc);
	bmi_str_fini(&s);
}

/* Each module alone in memory: what it takes. */
static void weigh_modules(struct fix *f)
{
	static const char *const dtypes[] = { "float32", "bfloat16", "float32" };
	struct bmi_error err;
	char text[128];

	for (unsigned d = 0; d < 3; d++) {
		assert_int_equal(set(f, BMI_KNOB_DTYPE, dtypes[d], &err), 0);
		for (unsigned i = 0; i < N_MODULES && d < 2; i++) {
			snprintf(text, sizeof(text), "\"\": disk\n%s: cpu\n", modules[i]);
			if (set(f, BMI_KNOB_DEVICE_MAP, text, &err) < 0)
				fail_msg("%s", err.msg);
			f->bytes[d][i] = resident(f);
			assert_true(f->bytes[d][i] > 0);
		}
	}
	assert_int_equal(set(f, BMI_KNOB_DEVICE_MAP, "cpu", &err), 0);
	assert_true_map(f);
}

static void open_fix(struct fix *f)
{
	const struct bmi_engine_options opt = { .model_path = MODEL, .dtype = "float32", .n_threads = 2 };
	const struct bmi_events ev = { on_changed, on_failed, f };
	struct bmi_error err = { 0 };

	is_tester = true;
	memset(f, 0, sizeof(*f));
	pthread_mutex_init(&f->lock, NULL);
	pthread_cond_init(&f->cond, NULL);
	if (bmi_engine_open(&opt, &f->eng, &err) < 0 || bmi_engine_start(f->eng, &ev, &err) < 0)
		fail_msg("%s", err.msg);
	f->root = bmi_engine_root_session(f->eng);
	assert_int_equal(bmi_session_set_param(f->root, "ignore_eos", "1", 1, &err), 0);
	assert_int_equal(bmi_session_set_param(f->root, "max_tokens", "400", 3, &err), 0);
	WAIT_UNTIL(f, !bmi_engine_is_moving(f->eng));
	weigh_modules(f);
	assert_int_equal(finish(f, submit(f), want), 0);
	assert_memory_equal(want, reference, strlen(reference));
}

static void close_fix(struct fix *f)
{
	bmi_engine_close(f->eng);
	pthread_cond_destroy(&f->cond);
	pthread_mutex_destroy(&f->lock);
}

/* ---- cases ---- */

struct scenario {
	enum fault fault;
	bool cold;        /* nothing counts as in the page cache */
	bool is_harmless; /* nothing may fail */
	int code;         /* what else moves and turns may end with */
	enum bmi_knob knob;
	const char *texts[4]; /* written in turn; the first failure ends it */
};

static void expect_code(const struct scenario *sc, int code, const char *what, int at)
{
	if (code && (sc->is_harmless || (code != sc->code && code != -EIO)))
		fail_msg("%s ended with %d, point %d", what, code, at);
}

/* The engine serves on, or says why it does not. Whatever it was, it can be mended. */
static void expect_mendable(struct fix *f, const struct scenario *sc, int at)
{
	char got[8192];
	struct bmi_error err = { 0 };

	WAIT_UNTIL(f, !bmi_engine_is_moving(f->eng));
	assert_true_map(f);
	if (bmi_engine_problem(f->eng, &err)) {
		assert_int_equal(bmi_engine_state(f->eng), BMI_STATE_FAILED);
		assert_true(err.msg[0]);
		assert_true(f->n_failed > 0);
	} else if (sc->knob == BMI_KNOB_DEVICE_MAP) {
		assert_int_equal(finish(f, submit(f), got), 0);
		assert_string_equal(got, want);
	}
	if (set(f, BMI_KNOB_DTYPE, "float32", &err) < 0 || set(f, BMI_KNOB_DEVICE_MAP, "cpu", &err) < 0)
		fail_msg("point %d: %s", at, err.msg);
	assert_int_equal(bmi_engine_state(f->eng), BMI_STATE_READY);
	assert_true_map(f);
	assert_int_equal(finish(f, submit(f), got), 0);
	assert_string_equal(got, want);
}

#define MIXED "{\"\": \"cpu\", \"model.layers.1\": \"disk\", \"model.embed_tokens\": \"disk\"}"

/* One answer and some moves, with the failure at the @at-th call. Return: did it strike? */
static bool strike(struct fix *f, const struct scenario *sc, int at)
{
	char got[8192];
	struct bmi_turn *turn;
	struct bmi_error err;
	bool struck;
	int r = set(f, BMI_KNOB_DEVICE_MAP, MIXED, &err); /* each token reads its row, and a layer */

	assert_int_equal(r, 0);
	atomic_store(&none_cached, sc->cold);
	turn = submit(f);
	arm(sc->fault, at);
	for (unsigned i = 0; i < 4 && sc->texts[i] && r == 0; i++) {
		r = set(f, sc->knob, sc->texts[i], &err);
		expect_code(sc, r, sc->texts[i], at);
		assert_true(r == 0 || err.msg[0]);
	}
	r = finish(f, turn, got);
	struck = disarm();
	atomic_store(&none_cached, false);
	expect_code(sc, r, "the turn", at);
	if (r == 0)
		assert_string_equal(got, want);
	else if (strncmp(got, want, strcspn(got, "\n")) != 0)
		fail_msg("point %d: a wrong token:\n%s\nwanted\n%s", at, got, want);
	expect_mendable(f, sc, at);
	return struck;
}

static const struct scenario scenarios[] = {
	{ WAIT_EIO, true, false, -EIO, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu" } },
	{ READ_EIO, false, false, -EIO, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu", MIXED } },
	{ READ_ENDS, false, false, -EIO, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu", MIXED } },
	{ READ_SHORT, false, true, 0, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu", MIXED } },
	{ NO_ALIGNED, true, false, -ENOMEM, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu" } },
	{ NO_PAGES, true, false, -ENOMEM, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu" } },
	{ NO_HEAP, false, false, -ENOMEM, BMI_KNOB_DEVICE_MAP, { "disk", MIXED, "cpu" } },
	{ WAIT_EIO, true, false, -EIO, BMI_KNOB_DTYPE, { "bfloat16", "float32" } },
	{ READ_EIO, false, false, -EIO, BMI_KNOB_DTYPE, { "bfloat16", "float32" } },
	{ NO_ALIGNED, true, false, -ENOMEM, BMI_KNOB_DTYPE, { "bfloat16", "float32" } },
	{ NO_HEAP, false, false, -ENOMEM, BMI_KNOB_DTYPE, { "bfloat16", "float32" } },
};

static void test_scenario(void **state)
{
	const struct scenario *sc = *state;
	struct fix f;
	unsigned n = 0, missed = 0;

	open_fix(&f);
	for (int at = 1; at <= N_POINTS && missed < 2;) {
		if (!strike(&f, sc, at)) {
			missed++; /* past the last point, or the answer was over early */
			continue;
		}
		missed = 0;
		n++;
		at += 1 + at / 5;
	}
	assert_true(n > 0);
	print_message("# %u points\n", n);
	close_fix(&f);
}

/* ---- the reference ---- */

static size_t print_ids(const struct bmi_json *list, unsigned n, char *buf, size_t size)
{
	size_t used = 0;

	for (const struct bmi_json *v = list->child; v && n--; v = v->next)
		used += (size_t)snprintf(buf + used, size - used, "%s%.*s", used ? " " : "", (int)v->n, v->str);
	return used;
}

static int load_reference(void **state)
{
	int dir = open(MODEL, O_RDONLY | O_DIRECTORY);
	struct bmi_json_doc *doc;
	struct bmi_error err;
	char *text;
	size_t n;

	is_tester = true;
	if (dir < 0 || bmi_file_read(dir, "expected.json", 1 << 20, &text, &n, &err) < 0)
		return -1;
	close(dir);
	if (bmi_json_parse(text, n, &doc, &err) < 0)
		return -1;
	n = print_ids(bmi_json_get(bmi_json_root(doc), "input_ids"), UINT32_MAX, prompt, sizeof(prompt));
	if (n)
		n = print_ids(bmi_json_get(bmi_json_root(doc), "greedy_ids"), N_REFERENCE, reference,
			      sizeof(reference) - 1);
	strcat(reference, " ");
	bmi_json_free(doc);
	free(text);
	return n ? 0 : -1;
}

int main(void)
{
	static const char *const names[] = { "",
					     "a read of a layer fails",
					     "a read fails",
					     "a file ends early",
					     "a read is short",
					     "no memory for tensors",
					     "no pages",
					     "no memory" };
	enum { N = sizeof(scenarios) / sizeof(scenarios[0]) };
	static char title[N][64];
	struct CMUnitTest tests[N];

	for (unsigned i = 0; i < N; i++) {
		snprintf(title[i], sizeof(title[i]), "%s, %s", names[scenarios[i].fault],
			 scenarios[i].knob == BMI_KNOB_DTYPE ? "the dtype changes" : "layers move");
		tests[i] = (struct CMUnitTest){ .name = title[i],
						.test_func = test_scenario,
						.initial_state = (void *)(uintptr_t)&scenarios[i] };
	}
	return _cmocka_run_group_tests("faults", tests, N, load_reference, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The fake engine's placement: seven modules, devices cpu, disk and cuda:0, the last with room for five. */
#include "fake.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const modules[FAKE_MODULES] = {
	"model.embed_tokens", "model.layers.0", "model.layers.1", "model.layers.2",
	"model.layers.3",     "model.norm",     "lm_head",
};

static bool is_word(const char *line)
{
	return !strcmp(line, "auto") || !strcmp(line, "cpu") || !strcmp(line, "disk") ||
	       !strcmp(line, "cuda:0");
}

static int set_device(fake_map map, const char *prefix, const char *device, struct bmi_error *err)
{
	const size_t n = strlen(prefix);
	unsigned n_hit = 0;

	if (!strcmp(device, "0"))
		device = "cuda:0";
	if (isdigit((unsigned char)*device) || (!strncmp(device, "cuda:", 5) && strcmp(device, "cuda:0")))
		return bmi_fail(err, -ENODEV, "no such device '%s'", device);
	if (strcmp(device, "cpu") && strcmp(device, "disk") && strcmp(device, "cuda:0"))
		return bmi_fail(err, -EINVAL, "unknown device '%s'", device);
	for (unsigned i = 0; i < FAKE_MODULES; i++) {
		if (n && (strncmp(modules[i], prefix, n) || (modules[i][n] && modules[i][n] != '.')))
			continue;
		snprintf(map[i], FAKE_DEVICE_MAX, "%s", device);
		n_hit++;
	}
	return n_hit ? 0 : bmi_fail(err, -EINVAL, "no module '%s'", prefix);
}

/* Take blanks, quotes, braces and commas off both ends. */
static char *trim(char *s)
{
	char *end = s + strlen(s);

	while (*s && strchr(" \t\"{},", *s))
		s++;
	while (end > s && strchr(" \t\"{},\r", end[-1]))
		*--end = 0;
	return s;
}

static int parse_line(char *line, fake_map map, struct bmi_error *err)
{
	char *colon, *device;

	line = trim(line);
	if (!*line || *line == '#')
		return 0;
	if (!strcmp(line, "auto")) {
		for (unsigned i = 0; i < FAKE_MODULES; i++)
			snprintf(map[i], FAKE_DEVICE_MAX, "%s", i < 4 ? "cpu" : "disk");
		return 0;
	}
	if (is_word(line))
		return set_device(map, "", line, err);
	colon = strstr(line, ": ");
	if (!colon)
		return bmi_fail(err, -EINVAL, "'%s' is not 'module: device'", line);
	*colon = 0;
	device = trim(colon + 1);
	return set_device(map, trim(line), device, err);
}

int fake_map_parse(const char *text, size_t n, bool complete, fake_map ret, struct bmi_error *err)
{
	char *copy = strndup(text, n), *line = copy;
	unsigned n_gpu = 0;
	int r = 0;

	memset(ret, 0, sizeof(fake_map));
	while (r == 0 && line && *line) {
		char *end = strchr(line, '\n');

		if (!end && !complete)
			break;
		if (end)
			*end = 0;
		r = parse_line(line, ret, err);
		line = end ? end + 1 : NULL;
	}
	free(copy);
	for (unsigned i = 0; r == 0 && complete && i < FAKE_MODULES; i++) {
		if (!ret[i][0])
			r = bmi_fail(err, -EINVAL, "module '%s' has no device", modules[i]);
		n_gpu += !strcmp(ret[i], "cuda:0");
	}
	if (r == 0 && n_gpu > FAKE_GPU_MODULES)
		r = bmi_fail(err, -ENOMEM, "%u modules do not fit in cuda:0, which holds %d", n_gpu,
			     FAKE_GPU_MODULES);
	return r;
}

static int parse_dtype(const char *text, size_t n, char ret[16], struct bmi_error *err)
{
	static const char *const known[] = { "bfloat16", "float16", "float32" };

	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	if (n == 4 && !memcmp(text, "q8_0", n))
		return bmi_fail(err, -EOPNOTSUPP, "no conversion to 'q8_0'");
	if (n == 4 && !memcmp(text, "auto", n)) {
		strcpy(ret, known[0]);
		return 0;
	}
	for (unsigned i = 0; i < 3; i++) {
		if (n == strlen(known[i]) && !memcmp(text, known[i], n)) {
			strcpy(ret, known[i]);
			return 0;
		}
	}
	return bmi_fail(err, -EINVAL, "unknown dtype '%.*s'", (int)n, text);
}

int bmi_engine_check(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, bool complete,
		     struct bmi_error *err)
{
	char dtype[16];
	fake_map map;

	if (knob == BMI_KNOB_DEVICE_MAP)
		return fake_map_parse(text, n, complete, map, err);
	if (knob == BMI_KNOB_DTYPE)
		return parse_dtype(text, n, dtype, err);
	return memchr(text, '?', n) ? bmi_fail(err, -EINVAL, "'?' is no size") : 0;
}

int bmi_engine_set(struct bmi_engine *eng, enum bmi_knob knob, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err)
{
	struct bmi_str *keep = knob == BMI_KNOB_DEVICE_MAP ? &eng->map_text : &eng->memory_text;
	char dtype[16] = "";
	fake_map map;
	int r;

	if (knob == BMI_KNOB_DEVICE_MAP)
		r = fake_map_parse(text, n, /* complete= */ true, map, err);
	else if (knob == BMI_KNOB_DTYPE)
		r = parse_dtype(text, n, dtype, err);
	else
		r = bmi_engine_check(eng, knob, text, n, /* complete= */ true, err);
	if (r < 0)
		return r;
	pthread_mutex_lock(&eng->lock);
	if (knob == BMI_KNOB_DEVICE_MAP)
		memcpy(eng->want, map, sizeof(map));
	if (knob == BMI_KNOB_DTYPE) {
		strcpy(eng->want_dtype, dtype);
	} else {
		bmi_str_fini(keep);
		bmi_str_put(keep, text, n);
	}
	if (eng->ended_move < eng->last_move) /* superseded: as if done */
		eng->ended_move = eng->last_move;
	eng->move_code = 0;
	*ret_move = ++eng->last_move;
	eng->cancel_move = false;
	eng->n_moved = eng->n_to_move = 0;
	eng->has_failed = false;
	eng->n_changes++;
	pthread_cond_broadcast(&eng->cond);
	pthread_mutex_unlock(&eng->lock);
	return 0;
}

int bmi_engine_move(struct bmi_engine *eng, uint64_t move, struct bmi_error *err)
{
	int r;

	pthread_mutex_lock(&eng->lock);
	r = move > eng->ended_move ? -EAGAIN : move == eng->ended_move ? eng->move_code : 0;
	pthread_mutex_unlock(&eng->lock);
	return r == 0 || r == -EAGAIN ? r : bmi_fail(err, r, "the move ended early");
}

bool bmi_engine_is_moving(struct bmi_engine *eng)
{
	bool moving;

	pthread_mutex_lock(&eng->lock);
	moving = (eng->is_started && !eng->is_loaded) || eng->ended_move < eng->last_move;
	pthread_mutex_unlock(&eng->lock);
	return moving;
}

void bmi_engine_cancel_move(struct bmi_engine *eng)
{
	pthread_mutex_lock(&eng->lock);
	eng->cancel_move = eng->ended_move < eng->last_move;
	pthread_mutex_unlock(&eng->lock);
}

static unsigned next_to_move(const struct bmi_engine *eng, unsigned from)
{
	while (from < FAKE_MODULES && !strcmp(eng->now[from], eng->want[from]) &&
	       !strcmp(eng->dtype, eng->want_dtype))
		from++;
	return from;
}

/* One move, layer by layer. eng->lock is held and given up between layers. */
static void move_all(struct bmi_engine *eng)
{
	const uint64_t move = eng->last_move;
	int code = 0;

	for (unsigned i = next_to_move(eng, 0); i < FAKE_MODULES; i = next_to_move(eng, i + 1))
		eng->n_to_move++;
	for (unsigned i = next_to_move(eng, 0); i < FAKE_MODULES; i = next_to_move(eng, i + 1)) {
		pthread_mutex_unlock(&eng->lock);
		fake_sleep_ms(eng, eng->layer_ms);
		pthread_mutex_lock(&eng->lock);
		if (eng->is_stopping || eng->last_move != move)
			return;
		if (eng->cancel_move) {
			code = -ECANCELED;
			break;
		}
		strcpy(eng->now[i], eng->want[i]);
		eng->n_moved++;
		eng->n_changes++;
		pthread_mutex_unlock(&eng->lock);
		fake_changed(eng);
		pthread_mutex_lock(&eng->lock);
		if (eng->last_move != move)
			return;
	}
	if (code)
		memcpy(eng->want, eng->now, sizeof(eng->want));
	else
		strcpy(eng->dtype, eng->want_dtype);
	eng->ended_move = move;
	eng->move_code = code;
	eng->n_changes++;
}

static void load(struct bmi_engine *eng)
{
	fake_sleep_ms(eng, eng->load_ms);
	pthread_mutex_lock(&eng->lock);
	eng->is_loaded = true;
	if (eng->fault && !strcmp(eng->fault, "load")) {
		eng->has_failed = true;
		bmi_fail(&eng->problem, -EIO, "layer 3 cannot be read");
	}
	eng->n_changes++;
	pthread_cond_broadcast(&eng->cond);
	pthread_mutex_unlock(&eng->lock);
	if (eng->has_failed)
		eng->events.failed(eng->events.ctx, "device_map.yaml", &eng->problem);
	fake_changed(eng);
}

void *fake_move_layers(void *ctx)
{
	struct bmi_engine *eng = ctx;

	load(eng);
	pthread_mutex_lock(&eng->lock);
	while (!eng->is_stopping) {
		if (eng->ended_move == eng->last_move) {
			pthread_cond_wait(&eng->cond, &eng->lock);
			continue;
		}
		move_all(eng);
		pthread_cond_broadcast(&eng->cond);
		pthread_mutex_unlock(&eng->lock);
		fake_changed(eng);
		pthread_mutex_lock(&eng->lock);
	}
	pthread_mutex_unlock(&eng->lock);
	return NULL;
}

static const char *state_name(struct bmi_engine *eng)
{
	static const char *const names[] = { "loading", "ready", "placing", "unloaded", "failed" };

	return names[bmi_engine_state(eng)];
}

static void report_map(struct bmi_engine *eng, struct bmi_str *ret)
{
	bmi_str_puts(ret, "{\n");
	for (unsigned i = 0; i < FAKE_MODULES; i++) {
		const char *device = eng->now[i];

		bmi_str_printf(ret, "  \"%s\": ", modules[i]);
		if (!strcmp(device, "cuda:0"))
			bmi_str_puts(ret, "0");
		else
			bmi_str_printf(ret, "\"%s\"", device);
		bmi_str_puts(ret, i + 1 < FAKE_MODULES ? ",\n" : "\n");
	}
	bmi_str_puts(ret, "}\n");
}

int bmi_engine_report(struct bmi_engine *eng, enum bmi_report what, struct bmi_str *ret)
{
	const char *state = state_name(eng);

	pthread_mutex_lock(&eng->lock);
	switch (what) {
	case BMI_REPORT_HF_DEVICE_MAP:
		report_map(eng, ret);
		break;
	case BMI_REPORT_PLACEMENT:
		for (unsigned i = 0; i < FAKE_MODULES; i++)
			bmi_str_printf(ret, "%-20s %-6s %s\n", modules[i], eng->now[i], eng->dtype);
		break;
	case BMI_REPORT_PLACEMENT_JSON:
		bmi_str_puts(ret, "{\"hf_device_map\": {}}\n");
		break;
	case BMI_REPORT_STATUS:
		bmi_str_printf(ret, "state: %s\nprogress: %u/%u\ndtype: %s\n", state, eng->n_moved,
			       eng->n_to_move, eng->dtype);
		break;
	case BMI_REPORT_DEVICE_MAP:
		bmi_str_put(ret, eng->map_text.bytes ? eng->map_text.bytes : "auto\n",
			    eng->map_text.n ? eng->map_text.n : 5);
		break;
	case BMI_REPORT_DTYPE:
		bmi_str_printf(ret, "%s\n", eng->dtype);
		break;
	case BMI_REPORT_MAX_MEMORY:
		if (eng->memory_text.n)
			bmi_str_put(ret, eng->memory_text.bytes, eng->memory_text.n);
		break;
	}
	pthread_mutex_unlock(&eng->lock);
	return what == BMI_REPORT_STATUS ? bmi_session_status(&eng->root, ret)
	       : bmi_str_ok(ret)         ? 0
					 : -ENOMEM;
}

/* ---- one module ---- */

const char *bmi_module_name(struct bmi_engine *eng, unsigned i)
{
	return i < FAKE_MODULES ? modules[i] : NULL;
}

static unsigned find_module(const char *name)
{
	unsigned i = 0;

	while (i < FAKE_MODULES && strcmp(modules[i], name))
		i++;
	return i;
}

int bmi_module_report(struct bmi_engine *eng, const char *module, enum bmi_module_fact what, struct bmi_str *ret)
{
	const unsigned i = find_module(module);

	if (i == FAKE_MODULES)
		return -ENOENT;
	pthread_mutex_lock(&eng->lock);
	switch (what) {
	case BMI_MODULE_DEVICE:
		bmi_str_printf(ret, "%s\n", strcmp(eng->now[i], "cuda:0") ? eng->now[i] : "0");
		break;
	case BMI_MODULE_DTYPE:
		bmi_str_printf(ret, "%s\n", eng->dtype);
		break;
	case BMI_MODULE_BYTES:
		bmi_str_printf(ret, "%u\n", 1000 + i);
		break;
	case BMI_MODULE_TENSORS:
		bmi_str_printf(ret, "%s.weight [10,50] bfloat16 model.safetensors %u\n", module, 1000 * i);
		break;
	}
	pthread_mutex_unlock(&eng->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

static int parse_device(const char *module, const char *text, size_t n, char ret[FAKE_DEVICE_MAX],
			struct bmi_error *err)
{
	char word[32] = "";
	fake_map map;
	int r;

	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	snprintf(word, sizeof(word), "%.*s", (int)n, text);
	r = set_device(map, module, word, err);
	if (r == 0)
		strcpy(ret, map[find_module(module)]);
	return r;
}

int bmi_module_check(struct bmi_engine *eng, const char *module, const char *text, size_t n, bool complete,
		     struct bmi_error *err)
{
	char device[FAKE_DEVICE_MAX];

	return complete || memchr(text, '\n', n) ? parse_device(module, text, n, device, err) : 0;
}

int bmi_module_set(struct bmi_engine *eng, const char *module, const char *text, size_t n, uint64_t *ret_move,
		   struct bmi_error *err)
{
	char device[FAKE_DEVICE_MAX];
	struct bmi_str map = { 0 };
	int r = parse_device(module, text, n, device, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&eng->lock);
	for (unsigned i = 0; i < FAKE_MODULES; i++)
		bmi_str_printf(&map, "%s: %s\n", modules[i],
			       strcmp(modules[i], module) ? eng->want[i] : device);
	pthread_mutex_unlock(&eng->lock);
	r = bmi_engine_set(eng, BMI_KNOB_DEVICE_MAP, map.bytes, map.n, ret_move, err);
	bmi_str_fini(&map);
	return r;
}

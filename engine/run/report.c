/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the texts of the root files. Everything is told from counters and copies, at once, however busy the engine is.
 * Invariant: hf_device_map is made from where the buffers are, never from the plan.
 */
#include "run/engine_priv.h"

#include "backend/cpu/cpu.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

const char *bmi_state_name(enum bmi_state state)
{
	static const char *const names[] = { "loading", "ready", "placing", "unloaded", "failed" };

	return names[state];
}

int bmi_report_devices(struct bmi_engine *eng, bmi_device **ret)
{
	const uint32_t n = eng->skel->n_tensors;

	*ret = malloc(n * sizeof(**ret));
	if (!*ret)
		return -ENOMEM;
	if (eng->res) {
		bmi_residency_devices(eng->res, *ret);
		return 0;
	}
	for (uint32_t i = 0; i < n; i++)
		(*ret)[i] = BMI_DEVICE_DISK;
	return 0;
}

static int now_entries(struct bmi_engine *eng, struct bmi_arena *arena, struct bmi_map_entry **ret,
		       uint32_t *ret_n)
{
	bmi_auto_mem bmi_device *devices = NULL;
	int r = bmi_report_devices(eng, &devices);

	if (r < 0)
		return r;
	pthread_mutex_lock(&eng->lock);
	r = bmi_plan_entries_from(eng->skel, eng->req.plan, devices, arena, ret, ret_n);
	pthread_mutex_unlock(&eng->lock);
	return r;
}

static int report_map(struct bmi_engine *eng, struct bmi_str *ret)
{
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct bmi_map_entry *entries;
	uint32_t n;
	int r = arena ? now_entries(eng, arena, &entries, &n) : -ENOMEM;

	return r < 0 ? r : bmi_map_print_json(entries, n, ret);
}

/* Lock held. */
static void print_progress(const struct bmi_residency_state *st, struct bmi_str *ret)
{
	const uint32_t done = st->move_done_layers, todo = st->move_todo_layers;
	char bar[21];

	for (unsigned i = 0; i < 20; i++)
		bar[i] = todo && i < 20ull * done / todo ? '#' : '.';
	bar[20] = 0;
	bmi_str_printf(ret, "progress: [%s] %u/%u layers, %" PRIu64 "/%" PRIu64 " bytes\n", bar, done, todo,
		       st->move_done_bytes, st->move_todo_bytes);
}

static int report_status(struct bmi_engine *eng, struct bmi_str *ret)
{
	struct bmi_residency_state st = { 0 };
	const enum bmi_state state = bmi_engine_state(eng);
	uint32_t n_queued = 0;

	if (eng->res)
		bmi_residency_state(eng->res, &st);
	bmi_str_printf(ret, "state: %s\n", bmi_state_name(state));
	print_progress(&st, ret);
	pthread_mutex_lock(&eng->lock);
	for (struct bmi_session *ses = eng->sessions; ses; ses = ses->next)
		n_queued += ses->n_queue;
	bmi_str_printf(ret, "dtype: %s\n", bmi_dtype_name(eng->req.dtype));
	bmi_str_printf(ret, "running: %u\nqueued: %u\n", eng->n_active, n_queued - eng->n_active);
	bmi_str_printf(ret,
		       "loaded_bytes_cpu: %" PRIu64 "\ndisk_bytes: %" PRIu64 "\nstaging_bytes: %" PRIu64 "\n",
		       st.cpu_bytes, st.disk_bytes, st.staging_bytes);
	bmi_str_printf(ret, "streamed_bytes: %" PRIu64 "\n", st.streamed_bytes);
	bmi_str_printf(ret, "allowed_bytes: %" PRIu64 "\nkv_limit_bytes: %" PRIu64 "\n", eng->allowed_bytes,
		       eng->req.split.kv_bytes);
	bmi_str_printf(ret, "n_ctx: %u\n", eng->req.split.n_ctx);
	bmi_str_printf(ret, "cpu: %s\n", eng->cpu ? bmi_cpu_describe(eng->cpu) : "not started");
	bmi_str_printf(ret, "disk_io: %s\n", st.io ? st.io : "none");
	bmi_str_printf(ret, "tokenizer: %s\n",
		       !eng->has_tokenizer     ? "none: token ids only"
		       : eng->tok_problem.code ? eng->tok_problem.msg
		       : eng->tok_ready        ? "ready"
					       : "loading");
	bmi_str_printf(ret, "problem: %s\n", eng->failed ? eng->problem.msg : "none");
	bmi_session_print(&eng->root, /* is_root= */ true, ret);
	pthread_mutex_unlock(&eng->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

static int report_text(struct bmi_engine *eng, enum bmi_knob knob, struct bmi_str *ret)
{
	const char *text;

	pthread_mutex_lock(&eng->lock);
	text = eng->req.text[knob];
	if (knob == BMI_KNOB_DTYPE)
		bmi_str_printf(ret, "%s\n", bmi_dtype_name(eng->req.dtype)); /* auto reads back resolved */
	else
		bmi_str_puts(ret, text);
	if (ret->n && ret->bytes[ret->n - 1] != '\n')
		bmi_str_puts(ret, "\n");
	pthread_mutex_unlock(&eng->lock);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

static int report_placement(struct bmi_engine *eng, bool json, struct bmi_str *ret)
{
	bmi_auto_mem bmi_device *devices = NULL;
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct bmi_placement_view view = { .skel = eng->skel };
	int r = arena ? bmi_report_devices(eng, &devices) : -ENOMEM;

	if (r == 0)
		r = now_entries(eng, arena, &view.entries, &view.n_entries);
	if (r < 0)
		return r;
	pthread_mutex_lock(&eng->lock);
	view.tensor_device = devices;
	view.dtype = eng->req.dtype;
	view.split = eng->req.split;
	view.measured = eng->rates.measured;
	if (eng->req.map) {
		view.mode = eng->req.map->mode;
		bmi_request_budget(eng, &eng->req, &view.budget);
	}
	pthread_mutex_unlock(&eng->lock);
	return bmi_placement_print(&view, json, ret);
}

int bmi_engine_report(struct bmi_engine *eng, enum bmi_report what, struct bmi_str *ret)
{
	switch (what) {
	case BMI_REPORT_HF_DEVICE_MAP:
		return report_map(eng, ret);
	case BMI_REPORT_STATUS:
		return report_status(eng, ret);
	case BMI_REPORT_DEVICE_MAP:
		return report_text(eng, BMI_KNOB_DEVICE_MAP, ret);
	case BMI_REPORT_DTYPE:
		return report_text(eng, BMI_KNOB_DTYPE, ret);
	case BMI_REPORT_MAX_MEMORY:
		return report_text(eng, BMI_KNOB_MAX_MEMORY, ret);
	case BMI_REPORT_PLACEMENT:
	case BMI_REPORT_PLACEMENT_JSON:
		return report_placement(eng, what == BMI_REPORT_PLACEMENT_JSON, ret);
	}
	return -EINVAL;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns planning without mounting: the same request as an engine's, over a skeleton that needs no weights, for a machine
 * that may be imaginary. Invariant: nothing is started, nothing is read but headers.
 */
#include "run/engine_priv.h"

#include <errno.h>
#include <string.h>

static int print_plan(struct bmi_engine *eng, bool json, struct bmi_str *ret)
{
	struct bmi_placement_view view = {
		.skel = eng->skel,
		.tensor_device = eng->req.plan->tensor_device,
		.entries = eng->req.plan->entries,
		.n_entries = eng->req.plan->n_entries,
		.dtype = eng->req.dtype,
		.split = eng->req.split,
		.measured = eng->rates.measured,
		.mode = eng->req.map->mode,
	};

	bmi_request_budget(eng, &eng->req, &view.budget);
	return bmi_placement_print(&view, json, ret);
}

static void print_refusal(enum bmi_place_error kind, const struct bmi_error *why, struct bmi_str *ret)
{
	bmi_str_puts(ret, "{\"error\": {\"kind\": ");
	bmi_str_printf(ret, "\"%s\", \"message\": ", kind ? bmi_place_error_name(kind) : "model");
	bmi_str_put_json(ret, why->msg, strlen(why->msg));
	bmi_str_puts(ret, "}}\n");
}

int bmi_plan_report(const struct bmi_engine_options *opt, bool json, struct bmi_str *ret, struct bmi_error *err)
{
	struct bmi_error why = { 0 };
	struct bmi_engine *eng = bmi_engine_alloc(opt, &why);
	enum bmi_place_error kind = BMI_PLACE_OK;
	int r = eng ? 0 : why.code;

	if (eng) {
		eng->n_gpus = UINT32_MAX;
		r = bmi_engine_open_model(eng, opt->model_path, /* to_run= */ false, &why);
		if (r == 0)
			r = bmi_request_first(eng, opt, &why);
		if (r == 0 && eng->failed) {
			why = eng->problem;
			r = why.code;
		}
		kind = eng->req.refusal;
		if (r == 0)
			r = print_plan(eng, json, ret);
	}
	if (r < 0 && json)
		print_refusal(kind, &why, ret);
	bmi_engine_close(eng);
	return r < 0 ? bmi_fail(err, r, "%s", why.code ? why.msg : "no memory") : 0;
}

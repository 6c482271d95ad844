/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the files that place the model: device_map.yaml, dtype, max_memory. What a text means is the engine's matter.
 * Invariant: reading one gives the text accepted last; a refused text leaves no trace but a line in last_error.
 */
#include "mount.h"

#include <time.h>

enum {
	KNOB_DEVICE_MAP = BMI_KNOB_DEVICE_MAP,
	KNOB_DTYPE = BMI_KNOB_DTYPE,
	KNOB_MAX_MEMORY = BMI_KNOB_MAX_MEMORY
};

static int knob_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	switch (node->kind->arg) {
	case KNOB_DEVICE_MAP:
		return bmi_engine_report(mnt->eng, BMI_REPORT_DEVICE_MAP, ret);
	case KNOB_DTYPE:
		return bmi_engine_report(mnt->eng, BMI_REPORT_DTYPE, ret);
	default:
		return bmi_engine_report(mnt->eng, BMI_REPORT_MAX_MEMORY, ret);
	}
}

static int knob_check(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		      struct bmi_error *err)
{
	return bmi_engine_check(mnt->eng, (enum bmi_knob)node->kind->arg, text, n, /* complete= */ false, err);
}

static int knob_accept(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		       uint64_t *ret_move, struct bmi_error *err)
{
	int r = bmi_engine_set(mnt->eng, (enum bmi_knob)node->kind->arg, text, n, ret_move, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&mnt->lock);
	clock_gettime(CLOCK_REALTIME, &node->mtime);
	pthread_mutex_unlock(&mnt->lock);
	return 0;
}

const struct bmi_fs_kind bmi_fs_kind_device_map = {
	.name = "device_map.yaml",
	.mode = S_IFREG | 0600,
	.render = knob_render,
	.check = knob_check,
	.accept = knob_accept,
	.checks_lines = true,
	.is_replaceable = true,
	.arg = KNOB_DEVICE_MAP,
};

const struct bmi_fs_kind bmi_fs_kind_dtype = {
	.name = "dtype",
	.mode = S_IFREG | 0600,
	.render = knob_render,
	.check = knob_check,
	.accept = knob_accept,
	.checks_lines = true,
	.is_replaceable = true,
	.arg = KNOB_DTYPE,
};

const struct bmi_fs_kind bmi_fs_kind_max_memory = {
	.name = "max_memory",
	.mode = S_IFREG | 0600,
	.render = knob_render,
	.check = knob_check,
	.accept = knob_accept,
	.checks_lines = true,
	.is_replaceable = true,
	.arg = KNOB_MAX_MEMORY,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the files that only tell: hf_device_map, placement, status, last_error, and the link to the model. Invariant:
 * all but hf_device_map are answered at once, however busy the engine is.
 */
#include "mount.h"

#include <poll.h>
#include <string.h>

static int report_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	return bmi_engine_report(mnt->eng, (enum bmi_report)node->kind->arg, ret);
}

static unsigned changed_poll(struct bmi_fs_handle *h)
{
	return bmi_engine_changes(h->mnt->eng) != h->n_changes ? POLLIN | POLLRDNORM | POLLPRI : 0;
}

/* Waits for a running move, so that `sed -i ... device_map.yaml && cat hf_device_map` shows the new map. */
const struct bmi_fs_kind bmi_fs_kind_hf_device_map = {
	.name = "hf_device_map",
	.mode = S_IFREG | 0400,
	.render = report_render,
	.is_report = true,
	.waits_for_move = true,
	.arg = BMI_REPORT_HF_DEVICE_MAP,
};

const struct bmi_fs_kind bmi_fs_kind_placement = {
	.name = "placement",
	.mode = S_IFREG | 0400,
	.render = report_render,
	.is_report = true,
	.arg = BMI_REPORT_PLACEMENT,
};

const struct bmi_fs_kind bmi_fs_kind_status = {
	.name = "status",
	.mode = S_IFREG | 0400,
	.render = report_render,
	.poll = changed_poll,
	.is_report = true,
	.arg = BMI_REPORT_STATUS,
};

static int last_error_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	return bmi_fs_errlog_render(&mnt->errlog, ret);
}

const struct bmi_fs_kind bmi_fs_kind_last_error = {
	.name = "last_error",
	.mode = S_IFREG | 0400,
	.render = last_error_render,
	.is_report = true,
};

static void model_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		       struct stat *st)
{
	st->st_size = (off_t)strlen(bmi_engine_model_dir(mnt->eng));
}

const struct bmi_fs_kind bmi_fs_kind_model = {
	.name = "model",
	.mode = S_IFLNK | 0777,
	.stat = model_stat,
};

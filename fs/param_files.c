/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns params/ and ctl: one value or one word per line, done in write(2), whose error reaches every client.
 * Invariant: a value that was refused changed nothing.
 */
#include "mount.h"

#include <ctype.h>
#include <errno.h>
#include <string.h>
#include <time.h>

static int param_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	return bmi_session_get_param(node->ses->engine, node->name, ret);
}

static int param_check(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		       struct bmi_error *err)
{
	int r = bmi_session_set_param(node->ses->engine, node->name, text, n, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&mnt->lock);
	clock_gettime(CLOCK_REALTIME, &node->mtime);
	pthread_mutex_unlock(&mnt->lock);
	return 0;
}

/* A program that keeps the file open and writes "0.2\n" and later "0.7\n" writes two values. */
const struct bmi_fs_kind bmi_fs_kind_param = {
	.mode = S_IFREG | 0600,
	.render = param_render,
	.check = param_check,
	.value_per_line = true,
};

/* `stop`: a string a line; bash writes the lines one by one. */
const struct bmi_fs_kind bmi_fs_kind_param_lines = {
	.mode = S_IFREG | 0600,
	.render = param_render,
	.check = param_check,
};

static int obey(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		struct bmi_error *err)
{
	while (n && isspace((unsigned char)text[n - 1]))
		n--;
	while (n && isspace((unsigned char)*text)) {
		text++;
		n--;
	}
	if (n == strlen("cancel") && !memcmp(text, "cancel", n)) {
		bmi_session_cancel(node->ses->engine);
		if (node->ses->is_root)
			bmi_engine_cancel_move(mnt->eng);
		return 0;
	}
	return bmi_fail(err, -EINVAL, "'%.*s' is no command: cancel", n < 40 ? (int)n : 40, text);
}

static int ctl_check(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		     struct bmi_error *err)
{
	return obey(mnt, node, text, n, err);
}

/* A word without its newline is known to be whole only now. */
static int ctl_accept(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		      uint64_t *ret_move, struct bmi_error *err)
{
	return text[n - 1] == '\n' ? 0 : obey(mnt, node, text, n, err);
}

static void ctl_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		     struct stat *st)
{
	st->st_size = 0;
}

const struct bmi_fs_kind bmi_fs_kind_ctl = {
	.name = "ctl",
	.mode = S_IFREG | 0200,
	.stat = ctl_stat,
	.check = ctl_check,
	.accept = ctl_accept,
	.checks_lines = true,
	.value_per_line = true,
};

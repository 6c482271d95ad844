/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns sessions/: a directory there is a conversation with files of its own, made by mkdir(2) and ended by rmdir(2).
 * Invariant: a session whose directory is gone takes no more prompts, even through a file that is still open.
 */
#include "mount.h"

#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>

const struct bmi_fs_kind bmi_fs_kind_sessions = { .name = "sessions",
						  .mode = S_IFDIR | 0700,
						  .holds_sessions = true };
const struct bmi_fs_kind bmi_fs_kind_session = { .mode = S_IFDIR | 0700, .holds_scratch = true };

static int status_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	return bmi_session_status(node->ses->engine, ret);
}

static unsigned status_poll(struct bmi_fs_handle *h)
{
	return bmi_engine_changes(h->mnt->eng) != h->n_changes ? POLLIN | POLLRDNORM | POLLPRI : 0;
}

const struct bmi_fs_kind bmi_fs_kind_session_status = {
	.name = "status",
	.mode = S_IFREG | 0400,
	.render = status_render,
	.poll = status_poll,
	.is_report = true,
};

/* All of a session is its maker's. */
static void give_to(struct bmi_fs_node *node, uid_t uid, gid_t gid)
{
	node->uid = uid;
	node->gid = gid;
	for (struct bmi_fs_node *child = node->first; child; child = child->next)
		give_to(child, uid, gid);
}

static int check_new(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, const char *name, struct bmi_error *err)
{
	if (strlen(name) > BMI_FS_NAME_MAX)
		return bmi_fail(err, -ENAMETOOLONG, "a name has %d bytes at most", BMI_FS_NAME_MAX);
	if (bmi_fs_node_child(dir, name))
		return bmi_fail(err, -EEXIST, "'%s' is there already", name);
	if (mnt->n_sessions >= mnt->opt->n_sessions)
		return bmi_fail(err, -ENOSPC,
				"there are %u sessions already, the most of sessions=%u: remove some",
				mnt->n_sessions, mnt->opt->n_sessions);
	return 0;
}

int bmi_fs_session_make(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, const char *name, mode_t mode,
			const struct fuse_ctx *ctx, struct bmi_fs_node **ret, struct bmi_error *err)
{
	struct bmi_fs_node *node = NULL;
	struct bmi_fs_session *ses;
	int r;

	r = check_new(mnt, dir, name, err);
	if (r < 0)
		return r;
	ses = calloc(1, sizeof(*ses));
	if (!ses)
		return bmi_fail(err, -ENOMEM, "no memory for a session");
	r = bmi_session_new(mnt->eng, &ses->engine, err);
	if (r < 0) {
		free(ses);
		return r;
	}
	ses->n_refs = 1;
	node = bmi_fs_node_new(mnt, dir, &bmi_fs_kind_session, name, ses);
	if (!node || !bmi_fs_tree_add_session(mnt, node, ses)) {
		if (node)
			bmi_fs_node_unlink(mnt, node);
		bmi_fs_session_put(ses);
		return bmi_fail(err, -ENOMEM, "no memory for a session");
	}
	bmi_fs_session_put(ses); /* its nodes hold it */
	node->mode = S_IFDIR | (mode & 07777);
	give_to(node, ctx->uid, ctx->gid);
	mnt->n_sessions++;
	*ret = node;
	return 0;
}

void bmi_fs_session_end(struct bmi_fs_mount *mnt, struct bmi_fs_node *node)
{
	struct bmi_fs_session *ses = node->ses;

	ses->is_dead = true;
	bmi_session_cancel(ses->engine); /* who reads gets what there is, then ECANCELED */
	mnt->n_sessions--;
	bmi_fs_node_unlink(mnt, node);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the answers to requests that make, remove and rename names. Invariant: the fixed names of the root stay;
 * scratch files and sessions come and go, and renaming a scratch file onto a control file is a write of its whole text.
 */
#include "mount.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void refuse(fuse_req_t req, const char *name, const char *why)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_error err;

	bmi_fail(&err, -EPERM, "%s", why);
	bmi_fs_errlog_add(&mnt->errlog, name, &err);
	fuse_reply_err(req, EPERM);
}

void bmi_fs_op_mkdir(fuse_req_t req, fuse_ino_t dir_ino, const char *name, mode_t mode)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_node *dir, *node;
	struct bmi_error err;
	int r;

	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, dir_ino);
	if (!dir || !dir->kind->holds_sessions) {
		pthread_mutex_unlock(&mnt->lock);
		refuse(req, name, "no directory can be made there: sessions are made in sessions/");
		return;
	}
	r = bmi_fs_session_make(mnt, dir, name, mode, fuse_req_ctx(req), &node, &err);
	if (r == 0) {
		bmi_fs_op_entry(req, mnt, node); /* unlocks */
		return;
	}
	pthread_mutex_unlock(&mnt->lock);
	bmi_fs_errlog_add(&mnt->errlog, name, &err);
	fuse_reply_err(req, -r);
}

void bmi_fs_op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t dev)
{
	refuse(req, name, "no node can be made here");
}

void bmi_fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name)
{
	refuse(req, name, "no link can be made here");
}

void bmi_fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name)
{
	refuse(req, name, "no link can be made here");
}

/* The fixed files of the root stay; in a session all may go, so that `rm -r` works. */
static bool may_go(const struct bmi_fs_node *node)
{
	return node->kind == &bmi_fs_kind_scratch || (node->ses && !node->ses->is_root);
}

static void remove_name(fuse_req_t req, fuse_ino_t dir_ino, const char *name, bool is_dir)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_node *dir, *node;
	int r = 0;

	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, dir_ino);
	node = dir ? bmi_fs_node_child(dir, name) : NULL;
	if (!node)
		r = -ENOENT;
	else if (S_ISDIR(node->mode) != is_dir)
		r = is_dir ? -ENOTDIR : -EISDIR;
	else if (!may_go(node))
		r = -EPERM;
	else if (node->kind == &bmi_fs_kind_session)
		bmi_fs_session_end(mnt, node);
	else
		bmi_fs_node_unlink(mnt, node);
	pthread_mutex_unlock(&mnt->lock);
	if (r == -EPERM)
		refuse(req, name, "it cannot be removed: write into it (cp instead of mv or install)");
	else
		fuse_reply_err(req, -r);
}

void bmi_fs_op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	remove_name(req, dir, name, /* is_dir= */ false);
}

void bmi_fs_op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name)
{
	remove_name(req, dir, name, /* is_dir= */ true);
}

/* Rename onto a control file: its whole new text. Answered once the text is accepted: an unanswered RENAME would stop
 * every lookup in the directory. */
static int replace(struct bmi_fs_mount *mnt, struct bmi_fs_node *from, struct bmi_fs_node *to)
{
	struct bmi_error err = { 0 };
	struct bmi_str text = { 0 };
	uint64_t move;
	int r;

	bmi_str_put(&text, from->data.bytes ? from->data.bytes : "", from->data.n);
	if (!bmi_str_ok(&text))
		return -ENOMEM;
	bmi_fs_node_get(to);
	pthread_mutex_unlock(
		&mnt->lock); /* planning takes time; the kernel keeps both names as they are meanwhile */
	r = to->kind->accept(mnt, to, text.bytes, text.n, &move, &err);
	pthread_mutex_lock(&mnt->lock);
	if (r < 0)
		bmi_fs_complain(mnt, to, &err);
	bmi_fs_node_put(mnt, to);
	bmi_str_fini(&text);
	return r;
}

/* mnt->lock is held, and given up for a while by replace(). */
static int rename_scratch(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, struct bmi_fs_node *from,
			  const char *new_name, unsigned flags)
{
	struct bmi_fs_node *to = bmi_fs_node_child(dir, new_name);
	int r;

	if (to == from)
		return 0;
	if (to && (flags & RENAME_NOREPLACE))
		return -EEXIST;
	if (to && to->kind == &bmi_fs_kind_scratch)
		bmi_fs_node_unlink(mnt, to);
	if (!to || to->kind == &bmi_fs_kind_scratch)
		return bmi_fs_node_rename(from, new_name);
	if (!to->kind->is_replaceable)
		return -EPERM;
	bmi_fs_node_get(from);
	r = replace(mnt, from, to);
	if (r == 0 && from->parent)
		bmi_fs_node_unlink(mnt, from);
	bmi_fs_node_put(mnt, from);
	return r;
}

static int rename_session(struct bmi_fs_node *dir, struct bmi_fs_node *from, const char *new_name)
{
	if (bmi_fs_node_child(dir, new_name))
		return -EEXIST;
	return bmi_fs_node_rename(from, new_name);
}

void bmi_fs_op_rename(fuse_req_t req, fuse_ino_t dir_ino, const char *name, fuse_ino_t new_dir_ino,
		      const char *new_name, unsigned flags)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_node *dir, *from;
	int r;

	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, dir_ino);
	from = dir ? bmi_fs_node_child(dir, name) : NULL;
	if (!from)
		r = -ENOENT;
	else if (strlen(new_name) > BMI_FS_NAME_MAX)
		r = -ENAMETOOLONG;
	else if (flags & ~(unsigned)RENAME_NOREPLACE)
		r = -EINVAL;
	else if (dir_ino != new_dir_ino)
		r = -EPERM;
	else if (from->kind == &bmi_fs_kind_session)
		r = rename_session(dir, from, new_name);
	else if (from->kind != &bmi_fs_kind_scratch)
		r = -EPERM;
	else
		r = rename_scratch(mnt, dir, from, new_name, flags);
	pthread_mutex_unlock(&mnt->lock);
	if (r == -EPERM)
		refuse(req, name, "it cannot be renamed there");
	else
		fuse_reply_err(req, -r);
}

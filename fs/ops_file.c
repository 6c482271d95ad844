/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the answers to requests on open files. Invariant: as in ops.c; a request that must wait belongs to waiter.c
 * from the call of bmi_fs_wait_*() on.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>

static struct bmi_fs_handle *handle_of(const struct fuse_file_info *fi)
{
	return (struct bmi_fs_handle *)(uintptr_t)fi->fh;
}

/* The kernel checks modes for everybody but root; a file that is only written stays so for root too. */
static int check_access(const struct bmi_fs_node *node, int flags, struct bmi_error *err)
{
	const int access = flags & O_ACCMODE;

	if (access != O_WRONLY && !(node->kind->mode & 0400))
		return bmi_fail(err, -EACCES, "it is only written: open it for writing, not for reading");
	if (access != O_RDONLY && !(node->kind->mode & 0200))
		return bmi_fail(err, -EACCES, "it is only read: open it for reading, not for writing");
	if (node->ses && node->ses->is_dead)
		return bmi_fail(err, -ENOENT, "the session was removed");
	return 0;
}

/* mnt->lock is held. NULL: *err says why. */
static struct bmi_fs_handle *open_node(struct bmi_fs_mount *mnt, struct bmi_fs_node *node,
				       struct fuse_file_info *fi, pid_t opener, struct bmi_error *err)
{
	struct bmi_fs_handle *h;

	if (check_access(node, fi->flags, err) < 0) {
		bmi_fs_complain(mnt, node, err);
		return NULL;
	}
	if ((fi->flags & O_TRUNC) && node->kind->resize && node->kind->resize(mnt, node, 0, err) < 0)
		return NULL;
	h = bmi_fs_handle_new(mnt, node, fi->flags);
	if (!h) {
		bmi_fail(err, -ENOMEM, "no memory to open it");
		return NULL;
	}
	h->opener = opener;
	fi->direct_io = 1;
	fi->fh = (uintptr_t)h;
	if (node->kind->open)
		node->kind->open(h, fi);
	return h;
}

static void close_handle(struct bmi_fs_handle *h)
{
	struct bmi_fs_mount *mnt = h->mnt;

	pthread_mutex_lock(&mnt->lock);
	bmi_fs_handle_free(h);
	pthread_mutex_unlock(&mnt->lock);
}

/* Who opens for writing; a reader's thread group is never asked for. */
static pid_t opener_of(fuse_req_t req, int flags)
{
	return (flags & O_ACCMODE) == O_RDONLY ? 0 : bmi_fs_tgid(fuse_req_ctx(req)->pid);
}

void bmi_fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	const pid_t opener = opener_of(req, fi->flags);
	struct bmi_error err = { .code = -ESTALE };
	struct bmi_fs_handle *h = NULL;
	struct bmi_fs_node *node;

	pthread_mutex_lock(&mnt->lock);
	node = bmi_fs_node_find(mnt, ino);
	if (node)
		h = open_node(mnt, node, fi, opener, &err);
	pthread_mutex_unlock(&mnt->lock);
	if (!h)
		fuse_reply_err(req, -err.code);
	else if (fuse_reply_open(req, fi) < 0)
		close_handle(h); /* the caller is gone: no release will come */
}

static int check_create(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, const char *name,
			struct bmi_error *err)
{
	if (strlen(name) > BMI_FS_NAME_MAX)
		return bmi_fail(err, -ENAMETOOLONG, "a name has %d bytes at most", BMI_FS_NAME_MAX);
	if (!dir || !dir->kind->holds_scratch)
		return bmi_fail(err, -EPERM, "nothing can be created there");
	if (bmi_fs_node_child(dir, name))
		return bmi_fail(err, -EEXIST, "'%s' is there already", name);
	if (mnt->n_scratch >= BMI_FS_SCRATCH_FILES)
		return bmi_fail(err, -ENOSPC, "there are %d scratch files already: remove some",
				BMI_FS_SCRATCH_FILES);
	return 0;
}

static struct bmi_fs_node *create_scratch(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, const char *name,
					  mode_t mode, const struct fuse_ctx *ctx)
{
	struct bmi_fs_node *node = bmi_fs_node_new(mnt, dir, &bmi_fs_kind_scratch, name, dir->ses);

	if (!node)
		return NULL;
	mnt->n_scratch++;
	node->mode = S_IFREG | (mode & 07777);
	node->uid = ctx->uid;
	node->gid = ctx->gid;
	return node;
}

void bmi_fs_op_create(fuse_req_t req, fuse_ino_t dir_ino, const char *name, mode_t mode,
		      struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct fuse_entry_param entry = { .generation = 1 };
	struct bmi_fs_node *dir, *node = NULL;
	struct bmi_error err = { 0 };
	struct bmi_fs_handle *h = NULL;

	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, dir_ino);
	if (check_create(mnt, dir, name, &err) < 0)
		goto out;
	node = create_scratch(mnt, dir, name, mode, fuse_req_ctx(req));
	if (!node) {
		bmi_fail(&err, -ENOMEM, "no memory for a file");
		goto out;
	}
	h = open_node(mnt, node, fi, /* opener= */ 0, &err);
	if (!h) {
		bmi_fs_node_unlink(mnt, node);
		goto out;
	}
	entry.ino = node->ino;
	bmi_fs_node_stat(mnt, node, h, &entry.attr);
	node->n_lookups++;
out:
	pthread_mutex_unlock(&mnt->lock);
	if (!h) {
		if (err.code == -EPERM || err.code == -ENOSPC)
			bmi_fs_errlog_add(&mnt->errlog, name, &err);
		fuse_reply_err(req, -err.code);
	} else if (fuse_reply_create(req, &entry, fi) < 0) {
		close_handle(h);
		pthread_mutex_lock(&mnt->lock);
		bmi_fs_node_forget(mnt, entry.ino, 1);
		pthread_mutex_unlock(&mnt->lock);
	}
}

void bmi_fs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	/* No owner: the page cache asks, for splice, sendfile or a private mapping. It would keep what it gets and
	 * believe st_size; refused, its caller falls back to read(2). */
	if (!fi->lock_owner) {
		fuse_reply_err(req, EINVAL);
		return;
	}
	bmi_fs_wait_read(handle_of(fi), req, size, (uint64_t)off, fi->flags & O_NONBLOCK);
}

void bmi_fs_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
		     struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_handle *h = handle_of(fi);
	const bool nonblock = fi->flags & O_NONBLOCK;
	struct bmi_error err;
	int r;

	atomic_store(&h->nonblock, nonblock);
	if (h->node->kind->write) {
		pthread_mutex_lock(&mnt->lock);
		r = h->node->kind->write(h, bytes, size, (uint64_t)off, &err);
		if (r < 0)
			bmi_fs_complain(mnt, h->node, &err);
		pthread_mutex_unlock(&mnt->lock);
	} else {
		r = bmi_fs_writer_write(h, bytes, size, nonblock, fi->lock_owner);
	}
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_write(req, size);
}

/* Who is killed between two reads gives up like one who is killed in a read. */
static void note_killed_reader(struct bmi_fs_handle *h, pid_t tid)
{
	struct bmi_turn_info info = { .done = true };

	if (h->turn) /* set once, by open */
		bmi_turn_info(h->turn, &info);
	if (info.done || !bmi_fs_was_killed(tid))
		return;
	pthread_mutex_lock(&h->mnt->lock);
	h->was_interrupted = true;
	pthread_mutex_unlock(&h->mnt->lock);
}

/* A close(2). Waits until the layers are where they were asked to be: an unanswered FLUSH holds up nobody else. */
void bmi_fs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_handle *h = handle_of(fi);
	const bool nonblock = atomic_load(&h->nonblock);
	uint64_t move;
	int r;

	note_killed_reader(h, fuse_req_ctx(req)->pid);
	r = bmi_fs_writer_flush(h, fuse_req_ctx(req)->pid, fi->lock_owner, &move);
	if (r == 0 && move && !nonblock)
		bmi_fs_wait_move(mnt, req, move);
	else
		fuse_reply_err(req, -r);
}

/* Does not wait for a move: an unanswered FSYNC would hold up every other writer of the file. */
void bmi_fs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi)
{
	uint64_t move;

	fuse_reply_err(req, -bmi_fs_writer_commit(handle_of(fi), &move));
}

void bmi_fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bmi_fs_handle *h = handle_of(fi);
	uint64_t move;

	bmi_fs_writer_commit(h, &move);
	close_handle(h);
	fuse_reply_err(req, 0);
}

void bmi_fs_op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_handle *h = handle_of(fi);
	struct fuse_pollhandle *old = NULL;
	unsigned revents;

	pthread_mutex_lock(&mnt->lock);
	if (ph) {
		old = h->poller;
		h->poller = ph; /* before looking: what comes afterwards is notified */
	}
	revents = bmi_fs_handle_poll(h);
	pthread_mutex_unlock(&mnt->lock);
	if (old)
		fuse_pollhandle_destroy(old);
	fuse_reply_poll(req, revents);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the answers about names and attributes, and the table of operations. Invariant: each handler replies exactly
 * once on every path, with no lock held, and waits for nothing.
 */
#include "mount.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Names of the fixed tree never change; those of scratch files and in sessions may at any time. */
static double entry_timeout(const struct bmi_fs_node *node)
{
	return node->kind == &bmi_fs_kind_scratch || (node->ses && !node->ses->is_root) ? 0 : 1;
}

static void fill_entry(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct fuse_entry_param *ret)
{
	*ret = (struct fuse_entry_param){ .ino = node->ino,
					  .generation = 1,
					  .entry_timeout = entry_timeout(node) };
	bmi_fs_node_stat(mnt, node, /* h= */ NULL, &ret->attr);
	node->n_lookups++;
}

/* Replies with a node and gives mnt->lock back. */
void bmi_fs_op_entry(fuse_req_t req, struct bmi_fs_mount *mnt, struct bmi_fs_node *node)
{
	struct fuse_entry_param entry;

	fill_entry(mnt, node, &entry);
	pthread_mutex_unlock(&mnt->lock);
	if (fuse_reply_entry(req, &entry) == 0)
		return;
	pthread_mutex_lock(&mnt->lock); /* the caller is gone: the kernel remembers nothing */
	bmi_fs_node_forget(mnt, entry.ino, 1);
	pthread_mutex_unlock(&mnt->lock);
}

void bmi_fs_op_lookup(fuse_req_t req, fuse_ino_t dir_ino, const char *name)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_node *dir, *node;

	if (strlen(name) > BMI_FS_NAME_MAX) {
		fuse_reply_err(req, ENAMETOOLONG);
		return;
	}
	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, dir_ino);
	node = dir ? bmi_fs_node_child(dir, name) : NULL;
	if (node) {
		bmi_fs_op_entry(req, mnt, node);
		return;
	}
	pthread_mutex_unlock(&mnt->lock);
	fuse_reply_err(req, ENOENT);
}

void bmi_fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);

	pthread_mutex_lock(&mnt->lock);
	bmi_fs_node_forget(mnt, ino, n);
	pthread_mutex_unlock(&mnt->lock);
	fuse_reply_none(req);
}

void bmi_fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);

	pthread_mutex_lock(&mnt->lock);
	for (size_t i = 0; i < count; i++)
		bmi_fs_node_forget(mnt, forgets[i].ino, forgets[i].nlookup);
	pthread_mutex_unlock(&mnt->lock);
	fuse_reply_none(req);
}

static struct bmi_fs_handle *handle_of(const struct fuse_file_info *fi)
{
	return fi ? (struct bmi_fs_handle *)(uintptr_t)fi->fh : NULL;
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_node *node;
	struct stat st;

	pthread_mutex_lock(&mnt->lock);
	node = bmi_fs_node_find(mnt, ino);
	if (node)
		bmi_fs_node_stat(mnt, node, handle_of(fi), &st);
	pthread_mutex_unlock(&mnt->lock);
	if (node)
		fuse_reply_attr(req, &st, /* attr_timeout= */ 0);
	else
		fuse_reply_err(req, ESTALE);
}

/*
 * chmod, chown and utimens succeed: cp -a and editors fail without. They change scratch files only (owners never), so
 * that nobody locks others out of, or into, the fixed files.
 */
static void set_mode_and_times(struct bmi_fs_node *node, const struct stat *attr, int to_set)
{
	if (node->kind != &bmi_fs_kind_scratch)
		return;
	if (to_set & FUSE_SET_ATTR_MODE)
		node->mode = (node->mode & S_IFMT) | (attr->st_mode & 07777);
	if (to_set & FUSE_SET_ATTR_MTIME_NOW)
		clock_gettime(CLOCK_REALTIME, &node->mtime);
	else if (to_set & FUSE_SET_ATTR_MTIME)
		node->mtime = attr->st_mtim;
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *attr, int to_set, struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	struct bmi_fs_handle *h = handle_of(fi);
	struct bmi_error err;
	struct bmi_fs_node *node;
	struct stat st;
	int r = 0;

	if (h && (to_set & FUSE_SET_ATTR_SIZE) && attr->st_size == 0)
		bmi_fs_writer_drop(h); /* vim truncates before it writes */
	pthread_mutex_lock(&mnt->lock);
	node = bmi_fs_node_find(mnt, ino);
	if (!node)
		r = -ESTALE;
	else if ((to_set & FUSE_SET_ATTR_SIZE) && node->kind->resize)
		r = node->kind->resize(mnt, node, (uint64_t)attr->st_size, &err);
	else if ((to_set & FUSE_SET_ATTR_SIZE) && attr->st_size != 0)
		r = bmi_fail(&err, -EINVAL, "its size cannot be set: write the whole text");
	if (r < 0 && node)
		bmi_fs_complain(mnt, node, &err);
	if (r == 0) {
		set_mode_and_times(node, attr, to_set);
		bmi_fs_node_stat(mnt, node, h, &st);
	}
	pthread_mutex_unlock(&mnt->lock);
	if (r < 0)
		fuse_reply_err(req, -r);
	else
		fuse_reply_attr(req, &st, /* attr_timeout= */ 0);
}

static void op_readlink(fuse_req_t req, fuse_ino_t ino)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);

	fuse_reply_readlink(req, bmi_engine_model_dir(mnt->eng)); /* the one link there is */
}

/* Offsets are the cookies of nodes, so that names which come and go disturb no reader. "." is 1 and ".." is 2. */
static size_t add_name(fuse_req_t req, char *buf, size_t size, const struct bmi_fs_node *node,
		       const char *name, off_t off)
{
	const struct stat st = { .st_ino = node->ino, .st_mode = node->mode };

	return fuse_add_direntry(req, buf, size, name, &st, off);
}

static size_t fill_names(fuse_req_t req, struct bmi_fs_node *dir, off_t off, char *buf, size_t size)
{
	size_t used = 0, n;

	for (off_t dot = off + 1; dot <= 2; dot++) {
		const struct bmi_fs_node *node = dot == 2 && dir->parent ? dir->parent : dir;

		n = add_name(req, buf + used, size - used, node, dot == 1 ? "." : "..", dot);
		if (n > size - used)
			return used;
		used += n;
	}
	for (const struct bmi_fs_node *node = dir->first; node; node = node->next) {
		const off_t place = (off_t)node->cookie + 2;

		if (place <= off)
			continue;
		n = add_name(req, buf + used, size - used, node, node->name, place);
		if (n > size - used)
			break;
		used += n;
	}
	return used;
}

static void op_readdir(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi)
{
	struct bmi_fs_mount *mnt = fuse_req_userdata(req);
	char *buf = malloc(size);
	struct bmi_fs_node *dir;
	size_t used = 0;

	if (!buf) {
		fuse_reply_err(req, ENOMEM);
		return;
	}
	pthread_mutex_lock(&mnt->lock);
	dir = bmi_fs_node_find(mnt, ino);
	if (dir)
		used = fill_names(req, dir, off, buf, size);
	pthread_mutex_unlock(&mnt->lock);
	fuse_reply_buf(req, buf, used);
	free(buf);
}

/* Zeros, as /proc has: there is no space to run out of. */
static void op_statfs(fuse_req_t req, fuse_ino_t ino)
{
	const struct statvfs st = { .f_bsize = BMI_FS_PAGE,
				    .f_frsize = BMI_FS_PAGE,
				    .f_namemax = BMI_FS_NAME_MAX };

	fuse_reply_statfs(req, &st);
}

static void op_ioctl(fuse_req_t req, fuse_ino_t ino, unsigned cmd, void *arg, struct fuse_file_info *fi,
		     unsigned flags, const void *in, size_t in_size, size_t out_size)
{
	fuse_reply_err(req, ENOTTY);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t ino, int mode, off_t off, off_t len,
			 struct fuse_file_info *fi)
{
	fuse_reply_err(req, EOPNOTSUPP);
}

const struct fuse_lowlevel_ops bmi_fs_ops = {
	.lookup = bmi_fs_op_lookup,
	.forget = bmi_fs_op_forget,
	.forget_multi = bmi_fs_op_forget_multi,
	.getattr = op_getattr,
	.setattr = op_setattr,
	.readlink = op_readlink,
	.readdir = op_readdir,
	.statfs = op_statfs,
	.ioctl = op_ioctl,
	.fallocate = op_fallocate,
	.create = bmi_fs_op_create,
	.mkdir = bmi_fs_op_mkdir,
	.mknod = bmi_fs_op_mknod,
	.symlink = bmi_fs_op_symlink,
	.link = bmi_fs_op_link,
	.unlink = bmi_fs_op_unlink,
	.rmdir = bmi_fs_op_rmdir,
	.rename = bmi_fs_op_rename,
	.open = bmi_fs_op_open,
	.read = bmi_fs_op_read,
	.write = bmi_fs_op_write,
	.flush = bmi_fs_op_flush,
	.fsync = bmi_fs_op_fsync,
	.release = bmi_fs_op_release,
	.poll = bmi_fs_op_poll,
};

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the nodes: names, numbers, attributes and how long each lives. Knows no kind of file. Invariant: a node is in
 * the number table exactly while it is in the tree, open, or remembered by the kernel; numbers are never used twice.
 */
#include "mount.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* The tree's modes are for the mounter alone; -o umask opens them up from these. */
static mode_t mode_of(const struct bmi_fs_mount *mnt, const struct bmi_fs_kind *kind)
{
	mode_t all = 0;

	if (S_ISLNK(kind->mode) || !mnt->opt->has_umask)
		return kind->mode;
	if (kind->mode & 0100)
		all = 0777;
	else
		all = (kind->mode & 0400 ? 0444 : 0) | (kind->mode & 0200 ? 0222 : 0);
	return (kind->mode & (S_IFMT | S_ISVTX)) | (all & ~(mode_t)mnt->opt->umask);
}

struct bmi_fs_node *bmi_fs_node_new(struct bmi_fs_mount *mnt, struct bmi_fs_node *parent,
				    const struct bmi_fs_kind *kind, const char *name,
				    struct bmi_fs_session *ses)
{
	struct bmi_fs_node *node = calloc(1, sizeof(*node));
	struct bmi_fs_node **bucket;

	if (node)
		node->name = strdup(name ? name : kind->name);
	if (!node || !node->name) {
		free(node);
		return NULL;
	}
	node->ino = ++mnt->last_ino;
	node->kind = kind;
	node->cookie = ++mnt->last_cookie;
	node->mode = mode_of(mnt, kind);
	node->uid = mnt->uid;
	node->gid = mnt->gid;
	clock_gettime(CLOCK_REALTIME, &node->mtime);
	node->n_refs = 1;
	node->ses = ses;
	if (ses)
		ses->n_refs++;
	node->parent = parent;
	if (parent) {
		node->prev = parent->last;
		*(parent->last ? &parent->last->next : &parent->first) = node;
		parent->last = node;
	}
	bucket = &mnt->inos[node->ino % BMI_FS_INO_BUCKETS];
	node->hash_next = *bucket;
	*bucket = node;
	return node;
}

struct bmi_fs_node *bmi_fs_node_find(struct bmi_fs_mount *mnt, fuse_ino_t ino)
{
	struct bmi_fs_node *node = mnt->inos[ino % BMI_FS_INO_BUCKETS];

	while (node && node->ino != ino)
		node = node->hash_next;
	return node;
}

struct bmi_fs_node *bmi_fs_node_child(struct bmi_fs_node *dir, const char *name)
{
	for (struct bmi_fs_node *node = dir->first; node; node = node->next) {
		if (!strcmp(node->name, name))
			return node;
	}
	return NULL;
}

static void free_if_unused(struct bmi_fs_mount *mnt, struct bmi_fs_node *node)
{
	struct bmi_fs_node **at = &mnt->inos[node->ino % BMI_FS_INO_BUCKETS];

	if (node->n_refs || node->n_lookups)
		return;
	while (*at != node)
		at = &(*at)->hash_next;
	*at = node->hash_next;
	if (node->ses)
		bmi_fs_session_put(node->ses);
	bmi_str_fini(&node->data);
	free(node->name);
	free(node);
}

void bmi_fs_node_unlink(struct bmi_fs_mount *mnt, struct bmi_fs_node *node)
{
	struct bmi_fs_node *parent = node->parent;

	while (node->first)
		bmi_fs_node_unlink(mnt, node->first);
	if (parent) {
		*(node->prev ? &node->prev->next : &parent->first) = node->next;
		*(node->next ? &node->next->prev : &parent->last) = node->prev;
		node->parent = node->prev = node->next = NULL;
	}
	if (node->kind == &bmi_fs_kind_scratch)
		mnt->n_scratch--;
	bmi_fs_node_put(mnt, node);
}

int bmi_fs_node_rename(struct bmi_fs_node *node, const char *name)
{
	char *copy = strdup(name);

	if (!copy)
		return -ENOMEM;
	free(node->name);
	node->name = copy;
	return 0;
}

void bmi_fs_node_get(struct bmi_fs_node *node)
{
	node->n_refs++;
}

void bmi_fs_node_put(struct bmi_fs_mount *mnt, struct bmi_fs_node *node)
{
	assert(node->n_refs > 0);
	node->n_refs--;
	free_if_unused(mnt, node);
}

void bmi_fs_node_forget(struct bmi_fs_mount *mnt, fuse_ino_t ino, uint64_t n)
{
	struct bmi_fs_node *node = bmi_fs_node_find(mnt, ino);

	if (!node)
		return;
	node->n_lookups -= n < node->n_lookups ? n : node->n_lookups;
	free_if_unused(mnt, node);
}

void bmi_fs_session_put(struct bmi_fs_session *ses)
{
	assert(ses->n_refs > 0);
	if (--ses->n_refs)
		return;
	if (!ses->is_root)
		bmi_session_close(ses->engine);
	free(ses);
}

/* Files whose text is made on demand. A report's size is a bound, as in sysfs: st_blksize of the same size tells cp and
 * tail that it is only notional. */
static void stat_text(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct stat *st)
{
	struct bmi_str text = { 0 };

	node->kind->render(mnt, node, &text);
	st->st_size = (off_t)text.n;
	if (node->kind->is_report) {
		while (st->st_blksize < st->st_size)
			st->st_blksize *= 2;
		st->st_size = st->st_blksize;
		if (mnt->changed.tv_sec)
			st->st_mtim = st->st_ctim = mnt->changed;
	}
	bmi_str_fini(&text);
}

void bmi_fs_node_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		      struct stat *ret)
{
	*ret = (struct stat){
		.st_ino = node->ino,
		.st_mode = node->mode,
		.st_nlink = node->parent || node == mnt->root ? 1 : 0,
		.st_uid = node->uid,
		.st_gid = node->gid,
		.st_atim = node->mtime,
		.st_mtim = node->mtime,
		.st_ctim = node->mtime,
		.st_blksize = BMI_FS_PAGE,
	};
	if (S_ISDIR(node->mode)) {
		ret->st_nlink = 2;
		for (const struct bmi_fs_node *c = node->first; c; c = c->next)
			ret->st_nlink += S_ISDIR(c->mode);
	}
	if (node->kind->stat)
		node->kind->stat(mnt, node, h, ret);
	else if (node->kind->render)
		stat_text(mnt, node, ret);
	ret->st_blocks = (ret->st_size + 511) / 512;
}

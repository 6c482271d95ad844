/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what a client has written and not yet finished: bytes in the order they came, whatever offsets say (a file of
 * size 0 has no useful ones). A write is no text and neither is every close: a text is whole when the process that
 * opened the file closes it, at fsync, or at the last close. Invariant: after a refused write nothing of that text is
 * accepted; the refusal is repeated until the text ends.
 */
#include "mount.h"

#include <errno.h>
#include <string.h>

enum { TEXT_MAX = 1 << 20 };

int bmi_fs_complain(struct bmi_fs_mount *mnt, const struct bmi_fs_node *node, const struct bmi_error *err)
{
	struct bmi_str where = { 0 };

	/* params/temperature and sessions/x/input are named as the user sees them */
	if (node->parent && node->parent->parent && node->parent->parent->parent)
		bmi_str_printf(&where, "%s/", node->parent->parent->name);
	if (node->parent && node->parent->parent)
		bmi_str_printf(&where, "%s/", node->parent->name);
	bmi_str_puts(&where, node->name);
	bmi_fs_errlog_add(&mnt->errlog, where.bytes ? where.bytes : node->name, err);
	bmi_str_fini(&where);
	return err->code;
}

static void complain_locked(struct bmi_fs_mount *mnt, const struct bmi_fs_node *node,
			    const struct bmi_error *err)
{
	pthread_mutex_lock(&mnt->lock); /* names change with rename(2) */
	bmi_fs_complain(mnt, node, err);
	pthread_mutex_unlock(&mnt->lock);
}

static bool is_removed(struct bmi_fs_handle *h)
{
	bool dead;

	pthread_mutex_lock(&h->mnt->lock);
	dead = h->node->ses && h->node->ses->is_dead;
	pthread_mutex_unlock(&h->mnt->lock);
	return dead;
}

/* write_lock is held. */
static int collect(struct bmi_fs_handle *h, const char *bytes, size_t n, struct bmi_error *err)
{
	const struct bmi_fs_kind *kind = h->node->kind;
	const size_t max = kind->max ? kind->max(h->mnt) : TEXT_MAX;
	struct bmi_str *text = &h->pending;
	int r = 0;

	if (is_removed(h))
		return bmi_fail(err, -ENOENT, "the session was removed");
	if (kind->value_per_line && text->n && text->bytes[text->n - 1] == '\n')
		bmi_str_fini(text);
	if (!text->n && kind->begin)
		r = kind->begin(h->mnt, h->node, err);
	if (r < 0)
		return r;
	if (n > max || text->n > max - n)
		return bmi_fail(err, -EFBIG, "%zu bytes are more than the limit of %zu", text->n + n, max);
	if (bmi_str_put(text, bytes, n) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for %zu bytes", text->n + n);
	if (kind->check && (!kind->checks_lines || memchr(bytes, '\n', n)))
		r = kind->check(h->mnt, h->node, text->bytes, text->n, err);
	return r;
}

int bmi_fs_writer_write(struct bmi_fs_handle *h, const char *bytes, size_t n, bool nonblock, uint64_t owner)
{
	struct bmi_error err = { 0 };
	int r;

	pthread_mutex_lock(&h->write_lock);
	if (!h->has_owner) {
		h->has_owner = true;
		h->owner = owner;
	}
	if (h->poison) {
		r = h->poison;
	} else {
		r = collect(h, bytes, n, &err);
		if (r == -EBUSY && nonblock) {
			r = -EAGAIN; /* nothing was taken: the same write may be tried again */
		} else if (r < 0) {
			bmi_str_fini(&h->pending);
			h->poison = r;
			complain_locked(h->mnt, h->node, &err);
		}
	}
	pthread_mutex_unlock(&h->write_lock);
	return r;
}

int bmi_fs_writer_commit(struct bmi_fs_handle *h, uint64_t *ret_move)
{
	/* Read before the lock is given up: the handle is not looked at afterwards, so that its release, which takes
	 * the lock too, comes after all use of it. */
	struct bmi_fs_mount *mnt = h->mnt;
	struct bmi_fs_node *node = h->node;
	struct bmi_error err = { 0 };
	struct bmi_str text;
	bool removed;
	int r = 0;

	*ret_move = 0;
	pthread_mutex_lock(&h->write_lock);
	if (h->poison) {
		r = h->poison;
		if (r != -EFBIG) /* too long: whatever follows in this open is more of the same */
			h->poison = 0;
		bmi_str_fini(&h->pending);
		pthread_mutex_unlock(&h->write_lock);
		return r;
	}
	text = h->pending;
	h->pending = (struct bmi_str){ 0 };
	removed = is_removed(h);
	pthread_mutex_unlock(&h->write_lock);

	if (text.n && removed)
		r = bmi_fail(&err, -ENOENT, "the session was removed");
	else if (text.n && node->kind->accept)
		r = node->kind->accept(mnt, node, text.bytes, text.n, ret_move, &err);
	if (r < 0)
		complain_locked(mnt, node, &err);
	bmi_str_fini(&text);
	return r;
}

int bmi_fs_writer_flush(struct bmi_fs_handle *h, pid_t tid, uint64_t owner, uint64_t *ret_move)
{
	bool by_opener = true;
	pid_t group = 0;

	*ret_move = 0;
	pthread_mutex_lock(&h->write_lock);
	if (!h->has_owner) {
		h->has_owner = true;
		h->owner = owner;
	}
	if (h->pending.n || h->poison) {
		/* A child that inherited the file flushes it when it exits; so does `>` before the first byte. */
		if (h->opener > 0)
			group = bmi_fs_tgid(tid);
		by_opener = group > 0 ? group == h->opener : owner == h->owner;
	}
	pthread_mutex_unlock(&h->write_lock);
	return by_opener ? bmi_fs_writer_commit(h, ret_move) : 0;
}

void bmi_fs_writer_drop(struct bmi_fs_handle *h)
{
	pthread_mutex_lock(&h->write_lock);
	bmi_str_fini(&h->pending);
	h->poison = 0;
	pthread_mutex_unlock(&h->write_lock);
}

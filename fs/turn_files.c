/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what input, output and logits do. Invariant: an open of output or logits is bound for its life to the turn that
 * was the session's last when it was opened; with none there is an end of file at once, never a wait for a prompt that
 * may not come.
 */
#include "mount.h"

#include <ctype.h>
#include <errno.h>
#include <poll.h>
#include <string.h>

/* ---- input ---- */

static size_t input_max(struct bmi_fs_mount *mnt)
{
	return mnt->opt->prompt_max;
}

static int input_begin(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_error *err)
{
	return bmi_session_has_room(node->ses->engine, err);
}

static int input_accept(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
			uint64_t *ret_move, struct bmi_error *err)
{
	size_t n_blank = 0;

	while (n_blank < n && isspace((unsigned char)text[n_blank]))
		n_blank++;
	if (n_blank == n)
		return 0;
	if (text[n - 1] == '\n')
		n--;
	return bmi_session_submit(node->ses->engine, text, n, /* ret_turn= */ NULL, err);
}

static void input_open(struct bmi_fs_handle *h, struct fuse_file_info *fi)
{
	fi->nonseekable = 1;
}

static void input_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		       struct stat *st)
{
	st->st_size = 0;
}

const struct bmi_fs_kind bmi_fs_kind_input = {
	.name = "input",
	.mode = S_IFREG | 0200,
	.open = input_open,
	.stat = input_stat,
	.max = input_max,
	.begin = input_begin,
	.accept = input_accept,
};

/* ---- output ---- */

static void bind_turn(struct bmi_fs_handle *h)
{
	h->turn = bmi_session_last_turn(h->node->ses->engine);
	if (h->turn)
		bmi_turn_add_reader(h->turn);
}

static void unbind_turn(struct bmi_fs_handle *h)
{
	struct bmi_turn_info info;

	if (!h->turn)
		return;
	bmi_turn_info(h->turn, &info);
	/* The last reader was interrupted in a read, did not try again, and goes: Ctrl-C, timeout(1), a kill. */
	if (bmi_turn_drop_reader(h->turn) == 0 && h->was_interrupted && !info.done)
		bmi_turn_cancel(h->turn);
	bmi_turn_put(h->turn);
	h->turn = NULL;
}

static void output_open(struct bmi_fs_handle *h, struct fuse_file_info *fi)
{
	struct bmi_turn_info info;

	bind_turn(h);
	if (!h->turn)
		return;
	bmi_turn_info(h->turn, &info);
	/* Not seekable while it grows, so that sendfile(2) users fall back to read(2) instead of trusting the size. */
	fi->nonseekable = !info.done;
}

/*
 * node asks for 512 KiB and takes a short read for the end: such a read is answered when it can be filled or the text
 * is complete. Reads of st_blksize stream; the kernel cuts those from an unaligned buffer by up to a page.
 */
static bool wants_all(size_t size)
{
	return size >= 512 << 10 && (size <= BMI_FS_GROWING - BMI_FS_PAGE || size > BMI_FS_GROWING);
}

static int output_read(struct bmi_fs_handle *h, size_t size, uint64_t off, struct bmi_str *ret)
{
	struct bmi_turn_info info;
	char buf[16384];

	if (!h->turn)
		return 0;
	bmi_turn_info(h->turn, &info);
	if (!info.done && wants_all(size) && info.n_bytes < off + size)
		return -EAGAIN;
	while (ret->n < size) {
		const size_t left = size - ret->n;
		const size_t n =
			bmi_turn_read(h->turn, off + ret->n, buf, left < sizeof(buf) ? left : sizeof(buf));

		if (!n)
			break;
		if (bmi_str_put(ret, buf, n) < 0)
			return -ENOMEM;
	}
	if (ret->n)
		return 0;
	/* All that was there at the time of info has been read; if it was complete then, this is the end. */
	return info.done ? info.code : -EAGAIN;
}

static void stat_growing(uint64_t n_bytes, struct stat *st)
{
	uint64_t size = BMI_FS_GROWING;

	while (n_bytes > size / 2)
		size *= 2;
	st->st_size = (off_t)size;
	st->st_blksize = (blksize_t)size;
}

static void output_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
			struct stat *st)
{
	struct bmi_turn *turn = h ? h->turn : bmi_session_last_turn(node->ses->engine);
	struct bmi_turn_info info;

	if (mnt->changed.tv_sec)
		st->st_mtim = st->st_ctim = mnt->changed;
	if (!turn)
		return;
	bmi_turn_info(turn, &info);
	if (info.done)
		st->st_size = (off_t)info.n_bytes;
	else
		stat_growing(info.n_bytes, st);
	if (!h)
		bmi_turn_put(turn);
}

static unsigned output_poll(struct bmi_fs_handle *h)
{
	struct bmi_turn_info info;

	if (h->turn) {
		bmi_turn_info(h->turn, &info);
		if (!info.done && info.n_bytes <= h->pos)
			return 0;
	}
	return POLLIN | POLLRDNORM;
}

const struct bmi_fs_kind bmi_fs_kind_output = {
	.name = "output",
	.mode = S_IFREG | 0400,
	.open = output_open,
	.close = unbind_turn,
	.stat = output_stat,
	.read = output_read,
	.poll = output_poll,
};

/* ---- logits ---- */

static void logits_open(struct bmi_fs_handle *h, struct fuse_file_info *fi)
{
	const float *logits;
	size_t n;

	bind_turn(h);
	fi->nonseekable = h->turn && bmi_turn_logits(h->turn, &logits, &n) == -EAGAIN;
}

static int logits_read(struct bmi_fs_handle *h, size_t size, uint64_t off, struct bmi_str *ret)
{
	struct bmi_turn_info info;
	const float *logits;
	size_t n;
	int r;

	if (!h->turn)
		return 0;
	r = bmi_turn_logits(h->turn, &logits, &n);
	if (r < 0)
		return r;
	if (!n) { /* the prompt failed: say how, an empty file would look like success */
		bmi_turn_info(h->turn, &info);
		return info.done ? info.code : 0;
	}
	n *= sizeof(*logits);
	if (off >= n)
		return 0;
	n -= (size_t)off;
	return bmi_str_put(ret, (const char *)logits + off, size < n ? size : n);
}

static void logits_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
			struct stat *st)
{
	struct bmi_turn *turn = h ? h->turn : bmi_session_last_turn(node->ses->engine);
	const float *logits;
	size_t n = 0;

	if (!turn)
		return;
	if (bmi_turn_logits(turn, &logits, &n) == -EAGAIN)
		stat_growing(0, st);
	else
		st->st_size = (off_t)(n * sizeof(*logits));
	if (!h)
		bmi_turn_put(turn);
}

static unsigned logits_poll(struct bmi_fs_handle *h)
{
	const float *logits;
	size_t n;

	if (h->turn && bmi_turn_logits(h->turn, &logits, &n) == -EAGAIN)
		return 0;
	return POLLIN | POLLRDNORM;
}

const struct bmi_fs_kind bmi_fs_kind_logits = {
	.name = "logits",
	.mode = S_IFREG | 0400,
	.open = logits_open,
	.close = unbind_turn,
	.stat = logits_stat,
	.read = logits_read,
	.poll = logits_poll,
};

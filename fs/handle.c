/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns open files: making and freeing them, and reading those whose text is made on demand. Invariant: the text a
 * handle reads is one moment's text from its first byte to its last; reading the first byte again makes a new one.
 */
#include "mount.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

struct bmi_fs_handle *bmi_fs_handle_new(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, int flags)
{
	struct bmi_fs_handle *h = calloc(1, sizeof(*h));

	if (!h)
		return NULL;
	h->mnt = mnt;
	h->node = node;
	bmi_fs_node_get(node);
	h->flags = flags;
	atomic_init(&h->nonblock, flags & O_NONBLOCK);
	pthread_mutex_init(&h->write_lock, /* attr= */ NULL);
	h->n_changes = UINT64_MAX; /* never read: what status says is news */
	h->next = mnt->handles;
	if (h->next)
		h->next->prev = h;
	mnt->handles = h;
	return h;
}

void bmi_fs_handle_free(struct bmi_fs_handle *h)
{
	struct bmi_fs_mount *mnt = h->mnt;

	if (h->node->kind->close)
		h->node->kind->close(h);
	*(h->prev ? &h->prev->next : &mnt->handles) = h->next;
	if (h->next)
		h->next->prev = h->prev;
	if (h->poller)
		fuse_pollhandle_destroy(h->poller);
	bmi_fs_node_put(mnt, h->node);
	bmi_str_fini(&h->pending);
	bmi_str_fini(&h->text);
	pthread_mutex_destroy(&h->write_lock);
	free(h);
}

static bool read_proc(pid_t tid, const char *name, char *buf, size_t size)
{
	char path[48];
	ssize_t n;
	int fd;

	if (tid <= 0)
		return false;
	snprintf(path, sizeof(path), "/proc/%d/%s", (int)tid, name);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, buf, size - 1);
	close(fd);
	buf[n > 0 ? n : 0] = 0;
	return n > 0;
}

/*
 * The pid in a FUSE request is a thread's: node opens, writes and closes on three of them. /proc knows the group they
 * share. A client outside our pid namespace is 0; one we may not look at (hidepid) is not found: 0 as well.
 */
pid_t bmi_fs_tgid(pid_t tid)
{
	char buf[1024];
	const char *line;

	if (!read_proc(tid, "status", buf, sizeof(buf)))
		return 0;
	line = strstr(buf, "\nTgid:");
	return line ? (pid_t)strtol(line + strlen("\nTgid:"), /* end= */ NULL, 10) : 0;
}

/* proc(5): the 52nd field of /proc/PID/stat is the exit code in the form of waitpid(2). */
bool bmi_fs_was_killed(pid_t tid)
{
	enum { FIRST_FIELD_BEHIND_NAME = 3, EXIT_CODE = 52 };
	char buf[1024];
	const char *at;
	int status;

	if (!read_proc(tid, "stat", buf, sizeof(buf)))
		return false;
	at = strrchr(buf, ')'); /* the name may hold anything */
	for (unsigned i = FIRST_FIELD_BEHIND_NAME; at && i <= EXIT_CODE; i++) {
		at = strchr(at + 1, ' ');
	}
	status = at ? (int)strtol(at, /* end= */ NULL, 10) : 0;
	return WIFSIGNALED(status) && WTERMSIG(status) != SIGPIPE;
}

int bmi_fs_handle_read(struct bmi_fs_handle *h, size_t size, uint64_t off, bool nonblock, struct bmi_str *ret)
{
	const struct bmi_fs_kind *kind = h->node->kind;
	struct bmi_fs_mount *mnt = h->mnt;
	int r = 0;

	if (kind->read) {
		r = kind->read(h, size, off, ret);
	} else {
		assert(kind->render);
		if (!h->has_text || off == 0) {
			/* O_NONBLOCK asks for what is true now, even in the middle of a move. */
			if (kind->waits_for_move && !nonblock && bmi_engine_is_moving(mnt->eng))
				return -EAGAIN;
			bmi_str_fini(&h->text);
			h->n_changes = bmi_engine_changes(mnt->eng);
			r = kind->render(mnt, h->node, &h->text);
			h->has_text = r == 0;
		}
		if (r == 0 && off < h->text.n) {
			const size_t left = h->text.n - (size_t)off;

			r = bmi_str_put(ret, h->text.bytes + off, size < left ? size : left);
		}
	}
	if (r == 0)
		h->pos = off + ret->n;
	return r;
}

unsigned bmi_fs_handle_poll(struct bmi_fs_handle *h)
{
	unsigned can = 0;

	if (h->node->kind->poll)
		return h->node->kind->poll(h);
	if ((h->flags & O_ACCMODE) != O_WRONLY)
		can |= POLLIN | POLLRDNORM;
	if ((h->flags & O_ACCMODE) != O_RDONLY)
		can |= POLLOUT | POLLWRNORM;
	return can;
}

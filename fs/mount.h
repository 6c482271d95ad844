/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_FS_MOUNT_H
#define BMI_FS_MOUNT_H

/*
 * What the files of this room share: the mount, its nodes, handles and waiting requests, and the table row that says
 * what a kind of file does. To add a file: write its hooks, one struct bmi_fs_kind, and one line in tree.c.
 *
 * Locks, outermost first: a handle's write_lock; the mount's lock; libfuse's, the engine's and the error log's own.
 * No reply, no notification and no fuse_req_interrupt_func() is made with the mount's lock held: libfuse calls our
 * interrupt function with its request locked.
 */
#include "bmi.h"
#include "errlog.h"
#include "log.h"
#include "options.h"

#ifndef FUSE_USE_VERSION
#define FUSE_USE_VERSION 312
#endif
#include <fuse3/fuse_lowlevel.h>

#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

enum {
	/* st_size and st_blksize of a text that still grows: the largest READ the kernel sends, so that a client
	 * which trusts either asks for that much and takes what it gets. */
	BMI_FS_GROWING = 1 << 20,
	BMI_FS_NAME_MAX = 255, /* FUSE itself would allow 1024 */
	BMI_FS_SCRATCH_FILES = 64,
	BMI_FS_INO_BUCKETS = 256, /* a tree has some 40 nodes and 5 a module, a session some 30 */
	BMI_FS_PAGE = 4096,       /* st_size of reports is a multiple of it, as in sysfs */
};

struct bmi_fs_mount;
struct bmi_fs_node;
struct bmi_fs_handle;

/* A session of the engine as the tree sees it; its nodes and their handles hold references. */
struct bmi_fs_session {
	struct bmi_session *engine; /* lent for the root, else ours */
	unsigned n_refs;            /* under mnt->lock */
	bool is_root;
	bool is_dead; /* under mnt->lock: its directory was removed; the engine's turns are cancelled */
};

/*
 * One kind of file. A hook may be NULL. Hooks marked L run with mnt->lock held and must be quick; the others hold only
 * the handle's write_lock, or nothing, and may plan or tokenise.
 */
struct bmi_fs_kind {
	const char *name;    /* NULL: the node is named when it is made */
	mode_t mode;         /* type and permissions, as `ls -l` shows without -o umask */
	bool holds_scratch;  /* a directory where files may be created */
	bool holds_sessions; /* a directory where directories may be */

	void (*open)(struct bmi_fs_handle *h, struct fuse_file_info *fi); /* L */
	void (*close)(struct bmi_fs_handle *h);                           /* L */

	/* L: type, owner and mode are filled; size and blocks are this hook's. @h is NULL for a stat by name. */
	void (*stat)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		     struct stat *st);

	/* L: append the text of the file. Files with this hook need no read hook. */
	int (*render)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret);
	bool is_report;      /* st_size rounded up, like sysfs: the text may grow before it is read */
	bool waits_for_move; /* a read waits until no layer moves */

	/* L: bytes of the file at @off. Return 0 (no bytes: end), -EAGAIN (nothing yet: wait), or an error. */
	int (*read)(struct bmi_fs_handle *h, size_t size, uint64_t off, struct bmi_str *ret);

	/* L: what poll(2) may say. NULL: always ready for what the file is open for. */
	unsigned (*poll)(struct bmi_fs_handle *h);

	/* L: instead of the collecting below: bytes at their offset, and another size. NULL: the size stays. */
	int (*write)(struct bmi_fs_handle *h, const char *bytes, size_t n, uint64_t off, struct bmi_error *err);
	int (*resize)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, uint64_t size, struct bmi_error *err);

	/* Collecting writers. begin: may a text start? check: could it become right? accept: it is whole, do it. */
	size_t (*max)(struct bmi_fs_mount *mnt); /* NULL: 1 MiB */
	int (*begin)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_error *err);
	int (*check)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		     struct bmi_error *err);
	int (*accept)(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
		      uint64_t *ret_move, struct bmi_error *err);
	bool checks_lines;   /* check is called only when a line became complete */
	bool value_per_line; /* bytes behind a complete line start a new value */
	bool is_replaceable; /* rename(2) onto it is a write of the whole text */
	int arg;             /* the hooks' own: which knob, which report */
};

struct bmi_fs_node {
	fuse_ino_t ino;
	const struct bmi_fs_kind *kind;
	char *name;
	struct bmi_fs_node *parent;       /* NULL: the root, or unlinked */
	struct bmi_fs_node *first, *last; /* children, oldest first */
	struct bmi_fs_node *prev, *next;  /* siblings */
	struct bmi_fs_node *hash_next;
	struct bmi_fs_session *ses; /* a reference, or NULL */
	uint64_t cookie;            /* place in readdir(3); never used again in its directory */
	mode_t mode;
	uid_t uid;
	gid_t gid;
	struct timespec mtime;
	uint64_t n_lookups;  /* what the kernel remembers */
	unsigned n_refs;     /* 1 while in the tree, and one per handle */
	struct bmi_str data; /* a scratch file's bytes */
};

struct bmi_fs_handle {
	struct bmi_fs_mount *mnt;
	struct bmi_fs_node *node; /* a reference */
	struct bmi_fs_handle *prev, *next;
	int flags;            /* of open(2) */
	atomic_bool nonblock; /* as last seen: fcntl(2) may change it */

	pthread_mutex_t write_lock; /* guards the next five */
	struct bmi_str pending;     /* collected and not yet accepted */
	int poison;                 /* a refused write: what the rest of this text gets too */
	pid_t opener;               /* thread group; 0: not in our pid namespace */
	uint64_t owner;             /* the first lock owner seen */
	bool has_owner;

	struct bmi_turn *turn; /* under mnt->lock, as all below: what this open of output is bound to */
	struct bmi_str text;   /* a report's text since its first byte was read */
	bool has_text;
	uint64_t n_changes; /* of the engine, when the text was made */
	uint64_t pos;       /* behind the last byte that was read */
	bool was_interrupted; /* the last read was, and none came after it; or the reader was killed between two */
	struct fuse_pollhandle *poller;
};

struct bmi_fs_waiter;

struct bmi_fs_mount {
	struct bmi_engine *eng;
	const struct bmi_fs_options *opt;
	struct bmi_fs_log *log;
	struct fuse_session *fuse;
	struct bmi_fs_errlog errlog;
	uid_t uid;
	gid_t gid;
	uint64_t cap_ns; /* longest time a request may wait; 0: for ever */

	pthread_mutex_t lock; /* guards everything below, and what the structs above say */
	struct bmi_fs_node *inos[BMI_FS_INO_BUCKETS];
	fuse_ino_t last_ino;
	uint64_t last_cookie;
	struct bmi_fs_node *root;
	unsigned n_scratch, n_sessions;
	struct bmi_fs_handle *handles;
	struct bmi_fs_waiter *waiters;
	struct timespec changed; /* when the engine last told of a change */

	int wake_fd; /* eventfd: something may be answerable */
};

/* ---- node.c ---- */
/** bmi_fs_node_new() - a node below @parent (NULL: the root). Copies @name (NULL: the kind's). L. NULL: no memory. */
struct bmi_fs_node *bmi_fs_node_new(struct bmi_fs_mount *mnt, struct bmi_fs_node *parent,
				    const struct bmi_fs_kind *kind, const char *name,
				    struct bmi_fs_session *ses);
/** bmi_fs_node_find() - by number. A number the kernel remembers always has a node. L. */
struct bmi_fs_node *bmi_fs_node_find(struct bmi_fs_mount *mnt, fuse_ino_t ino);
/** bmi_fs_node_child() - by name; NULL: none. L. */
struct bmi_fs_node *bmi_fs_node_child(struct bmi_fs_node *dir, const char *name);
/** bmi_fs_node_unlink() - out of the tree with all below; lives on while referenced. L. */
void bmi_fs_node_unlink(struct bmi_fs_mount *mnt, struct bmi_fs_node *node);
/** bmi_fs_node_rename() - give it another name in its directory. L. Return: 0 or -ENOMEM. */
int bmi_fs_node_rename(struct bmi_fs_node *node, const char *name);
void bmi_fs_node_get(struct bmi_fs_node *node);                                /* L */
void bmi_fs_node_put(struct bmi_fs_mount *mnt, struct bmi_fs_node *node);      /* L */
void bmi_fs_node_forget(struct bmi_fs_mount *mnt, fuse_ino_t ino, uint64_t n); /* L */
void bmi_fs_node_stat(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_fs_handle *h,
		      struct stat *ret); /* L */
/** bmi_fs_session_put() - the last reference closes the engine's session. L. */
void bmi_fs_session_put(struct bmi_fs_session *ses);

/* ---- tree.c ---- */
/** bmi_fs_tree_build() - make the root and everything fixed below it. Return: 0 or -ENOMEM. */
int bmi_fs_tree_build(struct bmi_fs_mount *mnt);
void bmi_fs_tree_fini(struct bmi_fs_mount *mnt);

/** bmi_fs_tree_add_session() - the files every session has, below @dir. L. Return: false without memory. */
bool bmi_fs_tree_add_session(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, struct bmi_fs_session *ses);

/* ---- layer_files.c ---- */
/** bmi_fs_tree_add_layers() - layers/ and a directory in it for each module. Return: false without memory. */
bool bmi_fs_tree_add_layers(struct bmi_fs_mount *mnt, struct bmi_fs_node *root);

/* ---- sessions.c ---- */
/**
 * bmi_fs_session_make() - mkdir(2): a conversation, owned by the caller. L.
 * Return: 0, -EEXIST, -ENAMETOOLONG, -ENOSPC, -ENOMEM.
 */
int bmi_fs_session_make(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, const char *name, mode_t mode,
			const struct fuse_ctx *ctx, struct bmi_fs_node **ret, struct bmi_error *err);
/** bmi_fs_session_end() - rmdir(2): cancel its turns, take it out of the tree. L. */
void bmi_fs_session_end(struct bmi_fs_mount *mnt, struct bmi_fs_node *node);

/* ---- handle.c ---- */
/** bmi_fs_handle_new() - an open of @node by the caller of @req. L. NULL: no memory. */
struct bmi_fs_handle *bmi_fs_handle_new(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, int flags);
void bmi_fs_handle_free(struct bmi_fs_handle *h); /* L */
/** bmi_fs_tgid() - the thread group of a thread, 0 where it cannot be known. */
pid_t bmi_fs_tgid(pid_t tid);
/**
 * bmi_fs_was_killed() - is this thread, which closes a file, dying of a signal other than SIGPIPE?
 * False where that cannot be known: in a foreign pid namespace, or where /proc hides it.
 */
bool bmi_fs_was_killed(pid_t tid);
/** bmi_fs_handle_read() - bytes at @off for any kind with text. L. Return: 0, -EAGAIN: wait, or an error. */
int bmi_fs_handle_read(struct bmi_fs_handle *h, size_t size, uint64_t off, bool nonblock, struct bmi_str *ret);
unsigned bmi_fs_handle_poll(struct bmi_fs_handle *h); /* L */

/* ---- writer.c: collecting writers. None may be called with mnt->lock held ---- */
/** bmi_fs_writer_write() - collect and check. An error is in the error log already. */
int bmi_fs_writer_write(struct bmi_fs_handle *h, const char *bytes, size_t n, bool nonblock, uint64_t owner);
/** bmi_fs_writer_commit() - accept what is pending. *ret_move: a move that was begun, or 0. Errors are in the log. */
int bmi_fs_writer_commit(struct bmi_fs_handle *h, uint64_t *ret_move);
/** bmi_fs_writer_flush() - commit if this close(2) is made by the process that opened the file, else nothing. */
int bmi_fs_writer_flush(struct bmi_fs_handle *h, pid_t tid, uint64_t owner, uint64_t *ret_move);
/** bmi_fs_writer_drop() - ftruncate(fd, 0): forget what is pending and what went wrong. */
void bmi_fs_writer_drop(struct bmi_fs_handle *h);
/** bmi_fs_complain() - an error a user is told of: into last_error. @err holds the sentence. Return: its code. */
int bmi_fs_complain(struct bmi_fs_mount *mnt, const struct bmi_fs_node *node, const struct bmi_error *err);

/* ---- waiter.c ---- */
/** bmi_fs_wait_read() - answer a READ now or when there is something. Owns @req. Not with mnt->lock held. */
void bmi_fs_wait_read(struct bmi_fs_handle *h, fuse_req_t req, size_t size, uint64_t off, bool nonblock);
/** bmi_fs_wait_move() - answer a FLUSH when @move ended. Owns @req. Not with mnt->lock held. */
void bmi_fs_wait_move(struct bmi_fs_mount *mnt, fuse_req_t req, uint64_t move);
/** bmi_fs_wait_sweep() - answer what can be answered, wake pollers. Return: ns until the next cap, 0: none. */
uint64_t bmi_fs_wait_sweep(struct bmi_fs_mount *mnt);
/** bmi_fs_wait_abort() - answer all with ECONNABORTED. */
void bmi_fs_wait_abort(struct bmi_fs_mount *mnt);
/** bmi_fs_wake() - have the waker sweep soon. Async-signal-safe, any thread, never blocks. */
void bmi_fs_wake(struct bmi_fs_mount *mnt);

/* ---- ops*.c ---- */
extern const struct fuse_lowlevel_ops bmi_fs_ops;
void bmi_fs_op_lookup(fuse_req_t req, fuse_ino_t dir, const char *name);
void bmi_fs_op_forget(fuse_req_t req, fuse_ino_t ino, uint64_t n);
void bmi_fs_op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets);
void bmi_fs_op_create(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, struct fuse_file_info *fi);
void bmi_fs_op_entry(fuse_req_t req, struct bmi_fs_mount *mnt, struct bmi_fs_node *node);
void bmi_fs_op_mkdir(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode);
void bmi_fs_op_mknod(fuse_req_t req, fuse_ino_t dir, const char *name, mode_t mode, dev_t dev);
void bmi_fs_op_symlink(fuse_req_t req, const char *target, fuse_ino_t dir, const char *name);
void bmi_fs_op_link(fuse_req_t req, fuse_ino_t ino, fuse_ino_t dir, const char *name);
void bmi_fs_op_unlink(fuse_req_t req, fuse_ino_t dir, const char *name);
void bmi_fs_op_rmdir(fuse_req_t req, fuse_ino_t dir, const char *name);
void bmi_fs_op_rename(fuse_req_t req, fuse_ino_t dir, const char *name, fuse_ino_t new_dir,
		      const char *new_name, unsigned flags);
void bmi_fs_op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void bmi_fs_op_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t off, struct fuse_file_info *fi);
void bmi_fs_op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t off,
		     struct fuse_file_info *fi);
void bmi_fs_op_flush(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void bmi_fs_op_fsync(fuse_req_t req, fuse_ino_t ino, int datasync, struct fuse_file_info *fi);
void bmi_fs_op_release(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi);
void bmi_fs_op_poll(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi, struct fuse_pollhandle *ph);

/* ---- the kinds of files ---- */
extern const struct bmi_fs_kind bmi_fs_kind_root, bmi_fs_kind_params, bmi_fs_kind_model, bmi_fs_kind_scratch;
extern const struct bmi_fs_kind bmi_fs_kind_input, bmi_fs_kind_output, bmi_fs_kind_logits, bmi_fs_kind_param;
extern const struct bmi_fs_kind bmi_fs_kind_param_lines;
extern const struct bmi_fs_kind bmi_fs_kind_device_map, bmi_fs_kind_dtype, bmi_fs_kind_max_memory;
extern const struct bmi_fs_kind bmi_fs_kind_hf_device_map, bmi_fs_kind_placement, bmi_fs_kind_status;
extern const struct bmi_fs_kind bmi_fs_kind_last_error, bmi_fs_kind_ctl;
extern const struct bmi_fs_kind bmi_fs_kind_sessions, bmi_fs_kind_session, bmi_fs_kind_session_status;

/* ---- serve.c ---- */
/**
 * bmi_fs_mount_init() - the tree over an opened engine; no thread, no mount yet. @mnt keeps the pointers, owns @eng
 * and is given to bmi_fs_mount_fini() even after a failure. Return: 0, -ENOMEM, -EMFILE.
 */
int bmi_fs_mount_init(struct bmi_fs_mount *mnt, struct bmi_engine *eng, const struct bmi_fs_options *opt,
		      struct bmi_fs_log *log, struct bmi_error *err);
void bmi_fs_mount_fini(struct bmi_fs_mount *mnt);

/**
 * bmi_fs_serve() - start the engine and answer requests until unmounted or told to end by SIGTERM, SIGINT or SIGHUP.
 * Unmounts. @started is called once, when requests are about to be answered (or failed to: its code is not 0); @settled
 * when the first load ended one way or the other. Both may be NULL and are called from any thread.
 *
 * Return: 0 or what went wrong.
 */
struct bmi_fs_serve_hooks {
	void (*started)(void *ctx, const struct bmi_error *err); /* err NULL: all is well */
	void (*settled)(void *ctx);
	void *ctx;
};
int bmi_fs_serve(struct bmi_fs_mount *mnt, const struct bmi_fs_serve_hooks *hooks, struct bmi_error *err);

#endif

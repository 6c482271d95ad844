/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the life of a mount: its memory, the waker thread, signals, and the order in which all ends. Invariant: every
 * thread but the waker has the ending signals blocked, so that they are read in one place; the waker is joined before
 * the FUSE descriptor is closed, so that no reply goes to a number that was opened again.
 */
#include "mount.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

struct waker {
	struct bmi_fs_mount *mnt;
	const struct bmi_fs_serve_hooks *hooks;
	pthread_t thread, main_thread;
	int signal_fd;
	atomic_bool loop_ended;
	bool is_settled, is_ending; /* the waker's own */
};

/* Seconds in a file of /proc/sys/fs/fuse; 0 where there is none. */
static unsigned read_timeout(const char *path)
{
	char buf[32] = "";
	const int fd = open(path, O_RDONLY | O_CLOEXEC);

	if (fd < 0)
		return 0;
	if (read(fd, buf, sizeof(buf) - 1) < 0)
		buf[0] = 0;
	close(fd);
	return (unsigned)strtoul(buf, /* end= */ NULL, 10);
}

/* A kernel told to time requests out aborts the whole mount when one waits too long: answer after half the time. */
static uint64_t request_cap_ns(void)
{
	const unsigned by_default = read_timeout("/proc/sys/fs/fuse/default_request_timeout");
	const unsigned most = read_timeout("/proc/sys/fs/fuse/max_request_timeout");
	unsigned s = by_default && most ? (by_default < most ? by_default : most) : by_default + most;

	return (uint64_t)s * 1000000000u / 2;
}

int bmi_fs_mount_init(struct bmi_fs_mount *mnt, struct bmi_engine *eng, const struct bmi_fs_options *opt,
		      struct bmi_fs_log *log, struct bmi_error *err)
{
	*mnt = (struct bmi_fs_mount){
		.eng = eng,
		.opt = opt,
		.log = log,
		.uid = opt->has_uid ? opt->uid : getuid(),
		.gid = opt->has_gid ? opt->gid : getgid(),
		.cap_ns = request_cap_ns(),
	};
	pthread_mutex_init(&mnt->lock, /* attr= */ NULL);
	bmi_fs_errlog_init(&mnt->errlog);
	mnt->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mnt->wake_fd < 0)
		return bmi_fail_errno(err, -errno, "eventfd");
	if (bmi_fs_tree_build(mnt) < 0)
		return bmi_fail(err, -ENOMEM, "no memory for the tree");
	return 0;
}

void bmi_fs_mount_fini(struct bmi_fs_mount *mnt)
{
	pthread_mutex_lock(&mnt->lock);
	while (mnt->handles)
		bmi_fs_handle_free(mnt->handles);
	bmi_fs_tree_fini(mnt);
	pthread_mutex_unlock(&mnt->lock);
	bmi_engine_close(mnt->eng); /* its events end here */
	if (mnt->wake_fd >= 0)
		close(mnt->wake_fd);
	bmi_fs_errlog_fini(&mnt->errlog);
	pthread_mutex_destroy(&mnt->lock);
}

static void on_changed(void *ctx)
{
	bmi_fs_wake(ctx);
}

static void on_failed(void *ctx, const char *file, const struct bmi_error *err)
{
	struct bmi_fs_mount *mnt = ctx;

	bmi_fs_errlog_add(&mnt->errlog, file, err);
	bmi_fs_log(mnt->log, BMI_FS_LOG_ERROR, "%s: %s", file, err->msg);
	bmi_fs_wake(mnt);
}

static void check_settled(struct waker *wk)
{
	enum bmi_state state;

	if (wk->is_settled)
		return;
	state = bmi_engine_state(wk->mnt->eng);
	if (state == BMI_STATE_LOADING || state == BMI_STATE_PLACING)
		return;
	wk->is_settled = true;
	bmi_fs_log(wk->mnt->log, BMI_FS_LOG_INFO, "the model is %s",
		   state == BMI_STATE_READY ? "ready" : "not loaded");
	if (wk->hooks && wk->hooks->settled)
		wk->hooks->settled(wk->hooks->ctx);
}

static void drain(struct waker *wk)
{
	struct signalfd_siginfo sig;
	uint64_t count;

	if (read(wk->mnt->wake_fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
		bmi_fs_log(wk->mnt->log, BMI_FS_LOG_ERROR, "eventfd: %s", strerror(errno));
	while (read(wk->signal_fd, &sig, sizeof(sig)) == (ssize_t)sizeof(sig)) {
		bmi_fs_log(wk->mnt->log, BMI_FS_LOG_INFO, "signal %u: unmounting", sig.ssi_signo);
		wk->is_ending = true;
		fuse_session_exit(wk->mnt->fuse);
	}
}

static void *wake_loop(void *ctx)
{
	struct waker *wk = ctx;
	struct bmi_fs_mount *mnt = wk->mnt;

	while (!atomic_load(&wk->loop_ended)) {
		struct pollfd fds[] = { { .fd = mnt->wake_fd, .events = POLLIN },
					{ .fd = wk->signal_fd, .events = POLLIN } };
		uint64_t wait_ns;
		struct timespec wait;

		pthread_mutex_lock(&mnt->lock);
		clock_gettime(CLOCK_REALTIME, &mnt->changed);
		pthread_mutex_unlock(&mnt->lock);
		check_settled(wk);
		wait_ns = bmi_fs_wait_sweep(mnt);
		if (wk->is_ending) {
			/* libfuse's loop sleeps on a semaphore between looking and sleeping: nudge until it is out. */
			pthread_kill(wk->main_thread, SIGUSR1);
			wait_ns = 20000000;
		}
		wait = (struct timespec){ .tv_sec = (time_t)(wait_ns / 1000000000u),
					  .tv_nsec = (long)(wait_ns % 1000000000u) };
		ppoll(fds, 2, wait_ns ? &wait : NULL, /* sigmask= */ NULL);
		drain(wk);
	}
	return NULL;
}

static void on_nudge(int sig)
{
}

/* Block the ending signals in this thread and all it will make. */
static int take_signals(struct waker *wk, struct bmi_error *err)
{
	const struct sigaction ignore = { .sa_handler = SIG_IGN };
	const struct sigaction nudge = { .sa_handler = on_nudge }; /* no SA_RESTART: it must interrupt */
	sigset_t ending, mine;

	sigemptyset(&ending);
	sigaddset(&ending, SIGTERM);
	sigaddset(&ending, SIGINT);
	sigaddset(&ending, SIGHUP);
	sigemptyset(&mine);
	sigaddset(&mine, SIGUSR1);
	sigaction(SIGPIPE, &ignore, /* old= */ NULL);
	sigaction(SIGUSR1, &nudge, /* old= */ NULL);
	pthread_sigmask(SIG_BLOCK, &ending, /* old= */ NULL);
	pthread_sigmask(SIG_UNBLOCK, &mine, /* old= */ NULL);
	wk->signal_fd = signalfd(-1, &ending, SFD_CLOEXEC | SFD_NONBLOCK);
	return wk->signal_fd < 0 ? bmi_fail_errno(err, -errno, "signalfd") : 0;
}

static int run_loop(struct bmi_fs_mount *mnt, struct bmi_error *err)
{
	struct fuse_loop_config *config = fuse_loop_cfg_create();
	int r;

	if (!config)
		return bmi_fail(err, -ENOMEM, "no memory for the FUSE loop");
	fuse_loop_cfg_set_clone_fd(config, 0);
	r = fuse_session_loop_mt(mnt->fuse, config);
	fuse_loop_cfg_destroy(config);
	return r < 0 && r != -ENODEV ? bmi_fail_errno(err, r, "the FUSE loop ended") : 0;
}

int bmi_fs_serve(struct bmi_fs_mount *mnt, const struct bmi_fs_serve_hooks *hooks, struct bmi_error *err)
{
	const struct bmi_events events = { .changed = on_changed, .failed = on_failed, .ctx = mnt };
	struct waker wk = { .mnt = mnt, .hooks = hooks, .main_thread = pthread_self(), .signal_fd = -1 };
	bool has_waker = false;
	struct bmi_error problem;
	int r;

	r = take_signals(&wk, err);
	if (r == 0)
		r = bmi_engine_start(mnt->eng, &events, err);
	if (r == 0) {
		if (bmi_engine_problem(mnt->eng, &problem))
			bmi_fs_errlog_add(&mnt->errlog, "device_map.yaml", &problem);
		r = -pthread_create(&wk.thread, /* attr= */ NULL, wake_loop, &wk);
		has_waker = r == 0;
		if (r < 0)
			bmi_fail_errno(err, r, "start a thread");
	}
	if (hooks && hooks->started)
		hooks->started(hooks->ctx, r < 0 ? err : NULL);
	if (r == 0)
		r = run_loop(mnt, err);
	if (has_waker) {
		atomic_store(&wk.loop_ended, true);
		bmi_fs_wake(mnt);
		pthread_join(wk.thread, /* ret= */ NULL);
	}
	bmi_fs_wait_abort(mnt);
	fuse_session_unmount(mnt->fuse);
	if (wk.signal_fd >= 0)
		close(wk.signal_fd);
	return r;
}

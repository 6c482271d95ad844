/* SPDX-License-Identifier: Apache-2.0 */
/*
 * mount.bmifs: from a command line to a mounted model. Owns the order of things, so that the exit status is true: the
 * model is checked, then mounted, then the process goes to the background, then threads start; whoever waits in the
 * shell hears of a failure in any of these. Invariant: no thread exists when it forks.
 */
#include "mount.h"
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { EXIT_OK = 0, EXIT_USAGE = 1, EXIT_MOUNT = 32 /* mount(8): mount failure */ };

struct program {
	struct bmi_fs_options opt;
	struct bmi_fs_log log;
	struct bmi_fs_mount mnt;
	int report_fd; /* to the parent that waits; -1: none */
};

/* What the child tells its parent, once. */
struct report {
	int code; /* exit status */
	char msg[BMI_ERROR_MSG_MAX];
};

static int complain(int status, const char *msg)
{
	fprintf(stderr, "mount.bmifs: %s\n", msg);
	return status;
}

static int print_help(void)
{
	struct bmi_str text = { 0 };

	bmi_fs_options_help(&text);
	fputs(text.bytes ? text.bytes : "", stdout);
	bmi_str_fini(&text);
	return fflush(stdout) ? EXIT_USAGE : EXIT_OK;
}

static int print_plan(const struct bmi_engine_options *eng_opt, bool json)
{
	struct bmi_str text = { 0 };
	struct bmi_error err = { 0 };
	const int r = bmi_plan_report(eng_opt, json, &text, &err);

	if (r < 0 && json && !text.n) {
		bmi_str_puts(&text, "{\"error\": {\"kind\": \"model\", \"message\": ");
		bmi_str_put_json(&text, err.msg, strlen(err.msg));
		bmi_str_puts(&text, "}}\n");
	}
	if (text.n)
		fwrite(text.bytes, 1, text.n, stdout);
	bmi_str_fini(&text);
	if (r < 0 && !json)
		complain(EXIT_USAGE, err.msg);
	return fflush(stdout) || r < 0 ? EXIT_USAGE : EXIT_OK;
}

static int print_rates(const char *model)
{
	struct bmi_str text = { 0 };
	struct bmi_error err = { 0 };
	const int r = bmi_measure(model, &text, &err);

	if (r == 0 && text.n)
		fwrite(text.bytes, 1, text.n, stdout);
	bmi_str_fini(&text);
	if (r < 0)
		complain(EXIT_USAGE, err.msg);
	return fflush(stdout) || r < 0 ? EXIT_USAGE : EXIT_OK;
}

/* The engine may open files later, when the daemon's directory is another. Links stay: their names carry meaning. */
static int make_absolute(char **path, struct bmi_error *err)
{
	char *here, *full = NULL;

	if ((*path)[0] == '/')
		return 0;
	here = getcwd(NULL, 0);
	if (!here || asprintf(&full, "%s/%s", here, *path) < 0) {
		free(here);
		return bmi_fail_errno(err, -errno, "the current directory");
	}
	free(here);
	free(*path);
	*path = full;
	return 0;
}

static int open_log(struct program *p, struct bmi_error *err)
{
	p->log = (struct bmi_fs_log){ .fd = STDERR_FILENO, .with_debug = p->opt.debug || p->opt.verbose };
	if (!p->opt.log_path)
		return 0;
	p->log.fd = open(p->opt.log_path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
	p->log.with_time = true;
	return p->log.fd < 0 ? bmi_fail_errno(err, -errno, "log file '%s'", p->opt.log_path) : 0;
}

static struct fuse_session *new_session(struct program *p)
{
	struct fuse_args args = FUSE_ARGS_INIT(0, NULL);
	struct fuse_session *se = NULL;
	char *list = NULL;
	bool ok;

	ok = fuse_opt_add_opt(&list, "default_permissions") == 0 &&
	     fuse_opt_add_opt(&list, "subtype=bmifs") == 0;
	if (ok && p->opt.kernel.n)
		ok = fuse_opt_add_opt(&list, p->opt.kernel.bytes) == 0;
	if (ok) {
		struct bmi_str name = { 0 };

		bmi_str_printf(&name, "fsname=%s", p->opt.fsname ? p->opt.fsname : p->opt.model);
		ok = bmi_str_ok(&name) && fuse_opt_add_opt_escaped(&list, name.bytes) == 0;
		bmi_str_fini(&name);
	}
	ok = ok && fuse_opt_add_arg(&args, "mount.bmifs") == 0 && fuse_opt_add_arg(&args, "-o") == 0 &&
	     fuse_opt_add_arg(&args, list) == 0;
	if (ok && p->opt.debug)
		ok = fuse_opt_add_arg(&args, "-d") == 0;
	if (ok)
		se = fuse_session_new(&args, &bmi_fs_ops, sizeof(bmi_fs_ops), &p->mnt);
	fuse_opt_free_args(&args);
	free(list);
	return se;
}

/* ---- the child's word to its parent ---- */

static void tell_parent(struct program *p, int code, const char *msg)
{
	struct report report = { .code = code };

	if (p->report_fd < 0)
		return;
	snprintf(report.msg, sizeof(report.msg), "%s", msg);
	if (write(p->report_fd, &report, sizeof(report)) < 0)
		bmi_fs_log(&p->log, BMI_FS_LOG_ERROR, "the parent is gone: %s", strerror(errno));
	close(p->report_fd);
	p->report_fd = -1;
}

/* From here on nobody looks at the terminal. */
static void leave_terminal(struct program *p)
{
	const int null = open("/dev/null", O_RDWR | O_CLOEXEC);

	if (null >= 0) {
		dup2(null, STDIN_FILENO);
		dup2(null, STDOUT_FILENO);
		dup2(p->opt.log_path ? p->log.fd : null, STDERR_FILENO);
		close(null);
	}
	if (!p->opt.log_path)
		bmi_fs_log_to_syslog(&p->log);
}

static void on_started(void *ctx, const struct bmi_error *err)
{
	struct program *p = ctx;

	if (err) {
		if (p->report_fd < 0)
			complain(EXIT_MOUNT, err->msg);
		tell_parent(p, EXIT_MOUNT, err->msg);
		return;
	}
	bmi_fs_log(&p->log, BMI_FS_LOG_INFO, "serving %s", bmi_engine_model_dir(p->mnt.eng));
	if (!p->opt.wait)
		tell_parent(p, EXIT_OK, "");
}

/* From the waker: the first load has ended. With -o wait it alone speaks to the parent once all threads run. */
static void on_settled(void *ctx)
{
	struct program *p = ctx;
	struct bmi_error why = { 0 };

	if (!p->opt.wait)
		return;
	if (bmi_engine_problem(p->mnt.eng, &why))
		tell_parent(p, EXIT_OK, why.msg);
	else
		tell_parent(p, EXIT_OK, "");
}

static int await_child(struct program *p, pid_t pid, int fd)
{
	struct report report = { 0 };
	ssize_t n;
	int status;

	do
		n = read(fd, &report, sizeof(report));
	while (n < 0 && errno == EINTR);
	if (n == (ssize_t)sizeof(report)) {
		if (report.msg[0])
			complain(report.code, report.msg);
		if (report.code != EXIT_OK)
			waitpid(pid, &status, 0); /* it unmounts before it ends */
		return report.code;
	}
	waitpid(pid, &status, 0);
	fuse_session_unmount(p->mnt.fuse); /* it crashed: nobody else can */
	return complain(EXIT_MOUNT, "the daemon ended before it was ready");
}

/* Return: -1 in the child (or when staying in the foreground), else the parent's exit status. */
static int to_background(struct program *p)
{
	int fds[2];
	pid_t pid;

	if (p->opt.foreground)
		return -1;
	pid = pipe2(fds, O_CLOEXEC) < 0 ? -1 : fork();
	if (pid < 0) {
		complain(EXIT_MOUNT, strerror(errno));
		fuse_session_unmount(p->mnt.fuse);
		return EXIT_MOUNT;
	}
	if (pid > 0) {
		close(fds[1]);
		return await_child(p, pid, fds[0]);
	}
	close(fds[0]);
	p->report_fd = fds[1];
	setsid();
	if (chdir("/") < 0)
		bmi_fs_log(&p->log, BMI_FS_LOG_ERROR, "chdir /: %s", strerror(errno));
	leave_terminal(p);
	/* A core of this process would hold the prompts and answers of everybody who used it. */
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
	return -1;
}

static int serve(struct program *p)
{
	const struct bmi_fs_serve_hooks hooks = { .started = on_started, .settled = on_settled, .ctx = p };
	struct bmi_error err = { 0 };
	int r;

	r = bmi_fs_serve(&p->mnt, &hooks, &err);
	if (r < 0)
		bmi_fs_log(&p->log, BMI_FS_LOG_ERROR, "%s", err.msg);
	else
		bmi_fs_log(&p->log, BMI_FS_LOG_INFO, "unmounted");
	return r < 0 ? EXIT_MOUNT : EXIT_OK;
}

static int mount_and_serve(struct program *p, const char *mountpoint)
{
	int status;

	p->mnt.fuse = new_session(p);
	if (!p->mnt.fuse)
		return complain(EXIT_MOUNT, "libfuse refused the options");
	if (fuse_session_mount(p->mnt.fuse, mountpoint) < 0) {
		fuse_session_destroy(p->mnt.fuse);
		return complain(EXIT_MOUNT, "mounting failed (see the line above)");
	}
	status = to_background(p);
	if (status >= 0)
		_exit(status); /* the parent: the mount and its memory are the child's */
	status = serve(p);
	fuse_session_destroy(p->mnt.fuse);
	return status;
}

static int run(struct program *p)
{
	struct bmi_engine_options eng_opt;
	struct bmi_str note = { 0 };
	struct bmi_engine *eng = NULL;
	struct bmi_error err = { 0 };
	char *mountpoint = NULL;
	int status;

	bmi_fs_options_engine(&p->opt, &eng_opt);
	if (p->opt.plan)
		return print_plan(&eng_opt, p->opt.json);
	if (p->opt.measure)
		return print_rates(p->opt.model);
	if (bmi_fs_mountpoint_prepare(p->opt.mountpoint, &mountpoint, &note, &err) < 0)
		return complain(EXIT_MOUNT, err.msg);
	if (note.n)
		complain(0, note.bytes);
	bmi_str_fini(&note);
	if (bmi_engine_open(&eng_opt, &eng, &err) < 0) {
		status = complain(EXIT_MOUNT, err.msg);
	} else if (p->opt.fake) {
		bmi_engine_close(eng);
		status = EXIT_OK;
	} else if (bmi_fs_mount_init(&p->mnt, eng, &p->opt, &p->log, &err) < 0) {
		status = complain(EXIT_MOUNT, err.msg);
		bmi_fs_mount_fini(&p->mnt);
	} else {
		status = mount_and_serve(p, mountpoint);
		bmi_fs_mount_fini(&p->mnt);
	}
	free(mountpoint);
	return status;
}

int main(int argc, char **argv)
{
	struct program p = { .report_fd = -1 };
	struct bmi_error err = { 0 };
	int status;

	umask(0077); /* whatever this process creates belongs to its user alone */
	if (bmi_fs_options_parse(argc, argv, &p.opt, &err) < 0) {
		complain(EXIT_USAGE, err.msg);
		fputs("Try 'mount.bmifs --help'.\n", stderr);
		status = EXIT_USAGE;
	} else if (p.opt.help) {
		status = print_help();
	} else if (p.opt.version) {
		printf("mount.bmifs %s\n", bmi_version());
		status = EXIT_OK;
	} else if (bmi_fs_options_load_map(&p.opt, &err) < 0 || make_absolute(&p.opt.model, &err) < 0 ||
		   open_log(&p, &err) < 0) {
		status = complain(EXIT_USAGE, err.msg);
	} else {
		p.opt.foreground |= p.opt.debug;
		status = run(&p);
	}
	if (p.opt.log_path && p.log.fd > STDERR_FILENO)
		close(p.log.fd);
	bmi_fs_options_fini(&p.opt);
	return status;
}

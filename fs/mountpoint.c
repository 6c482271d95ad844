/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what is asked of a mount point before mounting. Invariant: nothing alive is unmounted; only a mount that answers
 * ENOTCONN, which no request can reach any more.
 */
#include "mountpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STACKED_MAX = 16 /* dead mounts on top of each other: a daemon killed again and again */ };

/* realpath() of the directory and the last name as it is: that one may be a dead mount, which cannot be looked into. */
static char *resolve(const char *path)
{
	char *copy = strdup(path), *full = NULL, *dir;
	const char *name;
	size_t n;

	if (!copy)
		return NULL;
	n = strlen(copy);
	while (n > 1 && copy[n - 1] == '/')
		copy[--n] = 0;
	name = strrchr(copy, '/');
	name = name ? name + 1 : copy;
	if (!strcmp(name, ".") || !strcmp(name, "..") || !*name) {
		full = realpath(copy, NULL);
		free(copy);
		return full;
	}
	dir = name == copy ? realpath(".", NULL) : NULL;
	if (!dir) {
		const char kept = *name;

		copy[name - copy] = 0;
		dir = realpath(copy, NULL);
		copy[name - copy] = kept;
	}
	if (dir && asprintf(&full, "%s/%s", strcmp(dir, "/") ? dir : "", name) < 0)
		full = NULL;
	free(dir);
	free(copy);
	return full;
}

static int run_fusermount(const char *path)
{
	const pid_t pid = fork();
	int status = -1;

	if (pid == 0) {
		execlp("fusermount3", "fusermount3", "-u", "-z", "-q", "--", path, (char *)NULL);
		_exit(127);
	}
	if (pid < 0 || waitpid(pid, &status, 0) < 0)
		return -errno;
	return WIFEXITED(status) && WEXITSTATUS(status) == 0 ? 0 : -EPERM;
}

static int clear_dead(const char *path, struct bmi_str *ret_note, struct bmi_error *err)
{
	struct stat st;
	int r = 0;

	for (unsigned i = 0; i < STACKED_MAX && stat(path, &st) < 0 && errno == ENOTCONN; i++) {
		r = umount2(path, MNT_DETACH) < 0 ? -errno : 0;
		if (r == -EPERM)
			r = run_fusermount(path);
		if (r < 0)
			return bmi_fail_errno(
				err, -ENOTCONN,
				"the daemon of the mount on '%s' died and it cannot be unmounted "
				"(umount -l '%s')",
				path, path);
		if (!i)
			bmi_str_printf(ret_note, "cleared a dead mount from '%s'", path);
	}
	return r;
}

/* mountinfo writes blank, tab, newline and backslash as \ooo. */
static void decode_octal(char *s)
{
	char *to = s;

	for (; *s; s++) {
		if (s[0] == '\\' && s[1] && s[2] && s[3]) {
			*to++ = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to++ = *s;
		}
	}
	*to = 0;
}

/* Is the topmost mount on @path one of ours? "id parent dev root point options [tags] - type source super" */
static bool is_bmifs(const char *path)
{
	FILE *f = fopen("/proc/self/mountinfo", "re");
	char *line = NULL;
	size_t cap = 0;
	bool is = false;

	if (!f)
		return false;
	while (getline(&line, &cap, f) > 0) {
		char *sep = strstr(line, " - "), *point = line, *end;

		for (unsigned i = 0; point && i < 4; i++)
			point = strchr(point, ' ') ? strchr(point, ' ') + 1 : NULL;
		end = point ? strchr(point, ' ') : NULL;
		if (!sep || !end)
			continue;
		*end = 0;
		decode_octal(point);
		if (!strcmp(point, path))
			is = !strncmp(sep + 3, "fuse.bmifs ", strlen("fuse.bmifs "));
	}
	free(line);
	fclose(f);
	return is;
}

static bool is_in_path(const char *name)
{
	static const char *const dirs[] = { "/usr/bin", "/bin", "/usr/local/bin" };
	char file[PATH_MAX];

	for (size_t i = 0; i < sizeof(dirs) / sizeof(dirs[0]); i++) {
		snprintf(file, sizeof(file), "%s/%s", dirs[i], name);
		if (access(file, X_OK) == 0)
			return true;
	}
	return false;
}

static int check_fuse(struct bmi_error *err)
{
	if (access("/dev/fuse", F_OK) < 0)
		return bmi_fail(err, -ENODEV,
				"there is no /dev/fuse: load the module (modprobe fuse), or give the "
				"container --device /dev/fuse --cap-add SYS_ADMIN");
	if (geteuid() == 0)
		return 0;
	if (access("/dev/fuse", R_OK | W_OK) < 0)
		return bmi_fail(err, -EACCES,
				"/dev/fuse is not yours to open: ask for mode 0666, or mount as root");
	if (!is_in_path("fusermount3"))
		return bmi_fail(
			err, -ENOENT,
			"fusermount3 is missing, and only root mounts without it: install the package fuse3");
	return 0;
}

int bmi_fs_mountpoint_prepare(const char *path, char **ret_path, struct bmi_str *ret_note, struct bmi_error *err)
{
	struct stat st;
	char *full;
	int r;

	if (!strncmp(path, "/dev/fd/", strlen("/dev/fd/"))) { /* mounted already, by who may: nothing to check */
		*ret_path = strdup(path);
		return *ret_path ? 0 : bmi_fail(err, -ENOMEM, "no memory for a path");
	}
	r = check_fuse(err);
	if (r < 0)
		return r;
	full = resolve(path);
	if (!full)
		return bmi_fail_errno(err, errno ? -errno : -ENOENT, "mount point '%s'", path);
	r = clear_dead(full, ret_note, err);
	if (r == 0) {
		/* only now can the last name be looked into: it may be a link */
		char *real = realpath(full, NULL);

		free(full);
		full = real;
		if (!full)
			return bmi_fail_errno(err, -errno, "mount point '%s'", path);
		if (stat(full, &st) < 0)
			r = bmi_fail_errno(err, -errno, "mount point '%s'", path);
		else if (!S_ISDIR(st.st_mode))
			r = bmi_fail(err, -ENOTDIR, "mount point '%s' is not a directory", path);
		else if (is_bmifs(full))
			r = bmi_fail(err, -EBUSY, "a bmifs is mounted on '%s' already: unmount it first", path);
	}
	if (r < 0) {
		free(full);
		return r;
	}
	*ret_path = full;
	return 0;
}

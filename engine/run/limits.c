/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns nothing: reads /proc and the control group files and says how much memory may be taken. What cannot be read or
 * understood is no limit, except /proc/meminfo. File names are the kernel's (Documentation/admin-guide/cgroup-v2.rst and
 * cgroup-v1/memory.rst).
 * Invariant: the answer is never more than MemAvailable.
 */
#include "run/limits.h"

#include "base/cleanup.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* What differs between the two versions of control groups. */
struct cgroup_version {
	const char *fs_type;
	const char *limit[2]; /* files; the lower counts */
	const char *usage;
	const char *file_cache[2]; /* keys of memory.stat: page cache of this group and those below it */
	const char *above; /* key of memory.stat: the lowest limit of this group and those above it, seen or not */
};

static const struct cgroup_version version_2 = {
	"cgroup2", { "memory.max", "memory.high" }, "memory.current", { "active_file", "inactive_file" },
	NULL,
};
static const struct cgroup_version version_1 = {
	"cgroup",
	{ "memory.limit_in_bytes", NULL },
	"memory.usage_in_bytes",
	{ "total_active_file", "total_inactive_file" },
	"hierarchical_memory_limit",
};

/* A file of the kernel's, whose size stat(2) does not tell. Return: its text, to be freed, or NULL and errno. */
static char *read_text(const char *path)
{
	bmi_auto_fd fd = open(path, O_RDONLY | O_CLOEXEC);
	bmi_auto_str text = { 0 };
	char buf[4096];
	ssize_t n;

	if (fd < 0)
		return NULL;
	while ((n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return NULL;
		bmi_str_put(&text, buf, (size_t)n);
	}
	bmi_str_put(&text, "", 0);
	if (!bmi_str_ok(&text) || !text.bytes) {
		errno = ENOMEM;
		return NULL;
	}
	return bmi_steal(&text.bytes);
}

static char *read_below(const char *dir, const char *name)
{
	char path[PATH_MAX];

	if ((size_t)snprintf(path, sizeof(path), "%s/%s", dir, name) >= sizeof(path)) {
		errno = ENAMETOOLONG;
		return NULL;
	}
	return read_text(path);
}

/* "key 123" or "key: 123 kB" at the start of a line. */
static bool find_value(const char *text, const char *key, uint64_t *ret)
{
	const size_t n = strlen(key);

	for (const char *line = text; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (strncmp(line, key, n) == 0 && (line[n] == ':' || line[n] == ' '))
			return sscanf(line + n + (line[n] == ':'), "%" SCNu64, ret) == 1;
	}
	return false;
}

/* One number alone in a file. False also for "max". */
static bool read_value(const char *dir, const char *name, uint64_t *ret)
{
	bmi_auto_mem char *text = read_below(dir, name);

	return text && sscanf(text, "%" SCNu64, ret) == 1;
}

static int read_meminfo(const char *root, uint64_t *ret, struct bmi_error *err)
{
	bmi_auto_mem char *text = read_below(root, "proc/meminfo");
	uint64_t kib = 0, cached = 0, buffers = 0;

	if (!text)
		return bmi_fail_errno(err, -errno, "read %s/proc/meminfo", root);
	if (!find_value(text, "MemAvailable", &kib)) { /* before Linux 3.14 */
		if (!find_value(text, "MemFree", &kib))
			return bmi_fail(err, -EINVAL,
					"%s/proc/meminfo does not say how much memory is available", root);
		(void)find_value(text, "Cached", &cached);
		(void)find_value(text, "Buffers", &buffers);
	}
	*ret = (kib + cached + buffers) * 1024;
	return 0;
}

/* What one group allows, into *left if it is less. */
static void limit_by_group(const char *dir, const struct cgroup_version *version, uint64_t *left)
{
	uint64_t limit = UINT64_MAX, usage = 0, cache = 0, value;
	bmi_auto_mem char *stat = read_below(dir, "memory.stat");

	for (unsigned i = 0; i < 2; i++)
		if (version->limit[i] && read_value(dir, version->limit[i], &value) && value < limit)
			limit = value;
	if (stat && version->above && find_value(stat, version->above, &value) && value < limit)
		limit = value;
	if (limit == UINT64_MAX || !read_value(dir, version->usage, &usage))
		return;
	for (unsigned i = 0; stat && i < 2; i++)
		if (find_value(stat, version->file_cache[i], &value))
			cache += value;
	usage -= cache < usage ? cache : usage;
	limit -= usage < limit ? usage : limit;
	if (limit < *left)
		*left = limit;
}

/* The path of this process in the hierarchy, from /proc/self/cgroup: "4:memory:/a/b", or "0::/a/b" for version 2. */
static char *find_group(const char *text, const struct cgroup_version *version)
{
	for (const char *line = text; line; line = strchr(line, '\n')) {
		const char *names, *path, *end;

		line += *line == '\n';
		names = strchr(line, ':');
		path = names ? strchr(names + 1, ':') : NULL;
		if (!path)
			continue;
		names++;
		if (version == &version_2 ? names != path : !memmem(names, (size_t)(path - names), "memory", 6))
			continue;
		end = strchrnul(path + 1, '\n');
		return strndup(path + 1, (size_t)(end - path - 1));
	}
	return NULL;
}

/* mountinfo writes space, tab, newline and backslash as three octal digits behind a backslash. In place. */
static void unescape(char *s)
{
	char *to = s;

	for (; *s; s++, to++) {
		unsigned c;

		*to = *s;
		if (*s == '\\' && sscanf(s + 1, "%3o", &c) == 1) {
			*to = (char)c;
			s += 3;
		}
	}
	*to = 0;
}

/* One line of /proc/self/mountinfo: "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue". */
static bool parse_mount(const char *line, const struct cgroup_version *version, char mount_root[PATH_MAX],
			char mount_point[PATH_MAX])
{
	const char *dash = memmem(line, strcspn(line, "\n"), " - ", 3);
	char type[32], options[512];

	_Static_assert(PATH_MAX == 4096, "the widths below");
	if (!dash || sscanf(dash + 3, "%31s %*s %511s", type, options) != 2 ||
	    strcmp(type, version->fs_type) != 0)
		return false;
	if (version == &version_1 && !strstr(options, "memory"))
		return false;
	if (sscanf(line, "%*s %*s %*s %4095s %4095s", mount_root, mount_point) != 2)
		return false;
	unescape(mount_root);
	unescape(mount_point);
	return true;
}

/*
 * Walk from the group up to where its hierarchy is mounted. A container may see only its own part: then its group is at the
 * mount's root, or the path (of the host, or of another namespace) is not below it and the mount's root is all we know.
 */
static void limit_by_mount(const char *root, const char *group, const char *mount_root,
			   const char *mount_point, const struct cgroup_version *version, uint64_t *left)
{
	const size_t n_root = strcmp(mount_root, "/") == 0 ? 0 : strlen(mount_root);
	const char *below = "";
	char dir[PATH_MAX];
	size_t n_top, n;

	if (strncmp(group, mount_root, n_root) == 0 && (group[n_root] == '/' || !group[n_root]) &&
	    !strstr(group, "/.."))
		below = group + n_root;
	n_top = strlen(root) + strlen(mount_point);
	if ((size_t)snprintf(dir, sizeof(dir), "%s%s%s", root, mount_point, below) >= sizeof(dir))
		return;
	for (n = strlen(dir); n > n_top; n--) { /* stops at each name's start */
		if (dir[n] && dir[n] != '/')
			continue;
		dir[n] = 0;
		if (dir[n - 1] != '/')
			limit_by_group(dir, version, left);
	}
	dir[n_top] = 0;
	limit_by_group(dir, version, left);
}

static void limit_by_version(const char *root, const char *cgroup, const char *mounts,
			     const struct cgroup_version *version, uint64_t *left)
{
	bmi_auto_mem char *group = find_group(cgroup, version);
	bmi_auto_mem char *mount_root = malloc(PATH_MAX), *mount_point = malloc(PATH_MAX);

	if (!group || !mount_root || !mount_point)
		return;
	for (const char *line = mounts; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (parse_mount(line, version, mount_root, mount_point))
			limit_by_mount(root, group, mount_root, mount_point, version, left);
	}
}

int bmi_limits_available(const char *root, uint64_t *ret_bytes, struct bmi_error *err)
{
	bmi_auto_mem char *cgroup = read_below(root, "proc/self/cgroup");
	bmi_auto_mem char *mounts = read_below(root, "proc/self/mountinfo");
	uint64_t left = 0;
	const int r = read_meminfo(root, &left, err);

	if (r < 0)
		return r;
	if (cgroup && mounts) {
		limit_by_version(root, cgroup, mounts, &version_2, &left);
		limit_by_version(root, cgroup, mounts, &version_1, &left);
	}
	*ret_bytes = left;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory may be taken, on machines that are trees of files written here as the kernel writes them: both versions
 * of control groups, nested, in namespaces, in containers that see only their own part, and with files missing.
 */
#include "run/limits.h"

#include <errno.h>
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <cmocka.h>

#define MEMINFO                                                                                    \
	"proc/meminfo", "MemTotal: 16000 kB\nMemFree: 100 kB\nMemAvailable: 8000 kB\nBuffers: 20 " \
			"kB\nCached: 300 kB\n"
#define MOUNT_V2 "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
#define MOUNT_V1                                                                                             \
	"31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n35 31 0:32 / /sys/fs/cgroup/memory rw,relatime - " \
	"cgroup cgroup rw,memory\n"
#define MOUNT_ROOT "22 1 254:0 / / rw,relatime - ext4 /dev/root rw\n"
#define V1_NONE    "9223372036854771712\n"

enum { KIB = 1024, MAX_FILES = 14 };

struct limits_case {
	const char *name;
	uint64_t want;
	const char *file[MAX_FILES][2]; /* path, text */
};

static const struct limits_case cases[] = {
	{ "no control groups", 8000 * KIB, { { MEMINFO } } },
	{ "old kernel without MemAvailable",
	  420 * KIB,
	  { { "proc/meminfo",
	      "MemTotal: 16000 kB\nMemFree: 100 kB\nBuffers: 20 kB\nCached: 300 kB\nSwapCached: 7 kB\n" } } },
	{ "v2 without a limit",
	  8000 * KIB,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/user.slice\n" },
	    { "proc/self/mountinfo", MOUNT_ROOT MOUNT_V2 },
	    { "sys/fs/cgroup/user.slice/memory.max", "max\n" },
	    { "sys/fs/cgroup/user.slice/memory.current", "12345\n" } } },
	{ "v2 limit less usage plus page cache",
	  1000000 - (700000 - 300000 - 50000),
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/user.slice/run.scope\n" },
	    { "proc/self/mountinfo", MOUNT_ROOT MOUNT_V2 },
	    { "sys/fs/cgroup/user.slice/run.scope/memory.max", "1000000\n" },
	    { "sys/fs/cgroup/user.slice/run.scope/memory.current", "700000\n" },
	    { "sys/fs/cgroup/user.slice/run.scope/memory.stat",
	      "anon 350000\nfile 350000\ninactive_anon 9\nactive_file 50000\ninactive_file 300000\n" } } },
	{ "v2 the parent's limit is lower",
	  150000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/a/b\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/a/b/memory.max", "1000000\n" },
	    { "sys/fs/cgroup/a/b/memory.current", "100000\n" },
	    { "sys/fs/cgroup/a/memory.max", "800000\n" },
	    { "sys/fs/cgroup/a/memory.current", "650000\n" } } },
	{ "v2 limited only at the mount's root, in a namespace",
	  60000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/memory.max", "100000\n" },
	    { "sys/fs/cgroup/memory.current", "40000\n" } } },
	{ "v2 outside of its namespace's root",
	  60000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/../other\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/memory.max", "100000\n" },
	    { "sys/fs/cgroup/memory.current", "40000\n" } } },
	{ "v2 memory.high is lower than memory.max",
	  30000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/x\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/x/memory.max", "100000\n" },
	    { "sys/fs/cgroup/x/memory.high", "70000\n" },
	    { "sys/fs/cgroup/x/memory.current", "40000\n" } } },
	{ "v2 used up",
	  0,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/x\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/x/memory.max", "100000\n" },
	    { "sys/fs/cgroup/x/memory.current", "140000\n" } } },
	{ "v2 limit above what the machine has",
	  8000 * KIB,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/x\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/x/memory.max", "100000000000\n" },
	    { "sys/fs/cgroup/x/memory.current", "4096\n" } } },
	{ "v1 limit less usage plus page cache",
	  2000000 - (900000 - 70000 - 30000),
	  { { MEMINFO },
	    { "proc/self/cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/c\n4:memory:/box\n0::/\n" },
	    { "proc/self/mountinfo", MOUNT_ROOT MOUNT_V1 },
	    { "sys/fs/cgroup/memory/box/memory.limit_in_bytes", "2000000\n" },
	    { "sys/fs/cgroup/memory/box/memory.usage_in_bytes", "900000\n" },
	    { "sys/fs/cgroup/memory/box/memory.stat",
	      "cache 5\nactive_file 1\ninactive_file 2\ntotal_active_file 30000\ntotal_inactive_file "
	      "70000\n" },
	    { "sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NONE },
	    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000\n" } } },
	{ "v1 without a limit",
	  8000 * KIB,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/\n" },
	    { "proc/self/mountinfo", MOUNT_V1 },
	    { "sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NONE },
	    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "5000000\n" },
	    { "sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit " V1_NONE } } },
	{ "v1 container that sees only its own group",
	  500000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/docker/abc\n" },
	    { "proc/self/mountinfo",
	      "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n" },
	    { "sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n" },
	    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n" } } },
	{ "v1 container's limit set above what it sees",
	  200000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/docker/abc\n" },
	    { "proc/self/mountinfo",
	      "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n" },
	    { "sys/fs/cgroup/memory/memory.limit_in_bytes", V1_NONE },
	    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n" },
	    { "sys/fs/cgroup/memory/memory.stat", "hierarchical_memory_limit 300000\n" } } },
	{ "v1 group within a container's part",
	  20000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/docker/abc/job\n" },
	    { "proc/self/mountinfo",
	      "35 31 0:32 /docker/abc /sys/fs/cgroup/memory ro,relatime - cgroup cgroup rw,memory\n" },
	    { "sys/fs/cgroup/memory/memory.limit_in_bytes", "600000\n" },
	    { "sys/fs/cgroup/memory/memory.usage_in_bytes", "100000\n" },
	    { "sys/fs/cgroup/memory/job/memory.limit_in_bytes", "90000\n" },
	    { "sys/fs/cgroup/memory/job/memory.usage_in_bytes", "70000\n" } } },
	{ "the host's path in a container without it",
	  500000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/system.slice/docker-abc.scope\n" },
	    { "proc/self/mountinfo", MOUNT_V2 },
	    { "sys/fs/cgroup/memory.max", "600000\n" },
	    { "sys/fs/cgroup/memory.current", "100000\n" } } },
	{ "a group whose name begins like another's",
	  8000 * KIB,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/dockerbox\n" },
	    { "proc/self/mountinfo", "35 31 0:32 /docker /cg rw - cgroup cgroup rw,memory\n" },
	    { "cg/box/memory.limit_in_bytes", "600\n" },
	    { "cg/box/memory.usage_in_bytes", "100\n" } } },
	{ "a mount point with a space",
	  300000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "0::/\n" },
	    { "proc/self/mountinfo", "30 23 0:26 / /my\\040groups rw - cgroup2 none rw\n" },
	    { "my groups/memory.max", "400000\n" },
	    { "my groups/memory.current", "100000\n" } } },
	{ "both versions mounted, the lower one counts",
	  110000,
	  { { MEMINFO },
	    { "proc/self/cgroup", "4:memory:/m\n0::/u\n" },
	    { "proc/self/mountinfo",
	      MOUNT_V1 "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw\n" },
	    { "sys/fs/cgroup/memory/m/memory.limit_in_bytes", "600000\n" },
	    { "sys/fs/cgroup/memory/m/memory.usage_in_bytes", "100000\n" },
	    { "sys/fs/cgroup/unified/u/memory.max", "210000\n" },
	    { "sys/fs/cgroup/unified/u/memory.current", "100000\n" } } },
	{ "damaged files set no limit",
	  8000 * KIB,
	  { { MEMINFO },
	    { "proc/self/cgroup", "nonsense\n:\n0:\n4:memory:/a\n" },
	    { "proc/self/mountinfo",
	      "x\n35 31 - cgroup\n - cgroup cgroup memory\n35 31 0:32 / /cg rw - cgroup cgroup rw,memory" },
	    { "cg/a/memory.limit_in_bytes", "\n" },
	    { "cg/a/memory.usage_in_bytes", "100\n" } } },
};

static void put_file(const char *root, const char *path, const char *text)
{
	char full[512];
	FILE *f;

	snprintf(full, sizeof(full), "%s/%s", root, path);
	for (char *p = full + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		(void)mkdir(full, 0700);
		*p = '/';
	}
	f = fopen(full, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	return remove(path);
}

static void run_case(void **state)
{
	const struct limits_case *c = *state;
	char root[] = "/tmp/bmi-limits-XXXXXX";
	struct bmi_error err = { 0 };
	uint64_t got = 0;

	assert_non_null(mkdtemp(root));
	for (unsigned i = 0; i < MAX_FILES && c->file[i][0]; i++)
		put_file(root, c->file[i][0], c->file[i][1]);
	assert_int_equal(bmi_limits_available(root, &got, &err), 0);
	nftw(root, remove_one, 8, FTW_DEPTH | FTW_PHYS);
	assert_int_equal(got, c->want);
}

static void test_no_meminfo(void **state)
{
	struct bmi_error err = { 0 };
	uint64_t got = 77;

	assert_int_equal(bmi_limits_available("/nowhere", &got, &err), -ENOENT);
	assert_non_null(strstr(err.msg, "/nowhere/proc/meminfo"));
	assert_int_equal(got, 77);
}

static void test_this_machine(void **state)
{
	uint64_t got = 0;

	assert_int_equal(bmi_limits_available("", &got, NULL), 0);
	assert_true(got > 1 << 20);
}

int main(void)
{
	enum { N_CASES = sizeof(cases) / sizeof(cases[0]) };
	struct CMUnitTest tests[N_CASES + 2] = { cmocka_unit_test(test_no_meminfo),
						 cmocka_unit_test(test_this_machine) };

	for (unsigned i = 0; i < N_CASES; i++)
		tests[i + 2] = (struct CMUnitTest){ .name = cases[i].name,
						    .test_func = run_case,
						    .initial_state = (void *)(uintptr_t)&cases[i] };
	return _cmocka_run_group_tests("limits", tests, N_CASES + 2, NULL, NULL);
}

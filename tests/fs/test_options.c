/* SPDX-License-Identifier: Apache-2.0 */
/* The command line: every row is one, with what it must become or the words its refusal must hold. */
#include "fs/options.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

enum { WORDS_MAX = 8 };

struct row {
	const char *name;
	const char *words[WORDS_MAX];
	const char *refusal; /* NULL: accepted */
	const char *model, *mountpoint, *device_map, *dtype, *kernel, *fsname;
	uint32_t slots, umask, uid;
	uint64_t prompt_max;
	bool fake, foreground, wait, verbose, plan, measure;
};

static const struct row rows[] = {
	{ "two words", { "a", "b" }, .model = "a", .mountpoint = "b" },
	{ "options behind",
	  { "a", "b", "-o", "dtype=float32,slots=3" },
	  .model = "a",
	  .dtype = "float32",
	  .slots = 3 },
	{ "options before", { "-o", "slots=3", "a", "b" }, .mountpoint = "b", .slots = 3 },
	{ "-o without a blank", { "a", "b", "-oslots=3" }, .slots = 3 },
	{ "-o twice", { "a", "b", "-o", "slots=3", "-o", "slots=5" }, .slots = 5 },
	{ "letters together", { "a", "b", "-vfn" }, .verbose = true, .fake = true },
	{ "letters and -o together", { "a", "b", "-fo", "slots=7" }, .fake = true, .slots = 7 },
	{ "-- ends switches", { "--", "-a", "-b" }, .model = "-a", .mountpoint = "-b" },
	{ "a quoted comma", { "a", "b", "-o", "fsname=\"x,y\",slots=2" }, .fsname = "x,y", .slots = 2 },
	{ "an escaped comma", { "a", "b", "-o", "fsname=x\\,y,slots=2" }, .fsname = "x,y", .slots = 2 },
	{ "empty words in a list", { "a", "b", "-o", ",,slots=2,," }, .slots = 2 },
	{ "max_memory keeps its =",
	  { "a", "b", "-o", "device_map=auto,max_memory=0=1GiB:cpu=2GiB" },
	  .device_map = "auto" },
	{ "kernel options", { "a", "b", "-o", "ro,allow_other,noatime" }, .kernel = "ro,allow_other,noatime" },
	{ "dropped options",
	  { "a", "b", "-o", "defaults,nofail,_netdev,x-a.b=c,X-y,comment=z,user" },
	  .model = "a" },
	{ "sloppy", { "a", "b", "-o", "turbo,boost=3", "-s" }, .model = "a" },
	{ "flags", { "a", "b", "-o", "wait,foreground" }, .wait = true, .foreground = true },
	{ "--foreground", { "a", "b", "--foreground" }, .foreground = true },
	{ "--plan", { "--plan", "a", "--json" }, .plan = true },
	{ "--measure", { "--measure", "a" }, .model = "a", .measure = true },
	{ "sizes", { "a", "b", "-o", "prompt_max=2K" }, .prompt_max = 2048 },
	{ "sizes in M", { "a", "b", "-o", "prompt_max=3m" }, .prompt_max = 3 << 20 },
	{ "sizes in bytes", { "a", "b", "-o", "prompt_max=77" }, .prompt_max = 77 },
	{ "umask is octal", { "a", "b", "-o", "umask=027" }, .umask = 027 },
	{ "uid as a number", { "a", "b", "-o", "uid=1234" }, .uid = 1234 },
	{ "uid as a name", { "a", "b", "-o", "uid=daemon" }, .uid = 1 },
	{ "help asks for nothing more", { "--help" }, .model = NULL },
	{ "nothing", { NULL }, "which model" },
	{ "no mount point", { "a" }, "where" },
	{ "three words", { "a", "b", "c" }, "'c'" },
	{ "unknown option", { "a", "b", "-o", "turbo" }, "unknown option 'turbo'" },
	{ "unknown option with a value", { "a", "b", "-o", "turbo=1" }, "unknown option 'turbo'" },
	{ "unknown switch", { "a", "b", "-q" }, "'-q'" },
	{ "unknown long switch", { "a", "b", "--q" }, "'--q'" },
	{ "no value", { "a", "b", "-o", "dtype" }, "dtype needs a value" },
	{ "empty value", { "a", "b", "-o", "dtype=" }, "dtype needs a value" },
	{ "a value too many", { "a", "b", "-o", "wait=yes" }, "takes no value" },
	{ "count of zero", { "a", "b", "-o", "slots=0" }, "slots=0" },
	{ "negative count", { "a", "b", "-o", "slots=-1" }, "slots=-1" },
	{ "count too large", { "a", "b", "-o", "slots=99999999999" }, "slots=99999999999" },
	{ "count with a tail", { "a", "b", "-o", "slots=3x" }, "slots=3x" },
	{ "size overflow", { "a", "b", "-o", "prompt_max=18446744073709551615G" }, "prompt_max" },
	{ "size with a wrong unit", { "a", "b", "-o", "prompt_max=1T" }, "prompt_max=1T" },
	{ "umask too large", { "a", "b", "-o", "umask=1777" }, "umask=1777" },
	{ "umask no octal", { "a", "b", "-o", "umask=9" }, "umask=9" },
	{ "no such user", { "a", "b", "-o", "uid=no-such-user" }, "no such user" },
	{ "-o at the end", { "a", "b", "-o" }, "-o needs" },
	{ "remount", { "a", "b", "-o", "remount" }, "remounted" },
	{ "--plan with a mount point", { "--plan", "a", "b" }, "'b'" },
	{ "--measure with a mount point", { "--measure", "a", "b" }, "--measure" },
	{ "--measure with --plan", { "--measure", "--plan", "a" }, "--measure" },
	{ "--measure alone", { "--measure" }, "which model" },
	{ "--json alone", { "a", "b", "--json" }, "--plan" },
};

static void same(const char *got, const char *want)
{
	if (want) {
		assert_non_null(got);
		assert_string_equal(got, want);
	}
}

static void check_row(void **state)
{
	const struct row *row = *state;
	char *argv[WORDS_MAX + 1] = { strdup("mount.bmifs") };
	struct bmi_fs_options opt = { 0 };
	struct bmi_error err = { 0 };
	int argc = 1, r;

	for (; argc <= WORDS_MAX && row->words[argc - 1]; argc++)
		argv[argc] = strdup(row->words[argc - 1]);
	r = bmi_fs_options_parse(argc, argv, &opt, &err);
	if (row->refusal) {
		assert_int_equal(r, err.code);
		assert_true(r < 0);
		assert_non_null(strstr(err.msg, row->refusal));
	} else {
		assert_string_equal(err.msg, "");
		assert_int_equal(r, 0);
		same(opt.model, row->model);
		same(opt.mountpoint, row->mountpoint);
		same(opt.device_map, row->device_map);
		same(opt.dtype, row->dtype);
		same(opt.fsname, row->fsname);
		same(opt.kernel.bytes ? opt.kernel.bytes : "", row->kernel ? row->kernel : "");
		assert_int_equal(opt.slots, row->slots);
		assert_int_equal(opt.umask, row->umask);
		assert_int_equal(opt.has_umask, row->umask != 0);
		assert_int_equal(opt.uid, row->uid);
		assert_int_equal(opt.prompt_max, row->prompt_max ? row->prompt_max : 1 << 20);
		assert_int_equal(opt.fake, row->fake);
		assert_int_equal(opt.foreground, row->foreground);
		assert_int_equal(opt.wait, row->wait);
		assert_int_equal(opt.verbose, row->verbose);
		assert_int_equal(opt.plan, row->plan);
		assert_int_equal(opt.measure, row->measure);
	}
	bmi_fs_options_fini(&opt);
	while (argc)
		free(argv[--argc]);
}

int main(void)
{
	enum { N = sizeof(rows) / sizeof(rows[0]) };
	static struct CMUnitTest tests[N];

	for (unsigned i = 0; i < N; i++) {
		tests[i].name = rows[i].name;
		tests[i].test_func = check_row;
		tests[i].initial_state = (void *)(uintptr_t)&rows[i];
	}
	return _cmocka_run_group_tests("options", tests, N, NULL, NULL);
}

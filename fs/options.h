/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_FS_OPTIONS_H
#define BMI_FS_OPTIONS_H

#include "bmi.h"

#include <sys/stat.h>

/* What the command line asked for. Strings are owned. `{ 0 }` is empty and may be given to fini. */
struct bmi_fs_options {
	char *model, *mountpoint;

	/* engine */
	char *device_map; /* a word or a path as given; bmi_fs_options_load_map() makes it text */
	char *dtype, *max_memory, *cpu_isa;
	uint32_t n_ctx, n_threads, slots, queue_max;
	uint64_t prompt_max;

	/* files */
	uint64_t scratch_max; /* bytes of one scratch file */
	uint32_t n_sessions;
	uint32_t uid, gid, umask; /* valid if has_x */
	bool has_uid, has_gid, has_umask;

	/* program */
	bool foreground, debug, verbose, fake, sloppy, wait, plan, json, measure, help, version;
	char *log_path;

	/* libfuse and kernel: "allow_other,noatime", without fsname and subtype */
	struct bmi_str kernel;
	char *fsname;
};

/**
 * bmi_fs_options_parse() - read a command line as mount(8) and people write it.
 * @ret: must be `{ 0 }`; fini it afterwards in every case.
 *
 * Checks words, numbers and names, not whether files exist. Reads /etc/passwd and /etc/group for uid=NAME, gid=NAME.
 * With --help and --version nothing else is required.
 *
 * Return: 0, -EINVAL with a sentence (exit code 1), -ENOMEM.
 */
int bmi_fs_options_parse(int argc, char *const *argv, struct bmi_fs_options *ret, struct bmi_error *err);
void bmi_fs_options_fini(struct bmi_fs_options *opt);

/** bmi_fs_options_load_map() - where device_map names a file, put its text in place. 0, -ENOENT, -EFBIG, ... */
int bmi_fs_options_load_map(struct bmi_fs_options *opt, struct bmi_error *err);

/** bmi_fs_options_engine() - the engine's share; its strings are lent by @opt. */
void bmi_fs_options_engine(const struct bmi_fs_options *opt, struct bmi_engine_options *ret);

/** bmi_fs_options_help() - append the text of --help. */
int bmi_fs_options_help(struct bmi_str *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the meaning of the command line: one table says every option's name, kind, place and line in --help, so that the
 * parser, the help and the manual page cannot drift apart (a test compares the last two). Invariant: an option that is
 * in no table is an error, unless mount(8) asked to be sloppy.
 */
#include "options.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <grp.h>
#include <limits.h>
#include <pwd.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { MAP_FILE_MAX = 1 << 20 /* bytes: the longest map of a real model is 200 kB */ };

enum kind { STRING, COUNT, SIZE, MODE, USER, GROUP, FLAG, KERNEL };

struct option {
	const char *name; /* behind -o; a leading '-' marks one that stands alone */
	const char *arg;  /* NULL: takes none */
	enum kind kind;
	size_t place; /* in struct bmi_fs_options */
	const char *help;
};

#define AT(field) offsetof(struct bmi_fs_options, field)

static const struct option options[] = {
	{ "device_map", "WORD|FILE", STRING, AT(device_map),
	  "auto, cpu, disk, ... or a file as device_map.yaml" },
	{ "dtype", "WORD", STRING, AT(dtype), "auto, float32, bfloat16, float16" },
	{ "max_memory", "DEV=SIZE:..", STRING, AT(max_memory), "budgets, for example cpu=20GiB" },
	{ "n_ctx", "N", COUNT, AT(n_ctx), "positions of a session (the model's maximum, at most 4096)" },
	{ "threads", "N", COUNT, AT(n_threads), "threads that compute (the CPUs there are)" },
	{ "slots", "N", COUNT, AT(slots), "sessions computed together (4)" },
	{ "sessions", "N", COUNT, AT(n_sessions), "directories in sessions/ (256)" },
	{ "queue", "N", COUNT, AT(queue_max), "prompts waiting per session (16)" },
	{ "prompt_max", "SIZE", SIZE, AT(prompt_max), "largest prompt (1M)" },
	{ "scratch", "SIZE", SIZE, AT(scratch_max), "largest file an editor may make (1M)" },
	{ "cpu_isa", "NAME", STRING, AT(cpu_isa), "ref, avx2 or avx512 (the best there is)" },
	{ "wait", NULL, FLAG, AT(wait), "return when the model is ready, not when it is mounted" },
	{ "foreground", NULL, FLAG, AT(foreground), "stay in the foreground, log to stderr" },
	{ "log", "FILE", STRING, AT(log_path), "log to a file instead of syslog" },
	{ "uid", "USER", USER, AT(uid), "owner of the files (the caller)" },
	{ "gid", "GROUP", GROUP, AT(gid), "group of the files (the caller's)" },
	{ "umask", "OCTAL", MODE, AT(umask), "modes are 0666, 0444, 0222 and 0777 without these bits" },
	{ "fsname", "NAME", STRING, AT(fsname), "the source shown by mount (the model)" },
	{ "allow_other", NULL, KERNEL, 0, "other users may enter, as modes allow" },
	{ "allow_root", NULL, KERNEL, 0, "root may enter" },
	{ "auto_unmount", NULL, KERNEL, 0, "unmount even if the daemon is killed" },
};

static const struct option switches[] = {
	{ "-f", NULL, FLAG, AT(fake), "check everything, mount nothing" },
	{ "-s", NULL, FLAG, AT(sloppy), "ignore unknown options" },
	{ "-n", NULL, FLAG, 0, "accepted for mount(8), does nothing" },
	{ "-v", NULL, FLAG, AT(verbose), "say more" },
	{ "-d", NULL, FLAG, AT(debug), "as --debug" },
	{ "-h", NULL, FLAG, AT(help), "as --help" },
	{ "-V", NULL, FLAG, AT(version), "as --version" },
	{ "--debug", NULL, FLAG, AT(debug), "stay in the foreground and print every request" },
	{ "--foreground", NULL, FLAG, AT(foreground), "as -o foreground" },
	{ "--plan", NULL, FLAG, AT(plan), "print where the layers of SPEC would go, mount nothing" },
	{ "--json", NULL, FLAG, AT(json), "with --plan: as JSON" },
	{ "--measure", NULL, FLAG, AT(measure), "measure this machine for later plans, mount nothing" },
	{ "--help", NULL, FLAG, AT(help), "print this" },
	{ "--version", NULL, FLAG, AT(version), "print the version" },
};

/* What the kernel or libfuse understands and help need not explain. */
static const char *const kernel_words[] = {
	"ro",     "rw",    "suid",    "nosuid", "dev",   "nodev",   "exec",
	"noexec", "atime", "noatime", "sync",   "async", "dirsync",
};

/* What fstab carries for others; mount(8) passes some of it on. */
static const char *const dropped_words[] = {
	"defaults", "auto",       "noauto",   "user",       "nouser",     "users",       "owner",
	"group",    "nofail",     "_netdev",  "relatime",   "norelatime", "strictatime", "nostrictatime",
	"diratime", "nodiratime", "lazytime", "nolazytime", "x-*",        "X-*",         "comment=*",
};

static int set_string(char **place, const char *value, struct bmi_error *err)
{
	char *copy = strdup(value);

	if (!copy)
		return bmi_fail(err, -ENOMEM, "no memory for the options");
	free(*place);
	*place = copy;
	return 0;
}

static int bad_value(const struct option *o, const char *value, const char *want, struct bmi_error *err)
{
	return bmi_fail(err, -EINVAL, "option %s=%s: %s", o->name, value, want);
}

static int parse_count(const struct option *o, const char *value, uint32_t *ret, struct bmi_error *err)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || *end || errno || n < 1 || n > INT32_MAX)
		return bad_value(o, value, "want a whole number from 1 on", err);
	*ret = (uint32_t)n;
	return 0;
}

static int parse_size(const struct option *o, const char *value, uint64_t *ret, struct bmi_error *err)
{
	static const char units[] = "KMG";
	unsigned long long n;
	unsigned shift = 0;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (!isdigit((unsigned char)value[0]) || errno)
		return bad_value(o, value, "want bytes, or a number with K, M or G", err);
	if (*end) {
		const char *unit = strchr(units, toupper((unsigned char)*end));

		if (!unit || end[1])
			return bad_value(o, value, "want bytes, or a number with K, M or G", err);
		shift = 10 * (unsigned)(unit - units + 1);
	}
	if (n < 1 || n > (1ull << 40) >> shift)
		return bad_value(o, value, "want 1 byte to 1024G", err);
	*ret = (uint64_t)n << shift;
	return 0;
}

static int parse_mode(const struct option *o, const char *value, uint32_t *ret, struct bmi_error *err)
{
	unsigned long n;
	char *end;

	n = strtoul(value, &end, 8);
	if (!isdigit((unsigned char)value[0]) || *end || n > 0777)
		return bad_value(o, value, "want an octal number up to 777", err);
	*ret = (uint32_t)n;
	return 0;
}

static int parse_id(const struct option *o, const char *value, uint32_t *ret, struct bmi_error *err)
{
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(value, &end, 10);
	if (isdigit((unsigned char)value[0]) && !*end && !errno && n < UINT32_MAX) {
		*ret = (uint32_t)n;
		return 0;
	}
	if (o->kind == USER) {
		const struct passwd *pw = getpwnam(value);

		if (!pw)
			return bad_value(o, value, "no such user", err);
		*ret = pw->pw_uid;
	} else {
		const struct group *gr = getgrnam(value);

		if (!gr)
			return bad_value(o, value, "no such group", err);
		*ret = gr->gr_gid;
	}
	return 0;
}

static int add_kernel(struct bmi_fs_options *opt, const char *word, struct bmi_error *err)
{
	if (opt->kernel.n)
		bmi_str_puts(&opt->kernel, ",");
	bmi_str_puts(&opt->kernel, word);
	return bmi_str_ok(&opt->kernel) ? 0 : bmi_fail(err, -ENOMEM, "no memory for the options");
}

static int apply(struct bmi_fs_options *opt, const struct option *o, const char *value, struct bmi_error *err)
{
	void *place = (char *)opt + o->place;

	if (o->arg && (!value || !*value))
		return bmi_fail(err, -EINVAL, "option %s needs a value: %s=%s", o->name, o->name, o->arg);
	if (!o->arg && value)
		return bmi_fail(err, -EINVAL, "option %s takes no value, got '%s'", o->name, value);
	switch (o->kind) {
	case STRING:
		return set_string(place, value, err);
	case COUNT:
		return parse_count(o, value, place, err);
	case SIZE:
		return parse_size(o, value, place, err);
	case MODE:
		opt->has_umask = true;
		return parse_mode(o, value, place, err);
	case USER:
		opt->has_uid = true;
		return parse_id(o, value, place, err);
	case GROUP:
		opt->has_gid = true;
		return parse_id(o, value, place, err);
	case FLAG:
		if (o->place)
			*(bool *)place = true;
		return 0;
	case KERNEL:
		return add_kernel(opt, o->name, err);
	}
	return 0;
}

/* One word behind -o: "name" or "name=value". */
static int parse_word(struct bmi_fs_options *opt, char *word, struct bmi_error *err)
{
	char *eq;

	for (size_t i = 0; i < sizeof(dropped_words) / sizeof(dropped_words[0]); i++) {
		if (fnmatch(dropped_words[i], word, /* flags= */ 0) == 0)
			return 0;
	}
	for (size_t i = 0; i < sizeof(kernel_words) / sizeof(kernel_words[0]); i++) {
		if (!strcmp(kernel_words[i], word))
			return add_kernel(opt, word, err);
	}
	if (!strcmp(word, "remount"))
		return bmi_fail(err, -EINVAL,
				"a mounted bmifs cannot be remounted: write its device_map.yaml, or unmount");
	eq = strchr(word, '=');
	if (eq)
		*eq = 0;
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
		if (!strcmp(options[i].name, word))
			return apply(opt, &options[i], eq ? eq + 1 : NULL, err);
	}
	if (opt->sloppy)
		return 0;
	return bmi_fail(err, -EINVAL, "unknown option '%s'", word);
}

/* "a,b=c": commas inside double quotes or behind a backslash belong to the value, as mount(8) passes them. */
static int parse_list(struct bmi_fs_options *opt, const char *list, struct bmi_error *err)
{
	char *word = malloc(strlen(list) + 1);
	bool quoted = false;
	size_t n = 0;
	int r = 0;

	if (!word)
		return bmi_fail(err, -ENOMEM, "no memory for the options");
	for (const char *c = list; r == 0; c++) {
		if (*c == '"') {
			quoted = !quoted;
		} else if (*c == '\\' && c[1]) {
			word[n++] = *++c;
		} else if (!*c || (*c == ',' && !quoted)) {
			word[n] = 0;
			if (n)
				r = parse_word(opt, word, err);
			n = 0;
			if (!*c)
				break;
		} else {
			word[n++] = *c;
		}
	}
	free(word);
	return r;
}

static const struct option *find_switch(const char *name)
{
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++) {
		if (!strcmp(switches[i].name, name))
			return &switches[i];
	}
	return NULL;
}

/* "-vn" is "-v -n"; "-o" takes the rest of the word or the next one. */
static int parse_letters(struct bmi_fs_options *opt, const char *word, const char *next, bool *ret_ate_next,
			 struct bmi_error *err)
{
	for (const char *c = word + 1; *c; c++) {
		const char name[] = { '-', *c, 0 };
		const struct option *o;

		if (*c == 'o') {
			if (c[1])
				return parse_list(opt, c + 1, err);
			if (!next)
				return bmi_fail(err, -EINVAL, "-o needs options behind it");
			*ret_ate_next = true;
			return parse_list(opt, next, err);
		}
		o = find_switch(name);
		if (!o)
			return bmi_fail(err, -EINVAL, "unknown switch '%s'", name);
		apply(opt, o, /* value= */ NULL, err);
	}
	return 0;
}

static int parse_positional(struct bmi_fs_options *opt, const char *word, struct bmi_error *err)
{
	if (!opt->model)
		return set_string(&opt->model, word, err);
	if (!opt->mountpoint)
		return set_string(&opt->mountpoint, word, err);
	return bmi_fail(err, -EINVAL, "too many arguments: '%s'", word);
}

static int check_complete(const struct bmi_fs_options *opt, struct bmi_error *err)
{
	if (opt->help || opt->version)
		return 0;
	if (!opt->model)
		return bmi_fail(err, -EINVAL, "which model? Usage: mount.bmifs MODEL DIRECTORY [-o OPTIONS]");
	if (opt->plan && opt->mountpoint)
		return bmi_fail(err, -EINVAL, "--plan mounts nothing and takes the model alone, not '%s'",
				opt->mountpoint);
	if (opt->json && !opt->plan)
		return bmi_fail(err, -EINVAL, "--json goes with --plan");
	if (opt->measure && (opt->plan || opt->mountpoint))
		return bmi_fail(err, -EINVAL, "--measure mounts and plans nothing and takes the model alone");
	if (!opt->plan && !opt->measure && !opt->mountpoint)
		return bmi_fail(err, -EINVAL,
				"mount '%s' where? Usage: mount.bmifs MODEL DIRECTORY [-o OPTIONS]",
				opt->model);
	return 0;
}

int bmi_fs_options_parse(int argc, char *const *argv, struct bmi_fs_options *ret, struct bmi_error *err)
{
	bool only_positional = false;
	int r = 0;

	ret->scratch_max = 1 << 20;
	ret->prompt_max = 1 << 20;
	ret->n_sessions = 256;
	/* -s may stand behind the options it speaks of */
	for (int i = 1; i < argc; i++)
		ret->sloppy |= !strcmp(argv[i], "-s");

	for (int i = 1; i < argc && r == 0; i++) {
		const char *word = argv[i];
		bool ate_next = false;

		if (only_positional || word[0] != '-' || !word[1]) {
			r = parse_positional(ret, word, err);
		} else if (!strcmp(word, "--")) {
			only_positional = true;
		} else if (word[1] == '-') {
			const struct option *o = find_switch(word);

			r = o ? apply(ret, o, /* value= */ NULL, err)
			      : bmi_fail(err, -EINVAL, "unknown switch '%s'", word);
		} else {
			r = parse_letters(ret, word, i + 1 < argc ? argv[i + 1] : NULL, &ate_next, err);
			i += ate_next;
		}
	}
	if (r == 0)
		r = check_complete(ret, err);
	return r;
}

void bmi_fs_options_fini(struct bmi_fs_options *opt)
{
	free(opt->model);
	free(opt->mountpoint);
	free(opt->device_map);
	free(opt->dtype);
	free(opt->max_memory);
	free(opt->cpu_isa);
	free(opt->log_path);
	free(opt->fsname);
	bmi_str_fini(&opt->kernel);
	*opt = (struct bmi_fs_options){ 0 };
}

/* Append all of a small file. */
static int read_text(const char *path, struct bmi_str *ret, struct bmi_error *err)
{
	const int fd = open(path, O_RDONLY | O_CLOEXEC);
	char buf[16384];
	ssize_t n;
	int r = 0;

	if (fd < 0)
		return bmi_fail_errno(err, -errno, "device_map: open '%s'", path);
	while (r == 0 && (n = read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0)
			r = bmi_fail_errno(err, -errno, "device_map: read '%s'", path);
		else if (ret->n + (size_t)n > MAP_FILE_MAX)
			r = bmi_fail(err, -EFBIG, "device_map: '%s' is larger than %d bytes", path,
				     MAP_FILE_MAX);
		else if (bmi_str_put(ret, buf, (size_t)n) < 0)
			r = bmi_fail(err, -ENOMEM, "no memory for '%s'", path);
	}
	close(fd);
	return r;
}

int bmi_fs_options_load_map(struct bmi_fs_options *opt, struct bmi_error *err)
{
	struct bmi_str text = { 0 };
	int r;

	/* A word has neither; a file beside us is written ./map or map.yaml. */
	if (!opt->device_map || !strpbrk(opt->device_map, "/."))
		return 0;
	r = read_text(opt->device_map, &text, err);
	if (r < 0 || bmi_str_puts(&text, "") < 0) {
		bmi_str_fini(&text);
		return r < 0 ? r : bmi_fail(err, -ENOMEM, "no memory for the map");
	}
	free(opt->device_map);
	opt->device_map = text.bytes;
	return 0;
}

void bmi_fs_options_engine(const struct bmi_fs_options *opt, struct bmi_engine_options *ret)
{
	*ret = (struct bmi_engine_options){
		.model_path = opt->model,
		.device_map = opt->device_map,
		.dtype = opt->dtype,
		.max_memory = opt->max_memory,
		.n_ctx = opt->n_ctx,
		.n_threads = opt->n_threads,
		.queue_max = opt->queue_max,
		.slots = opt->slots,
		.prompt_max = opt->prompt_max,
		.cpu_isa = opt->cpu_isa,
	};
}

static void help_line(struct bmi_str *ret, const struct option *o)
{
	struct bmi_str left = { 0 };

	bmi_str_printf(&left, "%s%s%s", o->name, o->arg ? "=" : "", o->arg ? o->arg : "");
	bmi_str_printf(ret, "  %-24s %s\n", left.bytes ? left.bytes : "", o->help);
	bmi_str_fini(&left);
}

int bmi_fs_options_help(struct bmi_str *ret)
{
	bmi_str_puts(
		ret,
		"Usage: mount.bmifs MODEL DIRECTORY [-fnsv] [-o OPTION,...]\n"
		"       mount.bmifs --plan MODEL [--json] [-o OPTION,...]\n"
		"       mount.bmifs --measure MODEL\n"
		"Mount a language model as files: write a prompt to input, read the answer from output.\n\n"
		"MODEL is a directory as Hugging Face hands it out, or a .gguf file.\n\n"
		"Switches:\n");
	for (size_t i = 0; i < sizeof(switches) / sizeof(switches[0]); i++)
		help_line(ret, &switches[i]);
	bmi_str_puts(ret, "\nOptions behind -o (defaults in brackets):\n");
	for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++)
		help_line(ret, &options[i]);
	bmi_str_puts(ret, "  ");
	for (size_t i = 0; i < sizeof(kernel_words) / sizeof(kernel_words[0]); i++)
		bmi_str_printf(ret, "%s%s", i ? "," : "", kernel_words[i]);
	bmi_str_puts(ret,
		     "\n\nUnmount with: umount DIRECTORY (fusermount3 -u DIRECTORY if you are not root).\n"
		     "Exit status: 0 mounted, 1 usage, a refused plan or measurement,\n"
		     "32 the mount failed.\n");
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

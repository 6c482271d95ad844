/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns looking at a model directory: which of the known names are in it, how its files are opened, and what to say when no
 * model is there. It does not look into a file except small JSON. Invariant: only regular files are ever opened, and no
 * open can block (a FIFO with a known name must not hang a mount).
 */
#include "weights/ckpt_priv.h"

#include "base/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

enum { SPARE_FDS = 256 /* for everything else that the process opens */ };

static bool ends_with(const char *s, const char *tail)
{
	const size_t n = strlen(s), n_tail = strlen(tail);

	return n > n_tail && strcasecmp(s + n - n_tail, tail) == 0;
}

/* Weights in forms that run code when they are read, or that only another framework reads. */
static bool is_foreign(const char *name)
{
	static const char *const tails[] = { ".bin", ".pt",      ".pth",  ".ckpt",
					     ".h5",  ".msgpack", ".onnx", ".npz" };

	if (strcmp(name, "training_args.bin") == 0 || strcmp(name, "optimizer.pt") == 0 ||
	    strcmp(name, "scheduler.pt") == 0 || strncmp(name, "rng_state", 9) == 0)
		return false;
	for (size_t i = 0; i < BMI_ARRAY_LEN(tails); i++)
		if (ends_with(name, tails[i]))
			return true;
	return false;
}

static int keep_first(struct bmi_arena *arena, const char **slot, const char *name)
{
	if (*slot && strcmp(*slot, name) <= 0)
		return 0;
	*slot = bmi_arena_strndup(arena, name, strlen(name));
	return *slot ? 0 : -ENOMEM;
}

static int keep_gguf(struct bmi_arena *arena, struct bmi_ckpt_dir *d, uint32_t *cap, const char *name)
{
	if (d->n_gguf == *cap) {
		const uint32_t more = *cap ? 2 * *cap : 16;
		const char **grown = bmi_arena_array(arena, more, sizeof(*grown));

		if (!grown)
			return -ENOMEM;
		for (uint32_t i = 0; i < d->n_gguf; i++)
			grown[i] = d->gguf[i];
		d->gguf = grown;
		*cap = more;
	}
	d->gguf[d->n_gguf] = NULL;
	return keep_first(arena, &d->gguf[d->n_gguf++], name);
}

static int classify(struct bmi_arena *arena, struct bmi_ckpt_dir *d, uint32_t *cap, const char *name)
{
	if (strcmp(name, "config.json") == 0)
		d->has_config = true;
	else if (strcmp(name, "model.safetensors") == 0)
		d->has_single = true;
	else if (strcmp(name, "model.safetensors.index.json") == 0)
		d->has_index = true;
	else if (strcmp(name, "snapshots") == 0)
		d->has_snapshots = true;
	else if (strcmp(name, "adapter_config.json") == 0 || fnmatch("adapter_model.*", name, 0) == 0)
		return keep_first(arena, &d->adapter, name);
	else if (ends_with(name, ".gguf") && strcasestr(name, "mmproj"))
		return keep_first(arena, &d->projector, name);
	else if (ends_with(name, ".gguf"))
		return keep_gguf(arena, d, cap, name);
	else if (ends_with(name, ".safetensors"))
		return keep_first(arena, &d->other_safetensors, name);
	else if (is_foreign(name))
		return keep_first(arena, &d->foreign, name);
	return 0;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(const char *const *)a, *(const char *const *)b);
}

int bmi_ckpt_dir_scan(int dirfd, struct bmi_arena *arena, struct bmi_ckpt_dir *ret, struct bmi_error *err)
{
	const int fd = openat(dirfd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *dir = fd < 0 ? NULL : fdopendir(fd);
	uint32_t cap = 0;
	int r = 0;

	if (!dir) {
		r = bmi_fail_errno(err, -errno, "list the directory");
		if (fd >= 0)
			close(fd);
		return r;
	}
	*ret = (struct bmi_ckpt_dir){ 0 };
	while (r == 0) {
		const struct dirent *e;

		errno = 0;
		e = readdir(dir);
		if (!e)
			break;
		r = classify(arena, ret, &cap, e->d_name);
	}
	if (r < 0)
		r = bmi_fail(err, r, "no memory to list the directory");
	else if (errno)
		r = bmi_fail_errno(err, -errno, "list the directory");
	closedir(dir);
	if (r == 0 && ret->n_gguf)
		qsort(ret->gguf, ret->n_gguf, sizeof(*ret->gguf), by_name);
	return r;
}

int bmi_ckpt_dir_refuse(const struct bmi_ckpt_dir *d, struct bmi_error *err)
{
	if (d->has_single || d->has_index)
		return bmi_fail(
			err, -ENOENT,
			"'%s' is there, but no config.json: get that file too, it says what model this is",
			d->has_single ? "model.safetensors" : "model.safetensors.index.json");
	if (d->adapter)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"'%s': this is an adapter (LoRA and the like), not a whole model: merge it into its "
			"base model (peft: merge_and_unload, save_pretrained) and take the result",
			d->adapter);
	if (d->other_safetensors)
		return bmi_fail(err, -EINVAL,
				"'%s' is there, but neither model.safetensors nor "
				"model.safetensors.index.json: get the "
				"index, or rename a single file to model.safetensors",
				d->other_safetensors);
	if (d->foreign)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"'%s': only safetensors and GGUF weights are read (others can run code when opened): "
			"convert to safetensors, for example with AutoModelForCausalLM.from_pretrained(DIR)"
			".save_pretrained(NEW_DIR) of Transformers",
			d->foreign);
	if (d->projector)
		return bmi_fail(err, -EOPNOTSUPP,
				"'%s' is only the image part of a model: get its text model's .gguf file too",
				d->projector);
	if (d->has_config)
		return bmi_fail(err, -ENOENT,
				"config.json is there, but no weights: get model.safetensors, or "
				"model.safetensors.index.json and its shards");
	if (d->has_snapshots)
		return bmi_fail(
			err, -ENOENT,
			"this is a model's folder in a hub cache: name a directory in its snapshots/");
	return bmi_fail(err, -ENOENT,
			"no model is there: neither config.json with model.safetensors nor a .gguf file");
}

int bmi_ckpt_check_regular(int dirfd, const char *name, struct bmi_error *err)
{
	struct stat st;

	if (fstatat(dirfd, name, &st, 0) < 0) {
		const int code = -errno;

		if (code == -ENOENT && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0)
			return bmi_fail(err, code, "'%s' is a symbolic link to a file that is not there", name);
		return bmi_fail_errno(err, code, "'%s'", name);
	}
	if (!S_ISREG(st.st_mode))
		return bmi_fail(err, -EINVAL, "'%s' is not a regular file", name);
	return 0;
}

int bmi_ckpt_open_file(int dirfd, const char *name, struct bmi_ckpt_file *ret, struct bmi_error *err)
{
	bmi_auto_fd fd = -1;
	struct stat st;
	int r;

	r = bmi_ckpt_check_regular(dirfd, name, err);
	if (r < 0)
		return r;
	/* O_NONBLOCK: should a FIFO have taken its place just now, this still returns */
	fd = openat(dirfd, name, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
	if (fd < 0)
		return bmi_fail_errno(err, -errno, "open '%s'", name);
	if (fstat(fd, &st) < 0)
		return bmi_fail_errno(err, -errno, "stat '%s'", name);
	if (!S_ISREG(st.st_mode))
		return bmi_fail(err, -EINVAL, "'%s' is not a regular file", name);
	/* io_uring answers EAGAIN for pages not in the cache when the flag stays */
	if (fcntl(fd, F_SETFL, 0) < 0)
		return bmi_fail_errno(err, -errno, "fcntl '%s'", name);
	*ret = (struct bmi_ckpt_file){ name, fd, (uint64_t)st.st_size };
	fd = -1;
	return 0;
}

/* A model of 191 shards needs 191 descriptors; the usual soft limit is 1024, some services have 64. */
static int make_room_for_fds(uint32_t n, struct bmi_error *err)
{
	struct rlimit lim;

	if (getrlimit(RLIMIT_NOFILE, &lim) < 0 || lim.rlim_cur == RLIM_INFINITY ||
	    lim.rlim_cur >= (rlim_t)n + SPARE_FDS)
		return 0;
	if (n > 16 && (lim.rlim_max == RLIM_INFINITY || lim.rlim_max > lim.rlim_cur)) {
		lim.rlim_cur = lim.rlim_max == RLIM_INFINITY || lim.rlim_max > (rlim_t)n + SPARE_FDS
				       ? (rlim_t)n + SPARE_FDS
				       : lim.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &lim); /* open says so if it did not help */
	}
	if (lim.rlim_cur < n)
		return bmi_fail(err, -EMFILE,
				"%" PRIu32 " shards need as many open files, but the hard limit is %" PRIu64
				": raise it (ulimit -Hn, LimitNOFILE=)",
				n, (uint64_t)lim.rlim_max);
	return 0;
}

int bmi_ckpt_open_files(struct bmi_ckpt *ckpt, const char *named_by, struct bmi_error *err)
{
	int r = 0;

	/* look first: a list that names a million files must not raise limits or open half of them */
	for (uint32_t i = 0; r == 0 && i < ckpt->n_files; i++)
		r = bmi_ckpt_check_regular(ckpt->dirfd, ckpt->files[i].name, err);
	if (r == -ENOENT && named_by)
		return bmi_note(err, r, "%s names a file that is not there, get it too", named_by);
	if (r == 0)
		r = make_room_for_fds(ckpt->n_files, err);
	for (uint32_t i = 0; r == 0 && i < ckpt->n_files; i++)
		r = bmi_ckpt_open_file(ckpt->dirfd, ckpt->files[i].name, &ckpt->files[i], err);
	return r;
}

int bmi_ckpt_read_json(int dirfd, const char *name, size_t max, char **ret_text, struct bmi_json_doc **ret,
		       struct bmi_error *err)
{
	struct bmi_json_doc *doc = NULL;
	bmi_auto_mem char *text = NULL;
	size_t n;
	int r;

	r = bmi_ckpt_check_regular(dirfd, name, err);
	if (r == 0)
		r = bmi_file_read(dirfd, name, max, &text, &n, err);
	if (r < 0)
		return r;
	if (n >= 8 && bmi_ckpt_is_lfs_pointer(text))
		return bmi_fail(
			err,
			-EINVAL, "'%s': this is a Git LFS pointer, not the file: run 'git lfs pull' where it came from",
			name);
	r = bmi_json_parse(text, n, &doc, err);
	if (r < 0)
		return bmi_note(err, r, "'%s'", name);
	if (bmi_json_root(doc)->type != BMI_JSON_OBJECT) {
		bmi_json_free(doc);
		return bmi_fail(err, -EINVAL, "'%s': not a JSON object", name);
	}
	*ret_text = bmi_steal(&text);
	*ret = doc;
	return 0;
}

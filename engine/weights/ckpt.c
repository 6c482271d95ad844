/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the life of a checkpoint: which of the formats a path holds, and everything that open files and parsed headers need
 * to be given back. The formats are safetensors*.c's and gguf*.c's. Invariant: a half-built checkpoint can be closed at any
 * point; only success hands it out.
 */
#include "weights/ckpt_priv.h"

#include "weights/gguf_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

enum { MAX_CONFIG_BYTES = 16 << 20 };

static struct bmi_ckpt *ckpt_new(void)
{
	struct bmi_ckpt *ckpt = calloc(1, sizeof(*ckpt));

	if (!ckpt)
		return NULL;
	ckpt->dirfd = -1;
	ckpt->format = BMI_CKPT_NONE;
	ckpt->arena = ckpt->list.arena = bmi_arena_new();
	if (!ckpt->arena) {
		free(ckpt);
		return NULL;
	}
	return ckpt;
}

void bmi_ckpt_close(struct bmi_ckpt *ckpt)
{
	if (!ckpt)
		return;
	for (uint32_t i = 0; i < ckpt->n_files; i++)
		if (ckpt->files[i].fd >= 0)
			close(ckpt->files[i].fd);
	if (ckpt->dirfd >= 0)
		close(ckpt->dirfd);
	bmi_gguf_free(ckpt->gguf);
	bmi_json_free(ckpt->config);
	bmi_json_free(ckpt->generation);
	bmi_ckpt_list_fini(&ckpt->list);
	bmi_arena_free(ckpt->arena);
	free(ckpt->config_text);
	free(ckpt->generation_text);
	free(ckpt->files);
	free(ckpt->table);
	free(ckpt->dir);
	free(ckpt);
}

static int open_dir(struct bmi_ckpt *ckpt, const char *path, struct bmi_error *err)
{
	ckpt->dirfd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (ckpt->dirfd < 0)
		return bmi_fail_errno(err, -errno, "open the directory");
	ckpt->dir = realpath(path, NULL);
	return ckpt->dir ? 0 : bmi_fail_errno(err, -errno, "its absolute path");
}

static int read_configs(struct bmi_ckpt *ckpt, struct bmi_error *err)
{
	struct stat st;
	int r = bmi_ckpt_read_json(ckpt->dirfd, "config.json", MAX_CONFIG_BYTES, &ckpt->config_text,
				   &ckpt->config, err);

	if (r < 0 ||
	    (fstatat(ckpt->dirfd, "generation_config.json", &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT))
		return r;
	return bmi_ckpt_read_json(ckpt->dirfd, "generation_config.json", MAX_CONFIG_BYTES,
				  &ckpt->generation_text, &ckpt->generation, err);
}

static int open_safetensors(struct bmi_ckpt *ckpt, const struct bmi_ckpt_dir *d, struct bmi_error *err)
{
	int r;

	if (d->adapter)
		return bmi_fail(err, -EOPNOTSUPP,
				"'%s' lies beside the weights: an adapter (LoRA and the like) is not "
				"applied; move it "
				"away to run the base model, or merge it (peft: merge_and_unload)",
				d->adapter);
	r = read_configs(ckpt, err);
	if (r == 0)
		r = bmi_safetensors_open(ckpt, d->has_single, err);
	/* a quantized model is refused by its name in the config, which says more than an element type */
	if (r == 0 && !bmi_json_get(bmi_json_root(ckpt->config), "quantization_config"))
		r = bmi_safetensors_refuse_odd(&ckpt->list, err);
	return r;
}

static int refuse_several(const struct bmi_ckpt_dir *d, struct bmi_error *err)
{
	enum { NAMED = 8 };
	char names[NAMED * 190 + 8] = "";

	for (uint32_t i = 0; i < d->n_gguf && i < NAMED; i++) {
		strcat(names, i ? ", " : "");
		strcat(names, bmi_name_show(d->gguf[i], strlen(d->gguf[i])).text); /* at most 175 bytes */
	}
	if (d->n_gguf > NAMED)
		strcat(names, ", ...");
	return bmi_fail(
		err, -EINVAL,
		"several models are in this directory (%s): name one of the files instead of the directory",
		names);
}

static int open_any(struct bmi_ckpt *ckpt, bool need_weights, struct bmi_error *err)
{
	struct bmi_ckpt_dir d;
	int r = bmi_ckpt_dir_scan(ckpt->dirfd, ckpt->arena, &d, err);

	if (r < 0)
		return r;
	if (d.has_config && (d.has_single || d.has_index))
		return open_safetensors(ckpt, &d, err);
	if (d.n_gguf && bmi_gguf_count_models(d.gguf, d.n_gguf) > 1)
		return refuse_several(&d, err);
	if (d.n_gguf)
		return bmi_gguf_open(ckpt, d.gguf[0], err);
	if (d.has_config && !need_weights)
		return read_configs(ckpt, err);
	return bmi_ckpt_dir_refuse(&d, err);
}

/* A .gguf file (by its first bytes: blob stores name files by hash). Its directory is the one in the path as given. */
static int open_gguf_file(struct bmi_ckpt *ckpt, const char *path, struct bmi_error *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	bmi_auto_mem char *dir =
		slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	struct bmi_ckpt_file file = { NULL, -1, 0 };
	char magic[4] = "";
	int r;

	if (!dir)
		return bmi_fail(err, -ENOMEM, "no memory for its path");
	r = open_dir(ckpt, dir, err);
	if (r == 0)
		r = bmi_ckpt_open_file(ckpt->dirfd, name, &file, err);
	if (r < 0)
		return r;
	r = (int)pread(file.fd, magic, sizeof(magic), 0);
	close(file.fd);
	if ((r != 4 || memcmp(magic, "GGUF", 4) != 0) &&
	    (strlen(name) < 5 || strcasecmp(name + strlen(name) - 5, ".gguf") != 0))
		return bmi_fail(
			err, -ENOTDIR,
			"this is neither a directory nor a .gguf file: for safetensors name the directory");
	return bmi_gguf_open(ckpt, name, err);
}

int bmi_ckpt_open(const char *path, bool need_weights, struct bmi_ckpt **ret, struct bmi_error *err)
{
	struct bmi_ckpt *ckpt = ckpt_new();
	struct stat st;
	int r;

	if (!ckpt)
		return bmi_fail(err, -ENOMEM, "no memory to open '%s'", path);
	if (stat(path, &st) < 0)
		r = bmi_fail_errno(err, -errno, "model directory");
	else if (S_ISREG(st.st_mode))
		r = open_gguf_file(ckpt, path, err);
	else if (!S_ISDIR(st.st_mode))
		r = bmi_fail(err, -ENOTDIR, "this is neither a directory nor a .gguf file");
	else
		r = open_dir(ckpt, path, err);
	if (r == 0 && S_ISDIR(st.st_mode))
		r = open_any(ckpt, need_weights, err);
	if (r < 0) {
		bmi_ckpt_close(ckpt);
		return bmi_note(err, r, "'%s'", path);
	}
	*ret = ckpt;
	return 0;
}

enum bmi_ckpt_format bmi_ckpt_format(const struct bmi_ckpt *ckpt)
{
	return ckpt->format;
}

const struct bmi_json *bmi_ckpt_config(const struct bmi_ckpt *ckpt)
{
	return bmi_json_root(ckpt->config);
}

const struct bmi_json *bmi_ckpt_generation_config(const struct bmi_ckpt *ckpt)
{
	return ckpt->generation ? bmi_json_root(ckpt->generation) : NULL;
}

const char *bmi_ckpt_dir(const struct bmi_ckpt *ckpt)
{
	return ckpt->dir;
}

int bmi_ckpt_dirfd(const struct bmi_ckpt *ckpt)
{
	return ckpt->dirfd;
}

const struct bmi_gguf *bmi_ckpt_gguf(const struct bmi_ckpt *ckpt)
{
	return ckpt->gguf;
}

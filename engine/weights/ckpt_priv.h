/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_WEIGHTS_CKPT_PRIV_H
#define BMI_WEIGHTS_CKPT_PRIV_H

#include "base/arena.h"
#include "weights/ckpt.h"

/*
 * Only tests/fuzz defines these: one bound left out on purpose in a build that nobody else sees, so that a test can show
 * that the fuzzer finds such a thing.
 */
#ifdef BMI_PLANT_BUG_SAFETENSORS
#define BMI_PLANTED_SAFETENSORS 1
#else
#define BMI_PLANTED_SAFETENSORS 0
#endif
#ifdef BMI_PLANT_BUG_GGUF
#define BMI_PLANTED_GGUF 1
#else
#define BMI_PLANTED_GGUF 0
#endif

/* An open regular file of the checkpoint. */
struct bmi_ckpt_file {
	const char *name; /* plain, in the directory; lent by an arena */
	int fd;           /* O_RDONLY, blocking */
	uint64_t size_bytes;
};

/* Tensors while they are collected; in the order of the headers. */
struct bmi_ckpt_list {
	struct bmi_arena *arena; /* lent: the names */
	struct bmi_ckpt_tensor *at;
	uint32_t n, cap;
	/* the first tensor of an element type that is known but not run; NULL: none */
	const char *odd_file, *odd_tensor, *odd_dtype;
};

struct bmi_ckpt {
	struct bmi_arena *arena;
	enum bmi_ckpt_format format;
	char *dir; /* absolute */
	int dirfd;
	struct bmi_ckpt_file *files; /* by name in byte order */
	uint32_t n_files;
	struct bmi_ckpt_list list;
	uint32_t *table; /* [n_table] open addressing by name: index + 1, 0 is empty; n_table is a power of two */
	size_t n_table;
	char *config_text, *generation_text; /* the documents point into them */
	struct bmi_json_doc *config, *generation;
	char *index_dtype; /* metadata.dtype of the index; NULL: none */
	struct bmi_gguf *gguf;
};

/* ---- name.c: text from files, made fit for messages and paths ---- */

struct bmi_shown {
	char text[176];
};

/** bmi_name_show() - @n bytes as one printable line, shortened with "...". Use it at once: bmi_name_show(s, n).text. */
struct bmi_shown bmi_name_show(const char *s, size_t n);

/** bmi_name_is_utf8() - is it well-formed UTF-8 (no surrogates, nothing overlong)? */
bool bmi_name_is_utf8(const char *s, size_t n);

/** bmi_name_is_plain() - can it only name an entry of the directory itself: not empty, ".", "..", no '/' and no NUL? */
bool bmi_name_is_plain(const char *s, size_t n);

/** bmi_shape_show() - "[320, 64]". */
struct bmi_shown bmi_shape_show(const uint64_t *shape, unsigned n_dims);

/* ---- list.c ---- */

/** bmi_ckpt_list_add() - a zeroed tensor at the end, named by a copy of @name. NULL when memory is short. */
struct bmi_ckpt_tensor *bmi_ckpt_list_add(struct bmi_ckpt_list *list, const char *name, size_t n);
void bmi_ckpt_list_fini(struct bmi_ckpt_list *list);

/**
 * bmi_ckpt_list_check() - do the tensors from @first on share no byte?
 * @cover:    [cover_off, cover_end) must then be covered without a hole too; without it holes are fine.
 * Return: 0, -EINVAL naming the tensors, -ENOMEM.
 */
int bmi_ckpt_list_check(const struct bmi_ckpt_list *list, uint32_t first, bool cover, uint64_t cover_off,
			uint64_t cover_end, struct bmi_error *err);

/** bmi_ckpt_index() - make the table of names. -EINVAL: two tensors of one name. */
int bmi_ckpt_index(struct bmi_ckpt *ckpt, struct bmi_error *err);

/** bmi_ckpt_find() - by name; NULL when there is none. Cost: a hash lookup. */
const struct bmi_ckpt_tensor *bmi_ckpt_find(const struct bmi_ckpt *ckpt, const char *name, size_t n);

/* ---- dir.c ---- */

/* What a directory holds, by names alone. Names are lent by the arena. */
struct bmi_ckpt_dir {
	bool has_config, has_single, has_index, has_snapshots;
	const char *adapter;           /* adapter_config.json or adapter_model.*; NULL: none */
	const char *other_safetensors; /* one that is neither model.safetensors nor in an index */
	const char *foreign;           /* pytorch_model.bin and the like */
	const char **gguf;             /* [n_gguf] sorted; no projectors */
	uint32_t n_gguf;
	const char *projector; /* mmproj*.gguf */
};

int bmi_ckpt_dir_scan(int dirfd, struct bmi_arena *arena, struct bmi_ckpt_dir *ret, struct bmi_error *err);

/** bmi_ckpt_dir_refuse() - why a directory without a model that we read has none. Return: always negative. */
int bmi_ckpt_dir_refuse(const struct bmi_ckpt_dir *d, struct bmi_error *err);

/** bmi_ckpt_open_file() - open a regular file of the directory (symlinks are followed) without ever blocking. */
int bmi_ckpt_open_file(int dirfd, const char *name, struct bmi_ckpt_file *ret, struct bmi_error *err);

/** bmi_ckpt_check_regular() - is @name a regular file? -ENOENT, -EINVAL, or what stat(2) says; opens nothing. */
int bmi_ckpt_check_regular(int dirfd, const char *name, struct bmi_error *err);

/** bmi_ckpt_open_files() - open ckpt->files by their names; raises the soft limit of descriptors when it is too low. */
int bmi_ckpt_open_files(struct bmi_ckpt *ckpt, const char *named_by, struct bmi_error *err);

/** bmi_ckpt_read_json() - a small JSON file whose root is an object. -ENOENT when it is not there. */
int bmi_ckpt_read_json(int dirfd, const char *name, size_t max, char **ret_text, struct bmi_json_doc **ret,
		       struct bmi_error *err);

/* ---- safetensors.c ---- */

/**
 * bmi_safetensors_parse() - the tensors of one file from its header.
 * @text: the JSON, @n bytes; @file has 8 + @n bytes before its data.
 * @list: gets them; on failure it may hold some, with extents that were not checked.
 *
 * -EINVAL: damage, with the tensor's name. The file's own name is left to the caller's bmi_note().
 */
int bmi_safetensors_parse(const char *text, size_t n, const struct bmi_ckpt_file *file,
			  struct bmi_ckpt_list *list, struct bmi_error *err);

/** bmi_safetensors_read() - the same from the file: reads the length and the header, nothing else. */
int bmi_safetensors_read(const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list, struct bmi_error *err);

/** bmi_safetensors_open() - model.safetensors, or the index and its shards, into ckpt->files and ckpt->list. */
int bmi_safetensors_open(struct bmi_ckpt *ckpt, bool has_single, struct bmi_error *err);

/** bmi_safetensors_refuse_odd() - -EOPNOTSUPP when a tensor has an element type that is known but not run; else 0. */
int bmi_safetensors_refuse_odd(const struct bmi_ckpt_list *list, struct bmi_error *err);

/* Is it what Git stores in place of a large file? @head: the file's first 8 bytes. */
bool bmi_ckpt_is_lfs_pointer(const char *head);

/* ---- gguf_set.c ---- */

/** bmi_gguf_open() - the model that @name (a file of the directory) is, or is a part of. */
int bmi_gguf_open(struct bmi_ckpt *ckpt, const char *name, struct bmi_error *err);

/** bmi_gguf_count_models() - how many models the sorted names are: a split set counts once, at the name it begins with. */
uint32_t bmi_gguf_count_models(const char *const *names, uint32_t n);

/** bmi_gguf_is_part() - is it NAME-000kk-of-000nn.gguf? */
bool bmi_gguf_is_part(const char *name, size_t *ret_n_prefix, uint32_t *ret_k, uint32_t *ret_n);

#endif

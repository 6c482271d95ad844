/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns model.safetensors.index.json: which shards there are and that index and shards agree on every tensor. The shards'
 * own headers are safetensors.c's. Invariant: after success each tensor of ckpt->list is in the file that the index names,
 * and each name of the index is in the list.
 */
#include "weights/ckpt_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { MAX_INDEX_BYTES = 100 * 1000 * 1000 };

#define SINGLE "model.safetensors"
#define INDEX  "model.safetensors.index.json"

static int by_text(const void *a, const void *b)
{
	const struct bmi_json *x = *(const struct bmi_json *const *)a, *y = *(const struct bmi_json *const *)b;
	const int d = memcmp(x->str, y->str, x->n < y->n ? x->n : y->n);

	return d ? d : (x->n > y->n) - (x->n < y->n);
}

/* The weight map's distinct file names, in byte order, into ckpt->files. */
static int collect_files(struct bmi_ckpt *ckpt, const struct bmi_json *map, struct bmi_error *err)
{
	bmi_auto_mem const struct bmi_json **sorted = calloc(map->n ? map->n : 1, sizeof(*sorted));
	uint32_t n = 0;

	if (!sorted)
		return bmi_fail(err, -ENOMEM, "no memory for the names of the shards");
	for (const struct bmi_json *v = map->child; v; v = v->next) {
		const struct bmi_shown tensor = bmi_name_show(v->key, v->n_key);

		if (v->type != BMI_JSON_STRING)
			return bmi_fail(err, -EINVAL, "weight_map: the file of tensor '%s' is no string",
					tensor.text);
		if (!bmi_name_is_plain(v->str, v->n))
			return bmi_fail(err, -EINVAL,
					"weight_map: tensor '%s' is said to be in '%s', which is not a plain "
					"file name "
					"in the directory",
					tensor.text, bmi_name_show(v->str, v->n).text);
		sorted[n++] = v;
	}
	qsort(sorted, n, sizeof(*sorted), by_text);
	ckpt->files = calloc(n ? n : 1, sizeof(*ckpt->files));
	if (!ckpt->files)
		return bmi_fail(err, -ENOMEM, "no memory for %" PRIu32 " shards", n);
	for (uint32_t i = 0; i < n; i++) {
		struct bmi_ckpt_file *f = &ckpt->files[ckpt->n_files];

		if (i && by_text(&sorted[i - 1], &sorted[i]) == 0)
			continue;
		f->fd = -1;
		f->name = bmi_arena_strndup(ckpt->arena, sorted[i]->str, sorted[i]->n);
		if (!f->name)
			return bmi_fail(err, -ENOMEM, "no memory for the names of the shards");
		ckpt->n_files++;
	}
	return 0;
}

/* Both ways: what the index says is so, and nothing is there that it does not say. */
static int check_against(const struct bmi_ckpt *ckpt, const struct bmi_json *map, struct bmi_error *err)
{
	bmi_auto_mem bool *named = calloc(ckpt->list.n ? ckpt->list.n : 1, sizeof(*named));

	if (!named)
		return bmi_fail(err, -ENOMEM, "no memory to compare %" PRIu32 " names", ckpt->list.n);
	for (const struct bmi_json *v = map->child; v; v = v->next) {
		const struct bmi_ckpt_tensor *t = bmi_ckpt_find(ckpt, v->key, v->n_key);
		const struct bmi_shown name = bmi_name_show(v->key, v->n_key),
				       file = bmi_name_show(v->str, v->n);

		if (!t)
			return bmi_fail(err, -EINVAL, "tensor '%s' is not in '%s', where the index says it is",
					name.text, file.text);
		if (strlen(t->file) != v->n || memcmp(t->file, v->str, v->n) != 0)
			return bmi_fail(err, -EINVAL,
					"tensor '%s' is in '%s', but the index says it is in '%s'", name.text,
					t->file, file.text);
		named[t - ckpt->list.at] = true;
	}
	for (uint32_t i = 0; i < ckpt->list.n; i++)
		if (!named[i])
			return bmi_fail(err, -EINVAL, "tensor '%s' of '%s' is not in the index",
					bmi_name_show(ckpt->list.at[i].name, strlen(ckpt->list.at[i].name)).text,
					ckpt->list.at[i].file);
	return 0;
}

static int open_shards(struct bmi_ckpt *ckpt, const struct bmi_json *index, struct bmi_error *err)
{
	const struct bmi_json *map = bmi_json_get(index, "weight_map");
	const struct bmi_json *dtype = bmi_json_get(bmi_json_get(index, "metadata"), "dtype");
	int r;

	if (!map || map->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "weight_map is missing or no object");
	if (dtype && dtype->type == BMI_JSON_STRING) {
		ckpt->index_dtype = bmi_arena_strndup(ckpt->arena, dtype->str, dtype->n);
		if (!ckpt->index_dtype)
			return bmi_fail(err, -ENOMEM, "no memory for metadata.dtype");
	}
	r = collect_files(ckpt, map, err);
	if (r == 0)
		r = bmi_ckpt_open_files(ckpt, "weight_map", err);
	for (uint32_t i = 0; r == 0 && i < ckpt->n_files; i++) {
		r = bmi_safetensors_read(&ckpt->files[i], &ckpt->list, err);
		if (r < 0)
			r = bmi_note(err, r, "'%s'", ckpt->files[i].name);
	}
	if (r == 0)
		r = bmi_ckpt_index(ckpt, err);
	return r == 0 ? check_against(ckpt, map, err) : r;
}

static int open_single(struct bmi_ckpt *ckpt, struct bmi_error *err)
{
	int r;

	ckpt->files = calloc(1, sizeof(*ckpt->files));
	if (!ckpt->files)
		return bmi_fail(err, -ENOMEM, "no memory for '%s'", SINGLE);
	ckpt->files[0] = (struct bmi_ckpt_file){ SINGLE, -1, 0 };
	ckpt->n_files = 1;
	r = bmi_ckpt_open_files(ckpt, /* named_by= */ NULL, err);
	if (r < 0)
		return r;
	r = bmi_safetensors_read(&ckpt->files[0], &ckpt->list, err);
	return r < 0 ? bmi_note(err, r, "'%s'", SINGLE) : bmi_ckpt_index(ckpt, err);
}

int bmi_safetensors_open(struct bmi_ckpt *ckpt, bool has_single, struct bmi_error *err)
{
	bmi_auto_mem char *text = NULL;
	struct bmi_json_doc *doc = NULL;
	int r;

	ckpt->format = BMI_CKPT_SAFETENSORS;
	if (has_single)
		return open_single(ckpt, err);
	r = bmi_ckpt_read_json(ckpt->dirfd, INDEX, MAX_INDEX_BYTES, &text, &doc, err);
	if (r < 0)
		return r;
	r = open_shards(ckpt, bmi_json_root(doc), err);
	bmi_json_free(doc);
	return r < 0 ? bmi_note(err, r, "'%s'", INDEX) : 0;
}

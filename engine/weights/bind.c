/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the meeting of skeleton and checkpoint: which stored tensor is which parameter, by name (translated from GGUF's or
 * an older release's), and that shapes agree. It reads no weight. Invariant: on success every parameter has a tensor of
 * its shape and of an element type that can be converted, and every stored tensor was bound or is known and not needed.
 */
#include "weights/ckpt_priv.h"

#include <errno.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MAX_NAME = 512 };

struct binding {
	const struct bmi_ckpt *ckpt;
	const struct bmi_skel *skel;
	const struct bmi_arch *arch;
	const struct bmi_ckpt_tensor **of; /* [skel->n_tensors] */
	struct bmi_error *err;
};

#define SHOW(name) bmi_name_show(name, strlen(name)).text

/*
 * Does @name fit @from? Then *ret is the same of @to. Both patterns have one "%u", the layer, or none. A number with a
 * leading zero does not fit: each layer has one spelling.
 */
static bool translate(const char *from, const char *to, const char *name, char ret[MAX_NAME])
{
	const char *mark = strstr(from, "%u"), *to_mark = strstr(to, "%u");
	size_t n_front, n_digits;

	if (!mark || !to_mark)
		return strcmp(from, name) == 0 && snprintf(ret, MAX_NAME, "%s", to) < MAX_NAME;
	n_front = (size_t)(mark - from);
	if (strncmp(name, from, n_front) != 0)
		return false;
	name += n_front;
	n_digits = strspn(name, "0123456789");
	if (n_digits == 0 || n_digits > 9 || (n_digits > 1 && name[0] == '0') ||
	    strcmp(name + n_digits, mark + 2) != 0)
		return false;
	return snprintf(ret, MAX_NAME, "%.*s%.*s%s", (int)(to_mark - to), to, (int)n_digits, name,
			to_mark + 2) < MAX_NAME;
}

/* The skeleton's name of a stored tensor; false when no rule gives one. */
static bool skeleton_name(const struct binding *b, const char *name, char ret[MAX_NAME])
{
	if (b->ckpt->format == BMI_CKPT_GGUF) {
		for (const char *const(*p)[2] = b->arch->gguf_names; p && (*p)[0]; p++)
			if (translate((*p)[0], (*p)[1], name, ret))
				return true;
		return false;
	}
	for (const char *const(*p)[2] = b->arch->name_prefixes; p && (*p)[0]; p++)
		if (strncmp(name, (*p)[0], strlen((*p)[0])) == 0)
			return snprintf(ret, MAX_NAME, "%s%s", (*p)[1], name + strlen((*p)[0])) < MAX_NAME;
	return snprintf(ret, MAX_NAME, "%s", name) < MAX_NAME;
}

/* What the file would call a parameter: for messages. */
static struct bmi_shown stored_name(const struct binding *b, const char *name)
{
	char stored[MAX_NAME];

	if (b->ckpt->format == BMI_CKPT_GGUF)
		for (const char *const(*p)[2] = b->arch->gguf_names; p && (*p)[0]; p++)
			if (translate((*p)[1], (*p)[0], name, stored))
				return bmi_name_show(stored, strlen(stored));
	return bmi_name_show(name, strlen(name));
}

static bool fits_any(const char *const *patterns, const char *name)
{
	for (; patterns && *patterns; patterns++)
		if (fnmatch(*patterns, name, 0) == 0)
			return true;
	return false;
}

static bool is_ignored(const struct binding *b, const char *name)
{
	/* the first is in the config already (gguf_config.c), the second is computed */
	static const char *const gguf[] = { "rope_freqs.weight", "blk.*.attn_rot_embd", NULL };

	return fits_any(b->ckpt->format == BMI_CKPT_GGUF ? gguf : b->arch->ignored, name);
}

static int check_fit(const struct binding *b, const struct bmi_ckpt_tensor *t, const struct bmi_tensor *want)
{
	const struct bmi_dtype_info *info = bmi_dtype_info(t->dtype);
	const char *says = b->ckpt->format == BMI_CKPT_GGUF ? "the file's metadata" : "config.json";

	if (t->n_dims != want->n_dims || memcmp(t->shape, want->shape, want->n_dims * sizeof(t->shape[0])) != 0)
		return bmi_fail(b->err, -EINVAL, "'%s': tensor '%s' has shape %s, but %s asks for %s",
				t->file, SHOW(t->name), bmi_shape_show(t->shape, t->n_dims).text, says,
				bmi_shape_show(want->shape, want->n_dims).text);
	if (!info->is_floating && t->dtype < BMI_Q4_0)
		return bmi_fail(
			b->err, -EOPNOTSUPP,
			"'%s': tensor '%s' is %s: weights of integers are not run, take the model in a "
			"floating dtype",
			t->file, SHOW(t->name), info->name);
	return 0;
}

static int bind_stored(struct binding *b, const struct bmi_ckpt_tensor *t, uint32_t *n_unexpected,
		       const struct bmi_ckpt_tensor **first_unexpected)
{
	char name[MAX_NAME];
	const bool named = skeleton_name(b, t->name, name);
	const uint32_t i = named ? bmi_skel_find_tensor(b->skel, name, strlen(name)) : BMI_NONE;

	if (i == BMI_NONE && !is_ignored(b, t->name) && !(named && is_ignored(b, name))) {
		if ((*n_unexpected)++ == 0)
			*first_unexpected = t;
		return 0;
	}
	if (i == BMI_NONE ||
	    b->skel->tensors[i].kind == BMI_BUFFER) /* a buffer is computed, whatever the file has */
		return 0;
	if (b->of[i])
		return bmi_fail(b->err, -EINVAL,
				"tensors '%s' of '%s' and '%s' of '%s' are both '%s' of the model",
				SHOW(b->of[i]->name), b->of[i]->file, SHOW(t->name), t->file, SHOW(name));
	b->of[i] = t;
	return check_fit(b, t, &b->skel->tensors[i]);
}

/* A tied parameter takes its source's tensor; a source that only its second name has in the file takes that. */
static int bind_ties(struct binding *b)
{
	uint32_t n_missing = 0, first = 0;

	for (uint32_t i = 0; i < b->skel->n_tensors; i++) {
		const uint32_t source = b->skel->tensors[i].tied_to;

		if (source != BMI_NONE && b->of[i] && !b->of[source])
			b->of[source] = b->of[i];
	}
	for (uint32_t i = 0; i < b->skel->n_tensors; i++) {
		const struct bmi_tensor *t = &b->skel->tensors[i];

		if (t->kind == BMI_BUFFER)
			continue;
		if (t->tied_to != BMI_NONE)
			b->of[i] = b->of[t->tied_to];
		if (!b->of[i] && t->tied_to == BMI_NONE && n_missing++ == 0)
			first = i;
	}
	if (n_missing)
		return bmi_fail(
			b->err, -EINVAL,
			"tensor '%s' is missing%s: %s asks for it; the download may be incomplete or the "
			"config another model's",
			stored_name(b, b->skel->tensors[first].name).text,
			n_missing > 1 ? ", and others are" : "",
			b->ckpt->format == BMI_CKPT_GGUF ? "the file's metadata" : "config.json");
	return 0;
}

static int bind_all(struct binding *b)
{
	const struct bmi_ckpt_tensor *unexpected = NULL;
	uint32_t n_unexpected = 0;
	int r = bmi_safetensors_refuse_odd(&b->ckpt->list, b->err);

	for (uint32_t i = 0; r == 0 && i < b->ckpt->list.n; i++)
		r = bind_stored(b, &b->ckpt->list.at[i], &n_unexpected, &unexpected);
	if (r < 0)
		return r;
	if (n_unexpected)
		return bmi_fail(b->err, -EINVAL,
				"'%s': tensor '%s' is not part of the %s model that %s describes (%" PRIu32
				" such "
				"tensor%s): file and config do not belong together",
				unexpected->file, SHOW(unexpected->name), b->arch->model_type,
				b->ckpt->format == BMI_CKPT_GGUF ? "the metadata" : "config.json",
				n_unexpected, n_unexpected > 1 ? "s" : "");
	return bind_ties(b);
}

int bmi_ckpt_bind(const struct bmi_ckpt *ckpt, const struct bmi_skel *skel,
		  const struct bmi_ckpt_tensor *const **ret, struct bmi_error *err)
{
	struct binding b = { .ckpt = ckpt, .skel = skel, .arch = skel->cfg->arch, .err = err };
	int r;

	if (ckpt->format == BMI_CKPT_NONE)
		return bmi_fail(err, -ENOENT, "'%s': config.json is there, but no weights", ckpt->dir);
	b.of = calloc(skel->n_tensors ? skel->n_tensors : 1, sizeof(*b.of));
	if (!b.of)
		return bmi_fail(err, -ENOMEM, "no memory to bind %" PRIu32 " tensors", skel->n_tensors);
	r = bind_all(&b);
	if (r < 0) {
		free(b.of);
		return bmi_note(err, r, "'%s'", ckpt->dir);
	}
	*ret = b.of;
	return 0;
}

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

/* A fused tensor of the skeleton that is put together of pieces. */
struct fused {
	struct bmi_ckpt_tensor tensor;
	uint32_t n_found;
};

struct binding {
	const struct bmi_ckpt *ckpt;
	const struct bmi_skel *skel;
	const struct bmi_arch *arch;
	const struct bmi_ckpt_tensor **of; /* [skel->n_tensors], then in the same block: */
	struct fused *fused;               /* [n_fused] */
	struct bmi_extent *extents;        /* of their pieces */
	size_t n_fused, n_extents;         /* in use */
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

/*
 * As translate(), for a part's rule: "%u" in both, "%e" in the stored name only, given in *ret_expert (0 without it).
 */
static bool translate_part(const struct bmi_arch_part *rule, const char *name, char ret[MAX_NAME],
			   uint32_t *ret_expert)
{
	const char *mark = strstr(rule->stored, "%e");
	char stored[MAX_NAME];
	size_t n_digits;

	*ret_expert = 0;
	if (!mark)
		return translate(rule->stored, rule->name, name, ret);
	/* what stands after the expert's number tells where that number is */
	for (const char *at = name; (at = strchr(at, '.')) != NULL; at++) {
		n_digits = strspn(at + 1, "0123456789");
		if (n_digits == 0 || n_digits > 9 || (n_digits > 1 && at[1] == '0') ||
		    strcmp(at + 1 + n_digits, mark + 2) != 0)
			continue;
		*ret_expert = (uint32_t)strtoul(at + 1, NULL, 10);
		if (snprintf(stored, sizeof(stored), "%.*s%%e%s", (int)(at + 1 - name), name, mark + 2) >=
		    MAX_NAME)
			return false;
		return translate(rule->stored, rule->name, stored, ret);
	}
	return false;
}

/* The rule for a stored tensor that is a piece of a fused one, which *ret_tensor is then; NULL: it is none. */
static const struct bmi_arch_part *find_part(const struct binding *b, const char *name, uint32_t *ret_tensor,
					     uint32_t *ret_expert)
{
	char fused[MAX_NAME];

	for (const struct bmi_arch_part *p = b->arch->parts; p && p->stored; p++) {
		if (!p->n_parts || !translate_part(p, name, fused, ret_expert))
			continue;
		*ret_tensor = bmi_skel_find_tensor(b->skel, fused, strlen(fused));
		if (*ret_tensor != BMI_NONE)
			return p;
	}
	return NULL;
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
	for (const struct bmi_arch_part *p = b->arch->parts; p && p->stored; p++)
		if (!p->n_parts && translate(p->stored, p->name, name, ret))
			return true;
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

/* The fused tensor that skeleton tensor @i is put together as. */
static struct fused *fused_of(struct binding *b, uint32_t i, const struct bmi_arch_part *part,
			      const struct bmi_ckpt_tensor *first)
{
	const struct bmi_tensor *want = &b->skel->tensors[i];
	const uint32_t n = (uint32_t)want->shape[0] * part->n_parts;
	struct fused *f = NULL;

	for (size_t k = 0; k < b->n_fused; k++)
		if (b->of[i] == &b->fused[k].tensor)
			return &b->fused[k];
	f = &b->fused[b->n_fused++];
	f->tensor = (struct bmi_ckpt_tensor){
		.name = want->name,
		.dtype = first->dtype,
		.n_dims = want->n_dims,
		.file = first->file,
		.parts = b->extents + b->n_extents,
		.n_parts = n,
	};
	memcpy(f->tensor.shape, want->shape, sizeof(f->tensor.shape));
	b->n_extents += n;
	b->of[i] = &f->tensor;
	return f;
}

static int bind_part(struct binding *b, const struct bmi_ckpt_tensor *t, const struct bmi_arch_part *part,
		     uint32_t i, uint32_t expert)
{
	const struct bmi_tensor *want = &b->skel->tensors[i];
	const uint64_t rows = want->n_dims == 3 ? want->shape[1] / part->n_parts : 0;
	struct bmi_extent *ext;
	struct fused *f;

	if (b->of[i] && !b->of[i]->parts)
		return bmi_fail(b->err, -EINVAL, "tensor '%s' of '%s' and the piece '%s' of it are both there",
				SHOW(b->of[i]->name), b->of[i]->file, SHOW(t->name));
	if (!rows || expert >= want->shape[0] || t->n_dims != 2 || t->shape[0] != rows ||
	    t->shape[1] != want->shape[2])
		return bmi_fail(b->err, -EINVAL,
				"'%s': tensor '%s' has shape %s and does not fit into '%s' of shape %s",
				t->file, SHOW(t->name), bmi_shape_show(t->shape, t->n_dims).text, want->name,
				bmi_shape_show(want->shape, want->n_dims).text);
	f = fused_of(b, i, part, t);
	if (t->dtype != f->tensor.dtype || !bmi_dtype_info(t->dtype)->is_floating)
		return bmi_fail(
			b->err, -EOPNOTSUPP,
			"'%s': tensor '%s' is %s, the other experts are %s: experts must be floating and of "
			"one type",
			t->file, SHOW(t->name), bmi_dtype_info(t->dtype)->name,
			bmi_dtype_info(f->tensor.dtype)->name);
	ext = (struct bmi_extent *)(uintptr_t)&f->tensor.parts[expert * part->n_parts + part->part];
	if (ext->len)
		return bmi_fail(b->err, -EINVAL, "tensor '%s' is there twice", SHOW(t->name));
	*ext = t->extent;
	f->n_found++;
	return 0;
}

/* Each fused tensor has all its pieces: then they have one length too. */
static int finish_fused(struct binding *b)
{
	for (size_t k = 0; k < b->n_fused; k++) {
		struct bmi_ckpt_tensor *t = &b->fused[k].tensor;

		if (b->fused[k].n_found != t->n_parts)
			return bmi_fail(b->err, -EINVAL,
					"tensor '%s' is missing some of its experts: %" PRIu32 " of %" PRIu32
					" pieces are there; the download may be incomplete",
					SHOW(t->name), b->fused[k].n_found, t->n_parts);
		t->extent = t->parts[0];
		t->extent.len *= t->n_parts;
	}
	return 0;
}

static int bind_stored(struct binding *b, const struct bmi_ckpt_tensor *t, uint32_t *n_unexpected,
		       const struct bmi_ckpt_tensor **first_unexpected)
{
	char name[MAX_NAME];
	uint32_t fused, expert;
	const struct bmi_arch_part *part = b->fused ? find_part(b, t->name, &fused, &expert) : NULL;
	const bool named = !part && skeleton_name(b, t->name, name);
	const uint32_t i = named ? bmi_skel_find_tensor(b->skel, name, strlen(name)) : BMI_NONE;

	if (part)
		return bind_part(b, t, part, fused, expert);
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
	r = finish_fused(b);
	return r < 0 ? r : bind_ties(b);
}

/* One block of memory for the caller to free: the list, and what fused tensors need. */
static int alloc_list(struct binding *b)
{
	const uint32_t n = b->skel->n_tensors;
	size_t n_fused = 0, n_extents = 0;
	uint8_t most = 0;

	for (const struct bmi_arch_part *p = b->arch->parts; p && p->stored; p++)
		most = p->n_parts > most ? p->n_parts : most;
	for (uint32_t i = 0; most && b->ckpt->format == BMI_CKPT_SAFETENSORS && i < n; i++)
		if (b->skel->tensors[i].n_dims == 3) {
			n_fused++;
			n_extents += b->skel->tensors[i].shape[0] * most;
		}
	b->of = calloc(1, (n + 1) * sizeof(*b->of) + n_fused * sizeof(*b->fused) +
				  n_extents * sizeof(*b->extents));
	if (!b->of)
		return bmi_fail(b->err, -ENOMEM, "no memory to bind %" PRIu32 " tensors", n);
	if (n_fused) {
		b->fused = (struct fused *)(b->of + n + 1);
		b->extents = (struct bmi_extent *)(b->fused + n_fused);
	}
	return 0;
}

int bmi_ckpt_bind(const struct bmi_ckpt *ckpt, const struct bmi_skel *skel,
		  const struct bmi_ckpt_tensor *const **ret, struct bmi_error *err)
{
	struct binding b = { .ckpt = ckpt, .skel = skel, .arch = skel->cfg->arch, .err = err };
	int r;

	if (ckpt->format == BMI_CKPT_NONE)
		return bmi_fail(err, -ENOENT, "'%s': config.json is there, but no weights", ckpt->dir);
	r = alloc_list(&b);
	if (r < 0)
		return r;
	r = bind_all(&b);
	if (r < 0) {
		free(b.of);
		return bmi_note(err, r, "'%s'", ckpt->dir);
	}
	*ret = b.of;
	return 0;
}

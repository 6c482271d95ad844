/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what makes one model of GGUF files: a single file, or a set NAME-00001-of-0000N.gguf whose first part has the
 * metadata and whose tensors are spread over all parts. Invariant: after success ckpt->files are all N parts in order, and
 * no tensor is in two.
 */
#include "weights/gguf_priv.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum { MAX_PARTS = 9999 };

static bool five_digits(const char *s, uint32_t *ret)
{
	uint32_t x = 0;

	for (unsigned i = 0; i < 5; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		x = 10 * x + (uint32_t)(s[i] - '0');
	}
	*ret = x;
	return true;
}

bool bmi_gguf_is_part(const char *name, size_t *ret_n_prefix, uint32_t *ret_k, uint32_t *ret_n)
{
	const size_t n_tail = strlen("-00001-of-00002.gguf"), n = strlen(name);
	const char *tail = name + n - n_tail;

	if (n <= n_tail || tail[0] != '-' || memcmp(tail + 6, "-of-", 4) != 0 ||
	    strcasecmp(tail + 15, ".gguf") != 0)
		return false;
	if (!five_digits(tail + 1, ret_k) || !five_digits(tail + 10, ret_n))
		return false;
	*ret_n_prefix = n - n_tail;
	return *ret_k >= 1 && *ret_k <= *ret_n;
}

uint32_t bmi_gguf_count_models(const char *const *names, uint32_t n)
{
	uint32_t models = 0;

	for (uint32_t i = 0; i < n; i++) {
		size_t n_a, n_b;
		uint32_t k, parts, k_b, parts_b;
		bool again = false;

		/* sorted, so that the parts of a set follow each other */
		if (i && bmi_gguf_is_part(names[i], &n_a, &k, &parts) &&
		    bmi_gguf_is_part(names[i - 1], &n_b, &k_b, &parts_b))
			again = n_a == n_b && parts == parts_b && memcmp(names[i], names[i - 1], n_a) == 0;
		models += !again;
	}
	return models;
}

static int name_parts(struct bmi_ckpt *ckpt, const char *name, struct bmi_error *err)
{
	size_t n_prefix = 0;
	uint32_t k, n = 1;
	const bool is_set = bmi_gguf_is_part(name, &n_prefix, &k, &n);

	if (n > MAX_PARTS)
		return bmi_fail(err, -EINVAL, "'%s': a set of %" PRIu32 " files; at most %d are accepted",
				name, n, MAX_PARTS);
	ckpt->files = calloc(n, sizeof(*ckpt->files));
	if (!ckpt->files)
		return bmi_fail(err, -ENOMEM, "no memory for %" PRIu32 " files", n);
	for (uint32_t i = 0; i < n; i++) {
		struct bmi_ckpt_file *f = &ckpt->files[i];

		f->fd = -1;
		f->name = is_set ? bmi_arena_printf(ckpt->arena, "%.*s-%05" PRIu32 "-of-%05" PRIu32 "%s",
						    (int)n_prefix, name, i + 1, n, name + strlen(name) - 5)
				 : bmi_arena_strndup(ckpt->arena, name, strlen(name));
		if (!f->name)
			return bmi_fail(err, -ENOMEM, "no memory for the names of %" PRIu32 " files", n);
		ckpt->n_files++;
	}
	return 0;
}

/* What each part says about the set, where it says anything. */
static int check_part(const struct bmi_ckpt *ckpt, uint32_t i, const struct bmi_gguf *g, struct bmi_error *err)
{
	uint64_t n;

	if (bmi_gguf_get_u64(g, "split.count", &n) && n != ckpt->n_files && !(n == 0 && ckpt->n_files == 1))
		return bmi_fail(err, -EINVAL,
				"'%s': split.count is %" PRIu64 ", but its name makes it one of %" PRIu32
				": part names must be kept as NAME-00001-of-0000N.gguf",
				ckpt->files[i].name, n, ckpt->n_files);
	if (ckpt->n_files > 1 && bmi_gguf_get_u64(g, "split.no", &n) && n != i)
		return bmi_fail(err, -EINVAL,
				"'%s': split.no is %" PRIu64 ", but its name says part %" PRIu32
				" (number %" PRIu32 " from 0)",
				ckpt->files[i].name, n, i + 1, i);
	return 0;
}

static int read_parts(struct bmi_ckpt *ckpt, struct bmi_error *err)
{
	int r = 0;

	for (uint32_t i = 0; r == 0 && i < ckpt->n_files; i++) {
		bmi_auto(bmi_gguf) g = NULL;

		r = bmi_gguf_read(&ckpt->files[i], &ckpt->list, &g, err);
		if (r < 0)
			return bmi_note(err, r, "'%s'", ckpt->files[i].name);
		r = check_part(ckpt, i, g, err);
		if (i == 0)
			ckpt->gguf = bmi_steal(&g);
	}
	return r;
}

static int translate(struct bmi_ckpt *ckpt, struct bmi_error *err)
{
	bmi_auto_str text = { 0 };
	int r = bmi_gguf_config(ckpt, &text, err);

	if (r < 0)
		return bmi_note(err, r, "'%s'", ckpt->files[0].name);
	ckpt->config_text = text.bytes;
	text.bytes = NULL;
	r = bmi_json_parse(ckpt->config_text, text.n, &ckpt->config, err);
	return r < 0 ? bmi_note(err, r, "'%s': its metadata as config", ckpt->files[0].name) : 0;
}

int bmi_gguf_open(struct bmi_ckpt *ckpt, const char *name, struct bmi_error *err)
{
	uint64_t n;
	int r;

	ckpt->format = BMI_CKPT_GGUF;
	r = name_parts(ckpt, name, err);
	if (r == 0)
		r = bmi_ckpt_open_files(ckpt, ckpt->n_files > 1 ? "the set of parts" : NULL, err);
	if (r == 0)
		r = read_parts(ckpt, err);
	if (r < 0)
		return r;
	if (ckpt->list.n == 0)
		return bmi_fail(
			err, -EINVAL,
			"'%s': it has no tensors, only a vocabulary or metadata: get the model itself", name);
	if (bmi_gguf_get_u64(ckpt->gguf, "split.tensors.count", &n) && n != ckpt->list.n)
		return bmi_fail(err, -EINVAL,
				"'%s': split.tensors.count is %" PRIu64 ", but the parts have %" PRIu32
				" tensors together",
				ckpt->files[0].name, n, ckpt->list.n);
	r = bmi_ckpt_index(ckpt, err);
	return r < 0 ? r : translate(ckpt, err);
}

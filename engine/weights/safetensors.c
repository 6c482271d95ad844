/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the header of one .safetensors file: 8 bytes of length, JSON, then the data. It reads no weight and knows neither
 * the index nor the config. Accepts what the reference implementation (huggingface/safetensors, tensor.rs) accepts: the
 * tensors cover the data from its first byte to the last, without overlap or hole; see docs/format-safetensors.md.
 * Invariant: after success each tensor's extent lies in the file and has just the bytes that its shape and dtype need.
 */
#include "weights/ckpt_priv.h"

#include "base/checked.h"
#include "base/file.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	LEN_BYTES = 8,
	MAX_HEADER_BYTES = 100 * 1000 * 1000 /* the reference implementation's */,
	MAX_RANK = 16
};

struct element {
	const char *name;
	uint8_t bits;
	bool runs;
	enum bmi_dtype dtype;
};

static const struct element elements[] = {
	{ "F32", 32, true, BMI_F32 },        { "F16", 16, true, BMI_F16 },
	{ "BF16", 16, true, BMI_BF16 },      { "F64", 64, true, BMI_F64 },
	{ "I8", 8, true, BMI_I8 },           { "U8", 8, true, BMI_U8 },
	{ "BOOL", 8, true, BMI_BOOL },       { "I16", 16, true, BMI_I16 },
	{ "I32", 32, true, BMI_I32 },        { "I64", 64, true, BMI_I64 },
	{ "U16", 16, false, BMI_U8 },        { "U32", 32, false, BMI_U8 },
	{ "U64", 64, false, BMI_U8 },        { "C64", 64, false, BMI_U8 },
	{ "F8_E4M3", 8, false, BMI_U8 },     { "F8_E5M2", 8, false, BMI_U8 },
	{ "F8_E8M0", 8, false, BMI_U8 },     { "F8_E4M3FNUZ", 8, false, BMI_U8 },
	{ "F8_E5M2FNUZ", 8, false, BMI_U8 }, { "F6_E2M3", 6, false, BMI_U8 },
	{ "F6_E3M2", 6, false, BMI_U8 },     { "F4", 4, false, BMI_U8 },
};

static int parse_element(const struct bmi_json *v, const struct element **ret, struct bmi_error *err)
{
	if (!v || v->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "its dtype is missing or no string");
	for (size_t i = 0; i < BMI_ARRAY_LEN(elements); i++) {
		if (bmi_json_eq(v, elements[i].name)) {
			*ret = &elements[i];
			return 0;
		}
	}
	return bmi_fail(err, -EINVAL,
			"dtype '%s' is not one of the format (F64 F32 F16 BF16 I64 I32 I16 I8 U8 BOOL)",
			bmi_name_show(v->str, v->n).text);
}

static int parse_shape(const struct bmi_json *v, struct bmi_ckpt_tensor *t, uint64_t *ret_n,
		       struct bmi_error *err)
{
	uint64_t n = 1, dim;
	unsigned i = 0;

	if (!v || v->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "its shape is missing or no array");
	if (v->n > MAX_RANK)
		return bmi_fail(err, -EINVAL,
				"its shape has %" PRIu32 " dimensions, more than the %d accepted here", v->n,
				MAX_RANK);
	for (const struct bmi_json *d = v->child; d; d = d->next, i++) {
		if (!bmi_json_to_u64(d, &dim))
			return bmi_fail(err, -EINVAL,
					"dimension %u of its shape is not a whole number from 0 to 2^64 - 1",
					i);
		if (i < BMI_MAX_DIMS)
			t->shape[i] = dim;
		if (!bmi_mul(n, dim, &n))
			return bmi_fail(err, -EINVAL, "the product of its shape is 2^64 or more");
	}
	t->n_dims = (uint8_t)v->n;
	*ret_n = n;
	return 0;
}

static int parse_offsets(const struct bmi_json *v, uint64_t ret[2], struct bmi_error *err)
{
	if (!v || v->type != BMI_JSON_ARRAY || v->n != 2 || !bmi_json_to_u64(v->child, &ret[0]) ||
	    !bmi_json_to_u64(v->child->next, &ret[1]))
		return bmi_fail(err, -EINVAL, "its data_offsets are not two whole numbers from 0 to 2^64 - 1");
	if (ret[1] < ret[0])
		return bmi_fail(err, -EINVAL,
				"its data_offsets end at %" PRIu64 ", before they begin at %" PRIu64, ret[1],
				ret[0]);
	return 0;
}

/* One entry of the header. @data_off: of the data in the file, which ends at file->size_bytes. */
static int parse_tensor(const struct bmi_json *v, uint64_t data_off, const struct bmi_ckpt_file *file,
			struct bmi_ckpt_list *list, struct bmi_ckpt_tensor *t, struct bmi_error *err)
{
	const uint64_t data_len = file->size_bytes - data_off;
	const struct element *el = NULL;
	uint64_t n = 0, bits, range[2] = { 0, 0 };
	int r;

	if (v->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "its entry is no object");
	r = parse_element(bmi_json_get(v, "dtype"), &el, err);
	if (r == 0)
		r = parse_shape(bmi_json_get(v, "shape"), t, &n, err);
	if (r == 0)
		r = parse_offsets(bmi_json_get(v, "data_offsets"), range, err);
	if (r < 0)
		return r;
	if (range[1] > data_len)
		return bmi_fail(err, -EINVAL,
				"its data ends at byte %" PRIu64
				" past the header, but the file has only %" PRIu64
				" bytes there: it is cut short or damaged, download it again",
				range[1], data_len);
	if (!bmi_mul(n, el->bits, &bits) || bits % 8)
		return bmi_fail(err, -EINVAL,
				"%" PRIu64 " elements of %u bits are no whole number of bytes below 2^61", n,
				el->bits);
	if (range[1] - range[0] != bits / 8)
		return bmi_fail(err, -EINVAL,
				"its data_offsets span %" PRIu64 " bytes, but shape %s of %s needs %" PRIu64,
				range[1] - range[0], bmi_shape_show(t->shape, t->n_dims).text, el->name,
				bits / 8);
	t->dtype = el->dtype;
	t->extent = (struct bmi_extent){ file->fd, data_off + range[0], range[1] - range[0] };
	if (!el->runs && !list->odd_tensor) {
		list->odd_tensor = t->name;
		list->odd_file = file->name;
		list->odd_dtype = el->name;
	}
	return 0;
}

static int check_metadata(const struct bmi_json *v, struct bmi_error *err)
{
	if (v->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "__metadata__ is no object");
	for (const struct bmi_json *m = v->child; m; m = m->next)
		if (m->type != BMI_JSON_STRING)
			return bmi_fail(err, -EINVAL, "__metadata__: the value of '%s' is no string",
					bmi_name_show(m->key, m->n_key).text);
	return 0;
}

/* @root is an object: the text begins with '{'. */
static int parse_entries(const struct bmi_json *root, uint64_t data_off, const struct bmi_ckpt_file *file,
			 struct bmi_ckpt_list *list, struct bmi_error *err)
{
	const uint32_t first = list->n;
	int r;

	for (const struct bmi_json *v = root->child; v; v = v->next) {
		struct bmi_ckpt_tensor *t;

		if (v->n_key == strlen("__metadata__") && memcmp(v->key, "__metadata__", v->n_key) == 0) {
			r = check_metadata(v, err);
			if (r < 0)
				return r;
			continue;
		}
		if (v->n_key == 0 || memchr(v->key, 0, v->n_key))
			return bmi_fail(err, -EINVAL, "a tensor's name is empty or holds a NUL byte: '%s'",
					bmi_name_show(v->key, v->n_key).text);
		t = bmi_ckpt_list_add(list, v->key, v->n_key);
		if (!t)
			return bmi_fail(err, -ENOMEM, "no memory for tensor '%s'",
					bmi_name_show(v->key, v->n_key).text);
		t->file = file->name;
		r = parse_tensor(v, data_off, file, list, t, err);
		if (r < 0)
			return bmi_note(err, r, "tensor '%s'", bmi_name_show(v->key, v->n_key).text);
	}
	return bmi_ckpt_list_check(list, first, /* cover= */ !BMI_PLANTED_SAFETENSORS, data_off,
				   file->size_bytes, err);
}

int bmi_safetensors_parse(const char *text, size_t n, const struct bmi_ckpt_file *file,
			  struct bmi_ckpt_list *list, struct bmi_error *err)
{
	struct bmi_json_doc *doc = NULL;
	int r;

	if (n == 0 || text[0] != '{')
		return bmi_fail(err, -EINVAL,
				"the header does not begin with '{': this is no safetensors file");
	r = bmi_json_parse(text, n, &doc, err);
	if (r < 0)
		return bmi_note(err, r, "the header");
	r = parse_entries(bmi_json_root(doc), LEN_BYTES + n, file, list, err);
	bmi_json_free(doc);
	return r;
}

bool bmi_ckpt_is_lfs_pointer(const char *head)
{
	return memcmp(head, "version ", 8) == 0;
}

int bmi_safetensors_read(const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list, struct bmi_error *err)
{
	unsigned char len[LEN_BYTES];
	bmi_auto_mem char *text = NULL;
	uint64_t n = 0;
	int r;

	if (file->size_bytes < LEN_BYTES)
		return bmi_fail(err, -EINVAL,
				"the file has %" PRIu64 " bytes, not even the 8 of its header's length",
				file->size_bytes);
	r = bmi_file_pread(file->fd, len, sizeof(len), 0, err);
	if (r < 0)
		return r;
	if (bmi_ckpt_is_lfs_pointer((const char *)len))
		return bmi_fail(
			err, -EINVAL,
			"this is a Git LFS pointer, not the weights: run 'git lfs pull' where it came from");
	for (unsigned i = 0; i < LEN_BYTES; i++)
		n |= (uint64_t)len[i] << 8 * i;
	if (n > file->size_bytes - LEN_BYTES)
		return bmi_fail(err, -EINVAL,
				"the header's length is %" PRIu64 " bytes, but the file has only %" PRIu64
				" after it: it is cut short or no safetensors file",
				n, file->size_bytes - LEN_BYTES);
	if (n > MAX_HEADER_BYTES)
		return bmi_fail(err, -EINVAL,
				"the header's length is %" PRIu64
				" bytes, more than the %d that the format allows",
				n, MAX_HEADER_BYTES);
	text = malloc(n + 1);
	if (!text)
		return bmi_fail(err, -ENOMEM, "no memory for a header of %" PRIu64 " bytes", n);
	r = bmi_file_pread(file->fd, text, n, LEN_BYTES, err);
	if (r < 0)
		return r;
	return bmi_safetensors_parse(text, n, file, list, err);
}

int bmi_safetensors_refuse_odd(const struct bmi_ckpt_list *list, struct bmi_error *err)
{
	if (!list->odd_tensor)
		return 0;
	return bmi_fail(err, -EOPNOTSUPP,
			"'%s': tensor '%s': dtype %s is not run yet: take the model in float32, float16 or "
			"bfloat16",
			list->odd_file, bmi_name_show(list->odd_tensor, strlen(list->odd_tensor)).text,
			list->odd_dtype);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the tensor table of a GGUF header: names, shapes (turned to slowest first), element types, places. Invariant: after
 * success each tensor's extent is aligned, lies in the file behind the header, has just the bytes that shape and type need,
 * and shares none with another.
 */
#include "weights/gguf_priv.h"

#include "base/checked.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

enum {
	MIN_TENSOR_BYTES = 8 + 4 + 4 + 8,
	MAX_NAME_BYTES = 255,   /* the format says 64; ggml.h 63 */
	DEFAULT_ALIGNMENT = 32, /* the format's, without general.alignment */
	MAX_ALIGNMENT = 1 << 20,
};

struct element {
	const char *name; /* NULL: a number without meaning, or one that was taken back */
	bool runs;
	enum bmi_dtype dtype;
};

/* ggml.h: enum ggml_type. */
static const struct element elements[] = {
	[0] = { "F32", true, BMI_F32 },    [1] = { "F16", true, BMI_F16 },
	[2] = { "Q4_0", true, BMI_Q4_0 },  [3] = { "Q4_1", true, BMI_Q4_1 },
	[6] = { "Q5_0", true, BMI_Q5_0 },  [7] = { "Q5_1", true, BMI_Q5_1 },
	[8] = { "Q8_0", true, BMI_Q8_0 },  [9] = { "Q8_1", false, 0 },
	[10] = { "Q2_K", false, 0 },       [11] = { "Q3_K", false, 0 },
	[12] = { "Q4_K", true, BMI_Q4_K }, [13] = { "Q5_K", true, BMI_Q5_K },
	[14] = { "Q6_K", true, BMI_Q6_K }, [15] = { "Q8_K", false, 0 },
	[16] = { "IQ2_XXS", false, 0 },    [17] = { "IQ2_XS", false, 0 },
	[18] = { "IQ3_XXS", false, 0 },    [19] = { "IQ1_S", false, 0 },
	[20] = { "IQ4_NL", false, 0 },     [21] = { "IQ3_S", false, 0 },
	[22] = { "IQ2_S", false, 0 },      [23] = { "IQ4_XS", false, 0 },
	[24] = { "I8", true, BMI_I8 },     [25] = { "I16", true, BMI_I16 },
	[26] = { "I32", true, BMI_I32 },   [27] = { "I64", true, BMI_I64 },
	[28] = { "F64", true, BMI_F64 },   [29] = { "IQ1_M", false, 0 },
	[30] = { "BF16", true, BMI_BF16 }, [34] = { "TQ1_0", false, 0 },
	[35] = { "TQ2_0", false, 0 },      [39] = { "MXFP4", false, 0 },
};

static int find_element(uint32_t number, enum bmi_dtype *ret, struct bmi_error *err)
{
	const char *const read = "F32 F16 BF16 F64 Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K are";

	if (number >= BMI_ARRAY_LEN(elements) || !elements[number].name)
		return bmi_fail(err, -EOPNOTSUPP, "element type %" PRIu32 " is not known; %s read", number,
				read);
	if (!elements[number].runs)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"element type %s is not run yet: take the model in another quantization (%s read)",
			elements[number].name, read);
	*ret = elements[number].dtype;
	return 0;
}

/* Dimensions come fastest first. Every row must be whole blocks. */
static int parse_dims(struct bmi_gguf_rd *rd, struct bmi_ckpt_tensor *t, uint64_t *ret_n, uint64_t *ret_row,
		      struct bmi_error *err)
{
	uint64_t dim = 0, n = 1;
	uint32_t n_dims = 0;
	int r = bmi_gguf_rd_u32(rd, &n_dims, err);

	if (r < 0)
		return r;
	if (n_dims > BMI_MAX_DIMS)
		return bmi_fail(err, -EINVAL, "it has %" PRIu32 " dimensions, the format allows %d", n_dims,
				BMI_MAX_DIMS);
	*ret_row = 1;
	for (uint32_t i = 0; i < n_dims; i++) {
		r = bmi_gguf_rd_u64(rd, &dim, err);
		if (r < 0)
			return r;
		if (dim == 0)
			return bmi_fail(err, -EINVAL, "its dimension %" PRIu32 " is 0", i);
		if (!bmi_mul(n, dim, &n))
			return bmi_fail(err, -EINVAL, "the product of its dimensions is 2^64 or more");
		t->shape[n_dims - 1 - i] = dim;
		if (i == 0)
			*ret_row = dim;
	}
	t->n_dims = (uint8_t)n_dims;
	*ret_n = n;
	return 0;
}

/* What follows a tensor's name. extent.off stays relative to the data until the header's end is known. */
static int parse_info(struct bmi_gguf_rd *rd, struct bmi_ckpt_tensor *t, uint64_t alignment,
		      struct bmi_error *err)
{
	const struct bmi_dtype_info *info;
	uint64_t n = 0, row = 1;
	uint32_t number = 0;
	int r;

	r = parse_dims(rd, t, &n, &row, err);
	if (r == 0)
		r = bmi_gguf_rd_u32(rd, &number, err);
	if (r == 0)
		r = bmi_gguf_rd_u64(rd, &t->extent.off, err);
	if (r == 0)
		r = find_element(number, &t->dtype, err);
	if (r < 0)
		return r;
	info = bmi_dtype_info(t->dtype);
	if (row % info->block_len)
		return bmi_fail(err, -EINVAL,
				"its rows have %" PRIu64 " elements, which are not whole blocks of %u (%s)",
				row, info->block_len, info->name);
	if (!bmi_dtype_bytes(t->dtype, n, &t->extent.len))
		return bmi_fail(err, -EINVAL, "%" PRIu64 " elements of %s are 2^64 bytes or more", n,
				info->name);
	if (t->extent.off % alignment)
		return bmi_fail(err, -EINVAL, "its offset %" PRIu64 " is no multiple of the alignment %" PRIu64,
				t->extent.off, alignment);
	return 0;
}

static int parse_tensor(struct bmi_gguf_rd *rd, uint64_t alignment, const struct bmi_ckpt_file *file,
			struct bmi_ckpt_list *list, struct bmi_error *err)
{
	struct bmi_ckpt_tensor *t;
	uint64_t off, n;
	const char *name;
	int r = bmi_gguf_rd_str(rd, &off, &n, err);

	if (r < 0)
		return r;
	name = rd->g->head + off;
	if (n == 0 || n > MAX_NAME_BYTES)
		return bmi_fail(err, -EINVAL, "its name has %" PRIu64 " bytes; 1 to %d are accepted here", n,
				MAX_NAME_BYTES);
	if (!bmi_name_is_utf8(name, n) || memchr(name, 0, n))
		return bmi_fail(err, -EINVAL, "its name '%s' is not UTF-8 text", bmi_name_show(name, n).text);
	t = bmi_ckpt_list_add(list, name, n);
	if (!t)
		return bmi_fail(err, -ENOMEM, "no memory for tensor '%s'", bmi_name_show(name, n).text);
	t->file = file->name;
	t->extent.fd = file->fd;
	r = parse_info(rd, t, alignment, err);
	return r < 0 ? bmi_note(err, r, "'%s'", bmi_name_show(t->name, n).text) : 0;
}

static int read_alignment(const struct bmi_gguf *g, uint64_t *ret, struct bmi_error *err)
{
	*ret = DEFAULT_ALIGNMENT;
	if (!bmi_gguf_find(g, "general.alignment", strlen("general.alignment")))
		return 0;
	if (!bmi_gguf_get_u64(g, "general.alignment", ret))
		return bmi_fail(err, -EINVAL, "general.alignment is no whole number");
	if (*ret == 0 || *ret > MAX_ALIGNMENT || (*ret & (*ret - 1)))
		return bmi_fail(err, -EINVAL, "general.alignment is %" PRIu64 ", not a power of two up to %d",
				*ret, MAX_ALIGNMENT);
	return 0;
}

/* Offsets become the file's. */
static int place_tensors(struct bmi_ckpt_list *list, uint32_t first, uint64_t data, uint64_t size_bytes,
			 struct bmi_error *err)
{
	const uint64_t len = data < size_bytes ? size_bytes - data : 0;

	for (uint32_t i = first; i < list->n; i++) {
		struct bmi_ckpt_tensor *t = &list->at[i];
		uint64_t end;

		if (!bmi_add(t->extent.off, t->extent.len, &end) || end > len)
			return bmi_fail(err, -EINVAL,
					"tensor '%s': its data begins at byte %" PRIu64
					" past the header and has %" PRIu64
					" bytes, but the file has only %" PRIu64
					" there: it is cut short or damaged, download it again",
					bmi_name_show(t->name, strlen(t->name)).text, t->extent.off,
					t->extent.len, len);
		t->extent.off += data;
	}
	return bmi_ckpt_list_check(list, first, /* cover= */ false, data, size_bytes, err);
}

int bmi_gguf_parse_tensors(struct bmi_gguf_rd *rd, const struct bmi_ckpt_file *file,
			   struct bmi_ckpt_list *list, struct bmi_error *err)
{
	const uint32_t first = list->n;
	uint64_t alignment;
	int r = read_alignment(rd->g, &alignment, err);

	if (r < 0)
		return r;
	if (rd->g->n_tensors > (rd->size_bytes - rd->off) / MIN_TENSOR_BYTES)
		return bmi_fail(err, -EINVAL,
				"the header claims %" PRIu64
				" tensors, more than the file has room for (%" PRIu64 " bytes)",
				rd->g->n_tensors, rd->size_bytes);
	for (uint64_t i = 0; i < rd->g->n_tensors; i++) {
		r = parse_tensor(rd, alignment, file, list, err);
		if (r < 0)
			return bmi_note(err, r, "tensor %" PRIu64, i);
	}
	return place_tensors(list, first, bmi_align_up(rd->off, alignment), rd->size_bytes, err);
}

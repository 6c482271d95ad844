/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_WEIGHTS_GGUF_PRIV_H
#define BMI_WEIGHTS_GGUF_PRIV_H

#include "base/str.h"
#include "weights/ckpt_priv.h"
#include "weights/gguf.h"

/* Kinds of a metadata value, with the file's numbers. */
enum bmi_gguf_kind {
	BMI_GGUF_U8,
	BMI_GGUF_I8,
	BMI_GGUF_U16,
	BMI_GGUF_I16,
	BMI_GGUF_U32,
	BMI_GGUF_I32,
	BMI_GGUF_F32,
	BMI_GGUF_BOOL,
	BMI_GGUF_STR,
	BMI_GGUF_ARR,
	BMI_GGUF_U64,
	BMI_GGUF_I64,
	BMI_GGUF_F64,
	BMI_GGUF_N_KINDS,
};

/* One key; places are offsets into the header, which may move while it is read. */
struct bmi_gguf_kv {
	uint64_t key, value; /* value of an array: its first element */
	uint64_t n;          /* elements of an array, bytes of a string */
	uint32_t n_key;
	uint8_t kind, elem; /* enum bmi_gguf_kind; elem: of an array */
};

struct bmi_gguf {
	char *head; /* the header, and perhaps some bytes more */
	uint64_t n_head;
	struct bmi_gguf_kv *kvs;
	uint32_t n_kvs, cap_kvs;
	uint32_t *table; /* [n_table] by key: index + 1 */
	size_t n_table;
	uint64_t n_tensors;
};

/* Reads a header from its front. Invariant: off <= size, and head[0 .. have) is what the file says. */
struct bmi_gguf_rd {
	struct bmi_gguf *g;
	int fd; /* -1: all is in memory already */
	uint64_t size_bytes, off, have, cap;
};

/** bmi_gguf_rd_need() - are there @n more bytes? Brings them into memory. -EINVAL: the file ends before. */
int bmi_gguf_rd_need(struct bmi_gguf_rd *rd, uint64_t n, struct bmi_error *err);
int bmi_gguf_rd_u32(struct bmi_gguf_rd *rd, uint32_t *ret, struct bmi_error *err);
int bmi_gguf_rd_u64(struct bmi_gguf_rd *rd, uint64_t *ret, struct bmi_error *err);
/** bmi_gguf_rd_str() - a string's place in the header. */
int bmi_gguf_rd_str(struct bmi_gguf_rd *rd, uint64_t *ret_off, uint64_t *ret_n, struct bmi_error *err);

/** bmi_gguf_parse_kvs() - all metadata, and the table of keys. */
int bmi_gguf_parse_kvs(struct bmi_gguf_rd *rd, uint64_t n_kvs, struct bmi_error *err);

/** bmi_gguf_parse_tensors() - the tensor table, which @rd stands at, into @list. */
int bmi_gguf_parse_tensors(struct bmi_gguf_rd *rd, const struct bmi_ckpt_file *file,
			   struct bmi_ckpt_list *list, struct bmi_error *err);

/** bmi_gguf_read() - metadata and tensors of one file. The caller frees *ret with bmi_gguf_free(). */
int bmi_gguf_read(const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list, struct bmi_gguf **ret,
		  struct bmi_error *err);

/** bmi_gguf_parse() - the same from @n bytes in memory, for tests; file->size_bytes is @n, its fd is only recorded. */
int bmi_gguf_parse(const char *bytes, size_t n, const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list,
		   struct bmi_gguf **ret, struct bmi_error *err);
void bmi_gguf_free(struct bmi_gguf *g);
BMI_AUTO(bmi_gguf)

const struct bmi_gguf_kv *bmi_gguf_find(const struct bmi_gguf *g, const char *key, size_t n);

/** bmi_gguf_config() - ckpt->gguf's metadata as the text of a config.json. -EOPNOTSUPP: an architecture we do not run. */
int bmi_gguf_config(const struct bmi_ckpt *ckpt, struct bmi_str *ret, struct bmi_error *err);

/** bmi_gguf_kind_bytes() - bytes of a scalar kind, 0 for strings and arrays. */
unsigned bmi_gguf_kind_bytes(uint8_t kind);

#endif

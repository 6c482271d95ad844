/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_WEIGHTS_MAKER_H
#define BMI_TESTS_WEIGHTS_MAKER_H

#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Makes model directories for tests, good ones and damaged ones. What cannot be made ends the test program. */

struct dir {
	char path[128];
};

void dir_make(struct dir *d);
void dir_remove(const struct dir *d);

/** dir_put() - a file of @n bytes; dir_puts() - of a text. */
void dir_put(const struct dir *d, const char *name, const void *bytes, size_t n);
void dir_puts(const struct dir *d, const char *name, const char *text);

/** dir_put_st() - a safetensors file: the length, @header, then @n_data bytes of zeros (a hole on disk). */
void dir_put_st(const struct dir *d, const char *name, const char *header, uint64_t n_data);

/** dir_put_st_len() - the same with a length field that may lie. */
void dir_put_st_len(const struct dir *d, const char *name, uint64_t len, const void *header, size_t n_header,
		    uint64_t n_data);

void dir_cut(const struct dir *d, const char *name, uint64_t n);
void dir_mkdir(const struct dir *d, const char *name);
void dir_fifo(const struct dir *d, const char *name);
void dir_socket(const struct dir *d, const char *name);
void dir_link(const struct dir *d, const char *target, const char *name);

/* Little-endian pieces of a GGUF file. */
void put_u8(struct bmi_str *s, uint8_t x);
void put_u32(struct bmi_str *s, uint32_t x);
void put_u64(struct bmi_str *s, uint64_t x);
void put_f32(struct bmi_str *s, float x);
void put_str(struct bmi_str *s, const char *text);
void put_zeros(struct bmi_str *s, size_t n);

void put_kv_u32(struct bmi_str *s, const char *key, uint32_t x);
void put_kv_f32(struct bmi_str *s, const char *key, float x);
void put_kv_str(struct bmi_str *s, const char *key, const char *x);

/*
 * A small llama as GGUF: one layer, hidden 32, 4 heads, 2 of them key/value heads, mlp 64, vocabulary 8. Written in two
 * parts so that a test can damage one of them.
 */
enum { LLAMA_N_KVS = 12, LLAMA_N_TENSORS = 11 };
void put_llama_kvs(struct bmi_str *s);
/** put_llama_infos() - the tensor table; returns the bytes of data it needs. attn_v is Q8_0, the rest F32. */
uint64_t put_llama_infos(struct bmi_str *s);
/** put_llama_some() - the same of tensors @first to @end - 1, whose data begin at 0: a part of a set. */
uint64_t put_llama_some(struct bmi_str *s, unsigned first, unsigned end);
/** put_llama() - all of it. */
void put_llama(struct bmi_str *s);
/** put_info() - one entry of a tensor table; dims fastest first. */
void put_info(struct bmi_str *s, const char *name, uint32_t type, uint64_t off, unsigned n_dims, uint64_t d0,
	      uint64_t d1);

void put_gguf_head(struct bmi_str *s, uint32_t version, uint64_t n_tensors, uint64_t n_kvs);

/** put_llama_and() - put_llama() with one key more, whose bytes are in @kv; or with this one. */
void put_llama_and(struct bmi_str *s, const struct bmi_str *kv);
void put_llama_and_u32(struct bmi_str *s, const char *key, uint32_t x);
void put_llama_and_str(struct bmi_str *s, const char *key, const char *x);

/** put_llama_and_info() - put_llama() with one tensor more and 4 KiB of data more; @off UINT64_MAX: behind all others. */
void put_llama_and_info(struct bmi_str *s, const char *name, uint32_t type, uint64_t off, unsigned n_dims,
			uint64_t d0, uint64_t d1);

/** says() - does @msg hold all of the words (up to the NULL) and no control byte? Prints it if not. */
bool says(const char *msg, const char *const *words);

#endif

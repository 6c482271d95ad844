/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns reading a GGUF header: magic, version, metadata keys. The bytes are read into memory (a mapped file that shrinks
 * would be SIGBUS) as far as the header goes, at most MAX_HEADER_BYTES; nothing is allocated for a count that the file
 * merely claims. The tensor table is gguf_tensors.c's. Invariant: every offset kept in a bmi_gguf_kv was checked to lie in
 * the header together with all bytes of its value.
 */
#include "weights/gguf_priv.h"

#include "base/checked.h"
#include "base/file.h"
#include "base/hash.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>

static const uint64_t MAX_HEADER_BYTES = 1ull << 30, READ_BYTES = 1ull << 20;

enum {
	MAX_KEY_BYTES = 65535, /* the format's */
	MAX_DEPTH = 4,         /* arrays in arrays; no known model has any */
	MIN_KV_BYTES = 8 + 4 + 1,
};

unsigned bmi_gguf_kind_bytes(uint8_t kind)
{
	static const uint8_t bytes[BMI_GGUF_N_KINDS] = { 1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8 };

	return kind < BMI_GGUF_N_KINDS ? bytes[kind] : 0;
}

/* Reads on until @end; what was read stays, though the buffer may move. */
static int load(struct bmi_gguf_rd *rd, uint64_t end, struct bmi_error *err)
{
	uint64_t want = end > rd->have + READ_BYTES ? end : rd->have + READ_BYTES;
	int r;

	if (end > MAX_HEADER_BYTES)
		return bmi_fail(err, -EINVAL, "the header is longer than the %" PRIu64 " bytes accepted here",
				MAX_HEADER_BYTES);
	if (want > rd->size_bytes)
		want = rd->size_bytes;
	if (want > rd->cap) {
		const uint64_t cap = want > 2 * rd->cap ? want : 2 * rd->cap;
		char *head = realloc(rd->g->head, cap);

		if (!head)
			return bmi_fail(err, -ENOMEM, "no memory for a header of %" PRIu64 " bytes", cap);
		rd->g->head = head;
		rd->cap = cap;
	}
	r = bmi_file_pread(rd->fd, rd->g->head + rd->have, want - rd->have, rd->have, err);
	if (r == 0)
		rd->have = want;
	return r;
}

int bmi_gguf_rd_need(struct bmi_gguf_rd *rd, uint64_t n, struct bmi_error *err)
{
	if (n > rd->size_bytes - rd->off)
		return bmi_fail(err, -EINVAL,
				"at byte %" PRIu64 " the header needs %" PRIu64
				" bytes more, but the file ends at byte %" PRIu64
				": it is cut short or damaged",
				rd->off, n, rd->size_bytes);
	return rd->off + n <= rd->have ? 0 : load(rd, rd->off + n, err);
}

int bmi_gguf_rd_u32(struct bmi_gguf_rd *rd, uint32_t *ret, struct bmi_error *err)
{
	const int r = bmi_gguf_rd_need(rd, 4, err);

	if (r < 0)
		return r;
	memcpy(ret, rd->g->head + rd->off, 4);
	*ret = le32toh(*ret);
	rd->off += 4;
	return 0;
}

int bmi_gguf_rd_u64(struct bmi_gguf_rd *rd, uint64_t *ret, struct bmi_error *err)
{
	const int r = bmi_gguf_rd_need(rd, 8, err);

	if (r < 0)
		return r;
	memcpy(ret, rd->g->head + rd->off, 8);
	*ret = le64toh(*ret);
	rd->off += 8;
	return 0;
}

int bmi_gguf_rd_str(struct bmi_gguf_rd *rd, uint64_t *ret_off, uint64_t *ret_n, struct bmi_error *err)
{
	int r = bmi_gguf_rd_u64(rd, ret_n, err);

	if (r == 0 && !BMI_PLANTED_GGUF)
		r = bmi_gguf_rd_need(rd, *ret_n, err);
	if (r < 0)
		return r;
	*ret_off = rd->off;
	rd->off += *ret_n;
	return 0;
}

/* @n values of @kind, one after the other. Bytes of bool are 0 or 1. */
static int skip_values(struct bmi_gguf_rd *rd, uint8_t kind, uint64_t n, unsigned depth, struct bmi_error *err)
{
	const uint64_t size = bmi_gguf_kind_bytes(kind);
	uint64_t bytes, off, len = 0;
	uint32_t elem = 0;
	int r = 0;

	if (size) {
		if (!bmi_mul(n, size, &bytes))
			return bmi_fail(err, -EINVAL,
					"an array of %" PRIu64 " elements of %" PRIu64 " bytes: 2^64 or more",
					n, size);
		r = bmi_gguf_rd_need(rd, bytes, err);
		for (uint64_t i = 0; r == 0 && kind == BMI_GGUF_BOOL && i < n; i++)
			if ((unsigned char)rd->g->head[rd->off + i] > 1)
				return bmi_fail(err, -EINVAL, "a bool is %u, not 0 or 1",
						(unsigned char)rd->g->head[rd->off + i]);
		if (r == 0)
			rd->off += bytes;
		return r;
	}
	for (; r == 0 && n; n--) {
		if (kind == BMI_GGUF_STR) {
			r = bmi_gguf_rd_str(rd, &off, &len, err);
			continue;
		}
		if (depth == MAX_DEPTH)
			return bmi_fail(err, -EINVAL, "arrays nested deeper than %d", MAX_DEPTH);
		r = bmi_gguf_rd_u32(rd, &elem, err);
		if (r == 0)
			r = bmi_gguf_rd_u64(rd, &len, err);
		if (r == 0 && elem >= BMI_GGUF_N_KINDS)
			return bmi_fail(err, -EINVAL, "kind %" PRIu32 " of array elements is not known", elem);
		if (r == 0)
			r = skip_values(rd, (uint8_t)elem, len, depth + 1, err);
	}
	return r;
}

static int parse_value(struct bmi_gguf_rd *rd, struct bmi_gguf_kv *kv, struct bmi_error *err)
{
	uint32_t kind = 0, elem = 0;
	int r = bmi_gguf_rd_u32(rd, &kind, err);

	if (r < 0)
		return r;
	if (kind >= BMI_GGUF_N_KINDS)
		return bmi_fail(err, -EINVAL, "kind %" PRIu32 " of values is not known", kind);
	kv->kind = (uint8_t)kind;
	kv->n = 1;
	if (kind == BMI_GGUF_STR)
		return bmi_gguf_rd_str(rd, &kv->value, &kv->n, err);
	if (kind == BMI_GGUF_ARR) {
		r = bmi_gguf_rd_u32(rd, &elem, err);
		if (r == 0)
			r = bmi_gguf_rd_u64(rd, &kv->n, err);
		if (r < 0)
			return r;
		if (elem >= BMI_GGUF_N_KINDS)
			return bmi_fail(err, -EINVAL, "kind %" PRIu32 " of array elements is not known", elem);
		kv->elem = (uint8_t)elem;
		kind = elem;
	}
	kv->value = rd->off;
	return skip_values(rd, (uint8_t)kind, kv->n, /* depth= */ 1, err);
}

static int parse_kv(struct bmi_gguf_rd *rd, struct bmi_gguf_kv *kv, struct bmi_error *err)
{
	const char *key;
	uint64_t n;
	int r;

	r = bmi_gguf_rd_str(rd, &kv->key, &n, err);
	if (r < 0)
		return r;
	key = rd->g->head + kv->key;
	if (n == 0 || n > MAX_KEY_BYTES)
		return bmi_fail(err, -EINVAL, "its name has %" PRIu64 " bytes; the format allows 1 to %d", n,
				MAX_KEY_BYTES);
	if (!bmi_name_is_utf8(key, n) || memchr(key, 0, n))
		return bmi_fail(err, -EINVAL, "its name '%s' is not UTF-8 text", bmi_name_show(key, n).text);
	kv->n_key = (uint32_t)n;
	r = parse_value(rd, kv, err);
	if (r < 0)
		return bmi_note(err, r, "key '%s'", bmi_name_show(rd->g->head + kv->key, n).text);
	return 0;
}

static size_t slot_of(const struct bmi_gguf *g, const char *key, size_t n)
{
	return bmi_hash64(key, n, (uintptr_t)g->table) & (g->n_table - 1);
}

static int index_keys(struct bmi_gguf *g, struct bmi_error *err)
{
	size_t size = 16;

	while (size < 2 * (size_t)g->n_kvs)
		size *= 2;
	g->table = calloc(size, sizeof(*g->table));
	if (!g->table)
		return bmi_fail(err, -ENOMEM, "no memory for %" PRIu32 " metadata keys", g->n_kvs);
	g->n_table = size;
	for (uint32_t i = 0; i < g->n_kvs; i++) {
		const char *key = g->head + g->kvs[i].key;
		size_t at = slot_of(g, key, g->kvs[i].n_key);

		if (bmi_gguf_find(g, key, g->kvs[i].n_key))
			return bmi_fail(err, -EINVAL, "metadata key '%s' comes twice",
					bmi_name_show(key, g->kvs[i].n_key).text);
		while (g->table[at])
			at = (at + 1) & (size - 1);
		g->table[at] = i + 1;
	}
	return 0;
}

const struct bmi_gguf_kv *bmi_gguf_find(const struct bmi_gguf *g, const char *key, size_t n)
{
	if (!g || !g->n_table)
		return NULL;
	for (size_t at = slot_of(g, key, n); g->table[at]; at = (at + 1) & (g->n_table - 1)) {
		const struct bmi_gguf_kv *kv = &g->kvs[g->table[at] - 1];

		if (kv->n_key == n && memcmp(g->head + kv->key, key, n) == 0)
			return kv;
	}
	return NULL;
}

int bmi_gguf_parse_kvs(struct bmi_gguf_rd *rd, uint64_t n_kvs, struct bmi_error *err)
{
	struct bmi_gguf *g = rd->g;
	int r;

	if (n_kvs > (rd->size_bytes - rd->off) / MIN_KV_BYTES)
		return bmi_fail(err, -EINVAL,
				"the header claims %" PRIu64
				" metadata keys, more than the file has room for (%" PRIu64 " bytes)",
				n_kvs, rd->size_bytes);
	for (uint64_t i = 0; i < n_kvs; i++) {
		if (g->n_kvs == g->cap_kvs) {
			const uint32_t cap = g->cap_kvs ? 2 * g->cap_kvs : 64;
			struct bmi_gguf_kv *kvs =
				cap > g->cap_kvs ? reallocarray(g->kvs, cap, sizeof(*kvs)) : NULL;

			if (!kvs)
				return bmi_fail(err, -ENOMEM, "no memory for %" PRIu64 " metadata keys", n_kvs);
			g->kvs = kvs;
			g->cap_kvs = cap;
		}
		g->kvs[g->n_kvs] = (struct bmi_gguf_kv){ 0 };
		r = parse_kv(rd, &g->kvs[g->n_kvs], err);
		if (r < 0)
			return bmi_note(err, r, "metadata %" PRIu64, i);
		g->n_kvs++;
	}
	return index_keys(g, err);
}

static int parse_version(struct bmi_gguf_rd *rd, struct bmi_error *err)
{
	uint32_t version = 0;
	int r = bmi_gguf_rd_need(rd, 8, err);

	if (r < 0)
		return r;
	if (bmi_ckpt_is_lfs_pointer(rd->g->head))
		return bmi_fail(
			err, -EINVAL,
			"this is a Git LFS pointer, not the weights: run 'git lfs pull' where it came from");
	if (memcmp(rd->g->head, "GGUF", 4) != 0)
		return bmi_fail(err, -EINVAL, "it begins with '%s', not with 'GGUF': this is no GGUF file",
				bmi_name_show(rd->g->head, 4).text);
	rd->off = 4;
	(void)bmi_gguf_rd_u32(rd, &version, err); /* there: 8 bytes were asked for */
	if (version && (version & 0xffff) == 0)
		return bmi_fail(err, -EOPNOTSUPP,
				"it is a big-endian GGUF file: convert it to little-endian "
				"(gguf_convert_endian.py of "
				"llama.cpp)");
	if (version == 1)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"GGUF version 1 is not read, only 2 and 3: convert the model again with a current "
			"llama.cpp");
	if (version != 2 && version != 3)
		return bmi_fail(err, -EOPNOTSUPP,
				"GGUF version %" PRIu32 " is not known, only 2 and 3 are read", version);
	return 0;
}

static int parse(struct bmi_gguf_rd *rd, const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list,
		 struct bmi_error *err)
{
	uint64_t n_kvs = 0;
	int r = parse_version(rd, err);

	if (r == 0)
		r = bmi_gguf_rd_u64(rd, &rd->g->n_tensors, err);
	if (r == 0)
		r = bmi_gguf_rd_u64(rd, &n_kvs, err);
	if (r == 0)
		r = bmi_gguf_parse_kvs(rd, n_kvs, err);
	if (r == 0)
		r = bmi_gguf_parse_tensors(rd, file, list, err);
	rd->g->n_head = rd->have < rd->off ? rd->have : rd->off;
	return r;
}

int bmi_gguf_read(const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list, struct bmi_gguf **ret,
		  struct bmi_error *err)
{
	bmi_auto(bmi_gguf) g = calloc(1, sizeof(*g));
	struct bmi_gguf_rd rd = { .g = g, .fd = file->fd, .size_bytes = file->size_bytes };
	int r;

	if (!g)
		return bmi_fail(err, -ENOMEM, "no memory for a header");
	r = parse(&rd, file, list, err);
	if (r == 0)
		*ret = bmi_steal(&g);
	return r;
}

int bmi_gguf_parse(const char *bytes, size_t n, const struct bmi_ckpt_file *file, struct bmi_ckpt_list *list,
		   struct bmi_gguf **ret, struct bmi_error *err)
{
	bmi_auto(bmi_gguf) g = calloc(1, sizeof(*g));
	struct bmi_gguf_rd rd = { .g = g, .fd = -1, .size_bytes = n, .have = n, .cap = n };
	int r;

	if (g)
		g->head = malloc(n ? n : 1);
	if (!g || !g->head)
		return bmi_fail(err, -ENOMEM, "no memory for a header");
	memcpy(g->head, bytes, n);
	r = parse(&rd, file, list, err);
	if (r == 0)
		*ret = bmi_steal(&g);
	return r;
}

void bmi_gguf_free(struct bmi_gguf *g)
{
	if (!g)
		return;
	free(g->head);
	free(g->kvs);
	free(g->table);
	free(g);
}

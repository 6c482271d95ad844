/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the making of model directories in a temporary place. Invariant: what it writes is exactly what it was told, so a
 * damaged file is damaged where the test says and nowhere else.
 */
#include "weights/maker.h"

#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

struct path {
	char text[512];
};

static struct path in(const struct dir *d, const char *name)
{
	struct path p;

	if (snprintf(p.text, sizeof(p.text), "%s/%s", d->path, name) >= (int)sizeof(p.text))
		errx(99, "name too long: %s", name);
	return p;
}

void dir_make(struct dir *d)
{
	const char *tmp = getenv("TMPDIR");

	snprintf(d->path, sizeof(d->path), "%.80s/bmifs-weights-XXXXXX", tmp ? tmp : "/tmp");
	if (!mkdtemp(d->path))
		err(99, "%s", d->path);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void dir_remove(const struct dir *d)
{
	if (nftw(d->path, remove_one, 16, FTW_DEPTH | FTW_PHYS) < 0)
		warn("%s", d->path);
}

static int create(const struct dir *d, const char *name)
{
	const int fd = open(in(d, name).text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0)
		err(99, "%s/%s", d->path, name);
	return fd;
}

static void write_all(int fd, const void *bytes, size_t n)
{
	if (n && write(fd, bytes, n) != (ssize_t)n)
		err(99, "write");
}

void dir_put(const struct dir *d, const char *name, const void *bytes, size_t n)
{
	const int fd = create(d, name);

	write_all(fd, bytes, n);
	close(fd);
}

void dir_puts(const struct dir *d, const char *name, const char *text)
{
	dir_put(d, name, text, strlen(text));
}

void dir_put_st_len(const struct dir *d, const char *name, uint64_t len, const void *header, size_t n_header,
		    uint64_t n_data)
{
	const int fd = create(d, name);
	const uint64_t le = htole64(len);

	write_all(fd, &le, sizeof(le));
	write_all(fd, header, n_header);
	if (ftruncate(fd, (off_t)(8 + n_header + n_data)) < 0)
		err(99, "ftruncate");
	close(fd);
}

void dir_put_st(const struct dir *d, const char *name, const char *header, uint64_t n_data)
{
	dir_put_st_len(d, name, strlen(header), header, strlen(header), n_data);
}

void dir_cut(const struct dir *d, const char *name, uint64_t n)
{
	if (truncate(in(d, name).text, (off_t)n) < 0)
		err(99, "truncate %s", name);
}

void dir_mkdir(const struct dir *d, const char *name)
{
	if (mkdir(in(d, name).text, 0755) < 0)
		err(99, "mkdir %s", name);
}

void dir_fifo(const struct dir *d, const char *name)
{
	if (mkfifo(in(d, name).text, 0644) < 0)
		err(99, "mkfifo %s", name);
}

void dir_socket(const struct dir *d, const char *name)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	const struct path p = in(d, name);

	memcpy(addr.sun_path, p.text, strnlen(p.text, sizeof(addr.sun_path) - 1));
	if (fd < 0 || bind(fd, (struct sockaddr *)&addr, sizeof(addr)) < 0)
		err(99, "socket %s", name);
	close(fd);
}

void dir_link(const struct dir *d, const char *target, const char *name)
{
	if (symlink(target, in(d, name).text) < 0)
		err(99, "symlink %s", name);
}

void put_u8(struct bmi_str *s, uint8_t x)
{
	bmi_str_put(s, &x, 1);
}

void put_u32(struct bmi_str *s, uint32_t x)
{
	x = htole32(x);
	bmi_str_put(s, &x, sizeof(x));
}

void put_u64(struct bmi_str *s, uint64_t x)
{
	x = htole64(x);
	bmi_str_put(s, &x, sizeof(x));
}

void put_f32(struct bmi_str *s, float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	put_u32(s, bits);
}

void put_str(struct bmi_str *s, const char *text)
{
	put_u64(s, strlen(text));
	bmi_str_puts(s, text);
}

void put_zeros(struct bmi_str *s, size_t n)
{
	while (n--)
		put_u8(s, 0);
}

void put_kv_u32(struct bmi_str *s, const char *key, uint32_t x)
{
	put_str(s, key);
	put_u32(s, 4);
	put_u32(s, x);
}

void put_kv_f32(struct bmi_str *s, const char *key, float x)
{
	put_str(s, key);
	put_u32(s, 6);
	put_f32(s, x);
}

void put_kv_str(struct bmi_str *s, const char *key, const char *x)
{
	put_str(s, key);
	put_u32(s, 8);
	put_str(s, x);
}

void put_llama_kvs(struct bmi_str *s)
{
	put_kv_str(s, "general.architecture", "llama");
	put_kv_u32(s, "llama.block_count", 1);
	put_kv_u32(s, "llama.context_length", 128);
	put_kv_u32(s, "llama.embedding_length", 32);
	put_kv_u32(s, "llama.feed_forward_length", 64);
	put_kv_u32(s, "llama.attention.head_count", 4);
	put_kv_u32(s, "llama.attention.head_count_kv", 2);
	put_kv_f32(s, "llama.attention.layer_norm_rms_epsilon", 0x1p-20f);
	put_kv_f32(s, "llama.rope.freq_base", 10000);
	put_kv_u32(s, "tokenizer.ggml.bos_token_id", 1);
	put_kv_u32(s, "tokenizer.ggml.eos_token_id", 2);
	put_str(s, "tokenizer.ggml.tokens"); /* an array of 8 strings */
	put_u32(s, 9);
	put_u32(s, 8);
	put_u64(s, 8);
	for (unsigned i = 0; i < 8; i++)
		put_str(s, i == 3 ? "" : i == 4 ? "\xc4\xa0 four" : "t");
}

void put_info(struct bmi_str *s, const char *name, uint32_t type, uint64_t off, unsigned n_dims, uint64_t d0,
	      uint64_t d1)
{
	put_str(s, name);
	put_u32(s, n_dims);
	if (n_dims > 0)
		put_u64(s, d0);
	if (n_dims > 1)
		put_u64(s, d1);
	for (unsigned i = 2; i < n_dims; i++)
		put_u64(s, 1);
	put_u32(s, type);
	put_u64(s, off);
}

uint64_t put_llama_infos(struct bmi_str *s)
{
	return put_llama_some(s, 0, LLAMA_N_TENSORS);
}

uint64_t put_llama_some(struct bmi_str *s, unsigned first, unsigned end)
{
	static const struct {
		const char *name;
		uint32_t type;
		unsigned n_dims;
		uint64_t d0, d1;
	} infos[LLAMA_N_TENSORS] = {
		{ "token_embd.weight", 0, 2, 32, 8 },     { "blk.0.attn_norm.weight", 0, 1, 32, 1 },
		{ "blk.0.attn_q.weight", 0, 2, 32, 32 },  { "blk.0.attn_k.weight", 0, 2, 32, 16 },
		{ "blk.0.attn_v.weight", 8, 2, 32, 16 },  { "blk.0.attn_output.weight", 0, 2, 32, 32 },
		{ "blk.0.ffn_norm.weight", 0, 1, 32, 1 }, { "blk.0.ffn_gate.weight", 0, 2, 32, 64 },
		{ "blk.0.ffn_up.weight", 0, 2, 32, 64 },  { "blk.0.ffn_down.weight", 0, 2, 64, 32 },
		{ "output_norm.weight", 0, 1, 32, 1 },
	};
	uint64_t off = 0;

	for (unsigned i = first; i < end; i++) {
		const uint64_t n = infos[i].d0 * infos[i].d1;

		put_info(s, infos[i].name, infos[i].type, off, infos[i].n_dims, infos[i].d0, infos[i].d1);
		off += infos[i].type ? n / 32 * 34 : 4 * n;
		off = (off + 31) / 32 * 32;
	}
	return off;
}

void put_llama(struct bmi_str *s)
{
	uint64_t n_data;

	bmi_str_puts(s, "GGUF");
	put_u32(s, 3);
	put_u64(s, LLAMA_N_TENSORS);
	put_u64(s, LLAMA_N_KVS);
	put_llama_kvs(s);
	n_data = put_llama_infos(s);
	while (s->n % 32)
		put_u8(s, 0);
	put_zeros(s, n_data);
}

void put_gguf_head(struct bmi_str *s, uint32_t version, uint64_t n_tensors, uint64_t n_kvs)
{
	bmi_str_puts(s, "GGUF");
	put_u32(s, version);
	put_u64(s, n_tensors);
	put_u64(s, n_kvs);
}

void put_llama_and(struct bmi_str *s, const struct bmi_str *kv)
{
	uint64_t n_data;

	put_gguf_head(s, 3, LLAMA_N_TENSORS, LLAMA_N_KVS + 1);
	put_llama_kvs(s);
	bmi_str_put(s, kv->bytes, kv->n);
	n_data = put_llama_infos(s);
	while (s->n % 32)
		put_u8(s, 0);
	put_zeros(s, n_data);
}

void put_llama_and_u32(struct bmi_str *s, const char *key, uint32_t x)
{
	bmi_auto_str kv = { 0 };

	put_kv_u32(&kv, key, x);
	put_llama_and(s, &kv);
}

void put_llama_and_str(struct bmi_str *s, const char *key, const char *x)
{
	bmi_auto_str kv = { 0 };

	put_kv_str(&kv, key, x);
	put_llama_and(s, &kv);
}

void put_llama_and_info(struct bmi_str *s, const char *name, uint32_t type, uint64_t off, unsigned n_dims,
			uint64_t d0, uint64_t d1)
{
	uint64_t n_data;

	put_gguf_head(s, 3, LLAMA_N_TENSORS + 1, LLAMA_N_KVS);
	put_llama_kvs(s);
	n_data = put_llama_infos(s);
	put_info(s, name, type, off == UINT64_MAX ? n_data : off, n_dims, d0, d1);
	while (s->n % 32)
		put_u8(s, 0);
	put_zeros(s, n_data + 4096);
}

bool says(const char *msg, const char *const *words)
{
	bool ok = msg[0] != 0 && strlen(msg) < 1000;

	for (const char *p = msg; *p; p++)
		ok &= (unsigned char)*p >= 0x20 && *p != 0x7f;
	for (; *words; words++)
		ok &= strstr(msg, *words) != NULL;
	if (!ok)
		fprintf(stderr, "# the sentence is: %s\n# it lacks: %s\n", msg,
			*words ? *words : "(something before)");
	return ok;
}

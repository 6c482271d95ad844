/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged and good GGUF files: one case a row, each with the errno and the words its sentence must have. Limits are those
 * of the format's description (ggml/docs/gguf.md) and of ggml's own reader where that says more.
 */
#include "weights/gguf.h"
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct row {
	const char *name;
	int code;
	const char *words[4];
	void (*make)(struct bmi_str *s);
};

static void make_v2(struct bmi_str *s)
{
	put_llama(s);
	s->bytes[4] = 2;
}

static void make_magic(struct bmi_str *s)
{
	put_llama(s);
	memcpy(s->bytes, "GGML", 4);
}

static void make_v1(struct bmi_str *s)
{
	put_llama(s);
	s->bytes[4] = 1;
}

static void make_v4(struct bmi_str *s)
{
	put_llama(s);
	s->bytes[4] = 4;
}

static void make_big_endian(struct bmi_str *s)
{
	put_llama(s);
	memcpy(s->bytes + 4, "\0\0\0\3", 4);
}

static void make_lfs(struct bmi_str *s)
{
	bmi_str_puts(s, "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 98362432\n");
}

static void make_many_kvs(struct bmi_str *s)
{
	put_gguf_head(s, 3, 1, UINT64_MAX);
}

static void make_many_tensors(struct bmi_str *s)
{
	put_gguf_head(s, 3, 1ull << 60, LLAMA_N_KVS);
	put_llama_kvs(s);
}

static void make_more_kvs(struct bmi_str *s)
{
	put_gguf_head(s, 3, 0, 2);
	put_kv_str(s, "general.architecture", "llama");
	put_zeros(s, 3);
}

static void make_long_key(struct bmi_str *s)
{
	put_gguf_head(s, 3, 0, 1);
	put_u64(s, 1ull << 63);
	put_zeros(s, 64);
}

static void make_64k_key(struct bmi_str *s)
{
	put_gguf_head(s, 3, 0, 1);
	put_u64(s, 65536);
	for (unsigned i = 0; i < 65536; i++)
		put_u8(s, 'k');
	put_u32(s, 4);
	put_u32(s, 1);
}

static void make_empty_key(struct bmi_str *s)
{
	put_llama_and_u32(s, "", 1);
}

static void make_latin1_key(struct bmi_str *s)
{
	put_llama_and_u32(s, "k\xe4se", 1);
}

static void make_twice(struct bmi_str *s)
{
	put_llama_and_u32(s, "llama.block_count", 1);
}

static void make_kind(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_str(&kv, "x.y");
	put_u32(&kv, 13);
	put_llama_and(s, &kv);
}

static void make_long_string(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_str(&kv, "x.y");
	put_u32(&kv, 8);
	put_u64(&kv, UINT64_MAX - 7); /* position + this is a small number */
	put_llama_and(s, &kv);
}

static void make_bool_2(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_str(&kv, "x.y");
	put_u32(&kv, 7);
	put_u8(&kv, 2);
	put_llama_and(s, &kv);
}

static void put_array(struct bmi_str *s, uint32_t elem, uint64_t n)
{
	put_str(s, "x.y");
	put_u32(s, 9);
	put_u32(s, elem);
	put_u64(s, n);
}

static void make_array_kind(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 99, 0);
	put_llama_and(s, &kv);
}

static void make_array_overflow(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 10, 1ull << 61); /* times 8 is 0 */
	put_llama_and(s, &kv);
}

static void make_array_long(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 4, 1 << 30);
	put_llama_and(s, &kv);
}

static void make_strings_long(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 8, 1ull << 62);
	put_llama_and(s, &kv);
}

static void nested(struct bmi_str *s, unsigned levels)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 9, 1);
	for (unsigned i = 2; i < levels; i++) {
		put_u32(&kv, 9);
		put_u64(&kv, 1);
	}
	put_u32(&kv, 0); /* the innermost: one byte */
	put_u64(&kv, 1);
	put_u8(&kv, 7);
	put_llama_and(s, &kv);
}

static void make_nested_3(struct bmi_str *s)
{
	nested(s, 3);
}

static void make_nested_5(struct bmi_str *s)
{
	nested(s, 5);
}

static void make_nested_100000(struct bmi_str *s)
{
	nested(s, 100000);
}

static void make_nested_kind(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_array(&kv, 9, 1);
	put_u32(&kv, 256); /* 0 as a byte */
	put_u64(&kv, 0);
	put_llama_and(s, &kv);
}

static void make_name_long(struct bmi_str *s)
{
	put_gguf_head(s, 3, 1, 0);
	put_u64(s, 1ull << 63);
	put_zeros(s, 64);
}

static void make_name_empty(struct bmi_str *s)
{
	put_llama_and_info(s, "", 0, UINT64_MAX, 1, 32, 1);
}

static void make_name_latin1(struct bmi_str *s)
{
	put_llama_and_info(s, "k\xe4se", 0, UINT64_MAX, 1, 32, 1);
}

static void make_name_twice(struct bmi_str *s)
{
	put_llama_and_info(s, "output_norm.weight", 0, UINT64_MAX, 1, 32, 1);
}

static void make_5_dims(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 5, 1, 1);
}

static void make_many_dims(struct bmi_str *s)
{
	put_gguf_head(s, 3, 1, 0);
	put_str(s, "x");
	put_u32(s, UINT32_MAX);
	put_zeros(s, 64);
}

static void make_dim_0(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 2, 32, 0);
}

static void make_dims_overflow(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 2, 1ull << 32, 1ull << 32);
}

static void make_bytes_overflow(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 1, 1ull << 62, 1);
}

static void make_type_99(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 99, UINT64_MAX, 1, 32, 1);
}

static void make_type_4(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 4, UINT64_MAX, 1, 32, 1);
}

static void make_iq2(struct bmi_str *s)
{
	put_llama_and_info(s, "blk.0.ffn_gate.weight2", 17, UINT64_MAX, 1, 256, 1);
}

static void make_half_block(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 8, UINT64_MAX, 2, 48,
			   2); /* 96 elements are 3 blocks, a row of 48 is not whole ones */
}

static void make_misaligned(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, 36, 1, 1, 1);
}

static void make_past_end(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 1, 1025, 1); /* of float32; 4096 bytes are there */
}

static void make_off_huge(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX - 31, 1, 32, 1); /* offset + length is a small number */
}

static void make_overlap(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, 32, 1, 32, 1);
}

static void make_gap(struct bmi_str *s)
{
	put_llama(s);
	bmi_str_put(s, "behind the last tensor", 22);
}

static void make_alignment_0(struct bmi_str *s)
{
	put_llama_and_u32(s, "general.alignment", 0);
}

static void make_alignment_48(struct bmi_str *s)
{
	put_llama_and_u32(s, "general.alignment", 48);
}

static void make_alignment_2g(struct bmi_str *s)
{
	put_llama_and_u32(s, "general.alignment", 1u << 31);
}

static void make_alignment_text(struct bmi_str *s)
{
	put_llama_and_str(s, "general.alignment", "32");
}

static void make_alignment_16(struct bmi_str *s)
{
	put_llama_and_u32(s, "general.alignment", 16);
}

static const struct row rows[] = {
	{ "good: version 3", 0, { 0 }, put_llama },
	{ "good: version 2", 0, { 0 }, make_v2 },
	{ "good: arrays in arrays", 0, { 0 }, make_nested_3 },
	{ "good: alignment 16", 0, { 0 }, make_alignment_16 },
	{ "good: bytes behind the last tensor", 0, { 0 }, make_gap },
	{ "another magic", -EINVAL, { "m.gguf", "GGML", "no GGUF" }, make_magic },
	{ "version 1", -EOPNOTSUPP, { "m.gguf", "version 1", "convert the model again" }, make_v1 },
	{ "version 4", -EOPNOTSUPP, { "m.gguf", "version 4" }, make_v4 },
	{ "big-endian", -EOPNOTSUPP, { "m.gguf", "big-endian", "convert" }, make_big_endian },
	{ "a Git LFS pointer", -EINVAL, { "m.gguf", "git lfs pull" }, make_lfs },
	{ "2^64 - 1 keys", -EINVAL, { "18446744073709551615", "room" }, make_many_kvs },
	{ "2^60 tensors", -EINVAL, { "1152921504606846976", "tensors", "room" }, make_many_tensors },
	{ "fewer keys than claimed", -EINVAL, { "m.gguf" }, make_more_kvs },
	{ "a key of 2^63 bytes", -EINVAL, { "metadata 0", "9223372036854775808", "cut short" }, make_long_key },
	{ "a key of 64 KiB", -EINVAL, { "metadata 0", "65536", "65535" }, make_64k_key },
	{ "a key without a name", -EINVAL, { "metadata 12", "0 bytes" }, make_empty_key },
	{ "a key that is not UTF-8", -EINVAL, { "metadata 12", "k\\xe4se", "UTF-8" }, make_latin1_key },
	{ "a key twice", -EINVAL, { "llama.block_count", "twice" }, make_twice },
	{ "a kind that is none", -EINVAL, { "x.y", "13" }, make_kind },
	{ "a string of 2^64 - 8 bytes", -EINVAL, { "x.y", "18446744073709551608" }, make_long_string },
	{ "a bool of 2", -EINVAL, { "x.y", "bool", "2" }, make_bool_2 },
	{ "an array of no kind", -EINVAL, { "x.y", "99" }, make_array_kind },
	{ "an array whose bytes overflow", -EINVAL, { "x.y", "2305843009213693952" }, make_array_overflow },
	{ "an array longer than the file",
	  -EINVAL,
	  { "x.y", "4294967296 bytes more", "cut short" },
	  make_array_long },
	{ "2^62 strings", -EINVAL, { "x.y" }, make_strings_long },
	{ "arrays 5 deep", -EINVAL, { "x.y", "deeper than 4" }, make_nested_5 },
	{ "arrays 100000 deep", -EINVAL, { "x.y", "deeper than 4" }, make_nested_100000 },
	{ "an array in an array of no kind", -EINVAL, { "x.y", "256" }, make_nested_kind },
	{ "a tensor's name of 2^63 bytes", -EINVAL, { "tensor 0", "9223372036854775808" }, make_name_long },
	{ "a tensor without a name", -EINVAL, { "tensor 11", "0 bytes" }, make_name_empty },
	{ "a tensor's name that is not UTF-8", -EINVAL, { "tensor 11", "k\\xe4se" }, make_name_latin1 },
	{ "a tensor twice", -EINVAL, { "'output_norm.weight'", "twice" }, make_name_twice },
	{ "5 dimensions", -EINVAL, { "'x'", "5", "4" }, make_5_dims },
	{ "2^32 - 1 dimensions", -EINVAL, { "'x'", "4294967295" }, make_many_dims },
	{ "a dimension of 0", -EINVAL, { "'x'", "dimension 1" }, make_dim_0 },
	{ "dimensions that overflow", -EINVAL, { "'x'", "2^64" }, make_dims_overflow },
	{ "bytes that overflow", -EINVAL, { "'x'", "2^64" }, make_bytes_overflow },
	{ "element type 99", -EOPNOTSUPP, { "'x'", "99", "Q6_K" }, make_type_99 },
	{ "element type 4, taken back", -EOPNOTSUPP, { "'x'", "type 4", "Q6_K" }, make_type_4 },
	{ "element type IQ2_XS", -EOPNOTSUPP, { "'blk.0.ffn_gate.weight2'", "IQ2_XS", "Q4_K" }, make_iq2 },
	{ "rows of half blocks", -EINVAL, { "'x'", "48", "blocks of 32" }, make_half_block },
	{ "a misaligned offset", -EINVAL, { "'x'", "36", "alignment 32" }, make_misaligned },
	{ "past the end", -EINVAL, { "'x'", "4100 bytes", "cut short" }, make_past_end },
	{ "an offset of 2^64 - 32", -EINVAL, { "'x'", "18446744073709551584" }, make_off_huge },
	{ "overlap", -EINVAL, { "'x'", "'token_embd.weight'", "overlap" }, make_overlap },
	{ "alignment 0", -EINVAL, { "general.alignment", "0" }, make_alignment_0 },
	{ "alignment 48", -EINVAL, { "general.alignment", "48", "power of two" }, make_alignment_48 },
	{ "alignment 2^31", -EINVAL, { "general.alignment", "2147483648" }, make_alignment_2g },
	{ "alignment is a text", -EINVAL, { "general.alignment", "number" }, make_alignment_text },
};

static void test_row(void **state)
{
	const struct row *row = *state;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	const char *words[5] = { 0 };
	bmi_auto_str s = { 0 };
	struct dir d;
	int r;

	dir_make(&d);
	row->make(&s);
	dir_put(&d, "m.gguf", s.bytes, s.n);
	r = bmi_ckpt_open(d.path, /* need_weights= */ true, &ckpt, &err);
	dir_remove(&d);
	if (r != row->code)
		print_message("# the sentence is: %s\n", err.msg);
	assert_int_equal(r, row->code);
	memcpy(words, row->words, sizeof(row->words));
	if (r < 0) {
		assert_null(ckpt);
		assert_true(says(err.msg, words));
		assert_non_null(strstr(err.msg, "'m.gguf'"));
	} else {
		assert_non_null(bmi_ckpt_gguf(ckpt));
	}
	bmi_ckpt_close(ckpt);
}

/* A header of more than 1 GiB is refused before it is read: the file is a hole. */
static void test_long_header(void **state)
{
	static const char *const words[] = { "'m.gguf'", "x.y", "1073741824", NULL };
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_str s = { 0 };
	struct dir d;

	(void)state;
	put_gguf_head(&s, 3, 0, 1);
	put_array(&s, 10, (1ull << 30) / 8);
	dir_make(&d);
	dir_put(&d, "m.gguf", s.bytes, s.n);
	dir_cut(&d, "m.gguf", 1ull << 31);
	assert_int_equal(bmi_ckpt_open(d.path, true, &ckpt, &err), -EINVAL);
	assert_true(says(err.msg, words));
	dir_remove(&d);
}

/* Up to the end of the last tensor's data every byte is needed. */
static void test_every_cut(void **state)
{
	bmi_auto_str s = { 0 };
	struct dir d;
	size_t n;

	(void)state;
	put_llama(&s);
	n = s.n;
	dir_make(&d);
	dir_put(&d, "m.gguf", s.bytes, n);
	for (size_t keep = n - 1; keep != SIZE_MAX; keep -= keep > 2048 ? 509 : 1) {
		struct bmi_ckpt *ckpt = NULL;
		struct bmi_error err = { 0 };
		const char *const words[] = { "m.gguf", NULL };

		dir_cut(&d, "m.gguf", keep);
		assert_int_equal(bmi_ckpt_open(d.path, true, &ckpt, &err), -EINVAL);
		assert_true(says(err.msg, words));
	}
	dir_remove(&d);
}

int main(void)
{
	enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct CMUnitTest tests[N_ROWS + 2];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[N_ROWS] = (struct CMUnitTest)cmocka_unit_test(test_every_cut);
	tests[N_ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(test_long_header);
	return _cmocka_run_group_tests("gguf", tests, N_ROWS + 2, NULL, NULL);
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Damaged and good safetensors directories: one case a row, each with the errno and the words its sentence must have.
 * What is accepted or refused follows the reference implementation (huggingface/safetensors, SafeTensors::deserialize).
 */
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define F32(name, shape, from, to) \
	"\"" name "\":{\"dtype\":\"F32\",\"shape\":" shape ",\"data_offsets\":[" #from "," #to "]}"
#define SHARD1 "model-00001-of-00002.safetensors"
#define SHARD2 "model-00002-of-00002.safetensors"
#define INDEX  "model.safetensors.index.json"

struct row {
	const char *name;
	int code;
	const char *words[4]; /* NULL-terminated */
	const char *header;   /* of model.safetensors, or */
	uint64_t n_data;
	void (*make)(const struct dir *d); /* makes the files itself */
};

static void make_long_length(const struct dir *d)
{
	dir_put_st_len(d, "model.safetensors", 1000, "{}", 2, 0);
}

static void make_huge_length(const struct dir *d)
{
	dir_put_st_len(d, "model.safetensors", UINT64_MAX, "{}", 2, 0);
}

static void make_100mb_header(const struct dir *d)
{
	dir_put_st_len(d, "model.safetensors", 100000001, "{}", 2, 200000000);
}

static void make_7_bytes(const struct dir *d)
{
	dir_put(d, "model.safetensors", "\2\0\0\0\0\0\0", 7);
}

static void make_empty(const struct dir *d)
{
	dir_put(d, "model.safetensors", "", 0);
}

static void make_lfs(const struct dir *d)
{
	dir_puts(d, "model.safetensors",
		 "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 269060552\n");
}

static void make_deep(const struct dir *d)
{
	static char text[20000] = "{\"x\":";

	memset(text + 5, '[', sizeof(text) - 6);
	dir_put_st(d, "model.safetensors", text, 0);
}

static void make_nul_in_name(const struct dir *d)
{
	dir_put_st(d, "model.safetensors", "{" F32("a\\u0000b", "[1]", 0, 4) "}", 4);
}

static void make_fifo(const struct dir *d)
{
	dir_fifo(d, "model.safetensors");
}

static void make_socket(const struct dir *d)
{
	dir_socket(d, "model.safetensors");
}

static void make_subdir(const struct dir *d)
{
	dir_mkdir(d, "model.safetensors");
}

static void make_dangling(const struct dir *d)
{
	dir_link(d, "../../blobs/0123", "model.safetensors");
}

static void make_link_to_fifo(const struct dir *d)
{
	dir_fifo(d, "pipe");
	dir_link(d, "pipe", "model.safetensors");
}

static void make_blob(const struct dir *d)
{
	dir_mkdir(d, "blobs");
	dir_put_st(d, "blobs/0123", "{" F32("a", "[2]", 0, 8) "}", 8);
	dir_link(d, "blobs/0123", "model.safetensors");
}

/* Two shards, a in the first and b in the second, and an index that says what it is told. */
static void make_index(const struct dir *d, const char *index)
{
	dir_put_st(d, SHARD1, "{" F32("a", "[2]", 0, 8) "}", 8);
	dir_put_st(d, SHARD2, "{" F32("b", "[1]", 0, 4) "}", 4);
	dir_puts(d, INDEX, index);
}

static void make_shards(const struct dir *d)
{
	make_index(d, "{\"metadata\":{\"total_size\":12},\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"" SHARD2
		      "\"}}");
}

static void make_shards_and_single(const struct dir *d)
{
	make_index(d, "not even JSON");
	dir_put_st(d, "model.safetensors", "{" F32("a", "[2]", 0, 8) "}", 8);
}

static void make_missing_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"model-00009-of-00009.safetensors\"}}");
}

static void make_parent(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"../" SHARD2 "\"}}");
}

static void make_absolute(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"/etc/hostname\"}}");
}

static void make_below(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"sub/" SHARD1 "\"}}");
}

static void make_dotdot(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"..\"}}");
}

static void make_nameless(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"\"}}");
}

static void make_nul_in_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\\u0000x\"}}");
}

static void make_not_in_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"" SHARD2 "\",\"c\":\"" SHARD2 "\"}}");
}

static void make_not_in_index(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"" SHARD2 "\"}}");
	dir_put_st(d, SHARD2, "{" F32("b", "[1]", 0, 4) "," F32("c", "[1]", 4, 8) "}", 8);
}

static void make_other_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD2 "\",\"b\":\"" SHARD1 "\"}}");
}

static void make_in_both(const struct dir *d)
{
	make_shards(d);
	dir_put_st(d, SHARD2, "{" F32("a", "[1]", 0, 4) "," F32("b", "[1]", 4, 8) "}", 8);
}

static void make_no_map(const struct dir *d)
{
	make_index(d, "{\"metadata\":{}}");
}

static void make_list_map(const struct dir *d)
{
	make_index(d, "{\"weight_map\":[\"a\"]}");
}

static void make_number_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":7}}");
}

static void make_twice_in_index(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"" SHARD2 "\",\"a\":\"" SHARD2 "\"}}");
}

static void make_list_index(const struct dir *d)
{
	make_index(d, "[1]");
}

static void make_cut_shard(const struct dir *d)
{
	make_shards(d);
	dir_cut(d, SHARD2, 8 + strlen("{" F32("b", "[1]", 0, 4) "}") + 3);
}

static void make_fifo_shard(const struct dir *d)
{
	make_index(d, "{\"weight_map\":{\"a\":\"" SHARD1 "\",\"b\":\"pipe\"}}");
	dir_fifo(d, "pipe");
}

static const struct row rows[] = {
	{ "good: two tensors", 0, { 0 }, "{" F32("a", "[2]", 0, 8) "," F32("b", "[1,1]", 8, 12) "}", 12 },
	{ "good: padded with spaces", 0, { 0 }, "{" F32("a", "[2]", 0, 8) "}     ", 8 },
	{ "good: offsets in another order than names",
	  0,
	  { 0 },
	  "{" F32("a", "[2]", 4, 12) "," F32("b", "[1]", 0, 4) "}",
	  12 },
	{ "good: no element, and a scalar", 0, { 0 }, "{" F32("a", "[0,7]", 0, 0) "," F32("b", "[]", 0, 4) "}", 4 },
	{ "good: metadata and no tensor", 0, { 0 }, "{\"__metadata__\":{\"format\":\"pt\"}}", 0 },
	{ "good: a symbolic link to a blob", 0, { 0 }, .make = make_blob },
	{ "good: two shards", 0, { 0 }, .make = make_shards },
	{ "good: model.safetensors is taken before an index", 0, { 0 }, .make = make_shards_and_single },
	{ "past the end",
	  -EINVAL,
	  { "model.safetensors", "'b'", "byte 16", "12 bytes" },
	  "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 8, 16) "}",
	  12 },
	{ "overlap",
	  -EINVAL,
	  { "model.safetensors", "'b'", "'a'", "overlap" },
	  "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 4, 12) "}",
	  12 },
	{ "two tensors on the same bytes",
	  -EINVAL,
	  { "'b'", "'a'", "overlap" },
	  "{" F32("a", "[2]", 0, 8) "," F32("b", "[2]", 0, 8) "}",
	  8 },
	{ "a hole",
	  -EINVAL,
	  { "'b'", "hole of 4 bytes" },
	  "{" F32("a", "[2]", 0, 8) "," F32("b", "[1]", 12, 16) "}",
	  16 },
	{ "a hole at the beginning", -EINVAL, { "'a'", "hole of 4 bytes" }, "{" F32("a", "[2]", 4, 12) "}", 12 },
	{ "bytes behind the last tensor",
	  -EINVAL,
	  { "model.safetensors", "5 bytes", "no tensor" },
	  "{" F32("a", "[2]", 0, 8) "}",
	  13 },
	{ "bytes and no tensor", -EINVAL, { "model.safetensors", "no tensor" }, "{}", 1 },
	{ "offsets span another size",
	  -EINVAL,
	  { "'a'", "12 bytes", "[2] of F32 needs 8" },
	  "{" F32("a", "[2]", 0, 12) "}",
	  12 },
	{ "shape's product overflows",
	  -EINVAL,
	  { "'a'", "2^64" },
	  "{" F32("a", "[4294967296,4294967296]", 0, 8) "}",
	  8 },
	{ "shape's bytes overflow", -EINVAL, { "'a'", "2^61" }, "{" F32("a", "[4611686018427387904]", 0, 8) "}", 8 },
	{ "dimension -1", -EINVAL, { "'a'", "dimension 1" }, "{" F32("a", "[1,-1]", 0, 8) "}", 8 },
	{ "dimension 1.5", -EINVAL, { "'a'", "dimension 0" }, "{" F32("a", "[1.5]", 0, 8) "}", 8 },
	{ "dimension 2^64", -EINVAL, { "'a'", "dimension 0" }, "{" F32("a", "[18446744073709551616]", 0, 8) "}", 8 },
	{ "dimension \"2\"", -EINVAL, { "'a'", "dimension 0" }, "{" F32("a", "[\"2\"]", 0, 8) "}", 8 },
	{ "17 dimensions",
	  -EINVAL,
	  { "'a'", "17", "16" },
	  "{" F32("a", "[2,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", 0, 8) "}",
	  8 },
	{ "shape is a number", -EINVAL, { "'a'", "shape" }, "{" F32("a", "2", 0, 8) "}", 8 },
	{ "no shape", -EINVAL, { "'a'", "shape" }, "{\"a\":{\"dtype\":\"F32\",\"data_offsets\":[0,8]}}", 8 },
	{ "ends before it begins", -EINVAL, { "'a'", "before" }, "{" F32("a", "[0]", 8, 4) "}", 8 },
	{ "three offsets",
	  -EINVAL,
	  { "'a'", "data_offsets" },
	  "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8,8]}}",
	  8 },
	{ "no offsets", -EINVAL, { "'a'", "data_offsets" }, "{\"a\":{\"dtype\":\"F32\",\"shape\":[2]}}", 8 },
	{ "offset 2^64", -EINVAL, { "'a'", "data_offsets" }, "{" F32("a", "[2]", 0, 18446744073709551616) "}", 8 },
	{ "no dtype", -EINVAL, { "'a'", "dtype" }, "{\"a\":{\"shape\":[2],\"data_offsets\":[0,8]}}", 8 },
	{ "dtype that is none",
	  -EINVAL,
	  { "'a'", "'F33'", "BF16" },
	  "{\"a\":{\"dtype\":\"F33\",\"shape\":[2],\"data_offsets\":[0,8]}}",
	  8 },
	{ "dtype 7", -EINVAL, { "'a'", "dtype" }, "{\"a\":{\"dtype\":7,\"shape\":[2],\"data_offsets\":[0,8]}}", 8 },
	{ "float8",
	  -EOPNOTSUPP,
	  { "model.safetensors", "'a'", "F8_E4M3", "bfloat16" },
	  "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}",
	  8 },
	{ "uint32",
	  -EOPNOTSUPP,
	  { "'a'", "U32" },
	  "{\"a\":{\"dtype\":\"U32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
	  8 },
	{ "half a byte",
	  -EINVAL,
	  { "'a'", "4 bits" },
	  "{\"a\":{\"dtype\":\"F4\",\"shape\":[3],\"data_offsets\":[0,2]}}",
	  2 },
	{ "an entry is a list", -EINVAL, { "'a'", "object" }, "{\"a\":[]}", 0 },
	{ "a name twice",
	  -EINVAL,
	  { "model.safetensors", "twice" },
	  "{" F32("a", "[1]", 0, 4) "," F32("a", "[1]", 4, 8) "}",
	  8 },
	{ "an empty name", -EINVAL, { "name is empty" }, "{" F32("", "[1]", 0, 4) "}", 4 },
	{ "NUL in a name", -EINVAL, { "NUL", "a\\x00b" }, .make = make_nul_in_name },
	{ "a newline in a name is shown as one line", -EINVAL, { "a\\x0ab" }, "{" F32("a\\nb", "[2]", 0, 4) "}", 4 },
	{ "a name that is not UTF-8", -EINVAL, { "model.safetensors" }, "{" F32("a\xff", "[1]", 0, 4) "}", 4 },
	{ "metadata is a string", -EINVAL, { "__metadata__" }, "{\"__metadata__\":\"pt\"}", 0 },
	{ "metadata holds a number", -EINVAL, { "__metadata__", "'n'" }, "{\"__metadata__\":{\"n\":1}}", 0 },
	{ "the header is a list", -EINVAL, { "'{'" }, "[]", 0 },
	{ "the header begins with a space", -EINVAL, { "'{'" }, " {}", 0 },
	{ "the header has no byte", -EINVAL, { "'{'" }, "", 0 },
	{ "the header is no JSON", -EINVAL, { "model.safetensors", "JSON" }, "{\"a\":}", 0 },
	{ "the header ends early", -EINVAL, { "model.safetensors", "JSON" }, "{\"a\":{", 0 },
	{ "two values in the header", -EINVAL, { "JSON" }, "{}{}", 0 },
	{ "nested 20000 deep", -EINVAL, { "model.safetensors", "64" }, .make = make_deep },
	{ "the header is longer than the file",
	  -EINVAL,
	  { "model.safetensors", "1000", "only 2" },
	  .make = make_long_length },
	{ "the header has 2^64 - 1 bytes", -EINVAL, { "18446744073709551615", "only 2" }, .make = make_huge_length },
	{ "the header is longer than 100 MB", -EINVAL, { "100000001", "100000000" }, .make = make_100mb_header },
	{ "a file of 7 bytes", -EINVAL, { "model.safetensors", "7 bytes" }, .make = make_7_bytes },
	{ "an empty file", -EINVAL, { "model.safetensors", "0 bytes" }, .make = make_empty },
	{ "a Git LFS pointer", -EINVAL, { "model.safetensors", "git lfs pull" }, .make = make_lfs },
	{ "a FIFO does not block", -EINVAL, { "model.safetensors", "regular" }, .make = make_fifo },
	{ "a link to a FIFO does not block",
	  -EINVAL,
	  { "model.safetensors", "regular" },
	  .make = make_link_to_fifo },
	{ "a socket", -EINVAL, { "model.safetensors", "regular" }, .make = make_socket },
	{ "a directory", -EINVAL, { "model.safetensors", "regular" }, .make = make_subdir },
	{ "a link to nothing", -ENOENT, { "model.safetensors", "link" }, .make = make_dangling },
	{ "index: a shard is missing", -ENOENT, { INDEX, "model-00009-of-00009" }, .make = make_missing_shard },
	{ "index: a shard in the directory above",
	  -EINVAL,
	  { INDEX, "'b'", "'../model", "plain" },
	  .make = make_parent },
	{ "index: a shard with an absolute name",
	  -EINVAL,
	  { INDEX, "'/etc/hostname'", "plain" },
	  .make = make_absolute },
	{ "index: a shard in a directory below", -EINVAL, { INDEX, "'sub/", "plain" }, .make = make_below },
	{ "index: a shard named ..", -EINVAL, { INDEX, "'..'", "plain" }, .make = make_dotdot },
	{ "index: a shard without a name", -EINVAL, { INDEX, "plain" }, .make = make_nameless },
	{ "index: NUL in a shard's name", -EINVAL, { INDEX, "plain" }, .make = make_nul_in_shard },
	{ "index: names a tensor its shard lacks", -EINVAL, { INDEX, "'c'", SHARD2 }, .make = make_not_in_shard },
	{ "index: lacks a tensor of a shard", -EINVAL, { INDEX, "'c'", SHARD2 }, .make = make_not_in_index },
	{ "index: names the other shard", -EINVAL, { INDEX, "'a'", SHARD1, SHARD2 }, .make = make_other_shard },
	{ "index: a tensor in two shards", -EINVAL, { INDEX, "'a'", SHARD1, SHARD2 }, .make = make_in_both },
	{ "index: a tensor twice", -EINVAL, { INDEX, "twice" }, .make = make_twice_in_index },
	{ "index: no weight_map", -EINVAL, { INDEX, "weight_map" }, .make = make_no_map },
	{ "index: weight_map is a list", -EINVAL, { INDEX, "weight_map" }, .make = make_list_map },
	{ "index: a shard is a number", -EINVAL, { INDEX, "'a'", "string" }, .make = make_number_shard },
	{ "index: is a list", -EINVAL, { INDEX, "object" }, .make = make_list_index },
	{ "index: a shard is cut short", -EINVAL, { INDEX, SHARD2, "'b'", "cut short" }, .make = make_cut_shard },
	{ "index: a shard is a FIFO", -EINVAL, { "'pipe'", "regular" }, .make = make_fifo_shard },
};

static void test_row(void **state)
{
	const struct row *row = *state;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	const char *words[5] = { 0 };
	struct dir d;
	int r;

	dir_make(&d);
	dir_puts(&d, "config.json", "{}");
	if (row->make)
		row->make(&d);
	else
		dir_put_st(&d, "model.safetensors", row->header, row->n_data);
	r = bmi_ckpt_open(d.path, /* need_weights= */ true, &ckpt, &err);
	dir_remove(&d);
	if (r != row->code)
		print_message("# the sentence is: %s\n", err.msg);
	assert_int_equal(r, row->code);
	memcpy(words, row->words, sizeof(row->words));
	if (r < 0) {
		assert_null(ckpt);
		assert_int_equal(err.code, r);
		assert_true(says(err.msg, words));
		assert_non_null(strstr(err.msg, d.path));
	}
	bmi_ckpt_close(ckpt);
}

/* Every prefix of a good file must be refused: nothing in it is optional. */
static void test_every_cut(void **state)
{
	static const char header[] = "{" F32("a", "[2]", 0, 8) "," F32("b", "[1,1]", 8, 12) "}";
	const size_t n = 8 + strlen(header) + 12;
	struct dir d;

	(void)state;
	dir_make(&d);
	dir_puts(&d, "config.json", "{}");
	dir_put_st(&d, "model.safetensors", header, 12);
	for (size_t keep = n - 1; keep != SIZE_MAX; keep--) {
		struct bmi_ckpt *ckpt = NULL;
		struct bmi_error err = { 0 };
		const char *const words[] = { "model.safetensors", NULL };

		dir_cut(&d, "model.safetensors", keep);
		assert_int_equal(bmi_ckpt_open(d.path, true, &ckpt, &err), -EINVAL);
		assert_true(says(err.msg, words));
	}
	dir_remove(&d);
}

int main(void)
{
	enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct CMUnitTest tests[N_ROWS + 1];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[N_ROWS] = (struct CMUnitTest)cmocka_unit_test(test_every_cut);
	return _cmocka_run_group_tests("safetensors", tests, N_ROWS + 1, NULL, NULL);
}

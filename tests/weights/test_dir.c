/* SPDX-License-Identifier: Apache-2.0 */
/* What a directory (or a path) is taken for: one case a row, good ones with their format, refused ones with their words. */
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#define ST "{\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}"

enum { PLAN_ONLY = 1 };

struct row {
	const char *name;
	int code;
	enum bmi_ckpt_format format;
	const char *words[4];
	const char *below; /* path below the directory that is opened; NULL: the directory */
	void (*make)(const struct dir *d);
	int flags;
};

static void put_gguf(const struct dir *d, const char *name)
{
	bmi_auto_str s = { 0 };

	put_llama(&s);
	dir_put(d, name, s.bytes, s.n);
}

static void make_nothing(const struct dir *d)
{
	dir_puts(d, "README.md", "# hello");
}

static void make_hf(const struct dir *d)
{
	dir_puts(d, "config.json", "{\"model_type\":\"llama\"}");
	dir_put_st(d, "model.safetensors", ST, 8);
}

static void make_hf_and_more(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "pytorch_model.bin", "x");
	dir_puts(d, "consolidated.safetensors", "x");
	put_gguf(d, "model-Q8_0.gguf");
	dir_puts(d, "generation_config.json", "{\"eos_token_id\":[1,2]}");
}

/* As huggingface_hub keeps a model: blobs named by hash, a snapshot of links to them. */
static void make_hub(const struct dir *d)
{
	dir_mkdir(d, "blobs");
	dir_puts(d, "blobs/c0", "{\"model_type\":\"llama\"}");
	dir_put_st(d, "blobs/e1", ST, 8);
	dir_mkdir(d, "refs");
	dir_mkdir(d, "snapshots");
	dir_mkdir(d, "snapshots/abc");
	dir_link(d, "../../blobs/c0", "snapshots/abc/config.json");
	dir_link(d, "../../blobs/e1", "snapshots/abc/model.safetensors");
}

static void make_gguf(const struct dir *d)
{
	put_gguf(d, "tiny.gguf");
	dir_puts(d, "README.md", "x");
}

static void make_gguf_and_config(const struct dir *d)
{
	put_gguf(d, "tiny.gguf");
	dir_puts(d, "config.json", "{}");
}

static void make_gguf_and_projector(const struct dir *d)
{
	put_gguf(d, "tiny.gguf");
	dir_puts(d, "mmproj-tiny-f16.gguf", "x");
}

static void make_projector(const struct dir *d)
{
	dir_puts(d, "mmproj-tiny-f16.gguf", "x");
}

static void make_two_ggufs(const struct dir *d)
{
	put_gguf(d, "tiny-Q4_0.gguf");
	put_gguf(d, "tiny-Q8_0.gguf");
}

static void make_many_ggufs(const struct dir *d)
{
	char name[80];

	for (char c = 'a'; c < 'l'; c++) {
		memset(name, c, sizeof(name));
		memcpy(name + 70, ".gguf", 6);
		put_gguf(d, name);
	}
}

static void make_blob(const struct dir *d)
{
	put_gguf(d, "sha256-0123");
	dir_puts(d, "other", "text");
	dir_mkdir(d, "sub");
	dir_link(d, "../sha256-0123", "sub/tiny.gguf");
	dir_fifo(d, "pipe");
}

static void make_config_only(const struct dir *d)
{
	dir_puts(d, "config.json", "{\"model_type\":\"llama\"}");
}

static void make_weights_only(const struct dir *d)
{
	dir_put_st(d, "model.safetensors", ST, 8);
}

static void make_index_only(const struct dir *d)
{
	dir_puts(d, "model.safetensors.index.json", "{}");
}

static void make_bin(const struct dir *d)
{
	make_config_only(d);
	dir_puts(d, "pytorch_model-00001-of-00002.bin", "x");
	dir_puts(d, "pytorch_model-00002-of-00002.bin", "x");
}

static void make_pth(const struct dir *d)
{
	dir_puts(d, "consolidated.00.pth", "x");
}

static void make_h5(const struct dir *d)
{
	make_config_only(d);
	dir_puts(d, "tf_model.h5", "x");
}

static void make_training_args(const struct dir *d)
{
	make_config_only(d);
	dir_puts(d, "training_args.bin", "x");
}

static void make_adapter(const struct dir *d)
{
	dir_puts(d, "adapter_config.json", "{}");
	dir_put_st(d, "adapter_model.safetensors", ST, 8);
}

static void make_adapter_beside(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "adapter_config.json", "{}");
}

static void make_shard_only(const struct dir *d)
{
	make_config_only(d);
	dir_put_st(d, "model-00001-of-00002.safetensors", ST, 8);
}

static void make_consolidated(const struct dir *d)
{
	make_config_only(d);
	dir_put_st(d, "consolidated.safetensors", ST, 8);
}

static void make_bad_config(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "config.json", "{\"model_type\":\"llama\",}");
}

static void make_list_config(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "config.json", "[]");
}

static void make_latin1_config(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "config.json", "{\"model_type\":\"ll\xe4ma\"}");
}

static void make_deep_config(const struct dir *d)
{
	static char text[100000];

	make_hf(d);
	memset(text, '[', sizeof(text) - 1);
	memcpy(text, "{\"a\":", 5);
	dir_puts(d, "config.json", text);
}

static void make_big_config(const struct dir *d)
{
	make_hf(d);
	dir_cut(d, "config.json", (16 << 20) + 1);
}

static void make_fifo_config(const struct dir *d)
{
	dir_fifo(d, "config.json");
	dir_put_st(d, "model.safetensors", ST, 8);
}

static void make_lfs_config(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "config.json", "version https://git-lfs.github.com/spec/v1\n");
}

static void make_bad_generation(const struct dir *d)
{
	make_hf(d);
	dir_puts(d, "generation_config.json", "{\"eos_token_id\":");
}

static void make_fifo_generation(const struct dir *d)
{
	make_hf(d);
	dir_fifo(d, "generation_config.json");
}

static void make_quantized(const struct dir *d)
{
	/* opens: model/ refuses it by the method's name, which says more than an element type */
	dir_puts(d, "config.json", "{\"quantization_config\":{\"quant_method\":\"fp8\"}}");
	dir_put_st(d, "model.safetensors",
		   "{\"a\":{\"dtype\":\"F8_E4M3\",\"shape\":[8],\"data_offsets\":[0,8]}}", 8);
}

static const struct row rows[] = {
	{ "a Hugging Face directory", 0, BMI_CKPT_SAFETENSORS, { 0 }, NULL, make_hf, 0 },
	{ "other forms beside safetensors do not matter", 0, BMI_CKPT_SAFETENSORS, { 0 }, NULL, make_hf_and_more, 0 },
	{ "a hub cache's snapshot", 0, BMI_CKPT_SAFETENSORS, { 0 }, "snapshots/abc", make_hub, 0 },
	{ "a hub cache's folder", -ENOENT, 0, { "snapshots/" }, NULL, make_hub, 0 },
	{ "a directory with one GGUF", 0, BMI_CKPT_GGUF, { 0 }, NULL, make_gguf, 0 },
	{ "a GGUF file", 0, BMI_CKPT_GGUF, { 0 }, "tiny.gguf", make_gguf, 0 },
	{ "a GGUF beside safetensors, by its name", 0, BMI_CKPT_GGUF, { 0 }, "model-Q8_0.gguf", make_hf_and_more, 0 },
	{ "a GGUF with a config.json", 0, BMI_CKPT_GGUF, { 0 }, NULL, make_gguf_and_config, 0 },
	{ "a GGUF with its projector", 0, BMI_CKPT_GGUF, { 0 }, NULL, make_gguf_and_projector, 0 },
	{ "one of two GGUFs, by its name", 0, BMI_CKPT_GGUF, { 0 }, "tiny-Q8_0.gguf", make_two_ggufs, 0 },
	{ "a GGUF without .gguf", 0, BMI_CKPT_GGUF, { 0 }, "sha256-0123", make_blob, 0 },
	{ "a link to a GGUF", 0, BMI_CKPT_GGUF, { 0 }, "sub", make_blob, 0 },
	{ "config.json alone, to plan", 0, BMI_CKPT_NONE, { 0 }, NULL, make_config_only, PLAN_ONLY },
	{ "config.json and .bin, to plan", 0, BMI_CKPT_NONE, { 0 }, NULL, make_bin, PLAN_ONLY },
	{ "weights are read to plan, where they are", 0, BMI_CKPT_SAFETENSORS, { 0 }, NULL, make_hf, PLAN_ONLY },
	{ "a quantized model opens: the config refuses it", 0, BMI_CKPT_SAFETENSORS, { 0 }, NULL, make_quantized, 0 },
	{ "two GGUFs", -EINVAL, 0, { "tiny-Q4_0.gguf", "tiny-Q8_0.gguf", "several" }, NULL, make_two_ggufs, 0 },
	{ "eleven GGUFs", -EINVAL, 0, { "aaaa", "hhhh", "...", "several" }, NULL, make_many_ggufs, 0 },
	{ "a projector alone", -EOPNOTSUPP, 0, { "mmproj-tiny-f16.gguf", "text model" }, NULL, make_projector, 0 },
	{ "nothing", -ENOENT, 0, { "config.json", ".gguf" }, NULL, make_nothing, 0 },
	{ "nothing to plan", -ENOENT, 0, { "config.json", ".gguf" }, NULL, make_nothing, PLAN_ONLY },
	{ "a path that is not there", -ENOENT, 0, { "nowhere" }, "nowhere", make_nothing, 0 },
	{ "a file that is no GGUF", -ENOTDIR, 0, { "other", ".gguf" }, "other", make_blob, 0 },
	{ "a FIFO does not block", -ENOTDIR, 0, { "pipe", ".gguf" }, "pipe", make_blob, 0 },
	{ "a safetensors file", -ENOTDIR, 0, { "directory" }, "model.safetensors", make_hf, 0 },
	{ "config.json alone", -ENOENT, 0, { "no weights", "model.safetensors" }, NULL, make_config_only, 0 },
	{ "weights alone", -ENOENT, 0, { "model.safetensors", "no config.json" }, NULL, make_weights_only, 0 },
	{ "an index alone", -ENOENT, 0, { "index.json", "no config.json" }, NULL, make_index_only, 0 },
	{ "only .bin",
	  -EOPNOTSUPP,
	  0,
	  { "pytorch_model-00001-of-00002.bin", "convert to safetensors" },
	  NULL,
	  make_bin,
	  0 },
	{ "only .pth", -EOPNOTSUPP, 0, { "consolidated.00.pth", "convert to safetensors" }, NULL, make_pth, 0 },
	{ "only .h5", -EOPNOTSUPP, 0, { "tf_model.h5", "convert to safetensors" }, NULL, make_h5, 0 },
	{ "training_args.bin is no weights", -ENOENT, 0, { "no weights" }, NULL, make_training_args, 0 },
	{ "an adapter", -EOPNOTSUPP, 0, { "adapter_config.json", "merge" }, NULL, make_adapter, 0 },
	{ "an adapter beside weights",
	  -EOPNOTSUPP,
	  0,
	  { "adapter_config.json", "merge" },
	  NULL,
	  make_adapter_beside,
	  0 },
	{ "a shard without index", -EINVAL, 0, { "model-00001-of-00002", "index" }, NULL, make_shard_only, 0 },
	{ "safetensors of another name",
	  -EINVAL,
	  0,
	  { "consolidated.safetensors", "rename" },
	  NULL,
	  make_consolidated,
	  0 },
	{ "config.json is no JSON", -EINVAL, 0, { "config.json", "JSON" }, NULL, make_bad_config, 0 },
	{ "config.json is a list", -EINVAL, 0, { "config.json", "object" }, NULL, make_list_config, 0 },
	{ "config.json is not UTF-8", -EINVAL, 0, { "config.json" }, NULL, make_latin1_config, 0 },
	{ "config.json nests 100000 deep", -EINVAL, 0, { "config.json", "64" }, NULL, make_deep_config, 0 },
	{ "config.json of 16 MiB and a byte",
	  -EFBIG,
	  0,
	  { "config.json", "16777217", "16777216" },
	  NULL,
	  make_big_config,
	  0 },
	{ "config.json is a FIFO", -EINVAL, 0, { "config.json", "regular" }, NULL, make_fifo_config, 0 },
	{ "config.json is a Git LFS pointer", -EINVAL, 0, { "config.json", "git lfs pull" }, NULL, make_lfs_config, 0 },
	{ "generation_config.json is damaged", -EINVAL, 0, { "generation_config.json" }, NULL, make_bad_generation, 0 },
	{ "generation_config.json is a FIFO",
	  -EINVAL,
	  0,
	  { "generation_config.json", "regular" },
	  NULL,
	  make_fifo_generation,
	  0 },
};

static void test_row(void **state)
{
	const struct row *row = *state;
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	const char *words[5] = { 0 };
	char path[256];
	struct dir d;
	int r;

	dir_make(&d);
	row->make(&d);
	snprintf(path, sizeof(path), "%s%s%s", d.path, row->below ? "/" : "", row->below ? row->below : "");
	r = bmi_ckpt_open(path, !(row->flags & PLAN_ONLY), &ckpt, &err);
	dir_remove(&d);
	if (r != row->code)
		print_message("# the sentence is: %s\n", err.msg);
	assert_int_equal(r, row->code);
	memcpy(words, row->words, sizeof(row->words));
	if (r < 0) {
		assert_null(ckpt);
		assert_true(says(err.msg, words));
		assert_non_null(strstr(err.msg, path));
	} else {
		assert_int_equal(bmi_ckpt_format(ckpt), row->format);
		assert_int_equal(bmi_ckpt_dir(ckpt)[0], '/');
		assert_true(bmi_ckpt_dirfd(ckpt) >= 0);
		assert_int_equal(bmi_ckpt_config(ckpt)->type, BMI_JSON_OBJECT);
	}
	bmi_ckpt_close(ckpt);
}

/* 40 shards under a limit of open files, in a child: a lowered hard limit cannot be raised again. */
static int open_40_shards(rlim_t soft, rlim_t hard, struct bmi_error *ret_err)
{
	bmi_auto_str index = { 0 };
	struct dir d;
	int pipe_fds[2], r = -1;

	dir_make(&d);
	dir_puts(&d, "config.json", "{}");
	bmi_str_puts(&index, "{\"weight_map\":{");
	for (unsigned i = 0; i < 40; i++) {
		bmi_auto_str header = { 0 };
		char name[32];

		snprintf(name, sizeof(name), "s%02u.safetensors", i);
		bmi_str_printf(&header, "{\"t%u\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]}}",
			       i);
		dir_put_st(&d, name, header.bytes, 8);
		bmi_str_printf(&index, "%s\"t%u\":\"%s\"", i ? "," : "", i, name);
	}
	bmi_str_puts(&index, "}}");
	dir_puts(&d, "model.safetensors.index.json", index.bytes);
	assert_int_equal(pipe(pipe_fds), 0);
	if (fork() == 0) {
		const struct rlimit lim = { soft, hard };
		struct bmi_ckpt *ckpt = NULL;

		memset(ret_err, 0, sizeof(*ret_err));
		setrlimit(RLIMIT_NOFILE, &lim);
		r = bmi_ckpt_open(d.path, true, &ckpt, ret_err);
		ret_err->code = r;
		r = write(pipe_fds[1], ret_err, sizeof(*ret_err)) == sizeof(*ret_err);
		bmi_ckpt_close(ckpt);
		_exit(!r);
	}
	assert_int_equal(read(pipe_fds[0], ret_err, sizeof(*ret_err)), sizeof(*ret_err));
	wait(NULL);
	close(pipe_fds[0]);
	close(pipe_fds[1]);
	dir_remove(&d);
	return ret_err->code;
}

static void test_many_shards(void **state)
{
	static const char *const words[] = { "index.json", "40 shards", "limit is 30", NULL };
	struct bmi_error err;

	(void)state;
	assert_int_equal(open_40_shards(20, 1024, &err), 0);
	assert_int_equal(open_40_shards(20, 60, &err), 0); /* fewer than we would like, but enough */
	assert_int_equal(open_40_shards(20, 30, &err), -EMFILE);
	assert_true(says(err.msg, words));
}

static void test_generation_config(void **state)
{
	struct bmi_ckpt *ckpt = NULL;
	struct bmi_error err = { 0 };
	struct dir d;

	(void)state;
	dir_make(&d);
	make_hf_and_more(&d);
	assert_int_equal(bmi_ckpt_open(d.path, true, &ckpt, &err), 0);
	assert_int_equal(bmi_json_get(bmi_ckpt_generation_config(ckpt), "eos_token_id")->n, 2);
	assert_null(bmi_ckpt_gguf(ckpt));
	assert_string_equal(bmi_ckpt_dir(ckpt), d.path);
	bmi_ckpt_close(ckpt);
	dir_remove(&d);
}

int main(void)
{
	enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct CMUnitTest tests[N_ROWS + 2];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	tests[N_ROWS] = (struct CMUnitTest)cmocka_unit_test(test_generation_config);
	tests[N_ROWS + 1] = (struct CMUnitTest)cmocka_unit_test(test_many_shards);
	return _cmocka_run_group_tests("directories", tests, N_ROWS + 2, NULL, NULL);
}

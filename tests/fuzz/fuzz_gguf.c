/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A GGUF file: its header, every typed access to every key, and the translation to a config. Checked: tensors lie in the
 * file and share no byte, lent strings lie in the header, and the config that comes out is a JSON object.
 */
#include "weights/gguf_priv.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static volatile uint64_t sink; /* keeps the reads */

static uint64_t touch(const char *bytes, uint64_t n)
{
	uint64_t sum = 0;

	for (uint64_t i = 0; i < n; i++)
		sum += (unsigned char)bytes[i];
	return sum;
}

static void read_key(const struct bmi_gguf *g, const char *key)
{
	struct bmi_gguf_str str, *strs = NULL;
	float *floats = NULL;
	int64_t *ints = NULL;
	uint64_t u;
	double d;
	size_t n;
	bool b;
	unsigned kinds = 0;

	if (bmi_gguf_get_str(g, key, &str)) {
		sink = touch(str.bytes, str.n);
		kinds++;
	}
	kinds += bmi_gguf_get_u64(g, key, &u);
	kinds += bmi_gguf_get_double(g, key, &d);
	kinds += bmi_gguf_get_bool(g, key, &b);
	if (bmi_gguf_get_strs(g, key, &strs, &n) == 0) {
		kinds++;
		for (size_t i = 0; i < n; i++)
			sink = touch(strs[i].bytes, strs[i].n);
	}
	if (bmi_gguf_get_floats(g, key, &floats, &n) == 0)
		kinds++;
	if (bmi_gguf_get_ints(g, key, &ints, &n) == 0)
		kinds++;
	check(kinds <= 1);
	free(strs);
	free(floats);
	free(ints);
}

static void check_tensors(const struct bmi_ckpt_list *list, uint64_t size)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < list->n; i++) {
		const struct bmi_ckpt_tensor *t = &list->at[i];
		uint64_t n = 1, bytes;

		check(t->name[0] && t->n_dims <= BMI_MAX_DIMS && t->dtype < BMI_N_DTYPES);
		check(t->extent.off <= size && t->extent.len <= size - t->extent.off);
		for (unsigned d = 0; d < t->n_dims; d++)
			n *= t->shape[d];
		check(bmi_dtype_bytes(t->dtype, n, &bytes) && bytes == t->extent.len);
		sum += bytes;
	}
	check(sum <= size); /* else two would share bytes */
}

static void translate(struct bmi_ckpt *ckpt)
{
	struct bmi_json_doc *doc = NULL;
	struct bmi_error err = { 0 };
	bmi_auto_str text = { 0 };

	if (bmi_ckpt_index(ckpt, &err) < 0 || bmi_gguf_config(ckpt, &text, &err) < 0)
		return;
	check(bmi_json_parse(text.bytes, text.n, &doc, &err) == 0);
	check(bmi_json_root(doc)->type == BMI_JSON_OBJECT);
	bmi_json_free(doc);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct bmi_ckpt_file file = { "m.gguf", -1, size };
	struct bmi_ckpt ckpt = { .format = BMI_CKPT_GGUF };
	struct bmi_error err = { 0 };
	int r;

	ckpt.arena = ckpt.list.arena = bmi_arena_new();
	check(ckpt.arena != NULL);
	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	check(ftruncate(fd, (off_t)size) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	file.fd = fd;
	if (size %
	    8) /* both ways in; real files are padded, so most seeds go through memory, where ASan sees more */
		r = bmi_gguf_read(&file, &ckpt.list, &ckpt.gguf, &err);
	else
		r = bmi_gguf_parse((const char *)data, size, &file, &ckpt.list, &ckpt.gguf, &err);
	if (r == 0) {
		check_tensors(&ckpt.list, size);
		for (uint32_t i = 0; i < ckpt.gguf->n_kvs; i++) {
			char *key = strndup(ckpt.gguf->head + ckpt.gguf->kvs[i].key, ckpt.gguf->kvs[i].n_key);

			read_key(ckpt.gguf, key);
			free(key);
		}
		translate(&ckpt);
	} else {
		check(err.code == r && err.msg[0] && !strchr(err.msg, '\n'));
	}
	bmi_gguf_free(ckpt.gguf);
	bmi_ckpt_list_fini(&ckpt.list);
	free(ckpt.table);
	bmi_arena_free(ckpt.arena);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The header of a safetensors file, twice: the input as a file, and the input behind its first 8 bytes as a header whose
 * length is right (up to its last '}'), so that a mutation that changes the length still gets to the entries. Checked: what
 * was accepted lies in the file, has the bytes its shape needs, and covers the data.
 */
#include "weights/ckpt_priv.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(bool ok)
{
	if (!ok)
		__builtin_trap();
}

static void check_list(const struct bmi_ckpt_list *list, const struct bmi_ckpt_file *file, uint64_t data_off)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < list->n; i++) {
		const struct bmi_ckpt_tensor *t = &list->at[i];
		uint64_t n = 1, bytes;

		check(t->name && t->name[0] && t->file == file->name && t->dtype < BMI_N_DTYPES);
		check(t->extent.off >= data_off && t->extent.off <= file->size_bytes);
		check(t->extent.len <= file->size_bytes - t->extent.off);
		sum += t->extent.len;
		if (t->n_dims > BMI_MAX_DIMS || list->odd_tensor)
			continue;
		for (unsigned d = 0; d < t->n_dims; d++)
			n *= t->shape[d];
		check(bmi_dtype_bytes(t->dtype, n, &bytes) && bytes == t->extent.len);
	}
	check(sum == file->size_bytes - data_off);
}

static void run(const char *text, size_t n, const struct bmi_ckpt_file *file)
{
	struct bmi_error err = { 0 };
	struct bmi_ckpt_list list = { .arena = bmi_arena_new() };
	const int r = text ? bmi_safetensors_parse(text, n, file, &list, &err)
			   : bmi_safetensors_read(file, &list, &err);

	if (r == 0)
		check_list(&list, file, 8 + n);
	else
		check(err.code == r && err.msg[0] && !strchr(err.msg, '\n'));
	bmi_ckpt_list_fini(&list);
	bmi_arena_free(list.arena);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static int fd = -1;
	struct bmi_ckpt_file file = { "model.safetensors", -1, size };
	uint64_t len = 0;

	if (fd < 0)
		fd = memfd_create("fuzz", MFD_CLOEXEC);
	check(ftruncate(fd, (off_t)size) == 0 && pwrite(fd, data, size, 0) == (ssize_t)size);
	file.fd = fd;
	if (size >= 8)
		memcpy(&len, data, 8);
	run(NULL, len, &file);
	if (size <= 8)
		return 0;

	/* a copy that ends where the header does, so that ASan sees a byte too many */
	for (len = size - 8; len && data[8 + len - 1] != '}';)
		len--;
	char *text = malloc(len ? len : 1);

	check(text != NULL);
	memcpy(text, data + 8, len);
	run(text, len, &file);
	free(text);
	return 0;
}

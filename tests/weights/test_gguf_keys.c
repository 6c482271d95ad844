/* SPDX-License-Identifier: Apache-2.0 */
/*
 * GGUF files that are whole but are no model we run, or whose metadata contradict themselves: one case a row, each with the
 * errno and the words its sentence must have.
 */
#include "weights/gguf.h"
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <math.h>
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

/* The good model with the keys of @from replaced by those of @to, byte for byte; both have the same length. */
static void swapped(struct bmi_str *s, const char *from, const char *to)
{
	char *at;

	put_llama(s);
	at = memmem(s->bytes, s->n, from, strlen(from));
	if (!at || strlen(from) != strlen(to))
		abort();
	memcpy(at, to, strlen(to));
}

static void make_no_tensors(struct bmi_str *s)
{
	put_gguf_head(s, 3, 0, LLAMA_N_KVS);
	put_llama_kvs(s);
}

static void make_no_arch(struct bmi_str *s)
{
	swapped(s, "general.architecture", "general.architexture");
}

static void make_bert(struct bmi_str *s)
{
	put_llama(s); /* a name of the same length, so that all else stays */
	memcpy((char *)memmem(s->bytes, s->n, "\5\0\0\0\0\0\0\0llama", 13) + 8, "mamba", 5);
}

static void make_no_layers(struct bmi_str *s)
{
	swapped(s, "llama.block_count", "llama.block_kount");
}

static void make_no_embedding(struct bmi_str *s)
{
	swapped(s, "token_embd.weight", "token_embd.weighs");
}

static void make_layers_text(struct bmi_str *s)
{
	put_gguf_head(s, 3, LLAMA_N_TENSORS, 2);
	put_kv_str(s, "general.architecture", "llama");
	put_kv_str(s, "llama.block_count", "1");
	put_zeros(s, 32 + put_llama_infos(s));
}

static void make_nan(struct bmi_str *s)
{
	put_llama_and_info(s, "x", 0, UINT64_MAX, 1, 32, 1);
	put_f32(s, NAN); /* its bits, to be copied over the epsilon */
	memcpy((char *)memmem(s->bytes, s->n, "rms_epsilon", 11) + 11 + 4, s->bytes + s->n - 4, 4);
}

static void make_experts(struct bmi_str *s)
{
	put_llama_and_u32(s, "llama.expert_count", 8);
}

static void make_partial(struct bmi_str *s)
{
	put_llama_and_u32(s, "llama.rope.dimension_count", 4);
}

static void make_longrope(struct bmi_str *s)
{
	put_llama_and_str(s, "llama.rope.scaling.type", "longrope");
}

static void make_head_list(struct bmi_str *s)
{
	bmi_auto_str kv = { 0 };

	put_str(&kv, "llama.attention.key_length");
	put_u32(&kv, 9);
	put_u32(&kv, 4);
	put_u64(&kv, 1);
	put_u32(&kv, 8);
	put_llama_and(s, &kv);
}

static void make_factors_f16(struct bmi_str *s)
{
	put_llama_and_info(s, "rope_freqs.weight", 1, UINT64_MAX, 1, 4, 1);
}

static void make_factors_zero(struct bmi_str *s)
{
	put_llama_and_info(s, "rope_freqs.weight", 0, UINT64_MAX, 1, 4, 1);
}

static const struct row rows[] = {
	{ "good", 0, { 0 }, put_llama },
	{ "no tensors", -EINVAL, { "m.gguf", "no tensors" }, make_no_tensors },
	{ "no architecture", -EINVAL, { "general.architecture" }, make_no_arch },
	{ "an architecture that is not run", -EOPNOTSUPP, { "'mamba'", "llama", "gemma3" }, make_bert },
	{ "no number of layers", -EINVAL, { "'llama.block_count'", "missing" }, make_no_layers },
	{ "a text as number of layers", -EINVAL, { "'llama.block_count'", "number" }, make_layers_text },
	{ "an epsilon that is no number", -EINVAL, { "rms_epsilon", "finite" }, make_nan },
	{ "no embedding", -EINVAL, { "token_embd.weight" }, make_no_embedding },
	{ "a mixture of experts", -EOPNOTSUPP, { "llama.expert_count", "8" }, make_experts },
	{ "heads rotated in part", -EOPNOTSUPP, { "rope.dimension_count", "4", "8" }, make_partial },
	{ "longrope", -EOPNOTSUPP, { "llama.rope.scaling.type", "longrope" }, make_longrope },
	{ "a list of head lengths", -EINVAL, { "llama.attention.key_length", "list" }, make_head_list },
	{ "rope factors of float16", -EINVAL, { "rope_freqs.weight", "float16" }, make_factors_f16 },
	{ "a rope factor of 0", -EINVAL, { "rope_freqs.weight", "number 0" }, make_factors_zero },
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

int main(void)
{
	enum { N_ROWS = sizeof(rows) / sizeof(rows[0]) };
	struct CMUnitTest tests[N_ROWS];

	for (size_t i = 0; i < N_ROWS; i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, test_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("gguf metadata", tests, N_ROWS, NULL, NULL);
}

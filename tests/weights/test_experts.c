/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Experts that a checkpoint holds one by one, bound to the fused tensors of the skeleton: where each piece goes, and what
 * is refused. The model: one layer, hidden 8, 2 experts of 4, one head.
 */
#include "arch/arch.h"
#include "weights/ckpt.h"
#include "weights/maker.h"

#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define SIZES                                                                                              \
	",\"vocab_size\":8,\"hidden_size\":8,\"num_hidden_layers\":1,\"num_attention_heads\":1,\"num_key_" \
	"value_heads\":1,\"head_dim\":8,\"num_local_experts\":2,\"num_experts_per_tok\":1,\"max_position_" \
	"embeddings\":16}"
#define QWEN    "{\"model_type\":\"qwen3_moe\",\"moe_intermediate_size\":4,\"intermediate_size\":16" SIZES
#define MIXTRAL "{\"model_type\":\"mixtral\",\"intermediate_size\":4" SIZES
#define L       "model.layers.0."

struct spec {
	const char *name, *dtype;
	uint64_t shape[3];
};

static const struct spec common[] = {
	{ "model.embed_tokens.weight", "F32", { 8, 8 } },
	{ L "self_attn.q_proj.weight", "F32", { 8, 8 } },
	{ L "self_attn.k_proj.weight", "F32", { 8, 8 } },
	{ L "self_attn.v_proj.weight", "F32", { 8, 8 } },
	{ L "self_attn.o_proj.weight", "F32", { 8, 8 } },
	{ L "input_layernorm.weight", "F32", { 8 } },
	{ L "post_attention_layernorm.weight", "F32", { 8 } },
	{ "model.norm.weight", "F32", { 8 } },
	{ "lm_head.weight", "F32", { 8, 8 } },
	{ NULL },
};

static const struct spec qwen[] = {
	{ L "self_attn.q_norm.weight", "F32", { 8 } },
	{ L "self_attn.k_norm.weight", "F32", { 8 } },
	{ L "mlp.gate.weight", "F32", { 2, 8 } },
	{ L "mlp.experts.1.up_proj.weight", "F32", { 4, 8 } },
	{ L "mlp.experts.0.gate_proj.weight", "F32", { 4, 8 } },
	{ L "mlp.experts.0.down_proj.weight", "F32", { 8, 4 } },
	{ L "mlp.experts.1.gate_proj.weight", "F32", { 4, 8 } },
	{ L "mlp.experts.0.up_proj.weight", "F32", { 4, 8 } },
	{ L "mlp.experts.1.down_proj.weight", "F32", { 8, 4 } },
	{ NULL },
};

static const struct spec mixtral[] = {
	{ L "block_sparse_moe.gate.weight", "F32", { 2, 8 } },
	{ L "block_sparse_moe.experts.1.w3.weight", "F32", { 4, 8 } },
	{ L "block_sparse_moe.experts.0.w1.weight", "F32", { 4, 8 } },
	{ L "block_sparse_moe.experts.0.w2.weight", "F32", { 8, 4 } },
	{ L "block_sparse_moe.experts.1.w1.weight", "F32", { 4, 8 } },
	{ L "block_sparse_moe.experts.0.w3.weight", "F32", { 4, 8 } },
	{ L "block_sparse_moe.experts.1.w2.weight", "F32", { 8, 4 } },
	{ NULL },
};

struct row {
	const char *name;
	int code;
	const char *words[4];
	bool is_mixtral;
	const char *drop;
	struct spec add;
};

static const struct row rows[] = {
	{ "good: qwen's names", 0 },
	{ "good: mixtral's names", 0, .is_mixtral = true },
	{ "an expert's half is missing",
	  -EINVAL,
	  { "experts.gate_up_proj", "3 of 4", "missing" },
	  .drop = L "mlp.experts.1.up_proj.weight" },
	{ "all of a fused tensor is missing", -EINVAL, { "experts.down_proj", "missing" }, .drop = "down_proj" },
	{ "another shape",
	  -EINVAL,
	  { "'" L "mlp.experts.0.up_proj.weight'", "[8, 4]", "[2, 8, 8]" },
	  .drop = L "mlp.experts.0.up_proj.weight",
	  .add = { L "mlp.experts.0.up_proj.weight", "F32", { 8, 4 } } },
	{ "one expert too many",
	  -EINVAL,
	  { "'" L "mlp.experts.2.up_proj.weight'", "does not fit" },
	  .add = { L "mlp.experts.2.up_proj.weight", "F32", { 4, 8 } } },
	{ "of a layer that is not there",
	  -EINVAL,
	  { "'model.layers.1.mlp.experts.0.up_proj.weight'", "not part of" },
	  .add = { "model.layers.1.mlp.experts.0.up_proj.weight", "F32", { 4, 8 } } },
	{ "a number with a leading zero",
	  -EINVAL,
	  { "'" L "mlp.experts.01.up_proj.weight'", "not part of" },
	  .add = { L "mlp.experts.01.up_proj.weight", "F32", { 4, 8 } } },
	{ "of another type",
	  -EOPNOTSUPP,
	  { "'" L "mlp.experts.0.up_proj.weight'", "bfloat16", "float32" },
	  .drop = L "mlp.experts.0.up_proj.weight",
	  .add = { L "mlp.experts.0.up_proj.weight", "BF16", { 4, 8 } } },
	{ "fused as well as in pieces",
	  -EINVAL,
	  { "experts.down_proj", "both" },
	  .add = { L "mlp.experts.down_proj", "F32", { 2, 8, 4 } } },
};

static uint64_t put_spec(char *header, size_t size, const struct spec *s, uint64_t off)
{
	uint64_t n = strcmp(s->dtype, "BF16") ? 4 : 2;
	char shape[64];
	const size_t at = strlen(header);

	if (s->shape[2])
		snprintf(shape, sizeof(shape), "%" PRIu64 ",%" PRIu64 ",%" PRIu64, s->shape[0], s->shape[1],
			 s->shape[2]);
	else if (s->shape[1])
		snprintf(shape, sizeof(shape), "%" PRIu64 ",%" PRIu64, s->shape[0], s->shape[1]);
	else
		snprintf(shape, sizeof(shape), "%" PRIu64, s->shape[0]);
	for (unsigned i = 0; i < 3; i++)
		n *= s->shape[i] ? s->shape[i] : 1;
	snprintf(header + at, size - at,
		 "%s\"%s\":{\"dtype\":\"%s\",\"shape\":[%s],\"data_offsets\":[%" PRIu64 ",%" PRIu64 "]}",
		 off ? "," : "", s->name, s->dtype, shape, off, off + n);
	return off + n;
}

static void put_model(const struct dir *d, const struct row *row)
{
	const struct spec *lists[] = { common, row->is_mixtral ? mixtral : qwen };
	char header[8192] = "{";
	uint64_t off = 0;

	for (size_t i = 0; i < 2; i++)
		for (const struct spec *s = lists[i]; s->name; s++)
			if (!row->drop || !strstr(s->name, row->drop))
				off = put_spec(header, sizeof(header), s, off);
	if (row->add.name)
		off = put_spec(header, sizeof(header), &row->add, off);
	strcat(header, "}");
	dir_puts(d, "config.json", row->is_mixtral ? MIXTRAL : QWEN);
	dir_put_st(d, "model.safetensors", header, off);
}

static uint64_t offset_of(const struct spec *list, const char *name)
{
	uint64_t off = 0;
	char ignored[8192];

	for (const struct spec *s = common; s->name; s++) {
		ignored[0] = 0;
		off = put_spec(ignored, sizeof(ignored), s, off);
	}
	for (const struct spec *s = list; s->name && !strstr(s->name, name); s++) {
		ignored[0] = 0;
		off = put_spec(ignored, sizeof(ignored), s, off);
	}
	return off;
}

/* Gate and up of expert 0, then of expert 1; down of 0, of 1; wherever they lie in the file. */
static void check_pieces(const struct bmi_skel *skel, const struct bmi_ckpt_tensor *const *of, bool is_mixtral)
{
	static const char *const names[2][6] = {
		{ "0.gate_proj", "0.up_proj", "1.gate_proj", "1.up_proj", "0.down_proj", "1.down_proj" },
		{ "0.w1", "0.w3", "1.w1", "1.w3", "0.w2", "1.w2" },
	};
	const struct spec *list = is_mixtral ? mixtral : qwen;
	const struct bmi_ckpt_tensor *both, *down;
	uint64_t base;

	both = of[bmi_skel_find_tensor(skel, L "mlp.experts.gate_up_proj", strlen(L "mlp.experts.gate_up_proj"))];
	down = of[bmi_skel_find_tensor(skel, L "mlp.experts.down_proj", strlen(L "mlp.experts.down_proj"))];
	assert_int_equal(both->n_parts, 4);
	assert_int_equal(down->n_parts, 2);
	assert_int_equal(both->extent.len, 2 * 8 * 8 * 4);
	assert_int_equal(down->extent.len, 2 * 8 * 4 * 4);
	base = of[0]->extent.off;
	for (unsigned i = 0; i < 6; i++) {
		const struct bmi_ckpt_tensor *t = i < 4 ? both : down;
		const struct bmi_extent ext = bmi_ckpt_piece(t, (i < 4 ? i : i - 4) * 128ul + 4, 16);

		assert_int_equal(ext.off - base, offset_of(list, names[is_mixtral][i]) + 4);
		assert_int_equal(ext.len, 16);
	}
}

static void run_row(void **state)
{
	const struct row *row = *state;
	const struct bmi_ckpt_tensor *const *of = NULL;
	struct bmi_error err = { 0 };
	struct bmi_config *cfg = NULL;
	struct bmi_skel *skel = NULL;
	struct bmi_ckpt *ckpt = NULL;
	struct dir d;
	int r;

	dir_make(&d);
	put_model(&d, row);
	if (bmi_ckpt_open(d.path, /* need_weights= */ true, &ckpt, &err) < 0 ||
	    bmi_config_read(bmi_ckpt_config(ckpt), bmi_arch_find, &cfg, &err) < 0 ||
	    bmi_skel_build(cfg, &skel, &err) < 0)
		fail_msg("%s", err.msg);
	r = bmi_ckpt_bind(ckpt, skel, &of, &err);
	if (r != row->code)
		fail_msg("%d: %s", r, err.msg);
	if (r < 0)
		assert_true(says(err.msg, row->words));
	else
		check_pieces(skel, of, row->is_mixtral);
	free((void *)(uintptr_t)of);
	bmi_skel_free(skel);
	bmi_config_free(cfg);
	bmi_ckpt_close(ckpt);
	dir_remove(&d);
}

int main(void)
{
	static struct CMUnitTest tests[BMI_ARRAY_LEN(rows)];

	for (size_t i = 0; i < BMI_ARRAY_LEN(rows); i++)
		tests[i] =
			(struct CMUnitTest){ rows[i].name, run_row, NULL, NULL, (void *)(uintptr_t)&rows[i] };
	return _cmocka_run_group_tests("experts", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

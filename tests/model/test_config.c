/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json: what is read, in both spellings, what each family takes where it is silent (the configuration classes of
 * Transformers 5.23.0), and what is refused with which words.
 */
#include "arch/arch.h"

#include <errno.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct read_case {
	struct bmi_json_doc *doc;
	struct bmi_config *c;
	struct bmi_error err;
};

static int read_text(const char *text, struct read_case *rc)
{
	*rc = (struct read_case){ 0 };
	assert_int_equal(bmi_json_parse(text, strlen(text), &rc->doc, &rc->err), 0);
	return bmi_config_read(bmi_json_root(rc->doc), bmi_arch_find, &rc->c, &rc->err);
}

static void read_fini(struct read_case *rc)
{
	bmi_config_free(rc->c);
	bmi_json_free(rc->doc);
}

/* ---- refused ---- */

struct refusal {
	const char *name, *text;
	int code;
	const char *says; /* in the sentence */
};

static void run_refusal(void **state)
{
	const struct refusal *t = *state;
	struct read_case rc;

	assert_int_equal(read_text(t->text, &rc), t->code);
	if (!strstr(rc.err.msg, t->says))
		fail_msg("'%s' does not say '%s'", rc.err.msg, t->says);
	assert_null(rc.c);
	read_fini(&rc);
}

#define LLAMA            "{\"model_type\":\"llama\","
#define GEMMA            "{\"model_type\":\"gemma3_text\","
#define ROPE(type, more) LLAMA "\"rope_parameters\":{\"rope_type\":\"" type "\"" more "}}"

static const struct refusal refusals[] = {
	{ "no object", "[]", -EINVAL, "not an object" },
	{ "no model type", "{}", -EINVAL, "model_type" },
	{ "model type a number", "{\"model_type\":3}", -EINVAL, "model_type" },
	{ "unknown type", "{\"model_type\":\"t5\"}", -EOPNOTSUPP, "'t5' is not supported" },
	{ "own code", "{\"model_type\":\"mystery\",\"auto_map\":{\"AutoConfig\":\"a.B\"}}", -EOPNOTSUPP,
	  "auto_map" },
	{ "gptq", LLAMA "\"quantization_config\":{\"quant_method\":\"gptq\",\"bits\":4}}", -EOPNOTSUPP,
	  "'gptq'" },
	{ "awq", LLAMA "\"quantization_config\":{\"quant_method\":\"awq\"}}", -EOPNOTSUPP, "'awq'" },
	{ "bitsandbytes", LLAMA "\"quantization_config\":{\"quant_method\":\"bitsandbytes\"}}", -EOPNOTSUPP,
	  "'bitsandbytes'" },
	{ "fp8", LLAMA "\"quantization_config\":{\"quant_method\":\"fp8\"}}", -EOPNOTSUPP, "'fp8'" },
	{ "mxfp4", LLAMA "\"quantization_config\":{\"quant_method\":\"mxfp4\"}}", -EOPNOTSUPP, "'mxfp4'" },
	{ "quantized by nobody", LLAMA "\"quantization_config\":{}}", -EOPNOTSUPP, "quantized" },
	{ "quantized in the text part",
	  "{\"model_type\":\"gemma3\",\"text_config\":{\"model_type\":\"gemma3_text\",\"quantization_"
	  "config\":"
	  "{\"quant_method\":\"gptq\"}}}",
	  -EOPNOTSUPP, "'gptq'" },
	{ "rope dynamic", ROPE("dynamic", ",\"factor\":2.0"), -EOPNOTSUPP, "'dynamic'" },
	{ "rope longrope", ROPE("longrope", ""), -EOPNOTSUPP, "'longrope'" },
	{ "rope old spelling", LLAMA "\"rope_scaling\":{\"type\":\"su\"}}", -EOPNOTSUPP, "'su'" },
	{ "rope linear without factor", ROPE("linear", ""), -EINVAL, "'factor'" },
	{ "rope linear by 0", ROPE("linear", ",\"factor\":0"), -EINVAL, "finite" },
	{ "rope llama3 without factor", ROPE("llama3", ""), -EINVAL, "'factor'" },
	{ "rope theta 0", LLAMA "\"rope_theta\":0}", -EINVAL, "rope_theta" },
	{ "rope theta a word", LLAMA "\"rope_theta\":\"big\"}", -EINVAL, "rope_theta" },
	{ "rope partial", LLAMA "\"partial_rotary_factor\":0.5}", -EOPNOTSUPP, "partial_rotary_factor" },
	{ "rope per layer type", LLAMA "\"rope_parameters\":{\"full_attention\":{}}}", -EOPNOTSUPP,
	  "per layer type" },
	{ "rope no object", LLAMA "\"rope_parameters\":3}", -EINVAL, "not an object" },
	{ "odd heads", LLAMA "\"head_dim\":15}", -EINVAL, "even" },
	{ "activation", LLAMA "\"hidden_act\":\"quick_gelu\"}", -EOPNOTSUPP, "'quick_gelu'" },
	{ "activation a number", LLAMA "\"hidden_act\":1}", -EOPNOTSUPP, "hidden_act" },
	{ "no layers", LLAMA "\"num_hidden_layers\":0}", -EINVAL, "num_hidden_layers" },
	{ "a million layers", LLAMA "\"num_hidden_layers\":1000000}", -EINVAL, "num_hidden_layers" },
	{ "negative size", LLAMA "\"hidden_size\":-64}", -EINVAL, "hidden_size" },
	{ "fraction", LLAMA "\"hidden_size\":64.5}", -EINVAL, "hidden_size" },
	{ "huge number", LLAMA "\"vocab_size\":99999999999999999999999999}", -EINVAL, "vocab_size" },
	{ "size a word", LLAMA "\"vocab_size\":\"32000\"}", -EINVAL, "vocab_size" },
	{ "heads do not divide", LLAMA "\"hidden_size\":100,\"num_attention_heads\":3}", -EINVAL, "multiple" },
	{ "kv heads do not divide", LLAMA "\"num_key_value_heads\":5}", -EINVAL, "multiple" },
	{ "epsilon", LLAMA "\"rms_norm_eps\":-1}", -EINVAL, "epsilon" },
	{ "flag a number", LLAMA "\"attention_bias\":1}", -EINVAL, "attention_bias" },
	{ "dtype float8", LLAMA "\"torch_dtype\":\"float8_e4m3fn\"}", -EOPNOTSUPP, "float8_e4m3fn" },
	{ "dtype a number", LLAMA "\"dtype\":16}", -EINVAL, "dtype" },
	{ "bidirectional", GEMMA "\"use_bidirectional_attention\":true}", -EOPNOTSUPP,
	  "use_bidirectional_attention" },
	{ "layer types too few", GEMMA "\"layer_types\":[\"full_attention\"]}", -EINVAL, "layer_types" },
	{ "layer type unknown", GEMMA "\"num_hidden_layers\":1,\"layer_types\":[\"chunked_attention\"]}",
	  -EOPNOTSUPP, "chunked_attention" },
	{ "attention scale 0", GEMMA "\"query_pre_attn_scalar\":0}", -EINVAL, "query_pre_attn_scalar" },
	{ "experts: more used than there are", "{\"model_type\":\"mixtral\",\"num_experts_per_tok\":9}",
	  -EINVAL, "num_experts_per_tok" },
	{ "experts: another scoring", "{\"model_type\":\"deepseek_v3\",\"scoring_func\":\"softmax\"}",
	  -EOPNOTSUPP, "scoring_func" },
	{ "experts: another choice", "{\"model_type\":\"deepseek_v3\",\"topk_method\":\"greedy\"}",
	  -EOPNOTSUPP, "topk_method" },
	{ "experts: groups that do not divide", "{\"model_type\":\"deepseek_v3\",\"n_group\":7}", -EINVAL,
	  "n_group" },
	{ "experts: more groups used than there are",
	  "{\"model_type\":\"deepseek_v3\",\"n_group\":4,\"topk_group\":5}", -EINVAL, "topk_group" },
	{ "values wider than keys", "{\"model_type\":\"deepseek_v3\",\"v_head_dim\":193}", -EOPNOTSUPP,
	  "v_head_dim" },
	{ "gpt_oss without rope", "{\"model_type\":\"gpt_oss\"}", -EOPNOTSUPP, "rope_parameters" },
	{ "cohere with norms of q and k", "{\"model_type\":\"cohere\",\"use_qk_norm\":true}", -EOPNOTSUPP,
	  "use_qk_norm" },
	{ "cohere without logits", "{\"model_type\":\"cohere\",\"logit_scale\":0}", -EINVAL, "logit_scale" },
	{ "stablelm with norms of q and k", "{\"model_type\":\"stablelm\",\"qk_layernorm\":true}",
	  -EOPNOTSUPP, "qk_layernorm" },
	{ "phi with norms of q and k", "{\"model_type\":\"phi\",\"qk_layernorm\":true}", -EOPNOTSUPP,
	  "qk_layernorm" },
	{ "gpt2 with other scales", "{\"model_type\":\"gpt2\",\"scale_attn_by_inverse_layer_idx\":true}",
	  -EOPNOTSUPP, "scale_attn_by_inverse_layer_idx" },
	{ "gpt2 without a scale", "{\"model_type\":\"gpt2\",\"scale_attn_weights\":false}", -EOPNOTSUPP,
	  "scale_attn_weights" },
	{ "gptj turns too much", "{\"model_type\":\"gptj\",\"rotary_dim\":258}", -EOPNOTSUPP, "rotary_dim" },
	{ "gptj turns all", "{\"model_type\":\"gptj\",\"rotary_dim\":null}", -EOPNOTSUPP, "rotary_dim" },
	{ "granite without logits", "{\"model_type\":\"granite\",\"logits_scaling\":0}", -EINVAL,
	  "logits_scaling" },
	{ "smollm3 with too few layers named", "{\"model_type\":\"smollm3\",\"no_rope_layers\":[1,0]}",
	  -EINVAL, "no_rope_layers" },
	{ "smollm3 with a layer of 2",
	  "{\"model_type\":\"smollm3\",\"num_hidden_layers\":1,\"no_rope_layers\":[2]}", -EINVAL,
	  "no_rope_layers" },
	{ "text part no object", "{\"model_type\":\"gemma3\",\"text_config\":3}", -EINVAL, "text_config" },
};

/* ---- placed, but not run ---- */

static const struct refusal placed_only[] = {
	{ "phi3 longrope", "{\"model_type\":\"phi3\",\"rope_scaling\":{\"type\":\"longrope\"}}", 0, "longrope" },
	{ "phi3 su", "{\"model_type\":\"phi3\",\"rope_parameters\":{\"rope_type\":\"su\"}}", 0, "longrope" },
	{ "falcon with alibi", "{\"model_type\":\"falcon\",\"alibi\":true}", 0, "alibi" },
	{ "opt with norms behind", "{\"model_type\":\"opt\",\"do_layer_norm_before\":false}", 0,
	  "do_layer_norm_before" },
	{ "opt with a projected embedding", "{\"model_type\":\"opt\",\"word_embed_proj_dim\":512}", 0,
	  "word_embed_proj_dim" },
	{ "bloom with another residual",
	  "{\"model_type\":\"bloom\",\"apply_residual_connection_post_layernorm\":true}", 0,
	  "apply_residual_connection_post_layernorm" },
	{ "falcon", "{\"model_type\":\"falcon\"}", 0, NULL },
	{ "phi3", "{\"model_type\":\"phi3\"}", 0, NULL },
};

static void run_placed_only(void **state)
{
	const struct refusal *t = *state;
	struct read_case rc;

	if (read_text(t->text, &rc) < 0)
		fail_msg("%s", rc.err.msg);
	if (t->says)
		assert_non_null(rc.c->cannot_run ? strstr(rc.c->cannot_run, t->says) : NULL);
	else
		assert_null(rc.c->cannot_run);
	read_fini(&rc);
}

/* ---- read ---- */

static bool near(double a, double b)
{
	return fabs(a - b) <= 1e-6 * fabs(b);
}

static void llama_defaults(void **state)
{
	struct read_case rc;

	assert_int_equal(
		read_text("{\"model_type\":\"llama\",\"head_dim\":null,\"num_key_value_heads\":null}", &rc), 0);
	assert_int_equal(rc.c->vocab_size, 32000);
	assert_int_equal(rc.c->hidden_size, 4096);
	assert_int_equal(rc.c->intermediate_size, 11008);
	assert_int_equal(rc.c->n_layers, 32);
	assert_int_equal(rc.c->n_heads, 32);
	assert_int_equal(rc.c->n_kv_heads, 32);
	assert_int_equal(rc.c->head_dim, 128);
	assert_int_equal(rc.c->max_positions, 2048);
	assert_true(near(rc.c->norm_eps, 1e-6));
	assert_int_equal(rc.c->act, BMI_CFG_SILU);
	assert_false(rc.c->tie_embeddings || rc.c->attention_bias || rc.c->mlp_bias || rc.c->has_dtype);
	assert_true(rc.c->embed_scale == 1 && rc.c->norm_offset == 0 && near(rc.c->attn_scale, 0.08838834764));
	assert_int_equal(rc.c->sliding_window, 0);
	assert_int_equal(rc.c->rope_full.n_rot, 128);
	assert_true(rc.c->rope_full.inv_freq[0] == 1 && rc.c->rope_full.attention_factor == 1);
	assert_non_null(rc.c->arch->forward);
	read_fini(&rc);
}

static void mistral_windows(void **state)
{
	struct read_case rc;

	assert_int_equal(read_text("{\"model_type\":\"mistral\"}", &rc), 0);
	assert_int_equal(rc.c->sliding_window, 4096);
	assert_int_equal(rc.c->n_kv_heads, 8);
	assert_int_equal(rc.c->max_positions, 131072);
	assert_true(rc.c->layer_is_sliding[0] && rc.c->layer_is_sliding[31]);
	read_fini(&rc);
	assert_int_equal(read_text("{\"model_type\":\"mistral\",\"sliding_window\":null}", &rc), 0);
	assert_int_equal(rc.c->sliding_window, 0);
	assert_false(rc.c->layer_is_sliding[0]);
	read_fini(&rc);
}

static void check_gemma3(const struct bmi_config *c)
{
	assert_string_equal(c->model_type, "gemma3_text");
	assert_int_equal(c->vocab_size, 262208);
	assert_int_equal(c->head_dim, 256);
	assert_int_equal(c->n_kv_heads, 4);
	assert_int_equal(c->act, BMI_CFG_GELU_TANH);
	assert_true(c->tie_embeddings);
	assert_true(c->norm_offset == 1 && near(c->attn_scale, 1.0 / 16) &&
		    near(c->embed_scale, sqrt(c->hidden_size)));
	for (uint32_t l = 0; l < c->n_layers; l++)
		assert_int_equal(c->layer_is_sliding[l], (l + 1) % 6 != 0);
	assert_true(near(c->rope_sliding.inv_freq[1], pow(10000, -2.0 / 256)));
}

static void gemma3_defaults(void **state)
{
	struct read_case rc;

	assert_int_equal(read_text("{\"model_type\":\"gemma3_text\"}", &rc), 0);
	check_gemma3(rc.c);
	assert_int_equal(rc.c->sliding_window, 4096);
	assert_true(near(rc.c->rope_full.inv_freq[1], pow(1000000, -2.0 / 256)));
	read_fini(&rc);
}

/* As published for the 4b: the text model inside the wrapper, old spelling of RoPE. */
static void gemma3_wrapped(void **state)
{
	struct read_case rc;

	assert_int_equal(
		read_text("{\"model_type\":\"gemma3\",\"architectures\":[\"Gemma3ForConditionalGeneration\"],"
			  "\"torch_dtype\":\"bfloat16\",\"vision_config\":{},\"text_config\":{\"hidden_"
			  "size\":2560,"
			  "\"intermediate_size\":10240,\"num_hidden_layers\":34,\"rope_scaling\":{\"factor\":"
			  "8.0,"
			  "\"rope_type\":\"linear\"},\"sliding_window\":1024}}",
			  &rc),
		0);
	check_gemma3(rc.c);
	assert_int_equal(rc.c->hidden_size, 2560);
	assert_int_equal(rc.c->sliding_window, 1024);
	assert_true(rc.c->has_dtype && rc.c->dtype == BMI_BF16);
	assert_true(near(rc.c->rope_full.inv_freq[0], 1.0 / 8));
	assert_true(near(rc.c->rope_full.inv_freq[1], pow(1000000, -2.0 / 256) / 8));
	read_fini(&rc);
}

static void gemma3_new_rope(void **state)
{
	struct read_case rc;

	assert_int_equal(read_text("{\"model_type\":\"gemma3_text\",\"rope_parameters\":{\"full_attention\":{"
				   "\"rope_type\":"
				   "\"linear\",\"factor\":2.0,\"rope_theta\":500.0},\"sliding_attention\":{"
				   "\"rope_theta\":90.0}}}",
				   &rc),
			 0);
	assert_true(near(rc.c->rope_full.inv_freq[1], pow(500, -2.0 / 256) / 2));
	assert_true(near(rc.c->rope_sliding.inv_freq[1], pow(90, -2.0 / 256)));
	read_fini(&rc);
}

static void gemma3_old_rope(void **state)
{
	struct read_case rc;

	assert_int_equal(
		read_text(
			"{\"model_type\":\"gemma3_text\",\"rope_theta\":500.0,\"rope_local_base_freq\":90.0,"
			"\"sliding_window_pattern\":2}",
			&rc),
		0);
	assert_true(near(rc.c->rope_full.inv_freq[1], pow(500, -2.0 / 256)));
	assert_true(near(rc.c->rope_sliding.inv_freq[1], pow(90, -2.0 / 256)));
	assert_true(rc.c->layer_is_sliding[0] && !rc.c->layer_is_sliding[1]);
	read_fini(&rc);
}

/* The older spelling gives the same numbers as the newer one. */
static void two_spellings(void **state)
{
	static const char *const texts[2] = {
		LLAMA "\"rope_theta\":500000.0,\"rope_scaling\":{\"type\":\"llama3\",\"factor\":8.0,\"low_"
		      "freq_factor\":1.0,"
		      "\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192},\"torch_dtype\":"
		      "\"float16\"}",
		LLAMA
		"\"rope_parameters\":{\"rope_theta\":500000.0,\"rope_type\":\"llama3\",\"factor\":8.0,"
		"\"low_freq_factor\":1.0,\"high_freq_factor\":4.0,\"original_max_position_embeddings\":8192},"
		"\"dtype\":\"float16\"}",
	};
	struct read_case rc[2];

	for (int i = 0; i < 2; i++) {
		assert_int_equal(read_text(texts[i], &rc[i]), 0);
		assert_true(rc[i].c->has_dtype && rc[i].c->dtype == BMI_F16);
	}
	assert_memory_equal(rc[0].c->rope_full.inv_freq, rc[1].c->rope_full.inv_freq, 64 * sizeof(float));
	assert_true(near(rc[0].c->rope_full.inv_freq[63], pow(500000, -126.0 / 128) / 8));
	read_fini(&rc[0]);
	read_fini(&rc[1]);
}

static void keys_of_gguf(void **state)
{
	struct read_case rc;

	assert_int_equal(read_text("{\"model_type\":\"gemma3_text\",\"_bmifs_norm_baked\":true}", &rc), 0);
	assert_true(rc.c->norm_offset == 0);
	assert_false(rc.c->rope_interleaved);
	read_fini(&rc);
	assert_int_equal(
		read_text(LLAMA
			  "\"_bmifs_rope_interleaved\":true,\"head_dim\":4,\"_bmifs_rope_factors\":[1,8]}",
			  &rc),
		0);
	assert_true(rc.c->rope_interleaved);
	assert_true(rc.c->rope_full.inv_freq[0] == 1 && near(rc.c->rope_full.inv_freq[1], 0.01 / 8));
	read_fini(&rc);
	assert_int_equal(read_text(LLAMA "\"head_dim\":4,\"_bmifs_rope_factors\":[1]}", &rc), -EINVAL);
	read_fini(&rc);
}

static void too_many_weights(void **state)
{
	struct read_case rc;
	struct bmi_skel *skel = NULL;

	assert_int_equal(
		read_text(LLAMA
			  "\"vocab_size\":67108864,\"hidden_size\":16777216,\"num_attention_heads\":8192,"
			  "\"head_dim\":2,\"intermediate_size\":16777216,\"num_hidden_layers\":4096}",
			  &rc),
		0);
	assert_int_equal(bmi_skel_build(rc.c, &skel, &rc.err), -EINVAL);
	assert_null(skel);
	read_fini(&rc);
}

static void wrapped_names(void **state)
{
	const struct bmi_arch *a = bmi_arch_find("gemma3_text");

	assert_string_equal(a->name_prefixes[0][0], "language_model.model.");
	assert_string_equal(a->name_prefixes[0][1], "model.");
	assert_ptr_equal(bmi_arch_find_gguf("gemma3"), a);
	assert_ptr_equal(bmi_arch_find_gguf("llama"), bmi_arch_find("llama"));
	assert_null(bmi_arch_find("mystery"));
	assert_null(bmi_arch_find_gguf("mystery"));
}

int main(void)
{
	static const struct CMUnitTest reads[] = {
		cmocka_unit_test(llama_defaults),   cmocka_unit_test(mistral_windows),
		cmocka_unit_test(gemma3_defaults),  cmocka_unit_test(gemma3_wrapped),
		cmocka_unit_test(gemma3_new_rope),  cmocka_unit_test(gemma3_old_rope),
		cmocka_unit_test(two_spellings),    cmocka_unit_test(keys_of_gguf),
		cmocka_unit_test(too_many_weights), cmocka_unit_test(wrapped_names),
	};
	struct CMUnitTest tests[BMI_ARRAY_LEN(refusals) + BMI_ARRAY_LEN(reads) + BMI_ARRAY_LEN(placed_only)];
	struct CMUnitTest *rest = tests + BMI_ARRAY_LEN(refusals) + BMI_ARRAY_LEN(reads);

	for (size_t i = 0; i < BMI_ARRAY_LEN(refusals); i++)
		tests[i] = (struct CMUnitTest){ .name = refusals[i].name,
						.test_func = run_refusal,
						.initial_state = (void *)(uintptr_t)&refusals[i] };
	memcpy(tests + BMI_ARRAY_LEN(refusals), reads, sizeof(reads));
	for (size_t i = 0; i < BMI_ARRAY_LEN(placed_only); i++)
		rest[i] = (struct CMUnitTest){ .name = placed_only[i].name,
					       .test_func = run_placed_only,
					       .initial_state = (void *)(uintptr_t)&placed_only[i] };
	return _cmocka_run_group_tests("model config", tests, BMI_ARRAY_LEN(tests), NULL, NULL);
}

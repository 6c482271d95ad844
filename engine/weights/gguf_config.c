/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the translation of GGUF metadata to the keys of a Hugging Face config.json, so that model/ reads one kind of config.
 * A family is a row of `families`; what is special about it is its `extra`. The private keys ("_bmifs_...") are documented
 * in model/config.h. Invariant: what comes out is a JSON object, whatever the metadata says, and every number in it is
 * finite.
 */
#include "weights/gguf_priv.h"

#include "base/file.h"

#include <endian.h>
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

enum {
	MAX_LAYERS = 4096,        /* model/'s limit; here it bounds a list that is written */
	MAX_ROPE_FACTORS = 65536, /* numbers in rope_freqs.weight; real ones have 32 to 128 */
};

struct out {
	const struct bmi_ckpt *ckpt;
	const struct bmi_gguf *g;
	const struct family *family;
	struct bmi_str *s;
	struct bmi_error *err;
};

struct row {
	const char *key, *hf; /* key: below "<architecture>." */
	bool is_real, required;
};

struct family {
	const char *gguf_arch, *model_type, *class_name;
	const char *act_key, *act;
	bool norm_baked, rope_interleaved;
	int (*extra)(struct out *o);
};

static const struct row rows[] = {
	{ "block_count", "num_hidden_layers", false, true },
	{ "context_length", "max_position_embeddings", false, true },
	{ "embedding_length", "hidden_size", false, true },
	{ "feed_forward_length", "intermediate_size", false, true },
	{ "attention.head_count", "num_attention_heads", false, true },
	{ "attention.head_count_kv", "num_key_value_heads", false, false },
	{ "attention.key_length", "head_dim", false, false },
	{ "attention.layer_norm_rms_epsilon", "rms_norm_eps", true, true },
	{ "final_logit_softcapping", "final_logit_softcapping", true, false },
	{ "attn_logit_softcapping", "attn_logit_softcapping", true, false },
};

struct key {
	char text[128];
};

static struct key own_key(const struct out *o, const char *key)
{
	struct key k;

	snprintf(k.text, sizeof(k.text), "%s.%s", o->family->gguf_arch, key);
	return k;
}

/* 0: *ret is set. 1: the key is not there. -EINVAL: another kind of value. */
static int get_u64(const struct out *o, const char *key, uint64_t *ret)
{
	const struct key k = own_key(o, key);

	if (!bmi_gguf_find(o->g, k.text, strlen(k.text)))
		return 1;
	if (!bmi_gguf_get_u64(o->g, k.text, ret))
		return bmi_fail(
			o->err,
			-EINVAL, "metadata key '%s' is no whole number (a list: layers of different sizes are not run)",
			k.text);
	return 0;
}

static int get_double(const struct out *o, const char *key, double *ret)
{
	const struct key k = own_key(o, key);

	if (!bmi_gguf_find(o->g, k.text, strlen(k.text)))
		return 1;
	if (!bmi_gguf_get_double(o->g, k.text, ret) || !isfinite(*ret))
		return bmi_fail(o->err, -EINVAL, "metadata key '%s' is no finite number", k.text);
	return 0;
}

static int put_row(struct out *o, const struct row *row)
{
	uint64_t n;
	double x;
	int r;

	r = row->is_real ? get_double(o, row->key, &x) : get_u64(o, row->key, &n);
	if (r > 0 && row->required)
		return bmi_fail(o->err, -EINVAL, "metadata key '%s' is missing", own_key(o, row->key).text);
	if (r)
		return r > 0 ? 0 : r;
	if (row->is_real)
		bmi_str_printf(o->s, ",\"%s\":%.17g", row->hf, x);
	else
		bmi_str_printf(o->s, ",\"%s\":%" PRIu64, row->hf, n);
	return 0;
}

/* ,"rope_theta":...,"rope_type":... of the full layers; yarn's attention factor as llama.cpp has it. */
static int put_rope(struct out *o)
{
	const struct key type_key = own_key(o, "rope.scaling.type");
	struct bmi_gguf_str type = { "linear", 6 }; /* llama.cpp's default, with a factor of 1 */
	double theta = 10000, factor = 1, attn = 1, beta;
	uint64_t n;
	int r;

	r = get_double(o, "rope.freq_base", &theta);
	if (r >= 0)
		r = get_double(o, "rope.scaling.factor", &factor);
	if (r > 0)
		r = get_double(o, "rope.scale_linear", &factor);
	if (r < 0)
		return r;
	(void)bmi_gguf_get_str(o->g, type_key.text, &type);
	bmi_str_printf(o->s, "\"rope_theta\":%.17g", theta);
	if ((type.n == 4 && memcmp(type.bytes, "none", 4) == 0) ||
	    (type.n == 6 && memcmp(type.bytes, "linear", 6) == 0)) {
		if (type.n == 4 || factor == 1 || factor == 0)
			bmi_str_puts(o->s, ",\"rope_type\":\"default\"");
		else
			bmi_str_printf(o->s, ",\"rope_type\":\"linear\",\"factor\":%.17g", factor);
		return 0;
	}
	if (type.n != 4 || memcmp(type.bytes, "yarn", 4) != 0)
		return bmi_fail(o->err, -EOPNOTSUPP,
				"metadata key '%s' is '%s', which is not run (none, linear and yarn are)",
				type_key.text, bmi_name_show(type.bytes, type.n).text);
	bmi_str_printf(o->s, ",\"rope_type\":\"yarn\",\"factor\":%.17g", factor);
	r = get_u64(o, "rope.scaling.original_context_length", &n);
	if (r == 0)
		bmi_str_printf(o->s, ",\"original_max_position_embeddings\":%" PRIu64, n);
	if (r >= 0)
		r = get_double(o, "rope.scaling.attn_factor", &attn);
	if (r == 0 && factor > 1)
		bmi_str_printf(o->s, ",\"attention_factor\":%.17g", attn * (0.1 * log(factor) + 1));
	if (r >= 0)
		r = get_double(o, "rope.scaling.yarn_beta_fast", &beta);
	if (r == 0)
		bmi_str_printf(o->s, ",\"beta_fast\":%.17g", beta);
	if (r >= 0)
		r = get_double(o, "rope.scaling.yarn_beta_slow", &beta);
	if (r == 0)
		bmi_str_printf(o->s, ",\"beta_slow\":%.17g", beta);
	return r < 0 ? r : 0;
}

/* Llama 3.1's frequencies come as a small tensor; the one weight that a config needs. */
static int put_rope_factors(struct out *o)
{
	const char *const name = "rope_freqs.weight";
	const struct bmi_ckpt_tensor *t = bmi_ckpt_find(o->ckpt, name, strlen(name));
	bmi_auto_mem uint32_t *bits = NULL;
	int r;

	if (!t)
		return 0;
	if (t->dtype != BMI_F32 || t->n_dims != 1 || t->shape[0] > MAX_ROPE_FACTORS)
		return bmi_fail(o->err, -EINVAL, "tensor '%s' is %s %s, not a short list of float32", name,
				bmi_dtype_name(t->dtype), bmi_shape_show(t->shape, t->n_dims).text);
	bits = malloc(t->extent.len);
	if (!bits)
		return bmi_fail(o->err, -ENOMEM, "no memory for tensor '%s'", name);
	r = bmi_file_pread(t->extent.fd, bits, t->extent.len, t->extent.off, o->err);
	if (r < 0)
		return bmi_note(o->err, r, "tensor '%s'", name);
	bmi_str_puts(o->s, ",\"_bmifs_rope_factors\":[");
	for (uint64_t i = 0; i < t->shape[0]; i++) {
		const uint32_t b = le32toh(bits[i]);
		float f;

		memcpy(&f, &b, sizeof(f));
		if (!isfinite(f) || f <= 0)
			return bmi_fail(o->err, -EINVAL,
					"tensor '%s': number %" PRIu64 " is not a finite one above 0", name, i);
		bmi_str_printf(o->s, "%s%.9g", i ? "," : "", (double)f);
	}
	bmi_str_puts(o->s, "]");
	return 0;
}

static bool has_tensor(const struct out *o, const char *name)
{
	return bmi_ckpt_find(o->ckpt, name, strlen(name)) != NULL;
}

static int extra_llama(struct out *o)
{
	uint64_t n, n_rot = 0, head_dim = 0, hidden = 0, heads = 0;
	int r;

	r = get_u64(o, "expert_count", &n);
	if (r == 0 && n > 0)
		return bmi_fail(o->err, -EOPNOTSUPP,
				"%s.expert_count is %" PRIu64
				": mixtures of experts (Mixtral) are not run yet",
				o->family->gguf_arch, n);
	if (r >= 0)
		r = get_u64(o, "embedding_length", &hidden);
	if (r >= 0)
		r = get_u64(o, "attention.head_count", &heads);
	if (r >= 0)
		r = get_u64(o, "attention.key_length", &head_dim);
	if (r > 0 && heads)
		head_dim = hidden / heads;
	if (r >= 0)
		r = get_u64(o, "rope.dimension_count", &n_rot);
	if (r < 0)
		return r;
	if (r == 0 && n_rot != head_dim)
		return bmi_fail(o->err, -EOPNOTSUPP,
				"%s.rope.dimension_count is %" PRIu64 ", but heads have %" PRIu64
				" elements: partial rotation is not run for this architecture",
				o->family->gguf_arch, n_rot, head_dim);
	bmi_str_printf(o->s, ",\"attention_bias\":%s,\"mlp_bias\":%s,\"rope_parameters\":{",
		       has_tensor(o, "blk.0.attn_q.bias") ? "true" : "false",
		       has_tensor(o, "blk.0.ffn_up.bias") ? "true" : "false");
	r = put_rope(o);
	bmi_str_puts(o->s, "}");
	return r < 0 ? r : put_rope_factors(o);
}

/* Every 6th layer is full, unless the file lists them: a number as here, or a bool (sliding) for each layer. */
static int put_layer_types(struct out *o, uint64_t n_layers)
{
	const struct key k = own_key(o, "attention.sliding_window_pattern");
	bmi_auto_mem int64_t *list = NULL;
	uint64_t pattern = 6;
	size_t n = 0;
	int r;

	r = bmi_gguf_get_ints(o->g, k.text, &list, &n);
	if (r == -ENOMEM)
		return bmi_fail(o->err, r, "no memory for '%s'", k.text);
	if (r == -EINVAL && (!bmi_gguf_get_u64(o->g, k.text, &pattern) || pattern == 0))
		return bmi_fail(o->err, r, "metadata key '%s' is neither a number above 0 nor a list of them",
				k.text);
	if (r == 0 && n < n_layers)
		return bmi_fail(o->err, -EINVAL, "metadata key '%s' has %zu entries for %" PRIu64 " layers",
				k.text, n, n_layers);
	bmi_str_puts(o->s, ",\"layer_types\":[");
	for (uint64_t i = 0; i < n_layers; i++) {
		const bool sliding = list ? list[i] != 0 : (i + 1) % pattern != 0;

		bmi_str_printf(o->s, "%s\"%s\"", i ? "," : "",
			       sliding ? "sliding_attention" : "full_attention");
	}
	bmi_str_puts(o->s, "]");
	return 0;
}

static int extra_gemma3(struct out *o)
{
	const uint64_t layers_27b =
		62; /* the one size that scales by hidden / heads instead of the head's length */
	uint64_t n_layers = 0, head_dim = 0, hidden = 0, heads = 0, window;
	double theta = 10000;
	int r;

	r = get_u64(o, "block_count", &n_layers);
	if (r >= 0)
		r = get_u64(o, "embedding_length", &hidden);
	if (r >= 0)
		r = get_u64(o, "attention.head_count", &heads);
	if (r >= 0)
		r = get_u64(o, "attention.key_length", &head_dim);
	if (r > 0)
		return bmi_fail(o->err, -EINVAL, "metadata key '%s' is missing",
				own_key(o, "attention.key_length").text);
	if (r == 0)
		r = get_u64(o, "attention.sliding_window", &window);
	if (r > 0)
		return bmi_fail(o->err, -EINVAL, "metadata key '%s' is missing",
				own_key(o, "attention.sliding_window").text);
	if (r < 0)
		return r;
	if (n_layers > MAX_LAYERS)
		return bmi_fail(o->err, -EINVAL, "%" PRIu64 " layers are more than the %d accepted", n_layers,
				MAX_LAYERS);
	if (n_layers == layers_27b && heads)
		head_dim = hidden / heads;
	bmi_str_printf(o->s, ",\"sliding_window\":%" PRIu64 ",\"query_pre_attn_scalar\":%" PRIu64, window,
		       head_dim);
	r = put_layer_types(o, n_layers);
	if (r < 0)
		return r;
	bmi_str_puts(o->s, ",\"rope_parameters\":{\"full_attention\":{");
	r = put_rope(o);
	if (r >= 0)
		r = get_double(o, "rope.freq_base_swa", &theta);
	bmi_str_printf(o->s, "},\"sliding_attention\":{\"rope_theta\":%.17g,\"rope_type\":\"default\"}}",
		       theta);
	return r < 0 ? r : 0;
}

static const struct family families[] = {
	{ "llama", "llama", "LlamaForCausalLM", "hidden_act", "silu", .rope_interleaved = true,
	  .extra = extra_llama },
	{ "gemma3", "gemma3_text", "Gemma3ForCausalLM", "hidden_activation", "gelu_pytorch_tanh",
	  .norm_baked = true, .extra = extra_gemma3 },
};

static int find_family(struct out *o)
{
	char known[256] = "";
	struct bmi_gguf_str name;

	if (!bmi_gguf_get_str(o->g, "general.architecture", &name))
		return bmi_fail(o->err, -EINVAL, "metadata key 'general.architecture' is missing or no string");
	for (size_t i = 0; i < BMI_ARRAY_LEN(families); i++) {
		if (name.n == strlen(families[i].gguf_arch) &&
		    memcmp(name.bytes, families[i].gguf_arch, name.n) == 0) {
			o->family = &families[i];
			return 0;
		}
		snprintf(known + strlen(known), sizeof(known) - strlen(known), "%s%s", i ? ", " : "",
			 families[i].gguf_arch);
	}
	return bmi_fail(o->err, -EOPNOTSUPP, "architecture '%s' is not run yet; %s are",
			bmi_name_show(name.bytes, name.n).text, known);
}

/* bos, eos (with the end-of-turn token, which ends an answer too) and padding. */
static void put_special_ids(struct out *o)
{
	uint64_t id, eot;

	if (bmi_gguf_get_u64(o->g, "tokenizer.ggml.bos_token_id", &id))
		bmi_str_printf(o->s, ",\"bos_token_id\":%" PRIu64, id);
	if (bmi_gguf_get_u64(o->g, "tokenizer.ggml.padding_token_id", &id))
		bmi_str_printf(o->s, ",\"pad_token_id\":%" PRIu64, id);
	if (!bmi_gguf_get_u64(o->g, "tokenizer.ggml.eos_token_id", &id))
		return;
	if (bmi_gguf_get_u64(o->g, "tokenizer.ggml.eot_token_id", &eot) && eot != id)
		bmi_str_printf(o->s, ",\"eos_token_id\":[%" PRIu64 ",%" PRIu64 "]", id, eot);
	else
		bmi_str_printf(o->s, ",\"eos_token_id\":%" PRIu64, id);
}

static int put_vocab(struct out *o)
{
	const struct bmi_ckpt_tensor *embed =
		bmi_ckpt_find(o->ckpt, "token_embd.weight", strlen("token_embd.weight"));

	if (!embed || embed->n_dims != 2)
		return bmi_fail(o->err, -EINVAL,
				embed ? "tensor 'token_embd.weight' has %u dimensions, not 2"
				      : "tensor 'token_embd.weight' is missing (%u dimensions)",
				embed ? embed->n_dims : 0);
	bmi_str_printf(o->s, ",\"vocab_size\":%" PRIu64 ",\"tie_word_embeddings\":%s", embed->shape[0],
		       has_tensor(o, "output.weight") ? "false" : "true");
	return 0;
}

int bmi_gguf_config(const struct bmi_ckpt *ckpt, struct bmi_str *ret, struct bmi_error *err)
{
	struct out o = { .ckpt = ckpt, .g = ckpt->gguf, .s = ret, .err = err };
	uint64_t key_len, value_len;
	int r = find_family(&o);

	if (r < 0)
		return r;
	bmi_str_printf(ret, "{\"model_type\":\"%s\",\"architectures\":[\"%s\"],\"%s\":\"%s\"",
		       o.family->model_type, o.family->class_name, o.family->act_key, o.family->act);
	for (size_t i = 0; r == 0 && i < BMI_ARRAY_LEN(rows); i++)
		r = put_row(&o, &rows[i]);
	if (r == 0)
		r = put_vocab(&o);
	if (r == 0)
		r = o.family->extra(&o);
	if (r < 0)
		return r;
	if (get_u64(&o, "attention.key_length", &key_len) == 0 &&
	    get_u64(&o, "attention.value_length", &value_len) == 0 && key_len != value_len)
		return bmi_fail(err, -EOPNOTSUPP,
				"heads with keys of %" PRIu64 " and values of %" PRIu64
				" elements are not run",
				key_len, value_len);
	put_special_ids(&o);
	if (o.family->norm_baked)
		bmi_str_puts(ret, ",\"_bmifs_norm_baked\":true");
	if (o.family->rope_interleaved)
		bmi_str_puts(ret, ",\"_bmifs_rope_interleaved\":true");
	bmi_str_puts(ret, "}");
	return bmi_str_ok(ret) ? 0 : bmi_fail(err, -ENOMEM, "no memory for the config");
}

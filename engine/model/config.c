/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config.json to numbers. Owns the keys all families share and the refusal of what would change the arithmetic unseen;
 * a family's own keys are its configure hook's. Knows no family by name. Invariant: a config that leaves here has
 * every size in [1, its limit].
 */
#include "model/model_priv.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>
#include <string.h>

/* Far above any model published, small enough that products of two sizes and a skeleton of all layers stay tame. */
enum {
	MAX_VOCAB = 1 << 26,
	MAX_WIDTH = 1 << 24,
	MAX_LAYERS = 4096,
	MAX_HEADS = 1 << 16,
	MAX_HEAD_DIM = 1 << 14,
	MAX_POSITIONS = 1 << 30,
};

static const struct {
	const char *word;
	enum bmi_act_kind act;
} act_words[] = {
	{ "silu", BMI_CFG_SILU },          { "swish", BMI_CFG_SILU },
	{ "gelu", BMI_CFG_GELU },          { "gelu_pytorch_tanh", BMI_CFG_GELU_TANH },
	{ "gelu_new", BMI_CFG_GELU_TANH }, { "gelu_fast", BMI_CFG_GELU_TANH },
	{ "relu", BMI_CFG_RELU },
};

static const struct {
	const char *word;
	enum bmi_dtype dtype;
} dtype_words[] = {
	{ "float32", BMI_F32 },   { "float", BMI_F32 },   { "float16", BMI_F16 }, { "half", BMI_F16 },
	{ "bfloat16", BMI_BF16 }, { "float64", BMI_F64 }, { "double", BMI_F64 },  { "int8", BMI_I8 },
	{ "uint8", BMI_U8 },      { "bool", BMI_BOOL },   { "int16", BMI_I16 },   { "int32", BMI_I32 },
	{ "int64", BMI_I64 },
};

/* The first of the two names that is there. */
static const char *spelled(const struct bmi_json *json, const char *own, const char *usual)
{
	return own && bmi_key_get(json, own) ? own : usual;
}

static int refuse_quantized(const struct bmi_json *json, struct bmi_error *err)
{
	const struct bmi_json *q = bmi_key_get(json, "quantization_config");
	const struct bmi_json *method;

	q = q ? q : bmi_key_get(json, "compression_config");
	if (!q)
		return 0;
	method = bmi_key_get(q, "quant_method");
	if (!method || method->type != BMI_JSON_STRING)
		method = bmi_key_get(q, "quant_algo");
	if (!method || method->type != BMI_JSON_STRING)
		return bmi_fail(err, -EOPNOTSUPP,
				"config.json: the model is quantized ('quantization_config'), which is not "
				"supported; use the unquantized release or a GGUF file of it");
	return bmi_fail(err, -EOPNOTSUPP,
			"config.json: the model is quantized by '%.*s' ('quantization_config'), which is "
			"not supported; use the unquantized release or a GGUF file of it",
			(int)(method->n < 60 ? method->n : 60), method->str);
}

static int find_arch(const struct bmi_json *json, const struct bmi_json *root,
		     const struct bmi_arch *(*find)(const char *model_type), struct bmi_config *c,
		     struct bmi_error *err)
{
	const struct bmi_json *type = bmi_key_get(json, "model_type");
	char *word;

	/* A text_config that leaves its type out has that of the wrapper's text part. */
	const char *suffix = type || json == root ? "" : "_text";

	type = type ? type : bmi_key_get(root, "model_type");
	if (!type || type->type != BMI_JSON_STRING || type->n == 0 || type->n > 100)
		return bmi_fail(
			err, -EINVAL,
			"config.json: 'model_type' is missing or no word; is this a model directory?");
	word = bmi_arena_printf(c->arena, "%.*s%s", (int)type->n, type->str, suffix);
	if (!word)
		return bmi_fail(err, -ENOMEM, "config");
	c->model_type = word;
	c->arch = find(word);
	if (c->arch)
		return 0;
	if (bmi_key_get(root, "auto_map"))
		return bmi_fail(
			err, -EOPNOTSUPP,
			"config.json: model_type '%s' comes with code of its own ('auto_map'), which is "
			"never run; use a model of a supported type",
			word);
	return bmi_fail(err, -EOPNOTSUPP,
			"config.json: model_type '%s' is not supported; see the list of supported types", word);
}

static int read_sizes(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const struct bmi_arch_keys *k = c->arch->keys;
	const char *inter = spelled(json, k->intermediate, "intermediate_size");
	const char *kv = spelled(json, k->kv_heads, "num_key_value_heads");
	int r = bmi_key_u32(json, "vocab_size", k->vocab_size, 1, MAX_VOCAB, &c->vocab_size, err);

	r = r ? r
	      : bmi_key_u32(json, spelled(json, k->hidden, "hidden_size"), k->hidden_size, 1, MAX_WIDTH,
			    &c->hidden_size, err);
	r = r ? r : bmi_key_u32(json, inter, k->intermediate_size, 1, MAX_WIDTH, &c->intermediate_size, err);
	r = r ? r
	      : bmi_key_u32(json, spelled(json, k->layers, "num_hidden_layers"), k->n_layers, 1, MAX_LAYERS,
			    &c->n_layers, err);
	r = r ? r
	      : bmi_key_u32(json, spelled(json, k->heads, "num_attention_heads"), k->n_heads, 1, MAX_HEADS,
			    &c->n_heads, err);
	r = r ? r
	      : bmi_key_u32(json, kv, bmi_json_get(json, kv) ? 0 : k->n_kv_heads, 1, MAX_HEADS,
			    &c->n_kv_heads, err);
	r = r ? r
	      : bmi_key_u32(json, "head_dim", bmi_json_get(json, "head_dim") ? 0 : k->head_dim, 1,
			    MAX_HEAD_DIM, &c->head_dim, err);
	r = r ? r
	      : bmi_key_u32(json, spelled(json, k->positions, "max_position_embeddings"), k->max_positions, 1,
			    MAX_POSITIONS, &c->max_positions, err);
	if (r < 0)
		return r;

	if (c->intermediate_size == 0)
		c->intermediate_size = 4 * c->hidden_size;
	if (c->n_kv_heads == 0)
		c->n_kv_heads = c->n_heads;
	if (c->n_heads % c->n_kv_heads && !BMI_PLANTED_CONFIG_JSON)
		return bmi_fail(err, -EINVAL,
				"config.json: %u attention heads are not a multiple of %u key/value heads",
				c->n_heads, c->n_kv_heads);
	if (c->head_dim == 0) {
		if (c->hidden_size % c->n_heads)
			return bmi_fail(
				err, -EINVAL,
				"config.json: 'hidden_size' %u is not a multiple of the %u attention heads",
				c->hidden_size, c->n_heads);
		c->head_dim = c->hidden_size / c->n_heads;
	}
	if (c->head_dim > MAX_HEAD_DIM)
		return bmi_fail(err, -EINVAL, "config.json: heads of %u elements, at most %d are supported",
				c->head_dim, MAX_HEAD_DIM);
	if ((uint64_t)c->n_heads * c->head_dim > MAX_WIDTH)
		return bmi_fail(err, -EINVAL, "config.json: %u heads of %u elements are too wide", c->n_heads,
				c->head_dim);
	return 0;
}

static int read_act(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const char *key = spelled(json, c->arch->keys->act, "hidden_act");
	const struct bmi_json *v = bmi_key_get(json, key);

	for (size_t i = 0; i < BMI_ARRAY_LEN(act_words); i++)
		if (v ? bmi_json_eq(v, act_words[i].word)
		      : !strcmp(act_words[i].word, c->arch->keys->act_word)) {
			c->act = act_words[i].act;
			return 0;
		}
	return bmi_fail(err, -EOPNOTSUPP,
			"config.json: activation '%.*s' ('%s') is not supported (supported: silu, gelu, "
			"gelu_pytorch_tanh, "
			"gelu_new, relu)",
			v && v->type == BMI_JSON_STRING ? (int)(v->n < 40 ? v->n : 40) : 1,
			v && v->type == BMI_JSON_STRING ? v->str : "?", key);
}

/* `layer_types`, where the family reads it: a word for each layer. The hook has set the defaults. */
static int read_layer_types(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const struct bmi_json *types = bmi_key_get(json, "layer_types");
	const struct bmi_json *v;
	uint32_t i = 0;

	if (!types || !c->arch->keys->has_layer_types)
		return 0;
	if (types->type != BMI_JSON_ARRAY || types->n != c->n_layers)
		return bmi_fail(err, -EINVAL,
				"config.json: 'layer_types' is not a list of %u words, one for each layer",
				c->n_layers);
	for (v = types->child; v; v = v->next, i++) {
		if (bmi_json_eq(v, "sliding_attention"))
			c->layer_is_sliding[i] = true;
		else if (bmi_json_eq(v, "full_attention"))
			c->layer_is_sliding[i] = false;
		else
			return bmi_fail(err, -EOPNOTSUPP,
					"config.json: 'layer_types' of layer %u is '%.*s'; supported are "
					"full_attention and sliding_attention",
					i, v->type == BMI_JSON_STRING ? (int)(v->n < 40 ? v->n : 40) : 1,
					v->type == BMI_JSON_STRING ? v->str : "?");
	}
	return 0;
}

static int read_dtype(const struct bmi_json *json, const struct bmi_json *root, struct bmi_config *c,
		      struct bmi_error *err)
{
	const struct bmi_json *places[] = { bmi_key_get(json, "dtype"), bmi_key_get(json, "torch_dtype"),
					    bmi_key_get(root, "dtype"), bmi_key_get(root, "torch_dtype") };
	const struct bmi_json *v = NULL;

	for (size_t i = 0; i < BMI_ARRAY_LEN(places) && !v; i++)
		v = places[i];
	if (!v || bmi_json_eq(v, "auto"))
		return 0;
	if (v->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "config.json: 'dtype' is no word");

	const bool prefixed = v->n > 6 && !memcmp(v->str, "torch.", 6);
	const char *word = v->str + (prefixed ? 6 : 0);
	const size_t n = v->n - (prefixed ? 6 : 0);

	for (size_t i = 0; i < BMI_ARRAY_LEN(dtype_words); i++)
		if (strlen(dtype_words[i].word) == n && !memcmp(dtype_words[i].word, word, n)) {
			c->has_dtype = true;
			c->dtype = dtype_words[i].dtype;
			return 0;
		}
	return bmi_fail(err, -EOPNOTSUPP, "config.json: dtype '%.*s' is not supported",
			(int)(v->n < 40 ? v->n : 40), v->str);
}

static int read_common(const struct bmi_json *json, const struct bmi_json *root, struct bmi_config *c,
		       struct bmi_error *err)
{
	const struct bmi_arch_keys *k = c->arch->keys;
	bool tie = k->tie, baked = false;
	double eps;
	int r = read_sizes(json, c, err);

	r = r ? r : read_act(json, c, err);
	r = r ? r : bmi_key_double(json, spelled(json, k->eps, "rms_norm_eps"), k->norm_eps, &eps, err);
	r = r ? r : bmi_key_bool(root, "tie_word_embeddings", tie, &tie, err);
	r = r ? r : bmi_key_bool(json, "tie_word_embeddings", tie, &c->tie_embeddings, err);
	r = r ? r : bmi_key_bool(json, "_bmifs_rope_interleaved", false, &c->rope_interleaved, err);
	r = r ? r : bmi_key_bool(json, "_bmifs_norm_baked", false, &baked, err);
	r = r ? r : read_dtype(json, root, c, err);
	if (r < 0)
		return r;
	if (eps < 0 || eps > 1)
		return bmi_fail(err, -EINVAL, "config.json: the norm's epsilon is %g, allowed are 0 to 1", eps);
	c->norm_eps = (float)eps;
	c->embed_scale = 1;
	c->attn_scale = (float)(1 / sqrt(c->head_dim));
	c->layer_is_sliding = bmi_arena_array(c->arena, c->n_layers, sizeof(bool));
	if (!c->layer_is_sliding)
		return bmi_fail(err, -ENOMEM, "config of %u layers", c->n_layers);

	r = c->arch->configure ? c->arch->configure(json, c, err) : 0;
	if (r == 0 && baked)
		c->norm_offset = 0;
	r = r ? r : read_layer_types(json, c, err);
	return r ? r : bmi_rope_read(json, c, err);
}

int bmi_config_read(const struct bmi_json *json, const struct bmi_arch *(*find)(const char *model_type),
		    struct bmi_config **ret, struct bmi_error *err)
{
	const struct bmi_json *root = json;
	const struct bmi_json *text = bmi_key_get(root, "text_config");
	bmi_auto(bmi_arena) arena = bmi_arena_new();
	struct bmi_config *c = arena ? bmi_arena_alloc(arena, sizeof(*c)) : NULL;
	int r;

	if (!c)
		return bmi_fail(err, -ENOMEM, "config");
	if (!root || root->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "config.json: not an object");
	if (text && text->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "config.json: 'text_config' is not an object");

	json = text ? text : root;
	c->arena = arena;
	c->json = json;
	r = refuse_quantized(root, err);
	r = r ? r : refuse_quantized(json, err);
	r = r ? r : find_arch(json, root, find, c, err);
	r = r ? r : read_common(json, root, c, err);
	if (r < 0)
		return r;

	bmi_steal(&arena);
	*ret = c;
	return 0;
}

void bmi_config_free(struct bmi_config *cfg)
{
	if (cfg)
		bmi_arena_free(cfg->arena);
}

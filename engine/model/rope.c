/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rotary frequencies, as Transformers' modeling_rope_utils.py computes them: tensors are float32, scalars are doubles that
 * become float32 when they meet a tensor, and scalar / tensor is the tensor's reciprocal times the scalar. Owns the two
 * spellings of the keys: rope_parameters (one set, or one per layer type) and the older rope_scaling with rope_theta.
 * Invariant: every inv_freq that leaves here is finite.
 */
#include "model/model_priv.h"

#include "model/keys.h"

#include <errno.h>
#include <math.h>

/* Where the keys of one set are looked for, in this order; either may be NULL. */
struct rope_keys {
	const struct bmi_json *over, *base;
	double theta;   /* where neither says */
	double partial; /* likewise */
};

static const struct bmi_json *get(const struct rope_keys *k, const char *key)
{
	const struct bmi_json *v = bmi_key_get(k->over, key);

	return v ? v : bmi_key_get(k->base, key);
}

static int get_double(const struct rope_keys *k, const char *key, double fallback, double *ret,
		      struct bmi_error *err)
{
	const struct bmi_json *from = bmi_key_get(k->over, key) ? k->over : k->base;

	return bmi_key_double(from, key, fallback, ret, err);
}

/* A number a type cannot do without. */
static int need_double(const struct rope_keys *k, const char *type, const char *key, double *ret,
		       struct bmi_error *err)
{
	if (!get(k, key))
		return bmi_fail(err, -EINVAL, "config.json: RoPE of type '%s' needs '%s'", type, key);
	return get_double(k, key, 0, ret, err);
}

/* 1 / base^(2i / dim) */
static void plain(float *inv_freq, uint32_t dim, double theta)
{
	for (uint32_t i = 0; i < dim / 2; i++)
		inv_freq[i] = 1.0f / powf((float)theta, (float)(2 * i) / (float)dim);
}

static int linear(const struct rope_keys *k, float *inv_freq, uint32_t n, struct bmi_error *err)
{
	double factor;
	int r = need_double(k, "linear", "factor", &factor, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < n; i++)
		inv_freq[i] /= (float)factor;
	return 0;
}

static int llama3(const struct rope_keys *k, const struct bmi_config *c, float *inv_freq, uint32_t n,
		  struct bmi_error *err)
{
	double factor, low, high, old;
	int r = need_double(k, "llama3", "factor", &factor, err);

	r = r ? r : need_double(k, "llama3", "low_freq_factor", &low, err);
	r = r ? r : need_double(k, "llama3", "high_freq_factor", &high, err);
	r = r ? r : get_double(k, "original_max_position_embeddings", c->max_positions, &old, err);
	if (r < 0)
		return r;

	const float low_wavelen = (float)(old / low), high_wavelen = (float)(old / high);

	for (uint32_t i = 0; i < n; i++) {
		const float wavelen = 1.0f / inv_freq[i] * (float)(2 * M_PI);
		const float scaled = wavelen > low_wavelen ? inv_freq[i] / (float)factor : inv_freq[i];
		const float smooth = (1.0f / wavelen * (float)old - (float)low) / (float)(high - low);
		const bool medium = !(wavelen < high_wavelen) && !(wavelen > low_wavelen);

		inv_freq[i] = medium ? (1.0f - smooth) * scaled / (float)factor + smooth * scaled : scaled;
	}
	return 0;
}

static double yarn_mscale(double scale, double mscale)
{
	return scale <= 1 ? 1 : 0.1 * mscale * log(scale) + 1;
}

/* The dimension that turns @n_rot times over the original context. */
static double yarn_dim(double n_rot, uint32_t dim, double theta, double positions)
{
	return dim * log(positions / (n_rot * 2 * M_PI)) / (2 * log(theta));
}

struct yarn {
	double factor, attention_factor, mscale, mscale_all, old, fast, slow;
	bool truncate;
};

static int yarn_read(const struct rope_keys *k, const struct bmi_config *c, struct yarn *y,
		     struct bmi_error *err)
{
	const struct bmi_json *truncate = get(k, "truncate");
	int r = get_double(k, "original_max_position_embeddings", c->max_positions, &y->old, err);

	if (r == 0 && !(y->old > 0))
		return bmi_fail(err, -EINVAL,
				"config.json: 'original_max_position_embeddings' must be above 0");
	r = r ? r : get_double(k, "factor", c->max_positions / y->old, &y->factor, err);
	r = r ? r : get_double(k, "mscale", 0, &y->mscale, err);
	r = r ? r : get_double(k, "mscale_all_dim", 0, &y->mscale_all, err);
	r = r ? r : get_double(k, "beta_fast", 32, &y->fast, err);
	r = r ? r : get_double(k, "beta_slow", 1, &y->slow, err);
	if (r < 0)
		return r;
	y->fast = y->fast == 0 ? 32 : y->fast;
	y->slow = y->slow == 0 ? 1 : y->slow;
	y->truncate = true;
	if (truncate && !bmi_json_to_bool(truncate, &y->truncate))
		return bmi_fail(err, -EINVAL, "config.json: 'truncate' is not true or false");

	const bool both = y->mscale != 0 && y->mscale_all != 0;
	const double usual = both ? yarn_mscale(y->factor, y->mscale) / yarn_mscale(y->factor, y->mscale_all)
				  : yarn_mscale(y->factor, 1);

	return get_double(k, "attention_factor", usual, &y->attention_factor, err);
}

static int yarn(const struct rope_keys *k, const struct bmi_config *c, double theta,
		struct bmi_rope_config *rope, struct bmi_error *err)
{
	const uint32_t dim = rope->n_rot;
	struct yarn y;
	int r = yarn_read(k, c, &y, err);
	double low, high;

	if (r < 0)
		return r;
	low = yarn_dim(y.fast, dim, theta, y.old);
	high = yarn_dim(y.slow, dim, theta, y.old);
	if (y.truncate) {
		low = floor(low);
		high = ceil(high);
	}
	low = low > 0 ? low : 0;
	high = high < dim - 1.0 ? high : dim - 1.0;
	if (low == high)
		high += 0.001; /* the peer's guard against a division by 0 */

	for (uint32_t i = 0; i < dim / 2; i++) {
		const float pos_freq = powf((float)theta, (float)(2 * i) / (float)dim);
		const float ramp = ((float)i - (float)low) / (float)(high - low);
		const float keep = 1.0f - (ramp < 0 ? 0 : ramp > 1 ? 1 : ramp);

		rope->inv_freq[i] =
			1.0f / ((float)y.factor * pos_freq) * (1.0f - keep) + 1.0f / pos_freq * keep;
	}
	rope->attention_factor = (float)y.attention_factor;
	return 0;
}

static int divide_by_factors(const struct bmi_json *factors, struct bmi_rope_config *rope, struct bmi_error *err)
{
	const struct bmi_json *f = factors->child;
	double d;

	if (factors->type != BMI_JSON_ARRAY || factors->n != rope->n_rot / 2)
		return bmi_fail(err, -EINVAL, "the file's rope factors are not %u numbers", rope->n_rot / 2);
	for (uint32_t i = 0; i < rope->n_rot / 2; i++, f = f->next) {
		if (!bmi_json_to_double(f, &d))
			return bmi_fail(err, -EINVAL, "the file's rope factor %u is not a number", i);
		rope->inv_freq[i] /= (float)d;
	}
	return 0;
}

static int check_finite(const struct bmi_rope_config *rope, struct bmi_error *err)
{
	for (uint32_t i = 0; i < rope->n_rot / 2; i++)
		if (!isfinite(rope->inv_freq[i]))
			return bmi_fail(err, -EINVAL,
					"config.json: the RoPE numbers give a frequency that is not finite");
	return isfinite(rope->attention_factor)
		       ? 0
		       : bmi_fail(
				 err, -EINVAL,
				 "config.json: the RoPE numbers give an attention factor that is not finite");
}

static int by_type(const struct rope_keys *k, const struct bmi_config *c, double theta,
		   struct bmi_rope_config *rope, struct bmi_error *err)
{
	const struct bmi_json *type = get(k, "rope_type");

	type = type ? type : get(k, "type");
	plain(rope->inv_freq, rope->n_rot, theta);
	if (!type || bmi_json_eq(type, "default"))
		return 0;
	if (bmi_json_eq(type, "linear"))
		return linear(k, rope->inv_freq, rope->n_rot / 2, err);
	if (bmi_json_eq(type, "llama3"))
		return llama3(k, c, rope->inv_freq, rope->n_rot / 2, err);
	if (bmi_json_eq(type, "yarn"))
		return yarn(k, c, theta, rope, err);
	if (!c->arch->forward || c->cannot_run)
		return 0; /* only planned: frequencies change no size */
	return bmi_fail(err, -EOPNOTSUPP,
			"config.json: RoPE type '%.*s' is not supported (supported: default, linear, llama3, "
			"yarn); use a "
			"release of the model without it",
			type->type == BMI_JSON_STRING ? (int)(type->n < 40 ? type->n : 40) : 1,
			type->type == BMI_JSON_STRING ? type->str : "?");
}

static int read_set(const struct bmi_json *json, const struct rope_keys *k, struct bmi_config *c,
		    struct bmi_rope_config *rope, struct bmi_error *err)
{
	const struct bmi_json *factors = bmi_key_get(json, "_bmifs_rope_factors");
	double theta, partial;
	int r = get_double(k, "rope_theta", k->theta, &theta, err);

	r = r ? r : get_double(k, "partial_rotary_factor", k->partial, &partial, err);
	if (r < 0)
		return r;
	if (!(theta > 1))
		return bmi_fail(err, -EINVAL, "config.json: 'rope_theta' is %g, it must be above 1", theta);
	if (!(partial > 0) || partial > 1)
		return bmi_fail(err, -EINVAL,
				"config.json: 'partial_rotary_factor' is %g, it must be in (0, 1]", partial);
	if (partial != 1 && c->arch->keys->rope_partial == 0)
		return bmi_fail(err, -EOPNOTSUPP,
				"config.json: 'partial_rotary_factor' %g is not supported for %s", partial,
				c->model_type);

	rope->n_rot = c->rope_dim ? c->rope_dim : (uint32_t)(c->head_dim * partial);
	rope->attention_factor = 1;
	if (rope->n_rot % 2 || rope->n_rot == 0)
		return bmi_fail(
			err, -EINVAL,
			"config.json: RoPE needs an even number of rotated elements, not %u of 'head_dim' %u",
			rope->n_rot, c->head_dim);
	rope->inv_freq = bmi_arena_array(c->arena, rope->n_rot / 2, sizeof(float));
	if (!rope->inv_freq)
		return bmi_fail(err, -ENOMEM, "rotary table");

	r = by_type(k, c, theta, rope, err);
	if (r == 0 && factors && rope == &c->rope_full)
		r = divide_by_factors(factors, rope, err);
	return r ? r : check_finite(rope, err);
}

/* Gemma 3: a set per layer type. rope_scaling, the older spelling, speaks of the full layers only. */
static int read_two(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const struct bmi_arch_keys *keys = c->arch->keys;
	const struct bmi_json *params = bmi_key_get(json, "rope_parameters");
	struct rope_keys full = { bmi_key_get(json, "rope_scaling"), bmi_key_get(params, "full_attention"), 0,
				  1 };
	struct rope_keys sliding = { NULL, bmi_key_get(params, "sliding_attention"), 0, 1 };
	int r = bmi_key_double(json, "rope_theta", keys->rope_theta, &full.theta, err);

	r = r ? r : bmi_key_double(json, "rope_local_base_freq", keys->rope_theta_sliding, &sliding.theta, err);
	r = r ? r : read_set(json, &full, c, &c->rope_full, err);
	return r ? r : read_set(json, &sliding, c, &c->rope_sliding, err);
}

int bmi_rope_read(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err)
{
	const struct bmi_arch_keys *keys = c->arch->keys;
	const struct bmi_json *params = bmi_key_get(json, "rope_scaling");
	struct rope_keys k = { NULL, NULL, 0, 1 };
	int r;

	if (keys->rope_theta == 0)
		return 0;
	if (keys->rope_theta_sliding != 0)
		return read_two(json, c, err);

	k.base = params && params->child ? params : bmi_key_get(json, "rope_parameters");
	if (k.base && k.base->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL,
				"config.json: 'rope_parameters' (or 'rope_scaling') is not an object");
	if (bmi_key_get(k.base, "full_attention") || bmi_key_get(k.base, "sliding_attention"))
		return bmi_fail(err, -EOPNOTSUPP,
				"config.json: 'rope_parameters' per layer type are not supported for %s",
				c->model_type);
	r = bmi_key_double(json, "rope_theta", keys->rope_theta, &k.theta, err);
	/* GPT-NeoX's own names */
	if (r == 0 && bmi_key_get(json, "rotary_emb_base"))
		r = bmi_key_double(json, "rotary_emb_base", k.theta, &k.theta, err);
	if (r == 0)
		r = bmi_key_double(json,
				   bmi_key_get(json, "rotary_pct") ? "rotary_pct" : "partial_rotary_factor",
				   keys->rope_partial ? keys->rope_partial : 1, &k.partial, err);
	r = r ? r : read_set(json, &k, c, &c->rope_full, err);
	if (r == 0)
		c->rope_sliding = c->rope_full;
	return r;
}

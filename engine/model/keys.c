/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Typed reading of config members. Owns the rule that null means "not given" and the sentences for what does not fit.
 * Invariant: on failure *ret is untouched.
 */
#include "model/keys.h"

#include <errno.h>
#include <math.h>

const struct bmi_json *bmi_key_get(const struct bmi_json *o, const char *key)
{
	const struct bmi_json *v = bmi_json_get(o, key);

	return v && v->type != BMI_JSON_NULL ? v : NULL;
}

/* A value as a message shows it: scalars as written, cut at 40 bytes. */
static int n_shown(const struct bmi_json *v)
{
	return v->n < 40 ? (int)v->n : 40;
}

static const char *shown(const struct bmi_json *v)
{
	switch (v->type) {
	case BMI_JSON_NUMBER:
	case BMI_JSON_STRING:
		return v->str;
	case BMI_JSON_BOOL:
		return v->boolean ? "true" : "false";
	default:
		return v->type == BMI_JSON_ARRAY ? "a list" : "an object";
	}
}

static int bad(const struct bmi_json *v, const char *key, const char *want, struct bmi_error *err)
{
	const bool scalar = v->type == BMI_JSON_NUMBER || v->type == BMI_JSON_STRING;

	return bmi_fail(err, -EINVAL, "config.json: '%s' is %.*s, not %s", key, scalar ? n_shown(v) : 10,
			shown(v), want);
}

int bmi_key_u32(const struct bmi_json *o, const char *key, uint32_t fallback, uint32_t min, uint32_t max,
		uint32_t *ret, struct bmi_error *err)
{
	const struct bmi_json *v = bmi_key_get(o, key);
	uint64_t n;

	if (!v) {
		*ret = fallback;
		return 0;
	}
	if (!bmi_json_to_u64(v, &n))
		return bad(v, key, "a whole number of at least 0", err);
	if (n < min || n > max)
		return bmi_fail(err, -EINVAL, "config.json: '%s' is %.*s, allowed are %u to %u", key,
				n_shown(v), v->str, min, max);
	*ret = (uint32_t)n;
	return 0;
}

int bmi_key_bool(const struct bmi_json *o, const char *key, bool fallback, bool *ret, struct bmi_error *err)
{
	const struct bmi_json *v = bmi_key_get(o, key);

	if (!v) {
		*ret = fallback;
		return 0;
	}
	return bmi_json_to_bool(v, ret) ? 0 : bad(v, key, "true or false", err);
}

int bmi_key_double(const struct bmi_json *o, const char *key, double fallback, double *ret,
		   struct bmi_error *err)
{
	const struct bmi_json *v = bmi_key_get(o, key);
	double d;

	if (!v) {
		*ret = fallback;
		return 0;
	}
	if (!bmi_json_to_double(v, &d) || !isfinite(d))
		return bad(v, key, "a finite number", err);
	*ret = d;
	return 0;
}

int bmi_key_refuse_true(const struct bmi_json *o, const char *key, struct bmi_error *err)
{
	bool on = false;
	int r = bmi_key_bool(o, key, false, &on, err);

	if (r == 0 && on)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"config.json: '%s' is true, which changes the arithmetic and is not supported", key);
	return r;
}

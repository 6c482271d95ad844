/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the typed look at GGUF metadata that other rooms use (gguf.h). Everything was checked when the header was read, so
 * nothing here compares with the header's end. Invariant: what is lent points into the header and lives as long as it.
 */
#include "weights/gguf_priv.h"

#include <endian.h>
#include <errno.h>
#include <string.h>

static const struct bmi_gguf_kv *find(const struct bmi_gguf *g, const char *key)
{
	return bmi_gguf_find(g, key, strlen(key));
}

static uint64_t load_le(const char *p, unsigned n)
{
	uint64_t x = 0;

	for (unsigned i = 0; i < n; i++)
		x |= (uint64_t)(unsigned char)p[i] << 8 * i;
	return x;
}

/* An integer of any width; false for other kinds. *ret_negative: it is below 0 and *ret its two's complement. */
static bool load_int(const char *p, uint8_t kind, uint64_t *ret, bool *ret_negative)
{
	const unsigned n = bmi_gguf_kind_bytes(kind);
	bool is_signed;

	switch (kind) {
	case BMI_GGUF_U8:
	case BMI_GGUF_U16:
	case BMI_GGUF_U32:
	case BMI_GGUF_U64:
		is_signed = false;
		break;
	case BMI_GGUF_I8:
	case BMI_GGUF_I16:
	case BMI_GGUF_I32:
	case BMI_GGUF_I64:
		is_signed = true;
		break;
	default:
		return false;
	}
	*ret = load_le(p, n);
	*ret_negative = is_signed && *ret >> (8 * n - 1);
	if (*ret_negative && n < 8)
		*ret |= UINT64_MAX << 8 * n;
	return true;
}

static bool load_double(const char *p, uint8_t kind, double *ret)
{
	if (kind == BMI_GGUF_F32) {
		const uint32_t bits = (uint32_t)load_le(p, 4);
		float f;

		memcpy(&f, &bits, sizeof(f));
		*ret = (double)f;
		return true;
	}
	if (kind == BMI_GGUF_F64) {
		const uint64_t bits = load_le(p, 8);

		memcpy(ret, &bits, sizeof(*ret));
		return true;
	}
	return false;
}

bool bmi_gguf_get_str(const struct bmi_gguf *g, const char *key, struct bmi_gguf_str *ret)
{
	const struct bmi_gguf_kv *kv = find(g, key);

	if (!kv || kv->kind != BMI_GGUF_STR)
		return false;
	*ret = (struct bmi_gguf_str){ g->head + kv->value, kv->n };
	return true;
}

bool bmi_gguf_get_u64(const struct bmi_gguf *g, const char *key, uint64_t *ret)
{
	const struct bmi_gguf_kv *kv = find(g, key);
	bool negative;
	uint64_t x;

	if (!kv || !load_int(g->head + kv->value, kv->kind, &x, &negative) || negative)
		return false;
	*ret = x;
	return true;
}

bool bmi_gguf_get_double(const struct bmi_gguf *g, const char *key, double *ret)
{
	const struct bmi_gguf_kv *kv = find(g, key);

	return kv && load_double(g->head + kv->value, kv->kind, ret);
}

bool bmi_gguf_get_bool(const struct bmi_gguf *g, const char *key, bool *ret)
{
	const struct bmi_gguf_kv *kv = find(g, key);

	if (!kv || kv->kind != BMI_GGUF_BOOL)
		return false;
	*ret = g->head[kv->value] != 0;
	return true;
}

int bmi_gguf_get_strs(const struct bmi_gguf *g, const char *key, struct bmi_gguf_str **ret, size_t *ret_n)
{
	const struct bmi_gguf_kv *kv = find(g, key);
	struct bmi_gguf_str *strs;
	uint64_t at;

	if (!kv)
		return -ENOENT;
	if (kv->kind != BMI_GGUF_ARR || kv->elem != BMI_GGUF_STR)
		return -EINVAL;
	strs = reallocarray(NULL, kv->n ? kv->n : 1, sizeof(*strs));
	if (!strs)
		return -ENOMEM;
	at = kv->value;
	for (uint64_t i = 0; i < kv->n; i++) {
		strs[i].n = load_le(g->head + at, 8);
		strs[i].bytes = g->head + at + 8;
		at += 8 + strs[i].n;
	}
	*ret = strs;
	*ret_n = kv->n;
	return 0;
}

int bmi_gguf_get_floats(const struct bmi_gguf *g, const char *key, float **ret, size_t *ret_n)
{
	const struct bmi_gguf_kv *kv = find(g, key);
	float *floats;

	if (!kv)
		return -ENOENT;
	if (kv->kind != BMI_GGUF_ARR || (kv->elem != BMI_GGUF_F32 && kv->elem != BMI_GGUF_F64))
		return -EINVAL;
	floats = reallocarray(NULL, kv->n ? kv->n : 1, sizeof(*floats));
	if (!floats)
		return -ENOMEM;
	for (uint64_t i = 0; i < kv->n; i++) {
		double x = 0;

		(void)load_double(g->head + kv->value + i * bmi_gguf_kind_bytes(kv->elem), kv->elem, &x);
		floats[i] = (float)x;
	}
	*ret = floats;
	*ret_n = kv->n;
	return 0;
}

int bmi_gguf_get_ints(const struct bmi_gguf *g, const char *key, int64_t **ret, size_t *ret_n)
{
	const struct bmi_gguf_kv *kv = find(g, key);
	bmi_auto_mem int64_t *ints = NULL;
	uint64_t x;
	bool negative;

	if (!kv)
		return -ENOENT;
	if (kv->kind != BMI_GGUF_ARR)
		return -EINVAL;
	if (kv->elem != BMI_GGUF_BOOL &&
	    (kv->elem == BMI_GGUF_F32 || kv->elem == BMI_GGUF_F64 || !bmi_gguf_kind_bytes(kv->elem)))
		return -EINVAL;
	ints = reallocarray(NULL, kv->n ? kv->n : 1, sizeof(*ints));
	if (!ints)
		return -ENOMEM;
	for (uint64_t i = 0; i < kv->n; i++) {
		const char *p = g->head + kv->value + i * bmi_gguf_kind_bytes(kv->elem);

		if (kv->elem == BMI_GGUF_BOOL) {
			ints[i] = p[0] != 0;
			continue;
		}
		if (!load_int(p, kv->elem, &x, &negative) || (!negative && x > INT64_MAX))
			return -EINVAL;
		ints[i] = (int64_t)x;
	}
	*ret = bmi_steal(&ints);
	*ret_n = kv->n;
	return 0;
}

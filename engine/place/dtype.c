/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for the dtype of the weights: PyTorch's names, floating ones only. Owns no arithmetic.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *word;
	enum bmi_dtype dtype;
} floating[] = {
	{ "float32", BMI_F32 },   { "float", BMI_F32 },   { "float16", BMI_F16 }, { "half", BMI_F16 },
	{ "bfloat16", BMI_BF16 }, { "float64", BMI_F64 }, { "double", BMI_F64 },
};

/* Types PyTorch has that weights cannot be computed in. */
static const char *const others[] = {
	"int8",    "int16",      "int32",  "int64",  "short",     "int",       "long",  "uint8",
	"uint16",  "uint32",     "uint64", "bool",   "complex32", "complex64", "chalf", "cfloat",
	"cdouble", "complex128", "qint8",  "qint32", "quint8",    "quint4x2",
};

static bool is_word(const char *s, size_t n, const char *word)
{
	return strlen(word) == n && !memcmp(s, word, n);
}

int bmi_dtype_parse(const char *text, size_t n, enum bmi_dtype *ret, bool *ret_auto,
		    enum bmi_place_error *ret_kind, struct bmi_error *err)
{
	const char *s = text;

	while (n && strchr(" \t\r\n", *s) && *s)
		s++, n--;
	while (n && strchr(" \t\r\n", s[n - 1]) && s[n - 1])
		n--;
	*ret_auto = n == 0 || is_word(s, n, "auto");
	if (*ret_auto)
		return 0;
	if (n > 6 && !memcmp(s, "torch.", 6)) {
		s += 6;
		n -= 6;
	}
	for (size_t i = 0; i < BMI_ARRAY_LEN(floating); i++)
		if (is_word(s, n, floating[i].word)) {
			*ret = floating[i].dtype;
			return 0;
		}
	for (size_t i = 0; i < BMI_ARRAY_LEN(others); i++)
		if (is_word(s, n, others[i]))
			return bmi_refuse(
				ret_kind, BMI_PLACE_NON_FLOATING_DTYPE, err, -EINVAL,
				"%s is not a floating-point dtype: write float32, float16, bfloat16 or auto",
				others[i]);
	return bmi_refuse(ret_kind, BMI_PLACE_BAD_DTYPE, err, -EINVAL,
			  "'%.*s' is no dtype: write float32, float16, bfloat16 or auto",
			  n < 60 ? (int)n : 60, s);
}

int bmi_dtype_resolve(const char *asked, const char *config, const char *const *stored, size_t n,
		      enum bmi_dtype *ret, enum bmi_place_error *ret_kind, struct bmi_error *err)
{
	static const struct {
		const char *stored, *word;
	} words[] = {
		{ "F32", "float32" }, { "F16", "float16" }, { "BF16", "bfloat16" }, { "F64", "float64" },
		{ "I8", "int8" },     { "I16", "int16" },   { "I32", "int32" },     { "I64", "int64" },
		{ "U8", "uint8" },    { "U16", "uint16" },  { "U32", "uint32" },    { "U64", "uint64" },
		{ "BOOL", "bool" },
	};
	enum { N_FLOATING = 4 };
	bool none;
	int r = bmi_dtype_parse(asked, strlen(asked), ret, &none, ret_kind, err);

	if (r == 0 && none && config)
		r = bmi_dtype_parse(config, strlen(config), ret, &none, ret_kind, err);
	if (r < 0 || !none)
		return r;
	for (size_t i = 0; i < n; i++)
		for (size_t k = 0; k < N_FLOATING; k++)
			if (!strcmp(stored[i], words[k].stored))
				return bmi_dtype_parse(words[k].word, strlen(words[k].word), ret, &none,
						       ret_kind, err);
	for (size_t k = 0; k < BMI_ARRAY_LEN(words) && n; k++)
		if (!strcmp(stored[0], words[k].stored))
			return bmi_dtype_parse(words[k].word, strlen(words[k].word), ret, &none, ret_kind, err);
	if (n)
		return bmi_refuse(
			ret_kind, BMI_PLACE_BAD_DTYPE, err,
			-EINVAL, "the weights are of type %.40s, which is not supported: write float32, float16 or bfloat16",
			stored[0]);
	*ret = BMI_F32; /* no tensor at all: the peer's default */
	return 0;
}

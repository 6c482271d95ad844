/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BASE_DTYPE_H
#define BMI_BASE_DTYPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* Element types of a checkpoint. The first three are also what weights are kept and computed in. */
enum bmi_dtype {
	BMI_F32,
	BMI_F16,
	BMI_BF16,
	BMI_F64,
	BMI_I8,
	BMI_U8,
	BMI_BOOL,
	BMI_I16,
	BMI_I32,
	BMI_I64,
	BMI_Q4_0, /* GGUF blocks from here on */
	BMI_Q4_1,
	BMI_Q5_0,
	BMI_Q5_1,
	BMI_Q8_0,
	BMI_Q4_K,
	BMI_Q5_K,
	BMI_Q6_K,
	BMI_N_DTYPES,
};

/* How an element type is laid out: blocks of block_len elements in block_bytes bytes (1 element for plain types). */
struct bmi_dtype_info {
	const char *name; /* "float32", "bfloat16", "q4_1": what files and messages say */
	uint16_t block_len, block_bytes;
	bool is_floating; /* float32, float16, bfloat16, float64 */
};

/** bmi_dtype_info() - facts of one type; @dtype must be below BMI_N_DTYPES. */
const struct bmi_dtype_info *bmi_dtype_info(enum bmi_dtype dtype);

static inline const char *bmi_dtype_name(enum bmi_dtype dtype)
{
	return bmi_dtype_info(dtype)->name;
}

/** bmi_dtype_bytes() - bytes of @n elements. Return: false when n is not whole blocks or the result overflows. */
bool bmi_dtype_bytes(enum bmi_dtype dtype, uint64_t n, uint64_t *ret_bytes);

/* float32 <-> bfloat16, float16. To the narrow type: round to nearest even, NaN stays NaN, overflow becomes infinity. */
static inline float bmi_f32_from_bf16(uint16_t h)
{
	const uint32_t bits = (uint32_t)h << 16;
	float f;

	memcpy(&f, &bits, sizeof(f));
	return f;
}

static inline uint16_t bmi_bf16_from_f32(float f)
{
	uint32_t bits;

	memcpy(&bits, &f, sizeof(bits));
	if ((bits & 0x7fffffff) > 0x7f800000)
		return (uint16_t)(bits >> 16) | 0x40; /* quiet NaN */
	return (uint16_t)((bits + 0x7fff + ((bits >> 16) & 1)) >> 16);
}

float bmi_f32_from_f16(uint16_t h);
uint16_t bmi_f16_from_f32(float f);

#endif

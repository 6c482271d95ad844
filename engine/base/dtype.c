/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the table of element types and the scalar float conversions; bulk conversions live with their users. */
#include "base/dtype.h"

#include "base/checked.h"

#include <assert.h>

/* a type a line */
/* clang-format off */
static const struct bmi_dtype_info infos[BMI_N_DTYPES] = {
	[BMI_F32] = { "float32", 1, 4, true },
	[BMI_F16] = { "float16", 1, 2, true },
	[BMI_BF16] = { "bfloat16", 1, 2, true },
	[BMI_F64] = { "float64", 1, 8, true },
	[BMI_I8] = { "int8", 1, 1, false },
	[BMI_U8] = { "uint8", 1, 1, false },
	[BMI_BOOL] = { "bool", 1, 1, false },
	[BMI_I16] = { "int16", 1, 2, false },
	[BMI_I32] = { "int32", 1, 4, false },
	[BMI_I64] = { "int64", 1, 8, false },
	[BMI_Q4_0] = { "q4_0", 32, 18, false },
	[BMI_Q4_1] = { "q4_1", 32, 20, false },
	[BMI_Q5_0] = { "q5_0", 32, 22, false },
	[BMI_Q5_1] = { "q5_1", 32, 24, false },
	[BMI_Q8_0] = { "q8_0", 32, 34, false },
	[BMI_Q4_K] = { "q4_k", 256, 144, false },
	[BMI_Q5_K] = { "q5_k", 256, 176, false },
	[BMI_Q6_K] = { "q6_k", 256, 210, false },
};
/* clang-format on */

const struct bmi_dtype_info *bmi_dtype_info(enum bmi_dtype dtype)
{
	assert(dtype < BMI_N_DTYPES);
	return &infos[dtype];
}

bool bmi_dtype_bytes(enum bmi_dtype dtype, uint64_t n, uint64_t *ret_bytes)
{
	const struct bmi_dtype_info *info = bmi_dtype_info(dtype);

	return n % info->block_len == 0 && bmi_mul(n / info->block_len, info->block_bytes, ret_bytes);
}

/* Subnormal halves are value * 2^-24: exact in float32. */
float bmi_f32_from_f16(uint16_t h)
{
	const uint32_t sign = (uint32_t)(h & 0x8000) << 16, exp = (h >> 10) & 31, man = h & 0x3ff;
	uint32_t bits;
	float f;

	if (exp == 0) {
		f = (float)man * 0x1p-24f;
		return sign ? -f : f;
	}
	bits = sign | (exp == 31 ? 0x7f800000 : (exp + 112) << 23) | man << 13;
	memcpy(&f, &bits, sizeof(f));
	return f;
}

/* Adding 0.5 * 2^(e+1) aligns the kept mantissa bits so that the FPU itself rounds to nearest even. */
uint16_t bmi_f16_from_f32(float f)
{
	uint32_t bits, sign;
	float mag;

	memcpy(&bits, &f, sizeof(bits));
	sign = (bits >> 16) & 0x8000;
	bits &= 0x7fffffff;
	if (bits > 0x7f800000)
		return (uint16_t)(sign | 0x7e00);
	if (bits >= 0x477ff000) /* 65520 and more round to infinity */
		return (uint16_t)(sign | 0x7c00);
	if (bits < 0x38800000) { /* below 2^-14: a subnormal half */
		memcpy(&mag, &bits, sizeof(mag));
		mag += 0.5f;
		memcpy(&bits, &mag, sizeof(bits));
		return (uint16_t)(sign | (bits - 0x3f000000));
	}
	bits += 0xfff + ((bits >> 13) & 1);
	return (uint16_t)(sign | ((bits - 0x38000000) >> 13));
}

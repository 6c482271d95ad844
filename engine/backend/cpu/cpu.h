/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_CPU_H
#define BMI_BACKEND_CPU_CPU_H

#include "backend/backend.h"

extern const struct bmi_backend bmi_backend_cpu;

/**
 * bmi_cpu_open() - start the CPU tier: find the best kernels this CPU runs, start n_threads - 1 workers.
 * @n_threads: 0 takes the CPUs this process may run on (affinity mask).
 * @isa:       NULL for the best; or "ref", "avx2", "avx512": at most this set. -EINVAL when unknown.
 * @ret:       closed with bmi_backend_cpu.close().
 *
 * Return: 0, -EINVAL, -ENOMEM, -EAGAIN (no thread could be started).
 */
int bmi_cpu_open(unsigned n_threads, const char *isa, struct bmi_dev **ret, struct bmi_error *err);

/** bmi_cpu_describe() - e.g. "avx512f, 2 threads": what `status` says. Lent; lives as long as the device. */
const char *bmi_cpu_describe(const struct bmi_dev *dev);

/** bmi_cpu_parallel() - run fn(arg, i) for each i < n on the device's threads; returns when all are done. For conversions. */
void bmi_cpu_parallel(struct bmi_dev *dev, void (*fn)(void *arg, uint32_t i), void *arg, uint32_t n);

/**
 * bmi_cpu_convert() - plain or GGUF-quantized elements to float32, float16 or bfloat16.
 * @dst: @n elements of @to (BMI_F32, BMI_F16, BMI_BF16).  @src: @n elements of @from in its file layout, any alignment.
 *
 * Narrowing rounds to nearest even from the exact float32 value. GGUF blocks as ggml's dequantize_row_*.
 * One thread; callers split by rows. Return: 0, -EOPNOTSUPP (integer types), -EINVAL (n not whole blocks).
 */
int bmi_cpu_convert(void *dst, enum bmi_dtype to, const void *src, enum bmi_dtype from, size_t n);

#endif

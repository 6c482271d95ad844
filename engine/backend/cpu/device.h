/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_BACKEND_CPU_DEVICE_H
#define BMI_BACKEND_CPU_DEVICE_H

#include "backend/cpu/cpu.h"
#include "backend/cpu/kernels.h"
#include "backend/cpu/pool.h"

/* The open CPU tier: one kernel set, one pool, one scratch a thread. Set at open, constant after. */
struct bmi_dev {
	const struct bmi_kernels *k;
	struct bmi_pool *pool;
	struct bmi_scratch *scratch; /* [n_threads] */
	unsigned n_threads;
	char describe[64];
};

extern const struct bmi_ops bmi_cpu_ops;

/* Of that table, in ops_more.c: what only some families need. */
int bmi_cpu_copy(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_rows,
		 uint32_t dim);
int bmi_cpu_scale(struct bmi_dev *dev, float *x, size_t n, float s);
int bmi_cpu_matmul_turned(struct bmi_dev *dev, float *y, size_t ldy, const struct bmi_mat *w, const float *x,
			  size_t ldx, uint32_t n_tok, bool more);
int bmi_cpu_glu_pairs(struct bmi_dev *dev, float *y, size_t ldy, const float *x, size_t ldx, uint32_t n_tok,
		      uint32_t dim, float limit, float alpha);

#endif

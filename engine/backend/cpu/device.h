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

#endif

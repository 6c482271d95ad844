/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_MODEL_PRIV_H
#define BMI_MODEL_MODEL_PRIV_H

#include "model/skel.h"

/* A bound that only a fuzzer's build leaves out, to show that the fuzzer finds it (tests/fuzz/README.md). */
#ifdef BMI_PLANT_BUG_CONFIG_JSON
enum { BMI_PLANTED_CONFIG_JSON = 1 };
#else
enum { BMI_PLANTED_CONFIG_JSON = 0 };
#endif

/**
 * bmi_rope_read() - fill c->rope_full and c->rope_sliding from rope_parameters (or rope_scaling and rope_theta).
 * Needs c->arch, arena, head_dim and max_positions. -EINVAL, -EOPNOTSUPP (type not computed here), -ENOMEM.
 */
int bmi_rope_read(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err);

#endif

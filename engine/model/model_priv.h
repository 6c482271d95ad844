/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_MODEL_PRIV_H
#define BMI_MODEL_MODEL_PRIV_H

#include "model/skel.h"

/**
 * bmi_rope_read() - fill c->rope_full and c->rope_sliding from rope_parameters (or rope_scaling and rope_theta).
 * Needs c->arch, arena, head_dim and max_positions. -EINVAL, -EOPNOTSUPP (type not computed here), -ENOMEM.
 */
int bmi_rope_read(const struct bmi_json *json, struct bmi_config *c, struct bmi_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_PLACE_MISSING_H
#define BMI_PLACE_MISSING_H

#include "place/place_priv.h"

/**
 * bmi_missing_names() - "model.layers.3, model.norm": parameters without a device; a module's name where all of it is
 * missing. Empty when nothing is. @device: [n_tensors]. Return: 0, -ENOMEM.
 */
int bmi_missing_names(const struct bmi_skel *skel, const bmi_device *device, struct bmi_str *ret);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_PLACE_MISSING_H
#define BMI_PLACE_MISSING_H

#include "place/place_priv.h"

/**
 * bmi_map_spread() - the lines of a map of one's own to devices of tensors.
 * @need_all: refuse a map that leaves a parameter without a device; buffers may be left out.
 * @device:   [n_tensors]; BMI_DEVICE_NONE where no line says anything.
 * @list:     [map->n_entries], the lines with what they mean; or NULL.
 *
 * -EINVAL: BMI_PLACE_UNKNOWN_MODULE with all unknown names, and all that is missing beside; BMI_PLACE_MISSING_PARAMS. -ENOMEM.
 */
int bmi_map_spread(const struct bmi_skel *skel, const struct bmi_map *map, bool need_all, bmi_device *device,
		   struct bmi_placed *list, enum bmi_place_error *kind, struct bmi_error *err);

#endif

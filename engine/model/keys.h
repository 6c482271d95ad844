/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_KEYS_H
#define BMI_MODEL_KEYS_H

#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

/*
 * Members of a config object, for configure hooks. A member that is missing or JSON null gives the fallback; one of
 * another kind or out of range is -EINVAL with the key, the value and the limits in the sentence.
 */

/** bmi_key_get() - the member, NULL when missing or null. */
const struct bmi_json *bmi_key_get(const struct bmi_json *o, const char *key);

int bmi_key_u32(const struct bmi_json *o, const char *key, uint32_t fallback, uint32_t min, uint32_t max,
		uint32_t *ret, struct bmi_error *err);
int bmi_key_bool(const struct bmi_json *o, const char *key, bool fallback, bool *ret, struct bmi_error *err);
/* Finite numbers only. */
int bmi_key_double(const struct bmi_json *o, const char *key, double fallback, double *ret,
		   struct bmi_error *err);

/** bmi_key_refuse_true() - -EOPNOTSUPP when a switch that changes the arithmetic is on. */
int bmi_key_refuse_true(const struct bmi_json *o, const char *key, struct bmi_error *err);

#endif

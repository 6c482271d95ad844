/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_PARAMS_H
#define BMI_RUN_PARAMS_H

#include "base/error.h"
#include "base/json.h"
#include "base/str.h"

#include <stdbool.h>
#include <stdint.h>

enum bmi_template { BMI_TEMPLATE_RAW, BMI_TEMPLATE_CHAT, BMI_TEMPLATE_IDS };

enum { BMI_MAX_STOPS = 16, BMI_MAX_STOP_BYTES = 256 };

/* How a turn is generated: the files in params/. Plain data, copied into each turn when it is submitted. */
struct bmi_params {
	double temperature; /* 0: greedy */
	double top_p, min_p;
	double repetition_penalty, presence_penalty, frequency_penalty;
	uint32_t top_k; /* 0: all */
	uint32_t max_tokens;
	int64_t seed; /* -1: another one for each turn, told in status */
	bool parse_special, ignore_eos;
	enum bmi_template template;
	uint32_t n_stops;
	struct {
		uint16_t n;
		char bytes[BMI_MAX_STOP_BYTES];
	} stop[BMI_MAX_STOPS];
};

/** bmi_params_init() - the defaults, then what generation_config.json says. @gen: its object or NULL. */
void bmi_params_init(struct bmi_params *p, const struct bmi_json *gen);

/** bmi_params_set() - one value from text; *p is untouched on failure. -ENOENT, -EINVAL, -ERANGE, -EOPNOTSUPP. */
int bmi_params_set(struct bmi_params *p, const char *name, const char *text, size_t n, struct bmi_error *err);

/** bmi_params_get() - append the value and a newline. -ENOENT, -ENOMEM. */
int bmi_params_get(const struct bmi_params *p, const char *name, struct bmi_str *ret);

/** bmi_params_name() - the i-th name, NULL past the end. */
const char *bmi_params_name(unsigned i);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words for devices and kinds of refusal. Owns the spellings: what the peer prints is what we print, what people write
 * for a GPU ("0", "cuda:0", "gpu0") is one device everywhere.
 */
#include "place/place_priv.h"

#include <stdio.h>
#include <string.h>

const char *bmi_place_error_name(enum bmi_place_error kind)
{
	static const char *const names[] = {
		[BMI_PLACE_OK] = "ok",
		[BMI_PLACE_BAD_MODE] = "bad_mode",
		[BMI_PLACE_NEGATIVE_DEVICE] = "negative_device",
		[BMI_PLACE_BAD_DEVICE] = "bad_device",
		[BMI_PLACE_DEVICE_UNAVAILABLE] = "device_unavailable",
		[BMI_PLACE_MISSING_PARAMS] = "missing_params",
		[BMI_PLACE_UNKNOWN_MODULE] = "unknown_module",
		[BMI_PLACE_BAD_SIZE] = "bad_size",
		[BMI_PLACE_BAD_MAX_MEMORY_DEVICE] = "bad_max_memory_device",
		[BMI_PLACE_NON_FLOATING_DTYPE] = "non_floating_dtype",
		[BMI_PLACE_BAD_DTYPE] = "bad_dtype",
		[BMI_PLACE_UNSUPPORTED_DTYPE] = "unsupported_dtype",
		[BMI_PLACE_NO_ROOM] = "no_room",
		[BMI_PLACE_SYNTAX] = "syntax",
	};

	return (size_t)kind < BMI_ARRAY_LEN(names) ? names[kind] : "unknown";
}

const char *bmi_device_print(bmi_device device, char buf[16])
{
	switch (device) {
	case BMI_DEVICE_CPU:
		return strcpy(buf, "cpu");
	case BMI_DEVICE_DISK:
		return strcpy(buf, "disk");
	case BMI_DEVICE_MPS:
		return strcpy(buf, "mps");
	case BMI_DEVICE_NONE:
		return strcpy(buf, "nowhere");
	default:
		snprintf(buf, 16, "%d", device);
		return buf;
	}
}

/* A GPU's number: digits, at most 5 of them, which is more than any machine has. */
static bool number(const char *s, size_t n, bmi_device *ret)
{
	bmi_device d = 0;

	if (n == 0 || n > 5)
		return false;
	for (size_t i = 0; i < n; i++) {
		if (s[i] < '0' || s[i] > '9')
			return false;
		d = d * 10 + (s[i] - '0');
	}
	*ret = d;
	return true;
}

bool bmi_device_parse(const char *word, size_t n, bmi_device *ret)
{
	static const struct {
		const char *word;
		bmi_device device;
	} words[] = {
		{ "cpu", BMI_DEVICE_CPU },
		{ "disk", BMI_DEVICE_DISK },
		{ "mps", BMI_DEVICE_MPS },
		{ "cuda", 0 },
	};

	for (size_t i = 0; i < BMI_ARRAY_LEN(words); i++)
		if (strlen(words[i].word) == n && !memcmp(words[i].word, word, n)) {
			*ret = words[i].device;
			return true;
		}
	if (n > 5 && !memcmp(word, "cuda:", 5))
		return number(word + 5, n - 5, ret);
	if (n > 3 && !memcmp(word, "gpu", 3))
		return number(word + 3, n - 3, ret);
	return number(word, n, ret);
}

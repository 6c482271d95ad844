/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_RATES_H
#define BMI_RUN_RATES_H

#include "backend/backend.h"
#include "base/error.h"
#include "base/extent.h"

#include <stdbool.h>

/* How fast weights can be read on this machine, in bytes a second. */
struct bmi_rates {
	double ram, disk, gpu;
	bool measured; /* else conservative assumptions */
};

/** bmi_rates_default() - two channels of DDR4 at a third of their peak, a SATA SSD, the memory of a small card. */
void bmi_rates_default(struct bmi_rates *ret);

/**
 * bmi_rates_load() - what was measured on this machine before, else the defaults.
 * @path: the cache file; one of another machine (/etc/machine-id), damaged or absent gives the defaults.
 */
void bmi_rates_load(const char *path, struct bmi_rates *ret);

/** bmi_rates_save() - write the cache file, whole or not at all. Return: 0 or -errno with the path named. */
int bmi_rates_save(const char *path, const struct bmi_rates *rates, struct bmi_error *err);

/**
 * bmi_rates_path() - where the cache is: $XDG_CACHE_HOME/bmifs/rates.json, else ~/.cache/bmifs, else /var/cache/bmifs.
 * Return: 0, -ENAMETOOLONG.
 */
int bmi_rates_path(char *buf, size_t size);

/**
 * bmi_rates_measure() - measure RAM with a product of a matrix larger than the caches, and disk with reads around the
 * page cache. Takes about a second and 256 MiB.
 * @dev:     an open CPU tier.
 * @extents: [n] parts of the checkpoint to read, 256 MiB of them at most.
 */
int bmi_rates_measure(struct bmi_dev *dev, const struct bmi_extent *extents, size_t n, struct bmi_rates *ret,
		      struct bmi_error *err);

#endif

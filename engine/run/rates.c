/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what is known of this machine's bandwidths: the measurement, and the file that keeps it. Invariant: rates are
 * finite and between a megabyte and a hundred terabytes a second; whatever a file says otherwise is not believed.
 */
#include "run/rates.h"

#include "backend/cpu/cpu.h"
#include "backend/disk/disk.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/str.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

enum {
	MATRIX_COLS = 4096,
	MATRIX_BYTES = 192 << 20, /* six times the last-level cache of a large desktop CPU */
	RAM_RUNS = 5,
	DISK_SLOTS = 16, /* reads in flight and their size: as the stream does it */
	DISK_BLOCK = 1 << 20,
	DISK_BYTES = 256 << 20,
	CACHE_FILE_MAX = 4096,
};

static const double min_rate = 1e6, max_rate = 1e14;

void bmi_rates_default(struct bmi_rates *ret)
{
	*ret = (struct bmi_rates){ .ram = 10e9, .disk = 0.5e9, .gpu = 200e9 };
}

static double now_s(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- the file ---- */

int bmi_rates_path(char *buf, size_t size)
{
	const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
	int n;

	if (xdg && xdg[0] == '/')
		n = snprintf(buf, size, "%s/bmifs/rates.json", xdg);
	else if (home && home[0] == '/')
		n = snprintf(buf, size, "%s/.cache/bmifs/rates.json", home);
	else
		n = snprintf(buf, size, "/var/cache/bmifs/rates.json");
	return n > 0 && (size_t)n < size ? 0 : -ENAMETOOLONG;
}

/* 32 hexadecimal digits; "" where there is no such file. */
static void machine_id(char ret[40])
{
	bmi_auto_mem char *text = NULL;
	size_t n;

	ret[0] = 0;
	if (bmi_file_read(AT_FDCWD, "/etc/machine-id", 256, &text, &n, NULL) == 0)
		snprintf(ret, 40, "%.*s", (int)strspn(text, "0123456789abcdef"), text);
}

static bool get_rate(const struct bmi_json *obj, const char *key, double *ret)
{
	double x;

	if (!bmi_json_to_double(bmi_json_get(obj, key), &x) || !(x >= min_rate && x <= max_rate))
		return false;
	*ret = x;
	return true;
}

void bmi_rates_load(const char *path, struct bmi_rates *ret)
{
	bmi_auto_mem char *text = NULL;
	struct bmi_json_doc *doc = NULL;
	const struct bmi_json *root;
	struct bmi_rates rates;
	char id[40];
	size_t n;

	bmi_rates_default(ret);
	bmi_rates_default(&rates);
	if (bmi_file_read(AT_FDCWD, path, CACHE_FILE_MAX, &text, &n, NULL) < 0 ||
	    bmi_json_parse(text, n, &doc, NULL) < 0)
		return;
	machine_id(id);
	root = bmi_json_root(doc);
	if (bmi_json_eq(bmi_json_get(root, "machine"), id) && get_rate(root, "ram_bytes_per_s", &rates.ram) &&
	    get_rate(root, "disk_bytes_per_s", &rates.disk)) {
		get_rate(root, "gpu_bytes_per_s", &rates.gpu);
		rates.measured = true;
		*ret = rates;
	}
	bmi_json_free(doc);
}

/* mkdir -p of the directory that @path is in. */
static int make_parents(const char *path)
{
	char dir[4096];

	if (strlen(path) >= sizeof(dir))
		return -ENAMETOOLONG;
	strcpy(dir, path);
	for (char *p = strchr(dir + 1, '/'); p; p = strchr(p + 1, '/')) {
		*p = 0;
		if (mkdir(dir, 0755) < 0 && errno != EEXIST)
			return -errno;
		*p = '/';
	}
	return 0;
}

int bmi_rates_save(const char *path, const struct bmi_rates *rates, struct bmi_error *err)
{
	bmi_auto_str text = { 0 };
	char tmp[4096 + 16], id[40];
	int fd, r = make_parents(path);

	if (r < 0)
		return bmi_fail_errno(err, r, "make the directory of '%s'", path);
	machine_id(id);
	bmi_str_printf(&text,
		       "{\"machine\": \"%s\", \"ram_bytes_per_s\": %.0f, \"disk_bytes_per_s\": %.0f, "
		       "\"gpu_bytes_per_s\": %.0f}\n",
		       id, rates->ram, rates->disk, rates->gpu);
	snprintf(tmp, sizeof(tmp), "%s.XXXXXX", path);
	fd = mkostemp(tmp, O_CLOEXEC);
	if (fd < 0)
		return bmi_fail_errno(err, -errno, "create '%s'", tmp);
	r = bmi_str_ok(&text) ? bmi_file_write(fd, text.bytes, text.n) : -ENOMEM;
	if (close(fd) < 0 && r == 0)
		r = -errno;
	if (r == 0 && rename(tmp, path) < 0)
		r = -errno;
	if (r < 0) {
		unlink(tmp);
		return bmi_fail_errno(err, r, "write '%s'", path);
	}
	return 0;
}

/* ---- the measurement ---- */

static int measure_ram(struct bmi_dev *dev, double *ret, struct bmi_error *err)
{
	const uint32_t n_rows = MATRIX_BYTES / (MATRIX_COLS * 2);
	bmi_auto_mem float *x = calloc(MATRIX_COLS, sizeof(*x)), *y = calloc(n_rows, sizeof(*y));
	struct bmi_buf buf = { 0 };
	double best = 0;
	int r;

	if (!x || !y)
		return bmi_fail(err, -ENOMEM, "no memory to measure with");
	r = bmi_backend_cpu.alloc(dev, MATRIX_BYTES, &buf, err);
	if (r < 0)
		return r;
	memset(buf.data, 0, buf.size);
	for (unsigned i = 0; i < RAM_RUNS && r == 0; i++) {
		const struct bmi_mat w = { buf.data, BMI_BF16, n_rows, MATRIX_COLS, MATRIX_COLS * 2 };
		const double from = now_s();
		double rate;

		r = bmi_backend_cpu.ops->matmul(dev, y, n_rows, &w, x, MATRIX_COLS, 1);
		rate = MATRIX_BYTES / (now_s() - from);
		best = rate > best ? rate : best;
	}
	bmi_backend_cpu.release(dev, &buf);
	*ret = best;
	return r;
}

/* The i-th block of the extents laid end to end; len 0: there is none. */
static struct bmi_extent block_at(const struct bmi_extent *extents, size_t n, uint64_t i)
{
	uint64_t off = i * DISK_BLOCK;

	for (size_t k = 0; k < n; k++) {
		if (off < extents[k].len) {
			const uint64_t left = extents[k].len - off;

			return (struct bmi_extent){ extents[k].fd, extents[k].off + off,
						    left < DISK_BLOCK ? left : DISK_BLOCK };
		}
		off -= extents[k].len;
	}
	return (struct bmi_extent){ 0 };
}

static int measure_disk(const struct bmi_extent *extents, size_t n, double *ret, struct bmi_error *err)
{
	const uint64_t n_blocks = DISK_BYTES / DISK_BLOCK;
	struct bmi_disk *disk;
	uint64_t bytes = 0, begun = 0;
	double from;
	int r = bmi_disk_open(DISK_SLOTS, DISK_BLOCK, /* flags= */ 0, &disk, err);

	if (r < 0)
		return r;
	for (size_t k = 0; k < n; k++)
		bmi_disk_drop_cache(&extents[k]);
	from = now_s();
	for (uint64_t i = 0; i < n_blocks && r == 0; i++) {
		const void *data;

		for (; begun < n_blocks && begun < i + DISK_SLOTS && r == 0; begun++) {
			const struct bmi_extent ext = block_at(extents, n, begun);

			if (!ext.len)
				break;
			r = bmi_disk_submit(disk, (uint32_t)(begun % DISK_SLOTS), &ext, err);
			bytes += ext.len;
		}
		if (i >= begun)
			break;
		if (r == 0)
			r = bmi_disk_wait(disk, (uint32_t)(i % DISK_SLOTS), &data, err);
	}
	if (r < 0)
		bmi_disk_drain(disk);
	else
		*ret = (double)bytes / (now_s() - from);
	bmi_disk_close(disk);
	return r;
}

int bmi_rates_measure(struct bmi_dev *dev, const struct bmi_extent *extents, size_t n, struct bmi_rates *ret,
		      struct bmi_error *err)
{
	struct bmi_rates rates;
	int r;

	bmi_rates_default(&rates);
	r = measure_ram(dev, &rates.ram, err);
	if (r == 0)
		r = measure_disk(extents, n, &rates.disk, err);
	if (r < 0)
		return r;
	if (!(rates.ram >= min_rate && rates.ram <= max_rate && rates.disk >= min_rate &&
	      rates.disk <= max_rate))
		return bmi_fail(err, -ERANGE, "measured %.3g bytes/s from RAM and %.3g from disk: not believed",
				rates.ram, rates.disk);
	rates.measured = true;
	*ret = rates;
	return 0;
}

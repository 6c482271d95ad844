/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns where every weight is, and gives a pass its weights: from memory, or from disk through the stream. What others may
 * ask from any thread is kept under a lock that is never held across I/O.
 * Invariant: a weight has a buffer if and only if its device is the CPU, in the dtype in force; shared.cpu_bytes is the sum
 * of those buffers.
 */
#include "run/residency_priv.h"

#include "backend/cpu/cpu.h"
#include "base/checked.h"
#include "base/file.h"

#include <assert.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

uint32_t bmi_residency_source(const struct bmi_residency *res, uint32_t tensor)
{
	while (res->skel->tensors[tensor].tied_to != BMI_NONE)
		tensor = res->skel->tensors[tensor].tied_to;
	return tensor;
}

enum bmi_dtype bmi_residency_dtype_of(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype)
{
	return res->skel->tensors[tensor].own_dtype ? res->skel->tensors[tensor].dtype : dtype;
}

enum bmi_dtype bmi_residency_dtype(const struct bmi_residency *res)
{
	return res->shared.dtype; /* this thread is the only one that writes it */
}

uint64_t bmi_residency_buf_bytes(const struct bmi_residency *res, uint32_t tensor, enum bmi_dtype dtype)
{
	const struct bmi_weight *w = &res->weight[tensor];
	const enum bmi_dtype type = w->is_vector ? BMI_F32 : bmi_residency_dtype_of(res, tensor, dtype);

	return (uint64_t)w->n_rows * w->n_cols * bmi_dtype_info(type)->block_bytes; /* checked when bound */
}

int bmi_residency_blame(const struct bmi_residency *res, uint32_t tensor, int code, struct bmi_error *err)
{
	return bmi_note(err, code == -ENOMEM ? code : -EIO, "%s, tensor '%s'", res->weight[tensor].src->file,
			res->skel->tensors[tensor].name);
}

void bmi_residency_count(struct bmi_residency *res, int64_t cpu_bytes, uint64_t moved_bytes,
			 uint64_t streamed_bytes)
{
	pthread_mutex_lock(&res->lock);
	res->shared.cpu_bytes += (uint64_t)cpu_bytes;
	res->shared.move_done_bytes += moved_bytes;
	res->shared.streamed_bytes += streamed_bytes;
	if (res->staging.disk)
		res->shared.io = bmi_disk_describe(res->staging.disk); /* a file's first read may change it */
	pthread_mutex_unlock(&res->lock);
}

/* ---- birth and death ---- */

static int check_type(enum bmi_dtype type)
{
	return type == BMI_F32 || type == BMI_F16 || type == BMI_BF16 ? 0 : -EOPNOTSUPP;
}

static bool is_gathered(const struct bmi_skel *skel, const struct bmi_tensor *tensor)
{
	const char *const *pattern = skel->cfg ? skel->cfg->arch->gathered : NULL;

	for (; pattern && *pattern; pattern++)
		if (fnmatch(*pattern, tensor->name, 0) == 0)
			return true;
	return false;
}

static int bind_weight(struct bmi_residency *res, uint32_t t, struct bmi_error *err)
{
	const struct bmi_tensor *tensor = &res->skel->tensors[t];
	const struct bmi_ckpt_tensor *src = res->opt.source[t];
	struct bmi_weight *w = &res->weight[t];
	const uint64_t n_experts = tensor->n_dims == 3 ? tensor->shape[0] : 1;
	const uint64_t n_rows = tensor->n_dims >= 2 ? n_experts * tensor->shape[tensor->n_dims - 2] : 1;
	const uint64_t n_runs = src && src->parts ? src->n_parts : n_experts;
	uint64_t total;

	if (tensor->kind == BMI_BUFFER || tensor->tied_to != BMI_NONE)
		return 0;
	if (!src || !n_rows || tensor->n_dims > 3 || n_rows % n_runs || tensor->n_elements % n_rows ||
	    n_rows > UINT32_MAX || tensor->n_elements / n_rows > UINT32_MAX)
		return bmi_fail(err, -EINVAL, "tensor '%s' cannot be loaded", tensor->name);
	if ((!bmi_dtype_info(src->dtype)->is_floating && src->dtype < BMI_Q4_0) ||
	    check_type(bmi_residency_dtype_of(res, t, BMI_F32)) < 0)
		return bmi_fail(
			err, -EOPNOTSUPP,
			"tensor '%s' is stored as %s: weights are floating-point or quantized numbers",
			tensor->name, bmi_dtype_name(src->dtype));
	w->src = src;
	w->n_rows = (uint32_t)n_rows;
	w->n_cols = (uint32_t)(tensor->n_elements / n_rows);
	w->run_rows = (uint32_t)(n_rows / n_runs);
	w->is_vector = tensor->n_dims < 2;
	w->is_gathered = is_gathered(res->skel, tensor);
	if (!bmi_dtype_bytes(src->dtype, w->n_cols, &w->row_bytes) ||
	    !bmi_mul(w->row_bytes, n_rows, &total) || total != src->extent.len || !w->row_bytes)
		return bmi_fail(err, -EINVAL,
				"tensor '%s' has %" PRIu64 " bytes of %s in %s, which are not %" PRIu64
				" rows of %u",
				tensor->name, src->extent.len, bmi_dtype_name(src->dtype), src->file, n_rows,
				w->n_cols);
	return 0;
}

static int watch_file(struct bmi_residency *res, const struct bmi_ckpt_tensor *src, int fd,
		      struct bmi_error *err)
{
	struct bmi_watched_file *file;

	for (uint32_t i = res->n_files; i-- > 0;)
		if (res->file[i].fd == fd)
			return 0;
	file = realloc(res->file, (res->n_files + 1) * sizeof(*file));
	if (!file)
		return bmi_fail(err, -ENOMEM, "no memory for a list of files");
	res->file = file;
	file += res->n_files;
	*file = (struct bmi_watched_file){ .fd = fd, .name = src->file };
	if (fstat(file->fd, &file->st) < 0)
		return bmi_fail_errno(err, -errno, "stat '%s'", src->file);
	res->n_files++;
	return 0;
}

static int watch_files(struct bmi_residency *res, const struct bmi_ckpt_tensor *src, struct bmi_error *err)
{
	int r = watch_file(res, src, src->extent.fd, err);

	for (uint32_t i = 0; r == 0 && i < src->n_parts; i++)
		r = watch_file(res, src, src->parts[i].fd, err);
	return r;
}

int bmi_residency_check_files(const struct bmi_residency *res, struct bmi_error *err)
{
	for (uint32_t i = 0; i < res->n_files; i++) {
		const struct bmi_watched_file *file = &res->file[i];
		struct stat st;

		if (fstat(file->fd, &st) < 0)
			return bmi_fail_errno(err, -EIO, "stat '%s'", file->name);
		if (st.st_size != file->st.st_size)
			return bmi_fail(err, -EIO,
					"'%s' has %" PRIu64 " bytes now and had %" PRIu64
					" when it was opened; mount it again",
					file->name, (uint64_t)st.st_size, (uint64_t)file->st.st_size);
		if (st.st_mtim.tv_sec != file->st.st_mtim.tv_sec ||
		    st.st_mtim.tv_nsec != file->st.st_mtim.tv_nsec)
			return bmi_fail(err, -EIO, "'%s' was written to after it was opened; mount it again",
					file->name);
	}
	return 0;
}

/* Neighbours in the state dict that belong to one layer, or to one module outside of the layers. */
static void make_groups(struct bmi_residency *res)
{
	const struct bmi_skel *skel = res->skel;

	for (uint32_t t = 0; t < skel->n_tensors; t++) {
		const struct bmi_group *last = res->n_groups ? &res->group[res->n_groups - 1] : NULL;
		const uint32_t a = skel->tensors[t].module,
			       b = last ? skel->tensors[last->first].module : BMI_NONE;

		if (last && (a == b || (skel->modules[a].layer != BMI_NONE &&
					skel->modules[a].layer == skel->modules[b].layer)))
			res->group[res->n_groups - 1].n++;
		else
			res->group[res->n_groups++] = (struct bmi_group){ t, 1 };
	}
}

static uint32_t find_embed(const struct bmi_skel *skel)
{
	const struct bmi_arch *arch = skel->cfg ? skel->cfg->arch : NULL;
	const size_t n = arch && arch->embed_name ? strlen(arch->embed_name) : 0;

	for (uint32_t t = 0; n && t < skel->n_tensors; t++)
		if (strncmp(skel->tensors[t].name, arch->embed_name, n) == 0 &&
		    strcmp(skel->tensors[t].name + n, ".weight") == 0)
			return t;
	return BMI_NONE;
}

static int init(struct bmi_residency *res, struct bmi_error *err)
{
	const uint32_t n = res->skel->n_tensors;
	int r = 0;

	res->weight = calloc(n + 1, sizeof(*res->weight));
	res->device = calloc(n + 1, sizeof(*res->device));
	res->group = calloc(n + 1, sizeof(*res->group));
	res->stream.cap_order = res->skel->n_exec + n;
	res->stream.order = calloc(res->stream.cap_order + 1, sizeof(*res->stream.order));
	res->move.target = calloc(n + 1, sizeof(*res->move.target));
	if (!res->weight || !res->device || !res->group || !res->stream.order || !res->move.target)
		return bmi_fail(err, -ENOMEM, "no memory for a list of %u tensors", n);
	for (uint32_t t = 0; t < n && r == 0; t++) {
		res->device[t] = BMI_DEVICE_DISK;
		r = bind_weight(res, t, err);
		if (r == 0 && res->weight[t].src)
			r = watch_files(res, res->weight[t].src, err);
	}
	if (r < 0)
		return r;
	make_groups(res);
	res->embed = find_embed(res->skel);
	return 0;
}

int bmi_residency_new(const struct bmi_residency_options *opt, enum bmi_dtype dtype,
		      struct bmi_residency **ret, struct bmi_error *err)
{
	struct bmi_residency *res;
	int r;

	if (check_type(dtype) < 0)
		return bmi_fail(err, -EOPNOTSUPP, "weights cannot be computed with as %s",
				bmi_dtype_name(dtype));
	res = calloc(1, sizeof(*res));
	if (!res)
		return bmi_fail(err, -ENOMEM, "no memory for the residency of weights");
	pthread_mutex_init(&res->lock, NULL);
	res->opt = *opt;
	res->skel = opt->skel;
	res->shared.dtype = dtype;
	res->shared.io = "nothing read yet";
	r = init(res, err);
	if (r < 0) {
		bmi_residency_free(res);
		return r;
	}
	*ret = res;
	return 0;
}

void bmi_residency_free(struct bmi_residency *res)
{
	if (!res)
		return;
	bmi_staging_close(res); /* waits for what is being read */
	for (uint32_t t = 0; res->weight && t < res->skel->n_tensors; t++)
		bmi_backend_cpu.release(res->opt.cpu, &res->weight[t].buf);
	pthread_mutex_destroy(&res->lock);
	free(res->move.target);
	free(res->stream.order);
	free(res->file);
	free(res->group);
	free(res->device);
	free(res->weight);
	free(res);
}

/* ---- what others ask ---- */

void bmi_residency_need(const struct bmi_residency *res, const bmi_device *tensor_device,
			enum bmi_dtype dtype, struct bmi_residency_need *ret)
{
	struct bmi_staging_size size;

	*ret = (struct bmi_residency_need){ 0 };
	for (uint32_t t = 0; t < res->skel->n_tensors; t++) {
		if (!res->weight[t].src)
			continue;
		if (tensor_device[t] == BMI_DEVICE_DISK)
			ret->disk_bytes += bmi_skel_tensor_bytes(res->skel, t, dtype);
		else
			ret->cpu_bytes += bmi_residency_buf_bytes(res, t, dtype);
	}
	bmi_staging_plan(res, tensor_device, dtype, UINT64_MAX, &size);
	ret->staging_bytes = size.total;
}

void bmi_residency_state(struct bmi_residency *res, struct bmi_residency_state *ret)
{
	pthread_mutex_lock(&res->lock);
	*ret = res->shared;
	for (uint32_t t = 0; t < res->skel->n_tensors; t++)
		if (res->weight[t].src && res->device[t] == BMI_DEVICE_DISK)
			ret->disk_bytes += bmi_skel_tensor_bytes(res->skel, t, ret->dtype);
	pthread_mutex_unlock(&res->lock);
}

void bmi_residency_devices(struct bmi_residency *res, bmi_device *ret)
{
	pthread_mutex_lock(&res->lock);
	for (uint32_t t = 0; t < res->skel->n_tensors; t++)
		ret[t] = res->device[bmi_residency_source(res, t)];
	pthread_mutex_unlock(&res->lock);
}

/* ---- for a pass ---- */

int bmi_residency_pass_begin(struct bmi_residency *res, struct bmi_error *err)
{
	const int r = bmi_residency_check_files(res, err);

	return r < 0 ? r : bmi_stream_begin(res, err);
}

void bmi_residency_pass_end(struct bmi_residency *res)
{
	(void)bmi_stream_give_back(res, /* err= */ NULL); /* an error comes again when the block is asked for */
}

int bmi_residency_next_rows(struct bmi_residency *res, uint32_t tensor, struct bmi_rows *rows,
			    struct bmi_error *err)
{
	const uint32_t t = bmi_residency_source(res, tensor);
	const struct bmi_weight *w = &res->weight[t];
	const enum bmi_dtype dtype = bmi_residency_dtype_of(res, t, bmi_residency_dtype(res));
	const uint32_t row0 = rows->mat.data ? rows->row0 + rows->mat.n_rows : rows->first;
	const uint32_t end = rows->end ? rows->end : w->n_rows;
	const void *data;
	uint32_t n_rows;
	int r;

	assert(w->src && !w->is_vector);
	assert(end <= w->n_rows);
	if (row0 >= end)
		return bmi_stream_give_back(res, err);
	if (res->device[t] != BMI_DEVICE_DISK) {
		r = bmi_stream_give_back(res, err);
		data = (char *)w->buf.data + bmi_residency_bytes(dtype, (size_t)row0 * w->n_cols);
		n_rows = end - row0;
	} else {
		r = bmi_stream_get(res, t, row0, &data, &n_rows, err);
	}
	if (r < 0)
		return r;
	if (res->device[t] == BMI_DEVICE_DISK && bmi_staging_must_convert(res, t, bmi_residency_dtype(res))) {
		r = bmi_residency_convert(res, t, res->staging.converted, data, (size_t)n_rows * w->n_cols);
		if (r < 0)
			return bmi_fail_errno(err, r, "convert tensor '%s'", res->skel->tensors[t].name);
		r = bmi_stream_give_back(res, err);
		if (r < 0)
			return r;
		data = res->staging.converted;
	}
	rows->mat = (struct bmi_mat){ data, dtype, n_rows, w->n_cols, bmi_residency_bytes(dtype, w->n_cols) };
	if (rows->mat.n_rows > end - row0)
		rows->mat.n_rows = end - row0;
	rows->row0 = row0;
	rows->last = row0 + rows->mat.n_rows == end;
	return 1;
}

int bmi_residency_vector(struct bmi_residency *res, uint32_t tensor, const float **ret, struct bmi_error *err)
{
	const uint32_t t = bmi_residency_source(res, tensor);
	const struct bmi_weight *w = &res->weight[t];
	const void *data;
	uint32_t n_rows;
	int r;

	assert(w->src && w->is_vector);
	if (res->device[t] != BMI_DEVICE_DISK) {
		*ret = w->buf.data;
		return bmi_stream_give_back(res, err);
	}
	r = bmi_stream_get(res, t, 0, &data, &n_rows, err);
	if (r < 0)
		return r;
	r = bmi_residency_convert(res, t, res->staging.vector, data, w->n_cols);
	if (r < 0)
		return bmi_fail_errno(err, r, "convert tensor '%s'", res->skel->tensors[t].name);
	*ret = res->staging.vector;
	return bmi_stream_give_back(res, err);
}

static void advise(const struct bmi_weight *w, uint32_t row)
{
	const struct bmi_extent ext = bmi_ckpt_piece(w->src, row * w->row_bytes, w->row_bytes);

	(void)posix_fadvise(ext.fd, (off_t)ext.off, (off_t)ext.len, POSIX_FADV_WILLNEED);
}

/* Rows of a tensor on disk, one read each: a model reads as few rows of its embedding as it has tokens. */
static int gather_from_disk(struct bmi_residency *res, uint32_t t, const uint32_t *rows, uint32_t n,
			    float *dst, size_t ldd, struct bmi_error *err)
{
	const struct bmi_weight *w = &res->weight[t];
	const enum bmi_dtype dtype = bmi_residency_dtype_of(res, t, bmi_residency_dtype(res));
	bmi_auto_mem char *row = malloc(w->row_bytes);
	int r = 0;

	if (!row)
		return bmi_fail(err, -ENOMEM, "no memory for a row of '%s'", res->skel->tensors[t].name);
	for (uint32_t i = 0; i < n && n > 1; i++) /* all at once, then in turn */
		advise(w, rows[i]);
	for (uint32_t i = 0; i < n && r == 0; i++) {
		const struct bmi_extent ext = bmi_ckpt_piece(w->src, rows[i] * w->row_bytes, w->row_bytes);

		r = bmi_file_pread(ext.fd, row, w->row_bytes, ext.off, err);
		if (r < 0)
			return bmi_residency_blame(res, t, r, err);
		r = bmi_residency_convert_rounded(dst + i * ldd, dtype, row, w->src->dtype, w->n_cols);
	}
	bmi_residency_count(res, 0, 0, n * w->row_bytes);
	return r < 0 ? bmi_fail_errno(err, r, "convert tensor '%s'", res->skel->tensors[t].name) : 0;
}

int bmi_residency_gather(struct bmi_residency *res, uint32_t tensor, const uint32_t *rows, uint32_t n,
			 float *dst, size_t ldd, struct bmi_error *err)
{
	const uint32_t t = bmi_residency_source(res, tensor);
	const struct bmi_weight *w = &res->weight[t];
	const enum bmi_dtype dtype = bmi_residency_dtype_of(res, t, bmi_residency_dtype(res));

	assert(w->src && !w->is_vector);
	for (uint32_t i = 0; i < n; i++)
		if (rows[i] >= w->n_rows)
			return bmi_fail(err, -EINVAL, "row %u of '%s', which has %u", rows[i],
					res->skel->tensors[t].name, w->n_rows);
	if (res->device[t] == BMI_DEVICE_DISK)
		return gather_from_disk(res, t, rows, n, dst, ldd, err);
	for (uint32_t i = 0; i < n; i++)
		(void)bmi_cpu_convert(dst + i * ldd, BMI_F32,
				      (char *)w->buf.data +
					      bmi_residency_bytes(dtype, (size_t)rows[i] * w->n_cols),
				      dtype, w->n_cols);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the small model of the residency tests. Its arithmetic is plain C on single values, from the formats' definitions. */
#include "tests/run/residency_fixture.h"

#include "backend/cpu/cpu.h"

#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

static const struct {
	const char *leaf;
	uint32_t n_rows, n_cols; /* n_rows 0: a vector */
} layer_tensor[PER_LAYER] = {
	{ "norm", 0, DIM },  { "q", 96, DIM },    { "k", 33, DIM },
	{ "k_bias", 0, 33 }, { "norm2", 0, DIM }, { "down", DIM, WIDE },
};

uint32_t fixture_rows(uint32_t t)
{
	if (t == T_EMBED || t == T_HEAD)
		return VOCAB;
	return t == T_FINAL || t == T_ROTARY ? 0 : layer_tensor[(t - T_LAYER0) % PER_LAYER].n_rows;
}

uint32_t fixture_cols(uint32_t t)
{
	return t < T_LAYER0 || t >= T_FINAL ? DIM : layer_tensor[(t - T_LAYER0) % PER_LAYER].n_cols;
}

float fixture_rounded(float value, enum bmi_dtype dtype)
{
	if (dtype == BMI_BF16)
		return bmi_f32_from_bf16(bmi_bf16_from_f32(value));
	return dtype == BMI_F16 ? bmi_f32_from_f16(bmi_f16_from_f32(value)) : value;
}

/* ---- the skeleton ---- */

static void add_tensor(struct fixture *fix, uint32_t t, uint32_t module, const char *name)
{
	struct bmi_tensor *tensor = &fix->tensor[t];
	const uint32_t rows = fixture_rows(t), cols = fixture_cols(t);

	snprintf(fix->names[t], sizeof(fix->names[t]), "%s", name);
	*tensor = (struct bmi_tensor){ .name = fix->names[t],
				       .module = module,
				       .n_dims = rows ? 2 : 1,
				       .shape = { rows ? rows : cols, rows ? cols : 0 },
				       .n_elements = (uint64_t)(rows ? rows : 1) * cols,
				       .tied_to = BMI_NONE };
	if (!fix->module[module].n_tensors++)
		fix->module[module].first_tensor = t;
}

static void make_skeleton(struct fixture *fix, bool tied)
{
	enum { M_ROOT, M_EMBED, M_LAYER0, M_FINAL = M_LAYER0 + N_LAYERS, M_HEAD, M_ROTARY };
	char name[48];

	for (uint32_t m = 0; m < N_LAYERS + 5; m++)
		fix->module[m] =
			(struct bmi_module){ .name = "",
					     .leaf = "",
					     .class_name = "",
					     .parent = m ? 0 : BMI_NONE,
					     .end = m ? m + 1 : N_LAYERS + 5,
					     .layer = m >= M_LAYER0 && m < M_FINAL ? m - M_LAYER0 : BMI_NONE };
	add_tensor(fix, T_EMBED, M_EMBED, "embed.weight");
	for (uint32_t i = 0; i < N_LAYERS * PER_LAYER; i++) {
		snprintf(name, sizeof(name), "layers.%u.%s", i / PER_LAYER, layer_tensor[i % PER_LAYER].leaf);
		add_tensor(fix, T_LAYER0 + i, M_LAYER0 + i / PER_LAYER, name);
	}
	add_tensor(fix, T_FINAL, M_FINAL, "norm.weight");
	add_tensor(fix, T_HEAD, M_HEAD, "head.weight");
	add_tensor(fix, T_ROTARY, M_ROTARY, "rotary.inv_freq");
	fix->tensor[T_ROTARY].kind = BMI_BUFFER;
	if (tied)
		fix->tensor[T_HEAD].tied_to = T_EMBED;
	for (uint32_t t = 0; t < T_ROTARY; t++)
		fix->exec[t] = t;
	fix->arch = (struct bmi_arch){ .embed_name = "embed", .head_name = "head" };
	fix->cfg.arch = &fix->arch;
	fix->skel = (struct bmi_skel){ .cfg = &fix->cfg,
				       .modules = fix->module,
				       .n_modules = N_LAYERS + 5,
				       .tensors = fix->tensor,
				       .n_tensors = N_TENSORS,
				       .exec = fix->exec,
				       .n_exec = T_ROTARY };
}

/* ---- the file ---- */

/* Elements that a file of this type can hold, as bytes and as values. q8_0: blocks of a float16 scale and 32 int8. */
static void make_elements(enum bmi_dtype type, uint32_t t, size_t n, uint8_t *bytes, float *value)
{
	uint32_t x = t * 2654435761u + 1;

	for (size_t i = 0; i < n; i++) {
		x = x * 1664525 + 1013904223;
		value[i] = (float)((int32_t)x) / 1e9f * (i % 17 ? 1 : 1e-3f);
		if (type == BMI_F32) {
			memcpy(bytes + 4 * i, &value[i], 4);
		} else if (type == BMI_Q8_0) {
			const uint16_t scale = bmi_f16_from_f32(0.01f + (float)(i / 32 % 7) / 64);
			uint8_t *block = bytes + i / 32 * 34;

			memcpy(block, &scale, 2);
			block[2 + i % 32] = (uint8_t)(x >> 24);
			value[i] = bmi_f32_from_f16(scale) * (int8_t)(uint8_t)(x >> 24);
		} else {
			const uint16_t h =
				type == BMI_F16 ? bmi_f16_from_f32(value[i]) : bmi_bf16_from_f32(value[i]);

			memcpy(bytes + 2 * i, &h, 2);
			value[i] = fixture_rounded(value[i], type);
		}
	}
}

static void write_file(struct fixture *fix, enum bmi_dtype stored, bool tied)
{
	uint64_t off = 1237; /* odd, so every second tensor's elements are not aligned */

	snprintf(fix->path, sizeof(fix->path), "/tmp/bmi-residency-XXXXXX");
	fix->fd = mkstemp(fix->path);
	assert_true(fix->fd >= 0);
	for (uint32_t t = 0; t < T_ROTARY; t++) {
		const size_t n = fix->tensor[t].n_elements;
		struct bmi_ckpt_tensor *s = &fix->stored[t];
		uint8_t *bytes;

		if (t == T_HEAD && tied) {
			fix->source[t] = &fix->stored[T_EMBED];
			continue;
		}
		*s = (struct bmi_ckpt_tensor){ .name = fix->names[t],
					       .dtype = fixture_rows(t) ? stored : BMI_F32,
					       .n_dims = fix->tensor[t].n_dims,
					       .file = "model.safetensors" };
		memcpy(s->shape, fix->tensor[t].shape, sizeof(s->shape));
		assert_true(bmi_dtype_bytes(s->dtype, n, &s->extent.len));
		s->extent.fd = fix->fd;
		s->extent.off = off;
		bytes = malloc(s->extent.len);
		fix->value[t] = malloc(n * sizeof(float));
		assert_true(bytes && fix->value[t]);
		make_elements(s->dtype, t, n, bytes, fix->value[t]);
		assert_int_equal(pwrite(fix->fd, bytes, s->extent.len, (off_t)off), s->extent.len);
		free(bytes);
		off += s->extent.len + (t % 3 ? 0 : 7);
		fix->source[t] = s;
	}
	assert_int_equal(fsync(fix->fd), 0);
	(void)posix_fadvise(fix->fd, 0, 0, POSIX_FADV_DONTNEED); /* cold: what is read comes from the disk */
}

void fixture_warm(const struct fixture *fix)
{
	char buf[4096];

	for (off_t off = 0; pread(fix->fd, buf, sizeof(buf), off) > 0; off += (off_t)sizeof(buf))
		;
}

void fixture_init(struct fixture *fix, enum bmi_dtype stored, bool tied)
{
	struct bmi_error err = { 0 };

	memset(fix, 0, sizeof(*fix));
	make_skeleton(fix, tied);
	write_file(fix, stored, tied);
	assert_int_equal(bmi_cpu_open(2, NULL, &fix->cpu, &err), 0);
}

void fixture_fini(struct fixture *fix)
{
	bmi_backend_cpu.close(fix->cpu);
	for (uint32_t t = 0; t < N_TENSORS; t++)
		free(fix->value[t]);
	close(fix->fd);
	unlink(fix->path);
}

/* ---- reading ---- */

static uint32_t source_of(const struct fixture *fix, uint32_t t)
{
	return fix->tensor[t].tied_to == BMI_NONE ? t : fix->tensor[t].tied_to;
}

static float element(const struct bmi_mat *mat, uint32_t row, uint32_t col)
{
	const char *p = (const char *)mat->data + row * mat->stride_bytes;
	uint16_t h;
	float f;

	if (mat->dtype == BMI_F32) {
		memcpy(&f, p + 4 * col, 4);
		return f;
	}
	memcpy(&h, p + 2 * col, 2);
	return mat->dtype == BMI_F16 ? bmi_f32_from_f16(h) : bmi_f32_from_bf16(h);
}

void fixture_check_rows(const struct fixture *fix, uint32_t t, const struct bmi_rows *rows, enum bmi_dtype dtype)
{
	const float *value = fix->value[source_of(fix, t)];

	assert_int_equal(rows->mat.dtype, dtype);
	assert_int_equal(rows->mat.n_cols, fixture_cols(t));
	assert_true(rows->row0 + rows->mat.n_rows <= fixture_rows(t));
	assert_int_equal((uintptr_t)rows->mat.data % bmi_dtype_info(dtype)->block_bytes, 0);
	for (uint32_t r = 0; r < rows->mat.n_rows; r++)
		for (uint32_t c = 0; c < rows->mat.n_cols; c++) {
			const float want =
				fixture_rounded(value[(rows->row0 + r) * rows->mat.n_cols + c], dtype);
			const float got = element(&rows->mat, r, c);

			if (memcmp(&want, &got, sizeof(want)) != 0)
				fail_msg("%s[%u][%u] is %g, want %g", fix->names[t], rows->row0 + r, c, got,
					 want);
		}
}

static enum bmi_dtype dtype_of(struct bmi_residency *res)
{
	struct bmi_residency_state state;

	bmi_residency_state(res, &state);
	return state.dtype;
}

static int read_vector(const struct fixture *fix, struct bmi_residency *res, uint32_t t, struct bmi_error *err)
{
	const enum bmi_dtype dtype = dtype_of(res);
	const float *v;
	const int r = bmi_residency_vector(res, t, &v, err);

	if (r < 0)
		return r;
	for (uint32_t i = 0; i < fixture_cols(t); i++)
		if (v[i] != fixture_rounded(fix->value[t][i], dtype))
			fail_msg("%s[%u] is %g, want %g", fix->names[t], i, v[i],
				 fixture_rounded(fix->value[t][i], dtype));
	return 1;
}

int fixture_read(const struct fixture *fix, struct bmi_residency *res, uint32_t t, struct bmi_error *err)
{
	const enum bmi_dtype dtype = dtype_of(res);
	struct bmi_rows rows = { 0 };
	uint32_t next = 0;
	int r, n = 0;

	if (!fixture_rows(t))
		return read_vector(fix, res, t, err);
	while ((r = bmi_residency_next_rows(res, t, &rows, err)) == 1) {
		assert_int_equal(rows.row0, next);
		fixture_check_rows(fix, t, &rows, dtype);
		next += rows.mat.n_rows;
		assert_int_equal(rows.last, next == fixture_rows(t));
		n++;
	}
	if (r < 0)
		return r;
	assert_int_equal(next, fixture_rows(t));
	return n;
}

static int gather(const struct fixture *fix, struct bmi_residency *res, struct bmi_error *err)
{
	static const uint32_t ids[] = { 0, VOCAB - 1, 7, 7 };
	enum { LDD = DIM + 3 };
	const enum bmi_dtype dtype = dtype_of(res);
	float got[4 * LDD];
	int r;

	for (unsigned i = 0; i < 4 * LDD; i++)
		got[i] = -123;
	r = bmi_residency_gather(res, T_EMBED, ids, 4, got, LDD, err);
	if (r < 0)
		return r;
	for (uint32_t i = 0; i < 4; i++) {
		for (uint32_t c = 0; c < DIM; c++)
			assert_true(got[i * LDD + c] ==
				    fixture_rounded(fix->value[T_EMBED][ids[i] * DIM + c], dtype));
		assert_true(got[i * LDD + DIM] == -123);
	}
	return 0;
}

int fixture_pass(const struct fixture *fix, struct bmi_residency *res,
		 int (*between)(void *ctx, uint32_t layer), void *ctx, struct bmi_error *err)
{
	int r = bmi_residency_pass_begin(res, err);

	if (r < 0)
		return r;
	r = gather(fix, res, err);
	for (uint32_t t = T_LAYER0; t <= T_HEAD && r >= 0; t++) {
		if (between && ((t - T_LAYER0) % PER_LAYER == 0))
			r = between(ctx, (t - T_LAYER0) / PER_LAYER);
		if (r >= 0)
			r = fixture_read(fix, res, t, err);
	}
	bmi_residency_pass_end(res);
	return r < 0 ? r : 0;
}

uint64_t fixture_pass_bytes(const struct fixture *fix, const bmi_device *device)
{
	uint64_t bytes = 0;

	if (device[T_EMBED] == BMI_DEVICE_DISK)
		bytes += 4 * fix->stored[T_EMBED].extent.len / VOCAB;
	for (uint32_t t = T_LAYER0; t <= T_HEAD; t++)
		if (device[source_of(fix, t)] == BMI_DEVICE_DISK)
			bytes += fix->source[t]->extent.len;
	return bytes;
}

/* ---- a residency around it ---- */

void world_init(struct world *w, enum bmi_dtype stored, enum bmi_dtype dtype, bool tied, size_t staging,
		uint64_t limit)
{
	memset(w, 0, sizeof(*w));
	fixture_init(&w->fix, stored, tied);
	assert_int_equal(bmi_residency_new(&(struct bmi_residency_options){ .skel = &w->fix.skel,
									    .source = w->fix.source,
									    .cpu = w->fix.cpu,
									    .staging_bytes = staging,
									    .cpu_limit = limit },
					   dtype, &w->res, &w->err),
			 0);
}

void world_fini(struct world *w)
{
	bmi_residency_free(w->res);
	fixture_fini(&w->fix);
}

/* Where each tensor is to be. INSIDE: layers are split too. */
void world_map(enum place place, bmi_device *ret)
{
	for (uint32_t t = 0; t < N_TENSORS; t++) {
		const uint32_t layer = t < T_LAYER0 ? 0 : (t - T_LAYER0) / PER_LAYER;
		const bool on_cpu[N_PLACES] = { true, false, layer % 2 == 0, layer % 2 == 1, t % 3 == 1 };

		ret[t] = on_cpu[place] ? BMI_DEVICE_CPU : BMI_DEVICE_DISK;
	}
}

void world_assert_at(struct world *w, const bmi_device *want)
{
	bmi_device now[N_TENSORS];

	bmi_residency_devices(w->res, now);
	for (uint32_t t = 0; t < N_TENSORS; t++) {
		const uint32_t s = w->fix.tensor[t].tied_to == BMI_NONE ? t : w->fix.tensor[t].tied_to;

		if (now[t] != want[s])
			fail_msg("%s is on %d, not on %d", w->fix.names[t], now[t], want[s]);
	}
}

struct bmi_residency_state world_state(struct world *w)
{
	struct bmi_residency_state state;

	bmi_residency_state(w->res, &state);
	return state;
}

int world_finish_move(struct world *w)
{
	int r;

	while ((r = bmi_residency_move_step(w->res, &w->err)) == 1)
		;
	return r;
}

void world_move(struct world *w, enum place place, enum bmi_dtype dtype)
{
	bmi_device map[N_TENSORS];
	struct bmi_residency_state s;

	world_map(place, map);
	if (bmi_residency_move_begin(w->res, map, dtype, &w->err) < 0 || world_finish_move(w) < 0)
		fail_msg("%s", w->err.msg);
	world_assert_at(w, map);
	s = world_state(w);
	assert_int_equal(s.move_done_bytes, s.move_todo_bytes);
	assert_int_equal(s.move_done_layers, s.move_todo_layers);
	assert_int_equal(s.dtype, dtype);
	assert_int_equal(s.staging_bytes, 0);
}

void world_pass(struct world *w)
{
	if (fixture_pass(&w->fix, w->res, NULL, NULL, &w->err) < 0)
		fail_msg("%s", w->err.msg);
}

/* A pass whose reads are counted. */
void world_counted_pass(struct world *w)
{
	const uint64_t before = world_state(w).streamed_bytes;
	bmi_device now[N_TENSORS];

	bmi_residency_devices(w->res, now);
	world_pass(w);
	assert_int_equal(world_state(w).streamed_bytes - before, fixture_pass_bytes(&w->fix, now));
}

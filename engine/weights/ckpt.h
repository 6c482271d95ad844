/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_WEIGHTS_CKPT_H
#define BMI_WEIGHTS_CKPT_H

#include "base/extent.h"
#include "base/json.h"
#include "model/skel.h"

/*
 * A checkpoint: the files of a model directory (or one .gguf file) and where in them each tensor lies. Only headers are
 * read; every number in them was checked against the file before anyone sees it.
 */
struct bmi_ckpt;

struct bmi_ckpt_tensor {
	const char *name; /* as the file says */
	enum bmi_dtype dtype;
	uint8_t n_dims;
	uint64_t shape[BMI_MAX_DIMS]; /* slowest first, also for GGUF */
	struct bmi_extent extent;
	const char *file; /* plain name, for messages */
	/*
	 * Not NULL: bmi_ckpt_bind() put the tensor together of n_parts pieces, all of one length, wherever they lie. extent is
	 * the first piece's then, but for len, which is that of all. Ask bmi_ckpt_piece() where bytes are.
	 */
	const struct bmi_extent *parts;
	uint32_t n_parts;
};

/** bmi_ckpt_part_bytes() - the length of the runs a tensor's bytes lie in. */
static inline uint64_t bmi_ckpt_part_bytes(const struct bmi_ckpt_tensor *t)
{
	return t->parts ? t->extent.len / t->n_parts : t->extent.len;
}

/** bmi_ckpt_piece() - where bytes [off, off + len) of a tensor are; they must not cross the end of a part. */
static inline struct bmi_extent bmi_ckpt_piece(const struct bmi_ckpt_tensor *t, uint64_t off, uint64_t len)
{
	const uint64_t part = bmi_ckpt_part_bytes(t);
	const struct bmi_extent *ext = t->parts ? &t->parts[off / part] : &t->extent;

	return (struct bmi_extent){ ext->fd, ext->off + off % part, len };
}

enum bmi_ckpt_format {
	BMI_CKPT_SAFETENSORS,
	BMI_CKPT_GGUF,
	BMI_CKPT_NONE /* config.json alone: planning only */
};

/**
 * bmi_ckpt_open() - open a model directory or a .gguf file and parse its headers.
 * @path:         a directory (Hugging Face layout, hub snapshot, or holding one GGUF model), or a .gguf file.
 * @need_weights: false accepts a directory with only config.json (format BMI_CKPT_NONE).
 *
 * Refused with one sentence that names file, tensor and what to do: see docs (README "What is refused"). -EINVAL damage,
 * -EOPNOTSUPP what is not run yet, -ENOENT nothing there, -ENOTDIR, -EACCES.
 */
int bmi_ckpt_open(const char *path, bool need_weights, struct bmi_ckpt **ret, struct bmi_error *err);
void bmi_ckpt_close(struct bmi_ckpt *ckpt);

enum bmi_ckpt_format bmi_ckpt_format(const struct bmi_ckpt *ckpt);

/** bmi_ckpt_config() - config.json's object, or the same keys made from GGUF metadata. Lent. */
const struct bmi_json *bmi_ckpt_config(const struct bmi_ckpt *ckpt);

/** bmi_ckpt_generation_config() - generation_config.json's object (eos ids and so on); NULL when there is none. Lent. */
const struct bmi_json *bmi_ckpt_generation_config(const struct bmi_ckpt *ckpt);

/** bmi_ckpt_dir() - absolute path of the directory, and a descriptor of it (lent). */
const char *bmi_ckpt_dir(const struct bmi_ckpt *ckpt);
int bmi_ckpt_dirfd(const struct bmi_ckpt *ckpt);

/** bmi_ckpt_gguf() - the GGUF metadata reader, NULL for other formats (weights/gguf.h). Lent. */
const struct bmi_gguf *bmi_ckpt_gguf(const struct bmi_ckpt *ckpt);

/**
 * bmi_ckpt_bind() - find each parameter of the skeleton in the checkpoint.
 * @ret: [skel->n_tensors], the caller frees it: the checkpoint's tensor for each parameter (its source's for a tied one
 *       that the file lacks), NULL for buffers. The entries are lent by @ckpt or lie in @ret's own memory.
 *
 * -EINVAL names the tensor: missing, of another shape, or unexpected (in no pattern the architecture ignores).
 */
int bmi_ckpt_bind(const struct bmi_ckpt *ckpt, const struct bmi_skel *skel,
		  const struct bmi_ckpt_tensor *const **ret, struct bmi_error *err);

/** bmi_ckpt_dtype() - what dtype `auto` means: config first, then the weights (placement rules in docs/placement.md). */
int bmi_ckpt_dtype(const struct bmi_ckpt *ckpt, const struct bmi_config *cfg, enum bmi_dtype *ret,
		   struct bmi_error *err);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_ARCH_ARCH_H
#define BMI_ARCH_ARCH_H

#include "backend/backend.h"
#include "model/skel.h"

/** bmi_arch_find() - by model_type; NULL when unknown. */
const struct bmi_arch *bmi_arch_find(const char *model_type);
/** bmi_arch_find_gguf() - by GGUF general.architecture; NULL when unknown. */
const struct bmi_arch *bmi_arch_find_gguf(const char *gguf_arch);
/** bmi_arch_get() - the i-th of the table, NULL past the end: for messages that list what is known. */
const struct bmi_arch *bmi_arch_get(unsigned i);

/** bmi_forward_decoder - every family here; cfg->form says how its layers are put together (arch/decoder.c). */
extern const struct bmi_forward bmi_forward_decoder;

/*
 * One pass over the weights: n_tok rows of possibly several sequences at several positions. run/ makes it and gives the
 * functions that know where weights are; an architecture's forward only says what is computed. Names of modules and
 * parameters are below the layer while layer() runs ("self_attn.q_proj"), and full ones ("lm_head") in embed() and head().
 */
struct bmi_pass {
	const struct bmi_config *cfg;
	const struct bmi_skel *skel;
	uint32_t n_tok;
	const uint32_t *ids;           /* [n_tok] */
	const uint32_t *pos;           /* [n_tok] */
	const struct bmi_kv_table *kv; /* [n_tok], of the layer now computed */
	enum bmi_dtype kv_dtype;
	const uint32_t *out_rows; /* [n_out] rows whose logits are wanted */
	uint32_t n_out;
	float *logits; /* [n_out][vocab_size] */
	float *h;      /* [n_tok][hidden_size]: the residual stream, from embed to head */
	/* memory that lives for the pass; NULL: short of it */
	void *(*scratch)(struct bmi_pass *p, unsigned slot, size_t bytes);

	const struct bmi_ops *ops; /* of the tier that computes this layer */
	struct bmi_dev *dev;
	/* does this layer have the parameter? A family is told by the parameters it has. */
	bool (*has)(struct bmi_pass *p, const char *param);
	/* y[n][rows of weight] = x W^T (+ the weight's bias, if the module has one) */
	int (*linear)(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
		      size_t ldx, uint32_t n);
	/* a 1-D parameter as float32 on the computing tier; lent until the next call of vector or linear */
	int (*vector)(struct bmi_pass *p, const char *param, const float **ret);
	/* y[t] = embed_scale * row ids[t] of the embedding, rounded as the peer does */
	int (*embed)(struct bmi_pass *p, float *y, size_t ldy);
	/* as linear, of a weight that is stored [in][out] */
	int (*linear_turned)(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x,
			     size_t ldx, uint32_t n);
	/* as linear, without a bias, of one expert's matrix in a 3-D parameter; @turned: stored [in][out] */
	int (*expert)(struct bmi_pass *p, const char *param, uint32_t expert, bool turned, float *y,
		      size_t ldy, const float *x, size_t ldx, uint32_t n);
	/* y[i] = row ids[i] of a 2-D parameter, as float32 */
	int (*rows)(struct bmi_pass *p, const char *param, const uint32_t *ids, uint32_t n, float *y,
		    size_t ldy);
	/* n floats from the computing tier's memory to ours */
	int (*fetch)(struct bmi_pass *p, float *dst, const float *src, size_t n);
	struct bmi_error *err;
};

/* The arithmetic of a family. Return 0 or -errno with p->err filled. */
struct bmi_forward {
	int (*embed)(struct bmi_pass *p);
	int (*layer)(struct bmi_pass *p, uint32_t layer);
	int (*head)(struct bmi_pass *p);
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_ARCH_FORM_H
#define BMI_ARCH_FORM_H

#include "arch/arch.h"

/* How a fused q, k, v projection lays out its rows. */
enum bmi_qkv {
	BMI_QKV_APART,  /* three projections: q, k, v below */
	BMI_QKV_BLOCKS, /* all of q, all of k, all of v */
	BMI_QKV_GROUPS, /* for each KV head: its query heads, its k, its v */
};

/*
 * How the layers of a family are put together: what decoder.c does is told by this, and by which of the named norms a
 * layer really has. Names are of modules below the layer; those of embed and positions are full. NULL: there is none.
 *
 * One block after the other:  h += post(attention(norm(h)));  h += post(mlp(norm(h)))
 * Side by side (parallel):    x = attn_norm(h); y = mlp_norm ? mlp_norm(h) : x;  h += attention(x) + mlp(y)
 */
struct bmi_form {
	bool layer_norm; /* norms subtract the mean (and may have a bias); else RMS */
	bool parallel;
	bool turned;        /* the layers' matrices are stored [in][out] */
	bool qk_norm_whole; /* q_norm and k_norm over all heads at once */
	enum bmi_qkv qkv_rows;
	const char *attn_norm, *attn_post_norm, *mlp_norm, *mlp_post_norm;
	const char *q, *k, *v, *qkv, *q_norm, *k_norm, *o;
	const char *sinks; /* parameter: the score of a key without a value, for each head */
	/* gate NULL: down(act(up(x))); gate_up: both in one, gate first; else down(act(gate(x)) * up(x)) */
	const char *gate, *up, *gate_up, *down;
	const char *embed_norm, *positions; /* positions: a table; its row pos + position_offset is added */
	uint32_t position_offset;
	/* instead of the above, where a family has its own; a is [n_tok][n_heads * head_dim], y is [n_tok][hidden] */
	int (*attend)(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *a,
		      const float *x);
	int (*mlp)(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y, const float *x);
	uint32_t (*o_cols)(const struct bmi_config *c); /* columns of o, where they are not n_heads * head_dim */
};

extern const struct bmi_form bmi_form_llama;

/** bmi_form_set() - for configure hooks: the config's form, and the working memory that it needs. */
void bmi_form_set(struct bmi_config *c, const struct bmi_form *form);

/* Slots of working memory; all [n_tok][...] but for SLOT_NORM. */
enum bmi_slot {
	BMI_SLOT_X,
	BMI_SLOT_Q,
	BMI_SLOT_K,
	BMI_SLOT_V,
	BMI_SLOT_ATTN,
	BMI_SLOT_OUT,
	BMI_SLOT_GATE,
	BMI_SLOT_UP,
	BMI_SLOT_QKV,
	BMI_SLOT_NORM,  /* the weight of a norm while its bias is read */
	BMI_SLOT_ROUTE, /* what the router says; positions */
	BMI_SLOT_CHOSEN,
	BMI_SLOT_EXPERT_IN,
	BMI_SLOT_EXPERT_OUT,
};

/* Pieces of a forward. Return 0 or -errno with p->err filled. */

/** bmi_form_op() - the code of an operation, with a sentence that names it. */
int bmi_form_op(struct bmi_pass *p, int r, const char *name);

/** bmi_form_scratch() - [n_tok][n_cols] floats of working memory. */
int bmi_form_scratch(struct bmi_pass *p, enum bmi_slot slot, size_t n_cols, float **ret);

/** bmi_form_linear() - a projection of all rows, turned if the form says so. */
int bmi_form_linear(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x, size_t ldx);

/** bmi_form_norm() - y[n][dim] = the norm of x; y may be x. @eps: the config's, or a module's own. */
int bmi_form_norm(struct bmi_pass *p, const char *module, float *y, size_t ldy, const float *x, size_t ldx,
		  uint32_t n, uint32_t dim, float eps);

/** bmi_form_has() - does the layer have this module (its weight)? NULL: no. */
bool bmi_form_has(struct bmi_pass *p, const char *module);

/** bmi_form_act() - the activation that the config names. */
enum bmi_act bmi_form_act(const struct bmi_config *c);

/** bmi_form_gated() - y = down(act(gate(x)) * up(x)), ff wide. */
int bmi_form_gated(struct bmi_pass *p, const char *gate, const char *up, const char *down, uint32_t ff,
		   float *y, const float *x);

/** bmi_form_attend() - a = attention of x, as the form says; before o. */
int bmi_form_attend(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *a, const float *x);

/** bmi_form_attention() - cache k and v, then attention; after that q, k, v are done with. */
int bmi_form_attention(struct bmi_pass *p, uint32_t layer, float *a, const float *q, const float *k,
		       const float *v);

/** bmi_form_mlp() - the form's MLP, without its norms. */
int bmi_form_mlp(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y, const float *x);

#endif

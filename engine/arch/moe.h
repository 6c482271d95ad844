/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_ARCH_MOE_H
#define BMI_ARCH_MOE_H

#include "arch/arch_priv.h"
#include "arch/form.h"

/* How a token's experts and their weights are told from the router's numbers. */
enum bmi_route {
	BMI_ROUTE_SOFTMAX,     /* softmax over all, then the largest */
	BMI_ROUTE_SOFTMAX_TOP, /* the largest, then softmax over them */
	BMI_ROUTE_GROUPS, /* sigmoid; the best groups by their two best with bias, then the largest of those */
};

enum { BMI_MOE_EXPERTS_MAX = 1 << 14 };

/* A mixture of experts: cfg->ext of the families that have one, or the first member of it. */
struct bmi_moe {
	uint32_t n_experts, n_used, expert_size, shared_size;
	enum bmi_route route;
	bool normalize; /* the chosen weights are made to sum up to 1 */
	float factor;   /* they are multiplied by this at last; 0: 1 */
	uint32_t n_groups, n_used_groups;
	const char *router;      /* module */
	const char *router_bias; /* parameter: joins the choice, not the weights; NULL: none */
	const char *shared;      /* module of an expert that all tokens go through; NULL: none */
	const char *shared_gate; /* module: its sigmoid is the shared expert's weight; NULL: 1 */
	bool pairs;              /* as gpt_oss: [in][out], gate and up in turn, limited, with biases */
	float limit, alpha;
	bool *is_dense;       /* [n_layers] */
	uint32_t sparse_step; /* every so many layers has experts */
	bool qkv_bias;
};

/** bmi_moe_new() - one in the config's arena, of @size bytes, all 0. NULL with err filled. */
void *bmi_moe_new(struct bmi_config *c, size_t size, struct bmi_error *err);

/** bmi_moe_read_dense() - layers without experts: those listed, and those that decoder_sparse_step leaves out. */
int bmi_moe_read_dense(const struct bmi_json *json, const struct bmi_config *c, struct bmi_moe *moe,
		       struct bmi_error *err);

/** bmi_moe_finish() - check the numbers, set the form and the working memory it needs. */
int bmi_moe_finish(struct bmi_config *c, const struct bmi_form *form, struct bmi_error *err);

/** bmi_moe_mlp() - the form's mlp hook: the experts of each row, or the dense MLP of a dense layer. */
int bmi_moe_mlp(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y, const float *x);

/** bmi_moe_form - llama with experts; bmi_moe_exec: in which order its layers are read; bmi_moe_parts: old names. */
extern const struct bmi_form bmi_moe_form;
extern const char *const bmi_moe_exec[];
extern const struct bmi_arch_part bmi_moe_parts[];

/* Pieces of trees: {gate,up,down}_proj and act_fn; the fused tensors of all experts. */
void bmi_moe_build_dense(const struct bmi_config *c, struct bmi_skel_builder *b, uint64_t ff);
void bmi_moe_build_experts(const struct bmi_config *c, struct bmi_skel_builder *b);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_ARCH_ARCH_PRIV_H
#define BMI_ARCH_ARCH_PRIV_H

#include "arch/arch.h"

/* The rows of the table in arch.c, one file per family. */
extern const struct bmi_arch bmi_arch_llama, bmi_arch_mistral, bmi_arch_gemma3_text;
extern const struct bmi_arch bmi_arch_qwen2, bmi_arch_qwen3, bmi_arch_gemma, bmi_arch_gemma2, bmi_arch_phi3;
extern const struct bmi_arch bmi_arch_gpt2, bmi_arch_gpt_neox, bmi_arch_opt, bmi_arch_falcon, bmi_arch_bloom;
extern const struct bmi_arch bmi_arch_granite, bmi_arch_smollm3, bmi_arch_olmo2, bmi_arch_stablelm;
extern const struct bmi_arch bmi_arch_starcoder2, bmi_arch_cohere, bmi_arch_phi, bmi_arch_gptj;
extern const struct bmi_arch bmi_arch_mixtral, bmi_arch_qwen2_moe, bmi_arch_qwen3_moe, bmi_arch_gpt_oss;
extern const struct bmi_arch bmi_arch_deepseek_v3;

/*
 * What tells the llama-like trees apart: model.{embed_tokens, layers.N.{self_attn, mlp, norms}, norm, rotary_emb}, lm_head.
 */
struct bmi_llamalike {
	const char *layer_class;
	bool qkv_bias, o_bias, mlp_bias;
	bool qk_norm;       /* q_norm and k_norm [head_dim] after o_proj */
	bool qk_norm_whole; /* likewise, over all heads at once */
	bool sandwich;      /* pre_ and post_feedforward_layernorm besides the usual two */
	bool post_norms;    /* post_attention_ and post_feedforward_layernorm only */
	bool one_norm;      /* input_layernorm only */
	bool norm_bias;
	bool sinks;            /* a vector [n_heads] of that name is self_attn's own */
	bool embed_scale;      /* the embedding has a scalar buffer of that name */
	const char *layer_end; /* an empty module at the end of each layer, or NULL */
	void (*attention)(const struct bmi_config *c, struct bmi_skel_builder *b); /* NULL: q, k, v, o */
	void (*mlp)(const struct bmi_config *c, struct bmi_skel_builder *b,
		    uint32_t layer); /* NULL: the gated MLP */
};

void bmi_llamalike_build(const struct bmi_config *c, struct bmi_skel_builder *b,
			 const struct bmi_llamalike *kind);

/** bmi_llamalike_exec - the order in which decoder.c reads a layer; what a family lacks is passed over. */
extern const char *const bmi_llamalike_exec[];

/** bmi_llamalike_ignored - tables that older releases stored and that are computed anew. */
extern const char *const bmi_llamalike_ignored[];

/** bmi_arch_build_rotary() - a rotary_emb module with its buffers, one pair or one per kind of layer in use. */
void bmi_arch_build_rotary(const struct bmi_config *c, struct bmi_skel_builder *b);

/** bmi_arch_build_head() - lm_head, tied to the embedding if the config says so. */
void bmi_arch_build_head(const struct bmi_config *c, struct bmi_skel_builder *b, uint64_t width);

#endif

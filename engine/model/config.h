/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_CONFIG_H
#define BMI_MODEL_CONFIG_H

#include "base/arena.h"
#include "base/dtype.h"
#include "base/error.h"
#include "base/json.h"

#include <stdbool.h>
#include <stdint.h>

enum bmi_act_kind { BMI_CFG_SILU, BMI_CFG_GELU, BMI_CFG_GELU_TANH, BMI_CFG_RELU };

/*
 * One set of rotary frequencies, computed from the config (Transformers' modeling_rope_utils): default, linear, llama3,
 * yarn (more types are refused by name until their arithmetic is here).
 */
struct bmi_rope_config {
	float *inv_freq; /* [n_rot / 2], in the config's arena */
	uint32_t n_rot;
	float attention_factor; /* multiplies cos and sin */
};

/*
 * What the forward needs, read from config.json (GGUF metadata is first translated into the same keys). Every number was
 * checked: sizes are >= 1 and small enough that products of two fit in 64 bits.
 *
 * Keys of our own that only the GGUF translation writes:
 *   "_bmifs_norm_baked": true          the norms hold 1 + w already (norm_offset 0)
 *   "_bmifs_rope_interleaved": true    rows of q and k are permuted so that pairs are (2i, 2i + 1)
 *   "_bmifs_rope_factors": [f0, ...]   the file's rope_freqs tensor, head_dim / 2 numbers: inv_freq[i] is divided by f[i]
 */
struct bmi_config {
	struct bmi_arena *arena; /* owns all below */
	const char *model_type;  /* "llama", "gemma3_text", ... */
	uint32_t vocab_size, hidden_size, intermediate_size, n_layers, n_heads, n_kv_heads, head_dim;
	uint32_t max_positions;
	float norm_eps;
	enum bmi_act_kind act;
	bool tie_embeddings;
	bool attention_bias, mlp_bias;
	float norm_offset; /* added to RMSNorm weights: 1 for Gemma from safetensors, 0 from GGUF (baked in) */
	bool rope_interleaved; /* pairs (2i, 2i+1): GGUF llama files, whose q and k rows are permuted so */
	float embed_scale;     /* 1, or sqrt(hidden) (Gemma); whoever embeds rounds it to the compute dtype */
	float attn_scale;      /* of q . k: 1/sqrt(head_dim) or from query_pre_attn_scalar */
	float attn_softcap, final_softcap;              /* 0: none */
	bool *layer_is_sliding;                         /* [n_layers] */
	uint32_t sliding_window;                        /* 0: none */
	struct bmi_rope_config rope_full, rope_sliding; /* rope_sliding is used by sliding layers only */
	bool has_dtype;                                 /* config.json names one */
	enum bmi_dtype dtype;
	const struct bmi_arch *arch; /* found by model_type */
	/* ---- where a family is not as llama; 0 or NULL: as llama ---- */
	float embed_factor;    /* the embedding is multiplied by this too, not rounded; 0: not */
	float residual_factor; /* what a block gives, before it joins the stream; 0: 1 */
	float logit_factor;    /* of the logits; 0: 1 */
	uint32_t rope_dim; /* elements of a head that turn, set by the configure hook; 0: head_dim * rope_partial */
	bool *layer_has_no_rope; /* [n_layers]; NULL: all turn */
	float *alibi;            /* [n_heads] slopes; NULL: none */
	uint32_t scratch_floats; /* a row of the forward's working memory has, above those of a llama-like layer */
	const struct bmi_form *form; /* how a layer is put together (arch/form.h); NULL: as llama */
	const char *cannot_run; /* the key and value for which it can be placed but not run; NULL: it runs */
	void *ext; /* the family's own numbers, made by its configure hook; NULL when it has none */
	const struct bmi_json *json; /* the (text) config object, lent by its document: for arch hooks and size questions */
};

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_SKEL_H
#define BMI_MODEL_SKEL_H

#include "model/config.h"

/*
 * The skeleton: the module tree in the order Transformers builds it, and every tensor's name and shape. No weight byte is
 * read for it. Plain arrays; modules in depth-first order, so a module's descendants follow it directly.
 */
enum { BMI_MAX_DIMS = 4 };
#define BMI_NONE UINT32_MAX

enum bmi_tensor_kind {
	BMI_PARAM,  /* in the checkpoint, in the model's dtype */
	BMI_BUFFER, /* computed, not in the checkpoint (rotary tables, embed_scale): only counted */
};

struct bmi_tensor {
	const char *name; /* "model.layers.0.self_attn.q_proj.weight" */
	uint32_t module;  /* index of the module that owns it */
	enum bmi_tensor_kind kind;
	bool own_dtype; /* element type is `dtype`; else the requested dtype */
	enum bmi_dtype dtype;
	uint8_t n_dims;
	uint64_t shape[BMI_MAX_DIMS]; /* slowest first */
	uint64_t n_elements;
	uint32_t tied_to; /* index of the tensor this is a second name of, or BMI_NONE */
};

struct bmi_module {
	const char *name;                 /* full dotted path; "" is the root */
	const char *leaf;                 /* last part of it */
	const char *class_name;           /* "LlamaDecoderLayer"; "" when it does not matter */
	uint32_t parent;                  /* BMI_NONE for the root */
	uint32_t end;                     /* descendants are self+1 .. end-1 */
	uint32_t first_tensor, n_tensors; /* own tensors, parameters before buffers */
	bool no_split;
	uint32_t layer; /* the decoder layer it belongs to, or BMI_NONE */
};

struct bmi_skel {
	struct bmi_arena *arena;
	const struct bmi_config *cfg; /* lent; NULL for skeletons made for planning tests */
	struct bmi_module *modules;
	uint32_t n_modules;
	struct bmi_tensor *tensors; /* order of the state dict */
	uint32_t n_tensors;
	/*
	 * [n_exec] parameters in the order the forward reads them: the embedding, each layer, the final norm, the head. A
	 * second name (tied_to) stands where it is read; its bytes are its source's.
	 */
	uint32_t *exec;
	uint32_t n_exec;
	struct bmi_skel_index *index; /* by name; private to model/ */
};

/*
 * The builder that an architecture's `build` hook calls, depth first; a module's own tensors come before its children.
 * Errors stick; bmi_skel_finish() reports them. Shape numbers behind n_dims are uint64_t: cast what is not.
 */
struct bmi_skel_builder;

/** bmi_skel_builder_new() - an empty tree with its root open; for tests, bmi_skel_build() makes its own. NULL: no memory. */
struct bmi_skel_builder *bmi_skel_builder_new(void);

/**
 * bmi_skel_finish() - close the root and check the tree; the builder is freed in every case. @cfg: lent, may be NULL.
 * Return: 0, -ENOMEM, -EINVAL (sizes that overflow, a tie to a tensor that is not there or of another shape).
 */
int bmi_skel_finish(struct bmi_skel_builder *b, const struct bmi_config *cfg, struct bmi_skel **ret,
		    struct bmi_error *err);

/* Open a child module named @leaf of the module now open; close it with bmi_skel_end(). */
void bmi_skel_begin(struct bmi_skel_builder *b, const char *leaf, const char *class_name, bool no_split);
void bmi_skel_end(struct bmi_skel_builder *b);
/* An own parameter / buffer of the module now open; n_dims shape numbers follow. */
void bmi_skel_param(struct bmi_skel_builder *b, const char *leaf, unsigned n_dims, ...);
void bmi_skel_buffer(struct bmi_skel_builder *b, const char *leaf, bool own_dtype, enum bmi_dtype dtype,
		     unsigned n_dims, ...);
/* Shorthands: a module of one weight [rows][cols] (and bias [rows]); a norm of one weight [dim] (and bias). */
void bmi_skel_linear(struct bmi_skel_builder *b, const char *leaf, uint64_t rows, uint64_t cols, bool bias);
void bmi_skel_norm(struct bmi_skel_builder *b, const char *leaf, uint64_t dim, bool bias);
void bmi_skel_empty(struct bmi_skel_builder *b, const char *leaf); /* a module without tensors: act_fn, dropout */
void bmi_skel_tie(struct bmi_skel_builder *b, const char *target, const char *source); /* full tensor names */

/*
 * What a configuration class of Transformers calls its numbers, and what it takes where config.json is silent. A NULL key
 * is the usual name ("hidden_size"); an own name is looked for first, the usual one after it. JSON null counts as silence.
 */
struct bmi_arch_keys {
	const char *hidden, *intermediate, *layers, *heads, *kv_heads, *positions, *eps, *act;
	uint32_t vocab_size, hidden_size;
	uint32_t intermediate_size; /* 0: four times hidden_size */
	uint32_t n_layers, n_heads;
	uint32_t n_kv_heads; /* where the key is missing; 0, or JSON null: as many as heads */
	uint32_t head_dim;   /* where the key is missing; 0, or JSON null: hidden_size / heads */
	uint32_t max_positions;
	double norm_eps;
	const char *act_word; /* "silu" */
	bool tie;
	bool has_layer_types;      /* reads `layer_types`; else the key is ignored, as the class does */
	double rope_theta;         /* 0: no rotary embedding */
	double rope_theta_sliding; /* not 0: sliding layers have frequencies of their own (Gemma 3) */
	double rope_partial; /* share of head_dim that turns; 0: all of it, and another share is refused */
};

/*
 * A tensor that a checkpoint holds in pieces, one for each expert and half of a fused matrix, or under another name.
 * "%u" in both names is the layer, "%e" in the stored one the expert; n_parts pieces of each expert lie one after the
 * other in the fused tensor, this is the part-th of them. n_parts 0: the same tensor, only called otherwise.
 */
struct bmi_arch_part {
	const char *stored, *name;
	uint8_t part, n_parts;
};

/*
 * An architecture, as data plus two hooks. The table is in arch/arch.c.
 */
struct bmi_forward; /* arch/arch.h: what computes it; NULL while only planning is possible */

struct bmi_arch {
	const char *model_type;
	const char *class_name; /* "LlamaForCausalLM" */
	/* read the family's own keys; the common ones are there already. -EINVAL, -EOPNOTSUPP with the key's name */
	int (*configure)(const struct bmi_json *cfg, struct bmi_config *c, struct bmi_error *err);
	void (*build)(const struct bmi_config *c, struct bmi_skel_builder *b);
	/* parameters of one layer in the order the forward reads them, below the layer; NULL-terminated. NULL: tree order */
	const char *const *exec_layer;
	const char *layers_path;                              /* "model.layers" */
	const char *embed_name, *final_norm_name, *head_name; /* full names: "model.embed_tokens", ... */
	const char *const *ignored; /* fnmatch(3) patterns of checkpoint tensors not needed; NULL-terminated */
	/* {gguf, hf} patterns, "%u" is the layer; ends with {NULL, NULL}; NULL: no GGUF form */
	const char *const (*gguf_names)[2];
	const char *gguf_arch; /* general.architecture, or NULL */
	const struct bmi_forward *forward;
	const struct bmi_arch_keys *keys;
	/*
	 * {in the checkpoint, in the skeleton}: beginnings of tensor names that other releases or the multimodal wrapper of
	 * the model write. Where a checkpoint's name starts with the first, that part is replaced by the second, before
	 * anything else (also before `ignored`); the first pair that fits is taken, once. Ends with {NULL, NULL}; may be NULL.
	 */
	const char *const (*name_prefixes)[2];
	const struct bmi_arch_part *parts; /* ends with {NULL}; may be NULL. Looked at after name_prefixes. */
	/* fnmatch(3) patterns of matrices of which only single rows are read, as of the embedding; NULL-terminated; may be NULL */
	const char *const *gathered;
	const char *const *embed_exec; /* full names of modules read after the embedding; NULL-terminated; may be NULL */
};

/**
 * bmi_config_read() - config.json's object to numbers.
 * @json:  the root object; a multimodal one with a text_config gives its text model. Must outlive @ret.
 * @find:  looks an architecture up by model_type (arch/arch.h's table, passed in: model/ knows no architecture).
 *
 * Refused by name, -EOPNOTSUPP: unknown model_type, quantization_config, auto_map without a known model_type, RoPE types
 * and other keys that change the arithmetic and are not supported. -EINVAL: sizes that contradict each other.
 */
int bmi_config_read(const struct bmi_json *json, const struct bmi_arch *(*find)(const char *model_type),
		    struct bmi_config **ret, struct bmi_error *err);
void bmi_config_free(struct bmi_config *cfg);
BMI_AUTO(bmi_config)

/** bmi_skel_build() - the skeleton of a config. The config must outlive it. Return: 0, -ENOMEM, -EINVAL. */
int bmi_skel_build(const struct bmi_config *cfg, struct bmi_skel **ret, struct bmi_error *err);
void bmi_skel_free(struct bmi_skel *skel);
BMI_AUTO(bmi_skel)

/** bmi_skel_find_module(), bmi_skel_find_tensor() - by full name; BMI_NONE when there is none. Cost: a hash lookup. */
uint32_t bmi_skel_find_module(const struct bmi_skel *skel, const char *name, size_t n);
uint32_t bmi_skel_find_tensor(const struct bmi_skel *skel, const char *name, size_t n);

/** bmi_skel_tensor_bytes() - bytes of a tensor in @dtype (its own dtype where it has one); second names count 0. */
uint64_t bmi_skel_tensor_bytes(const struct bmi_skel *skel, uint32_t tensor, enum bmi_dtype dtype);

/**
 * bmi_skel_read_share() - the part of a tensor that one token reads: one row of an embedding that is not also the head,
 * k of E experts, all of anything else.
 */
double bmi_skel_read_share(const struct bmi_skel *skel, uint32_t tensor);

/** bmi_skel_module_bytes() - all tensors at and below a module. */
uint64_t bmi_skel_module_bytes(const struct bmi_skel *skel, uint32_t module, enum bmi_dtype dtype);

#endif

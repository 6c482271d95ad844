/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_PLACE_PLACE_H
#define BMI_PLACE_PLACE_H

#include "base/str.h"
#include "model/skel.h"

/* A device in maps and budgets: a GPU's number, or one of these. */
typedef int32_t bmi_device;
enum { BMI_DEVICE_CPU = -1, BMI_DEVICE_DISK = -2, BMI_DEVICE_MPS = -3, BMI_DEVICE_NONE = -4 };

enum bmi_place_mode {
	BMI_PLACE_CUSTOM,
	BMI_PLACE_AUTO,
	BMI_PLACE_BALANCED,
	BMI_PLACE_BALANCED_LOW_0,
	BMI_PLACE_SEQUENTIAL,
	BMI_PLACE_FASTEST /* ours; not one of the peer's */
};

/* Kinds of refusal, as programs see them (mount.bmifs --plan --json) and as the peer's cases name them. */
enum bmi_place_error {
	BMI_PLACE_OK,
	BMI_PLACE_BAD_MODE,
	BMI_PLACE_NEGATIVE_DEVICE,
	BMI_PLACE_BAD_DEVICE,
	BMI_PLACE_DEVICE_UNAVAILABLE,
	BMI_PLACE_MISSING_PARAMS,
	BMI_PLACE_UNKNOWN_MODULE,
	BMI_PLACE_BAD_SIZE,
	BMI_PLACE_BAD_MAX_MEMORY_DEVICE,
	BMI_PLACE_NON_FLOATING_DTYPE,
	BMI_PLACE_BAD_DTYPE,
	BMI_PLACE_UNSUPPORTED_DTYPE,
	BMI_PLACE_NO_ROOM,
	BMI_PLACE_SYNTAX,
};
const char *bmi_place_error_name(enum bmi_place_error kind); /* "missing_params" */

/* What was asked for: a mode, or module -> device lines in the order written. */
struct bmi_map_entry {
	const char *module; /* "" = all */
	bmi_device device;
};

struct bmi_map {
	struct bmi_arena *arena;
	enum bmi_place_mode mode;
	struct bmi_map_entry *entries; /* BMI_PLACE_CUSTOM only */
	uint32_t n_entries;
	struct bmi_budget *max_memory; /* from a `max_memory:` block in the text, else NULL */
};

/**
 * bmi_map_parse() - the text of device_map.yaml, in every form contract 4.5 accepts (a word, YAML, JSON).
 * @complete: false checks only the complete lines of a text still being written (ret may be NULL then): an unfinished
 *            last line is no error.
 * @skel:     names are checked against it when not NULL (BMI_PLACE_UNKNOWN_MODULE).
 * @ret_kind: may be NULL.
 *
 * Return: 0, -EINVAL (syntax, unknown module, unknown or negative device), -ENOMEM.
 */
int bmi_map_parse(const char *text, size_t n, bool complete, const struct bmi_skel *skel,
		  struct bmi_map **ret, enum bmi_place_error *ret_kind, struct bmi_error *err);
void bmi_map_free(struct bmi_map *map);
BMI_AUTO(bmi_map)

/* Bytes each device may take for weights. Devices in the peer's order: GPUs ascending, mps, cpu, disk. */
struct bmi_budget {
	struct {
		bmi_device device;
		double bytes; /* the peer compares reals; a negative one fits nothing */
		double rate;  /* bytes a second it reads weights at; 0: bmi_place_default_rate() */
	} dev[66];
	uint32_t n;
	double kv_layer_bytes; /* keys and values of one layer, which live where it is computed; `fastest` plans them in */
	bool given; /* by max_memory; false: detected, then the 0.9 rules of one GPU apply */
};

/** bmi_budget_parse() - the text of max_memory (lines `device: size`, `device=size:...` as mount option, or JSON). -EINVAL. */
int bmi_budget_parse(const char *text, size_t n, bool complete, struct bmi_budget *ret,
		     enum bmi_place_error *ret_kind, struct bmi_error *err);

/** bmi_size_parse() - "10GiB", " 7 MB", "10gb": bytes, by the peer's rules; what is more than 64 bits hold is 2^64 - 1. -EINVAL. */
int bmi_size_parse(const char *text, size_t n, uint64_t *ret_bytes, struct bmi_error *err);

/** bmi_dtype_parse() - a word for a dtype: name, alias, "torch." prefix; *ret_auto for "auto" and "". -EINVAL, -EOPNOTSUPP. */
int bmi_dtype_parse(const char *text, size_t n, enum bmi_dtype *ret, bool *ret_auto,
		    enum bmi_place_error *ret_kind, struct bmi_error *err);

/**
 * bmi_dtype_resolve() - the dtype that is meant, by the peer's order: what was asked for, else what config.json says, else
 * the first floating type among the checkpoint's tensors, else the type of its first tensor.
 * @asked:  the text of `dtype`; "" or "auto": nothing asked.
 * @config: config.json's word, NULL when it has none.
 * @stored: [n] types as safetensors writes them ("BF16", "I8", "F8_E4M3"), in the byte order of the tensors' names.
 * Return: 0, -EINVAL (no such type, or not a floating one).
 */
int bmi_dtype_resolve(const char *asked, const char *config, const char *const *stored, size_t n,
		      enum bmi_dtype *ret, enum bmi_place_error *ret_kind, struct bmi_error *err);

/* The answer. Plain data: it can be sent elsewhere. */
struct bmi_plan {
	struct bmi_arena *arena;
	enum bmi_dtype dtype;
	/*
	 * [skel->n_tensors]. A second name is with its source in every mode; a map of one's own may name it apart, as the
	 * peer accepts. Buffers that no line covers go with a neighbour.
	 */
	bmi_device *tensor_device;
	struct bmi_map_entry *entries; /* hf_device_map, the peer's keys and order */
	uint32_t n_entries;
};

/**
 * bmi_place_plan() - a device for every tensor.
 * @n_gpus: GPUs that exist (devices 0..n_gpus-1); a map that names another is -ENODEV (BMI_PLACE_DEVICE_UNAVAILABLE).
 *          UINT32_MAX: imaginary machine, any GPU is fine.
 * @budget: for the modes; ignored by custom maps (what they need is the caller's to check).
 * Pure; see docs/placement.md for the algorithm and its source.
 *
 * Return: 0, -EINVAL (missing_params: all missing names are in the sentence), -ENODEV, -ENOMEM.
 */
int bmi_place_plan(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_map *map,
		   const struct bmi_budget *budget, uint32_t n_gpus, struct bmi_plan **ret,
		   enum bmi_place_error *ret_kind, struct bmi_error *err);
void bmi_plan_free(struct bmi_plan *plan);
BMI_AUTO(bmi_plan)

/** bmi_place_default_rate() - a careful guess of the bytes a second that a device reads weights at. */
double bmi_place_default_rate(bmi_device device);

/**
 * bmi_place_cost() - seconds that one token takes when tensors are where @tensor_device says.
 * The sum over tensors of the bytes a token reads of them / the rate of their device: in decode, weights are read once
 * for each token and the devices work one after the other. Activations and the links they cross are left out.
 */
double bmi_place_cost(const struct bmi_skel *skel, enum bmi_dtype dtype, const bmi_device *tensor_device,
		      const struct bmi_budget *budget);

/**
 * bmi_place_bound() - seconds that no placement within @budget can beat.
 * The fractional relaxation of the same sum: tensors by bytes read per byte stored, the densest first, into the fastest
 * device first, cut where a device is full. With additive cost and capacities it is optimal (exchange argument), and every
 * placement of whole tensors is one of its candidates.
 */
double bmi_place_bound(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget);

/**
 * bmi_plan_entries_from() - hf_device_map of where tensors are: the entries of @plan while every tensor is where the plan
 * says, else the shortest list of modules (in tree order) that tells the truth. For reports during a move.
 * @tensor_device: [skel->n_tensors].
 */
int bmi_plan_entries_from(const struct bmi_skel *skel, const struct bmi_plan *plan,
			  const bmi_device *tensor_device, struct bmi_arena *arena,
			  struct bmi_map_entry **ret, uint32_t *ret_n);

/** bmi_map_print_json() - entries as the JSON object of hf_device_map, one a line; GPUs are integers. */
int bmi_map_print_json(const struct bmi_map_entry *entries, uint32_t n, struct bmi_str *ret);

/** bmi_device_print() - "cpu", "disk", "0". @buf has room for 16. Return: buf. */
const char *bmi_device_print(bmi_device device, char buf[16]);

#endif

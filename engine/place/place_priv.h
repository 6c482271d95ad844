/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_PLACE_PLACE_PRIV_H
#define BMI_PLACE_PLACE_PRIV_H

#include "place/place.h"

/* A bound that only a fuzzer's build leaves out, to show that the fuzzer finds it (tests/fuzz/README.md). */
#ifdef BMI_PLANT_BUG_DEVICE_MAP
enum { BMI_PLANTED_DEVICE_MAP = 1 };
#else
enum { BMI_PLANTED_DEVICE_MAP = 0 };
#endif

/* Set *kind (may be NULL) and start the error; for `return bmi_refuse(...)`. */
#define bmi_refuse(kind, which, err, code, ...)   \
	__extension__({                           \
		if (kind)                         \
			*(kind) = (which);        \
		bmi_fail(err, code, __VA_ARGS__); \
	})

/*
 * What a user wrote, YAML or JSON alike: one scalar, or a mapping of keys to scalars and mappings. Strings live in the
 * arena, are NUL-terminated and hold no NUL.
 */
struct bmi_node {
	const char *key;   /* in a mapping */
	const char *value; /* NULL: a mapping */
	bool plain;        /* without quotes: may be a number; "" is then nothing at all */
	uint32_t line;     /* from 1; 0 for JSON, which does not tell */
	struct bmi_node *child, *next;
};

/** bmi_node_parse() - @text as a tree of depth 3 at most. *ret is NULL for an empty text. -EINVAL (BMI_PLACE_SYNTAX), -ENOMEM. */
int bmi_node_parse(const char *text, size_t n, struct bmi_arena *arena, struct bmi_node **ret,
		   struct bmi_error *err);

/** bmi_yaml_parse() - the YAML half of it; the only door to libyaml. @line: number of the first line. */
int bmi_yaml_parse(const char *text, size_t n, uint32_t line, struct bmi_arena *arena, struct bmi_node **ret,
		   struct bmi_error *err);

enum { BMI_TEXT_MAX = 1 << 20 };

/** bmi_device_parse() - "cpu", "disk", "mps", N, "cuda", "cuda:N", "gpuN". False: no such word. */
bool bmi_device_parse(const char *word, size_t n, bmi_device *ret);

/** bmi_budget_from_node() - a mapping device: size. */
int bmi_budget_from_node(const struct bmi_node *map, struct bmi_budget *ret, enum bmi_place_error *kind,
			 struct bmi_error *err);

/** bmi_budget_check_line() - one device and its size, as text; for lines that come one by one. */
int bmi_budget_check_line(const char *device, const char *size, bool plain, enum bmi_place_error *kind,
			  struct bmi_error *err);

/** bmi_map_check_lines() - what a text still being written says so far; judges only lines it can judge alone. */
int bmi_map_check_lines(const char *text, size_t n, const struct bmi_skel *skel, enum bmi_place_error *kind,
			struct bmi_error *err);

/** bmi_map_is_word() - is this a mode or a device? */
bool bmi_map_is_word(const char *word);

/* A key of a map: a module, or a tensor of its own. */
struct bmi_part {
	uint32_t module, tensor; /* one of them is BMI_NONE; both: unknown */
};

struct bmi_part bmi_part_find(const struct bmi_skel *skel, const char *name, size_t n);
/** bmi_part_hint() - what there is near an unknown name: "'model.layers' has 0 to 3". */
void bmi_part_hint(const struct bmi_skel *skel, const char *name, size_t n, struct bmi_str *ret);

/* One line of the answer while it is made. */
struct bmi_placed {
	struct bmi_part part;
	bmi_device device;
};

/**
 * bmi_place_balance() - the budgets a mode really fills: budgets of the accelerators are lowered so that they share.
 * @budget: changed in place.
 */
void bmi_place_balance(const struct bmi_skel *skel, enum bmi_dtype dtype, enum bmi_place_mode mode,
		       struct bmi_budget *budget);

/** bmi_place_walk() - fill the devices in order, never going back. @ret: room for n_modules + n_tensors. -ENOMEM. */
int bmi_place_walk(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget,
		   struct bmi_placed *ret, uint32_t *ret_n, struct bmi_error *err);

/**
 * bmi_place_fastest() - the placement with the least bmi_place_cost() that we find, keys and values within the budget too.
 * @ret: room for n_modules + n_tensors. Return: 0, -ENOSPC (keys and values alone do not fit), -ENOMEM.
 */
int bmi_place_fastest(const struct bmi_skel *skel, enum bmi_dtype dtype, const struct bmi_budget *budget,
		      struct bmi_placed *ret, uint32_t *ret_n, struct bmi_error *err);

/** bmi_place_collapse() - one line for siblings that went to one device, at the end of the list; in place. */
void bmi_place_collapse(const struct bmi_skel *skel, struct bmi_placed *list, uint32_t *n);

/**
 * bmi_place_spread() - devices of tensors from lines: the deepest line above a tensor counts. BMI_DEVICE_NONE: no line.
 * @device: [n_tensors]. -ENOMEM.
 */
int bmi_place_spread(const struct bmi_skel *skel, const struct bmi_placed *list, uint32_t n,
		     bmi_device *device, struct bmi_error *err);

#endif

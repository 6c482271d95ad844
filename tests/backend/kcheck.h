/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_BACKEND_KCHECK_H
#define BMI_TESTS_BACKEND_KCHECK_H

#include "backend/cpu/kernels.h"

/*
 * What the kernel tests share: the sets this CPU runs, random inputs of every kind, memory that ends at a page nobody may
 * touch, results judged against a double-precision computation and a derived bound, and TAP.
 */
struct kcheck {
	uint64_t seed, state;
	unsigned n_lines, n_failed;
	const struct bmi_kernels *sets[BMI_KERNELS_MAX];
	unsigned n_sets;
	bool failed; /* the line under way */
	char why[256];
};

/* Half of a unit in the last place of 1: one rounding to float32 is off by at most KC_U times the result. */
#define KC_U 0x1p-24

/* Kinds of input; a check goes through all of them. */
enum kc_fill { KC_NORMAL, KC_TINY, KC_HUGE, KC_ZERO, KC_OUTLIER, KC_N_FILLS };

/** kcheck_init() - seed from KCHECK_SEED or the clock; prints it. */
void kcheck_init(struct kcheck *kc);

/** kcheck_finish() - print the plan. Return: the exit status. */
int kcheck_finish(const struct kcheck *kc);

uint32_t kcheck_random(struct kcheck *kc);

/** kcheck_fill() - n floats of a kind: about 1; subnormal and just above; up to 1e15; zeros of both signs; one 1e4 among 1. */
void kcheck_fill(struct kcheck *kc, float *x, size_t n, enum kc_fill fill);

/** kcheck_fill_dtype() - the same, rounded to @dtype at @dst; @ret_exact gets the rounded values. */
void kcheck_fill_dtype(struct kcheck *kc, void *dst, enum bmi_dtype dtype, float *ret_exact, size_t n,
		       enum kc_fill fill);

/** kcheck_alloc() - @size bytes that end exactly where memory ends: one byte further is a fault. Never freed. */
void *kcheck_alloc(size_t size);

/** kcheck_close() - fail the line unless |got - want| <= bound. */
void kcheck_close(struct kcheck *kc, double want, double got, double bound, const char *what, size_t i);

/** kcheck_same() - fail the line unless the floats have the same bits (two NaN are the same). */
void kcheck_same(struct kcheck *kc, const float *want, const float *got, size_t n, const char *what);

/** kcheck_line() - print the TAP line of everything checked since the last. */
void kcheck_line(struct kcheck *kc, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif

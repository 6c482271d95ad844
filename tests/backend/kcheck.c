/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the kernel tests' inputs, verdicts and TAP lines. One process, one thread. */
#include "backend/kcheck.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>

enum { PAGE = 4096 };

void kcheck_init(struct kcheck *kc)
{
	const char *seed = getenv("KCHECK_SEED");

	*kc = (struct kcheck){ .seed = seed ? strtoull(seed, NULL, 0) : (uint64_t)time(NULL) };
	kc->state = kc->seed * 0x9e3779b97f4a7c15u + 1;
	kc->n_sets = bmi_kernels_list(kc->sets);
	printf("# KCHECK_SEED=%llu\n", (unsigned long long)kc->seed);
}

int kcheck_finish(const struct kcheck *kc)
{
	printf("1..%u\n", kc->n_lines);
	return kc->n_failed != 0;
}

/* splitmix64 */
uint32_t kcheck_random(struct kcheck *kc)
{
	uint64_t z = kc->state += 0x9e3779b97f4a7c15u;

	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
	return (uint32_t)(z >> 32);
}

static float symmetric(struct kcheck *kc)
{
	return (float)((int32_t)kcheck_random(kc)) * 0x1p-31f;
}

void kcheck_fill(struct kcheck *kc, float *x, size_t n, enum kc_fill fill)
{
	for (size_t i = 0; i < n; i++)
		switch (fill) {
		case KC_TINY:
			x[i] = symmetric(kc) * (kcheck_random(kc) & 1 ? 0x1p-126f : 0x1p-120f);
			break;
		case KC_HUGE:
			x[i] = symmetric(kc) * 1e15f;
			break;
		case KC_ZERO:
			x[i] = kcheck_random(kc) & 1 ? 0.0f : -0.0f;
			break;
		default:
			x[i] = symmetric(kc) * 2.0f;
		}
	if (fill == KC_OUTLIER && n)
		x[kcheck_random(kc) % n] = 1e4f;
}

void kcheck_fill_dtype(struct kcheck *kc, void *dst, enum bmi_dtype dtype, float *ret_exact, size_t n,
		       enum kc_fill fill)
{
	/* float16 ends at 65504 and 2^-24: its extremes are others */
	kcheck_fill(kc, ret_exact, n, dtype == BMI_F16 && fill == KC_HUGE ? KC_NORMAL : fill);
	for (size_t i = 0; i < n; i++) {
		char *to = (char *)dst + i * (dtype == BMI_F32 ? 4 : 2);
		uint16_t h;

		if (dtype == BMI_F16 && fill == KC_HUGE)
			ret_exact[i] *= 30000.0f;
		if (dtype == BMI_F16 && fill == KC_TINY)
			ret_exact[i] *= 0x1p106f;
		if (dtype == BMI_F32) {
			memcpy(to, &ret_exact[i], 4);
			continue;
		}
		h = dtype == BMI_F16 ? bmi_f16_from_f32(ret_exact[i]) : bmi_bf16_from_f32(ret_exact[i]);
		memcpy(to, &h, 2);
		ret_exact[i] = dtype == BMI_F16 ? bmi_f32_from_f16(h) : bmi_f32_from_bf16(h);
	}
}

void *kcheck_alloc(size_t size)
{
	const size_t pages = (size + PAGE - 1) / PAGE * PAGE;
	char *p = mmap(NULL, pages + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (p == MAP_FAILED || mprotect(p + pages, PAGE, PROT_NONE) != 0)
		abort();
	return p + pages - size;
}

void kcheck_close(struct kcheck *kc, double want, double got, double bound, const char *what, size_t i)
{
	if (fabs(got - want) <= bound || kc->failed)
		return;
	kc->failed = true;
	snprintf(kc->why, sizeof(kc->why), "%s[%zu]: got %.9g, want %.17g, off by %.3g, bound %.3g", what, i,
		 got, want, fabs(got - want), bound);
}

void kcheck_same(struct kcheck *kc, const float *want, const float *got, size_t n, const char *what)
{
	for (size_t i = 0; i < n && !kc->failed; i++)
		if (memcmp(&want[i], &got[i], sizeof(*got)) != 0 && !(isnan(want[i]) && isnan(got[i]))) {
			kc->failed = true;
			snprintf(kc->why, sizeof(kc->why), "%s[%zu]: got %a, want the bits of %a", what, i,
				 got[i], want[i]);
		}
}

void kcheck_line(struct kcheck *kc, const char *fmt, ...)
{
	va_list ap;

	kc->n_lines++;
	printf("%sok %u - ", kc->failed ? "not " : "", kc->n_lines);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	printf("\n");
	if (kc->failed)
		printf("# %s\n", kc->why);
	kc->n_failed += kc->failed;
	kc->failed = false;
	fflush(stdout);
}

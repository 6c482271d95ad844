/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns nothing: turns elements of a file into what they are computed as, on all threads of the CPU tier. Matrices become
 * the dtype in force; vectors are rounded to it and kept as float32, so that a kernel adds what the peer adds.
 * Invariant: a piece is whole blocks of every type, so where it is cut cannot be seen in the result.
 */
#include "run/residency_priv.h"

#include "backend/cpu/cpu.h"

#include <stdalign.h>
#include <stdatomic.h>
#include <string.h>

enum { PIECE = 32 << 10, ROUNDING_PIECE = 1024 }; /* elements: whole blocks of every type */

struct convert_job {
	char *dst;
	const char *src;
	enum bmi_dtype from, to;
	bool widen; /* round to `to`, keep as float32 */
	size_t n;
	atomic_int code;
};

int bmi_residency_convert_rounded(float *dst, enum bmi_dtype via, const char *src, enum bmi_dtype from, size_t n)
{
	alignas(64) char rounded[ROUNDING_PIECE * sizeof(float)];

	for (size_t at = 0; at < n; at += ROUNDING_PIECE) {
		const size_t part = n - at < ROUNDING_PIECE ? n - at : ROUNDING_PIECE;
		int r = bmi_cpu_convert(rounded, via, src + bmi_residency_bytes(from, at), from, part);

		if (r == 0)
			r = bmi_cpu_convert(dst + at, BMI_F32, rounded, via, part);
		if (r < 0)
			return r;
	}
	return 0;
}

static void convert_piece(void *arg, uint32_t i)
{
	struct convert_job *job = arg;
	const size_t at = (size_t)i * PIECE, n = job->n - at < PIECE ? job->n - at : PIECE;
	const char *src = job->src + bmi_residency_bytes(job->from, at);
	int r;

	if (job->widen)
		r = bmi_residency_convert_rounded((float *)(void *)job->dst + at, job->to, src, job->from, n);
	else
		r = bmi_cpu_convert(job->dst + bmi_residency_bytes(job->to, at), job->to, src, job->from, n);
	if (r < 0)
		atomic_store(&job->code, r);
}

int bmi_residency_convert(struct bmi_residency *res, uint32_t tensor, void *dst, const void *src, size_t n)
{
	struct convert_job job = {
		.dst = dst,
		.src = src,
		.from = res->weight[tensor].src->dtype,
		.to = bmi_residency_dtype_of(res, tensor, bmi_residency_dtype(res)),
		.widen = res->weight[tensor].is_vector,
		.n = n,
	};

	/* a copy keeps up with a disk alone: not worth waiting for other threads */
	if (job.from == job.to && !job.widen)
		memcpy(dst, src, bmi_residency_bytes(job.to, n));
	else if (n <= PIECE)
		convert_piece(&job, 0);
	else
		bmi_cpu_parallel(res->opt.cpu, convert_piece, &job, (uint32_t)((n + PIECE - 1) / PIECE));
	return atomic_load(&job.code);
}

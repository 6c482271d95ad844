/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The limit that decoding is measured against: how fast this machine's threads together read memory that no cache holds.
 * usage: bandwidth [THREADS [SECONDS]]; prints bytes per second, the best of the rounds. Each thread reads a buffer of its
 * own, 256 MiB, touched by itself first, in 64-byte strides that the compiler makes vector loads of.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { BUF_BYTES = 256 << 20, WORDS = BUF_BYTES / 8, THREADS_MAX = 256 };

struct reader {
	pthread_t thread;
	pthread_barrier_t *barrier;
	unsigned n_rounds;
	uint64_t sum; /* kept, so that the reads stay */
	bool failed;
};

static double now_s(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static uint64_t sum_words(const uint64_t *p, size_t n)
{
	uint64_t s[8] = { 0 };

	for (size_t i = 0; i < n; i += 8)
		for (unsigned k = 0; k < 8; k++)
			s[k] += p[i + k];
	return s[0] + s[1] + s[2] + s[3] + s[4] + s[5] + s[6] + s[7];
}

static void *read_rounds(void *ctx)
{
	struct reader *r = ctx;
	uint64_t *buf = aligned_alloc(2 << 20, BUF_BYTES);

	if (buf)
		memset(buf, 1, BUF_BYTES);
	else
		r->failed = true;
	pthread_barrier_wait(r->barrier);
	for (unsigned i = 0; i < r->n_rounds; i++) {
		pthread_barrier_wait(r->barrier);
		if (buf)
			r->sum += sum_words(buf, WORDS);
		pthread_barrier_wait(r->barrier);
	}
	free(buf);
	return NULL;
}

int main(int argc, char **argv)
{
	static struct reader readers[THREADS_MAX];
	const unsigned n = argc > 1 ? (unsigned)strtoul(argv[1], NULL, 10) : 2;
	const double seconds = argc > 2 ? strtod(argv[2], NULL) : 2;
	/* a round is 256 MiB a thread: about 20 ms each at 12 GB/s */
	const unsigned n_rounds = (unsigned)(seconds / 0.02) + 3;
	pthread_barrier_t barrier;
	double best = 0;

	if (n < 1 || n > THREADS_MAX) {
		fprintf(stderr, "usage: bandwidth [THREADS [SECONDS]]\n");
		return 1;
	}
	pthread_barrier_init(&barrier, /* attr= */ NULL, n + 1);
	for (unsigned i = 0; i < n; i++) {
		readers[i] = (struct reader){ .barrier = &barrier, .n_rounds = n_rounds };
		if (pthread_create(&readers[i].thread, /* attr= */ NULL, read_rounds, &readers[i]))
			return 1;
	}
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < n_rounds; i++) {
		double t = now_s(), rate;

		pthread_barrier_wait(&barrier);
		pthread_barrier_wait(&barrier);
		t = now_s() - t;
		rate = (double)n * BUF_BYTES / t;
		best = rate > best ? rate : best;
	}
	for (unsigned i = 0; i < n; i++) {
		pthread_join(readers[i].thread, /* ret= */ NULL);
		if (readers[i].failed || readers[i].sum == 0) {
			fprintf(stderr, "bandwidth: no memory\n");
			return 1;
		}
	}
	printf("%.0f\n", best);
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the choice of a token from logits, and the random numbers for it. Knows no session and no clock.
 *
 * Sorting a vocabulary of 262144 for each token would cost more than a small model's layer. The best tokens are popped
 * from a heap instead, and only as many as the filters keep. Invariant: the candidates, once filtered, are in order of
 * falling score, equal scores by rising id; so the same logits, parameters and draw give the same token everywhere. (Without a
 * filter by rank they are in the order of ids: as fixed, and cheaper.)
 */
#include "run/sample.h"

#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

struct cand {
	float score;
	uint32_t id;
};

struct bmi_sampler {
	uint32_t vocab_size;
	uint32_t *n_seen; /* [vocab_size] times a token was generated; all 0 between calls */
	bool *marked;     /* [vocab_size] in the history; all false between calls */
	float *scores; /* [vocab_size] logits after penalties; then (logit - best) / temperature, the best is 0 */
	struct cand *heap; /* [vocab_size] */
	struct cand *kept; /* [vocab_size] */
	double *mass;      /* [vocab_size] exp(score) of kept, summed up to here */
};

static uint64_t rotate_left(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

void bmi_rng_init(struct bmi_rng *rng, uint64_t seed)
{
	for (int i = 0; i < 4; i++) { /* splitmix64 */
		uint64_t z = seed += 0x9e3779b97f4a7c15u;

		z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
		z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
		rng->s[i] = z ^ (z >> 31);
	}
}

uint64_t bmi_rng_next(struct bmi_rng *rng)
{
	uint64_t *s = rng->s;
	const uint64_t result = rotate_left(s[1] * 5, 7) * 9;
	const uint64_t t = s[1] << 17;

	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotate_left(s[3], 45);
	return result;
}

double bmi_rng_uniform(struct bmi_rng *rng)
{
	return (double)(bmi_rng_next(rng) >> 11) * 0x1p-53;
}

int bmi_sampler_new(uint32_t vocab_size, struct bmi_sampler **ret, struct bmi_error *err)
{
	bmi_auto(bmi_sampler) s = calloc(1, sizeof(*s));

	if (!s)
		return bmi_fail(err, -ENOMEM, "sampler");
	s->vocab_size = vocab_size;
	s->n_seen = calloc(vocab_size, sizeof(*s->n_seen));
	s->marked = calloc(vocab_size, sizeof(*s->marked));
	s->scores = calloc(vocab_size, sizeof(*s->scores));
	s->heap = calloc(vocab_size, sizeof(*s->heap));
	s->kept = calloc(vocab_size, sizeof(*s->kept));
	s->mass = calloc(vocab_size, sizeof(*s->mass));
	if (!s->n_seen || !s->marked || !s->scores || !s->heap || !s->kept || !s->mass)
		return bmi_fail(err, -ENOMEM, "sampler of %u tokens", vocab_size);
	*ret = bmi_steal(&s);
	return 0;
}

void bmi_sampler_free(struct bmi_sampler *sampler)
{
	if (!sampler)
		return;
	free(sampler->n_seen);
	free(sampler->marked);
	free(sampler->scores);
	free(sampler->heap);
	free(sampler->kept);
	free(sampler->mass);
	free(sampler);
}

static bool has_penalty(const struct bmi_sample_params *p)
{
	return p->repetition_penalty != 1 || p->presence_penalty != 0 || p->frequency_penalty != 0;
}

/* Each token of the history once, whatever its count. */
static void penalize(struct bmi_sampler *s, const struct bmi_sample_params *p, const struct bmi_history *h)
{
	for (uint32_t i = h->n_prompt; i < h->n; i++)
		if (h->ids[i] < s->vocab_size)
			s->n_seen[h->ids[i]]++;

	for (uint32_t i = 0; i < h->n; i++) {
		const uint32_t id = h->ids[i];
		double x;

		if (id >= s->vocab_size || s->marked[id])
			continue;
		s->marked[id] = true;
		x = s->scores[id];
		x = x < 0 ? x * p->repetition_penalty : x / p->repetition_penalty;
		x -= p->frequency_penalty * s->n_seen[id] + (s->n_seen[id] ? p->presence_penalty : 0);
		s->scores[id] = (float)x;
	}

	for (uint32_t i = 0; i < h->n; i++)
		if (h->ids[i] < s->vocab_size) {
			s->n_seen[h->ids[i]] = 0;
			s->marked[h->ids[i]] = false;
		}
}

/* The lowest id of the largest score. In lanes, so that a compiler sees its way to vectors: greedy decoding is only this. */
static int find_best(const float *x, uint32_t n, uint32_t *ret, struct bmi_error *err)
{
	enum { LANES = 16 };
	float top[LANES], best = -INFINITY;
	int is_nan[LANES] = { 0 };
	uint32_t i = 0;

	for (uint32_t j = 0; j < LANES; j++)
		top[j] = -INFINITY;
	for (; i + LANES <= n; i += LANES)
		for (uint32_t j = 0; j < LANES; j++) {
			top[j] = x[i + j] > top[j] ? x[i + j] : top[j];
			is_nan[j] |= x[i + j] != x[i + j];
		}
	for (; i < n; i++) {
		top[0] = x[i] > top[0] ? x[i] : top[0];
		is_nan[0] |= x[i] != x[i];
	}
	for (uint32_t j = 0; j < LANES; j++) {
		if (is_nan[j])
			return bmi_fail(err, -EDOM, "a logit is not a number");
		best = top[j] > best ? top[j] : best;
	}
	if (!isfinite(best))
		return bmi_fail(err, -EDOM, "the largest logit is %f", best);
	for (i = 0; x[i] != best; i++)
		;
	*ret = i;
	return 0;
}

static bool is_before(struct cand a, struct cand b)
{
	return a.score > b.score || (a.score == b.score && a.id < b.id);
}

static void sift_down(struct cand *heap, uint32_t n, uint32_t i)
{
	const struct cand moved = heap[i];

	for (;;) {
		uint32_t child = 2 * i + 1;

		if (child >= n)
			break;
		if (child + 1 < n && is_before(heap[child + 1], heap[child]))
			child++;
		if (!is_before(heap[child], moved))
			break;
		heap[i] = heap[child];
		i = child;
	}
	heap[i] = moved;
}

/* Pop the best n_min candidates in order, those equal to the last of them, and more until their mass reaches `mass`. */
static uint32_t pop_best(struct bmi_sampler *s, uint32_t n_min, double mass)
{
	const uint32_t n = s->vocab_size;
	struct cand *heap = s->heap;
	uint32_t left = n, n_kept = 0;
	double sum = 0;

	for (uint32_t i = 0; i < n; i++)
		heap[i] = (struct cand){ s->scores[i], i };
	for (uint32_t i = n / 2; i-- > 0;)
		sift_down(heap, n, i);

	while (left && (n_kept < n_min || sum < mass || (n_min && heap[0].score == s->kept[n_min - 1].score))) {
		s->kept[n_kept] = heap[0];
		sum += exp(heap[0].score);
		s->mass[n_kept++] = sum;
		heap[0] = heap[--left];
		sift_down(heap, left, 0);
	}
	return n_kept;
}

/* How many of the first n candidates top-p keeps: those whose better ones together lack top_p of the mass. */
static uint32_t cut_top_p(const struct bmi_sampler *s, uint32_t n, double total, double top_p)
{
	uint32_t keep = 1;

	while (keep < n && s->mass[keep - 1] < top_p * total)
		keep++;
	return keep;
}

/* The candidates the filters leave, best first, with their running mass. */
static uint32_t filter(struct bmi_sampler *s, const struct bmi_sample_params *p)
{
	const uint32_t n = s->vocab_size;
	uint32_t n_kept = 0;
	double sum = 0;

	if (p->top_k && p->top_k < n) {
		n_kept = pop_best(s, p->top_k, 0);
		if (p->top_p < 1)
			n_kept = cut_top_p(s, n_kept, s->mass[n_kept - 1], p->top_p);
	} else if (p->top_p < 1) {
		for (uint32_t i = 0; i < n; i++)
			sum += exp(s->scores[i]);
		n_kept = cut_top_p(s, pop_best(s, 1, p->top_p * sum), sum, p->top_p);
	} else { /* in the order of ids: nothing cuts by rank */
		for (uint32_t i = 0; i < n; i++) {
			const double mass = exp(s->scores[i]);

			if (mass < p->min_p)
				continue;
			sum += mass;
			s->kept[n_kept] = (struct cand){ s->scores[i], i };
			s->mass[n_kept++] = sum;
		}
		return n_kept;
	}
	while (n_kept > 1 && exp(s->kept[n_kept - 1].score) < p->min_p)
		n_kept--;
	return n_kept;
}

/* The first candidate whose running mass passes x, 0 <= x < mass of all. */
static uint32_t find_mass(const double *mass, uint32_t n, double x)
{
	uint32_t lo = 0, hi = n - 1;

	while (lo < hi) {
		const uint32_t mid = lo + (hi - lo) / 2;

		if (mass[mid] > x)
			hi = mid;
		else
			lo = mid + 1;
	}
	return lo;
}

int bmi_sample(struct bmi_sampler *s, const struct bmi_sample_params *params, const float *logits,
	       const struct bmi_history *history, struct bmi_rng *rng, uint32_t *ret_id, struct bmi_error *err)
{
	uint32_t best = 0, n_kept;
	double top, x;
	int r;

	if (history && has_penalty(params)) {
		memcpy(s->scores, logits, s->vocab_size * sizeof(float));
		penalize(s, params, history);
		logits = s->scores;
	}
	r = find_best(logits, s->vocab_size, &best, err);
	if (r < 0)
		return r;
	if (params->temperature <= 0) {
		*ret_id = best;
		return 0;
	}

	/* relative to the best one, so that a small temperature cannot overflow it */
	top = logits[best];
	for (uint32_t i = 0; i < s->vocab_size; i++)
		s->scores[i] = (float)((logits[i] - top) / params->temperature);

	x = bmi_rng_uniform(rng);
	n_kept = filter(s, params);
	*ret_id = s->kept[find_mass(s->mass, n_kept, x * s->mass[n_kept - 1])].id;
	return 0;
}

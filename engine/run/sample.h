/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_RUN_SAMPLE_H
#define BMI_RUN_SAMPLE_H

#include "base/cleanup.h"
#include "base/error.h"

#include <stdint.h>

/*
 * Logits to a token. The order and meaning of the filters are those of Transformers' generation/logits_process.py:
 * repetition penalty, temperature, top-k, top-p, min-p, then one draw. The penalties of the OpenAI interface (presence,
 * frequency) come right after the repetition penalty and count only what was generated, as vLLM does.
 */
struct bmi_sample_params {
	double temperature; /* 0: greedy, the largest logit, of equal ones the lowest id */
	uint32_t top_k;     /* 0: all; ties with the k-th are kept */
	double top_p;       /* 1: all; else tokens until their mass reaches it, at least one */
	double min_p;       /* 0: all; else tokens of at least min_p times the best one's probability */
	double repetition_penalty; /* 1: none; divides positive and multiplies negative logits of what was seen */
	double presence_penalty, frequency_penalty; /* 0: none */
};

/* Filters off, greedy. */
#define BMI_SAMPLE_GREEDY \
	((struct bmi_sample_params){ .temperature = 0, .top_p = 1, .repetition_penalty = 1 })

/* xoshiro256** 1.0 (Blackman, Vigna), its state filled by splitmix64 from the seed: the same draws everywhere. */
struct bmi_rng {
	uint64_t s[4];
};
void bmi_rng_init(struct bmi_rng *rng, uint64_t seed);
uint64_t bmi_rng_next(struct bmi_rng *rng);
/** bmi_rng_uniform() - a real in [0, 1), a multiple of 2^-53. */
double bmi_rng_uniform(struct bmi_rng *rng);

/* What was said so far, for the penalties: the prompt, then what was generated. */
struct bmi_history {
	const uint32_t *ids; /* [n] */
	uint32_t n, n_prompt;
};

/* Working memory for one vocabulary; one thread at a time. */
struct bmi_sampler;
int bmi_sampler_new(uint32_t vocab_size, struct bmi_sampler **ret, struct bmi_error *err);
void bmi_sampler_free(struct bmi_sampler *sampler);
BMI_AUTO(bmi_sampler)

/**
 * bmi_sample() - the next token.
 * @logits:  [vocab_size], left alone.
 * @history: read only if a penalty is on; may be NULL.
 * @rng:     one draw is taken if temperature > 0, none else.
 *
 * Cost: linear in the vocabulary, and k log(vocabulary) for the k tokens that top-k or top-p keep.
 * Return: 0, -EDOM (a logit is NaN, or none is finite: the forward overflowed).
 */
int bmi_sample(struct bmi_sampler *sampler, const struct bmi_sample_params *params, const float *logits,
	       const struct bmi_history *history, struct bmi_rng *rng, uint32_t *ret_id, struct bmi_error *err);

#endif

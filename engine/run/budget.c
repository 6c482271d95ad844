/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the split of memory, fixed before anything is loaded: what the process may take in all, what keys and values,
 * activations and staging need of it, and what is left for weights. Invariant: fixed + kv + weights =
 * allowed.
 */
#include "run/engine_priv.h"

#include "run/limits.h"

#include <errno.h>
#include <inttypes.h>

enum {
	PROCESS_BYTES = 48 << 20, /* code, tokenizer, file system, thread stacks: measured 25 to 40 MiB */
};

int bmi_budget_allowed(uint64_t *ret_bytes, struct bmi_error *err)
{
	uint64_t available;
	int r = bmi_limits_available("", &available, err);

	if (r == 0)
		*ret_bytes = available - available / 10; /* as the peer: 0.9 of what is there */
	return r;
}

int bmi_budget_split(const struct bmi_engine *eng, enum bmi_dtype dtype, struct split *ret,
		     struct bmi_error *err)
{
	const uint64_t weights = bmi_skel_module_bytes(eng->skel, 0, dtype), allowed = eng->allowed_bytes;
	const uint64_t fixed = PROCESS_BYTES + BMI_STAGING_BYTES + bmi_runner_need(eng->cfg, PASS_ROWS) +
			       (uint64_t)eng->opt.slots * eng->cfg->vocab_size * sizeof(float);
	uint32_t n_ctx = eng->opt.n_ctx ? eng->opt.n_ctx : DEFAULT_CTX;
	uint64_t left, room, one;

	if (allowed < fixed)
		return bmi_fail(err, -ENOMEM,
				"%" PRIu64 " MiB of memory may be used here, and %" PRIu64 " MiB are needed "
				"besides the weights",
				allowed >> 20, fixed >> 20);
	if (n_ctx > eng->cfg->max_positions)
		n_ctx = eng->cfg->max_positions;
	left = allowed - fixed;
	/* keys and values: what the weights leave, but a quarter at least: weights can be streamed, they cannot */
	room = left > weights && left - weights > left / 4 ? left - weights : left / 4;
	while (n_ctx > MIN_CTX && bmi_kv_need(eng->cfg, dtype, n_ctx) > room)
		n_ctx /= 2;
	one = bmi_kv_need(eng->cfg, dtype, n_ctx);
	if (one > room)
		return bmi_fail(err, -ENOMEM,
				"%" PRIu64 " MiB of memory are left for keys and values, and a context of %u "
				"needs %" PRIu64 " MiB",
				room >> 20, n_ctx, one >> 20);
	*ret = (struct split){ .fixed_bytes = fixed, .kv_bytes = one, .n_ctx = n_ctx };
	for (uint32_t i = 1; i < eng->opt.slots && ret->kv_bytes + one <= room; i++)
		ret->kv_bytes += one;
	ret->weights_bytes = left - ret->kv_bytes;
	return 0;
}

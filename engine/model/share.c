/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns what share of a tensor one token reads: the difference between a weight's size and its cost. Invariant: a share is
 * above 0 and at most 1.
 */
#include "model/skel.h"

#include <string.h>

static bool is_of(const struct bmi_skel *skel, const struct bmi_tensor *t, const char *module)
{
	return module && !strcmp(skel->modules[t->module].name, module);
}

static double get_number(const struct bmi_json *json, const char *const *keys)
{
	uint64_t n;

	for (; *keys; keys++)
		if (bmi_json_to_u64(bmi_json_get(json, *keys), &n) && n)
			return (double)n;
	return 0;
}

/* Of E experts a token is sent to k. */
static double expert_share(const struct bmi_config *cfg)
{
	static const char *const all[] = { "num_local_experts", "num_experts", "n_routed_experts", NULL };
	static const char *const used[] = { "num_experts_per_tok", "experts_per_token", NULL };
	const double n = get_number(cfg->json, all), k = get_number(cfg->json, used);

	return n > 0 && k > 0 && k < n ? k / n : 1;
}

double bmi_skel_read_share(const struct bmi_skel *skel, uint32_t tensor)
{
	const struct bmi_tensor *t = &skel->tensors[tensor];
	const struct bmi_config *cfg = skel->cfg;

	if (!cfg)
		return 1;
	/* a tied embedding is the head's matrix too, and that is read whole */
	if (!cfg->tie_embeddings && t->n_dims == 2 && is_of(skel, t, cfg->arch->embed_name))
		return 1 / (double)t->shape[0];
	return strstr(t->name, ".experts.") ? expert_share(cfg) : 1;
}

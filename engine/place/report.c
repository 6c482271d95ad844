/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hf_device_map as text, and as what is true while a move runs. Owns the shape of that text: JSON, one entry a line,
 * GPUs as integers, which is YAML too.
 */
#include "place/place_priv.h"

#include <errno.h>
#include <string.h>

struct truth {
	const struct bmi_skel *skel;
	const bmi_device *device;
	struct bmi_map_entry *list; /* NULL: only count */
	uint32_t n;
};

/* Where a parameter is: a second name where its source is. */
static bmi_device where(const struct truth *s, uint32_t tensor)
{
	const uint32_t source = s->skel->tensors[tensor].tied_to;

	return s->device[source != BMI_NONE ? source : tensor];
}

/* The one device of all parameters at and below a module; false when there are several. NONE: it has no parameters. */
static bool one_device(const struct truth *s, uint32_t module, bmi_device *ret)
{
	const struct bmi_module *m = &s->skel->modules[module], *last = &s->skel->modules[m->end - 1];

	*ret = BMI_DEVICE_NONE;
	for (uint32_t i = m->first_tensor; i < last->first_tensor + last->n_tensors; i++) {
		if (s->skel->tensors[i].kind != BMI_PARAM)
			continue;
		if (*ret != BMI_DEVICE_NONE && *ret != where(s, i))
			return false;
		*ret = where(s, i);
	}
	return true;
}

static void tell(struct truth *s, const char *name, bmi_device device)
{
	if (s->list)
		s->list[s->n] = (struct bmi_map_entry){ name, device };
	s->n++;
}

static void visit(struct truth *s, uint32_t module)
{
	const struct bmi_module *m = &s->skel->modules[module];
	bmi_device device;

	if (one_device(s, module, &device)) {
		if (device != BMI_DEVICE_NONE)
			tell(s, m->name, device);
		return;
	}
	for (uint32_t i = m->first_tensor; i < m->first_tensor + m->n_tensors; i++)
		if (s->skel->tensors[i].kind == BMI_PARAM)
			tell(s, s->skel->tensors[i].name, where(s, i));
	for (uint32_t i = module + 1; i < m->end; i = s->skel->modules[i].end)
		visit(s, i);
}

static bool as_planned(const struct bmi_skel *skel, const struct bmi_plan *plan, const bmi_device *tensor_device)
{
	for (uint32_t i = 0; i < skel->n_tensors; i++)
		if (skel->tensors[i].kind == BMI_PARAM && skel->tensors[i].tied_to == BMI_NONE &&
		    tensor_device[i] != plan->tensor_device[i])
			return false;
	return true;
}

int bmi_plan_entries_from(const struct bmi_skel *skel, const struct bmi_plan *plan,
			  const bmi_device *tensor_device, struct bmi_arena *arena,
			  struct bmi_map_entry **ret, uint32_t *ret_n)
{
	struct truth s = { skel, tensor_device, NULL, 0 };

	if (plan && as_planned(skel, plan, tensor_device)) {
		*ret = plan->entries;
		*ret_n = plan->n_entries;
		return 0;
	}
	visit(&s, 0);
	s.list = bmi_arena_array(arena, s.n, sizeof(*s.list));
	if (!s.list)
		return -ENOMEM;
	s.n = 0;
	visit(&s, 0);
	*ret = s.list;
	*ret_n = s.n;
	return 0;
}

int bmi_map_print_json(const struct bmi_map_entry *entries, uint32_t n, struct bmi_str *ret)
{
	char word[16];

	bmi_str_puts(ret, "{");
	for (uint32_t i = 0; i < n; i++) {
		bmi_str_puts(ret, i ? ",\n  " : "\n  ");
		bmi_str_put_json(ret, entries[i].module, strlen(entries[i].module));
		bmi_device_print(entries[i].device, word);
		bmi_str_printf(ret, entries[i].device >= 0 ? ": %s" : ": \"%s\"", word);
	}
	bmi_str_puts(ret, n ? "\n}\n" : "}\n");
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* The MLP of a layer: gated, gated with both halves in one matrix, or plain. */
#include "arch/form.h"

enum bmi_act bmi_form_act(const struct bmi_config *c)
{
	static const enum bmi_act acts[] = {
		[BMI_CFG_SILU] = BMI_ACT_SILU,
		[BMI_CFG_GELU] = BMI_ACT_GELU,
		[BMI_CFG_GELU_TANH] = BMI_ACT_GELU_TANH,
		[BMI_CFG_RELU] = BMI_ACT_RELU,
	};

	return acts[c->act];
}

static int glu(struct bmi_pass *p, float *gate, const float *up, size_t ld, uint32_t ff)
{
	return bmi_form_op(p, p->ops->glu(p->dev, gate, gate, up, ld, p->n_tok, ff, bmi_form_act(p->cfg)),
			   "glu");
}

int bmi_form_gated(struct bmi_pass *p, const char *gate, const char *up, const char *down, uint32_t ff,
		   float *y, const float *x)
{
	const uint32_t dim = p->cfg->hidden_size;
	float *g, *u;
	int r = bmi_form_scratch(p, BMI_SLOT_GATE, ff, &g);

	if (r == 0)
		r = bmi_form_scratch(p, BMI_SLOT_UP, ff, &u);
	if (r == 0)
		r = bmi_form_linear(p, gate, g, ff, x, dim);
	if (r == 0)
		r = bmi_form_linear(p, up, u, ff, x, dim);
	if (r == 0)
		r = glu(p, g, u, ff, ff);
	return r ? r : bmi_form_linear(p, down, y, dim, g, ff);
}

/* One matrix before the activation: of the gate and of what it gates, or of what is activated. */
static int one_matrix(struct bmi_pass *p, const struct bmi_form *form, float *y, const float *x)
{
	const uint32_t dim = p->cfg->hidden_size, ff = p->cfg->intermediate_size;
	const uint32_t cols = form->gate_up ? 2 * ff : ff;
	float *g;
	int r = bmi_form_scratch(p, BMI_SLOT_GATE, cols, &g);

	if (r == 0)
		r = bmi_form_linear(p, form->gate_up ? form->gate_up : form->up, g, cols, x, dim);
	if (r == 0)
		r = glu(p, g, form->gate_up ? g + ff : NULL, cols, ff);
	return r ? r : bmi_form_linear(p, form->down, y, dim, g, cols);
}

int bmi_form_mlp(struct bmi_pass *p, const struct bmi_form *form, uint32_t layer, float *y, const float *x)
{
	if (!form->gate)
		return one_matrix(p, form, y, x);
	return bmi_form_gated(p, form->gate, form->up, form->down, p->cfg->intermediate_size, y, x);
}

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_MODEL_SKEL_PRIV_H
#define BMI_MODEL_SKEL_PRIV_H

#include "model/skel.h"

/* Children of @layers_path are decoder layers, numbered by their leaf. Before the first bmi_skel_begin(). */
void bmi_skel_builder_set_layers(struct bmi_skel_builder *b, const char *layers_path);

/** bmi_skel_make_index() - the tables behind bmi_skel_find_*(). -ENOMEM; -EINVAL: a name that is there twice. */
int bmi_skel_make_index(struct bmi_skel *skel, struct bmi_error *err);

/** bmi_skel_make_exec() - skel->exec. Without a config, or an order of its family's: the order of the state dict. -ENOMEM. */
int bmi_skel_make_exec(struct bmi_skel *skel, struct bmi_error *err);

#endif

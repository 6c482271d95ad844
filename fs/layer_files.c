/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns layers/: a directory for each module that is placed as one, which tells where it is and of what it is made, and
 * takes another device. What a device is, is the engine's matter. Invariant: nothing here waits but close() of `device`.
 */
#include "mount.h"

#include <time.h>

/* These nodes stay in the tree until the end, so their parents' names can be read without the lock. */
static const char *module_of(const struct bmi_fs_node *node)
{
	return node->parent->name;
}

static int module_render(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, struct bmi_str *ret)
{
	return bmi_module_report(mnt->eng, module_of(node), (enum bmi_module_fact)node->kind->arg, ret);
}

static int device_check(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
			struct bmi_error *err)
{
	return bmi_module_check(mnt->eng, module_of(node), text, n, /* complete= */ false, err);
}

static int device_accept(struct bmi_fs_mount *mnt, struct bmi_fs_node *node, const char *text, size_t n,
			 uint64_t *ret_move, struct bmi_error *err)
{
	int r = bmi_module_set(mnt->eng, module_of(node), text, n, ret_move, err);

	if (r < 0)
		return r;
	pthread_mutex_lock(&mnt->lock);
	clock_gettime(CLOCK_REALTIME, &node->mtime);
	pthread_mutex_unlock(&mnt->lock);
	return 0;
}

static const struct bmi_fs_kind kind_layers = { .name = "layers", .mode = S_IFDIR | 0700 };
static const struct bmi_fs_kind kind_module = { .mode = S_IFDIR | 0700 };

static const struct bmi_fs_kind module_files[] = {
	{
		.name = "device",
		.mode = S_IFREG | 0600,
		.render = module_render,
		.is_report = true,
		.check = device_check,
		.accept = device_accept,
		.checks_lines = true,
		.arg = BMI_MODULE_DEVICE,
	},
	{
		.name = "dtype",
		.mode = S_IFREG | 0400,
		.render = module_render,
		.is_report = true,
		.arg = BMI_MODULE_DTYPE,
	},
	{
		.name = "bytes",
		.mode = S_IFREG | 0400,
		.render = module_render,
		.is_report = true,
		.arg = BMI_MODULE_BYTES,
	},
	{ .name = "tensors", .mode = S_IFREG | 0400, .render = module_render, .arg = BMI_MODULE_TENSORS },
};

bool bmi_fs_tree_add_layers(struct bmi_fs_mount *mnt, struct bmi_fs_node *root)
{
	struct bmi_fs_node *layers =
		bmi_fs_node_new(mnt, root, &kind_layers, /* name= */ NULL, /* ses= */ NULL);
	const char *name;

	for (unsigned i = 0; layers && (name = bmi_module_name(mnt->eng, i)); i++) {
		struct bmi_fs_node *dir = bmi_fs_node_new(mnt, layers, &kind_module, name, /* ses= */ NULL);

		for (size_t k = 0; k < sizeof(module_files) / sizeof(module_files[0]); k++) {
			if (!dir ||
			    !bmi_fs_node_new(mnt, dir, &module_files[k], /* name= */ NULL, /* ses= */ NULL))
				return false;
		}
	}
	return layers;
}

/* SPDX-License-Identifier: Apache-2.0 */
/* Owns the shape of the tree: which kinds of files are where. Invariant: the root is node 1, as FUSE asks. */
#include "mount.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

const struct bmi_fs_kind bmi_fs_kind_root = { .name = "", .mode = S_IFDIR | 0755, .holds_scratch = true };
const struct bmi_fs_kind bmi_fs_kind_params = { .name = "params", .mode = S_IFDIR | 0700 };

static const struct bmi_fs_kind *const root_files[] = {
	&bmi_fs_kind_device_map, &bmi_fs_kind_dtype,  &bmi_fs_kind_max_memory, &bmi_fs_kind_hf_device_map,
	&bmi_fs_kind_placement,  &bmi_fs_kind_status, &bmi_fs_kind_last_error, &bmi_fs_kind_model,
};

static const struct bmi_fs_kind *const shared_files[] = {
	&bmi_fs_kind_input,
	&bmi_fs_kind_output,
	&bmi_fs_kind_logits,
	&bmi_fs_kind_ctl,
};

static bool add_files(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir,
		      const struct bmi_fs_kind *const *kinds, size_t n, struct bmi_fs_session *ses)
{
	for (size_t i = 0; i < n; i++) {
		if (!bmi_fs_node_new(mnt, dir, kinds[i], /* name= */ NULL, ses))
			return false;
	}
	return true;
}

static bool add_params(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, struct bmi_fs_session *ses)
{
	struct bmi_fs_node *params = bmi_fs_node_new(mnt, dir, &bmi_fs_kind_params, /* name= */ NULL, ses);

	for (unsigned i = 0; params && bmi_param_name(i); i++) {
		const char *name = bmi_param_name(i);
		const bool many = !strcmp(name, "stop");

		if (!bmi_fs_node_new(mnt, params, many ? &bmi_fs_kind_param_lines : &bmi_fs_kind_param, name,
				     ses))
			return false;
	}
	return params;
}

static bool add_shared(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, struct bmi_fs_session *ses)
{
	return add_files(mnt, dir, shared_files, sizeof(shared_files) / sizeof(shared_files[0]), ses) &&
	       add_params(mnt, dir, ses);
}

bool bmi_fs_tree_add_session(struct bmi_fs_mount *mnt, struct bmi_fs_node *dir, struct bmi_fs_session *ses)
{
	return bmi_fs_node_new(mnt, dir, &bmi_fs_kind_session_status, /* name= */ NULL, ses) &&
	       add_shared(mnt, dir, ses);
}

/* Everybody who may enter may have a conversation of their own; only its owner removes it. */
static bool add_sessions(struct bmi_fs_mount *mnt)
{
	struct bmi_fs_node *dir;

	dir = bmi_fs_node_new(mnt, mnt->root, &bmi_fs_kind_sessions, /* name= */ NULL, /* ses= */ NULL);
	if (dir && mnt->opt->kernel.n && strstr(mnt->opt->kernel.bytes, "allow_other"))
		dir->mode = S_IFDIR | S_ISVTX | (0777 & ~(mode_t)(mnt->opt->has_umask ? mnt->opt->umask : 0));
	return dir;
}

int bmi_fs_tree_build(struct bmi_fs_mount *mnt)
{
	struct bmi_fs_session *ses = calloc(1, sizeof(*ses));
	bool ok;

	if (!ses)
		return -ENOMEM;
	ses->engine = bmi_engine_root_session(mnt->eng);
	ses->is_root = true;
	ses->n_refs = 1;
	mnt->root =
		bmi_fs_node_new(mnt, /* parent= */ NULL, &bmi_fs_kind_root, /* name= */ NULL, /* ses= */ NULL);
	ok = mnt->root &&
	     add_files(mnt, mnt->root, root_files, sizeof(root_files) / sizeof(root_files[0]), ses) &&
	     add_shared(mnt, mnt->root, ses) && bmi_fs_tree_add_layers(mnt, mnt->root) && add_sessions(mnt);
	bmi_fs_session_put(ses);
	assert(!ok || mnt->root->ino == FUSE_ROOT_ID);
	return ok ? 0 : -ENOMEM;
}

void bmi_fs_tree_fini(struct bmi_fs_mount *mnt)
{
	if (mnt->root)
		bmi_fs_node_unlink(mnt, mnt->root);
	mnt->root = NULL;
	/* What the kernel still remembered: nobody asks again. */
	for (unsigned i = 0; i < BMI_FS_INO_BUCKETS; i++) {
		while (mnt->inos[i]) {
			mnt->inos[i]->n_lookups = 1;
			bmi_fs_node_forget(mnt, mnt->inos[i]->ino, 1);
		}
	}
}

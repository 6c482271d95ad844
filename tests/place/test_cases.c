/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The planner against what Transformers 5.23.0 answers (data/placement/cases.jsonl, a case each; see docs/placement.md):
 * maps with their keys in order, errors by kind, sizes and dtypes. Where we differ on purpose, the case is in the table
 * `differs` with what we do instead, and that is what is checked.
 */
#include "arch/arch.h"
#include "place/place_priv.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "model/jsonl.h"

enum difference {
	SAME,
	WORKS_BY_IDS,    /* the peer crashes when GPU ids have gaps */
	REFUSES_UNKNOWN, /* the peer ignores keys that name nothing */
	UNKNOWN_AND_MISSING,
	IS_GPU_0,     /* "0", "cuda:0" and "gpu0" are one device everywhere */
	DISK_FOR_ALL, /* one word is enough */
	DROPS_TORCH_PREFIX,
	DROPS_BLANKS,
};

/* By the ids' last parts. */
static const struct {
	const char *kind, *part;
	enum difference what;
} differs[] = {
	{ "mode", "/gap_ids/balanced_low_0", WORKS_BY_IDS },
	{ "custom", "/unknown-layer9", REFUSES_UNKNOWN },
	{ "custom", "/unknown-gpt", REFUSES_UNKNOWN },
	{ "custom", "/old-expert-name", REFUSES_UNKNOWN },
	{ "custom", "/wrong-root", UNKNOWN_AND_MISSING },
	{ "custom", "/dev-str0", IS_GPU_0 },
	{ "mode", "/err-cuda0/auto", IS_GPU_0 },
	{ "mode", "/err-gpu0/auto", IS_GPU_0 },
	{ "custom", "/mode-disk", DISK_FOR_ALL },
	{ "dtype", "/'torch.float16'/F16", DROPS_TORCH_PREFIX },
	{ "dtype", "/'float16\\n'/F16", DROPS_BLANKS },
};

static struct bmi_json_doc *configs; /* by model */

struct fixture {
	const struct bmi_json *row, *expected;
	const char *error; /* the kind the peer refuses with; NULL: an answer */
	enum difference differs;
	struct bmi_arena *arena;
	struct bmi_config *cfg;
	struct bmi_skel *skel;
	enum bmi_dtype dtype;
	struct bmi_error err;
	enum bmi_place_error kind;
};

static const char *str(const struct fixture *f, const struct bmi_json *o, const char *key)
{
	const struct bmi_json *v = bmi_json_get(o, key);

	return v && v->type == BMI_JSON_STRING ? jsonl_str(f->arena, o, key) : NULL;
}

static bool ends_with(const char *s, const char *end)
{
	const size_t n = strlen(s), n_end = strlen(end);

	return n >= n_end && !strcmp(s + n - n_end, end);
}

static void setup(struct fixture *f, const struct bmi_json *row)
{
	const char *id, *kind;

	*f = (struct fixture){ .row = row, .expected = bmi_json_get(row, "expected"), .arena = bmi_arena_new() };
	f->error = str(f, f->expected, "error");
	id = str(f, row, "id");
	kind = str(f, row, "kind");
	for (size_t i = 0; i < BMI_ARRAY_LEN(differs); i++)
		if (!strcmp(kind, differs[i].kind) && ends_with(id, differs[i].part))
			f->differs = differs[i].what;
}

static void setup_model(struct fixture *f)
{
	const struct bmi_json *cfg = bmi_json_get(bmi_json_root(configs), str(f, f->row, "model"));
	const char *dtype = str(f, f->row, "dtype");
	bool none;

	if (bmi_config_read(cfg, bmi_arch_find, &f->cfg, &f->err) < 0 ||
	    bmi_skel_build(f->cfg, &f->skel, &f->err) < 0)
		fail_msg("%s", f->err.msg);
	assert_int_equal(bmi_dtype_parse(dtype, strlen(dtype), &f->dtype, &none, NULL, NULL), 0);
}

static void teardown(struct fixture *f)
{
	bmi_skel_free(f->skel);
	bmi_config_free(f->cfg);
	bmi_arena_free(f->arena);
}

/* A value as JSON text again. */
static void print_json(const struct bmi_json *v, struct bmi_str *s)
{
	if (v->type == BMI_JSON_STRING) {
		bmi_str_put_json(s, v->str, v->n);
	} else if (v->type == BMI_JSON_NUMBER) {
		bmi_str_put(s, v->str, v->n);
	} else {
		assert_int_equal(v->type, BMI_JSON_OBJECT);
		bmi_str_puts(s, "{");
		for (const struct bmi_json *c = v->child; c; c = c->next) {
			bmi_str_puts(s, c == v->child ? "\n" : ",\n");
			bmi_str_put_json(s, c->key, c->n_key);
			bmi_str_puts(s, ": ");
			print_json(c, s);
		}
		bmi_str_puts(s, "\n}\n");
	}
}

/* The same as YAML: objects become lines. */
static void print_yaml(const struct bmi_json *v, struct bmi_str *s)
{
	if (v->type != BMI_JSON_OBJECT) {
		print_json(v, s);
		return;
	}
	for (const struct bmi_json *c = v->child; c; c = c->next) {
		const bool quoted = c->n_key == 0;

		bmi_str_puts(s, quoted ? "\"" : "");
		bmi_str_put(s, c->key, c->n_key);
		bmi_str_puts(s, quoted ? "\": " : ": ");
		print_json(c, s);
		bmi_str_puts(s, "\n");
	}
}

static bmi_device json_device(const struct bmi_json *v)
{
	bmi_device d;

	assert_true(bmi_device_parse(v->str, v->n, &d));
	return d;
}

static void check_entries(const struct fixture *f, const struct bmi_plan *plan)
{
	const struct bmi_json *want = bmi_json_get(f->expected, "hf_device_map")->child;

	for (uint32_t i = 0; i < plan->n_entries; i++, want = want->next) {
		assert_non_null(want);
		if (strlen(plan->entries[i].module) != want->n_key ||
		    memcmp(plan->entries[i].module, want->key, want->n_key))
			fail_msg("entry %u is '%s', not '%.*s'", i, plan->entries[i].module, (int)want->n_key,
				 want->key);
		if (plan->entries[i].device != json_device(want))
			fail_msg("'%s' is on %d", plan->entries[i].module, plan->entries[i].device);
	}
	assert_null(want);
}

/* Everything is somewhere, and no budget is exceeded. */
static void check_budgets(const struct fixture *f, const struct bmi_plan *plan, const struct bmi_budget *budget)
{
	for (uint32_t d = 0; d < budget->n; d++) {
		double used = 0;

		for (uint32_t t = 0; t < f->skel->n_tensors; t++)
			if (plan->tensor_device[t] == budget->dev[d].device)
				used += (double)bmi_skel_tensor_bytes(f->skel, t, f->dtype);
		if (budget->dev[d].device != BMI_DEVICE_DISK)
			assert_true(used <= budget->dev[d].bytes || used == 0);
	}
	for (uint32_t t = 0; t < f->skel->n_tensors; t++) {
		bool known = plan->tensor_device[t] == BMI_DEVICE_DISK;

		for (uint32_t d = 0; d < budget->n; d++)
			known |= plan->tensor_device[t] == budget->dev[d].device;
		assert_true(known);
	}
}

static void check_balance(const struct fixture *f, enum bmi_place_mode mode, const struct bmi_budget *budget)
{
	const struct bmi_json *want = bmi_json_get(f->row, "budgets");
	struct bmi_budget b = *budget;

	bmi_place_balance(f->skel, f->dtype, mode, &b);
	for (want = want->child; want; want = want->next) {
		bmi_device device;
		double bytes;
		uint32_t i = 0;

		assert_true(bmi_device_parse(want->key, want->n_key, &device) &&
			    bmi_json_to_double(want, &bytes));
		while (i < b.n && b.dev[i].device != device)
			i++;
		if (i == b.n || b.dev[i].bytes != bytes)
			fail_msg("budget of device %d is %.17g, not %.17g", device,
				 i == b.n ? -1 : b.dev[i].bytes, bytes);
	}
}

static void check_kind(const struct fixture *f, int r)
{
	if (r == 0)
		fail_msg("accepted; expected the error %s", f->error);
	assert_string_equal(bmi_place_error_name(f->kind), f->error);
	assert_true(r == (f->kind == BMI_PLACE_DEVICE_UNAVAILABLE ? -ENODEV : -EINVAL));
	assert_true(strlen(f->err.msg) > 10);
}

static void run_mode(struct fixture *f)
{
	const struct bmi_json *memory = bmi_json_get(f->row, "max_memory");
	const char *word = str(f, f->row, "device_map");
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	bmi_auto_str text = { 0 };
	struct bmi_budget budget = { 0 };
	int r = 0;

	setup_model(f);
	if (memory->type != BMI_JSON_NULL) {
		print_json(memory, &text);
		r = bmi_budget_parse(text.bytes, text.n, true, &budget, &f->kind, &f->err);
	} else {
		print_json(bmi_json_get(f->row, "detected_memory"), &text);
		r = bmi_budget_parse(text.bytes, text.n, true, &budget, &f->kind, &f->err);
		budget.given = false;
		for (uint32_t i = 0; i < budget.n; i++)
			if (budget.dev[i].device == BMI_DEVICE_CPU)
				budget.dev[i].bytes *= 0.90; /* what the caller does with what it detects */
	}
	if (r < 0) {
		assert_non_null(f->error);
		check_kind(f, r);
		return;
	}
	assert_int_equal(bmi_map_parse(word, strlen(word), true, f->skel, &map, &f->kind, &f->err), 0);
	r = bmi_place_plan(f->skel, f->dtype, map, &budget, UINT32_MAX, &plan, &f->kind, &f->err);
	if (r < 0)
		fail_msg("%s", f->err.msg);
	check_budgets(f, plan, &budget);
	if (f->differs == WORKS_BY_IDS)
		assert_string_equal(f->error, "peer_crash");
	else if (f->differs == IS_GPU_0)
		assert_string_equal(f->error, "bad_max_memory_device");
	else if (f->error)
		fail_msg("accepted; expected the error %s", f->error);
	else
		check_entries(f, plan);
	if (!f->error && bmi_json_get(f->row, "budgets")->type == BMI_JSON_OBJECT)
		check_balance(f, map->mode, &budget);
}

/* The names in "...: a, b, c; what to do" cover just the missing parameters. */
static void check_missing(const struct fixture *f)
{
	const char *at = strstr(f->err.msg, "no device for: ");
	const struct bmi_json *missing = bmi_json_get(f->expected, "missing")->child;
	uint64_t n_missing;
	uint32_t n_named = 0;
	uint8_t *named = bmi_arena_alloc(f->arena, f->skel->n_tensors);
	size_t n;

	assert_non_null(at);
	for (at += strlen("no device for: "); *at && *at != ';'; at += n + (at[n] == ',') + (at[n] == ',')) {
		struct bmi_part part;

		n = strcspn(at, ",;");
		part = bmi_part_find(f->skel, at, n);
		assert_true(part.module != BMI_NONE || part.tensor != BMI_NONE);
		for (uint32_t t = 0; t < f->skel->n_tensors; t++) {
			const struct bmi_tensor *tensor = &f->skel->tensors[t];

			if (tensor->kind == BMI_PARAM &&
			    (part.module == BMI_NONE
				     ? t == part.tensor
				     : tensor->module >= part.module &&
					       tensor->module < f->skel->modules[part.module].end)) {
				assert_false(named[t]);
				named[t] = 1;
				n_named++;
			}
		}
	}
	for (; missing; missing = missing->next)
		assert_true(named[bmi_skel_find_tensor(f->skel, missing->str, missing->n)]);
	assert_true(bmi_json_to_u64(bmi_json_get(f->expected, "n_missing"), &n_missing));
	assert_int_equal(n_named, n_missing);
}

static void check_param_devices(const struct fixture *f, const struct bmi_plan *plan)
{
	const struct bmi_json *want = bmi_json_get(f->expected, "param_device");

	for (want = want ? want->child : NULL; want; want = want->next) {
		const uint32_t t = bmi_skel_find_tensor(f->skel, want->key, want->n_key);

		assert_true(t != BMI_NONE);
		if (plan->tensor_device[t] != json_device(want))
			fail_msg("%s is on %d", f->skel->tensors[t].name, plan->tensor_device[t]);
	}
}

static uint32_t n_gpus(const struct fixture *f)
{
	uint32_t n = 0;

	for (const struct bmi_json *d = bmi_json_get(f->row, "devices")->child; d; d = d->next)
		n += json_device(d) >= 0;
	return n;
}

static void check_custom(struct fixture *f, const struct bmi_str *text)
{
	bmi_auto(bmi_map) map = NULL;
	bmi_auto(bmi_plan) plan = NULL;
	const struct bmi_json *unknown;
	int r = bmi_map_parse(text->bytes, text->n, true, NULL, &map, &f->kind, &f->err), early;

	if (r == 0)
		r = bmi_place_plan(f->skel, f->dtype, map, NULL, n_gpus(f), &plan, &f->kind, &f->err);
	/* while it is written: what is refused early is what is refused in the end */
	early = bmi_map_parse(text->bytes, text->n, false, f->skel, NULL, NULL, NULL);
	assert_true(early == 0 || early == r);

	switch (f->differs) {
	case REFUSES_UNKNOWN:
		assert_int_equal(r, -EINVAL);
		assert_int_equal(f->kind, BMI_PLACE_UNKNOWN_MODULE);
		assert_int_equal(early, -EINVAL);
		break;
	case UNKNOWN_AND_MISSING:
		assert_int_equal(r, -EINVAL);
		assert_int_equal(f->kind, BMI_PLACE_UNKNOWN_MODULE);
		unknown = bmi_json_get(f->expected, "unknown_keys")->child;
		assert_non_null(strstr(f->err.msg, bmi_arena_strndup(f->arena, unknown->str, unknown->n)));
		check_missing(f);
		break;
	case IS_GPU_0:
		assert_int_equal(r, 0);
		assert_int_equal(plan->entries[0].device, 0);
		break;
	case DISK_FOR_ALL:
		assert_int_equal(r, 0);
		assert_int_equal(plan->n_entries, 1);
		for (uint32_t t = 0; t < f->skel->n_tensors; t++)
			assert_int_equal(plan->tensor_device[t], BMI_DEVICE_DISK);
		break;
	default:
		if (f->error) {
			check_kind(f, r);
			if (!strcmp(f->error, "missing_params"))
				check_missing(f);
			return;
		}
		if (r < 0)
			fail_msg("%s", f->err.msg);
		check_entries(f, plan);
		check_param_devices(f, plan);
	}
}

static void run_custom(struct fixture *f)
{
	bmi_auto_str json = { 0 }, yaml = { 0 };

	setup_model(f);
	print_json(bmi_json_get(f->row, "device_map"), &json);
	print_yaml(bmi_json_get(f->row, "device_map"), &yaml);
	check_custom(f, &json);
	check_custom(f, &yaml);
}

static void run_size(struct fixture *f)
{
	const struct bmi_json *size = bmi_json_get(f->row, "size");
	double want;
	uint64_t got;
	const int r = bmi_size_parse(size->str, size->n, &got, &f->err);

	f->kind = BMI_PLACE_BAD_SIZE;
	if (f->error) {
		check_kind(f, r);
		return;
	}
	assert_int_equal(r, 0);
	assert_true(bmi_json_to_double(bmi_json_get(f->expected, "bytes"), &want));
	assert_true(want < 0x1p64 ? (double)got == want : got == UINT64_MAX);
}

static void run_dtype(struct fixture *f)
{
	const struct bmi_json *stored = bmi_json_get(f->row, "checkpoint_dtypes");
	const char *asked = str(f, f->row, "request"), *words[8];
	enum bmi_dtype dtype;
	size_t n = 0;
	int r;

	for (const struct bmi_json *v = stored->child; v; v = v->next)
		words[n++] = bmi_arena_strndup(f->arena, v->str, v->n);
	r = bmi_dtype_resolve(asked ? asked : "", str(f, f->row, "config_dtype"), words, n, &dtype, &f->kind,
			      &f->err);
	if (f->differs == DROPS_TORCH_PREFIX || f->differs == DROPS_BLANKS) {
		assert_string_equal(f->error, "bad_dtype");
		assert_int_equal(r, 0);
		assert_int_equal(dtype, BMI_F16);
	} else if (f->error) {
		check_kind(f, r);
	} else {
		if (r < 0)
			fail_msg("%s", f->err.msg);
		assert_string_equal(bmi_dtype_name(dtype), str(f, f->expected, "dtype"));
	}
}

static void run_case(void **state)
{
	static const struct {
		const char *kind;
		void (*run)(struct fixture *f);
	} kinds[] = {
		{ "mode", run_mode }, { "detected", run_mode }, { "custom", run_custom },
		{ "size", run_size }, { "dtype", run_dtype },
	};
	struct fixture f;
	size_t i = 0;

	setup(&f, *state);
	while (strcmp(kinds[i].kind, str(&f, f.row, "kind")))
		assert_true(++i < BMI_ARRAY_LEN(kinds));
	kinds[i].run(&f);
	teardown(&f);
}

int main(void)
{
	struct jsonl t = { 0 };
	struct bmi_error err = { 0 };
	const int dir = open(TEST_DATA, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	char *text;
	size_t n;
	int r;

	if (dir < 0 || bmi_file_read(dir, "placement/configs.json", 1 << 20, &text, &n, &err) < 0 ||
	    bmi_json_parse(text, n, &configs, &err) < 0) {
		printf("Bail out! %s\n", err.msg);
		return 1;
	}
	jsonl_load(&t, "placement/cases.jsonl", "id", run_case);
	r = jsonl_run(&t, "placement cases");
	bmi_json_free(configs);
	free(text);
	close(dir);
	return r;
}

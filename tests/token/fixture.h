/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TESTS_TOKEN_FIXTURE_H
#define BMI_TESTS_TOKEN_FIXTURE_H

#include "base/json.h"
#include "token/token.h"

/* A file of JSON lines. */
struct lines {
	char *text;
	struct bmi_json_doc **docs; /* [n] */
	size_t n;
};

/* A whole file; NULL when it cannot be read. The caller frees it. */
char *read_file(const char *path, size_t *ret_n);

/* Every line must be JSON; exits with "Bail out!" else. */
void lines_open(struct lines *l, const char *path);
void lines_free(struct lines *l);

/* A tokenizer from a tokenizer.json; bails out when it is refused. */
struct bmi_tok *open_json(const char *path);

/* A tokenizer from a GGUF model (a directory or a file); bails out when it is refused. */
struct bmi_tok *open_gguf_model(const char *path);

/* A tokenizer from a byte-level tokenizer.json, handed over as a GGUF file would. @pre is tokenizer.ggml.pre. */
struct bmi_tok *open_json_as_gguf(const char *path, const char *pre);

/* "models:x" is x below the directory BMIFS_TEST_MODELS; prints a TAP skip of all and returns false when it is not there. */
bool find_path(const char *arg, char *ret, size_t n_ret);

/* Do the ids equal the array of numbers? */
bool same_ids(const struct bmi_ids *ids, const struct bmi_json *want);
bool same_text(const struct bmi_str *s, const struct bmi_json *want);

/* Decode id by id: every piece must be whole characters, and all together what bmi_tok_decode() gives. NULL, or what is wrong. */
const char *check_pieces(const struct bmi_tok *tok, const struct bmi_ids *ids, bool skip_special);

/* One TAP line; @text names the case, shown as far as it is plain. @why NULL: ok. */
void tap(size_t n, const char *name, const char *text, size_t n_text, const char *why);
int tap_status(void); /* 0 when every case was ok */

#endif

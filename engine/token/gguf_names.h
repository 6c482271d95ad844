/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_GGUF_NAMES_H
#define BMI_TOKEN_GGUF_NAMES_H

#include "token/token.h"

/* How a tokenizer.ggml.pre cuts: patterns one after the other, each within the pieces of the one before. */
struct bmi_tok_gguf_pre {
	const char *name;
	const char *regex[4];        /* NULL: no more */
	bool ignore_merges, add_bos; /* add_bos: where the metadata does not say */
};

/** bmi_tok_gguf_find_pre() - NULL when the name is not known. */
const struct bmi_tok_gguf_pre *bmi_tok_gguf_find_pre(const char *name);

/**
 * bmi_tok_gguf_is_control() - does llama.cpp take a token with this text for a control token whatever its
 * type says?
 */
bool bmi_tok_gguf_is_control(struct bmi_tok_text text);

#endif

/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_CHAT_H
#define BMI_TOKEN_CHAT_H

#include "base/cleanup.h"
#include "base/error.h"
#include "base/str.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A chat template with the texts of its special tokens. Never changes: any number of threads may render it. */
struct bmi_chat;

/* One message. Texts are UTF-8 and lent. */
struct bmi_chat_message {
	const char *role; /* NUL-terminated: "system", "user", "assistant", "tool" */
	const char *content;
	size_t n_content;
};

/* What a template is rendered over; `{ 0 }` and then what is known. All is lent for the call. */
struct bmi_chat_input {
	const struct bmi_chat_message *messages;
	size_t n_messages;
	/*
	 * A JSON object of more variables, or NULL: "tools" (a list of functions), "documents", "enable_thinking" and
	 * whatever else the template asks for. "messages" here replaces those above, for tool calls and contents in parts.
	 */
	const char *vars_json;
	size_t n_vars_json;
	bool add_generation_prompt;
	int64_t now; /* seconds since 1970; strftime_now() shows it in the local time zone, as Transformers does */
};

/**
 * bmi_chat_open() - a chat from the text of its template.
 * @text: @n bytes; may be freed afterwards.
 * @bos:  the text of the token (NUL-terminated), or NULL: there is none, and bos_token is undefined in the template.
 * @eos:  same.
 * @ret:  on success the caller frees it with bmi_chat_free(); untouched on failure.
 *
 * The template runs as Transformers' apply_chat_template() runs it. jinja.h has the limits.
 *
 * Return: 0, -EINVAL (syntax, with the line), -EOPNOTSUPP (a construct that is not known, by name), -E2BIG (larger than
 * 1 MiB, or nested too deep), -EILSEQ (not UTF-8), -ENOMEM.
 */
int bmi_chat_open(const char *text, size_t n, const char *bos, const char *eos, struct bmi_chat **ret,
		  struct bmi_error *err);
void bmi_chat_free(struct bmi_chat *chat);
BMI_AUTO(bmi_chat)

/**
 * bmi_chat_render() - the prompt of a conversation.
 * @ret: the text is appended; on failure it is as it was. It holds special tokens as text, the first one included:
 *       encode it with BMI_TOK_PARSE_SPECIAL and without BMI_TOK_ADD_SPECIAL.
 *
 * Return: 0, -EINVAL (what raise_exception() says, or an error of the template, with the line; or vars_json is no JSON
 * object), -EOPNOTSUPP (named), -E2BIG (steps, memory or output), -EILSEQ (a message that is not UTF-8), -ENOMEM.
 */
int bmi_chat_render(const struct bmi_chat *chat, const struct bmi_chat_input *in, struct bmi_str *ret,
		    struct bmi_error *err);

/* What a tokenizer_config.json says about chat. Each is NUL-terminated and NULL when absent. */
struct bmi_chat_config {
	char *template_text, *bos, *eos;
};

void bmi_chat_config_fini(struct bmi_chat_config *c);

/**
 * bmi_chat_template_from_config() - chat_template, bos_token and eos_token of a tokenizer_config.json.
 * @json: @n bytes; may be freed afterwards.
 * @ret:  the caller ends it with bmi_chat_config_fini(); untouched on failure.
 *
 * chat_template may be a text or a list of { name, template }, of which "default" counts. A token is a text or an object
 * with "content".
 *
 * Return: 0 (also when there is no template: template_text is NULL), -EINVAL (not JSON, or a member of another kind),
 * -ENOMEM.
 */
int bmi_chat_template_from_config(const char *json, size_t n, struct bmi_chat_config *ret,
				  struct bmi_error *err);

#endif

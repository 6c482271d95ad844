/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way from messages to a prompt: which variables a template sees, and where templates are found in
 * tokenizer_config.json. The language is jinja.h's.
 * Invariant: a template sees what Transformers' apply_chat_template() shows it: messages, tools, documents,
 * add_generation_prompt, the special tokens, and the caller's own variables over these.
 */
#include "token/chat.h"
#include "base/json.h"
#include "token/jinja.h"
#include "token/utf8.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bmi_chat {
	struct bmi_jinja *jinja;
	char *bos, *eos;
};

static void json_cleanup(struct bmi_json_doc **doc)
{
	bmi_json_free(*doc);
}

#define auto_json __attribute__((cleanup(json_cleanup))) struct bmi_json_doc *

int bmi_chat_open(const char *text, size_t n, const char *bos, const char *eos, struct bmi_chat **ret,
		  struct bmi_error *err)
{
	bmi_auto(bmi_chat) chat = calloc(1, sizeof(*chat));
	int r;

	if (!chat)
		return bmi_fail(err, -ENOMEM, "a chat template");
	if ((bos && bmi_tok_utf8_valid(bos, strlen(bos)) != strlen(bos)) ||
	    (eos && bmi_tok_utf8_valid(eos, strlen(eos)) != strlen(eos)))
		return bmi_fail(err, -EILSEQ, "a special token of the chat template is not UTF-8");
	chat->bos = bos ? strdup(bos) : NULL;
	chat->eos = eos ? strdup(eos) : NULL;
	if ((bos && !chat->bos) || (eos && !chat->eos))
		return bmi_fail(err, -ENOMEM, "a chat template");
	r = bmi_jinja_parse(text, n, &chat->jinja, err);
	if (r < 0)
		return bmi_note(err, r, "the chat template");
	*ret = bmi_steal(&chat);
	return 0;
}

void bmi_chat_free(struct bmi_chat *chat)
{
	if (!chat)
		return;
	bmi_jinja_free(chat->jinja);
	free(chat->bos);
	free(chat->eos);
	free(chat);
}

/* The messages as JSON, so that there is one way for values into a template. */
static int messages_json(const struct bmi_chat_input *in, struct bmi_str *ret, struct bmi_error *err)
{
	bmi_str_puts(ret, "{\"messages\":[");
	for (size_t i = 0; i < in->n_messages; i++) {
		const struct bmi_chat_message *m = &in->messages[i];
		const size_t n_role = strlen(m->role);

		if (bmi_tok_utf8_valid(m->role, n_role) != n_role ||
		    bmi_tok_utf8_valid(m->content, m->n_content) != m->n_content)
			return bmi_fail(err, -EILSEQ, "message %zu is not UTF-8", i + 1);
		bmi_str_puts(ret, i ? ",{\"role\":" : "{\"role\":");
		bmi_str_put_json(ret, m->role, n_role);
		bmi_str_puts(ret, ",\"content\":");
		bmi_str_put_json(ret, m->content, m->n_content);
		bmi_str_puts(ret, "}");
	}
	bmi_str_printf(ret, "],\"add_generation_prompt\":%s,\"tools\":null,\"documents\":null}",
		       in->add_generation_prompt ? "true" : "false");
	return bmi_str_ok(ret) ? 0 : bmi_fail(err, -ENOMEM, "the messages of a chat");
}

/* The members of @object and, behind them, room for @more. */
static struct bmi_jinja_var *list_vars(const struct bmi_json *own, const struct bmi_json *object, size_t more,
				       size_t *ret_n)
{
	struct bmi_jinja_var *v = calloc((own ? own->n : 0) + object->n + more, sizeof(*v));
	size_t n = 0;

	for (const struct bmi_json *c = own ? own->child : NULL; v && c; c = c->next)
		v[n++] = (struct bmi_jinja_var){ .name = c->key ? c->key : "", .n_name = c->n_key, .json = c };
	for (const struct bmi_json *c = object->child; v && c; c = c->next)
		v[n++] = (struct bmi_jinja_var){ .name = c->key ? c->key : "", .n_name = c->n_key, .json = c };
	*ret_n = n;
	return v;
}

int bmi_chat_render(const struct bmi_chat *chat, const struct bmi_chat_input *in, struct bmi_str *ret,
		    struct bmi_error *err)
{
	auto_json doc = NULL;
	auto_json own = NULL;
	bmi_auto_mem struct bmi_jinja_var *vars = NULL;
	bmi_auto_str json = { 0 };
	const struct bmi_json *own_root = NULL;
	size_t n;
	int r = 0;

	if (in->vars_json) {
		r = bmi_json_parse(in->vars_json, in->n_vars_json, &own, err);
		if (r < 0)
			return bmi_note(err, r, "the variables of the chat template");
		own_root = bmi_json_root(own);
		if (own_root->type != BMI_JSON_OBJECT)
			return bmi_fail(err, -EINVAL, "the variables of the chat template are no JSON object");
	}
	r = messages_json(in, &json, err);
	if (r == 0)
		r = bmi_json_parse(json.bytes, json.n, &doc, err);
	if (r < 0)
		return r;
	vars = list_vars(own_root, bmi_json_root(doc), 2, &n);
	if (!vars)
		return bmi_fail(err, -ENOMEM, "the variables of the chat template");
	if (chat->bos)
		vars[n++] = (struct bmi_jinja_var){
			.name = "bos_token", .n_name = 9, .str = chat->bos, .n = strlen(chat->bos)
		};
	if (chat->eos)
		vars[n++] = (struct bmi_jinja_var){
			.name = "eos_token", .n_name = 9, .str = chat->eos, .n = strlen(chat->eos)
		};
	r = bmi_jinja_render(chat->jinja, vars, n, in->now, ret, err);
	return r < 0 ? bmi_note(err, r, "the chat template") : 0;
}

void bmi_chat_config_fini(struct bmi_chat_config *c)
{
	free(c->template_text);
	free(c->bos);
	free(c->eos);
	*c = (struct bmi_chat_config){ 0 };
}

/* A copy of the string @v, or of v.content; NULL stays NULL. */
static int take_text(const struct bmi_json *v, const char *name, char **ret, struct bmi_error *err)
{
	if (v && v->type == BMI_JSON_OBJECT)
		v = bmi_json_get(v, "content");
	if (!v || v->type == BMI_JSON_NULL)
		return 0;
	if (v->type != BMI_JSON_STRING || (v->n && memchr(v->str, 0, v->n)))
		return bmi_fail(err, -EINVAL, "'%s' is no text", name);
	*ret = strndup(v->n ? v->str : "", v->n);
	return *ret ? 0 : bmi_fail(err, -ENOMEM, "'%s'", name);
}

/* chat_template: a text, or the one named "default" of a list */
static int find_template(const struct bmi_json *v, const struct bmi_json **ret, struct bmi_error *err)
{
	*ret = v;
	if (!v || v->type == BMI_JSON_NULL || v->type == BMI_JSON_STRING)
		return 0;
	if (v->type != BMI_JSON_ARRAY)
		return bmi_fail(err, -EINVAL, "'chat_template' is neither a text nor a list");
	*ret = NULL;
	for (const struct bmi_json *c = v->child; c; c = c->next)
		if (bmi_json_eq(bmi_json_get(c, "name"), "default"))
			*ret = bmi_json_get(c, "template");
	return *ret ? 0 : bmi_fail(err, -EINVAL, "'chat_template' is a list without one named 'default'");
}

int bmi_chat_template_from_config(const char *json, size_t n, struct bmi_chat_config *ret, struct bmi_error *err)
{
	struct bmi_chat_config c = { 0 };
	auto_json doc = NULL;
	const struct bmi_json *root, *text;
	int r = bmi_json_parse(json, n, &doc, err);

	if (r < 0)
		return bmi_note(err, r, "tokenizer_config.json");
	root = bmi_json_root(doc);
	if (root->type != BMI_JSON_OBJECT)
		return bmi_fail(err, -EINVAL, "tokenizer_config.json is no object");
	r = find_template(bmi_json_get(root, "chat_template"), &text, err);
	if (r == 0)
		r = take_text(text, "chat_template", &c.template_text, err);
	if (r == 0)
		r = take_text(bmi_json_get(root, "bos_token"), "bos_token", &c.bos, err);
	if (r == 0)
		r = take_text(bmi_json_get(root, "eos_token"), "eos_token", &c.eos, err);
	if (r < 0) {
		bmi_chat_config_fini(&c);
		return bmi_note(err, r, "tokenizer_config.json");
	}
	*ret = c;
	return 0;
}

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way from a model's files to its chat template, and from a prompt to the text of a turn. The template is read by
 * the tokenizer's thread. Invariant: eng->chat is set once, before tok_ready; without one, chat_problem says why.
 */
#include "run/engine_priv.h"

#include "base/file.h"
#include "token/chat.h"
#include "weights/gguf.h"

#include <errno.h>
#include <string.h>
#include <time.h>

enum { TEMPLATE_MAX = 1 << 20, TOKENIZER_CONFIG_MAX = 16 << 20 };

/* A special token's text, NUL-terminated, from the vocabulary; NULL when there is none. The caller frees it. */
static char *token_text(const struct bmi_tok *tok, uint32_t id)
{
	const struct bmi_tok_text text =
		id == BMI_TOK_NO_ID ? (struct bmi_tok_text){ 0 } : bmi_tok_text(tok, id);

	return text.bytes ? strndup(text.bytes, text.n) : NULL;
}

static int from_gguf(const struct bmi_gguf *g, const struct bmi_tok *tok, struct bmi_chat_config *ret)
{
	struct bmi_gguf_str text;

	if (!bmi_gguf_get_str(g, "tokenizer.chat_template", &text))
		return 0;
	ret->template_text = strndup(text.bytes, text.n);
	ret->bos = token_text(tok, bmi_tok_bos(tok));
	ret->eos = token_text(tok, bmi_tok_eos(tok));
	return ret->template_text ? 0 : -ENOMEM;
}

/* chat_template.jinja goes before tokenizer_config.json's own, as in Transformers. */
static int from_directory(int dirfd, struct bmi_chat_config *ret, struct bmi_error *err)
{
	bmi_auto_mem char *config = NULL;
	char *text;
	size_t n;
	int r = bmi_file_read(dirfd, "tokenizer_config.json", TOKENIZER_CONFIG_MAX, &config, &n, err);

	if (r == 0)
		r = bmi_chat_template_from_config(config, n, ret, err);
	if (r < 0 && r != -ENOENT)
		return bmi_note(err, r, "tokenizer_config.json");
	r = bmi_file_read(dirfd, "chat_template.jinja", TEMPLATE_MAX, &text, &n, err);
	if (r == 0) {
		free(ret->template_text);
		ret->template_text = text;
	}
	return r == -ENOENT ? 0 : r;
}

int bmi_chat_load(struct bmi_engine *eng, const struct bmi_tok *tok, struct bmi_error *err)
{
	struct bmi_chat_config cfg = { 0 };
	const struct bmi_gguf *g = bmi_ckpt_gguf(eng->ckpt);
	int r = g ? from_gguf(g, tok, &cfg) : from_directory(bmi_ckpt_dirfd(eng->ckpt), &cfg, err);

	if (r == 0 && !cfg.template_text)
		r = bmi_fail(err, -EOPNOTSUPP, "the model has no chat template: write raw to params/template");
	else if (r == 0)
		r = bmi_chat_open(cfg.template_text, strlen(cfg.template_text), cfg.bos, cfg.eos, &eng->chat,
				  err);
	bmi_chat_config_fini(&cfg);
	return r;
}

int bmi_chat_prompt(const struct bmi_engine *eng, const char *prompt, size_t n, struct bmi_str *ret,
		    struct bmi_error *err)
{
	const struct bmi_chat_message user = { "user", prompt, n };

	if (!eng->chat)
		return bmi_fail(err, -EOPNOTSUPP, "template is chat: %s", eng->chat_problem.msg);
	return bmi_chat_render(eng->chat,
			       &(struct bmi_chat_input){ .messages = &user,
							 .n_messages = 1,
							 .add_generation_prompt = true,
							 .now = (int64_t)time(NULL) },
			       ret, err);
}

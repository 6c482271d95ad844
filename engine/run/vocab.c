/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Owns the way from a model's files to its tokenizer, and from a prompt's bytes to ids. The tokenizer is read by a thread
 * of its own after the start, so that a mount does not wait for it. Invariant: eng->tok is set once, before tok_ready, and a
 * tokenizer that could not be read leaves its sentence in tok_problem: nothing is encoded before one of the two is set.
 */
#include "run/engine_priv.h"

#include "base/file.h"
#include "weights/gguf.h"

#include <ctype.h>
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <sys/stat.h>

enum { TOKENIZER_JSON_MAX = 256 << 20 };

bool bmi_vocab_is_present(const struct bmi_ckpt *ckpt)
{
	const struct bmi_gguf *g = bmi_ckpt_gguf(ckpt);
	struct bmi_gguf_str model;
	struct stat st;

	if (g)
		return bmi_gguf_get_str(g, "tokenizer.ggml.model", &model);
	return fstatat(bmi_ckpt_dirfd(ckpt), "tokenizer.json", &st, 0) == 0;
}

static void add_eos(struct bmi_engine *eng, const struct bmi_json *v)
{
	uint64_t id;

	if (v && v->type == BMI_JSON_ARRAY) {
		for (v = v->child; v; v = v->next)
			add_eos(eng, v);
		return;
	}
	if (!bmi_json_to_u64(v, &id) || id >= eng->cfg->vocab_size || eng->n_eos == BMI_ARRAY_LEN(eng->eos))
		return;
	for (uint32_t i = 0; i < eng->n_eos; i++)
		if (eng->eos[i] == id)
			return;
	eng->eos[eng->n_eos++] = (uint32_t)id;
}

/* As Transformers: generation_config.json decides, config.json where that says nothing. */
void bmi_vocab_find_eos(struct bmi_engine *eng)
{
	add_eos(eng, bmi_json_get(bmi_ckpt_generation_config(eng->ckpt), "eos_token_id"));
	if (eng->n_eos == 0)
		add_eos(eng, bmi_json_get(eng->cfg->json, "eos_token_id"));
}

static int load_json(const struct bmi_ckpt *ckpt, struct bmi_tok **ret, struct bmi_error *err)
{
	bmi_auto_mem char *text = NULL;
	size_t n;
	int r = bmi_file_read(bmi_ckpt_dirfd(ckpt), "tokenizer.json", TOKENIZER_JSON_MAX, &text, &n, err);

	if (r == 0)
		r = bmi_tok_open_json(text, n, ret, err);
	return r < 0 ? bmi_note(err, r, "tokenizer.json") : 0;
}

void *bmi_vocab_load(void *arg)
{
	struct bmi_engine *eng = arg;
	struct bmi_tok *tok = NULL;
	struct bmi_error err = { 0 };
	int r;

	if (bmi_ckpt_gguf(eng->ckpt))
		r = bmi_vocab_open_gguf(bmi_ckpt_gguf(eng->ckpt), &tok, &err);
	else
		r = load_json(eng->ckpt, &tok, &err);
	if (r == 0)
		bmi_chat_load(eng, tok, &eng->chat_problem);
	pthread_mutex_lock(&eng->lock);
	if (r == 0) {
		eng->tok = tok;
		eng->tok_ready = true;
	} else {
		eng->tok_problem = err;
	}
	pthread_cond_broadcast(&eng->wake);
	pthread_mutex_unlock(&eng->lock);
	if (r < 0)
		bmi_engine_blame(eng, "tokenizer", &err);
	bmi_engine_tell(eng);
	return NULL;
}

static int put_id(struct bmi_turn *turn, uint64_t id, struct bmi_error *err)
{
	const uint32_t vocab_size = turn->eng->cfg->vocab_size;

	if (id >= vocab_size)
		return bmi_fail(err, -EINVAL, "token id %" PRIu64 " is not below the vocabulary's size %u",
				id, vocab_size);
	if (turn->n_ids == turn->cap_ids) {
		const uint32_t cap = turn->cap_ids ? turn->cap_ids * 2 : 256;
		uint32_t *ids = realloc(turn->ids, cap * sizeof(*ids));

		if (!ids)
			return bmi_fail(err, -ENOMEM, "no memory for %u token ids", cap);
		turn->ids = ids;
		turn->cap_ids = cap;
	}
	turn->ids[turn->n_ids++] = (uint32_t)id;
	return 0;
}

/* Numbers separated by white space. */
static int parse_ids(struct bmi_turn *turn, struct bmi_error *err)
{
	const char *s = turn->prompt, *end = s + turn->n_prompt_bytes;

	while (s < end) {
		uint64_t id = 0;
		int r;

		if (isspace((unsigned char)*s)) {
			s++;
			continue;
		}
		if (!isdigit((unsigned char)*s))
			return bmi_fail(
				err, -EILSEQ,
				"template is ids: byte %zu of the prompt is no digit; write token ids, "
				"separated by white space",
				(size_t)(s - turn->prompt));
		for (; s < end && isdigit((unsigned char)*s); s++)
			id = id < UINT32_MAX ? id * 10 + (uint64_t)(*s - '0') : id;
		r = put_id(turn, id, err);
		if (r < 0)
			return r;
	}
	return 0;
}

static int encode_text(struct bmi_engine *eng, struct bmi_turn *turn, struct bmi_error *err)
{
	unsigned flags = BMI_TOK_ADD_SPECIAL | (turn->params.parse_special ? BMI_TOK_PARSE_SPECIAL : 0);
	const char *text = turn->prompt;
	size_t n = turn->n_prompt_bytes;
	bmi_auto_str chat = { 0 };
	struct bmi_ids ids = { 0 };
	int r = 0;

	if (!eng->tok_ready)
		return bmi_fail(err, -ENODEV, "%s; only params/template ids can be used", eng->tok_problem.msg);
	if (memchr(text, 0, n))
		return bmi_fail(err, -EILSEQ, "the prompt has a NUL byte");
	if (turn->params.template == BMI_TEMPLATE_CHAT) {
		r = bmi_chat_prompt(eng, text, n, &chat, err);
		flags = BMI_TOK_PARSE_SPECIAL; /* the template writes them, the first one too */
		text = chat.bytes ? chat.bytes : "";
		n = chat.n;
	}
	if (r == 0)
		r = bmi_tok_encode(eng->tok, text, n, flags, &ids, err);
	if (r == 0) {
		turn->ids = bmi_steal(&ids.ids);
		turn->n_ids = turn->cap_ids = (uint32_t)ids.n;
		for (uint32_t i = 0; i < turn->n_ids && r == 0; i++)
			if (turn->ids[i] >= eng->cfg->vocab_size)
				r = bmi_fail(err, -EINVAL, "token id %u is not below the vocabulary's size %u",
					     turn->ids[i], eng->cfg->vocab_size);
	}
	bmi_ids_fini(&ids);
	return r;
}

/* Room for all that the turn may become: its prompt and at most max_tokens more, within the context. */
static int size_turn(struct bmi_turn *turn, struct bmi_error *err)
{
	const uint32_t n_ctx = turn->eng->req.split.n_ctx;
	const uint64_t want = (uint64_t)turn->n_ids + turn->params.max_tokens;
	uint32_t *ids;

	turn->n_prompt = turn->n_ids;
	if (turn->n_ids == 0)
		return bmi_fail(err, -EINVAL, "the prompt has no tokens");
	if (turn->n_ids >= n_ctx)
		return bmi_fail(err, -EMSGSIZE,
				"the prompt has %u tokens, the context n_ctx=%u: shorten it, or mount with "
				"a larger n_ctx",
				turn->n_ids, n_ctx);
	turn->cap_ids = want < n_ctx ? (uint32_t)want : n_ctx;
	ids = realloc(turn->ids, turn->cap_ids * sizeof(*ids));
	if (!ids)
		return bmi_fail(err, -ENOMEM, "no memory for %u token ids", turn->cap_ids);
	turn->ids = ids;
	return 0;
}

bool bmi_vocab_is_decided(const struct bmi_engine *eng, const struct bmi_params *p)
{
	return p->template == BMI_TEMPLATE_IDS || eng->tok_ready || eng->tok_problem.code;
}

int bmi_vocab_encode(struct bmi_engine *eng, struct bmi_turn *turn, struct bmi_error *err)
{
	int r = turn->params.template == BMI_TEMPLATE_IDS ? parse_ids(turn, err) : encode_text(eng, turn, err);

	if (r == 0)
		r = size_turn(turn, err);
	free(turn->prompt);
	turn->prompt = NULL;
	return r;
}

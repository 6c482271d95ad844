/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Ids to text. One chain of decoder stages that is fed id by id; decoding all at once is the same chain, fed
 * in a loop, so pieces and whole cannot differ. Up to a stage that joins (Fuse, byte level) what travels is
 * tokens, behind it text. Invariant: what a stage passed on no later id can change; what may still change
 * waits in that stage.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct bmi_detok {
	const struct bmi_tok *tok;
	bool skip_special;
	uint32_t id; /* being pushed */
	struct bmi_str *out;
	struct bmi_tok_rematch *match; /* only when a stage has a regex */
	struct bmi_tok_lossy lossy;
	struct stage {
		struct bmi_str buf; /* byte fallback: the bytes of the run so far; others: scratch */
		bool started;       /* meta, join: a token came; strip: past the start */
		size_t n_cut;       /* strip: characters taken off at the start */
		size_t n_held;      /* strip: as many characters wait for the end */
	} stage[BMI_TOK_MAX_DEC];
};

static int feed_text(struct bmi_detok *d, unsigned at, struct bmi_tok_text s);
static int feed_token(struct bmi_detok *d, unsigned at, struct bmi_tok_text s);

static bool is_at(struct bmi_tok_text s, size_t i, struct bmi_tok_text what)
{
	return s.n - i >= what.n && !memcmp(s.bytes + i, what.bytes, what.n);
}

/*
 * Strip on text that comes in parts: up to `stop` of the newest such characters wait, the end may cut
 * them.
 */
static int strip_text(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	const struct bmi_tok_dec *dec = &d->tok->dec[at];
	struct stage *st = &d->stage[at];

	st->buf.n = 0;
	for (size_t i = 0, n; i < s.n; i += n) {
		const bool hit = is_at(s, i, dec->text);

		n = bmi_tok_utf8_len(s.bytes[i]);
		if (hit && !st->started && st->n_cut < dec->start) {
			st->n_cut++;
			continue;
		}
		st->started = true;
		if (hit && st->n_held < dec->stop) {
			st->n_held++;
			continue;
		}
		for (; !hit && st->n_held; st->n_held--)
			bmi_str_put(&st->buf, dec->text.bytes, dec->text.n);
		bmi_str_put(&st->buf, s.bytes + i, n);
	}
	return bmi_str_ok(&st->buf) ? feed_text(d, at + 1, (struct bmi_tok_text){ st->buf.bytes, st->buf.n })
				    : -ENOMEM;
}

static int feed_text(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	if (!s.n)
		return 0;
	if (at == d->tok->n_dec)
		return bmi_str_put(d->out, s.bytes, s.n);
	if (d->tok->dec[at].kind == BMI_TOK_DEC_STRIP)
		return strip_text(d, at, s);
	return feed_text(d, at + 1,
			 s); /* Fuse again; nothing else is let in behind a join when the chain is loaded */
}

static struct bmi_tok_text strip_token(const struct bmi_tok_dec *dec, struct bmi_tok_text s)
{
	for (size_t i = 0; i < dec->start && s.n && is_at(s, 0, dec->text); i++) {
		s.bytes += dec->text.n;
		s.n -= dec->text.n;
	}
	for (size_t i = 0; i < dec->stop && s.n >= dec->text.n && is_at(s, s.n - dec->text.n, dec->text); i++)
		s.n -= dec->text.n;
	return s;
}

/* U+2581 becomes a space; those of the first token are dropped if the tokenizer had put one there. */
static int meta(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	const struct bmi_tok_dec *dec = &d->tok->dec[at];
	struct stage *st = &d->stage[at];
	const bool drop = !st->started && dec->scheme != BMI_TOK_NEVER;

	st->started = true;
	st->buf.n = 0;
	bmi_str_puts(&st->buf, ""); /* bytes is not NULL even if the token is empty */
	for (size_t i = 0, n; i < s.n; i += n) {
		n = bmi_tok_utf8_len(s.bytes[i]);
		if (!is_at(s, i, dec->text))
			bmi_str_put(&st->buf, s.bytes + i, n);
		else if (!drop)
			bmi_str_puts(&st->buf, " ");
	}
	return bmi_str_ok(&st->buf) ? feed_token(d, at + 1, (struct bmi_tok_text){ st->buf.bytes, st->buf.n })
				    : -ENOMEM;
}

/* The byte that "<0xHH>" names, or -1. Rust's from_str_radix() takes a plus sign too. */
static int byte_of(struct bmi_tok_text s)
{
	int value = 0;

	if (s.n != 6 || memcmp(s.bytes, "<0x", 3) != 0 || s.bytes[5] != '>')
		return -1;
	for (unsigned i = 3; i < 5; i++) {
		const char c = s.bytes[i];

		if (c >= '0' && c <= '9')
			value = value * 16 + c - '0';
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			value = value * 16 + (c | 32) - 'a' + 10;
		else if (i != 3 || c != '+')
			return -1;
	}
	return value;
}

/* The run of byte tokens is over: characters if all of it is valid, else one U+FFFD for each byte. */
static int end_bytes(struct bmi_detok *d, unsigned at)
{
	struct bmi_str *run = &d->stage[at].buf;
	const size_t n = run->n;
	int r = 0;

	run->n = 0;
	if (!n)
		return 0;
	if (bmi_tok_utf8_valid(run->bytes, n) == n)
		return feed_token(d, at + 1, (struct bmi_tok_text){ run->bytes, n });
	for (size_t i = 0; r == 0 && i < n; i++)
		r = feed_token(d, at + 1, (struct bmi_tok_text){ BMI_TOK_FFFD, 3 });
	return r;
}

static int byte_fallback(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	const int byte = byte_of(s);
	const char c = (char)byte;
	int r;

	if (byte >= 0)
		return bmi_str_put(&d->stage[at].buf, &c, 1);
	r = end_bytes(d, at);
	return r < 0 ? r : feed_token(d, at + 1, s);
}

/* Bytes that need not be text: only whole characters go on. */
static int put_bytes(struct bmi_detok *d, unsigned at, const char *bytes, size_t n)
{
	struct bmi_str *buf = &d->stage[at].buf;

	buf->n = 0;
	bmi_tok_lossy_put(&d->lossy, bytes, n, buf);
	return bmi_str_ok(buf) ? feed_text(d, at + 1, (struct bmi_tok_text){ buf->bytes, buf->n }) : -ENOMEM;
}

static int byte_level(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	char small[256];
	bmi_auto_mem char *large = s.n > sizeof(small) ? malloc(s.n) : NULL;
	char *to = s.n > sizeof(small) ? large : small;
	size_t n_to = 0;
	unsigned n;

	if (!to)
		return -ENOMEM;
	for (size_t i = 0; i < s.n; i += n) {
		const int byte = bmi_tok_char_byte(bmi_tok_utf8_get(s.bytes + i, &n));

		if (byte < 0) /* not spelled so: an added token; its own text */
			return put_bytes(d, at, s.bytes, s.n);
		to[n_to++] = (char)byte;
	}
	return put_bytes(d, at, to, n_to);
}

static int gguf(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	const unsigned flags = d->tok->vocab.flags[d->id];
	const int byte = flags & BMI_TOK_BYTE ? byte_of(s) : -1;
	const char c = (char)byte;
	int r = 0;

	if (byte >= 0)
		return put_bytes(d, at, &c, 1);
	if (flags & BMI_TOK_ADDED)
		return put_bytes(d, at, s.bytes, s.n);
	if (d->tok->dec[at].kind == BMI_TOK_DEC_GGUF_BPE)
		return byte_level(d, at, s);
	for (const char *p = s.bytes, *end = p + s.n, *mark; r == 0 && p < end; p = mark + 3) {
		mark = memmem(p, (size_t)(end - p), BMI_TOK_LOWLINE, 3);
		if (!mark)
			return put_bytes(d, at, p, (size_t)(end - p));
		r = put_bytes(d, at, p, (size_t)(mark - p));
		if (r == 0)
			r = put_bytes(d, at, " ", 1);
	}
	return r;
}

static int feed_token(struct bmi_detok *d, unsigned at, struct bmi_tok_text s)
{
	const struct bmi_tok_dec *dec;
	struct stage *st;
	int r = 0;

	if (at == d->tok->n_dec)
		return feed_text(d, at, s);
	dec = &d->tok->dec[at];
	st = &d->stage[at];
	switch (dec->kind) {
	case BMI_TOK_DEC_REPLACE:
		st->buf.n = 0;
		r = bmi_tok_replace(&dec->pattern, d->match, s, dec->text, &st->buf);
		return r < 0 ? r : feed_token(d, at + 1, (struct bmi_tok_text){ st->buf.bytes, st->buf.n });
	case BMI_TOK_DEC_META:
		return meta(d, at, s);
	case BMI_TOK_DEC_BYTE_FALLBACK:
		return byte_fallback(d, at, s);
	case BMI_TOK_DEC_STRIP:
		return feed_token(d, at + 1, strip_token(dec, s));
	case BMI_TOK_DEC_FUSE:
		return feed_text(d, at + 1, s);
	case BMI_TOK_DEC_BYTE_LEVEL:
		return byte_level(d, at, s);
	case BMI_TOK_DEC_GGUF_BPE:
	case BMI_TOK_DEC_GGUF_SPM:
		return gguf(d, at, s);
	case BMI_TOK_DEC_JOIN:
		if (st->started)
			r = bmi_str_puts(d->out, " ");
		st->started = true;
		return r < 0 ? r : feed_text(d, at + 1, s);
	}
	return -EINVAL;
}

struct bmi_detok *bmi_detok_new(const struct bmi_tok *tok, bool skip_special)
{
	bmi_auto(bmi_detok) d = calloc(1, sizeof(*d));

	if (!d)
		return NULL;
	d->tok = tok;
	d->skip_special = skip_special;
	for (unsigned i = 0; i < tok->n_dec; i++) {
		if (tok->dec[i].pattern.re && !d->match)
			d->match = bmi_tok_rematch_new();
		if (tok->dec[i].pattern.re && !d->match)
			return NULL;
	}
	return bmi_steal(&d);
}

void bmi_detok_free(struct bmi_detok *d)
{
	if (!d)
		return;
	bmi_tok_rematch_free(d->match);
	for (unsigned i = 0; i < BMI_TOK_MAX_DEC; i++)
		bmi_str_fini(&d->stage[i].buf);
	free(d);
}

int bmi_detok_push(struct bmi_detok *d, uint32_t id, struct bmi_str *ret)
{
	const struct bmi_tok_vocab *vocab = &d->tok->vocab;

	if (!bmi_tok_vocab_has(vocab, id) || (d->skip_special && vocab->flags[id] & BMI_TOK_SPECIAL))
		return 0;
	d->out = ret;
	d->id = id;
	return feed_token(d, 0, bmi_tok_spoken(d->tok, id));
}

int bmi_detok_flush(struct bmi_detok *d, struct bmi_str *ret)
{
	int r = 0;

	d->out = ret;
	for (unsigned i = 0; r == 0 && i < d->tok->n_dec; i++) {
		const enum bmi_tok_dec_kind kind = d->tok->dec[i].kind;
		struct stage *st = &d->stage[i];

		if (kind == BMI_TOK_DEC_BYTE_FALLBACK)
			r = end_bytes(d, i);
		if (d->lossy.n && (kind == BMI_TOK_DEC_BYTE_LEVEL || kind == BMI_TOK_DEC_GGUF_BPE ||
				   kind == BMI_TOK_DEC_GGUF_SPM)) {
			d->lossy.n = 0;
			r = feed_text(d, i + 1, (struct bmi_tok_text){ BMI_TOK_FFFD, 3 });
		}
		st->started = false;
		st->n_cut = st->n_held = 0;
	}
	return r;
}

int bmi_tok_decode(const struct bmi_tok *tok, const uint32_t *ids, size_t n, bool skip_special,
		   struct bmi_str *ret)
{
	bmi_auto(bmi_detok) d = bmi_detok_new(tok, skip_special);
	int r = d ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < n; i++)
		r = bmi_detok_push(d, ids[i], ret);
	return r < 0 ? r : bmi_detok_flush(d, ret);
}

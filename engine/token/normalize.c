/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Runs the normalizers in order, each from one buffer to the other. Invariant: `s` is always the newest
 * text, and the buffer written next is never the one `s` lies in.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <string.h>

static bool is_ascii(struct bmi_tok_text s)
{
	uint64_t word;
	size_t i = 0;

	for (; s.n - i >= sizeof(word); i += sizeof(word)) {
		memcpy(&word, s.bytes + i, sizeof(word));
		if (word & UINT64_C(0x8080808080808080))
			return false;
	}
	for (; i < s.n; i++)
		if ((unsigned char)s.bytes[i] >= 0x80)
			return false;
	return true;
}

static struct bmi_tok_text strip(struct bmi_tok_text s, bool left, bool right)
{
	unsigned n;

	while (left && s.n && bmi_tok_is_space(bmi_tok_utf8_get(s.bytes, &n))) {
		s.bytes += n;
		s.n -= n;
	}
	while (right && s.n) {
		const size_t at = bmi_tok_utf8_prev(s.bytes, s.n);

		if (!bmi_tok_is_space(bmi_tok_utf8_get(s.bytes + at, &n)))
			break;
		s.n = at;
	}
	return s;
}

static int drop_marks(struct bmi_tok_text s, struct bmi_str *ret)
{
	unsigned n;

	for (size_t i = 0; i < s.n; i += n)
		if (!bmi_tok_is_mark(bmi_tok_utf8_get(s.bytes + i, &n)))
			bmi_str_put(ret, s.bytes + i, n);
	return bmi_str_ok(ret) ? 0 : -ENOMEM;
}

/*
 * Does a replacement take the first character away? One character for another keeps its place in the
 * original text, which is what the peer asks; what replaces several stands where the last of them stood.
 */
static int replace_loses_start(const struct bmi_tok_norm *norm, struct bmi_tok_rematch *m,
			       struct bmi_tok_text s, bool *ret)
{
	struct bmi_tok_find f = { .s = s.bytes, .n = s.n };
	size_t start, end;
	int r = bmi_tok_pattern_next(&norm->pattern, m, &f, &start, &end);

	if (r > 0 && start == 0 && end > 0 && (!norm->text.n || end > bmi_tok_utf8_len(s.bytes[0])))
		*ret = true;
	return r < 0 ? r : 0;
}

static int run(const struct bmi_tok_norm *norm, struct bmi_tok_rematch *m, struct bmi_tok_text s,
	       struct bmi_str *out, struct bmi_tok_text *ret, bool *lost)
{
	unsigned n;
	int r = 0;

	out->n = 0;
	switch (norm->kind) {
	case BMI_TOK_NORM_PREPEND:
		if (s.n)
			bmi_str_put(out, norm->text.bytes, norm->text.n);
		bmi_str_put(out, s.bytes, s.n);
		break;
	case BMI_TOK_NORM_REPLACE:
		r = replace_loses_start(norm, m, s, lost);
		if (r == 0)
			r = bmi_tok_replace(&norm->pattern, m, s, norm->text, out);
		break;
	case BMI_TOK_NORM_FORM:
		if (is_ascii(s)) {
			*ret = s;
			return 0;
		}
		r = bmi_tok_form(s, norm->compose, norm->compat, out);
		break;
	case BMI_TOK_NORM_LOWER:
		r = bmi_tok_lower(s, out);
		break;
	case BMI_TOK_NORM_STRIP:
		*ret = strip(s, norm->left, norm->right);
		*lost |= ret->bytes != s.bytes;
		return 0;
	case BMI_TOK_NORM_ACCENTS:
		*lost |= s.n && bmi_tok_is_mark(bmi_tok_utf8_get(s.bytes, &n));
		r = drop_marks(s, out);
		break;
	}
	if (r == 0 && !bmi_str_ok(out))
		r = -ENOMEM;
	*ret = (struct bmi_tok_text){ out->bytes, out->n };
	return r;
}

int bmi_tok_normalize(const struct bmi_tok *tok, struct bmi_tok_rematch *m, struct bmi_tok_text s,
		      struct bmi_str spare[2], struct bmi_tok_text *ret, bool *ret_lost_start)
{
	unsigned which = 0;

	for (unsigned i = 0; i < tok->n_norms; i++) {
		const struct bmi_str *out = &spare[which];
		const int r = run(&tok->norms[i], m, s, &spare[which], &s, ret_lost_start);

		if (r < 0)
			return r;
		if (out->bytes &&
		    s.bytes == out->bytes) /* it was used; a stripped or untouched text stays where it was */
			which ^= 1;
	}
	*ret = s;
	return 0;
}

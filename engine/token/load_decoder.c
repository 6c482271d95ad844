/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoders of tokenizer.json as one flat chain. Invariant: behind the stage that joins the tokens to one
 * text (Fuse, ByteLevel) only Strip and Fuse follow: they are the ones that can be run on a text that is
 * still growing.
 */
#include "token/token_priv.h"

#include <errno.h>
#include <string.h>

static int add_dec(struct bmi_tok *tok, enum bmi_tok_dec_kind kind, struct bmi_tok_dec **ret,
		   struct bmi_error *err)
{
	bool joined = false, bytes = false;

	for (unsigned i = 0; i < tok->n_dec; i++) {
		joined |= tok->dec[i].kind == BMI_TOK_DEC_FUSE || tok->dec[i].kind == BMI_TOK_DEC_BYTE_LEVEL;
		bytes |= tok->dec[i].kind == BMI_TOK_DEC_BYTE_FALLBACK;
	}
	if (tok->n_dec == BMI_TOK_MAX_DEC)
		return bmi_fail(err, -EOPNOTSUPP, "more than %d decoders", BMI_TOK_MAX_DEC);
	if (joined && kind != BMI_TOK_DEC_FUSE && kind != BMI_TOK_DEC_STRIP)
		return bmi_fail(err, -EOPNOTSUPP,
				"a decoder other than Strip behind Fuse or ByteLevel is not supported");
	if (bytes && kind == BMI_TOK_DEC_BYTE_FALLBACK)
		return bmi_fail(err, -EOPNOTSUPP, "two ByteFallback decoders are not supported");
	*ret = &tok->dec[tok->n_dec++];
	(*ret)->kind = kind;
	return 0;
}

static int load_strip(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type", "content", "start", "stop", NULL };
	struct bmi_tok_dec *dec = NULL;
	uint64_t start, stop;
	int r = bmi_tok_json_keys(v, "decoder Strip", keys, err);

	if (r == 0)
		r = add_dec(tok, BMI_TOK_DEC_STRIP, &dec, err);
	if (r == 0)
		r = bmi_tok_json_text(tok, v, "decoder Strip", "content", &dec->text, err);
	if (r < 0)
		return r;
	if (!dec->text.n || bmi_tok_utf8_len(dec->text.bytes[0]) != dec->text.n)
		return bmi_fail(err, -EINVAL, "decoder Strip: content is not one character");
	if (!bmi_json_to_u64(bmi_json_get(v, "start"), &start) ||
	    !bmi_json_to_u64(bmi_json_get(v, "stop"), &stop) || start > UINT32_MAX || stop > UINT32_MAX)
		return bmi_fail(err, -EINVAL, "decoder Strip: start or stop is not a number");
	dec->start = start;
	dec->stop = stop;
	return 0;
}

static int load_meta(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const keys[] = { "type",           "replacement", "str_rep", "add_prefix_space",
					    "prepend_scheme", "split",       NULL };
	struct bmi_tok_dec *dec = NULL;
	int r = bmi_tok_json_keys(v, "decoder Metaspace", keys, err);

	if (r == 0)
		r = add_dec(tok, BMI_TOK_DEC_META, &dec, err);
	if (r == 0)
		r = bmi_tok_json_text(tok, v, "decoder Metaspace", "replacement", &dec->text, err);
	if (r < 0)
		return r;
	if (!dec->text.n || bmi_tok_utf8_len(dec->text.bytes[0]) != dec->text.n)
		return bmi_fail(err, -EINVAL, "decoder Metaspace: replacement is not one character");
	return bmi_tok_json_scheme(v, "decoder Metaspace", &dec->scheme, err);
}

static int load_one(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const bare[] = { "type", NULL }, *const replace[] = { "type", "pattern", "content", NULL },
				 *const byte_level[] = { "type", "add_prefix_space", "trim_offsets",
							 "use_regex", NULL };
	const struct bmi_json *type = bmi_json_get(v, "type");
	struct bmi_tok_dec *dec = NULL;
	int r;

	if (bmi_json_eq(type, "ByteLevel")) {
		r = bmi_tok_json_keys(v, "decoder ByteLevel", byte_level, err);
		return r < 0 ? r : add_dec(tok, BMI_TOK_DEC_BYTE_LEVEL, &dec, err);
	}
	if (bmi_json_eq(type, "ByteFallback") || bmi_json_eq(type, "Fuse")) {
		r = bmi_tok_json_keys(v, "a decoder", bare, err);
		return r < 0 ? r
			     : add_dec(tok,
				       bmi_json_eq(type, "Fuse") ? BMI_TOK_DEC_FUSE : BMI_TOK_DEC_BYTE_FALLBACK,
				       &dec, err);
	}
	if (bmi_json_eq(type, "Replace")) {
		r = bmi_tok_json_keys(v, "decoder Replace", replace, err);
		if (r == 0)
			r = add_dec(tok, BMI_TOK_DEC_REPLACE, &dec, err);
		if (r == 0)
			r = bmi_tok_json_text(tok, v, "decoder Replace", "content", &dec->text, err);
		return r < 0 ? r : bmi_tok_json_pattern(tok, v, "decoder Replace", &dec->pattern, err);
	}
	if (bmi_json_eq(type, "Strip"))
		return load_strip(tok, v, err);
	if (bmi_json_eq(type, "Metaspace"))
		return load_meta(tok, v, err);
	if (!type || type->type != BMI_JSON_STRING)
		return bmi_fail(err, -EINVAL, "decoder has no type");
	return bmi_fail(err, -EOPNOTSUPP, "decoder '%.*s' is not supported",
			(int)(type->n < 60 ? type->n : 60), type->str);
}

static int load_any(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	static const char *const sequence[] = { "type", "decoders", NULL };
	const struct bmi_json *list = bmi_json_get(v, "decoders");
	int r;

	if (!bmi_json_eq(bmi_json_get(v, "type"), "Sequence"))
		return load_one(tok, v, err);
	r = bmi_tok_json_keys(v, "decoder Sequence", sequence, err);
	if (r == 0 && (!list || list->type != BMI_JSON_ARRAY))
		return bmi_fail(err, -EINVAL, "decoder Sequence: decoders is not an array");
	for (const struct bmi_json *e = r == 0 ? list->child : NULL; r == 0 && e; e = e->next)
		r = load_any(tok, e, err);
	return r;
}

int bmi_tok_load_dec(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err)
{
	struct bmi_tok_dec *dec = NULL;

	if (!v || v->type == BMI_JSON_NULL)
		return add_dec(tok, BMI_TOK_DEC_JOIN, &dec, err);
	return load_any(tok, v, err);
}

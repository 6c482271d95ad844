/* SPDX-License-Identifier: Apache-2.0 */
#ifndef BMI_TOKEN_TOKEN_PRIV_H
#define BMI_TOKEN_TOKEN_PRIV_H

#include "base/arena.h"
#include "base/json.h"
#include "token/regex.h"
#include "token/token.h"
#include "token/trie.h"
#include "token/utf8.h"
#include "token/vocab.h"

/*
 * Only tests/fuzz defines these: one bound left out on purpose in a build that nobody else sees, so that a test can
 * show that the fuzzer finds such a thing.
 */
#ifdef BMI_PLANT_BUG_TOKENIZER_JSON
enum { BMI_PLANTED_TOKENIZER_JSON = 1 };
#else
enum { BMI_PLANTED_TOKENIZER_JSON = 0 };
#endif
#ifdef BMI_PLANT_BUG_TOKENIZER_ENCODE
enum { BMI_PLANTED_TOKENIZER_ENCODE = 1 };
#else
enum { BMI_PLANTED_TOKENIZER_ENCODE = 0 };
#endif

/* What a Split, a Replace or a Digits looks for. */
struct bmi_tok_pattern {
	struct bmi_tok_text str;  /* if re and is are NULL: these; not empty; in the arena */
	struct bmi_tok_regex *re; /* owned */
	bool (*is)(uint32_t c);   /* a character for which this holds */
};

void bmi_tok_pattern_fini(struct bmi_tok_pattern *p);

/* Where a search for all matches stands. */
struct bmi_tok_find {
	const char *s;
	size_t n, from; /* the next search begins here */
	size_t last;    /* end of the last match */
	bool any;       /* there was one */
};

/**
 * bmi_tok_pattern_next() - the next match. An empty match right behind the last one is no match, as in crate
 * `onig`.
 * @m: may be NULL for a pattern without regex.
 *
 * Return: 1 found, 0 none, -E2BIG, -ENOMEM.
 */
int bmi_tok_pattern_next(const struct bmi_tok_pattern *p, struct bmi_tok_rematch *m, struct bmi_tok_find *f,
			 size_t *ret_start, size_t *ret_end);

/** bmi_tok_replace() - append @s to @ret with every match replaced by @by. Return: 0, -E2BIG, -ENOMEM. */
int bmi_tok_replace(const struct bmi_tok_pattern *p, struct bmi_tok_rematch *m, struct bmi_tok_text s,
		    struct bmi_tok_text by, struct bmi_str *ret);

/* Classes of characters. bmi_tok_is_punct: Rust's is_ascii_punctuation() or general category P. */
bool bmi_tok_is_number(uint32_t c);
bool bmi_tok_is_punct(uint32_t c);
bool bmi_tok_is_mark(uint32_t c);

/* ---- normalizers: text -> text ---- */
enum bmi_tok_norm_kind {
	BMI_TOK_NORM_PREPEND,
	BMI_TOK_NORM_REPLACE,
	BMI_TOK_NORM_FORM,
	BMI_TOK_NORM_LOWER,
	BMI_TOK_NORM_STRIP,
	BMI_TOK_NORM_ACCENTS
};

struct bmi_tok_norm {
	enum bmi_tok_norm_kind kind;
	struct bmi_tok_pattern pattern; /* replace */
	struct bmi_tok_text text;       /* replace: by what; prepend: what */
	bool compose, compat;           /* form */
	bool left, right;               /* strip */
};

/**
 * bmi_tok_form() - append NFD, NFC, NFKD or NFKC of valid UTF-8. Linear but for runs of marks, which are
 * sorted. Return: 0 or -ENOMEM.
 */
int bmi_tok_form(struct bmi_tok_text s, bool compose, bool compat, struct bmi_str *ret);

/** bmi_tok_lower() - append Rust's char::to_lowercase() of every character. Return: 0 or -ENOMEM. */
int bmi_tok_lower(struct bmi_tok_text s, struct bmi_str *ret);

/**
 * bmi_tok_normalize() - run all normalizers.
 * @spare: two buffers of the caller; the result lies in one of them or is @s itself, and is valid until they
 *         are used again.
 * @ret_lost_start: set to true when the first characters of @s were removed.
 */
int bmi_tok_normalize(const struct bmi_tok *tok, struct bmi_tok_rematch *m, struct bmi_tok_text s,
		      struct bmi_str spare[2], struct bmi_tok_text *ret, bool *ret_lost_start);

/* ---- pre-tokenizers: text -> pieces ---- */
enum bmi_tok_pre_kind { BMI_TOK_PRE_SPLIT, BMI_TOK_PRE_PREFIX, BMI_TOK_PRE_META, BMI_TOK_PRE_BYTES };
enum bmi_tok_behavior {
	BMI_TOK_REMOVED,
	BMI_TOK_ISOLATED,
	BMI_TOK_WITH_PREVIOUS,
	BMI_TOK_WITH_NEXT,
	BMI_TOK_CONTIGUOUS
};
enum bmi_tok_scheme { BMI_TOK_NEVER, BMI_TOK_FIRST, BMI_TOK_ALWAYS };

struct bmi_tok_pre {
	enum bmi_tok_pre_kind kind;
	struct bmi_tok_pattern pattern; /* split */
	enum bmi_tok_behavior behavior; /* split */
	bool invert;                    /* split */
	struct bmi_tok_text with;       /* meta: what stands for a space */
	enum bmi_tok_scheme scheme;     /* meta */
};

enum { BMI_TOK_MAX_PRE = 16 };

struct bmi_tok_enc;

/**
 * bmi_tok_pretokenize() - cut @s by the stages from @stage on and hand each piece to the model. @at_start:
 * of the whole text.
 */
int bmi_tok_pretokenize(struct bmi_tok_enc *e, unsigned stage, const char *s, size_t n, bool at_start);

/* ---- models: piece -> ids ---- */
enum bmi_tok_model { BMI_TOK_BPE, BMI_TOK_SPM, BMI_TOK_UNIGRAM };

enum {
	BMI_TOK_LOW_CHARS = 1024
}; /* characters whose id is found without hashing: all that byte-level text has */

/* The merges of BPE: (left, right) -> (rank, product). */
struct bmi_tok_pairs {
	struct bmi_tok_pair {
		uint64_t key; /* left << 32 | right; all ones: free */
		uint32_t rank, id;
	} * slots;
	uint32_t mask;
	uint64_t seed;
};

int bmi_tok_pairs_init(struct bmi_tok_pairs *p, size_t n);
void bmi_tok_pairs_set(struct bmi_tok_pairs *p, uint32_t left, uint32_t right, uint32_t rank, uint32_t id);
const struct bmi_tok_pair *bmi_tok_pairs_get(const struct bmi_tok_pairs *p, uint32_t left, uint32_t right);

/*
 * Which neighbouring characters may ever be joined, as a Bloom filter of one hash: a clear bit says that no
 * token spans the two, so text may be cut there and each side done (and remembered) alone, with the same
 * result.
 */
struct bmi_tok_joins {
	uint64_t *bits; /* NULL: unknown, never cut */
};

/*
 * Fill tok->joins if texts may be cut: from the merges of BPE, or from the texts of all tokens (SPM).
 * Return: 0, -ENOMEM.
 */
int bmi_tok_joins_pairs(struct bmi_tok *tok);
int bmi_tok_joins_texts(struct bmi_tok *tok);
bool bmi_tok_joins_get(const struct bmi_tok_joins *j, uint32_t a, uint32_t b);

/* ---- added tokens ---- */
struct bmi_tok_added {
	struct bmi_tok_text text; /* in the arena */
	uint32_t id;
	bool special, single_word, lstrip, rstrip, normalized;
};

/* What a token is decoded to, where that is not its text. */
struct bmi_tok_rename {
	uint32_t id;
	struct bmi_tok_text text; /* in the arena */
};

/** bmi_tok_spoken() - what a token that is there is decoded to. */
struct bmi_tok_text bmi_tok_spoken(const struct bmi_tok *tok, uint32_t id);

/* A part of the text: an added token, or text between them. */
struct bmi_tok_part {
	size_t off, n;
	uint32_t id; /* BMI_TOK_NO_ID: text */
};

struct bmi_tok_parts {
	struct bmi_tok_part *parts;
	size_t n, cap;
};

/**
 * bmi_tok_split_added() - cut text at added tokens, @normalized ones or the others, the way `tokenizers`
 * does. Return: 0, -ENOMEM.
 */
int bmi_tok_split_added(const struct bmi_tok *tok, struct bmi_tok_rematch *m, bool normalized,
			bool parse_special, struct bmi_tok_text s, struct bmi_tok_parts *ret);

/**
 * bmi_tok_split_gguf() - cut text at added tokens the way llama.cpp does: the longest token of all first.
 * Return: 0, -ENOMEM.
 */
int bmi_tok_split_gguf(const struct bmi_tok *tok, bool parse_special, struct bmi_tok_text s,
		       struct bmi_tok_parts *ret);

/*
 * Put the added tokens into the two tries; needs normalizers and vocabulary. Return: 0, -EOPNOTSUPP,
 * -ENOMEM.
 */
int bmi_tok_added_build(struct bmi_tok *tok, struct bmi_error *err);

/* ---- decoders ---- */
enum bmi_tok_dec_kind {
	BMI_TOK_DEC_REPLACE,
	BMI_TOK_DEC_META,
	BMI_TOK_DEC_BYTE_FALLBACK,
	BMI_TOK_DEC_STRIP,
	BMI_TOK_DEC_FUSE,
	BMI_TOK_DEC_BYTE_LEVEL, /* tokens are spelled in the 256 characters that stand for bytes */
	BMI_TOK_DEC_GGUF_BPE,   /* same, but added tokens are plain text */
	BMI_TOK_DEC_GGUF_SPM,   /* U+2581 is a space, byte tokens are bytes, added tokens plain text */
	BMI_TOK_DEC_JOIN,       /* a space between tokens: what the peer does without any decoder */
};

struct bmi_tok_dec {
	enum bmi_tok_dec_kind kind;
	struct bmi_tok_pattern pattern; /* replace */
	struct bmi_tok_text text; /* replace: by what; meta: what stands for a space; strip: the character */
	enum bmi_tok_scheme scheme; /* meta */
	size_t start, stop;         /* strip: at most so many */
};

enum { BMI_TOK_MAX_DEC = 8 };

/* ---- the whole ---- */
struct bmi_tok {
	struct bmi_arena *arena;
	struct bmi_tok_vocab vocab;
	enum bmi_tok_model model;
	bool gguf; /* added tokens and prefixes as llama.cpp treats them */

	struct bmi_tok_added *added; /* [n_added] in the order of the file */
	uint32_t n_added, n_renames;
	struct bmi_tok_rename *renames;    /* [n_renames], ascending ids */
	struct bmi_tok_trie plain, normal; /* values: index into added; normalized ones are in `normal` */
	struct bmi_tok_regex *word;        /* one word character; only when a token is single_word */

	struct bmi_tok_norm *norms;
	unsigned n_norms;
	struct bmi_tok_pre pre[BMI_TOK_MAX_PRE];
	unsigned n_pre;
	struct bmi_tok_dec dec[BMI_TOK_MAX_DEC];
	unsigned n_dec;

	struct bmi_ids prefix, suffix; /* what ADD_SPECIAL puts around */
	uint32_t bos, eos, unk;        /* facts only */

	/* models */
	uint32_t low_id[BMI_TOK_LOW_CHARS]; /* BPE, SPM: id of the one-character tokens */
	uint32_t byte_id[256];              /* byte fallback */
	uint32_t model_unk;                 /* BMI_TOK_NO_ID: none */
	bool fuse_unk, byte_fallback, ignore_merges;
	bool space_prefix; /* SPM */
	struct bmi_tok_pairs pairs;
	struct bmi_tok_joins joins;
	uint32_t *order;          /* SPM: [n_vocab], by score, highest first: smaller is merged first */
	struct bmi_tok_trie trie; /* Unigram: values are ids */
	double *score, min_score; /* Unigram */
};

struct bmi_tok *bmi_tok_new(void);

/** bmi_tok_set_chars() - fill low_id and byte_id from the vocabulary. */
void bmi_tok_set_chars(struct bmi_tok *tok);

/* One element of BPE or SPM while a word is merged. */
struct bmi_tok_sym {
	uint32_t off, n;    /* its bytes in the word; n == 0: merged into another */
	uint32_t id;        /* BMI_TOK_NO_ID: not in the vocabulary (SPM) */
	int32_t prev, next; /* -1: none */
};

struct bmi_tok_cand {
	uint64_t key;   /* rank << 32 | index of the left symbol: smallest first */
	uint32_t id, n; /* what they become, and its bytes then */
};

/* One call of encode: everything that changes. */
struct bmi_tok_enc {
	const struct bmi_tok *tok;
	unsigned flags;
	struct bmi_ids *out;
	struct bmi_error *err;
	struct bmi_tok_rematch *match;
	struct bmi_str norm[2], stage[BMI_TOK_MAX_PRE];
	struct bmi_tok_parts raw, normal;
	struct bmi_tok_sym *syms;
	struct bmi_tok_cand *heap;
	size_t cap_syms, cap_heap;
	void *nodes; /* Unigram's lattice */
	size_t cap_nodes;
	struct bmi_tok_cache *cache; /* NULL: none, the text is short */
};

/** bmi_tok_encode_piece() - the model: append the ids of a piece to e->out. */
int bmi_tok_encode_piece(struct bmi_tok_enc *e, const char *s, size_t n);
int bmi_tok_encode_unigram(struct bmi_tok_enc *e, const char *s, size_t n);

/** bmi_tok_merge_word() - BPE and SPM without cuts and cache. */
int bmi_tok_merge_word(struct bmi_tok_enc *e, const char *s, size_t n);

/*
 * Words seen in this call. put() remembers the ids from @first on; get() appends them and says true, or
 * false.
 */
struct bmi_tok_cache *bmi_tok_cache_new(void);
void bmi_tok_cache_free(struct bmi_tok_cache *c);
int bmi_tok_cache_get(struct bmi_tok_cache *c, const char *s, size_t n, struct bmi_ids *out);
void bmi_tok_cache_put(struct bmi_tok_cache *c, const char *s, size_t n, const struct bmi_ids *out,
		       size_t first);

/*
 * The 256 characters of byte-level text (GPT-2's bytes_to_unicode): character of a byte, and byte of a
 * character or -1.
 */
uint32_t bmi_tok_byte_char(unsigned char byte);
int bmi_tok_char_byte(uint32_t c);

/* ---- reading tokenizer.json ---- */
int bmi_tok_load_added(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);
int bmi_tok_load_norms(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);
int bmi_tok_load_pre(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);
int bmi_tok_load_post(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);
int bmi_tok_load_dec(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);
int bmi_tok_load_model(struct bmi_tok *tok, const struct bmi_json *v, struct bmi_error *err);

/**
 * bmi_tok_add_merge() - one merge of BPE; tok->pairs was made for enough. @keep_first: of equal merges the
 * first counts, else the last. Return: 0, -EINVAL, -ENOMEM.
 */
int bmi_tok_add_merge(struct bmi_tok *tok, struct bmi_tok_text a, struct bmi_tok_text b, uint32_t rank,
		      bool keep_first, struct bmi_str *buf, struct bmi_error *err);

/* Small readers that name @what in the error. Members that are absent leave *ret as it is. */
int bmi_tok_json_keys(const struct bmi_json *v, const char *what, const char *const *keys,
		      struct bmi_error *err);
int bmi_tok_json_bool(const struct bmi_json *v, const char *what, const char *key, bool *ret,
		      struct bmi_error *err);
int bmi_tok_json_text(struct bmi_tok *tok, const struct bmi_json *v, const char *what, const char *key,
		      struct bmi_tok_text *ret, struct bmi_error *err);
int bmi_tok_json_pattern(struct bmi_tok *tok, const struct bmi_json *v, const char *what,
			 struct bmi_tok_pattern *ret, struct bmi_error *err);
int bmi_tok_json_scheme(const struct bmi_json *v, const char *what, enum bmi_tok_scheme *ret,
			struct bmi_error *err);

/** bmi_tok_add_split() - a pre-tokenizer stage that cuts by a pattern written here. */
int bmi_tok_add_split(struct bmi_tok *tok, const char *regex, enum bmi_tok_behavior behavior, bool invert,
		      struct bmi_error *err);
struct bmi_tok_pre *bmi_tok_add_pre(struct bmi_tok *tok, enum bmi_tok_pre_kind kind);

/*
 * The inside of a set: \w of crate `regex`. U+200C and U+200D join; unlike Oniguruma's only decimal
 * numbers.
 */
#define BMI_TOK_RUST_WORD "\\p{Alphabetic}\\p{M}\\p{Nd}\\p{Pc}\\x{200c}\\x{200d}"

/* GPT-2's words, in Oniguruma's dialect: what ByteLevel's use_regex means. */
#define BMI_TOK_GPT2_REGEX \
	"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+"

#endif

/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What llama.cpp knows by name and the file does not say (llama-vocab.cpp): the patterns behind each
 * tokenizer.ggml.pre, and the texts of control tokens. Invariant: a name is in a table only if all it means
 * there is done here.
 */
#include "token/gguf_names.h"

#include "token/token_priv.h"

#include <string.h>

#define GPT2   BMI_TOK_GPT2_REGEX
#define ABBR   "'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD]" /* ASCII: no long s, unlike (?i:) */
#define TAIL   " ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define LLAMA3 ABBR "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}|" TAIL
#define QWEN2  ABBR "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}|" TAIL
#define DIGIT  "\\p{N}"

static const struct bmi_tok_gguf_pre pres[] = {
	{ "default", { "[\\p{P}\\$\\+<=>\\^~\\|]+", GPT2, "\\p{N}+", "[0-9][0-9][0-9]" }, false, false },
	{ "gpt-2", { GPT2 }, false, false },
	{ "phi-2", { GPT2 }, false, false },
	{ "mpt", { GPT2 }, false, false },
	{ "olmo", { GPT2 }, false, false },
	{ "jais", { GPT2 }, false, false },
	{ "gigachat", { GPT2 }, false, false },
	{ "exaone4", { GPT2 }, false, false },
	{ "trillion", { GPT2 }, false, false },
	{ "smollm", { DIGIT, GPT2 }, false, false },
	{ "starcoder", { DIGIT, GPT2 }, false, false },
	{ "refact", { DIGIT, GPT2 }, false, false },
	{ "command-r", { DIGIT, GPT2 }, false, false },
	{ "codeshell", { DIGIT, GPT2 }, false, false },
	{ "exaone", { DIGIT, GPT2 }, false, false },
	{ "minerva-7b", { DIGIT, GPT2 }, false, false },
	{ "llama-bpe", { LLAMA3 }, true, true },
	{ "llama3", { LLAMA3 }, true, true },
	{ "llama-v3", { LLAMA3 }, true, true },
	{ "falcon3", { LLAMA3 }, true, true },
	{ "falcon-h1", { LLAMA3 }, true, true },
	{ "pixtral", { LLAMA3 }, true, true },
	{ "lfm2", { LLAMA3 }, true, true },
	{ "dbrx", { LLAMA3 }, false, false },
	{ "smaug-bpe", { LLAMA3 }, false, false },
	{ "qwen2", { QWEN2 }, false, false },
	{ "deepseek-r1-qwen", { QWEN2 }, false, false },
	{ "stablelm2", { QWEN2 }, false, false },
	{ "megrez", { QWEN2 }, false, false },
	{ "hunyuan", { QWEN2 }, false, false },
};

/* Control tokens, whatever their type says: ends of turns and texts, and filling in the middle. */
static const char *const control_names[] = {
	/* the end of a turn or a text */
	"<|eot_id|>",
	"<|im_end|>",
	"<|end|>",
	"<|return|>",
	"<|call|>",
	"<|flush|>",
	"<|calls|>",
	"<end_of_turn>",
	"<|endoftext|>",
	"</s>",
	"<|eom_id|>",
	"<EOT>",
	"_<EOT>",
	"[EOT]",
	"[EOS]",
	"<|end_of_text|>",
	"<end_of_utterance>",
	"<eos>",
	"<turn|>",
	"<｜end▁of▁sentence｜>",
	/* filling in the middle */
	"<|fim_prefix|>",
	"<fim-prefix>",
	"<fim_prefix>",
	"<｜fim▁begin｜>",
	"<PRE>",
	"▁<PRE>",
	"<|code_prefix|>",
	"<|fim_suffix|>",
	"<fim-suffix>",
	"<fim_suffix>",
	"<｜fim▁hole｜>",
	"<SUF>",
	"▁<SUF>",
	"<|code_suffix|>",
	"<|fim_middle|>",
	"<fim-middle>",
	"<fim_middle>",
	"<｜fim▁end｜>",
	"<MID>",
	"▁<MID>",
	"<|code_middle|>",
	"<|fim_pad|>",
	"<fim-pad>",
	"<fim_pad>",
	"<PAD>",
	"[PAD]",
	"<|fim_repo|>",
	"<|repo_name|>",
	"<fim-repo>",
	"<REPO>",
	"<reponame>",
	"<|file_sep|>",
};

const struct bmi_tok_gguf_pre *bmi_tok_gguf_find_pre(const char *name)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(pres); i++)
		if (!strcmp(pres[i].name, name))
			return &pres[i];
	return NULL;
}

bool bmi_tok_gguf_is_control(struct bmi_tok_text text)
{
	for (size_t i = 0; i < BMI_ARRAY_LEN(control_names); i++)
		if (strlen(control_names[i]) == text.n && !memcmp(control_names[i], text.bytes, text.n))
			return true;
	return false;
}

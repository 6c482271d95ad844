#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes stages.jsonl and stages-*.json.in: what `tokenizers` answers for each kind of normalizer, pre-tokenizer, decoder,
added token and model option, alone and mixed at random.

usage: pip install tokenizers==0.23.3; python3 make_stages.py   (writes beside itself)

A base (stages-<base>.json.in) is a tokenizer.json with @normalizer@, @pre_tokenizer@, @decoder@, @added_tokens@ and
@options@ in the places that a line of stages.jsonl fills in. A line has `ids` of each text for flags 0 to 3 (1: add
special tokens, 2: parse special tokens), and `decoded` of ids[2] with skip_special_tokens off and on.
"""
import json
import os
import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
rng = random.Random(20)
dump = lambda v: json.dumps(v, ensure_ascii=False, separators=(",", ":"))

FRAGMENTS = (
    " ,  ,   ,\n,\n\n,\r\n,\t,\u00a0,\u3000,\u2003,\u180e,\u200b,\u200d,\u200c,\u0085,\u2028,a,b,the,The, the, hello,world,don't,"
    "I'LL,'s,'S,'\u017f,1,12,1234567,\u0663,\u00bd,\u00b2,\u2460,\u2167,\u00e9,e\u0301,\u0301,\u0315\u0300,\u00f1,\u00fc,\ufb01,"
    "\u212b,\uac00,\u1100\u1161\u11a8,\u4f60\u597d,\u3002,\uff46\uff55,\U0001f600,\U0001f469\u200d\U0001f467,\x00,\x01,<s>,</s>,"
    "<unk>,<0x0A>,<tool>,word,sword,words,word-word,_,-,\u2014,...,\u2026,!!!,#,$,+,|,~,^,(),[x],/,//,\u2581,\u2581\u2581,\u0120,"
    "\u0130,\u0131,\u00df,\u03a3,\u01c5,\ufeff,\ufffd,\U0001d4b3,\u0e01\u0e47,\u0939\u093f\u0928,\u0627\u0644,\u0670,\u05e9,0x1F,"
    "\u1680,\u203f,a_b,\u00aa,\u24d0,\u0345,aaaa,z"
).split(",")
SENTENCES = ["the quick brown fox jumps over the lazy dog and the world says hello to the words of the day, don't it?",
             "hello world, this is the word that the other words were about; the thing is the same, and then the end."] * 3

STRINGS = [" ", "a", "\u2581", "the", "  "]
REGEXES = [r"\s+", r"\p{L}+", r"[0-9]", r"\d{1,3}(?=(\d{3})*\b)", r"(?i:the)", r"\w+", r"[^\s\w]+", r" ?[^\s\p{L}\p{N}]+", r"\S+",
           r"^\s+", r"\n$", r"a*", r"\p{Han}|\p{Hangul}", r"[\r\n]+|\s+(?!\S)", r"(?:\r?\n)+", r"\b", r"\p{P}", r"\p{^L}",
           r"[^\r\n\p{L}\p{N}]?+\p{L}+", r"\h+", r"\W", r".", r"(?m:.)", r"\p{Lu}", r"'(?i:[sdmt]|ll|ve|re)", r"\D+", r"a{,2}b?",
           r"(?<=a)b|(?<!a)_", r"\u00e9|\x{f1}", r"[\u4e00-\u9fff]", r"\p{Alphabetic}+", r"\v|\t", r"(?>a+)a?", r"$", r"^"]
BEHAVIORS = ["Removed", "Isolated", "MergedWithPrevious", "MergedWithNext", "Contiguous"]
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
REPLACE_LOWLINE = {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "}
SPM_DECODER = {"type": "Sequence", "decoders": [REPLACE_LOWLINE, {"type": "ByteFallback"}, {"type": "Fuse"},
                                                {"type": "Strip", "content": " ", "start": 1, "stop": 0}]}


def pattern():
    return {"String": rng.choice(STRINGS)} if rng.random() < 0.3 else {"Regex": rng.choice(REGEXES)}


def split(p, behavior, invert=False):
    return {"type": "Split", "pattern": p, "behavior": behavior, "invert": invert}


def metaspace(scheme, cut):
    return {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}


def sequence(kind, items):
    return {"type": "Sequence", kind: items}


NORMALIZERS = [{"type": t} for t in ("NFC", "NFD", "NFKC", "NFKD", "Lowercase", "StripAccents")] + \
    [{"type": "Strip", "strip_left": l, "strip_right": r} for l in (True, False) for r in (True, False)] + \
    [{"type": "Prepend", "prepend": p} for p in ("\u2581", "xy")] + \
    [{"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}] + \
    [{"type": "Replace", "pattern": {"Regex": r}, "content": c} for r, c in ((r"\s+", " "), (r"\d", ""), (r"a*", "."), (r"^", ">"))]
PRES = [split({"Regex": r"\p{L}+"}, b, i) for b in BEHAVIORS for i in (True, False)] + [split({"String": "a"}, b) for b in BEHAVIORS] + \
    [split({"Regex": r}, "Isolated") for r in REGEXES] + \
    [{**BYTE_LEVEL, "add_prefix_space": a, "use_regex": u} for a in (True, False) for u in (True, False)] + \
    [{"type": "Digits", "individual_digits": d} for d in (True, False)] + \
    [metaspace(s, c) for s in ("always", "first", "never") for c in (True, False)] + \
    [{"type": "Whitespace"}, {"type": "WhitespaceSplit"}] + [{"type": "Punctuation", "behavior": b} for b in BEHAVIORS]
DECODERS = [None, BYTE_LEVEL, SPM_DECODER, metaspace("always", True), metaspace("never", True), {"type": "ByteFallback"},
            {"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 2, "stop": 0}, REPLACE_LOWLINE,
            sequence("decoders", [{"type": "Fuse"}, {"type": "Strip", "content": "a", "start": 1, "stop": 2}]),
            sequence("decoders", [{"type": "Replace", "pattern": {"Regex": r"[aeiou]+"}, "content": "*"}, BYTE_LEVEL]),
            sequence("decoders", [{"type": "ByteFallback"}, metaspace("first", False)])]
ADDED = ["word", "  ", "   ", "<tool>", "THE", "\u00e9", "word word", "<x>", "<x><x>", "Hello", "\n\n", "1", "</tool>"]


def added_tokens(template, first_id, own):
    tokens = list(own)
    for content in rng.sample(ADDED, rng.randint(1, 6)):
        if dump(content) in template:
            continue # the model's own already, under another id: the peer warns and takes that, we refuse the file
        flag = lambda share: rng.random() < share
        tokens.append({"id": first_id + len(tokens) - len(own), "content": content, "single_word": flag(.3), "lstrip": flag(.3),
                       "rstrip": flag(.3), "normalized": flag(.5), "special": flag(.4)})
    return tokens


def base_files():
    """name -> (template, number of tokens, own added tokens, options)"""
    post = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
            {"SpecialToken": {"id": "</s>", "type_id": 0}}], "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}, "</s>": {"id": "</s>", "ids": [2], "tokens": ["</s>"]}}}
    own = [{"id": i, "content": c, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
           for i, c in enumerate(("<unk>", "<s>", "</s>"))]
    special = ["<unk>", "<s>", "</s>"]
    result = {}
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    t.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=330, special_tokens=special, show_progress=False,
                                                         initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    bpe = json.loads(t.to_str())["model"]
    result["bytes"] = ({"vocab": bpe["vocab"], "merges": bpe["merges"]}, {"unk_token": None, "fuse_unk": False, "byte_fallback": False,
                                                                            "ignore_merges": False}, "BPE")
    t = Tokenizer(models.BPE())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(SENTENCES, trainers.BpeTrainer(vocab_size=370, show_progress=False, limit_alphabet=60,
                                                         special_tokens=special + ["<0x%02X>" % b for b in range(256)]))
    bpe = json.loads(t.to_str())["model"]
    result["chars"] = ({"vocab": bpe["vocab"], "merges": bpe["merges"]}, {"unk_token": "<unk>", "fuse_unk": True, "byte_fallback": True,
                                                                            "ignore_merges": False}, "BPE")
    t = Tokenizer(models.Unigram())
    t.pre_tokenizer = pre_tokenizers.Metaspace()
    t.train_from_iterator(SENTENCES, trainers.UnigramTrainer(vocab_size=90, special_tokens=special, unk_token="<unk>", show_progress=False))
    vocab = [[text, round(score, 6)] for text, score in json.loads(t.to_str())["model"]["vocab"]]
    result["unigram"] = ({"vocab": vocab + [["<0x%02X>" % b, -20.0] for b in range(256)]}, {"unk_id": 0, "byte_fallback": False}, "Unigram")
    files = {}
    for name, (data, options, kind) in result.items():
        text = '{"version":"1.0","truncation":null,"padding":null,"added_tokens":@added_tokens@,"normalizer":@normalizer@,"pre_tokenizer":' \
            '@pre_tokenizer@,"post_processor":' + dump(post) + ',"decoder":@decoder@,"model":{"type":"' + kind + '",@options@,' + dump(data)[1:] + "}"
        n = len(data["vocab"])
        if kind == "BPE" and name == "chars":
            n = max(data["vocab"].values()) + 1
        files[name] = (text, n, own, options)
    return files


def fill(template, line):
    for key in ("normalizer", "pre_tokenizer", "decoder", "added_tokens", "options"):
        template = template.replace("@" + key + "@", line[key])
    return template


def answer(template, line, texts):
    try:
        t = Tokenizer.from_str(fill(template, line))
    except BaseException:
        return None
    patterns = [t.normalizer.normalize_str(a["content"]) if t.normalizer and a["normalized"] else a["content"]
                for a in json.loads(line["added_tokens"])]
    if len(set(patterns)) != len(patterns) or "" in patterns:
        return None # which of two equal patterns wins is a matter of luck in the peer
    if any(a["special"] and a["normalized"] for a in json.loads(line["added_tokens"])) and t.normalizer:
        return None # the peer forgets to skip these when it decodes
    cases = []
    for text in texts:
        case = {"text": text, "ids": []}
        try:
            for flags in range(4):
                t.encode_special_tokens = not flags & 2
                case["ids"].append(t.encode(text, add_special_tokens=bool(flags & 1)).ids)
            case["decoded"] = [t.decode(case["ids"][2], skip_special_tokens=s) for s in (False, True)]
        except BaseException: # it panics in places
            continue
        cases.append(case)
    return cases


def some_texts(n):
    return ["".join(rng.choice(FRAGMENTS) for _ in range(rng.choice((1, 2, 3, 5, 9, 14)))) for _ in range(n)]


def main():
    bases = base_files()
    lines = []

    def add(base, n_texts, **changes):
        template, _, own, options = bases[base]
        line = {"base": base, "normalizer": "null", "pre_tokenizer": "null", "decoder": dump(SPM_DECODER), "added_tokens": dump(own),
                "options": dump(options)[1:-1], **changes}
        cases = answer(template, line, some_texts(n_texts))
        if cases:
            lines.append(dump({**line, "cases": cases}))

    for i, n in enumerate(NORMALIZERS):
        add(("chars", "unigram", "bytes")[i % 3], 12, normalizer=dump(n))
    for i, p in enumerate(PRES):
        base = "bytes" if p["type"] == "ByteLevel" else ("chars", "unigram")[i % 2]
        add(base, 8, pre_tokenizer=dump(p), decoder=dump(BYTE_LEVEL if base == "bytes" else SPM_DECODER))
    for d in DECODERS:
        add("chars", 12, decoder=dump(d))
        add("bytes", 6, pre_tokenizer=dump(BYTE_LEVEL), decoder=dump(d))
    for base, (template, n, own, options) in bases.items():
        flags = [k for k, v in options.items() if isinstance(v, bool)]
        for bits in range(1 << len(flags)):
            changed = {**options, **{k: bool(bits >> i & 1) for i, k in enumerate(flags)}}
            for unk in ([None, "<unk>"] if "unk_token" in options else [0]):
                changed["unk_token" if "unk_token" in options else "unk_id"] = unk
                add(base, 4, options=dump(changed)[1:-1], pre_tokenizer=dump(metaspace("first", True)))
        for _ in range(24):
            pres = rng.sample(PRES, rng.choice((0, 1, 1, 2, 3)))
            norms = rng.sample(NORMALIZERS, rng.choice((0, 0, 1, 2)))
            add(base, 6, normalizer=dump(sequence("normalizers", norms)) if norms else "null",
                pre_tokenizer=dump(sequence("pretokenizers", pres)) if pres else "null", decoder=dump(rng.choice(DECODERS)),
                added_tokens=dump(added_tokens(template, n, own)))
    for name, (template, *_) in bases.items():
        with open(f"{HERE}/stages-{name}.json.in", "w", encoding="utf-8") as f:
            f.write(template + "\n")
    with open(HERE + "/stages.jsonl", "w", encoding="utf-8") as f:
        f.write("".join(line + "\n" for line in lines))
    print(len(lines), "tokenizers,", sum(len(json.loads(line)["cases"]) for line in lines), "texts")


main()

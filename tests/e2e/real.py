#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""SmolLM2-135M-Instruct and Gemma 3 270M, as Hugging Face directories and as GGUF: the peer's ids, through the files.

usage: real.py NAME... (smollm2 smollm2-gguf gemma3 gemma3-gguf)

Each prompt goes in twice. As ids: the greedy ids are the peer's, up to its first choice closer than 1e-3. As text: the logits are
the same bits as for the ids, so the tokenizer gave just these ids, and the text starts as the peer's.
"""
import json
import os
import sys

from mounted import GOLDEN, Cases, Mount, clear_prefix, fuse_or_skip, real_model

CLEAR = 1e-3       # float32 forward: the peers' own bound
CLEAR_BF16 = 0.25  # a bfloat16 forward: 8 bits of logits near 20 are 0.06 each, and layers add up


def n_shown(case):
    """Ids that are printed: EOS ends a reference shorter than 48 and is not part of the output"""
    ids = case["greedy_ids"]
    return ids[:-1] if len(ids) < 48 else ids


def by_ids(m, case, bound):
    got = m.ask_ids(case["prompt_ids"], len(n_shown(case)))
    n = clear_prefix(got, n_shown(case), case["gaps"], bound)
    assert n > 0 or case["gaps"][0] < bound


def by_text(m, case):
    m.ask_ids(case["prompt_ids"], 1)
    want = m.logits()
    m.params(template="raw", temperature=0, max_tokens=24, ignore_eos=0, parse_special=int("<|" in case["prompt"]))
    # one newline at the end is the writer's, not the prompt's
    text = m.ask(case["prompt"] + "\n")
    status = m.read("status")
    assert f"prompt_tokens: {len(case['prompt_ids'])}/{len(case['prompt_ids'])}" in status, \
        f"not {len(case['prompt_ids'])} ids: {status}"
    assert m.logits() == want, "the prompt as text gives other logits than its ids"
    clear = next((i for i, gap in enumerate(case["gaps"]) if gap < CLEAR), 24)
    if clear >= 24 and "greedy_text" in case:
        n = min(len(text.rstrip("\n")), len(case["greedy_text"]))
        assert n and text[:n] == case["greedy_text"][:n], f"got  {text!r}\nwant {case['greedy_text']!r}"


def by_chat(m, case):
    """The template makes the prompt that Transformers made: the same bits of logits as its ids"""
    m.ask_ids(case["prompt_ids"], 1)
    want = m.logits()
    m.params(template="chat", temperature=0, max_tokens=8, ignore_eos=0, parse_special=0)
    text = m.ask(case["messages"][0]["content"])
    assert text.endswith("\n"), f"no newline ends {text!r}"
    assert m.logits() == want, f"the chat's prompt is another one: {m.read('status')}"


def stops_at_eos(m, case):
    m.params(template="ids", temperature=0, max_tokens=200, ignore_eos=0)
    got = [int(x) for x in m.ask(" ".join(map(str, case["prompt_ids"]))).split()]
    assert got == n_shown(case), f"got  {got}\nwant {n_shown(case)}"
    assert m.status().get("finish") in ("stop", "eos"), m.read("status")


def run(cases, name):
    with open(os.path.join(GOLDEN, "real", name + ".json")) as f:
        want = json.load(f)["cases"]
    short = lambda case: repr(case["prompt"][-24:])

    def mounted(options):
        fuse_or_skip()
        return Mount(real_model(name), options)

    try:
        m = mounted("dtype=float32")
    except Exception as e:  # one reason for all
        def again(e=e):
            raise e
        for case in want:
            cases.run(f"{name}: {short(case)}", again)
        return
    with m:
        for case in want:
            cases.run(f"{name}: ids after {short(case)}", by_ids, m, case, CLEAR)
            cases.run(f"{name}: text {short(case)}", by_text, m, case)
            if [x["role"] for x in case.get("messages") or []] == ["user"]:
                cases.run(f"{name}: chat {short(case)}", by_chat, m, case)
            if len(case["greedy_ids"]) < 48 and min(case["gaps"]) >= CLEAR:
                cases.run(f"{name}: ends at EOS after {short(case)}", stops_at_eos, m, case)
    with mounted("dtype=bfloat16") as m:
        for case in want[:3]:
            cases.run(f"{name}, bfloat16: ids after {short(case)}", by_ids, m, case, CLEAR_BF16)


def main():
    cases = Cases()
    for name in sys.argv[1:]:
        run(cases, name)
    cases.finish()


if __name__ == "__main__":
    main()

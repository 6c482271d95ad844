#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The small models of tests/data/tiny, mounted: logits and greedy ids are those of the peer that made expected.json.

float32: last-position logits within 2e-4 of max(|logit|, 1), greedy ids equal (while the peer's own gap is clear).
bfloat16 (what the files hold): within the error that the peer's own bfloat16 forward has. Both err against float32 on their
own, and where a router picks experts by scores that lie close, a rounding picks another one: mixtures get twice that error.
"""
import json
import os

from mounted import Cases, Mount, fuse_or_skip, tiny_models, worst

BOUND = 2e-4


def check(path, want, options, bound):
    fuse_or_skip()
    with Mount(path, options) as m:
        got = m.ask_ids(want["input_ids"], len(want["greedy_ids"]))
        error = worst(m.logits(), want["last_logits"])
        assert error <= bound, f"logits differ by {error:.2e}, bound {bound:.2e}"
        if want["min_greedy_gap"] > 2 * bound:
            assert got == want["greedy_ids"], f"got  {got}\nwant {want['greedy_ids']}"
        assert m.status()["prompt_tokens"].split("/")[-1] == str(len(want["input_ids"])), m.read("status")


def bound_bf16(path, want):
    with open(os.path.join(path, "config.json")) as f:
        is_mixture = any("experts" in key for key in json.load(f))
    return (2 if is_mixture else 1) * want["bfloat16_last_logits_max_abs_err"]


def main():
    cases = Cases()
    for name, path, want in tiny_models():
        cases.run(f"{name}, float32", check, path, want, "dtype=float32", BOUND)
        cases.run(f"{name}, float32, plain C kernels", check, path, want, "dtype=float32,cpu_isa=ref", BOUND)
        cases.run(f"{name}, bfloat16", check, path, want, "dtype=bfloat16", bound_bf16(path, want))
        cases.run(f"{name}, float32, all on disk", check, path, want, "dtype=float32,device_map=disk", BOUND)
    cases.finish()


if __name__ == "__main__":
    main()

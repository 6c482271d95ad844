#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Placement never changes the answer: the same 64 tokens, and the same bits of logits, wherever the layers are.

All in memory; all on disk; a custom split; moved while it generates; each with 1 and with 2 threads. With the small models
of tests/data/tiny and, where there is one, with SmolLM2.
"""
import json
import os
import sys
import threading

from mounted import GOLDEN, Cases, Mount, Skip, fuse_or_skip, real_model, tiny_models

N = 64


def split_map(n_layers):
    """All in memory but every second block and the norm"""
    return {"": "cpu", "model.norm": "disk", **{f"model.layers.{i}": "disk" for i in range(0, n_layers, 2)}}


def device_of(device_map, module):
    """The longest prefix that a map has for a module"""
    return device_map[max((k for k in device_map if k == "" or module == k or module.startswith(k + ".")), key=len)]


def answer(m, ids, n=N):
    got = m.ask_ids(ids, n)
    assert len(got) == n, f"{len(got)} ids, not {n}"
    return got, bytes(m.logits())


class Reference:
    """What all-cpu with one thread answers; made once a model"""

    def __init__(self, path, ids):
        self.path, self.ids = path, ids
        fuse_or_skip()
        with Mount(path, "device_map=cpu,threads=1") as m:
            self.ids_64, self.logits = answer(m, ids)
        with open(os.path.join(path, "config.json")) as f:
            self.n_layers = json.load(f)["num_hidden_layers"]

    def same(self, m, what):
        ids, logits = answer(m, self.ids)
        assert ids == self.ids_64, f"{what}:\ngot  {ids}\nwant {self.ids_64}"
        assert logits == self.logits, f"{what}: the logits are not the same bits"


def check_fixed(ref, device_map, threads):
    with Mount(ref.path, f"device_map={device_map},threads={threads}") as m:
        assert set(m.device_map().values()) == {device_map}, m.read("hf_device_map")
        ref.same(m, device_map)


def check_split(ref, threads):
    want = split_map(ref.n_layers)
    with Mount(ref.path, f"device_map=cpu,threads={threads}") as m:
        m.write("device_map.yaml", "".join(f'"{module}": {device}\n' for module, device in want.items()))
        got = m.device_map()
        for i in range(ref.n_layers):
            assert device_of(got, f"model.layers.{i}") == ("cpu" if i % 2 else "disk"), got
        assert device_of(got, "model.norm") == "disk" and device_of(got, "model.embed_tokens") == "cpu", got
        ref.same(m, "split")
        m.write("device_map.yaml", json.dumps(got))  # the round trip: what hf_device_map says is a map
        assert m.device_map() == got


def check_moving(ref, threads):
    """Maps are written while the answer comes; each write returns when the move is done"""
    with Mount(ref.path, f"device_map=cpu,threads={threads}") as m:
        long = m.ask_ids(ref.ids, 400 if ref.n_layers < 10 else N)  # a small model's answer is over too soon
        logits = bytes(m.logits())
        for _ in range(20):
            moved = []
            m.write("input", " ".join(map(str, ref.ids)))
            done = threading.Event()

            def mover():
                split = json.dumps(split_map(ref.n_layers))
                while not done.is_set():
                    for text in ("disk", split, "cpu"):
                        m.write("device_map.yaml", text)
                        if done.is_set():
                            return
                        moved.append(text)

            thread = threading.Thread(target=mover)
            thread.start()
            try:
                got = [int(x) for x in m.read("output").split()]
            finally:
                done.set()
                thread.join()
            assert got == long, f"moved {len(moved)} times:\ngot  {got}\nwant {long}"
            assert bytes(m.logits()) == logits
            if len(moved) >= 2:
                return
        raise AssertionError("the answers were over before two moves were done")


def check_dtype(ref):
    """A dtype written and written back: the answer is the first one again"""
    with Mount(ref.path, "device_map=cpu") as m:
        first = m.read("dtype")
        ref.same(m, "before")
        m.write("dtype", "float32\n")
        assert m.read("dtype") == "float32\n"
        answer(m, ref.ids)
        m.write("dtype", first)
        ref.same(m, "after")


def check_refusals_keep(ref):
    """A refused map leaves the old placement serving"""
    with Mount(ref.path, "device_map=cpu") as m:
        before = m.read("hf_device_map")
        for text in ("nonsense: cpu\n", "0", "model.layers.0: cpu\n", "{", "model: nowhere\n"):
            m.refusal("device_map.yaml", text)
            assert m.read("hf_device_map") == before
        ref.same(m, "after refusals")


def check_max_memory(ref):
    """A budget that is too small for all puts the rest on disk, and the answer stays"""
    with Mount(ref.path, "device_map=cpu") as m:
        cpu_bytes = int(m.status()["loaded_bytes_cpu"])
    with Mount(ref.path, f"device_map=auto,max_memory=cpu={cpu_bytes * 2 // 3}") as m:
        devices = set(m.device_map().values())
        assert devices == {"cpu", "disk"}, m.read("hf_device_map")
        assert int(m.status()["loaded_bytes_cpu"]) <= cpu_bytes * 2 // 3, m.read("status")
        ref.same(m, "auto under max_memory")


def models():
    for name, path, want in tiny_models("llama", "mistral", "gemma3"):
        if name in ("llama", "llama-tied-bias", "mistral-window", "gemma3"):
            yield name, lambda path=path, want=want: Reference(path, want["input_ids"])

    def smollm2():
        with open(os.path.join(GOLDEN, "real", "smollm2.json")) as f:
            ids = json.load(f)["cases"][0]["prompt_ids"]
        return Reference(real_model("smollm2"), ids)

    yield "smollm2", smollm2


def main():
    cases = Cases()
    for name, make in models():
        if sys.argv[1:] and name not in sys.argv[1:]:
            continue
        ref = []

        def with_ref(check, *args, make=make, ref=ref):
            if not ref:
                try:
                    ref.append(make())
                except Exception as e:
                    ref.append(e)
            if isinstance(ref[0], Exception):
                raise ref[0]
            check(ref[0], *args)

        for threads in (1, 2):
            cases.run(f"{name}: all in memory, threads={threads}", with_ref, check_fixed, "cpu", threads)
            cases.run(f"{name}: all on disk, threads={threads}", with_ref, check_fixed, "disk", threads)
            cases.run(f"{name}: a custom split, threads={threads}", with_ref, check_split, threads)
            cases.run(f"{name}: moved while it generates, threads={threads}", with_ref, check_moving, threads)
        cases.run(f"{name}: dtype to float32 and back", with_ref, check_dtype)
        cases.run(f"{name}: refused maps change nothing", with_ref, check_refusals_keep)
        cases.run(f"{name}: auto under max_memory", with_ref, check_max_memory)
    cases.finish()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Layers move while the model answers: another process rewrites device_map.yaml ten times during 200 tokens.

The tokens are those of an undisturbed answer, no read fails, what is resident stays within max_memory at every sample, and
each write returns when hf_device_map says what was written. A cancel stops between two layers, a second write supersedes
the first, a dtype waits for the answer that runs, new limits plan anew. With a small reference model, a random one of 30 M
parameters and, where there is one, SmolLM2.
"""
import errno
import json
import multiprocessing
import os
import sys
import threading
import time

from mounted import GOLDEN, SOURCE, Cases, Mount, Skip, fuse_or_skip, real_model, scratch

sys.path.insert(0, os.path.join(SOURCE, "tests", "models"))
import make_405b  # noqa: E402
import make_big  # noqa: E402

N, N_FEW = 200, 64
PROMPT = [5, 9, 2, 31, 7]
fork = multiprocessing.get_context("fork")


def n_layers(path):
    with open(os.path.join(path, "config.json")) as f:
        return json.load(f)["num_hidden_layers"]


def as_yaml(device_map):
    return "".join(f'"{module}": {device}\n' for module, device in device_map.items())


def device_of(device_map, name):
    return device_map[max((k for k in device_map if k in ("", name) or name.startswith(k + ".")), key=len)]


def ten_maps(n):
    """(text, module -> device) of each write: one word, JSON and YAML; no two neighbours are the same"""
    layer = "model.layers.{}".format
    mixed = [
        {"": "cpu", **{layer(i): "disk" for i in range(0, n, 2)}},
        {"": "disk", **{layer(i): "cpu" for i in range(0, n, 2)}},
        {"": "disk", "model.embed_tokens": "cpu", layer(0): "cpu"},
        {"": "cpu", f"{layer(n - 1)}.mlp": "disk", f"{layer(0)}.self_attn": "disk", "model.norm": "disk"},
    ]
    return [("disk\n", {"": "disk"}), (as_yaml(mixed[0]), mixed[0]), ("cpu\n", {"": "cpu"}), (json.dumps(mixed[1]), mixed[1]),
            ("disk\n", {"": "disk"}), (json.dumps(mixed[3]), mixed[3]), ("cpu\n", {"": "cpu"}), (as_yaml(mixed[2]), mixed[2]),
            (as_yaml({"": "disk"}), {"": "disk"}), (json.dumps({"": "cpu"}), {"": "cpu"})]


def assert_is(m, want, n):
    """hf_device_map, asked without waiting, places every module as @want does"""
    got = m.device_map(wait=False)
    names = ["model.embed_tokens", "model.norm", "lm_head"]
    for i in range(n):
        names += [f"model.layers.{i}.{part}" for part in ("self_attn", "mlp", "input_layernorm")]
    for name in names:
        here = device_of(got, "model.embed_tokens" if name == "lm_head" and name not in got and "" not in got else name)
        assert here == device_of(want, name), f"{name}: {here}\nwanted {want}\ngot {got}"


class Sampler(threading.Thread):
    """The most that was ever resident, by status"""

    def __init__(self, m):
        super().__init__()
        self.m, self.most, self.n, self.over, self.wrong = m, 0, 0, threading.Event(), None

    def run(self):
        try:
            while not self.over.is_set():
                status = self.m.status()
                assert status["state"] in ("ready", "placing"), status
                self.most = max(self.most, int(status["loaded_bytes_cpu"]))
                assert int(status["loaded_bytes_cpu"]) + int(status["staging_bytes"]) <= int(status["allowed_bytes"]), status
                self.n += 1
        except BaseException as e:
            self.wrong = e

    def finish(self):
        self.over.set()
        self.join()
        if self.wrong:
            raise self.wrong


def in_another_process(function, *args):
    """Start it; the pipe gives its result, or the exception"""
    ours, theirs = fork.Pipe(duplex=False)

    def main():
        try:
            theirs.send(function(*args))
        except BaseException as e:
            theirs.send(e)

    process = fork.Process(target=main, daemon=True)
    process.start()
    theirs.close()
    return process, ours


def result(process, pipe):
    try:
        got = pipe.recv()
    finally:
        process.join()
    if isinstance(got, BaseException):
        raise got
    return got


def rewrite(m, n):
    """When each of the ten writes was done"""
    ended = []
    for text, want in ten_maps(n):
        m.write("device_map.yaml", text)
        assert_is(m, want, n)
        ended.append(time.monotonic())
    return ended


def ids_of(text):
    return [int(word) for word in text.split()]


def check_rewrites(path, options=""):
    fuse_or_skip()
    n = n_layers(path)
    with Mount(path, "device_map=cpu" + options) as m:
        all_of_it = int(m.status()["loaded_bytes_cpu"])
        want = m.ask_ids(PROMPT, N)
        assert len(want) == N, len(want)
    with Mount(path, f"device_map=cpu,max_memory=cpu={all_of_it}{options}") as m:
        m.params(template="ids", temperature=0, max_tokens=N, ignore_eos=1)
        said = m.read("last_error")
        within = 0
        for _ in range(40):  # a small model's answer may be over before ten moves are
            sampler = Sampler(m)
            sampler.start()
            try:
                m.write("input", " ".join(map(str, PROMPT)))
                writer = in_another_process(rewrite, m, n)
                got = ids_of(m.read("output"))
                answered = time.monotonic()
                ended = result(*writer)
            finally:
                sampler.finish()
            assert got == want, f"got  {got}\nwant {want}"
            assert sampler.most <= all_of_it, f"{sampler.most} bytes resident, max_memory is {all_of_it}"
            assert m.read("last_error") == said, m.read("last_error")
            within += sum(t < answered for t in ended)
            if within >= 10:
                break
        assert within >= 10, f"{within} writes were done during answers"
        print(f"# {within} writes during answers, {sampler.n} samples of the last, most resident {sampler.most} of {all_of_it} bytes")
        assert m.ask_ids(PROMPT, N) == want


def sparse(top):
    """SmolLM2's shape, 30 layers, every weight 0: moves take long enough to be met half way"""
    path = os.path.join(top, "sparse")
    if not os.path.isdir(path):
        make_405b.make(path, "smollm2-135m")
    return path


def resident_by_map(device_map, config):
    """Bytes of weights on cpu by a map: matrices in bfloat16, vectors in float32"""
    sizes = make_big.tensors(*(config[k] for k in ("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads",
                                                   "intermediate_size", "vocab_size")))
    found = [shape[0] * shape[1] * 2 if len(shape) == 2 else shape[0] * 4 for name, shape in sizes
             if name != "lm_head.weight" and device_of(device_map, name) == "cpu"]
    return sum(found), len(found)


def assert_true_map(m, config):
    """The map names whole layers, and its weights are what is resident"""
    got = m.device_map()
    assert all(len(k.removeprefix("model.layers.").split(".")) == 1 for k in got if k.startswith("model.layers.")), got
    want, n = resident_by_map(got, config)
    there = int(m.status()["loaded_bytes_cpu"])
    assert want <= there <= want + n * 4096, f"{there} bytes resident, by hf_device_map {want}: {got}"
    return got


def half_way(m):
    """Wait until a move is under way. False: it was over before"""
    while True:
        status = m.status()
        done, _, todo = status["progress"].split("]")[1].split()[0].partition("/")
        if status["state"] == "placing" and 0 < int(done) < int(todo):
            return True
        if status["state"] == "ready" and done == todo and int(todo):
            return False


def try_write(m, text):
    try:
        m.write("device_map.yaml", text)
    except OSError as e:
        return e.errno
    return 0


def check_cancel(top, answering):
    fuse_or_skip()
    path, config = sparse(top), make_405b.config_of("smollm2-135m")
    with Mount(path, "device_map=disk") as m:
        m.params(template="ids", temperature=0, max_tokens=N, ignore_eos=1)
        for _ in range(30):
            if answering:
                m.write("input", "1 2 3")
            writer = in_another_process(try_write, m, "cpu\n")
            met = half_way(m)
            m.write("ctl", "cancel\n")
            code = result(*writer)
            assert code in (0, errno.ECANCELED), os.strerror(code)
            assert_true_map(m, config)
            assert m.state() == "ready", m.read("status")
            if met and code == errno.ECANCELED:
                break
            m.write("device_map.yaml", "disk\n")
        else:
            raise Skip("no move was met half way: this machine is too fast for this model")
        got = assert_true_map(m, config)
        assert set(got.values()) == {"cpu", "disk"}, got
        assert "layer boundary" in m.read("last_error"), m.read("last_error")
        if answering:
            m.write("ctl", "cancel\n")
        print(f"# stopped with {sum(v == 'cpu' for v in got.values())} of {len(got)} entries on cpu")
        assert m.ask_ids([1, 2, 3], 5) == [0] * 5  # every weight is 0: the first id is the best; it answers
        assert m.device_map() == got
        m.write("device_map.yaml", "cpu\n")
        assert set(m.device_map().values()) == {"cpu"}
        assert_true_map(m, config)


def check_supersede(top):
    """Two writers: both return without error, and the later map stands"""
    fuse_or_skip()
    config = make_405b.config_of("smollm2-135m")
    later = {"": "disk", "model.layers.3": "cpu", "model.norm": "cpu"}
    with Mount(sparse(top), "device_map=disk") as m:
        for _ in range(5):
            first = in_another_process(try_write, m, "cpu\n")
            met = half_way(m)
            m.write("device_map.yaml", as_yaml(later))
            assert result(*first) == 0
            assert_is(m, later, config["num_hidden_layers"])
            assert_true_map(m, config)
            if met:
                break
            m.write("device_map.yaml", "disk\n")
        assert m.read("device_map.yaml") == as_yaml(later)


def check_dtype_waits(path):
    fuse_or_skip()
    with Mount(path, "device_map=cpu,dtype=float32") as m:
        in_f32 = m.ask_ids(PROMPT, N_FEW)
    with Mount(path, "device_map=cpu,dtype=bfloat16") as m:
        in_bf16 = m.ask_ids(PROMPT, N_FEW)
        before = m.read("hf_device_map")
        m.write("input", " ".join(map(str, PROMPT)))
        m.write("dtype", "float32\n")
        status = m.status()
        assert status["running"] == "0", status  # the answer was given before the types changed
        assert status["dtype"] == "float32", status
        assert m.read("hf_device_map") == before
        fd = os.open(m / "output", os.O_RDONLY | os.O_NONBLOCK)
        try:
            text = b""
            while part := os.read(fd, 1 << 16):
                text += part
        finally:
            os.close(fd)
        assert ids_of(text) == in_bf16, f"got  {text}\nwant {in_bf16}"
        assert m.ask_ids(PROMPT, N_FEW) == in_f32
        # what is asked while a dtype waits is answered in the new one
        m.write("input", " ".join(map(str, PROMPT)))
        writer = in_another_process(m.write, "dtype", "bfloat16\n")
        while m.read("dtype") != "bfloat16\n":  # accepted, and perhaps waiting
            pass
        m.write("input", " ".join(map(str, PROMPT)))
        assert ids_of(m.read("output")) == in_bf16
        result(*writer)


def check_max_memory(path):
    """New limits plan anew, with an answer under way; a map of one's own that does not fit is refused"""
    fuse_or_skip()
    with Mount(path, "device_map=auto") as m:
        all_of_it = int(m.status()["loaded_bytes_cpu"])
        want = m.ask_ids(PROMPT, N_FEW)
        for part in (0.7, 0.4, 0.9, 0):
            limit = int(all_of_it * part)
            m.write("input", " ".join(map(str, PROMPT)))
            m.write("max_memory", f"cpu: {limit}\n" if part else "cpu: 0\n")
            got = set(m.device_map(wait=False).values())
            assert got == ({"cpu", "disk"} if part else {"disk"}), m.read("hf_device_map")
            assert int(m.status()["loaded_bytes_cpu"]) <= limit, m.read("status")
            assert ids_of(m.read("output")) == want, f"max_memory {limit}"
        before = m.read("hf_device_map")
        code, sentence = m.refusal("device_map.yaml", "cpu\n")
        assert code == errno.ENOMEM and "max_memory" in sentence, (code, sentence)
        assert m.read("hf_device_map") == before
        m.write("max_memory", "\n")
        assert set(m.device_map().values()) == {"cpu"}, m.read("hf_device_map")
        m.write("device_map.yaml", "cpu\n")
        code, sentence = m.refusal("max_memory", f"cpu: {all_of_it // 2}\n")
        assert code == errno.ENOMEM, (code, sentence)
        assert set(m.device_map().values()) == {"cpu"} and m.read("max_memory").strip() == "", m.read("max_memory")
        assert m.ask_ids(PROMPT, N_FEW) == want


def main():
    cases = Cases()
    with scratch() as top:
        tiny = os.path.join(SOURCE, "tests", "data", "tiny", "llama")
        medium = os.path.join(top, "random-30m")
        make_big.make(medium, "30m")
        if sys.argv[1:] == ["smollm2"]:
            cases.run("smollm2: ten rewrites during 200 tokens", lambda: check_rewrites(real_model("smollm2")), timeout=600)
            cases.run("smollm2: max_memory plans anew", lambda: check_max_memory(real_model("smollm2")), timeout=600)
            cases.finish()
        for threads in (1, 2):
            cases.run(f"tiny llama: ten rewrites during 200 tokens, threads={threads}", check_rewrites, tiny, f",threads={threads}")
            cases.run(f"30 M: ten rewrites during 200 tokens, threads={threads}", check_rewrites, medium, f",threads={threads}")
        cases.run("30 M in float32: ten rewrites during 200 tokens", check_rewrites, medium, ",dtype=float32")
        cases.run("a cancel stops between two layers", check_cancel, top, False)
        cases.run("a cancel stops between two layers, and the answer", check_cancel, top, True)
        cases.run("a second write supersedes the first", check_supersede, top)
        cases.run("a dtype waits for the answer", check_dtype_waits, medium)
        cases.run("max_memory plans anew", check_max_memory, medium)
    cases.finish()


if __name__ == "__main__":
    main()

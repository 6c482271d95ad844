#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What is refused at mount: exit status 32, one sentence that names the thing, nothing left mounted. What is refused later: its errno.

Every damaged directory is made from a good one by one change.
"""
import errno
import json
import os
import shutil
import subprocess

from mounted import (PROGRAM, TINY, Cases, Mount, fuse_or_skip, is_mounted, read_safetensors, scratch, unmount,
                     write_safetensors)

GOOD = os.path.join(TINY, "llama")
SHARD = "model.safetensors"
Q = "model.layers.0.self_attn.q_proj.weight"


def copy(path):
    for name in ("config.json", SHARD):
        shutil.copyfile(os.path.join(GOOD, name), os.path.join(path, name))


def header(change):
    """A change of the safetensors header, of the bytes behind it, or of the length written before it"""

    def make(path):
        copy(path)
        entries, data = read_safetensors(os.path.join(path, SHARD))
        entries, data, length = (change(entries, data) + (None,))[:3]
        write_safetensors(os.path.join(path, SHARD), entries, data, length)

    return make


def config(**values):
    def make(path):
        copy(path)
        name = os.path.join(path, "config.json")
        with open(name) as f:
            entries = json.load(f)
        for key, value in values.items():
            if value is None:
                entries.pop(key, None)
            else:
                entries[key] = value
        with open(name, "w") as f:
            json.dump(entries, f)

    return make


def written(name, content, drop=None):
    def make(path):
        copy(path)
        if drop:
            os.remove(os.path.join(path, drop))
        with open(os.path.join(path, name), "wb") as f:
            f.write(content)

    return make


def edit(name, **values):
    """header(): one tensor's entry gets other values"""

    def change(entries, data):
        entries = {k: dict(v) for k, v in entries.items()}
        entries[name].update(values)
        return entries, data

    return header(change)


def without(name):
    """A tensor and its bytes taken away, the others moved together"""

    def change(entries, data):
        begin, end = entries[name]["data_offsets"]
        entries = {k: dict(v) for k, v in entries.items() if k != name}
        for entry in entries.values():
            if "data_offsets" in entry and entry["data_offsets"][0] >= end:
                entry["data_offsets"] = [x - (end - begin) for x in entry["data_offsets"]]
        return entries, data[:begin] + data[end:]

    return header(change)


def twice(entries, data):
    text = json.dumps(entries, separators=(",", ":"))
    return (text[:-1] + "," + json.dumps(Q) + ":" + json.dumps(entries[Q]) + "}").encode(), data


def overlap(entries, data):
    entries = {k: dict(v) for k, v in entries.items()}
    entries[Q]["data_offsets"] = [x - 64 for x in entries[Q]["data_offsets"]]
    return entries, data


def index(shard):
    def make(path):
        copy(path)
        entries, _ = read_safetensors(os.path.join(path, SHARD))
        names = [k for k in entries if k != "__metadata__"]
        os.rename(os.path.join(path, SHARD), os.path.join(path, "model-00001-of-00001.safetensors"))
        with open(os.path.join(path, SHARD + ".index.json"), "w") as f:
            json.dump({"metadata": {}, "weight_map": {n: shard if n == Q else "model-00001-of-00001.safetensors" for n in names}}, f)

    return make


def two_gguf(path):
    body = b"GGUF\3\0\0\0" + bytes(16)
    for name in ("one.gguf", "two.gguf"):
        with open(os.path.join(path, name), "wb") as f:
            f.write(body)


def truncated(path):
    copy(path)
    with open(os.path.join(path, SHARD), "r+b") as f:
        f.truncate(os.path.getsize(f.name) - 1)


QUANTS = [
    ("gptq", {"quant_method": "gptq", "bits": 4}),
    ("awq", {"quant_method": "awq", "bits": 4}),
    ("bitsandbytes", {"quant_method": "bitsandbytes", "load_in_4bit": True}),
    ("fp8", {"quant_method": "fp8"}),
    ("mxfp4", {"quant_method": "mxfp4"}),
]

# name, how to make the directory, words that the sentence must have (lower case)
REFUSED = [
    ("a directory that is not there", lambda path: os.rmdir(path), ["no such file"]),
    ("an empty directory", lambda path: None, ["config.json"]),
    ("no config.json", written("x", b"", drop="config.json"), ["config.json"]),
    ("no weights", written("x", b"", drop=SHARD), ["safetensors"]),
    ("config.json cut short", written("config.json", b'{"model_type": "llama", '), ["config.json"]),
    ("config.json that is no object", written("config.json", b"[]"), ["config.json"]),
    ("config.json that is not UTF-8", written("config.json", b'{"model_type": "ll\xffma"}'), ["config.json", "utf"]),
    ("config.json nested 100000 deep", written("config.json", b"[" * 100000), ["config.json", "deep"]),
    ("no hidden_size", config(hidden_size=None), ["config.json"]),
    ("hidden_size 0", config(hidden_size=0), ["hidden_size"]),
    ("hidden_size that is text", config(hidden_size="big"), ["hidden_size"]),
    ("an absurd number of layers", config(num_hidden_layers=2**40), ["num_hidden_layers"]),
    ("more layers than the file has", config(num_hidden_layers=4), [SHARD.split(".")[0], "model.layers.3"]),
    ("a tensor past the end of its file", truncated, [SHARD]),
    ("a tensor far outside", edit(Q, data_offsets=[2**62, 2**62 + 8192]), [SHARD, Q]),
    ("offsets backwards", edit(Q, data_offsets=[8192, 0]), [SHARD, Q]),
    ("two tensors that overlap", header(overlap), [SHARD, "overlap"]),
    ("a shape that the config does not have", edit(Q, shape=[32, 128]), [Q]),
    ("a shape larger than its bytes", edit(Q, shape=[64, 65]), [Q]),
    ("a negative shape", edit(Q, shape=[-64, -64]), [Q]),
    ("a shape that overflows", edit(Q, shape=[2**40, 2**40]), [Q]),
    ("an unknown dtype", edit(Q, dtype="X8"), [Q, "x8"]),
    ("a tensor that is missing", without(Q), [Q]),
    ("a tensor that comes twice", header(twice), [SHARD, "twice"]),
    ("a header longer than its file", header(lambda e, d: (e, d, 2**40)), [SHARD, "header"]),
    ("a header of no bytes", header(lambda e, d: (b"", d, 0)), [SHARD]),
    ("a header that is not UTF-8", header(lambda e, d: (b'{"\xff\xfe": 1}', d)), [SHARD]),
    ("a header nested 100000 deep", header(lambda e, d: (b"[" * 100000, d)), [SHARD]),
    ("an empty file of weights", written(SHARD, b""), [SHARD]),
    ("seven bytes of weights", written(SHARD, b"1234567"), [SHARD]),
    ("a shard outside the directory", index("../outside.safetensors"), ["../outside.safetensors"]),
    ("a shard with an absolute name", index("/etc/passwd"), ["/etc/passwd"]),
    ("a shard that is not there", index("model-00002-of-00002.safetensors"), ["model-00002-of-00002.safetensors"]),
    ("weights only as .bin", written("pytorch_model.bin", b"PK", drop=SHARD), ["pytorch_model.bin", "safetensors"]),
    ("weights only as .pt", written("consolidated.00.pth", b"PK", drop=SHARD), ["consolidated.00.pth", "safetensors"]),
    ("an adapter", written("adapter_config.json", b'{"peft_type": "LORA"}', drop=SHARD), ["adapter"]),
    ("an unknown model_type with code of its own", config(model_type="krakatoa", auto_map={"AutoModelForCausalLM": "modeling_x.X"}), ["auto_map"]),
    ("an unknown model_type", config(model_type="krakatoa"), ["krakatoa"]),
    ("no model_type", config(model_type=None, architectures=None), ["model_type"]),
    ("an unknown activation", config(hidden_act="snake"), ["snake"]),
    ("two GGUF models in one directory", two_gguf, ["one.gguf", "two.gguf"]),
] + [(f"quantization: {name}", config(quantization_config=value), ["quantization", name]) for name, value in QUANTS]


def at_mount(make, words):
    fuse_or_skip()
    with scratch() as top:
        path, mnt = os.path.join(top, "model"), os.path.join(top, "mnt")
        os.mkdir(path)
        os.mkdir(mnt)
        make(path)
        done = subprocess.run([PROGRAM, path, mnt], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        left = is_mounted(os.path.realpath(mnt))
        if left:
            unmount(mnt, lazy=True)
        assert done.returncode == 32, f"exit status {done.returncode}: {done.stderr}"
        assert not left, "the mount was left"
        said = done.stderr.strip()
        assert len(said.splitlines()) == 1, f"not one sentence: {said}"
        for word in words:
            assert word.lower() in said.lower(), f"'{word}' is not in: {said}"


def good_one():
    """The directory all others are made from does mount"""
    fuse_or_skip()
    with scratch() as path:
        copy(path)
        with Mount(path) as m:
            assert m.ask_ids([1, 2, 3], 4)


# file, text, errno, words of the sentence
REFUSED_LATER = [
    ("device_map.yaml", "model.layers.7: cpu\n", errno.EINVAL, ["model.layers.7"]),
    ("device_map.yaml", "model.layers.0: cpu\n", errno.EINVAL, ["model.embed_tokens", "model.layers.1", "model.layers.2",
                                                               "model.norm", "lm_head"]),
    ("device_map.yaml", "model: cpu\n", errno.EINVAL, ["lm_head"]),
    ("device_map.yaml", "0\n", errno.ENODEV, ["0"]),
    ("device_map.yaml", "cuda:0\n", errno.ENODEV, []),
    ("device_map.yaml", '"": 0\n', errno.ENODEV, []),
    ("device_map.yaml", "model.layers.0: 3\n", errno.ENODEV, ["3"]),
    ("device_map.yaml", "model.layers.0: tape\n", errno.EINVAL, ["tape"]),
    ("device_map.yaml", "faster\n", errno.EINVAL, ["faster"]),
    ("device_map.yaml", "{ not: [yaml\n", errno.EINVAL, []),
    ("device_map.yaml", "model.layers.0: cpu\nmodel.layers.0: disk\n", errno.EINVAL, ["model.layers.0"]),
    ("dtype", "int3\n", errno.EINVAL, ["int3"]),
    ("dtype", "float\n32\n", errno.EINVAL, []),
    ("max_memory", "cpu: lots\n", errno.EINVAL, ["lots"]),
    ("max_memory", "tape: 1GiB\n", errno.EINVAL, ["tape"]),
    ("params/temperature", "warm\n", errno.EINVAL, ["warm"]),
    ("params/temperature", "-1\n", errno.ERANGE, []),
    ("params/top_p", "1.5\n", errno.ERANGE, []),
    ("params/max_tokens", "-7\n", errno.ERANGE, []),
    ("params/template", "chatty\n", errno.EINVAL, ["chatty"]),
]


def later(name, text, code, words):
    fuse_or_skip()
    with Mount(GOOD, "dtype=float32") as m:
        before = (m.read("device_map.yaml"), m.read("hf_device_map"), m.read("dtype"), m.read("max_memory"))
        want = m.ask_ids([5, 6, 7], 8)
        got, sentence = m.refusal(name, text)
        assert got == code, f"{errno.errorcode[got]}, not {errno.errorcode[code]}: {sentence}"
        assert os.path.basename(name) in sentence or name in sentence, sentence
        for word in words:
            assert word in sentence, f"'{word}' is not in: {sentence}"
        after = (m.read("device_map.yaml"), m.read("hf_device_map"), m.read("dtype"), m.read("max_memory"))
        assert after == before, f"{before} became {after}"
        assert m.ask_ids([5, 6, 7], 8) == want


def prompts():
    """Prompts that are refused: at the write or close, and again where the answer is read"""
    fuse_or_skip()
    with Mount(GOOD, "dtype=float32") as m:
        m.params(template="ids", max_tokens=4, temperature=0)
        for text, code in (("1 " * 600, errno.EMSGSIZE), ("999999", errno.EINVAL), ("one", errno.EILSEQ)):
            got, sentence = m.refusal("input", text)
            assert got == code, f"{text[:20]!r}: {errno.errorcode[got]}, not {errno.errorcode[code]}: {sentence}"
        assert m.ask_ids([1, 2], 2)


def unplaceable_at_mount():
    """A placement refused at mount leaves the mount up, failed, with the sentence; a better map is taken"""
    fuse_or_skip()
    with Mount(GOOD, "device_map=0", expect_failed=True) as m:
        assert m.state() == "failed", m.read("status")
        assert "0" in m.read("last_error"), m.read("last_error")
        try:
            m.ask("1 2 3")
            raise AssertionError("a model that is not placed answered")
        except OSError as e:
            assert e.errno in (errno.ENODEV, errno.EIO), e
        m.write("device_map.yaml", "cpu\n")
        assert m.state() == "ready", m.read("status")
        assert m.ask_ids([1, 2, 3], 4)


def usage():
    for words in ([], ["only-one"], [GOOD, "/tmp", "-o", "no_such_option"], ["--no-such-switch"]):
        done = subprocess.run([PROGRAM, *words], capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == 1, f"{words}: exit status {done.returncode}: {done.stderr}"
        assert done.stderr.strip(), words


def main():
    cases = Cases()
    cases.run("the unchanged directory mounts", good_one)
    for name, make, words in REFUSED:
        cases.run(f"at mount: {name}", at_mount, make, words)
    for name, text, code, words in REFUSED_LATER:
        cases.run(f"{name}: {text.strip()!r} is {errno.errorcode[code]}", later, name, text, code, words)
    cases.run("prompts", prompts)
    cases.run("a placement refused at mount", unplaceable_at_mount)
    cases.run("usage errors exit with 1", usage)
    cases.finish()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a directory that looks like Llama-3.1-405B (bfloat16) and takes no disk: true headers, weights that are holes.

usage: make_405b.py DIR [MODEL]

config.json is that of MODEL (default llama-3.1-405b, any Llama of tests/data/placement/configs.json); beside it a
model.safetensors.index.json and its shards, cut as Transformers cuts them (a shard ends before the tensor that would bring
it over 5 GB). 811 GB apparent, made in milliseconds: a file is its header and ftruncate(). Every weight reads as 0.
"""
import json
import os
import struct
import sys

from make_big import tensors

CONFIGS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "data", "placement", "configs.json")
SHARD_MAX = 5_000_000_000


def config_of(model):
    with open(CONFIGS) as f:
        return json.load(f)[model]


def shards(config):
    """Lists of (name, shape, bytes), each what one file holds"""
    shard, filled = [], 0
    heads = config["num_attention_heads"]
    for name, shape in tensors(config["hidden_size"], config["num_hidden_layers"], heads,
                               config.get("num_key_value_heads", heads), config["intermediate_size"], config["vocab_size"]):
        if name == "lm_head.weight" and config.get("tie_word_embeddings"):
            continue
        size = 2
        for x in shape:
            size *= x
        if shard and filled + size > SHARD_MAX:
            yield shard
            shard, filled = [], 0
        shard.append((name, shape, size))
        filled += size
    yield shard


def write_shard(path, shard):
    header, off = {"__metadata__": {"format": "pt"}}, 0
    for name, shape, size in shard:
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [off, off + size]}
        off += size
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        f.truncate(8 + len(text) + off)
    return off


def make(path, model="llama-3.1-405b"):
    """The directory, made if it is not there; returns bytes of weights"""
    config = config_of(model)
    os.makedirs(path, exist_ok=True)
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump(config, f, indent=1)
    parts = list(shards(config))
    where, total = {}, 0
    for i, shard in enumerate(parts, 1):
        name = f"model-{i:05d}-of-{len(parts):05d}.safetensors"
        total += write_shard(os.path.join(path, name), shard)
        where.update((tensor, name) for tensor, _, _ in shard)
    with open(os.path.join(path, "model.safetensors.index.json"), "w") as f:
        json.dump({"metadata": {"total_size": total}, "weight_map": where}, f, indent=1)
    return total


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[-1] in ("-h", "--help"):
        sys.exit(__doc__)
    print(make(*sys.argv[1:]))

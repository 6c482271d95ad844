#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Write tests/golden/tiny-tensors.tsv: what the peers read from tests/data/tiny and tests/data/tiny-gguf.

usage: make_tiny_tensors.py [ROOT]     (needs numpy, safetensors 0.8 and gguf 0.19 from PyPI)

A line a tensor: file, name, dtype, shape slowest first, CRC-32 (zlib's) of its bytes. The readers are safetensors.deserialize
and gguf.GGUFReader.
"""
import os
import sys
import zlib

import safetensors
from gguf import GGUFReader

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
DTYPES = {"BF16": "bfloat16", "F32": "float32"}


def main():
    with open(os.path.join(ROOT, "tests/golden/tiny-tensors.tsv"), "w") as out:
        print("# safetensors.deserialize and gguf.GGUFReader; made by tests/golden/make_tiny_tensors.py", file=out)
        for variant in sorted(os.listdir(os.path.join(ROOT, "tests/data/tiny"))):
            path = f"tiny/{variant}/model.safetensors"
            for name, t in sorted(safetensors.deserialize(open(os.path.join(ROOT, "tests/data", path), "rb").read())):
                shape = ",".join(map(str, t["shape"]))
                print(f"tiny/{variant}", name, DTYPES[t["dtype"]], shape, f"{zlib.crc32(bytes(t['data'])):08x}", sep="\t", file=out)
        for name in sorted(os.listdir(os.path.join(ROOT, "tests/data/tiny-gguf"))):
            for t in GGUFReader(os.path.join(ROOT, "tests/data/tiny-gguf", name)).tensors:
                shape = ",".join(str(x) for x in reversed(t.shape))
                print(f"tiny-gguf/{name}", t.name, DTYPES[t.tensor_type.name], shape, f"{zlib.crc32(t.data.tobytes()):08x}", sep="\t",
                      file=out)


main()

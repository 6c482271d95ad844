#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Makes quants.tsv: random GGUF blocks and what the `gguf` package (llama.cpp's own) decodes them to.

usage: make_quants.py > quants.tsv
Columns: type, bytes of the blocks, float32 results; the last two little-endian in hex.
"""
import sys

import gguf
import numpy as np
from gguf import GGMLQuantizationType as Q
from importlib.metadata import version

# type: (blocks, offsets of the float16 scales in a block)
TYPES = {
    Q.Q4_0: (6, [0]), Q.Q4_1: (6, [0, 2]), Q.Q5_0: (6, [0]), Q.Q5_1: (6, [0, 2]), Q.Q8_0: (6, [0]),
    Q.Q4_K: (3, [0, 2]), Q.Q5_K: (3, [0, 2]), Q.Q6_K: (3, [208]),
}
# Scales of real models, then what the format also allows: both signs, zeros, subnormals, the largest.
SCALES = [0.0123, -0.00371, 1.5, -0.0, 5.96e-8, -6e-5, 65504.0, 0.333]


def main():
    rng = np.random.default_rng(7)
    print(f"# gguf {version('gguf')}, made by make_quants.py, seed 7; compare bit by bit")
    for q, (n, offsets) in TYPES.items():
        length, size = gguf.GGML_QUANT_SIZES[q]
        blocks = rng.integers(0, 256, (n, size), dtype=np.uint8)
        for i in range(n):
            for k, off in enumerate(offsets):
                half = np.array([SCALES[(i + 3 * k) % len(SCALES)]], dtype=np.float16)
                blocks[i, off:off + 2] = half.view(np.uint8)
        out = gguf.quants.dequantize(blocks.reshape(-1), q).astype("<f4")
        assert out.size == n * length
        print(q.name.lower(), blocks.tobytes().hex(), out.tobytes().hex(), sep="\t")


if __name__ == "__main__":
    sys.exit(main())

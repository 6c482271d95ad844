#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make a Llama model of random weights in the Hugging Face layout (bfloat16), with the standard library alone.

usage: make_big.py DIR [1b | 300m | 30m]

1b is 1.17 billion parameters (2.34 GB): hidden 2048, 22 layers, 32 heads, 4 of keys and values, intermediate 5632, vocabulary
49152, untied. The weights have random signs, mantissas and one of two exponents (magnitudes from 2^-7 to 2^-5, as trained
weights have); a pool of them is written over and over at changing offsets, so a disk is the only limit. The same each time.
"""
import json
import os
import random
import struct
import sys

SIZES = {  # hidden, layers, heads, kv heads, intermediate, vocabulary
    "1b": (2048, 22, 32, 4, 5632, 49152),
    "300m": (1024, 24, 16, 4, 2816, 16384),
    "30m": (512, 8, 8, 2, 1408, 4096),
}
POOL = 16 << 20


def pool():
    raw = bytearray(random.Random(1).randbytes(POOL))
    # little-endian bfloat16: low byte = exponent's last bit and mantissa, high byte = sign and exponent: 120 or 121
    raw[1::2] = bytes(raw[1::2]).translate(bytes((b & 0x80) | 0x3C for b in range(256)))
    return bytes(raw)


def tensors(hidden, layers, heads, kv, inter, vocab):
    head = hidden // heads
    yield "model.embed_tokens.weight", (vocab, hidden)
    for i in range(layers):
        p = f"model.layers.{i}."
        yield p + "self_attn.q_proj.weight", (hidden, hidden)
        yield p + "self_attn.k_proj.weight", (kv * head, hidden)
        yield p + "self_attn.v_proj.weight", (kv * head, hidden)
        yield p + "self_attn.o_proj.weight", (hidden, hidden)
        yield p + "mlp.gate_proj.weight", (inter, hidden)
        yield p + "mlp.up_proj.weight", (inter, hidden)
        yield p + "mlp.down_proj.weight", (hidden, inter)
        yield p + "input_layernorm.weight", (hidden,)
        yield p + "post_attention_layernorm.weight", (hidden,)
    yield "model.norm.weight", (hidden,)
    yield "lm_head.weight", (vocab, hidden)


def make(path, size="1b"):
    """The directory, made if it is not there; returns bytes of weights"""
    hidden, layers, heads, kv, inter, vocab = SIZES[size]
    os.makedirs(path, exist_ok=True)
    header, off = {"__metadata__": {"format": "pt"}}, 0
    for name, shape in tensors(*SIZES[size]):
        n = 2
        for x in shape:
            n *= x
        header[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [off, off + n]}
        off += n
    final = os.path.join(path, "model.safetensors")
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % 4096)  # the weights begin on a page
    if os.path.exists(final) and os.path.getsize(final) == 8 + len(text) + off:
        return off
    with open(os.path.join(path, "config.json"), "w") as f:
        json.dump({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": hidden, "num_hidden_layers": layers,
            "num_attention_heads": heads, "num_key_value_heads": kv, "intermediate_size": inter, "vocab_size": vocab,
            "hidden_act": "silu", "max_position_embeddings": 4096, "rms_norm_eps": 1e-5, "rope_theta": 10000.0,
            "tie_word_embeddings": False, "torch_dtype": "bfloat16", "bos_token_id": 1, "eos_token_id": 2,
        }, f, indent=1)
    noise, at = memoryview(pool()), 0
    with open(final + ".part", "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text)
        for name, shape in tensors(*SIZES[size]):
            left = header[name]["data_offsets"][1] - header[name]["data_offsets"][0]
            if len(shape) == 1:
                f.write(b"\x80\x3f" * shape[0])  # norms: 1.0
                continue
            while left:
                n = min(left, POOL - at)
                f.write(noise[at:at + n])
                left -= n
                at = (at + n + 4098) % (POOL - 8192) & ~1
        f.flush()
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    os.rename(final + ".part", final)
    return off


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3) or sys.argv[-1] in ("-h", "--help"):
        sys.exit(__doc__)
    print(make(*sys.argv[1:]))

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Make tests/data/tiny-gguf/*.gguf from tests/data/tiny/*, as llama.cpp's convert_hf_to_gguf.py does, with gguf-py's writer.

usage: make_tiny_gguf.py [ROOT]     (needs numpy and gguf 0.19 from PyPI)

So expected.json of the same variant is what these files must answer: llama's q and k rows are permuted for interleaved
rotation, Gemma's norms hold 1 + w, llama3's frequencies come as the tensor rope_freqs. Matrices stay bfloat16.
"""
import json
import math
import os
import struct
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
NAMES = {
    "self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down", "input_layernorm": "attn_norm",
    "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm",
}
OWN = {
    "llama": {"post_attention_layernorm": "ffn_norm"},
    "gemma3": {"post_attention_layernorm": "post_attention_norm", "pre_feedforward_layernorm": "ffn_norm",
               "post_feedforward_layernorm": "post_ffw_norm"},
}


def tensors(path):
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        header, data = json.loads(f.read(n)), f.read()
    for name, t in header.items():
        if name != "__metadata__":
            a, b = t["data_offsets"]
            assert t["dtype"] == "BF16"
            yield name, np.frombuffer(data[a:b], dtype=np.uint16).reshape(t["shape"])


def gguf_name(name, arch):
    stem, kind = name.rsplit(".", 1)
    top = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}
    if stem in top:
        return f"{top[stem]}.{kind}"
    _, _, layer, part = stem.split(".", 3)
    return f"blk.{layer}.{dict(NAMES, **OWN[arch])[part]}.{kind}"


def permute(w, heads):
    return w.reshape(heads, 2, w.shape[0] // heads // 2, *w.shape[1:]).swapaxes(1, 2).reshape(w.shape)


def rope_factors(rope, head_dim):
    out = []
    low, high = rope["original_max_position_embeddings"] / rope["low_freq_factor"], \
        rope["original_max_position_embeddings"] / rope["high_freq_factor"]
    for i in range(0, head_dim, 2):
        wavelen = 2 * math.pi * rope["rope_theta"] ** (i / head_dim)
        if wavelen < high:
            out.append(1)
        elif wavelen > low:
            out.append(rope["factor"])
        else:
            smooth = (rope["original_max_position_embeddings"] / wavelen - rope["low_freq_factor"]) / \
                (rope["high_freq_factor"] - rope["low_freq_factor"])
            out.append(1 / ((1 - smooth) / rope["factor"] + smooth))
    return np.array(out, dtype=np.float32)


def convert(variant, arch):
    src = os.path.join(ROOT, "tests/data/tiny", variant)
    c = json.load(open(src + "/config.json"))
    w = GGUFWriter(os.path.join(ROOT, "tests/data/tiny-gguf", variant + ".gguf"), arch)
    rope = c["rope_parameters"]
    full = rope.get("full_attention", rope)
    w.add_block_count(c["num_hidden_layers"])
    w.add_context_length(c["max_position_embeddings"])
    w.add_embedding_length(c["hidden_size"])
    w.add_feed_forward_length(c["intermediate_size"])
    w.add_head_count(c["num_attention_heads"])
    w.add_head_count_kv(c["num_key_value_heads"])
    w.add_layer_norm_rms_eps(c["rms_norm_eps"])
    w.add_rope_freq_base(full["rope_theta"])
    w.add_key_length(c["head_dim"])
    w.add_value_length(c["head_dim"])
    if arch == "gemma3":
        w.add_sliding_window(c["sliding_window"])
        if c["layer_types"] != ["full_attention" if (i + 1) % 6 == 0 else "sliding_attention" for i in range(len(c["layer_types"]))]:
            w.add_sliding_window_pattern([t == "sliding_attention" for t in c["layer_types"]])
    else:
        w.add_vocab_size(c["vocab_size"])
        w.add_rope_dimension_count(c["head_dim"])
    w.add_bos_token_id(c["bos_token_id"])
    w.add_eos_token_id(c["eos_token_id"])
    for name, bits in tensors(src + "/model.safetensors"):
        if arch == "llama" and ".q_proj." in name:
            bits = permute(bits, c["num_attention_heads"])
        if arch == "llama" and ".k_proj." in name:
            bits = permute(bits, c["num_key_value_heads"])
        if bits.ndim == 1:
            x = (bits.astype(np.uint32) << 16).view(np.float32)
            w.add_tensor(gguf_name(name, arch), x + np.float32(1) if arch == "gemma3" and "norm" in name else x)
        else:
            w.add_tensor(gguf_name(name, arch), np.ascontiguousarray(bits).view(np.uint8), raw_dtype=GGMLQuantizationType.BF16)
    if full["rope_type"] == "llama3":
        w.add_tensor("rope_freqs.weight", rope_factors(full, c["head_dim"]))
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


for v, a in (("llama", "llama"), ("llama-tied-bias", "llama"), ("llama3-rope", "llama"), ("gemma3", "gemma3")):
    convert(v, a)

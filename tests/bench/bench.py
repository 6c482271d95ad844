#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Decoding and prefill through the mounted files, next to the memory bandwidth measured in the same run.

usage: bench.py PROGRAMS_DIR OUT.json MODEL_DIR...   (environment: BMIFS_PROGRAM, BMIFS_BENCH_THREADS, BMIFS_BENCH_OPTIONS)

decode   tokens per second, the 64 after a prompt of 16: the time from the first to the last as read from `output`; best of 3
prefill  seconds from the close of `input` with 512 ids until `logits` can be read; best of 3
limit    read bandwidth of all threads / bytes of weights that a token needs
files    the same tokens asked of the engine in process, and what the files cost of that; open, read and close of a
         small file in microseconds
Everything is a ratio inside one run: the machine may be shared.
"""
import json
import os
import platform
import subprocess
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from mounted import Mount  # noqa: E402

THREADS = int(os.environ.get("BMIFS_BENCH_THREADS", len(os.sched_getaffinity(0))))
N_DECODE, N_PREFILL = 64, 512


def cpu():
    name, flags = platform.machine(), []
    with open("/proc/cpuinfo") as f:
        for line in f:
            if line.startswith("model name"):
                name = line.split(":")[1].strip()
            if line.startswith("flags"):
                flags = [w for w in line.split() if w in ("avx2", "fma", "avx512f", "avx512_bf16", "amx_bf16")]
                break
    return name, flags


def ids(n, vocab):
    """Prompt ids that differ and exist; the same each time"""
    return [3 + (i * 7919) % (vocab - 3) for i in range(n)]


def decode(m, vocab):
    """Tokens per second between the first and the last"""
    m.params(template="ids", temperature=0, max_tokens=N_DECODE, ignore_eos=1)
    m.write("input", " ".join(map(str, ids(16, vocab))))
    fd = os.open(m / "output", os.O_RDONLY)
    first, n_first, text = None, 0, b""
    try:
        while part := os.read(fd, 4096):
            now = time.perf_counter()
            text += part
            if first is None:
                first, n_first = now, len(text.split())
            last = now
    finally:
        os.close(fd)
    n = len(text.split())
    assert n == N_DECODE, f"{n} tokens, not {N_DECODE}"
    return (n - n_first) / (last - first)


def prefill(m, vocab):
    m.params(template="ids", temperature=0, max_tokens=1, ignore_eos=1)
    text = " ".join(map(str, ids(N_PREFILL, vocab)))
    start = time.perf_counter()
    m.write("input", text)
    m.read_bytes("logits")
    seconds = time.perf_counter() - start
    m.read("output")
    return seconds


def small_file(m):
    n = 2000
    start = time.perf_counter()
    for _ in range(n):
        with open(m / "params/temperature", "rb", buffering=0) as f:
            f.read(4096)
    return (time.perf_counter() - start) / n * 1e6


def weights_per_token(path, m):
    """Bytes that a token reads: all that is loaded, less the embedding table where it is not the head as well"""
    status = m.status()
    total = int(status["loaded_bytes_cpu"]) + int(status.get("disk_bytes", 0))
    try:
        with open(os.path.join(path, "config.json")) as f:
            config = json.load(f)
    except OSError:
        return total
    if not config.get("tie_word_embeddings", config.get("model_type") == "gemma3_text"):
        size = {"float32": 4}.get(status.get("dtype"), 2)
        total -= config["vocab_size"] * config["hidden_size"] * size
    return total


def in_process(program, path, vocab):
    done = subprocess.run([program, path, str(THREADS), " ".join(map(str, ids(16, vocab)))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


def measure(path, bandwidth, programs):
    options = f"threads={THREADS}," + os.environ.get("BMIFS_BENCH_OPTIONS", "dtype=bfloat16,device_map=cpu")
    start = time.perf_counter()
    with Mount(path, options) as m:
        ready = time.perf_counter() - start
        m.params(template="ids", temperature=0, max_tokens=1)
        m.ask("5 6 7")
        vocab = len(m.logits())
        row = {
            "model": os.path.basename(path.rstrip("/")), "options": options, "vocab": vocab,
            "mount_to_ready_s": ready,
            "decode_tok_s": max(decode(m, vocab) for _ in range(3)),
            "prefill_512_s": min(prefill(m, vocab) for _ in range(3)),
            "small_file_us": small_file(m),
            "weight_bytes_per_token": weights_per_token(path, m),
        }
    row["in_process_tok_s"] = in_process(os.path.join(programs, "inproc"), path, vocab)
    row["files_cost"] = 1 - row["decode_tok_s"] / row["in_process_tok_s"]
    row["decode_limit_tok_s"] = bandwidth / row["weight_bytes_per_token"]
    row["decode_of_limit"] = row["decode_tok_s"] / row["decode_limit_tok_s"]
    return row


def main():
    if len(sys.argv) < 4:
        sys.exit(__doc__)
    programs, out, paths = sys.argv[1], sys.argv[2], sys.argv[3:]
    name, flags = cpu()
    rate = lambda n: float(subprocess.run([os.path.join(programs, "bandwidth"), str(n), "2"], capture_output=True, text=True, check=True).stdout)
    result = {"cpu": name, "features": flags, "threads": THREADS, "bandwidth_bytes_s": rate(THREADS), "rows": []}
    print(f"{name}, {' '.join(flags)}; {THREADS} threads read {result['bandwidth_bytes_s'] / 1e9:.1f} GB/s\n")
    print(f"{'model':24} {'decode tok/s':>12} {'limit':>8} {'of limit':>9} {'in process':>11} "
          f"{'prefill 512':>12} {'ready':>8} {'small file':>11}")
    for path in paths:
        row = measure(path, result["bandwidth_bytes_s"], programs)
        result["rows"].append(row)
        print(f"{row['model'][:24]:24} {row['decode_tok_s']:12.1f} {row['decode_limit_tok_s']:8.1f} {row['decode_of_limit']:8.0%} "
              f"{row['in_process_tok_s']:11.1f}  "
              f"{row['prefill_512_s']:10.2f} s {row['mount_to_ready_s']:6.2f} s {row['small_file_us']:8.0f} us", flush=True)
    with open(out, "w") as f:
        json.dump(result, f, indent=1)
    print(f"\n{out}")


if __name__ == "__main__":
    main()

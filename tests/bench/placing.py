#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What placing costs: Llama-3.1-405B from exec to its first hf_device_map, planning it, and moves while a model answers.

usage: placing.py BENCH_PLAN_PROGRAM OUT.json MODEL_DIR...   (environment: BMIFS_PROGRAM, BMIFS_BENCH_THREADS)

start   milliseconds from exec of mount.bmifs to the first bytes of hf_device_map, all on disk; best and median of 15. Beside it
        the most memory that was resident
plan    in-process: the skeleton from config.json, then a plan over 8 x 80 GiB + 200 GiB of RAM + disk
moves   seconds for 200 tokens, undisturbed and with ten rewrites of device_map.yaml from the first token on; what a layer on disk
        costs while it is there is part of it
Peer: transformers 5.23.0 on this project's reference machine, after its imports.
"""
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "e2e"), os.path.join(HERE, "..", "models")]
import make_405b  # noqa: E402
from mounted import PROGRAM, Mount, scratch, unmount  # noqa: E402
from replace import PROMPT, N, in_another_process, n_layers, result, rewrite  # noqa: E402

THREADS = int(os.environ.get("BMIFS_BENCH_THREADS", len(os.sched_getaffinity(0))))
MODEL = "llama-3.1-405b"
PEER = {"skeleton_ms": 84.6, "plan_ms": 21.3}
AIMS = {"start_ms": 50, "resident_mib": 32, "plan_ms": 1}


def start_once(model, path):
    """(milliseconds to the first bytes of hf_device_map, KiB resident at most)"""
    begin = time.perf_counter()
    daemon = subprocess.Popen([PROGRAM, model, path, "-o", "foreground,device_map=disk"], stdin=subprocess.DEVNULL,
                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while True:
            try:
                with open(os.path.join(path, "hf_device_map"), "rb", buffering=0) as f:
                    assert f.read(65536).startswith(b"{")
                break
            except FileNotFoundError:
                assert daemon.poll() is None, "mount.bmifs ended"
                time.sleep(0.0002)
        ms = (time.perf_counter() - begin) * 1e3
        with open(f"/proc/{daemon.pid}/status") as f:
            kib = next(int(line.split()[1]) for line in f if line.startswith("VmHWM"))
    finally:
        unmount(path)
        daemon.wait()
    return ms, kib


def measure_start():
    with scratch() as top:
        model = os.path.join(top, MODEL)
        make_405b.make(model)
        path = os.path.realpath(tempfile.mkdtemp(dir=top))
        runs = [start_once(model, path) for _ in range(15)]
    ms = sorted(ms for ms, _ in runs)
    return {"best_ms": ms[0], "median_ms": statistics.median(ms), "resident_mib": max(kib for _, kib in runs) / 1024}


def measure_plan(program):
    out = subprocess.run([program, make_405b.CONFIGS, MODEL], capture_output=True, text=True, check=True).stdout
    return json.loads(out)


def measure_moves(path):
    n = n_layers(path)
    with Mount(path, f"device_map=cpu,threads={THREADS}") as m:
        want, seconds = m.ask_ids(PROMPT, N), []
        for disturb in (False, True):
            begin = time.perf_counter()
            m.write("input", " ".join(map(str, PROMPT)))
            writer = in_another_process(rewrite, m, n) if disturb else None
            got = m.read("output")
            seconds.append(time.perf_counter() - begin)
            n_moves = len(result(*writer)) if writer else 0
            assert got.split() == [str(i) for i in want], "the tokens are not the same"
    return {"model": os.path.basename(path.rstrip("/")), "undisturbed_s": seconds[0], "moved_s": seconds[1],
            "lost_s": seconds[1] - seconds[0], "moves": n_moves}


def main():
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    found = {"start": measure_start(), "plan": measure_plan(sys.argv[1]), "peer": PEER, "aims": AIMS, "moves": []}
    start, plan = found["start"], found["plan"]
    print(f"{MODEL}: {plan['tensors']} tensors, 811 GB")
    print(f"  exec to first hf_device_map  {start['best_ms']:8.1f} ms, median {start['median_ms']:.1f} (aim {AIMS['start_ms']}; "
          f"the peer needs {PEER['skeleton_ms']} ms for the skeleton alone)")
    print(f"  resident at most             {start['resident_mib']:8.1f} MiB (aim {AIMS['resident_mib']})")
    print(f"  skeleton                     {plan['skeleton']['best_us'] / 1e3:8.2f} ms (peer {PEER['skeleton_ms']} ms)")
    for mode in ("auto", "fastest"):
        peer = f"; peer {PEER['plan_ms']} ms" if mode == "auto" else "; the peer has no such mode"
        print(f"  plan, {mode:8}               {plan[mode]['best_us'] / 1e3:8.2f} ms (aim {AIMS['plan_ms']}{peer})")
    for path in sys.argv[3:]:
        row = measure_moves(path)
        found["moves"].append(row)
        print(f"{row['model']}: {N} tokens in {row['undisturbed_s']:.2f} s, in {row['moved_s']:.2f} s with {row['moves']} "
              f"rewrites of device_map.yaml: {row['lost_s']:.2f} s lost, the same tokens", flush=True)
    with open(sys.argv[2], "w") as f:
        json.dump(found, f, indent=1)
    print(sys.argv[2])


if __name__ == "__main__":
    main()

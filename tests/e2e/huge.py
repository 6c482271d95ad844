#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model that no machine here could hold: Llama-3.1-405B, 811 GB of holes behind true headers.

It mounts with everything on disk, lists, tells where it is, refuses what does not fit, unmounts; --plan places it on eight
GPUs, RAM and disk within every budget. The daemon stays small. Nothing is timed here; tests/bench does that.
"""
import json
import os
import shutil
import subprocess
import sys

from mounted import PROGRAM, SOURCE, Cases, Mount, Skip, fuse_or_skip, scratch

sys.path.insert(0, os.path.join(SOURCE, "tests", "models"))
from make_405b import config_of, make  # noqa: E402

GIB = 1 << 30
N_BYTES = 811706777600
N_LAYERS = 126
GPUS = 8
BUDGETS = {**{str(i): 80 * GIB for i in range(GPUS)}, "cpu": 200 * GIB}
RESIDENT_MAX = 128 << 20


class Huge:
    """The directory, made once; Skip where the file system has no holes"""

    def __init__(self, top):
        self.path = os.path.join(top, "llama-3.1-405b")
        self.n_bytes = make(self.path)
        used = sum(os.stat(os.path.join(self.path, name)).st_blocks * 512 for name in os.listdir(self.path))
        if used > 1 << 30:
            shutil.rmtree(self.path)
            raise Skip(f"{top}: no sparse files here")


def resident(pid):
    """Bytes of memory a process has: now, and the most it ever had"""
    with open(f"/proc/{pid}/status") as f:
        words = {line.split(":")[0]: line.split()[1] for line in f if line.startswith(("VmRSS", "VmHWM"))}
    return int(words["VmRSS"]) << 10, int(words["VmHWM"]) << 10


def check_size(huge):
    assert huge.n_bytes == N_BYTES, huge.n_bytes  # 405 853 388 800 parameters of two bytes


def check_mounts(huge):
    fuse_or_skip()
    with Mount(huge.path, "device_map=disk") as m:
        names = sorted(os.listdir(m.path))
        for name in ("input", "output", "hf_device_map", "device_map.yaml", "placement", "status", "model"):
            assert name in names, names
        assert m.device_map() == {"": "disk"}, m.read("hf_device_map")
        status = m.status()
        assert status["state"] == "ready" and status["loaded_bytes_cpu"] == "0", status
        assert int(status["disk_bytes"]) == N_BYTES, status
        assert status["dtype"] == "bfloat16", status
        placement = m.read("placement")
        assert "disk" in placement and "time per token" in placement, placement
        now, most = resident(m.daemon.pid)
        print(f"# resident: {now >> 10} KiB, at most {most >> 10} KiB")
        assert most < RESIDENT_MAX, f"{most >> 20} MiB resident"


def check_refuses(huge):
    """All of it in memory is refused with the numbers, and nothing was tried"""
    fuse_or_skip()
    with Mount(huge.path, "device_map=disk") as m:
        if int(m.status()["allowed_bytes"]) > N_BYTES:
            raise Skip("this machine could hold it")
        _, sentence = m.refusal("device_map.yaml", "cpu\n")
        assert str(N_BYTES >> 20) in sentence, sentence
        assert m.device_map() == {"": "disk"} and m.state() == "ready"
        m.write("device_map.yaml", json.dumps({"": "disk", "model.norm": "cpu", "model.layers.7.input_layernorm": "cpu"}))
        assert m.device_map()["model.norm"] == "cpu"
        assert 0 < int(m.status()["loaded_bytes_cpu"]) < 1 << 20, m.read("status")
        m.write("device_map.yaml", "disk\n")
        assert m.status()["loaded_bytes_cpu"] == "0"
        assert resident(m.daemon.pid)[1] < RESIDENT_MAX


def check_auto(huge):
    """What the mode auto makes of this machine's own limits: as much as max_memory says, the rest on disk"""
    fuse_or_skip()
    with Mount(huge.path, "device_map=auto,max_memory=cpu=64KiB") as m:
        got = m.device_map()
        assert "disk" in got.values(), got
        assert int(m.status()["loaded_bytes_cpu"]) <= 64 << 10, m.read("status")


def plan(path, mode, budgets, *more):
    text = ":".join(f"{device}={n}" for device, n in budgets.items())
    done = subprocess.run([PROGRAM, "--plan", path, *more, "-o", f"device_map={mode},max_memory={text}"], capture_output=True,
                          text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stdout


def layer_bytes(config):
    h, inter, heads, kv = (config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    return 2 * (2 * h * h + 2 * h * (h // heads * kv) + 3 * h * inter + 2 * h)


def module_bytes(name, config):
    """By the arithmetic of the architecture, not the program's"""
    h, inter, heads, kv = (config[k] for k in ("hidden_size", "intermediate_size", "num_attention_heads", "num_key_value_heads"))
    if name in ("model.embed_tokens", "lm_head"):
        return 2 * h * config["vocab_size"]
    if name == "model.norm":
        return 2 * h
    parts = name.removeprefix("model.layers.").split(".")
    if not name.startswith("model.layers.") or not parts[0].isdigit():
        return None
    sizes = {"self_attn": 2 * (2 * h * h + 2 * h * (h // heads * kv)), "mlp": 2 * 3 * h * inter, "input_layernorm": 2 * h,
             "post_attention_layernorm": 2 * h, "q_proj": 2 * h * h, "o_proj": 2 * h * h, "k_proj": 2 * h * (h // heads * kv),
             "v_proj": 2 * h * (h // heads * kv), "gate_proj": 2 * h * inter, "up_proj": 2 * h * inter, "down_proj": 2 * h * inter}
    return layer_bytes(config) if len(parts) == 1 else sizes.get(parts[-1])


def check_plan(huge, mode, budgets):
    config = config_of("llama-3.1-405b")
    found = json.loads(plan(huge.path, mode, budgets, "--json"))
    device_map = found["hf_device_map"]
    used = {}
    for name, device in device_map.items():
        n = module_bytes(name, config)
        if name == "model.rotary_emb":
            n = 0
        assert n is not None, f"{name}: what is it?"
        used[str(device)] = used.get(str(device), 0) + n
    assert sum(used.values()) == N_BYTES, f"{sum(used.values())}: {device_map}"
    for device, n in used.items():
        assert device == "disk" or n <= budgets[device], f"{device} gets {n} of {budgets[device]}"
    gpus = [d for d in used if d.isdigit()]
    assert len(gpus) == GPUS, used
    print("# " + ", ".join(f"{d} {n / GIB:.1f} GiB" for d, n in sorted(used.items())))
    text = plan(huge.path, mode, budgets)
    assert "time per token" in text and "why:" in text, text


def check_config_alone(huge):
    """--plan wants no weights"""
    with scratch() as top:
        shutil.copy(os.path.join(huge.path, "config.json"), top)
        assert plan(top, "auto", BUDGETS, "--json") == plan(huge.path, "auto", BUDGETS, "--json")


def main():
    cases = Cases()
    with scratch() as top:
        made = []

        def with_huge(check, *args):
            if not made:
                made.append(Huge(top))
            check(made[0], *args)

        cases.run("811 GB of holes", with_huge, check_size)
        cases.run("mounts with everything on disk, and stays small", with_huge, check_mounts)
        cases.run("refuses what does not fit, takes what does", with_huge, check_refuses)
        cases.run("auto within 64 KiB", with_huge, check_auto)
        small = {**BUDGETS, "cpu": 100 * GIB}  # some of it on disk
        for mode in ("auto", "balanced", "balanced_low_0", "sequential", "fastest"):
            cases.run(f"--plan {mode}: eight GPUs and RAM", with_huge, check_plan, mode, BUDGETS)
            cases.run(f"--plan {mode}: eight GPUs, RAM and disk", with_huge, check_plan, mode, small)
        cases.run("--plan of config.json alone is the same", with_huge, check_config_alone)
    cases.finish()


if __name__ == "__main__":
    main()

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A model larger than the memory its control group allows runs from disk; and a move is seen layer by layer.

The model (608 MB of random weights) is made in /var/tmp and its pages are dropped from the page cache, so that what the daemon
reads is charged to its group. What it reads is taken from /proc/PID/io, not from what it says itself.
"""
import os
import shutil
import sys
import tempfile
import threading
import time

from cgroup import Cgroup
from mounted import SOURCE, Cases, Mount, Skip, fuse_or_skip

sys.path.insert(0, os.path.join(SOURCE, "tests", "models"))
from make_big import SIZES, make  # noqa: E402

MIB = 1 << 20
LIMIT = 256 * MIB
SIZE = "300m"
PROMPT = [1, 5, 9, 13, 17]


def drop_pages(path):
    fd = os.open(os.path.join(path, "model.safetensors"), os.O_RDONLY)
    try:
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(fd)


def bytes_read(pid):
    with open(f"/proc/{pid}/io") as f:
        io = dict(line.split(": ") for line in f)
    return max(int(io["read_bytes"]), int(io["rchar"]))


def rss(pid):
    with open(f"/proc/{pid}/status") as f:
        for line in f:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) << 10
    raise AssertionError("the daemon is gone")


def under_limit(path, weights, options, want_disk):
    fuse_or_skip()
    hidden, _, _, _, _, vocab = SIZES[SIZE]
    embed = vocab * hidden * 2  # of which a pass needs a row a token
    drop_pages(path)
    with Cgroup(memory=LIMIT) as group:
        with Mount(path, options, preexec=group.join) as m:
            pid = m.daemon.pid
            devices = m.device_map()
            assert "disk" in devices.values(), devices
            if want_disk:
                assert set(devices.values()) == {"disk"}, devices
            resident = int(m.status()["loaded_bytes_cpu"])
            assert resident < LIMIT, resident
            m.params(template="ids", temperature=0, ignore_eos=1)
            first = m.ask_ids(PROMPT, 3)
            before = bytes_read(pid)
            again = m.ask_ids(PROMPT, 3)  # three passes: the prompt, and a token each after the first and the second
            read = bytes_read(pid) - before
            assert again == first
            need = 3 * (weights - embed - resident)
            assert read >= 0.97 * need, f"{read} bytes read in 3 passes; on disk are {weights - embed - resident} bytes"
            assert read <= 1.25 * need + 3 * 16 * MIB, f"{read} bytes read in 3 passes, {need} needed"
            assert m.daemon.poll() is None
            assert rss(pid) <= LIMIT, f"the daemon's own memory reached {rss(pid)}"
            peak = group.peak()
            assert peak is None or peak <= LIMIT, f"{peak} bytes used, {LIMIT} allowed"
            assert group.oom_kills() == 0
            print(f"# resident {resident >> 20} MiB, peak of the group {(peak or 0) >> 20} MiB, "
                  f"peak of the daemon {rss(pid) >> 20} MiB, read a pass {read // 3 >> 20} MiB")


def same_answer(path):
    """The tokens under the limit are those without it"""
    fuse_or_skip()
    with Mount(path, "device_map=cpu") as m:
        want = m.ask_ids(PROMPT, 3)
    with Cgroup(memory=LIMIT) as group, Mount(path, "device_map=disk", preexec=group.join) as m:
        assert m.ask_ids(PROMPT, 3) == want


def layers_in_memory(device_map, n_layers):
    """Layers that are wholly in memory; a layer that is just moving has entries for its parts"""
    count = 0
    for i in range(n_layers):
        name = f"model.layers.{i}"
        parts = [d for k, d in device_map.items() if k == "" or name == k or name.startswith(k + ".") or k.startswith(name + ".")]
        longest = [d for k, d in device_map.items() if k == name or k.startswith(name + ".")] or parts
        count += all(device == "cpu" for device in longest)
    return count


def layer_by_layer(path, slow):
    """hf_device_map tells the truth while layers move, one after the other"""
    fuse_or_skip()
    drop_pages(path)
    group = None
    try:
        if slow:
            group = Cgroup(read_rate=150 * MIB, file=os.path.join(path, "model.safetensors"))
        with Mount(path, "device_map=disk", preexec=group.join if group else None) as m:
            drop_pages(path)
            seen, failed = [], []

            def write():
                try:
                    m.write("device_map.yaml", "cpu\n")
                except OSError as e:
                    failed.append(e)

            thread = threading.Thread(target=write)
            thread.start()
            end = time.monotonic() + 120
            while thread.is_alive() and time.monotonic() < end:
                on_cpu = layers_in_memory(m.device_map(wait=False), SIZES[SIZE][1])
                if not seen or on_cpu != seen[-1]:
                    seen.append(on_cpu)
                time.sleep(0.002)
            thread.join(60)
            assert not failed, failed
            assert seen == sorted(seen), f"layers went back: {seen}"
            assert len(seen) >= (6 if slow else 3), f"not layer by layer: {seen}"
            assert set(m.device_map().values()) == {"cpu"}
            print(f"# layers in memory, as seen: {seen}")
    finally:
        if group:
            group.close()


def main():
    cases = Cases()
    top = tempfile.mkdtemp(prefix="bmifs-limit-", dir="/var/tmp")
    try:
        if shutil.disk_usage(top).free < 2 << 30:
            raise Skip("less than 2 GiB free in /var/tmp")
        weights = make(top, SIZE)
        cases.run("all on disk under a limit below the model", under_limit, top, weights, "device_map=disk", True)
        cases.run("a share in memory, under the limit", under_limit, top, weights,
                  f"device_map=auto,max_memory=cpu={96 * MIB}", False)
        cases.run("auto finds the limit itself", under_limit, top, weights, "device_map=auto", False)
        cases.run("the same tokens as without the limit", same_answer, top)
        cases.run("a move is seen layer by layer", layer_by_layer, top, False)
        cases.run("a slowed move is seen layer by layer", layer_by_layer, top, True)
    except Skip as e:
        reason = e

        def skipped():
            raise reason

        cases.run("a model larger than the limit", skipped)
    finally:
        shutil.rmtree(top, ignore_errors=True)
    cases.finish()


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""A control group with a memory limit, and if wanted a read rate, for a process to be: version 1 and 2."""
import contextlib
import os
import time

from mounted import Skip

TOP = "/sys/fs/cgroup"


def _put(path, text):
    with open(path, "w") as f:
        f.write(text)


def _get(path):
    with open(path) as f:
        return f.read()


def disk_of(path):
    """major:minor of the whole disk that holds a file; throttling knows no partitions"""
    dev = os.stat(path).st_dev
    node = os.path.realpath(f"/sys/dev/block/{os.major(dev)}:{os.minor(dev)}")
    if os.path.exists(node + "/partition"):
        node = os.path.dirname(node)
    try:
        return _get(node + "/dev").strip()
    except OSError:
        raise Skip("the model's file system is on no block device") from None


class Cgroup:
    def __init__(self, memory=None, read_rate=None, file=None):
        name = f"bmifs-test-{os.getpid()}-{time.monotonic_ns()}"
        self.paths = []
        try:
            self.v2 = os.path.exists(TOP + "/cgroup.controllers")
            if self.v2:
                self._make_v2(os.path.join(TOP, name), memory, read_rate, file)
            else:
                self._make_v1(name, memory, read_rate, file)
        except OSError as e:
            self.close()
            raise Skip(f"no control group can be made here: {e}") from None

    def _make_v1(self, name, memory, read_rate, file):
        if memory:
            self.memory = os.path.join(TOP, "memory", name)
            os.mkdir(self.memory)
            self.paths.append(self.memory)
            _put(self.memory + "/memory.limit_in_bytes", str(memory))
            with contextlib.suppress(OSError):  # no swap accounting: then there is no swap to hide in, or it counts less
                _put(self.memory + "/memory.memsw.limit_in_bytes", str(memory))
        if read_rate:
            path = os.path.join(TOP, "blkio", name)
            os.mkdir(path)
            self.paths.append(path)
            _put(path + "/blkio.throttle.read_bps_device", f"{disk_of(file)} {read_rate}")

    def _make_v2(self, path, memory, read_rate, file):
        for controller in ["memory"] * bool(memory) + ["io"] * bool(read_rate):
            _put(TOP + "/cgroup.subtree_control", "+" + controller)
        os.mkdir(path)
        self.memory = path
        self.paths.append(path)
        if memory:
            _put(path + "/memory.max", str(memory))
            with contextlib.suppress(OSError):
                _put(path + "/memory.swap.max", "0")
        if read_rate:
            _put(path + "/io.max", f"{disk_of(file)} rbps={read_rate}")

    def join(self):
        """Called in the child, before exec"""
        for path in self.paths:
            _put(path + "/cgroup.procs", "0")

    def peak(self):
        """Highest memory use, page cache included; None where the kernel does not tell"""
        with contextlib.suppress(OSError):
            return int(_get(self.memory + ("/memory.peak" if self.v2 else "/memory.max_usage_in_bytes")))

    def oom_kills(self):
        text = _get(self.memory + ("/memory.events" if self.v2 else "/memory.oom_control"))
        return sum(int(line.split()[1]) for line in text.splitlines() if line.split()[0] == "oom_kill")

    def close(self):
        for path in self.paths:
            for _ in range(100):
                try:
                    os.rmdir(path)
                    break
                except OSError:
                    time.sleep(0.05)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

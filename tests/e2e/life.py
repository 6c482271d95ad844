#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""How a mount begins and ends: in the background, by signals, in the middle of an answer, killed, and on a dead mount point."""
import errno
import os
import signal
import subprocess
import time

from mounted import PROGRAM, TINY, Cases, Mount, Skip, fuse_or_skip, is_mounted, scratch, unmount

MODEL = os.path.join(TINY, "llama")


def daemons(path):
    """Processes that serve a mount point"""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                words = f.read().split(b"\0")
        except OSError:
            continue
        if path.encode() in words and os.path.basename(PROGRAM).encode() in words[0]:
            yield int(pid)


def wait_for(what, seconds=20):
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def start(path, *options):
    done = subprocess.run([PROGRAM, MODEL, path, "-o", ",".join(("device_map=cpu",) + options)], capture_output=True, text=True,
                          stdin=subprocess.DEVNULL, timeout=60)
    assert done.returncode == 0, f"exit status {done.returncode}: {done.stderr}"
    assert is_mounted(path), "it returned 0 and is not mounted"


def ask(path):
    with open(path + "/params/template", "w") as f:
        f.write("ids\n")
    with open(path + "/params/max_tokens", "w") as f:
        f.write("4\n")
    with open(path + "/input", "w") as f:
        f.write("1 2 3\n")
    with open(path + "/output") as f:
        return f.read()


class Place:
    """A mount point that is empty again afterwards, whatever happened"""

    def __enter__(self):
        fuse_or_skip()
        self.top = scratch()
        self.path = os.path.realpath(self.top.__enter__())
        self.mnt = os.path.join(self.path, "mnt")
        os.mkdir(self.mnt)
        return self.mnt

    def __exit__(self, *_):
        while is_mounted(self.mnt) and unmount(self.mnt, lazy=True):
            pass
        for pid in list(daemons(self.mnt)):
            os.kill(pid, signal.SIGKILL)
        self.top.__exit__(None, None, None)


def background():
    with Place() as mnt:
        start(mnt)
        (pid,) = daemons(mnt)
        with open(f"/proc/{pid}/stat") as f:
            fields = f.read().rsplit(")", 1)[1].split()
        assert fields[4] == "0" or fields[3] != str(os.getsid(0)), "the daemon is in our session"
        assert os.readlink(f"/proc/{pid}/cwd") == "/", "the daemon keeps a directory busy"
        assert ask(mnt).split()
        assert unmount(mnt)
        assert wait_for(lambda: not list(daemons(mnt))), "the daemon goes on after the unmount"


def killed():
    with Place() as mnt:
        start(mnt)
        first = ask(mnt)
        (pid,) = daemons(mnt)
        os.kill(pid, signal.SIGKILL)
        assert wait_for(lambda: not list(daemons(mnt)))
        try:
            os.stat(mnt)
            raise AssertionError("stat works on a dead mount")
        except OSError as e:
            assert e.errno in (errno.ENOTCONN, errno.ECONNABORTED), e
        start(mnt)
        assert ask(mnt) == first
        with open("/proc/self/mountinfo") as f:
            assert sum(line.split()[4] == mnt for line in f) == 1, "the dead mount is still below"
        assert unmount(mnt)


def killed_reader():
    """A reader that waits when the daemon dies is told at once"""
    with Place() as mnt:
        start(mnt)
        for name, value in (("template", "ids"), ("max_tokens", "480"), ("ignore_eos", "1")):
            with open(f"{mnt}/params/{name}", "w") as f:
                f.write(value)
        with open(mnt + "/input", "w") as f:
            f.write("1 2 3")
        reader = subprocess.Popen(["cat", mnt + "/output"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        (pid,) = daemons(mnt)
        os.kill(pid, signal.SIGKILL)
        reader.communicate(timeout=20)  # ended: with an error, or with all it wanted


def terminated():
    with Place() as mnt:
        start(mnt)
        (pid,) = daemons(mnt)
        os.kill(pid, signal.SIGTERM)
        assert wait_for(lambda: not is_mounted(mnt)), "SIGTERM does not unmount"
        assert wait_for(lambda: not list(daemons(mnt))), "the daemon goes on"


def while_generating():
    with Place() as mnt:
        start(mnt)
        for name, value in (("template", "ids"), ("max_tokens", "480"), ("ignore_eos", "1")):
            with open(f"{mnt}/params/{name}", "w") as f:
                f.write(value)
        with open(mnt + "/input", "w") as f:
            f.write("1 2 3")
        assert unmount(mnt)
        assert wait_for(lambda: not list(daemons(mnt))), "the daemon goes on"


def live_one():
    """A live mount is not mounted over"""
    with Place() as mnt:
        start(mnt)
        done = subprocess.run([PROGRAM, MODEL, mnt], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
        assert done.returncode == 32, f"exit status {done.returncode}: {done.stderr}"
        assert mnt in done.stderr, done.stderr
        assert ask(mnt)
        assert unmount(mnt)
        assert not is_mounted(mnt)


def bad_points():
    fuse_or_skip()
    with scratch() as top:
        plain = os.path.join(top, "plain")
        with open(plain, "w"):
            pass
        for point in (os.path.join(top, "absent"), plain):
            done = subprocess.run([PROGRAM, MODEL, point], capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=60)
            assert done.returncode == 32, f"{point}: exit status {done.returncode}: {done.stderr}"
            assert point in done.stderr, done.stderr


def model_link():
    fuse_or_skip()
    with Mount(MODEL) as m:
        assert os.path.samefile(m / "model", MODEL)
        with open(os.path.join(m / "model", "config.json"), "rb") as a, open(os.path.join(MODEL, "config.json"), "rb") as b:
            assert a.read() == b.read()


def hub_cache():
    """A snapshot of the hub's cache: symbolic links into ../../blobs"""
    fuse_or_skip()
    with scratch() as top:
        snapshot, blobs = os.path.join(top, "snapshots", "0123abcd"), os.path.join(top, "blobs")
        os.makedirs(snapshot)
        os.mkdir(blobs)
        for i, name in enumerate(("config.json", "model.safetensors")):
            with open(os.path.join(MODEL, name), "rb") as src, open(os.path.join(blobs, f"{i:040x}"), "wb") as dst:
                dst.write(src.read())
            os.symlink(f"../../blobs/{i:040x}", os.path.join(snapshot, name))
        with Mount(MODEL) as a, Mount(snapshot) as b:
            assert a.ask_ids([1, 2, 3], 16) == b.ask_ids([1, 2, 3], 16)


def plan():
    """--plan prints the placement without mounting; a refusal is exit status 1"""
    done = subprocess.run([PROGRAM, "--plan", MODEL, "-o", "device_map=disk", "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    import json
    told = json.loads(done.stdout)
    assert set(told["hf_device_map"].values()) == {"disk"}, told
    assert "dtype" in told and "devices" in told, told
    done = subprocess.run([PROGRAM, "--plan", MODEL, "-o", "device_map=nowhere", "--json"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1, f"exit status {done.returncode}"
    assert json.loads(done.stdout)["error"]["message"], done.stdout


def minimal():
    """examples/minimal.c, the engine without files, says what the files say"""
    if "BMIFS_MINIMAL" not in os.environ:
        raise Skip("BMIFS_MINIMAL is not set")
    fuse_or_skip()
    done = subprocess.run([os.environ["BMIFS_MINIMAL"], MODEL, "1 2 3"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    with Mount(MODEL) as m:
        m.params(temperature=0)
        assert done.stdout.split() == m.ask("1 2 3").split()
    assert len(done.stdout.split()) > 1, done.stdout
    done = subprocess.run([os.environ["BMIFS_MINIMAL"], "/nowhere", "1 2 3"], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1 and "/nowhere" in done.stderr, done.stderr


def main():
    cases = Cases()
    for function in (background, killed, killed_reader, terminated, while_generating, live_one, bad_points, model_link, hub_cache,
                     plan, minimal):
        cases.run(function.__name__.replace("_", " "), function, timeout=120)
    cases.finish()


if __name__ == "__main__":
    main()

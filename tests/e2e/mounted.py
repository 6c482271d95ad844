# SPDX-License-Identifier: Apache-2.0
"""Mounts a model and talks to it through its files; counts cases as TAP. Python's standard library alone.

environment: BMIFS_PROGRAM (mount.bmifs), BMIFS_SOURCE (the repository), BMIFS_TEST_MODELS (real models; may be absent)
"""
import array
import contextlib
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
import traceback

PROGRAM = os.environ.get("BMIFS_PROGRAM", "mount.bmifs")
SOURCE = os.environ.get("BMIFS_SOURCE", os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", ".."))
MODELS = os.environ.get("BMIFS_TEST_MODELS", "")
GOLDEN = os.path.join(SOURCE, "tests", "golden")
TINY = os.path.join(SOURCE, "tests", "data", "tiny")
LONG = os.environ.get("BMIFS_TEST_LONG") == "1"


class Skip(Exception):
    """The reason why a case cannot run here"""


def fuse_or_skip():
    try:
        os.close(os.open("/dev/fuse", os.O_RDWR))
    except OSError as e:
        raise Skip(f"/dev/fuse cannot be opened: {e.strerror}") from None


def real_model(name):
    """Path of a real model, or Skip"""
    if not MODELS:
        raise Skip("BMIFS_TEST_MODELS is not set")
    path = os.path.join(MODELS, name)
    if not os.path.isdir(path):
        raise Skip(f"{path} is not there")
    return path


class Cases:
    """TAP: every case is a function that returns, or raises what is wrong"""

    def __init__(self):
        self.n = self.n_failed = 0

    def run(self, name, function, *args, timeout=300):
        self.n += 1
        signal.signal(signal.SIGALRM, _too_long)
        signal.alarm(timeout)
        begin = time.monotonic()
        try:
            function(*args)
            print(f"ok {self.n} - {name}")
            print(f"# {time.monotonic() - begin:.1f} s", flush=True)
        except Skip as e:
            print(f"ok {self.n} - {name} # SKIP {e}", flush=True)
        except BaseException as e:
            signal.alarm(0)
            self.n_failed += 1
            print(f"not ok {self.n} - {name}")
            text = str(e) if isinstance(e, AssertionError) and str(e) else "".join(traceback.format_exception(e))
            for line in text.splitlines():
                print(f"# {line}")
            sys.stdout.flush()
            if isinstance(e, (KeyboardInterrupt, SystemExit)):
                raise
        finally:
            signal.alarm(0)

    def finish(self):
        print(f"1..{self.n}")
        sys.exit(self.n_failed > 0)


def _too_long(_signal, _frame):
    raise TimeoutError("the case took too long")


def is_mounted(path):
    with open("/proc/self/mountinfo") as f:
        return any(line.split()[4] == path for line in f)


def unmount(path, lazy=False):
    for command in (["umount", *(["-l"] if lazy else []), path], ["fusermount3", "-uz" if lazy else "-u", path]):
        if subprocess.run(command, capture_output=True).returncode == 0:
            return True
    return False


class Mount:
    """`with Mount(model, "dtype=float32") as m:`; the daemon stays in the foreground, so that its end is seen"""

    def __init__(self, model, options="", ready=True, timeout=240, preexec=None, path=None, expect_failed=False):
        self.own = path is None
        self.path = path or os.path.realpath(tempfile.mkdtemp(prefix="bmifs-"))
        self.log = tempfile.TemporaryFile("w+")
        words = ["foreground"] + ([options] if options else [])
        self.daemon = subprocess.Popen([PROGRAM, model, self.path, "-o", ",".join(words)], stdin=subprocess.DEVNULL,
                                       stdout=self.log, stderr=self.log, preexec_fn=preexec)
        end = time.monotonic() + timeout
        try:
            while not is_mounted(self.path):
                if self.daemon.poll() is not None:
                    raise AssertionError(f"mount.bmifs ended with {self.daemon.returncode}: {self.said()}")
                assert time.monotonic() < end, "not mounted in time"
                time.sleep(0.005)
            while ready and self.state() in ("loading", "placing"):
                assert time.monotonic() < end, f"not ready in time: {self.read('status')}"
                time.sleep(0.01)
            if ready and not expect_failed:
                assert self.state() == "ready", self.read("status") + self.read("last_error")
        except BaseException:
            self.close(strict=False)
            raise

    def __enter__(self):
        return self

    def __exit__(self, kind, value, trace):
        self.close(strict=kind is None)

    def close(self, strict=True):
        """Unmount; the daemon must end with 0"""
        code = None
        try:
            gone = not is_mounted(self.path) or unmount(self.path) or unmount(self.path, lazy=True)
            try:
                code = self.daemon.wait(60)
            except subprocess.TimeoutExpired:
                self.daemon.kill()
                self.daemon.wait()
        finally:
            if is_mounted(self.path):
                unmount(self.path, lazy=True)
            if self.own:
                with contextlib.suppress(OSError):
                    os.rmdir(self.path)
        if strict:
            assert gone, "cannot unmount"
            assert code == 0, f"the daemon ended with {code} after the unmount: {self.said()}"

    def said(self):
        self.log.seek(0)
        return self.log.read()[-4000:]

    def __truediv__(self, name):
        return os.path.join(self.path, name)

    def read(self, name):
        return self.read_bytes(name).decode()

    def read_bytes(self, name):
        with open(self / name, "rb", buffering=0) as f:
            parts = []
            while part := f.read(1 << 16):
                parts.append(part)
            return b"".join(parts)

    def write(self, name, text):
        """One open, one close, as the shell does it; OSError when refused"""
        fd = os.open(self / name, os.O_WRONLY | os.O_TRUNC)
        try:
            os.write(fd, text.encode() if isinstance(text, str) else text)
        except BaseException:
            with contextlib.suppress(OSError):
                os.close(fd)
            raise
        os.close(fd)

    def refusal(self, name, text):
        """errno of a write that must be refused, and the sentence that last_error has for it"""
        try:
            self.write(name, text)
        except OSError as e:
            return e.errno, self.read("last_error").strip().splitlines()[-1]
        raise AssertionError(f"{name} accepted {text!r}")

    def params(self, **values):
        for name, value in values.items():
            self.write(f"params/{name}", f"{value}\n")

    def ask(self, prompt):
        self.write("input", prompt)
        return self.read("output")

    def ask_ids(self, ids, n):
        """Greedy continuation by n ids, past the end of text"""
        self.params(template="ids", temperature=0, max_tokens=n, ignore_eos=1)
        return [int(word) for word in self.ask(" ".join(map(str, ids)) + "\n").split()]

    def logits(self):
        raw = self.read_bytes("logits")
        assert len(raw) % 4 == 0
        values = array.array("f", raw)
        if sys.byteorder != "little":
            values.byteswap()
        return values

    def status(self):
        """key -> value; the first of a key that comes twice"""
        found = {}
        for line in self.read("status").splitlines():
            key, _, value = line.partition(": ")
            found.setdefault(key, value)
        return found

    def state(self):
        return self.status().get("state")

    def device_map(self, wait=True):
        """hf_device_map; without waiting for a move: what is true now"""
        fd = os.open(self / "hf_device_map", os.O_RDONLY | (0 if wait else os.O_NONBLOCK))
        try:
            parts = []
            while part := os.read(fd, 1 << 20):
                parts.append(part)
        finally:
            os.close(fd)
        return json.loads(b"".join(parts))


def tiny_models(*prefixes):
    """(name, path, expected) of the small reference models"""
    top = TINY
    for name in sorted(os.listdir(top)):
        if name.startswith(prefixes or ("",)) and os.path.isdir(os.path.join(top, name)):
            with open(os.path.join(top, name, "expected.json")) as f:
                yield name, os.path.join(top, name), json.load(f)


def clear_prefix(ids, want, gaps, bound):
    """Compare ids up to the first step where the reference's own choice was closer than bound"""
    n = next((i for i, gap in enumerate(gaps) if gap < bound), len(want))
    n = min(n, len(want))
    assert ids[:n] == want[:n], f"after {next((i for i in range(n) if ids[i:i + 1] != want[i:i + 1]), n)} equal ids:\n" \
                                f"got  {ids}\nwant {want[:n]}"
    return n


def worst(got, want):
    """Largest |difference| over max(|want|, 1)"""
    assert len(got) == len(want), f"{len(got)} logits, not {len(want)}"
    return max(abs(g - w) / max(abs(w), 1) for g, w in zip(got, want))


def read_safetensors(path):
    """(header dict, bytes after it)"""
    with open(path, "rb") as f:
        n = struct.unpack("<Q", f.read(8))[0]
        return json.loads(f.read(n)), f.read()


def write_safetensors(path, header, data, length=None):
    text = header if isinstance(header, bytes) else json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as f:
        f.write(struct.pack("<Q", len(text) if length is None else length) + text + data)


@contextlib.contextmanager
def scratch():
    path = tempfile.mkdtemp(prefix="bmifs-test-")
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rules that no compiler checks: licence lines, lengths, header guards, names, paths of one machine, commit subjects. TAP."""
import os
import re
import subprocess
import sys

ROOT = os.path.abspath(sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(__file__), "..", ".."))
FILE_MAX, FUNCTION_MAX, COLUMNS_MAX = 600, 60, 132
NO_SPDX = re.compile(r"LICENSE|README\.md|.*\.(md|json|jsonl|tsv|txt|safetensors|gguf|xz|yaml|yml|svg)|\.gitignore|"
                     r"tests/(data|golden|fuzz/corpus)/.*|docs/.*\.md")


def git(*args):
    return subprocess.run(["git", "-C", ROOT, *args], capture_output=True, text=True)


def files():
    out = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    if out.returncode == 0 and out.stdout:
        names = out.stdout.split("\0")
    else:
        names = [os.path.relpath(os.path.join(d, n), ROOT) for d, dirs, ns in os.walk(ROOT) for n in ns
                 if "/.git" not in d and "/build" not in d]
    return sorted(n for n in names if n and os.path.isfile(os.path.join(ROOT, n)))


def text(name):
    with open(os.path.join(ROOT, name), "rb") as f:
        raw = f.read()
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return ""


def c_files(names):
    return [n for n in names if n.endswith((".c", ".h")) and not n.startswith("tests/data/")]


def spdx(names):
    for n in names:
        if NO_SPDX.fullmatch(n):
            continue
        lines = text(n).splitlines()[:2]
        if lines and not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines):
            yield f"{n}: no SPDX line"


def file_length(names):
    for n in c_files(names):
        count = text(n).count("\n")
        if count > FILE_MAX:
            yield f"{n}: {count} lines, more than {FILE_MAX}: split it"


def functions(n):
    """(name, first line, lines) of every function: kernel style, the braces at column 0; the opening comment is looked at"""
    lines = text(n).splitlines()
    start = None
    for i, line in enumerate(lines):
        if line == "{" and i and not lines[i - 1].startswith(("#", "struct", "enum", "union")):
            start = i
        elif line.startswith("}") and start is not None:
            head = start - 1
            while head > 0 and lines[head - 1].strip() and not lines[head - 1].startswith(("}", "#", "/", " *")):
                head -= 1
            above = "\n".join(lines[max(0, head - 8):head])
            m = re.search(r"(\w+)\(", lines[head]) or re.search(r"(\w+)\(", " ".join(lines[head:start]))
            yield (m.group(1) if m else lines[head]), head + 1, i - start + 1, above
            start = None


def function_length(names):
    for n in c_files(names):
        for name, line, count, above in functions(n):
            if count > FUNCTION_MAX and "decode table" not in above:
                yield f"{n}:{line}: {name}() has {count} lines, more than {FUNCTION_MAX}"


def opening(names):
    for n in c_files(names):
        if n.endswith(".c"):
            lines = text(n).splitlines()
            if len(lines) < 2 or not lines[1].startswith("/*"):
                yield f"{n}: does not open with what it owns"


def guards(names):
    for n in names:
        if n.endswith(".h") and not n.startswith("tests/data/"):
            part = n.removeprefix("engine/")
            want = re.sub(r"\W", "_", part).upper()
            want = want if want.startswith("BMI") else "BMI_" + want
            m = re.search(r"^#ifndef (\w+)\n#define (\w+)$", text(n), re.M)
            if not m or m.group(1) != m.group(2) or m.group(1) not in (want, want.replace("BMI_TESTS_", "BMI_TEST_")):
                yield f"{n}: the guard should be {want}"


def columns(names):
    for n in c_files(names):
        for i, line in enumerate(text(n).splitlines(), 1):
            if len(line.expandtabs(8)) > COLUMNS_MAX:
                yield f"{n}:{i}: {len(line.expandtabs(8))} columns"


def words(names):
    for n in c_files(names):
        if os.path.basename(n).split(".")[0] in ("util", "utils", "misc", "common", "helpers"):
            yield f"{n}: a name that says nothing"
    for n in c_files(names):
        if n.startswith("engine/"):
            for i, line in enumerate(text(n).splitlines(), 1):
                if re.search(r"(?<![\w.])(printf|puts|exit|abort|perror|syslog)\(", line) and not line.lstrip().startswith("*"):
                    yield f"{n}:{i}: the engine never logs, prints or exits"
                if re.search(r"^\s*typedef\s+struct\s+\w+", line):
                    yield f"{n}:{i}: a struct typedef"


def machine(names):
    pattern = re.compile(r"(?<![\w/.])/(work|root|home/\w+|Users/\w+)/[\w.-]")
    for n in names:
        if n == "tests/guard/rules.py":
            continue
        for i, line in enumerate(text(n).splitlines(), 1):
            if pattern.search(line):
                yield f"{n}:{i}: a path of one machine: {line.strip()[:100]}"


def meson_globs(names):
    for n in names:
        if n.endswith("meson.build") and re.search(r"\bglob\b|run_command\([^)]*(ls|find)\b", text(n)):
            yield f"{n}: a glob"


def subjects(_names):
    log = git("log", "--no-merges", "--format=%h%x09%s")
    if log.returncode != 0:
        return
    for line in log.stdout.splitlines():
        commit, subject = line.split("\t", 1)
        if not re.match(r"[a-z0-9][\w./, -]*: [a-z0-9`'\"(-]", subject, re.I) or subject.endswith(".") or len(subject) > 72:
            yield f"{commit}: {subject}"


CHECKS = [
    ("every file names its licence", spdx),
    (f"a C file has at most {FILE_MAX} lines", file_length),
    (f"a function has at most {FUNCTION_MAX} lines", function_length),
    ("every .c opens with what it owns", opening),
    ("header guards are named after the file", guards),
    (f"no line of C is wider than {COLUMNS_MAX} columns", columns),
    ("names say something, the engine neither prints nor exits", words),
    ("no path of one machine", machine),
    ("no globs in meson", meson_globs),
    ("commit subjects: `room: say what it does`, no dot", subjects),
]


def main():
    names = files()
    bad = 0
    print(f"1..{len(CHECKS)}")
    for i, (name, check) in enumerate(CHECKS, 1):
        complaints = list(check(names))
        bad += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {i} - {name}")
        for c in complaints:
            print(f"# {c}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""An arrow in README.md's block of rooms is a permitted #include between rooms; nothing else is. TAP, a case a room.

Also checked: each dependency has one door, no room includes a .c file, and nobody reaches into another room's *_priv.h.
"""
import os
import re
import sys

ROOT = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")

# header name pattern -> files that may include it
DOORS = [
    (r"fuse.*\.h", r"fs/.*|tests/(fs|fuse)/.*"),
    (r"yaml\.h", r"engine/place/.*"),
    (r"xxhash\.h|xxh3\.h", r"engine/base/hash\.c"),
    (r"yajl/.*", r"engine/base/json\.c"),
    (r"liburing.*", r"engine/backend/disk/.*"),
    (r"pcre2.*|utf8proc\.h", r"engine/token/.*"),
    (r"cuda.*\.h", r"engine/backend/cuda/.*"),
    (r"immintrin\.h|.*intrin\.h", r"engine/backend/cpu/.*|tests/bench/.*"),
]


def read_rooms():
    """{room: set of rooms it may include} from the first fenced block of README.md that draws engine/"""
    text = open(os.path.join(ROOT, "README.md"), encoding="utf-8").read()
    blocks = [b for b in re.findall(r"```\w*\n(.*?)```", text, re.S) if "engine/" in b and "├──" in b]
    if not blocks:
        sys.exit("Bail out! README.md has no block of rooms")
    rooms, inside = {}, False
    for line in blocks[0].splitlines():
        m = re.match(r"^([│├└─\s]*)([\w.]+/?)(?:\s|$)", line)
        if not m:
            continue
        depth, name = len(m.group(1)), m.group(2)
        if depth == 0:
            inside = name == "engine/"
        arrow = re.search(r".*->\s*(.*)$", line)  # the last one: words before it may have arrows too
        if inside and depth == 4 and name.endswith("/"):
            if not arrow:
                sys.exit(f"Bail out! README.md: the room {name} has no arrow")
            rooms[name[:-1]] = arrow.group(1).strip()
    every = set(rooms)
    return {r: every if a == "every engine room" else set() if a == "nothing" else set(a.split()) for r, a in rooms.items()}


def sources(top):
    for folder, dirs, names in os.walk(os.path.join(ROOT, top)):
        dirs.sort()
        for name in sorted(names):
            if name.endswith((".c", ".h", ".cu")):
                yield os.path.relpath(os.path.join(folder, name), ROOT)


def includes(path):
    for number, line in enumerate(open(os.path.join(ROOT, path), encoding="utf-8"), 1):
        m = re.match(r'\s*#\s*include\s+([<"])([^>"]+)[>"]', line)
        if m:
            yield number, m.group(1) == '"', m.group(2)


def resolve(path, name):
    """The repository path an #include "..." means: beside the file, below engine/, below the root; None if none"""
    for base in (os.path.dirname(path), "engine", "", "tests"):
        full = os.path.normpath(os.path.join(base, name))
        if os.path.exists(os.path.join(ROOT, full)):
            return full
    return None


def place_of(path):
    parts = path.split("/")
    if parts[0] == "engine":
        return parts[1] if len(parts) > 2 else "bmi.h"
    return parts[0]


def complain(path, rooms):
    room = place_of(path)
    for number, quoted, name in includes(path):
        where = f"{path}:{number}: {name}"
        for pattern, may in DOORS:
            if not quoted and re.fullmatch(pattern, name) and not re.fullmatch(may, path):
                yield f"{where} has another door"
        if not quoted:
            continue
        target = resolve(path, name)
        if name.endswith(".c"):
            yield f"{where}: a .c file is not included"
        if target is None:
            if "/" in name or room in rooms:
                yield f"{where}: no such file (generated headers are not expected)"
            continue
        there = place_of(target)
        if there == room or room == "tests" and not re.match(r"tests/bench/[^/]*$", path):
            continue
        if target.endswith("_priv.h"):
            yield f"{where} belongs to {there}/ alone"
        elif room in ("fs", "examples", "tests"):
            if there != "bmi.h":
                yield f"{where}: only bmi.h may be included here"
        elif room == "bmi.h":
            if there != "base":
                yield f"{where}: bmi.h includes base/ alone"
        elif there == "bmi.h":
            if room != "run":
                yield f"{where}: bmi.h is implemented by run/ alone"
        elif there not in rooms.get(room, set()):
            yield f"{where}: no arrow from {room}/ to {there}/"


def main():
    rooms = read_rooms()
    places = [f"engine/{r}" for r in rooms] + ["fs", "examples", "tests"]
    on_disk = {d for d in os.listdir(os.path.join(ROOT, "engine")) if os.path.isdir(os.path.join(ROOT, "engine", d))}
    print(f"1..{len(places) + 2}")
    case = bad = 0

    def verdict(name, complaints):
        nonlocal case, bad
        case += 1
        bad += bool(complaints)
        print(f"{'not ok' if complaints else 'ok'} {case} - {name}")
        for c in complaints:
            print(f"# {c}")

    verdict("README.md draws every room", [f"engine/{d}/ is not in the block" for d in sorted(on_disk - set(rooms))])
    verdict("bmi.h", list(complain("engine/bmi.h", rooms)))
    for place in places:
        verdict(f"{place}/", [c for path in sources(place) for c in complain(path, rooms)])
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())

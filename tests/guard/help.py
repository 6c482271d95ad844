#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The options of `mount.bmifs --help` are the options of its man page. TAP. usage: help.py PROGRAM MAN_PAGE"""
import re
import subprocess
import sys

OPTION = re.compile(r"(?<![\w-])(--?[A-Za-z][\w-]*)")


def listed(text):
    """Every option named: -x, --long, and the words of -o (name or name=) that start an entry"""
    dashed = {m for m in OPTION.findall(text) if len(m) == 2 or m.startswith("--")}
    return dashed


def words_of_help(text):
    return {m.group(1) for m in re.finditer(r"^\s{2,}([a-z_]+)(?:=|\s{2,}|$)", text, re.M)}


def words_of_man(text):
    return {m.group(1) for m in re.finditer(r"^\.(?:B|BI|IP|It Fl o|BR|TP)?\s*\"?(?:\\fB)?([a-z_]+)(?:=|\\fR|\"|\s|$)", text, re.M)}


def main():
    program, page = sys.argv[1:]
    run = subprocess.run([program, "--help"], capture_output=True, text=True)
    man = open(page, encoding="utf-8").read().replace("\\-", "-")
    help_text = run.stdout
    cases = []
    cases.append(("--help exits with 0 and prints to stdout", run.returncode == 0 and help_text != "", [run.stderr]))
    a, b = listed(help_text), listed(man)
    cases.append(("every dashed option of --help is in the man page", a <= b, sorted(a - b)))
    missing = [w for w in sorted(words_of_help(help_text)) if not re.search(rf"\b{re.escape(w)}\b", man)]
    cases.append(("every -o word of --help is in the man page", not missing, missing))
    extra = sorted(b - a)
    cases.append(("every dashed option of the man page is in --help", not extra, extra))
    print(f"1..{len(cases)}")
    bad = 0
    for i, (name, good, notes) in enumerate(cases, 1):
        bad += not good
        print(f"{'ok' if good else 'not ok'} {i} - {name}")
        if not good:
            for note in notes:
                print(f"# {note}")
    return bad > 0


if __name__ == "__main__":
    sys.exit(main())

#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Count the cases of a `meson test` run, a line a suite.

usage: count.py NAME BUILD_DIR RESULTS

A TAP test has as many cases as it has lines `ok` and `not ok`; any other test is one case. A test that ended badly without
a failed case (a crash, a timeout, too few cases) adds one failed case. Prints every failed and skipped case, and appends
`NAME suite passed failed skipped` to RESULTS. Fails when there is nothing to count.
"""
import json
import re
import subprocess
import sys

LINE = re.compile(r"^(not ok|ok)\b\s*\d*\s*(?:-\s*)?([^#]*)(?:#\s*(\w+)\S*\s*(.*))?$")


def count(test):
    """(passed, failed, skipped, lines to print)"""
    passed = failed = skipped = 0
    notes = []
    out = test.get("stdout") or ""
    told = 0  # lines that may still explain the failed case above them
    for line in out.splitlines():
        m = LINE.match(line)
        if not m:
            if told and line.startswith("#"):
                told -= 1
                notes.append(f"    | {line}")
            continue
        told = 0
        verdict, name, directive, why = m.groups()
        directive = (directive or "").upper()
        if directive == "SKIP":
            skipped += 1
            notes.append(f"    skipped: {name.strip()}: {why}")
        elif verdict == "ok":
            passed += 1
        elif directive == "TODO":
            skipped += 1
        else:
            failed += 1
            told = 30
            notes.append(f"    FAILED: {name.strip()}")
    good = test["result"] in ("OK", "EXPECTEDFAIL", "SKIP")
    if not passed + failed + skipped:
        if test["result"] == "SKIP":
            why = re.search(r"#\s*SKIP\S*\s*(.*)", out)
            skipped, notes = 1, [f"    skipped: {test['name']}: {why.group(1) if why else 'exit status 77'}"]
        elif good:
            passed = 1
    if not good and not failed:
        failed += 1
        notes.append(f"    FAILED: {test['name']} ended with {test['result']} (status {test.get('returncode')})")
        tail = (out + "\n" + (test.get("stderr") or "")).splitlines()[-40:]
        notes += [f"    | {line}" for line in tail]
    return passed, failed, skipped, notes


def main():
    name, build, results = sys.argv[1:]
    listing = subprocess.run(["meson", "introspect", "--tests", build], capture_output=True, text=True, check=True).stdout
    suites = {}
    for test in json.loads(listing):
        own = [s.split(":", 1)[-1] for s in test["suite"]]
        suites[test["name"]] = next((s for s in own if s != "slow"), "all")
    totals = {}
    with open(build + "/meson-logs/testlog.json") as log:
        for line in log:
            test = json.loads(line)
            plain = test["name"].split(" / ", 1)[-1]
            p, f, s, notes = count(test)
            t = totals.setdefault(suites.get(plain, suites.get(test["name"], "all")), [0, 0, 0])
            for i, n in enumerate((p, f, s)):
                t[i] += n
            if notes:
                print(f"  {name}: {plain}")
                print("\n".join(notes))
    if not totals:
        return 1
    with open(results, "a") as out:
        for suite, t in sorted(totals.items()):
            print(f"{name}\t{suite}\t{t[0]}\t{t[1]}\t{t[2]}", file=out)
            print(f"  {name}: {suite}: {t[0]} passed, {t[1]} failed, {t[2]} skipped")
    return 0


if __name__ == "__main__":
    sys.exit(main())

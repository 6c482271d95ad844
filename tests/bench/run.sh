#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Measures this machine's limits and bmifs through its mounted files; tables, and bench.json and placing.json beside them.
# usage: tests/bench/run.sh [--big] [MODEL_DIR...]
#   --big      also the 1.17 B model of random weights (2.34 GB; kept in the cache directory)
#   MODEL_DIR  what to measure; default: $BMIFS_TEST_MODELS/smollm2, or a random model of 300 M parameters without it
set -eu
cd "$(dirname "$0")/../.."
build=${BMIFS_BUILD:-build}/bench
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bmifs
big=
[ "${1:-}" = --big ] && big=1 && shift
reconf=
[ -f "$build/build.ninja" ] && reconf=--reconfigure
log=$(mktemp)
# shellcheck disable=SC2086
{
	meson setup $reconf "$build" --buildtype=release &&
		ninja -C "$build" fs/mount.bmifs tests/bench/bandwidth tests/bench/inproc
} >"$log" || {
	tail -40 "$log" >&2
	exit 1
}
rm -f "$log"
if [ $# -eq 0 ]; then
	if [ -d "${BMIFS_TEST_MODELS:-}/smollm2" ]; then
		set -- "$BMIFS_TEST_MODELS/smollm2"
	else
		python3 tests/models/make_big.py "$cache/random-300m" 300m >/dev/null
		set -- "$cache/random-300m"
	fi
fi
if [ -n "$big" ]; then
	python3 tests/models/make_big.py "$cache/random-1b" 1b >/dev/null
	set -- "$@" "$cache/random-1b"
fi
BMIFS_PROGRAM=$PWD/$build/fs/mount.bmifs
case $build in
/*) BMIFS_PROGRAM=$build/fs/mount.bmifs ;;
esac
export BMIFS_PROGRAM
exec python3 tests/bench/bench.py "$build/tests/bench" "$build/bench.json" "$@"

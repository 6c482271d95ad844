# SPDX-License-Identifier: Apache-2.0
# Sourced by the scripts beside it: mounts a model in a directory of its own, counts checks as TAP, cleans up.
#
# environment:
#   BMIFS_PROGRAM   mount.bmifs, or the same over the fake engine
#   BMIFS_FAKE      1: it is the fake engine: what it answers is known to the byte
#   BMIFS_MODEL     a model with a tokenizer (default: BMIFS_TEST_MODELS/smollm2-gguf); not needed for the fake engine
# shellcheck shell=bash
set -u
export LC_ALL=C LANG=C PYTHONDONTWRITEBYTECODE=1
: "${BMIFS_PROGRAM:?which program?}"
FAKE=${BMIFS_FAKE:-0}
here=$(cd "$(dirname "${BASH_SOURCE[1]}")" && pwd)
tests=0 failed=0

plan_skip() {
	echo "1..0 # SKIP $1"
	exit 0
}
[ -c /dev/fuse ] || plan_skip "there is no /dev/fuse"
[ "$(id -u)" = 0 ] || [ -w /dev/fuse ] || plan_skip "/dev/fuse cannot be opened by $(id -un)"

if [ "$FAKE" != 1 ] && [ -z "${BMIFS_MODEL:-}" ]; then
	[ -n "${BMIFS_TEST_MODELS:-}" ] || plan_skip "BMIFS_TEST_MODELS is not set"
	[ -d "$BMIFS_TEST_MODELS/smollm2-gguf" ] || plan_skip "$BMIFS_TEST_MODELS/smollm2-gguf is not there"
	BMIFS_MODEL=$BMIFS_TEST_MODELS/smollm2-gguf
fi

TOP=$(mktemp -d "${TMPDIR:-/tmp}/bmifs-fuse.XXXXXX") || exit 99
MNT=$TOP/mnt
MODEL=${BMIFS_MODEL:-$TOP/model}
export TOP MNT MODEL FAKE BMIFS_PROGRAM
mkdir -p "$MNT" "$TOP/model"
chmod 755 "$TOP"
echo '{}' >"$TOP/model/config.json"

is_mounted() { grep -q " ${1:-$MNT} " /proc/self/mountinfo; }

# daemon [MOUNTPOINT]: the pid that serves it: a process of that name with that very argument
daemon() {
	local p
	for p in $(grep -lsxzF -- "${1:-$MNT}" /proc/[0-9]*/cmdline); do
		grep -qs '^mount.bmifs' "${p%cmdline}comm" && p=${p%/cmdline} && echo "${p#/proc/}"
	done
}
export -f is_mounted daemon

cleanup() {
	local i p
	cd /
	trap - EXIT INT TERM
	for i in 1 2 3 4; do is_mounted "$MNT" && { umount -l "$MNT" 2>/dev/null || fusermount3 -uz "$MNT"; }; done
	for p in $(jobs -p); do kill -9 "$p" 2>/dev/null; done
	for p in $(daemon "$MNT"); do
		for i in 1 2 3 4 5 6 7 8 9 10; do [ -d "/proc/$p" ] && sleep 0.1; done
		kill -9 "$p" 2>/dev/null
	done
	rm -rf "$TOP"
}
trap cleanup EXIT
trap 'exit 1' INT TERM

# mount_it [OPTIONS]: in the background; ready when it returns
mount_it() {
	"$BMIFS_PROGRAM" "$MODEL" "$MNT" -o "wait${1:+,$1}" </dev/null || {
		echo "Bail out! the mount failed with $?"
		exit 1
	}
	cd "$MNT" || exit 1
	[ "$FAKE" = 1 ] || { echo raw >params/template; echo 0 >params/temperature; echo 8 >params/max_tokens; }
}

# umount_it: the daemon is gone when it returns
umount_it() {
	local p i
	cd /
	p=$(daemon "$MNT")
	umount "$MNT" || fusermount3 -u "$MNT" || umount -l "$MNT"
	for i in $(seq 300); do
		[ -n "$p" ] && [ -d "/proc/$p" ] || return 0
		sleep 0.1
	done
	echo "# the daemon goes on after the unmount"
	return 1
}

verdict() { # verdict OK NAME [note...]
	local good=$1 name=$2
	shift 2
	tests=$((tests + 1))
	if [ "$good" = 0 ]; then
		echo "ok $tests - $name"
	else
		failed=$((failed + 1))
		echo "not ok $tests - $name"
		printf '%s\n' "$@" | sed 's/^/# /'
	fi
}

skip() { # skip NAME REASON
	tests=$((tests + 1))
	echo "ok $tests - $1 # SKIP $2"
}

# t NAME STATUS OUTPUT COMMAND: run by bash in the mount; stdout and stderr together, the last newlines cut off
t() {
	local out rc
	out=$(timeout -k 5 "${LIMIT:-60}" bash -c "$4" bash 2>&1 </dev/null)
	rc=$?
	[ $rc = "$2" ] && [ "$out" = "$3" ]
	verdict $? "$1" "status: want $2, got $rc" "want: $(printf %q "$3")" "got:  $(printf %q "$out")"
}

# m NAME STATUS PATTERN COMMAND: as t, the output must match a shell pattern
m() {
	local out rc good=1
	out=$(timeout -k 5 "${LIMIT:-60}" bash -c "$4" bash 2>&1 </dev/null)
	rc=$?
	# shellcheck disable=SC2053
	[ $rc = "$2" ] && [[ $out == $3 ]] && good=0
	verdict $good "$1" "status: want $2, got $rc" "want: $3" "got:  $(printf %q "$out")"
}

# needs PROGRAM NAME: a check for that client is skipped where it is not installed
needs() {
	command -v "$1" >/dev/null 2>&1 && return 0
	skip "$2" "$1 is not installed"
	return 1
}

# turns: how many prompts the session has taken
turns() { sed -n 's/^turn: //p' status; }
export -f turns

# ask PROMPT: what output says to exactly these bytes, asked in the plainest way there is
ask() {
	python3 - "$1" <<'P'
import os, sys
fd = os.open("input", os.O_WRONLY)
os.write(fd, os.fsencode(sys.argv[1]))
os.close(fd)
fd = os.open("output", os.O_RDONLY)
while chunk := os.read(fd, 4096):
    os.write(1, chunk)
P
}
export -f ask

finish() {
	umount_it || failed=$((failed + 1))
	echo "1..$tests"
	[ $failed = 0 ]
	exit
}

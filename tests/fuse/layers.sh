#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# layers/: a directory for each module; what it tells, what moves when one device is written, what is refused.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
BMI_FAKE_LAYER_MS=60 BMI_FAKE_TOKEN_MS=10 mount_it device_map=cpu

# all: the devices of the modules, in the order of the model
all() { cat layers/*/device | xargs; }
export -f all
ONE=layers/model.layers.1
export ONE

m 'a directory for each module' 0 'model.embed_tokens model.layers.0 model.layers.1 model.layers.2 *model.norm lm_head' 'ls -U layers | xargs'
t 'four files in each' 0 'bytes device dtype tensors' 'ls -1d layers/*/* | sed "s:.*/::" | sort -u | xargs'
t 'modes' 0 '400 600 400 400 700 700' 'stat -c %a $ONE/bytes $ONE/device $ONE/dtype $ONE/tensors $ONE layers | xargs'
t 'as many files as directories times four' 0 0 'd=$(ls layers | wc -l); f=$(find layers -type f | wc -l); echo $((f - 4 * d))'
t 'device' 0 cpu 'cat $ONE/device'
t 'dtype is what the file dtype says' 0 same 'cmp $ONE/dtype dtype && echo same'
m 'bytes is a number' 0 '[0-9]*' 'read -r n < $ONE/bytes; echo $((n + 0))'
t 'tensors: name, shape, dtype, file, offset' 1 0 'grep -Evc "^model\.layers\.1\.[a-z0-9_.]+ \[[0-9,]+\] [a-z0-9_]+ [^ /]+ [0-9]+$" $ONE/tensors'
t 'ls -lR' 0 '' 'LC_ALL=C ls -lR layers > /dev/null'
t 'grep -r and find read all and start nothing' 0 'state: ready' 'a=$(turns); grep -r . layers > /dev/null && find layers -type f -exec cat {} + > /dev/null && [ "$a" = "$(turns)" ] && head -n 1 status'
t 'nothing can be made or removed' 1 'no no no' 'a=yes b=yes c=yes; mkdir layers/x 2>/dev/null || a=no; rm -f $ONE/dtype 2>/dev/null || b=no; : 2>/dev/null > $ONE/x || c=no; echo $a $b $c; [ $a$b$c = yesyesyes ]'
t 'what only tells cannot be written' 1 'no' '{ echo 1 > $ONE/bytes; } 2>/dev/null || { echo no; exit 1; }'

# one moves, the others stay
t 'a write moves one; close returns when it is there' 0 'disk' 'echo disk > $ONE/device && cat $ONE/device'
t 'and no other' 0 1 'all | tr " " "\n" | grep -c disk'
t 'hf_device_map says so too' 0 disk 'python3 -c "import json; print(json.load(open(\"hf_device_map\"))[\"model.layers.1\"])"'
t 'device_map.yaml reads the map that is in force' 0 'model.layers.1: disk' 'grep disk device_map.yaml'
t 'a second one stays beside it' 0 2 'echo disk > layers/model.norm/device; all | tr " " "\n" | grep -c disk'
t 'without a newline' 0 cpu 'printf cpu > $ONE/device; cat $ONE/device'
t 'the text read back is accepted again' 0 1 'cat device_map.yaml > $TOP/m; cat $TOP/m > device_map.yaml && all | tr " " "\n" | grep -c disk'
t 'cp of another one' 0 disk 'cp layers/model.norm/device $ONE/device; cat $ONE/device'
t 'answers are given meanwhile' 0 answered 'echo hi > input; for d in cpu disk cpu disk; do echo $d > $ONE/device || exit; done; cat output > /dev/null && echo answered'
t 'O_NONBLOCK: accepted, and there when the map is' 0 cpu 'echo cpu | dd of=$ONE/device oflag=nonblock status=none; cat hf_device_map > /dev/null; cat $ONE/device'

# e NAME STATUS ERRNO-TEXT COMMAND: refused, last_error blames the file, nothing changed
e() {
	local before after
	before=$(all; cat device_map.yaml)
	m "$1" "$2" "*$3*" "$4"
	m "$1: last_error" 0 "*Z layers/model.layers.1/device $3: ?*" 'tail -n 1 last_error'
	after=$(all; cat device_map.yaml)
	[ "$before" = "$after" ]
	verdict $? "$1: nothing changed" "before: $before" "after: $after"
}
e 'unknown device' 1 'Invalid argument' 'echo tpu > $ONE/device'
e 'no such GPU' 1 'No such device' 'echo cuda:7 > $ONE/device'
e 'a word that is a placement' 1 'Invalid argument' 'echo sequential > $ONE/device'
e 'two devices' 1 'Invalid argument' 'printf "cpu\ndisk\n" > $ONE/device'
e 'unknown, without a newline: close says it' 1 'Invalid argument' 'printf tpu > $TOP/m; cp $TOP/m $ONE/device'
t 'truncating moves nothing' 0 cpu ': > $ONE/device; cat $ONE/device'

if [ "$FAKE" = 1 ]; then
	umount_it
	BMI_FAKE_LAYER_MS=500 BMI_FAKE_TOKEN_MS=10 mount_it device_map=cpu
	t 'reading device never waits' 0 'cpu placing disk' 'echo disk > $ONE/device & sleep .2; a=$(cat $ONE/device); b=$(sed -n "s/^state: //p" status); wait; echo $a $b $(cat $ONE/device)'
else # three writers at once: none undoes what another did
	t 'writers of several modules all win' 0 3 'echo cpu > device_map.yaml; for i in 0 1 2; do echo disk > layers/model.layers.$i/device & done; wait; cat hf_device_map > /dev/null; all | tr " " "\n" | grep -c disk'
fi
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Writing device_map.yaml, dtype and max_memory: by shells, editors and languages; what is refused; when close returns.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
[ "$FAKE" = 1 ] || plan_skip "the modules and delays of the fake engine are needed"
BMI_FAKE_LAYER_MS=60 BMI_FAKE_TOKEN_MS=10 mount_it

export FULL='model.embed_tokens: cuda:0
model.layers: cuda:0
model.layers.3: disk
model.norm: cpu
lm_head: cpu'
export MAPPED='0 0 0 0 disk cpu cpu'
# map: the devices of hf_device_map in order, by a JSON parser
map() { python3 -c 'import json; print(*json.load(open("hf_device_map")).values())'; }
# now: the same at this moment, without waiting for a move
now() { dd if=hf_device_map iflag=nonblock bs=64k status=none | sed -n 's/^.*: "*\([a-z0-9]*\)"*,*$/\1/p' | xargs; }
# state: of the engine
state() { sed -n 's/^state: //p' status; }
export -f state
export -f map now
CPU='cpu cpu cpu cpu cpu cpu cpu'
DISK='disk disk disk disk disk disk disk'
export CPU DISK

# e NAME STATUS PATTERN FILE ERRNO-TEXT COMMAND: refused; last_error blames FILE; map and text stay
e() {
	local before after
	before=$(map; cat device_map.yaml dtype max_memory)
	m "$1" "$2" "$3" "$6"
	m "$1: last_error" 0 "*Z $4 $5: ?*" 'tail -n 1 last_error'
	after=$(map; cat device_map.yaml dtype max_memory)
	[ "$before" = "$after" ]
	verdict $? "$1: nothing changed" "before: $before" "after: $after"
}

t 'bash echo of lines' 0 "$MAPPED" 'echo "$FULL" > device_map.yaml; map'
t 'the text is read back' 0 "$FULL" 'cat device_map.yaml'
t 'close returns when all is moved' 0 "$CPU" 'echo cpu > device_map.yaml; now'
t 'cat of a here-document' 0 "$MAPPED" 'cat > device_map.yaml <<E
$FULL
E
now'
t 'one word without a newline' 0 "$DISK" 'printf disk > device_map.yaml; now'
t 'cp hf_device_map back: a round trip' 0 "$MAPPED $CPU $MAPPED" 'echo "$FULL" > device_map.yaml; cp hf_device_map $TOP/saved; a=$(now); echo cpu > device_map.yaml; b=$(now); cp $TOP/saved device_map.yaml; echo $a $b $(now)'
t 'cp -a' 0 "$CPU" 'echo cpu > $TOP/m; cp -a $TOP/m device_map.yaml; now'

# editors
t 'sed -i' 0 'cpu cpu cpu cpu disk cpu cpu' 'printf "\"\": cpu\nmodel.layers.3: cpu\n" > device_map.yaml; sed -i "s/layers.3: cpu/layers.3: disk/" device_map.yaml && map'
t 'sed -i of a good map, then of a bad one: it says so' 0 'sed: cannot rename ./sed*' 'sed -i "s/layers.3: disk/layers.3: moon/" device_map.yaml 2>&1 | sed "s/sed[A-Za-z0-9]*: Invalid argument/sed*/"'
t 'and leaves no file behind' 0 '' 'ls -A | grep "^sed"; true'
needs perl 'perl -i' && t 'perl -i' 0 'cpu cpu cpu cpu cpu cpu cpu' 'perl -pi -e "s/layers.3: disk/layers.3: cpu/" device_map.yaml && map'
needs ed 'ed' && t 'ed' 0 'cpu cpu cpu cpu disk cpu cpu' 'printf ",s/layers.3: cpu/layers.3: disk/\nw\nq\n" | ed -s device_map.yaml && map'
if needs vim 'vim: overwriting'; then
	t 'vim: overwriting' 0 "$CPU" 'vim -n -es -u NONE -c "%s/layers.3: disk/layers.3: cpu/" -c wq device_map.yaml && map'
	t 'vim: swap file and backup' 0 'cpu cpu cpu cpu disk cpu cpu' 'vim -es -N -u NONE -c "%s/layers.3: cpu/layers.3: disk/" -c wq device_map.yaml && map'
	t 'vim: backupcopy=no' 0 "$CPU" 'vim -es -N -u NONE -c "set nocp backupcopy=no writebackup" -c "%s/layers.3: disk/layers.3: cpu/" -c wq device_map.yaml && map'
	t 'vim leaves no file behind' 0 '' 'ls -A | grep -e "^\." -e "~$" -e 4913; true'
fi
t 'python: temporary file and os.replace' 0 "$DISK" 'python3 -c "
import os
with open(\"new.yaml\",\"w\") as f: f.write(\"disk\\n\"); f.flush(); os.fsync(f.fileno())
os.replace(\"new.yaml\",\"device_map.yaml\")"; map; ls new.yaml 2>/dev/null; true'

# refusals
e 'unknown device' 1 '*echo: write error: Invalid argument' device_map.yaml 'Invalid argument' 'echo "model: tpu" > device_map.yaml'
e 'no such GPU' 1 '*echo: write error: No such device' device_map.yaml 'No such device' 'echo "model: cuda:7" > device_map.yaml'
e 'unknown module in the second line' 1 '*printf: write error: Invalid argument' device_map.yaml 'Invalid argument' 'printf "model: cpu\nfoo.bar: cpu\nmodel.norm: cpu\n" > device_map.yaml'
e 'no map at all' 1 '*write error: Invalid argument' device_map.yaml 'Invalid argument' 'echo "what is this" > device_map.yaml'
e 'incomplete: bash does not see it' 0 '' device_map.yaml 'Invalid argument' 'echo "model.layers: cpu" > device_map.yaml'
e 'incomplete: cat does' 1 'cat: *Invalid argument' device_map.yaml 'Invalid argument' 'echo "model.layers: cpu" | cat > device_map.yaml'
e 'incomplete: cp does' 1 'cp: failed to close*Invalid argument' device_map.yaml 'Invalid argument' 'echo "model.layers: cpu" > $TOP/m; cp $TOP/m device_map.yaml'
e 'does not fit' 1 '*Cannot allocate memory*' device_map.yaml 'Cannot allocate memory' 'echo "cuda:0" > $TOP/m; cp $TOP/m device_map.yaml'
e 'does not fit: python' 1 '*OSError: \[Errno 12\]*' device_map.yaml 'Cannot allocate memory' 'python3 -c "
with open(\"device_map.yaml\",\"w\") as f: f.write(\"cuda:0\\n\")"'
e 'does not fit: rename' 1 'mv: *Cannot allocate memory' device_map.yaml 'Cannot allocate memory' 'echo cuda:0 > new; mv new device_map.yaml; r=$?; rm new; exit $r'
e 'too long' 1 '*File too large*' device_map.yaml 'File too large' 'head -c 1200000 /dev/zero | tr "\0" "#" > $TOP/m; cp $TOP/m device_map.yaml'
t 'after a refused write the open is void' 0 'EINVAL EINVAL EINVAL' 'python3 -c "
import os,errno
fd=os.open(\"device_map.yaml\",os.O_WRONLY); said=[]
def do(f,*a):
  try: f(*a); said.append(\"OK\")
  except OSError as e: said.append(errno.errorcode[e.errno])
do(os.write,fd,b\"model: tpu\n\"); do(os.write,fd,b\"cpu\n\"); do(os.close,fd); print(*said)"'
e 'dtype: unknown' 1 '*Invalid argument' dtype 'Invalid argument' 'echo q77 > dtype'
e 'dtype: no conversion' 1 '*Operation not supported' dtype 'Operation not supported' 'echo q8_0 > dtype'
e 'max_memory: no size' 1 '*Invalid argument' max_memory 'Invalid argument' 'echo "cpu: ?" > max_memory'
t 'dtype' 0 float32 'echo float32 > dtype; cat dtype'
t 'dtype by sed -i' 0 bfloat16 'sed -i s/float32/bfloat16/ dtype; map > /dev/null; cat dtype'
t 'max_memory' 0 'cpu: 10GiB' 'echo "cpu: 10GiB" > max_memory; cat max_memory'
t 'truncating is no map' 0 kept 'cat device_map.yaml > $TOP/1; > device_map.yaml; cmp device_map.yaml $TOP/1 && echo kept'

# a move under way: 300 ms a layer, two seconds for all
umount_it
BMI_FAKE_LAYER_MS=300 BMI_FAKE_TOKEN_MS=10 mount_it device_map=disk
t 'rename returns when accepted, reading hf_device_map waits' 0 "placing $CPU ready" 'echo cpu > new.yaml; mv new.yaml device_map.yaml; echo $(state) $(map) $(state)'
t 'fsync returns when accepted' 0 "placing $DISK" 'python3 -c "
import os
fd=os.open(\"device_map.yaml\",os.O_WRONLY); os.write(fd,b\"disk\n\"); os.fsync(fd)
print(open(\"status\").read().split()[1],end=\" \",flush=True)
os.close(fd)"; map'
t 'O_NONBLOCK: close returns when accepted' 0 "placing $CPU" 'echo cpu | dd of=device_map.yaml oflag=nonblock status=none; echo $(state) $(map)'
t 'status, placement and stat are answered while a close waits' 0 "placing $DISK" 'echo disk > device_map.yaml & sleep .2; a=$(state); cat placement > /dev/null; ls -l > /dev/null; [ $(state) = placing ] || a=late; wait; echo $a $(now)'
t 'layers arrive one by one' 0 ok 'echo cpu > device_map.yaml & while n=$(now); echo $n; [ "$n" != "$CPU" ]; do sleep .05; done | sort -u | wc -l | { read n; [ $n -ge 4 ] && echo ok || echo only $n; }; wait'
t 'Ctrl-C in close stops waiting, the move goes on' 0 "124 placing $DISK" 'echo disk | timeout --foreground -s INT .2 bash -c "exec cat > device_map.yaml"; echo ${PIPESTATUS[1]} $(state) $(map)'
t 'a killed writer: the move goes on' 0 "placing $CPU" '{ echo cpu | timeout -s KILL .2 bash -c "exec cat > device_map.yaml"; } 2>/dev/null; echo $(state) $(map)'
t 'a second writer supersedes the first; both closes end' 0 "$DISK" 'echo cpu > device_map.yaml & sleep .4; echo disk > device_map.yaml; wait; map'
m 'echo cancel > ctl stops a move, close tells' 0 '*Operation canceled*partly' '(sleep .8; echo cancel > ctl) & (echo cpu | cat > device_map.yaml); wait; n=$(map); [ "$n" != "$CPU" ] && [ "$n" != "$DISK" ] && echo partly'
umount_it
BMI_FAKE_LAYER_MS=60 BMI_FAKE_TOKEN_MS=10 mount_it
t 'poll on status sees every layer' 0 "7/7" 'echo cpu > device_map.yaml; python3 - <<P
import os,select,threading,time
fd=os.open("status",os.O_RDONLY); os.read(fd,4096); seen=[]
p=select.poll(); p.register(fd,select.POLLIN|select.POLLPRI)
assert p.poll(0)==[], "ready before anything changed"
th=threading.Thread(target=lambda: open("device_map.yaml","w").write("disk\n")); th.start()
end=time.time()+20
while time.time()<end and "7/7" not in seen:
  if p.poll(1000):
    s=os.pread(fd,4096,0).decode(); seen.append(s.split("progress: ")[1].split()[0])
th.join()
assert len(set(seen))>=4, seen
print(seen[-1])
P'
t 'prompts during a move are taken at once and answered' 0 "[2] hi" 'echo cpu > device_map.yaml & sleep .1; echo hi > input; cat output; wait'
umount_it
BMI_FAKE_LOAD_MS=700 "$BMIFS_PROGRAM" "$MODEL" "$MNT" </dev/null
cd "$MNT" || exit 1
t 'while loading: status at once, hf_device_map waits, input is taken' 0 'state: loading
[2] hi' 'head -n 1 status; echo hi > input; cat hf_device_map > /dev/null; grep -q "^state: ready" status; cat output'
umount_it
mount_it device_map=cuda:0
t 'a placement refused at mount leaves the mount, failed' 0 'state: failed' 'head -n 1 status'
m 'and last_error says why' 0 '*Z device_map.yaml Cannot allocate memory: ?*' 'cat last_error'
t 'and a better map is taken' 0 "$CPU" 'echo cpu > device_map.yaml; head -n 1 status | grep -q ready && map'
finish

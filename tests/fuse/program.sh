#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The program: options, exit statuses, going to the background, ends of every kind, and what it writes to logs.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
[ "$FAKE" = 1 ] || plan_skip "the faults and delays of the fake engine are needed"
export P=$BMIFS_PROGRAM BMI_FAKE_TOKEN_MS=20
cd "$TOP" || exit 1

# usage
t '--version' 0 'mount.bmifs 0.1.0' '$P --version'
m '--help' 0 'Usage: mount.bmifs MODEL DIRECTORY*' '$P --help'
m 'no argument' 1 '*which model?*--help*' '$P'
m 'no mount point' 1 "*mount '*/model' where?*" '$P $MODEL'
m 'one argument too many' 1 "*too many arguments: 'x'*" '$P $MODEL $MNT x'
m 'unknown switch' 1 "*unknown switch '-q'*" '$P $MODEL $MNT -q'
m 'unknown long switch' 1 "*unknown switch '--quick'*" '$P $MODEL $MNT --quick'
m 'unknown option' 1 "*unknown option 'turbo'*" '$P $MODEL $MNT -o turbo'
m 'an option that needs a value' 1 '*option dtype needs a value*' '$P $MODEL $MNT -o dtype'
m 'an option that takes none' 1 "*option wait takes no value, got '1'*" '$P $MODEL $MNT -o wait=1'
m 'no number' 1 '*option slots=many: want a whole number*' '$P $MODEL $MNT -o slots=many'
m 'no size' 1 '*option prompt_max=1X: want bytes*' '$P $MODEL $MNT -o prompt_max=1X'
m 'no mode' 1 '*option umask=888: want an octal*' '$P $MODEL $MNT -o umask=888'
m 'no such user' 1 '*option uid=nobody-there: no such user*' '$P $MODEL $MNT -o uid=nobody-there'
m 'no such group' 1 '*option gid=nobody-there: no such group*' '$P $MODEL $MNT -o gid=nobody-there'
m '-o without options' 1 '*-o needs options*' '$P $MODEL $MNT -o'
m 'remount' 1 '*cannot be remounted*' '$P $MODEL $MNT -o remount,ro'
m 'a map file that is not there' 1 '*./nothing.yaml*No such file*' '$P $MODEL $MNT -o device_map=./nothing.yaml'
m 'a log file that cannot be made' 1 '*log file*No such file*' '$P $MODEL $MNT -o log=/nothing/there/log'
t 'none of these mounted anything' 0 '' 'grep " $MNT " /proc/self/mountinfo; true'

# --plan
t '--plan' 0 'all modules placed' '$P --plan $MODEL -o device_map=cpu'
t '--plan --json' 0 '{"hf_device_map": {}}' '$P --plan $MODEL --json'
m '--plan: a refusal' 1 '*do not fit in cuda:0*' '$P --plan $MODEL -o device_map=cuda:0'
t '--plan --json: a refusal is JSON too' 1 'map' '$P --plan $MODEL --json -o device_map=cuda:0 | python3 -c "import json,sys; print(json.load(sys.stdin)[\"error\"][\"kind\"])"; exit ${PIPESTATUS[0]}'
m '--plan with a mount point' 1 '*takes the model alone*' '$P --plan $MODEL $MNT'
m '--json alone' 1 '*--json goes with --plan*' '$P --json $MODEL $MNT'

# --measure
m '--measure' 0 'RAM *GB/s*disk *GB/s' '$P --measure $MODEL'
m '--measure: no such model' 1 "mount.bmifs: model '*/nomodel': No such file or directory" '$P --measure $TOP/nomodel'
m '--measure with a mount point' 1 '*takes the model alone*' '$P --measure $MODEL $MNT'

# what cannot be mounted
m 'no such model' 32 "mount.bmifs: model '*/nomodel': No such file or directory" '$P $TOP/nomodel $MNT'
m 'a directory without a model' 32 '*no config.json and no .gguf file' 'mkdir -p empty; $P empty $MNT'
m 'no such mount point' 32 "*mount point '*/nowhere': No such file or directory" '$P $MODEL $TOP/nowhere'
m 'a file as mount point' 32 "*mount point '*/file' is not a directory" 'touch file; $P $MODEL $TOP/file'
m 'the engine does not start' 32 'mount.bmifs: no memory for the threads' 'BMI_FAKE_FAULT=start $P $MODEL $MNT'
m 'the engine does not start, in the foreground' 32 '*no memory for the threads' 'BMI_FAKE_FAULT=start $P $MODEL $MNT --foreground'
t '-f checks and mounts nothing' 0 '' '$P $MODEL $MNT -f'
m '-f finds what is wrong' 32 '*no config.json*' '$P empty $MNT -f'
if [ "$(id -u)" = 0 ] && unshare -m true 2>/dev/null; then
	m 'without /dev/fuse' 32 '*there is no /dev/fuse: load the module*' 'unshare -m bash -c "mount -t tmpfs none /dev && $P $MODEL $MNT"'
else
	skip 'without /dev/fuse' 'no mount namespaces here'
fi
t 'still nothing is mounted' 0 '' 'grep " $MNT " /proc/self/mountinfo; true'

# u NAME OPTIONS PATTERN COMMAND: mounts in the background, runs COMMAND in it, unmounts
u() {
	local out rc good=1
	out=$("$P" "$MODEL" "$MNT" ${2:+-o "$2"} </dev/null 2>&1 && cd "$MNT" && timeout 60 bash -c "$4" bash 2>&1 </dev/null)
	rc=$?
	# shellcheck disable=SC2053
	[ $rc = 0 ] && [[ $out == $3 ]] && good=0
	is_mounted && { umount_it || good=1; }
	is_mounted && good=1
	cd "$TOP" || exit 1
	verdict $good "$1" "status $rc" "want: $3" "got:  $out"
}
export MODEL MNT
u 'type and source' '' "$MODEL fuse.bmifs" 'findmnt -n -o SOURCE,FSTYPE $MNT | xargs'
u 'fsname' 'fsname=my\,model' 'my,model' 'findmnt -n -o SOURCE $MNT'
u 'options of the kernel are passed on' 'rw,nosuid,nodev,noexec,noatime,sync,dirsync' '*nosuid*nodev*noexec*noatime*' 'findmnt -n -o OPTIONS $MNT'
u 'all options of the kernel are known' 'rw,suid,dev,exec,atime,async' '\[2\] hi' 'echo hi > input; cat output'
u 'read-only' ro '*input: Read-only file system' 'echo x > input || head -n 1 status > /dev/null'
u 'what fstab carries for others is dropped' 'defaults,nodiratime,auto,noauto,user,nouser,users,owner,group,nofail,_netdev,relatime,strictatime,x-systemd.automount,x-gvfs-hide,X-mount.mkdir,comment=hi' '\[2\] hi' 'echo hi > input; cat output'
printf '"": cpu\nmodel.norm: disk\n' >"$TOP/map.yaml"
u 'device_map=FILE is read' "device_map=$TOP/map.yaml" '*"model.norm": "disk",*' 'cat hf_device_map; grep -q "model.norm: disk" device_map.yaml'
u 'device_map=WORD' device_map=disk 'disk' 'cat device_map.yaml'
u 'engine options arrive' 'queue=1,prompt_max=10' '*File too large*Device or resource busy*' 'echo "more than ten" > input; for i in 1 2 3 4 5 6; do echo "a b c d" > input; done; true'
t 'a relative model and mount point' 0 '[2] hi' 'cd $TOP; $P model mnt && echo hi > mnt/input && cat mnt/output; umount mnt'
t 'a link as mount point' 0 "$MNT" 'ln -sfn $MNT $TOP/link; $P $MODEL $TOP/link && findmnt -n -o TARGET $MNT; umount $MNT'
t 'the order of mount(8)' 0 mounted '$P $MODEL $MNT -v -n -s -o rw,turbo 2>/dev/null && is_mounted && echo mounted; umount $MNT'

# in the background
u 'the daemon: own session, directory /, no terminal' '' '/ /dev/null yes' 'p=$(daemon); echo $(readlink /proc/$p/cwd) $(readlink /proc/$p/fd/0) $([ $(ps -o sid= -p $p) = $(ps -o sid= -p $$) ] || echo yes)'
t 'without -o wait it returns while loading' 0 'loading' 'BMI_FAKE_LOAD_MS=1500 $P $MODEL $MNT; sed -n "s/^state: //p" $MNT/status; umount $MNT'
t 'with -o wait it returns when ready' 0 'ready' 'BMI_FAKE_LOAD_MS=500 $P $MODEL $MNT -o wait; sed -n "s/^state: //p" $MNT/status; umount $MNT'
t 'with -o wait a failed load is told; the mount stays, failed' 0 $'mount.bmifs: layer 3 cannot be read\n0 failed' 'BMI_FAKE_FAULT=load $P $MODEL $MNT -o wait; echo $? $(sed -n "s/^state: //p" $MNT/status); umount $MNT'
m 'prompts to a failed model' 0 '*No such device*' 'BMI_FAKE_FAULT=load $P $MODEL $MNT; sleep .2; echo hi | cat > $MNT/input; umount $MNT'

# the other ends
start() { "$P" "$MODEL" "$MNT" "$@" </dev/null; }
gone() { for _ in $(seq 200); do [ -z "$(daemon)" ] && ! is_mounted && return 0; sleep .05; done; return 1; }
export -f start gone
for sig in TERM INT HUP; do
	t "SIG$sig while a turn runs and readers wait: they are told, all is clean" 0 $'python was told\nclean' 'start; seq 1 300 | tr "\n" " " > $MNT/input; python3 -c "
import os,errno
fd=os.open(os.environ[\"MNT\"]+\"/output\",0)
try:
  while os.read(fd,4096): pass
except OSError as e: print(\"python was\",\"told\" if e.errno in (errno.ECONNABORTED,errno.ENOTCONN) else e)" & sleep 1; kill -'$sig' $(daemon); wait; gone && echo clean'
done
t 'SIGTERM in the foreground: exit status 0' 0 '0 clean' '$P $MODEL $MNT -o foreground 2>/dev/null & p=$!; until is_mounted; do sleep .05; done; kill $p; wait $p; echo $? $(gone && echo clean)'
t 'umount in the foreground: exit status 0' 0 '0 clean' '$P $MODEL $MNT --foreground 2>/dev/null & p=$!; until is_mounted; do sleep .05; done; umount $MNT; wait $p; echo $? $(gone && echo clean)'
t 'SIGTERM while a move runs and a close waits' 0 'clean' 'BMI_FAKE_LAYER_MS=500 start -o device_map=disk; (echo cpu | cat > $MNT/device_map.yaml) 2>/dev/null & sleep .3; kill $(daemon); wait; gone && echo clean'
t 'umount while a turn runs and nobody has a file open' 0 clean 'start; seq 1 300 | tr "\n" " " > $MNT/input; umount $MNT && gone && echo clean'
m 'umount while a reader waits: busy' 0 '*target is busy*still*' 'start; seq 1 200 | tr "\n" " " > $MNT/input; cat $MNT/output > /dev/null & sleep .3; umount $MNT; is_mounted && echo still; kill $!; wait; umount $MNT'
t 'umount -l: the reader reads on, then the daemon ends' 0 same 'start; seq 1 40 | tr "\n" " " > $MNT/input; cat $MNT/output > $TOP/got & sleep .3; umount -l $MNT; wait; [ "$(cat $TOP/got)" = "[111] $(seq 1 40 | tr "\n" " ")" ] && gone && echo same'
t 'kill -9: a waiting reader is told; a new daemon mounts over the dead mount' 0 $'reader-status 1\nENOTCONN\n[2] hi\n1' 'start; seq 1 300 | tr "\n" " " > $MNT/input; (cat $MNT/output > /dev/null 2>&1; echo reader-status $?) & sleep .3; kill -9 $(daemon); wait; python3 -c "
import os,errno
try: os.stat(os.environ[\"MNT\"])
except OSError as e: print(errno.errorcode[e.errno])"; start 2> $TOP/note; echo hi > $MNT/input; cat $MNT/output; grep -c " $MNT " /proc/self/mountinfo; grep -q "cleared a dead mount" $TOP/note || echo no note; umount $MNT'
m 'a living mount is not mounted over' 0 "mount.bmifs: a bmifs is mounted on '*/mnt' already*32 1" 'start; start; echo $? $(grep -c " $MNT " /proc/self/mountinfo); umount $MNT'
# fusermount3 looks once, and may find a connection that is just being aborted instead of dead: several chances
t 'auto_unmount cleans up after kill -9' 0 clean 'for i in 1 2 3 4 5; do start -o auto_unmount 2> /dev/null && kill -9 $(daemon); for j in $(seq 40); do is_mounted || break 2; sleep .05; done; done; gone && echo clean'
t 'no process and no mount is left' 0 '' 'daemon; grep " $MNT " /proc/self/mountinfo; true'

# a user mounts through fusermount3
cat >"$TOP/user.sh" <<'U'
mount -t tmpfs none "$TOP/up" && mknod "$TOP/up/fuse" c 10 229 && chmod 666 "$TOP/up/fuse" &&
	mount --bind "$TOP/up/fuse" /dev/fuse && chown 65534 "$MNT" || exit 9
[ -z "${HIDE:-}" ] || mount --bind /dev/null "$HIDE"
# leaks cannot be looked for in a process that may not be traced
export ASAN_OPTIONS=${ASAN_OPTIONS:-}:detect_leaks=0
setpriv --reuid=65534 --regid=65534 --clear-groups bash -c "$1"
r=$?
chown 0 "$MNT"
exit $r
U
export USER_SH=$TOP/user.sh
mkdir -p "$TOP/up"
if [ "$(id -u)" = 0 ] && [ -u "$(command -v fusermount3)" ] && [ -x "$(dirname "$P")" ] &&
	unshare -m bash "$USER_SH" "test -x '$P' && test -r '$MODEL/config.json'" 2>/dev/null; then
	t 'a user mounts, kills, mounts again and unmounts' 0 $'[2] hi\ndead\n[2] hi\nclean' 'unshare -m bash $USER_SH "\$P \$MODEL \$MNT && echo hi > \$MNT/input && cat \$MNT/output
kill -9 \$(daemon); sleep .3; ls \$MNT 2> /dev/null || echo dead
\$P \$MODEL \$MNT 2> /dev/null; echo hi > \$MNT/input; cat \$MNT/output; fusermount3 -u \$MNT && gone && echo clean"'
	t 'a user ends the daemon by SIGTERM' 0 clean 'unshare -m bash $USER_SH "\$P \$MODEL \$MNT; kill \$(daemon); gone && echo clean"'
	m 'a user may not say allow_other unless root says so' 32 '*user_allow_other*mounting failed*' 'unshare -m bash $USER_SH "grep -q ^user_allow_other /etc/fuse.conf && echo user_allow_other mounting failed && exit 32; \$P \$MODEL \$MNT -o allow_other"'
	m 'a user without fusermount3' 32 '*fusermount3 is missing*install*' 'HIDE=$(command -v fusermount3) unshare -m bash $USER_SH "\$P \$MODEL \$MNT"'
	m 'a mount point that is not the user'"'"'s' 32 '*mounting failed*' 'unshare -m bash $USER_SH "\$P \$MODEL /usr"'
else
	skip 'a user mounts through fusermount3' 'it needs root, mount namespaces, and a program others may run'
fi

# in a container without privileges: who may mount does, and hands the descriptor over
if [ "$(id -u)" = 0 ] && setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$P"; then
	t 'a mount point /dev/fd/N' 0 $'[2] hi\n0' 'python3 - <<P
import ctypes,os,subprocess,time
m=os.environ["MNT"]; fd=os.open("/dev/fuse",os.O_RDWR); libc=ctypes.CDLL(None,use_errno=True)
o="fd=%d,rootmode=40000,user_id=65534,group_id=65534,allow_other,default_permissions"%fd
assert libc.mount(b"model",m.encode(),b"fuse.bmifs",6,o.encode())==0,os.strerror(ctypes.get_errno())
d=subprocess.Popen([os.environ["P"],os.environ["MODEL"],"/dev/fd/%d"%fd,"--foreground"],pass_fds=[fd],user=65534,group=65534,extra_groups=[],stderr=subprocess.DEVNULL)
os.close(fd)
with open(m+"/input","w") as f: f.write("hi")
print(open(m+"/output").read(),end="")
subprocess.run(["umount",m],check=True); print(d.wait(30))
P'
else
	skip 'a mount point /dev/fd/N' 'it needs root, and a program others may run'
fi

# what logs may hold
t 'a log holds the life of the daemon and no byte of prompts and answers' 0 '600 serving unmounted' 'start -v -o log=$TOP/log; echo "fail sesame opensesame" > $MNT/input; cat $MNT/output > /dev/null 2>&1; echo "opensesame: cpu" > $MNT/device_map.yaml 2>/dev/null; umount $MNT; gone; grep -q "a layer cannot be read" $TOP/log || echo no failure; grep sesame $TOP/log; echo $(stat -c %a $TOP/log) $(grep -o -e serving -e unmounted $TOP/log)'
t 'debug output holds none either' 0 '' '$P $MODEL $MNT -d > $TOP/debug 2>&1 & until is_mounted; do sleep .05; done; echo opensesame > $MNT/input; cat $MNT/output > /dev/null; umount $MNT; wait; grep -c opensesame $TOP/debug | grep -v "^0$"; true'

# mount(8): the program is looked for in /sbin
if [ "$(id -u)" = 0 ] && unshare -m bash -c "mkdir $TOP/ov && mount -t tmpfs t $TOP/ov && mkdir $TOP/ov/u $TOP/ov/w && mount -t overlay o -o lowerdir=/usr/sbin,upperdir=$TOP/ov/u,workdir=$TOP/ov/w /usr/sbin" 2>/dev/null; then
	m 'mount -t bmifs, with what fstab may say' 0 '*fuse.bmifs*[[]2[]] hi*32*' 'unshare -m bash -c "
mount -t tmpfs t $TOP/ov; mkdir $TOP/ov/u $TOP/ov/w; mount -t overlay o -o lowerdir=/usr/sbin,upperdir=$TOP/ov/u,workdir=$TOP/ov/w /usr/sbin
cp $P /usr/sbin/mount.bmifs
echo \"$MODEL $MNT bmifs defaults,noauto,nofail,_netdev,user,device_map=cpu,x-systemd.automount,noatime,nodev,comment=hi 0 0\" > $TOP/fstab
LIBMOUNT_FSTAB=$TOP/fstab mount $MNT && findmnt -n -o FSTYPE $MNT && echo hi > $MNT/input && cat $MNT/output; umount $MNT
mount -t bmifs $TOP/nomodel $MNT; echo \$?"'
else
	skip 'mount -t bmifs, with what fstab may say' 'no overlay over /usr/sbin here'
fi
cd / || exit 1
echo "1..$tests"
[ $failed = 0 ]

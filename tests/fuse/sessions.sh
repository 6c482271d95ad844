#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# sessions/: a directory is a conversation; what it holds, who owns it, and how it ends.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
BMI_FAKE_TOKEN_MS=10 mount_it sessions=60
[ "$FAKE" = 1 ] || echo 1 >params/ignore_eos
# long SESSION: a turn of some hundred tokens
long() { if [ "$FAKE" = 1 ]; then seq 1 300 | tr "\n" " " >"sessions/$1/input"; else echo 150 >"sessions/$1/params/max_tokens"; echo "1 2 3" >"sessions/$1/input"; fi; }
export -f long

t 'mkdir makes the files of a session' 0 'ctl input logits output params status' 'mkdir sessions/a; echo $(ls sessions/a)'
t 'modes' 0 '700 200 400 400 400 200 700 600' 'umask 077; mkdir sessions/m; cd sessions/m; echo $(stat -c %a . input output logits status ctl params params/temperature); cd ../..; rmdir sessions/m'
t 'a prompt and its answer' 0 "$(ask hi)" 'echo hi > sessions/a/input; cat sessions/a/output'
t 'the root did not see it' 0 "$(ask root)" 'echo other > sessions/a/input; cat sessions/a/output > /dev/null; cat output'
t 'status of a session' 0 done 'sed -n "s/^state: //p" sessions/a/status'
t 'mktemp -d' 0 "$(ask hi)" 's=$(mktemp -d sessions/XXXXXX); echo hi > $s/input; cat $s/output; rmdir $s'
t 'parameters are copied from the root, then its own' 0 $'0.125\n0.5\n0.125' 'echo 0.125 > params/temperature; mkdir sessions/p; cat sessions/p/params/temperature; echo 0.5 > sessions/p/params/temperature; cat sessions/p/params/temperature params/temperature; rmdir sessions/p; echo 0 > params/temperature'
t 'rename' 0 $'b\nsame' 'cat sessions/a/output > $TOP/1; mv sessions/a sessions/b; ls sessions; cmp sessions/b/output $TOP/1 && echo same'
m 'rename onto another' 1 '*' 'mkdir sessions/c; mv -T sessions/b sessions/c; r=$?; rmdir sessions/c; [ -d sessions/b ] && exit $r'
t 'rmdir' 0 '' 'rmdir sessions/b; ls sessions'
t 'rm -r' 0 '' 'mkdir sessions/r; rm -r sessions/r; ls sessions'
m 'twice the same' 1 '*File exists' 'mkdir sessions/d; mkdir sessions/d; r=$?; rmdir sessions/d; exit $r'
m 'a name of 300 bytes' 1 '*File name too long' 'mkdir sessions/$(printf "n%.0s" $(seq 300))'
m 'a directory in a session' 1 '*Operation not permitted' 'mkdir sessions/e; mkdir sessions/e/x; r=$?; rmdir sessions/e; exit $r'
m 'a session elsewhere' 1 '*Operation not permitted' 'mkdir elsewhere'
m 'a file in sessions' 1 '*Operation not permitted' 'echo x > sessions/file'
m 'out of the directory' 1 '*Operation not permitted*' 'mkdir sessions/o; mv sessions/o ./o; r=$?; rmdir sessions/o; exit $r'
m 'one too many' 1 '*No space left on device' 'for i in $(seq 60); do mkdir sessions/s$i || exit 9; done; mkdir sessions/s61; r=$?; rmdir sessions/s*; exit $r'
m 'last_error says why' 0 '*s61 No space left on device: there are 60 sessions*' 'cat last_error'
t 'scratch files in a session' 0 text 'mkdir sessions/f; echo text > sessions/f/.tmp; cat sessions/f/.tmp; rm -r sessions/f'
m 'rmdir while a reader waits: it gets what there is, then ECANCELED' 0 '*Operation canceled*partial' 'mkdir sessions/z; long z; cat sessions/z/output > $TOP/got & until [ -s $TOP/got ]; do sleep .05; done; rmdir sessions/z; wait; [ -s $TOP/got ] && echo partial'
m 'an input that is still open: ENOENT' 1 '*write error: No such file or directory' 'mkdir sessions/z; exec 3> sessions/z/input; rmdir sessions/z; echo x >&3'
t 'the name can be used again' 0 "$(ask again)" 'mkdir sessions/z; echo again > sessions/z/input; cat sessions/z/output; rmdir sessions/z'
t 'ctl cancels its own turn alone' 0 'cancelled done' 'mkdir sessions/x sessions/y; long x; echo short > sessions/y/input; sleep .1; echo cancel > sessions/x/ctl; cat sessions/x/output sessions/y/output > /dev/null 2>&1; echo $(sed -n "s/^state: //p" sessions/x/status sessions/y/status); rmdir sessions/x sessions/y'
n=$([ "$FAKE" = 1 ] && echo 40 || echo 4)
t "$n processes with a session each: no answer is another's" 0 "$(ask same)" 'for i in $(seq '"$n"'); do ( s=$(mktemp -d sessions/XXXXXX); echo same > $s/input; cat $s/output > $TOP/o$i; rmdir $s ) & done; wait; for i in $(seq 2 '"$n"'); do cmp $TOP/o1 $TOP/o$i; done; cat $TOP/o1; ls sessions'
if [ "$FAKE" = 1 ]; then
	t 'and prompts of their own' 0 '' 'for i in $(seq 40); do ( s=$(mktemp -d sessions/XXXXXX); echo "prompt $i" > $s/input; o=$(cat $s/output); [ "$o" = "[$((7 + ${#i}))] prompt $i" ] || echo BAD "$i" "$o"; rmdir $s ) & done; wait; ls sessions'
fi
if [ "$(id -u)" = 0 ] && command -v setpriv >/dev/null; then
	umount_it
	mount_it allow_other
	as() { setpriv --reuid="$1" --regid="$2" --clear-groups bash -c "$3" bash; }
	export -f as
	t 'with allow_other everybody may have one' 0 "1777 65534 700 $(ask hi)" 'as 65534 65534 "umask 077; mkdir sessions/n; echo hi > sessions/n/input"; echo $(stat -c %a sessions) $(stat -c "%u %a" sessions/n) "$(as 65534 65534 "cat sessions/n/output")"'
	m 'another user does not read it' 1 '*Permission denied' 'as 65533 65533 "cat sessions/n/output"'
	m 'nor writes to it' 1 '*Permission denied' 'as 65533 65533 "echo x > sessions/n/input"'
	m 'nor removes it' 1 '*Operation not permitted' 'as 65533 65533 "rmdir sessions/n"'
	m 'nor renames it' 1 '*Operation not permitted' 'as 65533 65533 "mv sessions/n sessions/mine"'
	t 'its owner does' 0 '' 'as 65534 65534 "rmdir sessions/n"; ls sessions'
else
	skip 'several users' 'only root can be several users'
fi
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is refused, with which errno, and that last_error says why.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
BMI_FAKE_TOKEN_MS=10 mount_it queue=4,prompt_max=100000,scratch=64K
export PROBE=${BMIFS_PROBE:?}

# e NAME STATUS PATTERN FILE ERRNO-TEXT COMMAND: as m, and the last line of last_error blames FILE
e() {
	m "$1" "$2" "$3" "$6"
	m "$1: last_error" 0 "20[0-9][0-9]-[0-9][0-9]-[0-9][0-9]T[0-9][0-9]:[0-9][0-9]:[0-9][0-9]Z $4 $5: ?*" 'tail -n 1 last_error'
}

# open in the wrong direction
e 'input is not read' 1 '*input: Permission denied' input 'Permission denied' 'cat input'
e 'input is not opened read-write' 1 '*Permission denied*' input 'Permission denied' 'exec 3<>input'
for f in output logits status placement hf_device_map last_error; do
	e "$f is not written" 1 "*$f: Permission denied" "$f" 'Permission denied' "echo x > $f"
done

# prompts
e 'a prompt over prompt_max' 1 '*File too large*' input 'File too large' 'head -c 200000 /dev/zero | tr "\0" x > $TOP/big; cat $TOP/big > input'
t 'and the rest of that open is void' 0 'EFBIG EFBIG EFBIG' 'python3 -c "
import os,errno
fd=os.open(\"input\",os.O_WRONLY); said=[]
for what in (b\"x\"*200000, b\"more\"):
  try: os.write(fd,what); said.append(\"OK\")
  except OSError as e: said.append(errno.errorcode[e.errno])
try: os.close(fd); said.append(\"OK\")
except OSError as e: said.append(errno.errorcode[e.errno])
print(*said)"'
e 'a NUL in a prompt' 1 '*Invalid or incomplete multibyte*' input 'Invalid or incomplete multibyte or wide character' 'printf "a\0b" > $TOP/nul; cp $TOP/nul input'
m 'and output repeats it' 1 '*Invalid or incomplete multibyte*' 'cat output'
e 'broken UTF-8' 1 '*Invalid or incomplete multibyte*' input 'Invalid or incomplete multibyte or wide character' 'printf "a\377b" > $TOP/utf; cp $TOP/utf input'
n=$([ "$FAKE" = 1 ] && echo 5000 || echo 90000)
e 'a prompt larger than the context: cp is told at close' 1 '*Message too long*' input 'Message too long' "yes word | head -c $n > \$TOP/long; cp \$TOP/long input"
m 'a prompt larger than the context: bash is not, output tells' 1 '*output: Message too long' 'echo "$(cat $TOP/long)" > input; echo rc=$?; cat output'
if [ "$FAKE" = 1 ]; then
	m 'a failed turn: the partial text, then its errno' 1 '\[13\] fail*Input/output error' 'echo "fail and then" > input; cat output'
	m 'and last_error says why' 0 '*Z output Input/output error: a layer cannot be read' 'tail -n 1 last_error'
	m 'reading it again fails again' 1 '*Input/output error' 'cat output'
	t 'output && next does not go on' 1 'cat: output: Input/output error' 'cat output > /dev/null && echo went on'
fi

# the queue: one runs, four wait
fill='for i in 1 2 3 4 5; do echo "p$i a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m" > input; done'
echo 400 >params/max_tokens
[ "$FAKE" = 1 ] || echo 1 >params/ignore_eos
e 'a full queue is told at the first write' 1 '*Device or resource busy' input 'Device or resource busy' "$fill; echo more > input"
t 'O_NONBLOCK: EAGAIN, and trying again works' 0 'EAGAIN 4' 'python3 -c "
import os,errno,time
fd=os.open(\"input\",os.O_WRONLY|os.O_NONBLOCK)
try:
  for i in range(50): os.write(fd,b\"p a b c d e f g h i j k l m n o p q r s t u v w x y z a b c d e f g h i j k l m\"); os.fsync(fd)
  print(\"OK\",end=\" \")
except OSError as e: print(errno.errorcode[e.errno],end=\" \")
open(\"ctl\",\"w\").write(\"cancel\\n\")
for i in range(500):
  try: print(os.write(fd,b\"late\")); break
  except BlockingIOError: time.sleep(.02)
os.close(fd)"; cat output > /dev/null'
t 'cancelled turns make room' 0 '' 'echo cancel > ctl; sleep .3; echo again > input; cat output > /dev/null'
echo 8 >params/max_tokens

# parameters and ctl
e 'no number' 1 '*Invalid argument' params/temperature 'Invalid argument' 'echo hot > params/temperature'
e 'out of range' 1 '*Numerical result out of range' params/temperature 'Numerical result out of range' 'echo -1 > params/temperature'
t 'a value is read back' 0 0.3 'echo 0.3 > params/temperature; cat params/temperature'
t 'a refused value changes nothing' 0 0.3 'echo x > params/temperature 2>/dev/null; cat params/temperature'
t 'a value without a newline' 0 0.25 'printf 0.25 > params/temperature; cat params/temperature'
t 'a descriptor kept open sets value after value' 0 $'0.5\n0.75' 'exec 3>params/temperature; echo 0.5 >&3; cat params/temperature; echo 0.75 >&3; cat params/temperature'
t 'the same without a flush in between' 0 0.75 'python3 -c "
import os
fd=os.open(\"params/temperature\",os.O_WRONLY); os.write(fd,b\"0.5\n\"); os.write(fd,b\"0.75\n\")"; cat params/temperature'
t 'stop takes lines one by one' 0 $'one\ntwo' 'printf "one\ntwo\n" > params/stop; cat params/stop'
t 'grep . params/* shows all' 0 2 'grep . params/* | grep -c -e "^params/temperature:0.75$" -e "^params/stop:one$"'
e 'no such parameter' 1 '*Operation not permitted' '*warmth' 'Operation not permitted' 'echo 1 > params/warmth'
e 'ctl: no such command' 1 '*Invalid argument' ctl 'Invalid argument' 'echo dance > ctl'
printf '\n' >params/stop 2>/dev/null
echo 0 >params/temperature

# names
for f in input output device_map.yaml status params/temperature model; do
	m "unlink $f" 1 "rm: cannot remove '$f': Operation not permitted" "rm -f $f"
done
m 'rmdir params' 1 '*Operation not permitted' 'rmdir params'
e 'mkdir' 1 '*Operation not permitted' dir 'Operation not permitted' 'mkdir dir'
m 'mkfifo' 1 '*Operation not permitted' 'mkfifo pipe'
m 'ln' 1 '*Operation not permitted' 'ln status st'
m 'ln -s' 1 '*Operation not permitted' 'ln -s status st'
m 'mv of a control file' 1 '*Operation not permitted' 'mv status st'
m 'mv onto a control file that takes no text' 1 '*Operation not permitted' 'echo x > scratch; mv scratch status; r=$?; rm scratch; exit $r'
m 'mv from elsewhere unlinks first' 1 '*Operation not permitted' 'echo cpu > $TOP/m; mv -f $TOP/m device_map.yaml'
m 'install unlinks first' 1 '*Operation not permitted' 'echo cpu > $TOP/m; install -m 600 $TOP/m device_map.yaml'
m 'a name of 300 bytes' 1 '*File name too long' 'echo x > $(printf "n%.0s" $(seq 300))'
t 'a name of 255 bytes' 0 3 'n=$(printf "n%.0s" $(seq 255)); echo ab > $n; wc -c < $n; rm $n'
m 'no such file' 1 '*No such file or directory' 'cat nothing'

# scratch files
t 'a scratch file holds what is written' 0 $'one\ntwo' 'echo one > scratch; echo two >> scratch; cat scratch; rm scratch'
t 'and can be cut and grown' 0 $'4\n10' 'echo 1234567 > scratch; truncate -s 4 scratch; stat -c %s scratch; truncate -s 10 scratch; stat -c %s scratch; rm scratch'
t 'and renamed' 0 text 'echo text > scratch; mv scratch other; cat other; rm other'
t 'and renamed onto another' 0 new 'echo new > a; echo old > b; mv a b; cat b; rm b; ls a 2>/dev/null; true'
t 'its mode is the creator'"'"'s' 0 600 'umask 077; echo x > scratch; stat -c %a scratch; rm scratch'
e 'one too many' 1 '*No space left on device' s65 'No space left on device' 'for i in $(seq 64); do echo x > s$i || exit 9; done; echo x > s65'
t 'removed ones make room' 0 '' 'rm s*[0-9]; echo x > s65; rm s65'
e 'a scratch file over its limit' 1 '*File too large*' scratch 'File too large' 'head -c 70000 /dev/zero > scratch; r=$?; rm scratch; exit $r'
m 'a file in params' 1 '*Operation not permitted' 'echo x > params/.temperature.swp'
t 'nothing is left over' 0 '' 'ls -A | grep -vx -e ctl -e device_map.yaml -e dtype -e hf_device_map -e input -e layers -e last_error -e logits -e max_memory -e model -e output -e params -e placement -e status -e sessions; true'

# attributes and calls that files usually have
e 'truncate to a size' 1 '*Invalid argument' device_map.yaml 'Invalid argument' 'truncate -s 5 device_map.yaml'
t 'truncate to nothing' 0 '' 'truncate -s 0 device_map.yaml; truncate -s 0 input'
t 'fallocate' 0 '0 EOPNOTSUPP' '$PROBE fallocate input'
t 'ioctl' 0 '0 ENOTTY' '$PROBE ioctl status'
t 'xattr' 0 '0 EOPNOTSUPP' '$PROBE xattr status'
t 'chmod, chown and touch are accepted and change nothing' 0 200 'chmod 666 input && chown 1:1 input && touch -d 2001-01-01 input && stat -c %a input'
t 'statfs is zeros' 0 '0 0 0 255' 'stat -f -c "%b %f %a %l" .'
t 'modes' 0 "$(printf '%s\n' 'drwxr-xr-x .' '--w------- ctl' '-rw------- device_map.yaml' '-rw------- dtype' '-r-------- hf_device_map' '--w------- input' '-r-------- last_error' '-r-------- logits' '-rw------- max_memory' 'lrwxrwxrwx model' '-r-------- output' 'drwx------ params' '-r-------- placement' '-r-------- status')" 'stat -c "%A %n" . ctl device_map.yaml dtype hf_device_map input last_error logits max_memory model output params placement status'
t 'reports have a bound for a size, as in sysfs' 0 $'4096 4096 status\n4096 4096 last_error' 'for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16; do echo x > ctl; done 2>/dev/null; stat -c "%s %o %n" status last_error'
t 'last_error keeps sixteen lines' 0 16 'wc -l < last_error'
t 'small files have their true size' 0 same 'for f in device_map.yaml dtype max_memory params/*; do [ $(stat -c %s $f) = $(wc -c < $f) ] || echo $f; done; echo same'
t 'flock' 0 $'locked\nrefused' 'exec 9>input; flock -n 9 && echo locked; (exec 8>input; flock -n 8 || echo refused)'
t 'the link leads to the model' 0 same '[ model -ef "$MODEL" ] && echo same'

# logits
if [ "$FAKE" = 1 ]; then
	t 'logits of the last turn' 0 '4000 4000' 'echo hi > input; cat output > /dev/null; echo $(wc -c < logits) $(stat -c %s logits)'
	m 'logits of a failed prompt' 1 '*Message too long' 'cp $TOP/long input 2>/dev/null; cat logits'
else
	t 'logits of the last turn are whole floats' 0 0 'echo hi > input; cat output > /dev/null; n=$(wc -c < logits); [ $n = $(stat -c %s logits) ] && [ $n -gt 0 ] && echo $((n % 4))'
fi
t 'logits arrive whole while the prompt is processed' 0 same 'echo "one two three" > input; cat logits > $TOP/l1; cat output > /dev/null; cmp logits $TOP/l1 && [ -s $TOP/l1 ] && echo same'
umount_it
mount_it
t 'before the first prompt: output and logits are empty at once' 0 '0 0' 'echo $(wc -c < output) $(wc -c < logits)'
t 'and so for a reader that would wait' 0 '' 'timeout 5 cat output logits'
finish

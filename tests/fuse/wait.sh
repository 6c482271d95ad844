#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Readers that wait: interrupted, killed, polled, many at once; and when a turn is cancelled with them.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
export PROBE=${BMIFS_PROBE:?}
BMI_FAKE_TOKEN_MS=200 mount_it
[ "$FAKE" = 1 ] || { echo 150 >params/max_tokens; echo 1 >params/ignore_eos; }
turn() { sed -n 's/^turn_state: //p' status; }
# long [N]: a turn of some hundred tokens; the fake engine repeats a prompt, a model goes on from a short one
long() { if [ "$FAKE" = 1 ]; then seq 1 "${1:-300}" | tr "\n" " " >input; else echo "1 2 3 4 5" >input; fi; }
# ended STATE: wait until the turn is in it
ended() { for _ in $(seq 300); do [ "$(turn)" = "$1" ] && break; sleep .02; done; turn; }
export -f turn long ended

# cancelling
t 'Ctrl-C on the only reader cancels' 0 '124 cancelled' 'long; timeout --foreground -s INT .5 cat output > /dev/null; echo $? $(ended cancelled)'
t 'timeout on the only reader cancels' 0 '124 cancelled' 'long; timeout .5 cat output > /dev/null; echo $? $(ended cancelled)'
t 'a killed reader cancels' 0 cancelled 'long; { timeout -s KILL .5 cat output > /dev/null; } 2>/dev/null; ended cancelled'
m 'and output says so afterwards: the partial text, then ECANCELED' 1 '*cat: output: Operation canceled' 'cat output'
m 'SA_RESTART does not help: EINTR is seen' 0 '[0-9]* EINTR?cancelled' 'long; $PROBE restart output; ended cancelled'
if [ "$FAKE" = 1 ]; then
	umount_it
	BMI_FAKE_TOKEN_MS=3 mount_it
	t 'killed at any moment, in a read or between two: cancelled' 0 'cancelled' 'for i in 1 2 3 4 5 6 7 8 9 10 11 12; do seq 1 900 | tr "\n" " " > input; (exec cat output > /dev/null) & p=$!; sleep .1$i; kill -$((i % 2 ? 9 : 15)) $p; wait $p; ended cancelled; done 2>/dev/null | sort -u'
	t 'the end of a pipe cancels nothing' 0 'done' 'long 100; cat output | head -c 5 > /dev/null; cat output > /dev/null; turn'
	umount_it
	BMI_FAKE_TOKEN_MS=20 mount_it
fi
t 'with a second reader it goes on' 0 done 'long 40; cat output > $TOP/all & sleep .1; timeout .2 cat output > /dev/null; wait; cmp -s output $TOP/all && turn'
t 'head closes early and cancels nothing' 0 done 'long 40; head -c 10 output > /dev/null; cat output > /dev/null; turn'
t 'a handled signal, and the read tried again, cancels nothing' 0 done 'long 60; python3 -c "
import signal
signal.signal(signal.SIGALRM,lambda *a:None); signal.setitimer(signal.ITIMER_REAL,0.03,0.03)
n=len(open(\"output\",\"rb\").read()); signal.setitimer(signal.ITIMER_REAL,0); exit(n==0)"; turn'
t 'stopped and continued: every byte' 0 same 'long 40; cat output > $TOP/got & p=$!; sleep .2; kill -STOP $p; sleep .2; kill -CONT $p; wait; cmp output $TOP/got && echo same'
m 'ctl cancel: the reader gets the partial text, then ECANCELED' 0 '*cat: output: Operation canceled*partial' 'long; cat output > $TOP/got & sleep .4; echo cancel > ctl; wait; [ -s $TOP/got ] && echo partial'
t 'ctl cancel without a newline' 0 cancelled 'long; sleep .1; printf cancel > ctl; ended cancelled'
t 'the next prompt is answered as ever' 0 "$(echo 4 >params/max_tokens; ask 'one two'; echo 512 >params/max_tokens)" 'echo 4 > params/max_tokens; echo one two > input; cat output; echo 512 > params/max_tokens'
[ "$FAKE" = 1 ] || echo 150 >params/max_tokens

# without waiting
t 'O_NONBLOCK: EAGAIN, then all bytes, then the end' 0 'EAGAIN same' 'long 100; python3 -c "
import os,time
fd=os.open(\"output\",os.O_RDONLY|os.O_NONBLOCK); out=b\"\"; waits=0
while True:
  try: b=os.read(fd,100)
  except BlockingIOError: waits+=1; time.sleep(.005); continue
  if not b: break
  out+=b
print(\"EAGAIN\" if waits else \"none\", \"same\" if out==open(\"output\",\"rb\").read() else \"differs\")"'
t 'O_NONBLOCK set later by fcntl counts' 0 EAGAIN 'long; python3 -c "
import os,time
fd=os.open(\"output\",os.O_RDONLY); os.read(fd,1); os.set_blocking(fd,False)
try:
  while True: os.read(fd,65536)
except BlockingIOError: print(\"EAGAIN\")"; echo cancel > ctl; ended cancelled > /dev/null'
for how in poll select epoll 'epoll ET'; do
	t "$how wakes for tokens and for the end" 0 'same' 'long 20; python3 - "'"$how"'" <<P
import os,select,sys
fd=os.open("output",os.O_RDONLY|os.O_NONBLOCK); out=b""; how=sys.argv[1]
if how.startswith("epoll"):
  e=select.epoll(); e.register(fd,select.EPOLLIN|(select.EPOLLET if "ET" in how else 0)); wait=lambda: e.poll(20)
elif how=="poll":
  p=select.poll(); p.register(fd,select.POLLIN); wait=lambda: p.poll(20000)
else: wait=lambda: select.select([fd],[],[],20)[0]
end=False
while not end:
  assert wait(), "not woken"
  while True:
    try: b=os.read(fd,4096)
    except BlockingIOError: break
    if not b: end=True; break
    out+=b
print("same" if out==open("output","rb").read() else "differs")
P'
done
t 'poll times out while there is nothing new' 0 '[]' 'long; python3 - <<P
import os,select
fd=os.open("output",os.O_RDONLY|os.O_NONBLOCK); p=select.poll(); p.register(fd,select.POLLIN)
assert p.poll(20000)
try:
  while True: os.read(fd,65536)
except BlockingIOError: pass
print(p.poll(0))
P
echo cancel > ctl; ended cancelled > /dev/null'
t 'poll on output with no news but the end of a finished turn' 0 '1' 'echo hi > input; cat output > /dev/null; python3 -c "
import os,select
fd=os.open(\"output\",os.O_RDONLY); p=select.poll(); p.register(fd,select.POLLIN); os.read(fd,9999); print(len(p.poll(0)))"'
t 'poll on other files: ready at once' 0 '3' 'python3 -c "
import os,select
p=select.poll(); keep=[]
for f,a in ((\"dtype\",os.O_RDONLY),(\"input\",os.O_WRONLY),(\"last_error\",os.O_RDONLY)):
  fd=os.open(f,a); keep.append(fd); p.register(fd,select.POLLIN|select.POLLOUT)
print(len(p.poll(1000)))"'
t 'asyncio: one thread, six readers' 0 'True' 'long 20; python3 - <<P
import asyncio,os
async def one():
  fd=os.open("output",os.O_RDONLY|os.O_NONBLOCK); loop=asyncio.get_running_loop(); out=b""
  while True:
    f=loop.create_future(); loop.add_reader(fd,lambda: f.done() or f.set_result(1)); await f; loop.remove_reader(fd)
    try: b=os.read(fd,4096)
    except BlockingIOError: continue
    if not b: return out
    out+=b
async def main():
  r=await asyncio.gather(*[one() for _ in range(6)]); print(len(set(r))==1 and len(r[0])>0)
asyncio.run(main())
P'

# many
t '300 readers wait in threads; names, attributes and texts are answered; all get all' 0 'answered 300' 'long 250; python3 - <<P
import os,threading
got=[]
def read():
  fd=os.open("output",os.O_RDONLY); out=b""
  while b:=os.read(fd,65536): out+=b
  os.close(fd); got.append(out)
ts=[threading.Thread(target=read) for _ in range(300)]
for t in ts: t.start()
os.listdir("."); os.stat("input"); open("status").read(); open("params/temperature").read(); open("last_error").read()
print("answered" if any(t.is_alive() for t in ts) else "too late",end=" ",flush=True)
for t in ts: t.join()
print(got.count(open("output","rb").read()))
P'
t 'a thread pool of blocked readers is freed by a kill' 0 'gone' 'exec 2> /dev/null; long; for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do cat output > /dev/null & done; sleep .3; kill -9 $(jobs -p); { wait; } 2>/dev/null; ended cancelled > /dev/null; [ -z "$(jobs -pr)" ] && echo gone' 2>/dev/null
t 'two readers of one descriptor share its offset' 0 'same' 'long 20; exec 3<output; (cat <&3 > $TOP/p1) & cat <&3 > $TOP/p2; wait; [ $(cat $TOP/p1 $TOP/p2 | wc -c) = $(wc -c < output) ] && echo same'

# a kernel that times requests out: blocked ones are answered in time
knob=/proc/sys/fs/fuse/max_request_timeout
if [ "$FAKE" != 1 ]; then
	:
elif [ -w $knob ] && old=$(cat $knob); then
	umount_it
	echo 4 >$knob
	BMI_FAKE_TOKEN_MS=5000 BMI_FAKE_LAYER_MS=700 mount_it device_map=disk
	echo "$old" >$knob
	t 'with fs.fuse.max_request_timeout a blocked read ends with EINTR in time' 0 '0 EINTR' 'echo hi > input; python3 -c "
import ctypes,os,errno
libc=ctypes.CDLL(None,use_errno=True); fd=os.open(\"output\",0); b=ctypes.create_string_buffer(9)
n=libc.read(fd,b,9); print(max(n,0), errno.errorcode.get(ctypes.get_errno()))"'
	t 'and does not cancel: the callers that try again get all' 0 '[2] hi' 'python3 -c "print(open(\"output\").read(),end=\"\")"'
	t 'a waiting close ends with success, the move goes on' 0 'closed placing' 'echo cpu | cat > device_map.yaml && echo closed $(sed -n "s/^state: //p" status)'
else
	skip 'with fs.fuse.max_request_timeout a blocked read ends in time' "$knob cannot be set"
fi
finish

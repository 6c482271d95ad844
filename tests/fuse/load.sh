#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Everything at once for some seconds: for the sanitizers, and to see that nothing is lost, mixed up or left behind.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
[ "$FAKE" = 1 ] || plan_skip "the delays of the fake engine are needed"
BMI_FAKE_TOKEN_MS=1 BMI_FAKE_LAYER_MS=5 mount_it queue=64
t 'readers, writers, movers, editors, pollers and signals together' 0 'no failure' 'python3 - <<P
import errno,os,random,select,signal,subprocess,threading,time
SECONDS=20 if os.environ.get("BMIFS_TEST_LONG")=="1" else 6
end=time.time()+SECONDS; bad=[]
OK={errno.EBUSY,errno.ECANCELED,errno.EAGAIN}
def worker(f):
  def run():
    rnd=random.Random(f.__name__)
    while time.time()<end and not bad:
      try: f(rnd)
      except OSError as e:
        if e.errno not in OK: bad.append((f.__name__,repr(e)))
      except Exception as e: bad.append((f.__name__,repr(e)))
  return run
def write(rnd):
  with open("input","w") as f:
    for _ in range(rnd.randint(1,3)): f.write("w "*rnd.randint(1,40)); f.flush()
def read(rnd):
  with open("output","rb") as f: b=f.read()
  assert not b or b[:1]==b"[", b[:40]
def read_early(rnd):
  fd=os.open("output",os.O_RDONLY); os.read(fd,rnd.randint(1,50)); os.close(fd)
def nonblock(rnd):
  fd=os.open("output",os.O_RDONLY|os.O_NONBLOCK)
  try:
    p=select.poll(); p.register(fd,select.POLLIN)
    for _ in range(5):
      if p.poll(50): os.read(fd,64)
  finally: os.close(fd)
def move(rnd):
  with open("device_map.yaml","w") as f: f.write(rnd.choice(("cpu\n","disk\n","auto\n")))
def edit(rnd):
  n=".t%d"%threading.get_ident()
  with open(n,"w") as f: f.write(rnd.choice(("cpu\n","disk\n"))*1)
  os.replace(n,"device_map.yaml")
def look(rnd):
  for n in os.listdir("."):
    try: os.stat(n)
    except FileNotFoundError: pass
  open("status").read(); open("last_error").read(); open("hf_device_map").read(); open("placement").read()
def param(rnd):
  open("params/max_tokens","w").write("%d\n"%rnd.randint(1,60))
  int(open("params/max_tokens").read())
def refuse(rnd):
  try: open("device_map.yaml","w").write("model: moon\n")
  except OSError as e:
    if e.errno!=errno.EINVAL: raise
def status(rnd):
  fd=os.open("status",os.O_RDONLY)
  try:
    p=select.poll(); p.register(fd,select.POLLIN|select.POLLPRI); os.read(fd,4096); p.poll(30); os.pread(fd,4096,0)
  finally: os.close(fd)
def kill(rnd):
  p=subprocess.Popen(["cat","output"],stdout=subprocess.DEVNULL,stderr=subprocess.DEVNULL); time.sleep(rnd.random()*.05)
  p.send_signal(rnd.choice((signal.SIGKILL,signal.SIGINT,signal.SIGSTOP))); p.send_signal(signal.SIGCONT); time.sleep(.01); p.kill(); p.wait()
def cancel(rnd):
  time.sleep(.1); open("ctl","w").write("cancel\n")
fs=[write,write,read,read,read,read_early,nonblock,nonblock,move,edit,edit,look,look,param,refuse,status,kill,cancel]
ts=[threading.Thread(target=worker(f)) for f in fs]
for t in ts: t.start()
for t in ts: t.join(120)
alive=[f.__name__ for f,t in zip(fs,ts) if t.is_alive()]
print("no failure" if not bad and not alive else (bad[:5],alive),flush=True)
os._exit(0)
P'
t 'afterwards it answers as ever' 0 '[2] hi' 'echo cancel > ctl; echo 512 > params/max_tokens; for i in $(seq 100); do echo hi > input 2>/dev/null && break; sleep .1; done; cat output'
t 'no scratch file is left' 0 '' 'ls -A | grep "^\.t"; true'
t 'SIGTERM in the middle of all: clean' 0 'clean' 'for i in 1 2 3 4 5 6 7 8; do (while echo "a b c d e f" > input && cat output > /dev/null; do :; done) 2>/dev/null & done; (while echo cpu > device_map.yaml && echo disk > device_map.yaml; do :; done) 2>/dev/null & sleep 1; p=$(daemon); cd /; kill $p; for i in $(seq 100); do [ -d /proc/$p ] || break; sleep .1; done; wait; [ -d /proc/$p ] || is_mounted || echo clean'
cd /
echo "1..$tests"
[ $failed = 0 ]

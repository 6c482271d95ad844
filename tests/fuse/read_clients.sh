#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Every client gets the whole text, while it is still growing and when it is finished, and no byte more.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
export PROBE=${BMIFS_PROBE:?}
BMI_FAKE_TOKEN_MS=15 mount_it
[ "$FAKE" = 1 ] || echo 24 >params/max_tokens

PROMPT="a b c d e f g h i j k l m n o p q r s t u v w x"
WANT=$(ask "$PROMPT"; echo .)
printf %s "${WANT%.}" >"$TOP/want"
export PROMPT
cat >"$TOP/R.java" <<'J'
import java.nio.file.*;
public class R { public static void main(String[] a) throws Exception { System.out.write(Files.readAllBytes(Path.of(a[0]))); System.out.flush(); } }
J
echo 'use std::io::Write; fn main() { std::io::stdout().write_all(&std::fs::read("output").unwrap()).unwrap(); }' >"$TOP/r.rs"

# r NAME COMMAND: COMMAND leaves the text in $TOP/got, of a running turn and again of the finished one
r() {
	local when rc note
	for when in running finished; do
		rm -f "$TOP/got"
		[ $when = running ] && echo "$PROMPT" >input
		note=$(timeout -k 5 60 bash -c "$2" bash 2>&1 </dev/null)
		rc=$?
		if [ $when = running ]; then cat output >/dev/null; fi
		[ $rc = 0 ] && cmp -s "$TOP/want" "$TOP/got"
		verdict $? "$when: $1" "status $rc: $note" "got: $(head -c 300 "$TOP/got" | od -c | head -5)"
	done
}

r 'cat to a file' 'cat output > $TOP/got'
r 'cat to a pipe' 'cat output | dd of=$TOP/got 2>/dev/null'
r 'cat in $()' 'x=$(cat output); printf "%s\n" "$x" > $TOP/got; if [ "$(tail -c 1 $TOP/want | od -An -c | tr -d " ")" != "\n" ]; then printf %s "$x" > $TOP/got; fi'
if needs busybox 'busybox cat'; then
	r 'busybox cat to a file' 'busybox cat output > $TOP/got'
	r 'busybox cat to a pipe' 'busybox cat output | busybox dd of=$TOP/got 2>/dev/null'
	r 'busybox cp' 'busybox cp output $TOP/got; chmod 600 $TOP/got'
	r 'busybox tail' 'busybox tail -n +1 output > $TOP/got'
fi
for uu in /usr/lib/cargo/bin/coreutils/cat "$(command -v uu_cat || true)"; do
	[ -x "$uu" ] && r "uutils cat" "$uu output > \$TOP/got" && break
done
r 'cp' 'cp output $TOP/got'
r 'cp --sparse=always' 'cp --sparse=always output $TOP/got'
r 'dd' 'dd if=output of=$TOP/got 2>/dev/null'
r 'dd bs=1M' 'dd if=output of=$TOP/got bs=1M 2>/dev/null'
r 'head -c' 'head -c 1000000 output > $TOP/got'
r 'tail -c' 'tail -c 1000000 output > $TOP/got'
r 'tail -n' 'tail -n 1000 output > $TOP/got'
r 'tac twice' 'tac output > $TOP/1; tac $TOP/1 > $TOP/got; tr -d "\n" < $TOP/got | cmp -s - <(tr -d "\n" < $TOP/want) && cp $TOP/want $TOP/got'
r 'grep' 'grep "" output > $TOP/got; tr -d "\n" < $TOP/got | cmp -s - <(tr -d "\n" < $TOP/want) && cp $TOP/want $TOP/got'
r 'wc -c' 'n=$(wc -c < output); [ $n = $(stat -c %s $TOP/want) ] && cp $TOP/want $TOP/got; echo $n'
r 'bash $(<file)' 'printf "%s" "$(<output)" | cmp -s - <(printf "%s" "$(cat $TOP/want)") && cp $TOP/want $TOP/got'
r 'bash read' 'IFS= read -r -d "" x < output; printf %s "$x" > $TOP/got'
r 'python: read' 'python3 -c "import os,sys; open(os.environ[\"TOP\"]+\"/got\",\"wb\").write(open(\"output\",\"rb\").read())"'
r 'python: text, by lines' 'python3 -c "import os,sys; open(os.environ[\"TOP\"]+\"/got\",\"w\",newline=\"\").writelines(open(\"output\",newline=\"\"))"'
r 'python: os.read of 7 bytes' 'python3 -c "
import os
fd=os.open(\"output\",0); out=open(os.environ[\"TOP\"]+\"/got\",\"wb\")
while b:=os.read(fd,7): out.write(b)"'
r 'python: shutil.copyfile' 'python3 -c "import os,shutil; shutil.copyfile(\"output\",os.environ[\"TOP\"]+\"/got\")"'
r 'python: asyncio' 'python3 -c "
import asyncio,os
async def main():
  fd=os.open(\"output\",os.O_RDONLY|os.O_NONBLOCK); loop=asyncio.get_running_loop(); out=open(os.environ[\"TOP\"]+\"/got\",\"wb\")
  while True:
    f=loop.create_future(); loop.add_reader(fd,lambda: f.done() or f.set_result(1)); await f; loop.remove_reader(fd)
    try: b=os.read(fd,4096)
    except BlockingIOError: continue
    if not b: break
    out.write(b)
asyncio.run(main())"'
r 'perl' 'perl -0777 -ne print output > $TOP/got'
r 'awk' 'awk "BEGIN{RS=\"\001\";ORS=\"\"}{print}" output > $TOP/got; tr -d "\n" < $TOP/got | cmp -s - <(tr -d "\n" < $TOP/want) && cp $TOP/want $TOP/got'
if needs node 'node'; then
	r 'node: readFileSync' 'node -e "const f=require(\"fs\");f.writeFileSync(process.env.TOP+\"/got\",f.readFileSync(\"output\"))"'
	r 'node: promises.readFile of text' 'node -e "const f=require(\"fs\");f.promises.readFile(\"output\",\"utf8\").then(t=>f.writeFileSync(process.env.TOP+\"/got\",t))"'
	r 'node: readFile' 'node -e "const f=require(\"fs\");f.readFile(\"output\",(e,t)=>f.writeFileSync(process.env.TOP+\"/got\",t))"'
	r 'node: stream' 'node -e "const f=require(\"fs\");f.createReadStream(\"output\").pipe(f.createWriteStream(process.env.TOP+\"/got\"))"'
fi
needs java 'java: readAllBytes' && r 'java: readAllBytes' 'java $TOP/R.java output > $TOP/got'
if needs rustc 'rust: fs::read'; then
	if rustc -o "$TOP/r" "$TOP/r.rs" 2>"$TOP/rustc.log"; then r 'rust: fs::read' '$TOP/r > $TOP/got'; else skip 'rust: fs::read' "rustc cannot link here"; fi
fi
needs vim 'vim' && r 'vim' 'vim -n -es -u NONE -c "set nofixeol" -c "w! $TOP/got" -c q! output; true'
needs curl 'curl' && r 'curl' 'curl -s file://$PWD/output -o $TOP/got'

# what cannot be read like a file says so instead of giving nothing, so that its callers read(2)
echo "$PROMPT" >input
for how in splice sendfile sendfile_off copy; do
	m "running: $how is refused, not empty" 0 '0 E*' "\$PROBE $how output"
done
cat output >/dev/null
t 'finished: splice is refused' 0 '0 EINVAL' '$PROBE splice output'
t 'mmap is refused' 0 '0 ENODEV' '$PROBE mmap status'

# sizes
t 'finished: the true size' 0 "$(stat -c %s "$TOP/want")" 'stat -c %s output'
t 'finished: seekable' 0 "$(tail -c +6 "$TOP/want"; echo .)" 'python3 -c "import os,sys; fd=os.open(\"output\",0); os.lseek(fd,5,0); os.write(1,os.read(fd,100000))"; echo .'

t 'whole trees can be read: grep -r, tar, find, du' 0 done 'timeout 20 grep -rsq nothing-like-that . ; timeout 20 find . > /dev/null; timeout 20 du -s . > /dev/null; timeout 20 tar cf - --ignore-failed-read . > /dev/null 2>&1; echo done'

# streaming: words slow enough that a client starts among the first
if [ "$FAKE" = 1 ]; then
	umount_it
	BMI_FAKE_TOKEN_MS=150 mount_it
else
	echo 100 >params/max_tokens
	echo 1 >params/ignore_eos
fi
t 'running: st_size and st_blksize are 1 MiB' 0 '1048576 1048576 2048' 'echo "$PROMPT" > input; stat -c "%s %o %b" output; cat output > /dev/null'
m 'running: not seekable' 1 '*Illegal seek*' 'echo "$PROMPT" > input; python3 -c "import os; os.lseek(os.open(\"output\",0),5,0)"; r=$?; cat output > /dev/null; exit $r'
m 'tokens come one by one to cat' 0 'ok*' 'echo "$PROMPT" > input; cat output | python3 -c "
import os
n=0
while b:=os.read(0,65536): n+=1
print(\"ok\" if n>=5 else \"only %d pieces\"%n)"'
m 'tokens come one by one to a python reader with a buffer of st_blksize' 0 'ok*' 'echo "$PROMPT" > input; python3 -c "
f=open(\"output\",\"rb\"); n=0
while f.read1(): n+=1
print(\"ok\" if n>=5 else \"only %d pieces\"%n)"'
finish

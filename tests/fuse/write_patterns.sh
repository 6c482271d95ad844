#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What is one prompt: how shells, tools and languages write input, and what the next command reads from output.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
BMI_FAKE_TOKEN_MS=2 mount_it

echo A >"$TOP/x"
echo B >"$TOP/y"
cat >"$TOP/W.java" <<'J'
import java.nio.file.*;
public class W { public static void main(String[] a) throws Exception { Files.writeString(Path.of(a[0]), "from java"); } }
J
cat >"$TOP/w.rs" <<'R'
fn main() { std::fs::write("input", "from rust").unwrap(); print!("{}", String::from_utf8(std::fs::read("output").unwrap()).unwrap()); }
R

# w NAME PROMPT... -- COMMAND: COMMAND makes exactly these turns and prints what output says to the last
w() {
	local name=$1 want="" prompts=() before after out rc
	shift
	while [ "$1" != -- ]; do
		prompts+=("$1")
		shift
	done
	for p in "${prompts[@]}"; do want=$(ask "$p"); done
	before=$(turns)
	out=$(timeout -k 5 60 bash -c "$2" bash 2>&1 </dev/null)
	rc=$?
	after=$(turns)
	[ $rc = 0 ] && [ "$out" = "$want" ] && [ $((after - before)) = ${#prompts[@]} ]
	verdict $? "$name" "status $rc, $((after - before)) turns, not ${#prompts[@]}" \
		"want: $(printf %q "$want")" "got:  $(printf %q "$out")"
}

w 'echo' hi -- 'echo hi > input; cat output'
w 'printf of lines: bash writes each alone' $'l1\nl2\nl3' -- 'printf "l1\nl2\nl3\n" > input; cat output'
w 'group of two cat' $'A\nB' -- '{ cat $TOP/x; cat $TOP/y; } > input; cat output'
w 'group: builtin, then cat' $'q\nA' -- '{ echo q; cat $TOP/x; } > input; cat output'
w 'group: cat, then builtin' $'A\nq' -- '{ cat $TOP/x; echo q; } > input; cat output'
w 'subshell with a pause' $'a\nb' -- '( echo a; sleep .1; echo b ) > input; cat output'
w 'a descriptor kept open: each echo is a turn' a b -- 'exec 3>input; echo a >&3; cat output >/dev/null; echo b >&3; cat output; exec 3>&-'
w 'a child that inherits the descriptor submits nothing' a -- 'exec 3>input; printf a >&3; /bin/true; exec 3>&-; cat output'
w 'here-document' $'one\ntwo' -- 'cat > input <<E
one
two
E
cat output'
w 'append' A -- 'cat $TOP/x >> input; cat output'
w 'tee' piped -- 'echo piped | tee input > /dev/null; cat output'
w 'cp' A -- 'cp $TOP/x input; cat output'
w 'dd bs=1' abc -- 'printf abc | dd of=input bs=1 2>/dev/null; cat output'
w 'a loop behind one redirection' $'n1\nn2' -- 'printf "1\n2\n" | while read -r l; do echo "n$l"; done > input; cat output'
needs dash 'dash' && w 'dash' dash -- 'dash -c "echo dash > input"; cat output'
needs busybox 'busybox sh' && w 'busybox sh' 'from ash' -- 'busybox sh -c "echo from ash > input; cat output"'
w 'python: with open' $'py\ntwo' -- 'python3 -c "
with open(\"input\",\"w\") as f: f.write(\"py\\n\"); f.write(\"two\")
print(open(\"output\").read(),end=\"\")"'
w 'python: write, subprocess, write, close' $'a\nb' -- 'python3 -c "
import subprocess
with open(\"input\",\"w\",1) as f:
  f.write(\"a\\n\"); subprocess.run([\"true\"]); f.write(\"b\\n\")
print(open(\"output\").read(),end=\"\")"'
w 'python: two subprocesses on one file' $'one\ntwo' -- 'python3 -c "
import subprocess
with open(\"input\",\"w\") as f:
  subprocess.run([\"echo\",\"one\"],stdout=f); subprocess.run([\"echo\",\"two\"],stdout=f)
print(open(\"output\").read(),end=\"\")"'
w 'python: fsync submits, the descriptor stays' p1 p2 -- 'python3 -c "
import os
fd=os.open(\"input\",os.O_WRONLY)
for p in (b\"p1\",b\"p2\"):
  os.write(fd,p); os.fsync(fd); last=open(\"output\").read()
print(last,end=\"\")"'
w 'python: forked child writes, parent closes' 'child parent' -- 'python3 -c "
import os
fd=os.open(\"input\",os.O_WRONLY)
pid=os.fork()
if pid==0: os.write(fd,b\"child \"); os._exit(0)
os.waitpid(pid,0); os.write(fd,b\"parent\"); os.close(fd); print(open(\"output\").read(),end=\"\")"'
w 'python: another thread closes' thread -- 'python3 -c "
import os,threading
fd=os.open(\"input\",os.O_WRONLY)
def go(f,*a): t=threading.Thread(target=f,args=a); t.start(); t.join()
go(os.write,fd,b\"thread\"); go(os.close,fd); print(open(\"output\").read(),end=\"\")"'
if needs node 'node: writeFileSync'; then
	w 'node: writeFileSync' 'from node' -- 'node -e "const fs=require(\"fs\");fs.writeFileSync(\"input\",\"from node\");process.stdout.write(fs.readFileSync(\"output\",\"utf8\"))"'
	w 'node: promises, three threads of a pool' 'from node p' -- 'node -e "const fs=require(\"fs\").promises;(async()=>{await fs.writeFile(\"input\",\"from node p\");process.stdout.write(await fs.readFile(\"output\",\"utf8\"))})()"'
fi
needs perl 'perl' && w 'perl' perl -- 'perl -e "open F,q(>),q(input);print F qq(perl);close F;open G,q(<),q(output);print <G>"'
needs java 'java' && w 'java' 'from java' -- 'java $TOP/W.java input; cat output'
if needs rustc 'rust: fs::write'; then
	if rustc -o "$TOP/w" "$TOP/w.rs" 2>"$TOP/rustc.log"; then
		w 'rust: fs::write' 'from rust' -- '$TOP/w'
	else
		skip 'rust: fs::write' "rustc cannot link here"
	fi
fi
w 'one newline at the end is removed, not two' $'x\n\n' -- 'printf "x\n\n" > input; cat output'
w 'a killed writer leaves a prompt' half -- '{ python3 -c "
import os,signal
fd=os.open(\"input\",os.O_WRONLY); os.write(fd,b\"half\"); os.kill(os.getpid(),signal.SIGKILL)"; } 2>/dev/null; sleep .1; cat output'
w 'ftruncate drops what was written' keep -- 'python3 -c "
import os
fd=os.open(\"input\",os.O_WRONLY); os.write(fd,b\"gone\"); os.ftruncate(fd,0); os.write(fd,b\"keep\"); os.close(fd)"; cat output'
w 'writes are joined in the order they come' abcd -- 'python3 -c "
import os
fd=os.open(\"input\",os.O_WRONLY|os.O_APPEND)
for s in (b\"ab\",b\"cd\"): os.write(fd,s); os.stat(\"input\")
os.close(fd)"; cat output'
if [ "$FAKE" = 1 ]; then
	t 'the bytes of a prompt arrive as written' 0 $'[13] tab\there  \xc3\xa9.\n.' 'printf "tab\there  \xc3\xa9.\n" > input; cat output; echo .'
	w 'a prompt of many writes' "$(printf 'z%.0s' $(seq 3000))" -- 'head -c 3000 /dev/zero | tr "\0" z | dd of=input bs=700 2>/dev/null; cat output'
fi

# n NAME COMMAND: it succeeds and makes no turn
n() {
	local before after out
	before=$(turns)
	out=$(bash -c "$2" bash 2>&1)
	after=$(turns)
	[ "$out" = "rc=0" ] && [ "$before" = "$after" ]
	verdict $? "$1" "turns before $before, after $after" "got: $out"
}
n 'a blank line is no prompt' 'echo > input; echo rc=$?'
n 'blanks are no prompt' 'printf "  \t\n \n" > input; echo rc=$?'
n 'truncating is no prompt' '> input; echo rc=$?'
n 'touch is no prompt' 'touch input; echo rc=$?'
n 'opening and closing is no prompt' 'exec 3>input; exec 3>&-; echo rc=$?'

t 'queued prompts: output is the last' 0 "$(ask q2)" 'echo q1 > input; echo q2 > input; cat output'
t 'an earlier open keeps its turn' 0 "$(ask first)" 'echo first > input; exec 3<output; echo second > input; cat <&3; cat output > /dev/null'
t 'output reads the same again' 0 "$(ask same; ask same)" 'echo same > input; cat output; cat output'
t 'two readers get all' 0 same 'echo aa bb cc dd > input; cat output > $TOP/r1 & cat output > $TOP/r2; wait; cmp $TOP/r1 $TOP/r2 && [ -s $TOP/r1 ] && echo same'
finish

#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Several users on one mount: nobody reads what is not theirs, modes are honoured, -o umask, uid and gid open up.
# shellcheck disable=SC2016
. "$(dirname "$0")/lib.sh"
[ "$(id -u)" = 0 ] || plan_skip "only root can be several users"
command -v setpriv >/dev/null || plan_skip "setpriv is not installed"
BMI_FAKE_TOKEN_MS=5 mount_it
# as UID GID COMMAND: with no other groups
as() { setpriv --reuid="$1" --regid="$2" --clear-groups bash -c "$3" bash; }
export -f as

t 'without allow_other another user sees nothing' 2 "ls: cannot access '$MNT': Permission denied" 'cd /; as 65534 65534 "ls $MNT"'
umount_it
mount_it allow_other
echo secret prompt >input
cat output >/dev/null
echo no >ctl 2>/dev/null
t 'with allow_other: the tree is seen' 0 input 'as 65534 65534 "ls input"'
for f in output logits status hf_device_map placement last_error device_map.yaml dtype max_memory params/temperature; do
	m "another user does not read $f" 1 '*Permission denied' "as 65534 65534 'cat $f'"
done
for f in input ctl device_map.yaml dtype params/temperature; do
	m "another user does not write $f" 1 '*Permission denied' "as 65534 65534 'echo x > $f'"
done
m 'another user does not list params' 2 '*Permission denied' 'as 65534 65534 "ls params"'
m 'another user creates nothing in the root' 1 '*Permission denied' 'as 65534 65534 "echo x > scratch"'
m 'another user renames nothing' 1 '*Permission denied' 'as 65534 65534 "mv status st"'
m 'nor removes' 1 '*Permission denied' 'echo x > mine; as 65534 65534 "rm -f mine"; r=$?; rm mine; exit $r'
m 'nor changes modes' 1 '*Operation not permitted' 'as 65534 65534 "chmod 644 output"'
t 'chmod by the owner does not open a file either' 0 400 'chmod 644 output; stat -c %a output'
umount_it
mount_it allow_other,uid=1234,gid=2345,umask=007
t 'uid= and gid= own the files' 0 '1234 2345 1234 2345' 'echo $(stat -c "%u %g" output) $(stat -c "%u %g" params/temperature)'
t 'umask= makes the modes' 0 '770 220 440 660 770' 'echo $(stat -c %a . input output device_map.yaml params)'
t 'the owner writes and reads' 0 "$(ask hi)" 'as 1234 1 "echo hi > input; cat output"'
t 'the group writes and reads' 0 "$(ask hi)" 'as 1 2345 "echo hi > input; cat output"'
m 'others stay out' 2 '*Permission denied' 'cd /; as 1 1 "ls $MNT"'
umount_it
mount_it allow_other,umask=000
t 'umask=000: everybody may' 0 "$(ask hi)" 'as 65534 65534 "echo hi > input; cat output"'
t 'a scratch file belongs to its creator' 0 '65534 600' 'as 65534 65534 "umask 077; echo x > scratch"; stat -c "%u %a" scratch; rm scratch'
m 'and is read by nobody else' 1 '*Permission denied' 'as 65534 65534 "umask 077; echo x > scratch"; as 65533 65533 "cat scratch"; r=$?; rm scratch; exit $r'
t 'sed -i by that user' 0 '' 'as 65534 65534 "echo cpu > device_map.yaml; sed -i s/cpu/disk/ device_map.yaml"; cat device_map.yaml | grep -v disk; true'
if unshare -p -f --mount-proc true 2>/dev/null; then
	t 'a client in another pid namespace' 0 "$(ask 'from there')" 'unshare -p -f --mount-proc bash -c "{ echo from; echo there; } | tr \"\n\" \" \" | sed \"s/ $//\" > input; cat output"'
else
	skip 'a client in another pid namespace' 'no pid namespaces here'
fi
finish

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What the engine's libraries and the program export. TAP. usage: symbols.sh BUILD_DIR
cd "${1:?}" || exit 2
libraries=$(find engine -name 'libbmi-*.a' | sort)
program=$(find fs -maxdepth 1 -type f -perm -u+x -name 'mount.bmifs' | head -1)
# shellcheck disable=SC2086
set -- $libraries
echo "1..$(($# + 2))"
n=0
bad=0
verdict() { # NAME COMPLAINTS
	n=$((n + 1))
	if [ -z "$2" ]; then
		echo "ok $n - $1"
	else
		bad=1
		echo "not ok $n - $1"
		echo "$2" | sed 's/^/# /'
	fi
}
for library; do
	# a thin archive names its objects relative to the build directory
	verdict "${library##*/} exports bmi_ only" "$(nm -g --defined-only "$library" 2>/dev/null | awk 'NF == 3 { print $3 }' |
		grep -Ev '^(bmi_|__asan_|__odr_asan|__tsan_|__ubsan|_?__odr)' | sort -u | head -20)"
done
# mutable globals: data and bss symbols of the engine that are not read-only (.data.rel.ro is a table of pointers)
writable=$(for library; do nm --defined-only "$library" 2>/dev/null | awk '$2 ~ /^[dDbBC]$/ { print $3 }'; done |
	grep -Ev '^(__|_ZZ|completed|asan|\.L|str\.|__func__|DW\.)' | sort -u)
ro=$(for library; do objdump -t "$library" 2>/dev/null | awk '/\.data\.rel\.ro/ { print $NF }'; done | sort -u)
verdict "the engine has no mutable globals" "$(echo "$writable" | grep -vxF "${ro:-none}" | grep . | head -20)"
if [ -n "$program" ]; then
	verdict "mount.bmifs exports nothing of ours" "$(nm -D --defined-only "$program" 2>/dev/null | awk 'NF == 3 { print $3 }' |
		grep -E '^bmi_|^op_' | head -20)"
else
	n=$((n + 1))
	echo "not ok $n - there is no mount.bmifs in $PWD/fs"
	bad=1
fi
exit $bad

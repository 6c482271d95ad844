#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Every header compiles alone. TAP, a case a header. usage: headers.sh ROOT [CC]
root=${1:?} cc=${2:-cc}
cd "$root" || exit 2
headers=$(find engine fs -name '*.h' | sort)
# shellcheck disable=SC2086
set -- $headers
echo "1..$#"
n=0
bad=0
for header; do
	n=$((n + 1))
	flags=
	case $header in
	fs/*) flags="$(pkg-config --cflags fuse3 2>/dev/null) -DFUSE_USE_VERSION=314" ;;
	esac
	# twice: the guard works
	# shellcheck disable=SC2086
	if out=$(printf '#include "%s"\n#include "%s"\n' "$header" "$header" |
		$cc -std=gnu17 -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 $flags -Iengine -I. -Wall -Wextra -Werror \
			-Wno-unused-parameter -Wmissing-prototypes -Wstrict-prototypes -Wno-missing-field-initializers \
			-fsyntax-only -x c - 2>&1); then
		echo "ok $n - $header"
	else
		bad=1
		echo "not ok $n - $header"
		echo "$out" | sed 's/^/# /'
	fi
done
exit $bad

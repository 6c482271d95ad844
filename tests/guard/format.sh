#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# clang-format 14 agrees with every C file. TAP, one case. usage: format.sh [--fix] ROOT
fix=
[ "${1:-}" = --fix ] && fix=1 && shift
cd "${1:-$(dirname "$0")/../..}" || exit 2
tool=$(command -v clang-format-14 || command -v clang-format) || tool=
if [ -z "$tool" ] || ! "$tool" --version | grep -q 'version 14\.'; then
	echo "1..0 # SKIP clang-format 14 is not installed (other versions space differently)"
	exit 0
fi
files=$(find engine fs examples tests -name '*.[ch]' ! -path 'tests/data/*' | sort)
if [ -n "$fix" ]; then
	# shellcheck disable=SC2086
	exec "$tool" -i $files
fi
echo "1..1"
# shellcheck disable=SC2086
if out=$("$tool" --dry-run -Werror $files 2>&1); then
	echo "ok 1 - clang-format"
else
	echo "not ok 1 - clang-format"
	echo "$out" | grep 'error:' | sed 's/:[0-9]*: error:.*//' | cut -d: -f1 | sort | uniq -c | sed 's/^/# lines: /'
	echo "# sh tests/guard/format.sh --fix puts it right"
	exit 1
fi

#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what is missing, builds with gcc and clang and with sanitizers, runs all tests and the fuzz targets.
# usage: tests/run.sh [--quick | --long] [--only=BUILD,...]
#   --quick  one build (gcc), no sanitizers, no fuzzing, no slow tests
#   --long   fuzz targets for 15 minutes each, with a coverage report, and the tests at their full length
#   --only   some of: gcc clang asan tsan fuzz
# environment: BMIFS_TEST_MODELS=DIR  real models (smollm2, smollm2-gguf, gemma3, gemma3-gguf); without it their tests skip
#              BMIFS_BUILD=DIR        where to build (default: build/ here)
# The last line counts cases, and the exit status is 0 only when none failed.
set -u
cd "$(dirname "$0")/.." || exit 2
root=$(pwd)
build=${BMIFS_BUILD:-$root/build}
mode=normal
only=,gcc,clang,asan,tsan,fuzz,
for arg; do
	case $arg in
	--quick) mode=quick ;;
	--long) mode=long ;;
	--only=*) only=,${arg#--only=}, ;;
	*)
		sed -n '4,9s/^# //p' "$0" >&2
		exit 2
		;;
	esac
done
start=$(date +%s)
mkdir -p "$build" || exit 2
results=$build/results.tsv # a line a suite: build, suite, passed, failed, skipped
: >"$results"
BMIFS_TEST_LONG=0
[ $mode = long ] && BMIFS_TEST_LONG=1
export BMIFS_TEST_LONG

say() { printf '[%4ds] %s\n' $(($(date +%s) - start)) "$*"; }

# fail BUILD SUITE WHY: a step that is no test of its own failed
fail() {
	printf '%s\t%s\t0\t1\t0\n' "$1" "$2" >>"$results"
	say "$1: $2: FAILED: $3"
}

# build NAME COMPILER [meson options]: 0 when built; $pattern: build only the programs that match it
pattern=
build() {
	name=$1 cc=$2
	shift 2
	say "$name: building"
	reconf=
	[ -f "$build/$name/build.ninja" ] && reconf=--reconfigure
	# shellcheck disable=SC2086
	if ! CC=$cc meson setup $reconf "$build/$name" "$root" -Dwerror=true "$@" >"$build/$name.log" 2>&1 ||
		! ninja -C "$build/$name" $(programs) >>"$build/$name.log" 2>&1; then
		grep -E 'ERROR|error:|warning:|FAILED|undefined reference' "$build/$name.log" | head -20
		fail "$name" build "the log is $build/$name.log"
		return 1
	fi
}

programs() {
	[ -z "$pattern" ] || ninja -C "$build/$name" -t targets all | sed -n "s|^\\($pattern\\): c_LINKER.*|\\1|p"
}

# check NAME [meson test options]: runs the tests of a build, then lines for each suite
check() {
	name=$1
	shift
	rm -rf "$build/$name/reports"
	mkdir -p "$build/$name/reports"
	log="log_path=$build/$name/reports/report"
	ASAN_OPTIONS="$log:abort_on_error=0:strict_string_checks=1:detect_stack_use_after_return=1" \
		UBSAN_OPTIONS="$log:print_stacktrace=1:halt_on_error=1" \
		TSAN_OPTIONS="$log:second_deadlock_stack=1:halt_on_error=0" \
		$wrap meson test -C "$build/$name" --no-rebuild --print-errorlogs "$@" </dev/null >"$build/$name.test" 2>&1
	grep -E '^ *[0-9]+/[0-9]+ ' "$build/$name.test"
	python3 tests/count.py "$name" "$build/$name" "$results" || {
		sed -n '/^=* *CUT HERE/,$p; /^――/,$p' "$build/$name.test" | head -400
		fail "$name" count "no results; the log is $build/$name.test"
	}
	# a daemon in the background has nobody to tell: what a sanitizer said is in these files
	shown=0
	for report in "$build/$name/reports"/report*; do
		[ -e "$report" ] || continue
		shown=$((shown + 1))
		[ $shown -le 5 ] && head -60 "$report"
		fail "$name" sanitizer "$report"
	done
}
wrap=

sh tests/env.sh test
command -v meson >/dev/null 2>&1 || {
	echo "tests/run.sh: meson is not installed" >&2
	exit 2
}
say "compilers: $(gcc --version 2>/dev/null | head -1); $(clang --version 2>/dev/null | head -1)"
say "machine: $(nproc) CPUs, $(awk '/MemTotal/ { printf "%.1f GiB", $2 / 1048576 }' /proc/meminfo), kernel $(uname -r)"
say "real models: ${BMIFS_TEST_MODELS:-none (BMIFS_TEST_MODELS is not set)}"

# shellcheck source=tests/fuzz.sh
. tests/fuzz.sh

# wanted NAME: is this build asked for?
wanted() {
	case $only in
	*,"$1",*) return 0 ;;
	esac
	return 1
}
[ $mode = quick ] && only=,gcc,

if wanted gcc; then
	skip=
	[ $mode = quick ] && skip='--no-suite slow'
	# shellcheck disable=SC2086
	build gcc gcc --buildtype=release && check gcc $skip
fi
if wanted clang; then
	# clients see no compiler: whole mounts are driven by the gcc build and under the sanitizers
	build clang clang --buildtype=release &&
		check clang --no-suite slow --no-suite guard --no-suite e2e --no-suite fs
fi
if wanted asan; then
	build asan clang --buildtype=debugoptimized -Db_sanitize=address,undefined -Db_lundef=false &&
		check asan --no-suite slow --no-suite guard -t 4
fi
if wanted tsan; then
	# ThreadSanitizer wants the address space where it knows it: no randomisation
	setarch -R true 2>/dev/null && wrap="setarch -R"
	build tsan clang --buildtype=debugoptimized -Db_sanitize=thread -Db_lundef=false &&
		check tsan --no-suite slow --suite run --suite fs --suite e2e -t 8
	wrap=
fi
wanted fuzz && fuzz_all

echo
echo "build    suite              passed  failed skipped"
awk -F '\t' '{ printf "%-8s %-16s %8d %7d %7d\n", $1, $2, $3, $4, $5; p += $3; f += $4; s += $5 }
	END {
		printf "\n%d passed, %d failed, %d skipped\n", p, f, s
		exit f > 0 || p == 0
	}' "$results" >"$build/summary"
failed=$?
sed '$d' "$build/summary"
say "the logs are in $build"
tail -n 1 "$build/summary"
exit $failed

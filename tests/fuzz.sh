# SPDX-License-Identifier: Apache-2.0
# shellcheck shell=sh
# Sourced by run.sh: builds the fuzz targets with clang and runs each for a while on a copy of its kept corpus. A finding is
# kept in $build/fuzz/findings and fails the run.

# fuzz_one PROGRAM SECONDS: runs in the background; leaves its exit status in NAME.rc
fuzz_one() {
	target=${1##*/}
	kind=${target#fuzz_}
	work=$build/fuzz/work/$target
	rm -rf "$work"
	mkdir -p "$work/corpus" "$build/fuzz/findings"
	(
		rc=0
		"$1" -max_total_time="$2" -timeout=20 -rss_limit_mb=3000 -max_len=65536 -print_final_stats=1 \
			-artifact_prefix="$build/fuzz/findings/$target-" \
			"$work/corpus" "$root/tests/fuzz/corpus/$kind" >"$work/log" 2>&1 </dev/null || rc=$?
		echo $rc >"$work/rc"
	) &
}

fuzz_verdict() {
	target=${1##*/}
	work=$build/fuzz/work/$target
	rc=$(cat "$work/rc" 2>/dev/null || echo "none")
	runs=$(sed -n 's/^stat::number_of_executed_units: *//p' "$work/log")
	cov=$(sed -n 's/.* cov: \([0-9]*\) .*/\1/p' "$work/log" | tail -1)
	if [ "$rc" = 0 ]; then
		printf 'fuzz\t%s\t1\t0\t0\n' "${target#fuzz_}" >>"$results"
		say "fuzz: $target: ${runs:-?} runs, ${cov:-?} edges, nothing found"
	else
		grep -vE '^(#[0-9]+|INFO:)' "$work/log" | tail -40
		fail fuzz "${target#fuzz_}" "status $rc; the input is in $build/fuzz/findings"
	fi
}

# The planted bug: every target has a variant fuzz_x_planted with one bug more; finding it shows that the target can find.
fuzz_planted() {
	target=${1##*/}
	kind=${target#fuzz_}
	kind=${kind%_planted}
	work=$build/fuzz/work/$target
	rm -rf "$work"
	mkdir -p "$work/corpus"
	if "$1" -max_total_time=120 -timeout=20 -rss_limit_mb=3000 -max_len=65536 -artifact_prefix="$work/" \
		"$work/corpus" "$root/tests/fuzz/corpus/$kind" >"$work/log" 2>&1 </dev/null; then
		fail fuzz "${target#fuzz_}" "the bug planted there was not found in 120 s"
	else
		printf 'fuzz\t%s\t1\t0\t0\n' "${target#fuzz_}" >>"$results"
		say "fuzz: $target: the planted bug was found"
	fi
}

fuzz_all() {
	seconds=20
	[ "$mode" = long ] && seconds=900
	grep -q "^option('fuzz'" meson_options.txt && [ -f tests/fuzz/meson.build ] || return 0
	rm -rf "$build/fuzz/findings"
	pattern='tests/fuzz/fuzz_[a-z_]*'
	build fuzz clang --buildtype=debugoptimized -Dfuzz=true -Db_lundef=false || return 0
	targets=$(find "$build/fuzz/tests/fuzz" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*' ! -name '*_planted' | sort)
	planted=$(find "$build/fuzz/tests/fuzz" -maxdepth 1 -type f -perm -u+x -name 'fuzz_*_planted' | sort)
	[ -n "$targets" ] || {
		fail fuzz all "no fuzz target was built"
		return 0
	}
	first=
	for each in $targets ''; do # two at a time; the functions have their own idea of $target
		if [ -n "$each" ]; then
			fuzz_one "$each" $seconds
			[ -n "$first" ] || {
				first=$each
				continue
			}
		fi
		wait
		[ -n "$first" ] && fuzz_verdict "$first"
		[ -n "$each" ] && fuzz_verdict "$each"
		first=
	done
	for each in $planted; do
		fuzz_planted "$each"
	done
	[ "$mode" = long ] && fuzz_coverage
	pattern=
	return 0
}

# Which lines of the parsers the corpora reach: $build/coverage.txt and the sources with counts beside it.
fuzz_coverage() {
	command -v llvm-cov-14 >/dev/null 2>&1 || {
		say "coverage: llvm-14 is not installed"
		return 0
	}
	build cover clang --buildtype=debug -Dfuzz=true -Db_lundef=false \
		-Dc_args='-fprofile-instr-generate -fcoverage-mapping' -Dc_link_args='-fprofile-instr-generate' || return 0
	: >"$build/coverage.txt"
	for target in $targets; do
		name=${target##*/}
		prof=$build/cover/$name
		LLVM_PROFILE_FILE=$prof.raw "$build/cover/tests/fuzz/$name" -runs=0 "$build/fuzz/work/$name/corpus" \
			"$root/tests/fuzz/corpus/${name#fuzz_}" >/dev/null 2>&1
		llvm-profdata-14 merge -o "$prof.prof" "$prof.raw"
		{
			echo "== $name"
			llvm-cov-14 report "$build/cover/tests/fuzz/$name" -instr-profile="$prof.prof" "$root/engine"
		} >>"$build/coverage.txt"
		llvm-cov-14 show "$build/cover/tests/fuzz/$name" -instr-profile="$prof.prof" "$root/engine" \
			>"$build/coverage-$name.txt"
	done
	say "coverage: $build/coverage.txt"
}

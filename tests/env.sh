#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs with apt what building and testing need and this machine lacks; nothing when all is there.
# usage: env.sh build | test
# On a machine without apt it says what to install and goes on: the build will tell what is really missing.
set -u

build_packages="gcc meson ninja-build pkg-config libfuse3-dev fuse3 libyaml-dev libxxhash-dev libyajl-dev
	libpcre2-dev libutf8proc-dev liburing-dev libcmocka-dev python3"
test_packages="clang libclang-rt-14-dev clang-format-14 xz-utils git util-linux procps libc6-dev"

# Clients that the tests drive the files with: a command and the package that has it.
clients="busybox:busybox-static dash:dash vim:vim-tiny perl:perl jq:jq curl:curl strace:strace node:nodejs
	java:default-jdk-headless mandoc:mandoc"

case ${1:-build} in
build) wanted=$build_packages ;;
test) wanted="$build_packages $test_packages" ;;
*)
	echo "usage: env.sh build | test" >&2
	exit 2
	;;
esac

missing=
if command -v dpkg-query >/dev/null 2>&1; then
	for package in $wanted; do
		dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q '^install ok installed$' ||
			missing="$missing $package"
	done
fi
if [ "${1:-build}" = test ]; then
	for client in $clients; do
		command -v "${client%%:*}" >/dev/null 2>&1 || missing="$missing ${client#*:}"
	done
fi
[ -z "$missing" ] && exit 0

if ! command -v apt-get >/dev/null 2>&1; then
	echo "env.sh: no apt-get here; please install:$missing" >&2
	exit 0
fi
sudo=
if [ "$(id -u)" -ne 0 ]; then
	sudo=sudo
	command -v sudo >/dev/null 2>&1 || {
		echo "env.sh: neither root nor sudo; please install:$missing" >&2
		exit 0
	}
fi

echo "+ apt-get install$missing"
# shellcheck disable=SC2086 # the lists are words
{
	$sudo apt-get -q -o Dpkg::Use-Pty=0 update >/dev/null 2>&1 ||
		echo "env.sh: apt-get update failed; trying with the lists that are there" >&2
	$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install --no-install-recommends \
		$missing </dev/null >/tmp/bmifs-apt.$$ 2>&1 || {
		# one package that this release lacks must not keep the others away
		for package in $missing; do
			$sudo env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 install \
				--no-install-recommends "$package" </dev/null >>/tmp/bmifs-apt.$$ 2>&1 ||
				echo "env.sh: cannot install $package: $(grep '^E:' /tmp/bmifs-apt.$$ | tail -1)" >&2
		done
	}
	rm -f /tmp/bmifs-apt.$$
}
exit 0

#!/usr/bin/env bash
# Compiles the kernels for 64-bit Arm and runs their tests in an emulator: ./scripts/check_arm64.sh [--test NAME …]
#
# For x86-64 machines with Debian 12: everything comes from Debian's own packages, and nothing is installed but qemu-user and a linker. The
# compiler (rustc-web) and Arm's standard library are unpacked in target/arm64, since they may not be installed beside rustup.
# An emulator shows that the code computes the right bits, FPCR included. It shows nothing of speed.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/prepare.sh

[ "$(uname -m)" = x86_64 ] || die "this machine is no x86-64: on 64-bit Arm, plain 'cargo test' runs the NEON path"
need qemu-aarch64=qemu-user aarch64-linux-gnu-gcc=gcc-aarch64-linux-gnu
[ -e /usr/aarch64-linux-gnu/include/stdio.h ] || as_root apt-get install -y -qq --no-install-recommends libc6-dev-arm64-cross

here=$PWD/target/arm64
root=$here/root
# unpack ARCHITECTURE PACKAGE…: downloads packages by a package list of their own and unpacks them.
unpack() {
  local arch=$1 options=()
  shift
  mkdir -p "$here/$arch/state/lists/partial" "$here/$arch/cache/archives/partial" "$here/$arch/debs"
  : >"$here/$arch/status"
  options=(-o "Dir::State=$here/$arch/state" -o "Dir::State::status=$here/$arch/status" -o "Dir::Cache=$here/$arch/cache"
    -o "APT::Architecture=$arch" -o "APT::Architectures::=$arch" -qq)
  apt-get "${options[@]}" update
  (cd "$here/$arch/debs" && apt-get "${options[@]}" download "$@")
  for deb in "$here/$arch/debs"/*.deb; do dpkg -x "$deb" "$root"; done
}
if ! [ -e "$here/done" ]; then
  say "fetching a compiler for 64-bit Arm from Debian (130 MB)"
  rm -rf "$here/amd64" "$here/arm64" "$root"
  unpack amd64 rustc-web libstd-rust-web-dev
  version=$(dpkg-deb -f "$here"/amd64/debs/libstd-rust-web-dev_*.deb Version)
  shared=$(dpkg-deb -f "$here"/amd64/debs/libstd-rust-web-dev_*.deb Depends | grep -o 'libstd-rust-web-[0-9.]*' | head -1)
  unpack amd64 "$shared=$version"
  unpack amd64 "$(dpkg-deb -f "$here"/amd64/debs/"$shared"_*.deb Depends | grep -o 'libllvm[0-9]*' | head -1)"
  unpack arm64 "libstd-rust-web-dev=$version"
  touch "$here/done"
fi

export LD_LIBRARY_PATH=$root/usr/lib/x86_64-linux-gnu${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export RUSTC=$root/usr/bin/rustc CARGO_TARGET_DIR=$here/build
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc CC_aarch64_unknown_linux_gnu=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="qemu-aarch64 -L /usr/aarch64-linux-gnu"
unset RUSTC_WRAPPER
say "$("$RUSTC" --version), tests in $(qemu-aarch64 --version | head -1)"
# Tests that start their own program anew cannot do so in the emulator.
exec cargo test --release -p essaim-kernels --tests --target aarch64-unknown-linux-gnu "$@" -- \
  --skip the_environment_variable_chooses_the_path --skip a_path_that_is_missing_is_no_success

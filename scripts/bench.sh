#!/usr/bin/env bash
# Criterion for the parts without I/O (BENCH_PURE=no leaves it out), then the benchmark of the path, on the release binary, in a network namespace of its own with cubic:
# machines whose default is BBR pace a single loopback stream, and then every proxy looks the same.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ "${BENCH_PURE:-yes}" = yes ]; then
  cargo bench --locked --package portcullis-policy --package portcullis-model --bench '*' -- --quick --noplot
fi
cargo build --release --locked --package portcullis --package portcullis-e2e --bin portcullis --bin portcullis-bench
export PORTCULLIS_BIN="$PWD/target/release/portcullis"
bench="$PWD/target/release/portcullis-bench"
ulimit -n "$(ulimit -Hn)"
if [ "$(id -u)" -eq 0 ]; then
  sysctl -qw net.ipv4.tcp_allowed_congestion_control="$(sysctl -n net.ipv4.tcp_available_congestion_control)" || true
  exec unshare --net bash -ec '
    ip link set lo up
    sysctl -qw net.ipv4.tcp_congestion_control=cubic net.ipv4.ip_local_port_range="32768 65535" || true
    sysctl -qw net.ipv4.tcp_tw_reuse_delay=100 || true
    echo "congestion control: $(sysctl -n net.ipv4.tcp_congestion_control)"
    exec "$0"' "$bench"
fi
echo "not root: measuring with the machine's own network settings" >&2
exec "$bench"

#!/usr/bin/env bash
# The benchmark of the path on the release binary, in a network namespace of its own with cubic: machines
# whose default is BBR pace a single loopback stream, and then every proxy looks the same. What it changes
# on the machine meanwhile (which congestion controls may be chosen, this session's priority) it puts back.
#   full          criterion in its quick form (BENCH_PURE=no leaves it out), then every figure of every
#                 target; writes docs/bench/path.{md,json}
#   quick         the core figures of us and the peers that matter most, printed
#   instructions  what callgrind counts; writes docs/bench/instructions.json
#   smoke [NAME…] only whether the targets carry bytes
# BENCH_ROUNDS, BENCH_MILLIS, BENCH_TARGETS, BENCH_FIGURES …: docs/bench/README.md.
set -euo pipefail
cd "$(dirname "$0")/.."
form=${1:-full}
shift || true

if [ "$form" = full ] && [ "${BENCH_PURE:-yes}" = yes ] && [ "${BENCH_BUILD:-yes}" = yes ]; then
  cargo bench --locked --package portcullis-policy --package portcullis-model --bench '*' -- --quick --noplot
fi
binaries=(--bin portcullis --bin portcullis-bench)
[ "$form" != instructions ] || binaries+=(--bin portcullis-hot)
[ "${BENCH_BUILD:-yes}" = no ] ||
  cargo build --release --locked --package portcullis --package portcullis-bench "${binaries[@]}"
export PORTCULLIS_BIN="${PORTCULLIS_BIN:-$PWD/target/release/portcullis}"
bench="$PWD/target/release/portcullis-bench"
ulimit -n "$(ulimit -Hn)"

if [ "$(id -u)" -ne 0 ]; then
  echo "not root: measuring with the machine's own network settings ($(sysctl -n net.ipv4.tcp_congestion_control))" >&2
  exec "$bench" "$form" "$@"
fi

allowed=$(sysctl -n net.ipv4.tcp_allowed_congestion_control)
# The scheduler weighs sessions first (sched(7), autogroup): a busy neighbour in another one would take half.
group=$(sed -nE 's/.* nice (-?[0-9]+)$/\1/p' /proc/self/autogroup 2>/dev/null || true)
restore() {
  trap - EXIT
  sysctl -qw net.ipv4.tcp_allowed_congestion_control="$allowed" || true
  [ -z "$group" ] || echo "$group" >/proc/self/autogroup || true
}
trap restore EXIT
# The children of this shell get the signal too and end by themselves; then EXIT puts things back.
trap : INT TERM
case " $allowed " in
  *" cubic "*) ;;
  *) sysctl -qw net.ipv4.tcp_allowed_congestion_control="$allowed cubic" ;;
esac
[ -z "$group" ] || echo -10 >/proc/self/autogroup || true

unshare --net bash -ec '
  ip link set lo up
  # Listeners are below this range (crates/e2e/src/ports.rs), so no outgoing port collides with one.
  sysctl -qw net.ipv4.tcp_congestion_control=cubic net.ipv4.ip_local_port_range="32768 65535"
  # A port in TIME_WAIT may be drawn again after 100 ms instead of a second: short connections would run out.
  sysctl -qw net.ipv4.tcp_tw_reuse_delay=100 || true
  echo "congestion control: $(sysctl -n net.ipv4.tcp_congestion_control)" >&2
  exec "$@"' bash "$bench" "$form" "$@"

#!/usr/bin/env bash
# Installs what building (build), testing (test), the bench (bench) or its peers (peers) need and the machine lacks,
# from Debian's packages.
set -euo pipefail

build=(gcc g++ make git curl ca-certificates pkg-config)
servers=(postgresql postgresql-contrib redis-server redis-tools mariadb-server mariadb-client openssh-server
  openssh-client mosquitto mosquitto-clients nats-server nginx-light haproxy iperf3 wrk socat netcat-openbsd
  openssl pebble tshark tcpdump iproute2 nftables python3 python3-venv tigervnc-standalone-server xrdp freerdp2-x11 xvfb bind9-dnsutils dnsmasq-base sshpass)

# nginx-light comes without the stream module; rathole's TLS is OpenSSL.
peers=(haproxy nginx-light libnginx-mod-stream libssl-dev openssl)

# What the bench measures with.
bench=(postgresql postgresql-contrib redis-server redis-tools iperf3 iproute2 openssl valgrind)

case "${1:-build}" in
  build) wanted=("${build[@]}") ;;
  test) wanted=("${build[@]}" "${servers[@]}") ;;
  peers) wanted=("${build[@]}" "${peers[@]}") ;;
  bench) wanted=("${build[@]}" "${bench[@]}") ;;
  *) echo "usage: $0 build|test|peers|bench" >&2; exit 2 ;;
esac

missing=()
for package in "${wanted[@]}"; do
  dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
done
[ "${#missing[@]}" -eq 0 ] && exit 0

if ! command -v apt-get >/dev/null; then
  echo "These are missing and this is no Debian machine, so install them by hand: ${missing[*]}" >&2
  exit 1
fi
sudo=""
[ "$(id -u)" -eq 0 ] || sudo=sudo
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
# Debian's packages must not start servers of their own: the tests start each one where they want it.
if ! { $sudo apt-get update -q && $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 \
  apt-get install -y -q --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
  tail -n 30 "$log" >&2
  echo "installing failed; the whole log is in $log" >&2
  exit 1
fi
rm -f "$log"

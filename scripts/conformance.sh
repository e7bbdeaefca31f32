#!/usr/bin/env bash
# Runs portcullis-conformance without a proxy, against us and against the programs that users would pick
# instead, and writes docs/conformance/tcp.md from what was seen.
#   scripts/conformance.sh [--quick] [--only=CASE]... [PROGRAM...]     with programs named, only those run and nothing is written
# PORTCULLIS_BIN is the product (else target/debug/portcullis, built here); CONFORMANCE_KEEP=DIR keeps reports
# and logs there, and with CONFORMANCE_REUSE=yes a program whose report is there already is not run again. Peers come from .tools/peers/bin (scripts/peers.sh) or PATH; those that are not there are left out.
# Fails when a case fails without a proxy or against us. As root it runs in a network namespace of its own.
set -euo pipefail
cd "$(dirname "$0")/.."

if [ "$(id -u)" -eq 0 ] && [ -z "${CONFORMANCE_INSIDE:-}" ]; then
  export CONFORMANCE_INSIDE=yes
  exec unshare --net bash -ec 'ip link set lo up; exec "$0" "$@"' "$PWD/scripts/conformance.sh" "$@"
fi

# The network namespace may be without a network, and everything is there already.
cargo build --quiet --offline --locked --package portcullis-conformance
suite=$PWD/target/debug/portcullis-conformance
if [ -z "${PORTCULLIS_BIN:-}" ]; then
  cargo build --quiet --offline --locked --package portcullis
  PORTCULLIS_BIN=$PWD/target/debug/portcullis
fi
ulimit -n "$(ulimit -Hn)"

how=()
programs=()
for argument in "$@"; do
  case "$argument" in
    --quick) how+=(--quick) ;;
    --only=*) how+=("$argument") ;;
    -*) echo "usage: $0 [--quick] [--only=CASE]... [PROGRAM...]" >&2; exit 2 ;;
    *) programs+=("$argument") ;;
  esac
done
# What makes a tunnel's data connections go without TLS, where the agent asks for it too.
plain_channels='tunnel: {channels: plain}'
ours=(server tunnel tunnel-plain two-hops)
write=yes
if [ "${#programs[@]}" -gt 0 ]; then
  write=no
else
  programs=(direct "${ours[@]}" haproxy haproxy-splice nginx nginx-half-close socat rathole rathole-tls bore
    frp frp-nomux chisel wstunnel)
fi

# Silence after which programs that have such a limit end a connection: the cases wait for it.
idle=15
keep=${CONFORMANCE_KEEP:-}
dir=${keep:-$(mktemp -d)}
mkdir -p "$dir"
dir=$(realpath "$dir")
pids=()

# Ends what this script started, by its id.
stop_all() {
  local pid
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  for pid in "${pids[@]}"; do wait "$pid" 2>/dev/null || true; done
  pids=()
}
cleanup() {
  stop_all
  [ -n "$keep" ] || rm -rf "$dir"
}
trap cleanup EXIT

# name, command...: runs in the background with its output in a file.
start() {
  local log=$dir/$program.$1.log
  shift
  "$@" >"$log" 2>&1 &
  pids+=("$!")
}

# port: waits until somebody listens there, else sets failed.
up() {
  local at=$1 i
  for ((i = 0; i < 200; i++)); do
    if ss -Hltn "sport = :$at" | grep -q .; then return 0; fi
    sleep 0.1
  done
  echo "$program does not listen on $at; its output:" >&2
  tail -n 5 "$dir/$program".*.log >&2
  failed=yes
}

# file...: waits until they are there, else sets failed.
there() {
  local i
  for ((i = 0; i < 200; i++)); do
    if [ "$(ls "$@" 2>/dev/null | wc -l)" -eq $# ]; then return 0; fi
    sleep 0.1
  done
  failed=yes
}

peer() { # executable
  local path=$PWD/.tools/peers/bin/$1
  if [ -x "$path" ]; then echo "$path"; else PATH=$PATH:/usr/sbin command -v "$1"; fi
}

# Ports: below those that the kernel draws for outgoing connections, and drawn anew for each program, since
# connections of the one before may still wait to be forgotten.
base=$((12000 + $$ % 90 * 200))
new_ports() {
  base=$((base + 8))
  target=$base public=$((base + 1)) control=$((base + 2)) api=$((base + 3))
  hop=$((base + 4)) second=$((base + 5)) second_api=$((base + 6))
}

# name, agents' port, API's port, arguments...: a server of ours with limits out of the way and a short idle limit.
portcullis_server() {
  local name=$1 agents=$2 api=$3 data=$dir/$program.$1
  shift 3
  mkdir -p "$data"
  # shellcheck disable=SC2154 # set by the programs below
  cat >"$data/server.yml" <<YAML
limits: {connections_per_source_max: 20000, connections_max: 20000, idle_timeout: ${idle}s}
log: {level: warn}
$extra_yaml
YAML
  start "$name" "$PORTCULLIS_BIN" server --config "$data/server.yml" --data-dir "$data/data" --host localhost \
    --agents-listen "127.0.0.1:$agents" --api-listen "127.0.0.1:$api" --port-range "$hop-$hop" "$@"
  there "$data/data/join" "$data/data/admin.key"
}

# upstream, name of the server, public port: an agent of ours.
portcullis_agent() {
  start agent env HOME="$dir" "$PORTCULLIS_BIN" tcp "$1" --authtoken "$(cat "$dir/$program.$2/data/join")" \
    --state-dir "$dir/$program.agent" --web-addr false "${agent_arguments[@]}"
  up "$3"
}

# Each of these starts one program between $public and $target, and sets version, limit and (if not $public) listen.
run_server() {
  portcullis_server edge "$control" "$api" --expose "$public=127.0.0.1:$target"
  up "$public"
  limit=$idle version=$("$PORTCULLIS_BIN" --version)
}
run_tunnel() {
  portcullis_server edge "$control" "$api"
  portcullis_agent "127.0.0.1:$target" edge "$hop"
  listen=$hop limit=$idle version="$("$PORTCULLIS_BIN" --version), TLS"
}
run_tunnel_plain() {
  extra_yaml=$plain_channels agent_arguments=(--channels plain)
  run_tunnel
  version="$("$PORTCULLIS_BIN" --version), plain"
}
run_two_hops() {
  portcullis_server inner "$control" "$api"
  portcullis_agent "127.0.0.1:$target" inner "$hop"
  hop=$((base + 7))
  portcullis_server outer "$second" "$second_api" --expose "$public=127.0.0.1:$((base + 4))"
  up "$public"
  limit=$idle version="$("$PORTCULLIS_BIN" --version), server in front of server and agent"
}
run_haproxy() { # further lines of global, further lines of defaults
  local bin
  bin=$(peer haproxy)
  cat >"$dir/$program.cfg" <<CFG
global
 maxconn 8900
${1:-}
defaults
 mode tcp
 timeout connect 10s
 timeout client ${idle}s
 timeout server ${idle}s
${2:-}
listen conformance
 bind 127.0.0.1:$public
 server target 127.0.0.1:$target
CFG
  start haproxy "$bin" -db -f "$dir/$program.cfg"
  up "$public"
  limit=$idle version=$("$bin" -v | sed -nE '1s/.*version ([^ ]+).*/\1/p')
}
run_nginx() { # further lines of the server
  local bin module=/usr/lib/nginx/modules/ngx_stream_module.so load=""
  bin=$(peer nginx)
  if [ -e "$module" ]; then load="load_module $module;"; fi
  cat >"$dir/$program.conf" <<CONF
$load
daemon off; pid $dir/$program.pid; error_log stderr crit; worker_processes 2;
events { worker_connections 8000; }
stream { server { listen 127.0.0.1:$public; proxy_pass 127.0.0.1:$target; proxy_timeout ${idle}s; ${1:-} } }
CONF
  start nginx "$bin" -e stderr -c "$dir/$program.conf"
  up "$public"
  limit=$idle version=$("$bin" -v 2>&1 | sed 's,.*/,,')
}
run_socat() {
  local bin
  bin=$(peer socat)
  start socat "$bin" "TCP-LISTEN:$public,fork,reuseaddr,backlog=1024,bind=127.0.0.1" "TCP:127.0.0.1:$target"
  up "$public"
  version=$("$bin" -V | sed -nE 's/.*version ([^ ]+).*/\1/p' | head -n 1)
}
run_rathole() { # plain or tls
  local bin near="" far=""
  bin=$(peer rathole)
  if [ "$1" = tls ]; then
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=localhost \
      -addext subjectAltName=DNS:localhost -keyout "$dir/key.pem" -out "$dir/certificate.pem" 2>/dev/null
    openssl pkcs12 -export -inkey "$dir/key.pem" -in "$dir/certificate.pem" -out "$dir/identity.p12" -passout pass:conformance
    near=$(printf '[server.transport]\ntype = "tls"\n[server.transport.tls]\npkcs12 = "%s"\npkcs12_password = "conformance"\n' "$dir/identity.p12")
    far=$(printf '[client.transport]\ntype = "tls"\n[client.transport.tls]\ntrusted_root = "%s"\nhostname = "localhost"\n' "$dir/certificate.pem")
  fi
  printf '[server]\nbind_addr = "127.0.0.1:%s"\ndefault_token = "conformance"\n%s\n[server.services.x]\nbind_addr = "127.0.0.1:%s"\n' \
    "$control" "$near" "$public" >"$dir/$program.server.toml"
  printf '[client]\nremote_addr = "127.0.0.1:%s"\ndefault_token = "conformance"\n%s\n[client.services.x]\nlocal_addr = "127.0.0.1:%s"\n' \
    "$control" "$far" "$target" >"$dir/$program.client.toml"
  start server "$bin" --server "$dir/$program.server.toml"
  up "$control"
  start client "$bin" --client "$dir/$program.client.toml"
  up "$public"
  version=$(noted rathole)
}
run_bore() {
  local bin
  bin=$(peer bore)
  start server "$bin" server --bind-addr 127.7.0.1 --bind-tunnels 127.0.0.1
  up 7835
  start client "$bin" local "$target" --local-host 127.0.0.1 --to 127.7.0.1 --port "$public"
  up "$public"
  version=$(noted bore)
}
run_frp() { # whether connections share one
  local near far
  near=$(peer frps) far=$(peer frpc)
  printf 'bindAddr = "127.0.0.1"\nbindPort = %s\nproxyBindAddr = "127.0.0.1"\nlog.level = "error"\ntransport.tcpMux = %s\n' \
    "$control" "$1" >"$dir/$program.frps.toml"
  printf 'serverAddr = "127.0.0.1"\nserverPort = %s\nlog.level = "error"\ntransport.tcpMux = %s\n[[proxies]]\nname = "x"\ntype = "tcp"\nlocalIP = "127.0.0.1"\nlocalPort = %s\nremotePort = %s\n' \
    "$control" "$1" "$target" "$public" >"$dir/$program.frpc.toml"
  start frps "$near" -c "$dir/$program.frps.toml"
  up "$control"
  start frpc "$far" -c "$dir/$program.frpc.toml"
  up "$public"
  version=$("$near" --version)
}
run_chisel() {
  local bin
  bin=$(peer chisel)
  start server "$bin" server --reverse --host 127.0.0.1 --port "$control"
  up "$control"
  start client "$bin" client "http://127.0.0.1:$control" "R:127.0.0.1:$public:127.0.0.1:$target"
  up "$public"
  version=$(noted chisel)
}
run_wstunnel() {
  local bin
  bin=$(peer wstunnel)
  start server "$bin" server --log-lvl ERROR "wss://127.0.0.1:$control"
  up "$control"
  start client "$bin" client --log-lvl ERROR -R "tcp://127.0.0.1:$public:127.0.0.1:$target" "wss://127.0.0.1:$control"
  up "$public"
  version=$("$bin" --version | awk '{ print $NF }')
}

# name: the version that scripts/peers.sh noted.
noted() {
  awk -F '\t' -v name="$1" '$1 == name { print $2 }' .tools/peers/catalogue 2>/dev/null || true
}

# Why a program cannot be run here; nothing when it can.
missing() {
  local executable
  case "$program" in
    direct | server | tunnel | two-hops) return ;;
    tunnel-plain)
      echo "$plain_channels" >"$dir/plain.yml"
      { "$PORTCULLIS_BIN" config check --server "$dir/plain.yml" && "$PORTCULLIS_BIN" tcp --help | grep -q -- --channels; } >/dev/null 2>&1 || echo "this build has no plain channels"
      return ;;
    haproxy*) executable=haproxy ;;
    nginx*) executable=nginx ;;
    rathole*) executable=rathole ;;
    frp*) executable=frps ;;
    *) executable=$program ;;
  esac
  peer "$executable" >/dev/null || echo "$executable is not installed"
}

launch() {
  case "$program" in
    server) run_server ;;
    tunnel) run_tunnel ;;
    tunnel-plain) run_tunnel_plain ;;
    two-hops) run_two_hops ;;
    haproxy) run_haproxy ;;
    haproxy-splice) run_haproxy $' maxpipes 1000\n tune.bufsize 65536\n tune.pipesize 1048576' $' option splice-request\n option splice-response' ;;
    nginx) run_nginx ;;
    nginx-half-close) run_nginx 'proxy_half_close on;' ;;
    socat) run_socat ;;
    rathole) run_rathole plain ;;
    rathole-tls) run_rathole tls ;;
    bore) run_bore ;;
    frp) run_frp true ;;
    frp-nomux) run_frp false ;;
    chisel) run_chisel ;;
    wstunnel) run_wstunnel ;;
    *) echo "there is no program $program" >&2; return 2 ;;
  esac
}

reports=()
left_out=()
bad=()
for program in "${programs[@]}"; do
  why=$(missing)
  if [ -n "$why" ]; then
    echo "== $program: left out, $why"
    left_out+=(--missing "$program ($why)")
    continue
  fi
  if [ -n "${CONFORMANCE_REUSE:-}" ] && [ -s "$dir/$program.json" ]; then
    echo "== $program: as it was seen before"
    reports+=("$dir/$program.json")
    continue
  fi
  new_ports
  rm -rf "$dir/$program".*
  echo "== $program"
  failed="" version="" limit=0 listen=$public extra_yaml="" agent_arguments=()
  arguments=(--name "$program" "${how[@]}" --output json)
  if [ "$program" = direct ]; then
    arguments+=(--direct --proxy-version "Linux $(uname -r | cut -d- -f1)")
  else
    launch
    if [ -n "$failed" ]; then
      echo "$program did not come up" >&2
      stop_all
      bad+=("$program")
      continue
    fi
    arguments+=(--target "127.0.0.1:$target" --listen "127.0.0.1:$listen" --idle-limit "$limit" --proxy-version "$version")
    # Workers count too.
    for pid in "${pids[@]}"; do
      for one in "$pid" $(cat "/proc/$pid/task/$pid/children" 2>/dev/null); do
        arguments+=(--pid "$one")
      done
    done
  fi
  status=0
  "$suite" "${arguments[@]}" >"$dir/$program.json" || status=$?
  stop_all
  if [ "$status" -gt 1 ]; then exit "$status"; fi
  reports+=("$dir/$program.json")
  case " direct ${ours[*]} " in
    *" $program "*) [ "$status" -eq 0 ] || bad+=("$program") ;;
  esac
done

if [ "$write" = yes ]; then
  "$suite" matrix "${left_out[@]}" "${reports[@]}" >docs/conformance/tcp.md
  echo "written: docs/conformance/tcp.md"
fi
if [ "${#bad[@]}" -gt 0 ]; then
  echo "these must pass and did not: ${bad[*]}" >&2
  exit 1
fi

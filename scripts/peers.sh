#!/usr/bin/env bash
# Builds or installs the programs that users would pick instead of Portcullis, each at one version, with
# their executables in .tools/peers/bin: HAProxy and nginx from Debian's packages, rathole and bore from
# crates.io, frp and chisel as Go modules. What is there already is left alone; what cannot be had is said
# in one line and fails nothing. `scripts/peers.sh list` says what is there: name, version, path (or why not).
# How each is run: docs/bench/peers.md.
set -euo pipefail
cd "$(dirname "$0")/.."

root=$PWD/.tools/peers
bin=$root/bin
# name, version, path or "-", and why it is missing; tab-separated, a line for each.
catalogue=$root/catalogue

rathole=0.5.0
bore=0.6.0
frp=v0.61.1
chisel=v1.10.1

case "${1:-install}" in
  install) ;;
  list)
    [ -f "$catalogue" ] || { echo "nothing is installed; run scripts/peers.sh" >&2; exit 1; }
    column -t -s $'\t' "$catalogue"
    exit ;;
  *) echo "usage: $0 [install|list]" >&2; exit 2 ;;
esac

mkdir -p "$bin" "$root/lib" "$root/build"
# Two runs beside each other would build the same twice.
exec 9>"$root/lock"
flock 9
log=$root/log
: >"$log"
new=$(mktemp "$root/catalogue.XXXXXX")
trap 'rm -f "$new"' EXIT

have() { # name, version, path
  printf '%s\t%s\t%s\n' "$1" "$2" "$3" >>"$new"
  echo "$1 $2: $3"
}

lacks() { # name, version, why
  printf '%s\t%s\t-\t%s\n' "$1" "$2" "$3" >>"$new"
  echo "$1 $2: not there: $3"
}

# Runs quietly and at low priority: others may be measuring or building.
quietly() {
  { echo "+ $*"; nice -n 10 "$@"; } >>"$log" 2>&1
}

# The last line of the log that tells what was wrong.
reason() {
  grep -iE 'error|forbidden|not available|not found|unable|no space|could not' "$log" | tail -n 1 | tr '\t' ' ' | sed 's/^ *//' | cut -c 1-200
}

packages() {
  if ! scripts/install-deps.sh peers >>"$log" 2>&1; then
    echo "installing Debian's packages failed; the log is $log" >&2
  fi
  local path
  if path=$(command -v haproxy || ls /usr/sbin/haproxy 2>/dev/null); then
    ln -sf "$path" "$bin/haproxy"
    have haproxy "$("$path" -v | sed -nE '1s/.*version ([^ ]+).*/\1/p')" "$bin/haproxy"
  else
    lacks haproxy - "no package haproxy"
  fi
  # Debian's nginx has its stream module as a file of its own.
  local module=/usr/lib/nginx/modules/ngx_stream_module.so
  rm -f "$root/lib/ngx_stream_module.so"
  [ -f "$module" ] && ln -s "$module" "$root/lib/ngx_stream_module.so"
  if ! path=$(command -v nginx || ls /usr/sbin/nginx 2>/dev/null); then
    lacks nginx - "no package nginx-light"
  elif [ ! -e "$root/lib/ngx_stream_module.so" ] && ! "$path" -V 2>&1 | grep -qE -- '--with-stream( |$)'; then
    lacks nginx - "it has no stream module"
  else
    ln -sf "$path" "$bin/nginx"
    have nginx "$("$path" -v 2>&1 | sed 's,.*/,,')" "$bin/nginx"
  fi
}

crate() { # executable, crate, version, further arguments of cargo install...
  local name=$1 crate=$2 version=$3; shift 3
  if ! { [ -x "$bin/$name" ] && grep -qF "\"$crate $version " "$root/.crates.toml" 2>/dev/null; }; then
    echo "building $crate $version"
    if ! quietly env CARGO_TARGET_DIR="$root/build" cargo install "$crate" --version "$version" --root "$root" -j "${PEERS_JOBS:-1}" "$@"; then
      lacks "$name" "$version" "$(reason)"
      return
    fi
  fi
  have "$name" "$version" "$bin/$name"
}

go_command() {
  if [ -x .tools/go/bin/go ]; then echo "$PWD/.tools/go/bin/go"; else command -v go; fi
}

# Builds executables of a Go module from the module's own tree, with its own `replace` lines, which
# `go install module@version` would refuse.
module() { # name, module, version, "executable=package"...
  local name=$1 module=$2 version=$3; shift 3
  local mark=$root/build/$name-$version targets=("$@") go tree target
  lack() { # why: none of its executables is there
    for target in "${targets[@]}"; do lacks "${target%%=*}" "$version" "$1"; done
  }
  if [ ! -e "$mark" ] || [ ! -x "$bin/${1%%=*}" ]; then
    if ! go=$(go_command); then
      lack "no Go"
      return
    fi
    echo "building $module $version"
    if ! quietly "$go" mod download "$module@$version"; then
      lack "$(reason)"
      return
    fi
    tree=$root/build/$name
    rm -rf "$tree"
    cp -r "$("$go" env GOMODCACHE)/$module@$version" "$tree"
    chmod -R u+w "$tree"
    for target in "$@"; do
      if ! quietly env -C "$tree" "$go" build -p 1 -trimpath -ldflags '-s -w' -o "$bin/${target%%=*}" "./${target#*=}"; then
        lack "$(reason)"
        return
      fi
    done
    rm -rf "$tree"
    touch "$mark"
  fi
  for target in "$@"; do
    have "${target%%=*}" "$version" "$bin/${target%%=*}"
  done
}

packages
# Without --locked: the lock file of 0.5.0 names a release of `time` that today's compiler refuses. Its
# TLS is native-tls (OpenSSL); noise, websocket and hot reload are not measured.
crate rathole rathole "$rathole" --no-default-features --features server,client,tls
crate bore bore-cli "$bore" --locked
module frp github.com/fatedier/frp "$frp" frps=cmd/frps frpc=cmd/frpc
module chisel github.com/jpillora/chisel "$chisel" chisel=.
# No registry has it: gone from crates.io, and npm's and PyPI's packages of that name are other programs.
# One of its release's executables, put there by hand, is used.
if [ -x "$bin/wstunnel" ]; then
  have wstunnel "$("$bin/wstunnel" --version | awk '{ print $NF }')" "$bin/wstunnel"
else
  lacks wstunnel 10 "in no registry; its release's executable in .tools/peers/bin would be used"
fi
chmod 644 "$new"
mv "$new" "$catalogue"
trap - EXIT

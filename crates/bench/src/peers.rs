//! The programs that users would pick instead, as targets: where `scripts/peers.sh` put them, and one
//! file each that starts it with its own configuration. `docs/bench/peers.md` says which, and why so.
//!
//! Must never: tune a peer beyond what its name in [`NAMES`] says, or leave a process behind.

mod bore;
mod chisel;
mod frp;
mod haproxy;
mod nginx;
mod program;
mod rathole;
pub mod smoke;
mod wstunnel;

use std::net::SocketAddr;

use crate::target::{Map, Running, Shape};

/// Names in reports, in order, and what each is.
pub const NAMES: &[(&str, Shape)] = &[
    ("haproxy", Shape::Forward),
    ("haproxy-tuned", Shape::Forward),
    ("nginx", Shape::Forward),
    ("rathole", Shape::Tunnel),
    ("rathole-tls", Shape::Tunnel),
    ("bore", Shape::Tunnel),
    ("frp-mux", Shape::Tunnel),
    ("frp-mux-tls", Shape::Tunnel),
    ("frp-nomux", Shape::Tunnel),
    ("chisel", Shape::Tunnel),
    ("wstunnel", Shape::Tunnel),
    ("wstunnel-tls", Shape::Tunnel),
];

/// Starts the peer of that name in front of `backend`. The two ends of a tunnel find each other
/// through `map`: where the near end listens goes in, where the far end is to connect comes out. bore
/// always dials one port, so a relay that is to stand in its way must listen on the port that it was
/// given, at another loopback address (all of 127.0.0.0/8 is this machine).
///
/// # Errors
/// When it is not installed, does not come up, or cannot dial where `map` says; the report says why.
pub async fn start(name: &str, backend: SocketAddr, map: Map<'_>) -> anyhow::Result<Running> {
    match name {
        "haproxy" => haproxy::start(backend, haproxy::Tuning::AsItComes).await,
        "haproxy-tuned" => haproxy::start(backend, haproxy::Tuning::Splice).await,
        "nginx" => nginx::start(backend).await,
        "rathole" => rathole::start(backend, map, rathole::Transport::Plain).await,
        "rathole-tls" => rathole::start(backend, map, rathole::Transport::Tls).await,
        "bore" => bore::start(backend, map).await,
        "frp-mux" => frp::start(backend, map, frp::MUX).await,
        "frp-mux-tls" => frp::start(backend, map, frp::MUX_TLS).await,
        "frp-nomux" => frp::start(backend, map, frp::NO_MUX).await,
        "chisel" => chisel::start(backend, map).await,
        "wstunnel" => wstunnel::start(backend, map, "ws").await,
        "wstunnel-tls" => wstunnel::start(backend, map, "wss").await,
        _ => anyhow::bail!("there is no peer {name}"),
    }
}

/// Why a peer cannot be started here, in a few words; `None` when its executables are there (or the
/// name is not a peer's).
pub fn missing(name: &str) -> Option<String> {
    executables(name)
        .iter()
        .find_map(|executable| program::missing(executable))
}

/// The version that `scripts/peers.sh` noted for a peer.
pub fn version(name: &str) -> Option<String> {
    program::version(executables(name).first()?)
}

/// What a peer runs.
fn executables(name: &str) -> &'static [&'static str] {
    match name {
        "haproxy" | "haproxy-tuned" => &["haproxy"],
        "nginx" => &["nginx"],
        "rathole" | "rathole-tls" => &["rathole"],
        "bore" => &["bore"],
        "frp-mux" | "frp-mux-tls" | "frp-nomux" => &["frps", "frpc"],
        "chisel" => &["chisel"],
        "wstunnel" | "wstunnel-tls" => &["wstunnel"],
        _ => &[],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_peer_has_an_executable() {
        for (name, _) in NAMES {
            assert!(!executables(name).is_empty(), "{name}");
        }
    }
}

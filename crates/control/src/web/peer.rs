//! The other end of the HTTP connection.

use std::net::{IpAddr, SocketAddr};

use axum::http::{HeaderMap, header};

/// The socket's peer, put into every request's extensions by the server.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    pub(crate) addr: SocketAddr,
    /// Whether the connection is TLS.
    pub(crate) tls: bool,
}

impl Peer {
    pub(crate) fn ip(&self) -> IpAddr {
        self.addr.ip().to_canonical()
    }

    /// Whether the request comes from this machine itself, not through a proxy on it, and not from a web
    /// page that has its own name resolve to this machine.
    pub(crate) fn is_local(&self, headers: &HeaderMap) -> bool {
        let relayed = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
        let named = headers
            .get(header::HOST)
            .is_none_or(|host| host.to_str().is_ok_and(is_loopback_name));
        self.ip().is_loopback() && !relayed && named
    }
}

/// Whether a `Host` header names loopback, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => host.split_once(':').map_or(host, |(name, _)| name),
    };
    let ip = name.parse::<IpAddr>();
    name.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip| ip.to_canonical().is_loopback())
}

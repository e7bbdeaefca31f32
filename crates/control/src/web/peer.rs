//! The other end of the HTTP connection.

use std::net::{IpAddr, SocketAddr};

use axum::http::HeaderMap;

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

    /// Whether the request comes from this machine itself, and not through a proxy on it.
    pub(crate) fn is_local(&self, headers: &HeaderMap) -> bool {
        let relayed = headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
        self.ip().is_loopback() && !relayed
    }
}

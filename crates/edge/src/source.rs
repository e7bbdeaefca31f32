//! Who the client is: the socket's peer, or what a trusted peer's PROXY protocol header says. A trusted
//! peer must send one, in time; from anyone else a header is payload.

use std::net::SocketAddr;

use portcullis_net::proxy_protocol;
use portcullis_telemetry::{CloseReason, Ended};
use tokio::time::Instant;

use crate::client::ClientIo;
use crate::defaults::PROXY_HEADER_TIMEOUT;
use crate::node::Node;

/// The two ends of a connection, as policies and upstreams are told them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Source {
    /// The client.
    pub(crate) client: SocketAddr,
    /// What the client connected to.
    pub(crate) server: SocketAddr,
}

/// Finds out. Takes the header, and nothing behind it, off the stream.
///
/// # Errors
/// `proxy_header_invalid`, with what is wrong with the header.
pub(crate) async fn read(
    node: &Node,
    client: &ClientIo,
    peer: SocketAddr,
    listener: SocketAddr,
) -> Result<Source, Ended> {
    let socket = Source {
        client: peer,
        server: listener,
    };
    let ClientIo::Plain(client) = client else {
        return Ok(socket); // it comes before anything is laid over the socket
    };
    if !node.trusts(peer.ip()) {
        return Ok(socket);
    }
    let deadline = Instant::now() + PROXY_HEADER_TIMEOUT;
    let header = proxy_protocol::read_header(client.socket(), deadline)
        .await
        .map_err(|error| Ended::with(CloseReason::ProxyHeaderInvalid, error))?;
    // LOCAL and UNKNOWN: the balancer speaks for itself, such as a health check.
    Ok(header.addresses.map_or(socket, |(client, server)| Source {
        client: canonical(client),
        server: canonical(server),
    }))
}

fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

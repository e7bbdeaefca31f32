//! PROXY protocol v1 and v2, in and out
//! (<https://www.haproxy.org/download/2.9/doc/proxy-protocol.txt>).
//!
//! Must never: take a byte of the stream behind the header.

use std::net::{IpAddr, SocketAddr};

use portcullis_model::{Code, Error};
use tokio::net::TcpStream;
use tokio::time::Instant;

mod encode;
mod parse;
mod read;

pub use encode::encode;
pub use parse::parse;

/// Which form of the header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Version {
    /// A line of text.
    V1,
    /// Binary, with TLVs.
    V2,
}

/// An additional field of a v2 header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlv {
    /// `PP2_TYPE_…`
    pub kind: u8,
    /// Its value.
    pub value: Vec<u8>,
}

/// A header that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Header {
    /// Its form.
    pub version: Version,
    /// Client and server address. `None` for LOCAL and UNKNOWN, and for families that are not
    /// TCP over IP: the socket's own addresses are the truth then.
    pub addresses: Option<(SocketAddr, SocketAddr)>,
    /// Its TLVs, in order.
    pub tlvs: Vec<Tlv>,
}

/// Reads the header at the start of a connection and not a byte more.
///
/// # Errors
/// `PTC_PROXY_HEADER_INVALID`: malformed, too long, cut off, or not there by the deadline.
pub async fn read_header(stream: &TcpStream, deadline: Instant) -> Result<Header, Error> {
    let bytes = match tokio::time::timeout_at(deadline, read::header(stream)).await {
        Ok(bytes) => bytes?,
        Err(_) => return Err(invalid("it did not come in time")),
    };
    match parse(&bytes)? {
        Some((mut header, taken)) if taken == bytes.len() => {
            header.addresses = header
                .addresses
                .map(|(client, server)| (plain(client), plain(server)));
            Ok(header)
        }
        Some(_) | None => Err(invalid("its length does not fit its contents")),
    }
}

/// The one code of this module, with what was wrong.
fn invalid(what: impl std::fmt::Display) -> Error {
    Error::new(
        Code::ProxyHeaderInvalid,
        format!("the PROXY protocol header is not valid: {what}"),
    )
}

/// An IPv4 address in IPv6 clothes is an IPv4 address: rules for the one must not miss the other.
fn plain(addr: SocketAddr) -> SocketAddr {
    SocketAddr::new(addr.ip().to_canonical(), addr.port())
}

/// Both as IPv4 or both as IPv6: a header has one family.
fn same_family(client: SocketAddr, server: SocketAddr) -> (SocketAddr, SocketAddr) {
    let (client, server) = (plain(client), plain(server));
    if client.is_ipv4() == server.is_ipv4() {
        return (client, server);
    }
    let mapped = |addr: SocketAddr| match addr.ip() {
        IpAddr::V4(ip) => SocketAddr::new(ip.to_ipv6_mapped().into(), addr.port()),
        IpAddr::V6(_) => addr,
    };
    (mapped(client), mapped(server))
}

#[cfg(test)]
mod tests;

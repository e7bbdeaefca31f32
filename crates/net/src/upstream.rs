//! Upstreams: what a user may write, and dialling it.
//!
//! Must never: fall back from TLS to plain TCP, or retry after a byte has moved.

use std::fmt;
use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};

use portcullis_model::{Code, Error};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::relay::RelayIo;
use crate::resolve::Resolver;
use crate::socket::{TcpConn, UnixConn};

/// Where connections are forwarded to.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Upstream {
    /// Plain TCP.
    Tcp(Target),
    /// TLS over TCP.
    Tls(Target, UpstreamTls),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A host to dial.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Target {
    /// A name or literal address, and a port.
    HostPort {
        /// Lower case; a literal IPv6 address without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// The name of SRV records, which give hosts and ports.
    Service(String),
}

/// How the upstream's certificate is checked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct UpstreamTls {
    /// `false` accepts any certificate: `?verify=false`.
    pub verify: bool,
    /// CAs to trust instead of the system's and the public ones: `?ca_file=/path`.
    pub ca_file: Option<PathBuf>,
    /// The name to ask for and to verify, if not the host: `?server_name=name`.
    pub server_name: Option<String>,
}

impl Default for UpstreamTls {
    fn default() -> Self {
        Self { verify: true, ca_file: None, server_name: None }
    }
}

impl FromStr for Upstream {
    type Err = Error;
    /// `PORT`, `HOST:PORT`, `tcp://HOST:PORT`, `tls://HOST:PORT[?verify=false&ca_file=…&server_name=…]`,
    /// `unix:/path`, and `srv:NAME` or `tcp://_service._tcp.name` for SRV records.
    fn from_str(text: &str) -> Result<Self, Error> {
        Err(Error::new(Code::UpstreamInvalid, text))
    }
}

impl fmt::Display for Upstream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self:?}")
    }
}

/// A connection to an upstream.
pub struct UpstreamStream(TcpConn, UnixConn);

impl UpstreamStream {
    /// The address that was dialled, `10.0.0.7:5432` or a path.
    pub fn peer(&self) -> &str {
        ""
    }
}

/// Connects to an upstream by the deadline: every address in its order, each with a fair share of
/// the time. `proxy_header` is written first, before TLS.
///
/// # Errors
/// `PTC_UPSTREAM_REFUSED`, `…_TIMEOUT`, `…_UNRESOLVED`, `…_TLS` or `…_UNREACHABLE` of the last
/// address that was tried; `PTC_FILE_LIMIT` when no descriptor is left.
pub async fn dial(
    upstream: &Upstream,
    resolver: &Resolver,
    deadline: Instant,
    proxy_header: Option<&[u8]>,
) -> Result<UpstreamStream, Error> {
    let _ = (resolver, deadline, proxy_header);
    Err(Error::internal(upstream))
}

impl AsyncRead for UpstreamStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl RelayIo for UpstreamStream {
    fn reset(&mut self) {}
    fn poll_broken(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

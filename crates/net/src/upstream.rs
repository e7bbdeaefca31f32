//! Upstreams: what a user may write, and dialling it.
//!
//! Must never: fall back from TLS to plain TCP, or retry after a byte has moved.

use std::path::PathBuf;

mod dial;
pub mod health;
mod stream;
mod text;

pub use dial::dial;
pub use stream::UpstreamStream;

/// Where connections are forwarded to. Its text forms are `PORT`, `HOST:PORT`, `tcp://HOST:PORT`,
/// `tls://HOST:PORT[?verify=false&ca_file=…&server_name=…]`, `unix:/path`, and `srv:NAME` or
/// `tcp://_service._tcp.name` (or with `tls://`) for SRV records.
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
        Self {
            verify: true,
            ca_file: None,
            server_name: None,
        }
    }
}

#[cfg(test)]
mod tests;

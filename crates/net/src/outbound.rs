//! The agent's way out: directly, or through an HTTP (CONNECT) or SOCKS5 proxy.
//!
//! Must never: print a proxy's password.

use std::str::FromStr;

use portcullis_model::{Code, Error, Secret};
use tokio::net::TcpStream;
use tokio::time::Instant;

/// A proxy, as `http://[user:password@]host:port` or `socks5://[user:password@]host:port`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProxyUrl {
    /// What it speaks.
    pub kind: ProxyKind,
    /// `host:port`.
    pub address: String,
    /// User and password.
    pub login: Option<(String, Secret)>,
}

/// What a proxy speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProxyKind {
    /// HTTP CONNECT.
    Http,
    /// SOCKS5; the proxy resolves names.
    Socks5,
}

impl FromStr for ProxyUrl {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        let _ = text;
        Err(Error::of(Code::ConfigInvalid))
    }
}

/// Connects to `server` (`host:port`) by the deadline.
///
/// # Errors
/// `PTC_DNS_FAILED`, `PTC_SERVER_UNREACHABLE`, `PTC_PROXY_CONNECT_FAILED`.
pub async fn connect(server: &str, proxy: Option<&ProxyUrl>, deadline: Instant) -> Result<TcpStream, Error> {
    let _ = (proxy, deadline);
    Err(Error::internal(server))
}

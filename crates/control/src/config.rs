//! What the API is told at start.
//!
//! Must never: read files or the environment (but for the PEM files that [`Tls::Files`] names).

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use portcullis_net::tls::CertAuthority;

use crate::defaults;

/// Whether and how the API proves itself.
#[derive(Clone, Default)]
pub enum Tls {
    /// Plain HTTP; on loopback only.
    #[default]
    Off,
    /// PEM files, read at start.
    Files {
        /// The certificate and what leads to its root, leaf first.
        cert: PathBuf,
        /// The private key.
        key: PathBuf,
    },
    /// A leaf of the server's own CA, made at start.
    OwnCa {
        /// The CA.
        authority: CertAuthority,
        /// Host names that clients call the API by.
        names: Vec<String>,
        /// IPs that clients call the API by.
        ips: Vec<IpAddr>,
    },
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Off => f.write_str("off"),
            Self::Files { cert, .. } => write!(f, "files ({})", cert.display()),
            Self::OwnCa { names, .. } => write!(f, "own CA ({})", names.join(", ")),
        }
    }
}

/// Everything the API is told. Start from [`ControlConfig::new`].
#[derive(Debug, Clone)]
pub struct ControlConfig {
    /// Where to listen; port 0 draws one.
    pub listen: SocketAddr,
    /// Needed anywhere but on loopback.
    pub tls: Tls,
    /// What `uri`s start with; `None`: what the request's `Host` says.
    pub base_url: Option<String>,
    /// This node's name.
    pub node: String,
    /// This node's region.
    pub region: String,
    /// The server's version, for `/status`.
    pub version: String,
    /// Whether `/metrics` is there.
    pub metrics: bool,
    /// Whether IP restrictions of type `api` are asked. Off is for who has locked themselves out.
    pub ip_restrictions: bool,
    /// Requests of one key in a rolling minute; 0: no limit.
    pub rate_limit_per_minute: u32,
    /// Requests of one key at once; 0: no limit.
    pub concurrency_max: usize,
    /// Bytes of a body.
    pub body_bytes_max: usize,
    /// HTTP connections at once.
    pub connections_max: usize,
    /// How long a connection may take over a request's head.
    pub head_timeout: Duration,
    /// How long a client may take nothing of its answers.
    pub stall_timeout: Duration,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// How long a read waits for the revision it asks for.
    pub revision_wait: Duration,
}

impl ControlConfig {
    /// The defaults of a node: loopback, a port drawn at random.
    pub fn new(node: impl Into<String>, region: impl Into<String>) -> Self {
        Self {
            listen: SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0),
            tls: Tls::Off,
            base_url: None,
            node: node.into(),
            region: region.into(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            metrics: true,
            ip_restrictions: true,
            rate_limit_per_minute: defaults::RATE_LIMIT_PER_MINUTE,
            concurrency_max: defaults::CONCURRENCY_MAX,
            body_bytes_max: defaults::BODY_BYTES_MAX,
            connections_max: defaults::CONNECTIONS_MAX,
            head_timeout: defaults::HEAD_TIMEOUT,
            stall_timeout: defaults::STALL_TIMEOUT,
            request_timeout: defaults::REQUEST_TIMEOUT,
            revision_wait: defaults::REVISION_WAIT,
        }
    }
}

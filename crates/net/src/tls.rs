//! TLS between agents and edges, of the API, and towards `tls://` upstreams: rustls with aws-lc-rs,
//! our own CA and its pin.
//!
//! Must never: accept a certificate that was not verified unless the user wrote `verify=false`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_model::Error;
use portcullis_model::join::ServerTrust;
use rustls::{ClientConfig, ServerConfig};
use tokio::net::TcpStream;
use tokio::time::Instant;

use crate::seal::MasterKey;
use crate::socket::TcpConn;

/// ALPN of the agent port.
pub const ALPN: &[u8] = portcullis_proto::defaults::ALPN;

/// A TLS connection of either end, after its handshake.
pub type Stream = tokio_rustls::TlsStream<TcpConn>;

/// How a server proves itself to a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trust {
    /// Its chain holds the CA whose public key (SubjectPublicKeyInfo, DER) has this SHA-256, and the
    /// leaf was issued by that CA. The host name is not compared: the pin is the stronger statement,
    /// and it lets an agent reach its server by any name or address.
    Pin([u8; 32]),
    /// A certificate of a public CA, for the server's host name.
    Web,
    /// A certificate of one of the CAs in a PEM file, for the server's host name.
    CaFile(PathBuf),
}

impl From<ServerTrust> for Trust {
    fn from(trust: ServerTrust) -> Self {
        match trust {
            ServerTrust::Pin(hash) => Self::Pin(hash),
            ServerTrust::Web => Self::Web,
        }
    }
}

/// The server's own CA.
#[derive(Clone)]
pub struct CertAuthority(());

impl CertAuthority {
    /// Reads `ca.pem` and `ca.key.sealed` in a data directory, or makes them at first start.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID`, or a `PTC_STORE_…` code when the files cannot be read or written.
    pub fn load_or_create(data_dir: &Path, key: &MasterKey) -> Result<Self, Error> {
        let _ = key;
        Err(Error::internal(data_dir.display()))
    }

    /// SHA-256 of the CA's public key: what a join string pins.
    pub fn pin(&self) -> [u8; 32] {
        [0; 32]
    }

    /// The CA's certificate, to hand to clients that take a CA file.
    pub fn certificate_pem(&self) -> &str {
        ""
    }
}

/// What a server's TLS is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The agent port: TLS 1.3 only, ALPN `portcullis/1`.
    Agents,
    /// HTTP: TLS 1.2 and 1.3, ALPN `http/1.1`.
    Http,
}

/// TLS of a server with a certificate of our own CA for the names and addresses. The certificate is
/// issued now and again in memory before it expires.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when a name cannot stand in a certificate.
pub fn server_config(
    authority: &CertAuthority,
    names: &[String],
    ips: &[IpAddr],
    purpose: Purpose,
) -> Result<Arc<ServerConfig>, Error> {
    let _ = (authority, names, ips, purpose);
    Err(Error::internal("tls"))
}

/// TLS of a server with a certificate chain and key from PEM files.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, saying which file and what is wrong with it.
pub fn server_config_from_files(cert: &Path, key: &Path, purpose: Purpose) -> Result<Arc<ServerConfig>, Error> {
    let _ = (cert, key, purpose);
    Err(Error::internal("tls"))
}

/// TLS of an agent towards its server. Make it once: it remembers sessions for resumption.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when a CA file cannot be used.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let _ = trust;
    Err(Error::internal("tls"))
}

/// SHA-256 of the public key (SubjectPublicKeyInfo, DER) of a certificate in DER.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when it is not a certificate.
pub fn spki_sha256(certificate: &[u8]) -> Result<[u8; 32], Error> {
    let _ = certificate;
    Err(Error::internal("tls"))
}

/// The server's side of a handshake, by the deadline.
///
/// # Errors
/// The peer's or the handshake's; a deadline that passed is `TimedOut`.
pub async fn accept(stream: TcpStream, config: Arc<ServerConfig>, deadline: Instant) -> std::io::Result<Stream> {
    let _ = (stream, config, deadline);
    Err(std::io::ErrorKind::Other.into())
}

/// The client's side of a handshake, by the deadline. `server` is the host, with or without port.
///
/// # Errors
/// `PTC_SERVER_UNTRUSTED` when the server's certificate is not the one that is trusted,
/// `PTC_SERVER_UNREACHABLE` otherwise.
pub async fn connect(
    stream: TcpStream,
    config: Arc<ClientConfig>,
    server: &str,
    deadline: Instant,
) -> Result<Stream, Error> {
    let _ = (stream, config, server, deadline);
    Err(Error::internal("tls"))
}

/// The bytes of the TLS exporter that a channel's MAC covers.
///
/// # Errors
/// When the handshake is not complete.
pub fn exporter(stream: &Stream) -> Result<[u8; portcullis_proto::defaults::EXPORTER_BYTES], Error> {
    let _ = stream;
    Err(Error::internal("tls"))
}

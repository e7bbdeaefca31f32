//! TLS between agents and edges, of the API, and towards `tls://` upstreams: rustls with aws-lc-rs,
//! our own CA and its pin.
//!
//! Must never: accept a certificate that was not verified unless the user wrote `verify=false`.

use std::fmt::Display;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use portcullis_model::join::ServerTrust;
use portcullis_model::{Code, Error};
use portcullis_proto::defaults::{EXPORTER_BYTES, EXPORTER_LABEL};
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::{Ticketer, default_provider};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::ParsedCertificate;
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, ServerConfig, SupportedProtocolVersion};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};
use tokio_rustls::{TlsAcceptor, TlsConnector, TlsStream};

use crate::defaults::PEM_FILE_BYTES_MAX;
use crate::files;
use crate::socket::TcpConn;

pub mod acme;
mod authority;
pub mod certificate;
mod client;
mod managed;
mod terminate;
mod verify;
mod wire;

pub use authority::CertAuthority;
pub use client::client_config;
pub(crate) use client::{Roots, upstream_config};
pub use managed::Managed;
pub use terminate::{
    ClientAuth, ClientVerification, Handshake, NotTerminated, ServerIdentity, Setup, Terminator,
    TlsServer, terminate,
};
pub use wire::Wire;

/// ALPN of the agent port.
pub const ALPN: &[u8] = portcullis_proto::defaults::ALPN;

/// A TLS connection of either end, after its handshake.
pub type Stream = TlsStream<Wire>;

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

/// What a server's TLS is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// The agent port: TLS 1.3 only, ALPN `portcullis/1`.
    Agents,
    /// HTTP: TLS 1.2 and 1.3, ALPN `http/1.1`.
    Http,
}

impl Purpose {
    fn versions(self) -> &'static [&'static SupportedProtocolVersion] {
        static AGENTS: [&SupportedProtocolVersion; 1] = [&TLS13];
        static HTTP: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
        match self {
            Self::Agents => &AGENTS,
            Self::Http => &HTTP,
        }
    }

    fn alpn(self) -> Vec<Vec<u8>> {
        match self {
            Self::Agents => vec![ALPN.to_vec()],
            Self::Http => vec![b"http/1.1".to_vec()],
        }
    }
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
    let leaf = authority::OwnLeaf::new(authority, names, ips)?;
    let config = server_builder(purpose)?
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(leaf));
    finish_server(config, purpose)
}

/// TLS of a server with a certificate chain and key from PEM files.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, saying which file and what is wrong with it.
pub fn server_config_from_files(
    cert: &Path,
    key: &Path,
    purpose: Purpose,
) -> Result<Arc<ServerConfig>, Error> {
    let chain = certificates(cert)?;
    let key_pem = read_pem(key)?;
    let private = PrivateKeyDer::from_pem_slice(&key_pem).map_err(|error| {
        invalid(
            key,
            &format!("it holds no private key in PEM form ({error})"),
        )
    })?;
    let config = server_builder(purpose)?
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .map_err(|error| {
            let text = format!(
                "{} and {} do not make a server certificate: {error}",
                cert.display(),
                key.display()
            );
            Error::new(Code::CertificateInvalid, text)
        })?;
    finish_server(config, purpose)
}

type ServerBuilder = rustls::ConfigBuilder<ServerConfig, rustls::WantsVerifier>;

fn server_builder(purpose: Purpose) -> Result<ServerBuilder, Error> {
    ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(purpose.versions())
        .map_err(Error::internal)
}

fn finish_server(mut config: ServerConfig, purpose: Purpose) -> Result<Arc<ServerConfig>, Error> {
    config.alpn_protocols = purpose.alpn();
    config.ticketer = Ticketer::new().map_err(Error::internal)?;
    Ok(Arc::new(config))
}

/// SHA-256 of the public key (SubjectPublicKeyInfo, DER) of a certificate in DER.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when it is not a certificate.
pub fn spki_sha256(certificate: &[u8]) -> Result<[u8; 32], Error> {
    let spki = spki_of(&CertificateDer::from(certificate)).map_err(|error| {
        Error::new(
            Code::CertificateInvalid,
            format!("not a certificate: {error}"),
        )
    })?;
    Ok(sha256(&spki))
}

fn spki_of(certificate: &CertificateDer<'_>) -> Result<Vec<u8>, rustls::Error> {
    Ok(ParsedCertificate::try_from(certificate)?
        .subject_public_key_info()
        .to_vec())
}

fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes).as_ref());
    hash
}

/// The server's side of a handshake, by the deadline. On the agent port the peer must speak
/// `portcullis/1`.
///
/// # Errors
/// The peer's or the handshake's; a deadline that passed is `TimedOut`.
pub async fn accept(
    stream: TcpStream,
    config: Arc<ServerConfig>,
    deadline: Instant,
) -> io::Result<Stream> {
    let ours = config
        .alpn_protocols
        .iter()
        .any(|protocol| protocol == ALPN);
    let handshake = TlsAcceptor::from(config).accept(Wire::new(TcpConn::new(stream)));
    // Boxed: a handshake's state is large and gone before the connection's life begins.
    let stream = timeout_at(deadline, Box::pin(handshake))
        .await
        .map_err(|_| io::ErrorKind::TimedOut)??;
    if ours && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidData,
            "the peer does not speak portcullis/1",
        ));
    }
    Ok(stream.into())
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
    let failed =
        |code, what: &str| Error::new(code, format!("cannot reach the server {server}: {what}"));
    let ours = config
        .alpn_protocols
        .iter()
        .any(|protocol| protocol == ALPN);
    let name = server_name(server)?;
    let handshake = TlsConnector::from(config).connect(name, Wire::new(TcpConn::new(stream)));
    let stream = match timeout_at(deadline, Box::pin(handshake)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return Err(explain_client(server, &error)),
        Err(_) => {
            return Err(failed(
                Code::ServerUnreachable,
                "the TLS handshake took too long",
            ));
        }
    };
    if ours && stream.get_ref().1.alpn_protocol() != Some(ALPN) {
        return Err(failed(
            Code::ServerUnreachable,
            "it speaks TLS, but is not a Portcullis agent port",
        ));
    }
    Ok(stream.into())
}

fn explain_client(server: &str, error: &io::Error) -> Error {
    use rustls::{AlertDescription, Error as Tls};
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<Tls>());
    match inner {
        Some(Tls::InvalidCertificate(why)) => {
            let text =
                format!("the certificate of {server} is not the one that is trusted ({why})");
            Error::new(Code::ServerUntrusted, text)
        }
        Some(Tls::AlertReceived(AlertDescription::NoApplicationProtocol)) => Error::new(
            Code::ServerUnreachable,
            format!(
                "cannot reach the server {server}: it speaks TLS, but is not a Portcullis agent port"
            ),
        ),
        _ => Error::new(
            Code::ServerUnreachable,
            format!("cannot reach the server {server}: the TLS handshake failed: {error}"),
        ),
    }
}

/// The host of `host`, `host:port`, `[v6]` or `[v6]:port`, as TLS names it.
fn server_name(server: &str) -> Result<ServerName<'static>, Error> {
    let host = match server
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        Some((v6, _)) => v6,
        None if server.matches(':').count() > 1 => server,
        None => server.split_once(':').map_or(server, |(host, _)| host),
    };
    ServerName::try_from(host.to_owned()).map_err(|_| {
        Error::new(
            Code::ServerUnreachable,
            format!("`{host}` is not a host name or IP address"),
        )
    })
}

/// The bytes of the TLS exporter that a channel's MAC covers.
///
/// # Errors
/// When the handshake is not complete.
pub fn exporter(stream: &Stream) -> Result<[u8; EXPORTER_BYTES], Error> {
    let output = [0; EXPORTER_BYTES];
    match stream {
        TlsStream::Client(client) => {
            client
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER_LABEL, None)
        }
        TlsStream::Server(server) => {
            server
                .get_ref()
                .1
                .export_keying_material(output, EXPORTER_LABEL, None)
        }
    }
    .map_err(Error::internal)
}

/// Certificates of a PEM file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let pem = read_pem(path)?;
    let certificates = CertificateDer::pem_slice_iter(&pem)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| invalid(path, &format!("it is not in PEM form ({error})")))?;
    if certificates.is_empty() {
        return Err(invalid(path, &"it holds no certificate in PEM form"));
    }
    Ok(certificates)
}

/// The text of a PEM file, with a bound.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, naming the file.
pub fn read_pem(path: &Path) -> Result<Vec<u8>, Error> {
    match files::read(path, PEM_FILE_BYTES_MAX) {
        Ok(Some(pem)) => Ok(pem),
        Ok(None) => Err(invalid(path, &"there is no such file")),
        Err(error) => Err(invalid(path, &error)),
    }
}

fn invalid(path: &Path, why: &dyn Display) -> Error {
    Error::new(
        Code::CertificateInvalid,
        format!("{} cannot be used: {why}", path.display()),
    )
}

/// The one provider of cryptography; never the process's default, which may be another or none.
fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let mut provider = default_provider();
        // Ten rounds instead of fourteen: bulk over a link spends a quarter of its CPU on them.
        let cheap = CipherSuite::TLS13_AES_128_GCM_SHA256;
        provider
            .cipher_suites
            .sort_by_key(|suite| suite.suite() != cheap);
        Arc::new(provider)
    }))
}

#[cfg(test)]
mod tests;

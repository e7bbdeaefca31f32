//! Terminating a client's TLS: what is shown to it, whether it has to show something, and the stream behind
//! the handshake.
//!
//! Must never: resume a session, or go on after a handshake that failed.

use std::fmt;
use std::sync::Arc;

use portcullis_model::{Code, Error};
use rustls::server::{NoServerSessionStorage, ResolvesServerCert};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::certificate::{pem_chain, pem_key};
use super::provider;

mod handshake;
mod stream;
mod verifier;

pub use handshake::{Handshake, NotTerminated, terminate};
pub use stream::TlsServer;

use handshake::Recording;

/// How TLS is terminated.
pub struct Setup {
    /// TLS 1.2 is not spoken.
    pub only_13: bool,
    /// TLS 1.3 is not spoken.
    pub only_12: bool,
    /// What the server shows.
    pub identity: ServerIdentity,
    /// What clients show; `None`: they are not asked.
    pub clients: Option<ClientAuth>,
    /// Protocols offered by ALPN, in this order; none: ALPN is left alone.
    pub alpn: Vec<Vec<u8>>,
}

/// What a server shows.
pub enum ServerIdentity {
    /// A chain, leaf first, and its key, in PEM.
    Pem {
        /// The chain.
        certificate: Vec<u8>,
        /// The key.
        private_key: Vec<u8>,
    },
    /// Chosen by the name that the client asks for.
    Resolver(Arc<dyn ResolvesServerCert>),
}

/// What clients show.
pub struct ClientAuth {
    /// What is done with it.
    pub verification: ClientVerification,
    /// Who may have issued it, in PEM.
    pub authorities: Vec<Vec<u8>>,
}

/// What is done with a client's certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientVerification {
    /// One is required, and one of the authorities has issued it.
    RequireAndVerify,
    /// One is required, whoever issued it.
    RequireAny,
    /// One is asked for; none, and any, will do.
    Request,
}

/// TLS that can be terminated: a [`Setup`] that was checked. Cheap to clone; build it once.
#[derive(Clone)]
pub struct Terminator {
    config: Arc<ServerConfig>,
}

impl Terminator {
    /// Whether both are of one [`Terminator::new`].
    pub fn is_same(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.config, &other.config)
    }
}

impl fmt::Debug for Terminator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Terminator")
            .field("alpn_protocols", &self.config.alpn_protocols)
            .finish_non_exhaustive()
    }
}

static BOTH: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];
static ONLY_13: [&SupportedProtocolVersion; 1] = [&TLS13];
static ONLY_12: [&SupportedProtocolVersion; 1] = [&TLS12];

impl Terminator {
    /// Checks everything that does not need a client.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID`, saying what cannot be used and why.
    pub fn new(setup: &Setup) -> Result<Self, Error> {
        let versions: &[&SupportedProtocolVersion] = match (setup.only_12, setup.only_13) {
            (false, false) => &BOTH,
            (false, true) => &ONLY_13,
            (true, false) => &ONLY_12,
            (true, true) => return Err(invalid("no version of TLS is left to speak")),
        };
        // The agent port's alone: who speaks it with a certificate of this server is taken for it.
        if setup.alpn.iter().any(|name| name == super::ALPN) {
            return Err(invalid("its ALPN is that of the agent port"));
        }
        let resolver = match &setup.identity {
            ServerIdentity::Pem {
                certificate,
                private_key,
            } => {
                let key = certified(certificate, private_key)?;
                Arc::new(SingleCertAndKey::from(key)) as Arc<dyn ResolvesServerCert>
            }
            ServerIdentity::Resolver(resolver) => Arc::clone(resolver),
        };
        let builder = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(versions)
            .map_err(Error::internal)?;
        let builder = match &setup.clients {
            Some(clients) => builder.with_client_cert_verifier(verifier::new(clients)?),
            None => builder.with_no_client_auth(),
        };
        let mut config = builder.with_cert_resolver(Arc::new(Recording(resolver)));
        config.alpn_protocols.clone_from(&setup.alpn);
        // Every handshake is a full one: a session that is resumed would skip the client's certificate.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
        Ok(Self {
            config: Arc::new(config),
        })
    }
}

/// A chain and its key, checked to belong together.
pub(super) fn certified(certificate: &[u8], private_key: &[u8]) -> Result<CertifiedKey, Error> {
    let chain = pem_chain(certificate)?;
    let key = pem_key(private_key)?;
    CertifiedKey::from_der(chain, key, &provider()).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            invalid("the private key is not the key of the certificate")
        }
        error => invalid(&format!(
            "the certificate and its key cannot be used: {error}"
        )),
    })
}

fn invalid(why: &str) -> Error {
    Error::new(Code::CertificateInvalid, why)
}

#[cfg(test)]
mod tests;

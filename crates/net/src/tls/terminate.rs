//! Terminating a client's TLS: what is shown to it, whether it has to show something, and the stream behind
//! the handshake.
//!
//! Must never: resume a session, or go on after a handshake that failed.

use std::sync::Arc;

use rustls::server::ResolvesServerCert;

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

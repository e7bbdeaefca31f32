//! Checking a server's certificate: against a pinned CA, or not at all where the user wrote so.
//!
//! Must never: skip the handshake's signature; even without verification the peer must hold its key.

use std::sync::Arc;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::client::verify_server_cert_signed_by_trust_anchor;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::ParsedCertificate;
use rustls::{CertificateError, DigitallySignedStruct, Error, RootCertStore, SignatureScheme};

use super::{sha256, spki_of};

/// Which certificates are good.
#[derive(Debug, Clone, Copy)]
enum Rule {
    /// Issued by the CA in the chain whose key has this hash.
    Pin([u8; 32]),
    /// Any.
    None,
}

/// A verifier that knows no host names.
#[derive(Debug)]
pub(super) struct Verifier {
    rule: Rule,
    provider: Arc<CryptoProvider>,
}

impl Verifier {
    pub(super) fn pin(hash: [u8; 32], provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self {
            rule: Rule::Pin(hash),
            provider,
        })
    }

    pub(super) fn none(provider: Arc<CryptoProvider>) -> Arc<Self> {
        Arc::new(Self {
            rule: Rule::None,
            provider,
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Rule::Pin(pin) = self.rule else {
            return Ok(ServerCertVerified::assertion());
        };
        let pinned = |certificate: &&CertificateDer<'_>| {
            spki_of(certificate).is_ok_and(|spki| sha256(&spki) == pin)
        };
        let ca = intermediates
            .iter()
            .find(pinned)
            .ok_or(CertificateError::UnknownIssuer)?;
        let mut roots = RootCertStore::empty();
        roots.add(ca.clone().into_owned())?;
        verify_server_cert_signed_by_trust_anchor(
            &ParsedCertificate::try_from(end_entity)?,
            &roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

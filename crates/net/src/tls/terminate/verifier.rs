//! What is asked of clients' certificates.
//!
//! Must never: skip the handshake's signature; whatever certificate is taken, the client must hold its key.

use std::sync::Arc;

use portcullis_model::{Code, Error};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::server::{ParsedCertificate, WebPkiClientVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};

use super::{ClientAuth, ClientVerification};
use crate::tls::certificate::pem_chain;
use crate::tls::provider;

/// What checks clients' certificates as it is asked for.
pub(super) fn new(clients: &ClientAuth) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let is_required = match clients.verification {
        ClientVerification::RequireAndVerify => return issued_by(&clients.authorities),
        ClientVerification::RequireAny => true,
        ClientVerification::Request => false,
    };
    // They decide nothing here, but a mistake in them should show as soon as with the first strategy.
    for authority in &clients.authorities {
        pem_chain(authority)?;
    }
    Ok(Arc::new(AnyIssuer {
        is_required,
        provider: provider(),
    }))
}

fn issued_by(authorities: &[Vec<u8>]) -> Result<Arc<dyn ClientCertVerifier>, Error> {
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        for certificate in pem_chain(authority)? {
            roots.add(certificate).map_err(|error| {
                let text = format!("a certificate authority cannot be used: {error}");
                Error::new(Code::CertificateInvalid, text)
            })?;
        }
    }
    if roots.is_empty() {
        let text = "no certificate authority is given that may have issued clients' certificates";
        return Err(Error::new(Code::CertificateInvalid, text));
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider())
        .build()
        .map_err(Error::internal)
}

/// Takes a certificate of any issuer.
#[derive(Debug)]
struct AnyIssuer {
    is_required: bool,
    provider: Arc<CryptoProvider>,
}

impl ClientCertVerifier for AnyIssuer {
    fn client_auth_mandatory(&self) -> bool {
        self.is_required
    }

    /// None: a client would hold back a certificate of another issuer.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        ParsedCertificate::try_from(end_entity)?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider
            .signature_verification_algorithms
            .supported_schemes()
    }
}

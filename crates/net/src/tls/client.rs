//! Client configurations: towards our own servers, and towards `tls://` upstreams.
//!
//! Must never: trust more than the user asked for.

use std::path::Path;
use std::sync::{Arc, OnceLock};

use portcullis_model::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::verify::Verifier;
use super::{ALPN, Trust, certificates, invalid, provider};
use crate::defaults::TLS_CLIENT_SESSIONS;

/// Where Debian, and most others by a link, keep the CAs that the machine trusts.
const SYSTEM_CAS: &str = "/etc/ssl/certs/ca-certificates.crt";

/// TLS of an agent towards its server. Make it once: it remembers sessions for resumption.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when a CA file cannot be used.
pub fn client_config(trust: &Trust) -> Result<Arc<ClientConfig>, Error> {
    let verifier = match trust {
        Trust::Pin(hash) => Verifier::pin(*hash, provider()),
        Trust::Web => web_verifier(Roots::System)?,
        Trust::CaFile(path) => web_verifier(Roots::File(path))?,
    };
    let mut config = client(verifier, &[&TLS13])?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    Ok(Arc::new(config))
}

/// Which CAs may have issued an upstream's certificate.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Roots<'a> {
    /// Public ones, and those that the machine trusts.
    System,
    /// Those of a PEM file.
    File(&'a Path),
    /// Any, unverified.
    Any,
}

/// TLS towards an upstream.
pub(crate) fn upstream_config(roots: Roots<'_>) -> Result<Arc<ClientConfig>, Error> {
    let verifier = match roots {
        Roots::Any => Verifier::none(provider()),
        roots => web_verifier(roots)?,
    };
    Ok(Arc::new(client(verifier, &[&TLS13, &TLS12])?))
}

fn client(
    verifier: Arc<dyn ServerCertVerifier>,
    versions: &[&'static SupportedProtocolVersion],
) -> Result<ClientConfig, Error> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions)
        .map_err(Error::internal)?
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_no_client_auth();
    config.resumption = Resumption::in_memory_sessions(TLS_CLIENT_SESSIONS);
    Ok(config)
}

fn web_verifier(roots: Roots<'_>) -> Result<Arc<dyn ServerCertVerifier>, Error> {
    let store = match roots {
        Roots::File(path) => file_roots(path)?,
        Roots::System | Roots::Any => system_roots(),
    };
    Ok(WebPkiServerVerifier::builder_with_provider(store, provider()).build().map_err(Error::internal)?)
}

fn file_roots(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store.add(certificate).map_err(|error| invalid(path, &error))?;
    }
    Ok(Arc::new(store))
}

/// Mozilla's list as it was at build time, and what the machine's administrator added. Read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut store = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
        // A machine without the bundle still has the built-in list.
        if let Ok(certificates) = certificates(Path::new(SYSTEM_CAS)) {
            store.add_parsable_certificates(certificates);
        }
        Arc::new(store)
    }))
}

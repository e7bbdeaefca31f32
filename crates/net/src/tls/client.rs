//! Client configurations: towards our own servers, and towards `tls://` upstreams.
//!
//! Must never: trust more than the user asked for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::SystemTime;

use portcullis_model::Error;
use rustls::client::danger::ServerCertVerifier;
use rustls::client::{Resumption, WebPkiServerVerifier};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};

use super::verify::Verifier;
use super::{ALPN, Trust, certificates, invalid, provider};
use crate::defaults::{TLS_CLIENT_SESSIONS, UPSTREAM_CA_FILES_MAX};

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

/// TLS towards an upstream. Configurations are kept, with the sessions that they remember; one from a
/// file is made anew when the file changes.
pub(crate) fn upstream_config(roots: Roots<'_>) -> Result<Arc<ClientConfig>, Error> {
    static SYSTEM: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    static ANY: OnceLock<Arc<ClientConfig>> = OnceLock::new();
    let make = |verifier| client(verifier, &UPSTREAM_VERSIONS).map(Arc::new);
    let kept = |cell: &OnceLock<Arc<ClientConfig>>, fresh: Arc<ClientConfig>| {
        Arc::clone(cell.get_or_init(|| fresh))
    };
    match roots {
        Roots::File(path) => from_file(path),
        Roots::System => match SYSTEM.get() {
            Some(config) => Ok(Arc::clone(config)),
            None => Ok(kept(&SYSTEM, make(web_verifier(roots)?)?)),
        },
        Roots::Any => match ANY.get() {
            Some(config) => Ok(Arc::clone(config)),
            None => Ok(kept(&ANY, make(Verifier::none(provider()))?)),
        },
    }
}

static UPSTREAM_VERSIONS: [&SupportedProtocolVersion; 2] = [&TLS13, &TLS12];

type Kept = HashMap<PathBuf, (Option<SystemTime>, Arc<ClientConfig>)>;

fn from_file(path: &Path) -> Result<Arc<ClientConfig>, Error> {
    static KEPT: Mutex<Option<Kept>> = Mutex::new(None);
    let changed = std::fs::metadata(path)
        .and_then(|metadata| metadata.modified())
        .ok();
    let mut kept = KEPT.lock().unwrap_or_else(PoisonError::into_inner);
    let kept = kept.get_or_insert_default();
    match kept.get(path) {
        Some((then, config)) if changed.is_some() && *then == changed => Ok(Arc::clone(config)),
        _ => {
            let config = Arc::new(client(
                web_verifier(Roots::File(path))?,
                &UPSTREAM_VERSIONS,
            )?);
            if kept.len() >= UPSTREAM_CA_FILES_MAX {
                kept.clear();
            }
            kept.insert(path.to_owned(), (changed, Arc::clone(&config)));
            Ok(config)
        }
    }
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
    Ok(
        WebPkiServerVerifier::builder_with_provider(store, provider())
            .build()
            .map_err(Error::internal)?,
    )
}

fn file_roots(path: &Path) -> Result<Arc<RootCertStore>, Error> {
    let mut store = RootCertStore::empty();
    for certificate in certificates(path)? {
        store
            .add(certificate)
            .map_err(|error| invalid(path, &error))?;
    }
    Ok(Arc::new(store))
}

/// Mozilla's list as it was at build time, and what the machine's administrator added. Read once.
fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceLock<Arc<RootCertStore>> = OnceLock::new();
    Arc::clone(ROOTS.get_or_init(|| {
        let mut store = RootCertStore {
            roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
        };
        // A machine without the bundle still has the built-in list.
        if let Ok(certificates) = certificates(Path::new(SYSTEM_CAS)) {
            store.add_parsable_certificates(certificates);
        }
        Arc::new(store)
    }))
}

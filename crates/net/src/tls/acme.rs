//! Certificates that an ACME authority (RFC 8555) issues and renews: one for each configured name, kept sealed in
//! the data directory, handed out by name.
//!
//! Must never: ask for a name that the operator has not configured, or leave a challenge's port open when no
//! challenge is under way.

use std::collections::HashMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use portcullis_model::{Code, Error};
use rand::RngExt as _;
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::certificate::{describe, pem_chain};
use super::terminate::{Terminator, certified};
use crate::defaults::{
    ACME_LOOK, ACME_NAMES_MAX, ACME_ORDER_TIMEOUT, ACME_RETRY_FIRST, ACME_RETRY_MAX,
};
use crate::seal::MasterKey;

mod challenge;
mod kept;
mod order;

use challenge::Pending;
use kept::Kept;

/// ALPN of a TLS-ALPN-01 challenge (RFC 8737).
pub const ACME_TLS_ALPN: &[u8] = b"acme-tls/1";

/// How the authority is shown that a name leads here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcmeChallenge {
    /// It fetches a path by HTTP.
    Http01,
    /// It begins a TLS connection.
    TlsAlpn01,
}

/// What is asked of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AcmeConfig {
    /// The authority's directory, `https://…`.
    pub directory: String,
    /// Where it writes to about the account.
    pub email: Option<String>,
    /// How names are proved.
    pub challenge: AcmeChallenge,
    /// Where challenges are answered, while one is under way.
    pub listen: Vec<SocketAddr>,
    /// Whether whoever has taken such a port answers them itself, with [`Acme::answers`].
    pub others_answer: bool,
    /// The names, in lower case.
    pub names: Vec<String>,
    /// Who issued the directory's own certificate, when no public authority has.
    pub ca_file: Option<PathBuf>,
}

impl AcmeConfig {
    /// Checks what can be checked without the authority.
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID`, saying what is wrong.
    pub fn check(&self) -> Result<(), Error> {
        let invalid = |why: String| Err(Error::new(Code::ConfigInvalid, why));
        if !self.directory.starts_with("https://") {
            return invalid(format!("`{}` is not an https:// address", self.directory));
        }
        if let Some(email) = self.email.as_deref().filter(|email| !email.contains('@')) {
            return invalid(format!("`{email}` is not an address of e-mail"));
        }
        if self.names.is_empty() {
            return invalid("no name is given that a certificate is to be for".to_owned());
        }
        if self.names.len() > ACME_NAMES_MAX {
            return invalid(format!("more than {ACME_NAMES_MAX} names are given"));
        }
        for name in &self.names {
            if name.contains('*') {
                return invalid(format!(
                    "`{name}` has a wildcard, which neither http-01 nor tls-alpn-01 can prove; name each host, or upload a certificate"
                ));
            }
            if !is_host_name(name) {
                return invalid(format!("`{name}` is not a host name in lower case"));
            }
        }
        Ok(())
    }
}

fn is_host_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253
        && name.contains('.')
        && name.split('.').all(label)
        && name.parse::<std::net::IpAddr>().is_err()
}

/// The certificates of an authority. Cheap to clone.
#[derive(Clone)]
pub struct Acme(Arc<Inner>);

struct Inner {
    config: AcmeConfig,
    kept: Kept,
    issued: RwLock<HashMap<String, Issued>>,
    pending: Pending,
    /// What answers TLS-ALPN-01.
    answering: Terminator,
    /// One order at a time, with the account that it is of.
    account: Mutex<Option<instant_acme::Account>>,
}

struct Issued {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    not_after: i64,
    /// Two thirds of its life are over then, unix seconds.
    renew_at: i64,
}

impl Acme {
    /// Reads what was issued earlier; nothing is asked for before [`Self::run`] or [`Self::obtain`].
    ///
    /// # Errors
    /// `PTC_CONFIG_INVALID`, `PTC_CERTIFICATE_INVALID` for `ca_file`, or a `PTC_STORE_…` code when the data
    /// directory cannot be used.
    pub fn open(config: AcmeConfig, data_dir: &Path, key: &Arc<MasterKey>) -> Result<Self, Error> {
        config.check()?;
        if let Some(path) = &config.ca_file {
            pem_chain(&super::read_pem(path)?)?;
        }
        let kept = Kept::open(data_dir, key)?;
        // Seals it anew where the master key was replaced; that it cannot be read is told when it is needed.
        drop(kept.account());
        let mut issued = HashMap::new();
        for name in &config.names {
            match kept
                .certificate(name)
                .and_then(|pem| pem.map(|pem| Issued::of(name, &pem)).transpose())
            {
                Ok(Some(found)) => drop(issued.insert(name.clone(), found)),
                Ok(None) => {}
                // It is asked for anew; the file says why it was of no use.
                Err(error) => {
                    tracing::warn!(%error, name, "certificate kept from the ACME authority cannot be used")
                }
            }
        }
        let pending = Pending::default();
        Ok(Self(Arc::new(Inner {
            answering: challenge::terminator(&pending)?,
            config,
            kept,
            issued: RwLock::new(issued),
            pending,
            account: Mutex::new(None),
        })))
    }

    /// The certificate for a name, in lower case, if there is a valid one.
    pub fn certificate_for(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let issued = self.0.issued.read().unwrap_or_else(PoisonError::into_inner);
        let found = issued.get(name)?;
        (now() < found.not_after).then(|| Arc::clone(&found.key))
    }

    /// Answers handshakes with the certificate for the name that the client asks for.
    pub fn resolver(&self) -> Arc<dyn ResolvesServerCert> {
        Arc::new(ByName(self.clone()))
    }

    /// For whoever listens on the port of TLS-ALPN-01: what to answer a client with that names this host and offers
    /// these protocols, when it is the authority's challenge. The connection is to be closed behind the handshake.
    pub fn answers<'a>(
        &self,
        name: &str,
        mut alpn: impl Iterator<Item = &'a [u8]>,
    ) -> Option<Terminator> {
        let asks = alpn.any(|protocol| protocol == ACME_TLS_ALPN);
        (asks && self.0.pending.certificate(name).is_some()).then(|| self.0.answering.clone())
    }

    /// Asks the authority for a certificate for one of the names, and keeps it.
    ///
    /// # Errors
    /// `PTC_ACME_FAILED` with what the authority says, or a `PTC_STORE_…` code when it cannot be kept.
    pub async fn obtain(&self, name: &str) -> Result<(), Error> {
        let inner = &*self.0;
        let mut account = inner.account.lock().await;
        let order = async {
            let account = match &mut *account {
                Some(account) => account,
                none => none.insert(order::account(&inner.config, &inner.kept).await?),
            };
            order::issue(
                account,
                name,
                &inner.config,
                &inner.pending,
                &inner.answering,
            )
            .await
        };
        let (chain, key) = tokio::time::timeout(ACME_ORDER_TIMEOUT, order)
            .await
            .map_err(|_| order::failed(name, &"it took too long"))??;
        let pem = chain + &key;
        let issued =
            Issued::of(name, pem.as_bytes()).map_err(|error| order::failed(name, &error))?;
        inner.kept.keep_certificate(name, pem.as_bytes())?;
        let mut known = inner.issued.write().unwrap_or_else(PoisonError::into_inner);
        known.insert(name.to_owned(), issued);
        Ok(())
    }

    /// Asks for what is missing and renews what is due, until it is stopped. A name that fails is tried again, less
    /// and less often.
    pub async fn run(self, stop: CancellationToken) {
        let mut failures: HashMap<String, Failures> = HashMap::new();
        loop {
            let due = |name: &String| {
                let retry_at = failures
                    .get(name)
                    .map_or(i64::MIN, |failed| failed.retry_at);
                self.renew_at(name).max(retry_at)
            };
            let next = self
                .0
                .config
                .names
                .iter()
                .map(|name| (due(name), name))
                .min();
            let Some((at, name)) = next else { return };
            let wait = u64::try_from(at.saturating_sub(now())).unwrap_or(0);
            if wait > 0 {
                // Not longer than a while: the clock may be set.
                let wait = Duration::from_secs(wait).min(ACME_LOOK);
                tokio::select! {
                    biased; // the end comes first
                    () = stop.cancelled() => return,
                    () = tokio::time::sleep(wait) => continue,
                }
            }
            let obtained = tokio::select! {
                biased; // as above
                () = stop.cancelled() => return,
                obtained = self.obtain(name) => obtained,
            };
            match obtained {
                Ok(()) => {
                    tracing::info!(name, "certificate issued by the ACME authority");
                    failures.remove(name);
                }
                Err(error) => {
                    let failed = failures.entry(name.clone()).or_default();
                    let again = failed.again();
                    tracing::warn!(%error, internal = error.internal, name, ?again, "no certificate from the ACME authority; it is asked again");
                }
            }
        }
    }

    fn renew_at(&self, name: &str) -> i64 {
        let issued = self.0.issued.read().unwrap_or_else(PoisonError::into_inner);
        issued.get(name).map_or(i64::MIN, |issued| issued.renew_at)
    }
}

impl fmt::Debug for Acme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Acme").field(&self.0.config).finish()
    }
}

/// Orders for one name that came to nothing, in a row.
#[derive(Default)]
struct Failures {
    count: u32,
    /// Unix seconds.
    retry_at: i64,
}

impl Failures {
    /// One more; how long to wait. Drawn from the upper half, so that names do not fail in step for ever.
    fn again(&mut self) -> Duration {
        let ceiling = ACME_RETRY_FIRST
            .saturating_mul(1 << self.count.min(16))
            .min(ACME_RETRY_MAX);
        self.count = self.count.saturating_add(1);
        let seconds = ceiling.as_secs();
        let wait = rand::rng().random_range(seconds / 2..=seconds);
        self.retry_at = now().saturating_add(i64::try_from(wait).unwrap_or(i64::MAX));
        Duration::from_secs(wait)
    }
}

impl Issued {
    /// A chain and its key, in one PEM text, that are for the name.
    fn of(name: &str, pem: &[u8]) -> Result<Self, Error> {
        let key = certified(pem, pem)?;
        let leaf = key.cert.first().map(|leaf| describe(leaf)).transpose()?;
        let leaf = leaf.filter(|leaf| {
            leaf.names
                .dns
                .iter()
                .any(|dns| dns.eq_ignore_ascii_case(name))
        });
        let Some(leaf) = leaf else {
            let text = format!("the certificate is not for {name}");
            return Err(Error::new(Code::CertificateInvalid, text));
        };
        let (begin, end) = (
            leaf.not_before.unix_seconds(),
            leaf.not_after.unix_seconds(),
        );
        Ok(Self {
            key: Arc::new(key),
            not_after: end,
            renew_at: begin.saturating_add(end.saturating_sub(begin) / 3 * 2),
        })
    }
}

fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// By the name that a client asks for.
#[derive(Debug)]
struct ByName(Acme);

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.0
            .certificate_for(&hello.server_name()?.to_ascii_lowercase())
    }
}

#[cfg(test)]
mod tests;

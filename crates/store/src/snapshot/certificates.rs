//! TLS material of a snapshot: keys opened when their record comes, certificates found by the name of a host
//! without parsing one.
//!
//! Must never: print a private key.

use std::borrow::Cow;
use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use portcullis_model::id::{CertificateAuthorityId, TlsCertificateId};
use portcullis_model::{AccountId, CertificateAuthority, Error, Timestamp, TlsCertificate, secret};

use super::owned::Owned;
use super::{EndpointEntry, Snapshot};
use crate::sealer::Sealer;

/// A certificate with its private key.
pub struct CertificatePem {
    /// Its record.
    pub id: TlsCertificateId,
    /// Leaf first.
    pub certificate: Arc<str>,
    /// PEM, in the clear.
    pub private_key: Arc<str>,
}

/// Without the key.
impl fmt::Debug for CertificatePem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CertificatePem")
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}

impl Drop for CertificatePem {
    /// Wipes the key, unless someone still has it.
    fn drop(&mut self) {
        if let Some(key) = Arc::get_mut(&mut self.private_key) {
            secret::wipe(key);
        }
    }
}

/// A certificate authority with its text ready to be shared. It dereferences to the record.
#[derive(Debug)]
pub struct AuthorityEntry {
    record: CertificateAuthority,
    pem: Arc<str>,
}

impl Deref for AuthorityEntry {
    type Target = CertificateAuthority;
    fn deref(&self) -> &CertificateAuthority {
        &self.record
    }
}

/// A TLS certificate with its key in the clear. It dereferences to the record.
#[derive(Debug)]
pub struct CertificateEntry {
    record: TlsCertificate,
    pem: Option<Arc<CertificatePem>>,
}

impl CertificateEntry {
    /// Whether its private key could be opened.
    pub fn is_open(&self) -> bool {
        self.pem.is_some()
    }

    /// The names that it is for: host names without a wildcard's star, and addresses.
    fn names(&self) -> impl Iterator<Item = Name<'_>> {
        let says = &self.record.says;
        let names = says.dns_names.iter().map(|name| Name::of(name));
        let ips = says.ips.iter().map(|ip| Name {
            text: Cow::Owned(ip.to_string()),
            below: false,
        });
        names.chain(ips)
    }
}

impl Deref for CertificateEntry {
    type Target = TlsCertificate;
    fn deref(&self) -> &TlsCertificate {
        &self.record
    }
}

/// A name of a certificate: the name itself, or every name one label below it.
struct Name<'a> {
    text: Cow<'a, str>,
    below: bool,
}

impl<'a> Name<'a> {
    fn of(name: &'a str) -> Self {
        let (text, below) = match name.strip_prefix("*.") {
            Some(parent) => (parent, true),
            None => (name, false),
        };
        let text = lower(text);
        Self { text, below }
    }
}

/// A name in lower case, copied only where it is not.
fn lower(name: &str) -> Cow<'_, str> {
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(name.to_ascii_lowercase())
    } else {
        Cow::Borrowed(name)
    }
}

/// Certificates by name, the newest first.
type Names = HashMap<Box<str>, Vec<Arc<CertificateEntry>>>;

/// Where the names of an account's certificates lead.
#[derive(Debug, Clone, Default)]
struct Hosts {
    exact: Names,
    below: Names,
}

impl Hosts {
    fn names(&mut self, name: &Name<'_>) -> &mut Names {
        if name.below {
            &mut self.below
        } else {
            &mut self.exact
        }
    }

    fn add(&mut self, entry: &Arc<CertificateEntry>) {
        let age = |entry: &CertificateEntry| (entry.created_at, entry.id.clone());
        for name in entry.names() {
            let found = self.names(&name).entry(name.text.into()).or_default();
            // A certificate may say a name twice.
            found.retain(|other| other.id != entry.id);
            let place = found.partition_point(|other| age(other) > age(entry));
            found.insert(place, Arc::clone(entry));
        }
    }

    fn remove(&mut self, entry: &CertificateEntry) {
        for name in entry.names() {
            let names = self.names(&name);
            if let Some(found) = names.get_mut(&*name.text) {
                found.retain(|other| other.id != entry.id);
                if found.is_empty() {
                    names.remove(&*name.text);
                }
            }
        }
    }

    fn find(&self, name: &str, now: Timestamp) -> Option<&Arc<CertificatePem>> {
        let name = lower(name.strip_suffix('.').unwrap_or(name));
        let below = || self.below.get(name.split_once('.')?.1);
        newest(self.exact.get(&*name), now).or_else(|| newest(below(), now))
    }
}

/// The first of certificates that can be used at a time.
fn newest(
    found: Option<&Vec<Arc<CertificateEntry>>>,
    now: Timestamp,
) -> Option<&Arc<CertificatePem>> {
    let mut valid = found?.iter().filter(|entry| entry.says.is_valid_at(now));
    valid.find_map(|entry| entry.pem.as_ref())
}

/// The records, and where the names of hosts lead.
#[derive(Debug, Clone, Default)]
pub(super) struct Material {
    authorities: Owned<CertificateAuthorityId, AuthorityEntry>,
    certificates: Owned<TlsCertificateId, CertificateEntry>,
    hosts: Arc<HashMap<AccountId, Arc<Hosts>>>,
}

impl Material {
    pub(super) fn put_authority(&mut self, record: CertificateAuthority) {
        let known = self.authorities.get(&record.account, &record.id);
        // The same text stays the same allocation: what was made of it is known by that.
        let pem = match known {
            Some(old) if *old.pem == *record.pem => Arc::clone(&old.pem),
            Some(_) | None => Arc::from(record.pem.as_str()),
        };
        let (account, id) = (record.account.clone(), record.id.clone());
        self.authorities
            .insert(&account, id, AuthorityEntry { record, pem });
    }

    pub(super) fn delete_authority(&mut self, account: &AccountId, id: &CertificateAuthorityId) {
        self.authorities.remove(account, id);
    }

    pub(super) fn put_certificate(&mut self, record: TlsCertificate, sealer: Option<&dyn Sealer>) {
        let (account, id) = (record.account.clone(), record.id.clone());
        let known = self.certificates.get(&account, &id);
        let same = known.filter(|old| {
            old.is_open() && old.record.pem == record.pem && old.private_key == record.private_key
        });
        let pem = match same {
            Some(old) => old.pem.clone(),
            None => opened(&record, sealer),
        };
        self.delete_certificate(&account, &id);
        let entry = CertificateEntry { record, pem };
        let (entry, _) = self.certificates.insert(&account, id, entry);
        let accounts = Arc::make_mut(&mut self.hosts);
        Arc::make_mut(accounts.entry(account).or_default()).add(&entry);
    }

    pub(super) fn delete_certificate(&mut self, account: &AccountId, id: &TlsCertificateId) {
        let Some(old) = self.certificates.remove(account, id) else {
            return;
        };
        let accounts = Arc::make_mut(&mut self.hosts);
        if let Some(hosts) = accounts.get_mut(account) {
            let hosts = Arc::make_mut(hosts);
            hosts.remove(&old);
            if hosts.exact.is_empty() && hosts.below.is_empty() {
                accounts.remove(account);
            }
        }
    }
}

/// The chain with its key; without it the record stays, and nobody terminates with it.
fn opened(record: &TlsCertificate, sealer: Option<&dyn Sealer>) -> Option<Arc<CertificatePem>> {
    let open = || {
        let sealer = sealer.ok_or_else(|| Error::internal("the server has no master key"))?;
        let plain = sealer.open(&record.private_key, &record.place())?;
        let text = std::str::from_utf8(plain.expose()).map_err(Error::internal)?;
        Ok::<Arc<str>, Error>(Arc::from(text))
    };
    match open() {
        Ok(private_key) => Some(Arc::new(CertificatePem {
            id: record.id.clone(),
            certificate: Arc::from(record.pem.as_str()),
            private_key,
        })),
        Err(error) => {
            tracing::error!(certificate = %record.id, code = %error.code, "the private key of a TLS certificate cannot be opened: {}", error.message);
            None
        }
    }
}

impl Snapshot {
    /// A certificate authority of the account.
    pub fn authority(
        &self,
        account: &AccountId,
        id: &CertificateAuthorityId,
    ) -> Option<&Arc<AuthorityEntry>> {
        self.material.authorities.get(account, id)
    }

    /// The account's certificate authorities, oldest first.
    pub fn authorities(
        &self,
        account: &AccountId,
    ) -> impl DoubleEndedIterator<Item = &Arc<AuthorityEntry>> {
        self.material.authorities.of(account)
    }

    /// A certificate authority of the account, in PEM. As long as the text is the same, so is the allocation.
    pub fn authority_pem(
        &self,
        account: &AccountId,
        id: &CertificateAuthorityId,
    ) -> Option<Arc<str>> {
        let entry = self.authority(account, id)?;
        Some(Arc::clone(&entry.pem))
    }

    /// A TLS certificate of the account, without its key.
    pub fn tls_certificate(
        &self,
        account: &AccountId,
        id: &TlsCertificateId,
    ) -> Option<&Arc<CertificateEntry>> {
        self.material.certificates.get(account, id)
    }

    /// The account's TLS certificates, oldest first.
    pub fn tls_certificates(
        &self,
        account: &AccountId,
    ) -> impl DoubleEndedIterator<Item = &Arc<CertificateEntry>> {
        self.material.certificates.of(account)
    }

    /// A TLS certificate of the account, with its key in the clear: never for an answer to a user. As long as
    /// both are the same, so is the allocation.
    pub fn certificate(
        &self,
        account: &AccountId,
        id: &TlsCertificateId,
    ) -> Option<Arc<CertificatePem>> {
        self.tls_certificate(account, id)?.pem.clone()
    }

    /// The account's newest TLS certificate that is valid now for a host name: one that says the name itself,
    /// else one with a wildcard in place of its first label. The newest is the one that was made last.
    pub fn certificate_for(
        &self,
        account: &AccountId,
        name: &str,
        now: Timestamp,
    ) -> Option<Arc<CertificatePem>> {
        self.material.hosts.get(account)?.find(name, now).cloned()
    }

    /// How many certificate authorities and TLS certificates an account has.
    pub(crate) fn material_counts(&self, account: &AccountId) -> (usize, usize) {
        let Material {
            authorities,
            certificates,
            ..
        } = &self.material;
        (authorities.count(account), certificates.count(account))
    }

    /// Every TLS certificate of every account, for sealing anew: never for an answer to a user.
    pub(crate) fn all_tls_certificates(&self) -> impl Iterator<Item = &Arc<CertificateEntry>> {
        self.material.certificates.all()
    }

    /// The account's endpoints whose traffic policy uses what is asked for.
    pub(crate) fn endpoints_that_use<'a>(
        &'a self,
        account: &'a AccountId,
        is_meant: impl Fn(&portcullis_policy::Uses) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Arc<EndpointEntry>> {
        self.endpoints(account).filter(move |endpoint| {
            let policy = endpoint.policy().ok().flatten();
            policy.is_some_and(|policy| is_meant(&policy.uses()))
        })
    }
}

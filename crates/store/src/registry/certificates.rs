//! Certificate authorities and TLS certificates: private keys leave here sealed only, and nothing goes while a
//! policy uses it.
//!
//! Must never: read a certificate; what one says comes with it, checked.

use portcullis_model::id::{CertificateAuthorityId, TlsCertificateId};
use portcullis_model::{
    AccountId, CertificateAuthority, CertificateSummary, Code, Error, Sealed, TlsCertificate,
};
use portcullis_policy::Uses;

use super::draft::Draft;
use super::{Registry, Written, vaults};
use crate::requests::{NewCertificateAuthority, NewTlsCertificate, TextsUpdate};
use crate::snapshot::{AuthorityEntry, CertificateEntry, EndpointEntry, Snapshot};
use crate::{defaults, keys, validate};

impl Registry {
    /// Makes a certificate authority.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_CERTIFICATE_AUTHORITY_LIMIT`, `PTC_CERTIFICATE_INVALID`, lengths.
    pub async fn create_certificate_authority(
        &self,
        account: &AccountId,
        new: NewCertificateAuthority,
    ) -> Result<Written<CertificateAuthority>, Error> {
        self.write(account.as_str(), |draft| {
            create_authority(draft, account, &new)
        })
        .await
    }

    /// Changes the texts of a certificate authority.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_AUTHORITY_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_certificate_authority(
        &self,
        account: &AccountId,
        id: &CertificateAuthorityId,
        update: TextsUpdate,
    ) -> Result<Written<CertificateAuthority>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            let mut record = CertificateAuthority::clone(find_authority(draft, account, id)?);
            let into = (&mut record.description, &mut record.metadata);
            validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
            draft.unchanged(keys::certificate_authority(account, id));
            draft.put(keys::certificate_authority(account, id), &record)?;
            Ok(record)
        })
        .await
    }

    /// Deletes a certificate authority that no policy uses.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_AUTHORITY_NOT_FOUND`, `PTC_CERTIFICATE_AUTHORITY_IN_USE`.
    pub async fn delete_certificate_authority(
        &self,
        account: &AccountId,
        id: &CertificateAuthorityId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| {
            find_authority(draft, account, id)?;
            let used = |uses: &Uses| uses.authorities.contains(id);
            refuse_while_used(draft, account, id, Code::CertificateAuthorityInUse, used)?;
            draft.unchanged(keys::certificate_authority(account, id));
            draft.delete(keys::certificate_authority(account, id));
            Ok(())
        })
        .await
    }

    /// Makes a TLS certificate.
    ///
    /// # Errors
    /// `PTC_ACCOUNT_NOT_FOUND`, `PTC_CERTIFICATE_LIMIT`, `PTC_CERTIFICATE_INVALID`, `PTC_SECRET_SEALED`, lengths.
    pub async fn create_tls_certificate(
        &self,
        account: &AccountId,
        new: NewTlsCertificate,
    ) -> Result<Written<TlsCertificate>, Error> {
        self.write(account.as_str(), |draft| {
            create_certificate(draft, account, &new)
        })
        .await
    }

    /// Changes the texts of a TLS certificate.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_NOT_FOUND`, `PTC_API_EMPTY_UPDATE`, lengths.
    pub async fn update_tls_certificate(
        &self,
        account: &AccountId,
        id: &TlsCertificateId,
        update: TextsUpdate,
    ) -> Result<Written<TlsCertificate>, Error> {
        validate::not_empty(&update)?;
        self.write(account.as_str(), |draft| {
            let mut record = TlsCertificate::clone(find_certificate(draft, account, id)?);
            let into = (&mut record.description, &mut record.metadata);
            validate::set_texts(update.description.as_ref(), update.metadata.as_ref(), into)?;
            draft.unchanged(keys::tls_certificate(account, id));
            draft.put(keys::tls_certificate(account, id), &record)?;
            Ok(record)
        })
        .await
    }

    /// Deletes a TLS certificate that no policy names. One that is used by the name of a host goes.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_NOT_FOUND`, `PTC_CERTIFICATE_IN_USE`.
    pub async fn delete_tls_certificate(
        &self,
        account: &AccountId,
        id: &TlsCertificateId,
    ) -> Result<Written<()>, Error> {
        self.write(account.as_str(), |draft| {
            find_certificate(draft, account, id)?;
            let used = |uses: &Uses| uses.certificates.contains(id);
            refuse_while_used(draft, account, id, Code::CertificateInUse, used)?;
            draft.unchanged(keys::tls_certificate(account, id));
            draft.delete(keys::tls_certificate(account, id));
            Ok(())
        })
        .await
    }
}

fn create_authority(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewCertificateAuthority,
) -> Result<CertificateAuthority, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let most = defaults::CERTIFICATE_AUTHORITY_BYTES_MAX;
    check_size("certificates", &new.pem, most)?;
    check_names(&new.says)?;
    let (count, _) = draft.snapshot.material_counts(account);
    if count >= defaults::CERTIFICATE_AUTHORITIES_MAX {
        let message = format!("the account has {count} certificate authorities, as many as it may");
        return Err(Error::new(Code::CertificateAuthorityLimit, message));
    }
    let record = CertificateAuthority {
        id: draft.id(CertificateAuthorityId::new)?,
        account: account.clone(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        pem: new.pem.clone(),
        says: new.says.clone(),
        created_at: draft.now,
    };
    draft.put(keys::certificate_authority(account, &record.id), &record)?;
    Ok(record)
}

fn create_certificate(
    draft: &mut Draft<'_>,
    account: &AccountId,
    new: &NewTlsCertificate,
) -> Result<TlsCertificate, Error> {
    draft.account(account)?;
    validate::texts(&new.description, &new.metadata)?;
    let most = defaults::TLS_CERTIFICATE_BYTES_MAX;
    check_size("certificates", &new.pem, most)?;
    let most = defaults::PRIVATE_KEY_BYTES_MAX;
    check_size("private key", new.private_key.expose(), most)?;
    check_names(&new.says)?;
    let (_, count) = draft.snapshot.material_counts(account);
    if count >= defaults::TLS_CERTIFICATES_MAX {
        let message = format!("the account has {count} TLS certificates, as many as it may");
        return Err(Error::new(Code::CertificateLimit, message));
    }
    let mut record = TlsCertificate {
        id: draft.id(TlsCertificateId::new)?,
        account: account.clone(),
        description: new.description.clone(),
        metadata: new.metadata.clone(),
        pem: new.pem.clone(),
        private_key: Sealed::new(&[]),
        private_key_type: new.private_key_type.clone(),
        says: new.says.clone(),
        created_at: draft.now,
    };
    let sealer = vaults::sealer(draft.snapshot)?;
    let key = new.private_key.expose().as_bytes();
    record.private_key = sealer.seal(key, &record.place())?;
    draft.put(keys::tls_certificate(account, &record.id), &record)?;
    Ok(record)
}

fn check_size(what: &str, text: &str, most: usize) -> Result<(), Error> {
    let bytes = text.len();
    if bytes > most {
        let message = format!("the {what} have {bytes} bytes of PEM; at most {most} are allowed");
        return Err(Error::new(Code::CertificateInvalid, message));
    }
    Ok(())
}

/// Every name stands in an index.
fn check_names(says: &CertificateSummary) -> Result<(), Error> {
    let (names, most) = (
        says.dns_names.len() + says.ips.len(),
        defaults::CERTIFICATE_NAMES_MAX,
    );
    if names > most {
        let message = format!("the certificate is for {names} names; at most {most} are allowed");
        return Err(Error::new(Code::CertificateInvalid, message));
    }
    Ok(())
}

fn find_authority<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &CertificateAuthorityId,
) -> Result<&'a AuthorityEntry, Error> {
    let found = draft.snapshot.authority(account, id);
    found.map(|entry| &**entry).ok_or_else(|| {
        let message = format!("no certificate authority {id} in this account");
        Error::new(Code::CertificateAuthorityNotFound, message)
    })
}

fn find_certificate<'a>(
    draft: &Draft<'a>,
    account: &AccountId,
    id: &TlsCertificateId,
) -> Result<&'a CertificateEntry, Error> {
    let found = draft.snapshot.tls_certificate(account, id);
    found.map(|entry| &**entry).ok_or_else(|| {
        let message = format!("no TLS certificate {id} in this account");
        Error::new(Code::CertificateNotFound, message)
    })
}

/// No policy of the account uses what is meant, and none that does comes before the write.
fn refuse_while_used(
    draft: &mut Draft<'_>,
    account: &AccountId,
    id: &dyn std::fmt::Display,
    code: Code,
    is_meant: impl Fn(&Uses) -> bool,
) -> Result<(), Error> {
    draft.nothing_new(keys::owned("endpoint", account));
    let users = draft.snapshot.endpoints_that_use(account, is_meant);
    match named(users) {
        None => Ok(()),
        Some(users) => {
            let message = format!("the traffic policies of these endpoints use {id}: {users}");
            Err(Error::new(code, message))
        }
    }
}

/// Some endpoints by name, and how many more there are; `None` where there is none.
pub(super) fn named<'a>(
    endpoints: impl Iterator<Item = &'a std::sync::Arc<EndpointEntry>>,
) -> Option<String> {
    let mut endpoints = endpoints.peekable();
    endpoints.peek()?;
    let named: Vec<String> = endpoints
        .by_ref()
        .take(defaults::USERS_SHOWN)
        .map(|endpoint| format!("{} ({})", endpoint.id, endpoint.url))
        .collect();
    let rest = match endpoints.count() {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    Some(format!("{}{rest}", named.join(", ")))
}

/// Sees that what a traffic policy uses stays until it is written; names what is not there.
pub(super) fn guard(draft: &mut Draft<'_>, account: &AccountId, uses: &Uses) -> Vec<String> {
    let mut absent = Vec::new();
    for id in &uses.certificates {
        match draft.snapshot.tls_certificate(account, id) {
            Some(_) => draft.still(keys::tls_certificate(account, id)),
            None => absent.push(format!("the TLS certificate {id}")),
        }
    }
    for id in &uses.authorities {
        match draft.snapshot.authority(account, id) {
            Some(_) => draft.still(keys::certificate_authority(account, id)),
            None => absent.push(format!("the certificate authority {id}")),
        }
    }
    absent
}

/// Deletes all of an account's, which goes itself.
pub(super) fn forget_all(draft: &mut Draft<'_>, account: &AccountId) {
    let snapshot = draft.snapshot;
    for certificate in snapshot.tls_certificates(account) {
        draft.delete(keys::tls_certificate(account, &certificate.id));
    }
    for authority in snapshot.authorities(account) {
        draft.delete(keys::certificate_authority(account, &authority.id));
    }
}

/// Certificates whose key an older key sealed, and can be sealed anew.
pub(super) fn stale(snapshot: &Snapshot) -> impl Iterator<Item = &CertificateEntry> {
    let sealer = snapshot.settings().sealer.as_deref();
    let all = snapshot.all_tls_certificates().map(|entry| &**entry);
    all.filter(move |entry| {
        entry.is_open() && sealer.is_some_and(|sealer| !sealer.is_newest(&entry.private_key))
    })
}

/// Seals some private keys of an account anew, and says how many.
pub(super) fn reseal(draft: &mut Draft<'_>, account: &AccountId) -> Result<usize, Error> {
    let snapshot = draft.snapshot;
    let sealer = vaults::sealer(snapshot)?;
    let mut done = 0;
    let own = stale(snapshot).filter(|entry| entry.account == *account);
    for entry in own.take(defaults::RESEAL_PER_WRITE_MAX) {
        let mut record = TlsCertificate::clone(entry);
        let place = record.place();
        let plain = sealer.open(&record.private_key, &place)?;
        record.private_key = sealer.seal(plain.expose(), &place)?;
        draft.unchanged(keys::tls_certificate(account, &record.id));
        draft.put(keys::tls_certificate(account, &record.id), &record)?;
        done += 1;
    }
    Ok(done)
}

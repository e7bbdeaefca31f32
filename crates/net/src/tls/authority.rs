//! The server's own CA: made at first start, its key sealed with the master key; leaves for the
//! server's names, issued at start and again in memory before they expire.
//!
//! Must never: write the CA's key unsealed, or a leaf's key at all.

use std::fmt;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};

use portcullis_model::{Code, Error};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;

use super::{invalid, provider, spki_sha256};
use crate::defaults::{CA_VALID_DAYS, LEAF_RENEW_DAYS, LEAF_VALID_DAYS, PEM_FILE_BYTES_MAX};
use crate::files;
use crate::seal::MasterKey;

/// The CA's certificate in the data directory.
const CERTIFICATE_FILE: &str = "ca.pem";
/// The CA's key beside it.
const KEY_FILE: &str = "ca.key.sealed";
const SECONDS_PER_DAY: i64 = 86_400;

/// The server's own CA. Cheap to clone.
#[derive(Clone)]
pub struct CertAuthority(Arc<Authority>);

struct Authority {
    certificate: CertificateDer<'static>,
    pem: String,
    pin: [u8; 32],
    issuer: Issuer<'static, KeyPair>,
}

impl CertAuthority {
    /// Reads `ca.pem` and `ca.key.sealed` in a data directory, or makes them at first start.
    ///
    /// # Errors
    /// `PTC_CERTIFICATE_INVALID` when they do not belong together, or a `PTC_STORE_…` code when they
    /// cannot be read, opened or written.
    pub fn load_or_create(data_dir: &Path, key: &MasterKey) -> Result<Self, Error> {
        let (certificate_path, key_path) =
            (data_dir.join(CERTIFICATE_FILE), data_dir.join(KEY_FILE));
        let read = |path: &Path| {
            files::read(path, PEM_FILE_BYTES_MAX)
                .map_err(|error| files::explain("read", path, &error))
        };
        match (read(&certificate_path)?, read(&key_path)?) {
            (Some(pem), Some(sealed)) => {
                let plain = key.open(&sealed)?;
                let authority = Self::from_files(pem, plain.expose(), &certificate_path)?;
                if !key.is_newest(&sealed) {
                    files::write(&key_path, &key.seal(plain.expose())?, 0o600)?;
                    tracing::info!(path = %key_path.display(), "sealed with the newest master key");
                }
                Ok(authority)
            }
            (Some(_), None) => {
                let text = format!(
                    "{} is missing, but {CERTIFICATE_FILE} is there",
                    key_path.display()
                );
                Err(Error::new(Code::StoreCorrupt, text))
            }
            // A first start that was cut short, or a certificate that was lost: join strings pin the key.
            (None, Some(sealed)) => {
                let pair = KeyPair::try_from(key.open(&sealed)?.expose().as_slice())
                    .map_err(|error| invalid(&key_path, &error))?;
                Self::create(&certificate_path, pair)
            }
            (None, None) => {
                let pair = KeyPair::generate().map_err(Error::internal)?;
                files::write(&key_path, &key.seal(pair.serialized_der())?, 0o600)?;
                Self::create(&certificate_path, pair)
            }
        }
    }

    fn create(certificate_path: &Path, pair: KeyPair) -> Result<Self, Error> {
        let params = authority_params()?;
        let certificate = params.self_signed(&pair).map_err(Error::internal)?;
        let pem = certificate.pem();
        files::write(certificate_path, pem.as_bytes(), 0o644)?;
        Self::new(certificate.der().clone(), pem, pair)
    }

    fn from_files(pem: Vec<u8>, key: &[u8], path: &Path) -> Result<Self, Error> {
        let certificate =
            CertificateDer::from_pem_slice(&pem).map_err(|error| invalid(path, &error))?;
        let pem = String::from_utf8(pem).map_err(|error| invalid(path, &error))?;
        let pair = KeyPair::try_from(key).map_err(|error| invalid(path, &error))?;
        let authority = Self::new(certificate, pem, pair)?;
        if super::sha256(&rcgen::PublicKeyData::subject_public_key_info(
            authority.0.issuer.key(),
        )) != authority.0.pin
        {
            return Err(invalid(path, &"its key is not the one in ca.key.sealed"));
        }
        Ok(authority)
    }

    fn new(
        certificate: CertificateDer<'static>,
        pem: String,
        pair: KeyPair,
    ) -> Result<Self, Error> {
        let pin = spki_sha256(&certificate)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, pair).map_err(Error::internal)?;
        Ok(Self(Arc::new(Authority {
            certificate,
            pem,
            pin,
            issuer,
        })))
    }

    /// SHA-256 of the CA's public key: what a join string pins.
    pub fn pin(&self) -> [u8; 32] {
        self.0.pin
    }

    /// The CA's certificate, to hand to clients that take a CA file.
    pub fn certificate_pem(&self) -> &str {
        &self.0.pem
    }

    /// A leaf for names and addresses; the chain has the CA behind it, for clients that pin it.
    fn issue(&self, names: &[String], ips: &[IpAddr]) -> Result<CertifiedKey, Error> {
        let pair = KeyPair::generate().map_err(Error::internal)?;
        let leaf = leaf_params(names, ips)?
            .signed_by(&pair, &self.0.issuer)
            .map_err(Error::internal)?;
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(pair.serialized_der().to_vec()));
        let chain = vec![leaf.der().clone(), self.0.certificate.clone()];
        CertifiedKey::from_der(chain, key, &provider()).map_err(Error::internal)
    }
}

impl fmt::Debug for CertAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "CertAuthority({})",
            portcullis_model::secret::hex(&self.0.pin)
        )
    }
}

fn authority_params() -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Portcullis CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(serial()?);
    set_validity(&mut params, CA_VALID_DAYS);
    Ok(params)
}

fn leaf_params(names: &[String], ips: &[IpAddr]) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    params.distinguished_name = named("Portcullis server");
    params.serial_number = Some(serial()?);
    params.use_authority_key_identifier_extension = true;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    set_validity(&mut params, LEAF_VALID_DAYS);
    for name in names {
        let refuse = || {
            Error::new(
                Code::CertificateInvalid,
                format!("`{name}` cannot stand in a certificate"),
            )
        };
        match ServerName::try_from(name.as_str()).map_err(|_| refuse())? {
            ServerName::IpAddress(ip) => params
                .subject_alt_names
                .push(SanType::IpAddress(IpAddr::from(ip))),
            _ => {
                let text = name.as_str().try_into().map_err(|_| refuse())?;
                params.subject_alt_names.push(SanType::DnsName(text));
            }
        }
    }
    params
        .subject_alt_names
        .extend(ips.iter().map(|ip| SanType::IpAddress(*ip)));
    Ok(params)
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// 128 random bits, positive.
fn serial() -> Result<rcgen::SerialNumber, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(Error::internal)?;
    bytes[0] &= 0x7f;
    Ok(rcgen::SerialNumber::from_slice(&bytes))
}

/// From yesterday, for peers whose clock is behind, for so many days.
fn set_validity(params: &mut CertificateParams, days: i64) {
    let now = jiff::Timestamp::now();
    let at = |days: i64| {
        let seconds = now
            .as_second()
            .saturating_add(days.saturating_mul(SECONDS_PER_DAY));
        let (year, month, day) = date(jiff::Timestamp::from_second(seconds).unwrap_or(now));
        date_time_ymd(i32::from(year), month, day)
    };
    params.not_before = at(-1);
    params.not_after = at(days);
}

fn date(at: jiff::Timestamp) -> (i16, u8, u8) {
    let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
    (
        date.year(),
        date.month().unsigned_abs(),
        date.day().unsigned_abs(),
    )
}

/// Gives every handshake the current leaf.
pub(super) struct OwnLeaf {
    authority: CertAuthority,
    names: Vec<String>,
    ips: Vec<IpAddr>,
    current: RwLock<Leaf>,
}

struct Leaf {
    key: Arc<CertifiedKey>,
    /// Unix seconds.
    renew_at: i64,
}

impl OwnLeaf {
    pub(super) fn new(
        authority: &CertAuthority,
        names: &[String],
        ips: &[IpAddr],
    ) -> Result<Self, Error> {
        let leaf = Leaf::issue(authority, names, ips)?;
        Ok(Self {
            authority: authority.clone(),
            names: names.to_vec(),
            ips: ips.to_vec(),
            current: RwLock::new(leaf),
        })
    }

    pub(super) fn current(&self, now: i64) -> Arc<CertifiedKey> {
        let current = self.current.read().unwrap_or_else(PoisonError::into_inner);
        if now < current.renew_at {
            return Arc::clone(&current.key);
        }
        drop(current);
        let mut current = self.current.write().unwrap_or_else(PoisonError::into_inner);
        if now >= current.renew_at {
            match Leaf::issue(&self.authority, &self.names, &self.ips) {
                Ok(fresh) => *current = fresh,
                Err(error) => {
                    tracing::error!(%error, "certificate not renewed; the old one is used on")
                }
            }
        }
        Arc::clone(&current.key)
    }
}

impl Leaf {
    fn issue(authority: &CertAuthority, names: &[String], ips: &[IpAddr]) -> Result<Self, Error> {
        let key = Arc::new(authority.issue(names, ips)?);
        let lasts = (LEAF_VALID_DAYS - LEAF_RENEW_DAYS) * SECONDS_PER_DAY;
        Ok(Self {
            key,
            renew_at: jiff::Timestamp::now().as_second().saturating_add(lasts),
        })
    }
}

impl ResolvesServerCert for OwnLeaf {
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.current(jiff::Timestamp::now().as_second()))
    }
}

impl fmt::Debug for OwnLeaf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "OwnLeaf({:?})", self.names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_renewed_in_memory_before_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
        let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
        let leaf = OwnLeaf::new(&authority, &["a.example".to_owned()], &[]).unwrap();
        let now = jiff::Timestamp::now().as_second();
        let first = leaf.current(now);
        assert!(Arc::ptr_eq(
            &first,
            &leaf.current(now + 59 * SECONDS_PER_DAY)
        ));
        assert!(!Arc::ptr_eq(
            &first,
            &leaf.current(now + 61 * SECONDS_PER_DAY)
        ));
    }
}

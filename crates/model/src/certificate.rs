//! TLS material of accounts: certificate authorities that clients' certificates are checked against, and
//! certificates with their private keys. What a certificate says is kept beside it, so that nobody has to
//! read it again.
//!
//! Must never: parse a certificate, hold a private key in the clear, or print one.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::id::{CertificateAuthorityId, TlsCertificateId};
use crate::{AccountId, Sealed, Timestamp};

/// Certificates of authorities under one id, which policies of endpoints name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateAuthority {
    /// `ca_…`
    pub id: CertificateAuthorityId,
    /// The owner.
    pub account: AccountId,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// The certificates, as given.
    pub pem: String,
    /// What the first of them says.
    pub says: CertificateSummary,
    /// When it was made.
    pub created_at: Timestamp,
}

/// A certificate with its private key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCertificate {
    /// `cert_…`
    pub id: TlsCertificateId,
    /// The owner.
    pub account: AccountId,
    /// At most 255 bytes.
    #[serde(default)]
    pub description: String,
    /// At most 4,096 bytes.
    #[serde(default)]
    pub metadata: String,
    /// The chain as given, leaf first.
    pub pem: String,
    /// The leaf's private key in PEM, sealed for this record alone.
    pub private_key: Sealed,
    /// `rsa`, `ecdsa` or `ed25519`.
    pub private_key_type: String,
    /// What the leaf says.
    pub says: CertificateSummary,
    /// When it was made.
    pub created_at: Timestamp,
}

impl TlsCertificate {
    /// What the private key is sealed for: the record's place. Sealed under one it does not open under another.
    pub fn place(&self) -> String {
        format!("cert/{}/{}", self.account, self.id)
    }
}

/// What a certificate says, as far as people ask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateSummary {
    /// `CN` of whose it is.
    pub common_name: String,
    /// `O`, several with a comma between them; so are those below.
    pub organization: String,
    /// `OU`
    pub organizational_unit: String,
    /// `L`
    pub locality: String,
    /// `ST`
    pub province: String,
    /// `C`
    pub country: String,
    /// `CN` of who issued it.
    pub issuer_common_name: String,
    /// In lower-case hexadecimal digits.
    pub serial_number: String,
    /// Names of hosts it is for, in lower case, wildcards among them.
    pub dns_names: Vec<String>,
    /// Addresses it is for.
    pub ips: Vec<IpAddr>,
    /// It is not valid before.
    pub not_before: Timestamp,
    /// Nor after.
    pub not_after: Timestamp,
    /// Such as `digital_signature`.
    pub key_usages: Vec<String>,
    /// Such as `server_auth`.
    pub extended_key_usages: Vec<String>,
}

impl CertificateSummary {
    /// Whether it is valid at a time.
    pub fn is_valid_at(&self, now: Timestamp) -> bool {
        self.not_before <= now && now <= self.not_after
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_prints_no_key_and_has_its_place() {
        let certificate = TlsCertificate {
            id: TlsCertificateId::new(1_700_000_000, [1; 16]),
            account: AccountId::new(1_700_000_000, [2; 16]),
            description: String::new(),
            metadata: String::new(),
            pem: "-----BEGIN CERTIFICATE-----".to_owned(),
            private_key: Sealed::new(b"sealed bytes"),
            private_key_type: "ecdsa".to_owned(),
            says: CertificateSummary {
                not_before: Timestamp::from_unix_millis(10),
                not_after: Timestamp::from_unix_millis(20),
                common_name: String::new(),
                organization: String::new(),
                organizational_unit: String::new(),
                locality: String::new(),
                province: String::new(),
                country: String::new(),
                issuer_common_name: String::new(),
                serial_number: String::new(),
                dns_names: Vec::new(),
                ips: Vec::new(),
                key_usages: Vec::new(),
                extended_key_usages: Vec::new(),
            },
            created_at: Timestamp::from_unix_millis(0),
        };
        let stored = serde_json::to_string(&certificate).expect("plain data");
        let read: TlsCertificate = serde_json::from_str(&stored).expect("own form");
        assert_eq!(read, certificate);
        assert!(format!("{certificate:?}").contains("[sealed]"));
        let (account, id) = (&certificate.account, &certificate.id);
        assert_eq!(certificate.place(), format!("cert/{account}/{id}"));
        for (now, valid) in [(9, false), (10, true), (20, true), (21, false)] {
            let now = Timestamp::from_unix_millis(now);
            assert_eq!(certificate.says.is_valid_at(now), valid);
        }
    }
}

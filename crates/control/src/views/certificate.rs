//! Certificate authorities and TLS certificates. A private key comes in and is never shown.

use portcullis_model::{
    CertificateAuthority, CertificateSummary, Secret, Timestamp, TlsCertificate,
};
use portcullis_store::{NewCertificateAuthority, NewTlsCertificate, TextsUpdate};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{envelope, required, unshown};
use crate::material;
use crate::web::{Links, Refusal};

/// A certificate authority: one or more certificates of authorities.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = CertificateAuthority)]
pub(crate) struct AuthorityView {
    /// `ca_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// The certificates.
    ca_pem: String,
    /// Of the first certificate, as what follows.
    subject_common_name: String,
    #[schema(value_type = String, format = DateTime)]
    not_before: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
    /// Such as `cert_sign`.
    key_usages: Vec<String>,
    /// Such as `client_auth`.
    extended_key_usages: Vec<String>,
}

envelope! {
    /// A page of certificate authorities.
    CertificateAuthorityList { certificate_authorities: AuthorityView }
}

/// A certificate authority to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CertificateAuthorityCreate)]
pub(crate) struct AuthorityCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// One or more certificates in PEM, each of an authority; at most 64 KiB.
    #[schema(required)]
    ca_pem: Option<String>,
}

/// A TLS certificate, without its private key.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = TlsCertificate)]
pub(crate) struct CertificateView {
    /// `cert_…`
    id: String,
    /// Where it can be read.
    uri: String,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    description: String,
    metadata: String,
    /// The chain, leaf first.
    certificate_pem: String,
    /// Of the leaf, as what follows.
    subject_common_name: String,
    subject_alternative_names: AlternativeNames,
    /// Always null: when it was issued automatically, and this one was uploaded.
    #[schema(required, value_type = Option<String>, format = DateTime)]
    issued_at: Option<Timestamp>,
    #[schema(value_type = String, format = DateTime)]
    not_before: Timestamp,
    #[schema(value_type = String, format = DateTime)]
    not_after: Timestamp,
    /// Such as `digital_signature`.
    key_usages: Vec<String>,
    /// Such as `server_auth`.
    extended_key_usages: Vec<String>,
    /// `rsa`, `ecdsa` or `ed25519`.
    private_key_type: String,
    issuer_common_name: String,
    /// In lower-case hexadecimal digits.
    serial_number: String,
    subject_organization: String,
    subject_organizational_unit: String,
    subject_locality: String,
    subject_province: String,
    subject_country: String,
}

/// What a certificate is for.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SubjectAlternativeNames)]
pub(crate) struct AlternativeNames {
    /// Names of hosts.
    dns_names: Vec<String>,
    /// Addresses.
    ips: Vec<String>,
}

envelope! {
    /// A page of TLS certificates.
    TlsCertificateList { tls_certificates: CertificateView }
}

/// A TLS certificate to make.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = TlsCertificateCreate)]
pub(crate) struct CertificateCreate {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
    /// The chain in PEM, leaf first; at most 32 KiB.
    #[schema(required)]
    certificate_pem: Option<String>,
    /// The leaf's private key in PEM, without a passphrase; never shown again.
    #[serde(default, deserialize_with = "unshown")]
    #[schema(required, value_type = Option<String>)]
    private_key_pem: Option<Secret>,
}

/// Changes to the texts of a certificate authority or a TLS certificate.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = CertificateUpdate)]
pub(crate) struct TextsPatch {
    /// At most 255 bytes.
    description: Option<String>,
    /// At most 4,096 bytes.
    metadata: Option<String>,
}

impl AuthorityView {
    pub(crate) fn new(links: &Links, record: &CertificateAuthority) -> Self {
        let says = &record.says;
        Self {
            id: record.id.to_string(),
            uri: links.to("certificate_authorities", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            ca_pem: record.pem.clone(),
            subject_common_name: says.common_name.clone(),
            not_before: says.not_before,
            not_after: says.not_after,
            key_usages: says.key_usages.clone(),
            extended_key_usages: says.extended_key_usages.clone(),
        }
    }
}

impl CertificateView {
    pub(crate) fn new(links: &Links, record: &TlsCertificate) -> Self {
        let says = record.says.clone();
        Self {
            id: record.id.to_string(),
            uri: links.to("tls_certificates", &record.id),
            created_at: record.created_at,
            description: record.description.clone(),
            metadata: record.metadata.clone(),
            certificate_pem: record.pem.clone(),
            subject_alternative_names: AlternativeNames::new(&says),
            subject_common_name: says.common_name,
            issued_at: None,
            not_before: says.not_before,
            not_after: says.not_after,
            key_usages: says.key_usages,
            extended_key_usages: says.extended_key_usages,
            private_key_type: record.private_key_type.clone(),
            issuer_common_name: says.issuer_common_name,
            serial_number: says.serial_number,
            subject_organization: says.organization,
            subject_organizational_unit: says.organizational_unit,
            subject_locality: says.locality,
            subject_province: says.province,
            subject_country: says.country,
        }
    }
}

impl AlternativeNames {
    fn new(says: &CertificateSummary) -> Self {
        Self {
            dns_names: says.dns_names.clone(),
            ips: says.ips.iter().map(ToString::to_string).collect(),
        }
    }
}

impl AuthorityCreate {
    pub(crate) fn into_request(self) -> Result<NewCertificateAuthority, Refusal> {
        let pem = required("ca_pem", self.ca_pem)?;
        Ok(NewCertificateAuthority {
            says: material::authorities(&pem)?,
            pem,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl CertificateCreate {
    pub(crate) fn into_request(self) -> Result<NewTlsCertificate, Refusal> {
        let pem = required("certificate_pem", self.certificate_pem)?;
        // An empty one is dropped before it gets here only where it is a plain text.
        let key = self
            .private_key_pem
            .filter(|key| !key.expose().is_empty())
            .ok_or_else(|| {
                let code = portcullis_model::Code::ApiMissingField;
                Refusal::new(code, "`private_key_pem` is required")
            })?;
        let read = material::certificate(&pem, key.expose())?;
        Ok(NewTlsCertificate {
            pem,
            private_key: key,
            private_key_type: read.key_type,
            says: read.says,
            description: self.description.unwrap_or_default(),
            metadata: self.metadata.unwrap_or_default(),
        })
    }
}

impl From<TextsPatch> for TextsUpdate {
    fn from(patch: TextsPatch) -> Self {
        Self {
            description: patch.description,
            metadata: patch.metadata,
        }
    }
}

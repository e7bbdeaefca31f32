//! What certificates say, and whether PEM text holds what it should: for the API's views, for `conn.tls.*`, and
//! for whoever takes certificates.
//!
//! Must never: judge whether a certificate is to be trusted, or keep a key.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use portcullis_model::secret::hex;
use portcullis_model::{Code, Error, Timestamp};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer as _, ParsedExtension, X509Certificate};

use crate::defaults::PEM_CERTIFICATES_MAX;

mod names;

pub use names::Name;
use names::alternative_names;

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: Name,
    /// Who issued it.
    pub issuer: Name,
    /// Its subject's other names, which are those that count.
    pub names: AlternativeNames,
    /// In lower-case hexadecimal digits.
    pub serial_number: String,
    /// Such as `ecdsa-with-SHA256`; the object identifier of one that is not well known.
    pub signature_algorithm: String,
    /// It is not valid before.
    pub not_before: Timestamp,
    /// It is not valid after.
    pub not_after: Timestamp,
    /// Its extensions, in its order.
    pub extensions: Vec<Extension>,
    /// What its key may be used for, as RFC 5280 names it, such as `digitalSignature`; empty: not said.
    pub key_usages: Vec<String>,
    /// What it may be used for, such as `serverAuth`; empty: not said.
    pub extended_key_usages: Vec<String>,
    /// `rsa`, `ecdsa`, `ed25519`, or the object identifier of another kind.
    pub key_type: String,
    /// Whether it may issue others.
    pub is_ca: bool,
}

/// Names in `subjectAltName`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct AlternativeNames {
    /// Names of hosts.
    pub dns: Vec<String>,
    /// Addresses of e-mail.
    pub emails: Vec<String>,
    /// IP addresses.
    pub ips: Vec<String>,
    /// URIs.
    pub uris: Vec<String>,
}

/// An extension.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Extension {
    /// The dotted object identifier.
    pub id: String,
    /// Whether who does not know it must refuse the certificate.
    pub critical: bool,
    /// Its value, in base64.
    pub value: String,
}

/// What a certificate in DER says.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID` when it is not a certificate.
pub fn describe(der: &[u8]) -> Result<Certificate, Error> {
    let (_, parsed) = X509Certificate::from_der(der)
        .map_err(|error| invalid(format!("it is not a certificate: {error}")))?;
    let at = |seconds: i64| Timestamp::from_unix_millis(seconds.saturating_mul(1000));
    let mut certificate = Certificate {
        subject: Name::of(parsed.subject()),
        issuer: Name::of(parsed.issuer()),
        names: AlternativeNames::default(),
        serial_number: serial_number(parsed.raw_serial()),
        signature_algorithm: algorithm(&parsed.signature_algorithm.algorithm.to_id_string()),
        not_before: at(parsed.validity().not_before.timestamp()),
        not_after: at(parsed.validity().not_after.timestamp()),
        extensions: Vec::new(),
        key_usages: Vec::new(),
        extended_key_usages: Vec::new(),
        key_type: key_type(&parsed.public_key().algorithm.algorithm.to_id_string()),
        is_ca: parsed.is_ca(),
    };
    for extension in parsed.extensions() {
        certificate.extensions.push(Extension {
            id: extension.oid.to_id_string(),
            critical: extension.critical,
            value: STANDARD.encode(extension.value),
        });
        read(extension.parsed_extension(), &mut certificate);
    }
    Ok(certificate)
}

/// A certificate in DER, as PEM.
pub fn pem(der: &[u8]) -> String {
    let encoded = STANDARD.encode(der);
    let mut text = String::from("-----BEGIN CERTIFICATE-----\n");
    let mut rest = encoded.as_str();
    while !rest.is_empty() {
        let (line, behind) = rest.split_at(rest.len().min(64));
        text.push_str(line);
        text.push('\n');
        rest = behind;
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

/// What is told of more than as bytes.
fn read(extension: &ParsedExtension<'_>, certificate: &mut Certificate) {
    match extension {
        ParsedExtension::SubjectAlternativeName(names) => {
            certificate.names = alternative_names(&names.general_names);
        }
        ParsedExtension::KeyUsage(usage) => {
            let named = [
                (usage.digital_signature(), "digitalSignature"),
                (usage.non_repudiation(), "contentCommitment"),
                (usage.key_encipherment(), "keyEncipherment"),
                (usage.data_encipherment(), "dataEncipherment"),
                (usage.key_agreement(), "keyAgreement"),
                (usage.key_cert_sign(), "keyCertSign"),
                (usage.crl_sign(), "cRLSign"),
                (usage.encipher_only(), "encipherOnly"),
                (usage.decipher_only(), "decipherOnly"),
            ];
            certificate.key_usages = chosen(&named);
        }
        ParsedExtension::ExtendedKeyUsage(usage) => {
            let named = [
                (usage.any, "anyExtendedKeyUsage"),
                (usage.server_auth, "serverAuth"),
                (usage.client_auth, "clientAuth"),
                (usage.code_signing, "codeSigning"),
                (usage.email_protection, "emailProtection"),
                (usage.time_stamping, "timeStamping"),
                (usage.ocsp_signing, "OCSPSigning"),
            ];
            certificate.extended_key_usages = chosen(&named);
            let others = usage.other.iter().map(|oid| oid.to_id_string());
            certificate.extended_key_usages.extend(others);
        }
        _ => {}
    }
}

fn chosen(named: &[(bool, &str)]) -> Vec<String> {
    named
        .iter()
        .filter(|(is_set, _)| *is_set)
        .map(|(_, name)| (*name).to_owned())
        .collect()
}

/// Without the byte that only keeps DER's number positive.
fn serial_number(raw: &[u8]) -> String {
    match raw {
        [0, rest @ ..] if !rest.is_empty() => hex(rest),
        raw => hex(raw),
    }
}

fn algorithm(oid: &str) -> String {
    match oid {
        "1.2.840.113549.1.1.5" => "sha1WithRSAEncryption",
        "1.2.840.113549.1.1.10" => "rsassaPss",
        "1.2.840.113549.1.1.11" => "sha256WithRSAEncryption",
        "1.2.840.113549.1.1.12" => "sha384WithRSAEncryption",
        "1.2.840.113549.1.1.13" => "sha512WithRSAEncryption",
        "1.2.840.10045.4.3.2" => "ecdsa-with-SHA256",
        "1.2.840.10045.4.3.3" => "ecdsa-with-SHA384",
        "1.2.840.10045.4.3.4" => "ecdsa-with-SHA512",
        "1.3.101.112" => "ed25519",
        other => other,
    }
    .to_owned()
}

fn key_type(oid: &str) -> String {
    match oid {
        "1.2.840.113549.1.1.1" => "rsa",
        "1.2.840.10045.2.1" => "ecdsa",
        "1.3.101.112" => "ed25519",
        other => other,
    }
    .to_owned()
}

/// The certificates in PEM text, in its order; at least one, and each of them can be read.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, saying what is wrong with which.
pub fn pem_chain(text: &[u8]) -> Result<Vec<CertificateDer<'static>>, Error> {
    let mut chain = Vec::new();
    for certificate in CertificateDer::pem_slice_iter(text) {
        let certificate = certificate
            .map_err(|error| invalid(format!("the certificate is not in PEM form ({error})")))?;
        chain.push(certificate);
        if chain.len() > PEM_CERTIFICATES_MAX {
            let text = format!("it holds more than {PEM_CERTIFICATES_MAX} certificates");
            return Err(invalid(text));
        }
    }
    if chain.is_empty() {
        return Err(invalid("it holds no certificate in PEM form"));
    }
    for (place, certificate) in chain.iter().enumerate() {
        X509Certificate::from_der(certificate).map_err(|error| {
            invalid(format!("certificate {} cannot be read: {error}", place + 1))
        })?;
    }
    Ok(chain)
}

/// The private key in PEM text.
pub(super) fn pem_key(text: &[u8]) -> Result<PrivateKeyDer<'static>, Error> {
    PrivateKeyDer::from_pem_slice(text)
        .map_err(|error| invalid(format!("it holds no private key in PEM form ({error})")))
}

/// Whether a chain, leaf first, and a private key can be used by a server and belong together.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, saying what is wrong.
pub fn check_pair(certificate_pem: &[u8], key_pem: &[u8]) -> Result<(), Error> {
    super::terminate::certified(certificate_pem, key_pem).map(drop)
}

fn invalid(why: impl Into<String>) -> Error {
    Error::new(Code::CertificateInvalid, why)
}

#[cfg(test)]
mod tests;

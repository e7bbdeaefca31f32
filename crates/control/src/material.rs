//! Reads the TLS material that the API is given, so that the store has it checked, with what it says.
//!
//! Must never: keep a private key, or repeat one in an error.

use std::net::IpAddr;

use portcullis_model::{CertificateSummary, Code, Error};
use portcullis_net::tls::certificate::{self, Certificate};
use portcullis_store::defaults;

/// A certificate with its key, as read.
#[derive(Debug)]
pub(crate) struct Read {
    /// What the leaf says.
    pub(crate) says: CertificateSummary,
    /// `rsa`, `ecdsa` or `ed25519`.
    pub(crate) key_type: String,
}

/// Reads certificates of authorities; the answer is what the first says.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, saying which of them is wrong.
pub(crate) fn authorities(pem: &str) -> Result<CertificateSummary, Error> {
    bounded("ca_pem", pem, defaults::CERTIFICATE_AUTHORITY_BYTES_MAX)?;
    no_key("ca_pem", pem)?;
    let chain = certificate::pem_chain(pem.as_bytes()).map_err(of("ca_pem"))?;
    let mut first = None;
    for (place, der) in chain.iter().enumerate() {
        let told = certificate::describe(der).map_err(of("ca_pem"))?;
        if !told.is_ca {
            let message = format!(
                "`ca_pem`: certificate {} ({}) is not one of an authority",
                place + 1,
                shown(&told.subject.text)
            );
            return Err(Error::new(Code::CertificateInvalid, message));
        }
        first = first.or(Some(told));
    }
    // The chain has one at least.
    let first = first.ok_or_else(|| Error::of(Code::CertificateInvalid))?;
    Ok(summary(&first))
}

/// Reads a chain, leaf first, and the leaf's private key.
///
/// # Errors
/// `PTC_CERTIFICATE_INVALID`, also when the key is another's.
pub(crate) fn certificate(pem: &str, key: &str) -> Result<Read, Error> {
    let most = defaults::TLS_CERTIFICATE_BYTES_MAX;
    bounded("certificate_pem", pem, most)?;
    bounded("private_key_pem", key, defaults::PRIVATE_KEY_BYTES_MAX)?;
    no_key("certificate_pem", pem)?;
    let chain = certificate::pem_chain(pem.as_bytes()).map_err(of("certificate_pem"))?;
    let leaf = chain
        .first()
        .ok_or_else(|| Error::of(Code::CertificateInvalid))?;
    let leaf = certificate::describe(leaf).map_err(of("certificate_pem"))?;
    certificate::check_pair(pem.as_bytes(), key.as_bytes()).map_err(of("private_key_pem"))?;
    Ok(Read {
        says: summary(&leaf),
        key_type: leaf.key_type,
    })
}

fn bounded(field: &str, pem: &str, most: usize) -> Result<(), Error> {
    let bytes = pem.len();
    if bytes > most {
        let message = format!("`{field}` has {bytes} bytes; at most {most} are allowed");
        return Err(Error::new(Code::CertificateInvalid, message));
    }
    Ok(())
}

/// What is shown again must not hold a key: files that have both are common.
fn no_key(field: &str, pem: &str) -> Result<(), Error> {
    if pem.contains("PRIVATE KEY-----") {
        let message =
            format!("`{field}` holds a private key; give certificates alone, for they are shown");
        return Err(Error::new(Code::CertificateInvalid, message));
    }
    Ok(())
}

/// Names the field of an error.
fn of(field: &'static str) -> impl Fn(Error) -> Error {
    move |error| Error::new(error.code, format!("`{field}`: {}", error.message))
}

/// A text of a certificate, short enough to repeat.
fn shown(text: &str) -> String {
    text.chars()
        .filter(|c| !c.is_control())
        .take(SHOWN_CHARS_MAX)
        .collect()
}

const SHOWN_CHARS_MAX: usize = 128;

fn summary(told: &Certificate) -> CertificateSummary {
    let joined = |parts: &[String]| parts.join(", ");
    let subject = &told.subject;
    let ips = told.names.ips.iter();
    CertificateSummary {
        common_name: subject.common_name.clone(),
        organization: joined(&subject.organization),
        organizational_unit: joined(&subject.organizational_unit),
        locality: joined(&subject.locality),
        province: joined(&subject.province),
        country: joined(&subject.country),
        issuer_common_name: told.issuer.common_name.clone(),
        serial_number: told.serial_number.clone(),
        dns_names: told.names.dns.clone(),
        ips: ips.filter_map(|ip| ip.parse::<IpAddr>().ok()).collect(),
        not_before: told.not_before,
        not_after: told.not_after,
        key_usages: told.key_usages.iter().map(|name| spelled(name)).collect(),
        extended_key_usages: told
            .extended_key_usages
            .iter()
            .map(|name| spelled(name))
            .collect(),
    }
}

/// A name of RFC 5280 as ngrok writes it: `digitalSignature` is `digital_signature`, `keyCertSign` is
/// `cert_sign`, `OCSPSigning` is `ocsp_signing`. An object identifier stays.
fn spelled(name: &str) -> String {
    match name {
        "keyCertSign" => return "cert_sign".to_owned(),
        "cRLSign" => return "crl_sign".to_owned(),
        "OCSPSigning" => return "ocsp_signing".to_owned(),
        _ => {}
    }
    name.chars().fold(String::new(), |mut text, c| {
        if c.is_ascii_uppercase() {
            text.push('_');
        }
        text.push(c.to_ascii_lowercase());
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usages_are_spelled_as_ngrok_does() {
        for (rfc, ours) in [
            ("digitalSignature", "digital_signature"),
            ("keyEncipherment", "key_encipherment"),
            ("keyCertSign", "cert_sign"),
            ("cRLSign", "crl_sign"),
            ("OCSPSigning", "ocsp_signing"),
            ("serverAuth", "server_auth"),
            ("anyExtendedKeyUsage", "any_extended_key_usage"),
            ("1.3.6.1.5.5.7.3.9", "1.3.6.1.5.5.7.3.9"),
        ] {
            assert_eq!(spelled(rfc), ours);
        }
    }
}

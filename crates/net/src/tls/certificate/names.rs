//! Distinguished names as text and in parts, and the other names of a subject.
//!
//! Must never: let a part's content look like another part.

use std::net::IpAddr;

use portcullis_model::secret::hex;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::{AttributeTypeAndValue, X509Name};

use super::AlternativeNames;

/// A distinguished name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Name {
    /// The whole as RFC 4514 writes it, such as `CN=alice,O=Example`.
    pub text: String,
    /// `CN`; the last of several, which is the most particular one.
    pub common_name: String,
    /// `C`
    pub country: Vec<String>,
    /// `L`
    pub locality: Vec<String>,
    /// `O`
    pub organization: Vec<String>,
    /// `OU`
    pub organizational_unit: Vec<String>,
    /// `postalCode`
    pub postal_code: Vec<String>,
    /// `ST`
    pub province: Vec<String>,
    /// `street`
    pub street_address: Vec<String>,
}

impl Name {
    pub(super) fn of(name: &X509Name<'_>) -> Self {
        let mut parts = Self::default();
        for attribute in name.iter_attributes() {
            let value = value(attribute).unwrap_or_default();
            match attribute.attr_type().to_id_string().as_str() {
                "2.5.4.3" => parts.common_name = value,
                "2.5.4.6" => parts.country.push(value),
                "2.5.4.7" => parts.locality.push(value),
                "2.5.4.8" => parts.province.push(value),
                "2.5.4.9" => parts.street_address.push(value),
                "2.5.4.10" => parts.organization.push(value),
                "2.5.4.11" => parts.organizational_unit.push(value),
                "2.5.4.17" => parts.postal_code.push(value),
                _ => {}
            }
        }
        let rdns: Vec<String> = name
            .iter()
            .map(|rdn| rdn.iter().map(written).collect::<Vec<_>>().join("+"))
            .collect();
        parts.text = rdns.into_iter().rev().collect::<Vec<_>>().join(",");
        parts
    }
}

/// Its text, when it has one in an encoding that is in use.
fn value(attribute: &AttributeTypeAndValue<'_>) -> Option<String> {
    attribute.as_str().ok().map(ToOwned::to_owned)
}

/// `type=value`
fn written(attribute: &AttributeTypeAndValue<'_>) -> String {
    let oid = attribute.attr_type().to_id_string();
    let kind = match oid.as_str() {
        "2.5.4.3" => "CN",
        "2.5.4.5" => "serialNumber",
        "2.5.4.6" => "C",
        "2.5.4.7" => "L",
        "2.5.4.8" => "ST",
        "2.5.4.9" => "STREET",
        "2.5.4.10" => "O",
        "2.5.4.11" => "OU",
        "2.5.4.17" => "postalCode",
        "0.9.2342.19200300.100.1.1" => "UID",
        "0.9.2342.19200300.100.1.25" => "DC",
        "1.2.840.113549.1.9.1" => "emailAddress",
        other => other,
    };
    match value(attribute) {
        Some(text) => format!("{kind}={}", escaped(&text)),
        None => format!("{kind}=#{}", hex(attribute.as_slice())),
    }
}

/// As RFC 4514 escapes it.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let last = text.chars().count().saturating_sub(1);
    for (place, c) in text.chars().enumerate() {
        match c {
            '\0' => out.push_str("\\00"),
            '"' | '+' | ',' | ';' | '<' | '>' | '\\' | '=' => {
                out.push('\\');
                out.push(c);
            }
            '#' | ' ' if place == 0 => {
                out.push('\\');
                out.push(c);
            }
            ' ' if place == last => out.push_str("\\ "),
            c => out.push(c),
        }
    }
    out
}

pub(super) fn alternative_names(names: &[GeneralName<'_>]) -> AlternativeNames {
    let mut found = AlternativeNames::default();
    for name in names {
        match name {
            GeneralName::DNSName(dns) => found.dns.push((*dns).to_owned()),
            GeneralName::RFC822Name(email) => found.emails.push((*email).to_owned()),
            GeneralName::URI(uri) => found.uris.push((*uri).to_owned()),
            GeneralName::IPAddress(bytes) => found.ips.extend(ip(bytes)),
            _ => {}
        }
    }
    found
}

fn ip(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    let ip = v4.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from));
    ip.ok().map(|ip| ip.to_string())
}

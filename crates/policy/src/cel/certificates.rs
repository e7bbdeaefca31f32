//! Values of `conn.tls.*`: what a terminated connection is known by.

use cel::Value as Cel;

use super::Scope;
use super::values::{map, text, texts};
use crate::tls::{CertificateFacts, ExtensionFacts, NameFacts, TlsFacts};

/// The value of `conn.tls.REST`; `None`: nothing is known.
pub(super) fn value(rest: &str, scope: &Scope<'_>) -> Option<Cel> {
    let given = scope.facts.given;
    match given.tls.as_deref() {
        Some(facts) => of_connection(rest, facts),
        // The name is known before, where the first bytes were looked at.
        None if rest == "sni" => given.first.as_ref()?.sni.as_deref().map(text),
        None => None,
    }
}

fn of_connection(rest: &str, facts: &TlsFacts) -> Option<Cel> {
    let plain = match rest {
        "sni" => &facts.sni,
        "version" => &facts.version,
        "cipher_suite" => &facts.cipher_suite,
        "negotiated_alpn" => &facts.alpn,
        "ja4_fingerprint" => &facts.ja4,
        // Sessions are never resumed: that would pass over the client's certificate.
        "session_resumed" => return Some(Cel::Bool(false)),
        _ => {
            let (side, rest) = rest.split_once('.')?;
            let certificate = match side {
                "client" => facts.client.as_ref(),
                "server" => facts.server.as_ref(),
                _ => None,
            };
            return of_certificate(rest, certificate?);
        }
    };
    Some(text(plain.as_str()))
}

fn of_certificate(rest: &str, certificate: &CertificateFacts) -> Option<Cel> {
    Some(match rest {
        "subject" => text(certificate.subject.text.as_str()),
        "issuer" => text(certificate.issuer.text.as_str()),
        "san.dns_names" => texts(&certificate.dns_names),
        "san.email_addresses" => texts(&certificate.email_addresses),
        "san.ip_addresses" => texts(&certificate.ip_addresses),
        "san.uris" => texts(&certificate.uris),
        "serial_number" => text(certificate.serial_number.as_str()),
        "signature_algorithm" => text(certificate.signature_algorithm.as_str()),
        "validity.not_before" => text(certificate.not_before.as_str()),
        "validity.not_after" => text(certificate.not_after.as_str()),
        "extensions" => Cel::from(
            certificate
                .extensions
                .iter()
                .map(extension)
                .collect::<Vec<Cel>>(),
        ),
        "pem" => text(certificate.pem.as_str()),
        _ => {
            let (name, part) = rest.split_once('.')?;
            let name = match name {
                "subject" => &certificate.subject,
                "issuer" => &certificate.issuer,
                _ => return None,
            };
            return of_name(part, name);
        }
    })
}

fn of_name(part: &str, name: &NameFacts) -> Option<Cel> {
    Some(texts(match part {
        "common_name" => return Some(text(name.common_name.as_str())),
        "country" => &name.country,
        "locality" => &name.locality,
        "organization" => &name.organization,
        "organizational_unit" => &name.organizational_unit,
        "postal_code" => &name.postal_code,
        "province" => &name.province,
        "street_address" => &name.street_address,
        _ => return None,
    }))
}

fn extension(facts: &ExtensionFacts) -> Cel {
    map([
        ("id".to_owned(), text(facts.id.as_str())),
        ("critical".to_owned(), Cel::Bool(facts.critical)),
        ("value".to_owned(), text(facts.value.as_str())),
    ])
}

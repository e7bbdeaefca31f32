//! What `policy test --set conn.tls.…` says of a connection whose TLS is terminated.

use portcullis_policy::tls::{
    CertificateFacts, ExtensionFacts, NameFacts, Termination, TlsFacts, TlsVersion, Verification,
};

use super::test::wrong;
use crate::failure::Failure;

/// What can be set below `conn.tls.`.
const NAMES: &str = "sni, version, cipher_suite, negotiated_alpn, ja4_fingerprint, and below client. and server. subject, issuer (and below each common_name, country, locality, organization, organizational_unit, postal_code, province, street_address), san.dns_names, san.email_addresses, san.ip_addresses, san.uris, serial_number, signature_algorithm, validity.not_before, validity.not_after, extensions and pem";

/// Sets `conn.tls.NAME`. Lists are written with commas, extensions as `id` or `id=base64`, with `!` behind the id of
/// one that is critical.
///
/// # Errors
/// There is nothing of this name.
pub(super) fn set(facts: &mut TlsFacts, name: &str, value: &str) -> Result<(), Failure> {
    let text = value.to_owned();
    match name {
        "sni" => facts.sni = text,
        "version" if value == "1.2" || value == "1.3" => facts.version = text,
        "version" => return Err(wrong("--set conn.tls.version: 1.2 or 1.3".to_owned())),
        "cipher_suite" => facts.cipher_suite = text,
        "negotiated_alpn" => facts.alpn = text,
        "ja4_fingerprint" => facts.ja4 = text,
        _ => {
            let certificate = match name.split_once('.') {
                Some(("client", rest)) => Some((&mut facts.client, rest)),
                Some(("server", rest)) => Some((&mut facts.server, rest)),
                _ => None,
            };
            let set = certificate.and_then(|(certificate, rest)| {
                set_certificate(certificate.get_or_insert_default(), rest, value)
            });
            return set.ok_or_else(|| {
                wrong(format!(
                    "--set conn.tls.{name}: below conn.tls. it can set {NAMES}"
                ))
            });
        }
    }
    Ok(())
}

fn set_certificate(certificate: &mut CertificateFacts, name: &str, value: &str) -> Option<()> {
    let text = value.to_owned();
    match name {
        "subject" => certificate.subject.text = text,
        "issuer" => certificate.issuer.text = text,
        "san.dns_names" => certificate.dns_names = list(value),
        "san.email_addresses" => certificate.email_addresses = list(value),
        "san.ip_addresses" => certificate.ip_addresses = list(value),
        "san.uris" => certificate.uris = list(value),
        "serial_number" => certificate.serial_number = text,
        "signature_algorithm" => certificate.signature_algorithm = text,
        "validity.not_before" => certificate.not_before = text,
        "validity.not_after" => certificate.not_after = text,
        "extensions" => certificate.extensions = value.split(',').map(extension).collect(),
        "pem" => certificate.pem = text,
        _ => {
            let (name, part) = name.split_once('.')?;
            let facts = match name {
                "subject" => &mut certificate.subject,
                "issuer" => &mut certificate.issuer,
                _ => return None,
            };
            return set_name(facts, part, value);
        }
    }
    Some(())
}

fn set_name(name: &mut NameFacts, part: &str, value: &str) -> Option<()> {
    let texts = match part {
        "common_name" => {
            value.clone_into(&mut name.common_name);
            return Some(());
        }
        "country" => &mut name.country,
        "locality" => &mut name.locality,
        "organization" => &mut name.organization,
        "organizational_unit" => &mut name.organizational_unit,
        "postal_code" => &mut name.postal_code,
        "province" => &mut name.province,
        "street_address" => &mut name.street_address,
        _ => return None,
    };
    *texts = list(value);
    Some(())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

fn extension(text: &str) -> ExtensionFacts {
    let (id, value) = text.split_once('=').unwrap_or((text, ""));
    ExtensionFacts {
        id: id.trim_end_matches('!').to_owned(),
        critical: id.ends_with('!'),
        value: value.to_owned(),
    }
}

/// Why a client with these facts would not come through the handshake; `None`: it would.
pub(super) fn refused(termination: &Termination, facts: &TlsFacts) -> Option<&'static str> {
    let clients = &termination.clients;
    let demands = !clients.authorities.is_empty() && clients.strategy != Verification::Request;
    if demands && facts.client.is_none() {
        return Some(
            "the client has to show a certificate, and `--set conn.tls.client.…` gives it none",
        );
    }
    match (termination.min_version, termination.max_version) {
        (TlsVersion::V13, _) if facts.version == "1.2" => Some("the client's version is too low"),
        (_, TlsVersion::V12) if facts.version == "1.3" => Some("the client's version is too high"),
        _ => None,
    }
}

/// What a terminated connection is known by: what was set, and what follows from that.
pub(super) fn of(termination: &Termination, set: &TlsFacts, sni: Option<&str>) -> TlsFacts {
    let mut facts = set.clone();
    if facts.sni.is_empty() {
        sni.unwrap_or_default().clone_into(&mut facts.sni);
    }
    if facts.version.is_empty() {
        let version = match termination.max_version {
            TlsVersion::V12 => "1.2",
            TlsVersion::V13 => "1.3",
        };
        version.clone_into(&mut facts.version);
    }
    facts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_expressions_read_can_be_set() {
        let mut facts = TlsFacts::default();
        for (name, value) in [
            ("sni", "db.example.com"),
            ("version", "1.2"),
            ("client.subject", "CN=alice"),
            ("client.subject.common_name", "alice"),
            ("client.subject.organization", "One,Two"),
            ("client.san.dns_names", "a.example.com,b.example.com"),
            ("client.extensions", "2.5.29.17!=AAEC,1.2.3"),
            ("server.issuer.common_name", "Root"),
        ] {
            set(&mut facts, name, value).expect(name);
        }
        assert_eq!(facts.sni, "db.example.com");
        let client = facts.client.as_ref().expect("a certificate");
        assert_eq!(client.subject.text, "CN=alice");
        assert_eq!(client.subject.common_name, "alice");
        assert_eq!(client.subject.organization, ["One", "Two"]);
        assert_eq!(client.dns_names.len(), 2);
        let extension = &client.extensions[0];
        assert!(extension.critical && extension.id == "2.5.29.17" && extension.value == "AAEC");
        assert!(!client.extensions[1].critical);
        let server = facts.server.as_ref().expect("a certificate");
        assert_eq!(server.issuer.common_name, "Root");
        for name in [
            "snii",
            "version.x",
            "client",
            "client.subjet",
            "peer.subject",
            "client.subject.cn",
        ] {
            assert!(set(&mut facts, name, "x").is_err(), "{name}");
        }
        assert!(set(&mut facts, "version", "1.1").is_err());
    }

    #[test]
    fn a_client_without_what_is_demanded_does_not_come_through() {
        use portcullis_policy::tls::Authority;
        let mut termination = Termination {
            min_version: TlsVersion::V12,
            ..Termination::default()
        };
        let mut facts = TlsFacts::default();
        assert_eq!(refused(&termination, &facts), None);
        termination.clients.authorities = vec![Authority::Pem(String::new())];
        assert!(refused(&termination, &facts).is_some());
        facts.client = Some(CertificateFacts::default());
        assert_eq!(refused(&termination, &facts), None);
        termination.min_version = TlsVersion::V13;
        let of_it = of(&termination, &facts, Some("a.example.com"));
        assert_eq!(
            (of_it.version.as_str(), of_it.sni.as_str()),
            ("1.3", "a.example.com")
        );
        facts.version = "1.2".to_owned();
        assert!(refused(&termination, &facts).is_some());
    }
}

//! `conn.tls.*` of a terminated connection.

use std::sync::Arc;

use serde_json::json;

use super::*;
use crate::tls::{CertificateFacts, ExtensionFacts, NameFacts, TlsFacts};

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn name(common_name: &str) -> NameFacts {
    NameFacts {
        text: format!("CN={common_name},O=Example"),
        common_name: common_name.to_owned(),
        country: texts(&["DE"]),
        locality: texts(&["Berlin"]),
        organization: texts(&["Example", "Second"]),
        organizational_unit: texts(&["Databases"]),
        postal_code: texts(&["10115"]),
        province: texts(&["BE"]),
        street_address: texts(&["Street 1"]),
    }
}

fn certificate(common_name: &str) -> CertificateFacts {
    CertificateFacts {
        subject: name(common_name),
        issuer: name("Root"),
        dns_names: texts(&["db.example.com"]),
        email_addresses: texts(&["alice@example.com"]),
        ip_addresses: texts(&["192.0.2.1"]),
        uris: texts(&["spiffe://example.com/alice"]),
        serial_number: "0a1b".to_owned(),
        signature_algorithm: "ecdsa-with-SHA256".to_owned(),
        not_before: "2026-01-01T00:00:00Z".to_owned(),
        not_after: "2027-01-01T00:00:00Z".to_owned(),
        extensions: vec![ExtensionFacts {
            id: "2.5.29.17".to_owned(),
            critical: true,
            value: "AAEC".to_owned(),
        }],
        pem: "-----BEGIN CERTIFICATE-----".to_owned(),
    }
}

fn terminated() -> Case {
    let mut case = Case::full();
    case.given.tls = Some(Arc::new(TlsFacts {
        sni: "tls.example.com".to_owned(),
        version: "1.3".to_owned(),
        cipher_suite: "TLS_AES_128_GCM_SHA256".to_owned(),
        alpn: "h2".to_owned(),
        ja4: "t13d1516h2_8daaf6152771_e5627efa2ab1".to_owned(),
        client: Some(certificate("alice")),
        server: Some(certificate("server")),
        termination: None,
    }));
    case
}

#[test]
fn everything_that_is_known_has_its_name() {
    let case = terminated();
    for (path, value) in [
        ("sni", json!("tls.example.com")),
        ("version", json!("1.3")),
        ("cipher_suite", json!("TLS_AES_128_GCM_SHA256")),
        ("negotiated_alpn", json!("h2")),
        (
            "ja4_fingerprint",
            json!("t13d1516h2_8daaf6152771_e5627efa2ab1"),
        ),
        ("session_resumed", json!(false)),
        ("client.subject", json!("CN=alice,O=Example")),
        ("client.subject.common_name", json!("alice")),
        ("client.subject.country", json!(["DE"])),
        ("client.subject.locality", json!(["Berlin"])),
        ("client.subject.organization", json!(["Example", "Second"])),
        ("client.subject.organizational_unit", json!(["Databases"])),
        ("client.subject.postal_code", json!(["10115"])),
        ("client.subject.province", json!(["BE"])),
        ("client.subject.street_address", json!(["Street 1"])),
        ("client.issuer", json!("CN=Root,O=Example")),
        ("client.issuer.common_name", json!("Root")),
        ("client.san.dns_names", json!(["db.example.com"])),
        ("client.san.email_addresses", json!(["alice@example.com"])),
        ("client.san.ip_addresses", json!(["192.0.2.1"])),
        ("client.san.uris", json!(["spiffe://example.com/alice"])),
        ("client.serial_number", json!("0a1b")),
        ("client.signature_algorithm", json!("ecdsa-with-SHA256")),
        ("client.validity.not_before", json!("2026-01-01T00:00:00Z")),
        ("client.validity.not_after", json!("2027-01-01T00:00:00Z")),
        ("client.extensions[0].id", json!("2.5.29.17")),
        ("client.extensions[0].critical", json!(true)),
        ("client.extensions[0].value", json!("AAEC")),
        ("client.extensions.size()", json!(1)),
        ("client.pem", json!("-----BEGIN CERTIFICATE-----")),
        ("server.subject.common_name", json!("server")),
        ("server.issuer.organization", json!(["Example", "Second"])),
        ("client.san.size()", json!(4)),
    ] {
        assert_eq!(
            case.eval(&format!("conn.tls.{path}")),
            Ok(value.clone()),
            "{path}"
        );
        if path.starts_with("client") || path.starts_with("server") {
            let of_action = format!("actions.ngrok.terminate_tls.{path}");
            assert_eq!(case.eval(&of_action), Ok(value), "{of_action}");
        }
    }
    for (text, holds) in [
        (
            "conn.tls.client.extensions.exists(e, e.id == '2.5.29.17' && e.critical)",
            true,
        ),
        (
            "timestamp(conn.tls.client.validity.not_after) > time.now",
            true,
        ),
        ("'db.example.com' in conn.tls.client.san.dns_names", true),
        ("has(conn.tls.client.pem)", true),
        ("conn.sni == 'db.example.com'", true),
        ("conn.tls.client['subject'] == 'CN=alice,O=Example'", true),
        ("conn.tls.client.subject.common_name in ['bob']", false),
    ] {
        assert_eq!(case.eval(text), Ok(json!(holds)), "{text}");
    }
}

#[test]
fn what_is_not_known_is_empty() {
    let mut case = terminated();
    let facts = TlsFacts {
        version: "1.2".to_owned(),
        ..TlsFacts::default()
    };
    case.given.tls = Some(Arc::new(facts));
    for (path, value) in [
        // A terminated connection that asked for no name has none, whatever the first bytes said.
        ("sni", json!("")),
        ("version", json!("1.2")),
        ("client.subject", json!("")),
        ("client.subject.common_name", json!("")),
        ("client.san.uris", json!([])),
        ("client.extensions", json!([])),
        ("server.pem", json!("")),
    ] {
        assert_eq!(case.eval(&format!("conn.tls.{path}")), Ok(value), "{path}");
    }
    assert_eq!(case.eval("has(conn.tls.client.pem)"), Ok(json!(false)));
}

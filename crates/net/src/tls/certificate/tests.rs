//! Certificates made for it, and read back.

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, SerialNumber, date_time_ymd,
};

use super::*;

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    let mut name = DistinguishedName::new();
    name.push(DnType::CountryName, "DE");
    name.push(DnType::OrganizationName, "Example, Inc");
    name.push(DnType::CommonName, "alice");
    params.distinguished_name = name;
    params.subject_alt_names = vec![
        SanType::DnsName("a.example".try_into().unwrap()),
        SanType::Rfc822Name("alice@example.com".try_into().unwrap()),
        SanType::IpAddress("192.0.2.7".parse().unwrap()),
        SanType::IpAddress("2001:db8::7".parse().unwrap()),
        SanType::URI("spiffe://example/alice".try_into().unwrap()),
    ];
    params.serial_number = Some(SerialNumber::from_slice(&[0xfe, 1, 2]));
    params.not_before = date_time_ymd(2026, 1, 2);
    params.not_after = date_time_ymd(2055, 3, 4); // a GeneralizedTime
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params
}

#[test]
fn a_certificate_tells_what_it_was_made_with() {
    let key = KeyPair::generate().unwrap();
    let der = params().self_signed(&key).unwrap().der().to_vec();
    let told = describe(&der).unwrap();
    assert_eq!(told.subject.text, "CN=alice,O=Example\\, Inc,C=DE");
    assert_eq!(told.subject.common_name, "alice");
    assert_eq!(told.subject.organization, ["Example, Inc"]);
    assert_eq!(told.subject.country, ["DE"]);
    assert_eq!(told.issuer, told.subject);
    assert_eq!(told.names.dns, ["a.example"]);
    assert_eq!(told.names.emails, ["alice@example.com"]);
    assert_eq!(told.names.ips, ["192.0.2.7", "2001:db8::7"]);
    assert_eq!(told.names.uris, ["spiffe://example/alice"]);
    assert_eq!(told.serial_number, "fe0102");
    assert_eq!(told.signature_algorithm, "ecdsa-with-SHA256");
    assert_eq!(told.not_before.to_string(), "2026-01-02T00:00:00.000Z");
    assert_eq!(told.not_after.to_string(), "2055-03-04T00:00:00.000Z");
    assert_eq!(told.key_usages, ["digitalSignature"]);
    assert_eq!(told.extended_key_usages, ["clientAuth"]);
    assert_eq!((told.key_type.as_str(), told.is_ca), ("ecdsa", false));
    let usage = told
        .extensions
        .iter()
        .find(|e| e.id == "2.5.29.15")
        .unwrap();
    assert!(usage.critical);
    assert_eq!(STANDARD.decode(&usage.value).unwrap(), [3, 2, 7, 0x80]);
}

#[test]
fn an_authority_and_other_keys_are_told() {
    let key = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
    let mut params = params();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let told = describe(params.self_signed(&key).unwrap().der()).unwrap();
    assert!(told.is_ca);
    assert_eq!(told.key_type, "ed25519");
    assert_eq!(told.signature_algorithm, "ed25519");
}

#[test]
fn what_is_no_certificate_is_refused_at_every_cut() {
    let key = KeyPair::generate().unwrap();
    let der = params().self_signed(&key).unwrap().der().to_vec();
    for cut in 0..der.len() {
        let error = describe(&der[..cut]).unwrap_err();
        assert_eq!(error.code, Code::CertificateInvalid, "cut at {cut}");
    }
}

#[test]
fn pairs_are_checked() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let leaf = params().self_signed(&key).unwrap();
    let (pem, key, other) = (leaf.pem(), key.serialize_pem(), other.serialize_pem());
    check_pair(pem.as_bytes(), key.as_bytes()).unwrap();
    let twice = pem.clone() + &pem;
    assert_eq!(pem_chain(twice.as_bytes()).unwrap().len(), 2);
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let second_is_junk = pem.clone() + junk;
    for (chain, key, named) in [
        (
            pem.as_str(),
            other.as_str(),
            "not the key of the certificate",
        ),
        ("", key.as_str(), "no certificate"),
        (&pem[..200], key.as_str(), "not in PEM form"),
        (pem.as_str(), pem.as_str(), "no private key"),
        (second_is_junk.as_str(), key.as_str(), "certificate 2"),
    ] {
        let error = check_pair(chain.as_bytes(), key.as_bytes()).unwrap_err();
        assert_eq!(error.code, Code::CertificateInvalid);
        assert!(error.message.contains(named), "{error}");
    }
}

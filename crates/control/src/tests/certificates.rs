//! `/certificate_authorities` and `/tls_certificates`: what they say, and no private key in any answer.

use axum::http::StatusCode;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose, SanType, date_time_ymd,
};
use serde_json::{Value, json};

use super::{Api, Got};

/// An authority and its certificate.
fn authority(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.not_before = date_time_ymd(2026, 1, 2);
    params.not_after = date_time_ymd(2046, 3, 4);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A leaf of an authority: chain and key.
fn leaf(issuer: &CertifiedIssuer<'static, KeyPair>) -> (String, String) {
    let mut params = CertificateParams::new(vec!["a.example.com".to_owned()]).unwrap();
    let ip = SanType::IpAddress("192.0.2.7".parse().unwrap());
    params.subject_alt_names.push(ip);
    let name = &mut params.distinguished_name;
    name.push(DnType::CommonName, "web");
    name.push(DnType::OrganizationName, "Example");
    name.push(DnType::CountryName, "DE");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.not_before = date_time_ymd(2026, 1, 2);
    params.not_after = date_time_ymd(2046, 3, 4);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, issuer).unwrap();
    let chain = format!("{}{}", certificate.pem(), issuer.pem());
    (chain, key.serialize_pem())
}

/// The names of an object's fields.
fn fields(got: &Got) -> String {
    let object = got.body.as_object().expect("an object");
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    names.sort_unstable();
    names.join(" ")
}

#[tokio::test]
async fn authorities_live_their_life() {
    let api = Api::start().await;
    let (one, two) = (authority("one"), authority("two"));
    let pem = format!("# ours\n{}{}", one.pem(), two.pem());
    let body = json!({"ca_pem": pem, "description": "", "metadata": "m"});
    let made = api.post("/certificate_authorities", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(
        fields(&made),
        "ca_pem created_at description extended_key_usages id key_usages metadata not_after not_before \
         subject_common_name uri"
    );
    assert_eq!(made.body["ca_pem"], pem);
    assert_eq!(made.body["subject_common_name"], "one");
    assert_eq!(made.body["not_before"], "2026-01-02T00:00:00.000Z");
    assert_eq!(made.body["not_after"], "2046-03-04T00:00:00.000Z");
    assert_eq!(made.body["key_usages"], json!(["cert_sign", "crl_sign"]));
    assert_eq!(made.body["extended_key_usages"], json!([]));
    let path = format!("/certificate_authorities/{}", made.id());
    assert!(made.id().starts_with("ca_"), "{made:?}");
    assert_eq!(made.body["uri"], format!("http://api.test:7480{path}"));
    assert_eq!(api.get(&path).await.body, made.body);
    let changed = api.patch(&path, json!({"description": "office"})).await;
    assert_eq!(
        (&changed.body["description"], &changed.body["metadata"]),
        (&json!("office"), &json!("m"))
    );
    let fixed = api.patch(&path, json!({"ca_pem": two.pem()})).await;
    assert_eq!(fixed.code(), "PTC_API_UNKNOWN_FIELD");
    let empty = api.patch(&path, json!({})).await;
    assert_eq!(empty.code(), "PTC_API_EMPTY_UPDATE");
    pages(
        &api,
        "certificate_authorities",
        json!({"ca_pem": two.pem()}),
    )
    .await;
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    let gone = api.get(&path).await;
    assert_eq!(gone.code(), "PTC_CERTIFICATE_AUTHORITY_NOT_FOUND");
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
}

/// Two more of a collection with one already: pages, the next page's URL, a filter.
async fn pages(api: &Api, collection: &str, body: Value) {
    let first = api.get(&format!("/{collection}")).await;
    let first = first.body[collection][0]["id"].clone();
    for n in 0..2 {
        let mut body = body.clone();
        body["metadata"] = json!(format!("page {n}"));
        let made = api.post(&format!("/{collection}"), body).await;
        assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    }
    let mut path = format!("/{collection}?limit=2");
    let mut seen = Vec::new();
    loop {
        let page = api.get(&path).await;
        let items = page.body[collection].as_array().expect("a list");
        seen.extend(items.iter().map(|item| item["id"].clone()));
        let Some(next) = page.body["next_page_uri"].as_str() else {
            break;
        };
        let next = next.strip_prefix("http://api.test:7480");
        path = next.expect("absolute").to_owned();
    }
    assert_eq!(seen.len(), 3);
    assert!(seen.contains(&first));
    let filter = "filter=obj.metadata%20%3D%3D%20'page%201'";
    let found = api.get(&format!("/{collection}?{filter}")).await;
    let found = found.body[collection].as_array().expect("a list").len();
    assert_eq!(found, 1);
}

#[tokio::test]
async fn what_is_no_authority_is_refused() {
    let api = Api::start().await;
    let one = authority("one");
    let (chain, key) = leaf(&one);
    let cut = &one.pem()[..200];
    let both = format!("{}{key}", one.pem());
    let long = format!("{}{}", one.pem(), "#\n".repeat(40_000));
    for (pem, says) in [
        ("no PEM", "no certificate"),
        (cut, "PEM"),
        (chain.as_str(), "certificate 1 ("),
        (key.as_str(), "private key"),
        (both.as_str(), "private key"),
        (long.as_str(), "at most 65536"),
    ] {
        let got = api
            .post("/certificate_authorities", json!({"ca_pem": pem}))
            .await;
        assert_eq!(got.code(), "PTC_CERTIFICATE_INVALID", "{says}: {got:?}");
        assert_eq!(got.status, StatusCode::BAD_REQUEST);
        assert!(got.message().contains(says), "{says}: {got:?}");
        assert!(got.message().starts_with("`ca_pem`"), "{got:?}");
    }
    let got = api.post("/certificate_authorities", json!({})).await;
    assert_eq!(got.code(), "PTC_API_MISSING_FIELD");
}

#[tokio::test]
async fn certificates_live_their_life_and_no_answer_holds_a_key() {
    let api = Api::start().await;
    let issuer = authority("issuer");
    let (chain, key) = leaf(&issuer);
    let body = json!({"certificate_pem": chain, "private_key_pem": key, "metadata": "m", "description": ""});
    let made = api.post("/tls_certificates", body.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(
        fields(&made),
        "certificate_pem created_at description extended_key_usages id issued_at issuer_common_name key_usages \
         metadata not_after not_before private_key_type serial_number subject_alternative_names subject_common_name \
         subject_country subject_locality subject_organization subject_organizational_unit subject_province uri"
    );
    for (field, value) in [
        ("certificate_pem", json!(chain)),
        ("subject_common_name", json!("web")),
        ("issuer_common_name", json!("issuer")),
        ("subject_organization", json!("Example")),
        ("subject_country", json!("DE")),
        ("subject_locality", json!("")),
        (
            "subject_alternative_names",
            json!({"dns_names": ["a.example.com"], "ips": ["192.0.2.7"]}),
        ),
        ("issued_at", Value::Null),
        ("not_before", json!("2026-01-02T00:00:00.000Z")),
        ("private_key_type", json!("ecdsa")),
        ("key_usages", json!(["digital_signature"])),
        ("extended_key_usages", json!(["server_auth"])),
    ] {
        assert_eq!(made.body[field], value, "{field}");
    }
    let path = format!("/tls_certificates/{}", made.id());
    assert!(made.id().starts_with("cert_"), "{made:?}");
    assert_eq!(api.get(&path).await.body, made.body);
    let changed = api.patch(&path, json!({"description": "office"})).await;
    assert_eq!(changed.body["description"], "office", "{changed:?}");
    for field in ["certificate_pem", "private_key_pem"] {
        let fixed = api.patch(&path, json!({ field: "x" })).await;
        assert_eq!(fixed.code(), "PTC_API_UNKNOWN_FIELD");
    }
    let empty = api.patch(&path, json!({"metadata": null})).await;
    assert_eq!(empty.code(), "PTC_API_EMPTY_UPDATE");
    pages(&api, "tls_certificates", body).await;
    let all = api.get("/tls_certificates").await;
    let inner = key.lines().nth(1).expect("base64");
    for got in [&made, &changed, &all] {
        let text = got.body.to_string();
        assert!(
            !text.contains(inner) && !text.contains("PRIVATE KEY"),
            "{text}"
        );
    }
    // The data path finds it by its name, with the key.
    let snapshot = api.registry.snapshot();
    let found = snapshot.certificate_for(&api.account, "a.example.com", super::harness::now());
    assert_eq!(&*found.expect("valid").private_key, key);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    let gone = api.get(&path).await;
    assert_eq!(gone.code(), "PTC_CERTIFICATE_NOT_FOUND");
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_does_not_belong_together_is_refused_without_repeating_it() {
    let api = Api::start().await;
    let issuer = authority("issuer");
    let (chain, key) = leaf(&issuer);
    let (_, other) = leaf(&issuer);
    let inner = other.lines().nth(1).expect("base64").to_owned();
    let turned = format!("{}{chain}", issuer.pem());
    let long = format!("{key}{}", "#\n".repeat(10_000));
    for (certificate, key, field, says) in [
        (&chain, &other, "private_key_pem", "not the key"),
        (&turned, &key, "private_key_pem", "not the key"),
        (&chain, &chain, "private_key_pem", "private key"),
        (&key, &key, "certificate_pem", "private key"),
        (&chain, &long, "private_key_pem", "at most 16384"),
    ] {
        let body = json!({"certificate_pem": certificate, "private_key_pem": key});
        let got = api.post("/tls_certificates", body).await;
        assert_eq!(got.code(), "PTC_CERTIFICATE_INVALID", "{got:?}");
        let message = got.message();
        assert!(message.starts_with(&format!("`{field}`")), "{message}");
        assert!(message.contains(says), "{message}");
        assert!(!message.contains(&inner), "{message}");
    }
    for body in [
        json!({"certificate_pem": chain}),
        json!({"private_key_pem": key}),
        json!({"certificate_pem": chain, "private_key_pem": ""}),
    ] {
        let got = api.post("/tls_certificates", body).await;
        assert_eq!(got.code(), "PTC_API_MISSING_FIELD", "{got:?}");
    }
    let body = json!({"certificate_pem": chain, "private_key_pem": [inner]});
    let got = api.post("/tls_certificates", body).await;
    assert_eq!(got.code(), "PTC_API_INVALID_VALUE", "{got:?}");
    assert!(!got.message().contains(&inner), "{got:?}");
}

#[tokio::test]
async fn another_accounts_material_is_not_found() {
    let api = Api::start().await;
    let issuer = authority("issuer");
    let (chain, key) = leaf(&issuer);
    let ca = api
        .post("/certificate_authorities", json!({"ca_pem": issuer.pem()}))
        .await;
    let body = json!({"certificate_pem": chain, "private_key_pem": key});
    let certificate = api.post("/tls_certificates", body).await;
    let (_, other) = api.another("other").await;
    for (collection, id) in [
        ("certificate_authorities", ca.id()),
        ("tls_certificates", certificate.id()),
    ] {
        let path = format!("/{collection}/{id}");
        let text = json!({"metadata": "mine now"});
        for (method, body) in [("GET", None), ("PATCH", Some(&text)), ("DELETE", None)] {
            let request = super::harness::request(method, &path, &other, body);
            let got = api.send(request).await;
            assert_eq!(got.status, StatusCode::NOT_FOUND, "{method} {path}");
        }
        let theirs = api.get_as(&other, &format!("/{collection}")).await;
        assert_eq!(theirs.body[collection], json!([]));
        assert_eq!(api.get(&path).await.body["metadata"], "");
    }
}

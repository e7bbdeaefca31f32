//! Endpoints at a name for TLS: as the API shows, finds, changes and refuses them.

use axum::http::StatusCode;
use serde_json::json;

use super::Api;
use super::harness::{DENY, HOST};

#[tokio::test]
async fn endpoints_at_a_name_live_their_life() {
    let api = Api::start().await;
    let name = format!("app.{HOST}");
    let url = format!("tls://{name}");
    let made = api
        .post("/endpoints", json!({"url": url, "traffic_policy": DENY}))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    for (field, value) in [
        ("url", json!(format!("{url}:443"))),
        ("public_url", json!(format!("{url}:443"))),
        ("proto", json!("tls")),
        ("scheme", json!("tls")),
        ("host", json!(name)),
        ("port", json!(443)),
        ("hostport", json!(format!("{name}:443"))),
        ("bindings", json!(["public"])),
        ("tcp_addr", json!(null)),
    ] {
        assert_eq!(made.body[field], value, "{field}");
    }
    for filter in ["obj.proto == 'tls'", "obj.url.startsWith('tls://')"] {
        let query = filter.replace(' ', "%20").replace('\'', "%27");
        let found = api.get(&format!("/endpoints?filter={query}")).await;
        assert_eq!(
            found.body["endpoints"].as_array().map(Vec::len),
            Some(1),
            "{filter}: {found:?}"
        );
    }
    let path = format!("/endpoints/{}", made.id());
    let moved = json!({"url": format!("tls://*.other.{HOST}")});
    let changed = api.patch(&path, moved).await;
    assert_eq!(
        changed.body["host"],
        json!(format!("*.other.{HOST}")),
        "{changed:?}"
    );
    let scheme = api.patch(&path, json!({"url": "tcp://x.internal:1"})).await;
    assert_eq!(
        (scheme.status, scheme.ngrok()),
        (StatusCode::BAD_REQUEST, "ERR_NGROK_18005"),
        "{scheme:?}"
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn names_are_refused_with_clear_errors() {
    let api = Api::start().await;
    let (_, other) = api.another("other").await;
    let body = |url: &str| json!({"url": url, "traffic_policy": DENY});
    let wild = format!("tls://*.app.{HOST}");
    let made = api.post("/endpoints", body(&wild)).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    for (url, code, ngrok) in [
        (
            format!("tls://x.{HOST}:8443"),
            "PTC_URL_PORT_SCHEME",
            "ERR_NGROK_9035",
        ),
        (
            "tls://x.example.org".to_owned(),
            "PTC_ADDRESS_HOST_UNKNOWN",
            "ERR_NGROK_4504",
        ),
        (
            format!("tls://*.{HOST}"),
            "PTC_URL_WILDCARD",
            "ERR_NGROK_4503",
        ),
        (
            format!("tls://x.app.{HOST}"),
            "PTC_ADDRESS_FOREIGN",
            "ERR_NGROK_309",
        ),
        (
            "tls://203.0.113.5".to_owned(),
            "PTC_URL_HOST_INVALID",
            "ERR_NGROK_9032",
        ),
    ] {
        let refused = api.post_as(&other, "/endpoints", body(&url)).await;
        assert_eq!(
            (refused.code(), refused.ngrok()),
            (code, ngrok),
            "{url}: {refused:?}"
        );
    }
    let tcp = json!({"kind": "port", "host": HOST, "port": 443});
    let refused = api.post("/reserved_addrs", tcp).await;
    assert_eq!(
        refused.code(),
        "PTC_ADDRESS_PORT_NOT_PERMITTED",
        "{refused:?}"
    );
}

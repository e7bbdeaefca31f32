//! What is ours: accounts, live connections, the node's own paths, audit, panics and deadlines.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::Api;
use super::harness::{connection, request};

#[tokio::test]
async fn accounts_are_for_admin_keys() {
    let api = Api::start().await;
    let (other, key) = api.another("other").await;
    for (method, path, body) in [
        ("GET", "/accounts".to_owned(), None),
        ("POST", "/accounts".to_owned(), Some(json!({"name": "x"}))),
        ("GET", format!("/accounts/{other}"), None),
        (
            "PATCH",
            format!("/accounts/{other}"),
            Some(json!({"verified": true})),
        ),
        ("DELETE", format!("/accounts/{other}"), None),
    ] {
        let got = api.send(request(method, &path, &key, body.as_ref())).await;
        assert_eq!(
            (got.status, got.ngrok()),
            (StatusCode::FORBIDDEN, "ERR_NGROK_635"),
            "{method} {path}"
        );
    }
    let got = api.post_as(&key, "/api_keys", json!({"admin": true})).await;
    assert_eq!(got.code(), "PTC_API_FORBIDDEN");
}

#[tokio::test]
async fn accounts_live_their_life() {
    let api = Api::start().await;
    let made = api
        .post("/accounts", json!({"name": "tenant", "description": "d"}))
        .await;
    assert_eq!(
        (made.status, &made.body["plan"]),
        (StatusCode::CREATED, &json!("default")),
        "{made:?}"
    );
    let path = format!("/accounts/{}", made.id());
    assert_eq!(api.get(&path).await.body, made.body);
    assert_eq!(
        api.get("/accounts").await.body["accounts"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        api.patch(&path, json!({"verified": true})).await.body["verified"],
        true
    );
    assert_eq!(
        api.post("/accounts", json!({"name": "tenant"}))
            .await
            .code(),
        "PTC_ACCOUNT_EXISTS"
    );
    assert_eq!(
        api.post("/accounts", json!({})).await.code(),
        "PTC_API_MISSING_FIELD"
    );
    assert_eq!(
        api.patch(&path, json!({"plan": "gold"})).await.code(),
        "PTC_PLAN_UNKNOWN"
    );

    let mut make = request("POST", "/reserved_addrs", &api.admin, Some(&json!({})));
    make.headers_mut()
        .insert("portcullis-account", made.id().parse().unwrap());
    assert_eq!(api.send(make).await.status, StatusCode::CREATED);
    assert_eq!(api.delete(&path).await.code(), "PTC_ACCOUNT_NOT_EMPTY");
    assert_eq!(
        api.delete(&format!("{path}?force=maybe")).await.code(),
        "PTC_API_INVALID_VALUE"
    );
    assert_eq!(
        api.delete(&format!("{path}?force=true")).await.status,
        StatusCode::NO_CONTENT
    );
    assert_eq!(api.get(&path).await.code(), "PTC_ACCOUNT_NOT_FOUND");
}

#[tokio::test]
async fn admin_keys_are_beyond_the_reach_of_plain_ones() {
    let api = Api::start().await;
    let plain = api.post("/api_keys", json!({})).await.body["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let keys = api.get("/api_keys").await;
    let admin = keys.body["keys"]
        .as_array()
        .unwrap()
        .iter()
        .find(|key| key["admin"] == true)
        .unwrap();
    let path = format!("/api_keys/{}", admin["id"].as_str().unwrap());
    let refused = api.send(request("DELETE", &path, &plain, None)).await;
    assert_eq!(refused.code(), "PTC_API_FORBIDDEN");
    let refused = api
        .send(request(
            "PATCH",
            &path,
            &plain,
            Some(&json!({"metadata": "x"})),
        ))
        .await;
    assert_eq!(refused.code(), "PTC_API_FORBIDDEN");
    assert_eq!(api.delete(&path).await.code(), "PTC_LAST_ADMIN_KEY");
}

#[tokio::test]
async fn connections_are_listed_shown_and_ended() {
    let api = Api::start().await;
    *api.node.live.lock().unwrap() = vec![connection(1, &api.account), connection(2, &api.account)];
    let list = api.get("/connections").await;
    let first = &list.body["connections"][0];
    assert_eq!(
        first["client"], "198.51.100.2:50000",
        "newest first: {list:?}"
    );
    assert_eq!(
        (&first["bytes_in"], &first["established"]),
        (&json!(10), &json!(true))
    );
    let path = format!("/connections/{}", first["id"].as_str().unwrap());
    assert_eq!(api.get(&path).await.body, *first);
    assert_eq!(
        api.get("/connections?limit=1").await.body["connections"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.node.ended.lock().unwrap()[0].as_str(), first["id"]);
    let missing = format!("/connections/{}", connection(9, &api.account).id);
    assert_eq!(api.delete(&missing).await.code(), "PTC_API_NOT_FOUND");
    assert_eq!(api.get(&missing).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn metrics_are_local_or_for_admin_keys() {
    let api = Api::start().await;
    let afar: IpAddr = "203.0.113.5".parse().unwrap();
    let bare = || Request::get("/metrics").body(Body::empty()).unwrap();
    let got = api.send(bare()).await;
    assert!(
        got.header("content-type")
            .unwrap()
            .starts_with("application/openmetrics-text")
    );
    assert!(
        got.body
            .as_str()
            .unwrap()
            .contains("portcullis_connections_open 0"),
        "{got:?}"
    );
    assert_eq!(
        api.send_from(bare(), afar).await.code(),
        "PTC_API_UNAUTHENTICATED"
    );
    let mut proxied = bare();
    proxied
        .headers_mut()
        .insert("x-forwarded-for", "203.0.113.5".parse().unwrap());
    assert_eq!(api.send(proxied).await.code(), "PTC_API_UNAUTHENTICATED");
    for (host, there) in [
        ("127.0.0.1:7480", true),
        ("LOCALHOST", true),
        ("[::1]:7480", true),
        ("evil.example.com:7480", false),
        ("127.0.0.1.evil.example.com", false),
        ("localhost@evil.example.com", false),
    ] {
        let mut named = bare();
        named.headers_mut().insert("host", host.parse().unwrap());
        assert_eq!(api.send(named).await.status.is_success(), there, "{host}");
    }
    let plain = api.post("/api_keys", json!({})).await.body["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let with = |key: &str| request("GET", "/metrics", key, None);
    assert_eq!(
        api.send_from(with(&plain), afar).await.code(),
        "PTC_API_FORBIDDEN"
    );
    assert_eq!(
        api.send_from(with(&api.admin), afar).await.status,
        StatusCode::OK
    );
    let off = Api::with(|config| config.metrics = false).await;
    assert_eq!(off.send(bare()).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn readiness_ends_with_the_drain() {
    let api = Api::start().await;
    let bare = |path: &str| Request::get(path).body(Body::empty()).unwrap();
    let status = api.send(bare("/status")).await;
    assert_eq!(
        (&status.body["node"], &status.body["ready"]),
        (&json!("node-1"), &json!(true))
    );
    assert_eq!(status.body["version"], env!("CARGO_PKG_VERSION"));
    api.app.begin_drain();
    assert_eq!(
        api.send(bare("/readyz")).await.status,
        StatusCode::SERVICE_UNAVAILABLE
    );
    assert_eq!(api.send(bare("/healthz")).await.status, StatusCode::OK);
    assert_eq!(api.send(bare("/status")).await.body["ready"], false);
}

#[tokio::test]
async fn a_panic_is_an_internal_error_that_tells_nothing() {
    let api = Api::start().await;
    let router = axum::Router::new()
        .route(
            "/boom",
            axum::routing::get(|| async {
                if true {
                    panic!("the secret plan")
                }
            }),
        )
        .layer(axum::middleware::from_fn_with_state(
            api.app.clone(),
            crate::web::frame::frame,
        ));
    let response =
        tower::ServiceExt::oneshot(router, Request::get("/boom").body(Body::empty()).unwrap())
            .await
            .unwrap();
    assert_eq!(response.status(), StatusCode::INTERNAL_SERVER_ERROR);
    let bytes = http_body_util::BodyExt::collect(response.into_body())
        .await
        .unwrap()
        .to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
    assert_eq!(body["details"]["code"], "PTC_INTERNAL");
    assert!(!body.to_string().contains("secret plan"), "{body}");
}

#[tokio::test(start_paused = true)]
async fn a_request_has_a_deadline() {
    let (registry, app) = {
        let api = Api::with(|config| config.request_timeout = Duration::from_secs(7)).await;
        (api.registry.clone(), api.app.clone())
    };
    let never = || async { std::future::pending::<&'static str>().await };
    let router = axum::Router::new()
        .route("/slow", axum::routing::get(never))
        .layer(axum::middleware::from_fn_with_state(
            app,
            crate::web::frame::frame,
        ));
    let response =
        tower::ServiceExt::oneshot(router, Request::get("/slow").body(Body::empty()).unwrap())
            .await
            .unwrap();
    assert_eq!(response.status(), StatusCode::GATEWAY_TIMEOUT);
    drop(registry);
}

/// Collects what is logged.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl std::io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn every_write_leaves_a_line_that_holds_no_secret() {
    // With a single dispatcher alive, tracing asks the thread that comes upon a log statement first,
    // which may be another test's without one, and never asks again. Two make it ask all.
    let _second = tracing::Dispatch::new(tracing_subscriber::registry());
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .with_max_level(tracing::Level::TRACE);
    let _guard = tracing::subscriber::set_default(subscriber.finish());
    let api = Api::start().await;
    let made = api.post("/credentials", json!({"metadata": "m"})).await;
    let path = format!("/credentials/{}", made.id());
    api.get(&path).await;
    api.delete(&path).await;
    api.delete(&path).await;
    let value = "correct horse battery staple";
    api.post("/vaults", json!({"name": "v"})).await;
    let body = json!({"name": "s", "value": value, "vault_name": "v"});
    let secret = api.post("/vault_secrets", body.clone()).await;
    let refused = api.post("/vault_secrets", body).await;
    assert_eq!(refused.code(), "PTC_SECRET_EXISTS");
    let body = json!({"value": value, "vaule": value});
    let at = format!("/vault_secrets/{}", secret.id());
    let refused = api.patch(&at, body).await;
    assert_eq!(refused.code(), "PTC_API_UNKNOWN_FIELD");
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    for secret in [made.body["token"].as_str().unwrap(), &api.admin] {
        assert!(!text.contains(secret.split_once('_').unwrap().1), "{text}");
    }
    assert!(!text.contains(value), "{text}");
    let audit: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .filter(|line: &serde_json::Value| line["target"] == "audit")
        .collect();
    assert_eq!(audit.len(), 7, "{text}");
    let key = api.registry.authenticate_api_key(&api.admin).unwrap();
    for line in &audit {
        assert_eq!(line["fields"]["key"], key.id.as_str());
        assert_eq!(line["fields"]["account"], api.account.as_str());
        assert!(
            line["fields"]["operation"]
                .as_str()
                .unwrap()
                .starts_with("op_")
        );
    }
    assert_eq!(
        (&audit[0]["fields"]["made"], &audit[0]["fields"]["status"]),
        (&json!(made.id()), &json!(201))
    );
    assert_eq!(
        (&audit[1]["fields"]["path"], &audit[1]["fields"]["status"]),
        (&json!(path), &json!(204))
    );
    assert_eq!(audit[2]["fields"]["code"], "PTC_API_NOT_FOUND");
}

//! Each of ngrok's conventions: headers, bodies, parameters, ids, limits, errors.

use axum::body::Body;
use axum::http::{Request, StatusCode};
use serde_json::json;

use super::Api;
use super::harness::request;

#[tokio::test]
async fn a_key_is_needed_and_named_by_what_is_wrong() {
    let api = Api::start().await;
    let bare = |value: Option<&str>| {
        let mut request = request("GET", "/endpoints", "x", None);
        request.headers_mut().remove("authorization");
        if let Some(value) = value {
            request
                .headers_mut()
                .insert("authorization", value.parse().unwrap());
        }
        request
    };
    let authtoken = api.post("/credentials", json!({})).await.body["token"]
        .as_str()
        .unwrap()
        .to_owned();
    let unknown = format!("{}_{}", "2".repeat(26), "x".repeat(32));
    let wrong_secret = format!(
        "{}_{}",
        api.admin.split('_').next().unwrap(),
        "x".repeat(32)
    );
    for (value, code, ngrok) in [
        (None, "PTC_API_UNAUTHENTICATED", "ERR_NGROK_200"),
        (
            Some("Basic abc".to_owned()),
            "PTC_API_KEY_MALFORMED",
            "ERR_NGROK_202",
        ),
        (
            Some("Bearer".to_owned()),
            "PTC_API_KEY_MALFORMED",
            "ERR_NGROK_202",
        ),
        (
            Some("Bearer nonsense".to_owned()),
            "PTC_API_KEY_MALFORMED",
            "ERR_NGROK_202",
        ),
        (
            Some(format!("Bearer {unknown}")),
            "PTC_API_KEY_MALFORMED",
            "ERR_NGROK_202",
        ),
        (
            Some(format!("Bearer {wrong_secret}")),
            "PTC_API_KEY_UNKNOWN",
            "ERR_NGROK_203",
        ),
        (
            Some(format!("Bearer {authtoken}")),
            "PTC_API_KEY_IS_AUTHTOKEN",
            "ERR_NGROK_206",
        ),
        (
            Some("Bearer pc1.abc".to_owned()),
            "PTC_API_KEY_IS_AUTHTOKEN",
            "ERR_NGROK_206",
        ),
    ] {
        let got = api.send(bare(value.as_deref())).await;
        assert_eq!(
            (got.status, got.code(), got.ngrok()),
            (StatusCode::UNAUTHORIZED, code, ngrok),
            "{value:?}"
        );
    }
}

#[tokio::test]
async fn the_version_header_is_needed() {
    let api = Api::start().await;
    let mut missing = request("GET", "/endpoints", &api.admin, None);
    missing.headers_mut().remove("ngrok-version");
    assert_eq!(api.send(missing).await.ngrok(), "ERR_NGROK_218");
    let mut wrong = request("GET", "/endpoints", &api.admin, None);
    wrong
        .headers_mut()
        .insert("ngrok-version", "9".parse().unwrap());
    let got = api.send(wrong).await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::BAD_REQUEST, "ERR_NGROK_217")
    );
    assert!(
        got.message().ends_with("supported versions are: 2"),
        "{got:?}"
    );
}

#[tokio::test]
async fn open_paths_need_neither_key_nor_version() {
    let api = Api::start().await;
    for path in [
        "/status",
        "/healthz",
        "/readyz",
        "/metrics",
        "/openapi.json",
    ] {
        let bare = Request::get(path).body(Body::empty()).unwrap();
        assert_eq!(api.send(bare).await.status, StatusCode::OK, "{path}");
    }
}

#[tokio::test]
async fn bodies_are_json_objects_of_known_fields() {
    let api = Api::start().await;
    let post = |content_type: Option<&str>, body: &str| {
        let mut request = request("POST", "/credentials", &api.admin, None);
        *request.body_mut() = Body::from(body.to_owned());
        if let Some(content_type) = content_type {
            request
                .headers_mut()
                .insert("content-type", content_type.parse().unwrap());
        }
        request
    };
    let json = Some("application/json");
    for (content_type, body, ngrok) in [
        (None, "{}", "ERR_NGROK_216"),
        (Some("text/plain"), "{}", "ERR_NGROK_210"),
        (json, "{", "ERR_NGROK_213"),
        (json, "[]", "ERR_NGROK_213"),
        (json, "", "ERR_NGROK_213"),
        (json, r#"{"acls": []}"#, "ERR_NGROK_214"),
        (json, r#"{"acl": "bind:x"}"#, "ERR_NGROK_215"),
        (json, r#"{"description": 7}"#, "ERR_NGROK_215"),
    ] {
        let got = api.send(post(content_type, body)).await;
        assert_eq!(got.ngrok(), ngrok, "{body} as {content_type:?}: {got:?}");
    }
    let unknown = api.send(post(json, r#"{"acls": []}"#)).await;
    assert!(
        unknown
            .message()
            .contains("description, metadata, acl, owner_id"),
        "{unknown:?}"
    );
    let fine = api
        .send(post(Some("application/json; charset=utf-8"), "{}"))
        .await;
    assert_eq!(fine.status, StatusCode::CREATED, "{fine:?}");
}

#[tokio::test]
async fn large_bodies_are_refused() {
    let api = Api::with(|config| config.body_bytes_max = 1000).await;
    let got = api
        .post("/credentials", json!({"metadata": "x".repeat(2000)}))
        .await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::PAYLOAD_TOO_LARGE, "ERR_NGROK_812")
    );
    assert!(got.message().contains("1000"), "{got:?}");
}

#[tokio::test]
async fn a_get_carries_no_body() {
    let api = Api::start().await;
    let got = api
        .send(request("GET", "/endpoints", &api.admin, Some(&json!({}))))
        .await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::BAD_REQUEST, "ERR_NGROK_211")
    );
}

#[tokio::test]
async fn unknown_parameters_are_named_with_the_legal_ones() {
    let api = Api::start().await;
    for (path, legal) in [
        ("/endpoints?x=1", "before_id, limit, filter, id, url"),
        ("/credentials?id=1", "before_id, limit, filter"),
        ("/credentials/cr_x?limit=1", "none"),
    ] {
        let got = api.get(path).await;
        assert_eq!(
            (got.status, got.ngrok()),
            (StatusCode::BAD_REQUEST, "ERR_NGROK_231"),
            "{got:?}"
        );
        assert!(got.message().ends_with(legal), "{got:?}");
    }
}

#[tokio::test]
async fn ids_are_checked_for_their_prefix() {
    let api = Api::start().await;
    let ksuid = "2NfK3dZ8qv1m0hR5bT7yW9xC4eA";
    for (path, form) in [
        (format!("/endpoints/cr_{ksuid}"), "ep_"),
        (format!("/credentials/{ksuid}"), "cr_"),
        ("/reserved_addrs/ra_short".to_owned(), "ra_"),
        (format!("/tunnel_sessions/tn_{ksuid}"), "ts_"),
        (format!("/tunnels/ep_{ksuid}"), "tn_"),
        (format!("/connections/ep_{ksuid}"), "cn_"),
        (format!("/accounts/ak_{ksuid}"), "ac_"),
        (format!("/api_keys/ac_{ksuid}"), "ak_"),
        (format!("/ip_policies/ipr_{ksuid}"), "ipp_"),
        (format!("/ip_policy_rules/ipp_{ksuid}"), "ipr_"),
        (format!("/credentials?before_id=ep_{ksuid}"), "cr_"),
    ] {
        let got = api.get(&path).await;
        assert_eq!(
            (got.status, got.ngrok()),
            (StatusCode::BAD_REQUEST, "ERR_NGROK_227"),
            "{path}: {got:?}"
        );
        assert!(got.message().contains(&format!("form {form}")), "{got:?}");
    }
}

#[tokio::test]
async fn empty_updates_are_refused_with_the_number_of_their_resource() {
    let api = Api::start().await;
    let credential = api.post("/credentials", json!({})).await.id();
    let address = api.post("/reserved_addrs", json!({})).await.id();
    let policy = api.post("/ip_policies", json!({})).await.id();
    for (path, ngrok) in [
        (format!("/ip_policies/{policy}"), "ERR_NGROK_1400"),
        (format!("/credentials/{credential}"), "ERR_NGROK_606"),
        (format!("/reserved_addrs/{address}"), "ERR_NGROK_506"),
    ] {
        for body in [json!({}), json!({"description": null})] {
            let got = api.patch(&path, body).await;
            assert_eq!(
                (got.code(), got.ngrok()),
                ("PTC_API_EMPTY_UPDATE", ngrok),
                "{path}"
            );
        }
    }
}

#[tokio::test]
async fn paths_and_methods_that_do_not_exist() {
    let api = Api::start().await;
    let got = api.get("/no_such_things").await;
    assert_eq!(
        (got.status, got.code()),
        (StatusCode::NOT_FOUND, "PTC_API_NOT_FOUND")
    );
    let got = api
        .send(request("PUT", "/endpoints", &api.admin, None))
        .await;
    assert_eq!(
        (got.status, got.code()),
        (StatusCode::METHOD_NOT_ALLOWED, "PTC_API_METHOD")
    );
    let allow = got.header("allow").expect("an Allow header");
    assert!(allow.contains("GET") && allow.contains("POST"), "{allow}");
    let got = api.send(request("DELETE", "/status", "no key", None)).await;
    assert_eq!(got.code(), "PTC_API_METHOD");
}

#[tokio::test]
async fn each_key_has_a_rate() {
    let api = Api::with(|config| config.rate_limit_per_minute = 3).await;
    for _ in 0..3 {
        assert_eq!(api.get("/endpoints").await.status, StatusCode::OK);
    }
    let got = api.get("/endpoints").await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::TOO_MANY_REQUESTS, "ERR_NGROK_226")
    );
    let wait: u64 = got
        .header("retry-after")
        .expect("Retry-After")
        .parse()
        .unwrap();
    assert!((1..=20).contains(&wait), "{wait}");
}

#[tokio::test]
async fn each_key_has_places() {
    let api = Api::with(|config| config.concurrency_max = 1).await;
    let key = api.registry.authenticate_api_key(&api.admin).unwrap();
    let taken = api.app.limits.start(&key.id).expect("free");
    let got = api.get("/endpoints").await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::TOO_MANY_REQUESTS, "ERR_NGROK_225")
    );
    assert!(got.header("retry-after").is_some());
    drop(taken);
    assert_eq!(api.get("/endpoints").await.status, StatusCode::OK);
}

#[tokio::test]
async fn guessing_keys_is_slowed() {
    let api = Api::start().await;
    for _ in 0..crate::defaults::AUTH_FAILURES_PER_MINUTE {
        assert_eq!(
            api.get_as("nonsense", "/endpoints").await.status,
            StatusCode::UNAUTHORIZED
        );
    }
    assert_eq!(
        api.get_as("nonsense", "/endpoints").await.status,
        StatusCode::TOO_MANY_REQUESTS
    );
    assert_eq!(
        api.get("/endpoints").await.status,
        StatusCode::OK,
        "a good key still works from there"
    );
}

#[tokio::test]
async fn a_write_tells_its_revision_and_a_read_waits_for_it() {
    let api = Api::with(|config| config.revision_wait = std::time::Duration::from_millis(50)).await;
    let made = api.post("/credentials", json!({})).await;
    let revision: u64 = made
        .header("portcullis-revision")
        .expect("a revision")
        .parse()
        .unwrap();
    let read = |revision: String| {
        let mut request = request(
            "GET",
            &format!("/credentials/{}", made.id()),
            &api.admin,
            None,
        );
        request
            .headers_mut()
            .insert("portcullis-revision", revision.parse().unwrap());
        request
    };
    assert_eq!(
        api.send(read(revision.to_string())).await.status,
        StatusCode::OK
    );
    let got = api.send(read((revision + 1000).to_string())).await;
    assert_eq!(
        (got.status, got.code()),
        (StatusCode::GATEWAY_TIMEOUT, "PTC_API_TIMEOUT")
    );
    assert_eq!(
        api.send(read("x".to_owned())).await.ngrok(),
        "ERR_NGROK_215"
    );
}

#[tokio::test]
async fn links_follow_the_host_the_proxy_and_the_configuration() {
    let api = Api::start().await;
    let id = api.post("/credentials", json!({})).await.id();
    let path = format!("/credentials/{id}");
    assert_eq!(
        api.get(&path).await.body["uri"],
        format!("http://api.test:7480{path}")
    );
    let mut proxied = request("GET", &path, &api.admin, None);
    proxied
        .headers_mut()
        .insert("x-forwarded-proto", "https".parse().unwrap());
    assert_eq!(
        api.send(proxied).await.body["uri"],
        format!("https://api.test:7480{path}")
    );
    let mut odd = request("GET", &path, &api.admin, None);
    odd.headers_mut()
        .insert("host", "evil/<script>".parse().unwrap());
    assert_eq!(
        api.send(odd).await.body["uri"],
        format!("http://localhost{path}")
    );
    let api =
        Api::with(|config| config.base_url = Some("https://api.example.com/".to_owned())).await;
    let made = api.post("/credentials", json!({})).await;
    assert_eq!(
        made.body["uri"],
        format!("https://api.example.com/credentials/{}", made.id())
    );
}

#[tokio::test]
async fn browsers_get_their_preflight() {
    let api = Api::start().await;
    let preflight = Request::options("/endpoints")
        .header("origin", "https://dash.example.com")
        .header("access-control-request-method", "GET")
        .body(Body::empty())
        .unwrap();
    let got = api.send(preflight).await;
    assert_eq!(got.status, StatusCode::OK);
    assert_eq!(got.header("access-control-max-age"), Some("600"));
}

#[tokio::test]
async fn answers_are_not_cached_and_name_their_operation() {
    let api = Api::start().await;
    let got = api.get("/endpoints").await;
    assert_eq!(got.header("cache-control"), Some("no-store"));
    assert!(
        got.header("portcullis-operation-id")
            .unwrap()
            .starts_with("op_")
    );
    let got = api.get("/nowhere").await;
    assert_eq!(
        got.header("portcullis-operation-id").unwrap(),
        got.body["details"]["operation_id"]
    );
}

/// As ngrok's JavaScript client does it.
#[tokio::test]
async fn the_paths_id_may_stand_in_the_body_again() {
    let api = Api::start().await;
    let id = api.post("/credentials", json!({})).await.id();
    let path = format!("/credentials/{id}");
    let changed = api.patch(&path, json!({"id": id, "metadata": "m"})).await;
    assert_eq!(changed.body["metadata"], "m", "{changed:?}");
    let nothing = api.patch(&path, json!({"id": id})).await;
    assert_eq!(nothing.code(), "PTC_API_EMPTY_UPDATE");
    let other = api
        .patch(&path, json!({"id": "cr_other", "metadata": "m"}))
        .await;
    assert_eq!(other.ngrok(), "ERR_NGROK_215");

    let session = api.session().await.id.to_string();
    let stop = format!("/tunnel_sessions/{session}/stop");
    let mut bare = request("POST", &stop, &api.admin, None);
    *bare.body_mut() = Body::from(session.clone());
    bare.headers_mut()
        .insert("content-type", "text/plain".parse().unwrap());
    assert_eq!(api.send(bare).await.status, StatusCode::OK);
    assert_eq!(
        api.post(&stop, json!({"id": session})).await.status,
        StatusCode::OK
    );
}

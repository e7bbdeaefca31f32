//! Every verb of ngrok's resources, and every field that its clients read.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::harness::{DENY, HOST, port_taken, request};
use super::{Api, Got};

/// Every field is there, null or not, and `id` leads to the object.
fn has(got: &Got, fields: &[&str]) {
    let object = got
        .body
        .as_object()
        .unwrap_or_else(|| panic!("an object: {got:?}"));
    for field in fields {
        assert!(object.contains_key(*field), "{field} is missing: {got:?}");
    }
}

const ENDPOINT: &[&str] = &[
    "id",
    "uri",
    "region",
    "created_at",
    "updated_at",
    "url",
    "public_url",
    "proto",
    "scheme",
    "hostport",
    "host",
    "port",
    "type",
    "name",
    "description",
    "metadata",
    "traffic_policy",
    "traffic_policy_notices",
    "bindings",
    "pooling_enabled",
    "principal",
    "domain",
    "tcp_addr",
    "tunnel",
    "edge",
    "tunnel_session",
    "upstream_url",
    "upstream_protocol",
    "limits",
    "status",
    "error",
    "last_upstream_error",
    "connections_open",
    "proxy_protocol",
    "on_change",
    "pool_strategy",
    "pool_strategy_in_use",
    "weight",
    "health",
];

#[tokio::test]
async fn cloud_endpoints_live_their_life() {
    let api = Api::start().await;
    let address = api.post("/reserved_addrs", json!({"port": 20_005})).await;
    let body = json!({
        "url": format!("tcp://{HOST}:20005"), "type": "cloud", "traffic_policy": DENY, "bindings": ["public"],
        "description": "d", "metadata": "m", "pooling_enabled": false, "limits": {"connections_max": 5},
    });
    let made = api.post("/endpoints", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    has(&made, ENDPOINT);
    assert_eq!(made.body["tcp_addr"]["id"], address.id());
    assert_eq!(made.body["type"], "cloud");
    assert_eq!(made.body["bindings"], json!(["public"]));
    assert_eq!(made.body["limits"]["connections_max"], 5);
    assert_eq!(made.body["port"], 20_005);
    assert_eq!(made.body["principal"]["id"], api.account.as_str());
    assert_eq!(
        (&made.body["status"], &made.body["connections_open"]),
        (&json!("programmed"), &json!(3))
    );
    assert!(made.body["tunnel_session"].is_null() && made.body["tunnel"].is_null());

    let path = format!("/endpoints/{}", made.id());
    assert_eq!(api.get(&path).await.body, made.body);
    let changed = api
        .patch(&path, json!({"description": "", "metadata": "n"}))
        .await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    assert_eq!(
        (&changed.body["description"], &changed.body["metadata"]),
        (&json!(""), &json!("n"))
    );
    assert_eq!(
        changed.body["limits"]["connections_max"], 5,
        "what is absent stays"
    );
    let empty = api.patch(&path, json!({})).await;
    assert_eq!(
        (empty.status, empty.ngrok()),
        (StatusCode::BAD_REQUEST, "ERR_NGROK_18004")
    );

    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    let gone = api.get(&path).await;
    assert_eq!(
        (gone.status, gone.code()),
        (StatusCode::NOT_FOUND, "PTC_ENDPOINT_NOT_FOUND")
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn pool_terms_and_on_change_are_set_and_changed() {
    let api = Api::start().await;
    let body = json!({"url": "tcp://", "traffic_policy": DENY, "description": "d"});
    let changed = api.post("/endpoints", body).await;
    let path = format!("/endpoints/{}", changed.id());
    assert_eq!(
        (&changed.body["on_change"], &changed.body["weight"]),
        (&json!("keep"), &json!(1))
    );
    let ours = json!({"on_change": "drain", "pool_strategy": "weighted", "weight": 0});
    let changed = api.patch(&path, ours).await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    for (field, value) in [
        ("on_change", json!("drain")),
        ("pool_strategy", json!("weighted")),
        ("pool_strategy_in_use", json!("weighted")),
        ("weight", json!(0)),
    ] {
        assert_eq!(changed.body[field], value, "{field}");
    }
    assert_eq!(changed.body["health"]["status"], "online");
    for wrong in [
        json!({"on_change": "forget"}),
        json!({"pool_strategy": "round-robin"}),
        json!({"weight": 1_000_001}),
    ] {
        let refused = api.patch(&path, wrong.clone()).await;
        let field = wrong
            .as_object()
            .and_then(|body| body.keys().next().cloned());
        assert_eq!(refused.status, StatusCode::BAD_REQUEST, "{wrong}");
        let told = refused.body["msg"].as_str().unwrap_or_default().to_owned();
        assert!(told.contains(&field.unwrap_or_default()), "{told}");
    }
}

#[tokio::test]
async fn who_writes_a_policy_is_told_which_rule_waits_for_a_request() {
    let api = Api::start().await;
    let hello = r#"{"on_http_request":[{"actions":[{"type":"custom-response","config":{"status_code":200}}]}]}"#;
    let body = json!({"url": "tcp://hello.internal:1", "traffic_policy": hello});
    let made = api.post("/endpoints", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let waits = |got: &Got| {
        let notice = &got.body["traffic_policy_notices"][0];
        let message = notice["message"].as_str().unwrap_or_default();
        notice["path"] == "on_http_request[0]" && message.contains("waits for the head")
    };
    assert!(waits(&made), "{made:?}");
    let path = format!("/endpoints/{}", made.id());
    assert!(waits(&api.get(&path).await));
    let changed = api.patch(&path, json!({"traffic_policy": DENY})).await;
    assert_eq!(changed.body["traffic_policy_notices"], json!([]));
    let changed = api.patch(&path, json!({"traffic_policy": hello})).await;
    assert!(waits(&changed), "{changed:?}");
}

#[tokio::test]
async fn endpoints_are_created_with_clear_errors() {
    let api = Api::start().await;
    let base = json!({"url": "tcp://db.internal:5432", "type": "cloud", "traffic_policy": DENY});
    let with = |field: &str, value: Value| {
        let mut body = base.clone();
        body[field] = value;
        body
    };
    for (body, ngrok, status) in [
        (with("type", json!("agent")), "ERR_NGROK_248", 400),
        (with("url", json!("")), "ERR_NGROK_18015", 400),
        (with("url", Value::Null), "ERR_NGROK_18015", 400),
        (with("traffic_policy", json!("")), "ERR_NGROK_18015", 400),
        (
            with("traffic_policy", json!("on_tcp_connect: []")),
            "ERR_NGROK_2235",
            400,
        ),
        (
            with("bindings", json!(["public", "internal"])),
            "ERR_NGROK_15006",
            400,
        ),
        (with("bindings", json!(["private"])), "ERR_NGROK_15005", 400),
        (
            with("url", json!("tcp://db.internal:0")),
            "ERR_NGROK_9030",
            400,
        ),
        (
            with("url", json!("http://db.internal:80")),
            "ERR_NGROK_18022",
            400,
        ),
        (
            with("url", json!(format!("tcp://{HOST}:20009"))),
            "ERR_NGROK_18006",
            400,
        ),
        (
            with("description", json!("x".repeat(256))),
            "ERR_NGROK_18012",
            400,
        ),
        (
            with("metadata", json!("x".repeat(4097))),
            "ERR_NGROK_18013",
            400,
        ),
        (with("limits", json!({"idle": 1})), "ERR_NGROK_214", 400),
        (
            with("limits", json!({"connections_max": -1})),
            "ERR_NGROK_215",
            400,
        ),
    ] {
        let got = api.post("/endpoints", body.clone()).await;
        assert_eq!(
            (got.status.as_u16(), got.ngrok()),
            (status, ngrok),
            "{body}: {got:?}"
        );
    }
    let mut kubernetes = base.clone();
    kubernetes["url"] = json!("tcp://db.prod:5432");
    kubernetes["bindings"] = json!(["kubernetes"]);
    let got = api.post("/endpoints", kubernetes).await;
    assert_eq!(
        (got.code(), got.ngrok()),
        ("PTC_NO_OPERATOR", "ERR_NGROK_15010"),
        "{got:?}"
    );
    assert_eq!(
        api.post("/endpoints", base.clone()).await.status,
        StatusCode::CREATED
    );
    let twice = api.post("/endpoints", base).await;
    assert_eq!(
        (twice.status, twice.ngrok()),
        (StatusCode::CONFLICT, "ERR_NGROK_18009"),
        "{twice:?}"
    );
}

#[tokio::test]
async fn cloud_endpoints_may_have_a_random_address() {
    let api = Api::start().await;
    let made = api
        .post(
            "/endpoints",
            json!({"url": "tcp://", "traffic_policy": DENY}),
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    assert_eq!(made.body["host"], HOST);
    assert!((20_000..30_000).contains(&made.body["port"].as_u64().unwrap()));
}

#[tokio::test]
async fn agent_endpoints_stand_beside_cloud_ones_and_are_read_only() {
    let api = Api::start().await;
    let session = api.session().await;
    let id = api.agent_endpoint(&session).await;
    let cloud = api
        .post(
            "/endpoints",
            json!({"url": "tcp://db.internal:1", "traffic_policy": DENY}),
        )
        .await;
    let list = api.get("/endpoints").await;
    assert_eq!(list.body["endpoints"].as_array().unwrap().len(), 2);

    let got = api.get(&format!("/endpoints/{id}")).await;
    has(&got, ENDPOINT);
    assert_eq!(got.body["type"], "ephemeral");
    assert_eq!(got.body["name"], "postgres");
    assert_eq!(got.body["upstream_url"], "tcp://localhost:5432");
    assert_eq!(got.body["tunnel_session"]["id"], session.id.as_str());
    assert_eq!(got.body["tunnel"]["id"], format!("tn_{}", id.ksuid()));
    for refused in [
        api.patch(&format!("/endpoints/{id}"), json!({"description": "x"}))
            .await,
        api.delete(&format!("/endpoints/{id}")).await,
    ] {
        assert_eq!(
            (refused.status, refused.code()),
            (StatusCode::CONFLICT, "PTC_ENDPOINT_READ_ONLY")
        );
    }

    let by_id = api.get(&format!("/endpoints?id={id}&id=ep_x")).await;
    assert_eq!(by_id.body["endpoints"][0]["id"], id.as_str());
    assert_eq!(by_id.body["endpoints"].as_array().unwrap().len(), 1);
    let by_url = api.get("/endpoints?url=tcp%3A%2F%2Fdb.internal%3A1").await;
    assert_eq!(by_url.body["endpoints"][0]["id"], cloud.id());
}

#[tokio::test]
async fn an_endpoint_says_what_is_wrong_with_it() {
    let api = Api::start().await;
    let made = api
        .post(
            "/endpoints",
            json!({"url": "tcp://", "traffic_policy": DENY}),
        )
        .await;
    *api.node.failed.lock().unwrap() = Some(port_taken());
    let got = api.get(&format!("/endpoints/{}", made.id())).await;
    assert_eq!(got.body["status"], "failed");
    assert_eq!(got.body["error"]["code"], "PTC_PORT_TAKEN");
    assert_eq!(got.body["error"]["msg"], "port 20001 is taken by nginx");
    assert!(got.body["last_upstream_error"]["at"].is_string());
}

#[tokio::test]
async fn addresses_live_their_life() {
    let api = Api::start().await;
    // As ngrok's Python client sends it: every field with its default.
    let made = api
        .post(
            "/reserved_addrs",
            json!({"description": "", "metadata": "", "region": ""}),
        )
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    has(
        &made,
        &[
            "id",
            "uri",
            "created_at",
            "description",
            "metadata",
            "addr",
            "region",
            "endpoint_configuration",
        ],
    );
    has(&made, &["kind", "host", "port", "ips", "cname", "dns_hint"]);
    assert_eq!(made.body["kind"], "port");
    assert_eq!(made.body["addr"], format!("{HOST}:{}", made.body["port"]));
    assert_eq!(made.body["cname"], format!("db.example.com. CNAME {HOST}."));
    let hint = made.body["dns_hint"].as_str().unwrap();
    assert!(
        hint.contains(&format!("Every port of {HOST}")) && hint.contains("`host` avoids that"),
        "{hint}"
    );

    let path = format!("/reserved_addrs/{}", made.id());
    assert_eq!(api.get(&path).await.body, made.body);
    assert_eq!(
        api.patch(&path, json!({"metadata": "m"})).await.body["metadata"],
        "m"
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn addresses_may_be_chosen() {
    let api = Api::start().await;
    let chosen = json!({"kind": "port", "host": HOST, "port": 443});
    let made = api.post("/reserved_addrs", chosen.clone()).await;
    assert_eq!(
        (made.status, &made.body["addr"]),
        (StatusCode::CREATED, &json!(format!("{HOST}:443"))),
        "{made:?}"
    );
    let (_, other) = api.another("other").await;
    let taken = api.post_as(&other, "/reserved_addrs", chosen).await;
    assert_eq!(
        (taken.status, taken.code()),
        (StatusCode::CONFLICT, "PTC_ADDRESS_TAKEN"),
        "{taken:?}"
    );
    for (body, code) in [
        (json!({"port": 70_000}), "PTC_API_INVALID_VALUE"),
        (json!({"kind": "both"}), "PTC_API_INVALID_VALUE"),
        (
            json!({"host": "elsewhere.example.net"}),
            "PTC_ADDRESS_HOST_UNKNOWN",
        ),
        (json!({"kind": "host"}), "PTC_ADDRESS_NO_POOL"),
        (json!({"region": "moon"}), "PTC_ADDRESS_REGION"),
    ] {
        let got = api.post("/reserved_addrs", body.clone()).await;
        assert_eq!(got.code(), code, "{body}: {got:?}");
    }
}

#[tokio::test]
async fn credentials_show_their_token_once() {
    let api = Api::start().await;
    let body = json!({"description": "", "metadata": "", "acl": []});
    let made = api.post("/credentials", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    has(
        &made,
        &[
            "id",
            "uri",
            "created_at",
            "description",
            "metadata",
            "token",
            "acl",
            "owner_id",
        ],
    );
    let token = made.body["token"].as_str().expect("shown once");
    assert!(api.registry.authenticate_credential(token).is_ok());
    let path = format!("/credentials/{}", made.id());
    assert!(api.get(&path).await.body["token"].is_null());
    let changed = api
        .patch(&path, json!({"acl": ["bind:*.internal:5432"]}))
        .await;
    assert_eq!(
        changed.body["acl"],
        json!(["bind:*.internal:5432"]),
        "{changed:?}"
    );
    assert!(changed.body["token"].is_null());
    assert!(
        !api.get("/credentials")
            .await
            .body
            .to_string()
            .contains(token)
    );
    let bad = api.patch(&path, json!({"acl": ["band:x"]})).await;
    assert_eq!(
        (bad.status, bad.ngrok()),
        (StatusCode::BAD_REQUEST, "ERR_NGROK_600")
    );
    let owned = api.post("/credentials", json!({"owner_id": "usr_1"})).await;
    assert_eq!(owned.ngrok(), "ERR_NGROK_215");
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn api_keys_show_their_token_once_and_open_the_api() {
    let api = Api::start().await;
    let made = api
        .post("/api_keys", json!({"description": "ci", "metadata": ""}))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    has(
        &made,
        &[
            "id",
            "uri",
            "created_at",
            "description",
            "metadata",
            "token",
            "owner_id",
            "admin",
        ],
    );
    assert_eq!(made.body["admin"], false);
    let token = made.body["token"].as_str().expect("shown once").to_owned();
    assert_eq!(
        api.get_as(&token, "/endpoints").await.status,
        StatusCode::OK
    );
    let path = format!("/api_keys/{}", made.id());
    assert!(api.get(&path).await.body["token"].is_null());
    assert_eq!(
        api.get("/api_keys").await.body["keys"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    assert_eq!(
        api.patch(&path, json!({"description": "cd"})).await.body["description"],
        "cd"
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(
        api.get_as(&token, "/endpoints").await.status,
        StatusCode::UNAUTHORIZED
    );
}

#[tokio::test]
async fn sessions_are_stopped_and_restarted() {
    let api = Api::start().await;
    let session = api.session().await;
    let path = format!("/tunnel_sessions/{}", session.id);
    let got = api.get(&path).await;
    has(
        &got,
        &[
            "id",
            "uri",
            "agent_version",
            "credential",
            "ip",
            "metadata",
            "os",
            "region",
            "started_at",
        ],
    );
    has(&got, &["transport", "agent_id", "hostname", "arch", "node"]);
    assert_eq!(
        (&got.body["ip"], &got.body["os"]),
        (&json!("192.0.2.9"), &json!("linux"))
    );
    assert_eq!(
        api.get("/tunnel_sessions").await.body["tunnel_sessions"][0],
        got.body
    );

    // With an empty object, and as ngrok's Python client does it: without a body.
    let stopped = api.post(&format!("{path}/stop"), json!({})).await;
    assert_eq!(
        (stopped.status, &stopped.body),
        (StatusCode::OK, &json!({}))
    );
    let restarted = api
        .send(request(
            "POST",
            &format!("{path}/restart"),
            &api.admin,
            None,
        ))
        .await;
    assert_eq!(
        (restarted.status, &restarted.body),
        (StatusCode::OK, &json!({}))
    );
    let told = api.node.stopped.lock().unwrap().clone();
    assert_eq!(
        told,
        [(session.id.clone(), false), (session.id.clone(), true)]
    );

    let update = api
        .send(request("POST", &format!("{path}/update"), &api.admin, None))
        .await;
    assert_eq!(
        (update.status, update.code()),
        (StatusCode::CONFLICT, "PTC_AGENT_UPDATE_UNSUPPORTED")
    );
    let field = api
        .post(&format!("{path}/stop"), json!({"now": true}))
        .await;
    assert_eq!(field.ngrok(), "ERR_NGROK_214");
}

#[tokio::test]
async fn tunnels_are_the_older_view_of_agent_endpoints() {
    let api = Api::start().await;
    let session = api.session().await;
    let endpoint = api.agent_endpoint(&session).await;
    let cloud = api
        .post(
            "/endpoints",
            json!({"url": "tcp://", "traffic_policy": DENY}),
        )
        .await
        .id();
    let list = api.get("/tunnels").await;
    assert_eq!(
        list.body["tunnels"].as_array().unwrap().len(),
        1,
        "{list:?}"
    );
    let path = format!("/tunnels/tn_{}", endpoint.ksuid());
    let got = api.get(&path).await;
    assert_eq!(got.body, list.body["tunnels"][0]);
    has(
        &got,
        &[
            "id",
            "public_url",
            "started_at",
            "metadata",
            "proto",
            "region",
            "tunnel_session",
            "endpoint",
        ],
    );
    has(&got, &["labels", "backends", "forwards_to"]);
    assert_eq!(got.body["endpoint"]["id"], endpoint.as_str());
    assert_eq!(got.body["forwards_to"], "tcp://localhost:5432");
    let not_one = api.get(&format!("/tunnels/tn_{}", &cloud[3..])).await;
    assert_eq!(
        not_one.status,
        StatusCode::NOT_FOUND,
        "a cloud endpoint is no tunnel"
    );
}

//! One account never sees or touches another's: every resource, every verb.

use axum::http::StatusCode;
use serde_json::json;

use super::Api;
use super::harness::{DENY, connection, request};

#[tokio::test]
async fn another_accounts_objects_are_not_found() {
    let api = Api::start().await;
    let session = api.session().await;
    let agent_endpoint = api.agent_endpoint(&session).await;
    let address = api.post("/reserved_addrs", json!({})).await.id();
    let endpoint = api
        .post(
            "/endpoints",
            json!({"url": "tcp://db.internal:1", "traffic_policy": DENY}),
        )
        .await
        .id();
    let credential = api.post("/credentials", json!({})).await.id();
    let key = api.post("/api_keys", json!({})).await.id();
    let policy = api.post("/ip_policies", json!({})).await.id();
    let rule = json!({"ip_policy_id": policy, "cidr": "10.0.0.0/8", "action": "allow"});
    let rule = api.post("/ip_policy_rules", rule).await.id();
    let vault = api.post("/vaults", json!({"name": "v"})).await.id();
    let secret = json!({"name": "s", "value": "x", "vault_id": vault});
    let secret = api.post("/vault_secrets", secret).await.id();
    let live = connection(1, &api.account);
    api.node.live.lock().unwrap().push(live.clone());
    let (_, other) = api.another("other").await;

    let text = json!({"metadata": "mine now"});
    let mut tried = 0;
    for (path, patch) in [
        (format!("/endpoints/{endpoint}"), true),
        (format!("/endpoints/{agent_endpoint}"), true),
        (format!("/reserved_addrs/{address}"), true),
        (format!("/credentials/{credential}"), true),
        (format!("/api_keys/{key}"), true),
        (format!("/ip_policies/{policy}"), true),
        (format!("/ip_policy_rules/{rule}"), true),
        (format!("/vaults/{vault}"), true),
        (format!("/vault_secrets/{secret}"), true),
        (format!("/connections/{}", live.id), false),
    ] {
        for method in ["GET", "PATCH", "DELETE"] {
            if method == "PATCH" && !patch {
                continue;
            }
            let body = (method == "PATCH").then_some(&text);
            let got = api.send(request(method, &path, &other, body)).await;
            assert_eq!(
                got.status,
                StatusCode::NOT_FOUND,
                "{method} {path}: {got:?}"
            );
            tried += 1;
        }
    }
    let session = format!("/tunnel_sessions/{}", session.id);
    for (method, path) in [
        ("GET", session.clone()),
        ("POST", format!("{session}/stop")),
        ("POST", format!("{session}/restart")),
        ("POST", format!("{session}/update")),
        ("GET", format!("/tunnels/tn_{}", agent_endpoint.ksuid())),
        ("GET", format!("/vaults/{vault}/secrets")),
    ] {
        let got = api.send(request(method, &path, &other, None)).await;
        assert_eq!(
            got.status,
            StatusCode::NOT_FOUND,
            "{method} {path}: {got:?}"
        );
        tried += 1;
    }
    assert_eq!(tried, 35);
    assert!(
        api.node.stopped.lock().unwrap().is_empty() && api.node.ended.lock().unwrap().is_empty()
    );
    assert_eq!(
        api.get(&format!("/credentials/{credential}")).await.body["metadata"],
        ""
    );
}

#[tokio::test]
async fn lists_hold_the_accounts_own() {
    let api = Api::start().await;
    let session = api.session().await;
    api.agent_endpoint(&session).await;
    api.post("/reserved_addrs", json!({})).await;
    let rules = json!({"rules": [{"cidr": "10.0.0.0/8", "action": "allow"}]});
    api.post("/ip_policies", rules).await;
    api.node
        .live
        .lock()
        .unwrap()
        .push(connection(1, &api.account));
    let vault = api.post("/vaults", json!({"name": "v"})).await.id();
    let secret = json!({"name": "s", "value": "x", "vault_id": vault});
    api.post("/vault_secrets", secret).await;
    let mut unrouted = connection(2, &api.account);
    unrouted.account = None;
    api.node.live.lock().unwrap().push(unrouted);
    let (_, other) = api.another("other").await;
    for (collection, key, own) in [
        ("endpoints", "endpoints", 0),
        ("reserved_addrs", "reserved_addrs", 0),
        ("credentials", "credentials", 0),
        ("tunnel_sessions", "tunnel_sessions", 0),
        ("tunnels", "tunnels", 0),
        ("connections", "connections", 0),
        ("ip_policies", "ip_policies", 0),
        ("ip_policy_rules", "ip_policy_rules", 0),
        ("vaults", "vaults", 0),
        ("vault_secrets", "secrets", 0),
        ("api_keys", "keys", 1),
    ] {
        let theirs = api.get_as(&other, &format!("/{collection}")).await;
        assert_eq!(
            theirs.body[key].as_array().unwrap().len(),
            own,
            "{collection}: {theirs:?}"
        );
        let ours = api.get(&format!("/{collection}")).await;
        assert!(
            !ours.body[key].as_array().unwrap().is_empty(),
            "{collection}: {ours:?}"
        );
    }
    assert_eq!(
        api.get("/connections").await.body["connections"]
            .as_array()
            .unwrap()
            .len(),
        1
    );
}

#[tokio::test]
async fn only_admin_keys_act_for_another_account() {
    let api = Api::start().await;
    let (account, other) = api.another("other").await;
    let acting = |key: &str, account: &str| {
        let mut request = request("GET", "/api_keys", key, None);
        request
            .headers_mut()
            .insert("portcullis-account", account.parse().unwrap());
        request
    };
    let theirs = api.send(acting(&api.admin, &account)).await;
    assert_eq!(theirs.body["keys"][0]["owner_id"], account.as_str());
    assert_eq!(
        api.send(acting(&other, &account)).await.status,
        StatusCode::OK,
        "one's own may be named"
    );
    assert_eq!(
        api.send(acting(&other, api.account.as_str())).await.code(),
        "PTC_API_FORBIDDEN"
    );
    let nobody = "ac_2NfK3dZ8qv1m0hR5bT7yW9xC4eA";
    assert_eq!(
        api.send(acting(&api.admin, nobody)).await.code(),
        "PTC_ACCOUNT_NOT_FOUND"
    );
    assert_eq!(
        api.send(acting(&api.admin, "other")).await.code(),
        "PTC_API_ID_INVALID"
    );
}

#[tokio::test]
async fn another_accounts_address_is_not_bound() {
    let api = Api::start().await;
    let address = api.post("/reserved_addrs", json!({})).await;
    let (_, other) = api.another("other").await;
    let url = format!("tcp://{}", address.body["addr"].as_str().unwrap());
    let got = api
        .post_as(
            &other,
            "/endpoints",
            json!({"url": url, "traffic_policy": DENY}),
        )
        .await;
    assert!(got.status.is_client_error(), "{got:?}");
    assert!(
        ["PTC_ADDRESS_FOREIGN", "PTC_ADDRESS_NOT_RESERVED"].contains(&got.code()),
        "{got:?}"
    );
}

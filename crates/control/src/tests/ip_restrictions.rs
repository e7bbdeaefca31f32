//! `/ip_restrictions`, and what one of type `api` does to requests.

use std::net::IpAddr;

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::harness::request;
use super::{Api, Got};

async fn policy(api: &Api, cidr: &str) -> String {
    let rules = json!({"rules": [{"cidr": cidr, "action": "allow"}]});
    api.post("/ip_policies", rules).await.id()
}

async fn restriction(api: &Api, kind: &str, enforced: bool, policy: &str) -> Got {
    let body = json!({"type": kind, "enforced": enforced, "ip_policy_ids": [policy]});
    let made = api.post("/ip_restrictions", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made
}

/// A read from an address.
async fn from(api: &Api, key: &str, ip: &str) -> Got {
    let ip: IpAddr = ip.parse().unwrap();
    let request = request("GET", "/ip_restrictions", key, None);
    api.send_from(request, ip).await
}

#[tokio::test]
async fn restrictions_live_their_life() {
    let api = Api::start().await;
    let (office, home) = (
        policy(&api, "10.0.0.0/8").await,
        policy(&api, "192.0.2.0/24").await,
    );
    // As ngrok's Python client sends it: every field with its default.
    let body = json!({"type": "agent", "description": "", "metadata": "", "enforced": false, "ip_policy_ids": [office]});
    let made = api.post("/ip_restrictions", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let object = made.body.as_object().expect("an object");
    let mut fields: Vec<&str> = object.keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(
        fields.join(" "),
        "created_at description enforced id ip_policies metadata type uri"
    );
    assert!(made.id().starts_with("ipx_"), "{made:?}");
    let uri = format!("http://api.test:7480/ip_policies/{office}");
    let policies = json!([{"id": office, "uri": uri}]);
    assert_eq!(made.body["ip_policies"], policies);
    let path = format!("/ip_restrictions/{}", made.id());
    assert_eq!(api.get(&path).await.body, made.body);
    let change = json!({"ip_policy_ids": [home, office], "enforced": true, "metadata": "m"});
    let changed = api.patch(&path, change).await;
    assert_eq!(changed.body["enforced"], true, "{changed:?}");
    assert_eq!(changed.body["ip_policies"][0]["id"], home.as_str());
    assert_eq!(changed.body["ip_policies"][1]["id"], office.as_str());
    let fixed = api.patch(&path, json!({"type": "api"})).await;
    assert_eq!(fixed.code(), "PTC_API_UNKNOWN_FIELD");
    assert_eq!(
        api.patch(&path, json!({})).await.code(),
        "PTC_API_EMPTY_UPDATE"
    );
    // ngrok's Python client sends the list with every update, empty where nothing was given.
    let none = json!({"ip_policy_ids": []});
    assert_eq!(api.patch(&path, none).await.code(), "PTC_API_EMPTY_UPDATE");
    let body = json!({"ip_policy_ids": [], "metadata": "n"});
    let kept = api.patch(&path, body).await;
    assert_eq!(kept.body["metadata"], "n", "{kept:?}");
    assert_eq!(kept.body["ip_policies"], changed.body["ip_policies"]);

    let kept = api.delete(&format!("/ip_policies/{home}")).await;
    assert_eq!(
        (kept.status, kept.ngrok()),
        (StatusCode::CONFLICT, "ERR_NGROK_1420")
    );
    assert!(kept.message().contains(&made.id()), "{kept:?}");

    let emptied = api
        .patch(&format!("/ip_policies/{home}"), json!({"rules": []}))
        .await;
    assert_eq!(
        (emptied.status, emptied.ngrok()),
        (StatusCode::CONFLICT, "ERR_NGROK_1419"),
        "{emptied:?}"
    );
    assert!(emptied.message().contains(&made.id()), "{emptied:?}");

    let second = restriction(&api, "dashboard", false, &office).await;
    let page = api.get("/ip_restrictions?limit=1").await;
    let ids = |got: &Got| -> Vec<String> {
        let list = got.body["ip_restrictions"].as_array().expect("a list");
        let ids = list.iter().map(|one| one["id"].as_str().expect("an id"));
        ids.map(str::to_owned).collect()
    };
    let next = page.body["next_page_uri"].as_str().expect("a next page");
    let next = next.strip_prefix("http://api.test:7480").expect("absolute");
    let next = api.get(next).await;
    let mut all = [ids(&page), ids(&next)].concat();
    all.sort_unstable();
    let mut expected = [made.id(), second.id()];
    expected.sort_unstable();
    assert_eq!(all, expected);
    assert!(next.body["next_page_uri"].is_null());
    let found = api
        .get("/ip_restrictions?filter=obj.type%20%3D%3D%20'agent'")
        .await;
    assert_eq!(ids(&found), [made.id()]);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    let gone = api.get(&path).await;
    assert_eq!(gone.status, StatusCode::NOT_FOUND);
    assert_eq!(gone.code(), "PTC_IP_RESTRICTION_NOT_FOUND");
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
    let free = api.delete(&format!("/ip_policies/{home}")).await;
    assert_eq!(free.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn wrong_restrictions_are_refused() {
    let api = Api::start().await;
    let policy = policy(&api, "10.0.0.0/8").await;
    let nobody = "ipp_2NfK3dZ8qv1m0hR5bT7yW9xC4eA";
    for (body, code, says) in [
        (
            json!({"ip_policy_ids": [policy]}),
            "PTC_API_MISSING_FIELD",
            "`type`",
        ),
        (
            json!({"type": "API", "ip_policy_ids": [policy]}),
            "PTC_API_INVALID_VALUE",
            "not `API`",
        ),
        (
            json!({"type": "api"}),
            "PTC_API_MISSING_FIELD",
            "`ip_policy_ids`",
        ),
        (
            json!({"type": "api", "ip_policy_ids": []}),
            "PTC_API_MISSING_FIELD",
            "`ip_policy_ids`",
        ),
        (
            json!({"type": "api", "ip_policy_ids": ["ipp_1"]}),
            "PTC_API_ID_INVALID",
            "ipp_1",
        ),
        (
            json!({"type": "api", "ip_policy_ids": [nobody]}),
            "PTC_IP_POLICY_NOT_FOUND",
            nobody,
        ),
        (
            json!({"type": "api", "enforced": "yes", "ip_policy_ids": [policy]}),
            "PTC_API_INVALID_VALUE",
            "`enforced`",
        ),
    ] {
        let got = api.post("/ip_restrictions", body.clone()).await;
        assert_eq!(got.code(), code, "{body}: {got:?}");
        assert!(got.message().contains(says), "{body}: {got:?}");
    }
}

#[tokio::test]
async fn keys_work_from_where_the_account_lets_them() {
    let api = Api::start().await;
    let (account, other) = api.another("other").await;
    let policy = policy(&api, "10.0.0.0/8").await;
    let made = restriction(&api, "api", false, &policy).await.id();
    let away = "203.0.113.9";
    assert_eq!(from(&api, &api.admin, away).await.status, StatusCode::OK);
    let path = format!("/ip_restrictions/{made}");
    let enforced = api.patch(&path, json!({"enforced": true})).await;
    assert_eq!(enforced.status, StatusCode::OK, "the answer still arrives");
    for (ip, allowed) in [
        ("10.1.2.3", true),
        ("::ffff:10.1.2.3", true),
        (away, false),
        ("127.0.0.1", false),
        ("::1", false),
    ] {
        let got = from(&api, &api.admin, ip).await;
        if allowed {
            assert_eq!(got.status, StatusCode::OK, "{ip}: {got:?}");
            continue;
        }
        assert_eq!(got.status, StatusCode::FORBIDDEN, "{ip}: {got:?}");
        assert_eq!(
            (got.code(), got.ngrok()),
            ("PTC_API_RESTRICTED", "ERR_NGROK_220")
        );
        assert!(got.message().contains(&made), "{got:?}");
    }
    // Who has no key learns nothing of it; another account is its own.
    let stranger = from(&api, "nonsense", away).await;
    assert_eq!(stranger.status, StatusCode::UNAUTHORIZED);
    assert_eq!(from(&api, &other, away).await.status, StatusCode::OK);
    // An admin key is bound by its own account's, not by those of the account that it acts for.
    let inside: IpAddr = "10.1.2.3".parse().unwrap();
    let acting = |method: &str, path: &str, body: Option<&Value>| {
        let mut request = request(method, path, &api.admin, body);
        let headers = request.headers_mut();
        headers.insert("portcullis-account", account.parse().unwrap());
        request
    };
    let rules = json!({"rules": [{"cidr": "198.51.100.0/24", "action": "allow"}]});
    let theirs = acting("POST", "/ip_policies", Some(&rules));
    let theirs = api.send_from(theirs, inside).await.id();
    let body = json!({"type": "api", "enforced": true, "ip_policy_ids": [theirs]});
    let theirs = api
        .send_from(acting("POST", "/ip_restrictions", Some(&body)), inside)
        .await;
    assert_eq!(theirs.status, StatusCode::CREATED, "{theirs:?}");
    let refused = from(&api, &other, away).await;
    assert_eq!(refused.code(), "PTC_API_RESTRICTED");
    let read = api
        .send_from(acting("GET", "/ip_restrictions", None), inside)
        .await;
    assert_eq!(read.status, StatusCode::OK, "{read:?}");
    // Metrics from afar take a key as well.
    let metrics = request("GET", "/metrics", &api.admin, None);
    let metrics = api.send_from(metrics, away.parse().unwrap()).await;
    assert_eq!(metrics.code(), "PTC_API_RESTRICTED");
}

#[tokio::test]
async fn who_is_locked_out_comes_back_by_the_configuration() {
    let api = Api::with(|config| config.ip_restrictions = false).await;
    let policy = policy(&api, "10.0.0.0/8").await;
    restriction(&api, "api", true, &policy).await;
    let got = from(&api, &api.admin, "203.0.113.9").await;
    assert_eq!(got.status, StatusCode::OK, "{got:?}");
}

#[tokio::test]
async fn another_accounts_restriction_is_not_found() {
    let api = Api::start().await;
    let policy = policy(&api, "10.0.0.0/8").await;
    let made = restriction(&api, "agent", true, &policy).await.id();
    let (_, other) = api.another("other").await;
    let path = format!("/ip_restrictions/{made}");
    let text = json!({"metadata": "mine now"});
    for (method, body) in [("GET", None), ("PATCH", Some(&text)), ("DELETE", None)] {
        let got = api.send(request(method, &path, &other, body)).await;
        assert_eq!(got.status, StatusCode::NOT_FOUND, "{method}");
    }
    let list = api.get_as(&other, "/ip_restrictions").await;
    assert_eq!(list.body["ip_restrictions"], json!([]));
    let body = json!({"type": "agent", "ip_policy_ids": [policy]});
    let got = api.post_as(&other, "/ip_restrictions", body).await;
    assert_eq!(got.code(), "PTC_IP_POLICY_NOT_FOUND");
}

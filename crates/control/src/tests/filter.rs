//! Filters of lists: what passes, what is refused, and that pages hold with them.

use axum::http::StatusCode;
use portcullis_model::id::ConnectionId;
use portcullis_telemetry::ConnectionView;
use serde_json::{Value, json};

use super::harness::connection;
use super::{Api, Got};

/// A path with a filter in its query.
fn filtered(path: &str, filter: &str) -> String {
    let encoded: String = filter.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let sign = if path.contains('?') { '&' } else { '?' };
    format!("{path}{sign}filter={encoded}")
}

fn names(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|item| item["description"].as_str().expect("a text"))
        .collect()
}

#[tokio::test]
async fn a_list_holds_what_its_filter_is_true_of() {
    let api = Api::start().await;
    for name in ["db-1", "db-2", "web-1"] {
        api.post("/credentials", json!({"description": name})).await;
    }
    for (filter, expected) in [
        ("obj.description == 'web-1'", vec!["web-1"]),
        ("description == 'web-1'", vec!["web-1"]),
        ("obj.description.startsWith('db-')", vec!["db-2", "db-1"]),
        (
            "obj.description.startsWith('db-') && obj.description != 'db-1'",
            vec!["db-2"],
        ),
        ("obj.created_at > '2100-01-01T00:00:00Z'", vec![]),
        // What cannot be evaluated passes nothing, and fails nothing.
        ("obj.description > 5", vec![]),
    ] {
        let got = api.get(&filtered("/credentials", filter)).await;
        assert_eq!(got.status, StatusCode::OK, "{filter}: {got:?}");
        let mut found = names(&got.body["credentials"]);
        let mut expected = expected.clone();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{filter}");
        assert!(got.body["next_page_uri"].is_null(), "{filter}");
    }
}

#[tokio::test]
async fn every_list_takes_a_filter() {
    let api = Api::start().await;
    let session = api.session().await;
    api.agent_endpoint(&session).await;
    api.post("/reserved_addrs", json!({})).await;
    let vault = api.post("/vaults", json!({"name": "v"})).await.id();
    let secret = json!({"name": "s", "value": "x", "vault_id": vault});
    api.post("/vault_secrets", secret).await;
    let live = connection(1, &api.account);
    api.node.live.lock().unwrap().push(live);
    for (path, key) in [
        ("/endpoints".to_owned(), "endpoints"),
        ("/reserved_addrs".to_owned(), "reserved_addrs"),
        ("/credentials".to_owned(), "credentials"),
        ("/api_keys".to_owned(), "keys"),
        ("/tunnel_sessions".to_owned(), "tunnel_sessions"),
        ("/tunnels".to_owned(), "tunnels"),
        ("/connections".to_owned(), "connections"),
        ("/accounts".to_owned(), "accounts"),
        ("/vaults".to_owned(), "vaults"),
        ("/vault_secrets".to_owned(), "secrets"),
        (format!("/vaults/{vault}/secrets"), "secrets"),
    ] {
        let all = api.get(&path).await;
        let all = all.body[key].as_array().expect("a list").clone();
        assert!(!all.is_empty(), "{path}");
        let id = all[0]["id"].as_str().expect("an id");
        for (filter, count) in [
            (format!("obj.id == '{id}'"), 1),
            (format!("obj.id != '{id}'"), all.len() - 1),
        ] {
            let got: Got = api.get(&filtered(&path, &filter)).await;
            assert_eq!(got.status, StatusCode::OK, "{path}: {got:?}");
            let found = got.body[key].as_array().expect("a list").len();
            assert_eq!(found, count, "{path} {filter}");
        }
    }
}

#[tokio::test]
async fn pages_keep_their_filter() {
    let api = Api::start().await;
    let mut wanted = Vec::new();
    for n in 0..12 {
        let kind = if n % 3 == 0 { "yes" } else { "no" };
        let made = api.post("/credentials", json!({"metadata": kind})).await;
        if kind == "yes" {
            wanted.push(made.id());
        }
    }
    wanted.sort_unstable_by(|a, b| b.cmp(a));
    let mut path = filtered("/credentials?limit=1", "obj.metadata == 'yes'");
    let mut seen = Vec::new();
    loop {
        let page = api.get(&path).await;
        let items = page.body["credentials"].as_array().expect("a list");
        assert_eq!(items.len(), 1, "the limit counts what passes: {page:?}");
        seen.push(items[0]["id"].as_str().expect("an id").to_owned());
        let Some(next) = page.body["next_page_uri"].as_str() else {
            break;
        };
        assert!(
            next.contains("filter=") && next.contains("limit=1"),
            "{next}"
        );
        let next = next.strip_prefix("http://api.test:7480");
        path = next.expect("absolute").to_owned();
    }
    assert_eq!(seen, wanted);
}

/// One request costs a bounded time, which the others wait for; and no object is out of reach for that.
#[tokio::test]
async fn a_request_looks_at_500_objects_and_its_next_pages_at_the_others() {
    let api = Api::start().await;
    let all = (0..1_200).map(|n| ConnectionView {
        id: ConnectionId::new(1_700_000_000 + n, [1; 16]),
        established: n > 0,
        ..connection(1, &api.account)
    });
    api.node.live.lock().unwrap().extend(all);
    let mut path = filtered("/connections", "obj.established == false");
    let mut found = Vec::new();
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        let items = page.body["connections"].as_array().expect("a list");
        found.push(items.len());
        let Some(next) = page.body["next_page_uri"].as_str() else {
            break;
        };
        let next = next.strip_prefix("http://api.test:7480");
        path = next.expect("absolute").to_owned();
    }
    assert_eq!(found, [0, 0, 1], "it is the oldest one");
}

#[tokio::test]
async fn what_cannot_be_a_filter_says_why() {
    let api = Api::start().await;
    for (filter, told) in [
        ("obj.descripton == 'x'", "description"),
        ("obj.description ==", ""),
        ("conn.client_ip == 'x'", ""),
    ] {
        let got = api.get(&filtered("/credentials", filter)).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{filter}");
        assert_eq!(
            (got.code(), got.ngrok()),
            ("PTC_API_FILTER_INVALID", "ERR_NGROK_250"),
            "{filter}"
        );
        assert!(got.message().contains(told), "{got:?}");
    }
    let long = format!("obj.id == '{}'", "x".repeat(5_000));
    let got = api.get(&filtered("/credentials", &long)).await;
    assert_eq!(got.code(), "PTC_API_FILTER_INVALID", "{got:?}");
    assert_eq!(api.get("/credentials?filter=").await.status, StatusCode::OK);
}

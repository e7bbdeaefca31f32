//! `/ip_policies` and `/ip_policy_rules`: one by one, and many rules by one body.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::harness::request;
use super::{Api, Got};

async fn rules(api: &Api, query: &str) -> Vec<Value> {
    let got = api.get(&format!("/ip_policy_rules{query}")).await;
    got.body["ip_policy_rules"]
        .as_array()
        .unwrap_or_else(|| panic!("a list: {got:?}"))
        .clone()
}

#[tokio::test]
async fn policies_and_rules_live_their_life() {
    let api = Api::start().await;
    // As ngrok's Python client sends it: every field with its default.
    let made = api
        .post("/ip_policies", json!({"description": "", "metadata": ""}))
        .await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let fields = |got: &Got| {
        let object = got.body.as_object().expect("an object");
        object.keys().cloned().collect::<Vec<_>>()
    };
    let expected = [
        "created_at",
        "description",
        "id",
        "metadata",
        "rule_count",
        "uri",
    ];
    assert_eq!(fields(&made), expected);
    let path = format!("/ip_policies/{}", made.id());
    assert_eq!(api.get(&path).await.body, made.body);
    let changed = api.patch(&path, json!({"description": "office"})).await;
    assert_eq!(changed.body["description"], "office", "{changed:?}");

    let body = json!({"ip_policy_id": made.id(), "cidr": "10.0.0.0/8", "action": "allow", "metadata": "m"});
    let rule = api.post("/ip_policy_rules", body).await;
    assert_eq!(rule.status, StatusCode::CREATED, "{rule:?}");
    let expected = [
        "action",
        "cidr",
        "created_at",
        "description",
        "id",
        "ip_policy",
        "metadata",
        "uri",
    ];
    assert_eq!(fields(&rule), expected);
    assert_eq!(rule.body["ip_policy"]["id"], made.id());
    assert_eq!(rule.body["ip_policy"]["uri"], made.body["uri"]);
    let rule_path = format!("/ip_policy_rules/{}", rule.id());
    assert_eq!(api.get(&rule_path).await.body, rule.body);
    let moved = api
        .patch(&rule_path, json!({"cidr": "2001:db8::/32"}))
        .await;
    assert_eq!(
        (&moved.body["cidr"], &moved.body["metadata"]),
        (&json!("2001:db8::/32"), &json!("m")),
        "{moved:?}"
    );
    assert_eq!(api.get(&path).await.body["rule_count"], 1);
    let fixed = api.patch(&rule_path, json!({"action": "deny"})).await;
    assert_eq!(fixed.code(), "PTC_API_UNKNOWN_FIELD", "{fixed:?}");

    assert_eq!(api.delete(&rule_path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&rule_path).await.code(), "PTC_API_NOT_FOUND");
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    let gone = api.get(&path).await;
    assert_eq!(
        (gone.status, gone.ngrok()),
        (StatusCode::NOT_FOUND, "ERR_NGROK_1402")
    );
}

#[tokio::test]
async fn rules_are_created_with_clear_errors() {
    let api = Api::start().await;
    let policy = api.post("/ip_policies", json!({})).await.id();
    let base = json!({"ip_policy_id": policy, "cidr": "10.0.0.0/8", "action": "allow"});
    assert_eq!(
        api.post("/ip_policy_rules", base.clone()).await.status,
        StatusCode::CREATED
    );
    let with = |field: &str, value: Value| {
        let mut body = base.clone();
        body["cidr"] = json!("192.0.2.0/24");
        body[field] = value;
        body
    };
    let nobody = "ipp_2NfK3dZ8qv1m0hR5bT7yW9xC4eA";
    for (body, ngrok, status, says) in [
        (
            with("cidr", json!("10.0.0.0/8")),
            "ERR_NGROK_1408",
            409,
            "already",
        ),
        (
            with("cidr", json!("10.0.0.1/8")),
            "ERR_NGROK_1409",
            400,
            "`10.0.0.0/8`",
        ),
        (
            with("cidr", json!("10.0.0.1")),
            "ERR_NGROK_1413",
            400,
            "`10.0.0.1/32`",
        ),
        (
            with("cidr", json!("fe80::1")),
            "ERR_NGROK_1413",
            400,
            "`fe80::1/128`",
        ),
        (
            with("cidr", json!("office")),
            "ERR_NGROK_1406",
            400,
            "not a CIDR",
        ),
        (with("cidr", json!("")), "ERR_NGROK_1405", 400, "`cidr`"),
        (
            with("action", Value::Null),
            "ERR_NGROK_1405",
            400,
            "`action`",
        ),
        (
            with("action", json!("block")),
            "ERR_NGROK_1422",
            400,
            "allow or deny",
        ),
        (
            with("ip_policy_id", json!("")),
            "ERR_NGROK_1414",
            400,
            "`ip_policy_id`",
        ),
        (
            with("ip_policy_id", json!("ep_x")),
            "ERR_NGROK_227",
            400,
            "ipp_",
        ),
        (
            with("ip_policy_id", json!(nobody)),
            "ERR_NGROK_1402",
            404,
            nobody,
        ),
        (
            with("description", json!("x".repeat(256))),
            "ERR_NGROK_1421",
            400,
            "256",
        ),
    ] {
        let got = api.post("/ip_policy_rules", body.clone()).await;
        let found = (got.status.as_u16(), got.ngrok());
        assert_eq!(found, (status, ngrok), "{body}: {got:?}");
        assert!(got.message().contains(says), "{body}: {got:?}");
    }
    assert_eq!(rules(&api, "").await.len(), 1);
}

#[tokio::test]
async fn many_rules_come_by_one_body() {
    let api = Api::start().await;
    let rule = |n: u32| {
        let ip = std::net::Ipv4Addr::from_bits(0x0A00_0000 + n);
        json!({"cidr": format!("{ip}/32"), "action": "allow"})
    };
    let list = |count: u32| (0..count).map(rule).collect::<Vec<_>>();
    let made = api
        .post(
            "/ip_policies",
            json!({"description": "many", "rules": list(20_000)}),
        )
        .await;
    assert_eq!(
        (made.status, &made.body["rule_count"]),
        (StatusCode::CREATED, &json!(20_000)),
        "{made:?}"
    );
    let path = format!("/ip_policies/{}", made.id());
    let fewer = api.patch(&path, json!({"rules": list(250)})).await;
    assert_eq!(
        (&fewer.body["rule_count"], &fewer.body["description"]),
        (&json!(250), &json!("many")),
        "{fewer:?}"
    );

    let mut seen: Vec<String> = Vec::new();
    let mut query = "?limit=100".to_owned();
    loop {
        let got = api.get(&format!("/ip_policy_rules{query}")).await;
        let page = got.body["ip_policy_rules"].as_array().expect("a list");
        seen.extend(
            page.iter()
                .map(|rule| rule["id"].as_str().expect("an id").to_owned()),
        );
        let Some(next) = got.body["next_page_uri"].as_str() else {
            break;
        };
        query = next
            .split_once("/ip_policy_rules")
            .expect("its path")
            .1
            .to_owned();
    }
    assert_eq!(seen.len(), 250);
    assert!(seen.is_sorted_by(|newer, older| newer > older));

    let none = api.patch(&path, json!({"rules": []})).await;
    assert_eq!(none.body["rule_count"], 0, "{none:?}");
    let too_many = api.patch(&path, json!({"rules": list(100_001)})).await;
    assert!(
        too_many.message().contains("more than 100000"),
        "{too_many:?}"
    );
}

#[tokio::test]
async fn bulk_bodies_are_read_strictly_and_bounded() {
    let api = Api::start().await;
    let path = format!(
        "/ip_policies/{}",
        api.post("/ip_policies", json!({})).await.id()
    );
    for (body, code, says) in [
        (json!({}), "PTC_API_EMPTY_UPDATE", ""),
        (json!({"rules": null}), "PTC_API_EMPTY_UPDATE", ""),
        (
            json!({"rule": 1}),
            "PTC_API_UNKNOWN_FIELD",
            "description, metadata, rules",
        ),
        (
            json!({"metadata": {"a": 1}}),
            "PTC_API_INVALID_VALUE",
            "`metadata`",
        ),
        (
            json!({"metadata": 1}),
            "PTC_API_INVALID_VALUE",
            "`metadata`",
        ),
        (
            json!({"rules": "10.0.0.0/8"}),
            "PTC_API_INVALID_VALUE",
            "`rules` as a list",
        ),
        (
            json!({"rules": ["10.0.0.0/8"]}),
            "PTC_API_INVALID_VALUE",
            "IpRuleItem",
        ),
        (
            json!({"rules": [{"cidr": "10.0.0.0/8", "acton": "allow"}]}),
            "PTC_API_UNKNOWN_FIELD",
            "acton",
        ),
        (
            json!({"rules": [{"cidr": "10.0.0.0/8"}]}),
            "PTC_IP_RULE_FIELD_MISSING",
            "rules[0].action",
        ),
        (
            json!({"rules": [{"action": "deny"}]}),
            "PTC_IP_RULE_FIELD_MISSING",
            "rules[0].cidr",
        ),
        (
            json!({"rules": [{"cidr": "10.0.0.0/8", "action": "drop"}]}),
            "PTC_IP_RULE_ACTION_INVALID",
            "rules[0].action",
        ),
        (
            json!({"rules": [{"cidr": "10.0.0.1/8", "action": "deny"}]}),
            "PTC_IP_RULE_NOT_BASE",
            "rules[0].cidr",
        ),
        (json!([]), "PTC_API_BODY_UNPARSABLE", "no object"),
    ] {
        let got = api.patch(&path, body.clone()).await;
        assert_eq!(got.code(), code, "{body}: {got:?}");
        assert!(got.message().contains(says), "{body}: {got:?}");
    }
    let fields: serde_json::Map<String, Value> =
        (0..100).map(|n| (format!("f{n}"), json!(1))).collect();
    let got = api.patch(&path, Value::Object(fields)).await;
    assert!(got.message().contains("too many fields"), "{got:?}");
    let id = path.rsplit_once('/').expect("a path").1;
    let said_again = api.patch(&path, json!({"id": id, "metadata": "m"})).await;
    assert_eq!(said_again.status, StatusCode::OK, "{said_again:?}");

    let large = json!({"metadata": "x".repeat(9 * 1024 * 1024)});
    let got = api
        .send(request("POST", "/ip_policies", &api.admin, Some(&large)))
        .await;
    assert_eq!(
        (got.status.as_u16(), got.ngrok()),
        (413, "ERR_NGROK_812"),
        "{got:?}"
    );
    assert!(got.message().contains("8388608"), "{got:?}");
    let large = json!({"metadata": "x".repeat(300 * 1024)});
    let got = api
        .send(request(
            "POST",
            "/ip_policy_rules",
            &api.admin,
            Some(&large),
        ))
        .await;
    assert_eq!(
        got.status.as_u16(),
        413,
        "only bulk bodies may be large: {got:?}"
    );
}

#[tokio::test]
async fn few_large_bodies_are_read_at_once() {
    let api = Api::start().await;
    let taken: Vec<_> = (0..crate::defaults::BULK_BODIES_MAX)
        .map(|_| api.app.limits.start_bulk().expect("free"))
        .collect();
    let large = json!({"metadata": "x".repeat(300 * 1024)});
    let got = api.post("/ip_policies", large.clone()).await;
    assert_eq!(
        (got.status, got.ngrok()),
        (StatusCode::TOO_MANY_REQUESTS, "ERR_NGROK_225"),
        "{got:?}"
    );
    assert_eq!(got.header("retry-after"), Some("2"));
    let small = api.post("/ip_policies", json!({})).await;
    assert_eq!(
        small.status,
        StatusCode::CREATED,
        "usual bodies need no place"
    );
    drop(taken);
    assert_eq!(
        api.post("/ip_policies", large).await.code(),
        "PTC_METADATA_TOO_LONG"
    );
}

#[tokio::test]
async fn what_an_endpoint_uses_stays() {
    let api = Api::start().await;
    let policy = api.post("/ip_policies", json!({})).await.id();
    let text = |id: &str| {
        json!({"on_tcp_connect": [{"actions": [
            {"type": "restrict-ips", "config": {"ip_policies": [id]}}, {"type": "deny"}]}]})
        .to_string()
    };
    let nobody = text("ipp_2NfK3dZ8qv1m0hR5bT7yW9xC4eA");
    let body = json!({"url": "tcp://db.internal:1", "traffic_policy": nobody});
    let got = api.post("/endpoints", body).await;
    assert_eq!(
        (got.ngrok(), got.code()),
        ("ERR_NGROK_2216", "PTC_POLICY_REFERENCE"),
        "{got:?}"
    );
    let body = json!({"url": "tcp://db.internal:1", "traffic_policy": text(&policy)});
    let endpoint = api.post("/endpoints", body).await;
    assert_eq!(endpoint.status, StatusCode::CREATED, "{endpoint:?}");
    let path = format!("/ip_policies/{policy}");
    let kept = api.delete(&path).await;
    assert_eq!(
        (kept.status, kept.ngrok()),
        (StatusCode::CONFLICT, "ERR_NGROK_1420"),
        "{kept:?}"
    );
    assert!(kept.message().contains(&endpoint.id()), "{kept:?}");
    api.delete(&format!("/endpoints/{}", endpoint.id())).await;
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
}

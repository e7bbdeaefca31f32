//! Vaults and secrets over the API: ngrok's fields and errors, and no value in any answer.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::{Api, Got};

const VALUE: &str = "correct horse battery staple";

async fn vault(api: &Api, name: &str) -> Got {
    let made = api.post("/vaults", json!({"name": name})).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    made
}

/// The names of an object's fields.
fn fields(object: &Value) -> Vec<&str> {
    let object = object.as_object().expect("an object");
    let mut names: Vec<&str> = object.keys().map(String::as_str).collect();
    names.sort_unstable();
    names
}

fn ids(list: &Value) -> Vec<&str> {
    let list = list.as_array().expect("a list").iter();
    list.map(|item| item["id"].as_str().expect("an id"))
        .collect()
}

#[tokio::test]
async fn vaults_live_their_life() {
    let api = Api::start().await;
    let body = json!({"name": "prod/db", "description": "d", "metadata": ""});
    let made = api.post("/vaults", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let expected =
        "created_at created_by description id last_updated_by metadata name updated_at uri";
    assert_eq!(fields(&made.body).join(" "), expected);
    let key = api.registry.authenticate_api_key(&api.admin).unwrap();
    assert_eq!(made.body["created_by"], key.id.as_str());
    let path = format!("/vaults/{}", made.id());
    assert_eq!(made.body["uri"], format!("http://api.test:7480{path}"));
    assert_eq!(api.get(&path).await.body, made.body);
    let changed = api.patch(&path, json!({"name": "test", "metadata": "m"}));
    let changed = changed.await;
    assert_eq!(
        (&changed.body["name"], &changed.body["metadata"]),
        (&json!("test"), &json!("m"))
    );
    let other = vault(&api, "prod/db").await;
    let listed = api.get("/vaults").await;
    assert_eq!(ids(&listed.body["vaults"]), [other.id(), made.id()]);
    let page = api.get("/vaults?limit=1").await;
    assert_eq!(ids(&page.body["vaults"]), [other.id()]);
    let next = page.body["next_page_uri"].as_str().expect("a next page");
    let next = next.strip_prefix("http://api.test:7480").expect("absolute");
    assert_eq!(ids(&api.get(next).await.body["vaults"]), [made.id()]);
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&path).await.code(), "PTC_API_NOT_FOUND");
    assert_eq!(api.delete(&path).await.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn no_answer_holds_a_secrets_value() {
    let api = Api::start().await;
    let vault = vault(&api, "v").await.id();
    let body = json!({"name": "a/b.c_1", "value": VALUE, "vault_id": vault, "vault_name": "", "metadata": "m", "description": ""});
    let made = api.post("/vault_secrets", body).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let expected = "created_at created_by description id last_updated_by metadata name updated_at uri vault vault_name";
    assert_eq!(fields(&made.body).join(" "), expected);
    assert_eq!(fields(&made.body["created_by"]), ["id", "uri"]);
    assert_eq!(made.body["vault"]["id"], vault.as_str());
    assert_eq!(made.body["vault_name"], "v");
    let path = format!("/vault_secrets/{}", made.id());
    let changed = api.patch(
        &path,
        json!({"value": format!("{VALUE}!"), "description": "new"}),
    );
    let changed = changed.await;
    assert_eq!(changed.status, StatusCode::OK, "{changed:?}");
    let read = |name: &str| api.registry.snapshot().secret(&api.account, "v", name);
    assert_eq!(read("a/b.c_1").as_deref(), Some(&*format!("{VALUE}!")));
    let got = [
        made,
        changed,
        api.get(&path).await,
        api.get("/vault_secrets").await,
        api.get(&format!("/vaults/{vault}/secrets")).await,
        api.get(&format!("/vaults/{vault}")).await,
    ];
    for got in &got {
        assert!(!format!("{got:?}").contains(VALUE), "{got:?}");
    }
    let refused = api.delete(&format!("/vaults/{vault}")).await;
    assert_eq!(
        (refused.code(), refused.ngrok()),
        ("PTC_VAULT_NOT_EMPTY", "ERR_NGROK_23003")
    );
    assert_eq!(api.delete(&path).await.status, StatusCode::NO_CONTENT);
    assert_eq!(api.get(&path).await.status, StatusCode::NOT_FOUND);
    assert_eq!(read("a/b.c_1"), None);
    let gone = api.delete(&format!("/vaults/{vault}")).await;
    assert_eq!(gone.status, StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_vault_lists_its_own_secrets() {
    let api = Api::start().await;
    let one = vault(&api, "one").await.id();
    vault(&api, "two").await;
    let mut own = Vec::new();
    for n in 0..5 {
        let of = if n % 2 == 0 { "one" } else { "two" };
        let body = json!({"name": format!("s{n}"), "value": "x", "vault_name": of});
        let made = api.post("/vault_secrets", body).await;
        if of == "one" {
            own.insert(0, made.id());
        }
    }
    let all = api.get("/vault_secrets").await;
    assert_eq!(ids(&all.body["secrets"]).len(), 5);
    let first = api.get(&format!("/vaults/{one}/secrets?limit=2")).await;
    let next = first.body["next_page_uri"].as_str().expect("a next page");
    let next = next.strip_prefix("http://api.test:7480").expect("absolute");
    let last = api.get(next).await;
    assert!(last.body["next_page_uri"].is_null());
    let mut seen = ids(&first.body["secrets"]);
    assert_eq!(seen.len(), 2);
    seen.extend(ids(&last.body["secrets"]));
    own.sort_unstable_by(|a, b| b.cmp(a));
    assert_eq!(seen, own);
    let unknown = format!("/vaults/vault_{}/secrets", "2NfK3dZ8qv1m0hR5bT7yW9xC4eA");
    assert_eq!(api.get(&unknown).await.code(), "PTC_API_NOT_FOUND");
}

#[tokio::test]
async fn what_is_wrong_has_ngroks_number() {
    let api = Api::start().await;
    let one = vault(&api, "v").await;
    for (body, number) in [
        (json!({}), 23_001),
        (json!({"name": ""}), 23_001),
        (json!({"name": "a b"}), 23_000),
        (json!({"name": "x".repeat(129)}), 23_002),
        (json!({"name": "v"}), 23_004),
        (json!({"nmae": "v"}), 214),
    ] {
        let got = api.post("/vaults", body.clone()).await;
        assert_eq!(got.status, StatusCode::BAD_REQUEST, "{got:?}");
        assert_eq!(got.ngrok(), format!("ERR_NGROK_{number}"), "{body}");
    }
    let path = format!("/vaults/{}", one.id());
    assert_eq!(
        api.patch(&path, json!({"name": ""})).await.ngrok(),
        "ERR_NGROK_23001"
    );
    assert_eq!(
        api.patch(&path, json!({})).await.code(),
        "PTC_API_EMPTY_UPDATE"
    );

    let good = json!({"name": "s", "value": VALUE, "vault_id": one.id()});
    let made = api.post("/vault_secrets", good.clone()).await;
    assert_eq!(made.status, StatusCode::CREATED, "{made:?}");
    let unknown = "vault_2NfK3dZ8qv1m0hR5bT7yW9xC4eA";
    for (change, number, status) in [
        (json!({}), 24_005, 400),
        (json!({"name": ""}), 24_001, 400),
        (json!({"name": "a-b"}), 24_000, 400),
        (json!({"name": "x".repeat(129)}), 24_002, 400),
        (json!({"name": "t", "value": ""}), 24_003, 400),
        (
            json!({"name": "t", "value": "x".repeat(16_385)}),
            24_004,
            400,
        ),
        (json!({"name": "t", "value": 12_345_678}), 215, 400),
        (json!({"name": "t", "vault_id": unknown}), 24_006, 404),
        (json!({"name": "t", "vault_id": "cr_x"}), 227, 400),
        (json!({"name": "t", "vault_id": ""}), 24_008, 400),
        (
            json!({"name": "t", "vault_id": "", "vault_name": "w"}),
            24_009,
            404,
        ),
        (json!({"name": "t", "vault_name": "v"}), 215, 400),
    ] {
        let mut body = good.clone();
        for (name, value) in change.as_object().expect("an object") {
            body[name] = value.clone();
        }
        let got = api.post("/vault_secrets", body).await;
        assert_eq!(
            got.ngrok(),
            format!("ERR_NGROK_{number}"),
            "{change}: {got:?}"
        );
        assert_eq!(got.status.as_u16(), status, "{change}");
        let told = format!("{got:?}");
        assert!(
            !told.contains(VALUE) && !told.contains("12345678"),
            "{got:?}"
        );
    }
    let path = format!("/vault_secrets/{}", made.id());
    assert_eq!(
        api.patch(&path, json!({"value": ""})).await.ngrok(),
        "ERR_NGROK_24003"
    );
    assert_eq!(
        api.patch(&path, json!({"value": 12_345_678})).await.ngrok(),
        "ERR_NGROK_215"
    );
    let got = api.patch(&path, json!({"vault_id": one.id()})).await;
    assert_eq!(
        got.code(),
        "PTC_API_UNKNOWN_FIELD",
        "a secret stays in its vault"
    );
}

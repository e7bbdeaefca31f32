//! Pages: newest first, cut by `limit` and `before_id`, linked by absolute URLs.

use axum::http::StatusCode;
use serde_json::json;

use super::Api;

#[tokio::test]
async fn a_walk_along_next_page_uri_sees_everything_once() {
    let api = Api::start().await;
    let mut made = Vec::new();
    for _ in 0..7 {
        made.push(api.post("/credentials", json!({})).await.id());
    }
    // The first start made one as well.
    let all = api.get("/credentials").await;
    let expected: Vec<String> = ids(&all.body["credentials"]);
    assert!(made.iter().all(|id| expected.contains(id)), "{expected:?}");
    assert!(
        expected.is_sorted_by(|newer, older| newer > older),
        "newest first: {expected:?}"
    );
    assert!(all.body["next_page_uri"].is_null());

    let mut path = "/credentials?limit=3".to_owned();
    let mut seen = Vec::new();
    loop {
        let page = api.get(&path).await;
        assert_eq!(page.status, StatusCode::OK, "{page:?}");
        assert_eq!(page.body["uri"], format!("http://api.test:7480{path}"));
        let ids = ids(&page.body["credentials"]);
        assert!(ids.len() <= 3);
        seen.extend(ids);
        let Some(next) = page.body["next_page_uri"].as_str() else {
            break;
        };
        assert!(
            next.contains("limit=3") && next.contains("before_id=cr_"),
            "{next}"
        );
        path = next
            .strip_prefix("http://api.test:7480")
            .expect("absolute")
            .to_owned();
    }
    assert_eq!(seen, expected);
}

#[tokio::test]
async fn a_page_that_is_just_full_is_the_last() {
    let api = Api::start().await;
    let count = ids(&api.get("/credentials").await.body["credentials"]).len();
    let page = api.get(&format!("/credentials?limit={count}")).await;
    assert!(page.body["next_page_uri"].is_null(), "{page:?}");
    let empty = api.get("/reserved_addrs").await;
    assert_eq!(empty.body["reserved_addrs"], json!([]));
    assert!(empty.body["next_page_uri"].is_null());
}

#[tokio::test]
async fn what_before_id_names_may_be_gone() {
    let api = Api::start().await;
    for _ in 0..4 {
        api.post("/reserved_addrs", json!({})).await;
    }
    let all = ids(&api.get("/reserved_addrs").await.body["reserved_addrs"]);
    api.delete(&format!("/reserved_addrs/{}", all[1])).await;
    let rest = api
        .get(&format!("/reserved_addrs?before_id={}", all[1]))
        .await;
    assert_eq!(ids(&rest.body["reserved_addrs"]), all[2..]);
    // As ngrok's JavaScript client writes it.
    let rest = api
        .get(&format!("/reserved_addrs?beforeId={}", all[1]))
        .await;
    assert_eq!(ids(&rest.body["reserved_addrs"]), all[2..]);
}

#[tokio::test]
async fn limits_are_1_to_100() {
    let api = Api::start().await;
    for limit in ["0", "101", "-1", "x", "1.5"] {
        let got = api.get(&format!("/credentials?limit={limit}")).await;
        assert_eq!(
            (got.status, got.ngrok()),
            (StatusCode::BAD_REQUEST, "ERR_NGROK_233"),
            "{limit}"
        );
    }
    for limit in ["1", "100", ""] {
        assert_eq!(
            api.get(&format!("/credentials?limit={limit}")).await.status,
            StatusCode::OK,
            "{limit}"
        );
    }
}

fn ids(list: &serde_json::Value) -> Vec<String> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|item| item["id"].as_str().expect("an id").to_owned())
        .collect()
}

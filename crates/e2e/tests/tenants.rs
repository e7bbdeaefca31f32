//! Accounts: one never sees, binds or forwards to another's resources.

use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually};
use serde_json::{Value, json};

fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
        .to_owned()
}

/// A second account with a key and a join string of its own.
async fn second(stack: &Stack) -> (portcullis_e2e::Api, String) {
    let account = stack.api.post("/accounts", json!({"name": "second"})).await;
    let id = text(&account, "id");
    let client = stack.cli(&[]);
    drop(client);
    let as_second = |path: &'static str| {
        let line = format!(
            "curl -sS --noproxy '*' -X POST -H 'Authorization: Bearer {}' -H 'Ngrok-Version: 2' -H 'Portcullis-Account: {id}' \
             -H 'Content-Type: application/json' -d '{{}}' {}{path}",
            stack.api.key, stack.api.url
        );
        async move {
            serde_json::from_str::<Value>(&portcullis_e2e::shell::sh_async(line).await)
                .expect("JSON")
        }
    };
    let key = text(&as_second("/api_keys").await, "token");
    let token = text(&as_second("/credentials").await, "token");
    let mut join = portcullis_model::join::JoinString::parse(&stack.join()).expect("own form");
    join.authtoken = token.into();
    (stack.api.with_key(&key), join.reveal().expose().clone())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_account_never_sees_binds_or_forwards_to_anothers() {
    let stack = Stack::start().await;
    let (other, join) = second(&stack).await;
    let upstream = Upstream::echo().await;
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--url", "tcp://echo.internal:7"])
        .await;
    let port = *stack.ports.start();
    let address = stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    let credential = stack.api.post("/credentials", json!({})).await;
    let key = stack.api.post("/api_keys", json!({})).await;
    let session = stack.api.get("/tunnel_sessions").await["tunnel_sessions"][0].clone();
    let endpoint = stack.api.endpoint_named(&agent.name).await.expect("online");
    for (path, key_of, resource) in [
        ("/endpoints", "endpoints", &endpoint),
        ("/reserved_addrs", "reserved_addrs", &address),
        ("/credentials", "credentials", &credential),
        ("/api_keys", "keys", &key),
        ("/tunnel_sessions", "tunnel_sessions", &session),
    ] {
        let id = text(resource, "id");
        let listed = other.get(path).await;
        assert!(
            !listed[key_of].to_string().contains(&id),
            "{path} lists another's {id}"
        );
        for method in ["GET", "PATCH", "DELETE"] {
            let body = (method == "PATCH").then(|| json!({"description": "stolen"}));
            let (status, answer) = other
                .send(method, &format!("{path}/{id}"), body)
                .await
                .expect("answers");
            assert!(
                matches!(status, 404 | 405),
                "{method} {path}/{id}: {status} {answer}"
            );
        }
    }
    let (status, _) = other
        .send(
            "POST",
            &format!("/tunnel_sessions/{}/stop", text(&session, "id")),
            Some(json!({})),
        )
        .await
        .expect("answers");
    assert_eq!(status, 404);
    let (status, _) = other.send("GET", "/accounts", None).await.expect("answers");
    assert_eq!(status, 403);
    // Binding another's address is refused; reserving it too.
    let url = format!("tcp://localhost:{port}");
    let mut thief = stack.agent(&upstream.hostport(), &["--authtoken", &join, "--url", &url]);
    let mut process = thief.process.take().expect("it runs");
    let (status, output) = tokio::task::spawn_blocking(move || {
        (
            process.wait(std::time::Duration::from_secs(20)),
            process.output(),
        )
    })
    .await
    .expect("no panic");
    assert!(
        status.is_some_and(|status| !status.success()) && output.contains("PTC_ADDRESS"),
        "{output}"
    );
    let (status, answer) = other
        .send(
            "POST",
            "/reserved_addrs",
            Some(json!({"host": "localhost", "port": port})),
        )
        .await
        .expect("answers");
    assert!(status >= 400, "{answer}");
    // The same internal name in another account is another endpoint: forwarding finds none there.
    let policy = r#"{"on_tcp_connect":[{"actions":[{"type":"forward-internal","config":{"url":"tcp://echo.internal:7"}}]}]}"#;
    let cloud = other
        .post(
            "/endpoints",
            json!({"url": "tcp://", "traffic_policy": policy}),
        )
        .await;
    let at = std::net::SocketAddr::from((
        [127, 0, 0, 1],
        cloud["port"]
            .as_u64()
            .and_then(|port| port.try_into().ok())
            .expect("a port"),
    ));
    eventually("the edge listens and refuses", || async {
        matches!(exchange(at, b"x").await, Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset).then_some(())
    })
    .await;
    eventually("with its code", || async {
        stack
            .log()
            .contains("PTC_FORWARD_TARGET_MISSING")
            .then_some(())
    })
    .await;
    // A deleted address rests for its owner: nobody else gets it meanwhile.
    stack
        .api
        .delete(&format!("/reserved_addrs/{}", text(&address, "id")))
        .await;
    let (status, answer) = other
        .send(
            "POST",
            "/reserved_addrs",
            Some(json!({"host": "localhost", "port": port})),
        )
        .await
        .expect("answers");
    assert!(
        status == 409 && answer.to_string().contains("PTC_ADDRESS_RESTING"),
        "{answer}"
    );
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_plan_that_wants_verified_accounts_says_what_to_do() {
    let yaml = "plans:\n  gated:\n    tcp: verified\n    verify_hint: write to gate@example.com\n    endpoints_max: 1\n";
    let stack = Stack::start_configured(yaml, &[]).await;
    let (other, join) = second(&stack).await;
    let accounts = stack.api.get("/accounts").await;
    let id = accounts["accounts"]
        .as_array()
        .and_then(|all| all.iter().find(|one| one["name"] == "second"))
        .map(|one| text(one, "id"))
        .expect("listed");
    stack
        .api
        .patch(&format!("/accounts/{id}"), json!({"plan": "gated"}))
        .await;
    let upstream = Upstream::echo().await;
    let mut gated = stack.agent(&upstream.hostport(), &["--authtoken", &join]);
    let mut process = gated.process.take().expect("it runs");
    let (_, output) = tokio::task::spawn_blocking(move || {
        (
            process.wait(std::time::Duration::from_secs(20)),
            process.output(),
        )
    })
    .await
    .expect("no panic");
    assert!(
        output.contains("PTC_TCP_NOT_ALLOWED") && output.contains("gate@example.com"),
        "{output}"
    );
    stack
        .api
        .patch(&format!("/accounts/{id}"), json!({"verified": true}))
        .await;
    let policy = r#"{"on_tcp_connect":[{"actions":[{"type":"deny"}]}]}"#;
    other
        .post(
            "/endpoints",
            json!({"url": "tcp://a.internal:1", "traffic_policy": policy}),
        )
        .await;
    let (status, answer) = other
        .send(
            "POST",
            "/endpoints",
            Some(json!({"url": "tcp://b.internal:1", "traffic_policy": policy})),
        )
        .await
        .expect("answers");
    assert!(
        status == 403 && answer.to_string().contains("PTC_ENDPOINT_LIMIT"),
        "{answer}"
    );
    stack.balanced().await;
}

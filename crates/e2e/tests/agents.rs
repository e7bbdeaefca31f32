//! Agents: credentials and their rules, pools, remote stop, configuration files, outgoing proxies.

use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, process::Process};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn revoking_a_credential_ends_its_sessions_and_their_connections() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let credential = stack
        .api
        .post("/credentials", json!({"description": "short-lived"}))
        .await;
    let token = credential["token"].as_str().expect("shown once").to_owned();
    assert!(
        stack
            .api
            .get(&format!("/credentials/{}", text(&credential, "id")))
            .await["token"]
            .is_null()
    );
    let server = stack.agents.to_string();
    let ca = stack.data().join("ca.pem").display().to_string();
    let config = stack.dir().join("agent.yml");
    std::fs::write(
        &config,
        format!("version: 3\nagent:\n  connect_url: {server}\n  connect_cas: {ca}\n"),
    )
    .expect("ours");
    let mut agent = stack
        .tcp_with(
            &upstream.hostport(),
            &[
                "--authtoken",
                &token,
                "--config",
                &config.display().to_string(),
            ],
        )
        .await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    client.write_all(b"x").await.expect("writes");
    client.read_u8().await.expect("echo");
    stack
        .api
        .delete(&format!("/credentials/{}", text(&credential, "id")))
        .await;
    // The design says a second; ten times that is the deadline.
    portcullis_e2e::within(
        std::time::Duration::from_secs(10),
        "the session is gone",
        || async {
            let sessions = stack.api.get("/tunnel_sessions").await;
            sessions["tunnel_sessions"]
                .as_array()
                .is_some_and(Vec::is_empty)
                .then_some(())
        },
    )
    .await;
    assert!(client.read_u8().await.is_err());
    let mut process = agent.process.take().expect("it ran");
    let (status, output) = tokio::task::spawn_blocking(move || {
        (
            process.wait(std::time::Duration::from_secs(20)),
            process.output(),
        )
    })
    .await
    .expect("no panic");
    assert_eq!(status.and_then(|status| status.code()), Some(4), "{output}");
    assert!(
        output.contains("PTC_CREDENTIAL_REVOKED") || output.contains("PTC_AUTHTOKEN_UNKNOWN"),
        "{output}"
    );
    stack.balanced().await;
}

fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
        .to_owned()
}

/// A join string like the stack's, with another token.
fn join_with(stack: &Stack, token: &str) -> String {
    let mut join =
        portcullis_model::join::JoinString::parse(&stack.join()).expect("the server wrote it");
    join.authtoken = token.to_owned().into();
    join.reveal().expose().clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_asks_for_more_than_its_credential_allows_is_refused_by_rule() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let port = *stack.ports.start();
    let acl = json!([
        format!("bind:localhost:{port}-{}", port + 3),
        "bind:*.db.internal:5432"
    ]);
    let credential = stack.api.post("/credentials", json!({"acl": acl})).await;
    let join = join_with(&stack, &text(&credential, "token"));
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port + 1}),
        )
        .await;
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port + 8}),
        )
        .await;
    let allowed = format!("tcp://localhost:{}", port + 1);
    drop(
        stack
            .tcp_with(
                &upstream.hostport(),
                &["--authtoken", &join, "--url", &allowed],
            )
            .await,
    );
    drop(
        stack
            .tcp_with(
                &upstream.hostport(),
                &["--authtoken", &join, "--url", "tcp://a.db.internal:5432"],
            )
            .await,
    );
    for (url, code) in [
        (
            format!("tcp://localhost:{}", port + 8),
            "PTC_CREDENTIAL_ACL",
        ),
        ("tcp://a.db.internal:5433".to_owned(), "PTC_CREDENTIAL_ACL"),
        ("tcp://".to_owned(), "PTC_CREDENTIAL_ACL_RANDOM"),
    ] {
        let mut agent = stack.agent(&upstream.hostport(), &["--authtoken", &join, "--url", &url]);
        let mut process = agent.process.take().expect("it runs");
        let (status, output) = tokio::task::spawn_blocking(move || {
            (
                process.wait(std::time::Duration::from_secs(20)),
                process.output(),
            )
        })
        .await
        .expect("no panic");
        assert_eq!(
            status.and_then(|status| status.code()),
            Some(4),
            "{url}: {output}"
        );
        assert!(output.contains(code), "{url}: {output}");
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pool_serves_from_all_its_members_and_outsiders_are_refused() {
    let stack = Stack::start().await;
    let port = *stack.ports.start();
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    let url = format!("tcp://localhost:{port}");
    let name = |name: &'static [u8]| {
        Upstream::serve(move |mut stream| async move {
            drop(stream.write_all(name).await);
        })
    };
    let (one, two) = (name(b"one").await, name(b"two").await);
    let pooled = ["--url", url.as_str(), "--pooling-enabled"];
    let first = stack.tcp_with(&one.hostport(), &pooled).await;
    let second = stack.tcp_with(&two.hostport(), &pooled).await;
    let mut seen = std::collections::BTreeSet::new();
    for _ in 0..200 {
        seen.insert(exchange(first.addr(), b"").await.expect("answers"));
        if seen.len() == 2 {
            break;
        }
    }
    assert_eq!(seen.len(), 2, "both members serve");
    let mut outsider = stack.agent(&one.hostport(), &["--url", &url]);
    let mut process = outsider.process.take().expect("it runs");
    let (status, output) = tokio::task::spawn_blocking(move || {
        (
            process.wait(std::time::Duration::from_secs(20)),
            process.output(),
        )
    })
    .await
    .expect("no panic");
    assert_eq!(status.and_then(|status| status.code()), Some(5), "{output}");
    assert!(output.contains("PTC_POOLING_THIS_OFF"), "{output}");
    drop(second);
    eventually("one member is left", || async {
        let list = stack.api.get("/endpoints").await;
        (list["endpoints"].as_array()?.len() == 1).then_some(())
    })
    .await;
    for _ in 0..10 {
        assert_eq!(exchange(first.addr(), b"").await.expect("answers"), b"one");
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_can_be_restarted_and_stopped_through_the_api() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut agent = stack.tcp(&upstream.hostport()).await;
    let session = stack.api.get("/tunnel_sessions").await["tunnel_sessions"][0].clone();
    stack
        .api
        .post(
            &format!("/tunnel_sessions/{}/restart", text(&session, "id")),
            json!({}),
        )
        .await;
    eventually("another session serves", || async {
        let sessions = stack.api.get("/tunnel_sessions").await;
        let sessions = sessions["tunnel_sessions"].as_array()?.clone();
        (sessions.len() == 1 && sessions[0]["id"] != session["id"]).then_some(())
    })
    .await;
    let url = agent.url.clone();
    agent.online().await;
    assert_eq!(agent.url, url);
    let session = stack.api.get("/tunnel_sessions").await["tunnel_sessions"][0].clone();
    stack
        .api
        .post(
            &format!("/tunnel_sessions/{}/stop", text(&session, "id")),
            json!({}),
        )
        .await;
    let mut process = agent.process.take().expect("it ran");
    let (ended, output) = tokio::task::spawn_blocking(move || {
        (
            process.wait(std::time::Duration::from_secs(20)),
            process.output(),
        )
    })
    .await
    .expect("no panic");
    assert!(ended.is_some(), "a stopped agent ends: {output}");
    assert!(output.contains("PTC_AGENT_STOPPED"), "{output}");
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_configuration_file_starts_named_endpoints() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let config = stack.dir().join("portcullis.yml");
    let yaml = format!(
        "version: 3\nagent:\n  authtoken: {}\n  web_addr: false\nendpoints:\n  - name: one\n    upstream: {{url: {up}}}\n  \
         - name: two\n    url: tcp://two.internal:9\n    upstream: {{url: \"tcp://{up}\"}}\n  - name: three\n    upstream: {{url: {up}}}\n",
        stack.join(),
        up = upstream.hostport(),
    );
    std::fs::write(&config, yaml).expect("ours");
    let config = config.display().to_string();
    let (status, output) = stack.run(&["config", "check", "--config", &config]);
    assert_eq!(status, 0, "{output}");
    let state = stack.dir().join("state").display().to_string();
    let process = Process::start(
        "start",
        stack.cli(&[
            "start",
            "one",
            "two",
            "--config",
            &config,
            "--state-dir",
            &state,
        ]),
    );
    let one = eventually("one is online", || stack.api.endpoint_named("one")).await;
    eventually("two is online", || stack.api.endpoint_named("two")).await;
    assert!(
        stack.api.endpoint_named("three").await.is_none(),
        "{}",
        process.output()
    );
    let port: u16 = one["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok())
        .expect("a port");
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("it answers", || async {
        exchange(at, b"hello")
            .await
            .ok()
            .filter(|echo| echo == b"hello")
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_goes_out_through_http_connect_and_socks5() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let http = portcullis_e2e::outbound::http_connect().await;
    let socks = portcullis_e2e::outbound::socks5().await;
    for proxy in [&http, &socks] {
        let before = proxy.served();
        let agent = stack
            .tcp_with(&upstream.hostport(), &["--proxy-url", &proxy.url])
            .await;
        assert_eq!(
            exchange(agent.addr(), b"through").await.expect("echo"),
            b"through"
        );
        assert!(
            proxy.served() >= before + 2,
            "control and data went through {}",
            proxy.url
        );
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cidr_flags_let_in_and_keep_out() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let closed = stack
        .tcp_with(&upstream.hostport(), &["--cidr-deny", "127.0.0.0/8"])
        .await;
    assert!(
        !exchange(closed.addr(), b"x")
            .await
            .is_ok_and(|echo| echo == b"x")
    );
    eventually("the refusal has its code", || async {
        stack.log().contains("PTC_IP_RESTRICTED").then_some(())
    })
    .await;
    let open = stack
        .tcp_with(&upstream.hostport(), &["--cidr-allow", "127.0.0.0/8"])
        .await;
    assert_eq!(exchange(open.addr(), b"x").await.expect("echo"), b"x");
    stack.balanced().await;
}

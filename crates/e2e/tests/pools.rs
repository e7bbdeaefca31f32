//! Pools of real services: checks, what the API tells of them, what a client notices; and what a changed
//! policy does to open connections.

use std::net::SocketAddr;

use portcullis_e2e::servers::{MariaDb, Nginx, Postgres, Redis, Sshd};
use portcullis_e2e::shell::try_sh;
use portcullis_e2e::stack::AgentProcess;
use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::wait::eventually;
use portcullis_e2e::{Stack, ports};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

const OFTEN: [&str; 6] = [
    "--health-interval",
    "500ms",
    "--health-fall",
    "2",
    "--health-rise",
    "2",
];

/// An agent's endpoint among others at one URL, with a check.
async fn member(stack: &Stack, url: &str, port: u16) -> (AgentProcess, String) {
    let port = port.to_string();
    let mut flags = vec!["--url", url, "--pooling-enabled"];
    flags.extend(["--health", "redis", "--pool-strategy", "weighted"]);
    flags.extend(OFTEN);
    let mut agent = stack.agent(&port, &flags);
    let endpoint = agent.online().await;
    let name = endpoint["name"].as_str().expect("a name").to_owned();
    (agent, name)
}

async fn health(stack: &Stack, name: &str) -> Value {
    let endpoint = stack.api.endpoint_named(name).await;
    endpoint
        .map(|endpoint| endpoint["health"].clone())
        .unwrap_or_default()
}

/// Waits until an endpoint has a status, and returns all of its health.
async fn status(stack: &Stack, name: &str, wanted: &str) -> Value {
    eventually(&format!("{name} is {wanted}"), || async {
        let health = health(stack, name).await;
        (health["status"] == wanted && !health["checked_at"].is_null()).then_some(health)
    })
    .await
}

async fn ping(at: SocketAddr) -> Vec<u8> {
    exchange(at, b"PING\r\n")
        .await
        .expect("no connection fails")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_member_is_passed_over_and_comes_back() {
    let (stack, one) = tokio::join!(Stack::start(), Redis::start());
    let mut two = Redis::start().await;
    let reserved = stack.api.post("/reserved_addrs", json!({})).await;
    let addr = reserved["addr"].as_str().expect("an address");
    let port = addr
        .rsplit(':')
        .next()
        .expect("a port")
        .parse()
        .expect("a number");
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    let url = format!("tcp://{addr}");
    let (_one, first) = member(&stack, &url, one.port).await;
    let (_two, second) = member(&stack, &url, two.port).await;
    for name in [&first, &second] {
        status(&stack, name, "online").await;
    }
    for _ in 0..20 {
        assert_eq!(ping(at).await, b"+PONG\r\n");
    }
    two.process.kill9();
    // Who comes before the check has noticed is given to the other one; nobody notices.
    for _ in 0..20 {
        assert_eq!(ping(at).await, b"+PONG\r\n");
    }
    let unhealthy = status(&stack, &second, "unhealthy").await;
    let reason = &unhealthy["reason"];
    assert_eq!(reason["code"], "PTC_UPSTREAM_UNHEALTHY", "{unhealthy}");
    let message = reason["msg"].as_str().unwrap_or_default();
    assert!(message.starts_with("redis: "), "{unhealthy}");
    assert!(
        unhealthy["consecutive_failures"].as_u64() >= Some(2),
        "{unhealthy}"
    );
    assert_eq!(health(&stack, &first).await["status"], "online");
    let failed = stack
        .api
        .metric("portcullis_upstream_ejections_total")
        .await;
    for _ in 0..20 {
        assert_eq!(ping(at).await, b"+PONG\r\n");
    }
    let after = stack
        .api
        .metric("portcullis_upstream_ejections_total")
        .await;
    assert!((after - failed).abs() < 0.5, "no open was tried of it");
    assert!(
        stack.log().contains("upstream is unhealthy"),
        "the log tells"
    );
    let (code, list) = stack.run(&["api", "endpoints", "list"]);
    assert_eq!(code, 0, "{list}");
    assert!(
        list.contains("unhealthy") && list.contains("redis: "),
        "{list}"
    );

    let _two_again = Redis::start_at(two.port).await;
    status(&stack, &second, "online").await;
    for _ in 0..20 {
        assert_eq!(ping(at).await, b"+PONG\r\n");
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_check_knows_its_real_service() {
    let (postgres, mariadb, redis, sshd, nginx) = tokio::join!(
        Postgres::start(),
        MariaDb::start(),
        Redis::start(),
        Sshd::start(),
        Nginx::start(false)
    );
    let echo = Upstream::echo().await;
    let mut yaml = "endpoints:\n".to_owned();
    let mut add = |name: &str, port: u16, check: &str| {
        let public = ports::one();
        yaml.push_str(&format!(
            "  - {{name: {name}, port: {public}, upstream: '127.0.0.1:{port}', health: {check}}}\n"
        ));
    };
    add("postgres", postgres.port, "postgres");
    add("mysql", mariadb.port, "mysql");
    add("redis", redis.port, "{check: redis, interval: 500ms}");
    add("ssh", sshd.port, "ssh");
    add("http", nginx.port, "{check: http, path: /any, status: 200}");
    add("tcp", nginx.port, "tcp");
    add(
        "expect",
        echo.addr.port(),
        "{check: expect, send: over and, expect: 'd'}",
    );
    add("not-ssh", nginx.port, "ssh");
    add("not-mysql", postgres.port, "{check: mysql, timeout: 300ms}");
    add("not-tls", redis.port, "tls");
    add("not-there", ports::one(), "http");
    add("not-200", nginx.port, "{check: http, status: 201-299}");
    let stack = Stack::start_configured(&yaml, &[]).await;
    for name in ["postgres", "mysql", "redis", "ssh", "http", "tcp", "expect"] {
        let health = status(&stack, name, "online").await;
        assert!(health["reason"].is_null(), "{name}: {health}");
    }
    for (name, word) in [
        ("not-ssh", "ssh: "),
        ("not-mysql", "mysql: "),
        ("not-tls", "tls: "),
        ("not-there", "http: "),
        ("not-200", "status 200"),
    ] {
        let health = status(&stack, name, "unhealthy").await;
        let message = health["reason"]["msg"].as_str().unwrap_or_default();
        assert!(message.contains(word), "{name}: {health}");
    }
    assert!(stack.api.metric("portcullis_endpoints_unhealthy").await >= 5.0);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_that_cannot_be_used_is_refused_with_its_field() {
    let stack = Stack::start().await;
    let agent = stack.agent("1", &["--health", "redis", "--health-interval", "1ms"]);
    let output = eventually("it has ended", || {
        let output = agent.output();
        let told = output.contains("PTC_HEALTH_INVALID");
        async move { told.then_some(output) }
    })
    .await;
    assert!(output.contains("interval"), "{output}");
    drop(agent);
    let yaml = "endpoints: [{port: 0, upstream: '1', health: {check: http, path: ready}}]\n";
    let path = stack.dir().join("wrong.yml");
    std::fs::write(&path, yaml).expect("ours");
    let data = stack.dir().join("other").display().to_string();
    let (code, output) = stack.run(&[
        "server",
        "--config",
        &path.display().to_string(),
        "--data-dir",
        &data,
    ]);
    assert_ne!(code, 0);
    assert!(
        output.contains("endpoints[0].health") && output.contains("path"),
        "{output}"
    );
}

/// A cloud endpoint in front of an internal one, whose policy is the API's to change.
async fn front(stack: &Stack, on_change: &str) -> (String, SocketAddr) {
    let made = stack
        .api
        .post(
            "/endpoints",
            json!({"url": "tcp://", "on_change": on_change, "traffic_policy": forward("")}),
        )
        .await;
    assert_eq!(made["on_change"], on_change, "{made}");
    let port = made["port"]
        .as_u64()
        .and_then(|port| u16::try_from(port).ok());
    let at = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
    (made["id"].as_str().expect("an id").to_owned(), at)
}

fn forward(first: &str) -> String {
    format!(
        "on_tcp_connect: [{first}{{actions: [{{type: forward-internal, config: {{url: 'tcp://db.internal:5432'}}}}]}}]"
    )
}

fn refuse(network: &str) -> String {
    forward(&format!(
        "{{actions: [{{type: restrict-ips, config: {{allow: ['0.0.0.0/0'], deny: ['{network}']}}}}]}}, "
    ))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_is_closed_when_its_policy_refuses_it_and_not_before() {
    let (stack, postgres) = tokio::join!(Stack::start(), Postgres::start());
    let internal = ["--url", "tcp://db.internal:5432", "--health", "postgres"];
    let _agent = stack.tcp_with(&postgres.port.to_string(), &internal).await;
    let (id, at) = front(&stack, "reevaluate").await;
    let line = format!(
        "psql -h 127.0.0.1 -p {} -U postgres -Atc 'select 42' -c 'select pg_sleep(60)'",
        at.port()
    );
    let psql = tokio::task::spawn_blocking(move || try_sh(&line));
    let path = format!("/endpoints/{id}");
    let open = || async {
        let endpoint = stack.api.get(&path).await;
        endpoint["connections_open"].as_u64()
    };
    eventually("psql is in", || async {
        (open().await == Some(1)).then_some(())
    })
    .await;
    let change = |document: String| json!({"traffic_policy": document});
    stack.api.patch(&path, change(refuse("10.0.0.0/8"))).await;
    let kept = "portcullis_connections_reevaluated_total{state=\"kept\"}";
    eventually("it was decided again", || async {
        (stack.api.metric(kept).await >= 1.0).then_some(())
    })
    .await;
    assert_eq!(open().await, Some(1), "it stays");
    stack.api.patch(&path, change(refuse("127.0.0.0/8"))).await;
    let (code, _) = psql.await.expect("no panic");
    assert_ne!(code, 0, "psql lost its connection");
    eventually("its record tells why", || async {
        stack.log().contains("ip_restricted").then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_closes_every_open_connection() {
    let stack = Stack::start_configured("limits: {drain_timeout: 300ms}\n", &[]).await;
    let echo = Upstream::echo().await;
    let internal = ["--url", "tcp://db.internal:5432"];
    let _agent = stack.tcp_with(&echo.hostport(), &internal).await;
    let (id, at) = front(&stack, "drain").await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        let client = eventually("it listens", || async { TcpStream::connect(at).await.ok() });
        let mut client = client.await;
        client.write_all(b"x").await.expect("open");
        client.read_exact(&mut [0]).await.expect("echo");
        clients.push(client);
    }
    let body = json!({"traffic_policy": refuse("10.0.0.0/8")});
    stack.api.patch(&format!("/endpoints/{id}"), body).await;
    for mut client in clients {
        assert!(client.read(&mut [0]).await.is_err(), "a reset");
    }
    let drained =
        "portcullis_connections_closed_total{reason=\"policy_drained\",fault=\"operator\"}";
    eventually("all three are told", || async {
        (stack.api.metric(drained).await > 2.5).then_some(())
    })
    .await;
    stack.balanced().await;
}

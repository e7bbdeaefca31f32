//! Where policies send connections: by source, by weight, by who says nothing; and while they change.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_e2e::Stack;
use portcullis_e2e::reload::{Load, Reloading};
use portcullis_e2e::servers::Nats;
use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::wait::eventually;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// A cloud endpoint with this policy, and nobody on it; where it listens.
async fn cloud(stack: &Stack, policy: &str) -> SocketAddr {
    let body = json!({"url": "tcp://", "traffic_policy": policy});
    let made = stack.api.post("/endpoints", body).await;
    let port = made["port"].as_u64().and_then(|port| port.try_into().ok());
    let at = SocketAddr::from(([127, 0, 0, 1], port.expect("a port")));
    eventually("it listens", || async {
        TcpStream::connect(at).await.is_ok().then_some(())
    })
    .await;
    eventually("nobody is there", || async {
        let open = stack.api.metric("portcullis_connections_open").await;
        let closed = stack
            .api
            .metric("portcullis_connections_closed_total")
            .await;
        (open < 0.5 && closed > 0.5).then_some(())
    })
    .await;
    at
}

/// A server with internal endpoints of these names, each of which tells its name.
async fn named(names: &'static [&'static str]) -> (Stack, Vec<Upstream>) {
    let mut upstreams = Vec::new();
    let mut config = String::from("endpoints:\n");
    for name in names {
        let upstream = Upstream::serve(move |mut stream| async move {
            // An error is a client that has gone.
            drop(stream.write_all(name.as_bytes()).await);
        })
        .await;
        config += &format!(
            "  - {{name: {name}, url: 'tcp://{name}.internal:1', upstream: '{}'}}\n",
            upstream.hostport()
        );
        upstreams.push(upstream);
    }
    (Stack::start_configured(&config, &[]).await, upstreams)
}

/// What a client from a source address hears to the end; nothing where it is refused.
async fn heard(at: SocketAddr, source: [u8; 4]) -> String {
    let socket = TcpSocket::new_v4().expect("a socket");
    let source = SocketAddr::from((source, 0));
    socket.bind(source).expect("loopback is ours");
    let mut stream = socket.connect(at).await.expect("it listens");
    let mut heard = String::new();
    match stream.read_to_string(&mut heard).await {
        Ok(_) => heard,
        Err(error) => {
            assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset, "{error}");
            String::new()
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sources_have_targets_of_their_own() {
    let (stack, _upstreams) = named(&["office", "branch", "rest"]).await;
    let policy = "on_tcp_connect:
  - expressions: [\"inCidrRanges(conn.client_ip, ['127.0.1.0/24', '127.0.2.0/25'])\"]
    actions: [{type: forward-internal, config: {url: 'tcp://office.internal:1'}}]
  - expressions: [\"conn.client_ip == '127.0.3.7' || conn.client_ip.startsWith('127.0.4.')\"]
    actions: [{type: forward-internal, config: {url: 'tcp://branch.internal:1'}}]
  - actions:
      - {type: restrict-ips, config: {allow: [127.0.0.0/8], deny: [127.0.9.0/24]}}
      - {type: forward-internal, config: {url: 'tcp://rest.internal:1'}}
";
    let at = cloud(&stack, policy).await;
    for (source, wanted) in [
        ([127, 0, 1, 1], "office"),
        ([127, 0, 1, 254], "office"),
        ([127, 0, 2, 127], "office"),
        ([127, 0, 2, 128], "rest"),
        ([127, 0, 3, 7], "branch"),
        ([127, 0, 3, 70], "rest"),
        ([127, 0, 4, 200], "branch"),
        ([127, 0, 9, 1], ""),
        ([127, 0, 9, 255], ""),
        ([127, 0, 10, 1], "rest"),
    ] {
        assert_eq!(heard(at, source).await, wanted, "{source:?}");
    }
    stack.balanced().await;
}

/// Ten thousand connections, several at once, share three targets to the very connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_exact_over_ten_thousand_connections() {
    const CONNECTIONS: u32 = 10_000;
    let (stack, _upstreams) = named(&["five", "three", "two"]).await;
    let policy = "on_tcp_connect:
  - actions:
      - type: forward-internal
        config:
          targets:
            - {url: 'tcp://five.internal:1', weight: 5}
            - {url: 'tcp://three.internal:1', weight: 3}
            - {url: 'tcp://two.internal:1', weight: 2}
";
    let at = cloud(&stack, policy).await;
    let next = Arc::new(AtomicU32::new(0));
    let clients: Vec<_> = (0..16)
        .map(|_| {
            let next = Arc::clone(&next);
            tokio::spawn(async move {
                let mut counts = BTreeMap::new();
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= CONNECTIONS {
                        return counts;
                    }
                    let host = u8::try_from(number % 250).expect("small") + 1;
                    *counts
                        .entry(heard(at, [127, 0, 6, host]).await)
                        .or_insert(0) += 1;
                }
            })
        })
        .collect();
    let mut counts = BTreeMap::new();
    for client in clients {
        for (name, count) in client.await.expect("it does not panic") {
            *counts.entry(name).or_insert(0_u32) += count;
        }
    }
    let wanted = [("five", 5_000), ("three", 3_000), ("two", 2_000)];
    let wanted = wanted.map(|(name, count)| (name.to_owned(), count));
    assert_eq!(counts, BTreeMap::from(wanted));
    stack.balanced().await;
}

/// NATS speaks first, so no first byte of its client can route it: a rule in front of the sniffing does, by
/// source, and delays nobody; or the rule for whoever says nothing, once the wait is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nats_is_routed_by_source_or_as_who_says_nothing() {
    let (stack, nats) = tokio::join!(Stack::start(), Nats::start());
    let agent = stack
        .tcp_with(
            &nats.port.to_string(),
            &["--url", "tcp://nats.internal:4222"],
        )
        .await;
    let nats = "actions: [{type: forward-internal, config: {url: 'tcp://nats.internal:4222'}}]";
    let policy = |wait: &str| {
        format!(
            "on_tcp_connect:
  - expressions: [\"conn.client_ip == '127.0.7.1'\"]
    {nats}
  - actions: [{{type: sniff, config: {{timeout: {wait}}}}}]
  - expressions: [\"conn.protocol == 'unknown'\"]
    {nats}
  - actions: [{{type: deny}}]
"
        )
    };
    // Whoever waited for the sniffing would be cut off before its end: it is longer than an establishment may be.
    let at = cloud(&stack, &policy("30s")).await;
    assert!(
        greets(at, [127, 0, 7, 1]).await,
        "the rule comes before the wait"
    );
    let at = cloud(&stack, &policy("200ms")).await;
    assert!(
        greets(at, [127, 0, 7, 2]).await,
        "who says nothing is unknown"
    );
    drop(agent);
    stack.balanced().await;
}

/// Whether NATS says its `INFO` first, and answers a ping.
async fn greets(at: SocketAddr, source: [u8; 4]) -> bool {
    let socket = TcpSocket::new_v4().expect("a socket");
    let source = SocketAddr::from((source, 0));
    socket.bind(source).expect("loopback is ours");
    let mut stream = socket.connect(at).await.expect("it listens");
    for (say, hear) in [("", "INFO "), ("PING\r\n", "PONG\r\n")] {
        stream.write_all(say.as_bytes()).await.expect("writes");
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains(hear) {
            match stream.read_buf(&mut text).await {
                Ok(0) | Err(_) => return false,
                Ok(_) => {}
            }
        }
    }
    true
}

/// As many connections as a build without optimization carries; the 5,000 in a second are `make bench`'s.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn policies_change_every_50_ms_and_no_connection_is_decided_wrongly_or_lost() {
    let reloading = Reloading::start("").await;
    let load = Load {
        rate: 5_000,
        at_once: 48,
        time: Duration::from_secs(6),
        every: Duration::from_millis(50),
    };
    let found = reloading.under(load).await;
    eprintln!(
        "{} connections ({:.0} in a second), {} versions",
        found.connections,
        found.rate(),
        found.versions
    );
    assert_eq!((found.wrong, found.lost), (0, 0), "{:?}", found.told);
    assert!(found.connections > 100 && found.versions > 10, "{found:?}");
    reloading.stack.balanced().await;
}

//! Addresses and the names in front of them: dedicated IPs, a CNAME of one's own, shared ports.

use std::process::Command;
use std::time::Duration;

use portcullis_e2e::process::Process;
use portcullis_e2e::shell::sh_async;
use portcullis_e2e::traffic::{Upstream, exchange};
use portcullis_e2e::{Stack, eventually, ports};
use serde_json::{Value, json};

fn text(value: &Value, field: &str) -> String {
    value[field]
        .as_str()
        .unwrap_or_else(|| panic!("{field} in {value}"))
        .to_owned()
}

async fn named(name: &'static [u8]) -> Upstream {
    Upstream::serve(move |mut stream| async move {
        drop(tokio::io::AsyncWriteExt::write_all(&mut stream, name).await);
    })
    .await
}

const POOL: &str = "ip_pools:\n  - name: main\n    host_pattern: 'a{n}.tcp.gate.test'\n    ips:\n      \
    - {public: 127.0.0.41, bind: 127.0.0.41}\n      - {public: 127.0.0.42, bind: 127.0.0.42}\n";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_host_addresses_with_the_same_port_reach_different_services_by_ip() {
    let stack = Stack::start_configured(POOL, &[]).await;
    let port = ports::one();
    let mut agents = Vec::new();
    for name in [&b"first"[..], b"second"] {
        let upstream = named(name).await;
        let address = stack
            .api
            .post("/reserved_addrs", json!({"kind": "host"}))
            .await;
        let url = format!("tcp://{}:{port}", text(&address, "host"));
        let agent = stack.tcp_with(&upstream.hostport(), &["--url", &url]).await;
        let ip: std::net::IpAddr = address["ips"][0]
            .as_str()
            .and_then(|ip| ip.parse().ok())
            .expect("an IP");
        agents.push((agent, upstream, ip, name));
    }
    for (_, _, ip, name) in &agents {
        let answer = eventually("it answers", || async {
            exchange((*ip, port).into(), b"").await.ok()
        })
        .await;
        assert_eq!(&answer, name);
    }
    let (status, answer) = stack
        .api
        .send("POST", "/reserved_addrs", Some(json!({"kind": "host"})))
        .await
        .expect("answers");
    assert!(
        status >= 400 && answer.to_string().contains("PTC_ADDRESS_EXHAUSTED"),
        "{answer}"
    );
    // Every port of a dedicated address is its owner's, and only those with endpoints are open.
    assert!(
        std::net::TcpStream::connect_timeout(
            &(agents[0].2, port + 1).into(),
            Duration::from_secs(1)
        )
        .is_err()
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cname_of_ones_own_leads_here_and_so_do_the_neighbours_ports() {
    let stack = Stack::start_configured(POOL, &[]).await;
    let (mine, theirs) = (named(b"mine").await, named(b"theirs").await);
    let port = *stack.ports.start();
    let address = stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    let shown = stack
        .api
        .get(&format!("/reserved_addrs/{}", text(&address, "id")))
        .await;
    assert!(shown.to_string().contains("CNAME"), "{shown}");
    let agent = stack
        .tcp_with(
            &mine.hostport(),
            &["--url", &format!("tcp://localhost:{port}")],
        )
        .await;
    let neighbour = stack.tcp(&theirs.hostport()).await;
    // The record that the answer tells the user to make, in a real DNS server; then a client that knows only the name.
    let dns = ports::one();
    let mut command = Command::new("dnsmasq");
    command.args([
        "--no-daemon",
        "--no-resolv",
        "--no-hosts",
        "--bind-interfaces",
        "--listen-address=127.0.0.1",
        "--conf-file=/dev/null",
        "--user=root",
    ]);
    command.args([
        &format!("--port={dns}"),
        "--host-record=edge.gate.test,127.0.0.1",
        "--cname=db.example.test,edge.gate.test",
    ]);
    let _server = Process::start("dnsmasq", command);
    let resolved = eventually("the name resolves", || async {
        let out = sh_async(format!(
            "dig +short +tries=1 +time=1 @127.0.0.1 -p {dns} db.example.test A || true"
        ))
        .await;
        out.lines()
            .last()
            .filter(|line| *line == "127.0.0.1")
            .map(str::to_owned)
    })
    .await;
    let at = |port: u16| -> std::net::SocketAddr {
        format!("{resolved}:{port}").parse().expect("an address")
    };
    assert_eq!(exchange(at(port), b"").await.expect("by my name"), b"mine");
    // What the note warns of: the neighbour's port answers on my name too.
    assert_eq!(
        exchange(at(neighbour.addr().port()), b"")
            .await
            .expect("by my name"),
        b"theirs"
    );
    drop(agent);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_endpoint_url_without_a_port_finds_the_only_address_of_its_host() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let port = *stack.ports.start();
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port}),
        )
        .await;
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--url", "tcp://localhost"])
        .await;
    assert_eq!(agent.url, format!("tcp://localhost:{port}"));
    stack
        .api
        .post(
            "/reserved_addrs",
            json!({"host": "localhost", "port": port + 1}),
        )
        .await;
    let mut lost = stack.agent(&upstream.hostport(), &["--url", "tcp://localhost"]);
    let mut process = lost.process.take().expect("it runs");
    let (status, output) = tokio::task::spawn_blocking(move || {
        (process.wait(Duration::from_secs(20)), process.output())
    })
    .await
    .expect("no panic");
    assert!(status.is_some_and(|status| !status.success()), "{output}");
    assert!(
        output.contains("PTC_URL_AMBIGUOUS") && output.contains(&(port + 1).to_string()),
        "{output}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cloud_endpoint_may_draw_a_random_address_and_forward_inside() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let _agent = stack
        .tcp_with(&upstream.hostport(), &["--url", "tcp://echo.internal:7"])
        .await;
    let policy = "on_tcp_connect:\n  - actions:\n      - type: forward-internal\n        config: {url: 'tcp://echo.internal:7'}\n";
    let cloud = stack
        .api
        .post(
            "/endpoints",
            json!({"url": "tcp://", "traffic_policy": policy}),
        )
        .await;
    let port: u16 = cloud["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok())
        .expect("a port");
    assert!(stack.ports.contains(&port), "{cloud}");
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("it answers", || async {
        exchange(at, b"inside")
            .await
            .ok()
            .filter(|echo| echo == b"inside")
    })
    .await;
    // A loop of internal endpoints ends at the hop limit, with its code.
    let to = |url: &str| {
        format!(
            r#"{{"on_tcp_connect":[{{"actions":[{{"type":"forward-internal","config":{{"url":"{url}"}}}}]}}]}}"#
        )
    };
    stack
        .api
        .post(
            "/endpoints",
            json!({"url": "tcp://a.internal:1", "traffic_policy": to("tcp://b.internal:1")}),
        )
        .await;
    stack
        .api
        .post(
            "/endpoints",
            json!({"url": "tcp://b.internal:1", "traffic_policy": to("tcp://a.internal:1")}),
        )
        .await;
    stack
        .api
        .patch(
            &format!("/endpoints/{}", text(&cloud, "id")),
            json!({"traffic_policy": to("tcp://a.internal:1")}),
        )
        .await;
    let end = exchange(at, b"round").await;
    assert!(end.is_err(), "{end:?}");
    eventually("the loop is named", || async {
        stack.log().contains("PTC_FORWARD_HOP_LIMIT").then_some(())
    })
    .await;
    stack.balanced().await;
}

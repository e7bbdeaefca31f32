//! Server, agent and client on machines of their own: links that die, flap and reset, both versions
//! of IP, and addresses as they look from elsewhere.

use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use portcullis_e2e::namespaces::{Host, Network, at};
use portcullis_e2e::traffic::{self, Upstream, checksum, exchange_over, pattern};
use portcullis_e2e::{AgentProcess, Launch, Stack, eventually, skip, within};
use serde_json::json;
use sha2::{Digest as _, Sha256};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Notify;

const AGENTS: u16 = 7443;
const API: u16 = 7480;

/// A network with a server on its machine. Fields end in this order: processes before their machines.
struct Site {
    stack: Stack,
    _api: Upstream,
    net: Network,
}

/// Makes it; skips the test where that cannot be.
async fn site(test: &str, yaml: &str) -> Option<Site> {
    let Some(net) = Network::new() else {
        skip(test, "network namespaces cannot be made here");
        return None;
    };
    let api = net.server.forwarded(API).await;
    let (agents_at, api_at) = (format!("[::]:{AGENTS}"), format!("127.0.0.1:{API}"));
    let stack = Stack::launch(Launch {
        wrapper: net.server.wrapper(),
        yaml,
        extra: &[
            "--agents-listen",
            &agents_at,
            "--api-listen",
            &api_at,
            "--port-range",
            "20000-20099",
        ],
        api_url: Some(format!("http://{}", api.hostport())),
    })
    .await;
    Some(Site {
        stack,
        _api: api,
        net,
    })
}

impl Site {
    /// An agent on its machine that connects over IPv4, online.
    async fn agent(&self, upstream: &Upstream, extra: &[&str]) -> AgentProcess {
        let server = at(self.net.server.v4, AGENTS).to_string();
        let extra = [&["--server", &server], extra].concat();
        let wrapper = self.net.agent.wrapper();
        let mut agent = self
            .stack
            .agent_behind(wrapper, &upstream.hostport(), &extra);
        agent.online().await;
        agent
    }

    /// A connection from the client's machine through the agent.
    fn connect(&self, agent: &AgentProcess) -> TcpStream {
        let addr = at(self.net.server.v4, agent.addr().port());
        self.net.client.connect(addr).expect("connects")
    }

    async fn logged(&self, words: &str) {
        eventually(words, || async {
            self.stack.log().contains(words).then_some(())
        })
        .await;
    }
}

async fn echo_on(host: &Host) -> Upstream {
    Upstream::serve_on(host.listen(), traffic::echo)
}

async fn echoed(stream: &mut TcpStream) {
    stream.write_all(b"ping").await.expect("writes");
    let mut answer = [0; 4];
    stream.read_exact(&mut answer).await.expect("echo");
    assert_eq!(&answer, b"ping");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_whose_link_dies_silently_is_found_and_comes_back_to_its_address() {
    let name = "an_agent_whose_link_dies_silently_is_found_and_comes_back_to_its_address";
    let Some(site) = site(name, "").await else {
        return;
    };
    let upstream = echo_on(&site.net.agent).await;
    let mut agent = site.agent(&upstream, &[]).await;
    let url = agent.url.clone();
    let mut open = site.connect(&agent);
    echoed(&mut open).await;
    site.net.cut(&site.net.agent);
    // Interval and tolerance of the heartbeat are 25 s together; the rest is slack.
    within(Duration::from_secs(45), "the endpoint is offline", || {
        let endpoint = site.stack.api.endpoint_named(&agent.name);
        async move { endpoint.await.is_none().then_some(()) }
    })
    .await;
    let end = open.read(&mut [0; 8]).await.map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset), "cut, and looks cut");
    site.logged("PTC_AGENT_LOST").await;
    site.net.mend();
    // The agent's own back-off goes up to 30 s, and it was trying all along.
    within(Duration::from_secs(60), "the agent is back", || {
        let endpoint = site.stack.api.endpoint_named(&agent.name);
        async move { endpoint.await.map(|_| ()) }
    })
    .await;
    agent.online().await;
    assert_eq!(agent.url, url, "the same address");
    echoed(&mut site.connect(&agent)).await;
    site.stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_path_ends_both_sides_and_the_next_connection_works() {
    let name = "a_reset_by_the_path_ends_both_sides_and_the_next_connection_works";
    let Some(site) = site(name, "").await else {
        return;
    };
    let speak = Arc::new(Notify::new());
    let (report, mut reported) = tokio::sync::mpsc::channel(4);
    let told = Arc::clone(&speak);
    let upstream = Upstream::serve_on(site.net.agent.listen(), move |stream| {
        let (report, told) = (report.clone(), Arc::clone(&told));
        async move {
            let (mut from, mut to) = stream.into_split();
            let mut ping = [0; 4];
            from.read_exact(&mut ping).await.expect("a ping");
            to.write_all(&ping).await.expect("writes");
            told.notified().await;
            to.write_all(b"news").await.expect("writes");
            let end = from.read(&mut ping).await.map_err(|error| error.kind());
            report.send(end).await.expect("the test waits");
        }
    });
    let agent = site.agent(&upstream, &[]).await;
    let mut open = site.connect(&agent);
    echoed(&mut open).await;
    site.net.reset(&site.net.client);
    // Each side is reset when it says something.
    open.write_all(b"more").await.expect("the socket takes it");
    let end = open.read(&mut [0; 8]).await.map_err(|error| error.kind());
    assert_eq!(end, Err(ErrorKind::ConnectionReset));
    speak.notify_one();
    let reset = Some(Err(ErrorKind::ConnectionReset));
    assert_eq!(reported.recv().await, reset, "the upstream is told");
    site.logged("client_reset").await;
    site.net.mend();
    let mut next = site.connect(&agent);
    echoed(&mut next).await;
    speak.notify_one();
    let mut news = [0; 4];
    next.read_exact(&mut news).await.expect("news");
    drop(next);
    assert_eq!(reported.recv().await, Some(Ok(0)));
    site.stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_whose_machine_vanishes_is_ended_by_the_idle_timeout() {
    let name = "a_client_whose_machine_vanishes_is_ended_by_the_idle_timeout";
    let Some(site) = site(name, "limits:\n  idle_timeout: 2s\n").await else {
        return;
    };
    let (report, mut reported) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve_on(site.net.agent.listen(), move |mut stream| {
        let report = report.clone();
        async move {
            let (mut from, mut to) = stream.split();
            let end = tokio::io::copy(&mut from, &mut to).await;
            let end = end.map_err(|error| error.kind());
            report.send(end).await.expect("the test waits");
        }
    });
    let agent = site.agent(&upstream, &[]).await;
    let mut open = site.connect(&agent);
    echoed(&mut open).await;
    site.net.client.sh("ip link set eth0 down");
    site.logged("PTC_IDLE_TIMEOUT").await;
    let end = reported.recv().await;
    assert_eq!(
        end,
        Some(Err(ErrorKind::ConnectionReset)),
        "the upstream is told"
    );
    let open_now = site.stack.api.metric("portcullis_connections_open").await;
    assert!(open_now < 0.5, "{open_now} are open");
    site.stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_listener_serves_both_versions_of_ip_and_agents_connect_over_either() {
    let name = "one_listener_serves_both_versions_of_ip_and_agents_connect_over_either";
    let Some(site) = site(name, "").await else {
        return;
    };
    let (net, stack) = (&site.net, &site.stack);
    let upstream = echo_on(&net.agent).await;
    net.agent.without_v4();
    let server = at(net.server.v6, AGENTS).to_string();
    let extra = ["--server", server.as_str()];
    let mut agent = stack.agent_behind(net.agent.wrapper(), &upstream.hostport(), &extra);
    agent.online().await;
    let four = net
        .client
        .connect(at(net.server.v4, agent.addr().port()))
        .expect("connects");
    assert_eq!(
        exchange_over(four, b"four").await.expect("echo"),
        b"four".to_vec()
    );
    net.client.without_v4();
    let six = net
        .client
        .connect(at(net.server.v6, agent.addr().port()))
        .expect("connects");
    assert_eq!(
        exchange_over(six, b"six").await.expect("echo"),
        b"six".to_vec()
    );
    site.logged("10.77.3.2").await;
    site.logged("fd77:3::2").await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dedicated_address_answers_on_its_own_ip_alone() {
    let name = "a_dedicated_address_answers_on_its_own_ip_alone";
    let pool = "ip_pools:\n  - name: main\n    host_pattern: 'a{n}.gate.test'\n    ips:\n      \
        - {public: 10.77.1.3, bind: 10.77.1.3}\n";
    let Some(site) = site(name, pool).await else {
        return;
    };
    let (net, stack) = (&site.net, &site.stack);
    let upstream = echo_on(&net.agent).await;
    let address = stack
        .api
        .post("/reserved_addrs", json!({"kind": "host"}))
        .await;
    assert_eq!(address["ips"][0], net.server.v4_second.to_string());
    let host = address["host"].as_str().expect("a host");
    let url = format!("tcp://{host}:5432");
    let _agent = site.agent(&upstream, &["--url", &url]).await;
    let own = eventually("it listens", || async {
        net.client.connect(at(net.server.v4_second, 5432)).ok()
    })
    .await;
    assert_eq!(
        exchange_over(own, b"mine").await.expect("echo"),
        b"mine".to_vec()
    );
    for other in [
        at(net.server.v4, 5432),
        at(net.server.v6, 5432),
        at(net.server.v4_second, 5433),
    ] {
        let refused = net.client.connect(other).map_err(|error| error.kind());
        assert_eq!(
            refused.err(),
            Some(ErrorKind::ConnectionRefused),
            "{other} is not its address"
        );
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_upstream_learns_the_clients_address_from_another_network() {
    let name = "the_upstream_learns_the_clients_address_from_another_network";
    let Some(site) = site(name, "").await else {
        return;
    };
    let net = &site.net;
    let upstream = Upstream::serve_on(net.agent.listen(), |mut stream| async move {
        let mut header = String::new();
        let (from, mut to) = stream.split();
        let mut from = tokio::io::BufReader::new(from);
        from.read_line(&mut header).await.expect("a header");
        to.write_all(header.as_bytes()).await.expect("writes");
        to.shutdown().await.expect("ends");
        tokio::io::copy(&mut from, &mut tokio::io::sink())
            .await
            .expect("the client ends");
    });
    let agent = site
        .agent(&upstream, &["--upstream-proxy-protocol", "1"])
        .await;
    let port = agent.addr().port();
    for (server, family, addresses) in [
        (at(net.server.v4, port), "TCP4", "10.77.3.2 10.77.1.2"),
        (at(net.server.v6, port), "TCP6", "fd77:3::2 fd77:1::2"),
    ] {
        let client = net.client.connect(server).expect("connects");
        let from = client.local_addr().expect("connected").port();
        let header = exchange_over(client, b"").await.expect("answers");
        assert_eq!(
            String::from_utf8_lossy(&header),
            format!("PROXY {family} {addresses} {from} {port}\r\n")
        );
    }
    site.stack.balanced().await;
}

/// Segments that a machine has sent again so far.
fn retransmitted(host: &Host) -> u64 {
    let text = host.sh("cat /proc/net/snmp");
    let mut tcp = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (tcp.next().expect("names"), tcp.next().expect("values"));
    let column = names
        .split_whitespace()
        .position(|name| name == "RetransSegs");
    values
        .split_whitespace()
        .nth(column.expect("the kernel counts them"))
        .and_then(|value| value.parse().ok())
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_flaps_during_a_transfer_costs_no_byte() {
    const BYTES: usize = 48 << 20;
    let name = "a_link_that_flaps_during_a_transfer_costs_no_byte";
    let Some(site) = site(name, "").await else {
        return;
    };
    let (begun, mut has_begun) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve_on(site.net.agent.listen(), move |mut stream| {
        let begun = begun.clone();
        async move {
            let (mut hash, mut buffer, mut received) = (Sha256::new(), vec![0; 1 << 16], 0);
            loop {
                let n = stream.read(&mut buffer).await.expect("no reset");
                hash.update(&buffer[..n]);
                if received < BYTES / 4 && received + n >= BYTES / 4 {
                    begun.send(()).await.expect("the test waits");
                }
                received += n;
                if n == 0 {
                    break;
                }
            }
            let sum: [u8; 32] = hash.finalize().into();
            let sum: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
            stream.write_all(sum.as_bytes()).await.expect("writes");
        }
    });
    let agent = site.agent(&upstream, &[]).await;
    let bytes = pattern(7, BYTES);
    let wanted = checksum(&bytes);
    let client = site.connect(&agent);
    let transfer = tokio::spawn(async move { exchange_over(client, &bytes).await });
    has_begun.recv().await.expect("a quarter has arrived");
    let before = retransmitted(&site.net.server);
    site.net.agent_link(false);
    eventually("the server sends again what was lost", || async {
        (retransmitted(&site.net.server) > before + 2).then_some(())
    })
    .await;
    assert!(!transfer.is_finished(), "it is in its middle");
    site.net.agent_link(true);
    let sum = transfer.await.expect("no panic").expect("no reset");
    assert_eq!(String::from_utf8_lossy(&sum), wanted);
    site.stack.balanced().await;
}

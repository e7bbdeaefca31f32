//! Deaths and returns: upstream, agent and server, killed as hard as the system can.

use std::time::Duration;

use portcullis_e2e::servers::Redis;
use portcullis_e2e::traffic::{self, Upstream, checksum, exchange, pattern};
use portcullis_e2e::{Stack, eventually, ports};
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Whether an echo behind `addr` answers.
async fn answers(addr: std::net::SocketAddr) -> Option<()> {
    let echoed = tokio::time::timeout(Duration::from_secs(5), exchange(addr, b"ping")).await;
    matches!(echoed, Ok(Ok(bytes)) if bytes == b"ping").then_some(())
}

/// A copy of an agent's state directory without its lock.
fn copy_dir(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).expect("ours");
    for entry in std::fs::read_dir(from)
        .expect("it exists")
        .filter_map(Result::ok)
    {
        if entry.path().is_file() && !entry.file_name().to_string_lossy().contains("lock") {
            std::fs::copy(entry.path(), to.join(entry.file_name())).expect("ours");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_is_down_is_reported_and_one_that_is_back_is_used() {
    let stack = Stack::start().await;
    let port = ports::one();
    let agent = stack.tcp(&port.to_string()).await;
    // At connect or at the first read: the reset may overtake the client.
    let end = exchange(agent.addr(), b"")
        .await
        .map_err(|error| error.kind());
    assert_eq!(
        end,
        Err(std::io::ErrorKind::ConnectionReset),
        "reset, not left hanging and no clean end"
    );
    eventually("the record has the code", || async {
        stack.log().contains("PTC_UPSTREAM_REFUSED").then_some(())
    })
    .await;
    eventually("the agent says so", || async {
        agent
            .output()
            .contains("PTC_UPSTREAM_REFUSED")
            .then_some(())
    })
    .await;
    let endpoint = stack
        .api
        .endpoint_named(&agent.name)
        .await
        .expect("still online");
    assert!(
        endpoint["last_upstream_error"]
            .to_string()
            .contains("PTC_UPSTREAM_REFUSED"),
        "{endpoint}"
    );
    let redis = Redis::start_at(port).await;
    let out =
        portcullis_e2e::shell::sh_async(format!("redis-cli -h 127.0.0.1 -p {} ping", agent.port()))
            .await;
    assert_eq!(out.trim(), "PONG");
    drop(redis);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_killed_and_started_again_keeps_its_random_address() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut agent = stack.tcp(&upstream.hostport()).await;
    let url = agent.url.clone();
    for _ in 0..3 {
        let mut open = TcpStream::connect(agent.addr()).await.expect("connects");
        open.write_all(b"x").await.expect("writes");
        assert_eq!(open.read_u8().await.expect("echo"), b'x');
        agent.process.take().expect("it runs").kill9();
        assert!(
            open.read_u8().await.is_err(),
            "a connection whose agent died is cut"
        );
        agent.up();
        eventually("the echo answers again", || answers(agent.addr())).await;
        agent.online().await;
        assert_eq!(agent.url, url);
    }
    let sessions = stack.api.get("/tunnel_sessions").await;
    assert_eq!(
        sessions["tunnel_sessions"].as_array().map(Vec::len),
        Some(1),
        "{sessions}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_that_went_silent_is_taken_over_at_once_by_its_successor() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut agent = stack.tcp(&upstream.hostport()).await;
    let url = agent.url.clone();
    // Stopped, not dead: its session stays open and says nothing, like a machine that lost its network.
    let silent = agent.process.take().expect("it runs");
    silent.signal(nix::sys::signal::Signal::SIGSTOP);
    // The same machine after a crash: the same state, and no process that holds its lock.
    let state = stack.dir().join(&agent.name);
    let copy = stack.dir().join("copy");
    copy_dir(&state, &copy);
    let mut successor = stack.agent(
        &upstream.hostport(),
        &[
            "--state-dir",
            &copy.display().to_string(),
            "--name",
            &agent.name,
        ],
    );
    successor.name.clone_from(&agent.name);
    eventually("the echo answers again", || answers(agent.addr())).await;
    successor.online().await;
    assert_eq!(successor.url, url);
    silent.signal(nix::sys::signal::Signal::SIGKILL);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_live_agent_with_the_same_state_gets_an_identity_of_its_own() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let first = stack.tcp(&upstream.hostport()).await;
    let state = stack.dir().join(&first.name).display().to_string();
    let mut second = stack.agent(
        &upstream.hostport(),
        &["--state-dir", &state, "--name", "second"],
    );
    second.name = "second".into();
    second.online().await;
    assert_ne!(first.url, second.url);
    assert!(answers(first.addr()).await.is_some() && answers(second.addr()).await.is_some());
    let sessions = stack.api.get("/tunnel_sessions").await;
    assert_eq!(
        sessions["tunnel_sessions"].as_array().map(Vec::len),
        Some(2),
        "{sessions}"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_live_agents_with_one_identity_the_older_wins_and_the_other_is_told() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut first = stack.tcp(&upstream.hostport()).await;
    let copy = stack.dir().join("copy");
    copy_dir(&stack.dir().join(&first.name), &copy);
    let mut second = stack.agent(
        &upstream.hostport(),
        &[
            "--state-dir",
            &copy.display().to_string(),
            "--name",
            &first.name,
        ],
    );
    let mut process = second.process.take().expect("it runs");
    let ended = tokio::task::spawn_blocking(move || {
        (process.wait(Duration::from_secs(60)), process.output())
    });
    let (status, output) = ended.await.expect("no panic");
    assert_eq!(status.and_then(|status| status.code()), Some(5), "{output}");
    assert!(output.contains("PTC_AGENT_DUPLICATE"), "{output}");
    assert!(
        first
            .process
            .as_mut()
            .is_some_and(portcullis_e2e::Process::is_running)
    );
    eventually("the older serves", || answers(first.addr())).await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_killed_and_started_again_finds_everything_and_its_agents_come_back() {
    let mut stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--url", "tcp://echo.internal:7"])
        .await;
    let random = stack.tcp(&upstream.hostport()).await;
    let policy = r#"{"on_tcp_connect":[{"actions":[{"type":"forward-internal","config":{"url":"tcp://echo.internal:7"}}]}]}"#;
    let address = stack
        .api
        .post("/reserved_addrs", json!({"description": "kept"}))
        .await;
    let url = format!("tcp://{}", address["addr"].as_str().expect("an address"));
    let cloud = stack
        .api
        .post("/endpoints", json!({"url": url, "traffic_policy": policy}))
        .await;
    let port: u16 = cloud["port"]
        .as_u64()
        .and_then(|port| port.try_into().ok())
        .expect("a port");
    let at = std::net::SocketAddr::from(([127, 0, 0, 1], port));
    eventually("the cloud endpoint answers", || answers(at)).await;
    for _ in 0..2 {
        stack.server.take().expect("it runs").kill9();
        stack.up().await;
        let again = stack
            .api
            .get(&format!(
                "/endpoints/{}",
                cloud["id"].as_str().expect("an id")
            ))
            .await;
        assert_eq!(again["url"], cloud["url"]);
        assert_eq!(
            stack.api.get("/reserved_addrs").await["reserved_addrs"][0]["id"],
            address["id"]
        );
        eventually("the cloud endpoint answers again", || answers(at)).await;
        eventually("the random address answers again", || {
            answers(random.addr())
        })
        .await;
    }
    drop(agent);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_shutdown_lets_a_hundred_transfers_finish() {
    let mut stack = Stack::start().await;
    // Each transfer pauses until the server was told to end, then goes on.
    let (release, gate) = tokio::sync::watch::channel(false);
    let upstream = Upstream::serve(move |mut stream| {
        let mut gate = gate.clone();
        async move {
            stream
                .write_all(&pattern(1, 100_000))
                .await
                .expect("writes");
            gate.wait_for(|open| *open)
                .await
                .expect("the test opens it");
            stream
                .write_all(&pattern(2, 300_000))
                .await
                .expect("writes after the shutdown began");
            stream.shutdown().await.expect("ends");
        }
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let addr = agent.addr();
    let started = std::sync::Arc::new(tokio::sync::Semaphore::new(0));
    let clients: Vec<_> = (0..100)
        .map(|_| {
            let started = started.clone();
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.expect("connects");
                let mut all = vec![0; 100_000];
                stream.read_exact(&mut all).await.expect("the first part");
                started.add_permits(1);
                stream.read_to_end(&mut all).await.expect("a clean end");
                assert_eq!(
                    checksum(&all),
                    checksum(&[pattern(1, 100_000), pattern(2, 300_000)].concat())
                );
            })
        })
        .collect();
    drop(started.acquire_many(100).await.expect("open"));
    let mut server = stack.server.take().expect("it runs");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    eventually("new connections are refused", || async {
        TcpStream::connect(addr).await.is_err().then_some(())
    })
    .await;
    release.send(true).expect("the upstreams wait");
    for client in clients {
        client.await.expect("no transfer is cut");
    }
    let status = tokio::task::spawn_blocking(move || {
        (server.wait(Duration::from_secs(30)), server.output())
    })
    .await;
    let (status, output) = status.expect("no panic");
    assert!(status.is_some_and(|status| status.success()), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transfers_that_outlast_the_drain_are_cut_with_a_reason_and_look_cut() {
    let mut stack = Stack::start_configured("limits:\n  drain_timeout: 1s\n", &[]).await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    client.write_all(b"x").await.expect("writes");
    client.read_u8().await.expect("echo");
    let mut server = stack.server.take().expect("it runs");
    server.signal(nix::sys::signal::Signal::SIGTERM);
    let end = client.read(&mut [0; 1]).await.map_err(|error| error.kind());
    assert_eq!(end, Err(std::io::ErrorKind::ConnectionReset));
    let (_, output) = tokio::task::spawn_blocking(move || {
        (server.wait(Duration::from_secs(30)), server.output())
    })
    .await
    .expect("no panic");
    assert!(output.contains("PTC_DRAINED"), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_silent_peer_on_the_agent_port_keeps_nobody_out() {
    let stack = Stack::start().await;
    let mut silent = Vec::new();
    // From one other source; those over its share of unproven connections are reset at once.
    for _ in 0..200 {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        let source = std::net::SocketAddr::from(([127, 0, 0, 66], 0));
        socket.bind(source).expect("loopback is ours");
        silent.extend(socket.connect(stack.agents).await);
    }
    assert!(!silent.is_empty());
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    assert!(answers(agent.addr()).await.is_some());
    traffic::reset_on_close(&silent[0]);
    drop(silent);
    stack.balanced().await;
}

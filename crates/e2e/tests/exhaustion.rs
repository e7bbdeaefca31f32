//! When something runs out: descriptors, patience of a reader, and the listeners of short-lived agents.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_e2e::stack::few_descriptors;
use portcullis_e2e::traffic::{Upstream, exchange, pattern};
use portcullis_e2e::{Api, Launch, Process, Stack, eventually, within};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};

/// Whether an echo behind `addr` answers.
async fn answers(addr: SocketAddr) -> Option<()> {
    let echoed = tokio::time::timeout(Duration::from_secs(5), exchange(addr, b"ping")).await;
    matches!(echoed, Ok(Ok(bytes)) if bytes == b"ping").then_some(())
}

/// Opens `count` connections at once and says something on each; those that are still there.
async fn flood(addr: SocketAddr, count: usize) -> Vec<TcpStream> {
    let opening: Vec<_> = (0..count)
        .map(|_| {
            tokio::spawn(async move {
                let mut stream = TcpStream::connect(addr).await.ok()?;
                stream.write_all(b"x").await.ok()?;
                Some(stream)
            })
        })
        .collect();
    let mut held = Vec::new();
    for stream in opening {
        held.extend(stream.await.expect("no panic"));
    }
    held
}

/// Descriptors that a process has open.
fn descriptors(process: &Process) -> usize {
    std::fs::read_dir(format!("/proc/{}/fd", process.pid())).map_or(0, Iterator::count)
}

/// Memory of a process, in KiB.
fn resident(process: &Process) -> u64 {
    std::fs::read_to_string(format!("/proc/{}/status", process.pid()))
        .expect("it runs")
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .expect("a number")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_with_few_descriptors_sheds_a_flood_and_serves_again_after_it() {
    let mut stack = Stack::launch(Launch {
        wrapper: few_descriptors(96),
        ..Launch::default()
    })
    .await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    answers(agent.addr()).await.expect("it works before");
    let held = flood(agent.addr(), 300).await;
    eventually("the node says that it is full", || async {
        (stack.api.metric("portcullis_accept_shed_total").await >= 100.0).then_some(())
    })
    .await;
    // The API's own descriptors are kept apart: it answers while the flood is there.
    let endpoint = stack.api.endpoint_named(&agent.name).await;
    assert_eq!(endpoint.expect("still there")["status"], "programmed");
    assert!(stack.server.as_mut().expect("started").is_running());
    drop(held);
    eventually("it serves again", || answers(agent.addr())).await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_agent_with_few_descriptors_refuses_with_a_code_and_serves_again_after_the_flood() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut agent = stack.agent_behind(few_descriptors(96), &upstream.hostport(), &[]);
    agent.online().await;
    answers(agent.addr()).await.expect("it works before");
    let held = flood(agent.addr(), 300).await;
    let code = "PTC_FILE_LIMIT";
    eventually("those that found no place are refused", || async {
        stack.log().contains(code).then_some(())
    })
    .await;
    eventually("the endpoint says so", || async {
        drop(exchange(agent.addr(), b"x").await);
        let endpoint = stack.api.endpoint_named(&agent.name).await?;
        let last = endpoint["last_upstream_error"].to_string();
        last.contains(code).then_some(())
    })
    .await;
    assert!(
        !stack.log().contains("file_limit"),
        "the agent's trouble is not the server's"
    );
    let process = agent.process.as_mut().expect("started");
    assert!(process.is_running(), "{}", process.output());
    drop(held);
    within(Duration::from_secs(30), "it serves again", || {
        answers(agent.addr())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_costs_no_memory_and_no_neighbour() {
    const SENT: usize = 200 << 20;
    const GROWTH_KIB_MAX: u64 = 16 << 10;
    let stack = Stack::start().await;
    let (report, mut reported) = tokio::sync::mpsc::channel(8);
    let upstream = Upstream::serve(move |mut stream| {
        let report = report.clone();
        async move {
            let chunk = pattern(1, 1 << 20);
            let mut sent = 0;
            while sent < SENT {
                match stream.try_write(&chunk) {
                    Ok(n) => sent += n,
                    Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                        // Nothing moved for a second: the sender is held back.
                        let more =
                            tokio::time::timeout(Duration::from_secs(1), stream.writable()).await;
                        if more.is_err() {
                            break;
                        }
                    }
                    Err(error) => panic!("the path broke: {error}"),
                }
            }
            report.send(sent).await.expect("the test waits");
            // Until the client goes, which it does by a reset.
            drop(stream.read_u8().await);
        }
    })
    .await;
    let echo = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let neighbour = stack.tcp(&echo.hostport()).await;
    answers(neighbour.addr()).await.expect("it works before");
    let server = stack.server.as_ref().expect("started");
    let process = agent.process.as_ref().expect("started");
    let before = (resident(server), resident(process));
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(TcpStream::connect(agent.addr()).await.expect("connects"));
    }
    for _ in 0..4 {
        let sent = reported.recv().await.expect("reports");
        assert!(sent < SENT, "the sender was not held back");
    }
    for (who, before, now) in [
        ("server", before.0, resident(server)),
        ("agent", before.1, resident(process)),
    ] {
        assert!(
            now < before + GROWTH_KIB_MAX,
            "the {who} grew from {before} to {now} KiB"
        );
    }
    for _ in 0..20 {
        answers(neighbour.addr()).await.expect("not held back");
    }
    drop(stalled);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_connections_at_once_through_one_agent_are_all_served() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let addr = agent.addr();
    let clients: Vec<_> = (0..1_000_u32)
        .map(|number| {
            tokio::spawn(async move {
                let source = [127, 0, 2, u8::try_from(1 + number % 8).expect("small")];
                let socket = TcpSocket::new_v4().expect("a socket");
                socket
                    .bind(SocketAddr::from((source, 0)))
                    .expect("loopback is ours");
                let mut stream = socket.connect(addr).await?;
                stream.write_u32(number).await?;
                std::io::Result::Ok((stream.read_u32().await?, number, stream))
            })
        })
        .collect();
    // All are held until the last is served.
    let mut held = Vec::new();
    for client in clients {
        let (echoed, number, stream) = client.await.expect("no panic").expect("served");
        assert_eq!(echoed, number);
        held.push(stream);
    }
    drop(held);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn agents_that_come_and_go_leave_no_listener_and_no_descriptor_behind() {
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let mut agent = stack.tcp(&upstream.hostport()).await;
    let addr = agent.addr();
    let stop = tokio::sync::watch::Sender::new(false);
    let clients: Vec<_> = (0..8)
        .map(|_| {
            let stopped = stop.subscribe();
            tokio::spawn(async move {
                let mut served = 0_u32;
                while !*stopped.borrow() {
                    // Refused, cut or served: whatever the moment gives, but never left hanging.
                    served += u32::from(answers(addr).await.is_some());
                    tokio::task::yield_now().await;
                }
                served
            })
        })
        .collect();
    let server = stack.server.as_ref().expect("started");
    for round in 0..20 {
        let mut process = agent.process.take().expect("it runs");
        if round % 2 == 0 {
            process.kill9();
        } else {
            process.terminate(Duration::from_secs(10));
        }
        agent.up();
        agent.online().await;
        assert_eq!(agent.addr(), addr, "the same address each time");
    }
    agent
        .process
        .take()
        .expect("it runs")
        .terminate(Duration::from_secs(10));
    stop.send_replace(true);
    for client in clients {
        assert!(client.await.expect("no panic") > 0, "served at times");
    }
    eventually("no listener is open", || async {
        let refused = TcpStream::connect(addr).await.err()?;
        (refused.kind() == std::io::ErrorKind::ConnectionRefused).then_some(())
    })
    .await;
    let listeners = stack.api.metric("portcullis_listeners").await;
    assert!(listeners < 0.5, "{listeners} listeners");
    stack.balanced().await;
    // What a fresh server holds, and some connections of the API that the test itself keeps.
    let fresh = Stack::start().await;
    let base = descriptors(fresh.server.as_ref().expect("started"));
    eventually("the descriptors are given back", || async {
        (descriptors(server) <= base + 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn silent_peers_of_one_port_leave_descriptors_for_the_others() {
    // Less than the 10 s that a peer of the agent port may be silent: they are still there.
    const MEANWHILE: Duration = Duration::from_secs(8);
    let mut stack = Stack::launch(Launch {
        wrapper: few_descriptors(128),
        ..Launch::default()
    })
    .await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let api: SocketAddr = stack.api.url["http://".len()..]
        .parse()
        .expect("an address");
    let silent = flood_silently(stack.agents).await;
    within(MEANWHILE, "the service answers", || answers(agent.addr())).await;
    // A client of its own: no connection from before the flood.
    let fresh = Api::new(&stack.api.url, &stack.api.key);
    within(MEANWHILE, "the API answers", || {
        fresh.endpoint_named(&agent.name)
    })
    .await;
    drop(silent);
    let silent = flood_silently(api).await;
    within(MEANWHILE, "the service answers", || answers(agent.addr())).await;
    drop(silent);
    let fresh = Api::new(&stack.api.url, &stack.api.key);
    eventually("the API answers", || fresh.endpoint_named(&agent.name)).await;
    assert!(stack.server.as_mut().expect("started").is_running());
    stack.balanced().await;
}

/// Opens 300 connections that say nothing.
async fn flood_silently(addr: SocketAddr) -> Vec<TcpStream> {
    let mut held = Vec::new();
    for _ in 0..300 {
        held.extend(TcpStream::connect(addr).await);
    }
    held
}

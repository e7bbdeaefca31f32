//! A client connection through the agent: bytes, ends, resets, refusals.

use std::io::ErrorKind;

use portcullis_agent::EndpointOptions;
use portcullis_model::Code;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_net::relay::RelayIo as _;
use portcullis_proto::message::{Abort, NeedChannels};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::edge::{FakeEdge, Upstream, closed_port, soon};
use crate::{connect, status};

#[tokio::test]
async fn half_close_keeps_the_other_direction_in_both_orders() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;

    let mut client = session.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    client.stream.write_all(b"question").await.expect("sent");
    client.stream.shutdown().await.expect("ended");
    let mut text = String::new();
    soon("the question", served.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(text, "question");
    served
        .write_all(b"answer")
        .await
        .expect("the other direction is open");
    served.shutdown().await.expect("ended");
    let mut text = String::new();
    soon("the answer", client.stream.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(text, "answer");
    assert!(client.finish().await, "the channel is free again");

    let mut client = session.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    served.shutdown().await.expect("ended");
    let mut one = [0; 4];
    assert_eq!(
        soon("the end", client.stream.read(&mut one))
            .await
            .expect("a clean end"),
        0
    );
    client
        .stream
        .write_all(b"more")
        .await
        .expect("the other direction is open");
    soon("more", served.read_exact(&mut one))
        .await
        .expect("there");
    client.stream.shutdown().await.expect("ended");
    assert_eq!(served.read(&mut one).await.expect("a clean end"), 0);
    assert!(client.finish().await);
    let after = status(&agent, "both closed", |status| {
        status.connections.open == 0 && status.connections.opened == 2
    })
    .await;
    assert_eq!(
        (after.connections.bytes_in, after.connections.bytes_out),
        (12, 6)
    );
}

#[tokio::test]
async fn one_channel_serves_one_client_after_another() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut channels = std::collections::BTreeSet::new();
    for round in 0..20_u8 {
        let mut client = session.open("db", &[round]).await.expect("opened");
        channels.insert(client.stream.channel());
        let mut served = upstream.accept().await;
        assert_eq!(served.read_u8().await.expect("the first byte"), round);
        served.write_all(&[round]).await.expect("sent");
        drop(served);
        let mut got = Vec::new();
        soon("the echo", client.stream.read_to_end(&mut got))
            .await
            .expect("a clean end");
        assert_eq!(got, [round]);
        client.stream.shutdown().await.expect("ended");
        assert!(client.finish().await);
    }
    assert!(channels.len() <= 3, "{channels:?}");
}

#[tokio::test]
async fn a_refused_upstream_is_told_and_shown_and_the_channel_lives() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let nowhere = closed_port().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &nowhere)
        .await
        .expect("bound");
    let session = edge.session(0).await;
    for _ in 0..3 {
        let error = session.open("db", b"").await.err().expect("nobody listens");
        assert_eq!(error.code, Code::UpstreamRefused);
    }
    let now = status(&agent, "the failures", |status| {
        status.connections.failed == 3
    })
    .await;
    assert_eq!(
        now.endpoints[0]
            .upstream_error
            .as_ref()
            .expect("shown")
            .code,
        Code::UpstreamRefused
    );
    let upstream = Upstream::start().await;
    let update = portcullis_agent::EndpointUpdate {
        upstream: Some(upstream.url()),
        ..Default::default()
    };
    agent.update("db", update).await.expect("changed");
    let _client = session.open("db", b"").await.expect("opened");
    let _served = upstream.accept().await;
    let now = status(&agent, "the recovery", |status| {
        status.connections.open == 1
    })
    .await;
    assert_eq!(now.endpoints[0].upstream_error, None);
    assert_eq!(
        now.endpoints[0].upstream,
        format!("tcp://{}", upstream.addr)
    );
}

#[tokio::test]
async fn a_reset_is_passed_on_both_ways() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;

    let mut client = session.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    client.stream.write_all(b"x").await.expect("sent");
    served.read_u8().await.expect("there");
    client.stream.reset();
    client.finish().await;
    let error = soon("the reset", served.read(&mut [0; 1]))
        .await
        .expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);

    let mut client = session.open("db", b"").await.expect("opened");
    let served = upstream.accept().await;
    portcullis_net::socket::reset_on_drop(&served);
    drop(served);
    let error = soon("the reset", client.stream.read(&mut [0; 1]))
        .await
        .expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    client.finish().await;
    status(&agent, "nothing is left open", |status| {
        status.connections.open == 0
    })
    .await;
}

#[tokio::test]
async fn an_abort_from_the_edge_resets_the_upstream() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let client = session.open("db", b"").await.expect("opened");
    let mut served = upstream.accept().await;
    session
        .say(Abort {
            channel: client.stream.channel(),
            open: client.stream.open(),
        })
        .await;
    let error = soon("the reset", served.read(&mut [0; 1]))
        .await
        .expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let _next = session
        .open("db", b"")
        .await
        .expect("the next connection has another channel");
}

#[tokio::test]
async fn the_proxy_header_comes_before_the_clients_first_bytes() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let options = EndpointOptions::new()
        .name("db")
        .proxy_protocol(ProxyVersion::V1);
    let _forwarder = agent
        .forward(options, &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("db", b"first").await.expect("opened");
    let mut served = upstream.accept().await;
    client.stream.write_all(b" second").await.expect("sent");
    client.stream.shutdown().await.expect("ended");
    let mut text = String::new();
    soon("everything", served.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(
        text,
        "PROXY TCP4 192.0.2.7 198.51.100.1 4711 20000\r\nfirst second"
    );
}

#[tokio::test]
async fn as_many_channels_are_opened_as_the_edge_asks() {
    let edge = FakeEdge::start().await;
    edge.script(|script| script.channels_idle_min = 4);
    let _agent = connect(&edge).await;
    let session = edge.session(0).await;
    session.channels(4).await;
    session.say(NeedChannels { count: 6 }).await;
    session.channels(10).await;
}

#[tokio::test]
async fn many_connections_at_once_keep_their_bytes_apart() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let _forwarder = agent
        .forward(EndpointOptions::new().name("echo"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let echo = tokio::spawn(async move {
        for _ in 0..32 {
            let mut served = upstream.accept().await;
            tokio::spawn(async move {
                let (mut reading, mut writing) = served.split();
                tokio::io::copy(&mut reading, &mut writing)
                    .await
                    .expect("echoed");
                writing.shutdown().await.expect("ended");
            });
        }
    });
    let clients = (0..32_u8).map(|number| {
        let session = session.clone();
        tokio::spawn(async move {
            let sent: Vec<u8> = (0..100_000_usize)
                .map(|at| (at as u8).wrapping_mul(number | 1))
                .collect();
            let mut client = session.open("echo", b"").await.expect("opened");
            let (mut reading, mut writing) = tokio::io::split(&mut client.stream);
            let mut got = Vec::new();
            let write = async {
                writing.write_all(&sent).await.expect("sent");
                writing.shutdown().await.expect("ended");
            };
            let read = async { reading.read_to_end(&mut got).await.expect("a clean end") };
            soon("the echo", async { tokio::join!(write, read) }).await;
            assert!(got == sent, "client {number} got other bytes");
            assert!(client.finish().await);
        })
    });
    for client in clients.collect::<Vec<_>>() {
        client.await.expect("a client");
    }
    echo.await.expect("the upstream");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_upstream_answers_frees_the_channel() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    // A listener whose queue is full: the kernel answers no further connection.
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.1:0".parse().expect("an address"))
        .expect("a port");
    let full = socket.listen(1).expect("listening");
    let addr = full.local_addr().expect("bound");
    let mut waiting = Vec::new();
    while let Ok(stream) = tokio::time::timeout(
        std::time::Duration::from_millis(300),
        tokio::net::TcpStream::connect(addr),
    )
    .await
    {
        waiting.push(stream.expect("queued"));
    }
    let _forwarder = agent
        .forward(EndpointOptions::new().name("db"), &addr.to_string())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let opening = session.begin("db", b"").await.expect("sent");
    status(&agent, "the dial", |status| status.connections.open == 1).await;
    let finished = soon("the settlement", opening.cancel()).await;
    assert!(
        matches!(finished, portcullis_net::channel::Finished::Reusable(_)),
        "{finished:?}"
    );
    let after = status(&agent, "the end", |status| status.connections.open == 0).await;
    assert_eq!(
        after.connections.failed, 0,
        "nobody failed: the client left"
    );
    drop((waiting, full));
}

#[tokio::test]
async fn an_open_for_an_endpoint_that_is_gone_is_refused() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let forwarder = agent
        .forward(EndpointOptions::new().name("db"), &upstream.url())
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let id = session.endpoint("db");
    forwarder.close().await;
    session.remember("db", id);
    let error = session.open("db", b"").await.err().expect("refused");
    assert_eq!(error.code, Code::EndpointNotFound);
}

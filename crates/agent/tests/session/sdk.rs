//! Listeners: connections in the hand of a program.

use std::io::ErrorKind;

use futures_util::StreamExt as _;
use portcullis_agent::EndpointOptions;
use portcullis_model::Code;
use portcullis_model::endpoint::ProxyVersion;
use portcullis_proto::AgentMessage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::edge::{FakeEdge, soon};
use crate::{connect, status};

#[tokio::test]
async fn a_listener_yields_connections_that_read_and_write() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent
        .listen(EndpointOptions::new().name("hello"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("hello", b"first ").await.expect("opened");
    let mut conn = soon("a connection", listener.next()).await.expect("open");
    assert_eq!(conn.peer_addr().to_string(), "192.0.2.7:4711");
    assert_eq!(Some(conn.endpoint_id().clone()), listener.id());
    client.stream.write_all(b"second").await.expect("sent");
    client.stream.shutdown().await.expect("ended");
    let mut text = String::new();
    soon("everything", conn.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(text, "first second");
    conn.write_all(b"bye")
        .await
        .expect("the other direction is open");
    conn.shutdown().await.expect("ended");
    text.clear();
    soon("the answer", client.stream.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(text, "bye");
    drop(conn);
    assert!(client.finish().await, "the channel is free again");
    let after = status(&agent, "closed", |status| {
        status.connections.opened == 1 && status.connections.open == 0
    })
    .await;
    assert_eq!(
        (after.connections.bytes_in, after.connections.bytes_out),
        (12, 3)
    );
}

#[tokio::test]
async fn a_dropped_connection_is_a_clean_end_for_a_client_that_ends_too() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent
        .listen(EndpointOptions::new().name("hello"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("hello", b"unread").await.expect("opened");
    let (mut conn, _) = soon("a connection", listener.accept()).await.expect("open");
    conn.write_all(b"bye").await.expect("sent");
    drop(conn);
    let mut text = String::new();
    soon("the end", client.stream.read_to_string(&mut text))
        .await
        .expect("a clean end");
    assert_eq!(text, "bye");
    client.stream.shutdown().await.expect("ended");
    assert!(client.finish().await);
}

#[tokio::test]
async fn a_reset_connection_is_a_reset_for_the_client() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent
        .listen(EndpointOptions::new().name("hello"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("hello", b"").await.expect("opened");
    let (conn, _) = soon("a connection", listener.accept()).await.expect("open");
    conn.reset();
    let error = soon("the reset", client.stream.read(&mut [0; 1]))
        .await
        .expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    client.finish().await;
}

#[tokio::test]
async fn a_lost_session_fails_its_connections() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent
        .listen(EndpointOptions::new().name("hello"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let client = session.open("hello", b"").await.expect("opened");
    let (mut conn, _) = soon("a connection", listener.accept()).await.expect("open");
    session.cut().await;
    soon("the failure", conn.read(&mut [0; 1]))
        .await
        .expect_err("a cut stream must not look complete");
    drop((client, conn));
    let second = edge.session(1).await;
    status(&agent, "bound again", |status| {
        status.endpoints[0].id.is_some()
    })
    .await;
    let _client = second.open("hello", b"").await.expect("opened");
    soon("a connection of the new session", listener.accept())
        .await
        .expect("open");
}

#[tokio::test]
async fn dropping_a_listener_closes_the_endpoint() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let listener = agent
        .listen(EndpointOptions::new().name("hello"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    drop(listener);
    session
        .heard("the unbind", |message| {
            matches!(message, AgentMessage::Unbind(_)).then_some(())
        })
        .await;
    assert!(agent.endpoints().is_empty());
}

#[tokio::test]
async fn a_listener_ends_with_its_agent() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent.listen(EndpointOptions::new()).await.expect("bound");
    agent.shutdown(std::time::Duration::ZERO).await;
    assert!(soon("the end", listener.next()).await.is_none());
    assert_eq!(
        listener.accept().await.expect_err("closed").code,
        Code::AgentStopped
    );
}

#[tokio::test]
async fn a_full_queue_refuses_and_says_so() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let mut listener = agent
        .listen(EndpointOptions::new().name("slow"))
        .await
        .expect("bound");
    let session = edge.session(0).await;
    let mut clients = Vec::new();
    for _ in 0..portcullis_agent::defaults::ACCEPT_QUEUE {
        clients.push(session.open("slow", b"").await.expect("queued"));
    }
    let error = session.open("slow", b"").await.err().expect("full");
    assert_eq!(error.code, Code::LimitEndpoint);
    soon("a place", listener.accept()).await.expect("open");
    session
        .open("slow", b"")
        .await
        .expect("there is a place again");
}

#[tokio::test]
async fn a_listener_has_no_upstream_for_a_proxy_header() {
    let edge = FakeEdge::start().await;
    let agent = connect(&edge).await;
    let options = EndpointOptions::new().proxy_protocol(ProxyVersion::V2);
    assert_eq!(
        agent.listen(options).await.expect_err("refused").code,
        Code::ConfigInvalid
    );
}

//! Small traffic on carriers, bulk on channels and back again, in the whole product; and channels alone.

use std::net::SocketAddr;

use portcullis_e2e::traffic::{Upstream, exchange, pattern};
use portcullis_e2e::{Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// There and back on one connection that stays open.
async fn ping_pong(stream: &mut TcpStream, bytes: &[u8]) {
    let (mut from, mut to) = stream.split();
    let mut back = vec![0; bytes.len()];
    let (wrote, read) = tokio::join!(to.write_all(bytes), from.read_exact(&mut back));
    wrote.and(read.map(drop)).expect("there and back");
    assert!(back == bytes, "the bytes came back changed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bulk_moves_to_a_channel_and_returns_when_it_is_quiet() {
    let stack = Stack::start().await;
    let echo = Upstream::echo().await;
    let agent = stack.tcp(&echo.hostport()).await;
    let address: SocketAddr = agent.addr();
    let small = exchange(address, b"hello").await.expect("through");
    assert_eq!(small, b"hello");
    assert_eq!(
        stack.api.metric("portcullis_agent_promotions_total").await,
        0.0
    );

    let mut client = TcpStream::connect(address).await.expect("connects");
    for round in 1..=2 {
        ping_pong(&mut client, &pattern(round, 8 << 20)).await;
        assert!(stack.api.metric("portcullis_agent_promotions_total").await >= round as f64);
        eventually("the quiet connection is back on a carrier", || async {
            let returns = stack.api.metric("portcullis_agent_returns_total").await;
            (returns >= round as f64).then_some(())
        })
        .await;
        ping_pong(&mut client, b"still there").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_without_carriers_opens_on_channels() {
    let stack = Stack::start_configured("tunnel:\n  carriers: 0\n", &[]).await;
    let echo = Upstream::echo().await;
    let agent = stack.tcp(&echo.hostport()).await;
    let sent = pattern(3, 2 << 20);
    for _ in 0..4 {
        let back = exchange(agent.addr(), &sent).await.expect("through");
        assert!(back == sent, "the bytes came back changed");
    }
    assert_eq!(stack.api.metric("portcullis_agent_carriers").await, 0.0);
    assert_eq!(
        stack.api.metric("portcullis_agent_promotions_total").await,
        0.0
    );
}

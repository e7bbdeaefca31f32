//! Many connections at once.

use portcullis_e2e::traffic::{Upstream, checksum, exchange, pattern};
use portcullis_e2e::{Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_connections_of_random_sizes_both_ways_arrive_intact() {
    let stack = Stack::start().await;
    // The upstream answers with the checksum of what it got, then with bytes of its own whose seed
    // and length the client chose: sizes differ in the two directions.
    let upstream = Upstream::serve(|mut stream| async move {
        let (seed, length) = (
            stream.read_u64().await.expect("seed"),
            stream.read_u64().await.expect("length"),
        );
        let (mut from, mut to) = stream.split();
        let read = async {
            let mut request = Vec::new();
            from.read_to_end(&mut request).await.expect("reads");
            checksum(&request)
        };
        let write = async {
            to.write_all(&pattern(seed, usize::try_from(length).expect("small")))
                .await
                .expect("writes");
        };
        let (sum, ()) = tokio::join!(read, write);
        to.write_all(sum.as_bytes()).await.expect("writes");
        to.shutdown().await.expect("ends");
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let addr = agent.addr();
    let clients: Vec<_> = (0..100_u64)
        .map(|seed| {
            tokio::spawn(async move {
                let up = pattern(seed, rand::random_range(0..400_000));
                let down = rand::random_range(0..400_000_u64);
                let request = [&(seed + 1000).to_be_bytes()[..], &down.to_be_bytes(), &up].concat();
                let answer = exchange(addr, &request).await.expect("no reset");
                let (body, sum) = answer.split_at(answer.len() - 64);
                assert_eq!(sum, checksum(&up).as_bytes(), "seed {seed}: what went up");
                assert_eq!(
                    checksum(body),
                    checksum(&pattern(seed + 1000, body.len())),
                    "seed {seed}: what came down"
                );
                assert_eq!(body.len() as u64, down, "seed {seed}");
            })
        })
        .collect();
    for client in clients {
        client.await.expect("no client fails");
    }
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_thousand_idle_connections_are_held_and_still_work() {
    let stack = Stack::start_with(&[]).await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut held = Vec::with_capacity(2_000);
    // From several source addresses: one source may hold 1,000 by default, and the limit is another test's.
    for number in 0..2_000_u32 {
        let source = [127, 0, 1, u8::try_from(1 + number % 4).expect("small")];
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket
            .bind(std::net::SocketAddr::from((source, 0)))
            .expect("loopback is ours");
        let mut stream = socket.connect(agent.addr()).await.expect("connects");
        stream
            .write_all(&number.to_be_bytes())
            .await
            .expect("writes");
        assert_eq!(stream.read_u32().await.expect("echo"), number);
        held.push(stream);
    }
    eventually("all are open", || async {
        (stack.api.metric("portcullis_connections_open").await >= 2_000.0).then_some(())
    })
    .await;
    for (number, stream) in (0_u32..).zip(&mut held) {
        stream
            .write_all(&(number ^ 0xFFFF).to_be_bytes())
            .await
            .expect("writes");
    }
    for (number, stream) in (0_u32..).zip(&mut held) {
        assert_eq!(stream.read_u32().await.expect("echo"), number ^ 0xFFFF);
    }
    drop(held);
    eventually("all are closed", || async {
        (stack.api.metric("portcullis_connections_open").await < 1.0).then_some(())
    })
    .await;
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_source_over_its_limit_is_refused_with_a_reason_and_others_are_not() {
    let stack = Stack::start_configured("limits:\n  connections_per_source_max: 5\n", &[]).await;
    let upstream = Upstream::echo().await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = TcpStream::connect(agent.addr()).await.expect("connects");
        stream.write_all(b"x").await.expect("writes");
        stream.read_u8().await.expect("echo");
        held.push(stream);
    }
    // The reset may come before `connect` returns, or after.
    if let Ok(mut over) = TcpStream::connect(agent.addr()).await {
        assert!(over.read_u8().await.is_err(), "over the limit");
    }
    let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
    socket
        .bind("127.0.0.9:0".parse().expect("an address"))
        .expect("loopback is ours");
    let mut other = socket.connect(agent.addr()).await.expect("connects");
    other.write_all(b"y").await.expect("writes");
    assert_eq!(other.read_u8().await.expect("echo"), b'y');
    eventually("the refusal is logged with its code", || async {
        stack.log().contains("PTC_LIMIT_SOURCE").then_some(())
    })
    .await;
    drop((held, other));
    stack.balanced().await;
}

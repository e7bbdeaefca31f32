//! How connections end: half-close in both orders, resets in both directions, silence, and upstreams
//! that speak first.

use std::time::Duration;

use portcullis_e2e::traffic::{self, Upstream, checksum, exchange, pattern};
use portcullis_e2e::{Stack, eventually};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_ends_first_still_gets_the_whole_answer() {
    let stack = Stack::start().await;
    // Answers only after the client's end, so a lost half-close would lose the answer.
    let upstream = Upstream::serve(|mut stream| async move {
        let mut request = Vec::new();
        stream.read_to_end(&mut request).await.expect("reads");
        let mut answer = checksum(&request).into_bytes();
        answer.extend(pattern(9, 3_000_000));
        stream.write_all(&answer).await.expect("writes");
        stream.shutdown().await.expect("ends");
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let request = pattern(1, 2_000_000);
    let answer = exchange(agent.addr(), &request).await.expect("no reset");
    assert_eq!(&answer[..64], checksum(&request).as_bytes());
    assert_eq!(checksum(&answer[64..]), checksum(&pattern(9, 3_000_000)));
    // `nc -N` does the same from a shell.
    let line = format!(
        "head -c 1000000 /dev/zero | nc -N 127.0.0.1 {} | head -c 64",
        agent.port()
    );
    assert_eq!(
        portcullis_e2e::shell::sh_async(line).await,
        checksum(&vec![0; 1_000_000])
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_that_ends_first_still_gets_the_rest_of_the_request() {
    let stack = Stack::start().await;
    let (report, mut reported) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve(move |mut stream| {
        let report = report.clone();
        async move {
            stream.write_all(b"bye").await.expect("writes");
            stream.shutdown().await.expect("ends its direction");
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).await.expect("reads");
            report.send(checksum(&rest)).await.expect("the test waits");
        }
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    let mut greeting = Vec::new();
    client
        .read_to_end(&mut greeting)
        .await
        .expect("a clean end");
    assert_eq!(greeting, b"bye");
    let rest = pattern(3, 2_000_000);
    client
        .write_all(&rest)
        .await
        .expect("the other direction is open");
    client.shutdown().await.expect("ends");
    assert_eq!(reported.recv().await, Some(checksum(&rest)));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_client_resets_the_upstream() {
    let stack = Stack::start().await;
    let (report, mut reported) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve(move |mut stream| {
        let report = report.clone();
        async move {
            let mut all = Vec::new();
            stream.write_all(b"!").await.expect("the client waits");
            let end = stream
                .read_to_end(&mut all)
                .await
                .map_err(|error| error.kind());
            report
                .send(end.map(|_| all.len()))
                .await
                .expect("the test waits");
        }
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    client.write_all(b"half a request").await.expect("writes");
    // One that leaves before there is an upstream is nobody's to hear of.
    client.read_exact(&mut [0]).await.expect("a greeting");
    traffic::reset_on_close(&client);
    drop(client);
    assert_eq!(
        reported.recv().await,
        Some(Err(std::io::ErrorKind::ConnectionReset)),
        "a cut stream looks cut"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_by_the_upstream_resets_the_client() {
    let stack = Stack::start().await;
    let upstream = Upstream::serve(|mut stream| async move {
        stream.write_all(b"partial").await.expect("writes");
        let mut byte = [0];
        stream
            .read_exact(&mut byte)
            .await
            .expect("the client read the rest");
        traffic::reset_on_close(&stream);
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    let mut partial = [0; 7];
    client
        .read_exact(&mut partial)
        .await
        .expect("the first bytes come");
    client.write_all(b"x").await.expect("writes");
    let end = client
        .read(&mut partial)
        .await
        .map_err(|error| error.kind());
    assert_eq!(
        end,
        Err(std::io::ErrorKind::ConnectionReset),
        "a cut stream looks cut"
    );
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reset_reaches_an_upstream_that_is_not_reading() {
    let stack = Stack::start().await;
    let (report, mut reported) = tokio::sync::mpsc::channel(1);
    let upstream = Upstream::serve(move |stream| {
        let report = report.clone();
        async move {
            // Never reads: the whole path is clogged when the client gives up.
            let broken = stream
                .ready(tokio::io::Interest::ERROR)
                .await
                .expect("readiness");
            report
                .send(broken.is_error())
                .await
                .expect("the test waits");
        }
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let client = TcpStream::connect(agent.addr()).await.expect("connects");
    let chunk = pattern(4, 1 << 20);
    let mut sent = 0_usize;
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(700), async {
        client.writable().await?;
        client.try_write(&chunk)
    })
    .await
    {
        sent += n;
        assert!(
            sent < 1 << 30,
            "a reader that does not read must hold the sender back"
        );
    }
    traffic::reset_on_close(&client);
    drop(client);
    assert_eq!(reported.recv().await, Some(true));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_upstream_may_speak_first_and_a_client_may_say_nothing() {
    let stack = Stack::start().await;
    let upstream = Upstream::serve(|mut stream| async move {
        stream.write_all(b"220 ready\r\n").await.expect("writes");
        traffic::echo(stream).await;
    })
    .await;
    let agent = stack.tcp(&upstream.hostport()).await;
    let mut client = TcpStream::connect(agent.addr()).await.expect("connects");
    let mut greeting = [0; 11];
    client
        .read_exact(&mut greeting)
        .await
        .expect("the greeting comes without a word from the client");
    assert_eq!(&greeting, b"220 ready\r\n");
    let silent = TcpStream::connect(agent.addr()).await.expect("connects");
    eventually("both connections are open", || async {
        (stack.api.metric("portcullis_connections_open").await >= 2.0).then_some(())
    })
    .await;
    client.write_all(b"still here").await.expect("writes");
    let mut echoed = [0; 10];
    client.read_exact(&mut echoed).await.expect("echo");
    drop((client, silent));
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn more_than_4_gib_each_way_are_counted_to_the_byte() {
    const BYTES: u64 = (4 << 30) + 12_345;
    let stack = Stack::start().await;
    // Source and sink at once, on the plain path: what is looked at are the counters.
    let upstream = Upstream::serve(|stream| async move {
        let (mut from, mut to) = stream.into_split();
        let drain =
            tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
        send_zeros(&mut to, BYTES).await;
        assert_eq!(drain.await.expect("no panic").expect("reads"), BYTES);
    })
    .await;
    let expose = format!("{}={}", stack.ports.end(), upstream.hostport());
    drop(stack);
    let stack = Stack::start_with(&["--expose", &expose]).await;
    let port: u16 = expose
        .split('=')
        .next()
        .and_then(|port| port.parse().ok())
        .expect("a port");
    let client = eventually("the exposed port answers", || async {
        TcpStream::connect(("127.0.0.1", port)).await.ok()
    })
    .await;
    let (mut from, mut to) = client.into_split();
    let drain =
        tokio::spawn(async move { tokio::io::copy(&mut from, &mut tokio::io::sink()).await });
    send_zeros(&mut to, BYTES).await;
    assert_eq!(drain.await.expect("no panic").expect("reads"), BYTES);
    stack.balanced().await;
    let line = eventually("the access line is logged", || async {
        stack
            .log()
            .lines()
            .find(|line| line.contains(&BYTES.to_string()))
            .map(str::to_owned)
    })
    .await;
    assert_eq!(line.matches(&BYTES.to_string()).count(), 2, "{line}");
}

async fn send_zeros(to: &mut tokio::net::tcp::OwnedWriteHalf, bytes: u64) {
    let chunk = vec![0_u8; 1 << 20];
    let mut left = bytes;
    while left > 0 {
        let n = usize::try_from(left.min(1 << 20)).expect("at most a MiB");
        to.write_all(&chunk[..n]).await.expect("writes");
        left -= n as u64;
    }
    to.shutdown().await.expect("ends");
}

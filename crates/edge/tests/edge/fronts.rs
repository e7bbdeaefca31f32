//! PostgreSQL's fronts: TLS that goes through is asked for at the upstream first, requests to cancel go to whoever
//! gave out their key, and a connection's bandwidth and life are bounded.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_model::Endpoint;
use portcullis_telemetry::CloseReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, assert_reset, eventually, greeting, soon};
use crate::first::client_hello;

pub(crate) const ASKS_TLS: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// What a fake PostgreSQL server was asked.
#[derive(Default)]
pub(crate) struct Seen {
    pub(crate) tls: AtomicUsize,
    pub(crate) cancels: AtomicUsize,
}

/// A server that answers a request for TLS so and echoes what follows; a startup message it greets with a key of its
/// own, and echoes; a request to cancel it counts.
pub(crate) async fn postgres(answer: &'static [u8], process: u32) -> (SocketAddr, Arc<Seen>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("address");
    let seen = Arc::new(Seen::default());
    let sees = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let seen = Arc::clone(&sees);
            tokio::spawn(async move { drop(serve(stream, answer, process, &seen).await) });
        }
    });
    (at, seen)
}

/// The same for one connection: then nobody listens any more, which is told.
pub(crate) async fn postgres_once(process: u32) -> (SocketAddr, oneshot::Receiver<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("address");
    let (tell, gone) = oneshot::channel();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.expect("a client");
        drop(listener);
        tell.send(()).expect("somebody waits");
        drop(serve(stream, b"N", process, &Seen::default()).await);
    });
    (at, gone)
}

async fn serve(
    mut stream: TcpStream,
    answer: &[u8],
    process: u32,
    seen: &Seen,
) -> std::io::Result<()> {
    let length = stream.read_u32().await?;
    let mut rest = vec![0; usize::try_from(length).expect("short") - 4];
    stream.read_exact(&mut rest).await?;
    match rest[..4] {
        [4, 210, 22, 47] => {
            seen.tls.fetch_add(1, Ordering::Relaxed);
            stream.write_all(answer).await?;
        }
        [4, 210, 22, 46] => {
            seen.cancels.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        _ => {
            let key = [&b"K\0\0\0\x0c"[..], &process.to_be_bytes(), b"keys"].concat();
            let hello = [b"R\0\0\0\x08\0\0\0\0", &key[..], b"Z\0\0\0\x05I"].concat();
            stream.write_all(&hello).await?;
        }
    }
    let (mut read, mut write) = stream.split();
    tokio::io::copy(&mut read, &mut write).await?;
    write.shutdown().await
}

pub(crate) const STARTUP: &[u8] = b"\0\0\0\x11\0\x03\0\0user\0me\0\0";
/// What the fake server says then, but for its process.
pub(crate) const HELLO_BYTES: usize = 9 + 13 + 6;

pub(crate) fn cancel(process: u32, key: &[u8; 4]) -> Vec<u8> {
    [
        &[0, 0, 0, 16, 4, 210, 22, 46][..],
        &process.to_be_bytes(),
        key,
    ]
    .concat()
}

const BY_NAME: &str = "
on_tcp_connect:
  - actions: [{type: sniff}]
  - expressions: [\"conn.sni == 'a.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://a.internal:1'}}]
  - expressions: [\"conn.sni == 'b.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://b.internal:1'}}]
  - expressions: [\"conn.sni == 'either.example'\"]
    actions:
      - {type: forward-internal, config: {url: 'tcp://a.internal:1', on_error: continue}}
      - {type: forward-internal, config: {url: 'tcp://c.internal:1'}}
  - actions: [{type: deny}]
";

/// Asks for TLS and begins it with this name; the connection behind the edge's `S`.
async fn begins_tls(bed: &Bed, endpoint: &Endpoint, name: &str) -> (TcpStream, Vec<u8>) {
    let mut client = bed.connect(endpoint).await;
    client.write_all(&ASKS_TLS).await.expect("write");
    assert_eq!(greeting(&mut client, 1).await, "S");
    let hello = client_hello(name, 0);
    client.write_all(&hello).await.expect("write");
    (client, hello)
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_that_goes_through_is_asked_for_at_the_upstream_first() {
    let bed = Bed::start().await;
    let (takes, seen) = postgres(b"S", 1).await;
    bed.direct("tcp://a.internal:1", takes).await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    agent.bind("tcp://b.internal:1", takes).await;
    let endpoint = bed.cloud("tcp://", BY_NAME).await;
    for name in ["a.example", "b.example"] {
        let (mut client, hello) = begins_tls(&bed, &endpoint, name).await;
        let mut echoed = vec![0; hello.len()];
        soon("the hello", client.read_exact(&mut echoed))
            .await
            .expect("an echo");
        assert_eq!(echoed, hello, "{name}: whole, and only that");
    }
    assert_eq!(seen.tls.load(Ordering::Relaxed), 2);
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_that_takes_no_tls_is_its_own_reason_and_another_may_take_it() {
    let bed = Bed::start().await;
    let (refuses, refused) = postgres(b"N", 1).await;
    bed.direct("tcp://a.internal:1", refuses).await;
    let endpoint = bed.cloud("tcp://", BY_NAME).await;
    let odd = postgres(b"HTTP/1.1 400", 1).await.0;
    bed.direct("tcp://b.internal:1", odd).await;
    for name in ["a.example", "b.example"] {
        let (mut client, _) = begins_tls(&bed, &endpoint, name).await;
        assert_reset(&mut client).await;
    }
    let metrics = bed.records.metrics();
    eventually("both are told", || {
        metrics.count_closed(CloseReason::UpstreamNoTls) == 2
    })
    .await;
    let (takes, seen) = postgres(b"S", 1).await;
    bed.direct("tcp://c.internal:1", takes).await;
    let (mut client, hello) = begins_tls(&bed, &endpoint, "either.example").await;
    let mut echoed = vec![0; hello.len()];
    soon("the hello", client.read_exact(&mut echoed))
        .await
        .expect("an echo");
    assert_eq!(echoed, hello);
    assert_eq!(refused.tls.load(Ordering::Relaxed), 2);
    assert_eq!(seen.tls.load(Ordering::Relaxed), 1);
    drop(client);
    bed.finish().await;
}

const BALANCED: &str = "
on_tcp_connect:
  - actions: [{type: sniff}]
  - actions:
      - type: forward-internal
        config:
          targets: [{url: 'tcp://a.internal:1', weight: 1}, {url: 'tcp://b.internal:1', weight: 1}]
";

#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_cancel_goes_to_whoever_gave_out_the_key() {
    let bed = Bed::start().await;
    let ((one, first), (two, second)) = (postgres(b"N", 1).await, postgres(b"N", 2).await);
    bed.direct("tcp://a.internal:1", one).await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    agent.bind("tcp://b.internal:1", two).await;
    let endpoint = bed.cloud("tcp://", BALANCED).await;
    let elsewhere = bed.cloud("tcp://", BALANCED).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = bed.connect(&endpoint).await;
        client.write_all(STARTUP).await.expect("write");
        let mut hello = [0; HELLO_BYTES];
        soon("the greeting", client.read_exact(&mut hello))
            .await
            .expect("a greeting");
        let process = u32::from_be_bytes(hello[14..18].try_into().expect("four"));
        clients.push((process, client));
    }
    clients.sort_by_key(|(process, _)| *process);
    let processes: Vec<_> = clients.iter().map(|(process, _)| *process).collect();
    assert_eq!(processes, [1, 2], "the turns are exact");
    // Each comes to its own, however the turns go.
    for (process, seen) in [(2, &second), (2, &second), (2, &second), (1, &first)] {
        let before = seen.cancels.load(Ordering::Relaxed);
        let mut client = bed.connect(&endpoint).await;
        let asks = cancel(process, b"keys");
        client.write_all(&asks).await.expect("write");
        eventually("the request is there", || {
            seen.cancels.load(Ordering::Relaxed) == before + 1
        })
        .await;
    }
    // A key that nobody gave out, and one that another endpoint gave out, go where the policy says.
    let sum = || first.cancels.load(Ordering::Relaxed) + second.cancels.load(Ordering::Relaxed);
    for endpoint in [&endpoint, &elsewhere] {
        let key = if endpoint.id == elsewhere.id {
            b"keys"
        } else {
            b"none"
        };
        let before = (first.cancels.load(Ordering::Relaxed), sum());
        for _ in 0..2 {
            let mut client = bed.connect(endpoint).await;
            client.write_all(&cancel(2, key)).await.expect("write");
            drop(soon("its end", client.read(&mut [0])).await);
        }
        eventually("both are there", || sum() == before.1 + 2).await;
        assert_eq!(
            first.cancels.load(Ordering::Relaxed),
            before.0 + 1,
            "in turn"
        );
    }
    // What a tap was on goes on as any other: whole, and spliced where it can be.
    for (_, client) in &mut clients {
        let said = vec![7; 300_000];
        let (mut read, mut write) = client.split();
        let mut heard = vec![0; said.len()];
        let (wrote, got) = tokio::join!(write.write_all(&said), read.read_exact(&mut heard));
        wrote.expect("write");
        got.expect("an echo");
        assert!(heard == said);
    }
    drop(clients);
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_lasts_no_longer_than_its_endpoint_or_its_policy_lets_it() {
    let bed = Bed::start().await;
    let upstream = crate::bed::echo("e").await;
    let policy = "
on_tcp_connect:
  - actions: [{type: set-limits, config: {max_lifetime: 300ms}}]
";
    let by_endpoint = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.limits.max_lifetime_ms = Some(300)
        })
        .await;
    let by_policy = bed
        .direct_with("tcp://", upstream, |spec| {
            spec.limits.max_lifetime_ms = Some(0);
            policy.clone_into(&mut spec.traffic_policy);
        })
        .await;
    for (endpoint, count) in [(by_endpoint, 1), (by_policy, 2)] {
        let mut client = bed.connect(&endpoint).await;
        greeting(&mut client, 1).await;
        // It is busy all the time.
        let mut byte = [0];
        let ended = async {
            while client.write_all(b"x").await.is_ok() && client.read_exact(&mut byte).await.is_ok()
            {
            }
        };
        soon("its end", ended).await;
        let metrics = bed.records.metrics();
        eventually("the reason is told", || {
            metrics.count_closed(CloseReason::LifetimeOver) == count
        })
        .await;
    }
    bed.finish().await;
}

const SLOW: &str = "
on_tcp_connect:
  - actions: [{type: limit-bandwidth, config: {rate: 400KB, burst: 100KB}}]
";

#[tokio::test(flavor = "multi_thread")]
async fn what_is_slowed_down_arrives_whole_both_ways_and_ends_as_any_other() {
    let bed = Bed::start().await;
    let slow = |spec: &mut portcullis_store::DirectSpec| SLOW.clone_into(&mut spec.traffic_policy);
    let endpoint = bed
        .direct_with("tcp://", crate::bed::echo("e").await, slow)
        .await;
    let said: Vec<u8> = (0..100_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut client = bed.connect(&endpoint).await;
    greeting(&mut client, 1).await;
    let (mut read, mut write) = client.split();
    let mut heard = Vec::new();
    let says = async {
        write.write_all(&said).await.expect("write");
        write.shutdown().await.expect("half-close");
    };
    let ((), got) = tokio::join!(says, soon("the end", read.read_to_end(&mut heard)));
    got.expect("a clean end");
    assert!(heard == said, "{} of {}", heard.len(), said.len());
    drop(client);
    bed.closed(CloseReason::ClientFinished).await;

    // Who is held back can still be ended, and its own end is noticed.
    let mut client = bed.connect(&endpoint).await;
    greeting(&mut client, 1).await;
    let much = vec![7; 2_000_000];
    let flood = tokio::time::timeout(std::time::Duration::from_millis(300), async {
        client.write_all(&much).await
    });
    drop(flood.await);
    for live in bed.records.live().views() {
        bed.records
            .live()
            .end(&live.id, CloseReason::EndedByOperator);
    }
    bed.closed(CloseReason::EndedByOperator).await;
    bed.finish().await;
}

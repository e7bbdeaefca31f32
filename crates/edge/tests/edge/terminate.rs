//! `terminate-tls`: the client's TLS ends at the edge, and everything behind it goes on as without.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use portcullis_model::Endpoint;
use portcullis_net::resolve::Resolver;
use portcullis_net::upstream::{self, UpstreamStream};
use portcullis_telemetry::CloseReason;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::Instant;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, HOST, PATIENCE, assert_reset, echo, ending, eventually, nobody, soon};
use crate::first::client_hello;
use crate::fronts::{ASKS_TLS, HELLO_BYTES, STARTUP, cancel, postgres, postgres_once};

const TERMINATES: &str = "
on_tcp_connect:
  - actions: [{type: terminate-tls}]
";

/// A TLS client; the name is what it asks for.
async fn tls(bed: &Bed, endpoint: &Endpoint, name: &str) -> UpstreamStream {
    try_tls(bed.address(endpoint), name).await.expect("TLS")
}

async fn try_tls(at: SocketAddr, name: &str) -> Result<UpstreamStream, portcullis_model::Error> {
    let to = format!("tls://{at}?verify=false&server_name={name}");
    let to = to.parse().expect("an upstream");
    let resolver = Resolver::system().expect("resolver");
    upstream::dial(&to, &resolver, Instant::now() + PATIENCE, None).await
}

/// Says this, ends, and hears all until the end.
async fn exchange(mut stream: UpstreamStream, said: &[u8]) -> Vec<u8> {
    let mut heard = Vec::new();
    let (mut read, mut write) = tokio::io::split(&mut stream);
    let says = async {
        write.write_all(said).await.expect("write");
        write.shutdown().await.expect("half-close");
    };
    let ((), end) = tokio::join!(says, soon("the end", read.read_to_end(&mut heard)));
    end.expect("a clean end");
    heard
}

fn terminating(spec: &mut portcullis_store::DirectSpec) {
    TERMINATES.clone_into(&mut spec.traffic_policy);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_hears_the_clear_and_a_half_close_is_kept() {
    let bed = Bed::start().await;
    let endpoint = bed
        .direct_with("tcp://", echo("e:").await, terminating)
        .await;
    let said: Vec<u8> = (0..300_000_u32).flat_map(u32::to_le_bytes).collect();
    for said in [&b"hello"[..], b"", &said] {
        let heard = exchange(tls(&bed, &endpoint, "a.example").await, said).await;
        assert!(heard == [b"e:", said].concat(), "{} bytes", heard.len());
    }
    let metrics = bed.records.metrics();
    eventually("all ended well", || {
        metrics.count_closed(CloseReason::ClientFinished) == 3
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_facts_of_tls_route_and_the_next_target_gets_the_clear_too() {
    let bed = Bed::start().await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    agent.bind("tcp://a.internal:1", echo("a:").await).await;
    bed.direct("tcp://b.internal:1", echo("b:").await).await;
    let policy = "
on_tcp_connect:
  - actions: [{type: sniff}]
  - expressions: [\"conn.protocol == 'tls'\"]
    actions: [{type: terminate-tls, config: {alpn: [x]}}]
  - expressions: [\"conn.tls.sni == 'a.example' && conn.tls.version == '1.3'\"]
    actions:
      - {type: forward-internal, config: {url: 'tcp://down.internal:1', on_error: continue}}
      - {type: forward-internal, config: {url: 'tcp://a.internal:1'}}
  - actions: [{type: forward-internal, config: {url: 'tcp://b.internal:1'}}]
";
    let endpoint = bed.cloud("tcp://", policy).await;
    for (name, tag) in [("a.example", "a:"), ("b.example", "b:")] {
        let heard = exchange(tls(&bed, &endpoint, name).await, b"clear").await;
        assert_eq!(heard, [tag.as_bytes(), b"clear"].concat());
    }
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_told_so_and_is_its_own_reason() {
    let bed = Bed::start().await;
    let endpoint = bed
        .direct_with("tcp://", echo("e").await, terminating)
        .await;
    let mut client = bed.connect(&endpoint).await;
    client.write_all(b"SSH-2.0-x\r\n").await.expect("write");
    let mut heard = Vec::new();
    let end = soon("the end", client.read_to_end(&mut heard)).await;
    drop(end); // a reset may follow what it was told
    assert_eq!(heard.first(), Some(&21), "an alert: {heard:?}");
    bed.closed(CloseReason::TlsHandshake).await;
    // A hello in which nothing is in common.
    let mut client = bed.connect(&endpoint).await;
    client
        .write_all(&client_hello("a.example", 0))
        .await
        .expect("write");
    drop(ending(&mut client).await);
    let metrics = bed.records.metrics();
    eventually("both are told", || {
        metrics.count_closed(CloseReason::TlsHandshake) == 2
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_certificate_there_is_no_tls() {
    let bed = Bed::with(|config| config.certificates = None).await;
    let endpoint = bed
        .direct_with("tcp://", echo("e").await, terminating)
        .await;
    assert!(
        try_tls(bed.address(&endpoint), "a.example").await.is_err(),
        "there is nothing to show"
    );
    bed.closed(CloseReason::TlsNoCertificate).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_ends_with_its_client_and_with_whoever_ends_it() {
    let bed = Bed::with(|config| config.limits.connect_timeout = Duration::from_secs(1)).await;
    let endpoint = bed
        .direct_with("tcp://", echo("e").await, terminating)
        .await;
    let hello = client_hello("a.example", 0);
    let half = &hello[..hello.len() / 2];
    let there = || bed.records.metrics().count_open() == 1;
    let mut client = bed.connect(&endpoint).await;
    client.write_all(half).await.expect("write");
    eventually("it is there", there).await;
    drop(client);
    bed.closed(CloseReason::TlsHandshake).await;
    let mut client = bed.connect(&endpoint).await;
    client.write_all(half).await.expect("write");
    eventually("it is there", there).await;
    for live in bed.records.live().views() {
        let live_table = bed.records.live();
        live_table.end(&live.id, CloseReason::EndedByOperator);
    }
    assert_reset(&mut client).await;
    bed.closed(CloseReason::EndedByOperator).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_terminated_can_be_slowed_down_and_bounded_as_well() {
    let bed = Bed::start().await;
    let policy = "
on_tcp_connect:
  - actions:
      - {type: terminate-tls}
      - {type: limit-bandwidth, config: {rate: 1MB, burst: 100KB, key: conn.client_ip}}
      - {type: set-limits, config: {idle_timeout: 300ms}}
";
    let change = |spec: &mut portcullis_store::DirectSpec| {
        policy.clone_into(&mut spec.traffic_policy);
    };
    let endpoint = bed.direct_with("tcp://", echo("e:").await, change).await;
    let said = vec![9; 600_000];
    let (one, two) = (
        tls(&bed, &endpoint, "a.example").await,
        tls(&bed, &endpoint, "a.example").await,
    );
    let (one, two) = tokio::join!(exchange(one, &said), exchange(two, &said));
    let expected = [b"e:", &said[..]].concat();
    assert!(one == expected && two == expected);
    let mut silent = tls(&bed, &endpoint, "a.example").await;
    let mut heard = Vec::new();
    let end = soon("the end", silent.read_to_end(&mut heard)).await;
    assert!(end.is_err(), "a cut stream must not look whole: {end:?}");
    bed.closed(CloseReason::IdleTimeout).await;
    bed.finish().await;
}

type Encrypted = StreamOwned<ClientConnection, std::net::TcpStream>;

/// TLS as a client of PostgreSQL begins it: it asks first, and checks what it is shown.
async fn postgres_tls(bed: &Bed, endpoint: &Endpoint, pause: Duration) -> Encrypted {
    let mut roots = RootCertStore::empty();
    let ca = CertificateDer::from_pem_slice(bed.ca.as_bytes()).expect("PEM");
    roots.add(ca).expect("a CA");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let at = bed.address(endpoint);
    let asking = move || {
        let mut stream = std::net::TcpStream::connect(at).expect("the port is open");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        stream.write_all(&ASKS_TLS).expect("write");
        let mut answer = [0];
        stream.read_exact(&mut answer).expect("an answer");
        assert_eq!(&answer, b"S");
        stream
    };
    let stream = tokio::task::spawn_blocking(asking).await;
    let stream = stream.expect("an answer");
    // What the test is about, where it is not zero.
    tokio::time::sleep(pause).await;
    let begin = move || {
        let name = ServerName::try_from(HOST).expect("a name");
        let session = ClientConnection::new(Arc::new(config), name).expect("a session");
        let mut stream = StreamOwned::new(session, stream);
        stream.flush().expect("a handshake");
        stream
    };
    tokio::task::spawn_blocking(begin).await.expect("TLS")
}

/// Says this inside of TLS, and hears so much.
async fn ask(mut stream: Encrypted, said: Vec<u8>, bytes: usize) -> (Encrypted, Vec<u8>) {
    let asking = move || {
        stream.write_all(&said).expect("write");
        stream.flush().expect("flush");
        let mut heard = vec![0; bytes];
        stream.read_exact(&mut heard).expect("an answer");
        (stream, heard)
    };
    tokio::task::spawn_blocking(asking)
        .await
        .expect("an answer")
}

const TURNS: &str = "
on_tcp_connect:
  - actions:
      - {type: terminate-tls}
      - type: forward-internal
        config:
          targets: [{url: 'tcp://a.internal:1', weight: 1}, {url: 'tcp://b.internal:1', weight: 1}]
";

#[tokio::test(flavor = "multi_thread")]
async fn requests_to_cancel_come_to_their_server_in_the_clear_and_inside_of_tls() {
    let bed = Bed::start().await;
    let ((one, first), (two, second)) = (postgres(b"N", 1).await, postgres(b"N", 2).await);
    bed.direct("tcp://a.internal:1", one).await;
    bed.direct("tcp://b.internal:1", two).await;
    let endpoint = bed.cloud("tcp://", TURNS).await;
    let stream = postgres_tls(&bed, &endpoint, Duration::ZERO).await;
    let (stream, hello) = ask(stream, STARTUP.to_vec(), HELLO_BYTES).await;
    let process = u32::from_be_bytes(hello[14..18].try_into().expect("four"));
    let seen = if process == 1 { &first } else { &second };
    for round in 0..6 {
        let asks = cancel(process, b"keys");
        if round % 2 == 0 {
            let mut client = bed.connect(&endpoint).await;
            client.write_all(&asks).await.expect("write");
            drop(soon("its end", client.read(&mut [0])).await);
        } else {
            let stream = postgres_tls(&bed, &endpoint, Duration::ZERO).await;
            drop(ask(stream, asks, 0).await);
        }
        eventually("the request is there", || {
            seen.cancels.load(Ordering::Relaxed) == round + 1
        })
        .await;
    }
    // One that is not known owes TLS as everybody does.
    let mut client = bed.connect(&endpoint).await;
    let unknown = cancel(process, b"none");
    client.write_all(&unknown).await.expect("write");
    drop(ending(&mut client).await);
    bed.closed(CloseReason::TlsHandshake).await;
    // And neither is one whose connection is over.
    drop(stream);
    eventually("it is over", || bed.records.metrics().count_open() == 0).await;
    let mut client = bed.connect(&endpoint).await;
    let over = cancel(process, b"keys");
    client.write_all(&over).await.expect("write");
    drop(ending(&mut client).await);
    let metrics = bed.records.metrics();
    eventually("both are told", || {
        metrics.count_closed(CloseReason::TlsHandshake) == 2
    })
    .await;
    assert_eq!(first.tls.load(Ordering::Relaxed), 0, "it gets the clear");
    bed.finish().await;
}

/// The upstream's time begins when the client is done.
#[tokio::test(flavor = "multi_thread")]
async fn a_slow_handshake_is_not_counted_against_the_upstream() {
    let bed = Bed::with(|config| config.limits.connect_timeout = Duration::from_millis(400)).await;
    let (at, _) = postgres(b"N", 1).await;
    let endpoint = bed.direct_with("tcp://", at, terminating).await;
    let stream = postgres_tls(&bed, &endpoint, Duration::from_millis(800)).await;
    let (stream, hello) = ask(stream, STARTUP.to_vec(), HELLO_BYTES).await;
    assert_eq!(hello.first(), Some(&b'R'));
    drop(stream);
    bed.finish().await;
}

const TO_A: &str = "
on_tcp_connect:
  - actions:
      - {type: terminate-tls}
      - {type: forward-internal, config: {url: 'tcp://a.internal:1'}}
";

/// Its server does not take it any more: then it owes TLS as everybody does, and is not decided on for ever.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_to_cancel_that_cannot_be_sent_on_ends_as_any_client_without_tls() {
    let bed = Bed::start().await;
    let (at, gone) = postgres_once(1).await;
    bed.direct("tcp://a.internal:1", at).await;
    let endpoint = bed.cloud("tcp://", TO_A).await;
    let stream = postgres_tls(&bed, &endpoint, Duration::ZERO).await;
    let (stream, _) = ask(stream, STARTUP.to_vec(), HELLO_BYTES).await;
    soon("nobody listens there any more", gone)
        .await
        .expect("told");
    let mut client = bed.connect(&endpoint).await;
    let asks = cancel(1, b"keys");
    client.write_all(&asks).await.expect("write");
    drop(ending(&mut client).await);
    bed.closed(CloseReason::TlsHandshake).await;
    drop(stream);
    bed.finish().await;
}

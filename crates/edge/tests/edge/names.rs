//! TLS endpoints: one port, where the name in the ClientHello decides, and the client's bytes go on as they are.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_model::Endpoint;
use portcullis_telemetry::CloseReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{Agent, Identity};
use crate::bed::{Bed, PATIENCE, assert_reset, dial, echo, ending, exchange, soon};
use crate::first::{answered, client_hello, cut_hello};

/// Every bed has an address of its own, so that all can have the same port.
const PORT: u16 = 9_443;
const UNRECOGNIZED_NAME: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 112];
const MISSING_EXTENSION: [u8; 7] = [0x15, 3, 3, 0, 2, 2, 109];

async fn bed() -> Bed {
    Bed::shaped(
        |settings, ip| {
            settings.tls.port = Some(PORT);
            settings.tls.bind = vec![ip];
        },
        |_| {},
    )
    .await
}

fn port(bed: &Bed) -> SocketAddr {
    SocketAddr::new(bed.ip, PORT)
}

async fn at(bed: &Bed, url: &str, tag: &'static str) -> Endpoint {
    bed.direct(url, echo(tag).await).await
}

/// What a client hears that says this and no more.
async fn hears(bed: &Bed, says: &[u8]) -> Vec<u8> {
    let mut client = dial(port(bed));
    client.write_all(says).await.expect("write");
    let mut heard = [0; 7];
    soon("an alert", client.read_exact(&mut heard))
        .await
        .expect("an alert");
    heard.to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_name_decides_and_the_hello_is_replayed() {
    let bed = bed().await;
    at(&bed, "tls://a.edge.test", "a:").await;
    at(&bed, "tls://*.edge.test", "wild:").await;
    at(&bed, "tls://*.b.edge.test", "b:").await;
    for (name, tag) in [
        ("a.edge.test", "a:"),
        ("A.Edge.Test", "a:"),
        ("x.edge.test", "wild:"),
        ("x.a.edge.test", "wild:"),
        ("x.b.edge.test", "b:"),
    ] {
        let hello = client_hello(name, 0);
        let more = [&hello[..], b"and what follows"].concat();
        let answer = exchange(dial(port(&bed)), &more).await;
        assert_eq!(answer, answered(tag, &more), "{name}");
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_in_single_bytes_or_many_records_is_read_whole() {
    let bed = bed().await;
    at(&bed, "tls://a.edge.test", "a:").await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    agent
        .bind("tls://agent.edge.test", echo("agent:").await)
        .await;
    for (name, tag) in [("a.edge.test", "a:"), ("agent.edge.test", "agent:")] {
        let hello = client_hello(name, 0);
        let mut client = dial(port(&bed));
        client.set_nodelay(true).expect("a socket");
        for byte in &hello {
            client.write_all(&[*byte]).await.expect("write");
            tokio::task::yield_now().await;
        }
        assert_eq!(exchange(client, b"").await, answered(tag, &hello));
        for (padding, record) in [(16_200, 16_384), (40_000, 512), (65_300, 65)] {
            let hello = cut_hello(name, padding, record);
            let mut client = dial(port(&bed));
            client.write_all(&hello).await.expect("write");
            let mut answer = vec![0; tag.len() + hello.len()];
            soon("the answer", client.read_exact(&mut answer))
                .await
                .expect("an answer");
            assert!(answer == answered(tag, &hello), "{padding} {record}");
        }
    }
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_cannot_be_routed_is_told_by_an_alert() {
    let bed = bed().await;
    at(&bed, "tls://a.edge.test", "a:").await;
    let hello = client_hello("b.edge.test", 0);
    assert_eq!(hears(&bed, &hello).await, UNRECOGNIZED_NAME);
    bed.closed(CloseReason::TlsNoEndpoint).await;
    let nameless = client_hello("", 0);
    assert_eq!(hears(&bed, &nameless).await, MISSING_EXTENSION);
    bed.closed(CloseReason::TlsNoName).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_tls_is_reset() {
    let bed = bed().await;
    at(&bed, "tls://a.edge.test", "a:").await;
    for says in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"SSH-2.0-x\r\n",
        b"\xff\xff\xff",
    ] {
        let mut client = dial(port(&bed));
        client.write_all(says).await.expect("write");
        assert_reset(&mut client).await;
    }
    bed.closed(CloseReason::TlsHandshake).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_client_keeps_its_place_for_a_bounded_time() {
    let bed = bed().await;
    at(&bed, "tls://a.edge.test", "a:").await;
    let hello = client_hello("a.edge.test", 0);
    let mut silent = dial(port(&bed));
    let mut half = dial(port(&bed));
    half.write_all(&hello[..hello.len() / 2])
        .await
        .expect("write");
    assert!(ending(&mut silent).await.is_err());
    // Half of one is TLS, and names nobody.
    let mut heard = Vec::new();
    drop(soon("an end", half.read_to_end(&mut heard)).await);
    assert_eq!(heard, MISSING_EXTENSION);
    bed.closed(CloseReason::TlsHandshake).await;
    bed.closed(CloseReason::TlsNoName).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_endpoints_policy_runs_and_knows_the_name() {
    let bed = bed().await;
    at(&bed, "tls://one.internal", "one:").await;
    at(&bed, "tcp://one.internal:443", "tcp:").await;
    at(&bed, "tls://rest.internal:8443", "rest:").await;
    let policy = "
on_tcp_connect:
  - actions: [{type: sniff, config: {timeout: 30s}}]
  - expressions: [\"conn.sni == 'no.edge.test'\"]
    actions: [{type: deny}]
  - expressions: [\"conn.protocol == 'tls' && conn.sni == 'one.edge.test'\"]
    actions: [{type: forward-internal, config: {url: 'tls://one.internal'}}]
  - expressions: [\"conn.sni == 'tcp.edge.test'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://one.internal:443'}}]
  - actions: [{type: forward-internal, config: {url: 'tls://rest.internal:8443'}}]
";
    bed.cloud("tls://*.edge.test", policy).await;
    for (name, tag) in [
        ("one.edge.test", "one:"),
        ("tcp.edge.test", "tcp:"),
        ("other.edge.test", "rest:"),
    ] {
        let hello = client_hello(name, 0);
        let answer = exchange(dial(port(&bed)), &hello).await;
        assert_eq!(answer, answered(tag, &hello), "{name}");
    }
    let mut denied = dial(port(&bed));
    let hello = client_hello("no.edge.test", 0);
    denied.write_all(&hello).await.expect("write");
    drop(ending(&mut denied).await);
    bed.closed(CloseReason::PolicyDenied).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_proxys_header_stands_before_the_hello() {
    let bed = Bed::shaped(
        |settings, ip| {
            settings.tls.port = Some(PORT);
            settings.tls.bind = vec![ip];
        },
        |config| config.trusted_proxies = vec!["127.0.0.0/8".parse().expect("network")],
    )
    .await;
    let policy =
        "on_tcp_connect: [{actions: [{type: restrict-ips, config: {allow: ['192.0.2.7/32']}}]}]";
    bed.direct_with("tls://a.edge.test", echo("a:").await, |spec| {
        spec.traffic_policy = policy.to_owned();
    })
    .await;
    let hello = client_hello("a.edge.test", 0);
    let header = format!("PROXY TCP4 192.0.2.7 {} 4000 {PORT}\r\n", bed.ip);
    let says = [header.as_bytes(), &hello].concat();
    assert_eq!(
        exchange(dial(port(&bed)), &says).await,
        answered("a:", &hello)
    );
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_port_is_open_as_long_as_there_is_an_endpoint() {
    let bed = bed().await;
    assert!(TcpStream::connect(port(&bed)).await.is_err());
    let endpoint = bed
        .cloud(
            "tls://a.edge.test",
            "on_tcp_connect: [{actions: [{type: deny}]}]",
        )
        .await;
    drop(dial(port(&bed)));
    bed.registry
        .delete_endpoint(&bed.account, &endpoint.id)
        .await
        .expect("deleted");
    let closed = async {
        while TcpStream::connect(port(&bed)).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, closed)
        .await
        .expect("the port is closed");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_goes_while_the_hello_comes_gets_nobody() {
    let bed = bed().await;
    at(&bed, "tls://keep.edge.test", "k:").await;
    let endpoint = bed
        .cloud(
            "tls://a.edge.test",
            "on_tcp_connect: [{actions: [{type: deny}]}]",
        )
        .await;
    let hello = client_hello("a.edge.test", 0);
    let mut client = dial(port(&bed));
    client.write_all(&hello[..20]).await.expect("write");
    bed.registry
        .delete_endpoint(&bed.account, &endpoint.id)
        .await
        .expect("deleted");
    client.write_all(&hello[20..]).await.expect("write");
    let mut heard = [0; 7];
    soon("an alert", client.read_exact(&mut heard))
        .await
        .expect("an alert");
    assert_eq!(heard, UNRECOGNIZED_NAME);
    bed.closed(CloseReason::TlsNoEndpoint).await;
    bed.finish().await;
}

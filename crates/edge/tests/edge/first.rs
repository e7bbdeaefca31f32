//! Policies that look at a client's first bytes or answer it: what they read is replayed whole and once, and
//! who says nothing, too much or something else is told apart.

use std::net::SocketAddr;
use std::time::Duration;

use portcullis_model::Endpoint;
use portcullis_telemetry::CloseReason;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::agent::{Agent, Identity};
use crate::bed::{
    Bed, assert_reset, dial, echo, ending, eventually, exchange, greeting, nobody, soon,
};

/// One port for everything: TLS by its name, SSH, HTTP by its host, PostgreSQL, and the rest.
const SHARED: &str = "
on_tcp_connect:
  - actions: [{type: sniff, config: {timeout: 5s}}]
  - expressions: [\"conn.protocol == 'tls' && conn.sni == 'a.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://a.internal:1'}}]
  - expressions: [\"conn.protocol == 'tls' && conn.sni == 'b.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://b.internal:1'}}]
  - expressions: [\"conn.protocol == 'ssh'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://ssh.internal:1'}}]
  - expressions: [\"conn.protocol == 'http' && conn.http.host == 'www.example'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://www.internal:1'}}]
  - expressions: [\"conn.protocol == 'postgres'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://pg.internal:1'}}]
  - actions: [{type: forward-internal, config: {url: 'tcp://rest.internal:1'}}]
";

async fn shared(bed: &Bed) -> Endpoint {
    for (name, tag) in [
        ("a", "a:"),
        ("b", "b:"),
        ("ssh", "ssh:"),
        ("www", "www:"),
        ("pg", "pg:"),
        ("rest", "rest:"),
    ] {
        let url = format!("tcp://{name}.internal:1");
        bed.direct(&url, echo(tag).await).await;
    }
    bed.cloud("tcp://", SHARED).await
}

fn with_length(length_bytes: usize, content: &[u8]) -> Vec<u8> {
    let length = content.len().to_be_bytes();
    [&length[length.len() - length_bytes..], content].concat()
}

/// A ClientHello for a name, with so many bytes of padding, in records of at most 16 KiB.
pub(crate) fn client_hello(name: &str, padding: usize) -> Vec<u8> {
    cut_hello(name, padding, 16 * 1024)
}

/// The same in records of so many bytes.
pub(crate) fn cut_hello(name: &str, padding: usize, record_bytes: usize) -> Vec<u8> {
    let server_name = [vec![0], with_length(2, name.as_bytes())].concat();
    let extension =
        |kind: u16, content: &[u8]| [kind.to_be_bytes().to_vec(), with_length(2, content)].concat();
    let extensions = [
        extension(21, &vec![0; padding]),
        extension(0, &with_length(2, &server_name)),
    ]
    .concat();
    let hello = [
        vec![3, 3],
        vec![7; 32],
        with_length(1, &[]),
        with_length(2, &[0x13, 0x01]),
        with_length(1, &[0]),
        with_length(2, &extensions),
    ]
    .concat();
    let message = [vec![1], with_length(3, &hello)].concat();
    message
        .chunks(record_bytes)
        .flat_map(|part| [vec![22, 3, 1], with_length(2, part)].concat())
        .collect()
}

pub(crate) fn answered(tag: &str, bytes: &[u8]) -> Vec<u8> {
    [tag.as_bytes(), bytes].concat()
}

#[tokio::test(flavor = "multi_thread")]
async fn one_port_routes_by_what_the_client_speaks_and_replays_it() {
    let bed = Bed::start().await;
    let endpoint = shared(&bed).await;
    let http = |host: &str| format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n").into_bytes();
    let cases = [
        ("a:", client_hello("a.example", 0)),
        ("b:", client_hello("b.example", 0)),
        ("rest:", client_hello("c.example", 0)),
        ("ssh:", b"SSH-2.0-OpenSSH_9.9\r\n".to_vec()),
        ("www:", http("www.example")),
        ("rest:", http("other.example")),
        ("rest:", b"\xff\xfe\xfdsomething else".to_vec()),
        ("rest:", Vec::new()),
    ];
    for (tag, bytes) in cases {
        let answer = exchange(bed.connect(&endpoint).await, &bytes).await;
        assert_eq!(answer, answered(tag, &bytes));
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_that_comes_byte_by_byte_is_read_whole() {
    let bed = Bed::start().await;
    let endpoint = shared(&bed).await;
    let hello = client_hello("b.example", 0);
    let mut client = bed.connect(&endpoint).await;
    client.set_nodelay(true).expect("a socket");
    for byte in &hello {
        client.write_all(&[*byte]).await.expect("write");
        tokio::task::yield_now().await;
    }
    assert_eq!(exchange(client, b"").await, answered("b:", &hello));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hello_longer_than_an_open_takes_is_replayed_whole_and_counted_once() {
    let bed = Bed::start().await;
    let endpoint = shared(&bed).await;
    let (_, token) = bed.credential().await;
    let mut agent = Agent::connect(&bed, &Identity::new(1, token)).await;
    agent
        .bind("tcp://agent.internal:1", echo("agent:").await)
        .await;
    let over_agent = SHARED.replace("a.internal", "agent.internal");
    let over_agent = bed.cloud("tcp://", &over_agent).await;
    for (padding, record) in [
        (16_200, 16_384),
        (17_000, 16_384),
        (40_000, 512),
        (65_400, 65),
    ] {
        for (endpoint, tag) in [(&endpoint, "a:"), (&over_agent, "agent:")] {
            let hello = cut_hello("a.example", padding, record);
            let mut client = bed.connect(endpoint).await;
            client.write_all(&hello).await.expect("write");
            let mut answer = vec![0; tag.len() + hello.len()];
            soon("the answer", client.read_exact(&mut answer))
                .await
                .expect("an answer");
            assert!(answer == answered(tag, &hello), "{tag} {padding}");
            let live = bed.records.live().views();
            let moved: Vec<_> = live.iter().map(|live| live.bytes_in).collect();
            assert_eq!(moved, [hello.len() as u64], "{tag} {padding}");
            let rest = exchange(client, b"and more").await;
            assert_eq!(rest, b"and more");
            eventually("it is over", || bed.records.metrics().count_open() == 0).await;
        }
    }
    agent.goodbye().await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_is_told_to_the_next_target_when_the_first_cannot_be_reached() {
    let bed = Bed::start().await;
    bed.direct("tcp://down.internal:1", nobody().await).await;
    bed.direct("tcp://up.internal:1", echo("up:").await).await;
    let policy = "
on_tcp_connect:
  - actions: [{type: sniff}]
  - expressions: [\"conn.protocol == 'ssh'\"]
    actions:
      - {type: forward-internal, config: {url: 'tcp://down.internal:1', on_error: continue}}
      - {type: forward-internal, config: {url: 'tcp://up.internal:1'}}
  - actions: [{type: deny}]
";
    let endpoint = bed.cloud("tcp://", policy).await;
    let answer = exchange(bed.connect(&endpoint).await, b"SSH-2.0-x\r\n").await;
    assert_eq!(answer, b"up:SSH-2.0-x\r\n");
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_for_encryption_of_postgresql_are_answered_and_not_replayed() {
    let bed = Bed::start().await;
    let endpoint = shared(&bed).await;
    let mut client = bed.connect(&endpoint).await;
    for (last, answer) in [(48, "N"), (47, "S")] {
        let asks = [0, 0, 0, 8, 4, 210, 22, last];
        client.write_all(&asks).await.expect("write");
        assert_eq!(greeting(&mut client, 1).await, answer);
    }
    let content = [&[0, 3, 0, 0][..], b"user\0me\0\0"].concat();
    let length = u32::try_from(content.len() + 4).expect("short");
    let startup = [&length.to_be_bytes()[..], &content].concat();
    assert_eq!(exchange(client, &startup).await, answered("pg:", &startup));
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_speaks_first_waits_for_nobody_unless_a_rule_asks() {
    let bed = Bed::start().await;
    let policy = "
on_tcp_connect:
  - expressions: [\"conn.client_ip.startsWith('127.')\"]
    actions: [{type: set-vars, config: {vars: [{from: here}]}}]
";
    let change = |spec: &mut portcullis_store::DirectSpec| {
        policy.clone_into(&mut spec.traffic_policy);
    };
    let upstream = echo("first").await;
    let endpoint = bed.direct_with("tcp://", upstream, change).await;
    // Nothing is said before the greeting.
    let mut client = bed.connect(&endpoint).await;
    assert_eq!(greeting(&mut client, 5).await, "first");
    drop(client);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_is_an_answer_to_sniff_and_ends_who_owes_a_request() {
    let bed = Bed::with(|config| config.limits.connect_timeout = Duration::from_millis(500)).await;
    bed.direct("tcp://rest.internal:1", echo("rest:").await)
        .await;
    let sniffs = "
on_tcp_connect:
  - actions: [{type: sniff, config: {timeout: 50ms}}]
  - expressions: [\"conn.protocol == 'unknown'\"]
    actions: [{type: forward-internal, config: {url: 'tcp://rest.internal:1'}}]
  - actions: [{type: deny}]
";
    let sniffs = bed.cloud("tcp://", sniffs).await;
    let mut client = bed.connect(&sniffs).await;
    assert_eq!(greeting(&mut client, 5).await, "rest:");
    drop(client);

    let waits = bed.cloud("tcp://", HELLO).await;
    assert_reset(&mut bed.connect(&waits).await).await;
    let mut half = bed.connect(&waits).await;
    half.write_all(b"GET / HT").await.expect("write");
    assert_reset(&mut half).await;
    eventually("both were too late", || {
        bed.records
            .metrics()
            .count_closed(CloseReason::RequestTimeout)
            == 2
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_while_it_is_waited_for_is_its_own_reason_and_who_is_ended_is_the_operators() {
    let bed = Bed::start().await;
    let endpoint = bed.cloud("tcp://", HELLO).await;
    let client = bed.connect(&endpoint).await;
    eventually("it is there", || bed.records.metrics().count_open() == 1).await;
    client.set_zero_linger().expect("a socket");
    drop(client);
    bed.closed(CloseReason::ClientReset).await;

    let mut client = bed.connect(&endpoint).await;
    eventually("it is there", || bed.records.metrics().count_open() == 1).await;
    for live in bed.records.live().views() {
        bed.records
            .live()
            .end(&live.id, CloseReason::EndedByOperator);
    }
    assert_reset(&mut client).await;
    bed.closed(CloseReason::EndedByOperator).await;
    bed.finish().await;
}

const HELLO: &str = "
on_http_request:
  - actions:
      - type: custom-response
        config:
          status_code: 200
          headers: {content-type: text/plain}
          body: 'Hello world!'
";

async fn ask(bed: &Bed, endpoint: &Endpoint, request: &[u8]) -> String {
    let mut client = bed.connect(endpoint).await;
    client.write_all(request).await.expect("write");
    let mut answer = Vec::new();
    // The client ends only behind the answer, as curl does.
    soon("the answer's end", client.read_to_end(&mut answer))
        .await
        .expect("a clean end");
    String::from_utf8(answer).expect("text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_is_answered_by_the_policy() {
    let bed = Bed::start().await;
    let endpoint = bed.cloud("tcp://", HELLO).await;
    let answer = ask(&bed, &endpoint, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\nHello world!"), "{answer}");
    assert!(answer.to_lowercase().contains("connection: close\r\n"));
    let answer = ask(&bed, &endpoint, b"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(answer.ends_with("\r\n\r\n"), "no body: {answer}");
    // What is still on its way when the answer goes out must not make a reset of it.
    let head = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 300000\r\n\r\n";
    let post = [head.as_bytes(), &[b'x'; 300_000]].concat();
    let answer = ask(&bed, &endpoint, &post).await;
    assert!(answer.ends_with("Hello world!"), "{answer}");
    eventually("all were answered", || {
        bed.records
            .metrics()
            .count_closed(CloseReason::PolicyResponded)
            == 3
    })
    .await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_speaks_no_http_gets_no_answer_of_http() {
    let bed = Bed::start().await;
    let endpoint = bed.cloud("tcp://", HELLO).await;
    let mut client = bed.connect(&endpoint).await;
    client.write_all(b"SSH-2.0-x\r\n").await.expect("write");
    assert_eq!(ending(&mut client).await.ok(), Some(0), "FIN, and no byte");
    bed.closed(CloseReason::NotHttp).await;
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_names_the_request_does_not_match_what_is_none() {
    let bed = Bed::start().await;
    bed.direct("tcp://api.internal:1", echo("api:").await).await;
    bed.direct("tcp://rest.internal:1", echo("rest:").await)
        .await;
    let policy = "
on_http_request:
  - expressions: [\"req.path.startsWith('/api')\"]
    actions: [{type: forward-internal, config: {url: 'tcp://api.internal:1'}}]
  - actions: [{type: forward-internal, config: {url: 'tcp://rest.internal:1'}}]
";
    let endpoint = bed.cloud("tcp://", policy).await;
    let request = b"GET /api/x HTTP/1.1\r\nHost: x\r\n\r\nbehind";
    let pg = [&[0, 0, 0, 17, 0, 3, 0, 0][..], b"user\0me\0\0"].concat();
    for (tag, bytes) in [("api:", &request[..]), ("rest:", &pg), ("rest:", b"")] {
        let answer = exchange(bed.connect(&endpoint).await, bytes).await;
        assert_eq!(answer, answered(tag, bytes));
    }
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forward_in_the_phase_of_requests_waits_for_none() {
    let bed = Bed::start().await;
    bed.direct("tcp://example-service.internal:8443", echo("db:").await)
        .await;
    let policy = "
on_http_request:
  - actions:
      - type: forward-internal
        config: {url: 'tcp://example-service.internal:8443'}
";
    let endpoint = bed.cloud("tcp://", policy).await;
    let mut client = bed.connect(&endpoint).await;
    assert_eq!(greeting(&mut client, 3).await, "db:");
    drop(client);
    bed.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_notice_is_written_and_survives_what_the_client_says() {
    let bed = Bed::start().await;
    let policy = "
on_tcp_connect:
  - actions: [{type: custom-response, config: {text: \"down for maintenance\\n\"}}]
";
    let endpoint = bed.cloud("tcp://", policy).await;
    let at: SocketAddr = bed.address(&endpoint);
    let mut client: TcpStream = dial(at);
    client.write_all(&[b'x'; 100_000]).await.expect("write");
    let mut answer = String::new();
    soon("the notice", client.read_to_string(&mut answer))
        .await
        .expect("a clean end");
    assert_eq!(answer, "down for maintenance\n");
    drop(client);
    bed.closed(CloseReason::PolicyResponded).await;
    bed.finish().await;
}

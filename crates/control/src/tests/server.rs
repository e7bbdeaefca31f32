//! The listener: plain HTTP on loopback, TLS elsewhere, bounded heads, a shutdown that waits.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use portcullis_model::Code;
use portcullis_telemetry::Records;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::Api;
use super::harness::FakeNode;
use crate::{Control, ControlConfig, ControlHandle, Tls};

async fn start(api: &Api, config: ControlConfig) -> ControlHandle {
    Control::start(
        config,
        api.registry.clone(),
        Arc::new(FakeNode::default()),
        Records::new(),
    )
    .await
    .expect("it starts")
}

async fn exchange(addr: SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(addr).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
    read.await.expect("the server closes").unwrap();
    String::from_utf8(answer).unwrap()
}

#[tokio::test]
async fn it_answers_on_loopback() {
    let api = Api::start().await;
    let handle = start(&api, ControlConfig::new("n", "eu")).await;
    let request = format!(
        "GET /credentials HTTP/1.1\r\nHost: {}\r\nNgrok-Version: 2\r\nAuthorization: Bearer {}\r\nConnection: close\r\n\r\n",
        handle.addr, api.admin
    );
    let answer = exchange(handle.addr, request.as_bytes()).await;
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    assert!(
        answer.contains(&format!("\"uri\":\"http://{}/credentials\"", handle.addr)),
        "{answer}"
    );
    assert_eq!(handle.url(), format!("http://{}", handle.addr));
}

#[tokio::test]
async fn beyond_loopback_it_needs_tls() {
    let api = Api::start().await;
    let mut config = ControlConfig::new("n", "eu");
    config.listen = "0.0.0.0:0".parse().unwrap();
    let refused = Control::start(
        config,
        api.registry.clone(),
        Arc::new(FakeNode::default()),
        Records::new(),
    )
    .await;
    assert_eq!(refused.expect_err("no TLS").code, Code::ApiNeedsTls);
}

#[tokio::test]
async fn a_taken_port_is_told() {
    let api = Api::start().await;
    let handle = start(&api, ControlConfig::new("n", "eu")).await;
    let mut config = ControlConfig::new("n", "eu");
    config.listen = handle.addr;
    let refused = Control::start(
        config,
        api.registry.clone(),
        Arc::new(FakeNode::default()),
        Records::new(),
    )
    .await;
    assert_eq!(refused.expect_err("taken").code, Code::PortTaken);
}

#[tokio::test]
async fn a_head_without_end_is_refused() {
    let api = Api::start().await;
    let handle = start(&api, ControlConfig::new("n", "eu")).await;
    let huge = format!("GET / HTTP/1.1\r\nX-Long: {}\r\n\r\n", "x".repeat(200_000));
    let mut stream = TcpStream::connect(handle.addr).await.unwrap();
    // The server may hang up before it has read all of it.
    drop(stream.write_all(huge.as_bytes()).await);
    let mut answer = Vec::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await;
    assert!(read.is_ok(), "the server closes");
    let answer = String::from_utf8_lossy(&answer);
    assert!(
        answer.is_empty() || answer.starts_with("HTTP/1.1 431"),
        "{answer}"
    );
}

#[tokio::test]
async fn a_shutdown_closes_idle_connections_and_the_listener() {
    let api = Api::start().await;
    let handle = start(&api, ControlConfig::new("n", "eu")).await;
    let addr = handle.addr;
    let mut idle = TcpStream::connect(addr).await.unwrap();
    idle.write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        .await
        .unwrap();
    let mut first = [0_u8; 15];
    idle.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 200 OK");
    tokio::time::timeout(
        Duration::from_secs(10),
        handle.shutdown(Duration::from_secs(30)),
    )
    .await
    .expect("no waiting");
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(TcpStream::connect(addr).await.is_err());
}

#[tokio::test]
async fn it_speaks_tls_with_the_servers_own_ca() {
    use portcullis_net::seal::MasterKey;
    use portcullis_net::tls::{self, CertAuthority, Trust};
    let api = Api::start().await;
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
    let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    let pin = authority.pin();
    let mut config = ControlConfig::new("n", "eu");
    config.tls = Tls::OwnCa {
        authority,
        names: vec!["localhost".to_owned()],
        ips: vec!["127.0.0.1".parse().unwrap()],
    };
    let handle = start(&api, config).await;
    assert!(handle.tls && handle.url().starts_with("https://"));
    let mut client = (*tls::client_config(&Trust::Pin(pin)).unwrap()).clone();
    client.alpn_protocols.clear();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(client));
    let tcp = TcpStream::connect(handle.addr).await.unwrap();
    let mut stream = connector
        .connect("localhost".try_into().unwrap(), tcp)
        .await
        .expect("the pinned CA");
    stream
        .write_all(b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 OK"));
}

#[tokio::test]
async fn silent_clients_cost_a_bounded_time() {
    let api = Api::start().await;
    let mut config = ControlConfig::new("n", "eu");
    config.head_timeout = Duration::from_millis(100);
    config.request_timeout = Duration::from_millis(100);
    let handle = start(&api, config).await;
    let silent = exchange(handle.addr, b"").await;
    assert!(
        silent.is_empty() || silent.starts_with("HTTP/1.1 408"),
        "{silent}"
    );
    let half_a_head = exchange(handle.addr, b"GET / HTTP/1.1\r\nHost:").await;
    assert!(
        half_a_head.is_empty() || half_a_head.starts_with("HTTP/1.1 408"),
        "{half_a_head}"
    );
    let idle = exchange(handle.addr, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(idle.starts_with("HTTP/1.1 200"), "{idle}");
    let no_body = format!(
        "POST /credentials HTTP/1.1\r\nHost: x\r\nNgrok-Version: 2\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{{",
        api.admin
    );
    let no_body = exchange(handle.addr, no_body.as_bytes()).await;
    assert!(
        no_body.starts_with("HTTP/1.1 504") && no_body.contains("PTC_API_TIMEOUT"),
        "{no_body}"
    );
}

#[tokio::test]
async fn a_shutdown_cuts_what_takes_too_long() {
    let api = Api::start().await;
    let handle = start(&api, ControlConfig::new("n", "eu")).await;
    let mut stuck = TcpStream::connect(handle.addr).await.unwrap();
    let head = format!(
        "POST /credentials HTTP/1.1\r\nHost: x\r\nNgrok-Version: 2\r\nAuthorization: Bearer {}\r\n\
         Content-Type: application/json\r\nContent-Length: 100\r\nExpect: 100-continue\r\n\r\n",
        api.admin
    );
    stuck.write_all(head.as_bytes()).await.unwrap();
    // The server asks for the body once the request is under way.
    let mut go_on = [0_u8; 12];
    stuck.read_exact(&mut go_on).await.unwrap();
    assert_eq!(&go_on, b"HTTP/1.1 100");
    let stopped = tokio::time::timeout(
        Duration::from_secs(10),
        handle.shutdown(Duration::from_millis(50)),
    );
    stopped.await.expect("the grace is bounded");
    let mut rest = Vec::new();
    let closed = tokio::time::timeout(Duration::from_secs(10), stuck.read_to_end(&mut rest)).await;
    assert!(closed.is_ok(), "it is closed, by FIN or RST");
}

#[tokio::test]
async fn certificate_files_that_cannot_be_used_are_named() {
    let api = Api::start().await;
    let dir = tempfile::tempdir().unwrap();
    let cert = dir.path().join("cert.pem");
    std::fs::write(&cert, "no certificate").unwrap();
    let mut config = ControlConfig::new("n", "eu");
    config.tls = Tls::Files {
        key: cert.clone(),
        cert,
    };
    let refused = Control::start(
        config,
        api.registry.clone(),
        Arc::new(FakeNode::default()),
        Records::new(),
    )
    .await;
    let error = refused.expect_err("no certificate in it");
    assert_eq!(error.code, Code::CertificateInvalid);
    assert!(error.message.contains("cert.pem"), "{error}");
}

#[tokio::test]
async fn who_reads_no_answers_loses_its_place() {
    let api = Api::start().await;
    let mut config = ControlConfig::new("n", "eu");
    config.connections_max = 1;
    config.stall_timeout = Duration::from_millis(300);
    let handle = start(&api, config).await;
    let mut deaf = TcpStream::connect(handle.addr).await.unwrap();
    let many = b"GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(200);
    deaf.write_all(&many).await.unwrap();
    let freed = async {
        while !is_served(handle.addr).await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let freed = tokio::time::timeout(Duration::from_secs(20), freed).await;
    assert!(freed.is_ok(), "the deaf client keeps its place");
    drop(deaf);
}

/// Whether a client that comes now finds a place.
async fn is_served(addr: SocketAddr) -> bool {
    let exchange = async {
        let mut stream = TcpStream::connect(addr).await?;
        let request = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        stream.write_all(request).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer.starts_with(b"HTTP/1.1 200"))
    };
    let served = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    matches!(served, Ok(Ok(true)))
}

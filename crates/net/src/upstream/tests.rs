//! The text of upstreams, and dialling real ones.

use std::future::poll_fn;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use portcullis_model::Code;
use proptest::prelude::*;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, UnixListener};
use tokio::time::Instant;
use tokio_rustls::TlsAcceptor;

use super::*;
use crate::relay::RelayIo as _;
use crate::resolve::Resolver;
use crate::resolve::tests::NameServer;
use crate::seal::MasterKey;
use crate::socket::reset_on_drop;
use crate::testing::{SOON, read_all, soon};
use crate::tls::{CertAuthority, Purpose, server_config};

fn upstream(text: &str) -> Upstream {
    text.parse().unwrap()
}

#[test]
fn every_form_is_read_and_printed_in_one() {
    for (text, printed) in [
        ("5432", "tcp://localhost:5432"),
        (" DB.example:5432 ", "tcp://db.example:5432"),
        ("10.0.0.7:22", "tcp://10.0.0.7:22"),
        ("tcp://[2001:DB8::1]:22", "tcp://[2001:db8::1]:22"),
        ("tls://db.example:5432", "tls://db.example:5432"),
        (
            "tls://h:1?server_name=x.example&verify=false",
            "tls://h:1?verify=false&server_name=x.example",
        ),
        (
            "tls://h:1?ca_file=/etc/ca.pem",
            "tls://h:1?ca_file=/etc/ca.pem",
        ),
        ("tls://h:1?verify=true", "tls://h:1"),
        ("unix:/run/db.sock", "unix:/run/db.sock"),
        ("unix:///run/db.sock", "unix:/run/db.sock"),
        ("srv:_pg._tcp.example", "srv:_pg._tcp.example"),
        ("tcp://_pg._tcp.example", "srv:_pg._tcp.example"),
        ("tls://_pg._tcp.example", "tls://_pg._tcp.example"),
    ] {
        assert_eq!(upstream(text).to_string(), printed);
        assert_eq!(upstream(printed), upstream(text));
    }
}

#[test]
fn what_is_wrong_is_said() {
    for (text, why) in [
        ("", "the port is missing"),
        ("db.example", "the port is missing"),
        ("db.example:", "the port is missing"),
        ("0", "not a port"),
        ("70000", "not a port"),
        ("h:+80", "not a port"),
        (":80", "the host is missing"),
        ("2001:db8::1", "brackets"),
        ("a:b:1", "more than one `:`"),
        ("[::1]", "the port is missing"),
        ("[::1:80", "`]` is missing"),
        ("[nonsense]:80", "not an IPv6 address"),
        ("10.0.0.256:80", "not an IPv4 address"),
        ("http://h:80", "write `tcp://h:80`"),
        ("tcp://h:80/path", "`/`"),
        ("tcp://u@h:80", "`@`"),
        ("tcp://h:80?verify=false", "no options"),
        ("tls://h:80?verfy=false", "is not an option"),
        ("tls://h:80?verify=no", "true or false"),
        ("tls://h:80?ca_file=ca.pem", "absolute"),
        ("tls://h:80?verify=false&ca_file=/c", "no use"),
        ("tls://h:80?verify=true&verify=false", "twice"),
        ("unix:run/db.sock", "absolute"),
        ("a b:80", "not a host name"),
        ("h:80\n:1", "control characters"),
    ] {
        let error = text.parse::<Upstream>().unwrap_err();
        assert_eq!(error.code, Code::UpstreamInvalid);
        assert!(error.message.contains(why), "{text}: {error}");
    }
    assert!("a".repeat(3000).parse::<Upstream>().is_err());
}

proptest! {
    #[test]
    fn arbitrary_text_is_read_or_refused(text in "\\PC{0,60}") {
        if let Ok(upstream) = text.parse::<Upstream>() {
            prop_assert_eq!(upstream.to_string().parse(), Ok(upstream));
        }
    }

    #[test]
    fn likely_text_survives_a_round_trip(
        scheme in "(tcp://|tls://|srv:|unix:|)", host in "[a-z0-9_.\\-\\[\\]:/]{0,20}", port in "(:[0-9]{0,6}|)", options in "(\\?[a-z_=/&.]{0,20}|)",
    ) {
        if let Ok(upstream) = format!("{scheme}{host}{port}{options}").parse::<Upstream>() {
            prop_assert_eq!(upstream.to_string().parse(), Ok(upstream));
        }
    }
}

/// A server that answers every connection with what it got until its end, once.
async fn echo() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    crate::task::spawn("echo", async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let (got, _) = read_all(&mut stream).await;
            drop(stream.write_all(&got).await);
        }
    });
    addr
}

async fn dial_to(
    text: &str,
    resolver: &Resolver,
) -> Result<UpstreamStream, portcullis_model::Error> {
    soon(
        "the dial",
        dial(&upstream(text), resolver, Instant::now() + SOON, None),
    )
    .await
}

async fn assert_echo(mut stream: UpstreamStream, prefix: &[u8]) {
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let (got, end) = soon("the echo", read_all(&mut stream)).await;
    end.unwrap();
    assert_eq!(got, [prefix, b"hello"].concat());
}

#[tokio::test]
async fn tcp_and_unix_are_dialled_with_the_header_first() {
    let resolver = Resolver::system().unwrap();
    let addr = echo().await;
    let header = b"PROXY UNKNOWN\r\n";
    let deadline = Instant::now() + SOON;
    let stream = dial(
        &upstream(&addr.to_string()),
        &resolver,
        deadline,
        Some(header),
    )
    .await
    .unwrap();
    assert_eq!(stream.as_tcp().unwrap().peer_addr().unwrap(), addr);
    assert_echo(stream, header).await;

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("s");
    let listener = UnixListener::bind(&path).unwrap();
    crate::task::spawn("echo", async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let (got, _) = read_all(&mut stream).await;
        stream.write_all(&got).await.unwrap();
    });
    let text = format!("unix:{}", path.display());
    let stream = dial(&upstream(&text), &resolver, deadline, Some(header))
        .await
        .unwrap();
    assert_echo(stream, header).await;
    let gone = dial_to(&format!("unix:{}/none", dir.path().display()), &resolver)
        .await
        .unwrap_err();
    assert_eq!(gone.code, Code::UpstreamUnreachable);
}

#[tokio::test]
async fn each_failure_has_its_code() {
    let resolver = Resolver::system().unwrap();
    let closed = TcpListener::bind("127.0.0.1:0")
        .await
        .unwrap()
        .local_addr()
        .unwrap();
    assert_eq!(
        dial_to(&closed.to_string(), &resolver)
            .await
            .unwrap_err()
            .code,
        Code::UpstreamRefused
    );

    let server = NameServer::start(60).await;
    let names = Resolver::with_server(server.addr).unwrap();
    assert_eq!(
        dial_to("no.example.:1", &names).await.unwrap_err().code,
        Code::UpstreamUnresolved
    );

    // A listener whose queue is full does not answer.
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::new(Ipv4Addr::LOCALHOST.into(), 0).into())
        .unwrap();
    socket.listen(0).unwrap();
    let silent = socket.local_addr().unwrap().as_socket().unwrap();
    let _fills = tokio::net::TcpStream::connect(silent).await.unwrap();
    let late = Instant::now() + Duration::from_millis(100);
    let error = dial(&upstream(&silent.to_string()), &resolver, late, None)
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::UpstreamTimeout);
}

#[tokio::test]
async fn the_next_address_is_tried() {
    let addr = echo().await;
    let server = NameServer::start(60).await;
    // Nobody listens on 127.0.0.2 at that port.
    server.put_addresses("db.example", &["127.0.0.2".parse().unwrap(), addr.ip()]);
    server.put_service(
        "_db._tcp.example",
        &[(1, 0, 1, "db.example"), (2, 0, addr.port(), "db.example")],
    );
    let names = Resolver::with_server(server.addr).unwrap();
    let stream = dial_to(&format!("db.example.:{}", addr.port()), &names)
        .await
        .unwrap();
    assert_eq!(stream.as_tcp().unwrap().peer_addr().unwrap(), addr);
    assert_echo(stream, b"").await;
    let stream = dial_to("srv:_db._tcp.example.", &names).await.unwrap();
    assert_echo(stream, b"").await;
}

/// A TLS server for `localhost` and `db.example`, of a CA in the directory.
async fn tls_echo(cut: bool) -> (SocketAddr, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
    let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    let names = ["localhost".to_owned(), "db.example".to_owned()];
    let acceptor =
        TlsAcceptor::from(server_config(&authority, &names, &[], Purpose::Http).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    crate::task::spawn("tls echo", async move {
        while let Ok((stream, _)) = listener.accept().await {
            let Ok(mut stream) = acceptor.accept(stream).await else {
                continue;
            };
            let (got, _) = read_all(&mut stream).await;
            drop(stream.write_all(&got).await);
            drop(stream.flush().await);
            if !cut {
                drop(stream.shutdown().await);
            }
        }
    });
    (addr, dir)
}

#[tokio::test]
async fn tls_is_verified_unless_told_otherwise() {
    let resolver = Resolver::system().unwrap();
    let (addr, dir) = tls_echo(false).await;
    let (port, ca) = (addr.port(), dir.path().join("ca.pem"));
    let unknown = dial_to(&format!("tls://localhost:{port}"), &resolver)
        .await
        .unwrap_err();
    assert_eq!(unknown.code, Code::UpstreamTls);
    let with_ca = format!("tls://localhost:{port}?ca_file={}", ca.display());
    assert_echo(dial_to(&with_ca, &resolver).await.unwrap(), b"").await;
    let other_name = format!("tls://127.0.0.1:{port}?ca_file={}", ca.display());
    assert_eq!(
        dial_to(&other_name, &resolver).await.unwrap_err().code,
        Code::UpstreamTls
    );
    let named = format!("{other_name}&server_name=db.example");
    assert_echo(dial_to(&named, &resolver).await.unwrap(), b"").await;
    let unverified = format!("tls://127.0.0.1:{port}?verify=false");
    assert_echo(dial_to(&unverified, &resolver).await.unwrap(), b"").await;
}

#[tokio::test]
async fn a_cut_tls_stream_is_no_end() {
    let resolver = Resolver::system().unwrap();
    let (addr, _dir) = tls_echo(true).await;
    let text = format!("tls://127.0.0.1:{}?verify=false", addr.port());
    let mut stream = dial_to(&text, &resolver).await.unwrap();
    stream.write_all(b"hello").await.unwrap();
    stream.shutdown().await.unwrap();
    let (got, end) = soon("the end", read_all(&mut stream)).await;
    assert_eq!(got, b"hello");
    assert_eq!(end.unwrap_err().kind(), std::io::ErrorKind::UnexpectedEof);
}

/// Its reset must show even while nobody reads.
#[tokio::test]
async fn a_reset_of_a_tls_upstream_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
    let authority = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    let acceptor = TlsAcceptor::from(server_config(&authority, &[], &[], Purpose::Http).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    crate::task::spawn("tls", async move {
        let stream = acceptor
            .accept(listener.accept().await.unwrap().0)
            .await
            .unwrap();
        reset_on_drop(stream.get_ref().0);
    });
    let resolver = Resolver::system().unwrap();
    let mut stream = dial_to(&format!("tls://{addr}?verify=false"), &resolver)
        .await
        .unwrap();
    let error = soon("the reset", poll_fn(|cx| stream.poll_broken(cx))).await;
    assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
}

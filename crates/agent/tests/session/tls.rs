//! Clients whose TLS the agent terminates: ends, cuts, refusals, and the SDK's side of it.

use std::io::ErrorKind;
use std::sync::Arc;

use portcullis_agent::{EndpointOptions, PemSource, TlsTermination};
use portcullis_model::Code;
use portcullis_net::channel::TunnelStream;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::edge::{FakeEdge, Upstream, closed_port, soon};
use crate::{connect, status};

/// A CA, and a leaf and its key of it, all PEM.
struct Pki {
    ca: String,
    leaf: String,
    key: String,
}

fn pki(name: &str) -> Pki {
    let key = KeyPair::generate().expect("a key");
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let ca = params.self_signed(&key).expect("a CA").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let leaf = params.signed_by(&key, &issuer).expect("a leaf").pem();
    Pki {
        ca,
        leaf,
        key: key.serialize_pem(),
    }
}

fn text(pem: &str) -> PemSource {
    PemSource::Text(pem.to_owned().into())
}

fn options(server: &Pki, clients: Option<&Pki>) -> EndpointOptions {
    let mut tls = TlsTermination::new(text(&server.leaf), text(&server.key));
    if let Some(clients) = clients {
        tls = tls.client_authority(text(&clients.ca));
    }
    EndpointOptions::new().name("db").tls_termination(tls)
}

async fn shake<'a>(
    stream: &'a mut TunnelStream,
    server: &Pki,
    shows: Option<&Pki>,
) -> std::io::Result<TlsStream<&'a mut TunnelStream>> {
    let mut roots = RootCertStore::empty();
    let pem = |pem: &str| CertificateDer::from_pem_slice(pem.as_bytes()).expect("a certificate");
    roots.add(pem(&server.ca)).expect("a root");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("both versions")
        .with_root_certificates(roots);
    let config = match shows {
        None => builder.with_no_client_auth(),
        Some(own) => {
            let key = PrivateKeyDer::from_pem_slice(own.key.as_bytes()).expect("a key");
            builder
                .with_client_auth_cert(vec![pem(&own.leaf)], key)
                .expect("a pair")
        }
    };
    let name = ServerName::try_from("db.example").expect("a name");
    let connector = TlsConnector::from(Arc::new(config));
    soon("the handshake", connector.connect(name, stream)).await
}

#[tokio::test]
async fn half_close_keeps_the_other_direction_and_the_channel_lives() {
    let (edge, server) = (FakeEdge::start().await, pki("db.example"));
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let forwarder = agent.forward(options(&server, None), &url);
    let _forwarder = forwarder.await.expect("bound");
    let session = edge.session(0).await;
    for client_first in [true, false, true] {
        let mut client = session.open("db", b"").await.expect("opened");
        let mut tls = shake(&mut client.stream, &server, None).await.expect("TLS");
        let mut served = upstream.accept().await;
        let mut got = String::new();
        if client_first {
            tls.write_all(b"question").await.expect("sent");
            tls.get_mut().1.send_close_notify();
            tls.flush().await.expect("sent");
            soon("the question", served.read_to_string(&mut got))
                .await
                .expect("an end");
            assert_eq!(got, "question");
            served.write_all(b"answer").await.expect("open");
            served.shutdown().await.expect("ended");
            got.clear();
            soon("the answer", tls.read_to_string(&mut got))
                .await
                .expect("an end");
            assert_eq!(got, "answer");
        } else {
            served.shutdown().await.expect("ended");
            soon("the end", tls.read_to_string(&mut got))
                .await
                .expect("an end");
            tls.write_all(b"more").await.expect("open");
            tls.get_mut().1.send_close_notify();
            tls.flush().await.expect("sent");
            soon("more", served.read_to_string(&mut got))
                .await
                .expect("an end");
            assert_eq!(got, "more");
        }
        drop(tls);
        client.stream.shutdown().await.expect("ended");
        assert!(client.finish().await, "the channel is free again");
    }
    status(&agent, "all closed", |status| {
        status.connections.open == 0 && status.connections.opened == 3
    })
    .await;
}

#[tokio::test]
async fn a_cut_stream_reaches_the_upstream_as_a_reset() {
    let (edge, server) = (FakeEdge::start().await, pki("db.example"));
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let forwarder = agent.forward(options(&server, None), &url);
    let _forwarder = forwarder.await.expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("db", b"").await.expect("opened");
    let mut tls = shake(&mut client.stream, &server, None).await.expect("TLS");
    let mut served = upstream.accept().await;
    tls.write_all(b"half a ques").await.expect("sent");
    tls.flush().await.expect("sent");
    drop(tls);
    client
        .stream
        .shutdown()
        .await
        .expect("an end without close_notify");
    let mut got = Vec::new();
    let end = soon("a reset", served.read_to_end(&mut got)).await;
    assert_eq!(end.expect_err("cut").kind(), ErrorKind::ConnectionReset);
    assert!(client.stream.read(&mut [0; 8]).await.is_err());
}

#[tokio::test]
async fn a_client_without_certificate_is_refused_before_the_upstream_is_dialled() {
    let edge = FakeEdge::start().await;
    let (server, alice, mallory) = (pki("db.example"), pki("alice"), pki("mallory"));
    let agent = connect(&edge).await;
    let upstream = Upstream::start().await;
    let url = upstream.url();
    let forwarder = agent.forward(options(&server, Some(&alice)), &url);
    let _forwarder = forwarder.await.expect("bound");
    let session = edge.session(0).await;
    for shows in [None, Some(&mallory)] {
        let mut client = session.open("db", b"").await.expect("opened");
        // In TLS 1.3 the client's side is done before the certificate is looked at.
        if let Ok(mut tls) = shake(&mut client.stream, &server, shows).await {
            assert!(soon("a refusal", tls.read(&mut [0; 8])).await.is_err());
        }
        assert!(
            soon("a reset", client.stream.read(&mut [0; 64]))
                .await
                .is_err()
        );
        let why = client.stream.peer_reason().expect("it is told");
        assert_eq!(why.code, Code::TlsHandshake);
    }
    // What is not TLS at all, said before there was a stream.
    let mut client = session
        .open("db", b"GET / HTTP/1.1\r\n\r\n")
        .await
        .expect("opened");
    let mut alert = Vec::new();
    assert!(
        soon("a reset", client.stream.read_to_end(&mut alert))
            .await
            .is_err()
    );
    assert_eq!(alert.first(), Some(&21), "an alert");
    let mut client = session.open("db", b"").await.expect("opened");
    let mut tls = shake(&mut client.stream, &server, Some(&alice))
        .await
        .expect("TLS");
    let mut served = upstream.accept().await; // the first that it gets
    tls.write_all(b"alice").await.expect("sent");
    let mut got = [0; 5];
    soon("alice", served.read_exact(&mut got))
        .await
        .expect("there");
    assert_eq!(&got, b"alice");
    let after = status(&agent, "three failures", |status| {
        status.connections.failed == 3
    })
    .await;
    assert_eq!(after.connections.opened, 4);
}

#[tokio::test]
async fn an_upstream_that_is_not_there_is_told_by_a_reset() {
    let (edge, server) = (FakeEdge::start().await, pki("db.example"));
    let agent = connect(&edge).await;
    let closed = closed_port().await;
    let forwarder = agent.forward(options(&server, None), &closed);
    let _forwarder = forwarder.await.expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("db", b"").await.expect("opened");
    let mut tls = shake(&mut client.stream, &server, None).await.expect("TLS");
    assert!(soon("a reset", tls.read(&mut [0; 8])).await.is_err());
    drop(tls);
    let why = client.stream.peer_reason().expect("it is told");
    assert_eq!(why.code, Code::UpstreamRefused);
}

#[tokio::test]
async fn a_listener_is_given_the_plain_bytes_and_who_the_client_is() {
    let (edge, server, alice) = (FakeEdge::start().await, pki("db.example"), pki("alice"));
    let agent = connect(&edge).await;
    let listening = agent.listen(options(&server, Some(&alice)));
    let mut listener = listening.await.expect("bound");
    let session = edge.session(0).await;
    let mut client = session.open("db", b"").await.expect("opened");
    let mut tls = shake(&mut client.stream, &server, Some(&alice))
        .await
        .expect("TLS");
    let (mut conn, _) = soon("a connection", listener.accept()).await.expect("one");
    let handshake = conn.tls().expect("it is terminated").clone();
    assert_eq!(
        (handshake.sni.as_str(), handshake.version.as_str()),
        ("db.example", "1.3")
    );
    assert!(handshake.peer.is_some());
    tls.write_all(b"plain").await.expect("sent");
    let mut got = [0; 5];
    soon("plain", conn.read_exact(&mut got))
        .await
        .expect("there");
    assert_eq!(&got, b"plain");
    conn.write_all(b"bytes").await.expect("sent");
    tls.get_mut().1.send_close_notify();
    tls.flush().await.expect("sent");
    drop(conn); // ends what is open, cleanly
    let mut got = Vec::new();
    soon("bytes", tls.read_to_end(&mut got))
        .await
        .expect("an end");
    assert_eq!(got, b"bytes");
    drop(tls);
    client.stream.shutdown().await.expect("ended");
    assert!(client.finish().await);
}

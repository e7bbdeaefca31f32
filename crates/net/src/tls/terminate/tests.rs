//! Real handshakes over loopback: facts, strategies, splits, cuts and refusals.

use std::io;
use std::time::Duration;

use portcullis_model::Code;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls::client::{ResolvesClientCert, Resumption};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::relay::{Counters, RelayEnd, RelayIo as _, RelayLimits, Side, relay};
use crate::socket::TcpConn;
use crate::testing::{SOON, pattern, pipe, read_all, soon, tcp_pair};

/// A CA and what it issued.
struct Pki {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A chain and its key.
struct Issued {
    pem: String,
    key: KeyPair,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params
            .distinguished_name
            .push(DnType::CommonName, "test CA");
        let ca = params.self_signed(&key).unwrap();
        Self {
            pem: ca.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    fn issue(&self, name: &str) -> Issued {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        let pem = params.signed_by(&key, &self.issuer).unwrap().pem();
        Issued { pem, key }
    }
}

impl Issued {
    fn der(&self) -> Vec<u8> {
        pem_chain(self.pem.as_bytes()).unwrap()[0].to_vec()
    }

    fn identity(&self) -> ServerIdentity {
        ServerIdentity::Pem {
            certificate: self.pem.clone().into_bytes(),
            private_key: self.key.serialize_pem().into_bytes(),
        }
    }
}

fn setup(server: &Issued) -> Setup {
    Setup {
        only_13: false,
        only_12: false,
        identity: server.identity(),
        clients: None,
        alpn: Vec::new(),
    }
}

/// A client that trusts the CA.
fn client(ca: &Pki, shows: Option<&Issued>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    roots
        .add(pem_chain(ca.pem.as_bytes()).unwrap().remove(0))
        .unwrap();
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&BOTH)
        .unwrap()
        .with_root_certificates(roots);
    match shows {
        None => builder.with_no_client_auth(),
        Some(issued) => {
            let chain = pem_chain(issued.pem.as_bytes()).unwrap();
            let key = PrivatePkcs8KeyDer::from(issued.key.serialized_der().to_vec());
            builder
                .with_client_auth_cert(chain, PrivateKeyDer::from(key))
                .unwrap()
        }
    }
}

async fn connect(far: TcpStream, config: ClientConfig) -> io::Result<TlsStream<TcpStream>> {
    let name = ServerName::try_from("A.example").unwrap();
    TlsConnector::from(Arc::new(config))
        .connect(name, far)
        .await
}

type Ours = Result<(TlsServer<TcpConn>, Handshake), NotTerminated<TcpConn>>;

async fn shake(
    with: &Terminator,
    config: ClientConfig,
) -> (Ours, io::Result<TlsStream<TcpStream>>) {
    let (near, far) = tcp_pair().await;
    let ours = terminate(TcpConn::new(near), Vec::new(), with, Instant::now() + SOON);
    tokio::join!(ours, connect(far, config))
}

/// Both ends after a handshake.
async fn pair() -> (TlsServer<TcpConn>, TlsStream<TcpStream>) {
    let ca = Pki::new();
    let with = Terminator::new(&setup(&ca.issue("a.example"))).unwrap();
    let (ours, theirs) = shake(&with, client(&ca, None)).await;
    (ours.unwrap().0, theirs.unwrap())
}

#[tokio::test]
async fn a_handshake_tells_what_was_agreed() {
    let ca = Pki::new();
    let (server, alice) = (ca.issue("a.example"), ca.issue("alice"));
    for (only_12, version, suite) in [
        (false, "1.3", "TLS_AES_128_GCM_SHA256"),
        (true, "1.2", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"),
    ] {
        let with = Terminator::new(&Setup {
            only_12,
            clients: Some(ClientAuth {
                verification: ClientVerification::RequireAndVerify,
                authorities: vec![ca.pem.clone().into_bytes()],
            }),
            alpn: vec![b"postgresql".to_vec(), b"h2".to_vec()],
            ..setup(&server)
        })
        .unwrap();
        let mut config = client(&ca, Some(&alice));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (ours, theirs) = shake(&with, config).await;
        let (_, told) = ours.unwrap();
        theirs.unwrap();
        assert_eq!(told.version, version);
        assert_eq!(told.cipher_suite, suite);
        assert_eq!((told.sni.as_str(), told.alpn.as_str()), ("a.example", "h2"));
        assert_eq!(told.peer, Some(alice.der()));
        assert_eq!(told.server, Some(server.der()));
    }
}

#[tokio::test]
async fn versions_are_kept_to() {
    let ca = Pki::new();
    let server = ca.issue("a.example");
    let with = |only_12, only_13| {
        Terminator::new(&Setup {
            only_12,
            only_13,
            ..setup(&server)
        })
    };
    let mut old = client(&ca, None);
    old = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&ONLY_12)
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(crate::tls::verify::Verifier::none(Arc::clone(
            old.crypto_provider(),
        )))
        .with_no_client_auth();
    let (ours, theirs) = shake(&with(false, true).unwrap(), old.clone()).await;
    assert_eq!(ours.unwrap_err().error.code, Code::TlsHandshake);
    theirs.unwrap_err();
    let (ours, _) = shake(&with(false, false).unwrap(), old).await;
    assert_eq!(ours.unwrap().1.version, "1.2");
    assert_eq!(with(true, true).unwrap_err().code, Code::CertificateInvalid);
}

/// Which clients get in with each strategy, in both versions.
#[tokio::test]
async fn strategies_decide_who_gets_in() {
    use ClientVerification::{Request, RequireAndVerify, RequireAny};
    let (ca, foreign) = (Pki::new(), Pki::new());
    let server = ca.issue("a.example");
    let (known, stranger) = (ca.issue("alice"), foreign.issue("mallory"));
    for (verification, none, of_ours, of_others) in [
        (RequireAndVerify, false, true, false),
        (RequireAny, false, true, true),
        (Request, true, true, true),
    ] {
        for only_12 in [false, true] {
            let with = Terminator::new(&Setup {
                only_12,
                clients: Some(ClientAuth {
                    verification,
                    authorities: vec![ca.pem.clone().into_bytes()],
                }),
                ..setup(&server)
            })
            .unwrap();
            for (shows, gets_in) in [
                (None, none),
                (Some(&known), of_ours),
                (Some(&stranger), of_others),
            ] {
                let (ours, _theirs) = shake(&with, client(&ca, shows)).await;
                match ours {
                    Ok((_, told)) => {
                        assert!(gets_in, "{verification:?}");
                        assert_eq!(told.peer, shows.map(Issued::der));
                    }
                    Err(refused) => {
                        assert!(!gets_in, "{verification:?}: {refused:?}");
                        assert_eq!(refused.error.code, Code::TlsHandshake);
                        assert!(refused.io.is_some());
                    }
                }
            }
        }
    }
}

/// Shows a certificate and signs with a key of its own.
#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn no_strategy_takes_a_certificate_without_its_key() {
    use ClientVerification::{Request, RequireAndVerify, RequireAny};
    let ca = Pki::new();
    let (server, alice, own) = (ca.issue("a.example"), ca.issue("alice"), ca.issue("thief"));
    let key = certified(own.pem.as_bytes(), own.key.serialize_pem().as_bytes()).unwrap();
    let stolen = pem_chain(alice.pem.as_bytes()).unwrap();
    let thief = Arc::new(Thief(Arc::new(CertifiedKey::new(stolen, key.key))));
    for verification in [RequireAndVerify, RequireAny, Request] {
        for only_12 in [false, true] {
            let with = Terminator::new(&Setup {
                only_12,
                clients: Some(ClientAuth {
                    verification,
                    authorities: vec![ca.pem.clone().into_bytes()],
                }),
                ..setup(&server)
            })
            .unwrap();
            let mut config = client(&ca, None);
            config.client_auth_cert_resolver = Arc::clone(&thief) as _;
            let (ours, _) = shake(&with, config).await;
            assert_eq!(ours.unwrap_err().error.code, Code::TlsHandshake);
        }
    }
}

/// A resumed session would go past the client's certificate.
#[tokio::test]
async fn no_session_is_resumed() {
    let ca = Pki::new();
    for only_12 in [false, true] {
        let with = Terminator::new(&Setup {
            only_12,
            ..setup(&ca.issue("a.example"))
        })
        .unwrap();
        let mut config = client(&ca, None);
        config.resumption = Resumption::in_memory_sessions(8);
        for _ in 0..2 {
            let (ours, theirs) = shake(&with, config.clone()).await;
            let (mut ours, mut theirs) = (ours.unwrap().0, theirs.unwrap());
            ours.write_all(b"x").await.unwrap(); // tickets would come in front of it
            soon("x", theirs.read_u8()).await.unwrap();
            let kind = theirs.get_ref().1.handshake_kind();
            assert_eq!(kind, Some(rustls::HandshakeKind::Full));
        }
    }
}

#[tokio::test]
async fn bytes_read_ahead_may_end_anywhere() {
    let ca = Pki::new();
    let with = Terminator::new(&setup(&ca.issue("a.example"))).unwrap();
    let mut ahead_max = 1;
    let mut split = 0;
    while split <= ahead_max {
        let (mut near, far) = tcp_pair().await;
        let theirs = crate::task::spawn("client", connect(far, client(&ca, None)));
        // The whole ClientHello is one record: its length says how far ahead one can read.
        let mut head = [0; 5];
        soon("a head", async {
            while near.peek(&mut head).await.unwrap() < 5 {}
        })
        .await;
        ahead_max = 5 + usize::from(u16::from_be_bytes([head[3], head[4]]));
        let mut ahead = vec![0; split];
        soon("bytes ahead", near.read_exact(&mut ahead))
            .await
            .unwrap();
        let ours = terminate(TcpConn::new(near), ahead, &with, Instant::now() + SOON).await;
        let (mut ours, mut theirs) = (ours.unwrap().0, theirs.await.unwrap().unwrap());
        theirs.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        soon("hello", ours.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"hello");
        split += 1 + ahead_max / 300;
    }
    assert!(split > 100);
}

#[tokio::test]
async fn what_is_not_tls_is_answered_with_an_alert() {
    let ca = Pki::new();
    let with = Terminator::new(&setup(&ca.issue("a.example"))).unwrap();
    let garbage = pattern(70 * 1024, 3);
    for ahead in [b"GET / HTTP/1.1\r\n\r\n".to_vec(), garbage] {
        let (near, mut far) = tcp_pair().await;
        let refused = terminate(TcpConn::new(near), ahead, &with, Instant::now() + SOON)
            .await
            .unwrap_err();
        assert_eq!(refused.error.code, Code::TlsHandshake);
        assert!(
            refused.error.message.contains("does not speak TLS"),
            "{refused:?}"
        );
        let mut alert = [0; 7];
        soon("an alert", far.read_exact(&mut alert)).await.unwrap();
        assert_eq!((alert[0], alert[5]), (21, 2), "fatal");
        refused.io.unwrap().reset();
        assert!(far.read(&mut alert).await.is_err());
    }
}

#[tokio::test]
async fn a_silent_client_is_given_back_at_the_deadline() {
    let ca = Pki::new();
    let with = Terminator::new(&setup(&ca.issue("a.example"))).unwrap();
    let (near, far) = tcp_pair().await;
    let deadline = Instant::now() + Duration::from_millis(20);
    let refused = terminate(TcpConn::new(near), vec![22, 3], &with, deadline)
        .await
        .unwrap_err();
    assert!(refused.error.message.contains("too long"));
    assert!(refused.io.is_some());
    drop(far);
    let (near, far) = tcp_pair().await;
    drop(far);
    let refused = terminate(TcpConn::new(near), Vec::new(), &with, Instant::now() + SOON).await;
    assert!(refused.unwrap_err().error.message.contains("went away"));
}

/// Knows no name.
#[derive(Debug)]
struct Nobody;

impl ResolvesServerCert for Nobody {
    fn resolve(&self, _: rustls::server::ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        None
    }
}

#[tokio::test]
async fn a_name_without_certificate_is_told_as_such() {
    let ca = Pki::new();
    let with = Terminator::new(&Setup {
        identity: ServerIdentity::Resolver(Arc::new(Nobody)),
        ..setup(&ca.issue("a.example"))
    })
    .unwrap();
    let (ours, theirs) = shake(&with, client(&ca, None)).await;
    assert_eq!(ours.unwrap_err().error.code, Code::TlsNoCertificate);
    theirs.unwrap_err();
}

#[test]
fn setups_that_cannot_work_are_named() {
    let ca = Pki::new();
    let (server, other) = (ca.issue("a.example"), ca.issue("b.example"));
    let refused = |setup: &Setup| {
        let error = Terminator::new(setup).unwrap_err();
        assert_eq!(error.code, Code::CertificateInvalid);
        error.message
    };
    let mixed = ServerIdentity::Pem {
        certificate: server.pem.clone().into_bytes(),
        private_key: other.key.serialize_pem().into_bytes(),
    };
    let message = refused(&Setup {
        identity: mixed,
        ..setup(&server)
    });
    assert!(message.contains("not the key"), "{message}");
    for (authorities, named) in [
        (vec![], "no certificate authority"),
        (vec![b"nonsense".to_vec()], "no certificate"),
    ] {
        let message = refused(&Setup {
            clients: Some(ClientAuth {
                verification: ClientVerification::RequireAndVerify,
                authorities,
            }),
            ..setup(&server)
        });
        assert!(message.contains(named), "{message}");
    }
}

#[tokio::test]
async fn close_notify_ends_one_direction_only() {
    let (mut ours, mut theirs) = pair().await;
    theirs.write_all(b"last").await.unwrap();
    theirs.get_mut().1.send_close_notify();
    theirs.flush().await.unwrap();
    let (got, end) = soon("the end", read_all(&mut ours)).await;
    assert_eq!((got.as_slice(), end.is_ok()), (b"last".as_slice(), true));
    ours.write_all(b"answer").await.unwrap();
    ours.shutdown().await.unwrap();
    let (got, end) = soon("the answer", read_all(&mut theirs)).await;
    assert_eq!((got.as_slice(), end.is_ok()), (b"answer".as_slice(), true));
}

/// Relays between a terminated client and a plain upstream; what the upstream got, and how it all ended.
async fn relayed(
    act: impl AsyncFnOnce(TlsStream<TcpStream>),
) -> (Vec<u8>, io::Result<()>, RelayEnd) {
    let (mut ours, theirs) = pair().await;
    let (near, mut upstream) = tcp_pair().await;
    let mut near = TcpConn::new(near);
    let (counters, kill) = (Counters::new(), CancellationToken::new());
    let limits = RelayLimits::default();
    let run = async {
        let end = relay(&mut ours, &mut near, &limits, &counters, &kill).await;
        drop((ours, near));
        end
    };
    let read = async {
        let got = read_all(&mut upstream).await;
        drop(upstream);
        got
    };
    let (end, (), (got, result)) =
        soon("relay", async { tokio::join!(run, act(theirs), read) }).await;
    (got, result, end)
}

#[tokio::test]
async fn a_whole_stream_ends_and_a_cut_one_resets() {
    let sent = pattern(300_000, 9);
    let (got, result, end) = relayed(async |mut theirs| {
        theirs.write_all(&sent).await.unwrap();
        theirs.shutdown().await.unwrap();
        let (_, end) = read_all(&mut theirs).await;
        end.unwrap();
    })
    .await;
    assert!(got == sent && result.is_ok());
    assert!(
        matches!(
            end,
            RelayEnd::Finished {
                first: Side::Client
            }
        ),
        "{end:?}"
    );

    // FIN without close_notify: everything arrives, and no end.
    let (_, result, end) = relayed(async |mut theirs| {
        theirs.write_all(&sent).await.unwrap();
        theirs.flush().await.unwrap();
        let mut under = theirs.into_inner().0;
        under.shutdown().await.unwrap();
        read_all(&mut under).await.1.unwrap_or(());
    })
    .await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    match end {
        RelayEnd::Failed {
            side: Side::Client,
            source,
        } => {
            assert_eq!(source.kind(), io::ErrorKind::UnexpectedEof);
        }
        end => panic!("{end:?}"),
    }

    // RST.
    let (_, result, end) = relayed(async |theirs| {
        let under = theirs.into_inner().0;
        crate::socket::reset_on_drop(&under);
    })
    .await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::ConnectionReset);
    assert!(
        matches!(end, RelayEnd::Reset { by: Side::Client }),
        "{end:?}"
    );
}

/// Behind `close_notify` someone has to see what is under TLS end.
#[tokio::test]
async fn the_end_under_tls_is_read() {
    let (mut ours, mut theirs) = pair().await;
    theirs.shutdown().await.unwrap();
    let (_, end) = soon("the end", read_all(&mut ours)).await;
    end.unwrap();
    let mut under = ours.into_ended(Instant::now() + SOON).await;
    assert_eq!(under.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn bulk_arrives_whole_over_anything() {
    let ca = Pki::new();
    let with = Terminator::new(&setup(&ca.issue("a.example"))).unwrap();
    let (near, far) = pipe();
    let name = ServerName::try_from("a.example").unwrap();
    let theirs = TlsConnector::from(Arc::new(client(&ca, None)));
    let (ours, theirs) = tokio::join!(
        terminate(near, Vec::new(), &with, Instant::now() + SOON),
        theirs.connect(name, far)
    );
    let (mut ours, mut theirs) = (ours.unwrap().0, theirs.unwrap());
    let sent = pattern(200_000, 4);
    let write = async {
        theirs.write_all(&sent).await.unwrap();
        theirs.shutdown().await.unwrap();
    };
    let ((), (got, end)) = soon("bulk", async { tokio::join!(write, read_all(&mut ours)) }).await;
    assert!(got == sent && end.is_ok());
    ours.reset();
    assert!(
        ours.get_ref()
            .was_reset
            .load(std::sync::atomic::Ordering::Relaxed)
    );
}

//! Handshakes over loopback: trust, refusal, resumption, files.

use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::*;
use crate::seal::MasterKey;
use crate::testing::{SOON, soon, tcp_pair};

fn authority() -> (CertAuthority, tempfile::TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
    (
        CertAuthority::load_or_create(dir.path(), &key).unwrap(),
        dir,
    )
}

fn agents_config(authority: &CertAuthority) -> Arc<ServerConfig> {
    let ips = [Ipv4Addr::LOCALHOST.into()];
    server_config(
        authority,
        &["edge.example.com".to_owned()],
        &ips,
        Purpose::Agents,
    )
    .unwrap()
}

async fn handshake(
    server: Arc<ServerConfig>,
    client: Arc<ClientConfig>,
    name: &str,
) -> (io::Result<Stream>, Result<Stream, Error>) {
    let (near, far) = tcp_pair().await;
    let deadline = Instant::now() + SOON;
    tokio::join!(
        accept(near, server, deadline),
        connect(far, client, name, deadline)
    )
}

#[tokio::test]
async fn a_pinned_server_is_trusted_by_any_name() {
    let (authority, _dir) = authority();
    let (server, client) = (
        agents_config(&authority),
        client_config(&Trust::Pin(authority.pin())).unwrap(),
    );
    for name in [
        "edge.example.com:7443",
        "other.example.org",
        "192.0.2.1:7443",
        "[::1]:7443",
    ] {
        let (near, far) = handshake(Arc::clone(&server), Arc::clone(&client), name).await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        assert_eq!(exporter(&near).unwrap(), exporter(&far).unwrap());
        let suite = far.get_ref().1.negotiated_cipher_suite();
        let cheap = CipherSuite::TLS13_AES_128_GCM_SHA256;
        assert_eq!(suite.map(|suite| suite.suite()), Some(cheap));
        near.write_all(b"hello").await.unwrap();
        let mut got = [0; 5];
        soon("hello", far.read_exact(&mut got)).await.unwrap();
        assert_eq!(&got, b"hello");
    }
}

#[tokio::test]
async fn another_ca_is_not_trusted_under_a_pin() {
    let ((ours, _d1), (theirs, _d2)) = (authority(), authority());
    let client = client_config(&Trust::Pin(ours.pin())).unwrap();
    let (near, far) = handshake(agents_config(&theirs), client, "edge.example.com").await;
    assert_eq!(far.unwrap_err().code, Code::ServerUntrusted);
    assert!(near.is_err());
}

/// Showing the pinned CA's certificate, which is public, behind a leaf of another CA proves nothing.
#[tokio::test]
async fn a_pinned_certificate_in_a_forged_chain_is_not_enough() {
    let ((ours, _d1), (theirs, _d2)) = (authority(), authority());
    let dir = tempfile::tempdir().unwrap();
    let (key, params) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::CertificateParams::new(vec![]).unwrap(),
    );
    let leaf = params.self_signed(&key).unwrap();
    let (cert_path, key_path) = (dir.path().join("c.pem"), dir.path().join("k.pem"));
    std::fs::write(
        &cert_path,
        leaf.pem() + theirs.certificate_pem() + ours.certificate_pem(),
    )
    .unwrap();
    std::fs::write(&key_path, key.serialize_pem()).unwrap();
    let server = server_config_from_files(&cert_path, &key_path, Purpose::Agents).unwrap();
    let client = client_config(&Trust::Pin(ours.pin())).unwrap();
    let (_, far) = handshake(server, client, "edge.example.com").await;
    assert_eq!(far.unwrap_err().code, Code::ServerUntrusted);
}

#[tokio::test]
async fn a_ca_file_is_trusted_for_the_servers_names_only() {
    let (authority, dir) = authority();
    let client = client_config(&Trust::CaFile(dir.path().join("ca.pem"))).unwrap();
    let (_, far) = handshake(
        agents_config(&authority),
        Arc::clone(&client),
        "edge.example.com:7443",
    )
    .await;
    far.unwrap();
    let (_, far) = handshake(
        agents_config(&authority),
        Arc::clone(&client),
        "127.0.0.1:7443",
    )
    .await;
    far.unwrap();
    let (_, far) = handshake(agents_config(&authority), client, "other.example.com:7443").await;
    assert_eq!(far.unwrap_err().code, Code::ServerUntrusted);
    let web = client_config(&Trust::Web).unwrap();
    let (_, far) = handshake(agents_config(&authority), web, "edge.example.com:7443").await;
    assert_eq!(far.unwrap_err().code, Code::ServerUntrusted);
}

#[tokio::test]
async fn a_server_that_is_not_ours_is_named_as_such() {
    let (authority, _dir) = authority();
    let http = server_config(
        &authority,
        &[],
        &[Ipv4Addr::LOCALHOST.into()],
        Purpose::Http,
    )
    .unwrap();
    let client = client_config(&Trust::Pin(authority.pin())).unwrap();
    let (_, far) = handshake(http, client, "127.0.0.1").await;
    let error = far.unwrap_err();
    assert_eq!(error.code, Code::ServerUnreachable);
    assert!(
        error.message.contains("not a Portcullis agent port"),
        "{error}"
    );
}

#[tokio::test]
async fn the_second_handshake_resumes() {
    let (authority, _dir) = authority();
    let (server, client) = (
        agents_config(&authority),
        client_config(&Trust::Pin(authority.pin())).unwrap(),
    );
    let mut kinds = Vec::new();
    for _ in 0..2 {
        let (near, far) =
            handshake(Arc::clone(&server), Arc::clone(&client), "edge.example.com").await;
        let (mut near, mut far) = (near.unwrap(), far.unwrap());
        near.write_all(b"x").await.unwrap(); // the tickets come in front of the first byte
        soon("x", far.read_u8()).await.unwrap();
        let TlsStream::Client(far) = far else {
            panic!("a client")
        };
        kinds.push(far.get_ref().1.handshake_kind().unwrap());
    }
    assert_eq!(
        kinds,
        [rustls::HandshakeKind::Full, rustls::HandshakeKind::Resumed]
    );
}

#[tokio::test]
async fn a_silent_peer_ends_at_the_deadline() {
    let (authority, _dir) = authority();
    let (near, _silent) = tcp_pair().await;
    let deadline = Instant::now() + Duration::from_millis(50);
    let error = accept(near, agents_config(&authority), deadline)
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let (near, _silent) = tcp_pair().await;
    let client = client_config(&Trust::Pin(authority.pin())).unwrap();
    let error = connect(
        near,
        client,
        "127.0.0.1",
        Instant::now() + Duration::from_millis(50),
    )
    .await
    .unwrap_err();
    assert_eq!(error.code, Code::ServerUnreachable);
}

#[test]
fn the_authority_survives_a_restart() {
    let (first, dir) = authority();
    let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
    let second = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    assert_eq!(
        (first.pin(), first.certificate_pem()),
        (second.pin(), second.certificate_pem())
    );
    let sealed = std::fs::read(dir.path().join("ca.key.sealed")).unwrap();
    assert!(rcgen::KeyPair::try_from(sealed.as_slice()).is_err());
}

#[test]
fn an_authority_that_lost_its_certificate_keeps_its_key() {
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
    let pin = CertAuthority::load_or_create(dir.path(), &key)
        .unwrap()
        .pin();
    std::fs::remove_file(dir.path().join("ca.pem")).unwrap();
    let again = CertAuthority::load_or_create(dir.path(), &key).unwrap();
    assert_eq!(again.pin(), pin, "join strings and agents pin it");
}

#[test]
fn a_damaged_authority_is_refused() {
    let (_, dir) = authority();
    let key = MasterKey::load_or_create(&dir.path().join("master.key")).unwrap();
    let other = MasterKey::load_or_create(&dir.path().join("other.key")).unwrap();
    let load = |key| {
        CertAuthority::load_or_create(dir.path(), key)
            .unwrap_err()
            .code
    };
    assert_eq!(load(&other), Code::StoreCorrupt);
    let (_, foreign) = authority();
    std::fs::copy(foreign.path().join("ca.pem"), dir.path().join("ca.pem")).unwrap();
    assert_eq!(load(&key), Code::CertificateInvalid);
    std::fs::write(dir.path().join("ca.pem"), "nonsense").unwrap();
    assert_eq!(load(&key), Code::CertificateInvalid);
    std::fs::remove_file(dir.path().join("ca.key.sealed")).unwrap();
    assert_eq!(load(&key), Code::StoreCorrupt);
}

#[test]
fn files_that_cannot_be_used_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| dir.path().join(name);
    let (key, other) = (
        rcgen::KeyPair::generate().unwrap(),
        rcgen::KeyPair::generate().unwrap(),
    );
    let leaf = rcgen::CertificateParams::new(vec!["a.example".to_owned()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    std::fs::write(path("c"), leaf.pem()).unwrap();
    std::fs::write(path("k"), key.serialize_pem()).unwrap();
    std::fs::write(path("other"), other.serialize_pem()).unwrap();
    std::fs::write(path("empty"), "").unwrap();
    std::fs::write(path("cut"), &leaf.pem()[..200]).unwrap();
    server_config_from_files(&path("c"), &path("k"), Purpose::Http).unwrap();
    for (cert, private, named) in [
        (
            "missing",
            "k",
            "missing cannot be used: there is no such file",
        ),
        (
            "c",
            "missing",
            "missing cannot be used: there is no such file",
        ),
        ("empty", "k", "it holds no certificate"),
        ("cut", "k", "cut cannot be used"),
        ("c", "c", "it holds no private key"),
        ("c", "other", "do not make a server certificate"),
    ] {
        let error =
            server_config_from_files(&path(cert), &path(private), Purpose::Http).unwrap_err();
        assert_eq!(error.code, Code::CertificateInvalid);
        assert!(error.message.contains(named), "{error}");
    }
    let (ca, _dir) = authority();
    let bad = server_config(&ca, &["no such name!".to_owned()], &[], Purpose::Agents).unwrap_err();
    assert_eq!(bad.code, Code::CertificateInvalid);
}

//! Orders at a real ACME server: pebble, of the makers of Boulder, with its own name server. Where it is not
//! installed (Debian: `pebble`) those checks are skipped, and said to be.

use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::time::Instant;
use tokio_rustls::TlsConnector;

use super::*;
use crate::socket::TcpConn;
use crate::testing::{SOON, tcp_pair};
use crate::tls::terminate::{ServerIdentity, Setup, terminate};
use crate::tls::verify::Verifier;

/// An ACME server and its name server, in which every name leads to this machine.
struct Pebble {
    dir: tempfile::TempDir,
    children: Vec<Child>,
    directory: String,
    http: u16,
    tls: u16,
}

impl Drop for Pebble {
    fn drop(&mut self) {
        for child in &mut self.children {
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    listener.local_addr().unwrap().port()
}

impl Pebble {
    async fn start() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        pki(dir.path());
        let (api, management, http, tls) = (port(), port(), port(), port());
        let (dns, dns_management) = (port(), port());
        let config = format!(
            r#"{{"pebble": {{"listenAddress": "127.0.0.1:{api}", "managementListenAddress": "127.0.0.1:{management}",
                "certificate": "{0}/server.pem", "privateKey": "{0}/server.key", "httpPort": {http}, "tlsPort": {tls}}}}}"#,
            dir.path().display()
        );
        std::fs::write(dir.path().join("pebble.json"), config).unwrap();
        let mut names = Command::new("pebble-challtestsrv");
        names
            .args([
                "-defaultIPv4",
                "127.0.0.1",
                "-defaultIPv6",
                "",
                "-http01",
                "",
                "-https01",
                "",
            ])
            .args(["-tlsalpn01", ""])
            .args(["-dns01", &format!("127.0.0.1:{dns}")])
            .args(["-management", &format!("127.0.0.1:{dns_management}")]);
        let mut pebble = Command::new("pebble");
        pebble
            .args([
                "-config",
                &dir.path().join("pebble.json").display().to_string(),
            ])
            .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
            .env("PEBBLE_VA_NOSLEEP", "1")
            .env("PEBBLE_WFE_NONCEREJECT", "5");
        let mut started = Self {
            dir,
            children: Vec::new(),
            directory: format!("https://localhost:{api}/dir"),
            http,
            tls,
        };
        for mut command in [names, pebble] {
            let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn();
            match child {
                Ok(child) => started.children.push(child),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    skipped();
                    return None;
                }
                Err(error) => panic!("pebble: {error}"),
            }
        }
        let deadline = std::time::Instant::now() + SOON;
        for at in [api, dns_management] {
            while TcpStream::connect((Ipv4Addr::LOCALHOST, at)).is_err() {
                assert!(
                    std::time::Instant::now() < deadline,
                    "pebble does not listen"
                );
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Some(started)
    }

    fn config(&self, challenge: AcmeChallenge, names: &[&str]) -> AcmeConfig {
        let port = match challenge {
            AcmeChallenge::Http01 => self.http,
            AcmeChallenge::TlsAlpn01 => self.tls,
        };
        AcmeConfig {
            directory: self.directory.clone(),
            email: Some("ops@example.com".to_owned()),
            challenge,
            listen: vec![(Ipv4Addr::LOCALHOST, port).into()],
            others_answer: challenge == AcmeChallenge::TlsAlpn01,
            names: names.iter().map(|name| (*name).to_owned()).collect(),
            ca_file: Some(self.dir.path().join("ca.pem")),
        }
    }

    fn open(&self, config: AcmeConfig) -> Result<Acme, Error> {
        let key = MasterKey::load_or_create(&self.dir.path().join("master.key")).unwrap();
        Acme::open(config, self.dir.path(), &Arc::new(key))
    }
}

/// As the end-to-end tests say it.
fn skipped() {
    use std::io::Write as _;
    eprintln!("skipped acme_authority: pebble is not installed");
    if let Some(path) = std::env::var_os("PORTCULLIS_E2E_SKIPS") {
        let file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(path);
        writeln!(file.unwrap(), "acme_authority").unwrap();
    }
}

/// A CA and a certificate for localhost, for pebble's own API.
fn pki(dir: &Path) {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    std::fs::write(dir.join("ca.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["localhost".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, &issuer).unwrap();
    std::fs::write(dir.join("server.pem"), leaf.pem()).unwrap();
    std::fs::write(dir.join("server.key"), key.serialize_pem()).unwrap();
}

/// Which names the certificate has that a client is shown who asks for one.
async fn shown(acme: &Acme, name: &'static str) -> Option<Vec<String>> {
    let with = Terminator::new(&Setup {
        only_13: false,
        only_12: false,
        identity: ServerIdentity::Resolver(acme.resolver()),
        clients: None,
        alpn: Vec::new(),
    })
    .unwrap();
    let client = ClientConfig::builder_with_provider(crate::tls::provider())
        .with_safe_default_protocol_versions()
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Verifier::none(crate::tls::provider()))
        .with_no_client_auth();
    let (near, far) = tcp_pair().await;
    let client = TlsConnector::from(Arc::new(client));
    let (ours, _) = tokio::join!(
        terminate(TcpConn::new(near), Vec::new(), &with, Instant::now() + SOON),
        client.connect(ServerName::try_from(name).unwrap(), far)
    );
    let leaf = ours.ok()?.1.server?;
    Some(describe(&leaf).unwrap().names.dns)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_are_issued_by_either_challenge() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    for (challenge, name) in [
        (AcmeChallenge::Http01, "a.gate.test"),
        (AcmeChallenge::TlsAlpn01, "b.gate.test"),
    ] {
        let config = pebble.config(challenge, &[name]);
        let port = config.listen[0];
        let acme = pebble.open(config).unwrap();
        assert!(shown(&acme, name).await.is_none());
        acme.obtain(name).await.unwrap();
        assert_eq!(shown(&acme, name).await.unwrap(), [name]);
        assert!(shown(&acme, "other.gate.test").await.is_none());
        assert!(
            TcpStream::connect(port).is_err(),
            "no challenge is under way"
        );
        let none = acme.answers(name, [ACME_TLS_ALPN].into_iter());
        assert!(none.is_none(), "no challenge is under way");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_issued_survives_a_restart_and_is_sealed() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let config = pebble.config(AcmeChallenge::Http01, &["a.gate.test"]);
    let first = pebble.open(config.clone()).unwrap();
    first.obtain("a.gate.test").await.unwrap();
    let account = std::fs::read(pebble.dir.path().join("acme/account.sealed")).unwrap();
    for entry in std::fs::read_dir(pebble.dir.path().join("acme")).unwrap() {
        let entry = entry.unwrap();
        assert_eq!(
            entry.metadata().unwrap().permissions().mode() & 0o777,
            0o600
        );
        let bytes = std::fs::read(entry.path()).unwrap();
        let plain = [b"PRIVATE KEY".as_slice(), b"https://"];
        assert!(
            plain
                .iter()
                .all(|text| !bytes.windows(text.len()).any(|part| part == *text))
        );
    }
    let again = pebble.open(config.clone()).unwrap();
    let (before, after) = (
        first.certificate_for("a.gate.test").unwrap(),
        again.certificate_for("a.gate.test").unwrap(),
    );
    assert_eq!(before.cert, after.cert);
    // The account serves on.
    again.obtain("a.gate.test").await.unwrap();
    assert_ne!(
        again.certificate_for("a.gate.test").unwrap().cert,
        before.cert
    );
    let kept = std::fs::read(pebble.dir.path().join("acme/account.sealed")).unwrap();
    assert_eq!(kept, account);
    // A file in another's place is not taken.
    let dir = pebble.dir.path().join("acme");
    std::fs::copy(
        dir.join("a.gate.test.sealed"),
        dir.join("b.gate.test.sealed"),
    )
    .unwrap();
    let moved = AcmeConfig {
        names: vec!["b.gate.test".to_owned()],
        ..config
    };
    assert!(
        pebble
            .open(moved)
            .unwrap()
            .certificate_for("b.gate.test")
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_says_what_the_authority_says() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let mut config = pebble.config(AcmeChallenge::Http01, &["a.gate.test"]);
    config.listen = vec![(Ipv4Addr::LOCALHOST, port()).into()]; // not where it looks
    let acme = pebble.open(config.clone()).unwrap();
    let error = acme.obtain("a.gate.test").await.unwrap_err();
    assert_eq!(error.code, Code::AcmeFailed);
    assert!(error.message.contains("refused"), "{error}");
    assert!(acme.certificate_for("a.gate.test").is_none());
    // The directory's own certificate is verified.
    config.ca_file = None;
    let error = pebble
        .open(config.clone())
        .unwrap()
        .obtain("a.gate.test")
        .await
        .unwrap_err();
    assert_eq!(error.code, Code::AcmeFailed);
    // A taken port is told for HTTP.
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    config.listen = vec![taken.local_addr().unwrap()];
    config.ca_file = Some(pebble.dir.path().join("ca.pem"));
    let error = pebble
        .open(config)
        .unwrap()
        .obtain("a.gate.test")
        .await
        .unwrap_err();
    assert!(
        error.message.contains("cannot be answered on 127.0.0.1"),
        "{error}"
    );
}

/// Whoever listens on the port of TLS-ALPN-01 answers with what the order says.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_listener_answers_for_us() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let config = pebble.config(AcmeChallenge::TlsAlpn01, &["a.gate.test"]);
    let listener = tokio::net::TcpListener::bind(config.listen[0])
        .await
        .unwrap();
    let acme = pebble.open(config).unwrap();
    let edge = acme.clone();
    let task = crate::task::spawn("edge", async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            let with = edge
                .answers("a.gate.test", [b"h2".as_slice(), ACME_TLS_ALPN].into_iter())
                .unwrap();
            assert!(
                edge.answers("a.gate.test", [b"h2".as_slice()].into_iter())
                    .is_none()
            );
            let done = terminate(
                TcpConn::new(stream),
                Vec::new(),
                &with,
                Instant::now() + SOON,
            )
            .await;
            drop(done);
        }
    });
    acme.obtain("a.gate.test").await.unwrap();
    task.abort();
    assert!(acme.certificate_for("a.gate.test").is_some());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_names_are_asked_for_until_it_is_stopped() {
    let Some(pebble) = Pebble::start().await else {
        return;
    };
    let names = ["a.gate.test", "b.gate.test"];
    let acme = pebble
        .open(pebble.config(AcmeChallenge::Http01, &names))
        .unwrap();
    let stop = CancellationToken::new();
    let running = crate::task::spawn("acme", acme.clone().run(stop.clone()));
    let deadline = Instant::now() + SOON * 3;
    while names
        .iter()
        .any(|name| acme.certificate_for(name).is_none())
    {
        assert!(Instant::now() < deadline, "both are issued");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.cancel();
    running.await.unwrap();
}

fn issued(days: std::ops::Range<i64>) -> Issued {
    let (key, mut params) = (
        KeyPair::generate().unwrap(),
        CertificateParams::new(["a.gate.test".to_owned()]).unwrap(),
    );
    let day = |days: i64| {
        let at = jiff::Timestamp::from_second(now() + days * 86_400).unwrap();
        let date = at.to_zoned(jiff::tz::TimeZone::UTC).date();
        let part = |part: i8| u8::try_from(part).unwrap();
        rcgen::date_time_ymd(i32::from(date.year()), part(date.month()), part(date.day()))
    };
    (params.not_before, params.not_after) = (day(days.start), day(days.end));
    let pem = params.self_signed(&key).unwrap().pem() + &key.serialize_pem();
    Issued::of("a.gate.test", pem.as_bytes()).unwrap()
}

#[test]
fn a_certificate_is_renewed_at_two_thirds_and_not_shown_when_it_is_over() {
    let fresh = issued(-10..80);
    let two_thirds = now() - 10 * 86_400 + 60 * 86_400;
    assert!((fresh.renew_at - two_thirds).abs() <= 86_400, "whole days");
    let dir = tempfile::tempdir().unwrap();
    let key = MasterKey::load_or_create(&dir.path().join("k")).unwrap();
    let acme = Acme::open(some(), dir.path(), &Arc::new(key)).unwrap();
    for (days, is_shown) in [(-10..80, true), (-90..-1, false)] {
        let mut known = acme.0.issued.write().unwrap();
        known.insert("a.gate.test".to_owned(), issued(days));
        drop(known);
        assert_eq!(acme.certificate_for("a.gate.test").is_some(), is_shown);
    }
    assert!(Issued::of("b.gate.test", b"nonsense").is_err());
}

#[test]
fn failures_wait_longer_and_longer() {
    let mut failures = Failures::default();
    let mut ceiling = ACME_RETRY_FIRST;
    for _ in 0..40 {
        let wait = failures.again();
        assert!(
            wait >= ceiling / 2 && wait <= ceiling,
            "{wait:?} of {ceiling:?}"
        );
        ceiling = (ceiling * 2).min(ACME_RETRY_MAX);
    }
}

fn some() -> AcmeConfig {
    AcmeConfig {
        directory: "https://acme.example/dir".to_owned(),
        email: None,
        challenge: AcmeChallenge::Http01,
        listen: Vec::new(),
        others_answer: false,
        names: vec!["a.gate.test".to_owned()],
        ca_file: None,
    }
}

#[test]
fn what_no_authority_could_do_is_refused() {
    some().check().unwrap();
    let with = |change: fn(&mut AcmeConfig)| {
        let mut config = some();
        change(&mut config);
        let error = config.check().unwrap_err();
        assert_eq!(error.code, Code::ConfigInvalid);
        error.message
    };
    let wild = with(|config| config.names.push("*.gate.test".to_owned()));
    assert!(wild.contains("wildcard"), "{wild}");
    for name in [
        "",
        "nodots",
        "Upper.example",
        "192.0.2.1",
        "a..b",
        "-a.example",
        "a/../b.c",
    ] {
        let mut config = some();
        config.names = vec![name.to_owned()];
        assert!(config.check().is_err(), "{name}");
    }
    with(|config| config.directory = "http://acme.example/dir".to_owned());
    with(|config| config.email = Some("nobody".to_owned()));
    with(|config| config.names.clear());
}

//! Certificates from an ACME server (pebble) that clients of a public address are shown.

use std::path::Path;
use std::process::Command;

use portcullis_e2e::process::Process;
use portcullis_e2e::shell::{sh, try_sh};
use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::{Stack, eventually, ports, skip};
use tempfile::TempDir;

/// pebble with a certificate for its own API, and a name server that leads every name here.
fn pebble(dir: &Path, api: u16, management: u16, http: u16) -> [Process; 2] {
    let at = dir.display();
    sh(&format!(
        "cd {at} && openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=ca -keyout ca.key -out ca.pem 2>&1 && \
         openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost -keyout pebble.key -out pebble.csr 2>&1 && \
         openssl x509 -req -in pebble.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 30 \
           -extfile <(echo subjectAltName=DNS:localhost) -out pebble.pem 2>&1"
    ));
    let config = format!(
        r#"{{"pebble": {{"listenAddress": "127.0.0.1:{api}", "managementListenAddress": "127.0.0.1:{management}",
            "certificate": "{at}/pebble.pem", "privateKey": "{at}/pebble.key", "httpPort": {http}, "tlsPort": {http}}}}}"#
    );
    let path = dir.join("pebble.json");
    std::fs::write(&path, config).expect("it can be written");
    let dns = ports::one();
    let mut names = Command::new("pebble-challtestsrv");
    names.args([
        "-defaultIPv6",
        "",
        "-http01",
        "",
        "-https01",
        "",
        "-tlsalpn01",
        "",
    ]);
    names.args([
        "-dns01",
        &format!("127.0.0.1:{dns}"),
        "-management",
        &format!("127.0.0.1:{}", ports::one()),
    ]);
    let mut pebble = Command::new("pebble");
    pebble
        .args(["-config", &path.display().to_string()])
        .args(["-dnsserver", &format!("127.0.0.1:{dns}")])
        .env("PEBBLE_VA_NOSLEEP", "1");
    [
        Process::start("pebble-challtestsrv", names),
        Process::start("pebble", pebble),
    ]
}

/// An authority that looks at one port for its challenges, whichever of the two they are.
struct Authority {
    api: u16,
    /// Who issued its own certificate, and its root, as paths.
    ca: String,
    roots: String,
    _running: [Process; 2],
    _dir: TempDir,
}

impl Authority {
    async fn start(challenges: u16) -> Self {
        let dir = tempfile::Builder::new()
            .prefix("ptc-acme-")
            .tempdir()
            .expect("a directory");
        let (api, management) = (ports::one(), ports::one());
        let running = pebble(dir.path(), api, management, challenges);
        let path = |name: &str| dir.path().join(name).display().to_string();
        let (ca, roots) = (path("ca.pem"), path("roots.pem"));
        let root =
            format!("curl -sf --cacert {ca} https://localhost:{management}/roots/0 -o {roots}");
        eventually("the authority's root", || async {
            (try_sh(&root).0 == 0).then_some(())
        })
        .await;
        Self {
            api,
            ca,
            roots,
            _running: running,
            _dir: dir,
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clients_are_shown_the_certificate_of_the_authority() {
    if try_sh("command -v pebble pebble-challtestsrv").0 != 0 {
        skip("acme_authority", "pebble is not installed");
        return;
    }
    let http = ports::one();
    let Authority { api, ca, roots, .. } = &Authority::start(http).await;
    let yaml = format!(
        "tls:\n  acme:\n    directory: https://localhost:{api}/dir\n    email: ops@example.com\n    http_port: {http}\n    \
         names: [db.gate.test]\n    ca_file: {ca}\n    terms_agreed: true\n"
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    let upstream = Upstream::echo().await;
    let policy = r#"{"on_tcp_connect": [{"actions": [{"type": "terminate-tls", "config": {}}]}]}"#;
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--traffic-policy", policy])
        .await;
    let client = |roots: &str, name: &str| {
        try_sh(&format!(
            "(echo over to you; sleep 1) | timeout 10 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile {roots} \
             -verify_hostname {name} -servername {name} -connect 127.0.0.1:{} 2>&1",
            agent.port()
        ))
    };
    eventually("a connection under the authority's root", || async {
        let (status, output) = client(roots, "db.gate.test");
        (status == 0 && output.contains("over to you")).then_some(())
    })
    .await;
    // Another name is one of the server's own CA.
    assert_ne!(client(roots, "other.gate.test").0, 0);
    let own = stack.data().join("endpoints/ca.pem").display().to_string();
    let (status, output) = client(&own, "other.gate.test");
    assert_eq!(status, 0, "{output}");
    let kept = stack.data().join("acme/db.gate.test.sealed");
    assert!(kept.exists(), "it is there for the next start");
    assert!(
        stack
            .log()
            .contains("certificate issued by the ACME authority")
    );
    stack.balanced().await;
}

/// The authority looks at the port that `tls://` endpoints have: the edge answers it there, beside them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_port_of_tls_names_answers_the_authority_too() {
    if try_sh("command -v pebble pebble-challtestsrv").0 != 0 {
        skip("acme_authority", "pebble is not installed");
        return;
    }
    let tls = ports::one();
    let Authority { api, ca, roots, .. } = &Authority::start(tls).await;
    let upstream = Upstream::echo().await;
    let yaml = format!(
        "tls:\n  port: {tls}\n  any_name: true\n  acme:\n    directory: https://localhost:{api}/dir\n    challenge: tls-alpn-01\n    \
         tls_port: {tls}\n    names: [db.gate.test]\n    ca_file: {ca}\n    terms_agreed: true\n\
         endpoints:\n  - url: tls://db.gate.test:{tls}\n    upstream: {}\n    traffic_policy:\n      on_tcp_connect:\n        \
         - actions: [{{type: terminate-tls}}]\n",
        upstream.hostport()
    );
    let stack = Stack::start_configured(&yaml, &[]).await;
    eventually("a connection under the authority's root", || async {
        let (status, output) = try_sh(&format!(
            "(echo over to you; sleep 1) | timeout 10 openssl s_client -quiet -no_ign_eof -verify_return_error -CAfile {roots} \
             -verify_hostname db.gate.test -servername db.gate.test -connect 127.0.0.1:{tls} 2>&1"
        ));
        (status == 0 && output.contains("over to you")).then_some(())
    })
    .await;
    stack.balanced().await;
}

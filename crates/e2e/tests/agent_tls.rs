//! TLS that ends at the agent: real clients, client certificates, cut streams, and files that change.

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use portcullis_e2e::servers::Postgres;
use portcullis_e2e::shell::{sh, sh_async, try_sh};
use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::{Stack, eventually};
use tokio::io::AsyncReadExt as _;

/// A CA, a server's certificate for localhost, one of a client, and one of a stranger's, made by openssl.
fn pki(dir: &Path) {
    let dir = dir.display();
    sh(&format!(
        "cd {dir} && for ca in ca foreign; do \
           openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN=$ca -keyout $ca.key -out $ca.pem; \
         done 2>&1"
    ));
    issue(
        &dir.to_string(),
        "server",
        "ca",
        "localhost",
        "DNS:localhost",
    );
    issue(
        &dir.to_string(),
        "alice",
        "ca",
        "postgres",
        "email:a@example.com",
    );
    issue(
        &dir.to_string(),
        "mallory",
        "foreign",
        "postgres",
        "email:m@example.com",
    );
}

fn issue(dir: &str, name: &str, ca: &str, cn: &str, san: &str) {
    sh(&format!(
        "cd {dir} && openssl req -newkey rsa:2048 -nodes -subj /O=Gate/CN={cn} -keyout {name}.key -out {name}.csr 2>&1 && \
         openssl x509 -req -in {name}.csr -CA {ca}.pem -CAkey {ca}.key -CAcreateserial -days 30 \
           -extfile <(echo subjectAltName={san}) -out {name}.new 2>&1 && mv {name}.new {name}.pem && chmod 600 {name}.key"
    ));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn psql_verifies_the_agent_and_the_agent_verifies_psql() {
    let (stack, postgres) = tokio::join!(Stack::start(), Postgres::start());
    let dir = stack.dir().join("pki");
    std::fs::create_dir(&dir).expect("a directory");
    pki(&dir);
    let file = |name: &str| dir.join(name).display().to_string();
    let (crt, key, ca) = (file("server.pem"), file("server.key"), file("ca.pem"));
    let tls = ["--crt", &crt, "--key", &key, "--mutual-tls-cas", &ca];
    let agent = stack.tcp_with(&postgres.port.to_string(), &tls).await;
    let psql = |mode: &str, who: &str| {
        format!(
            "psql \"host=localhost hostaddr=127.0.0.1 port={} user=postgres sslmode={mode} sslrootcert={ca} \
             sslcert={} sslkey={}\"",
            agent.port(),
            file(&format!("{who}.pem")),
            file(&format!("{who}.key")),
        )
    };
    let alice = psql("verify-full", "alice");
    assert_eq!(
        sh_async(format!("{alice} -Atc 'select 6*7'")).await.trim(),
        "42"
    );
    // COPY in both directions moves more than any buffer holds.
    let lines = sh_async(format!(
        "{alice} -qc 'create table t(a int, b text)' && seq 1 100000 | sed 's/$/\\tsome text that makes rows longer/' \
         | {alice} -qc 'copy t from stdin' && {alice} -qc 'copy t to stdout' | wc -l"
    ))
    .await;
    assert_eq!(lines.trim(), "100000");
    for refused in [
        psql("require", "mallory"),
        psql("require", "nobody"),
        psql("disable", "alice"),
    ] {
        let (status, output) = try_sh(&format!("{refused} -Atc 'select 6*7' 2>&1"));
        assert_ne!(status, 0, "{refused}: {output}");
    }
    eventually("three failed handshakes in the agent's log", || async {
        let failed = agent.output().matches("PTC_TLS_HANDSHAKE").count();
        (failed == 3).then_some(())
    })
    .await;
    stack.balanced().await;
}

/// What an upstream has seen: connections that ended, and connections that were reset.
#[derive(Default)]
struct Seen {
    bytes: AtomicUsize,
    ended: AtomicUsize,
    reset: AtomicUsize,
}

async fn watched() -> (Upstream, Arc<Seen>) {
    let seen = Arc::new(Seen::default());
    let noted = Arc::clone(&seen);
    let upstream = Upstream::serve(move |mut stream| {
        let seen = Arc::clone(&noted);
        async move {
            let mut some = vec![0; 65536];
            let how = loop {
                match stream.read(&mut some).await {
                    Ok(0) => break &seen.ended,
                    Ok(read) => seen.bytes.fetch_add(read, Ordering::Relaxed),
                    Err(_) => break &seen.reset,
                };
            };
            how.fetch_add(1, Ordering::Relaxed);
        }
    })
    .await;
    (upstream, seen)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cut_stream_is_a_reset_and_an_ended_one_is_not() {
    let stack = Stack::start().await;
    let dir = stack.dir().join("pki");
    std::fs::create_dir(&dir).expect("a directory");
    pki(&dir);
    let (upstream, seen) = watched().await;
    let (crt, key) = (dir.join("server.pem"), dir.join("server.key"));
    let tls = [
        "--crt",
        &crt.display().to_string(),
        "--key",
        &key.display().to_string(),
    ];
    let agent = stack.tcp_with(&upstream.hostport(), &tls).await;
    let client = format!(
        "openssl s_client -quiet -no_ign_eof -connect 127.0.0.1:{} -servername localhost -verify_return_error -CAfile {}",
        agent.port(),
        dir.join("ca.pem").display()
    );
    // Ends with close_notify.
    sh_async(format!(
        "head -c 3000000 /dev/zero | {client} >/dev/null 2>&1 || true"
    ))
    .await;
    eventually("an end", || async {
        (seen.ended.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    assert_eq!(seen.reset.load(Ordering::Relaxed), 0);
    // Killed: the kernel says FIN, TLS says nothing.
    let before = seen.bytes.load(Ordering::Relaxed);
    let mut client = Command::new("openssl")
        .args([
            "s_client",
            "-quiet",
            "-connect",
            &format!("127.0.0.1:{}", agent.port()),
        ])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("openssl starts");
    let stdin = client.stdin.as_mut().expect("it is piped");
    stdin.write_all(&[7; 300_000]).expect("it takes them");
    eventually("the bytes", || async {
        (seen.bytes.load(Ordering::Relaxed) == before + 300_000).then_some(())
    })
    .await;
    assert_eq!(seen.reset.load(Ordering::Relaxed), 0);
    client.kill().expect("it runs");
    client.wait().expect("it has ended");
    eventually("a reset", || async {
        (seen.reset.load(Ordering::Relaxed) == 1).then_some(())
    })
    .await;
    assert_eq!(seen.ended.load(Ordering::Relaxed), 1);
    stack.balanced().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changed_certificate_files_are_shown_and_bad_ones_named() {
    let stack = Stack::start().await;
    let dir = stack.dir().join("pki");
    std::fs::create_dir(&dir).expect("a directory");
    pki(&dir);
    let upstream = Upstream::echo().await;
    let (crt, key) = (dir.join("server.pem"), dir.join("server.key"));
    let (crt, key) = (crt.display().to_string(), key.display().to_string());
    let agent = stack
        .tcp_with(&upstream.hostport(), &["--crt", &crt, "--key", &key])
        .await;
    let shown = |agent: &str| {
        sh(&format!(
            "openssl s_client -connect 127.0.0.1:{agent} -servername localhost </dev/null 2>/dev/null \
             | openssl x509 -noout -fingerprint -sha256"
        ))
    };
    let first = shown(&agent.port());
    issue(
        &dir.display().to_string(),
        "server",
        "ca",
        "localhost",
        "DNS:localhost",
    );
    eventually("the new certificate", || async {
        (shown(&agent.port()) != first).then_some(())
    })
    .await;
    // A start with files that cannot be used says which.
    let (status, output) = stack.run(&["tcp", &upstream.hostport(), "--crt", &key, "--key", &key]);
    assert_ne!(status, 0);
    assert!(output.contains("PTC_CERTIFICATE_INVALID"), "{output}");
    let (status, output) = stack.run(&["tcp", &upstream.hostport(), "--crt", &crt]);
    assert_eq!(status, 2, "--key is missing: {output}");
    stack.balanced().await;
}

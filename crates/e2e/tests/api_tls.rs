//! The API beyond loopback: only with TLS, by the server's own CA or by files.

use std::time::Duration;

use portcullis_e2e::process::Process;
use portcullis_e2e::shell::sh_async;
use portcullis_e2e::stack::portcullis;
use portcullis_e2e::{eventually, ports, process};

/// Starts a server by a configuration in a home of its own.
fn server(home: &std::path::Path, yaml: &str) -> Process {
    std::fs::write(home.join("server.yml"), yaml).expect("ours");
    let mut command = portcullis(home);
    command.args([
        "server",
        "--config",
        "server.yml",
        "--data-dir",
        "data",
        "--host",
        "localhost",
    ]);
    Process::start("server", command)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn beyond_loopback_the_api_wants_tls_and_serves_it() {
    let home = tempfile::Builder::new()
        .prefix("ptc-tls-")
        .tempdir()
        .expect("a directory");
    let (agents, api) = (ports::one(), ports::one());
    let listen =
        format!("listen: {{agents: '127.0.0.1:{agents}'}}\napi:\n  listen: '0.0.0.0:{api}'\n");
    let mut bare = server(home.path(), &listen);
    let ended =
        tokio::task::spawn_blocking(move || (bare.wait(Duration::from_secs(20)), bare.output()));
    let (status, output) = ended.await.expect("no panic");
    assert_eq!(status.and_then(|status| status.code()), Some(3), "{output}");
    assert!(output.contains("PTC_API_NEEDS_TLS"), "{output}");

    let mut process = server(home.path(), &format!("{listen}  tls: own_ca\n"));
    let ca = home.path().join("data/ca.pem").display().to_string();
    let curl = format!("curl -sS --noproxy '*' --cacert {ca} https://localhost:{api}");
    eventually("the API answers over TLS", || {
        assert!(process.is_running(), "{}", process.output());
        let line = format!("{curl}/readyz >/dev/null 2>&1 && echo yes || true");
        async { (sh_async(line).await.trim() == "yes").then_some(()) }
    })
    .await;
    let key = std::fs::read_to_string(home.path().join("data/admin.key"))
        .expect("the first start writes it");
    let list = format!(
        "{curl}/endpoints -H 'Authorization: Bearer {}' -H 'Ngrok-Version: 2'",
        key.trim()
    );
    assert!(sh_async(list).await.contains("\"endpoints\":[]"));
    let plain = sh_async(format!(
        "curl -sS --noproxy '*' http://localhost:{api}/readyz 2>&1 || true"
    ))
    .await;
    assert!(!plain.contains("ready"), "no plain HTTP: {plain}");

    // The command line of the same machine finds address, key and CA by itself.
    let mut command = portcullis(home.path());
    command.args(["api", "endpoints", "list", "--output", "json"]);
    let ended = tokio::task::spawn_blocking(move || {
        process::finish("list", command, Duration::from_secs(20))
    });
    let (status, output) = ended.await.expect("no panic");
    assert!(status.success(), "{output}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_from_files_are_served() {
    let home = tempfile::Builder::new()
        .prefix("ptc-tls-")
        .tempdir()
        .expect("a directory");
    let (agents, api) = (ports::one(), ports::one());
    let dir = home.path().display();
    sh_async(format!(
        "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -keyout {dir}/key.pem -out {dir}/cert.pem 2>&1"
    ))
    .await;
    let yaml = format!(
        "listen: {{agents: '127.0.0.1:{agents}'}}\napi:\n  listen: '0.0.0.0:{api}'\n  tls: {{cert: cert.pem, key: key.pem}}\n"
    );
    let mut process = server(home.path(), &yaml);
    eventually("the API answers with the certificate of the file", || {
        assert!(process.is_running(), "{}", process.output());
        let line = format!("curl -sS --noproxy '*' --cacert {dir}/cert.pem https://localhost:{api}/readyz >/dev/null 2>&1 && echo yes || true");
        async { (sh_async(line).await.trim() == "yes").then_some(()) }
    })
    .await;
}

//! The published API client of ngrok's (PyPI `ngrok-api`), pointed here: every resource, every verb.

use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use portcullis_e2e::traffic::Upstream;
use portcullis_e2e::{Stack, process};

/// Where `make tools` puts Python's environment.
fn venv() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../.tools/ngrok-api")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_published_client_works_for_every_resource_and_verb() {
    let python = venv().join("bin/python");
    assert!(python.exists(), "`make tools` installs the client");
    let stack = Stack::start().await;
    let upstream = Upstream::echo().await;
    let _agent = stack.tcp(&upstream.hostport()).await;
    let mut command = Command::new(python);
    command.arg(PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("python/ngrok_api_check.py"));
    command.args([&stack.api.url, &stack.api.key]);
    let (status, output) = tokio::task::spawn_blocking(move || {
        process::finish("ngrok-api", command, Duration::from_secs(120))
    })
    .await
    .expect("no panic");
    assert!(status.success(), "{output}");
    let done = output
        .lines()
        .filter(|line| line.starts_with("ok "))
        .count();
    assert!(done >= 20, "{output}");
}

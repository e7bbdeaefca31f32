//! Kill -9 in the middle of writes, many times: what was acknowledged is there, and no write is half.
//!
//! The test binary runs itself again as the writer; the writer says on its standard output what was
//! acknowledged, and is killed after a moment that differs from round to round.

use std::collections::BTreeSet;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use portcullis_store::kv::{Guard, Op, Txn, TxnOutcome};
use portcullis_store::{
    Clock, NewAddress, NewCloudEndpoint, NewCredential, Registry, Settings, SqliteStore, Store,
};

/// Where the writer writes; set only by the parent.
const STORE: &str = "PORTCULLIS_TEST_KILL_STORE";
const ROUNDS: u64 = 40;
const DENY: &str = "on_tcp_connect:\n  - actions:\n      - type: deny\n";

fn acknowledge(what: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "ack {what}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

fn settings() -> Settings {
    Settings::new("node-1", "eu", "edge.example.com")
}

/// Starts the writer, kills it after the wait, and returns what it said was acknowledged.
fn run_and_kill(writer: &str, store: &Path, wait: Duration) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().expect("this test"))
        .args(["--exact", writer, "--nocapture", "--test-threads=1"])
        .env(STORE, store)
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let output = BufReader::new(child.stdout.take().expect("piped"));
    let (first, started) = std::sync::mpsc::sync_channel(1);
    let reader = std::thread::spawn(move || {
        let mut acknowledged = Vec::new();
        for line in output.lines().map_while(Result::ok) {
            // The harness may print the test's name before the first line, without a line break.
            if let Some((_, what)) = line.split_once("ack ") {
                acknowledged.push(what.to_owned());
                // Only the first matters; afterwards nobody waits any more.
                first.try_send(()).unwrap_or_default();
            }
        }
        acknowledged
    });
    started
        .recv_timeout(Duration::from_secs(60))
        .expect("the writer acknowledges something");
    // The moment of the kill is what the test varies, not something it waits for.
    std::thread::park_timeout(wait);
    child.kill().expect("killed");
    child.wait().expect("reaped");
    reader.join().expect("read to the end")
}

#[test]
fn writer_of_pairs() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = Arc::new(SqliteStore::open(path).expect("opens"));
        let start = store.revision().await.expect("revision");
        let mut tasks = Vec::new();
        // Several writers at once, so that commits are shared.
        for task in 0..4_u64 {
            let store = Arc::clone(&store);
            tasks.push(tokio::spawn(async move {
                for n in 0..u64::MAX {
                    let name = format!("{start:08}-{task}-{n:08}");
                    let put = |kind: &str| Op::Put {
                        key: format!("{kind}/{name}"),
                        value: vec![b'v'; 200],
                        lease: None,
                    };
                    let guards = vec![Guard::Absent(format!("left/{name}"))];
                    let txn = Txn {
                        guards,
                        ops: vec![put("left"), put("right")],
                    };
                    let outcome = store.txn(txn).await.expect("writes");
                    assert!(matches!(outcome, TxnOutcome::Committed { .. }));
                    acknowledge(&name);
                }
            }));
        }
        for task in tasks {
            task.await.expect("runs until killed");
        }
    });
}

#[test]
fn no_acknowledged_write_is_lost_and_none_is_half() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS {
        let wait = Duration::from_micros(500 + (round * 7_919) % 30_000);
        acknowledged.extend(run_and_kill("writer_of_pairs", &path, wait));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = SqliteStore::open(&path).expect("opens after the last kill");
        let names = async |kind: &str| -> BTreeSet<String> {
            let entries = store.list(kind).await.expect("list").entries;
            entries
                .into_iter()
                .map(|entry| entry.key[kind.len()..].to_owned())
                .collect()
        };
        let (left, right) = (names("left/").await, names("right/").await);
        assert_eq!(left, right, "a transaction is whole");
        let lost: Vec<_> = acknowledged
            .iter()
            .filter(|name| !left.contains(*name))
            .collect();
        assert!(lost.is_empty(), "lost of {}: {lost:?}", acknowledged.len());
        assert!(acknowledged.len() >= ROUNDS as usize, "every round wrote");
    });
}

#[test]
fn writer_of_resources() {
    let Some(path) = std::env::var_os(STORE) else {
        return;
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = Arc::new(SqliteStore::open(path).expect("opens"));
        let registry = Registry::open(store, settings(), Clock::system())
            .await
            .expect("opens");
        let account = registry
            .bootstrap()
            .await
            .expect("an account")
            .account
            .id
            .clone();
        loop {
            let new = NewCredential::default();
            let credential = registry
                .create_credential(&account, new)
                .await
                .expect("made")
                .value
                .0;
            acknowledge(credential.id.as_str());
            let addr = registry
                .reserve_address(&account, NewAddress::default())
                .await
                .expect("made");
            acknowledge(addr.value.id.as_str());
            let new = NewCloudEndpoint {
                url: format!("tcp://{}", addr.value.addr()),
                traffic_policy: DENY.into(),
                ..NewCloudEndpoint::default()
            };
            let endpoint = registry
                .create_cloud_endpoint(&account, new)
                .await
                .expect("made")
                .value;
            acknowledge(endpoint.id.as_str());
            // Every second goes again: a deletion that was acknowledged stays one.
            if endpoint.url.port() % 2 == 0 {
                registry
                    .delete_endpoint(&account, &endpoint.id)
                    .await
                    .expect("deleted");
                acknowledge(&format!("-{}", endpoint.id));
            }
        }
    });
}

#[test]
fn no_acknowledged_resource_is_lost() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let mut acknowledged = Vec::new();
    for round in 0..ROUNDS / 2 {
        let wait = Duration::from_micros(1_000 + (round * 7_919) % 40_000);
        acknowledged.extend(run_and_kill("writer_of_resources", &path, wait));
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    runtime.expect("a runtime").block_on(async {
        let store = Arc::new(SqliteStore::open(&path).expect("opens"));
        let registry = Registry::open(store, settings(), Clock::system())
            .await
            .expect("opens");
        let snapshot = registry.snapshot();
        let account = snapshot.first_account().expect("one account").id.clone();
        assert_eq!(
            snapshot.accounts().count(),
            1,
            "the first start happened once"
        );
        let known: BTreeSet<String> = snapshot
            .credentials(&account)
            .map(|credential| credential.id.to_string())
            .chain(snapshot.addresses(&account).map(|addr| addr.id.to_string()))
            .chain(
                snapshot
                    .endpoints(&account)
                    .map(|endpoint| endpoint.id.to_string()),
            )
            .collect();
        let deleted: BTreeSet<&str> = acknowledged
            .iter()
            .filter_map(|what| what.strip_prefix('-'))
            .collect();
        let made: Vec<&String> = acknowledged
            .iter()
            .filter(|what| !what.starts_with('-'))
            .collect();
        for id in &made {
            // The last deletion of a round may have happened without being acknowledged.
            let maybe_deleted = id.starts_with("ep_") && !known.contains(*id);
            assert!(known.contains(*id) || maybe_deleted, "{id} is lost");
            assert!(
                !deleted.contains(id.as_str()) || !known.contains(*id),
                "{id} came back"
            );
        }
        let gone = made
            .iter()
            .filter(|id| !known.contains(**id) && !deleted.contains(id.as_str()))
            .count();
        assert!(
            gone as u64 <= ROUNDS / 2,
            "at most one unacknowledged deletion a round, not {gone}"
        );
        let ports: BTreeSet<_> = snapshot.addresses(&account).map(|addr| addr.port).collect();
        assert_eq!(
            ports.len(),
            snapshot.addresses(&account).count(),
            "every address is unique"
        );
    });
}

//! The file: who may open it, and what a disk that refuses leaves behind.

use std::path::Path;

use portcullis_model::{Code, Error};

use super::*;
use crate::kv::{Guard, Op, Store as _, Txn, TxnOutcome};

fn put(key: &str, value: &[u8]) -> Txn {
    Txn {
        guards: vec![Guard::Absent(key.to_owned())],
        ops: vec![Op::Put {
            key: key.to_owned(),
            value: value.to_vec(),
            lease: None,
        }],
    }
}

fn code_of(result: Result<EmbeddedStore, StoreError>) -> Code {
    Error::from(result.err().expect("refused")).code
}

fn start_with(path: &Path, pragma: &str) -> EmbeddedStore {
    let sqlite = Sqlite::open(path).expect("opens");
    sqlite.connection.execute_batch(pragma).expect("pragma");
    engine::start(sqlite, "test-store").expect("starts")
}

#[tokio::test]
async fn what_was_written_is_there_after_reopening() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let store = SqliteStore::open(&path).expect("opens");
    store.txn(put("a", b"1")).await.expect("writes");
    drop(store);
    let store = SqliteStore::open(&path).expect("opens again");
    assert_eq!(
        store
            .get("a")
            .await
            .expect("reads")
            .map(|entry| entry.value),
        Some(b"1".to_vec())
    );
    assert_eq!(store.revision().await.expect("revision"), 1);
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(&path).expect("file").permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_loses_nothing() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let store = start_with(&path, "PRAGMA max_page_count = 40");
    store.txn(put("kept", b"yes")).await.expect("writes");
    let large = vec![7_u8; 400_000];
    let error = store
        .txn(put("large", &large))
        .await
        .expect_err("does not fit");
    let error = Error::from(error);
    assert_eq!(error.code, Code::StoreFull);
    assert!(error.message.contains("store.sqlite"), "{error}");
    let after = store
        .txn(put("small", b"fits"))
        .await
        .expect("the store goes on");
    assert_eq!(after, TxnOutcome::Committed { revision: 2 });
    assert!(store.get("large").await.expect("reads").is_none());
    assert!(store.get("kept").await.expect("reads").is_some());
}

#[tokio::test]
async fn one_write_that_does_not_fit_takes_no_other_with_it() {
    let dir = tempfile::tempdir().expect("dir");
    let store = std::sync::Arc::new(start_with(
        &dir.path().join("s"),
        "PRAGMA max_page_count = 40",
    ));
    let writes = (0..20).map(|n| {
        let store = std::sync::Arc::clone(&store);
        let size = if n == 7 { 400_000 } else { 10 };
        async move {
            store
                .txn(put(&format!("k{n}"), &vec![1; size]))
                .await
                .is_ok()
        }
    });
    let done: Vec<_> = writes.map(tokio::spawn).collect();
    for (n, task) in done.into_iter().enumerate() {
        assert_eq!(task.await.expect("task"), n != 7, "write {n}");
    }
    assert_eq!(store.list("k").await.expect("list").entries.len(), 19);
}

#[tokio::test]
async fn a_read_only_store_says_so() {
    let dir = tempfile::tempdir().expect("dir");
    let store = start_with(&dir.path().join("store.sqlite"), "PRAGMA query_only = ON");
    let error = Error::from(store.txn(put("a", b"1")).await.expect_err("read-only"));
    assert_eq!(error.code, Code::StoreReadOnly);
    assert!(store.get("a").await.expect("reading still works").is_none());
    let missing = SqliteStore::open(dir.path().join("no/such/dir/store.sqlite"));
    assert_eq!(code_of(missing), Code::StoreReadOnly);
}

#[tokio::test]
async fn damaged_and_foreign_files_are_refused_untouched() {
    let dir = tempfile::tempdir().expect("dir");
    let garbage = dir.path().join("garbage");
    std::fs::write(&garbage, [b'x'; 5000]).expect("file");
    assert_eq!(code_of(SqliteStore::open(&garbage)), Code::StoreCorrupt);
    assert_eq!(std::fs::read(&garbage).expect("still there"), [b'x'; 5000]);

    let foreign = dir.path().join("foreign");
    Connection::open(&foreign)
        .expect("opens")
        .execute_batch("CREATE TABLE t (a)")
        .expect("table");
    let before = std::fs::read(&foreign).expect("file");
    assert_eq!(code_of(SqliteStore::open(&foreign)), Code::StoreCorrupt);
    assert_eq!(std::fs::read(&foreign).expect("file"), before);
}

#[tokio::test]
async fn a_page_of_noise_is_found_at_open() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let store = SqliteStore::open(&path).expect("opens");
    for n in 0..200 {
        store
            .txn(put(&format!("key-{n}"), &[n as u8; 300]))
            .await
            .expect("writes");
    }
    drop(store);
    let mut bytes = std::fs::read(&path).expect("file");
    assert!(bytes.len() > 40_000, "the log was folded back at close");
    bytes[8192..20_480].fill(0xA5);
    std::fs::write(&path, bytes).expect("damage");
    assert_eq!(code_of(SqliteStore::open(&path)), Code::StoreCorrupt);
}

#[tokio::test]
async fn a_newer_release_s_file_is_refused() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    drop(SqliteStore::open(&path).expect("opens"));
    Connection::open(&path)
        .expect("opens")
        .execute_batch("PRAGMA user_version = 99")
        .expect("pragma");
    let error = Error::from(SqliteStore::open(&path).err().expect("refused"));
    assert_eq!(error.code, Code::StoreVersion);
    assert!(error.message.contains("99"), "{error}");
}

#[tokio::test]
async fn a_second_writer_is_noticed() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("store.sqlite");
    let first = SqliteStore::open(&path).expect("opens");
    let second = SqliteStore::open(&path).expect("opens as well");
    first.txn(put("a", b"1")).await.expect("writes");
    let error = Error::from(
        second
            .txn(put("b", b"2"))
            .await
            .expect_err("another one writes"),
    );
    assert_eq!(error.code, Code::StateDirLocked);
}

#[tokio::test]
async fn a_registry_on_a_full_disk_keeps_what_it_acknowledged_and_goes_on() {
    use crate::{Clock, NewCredential, Registry, Settings};
    let dir = tempfile::tempdir().expect("dir");
    let store = std::sync::Arc::new(start_with(
        &dir.path().join("s"),
        "PRAGMA max_page_count = 60",
    ));
    let settings = Settings::new("node-1", "eu", "edge.example.com");
    let registry = Registry::open(store, settings, Clock::system())
        .await
        .expect("opens");
    let account = registry.bootstrap().await.expect("bootstrap").account;
    let new = || NewCredential {
        metadata: "x".repeat(4_000),
        ..NewCredential::default()
    };
    let mut made = Vec::new();
    let refusal = loop {
        match registry.create_credential(&account.id, new()).await {
            Ok(written) => made.push(written.value),
            Err(error) => break error,
        }
    };
    assert_eq!(refusal.code, Code::StoreFull);
    assert!(!made.is_empty());
    let known = registry.snapshot().credentials(&account.id).count();
    assert_eq!(known, made.len() + 1, "the refused one is nowhere");
    let (last, _) = made.pop().expect("some");
    registry
        .delete_credential(&account.id, &last.id)
        .await
        .expect("deleting makes room");
    registry
        .create_credential(&account.id, new())
        .await
        .expect("fits again");
    for (_, token) in &made {
        registry
            .authenticate_credential(token.expose())
            .expect("still valid");
    }
}

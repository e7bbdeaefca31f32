//! The store suite, run against both implementations that live here.

use std::sync::Arc;

use portcullis_store::{MemoryStore, SqliteStore, Store, conformance};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_keeps_the_promises() {
    conformance::run(|| async { Arc::new(MemoryStore::open().expect("opens")) as Arc<dyn Store> })
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_promises() {
    let dir = tempfile::tempdir().expect("dir");
    let next = std::sync::atomic::AtomicU32::new(0);
    conformance::run(|| async {
        let number = next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = dir.path().join(format!("{number}.sqlite"));
        Arc::new(SqliteStore::open(path).expect("opens")) as Arc<dyn Store>
    })
    .await;
}

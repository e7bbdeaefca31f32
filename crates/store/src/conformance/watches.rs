//! Watches: every change once, in order, or an error that says how far behind one is.

use std::sync::Arc;
use std::time::Duration;

use super::{delete, put, write};
use crate::error::StoreError;
use crate::kv::{Change, Store, Watch};

/// Far more than any store needs; reached only when a promise is broken.
const PATIENCE: Duration = Duration::from_secs(20);

async fn collect(watch: &mut dyn Watch, count: usize) -> Vec<Change> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let next = tokio::time::timeout(PATIENCE, watch.next()).await;
        changes.extend(
            next.expect("a change arrives in time")
                .expect("the watch goes on"),
        );
    }
    assert_eq!(changes.len(), count, "no change is told twice");
    changes
}

pub(super) async fn tells_every_change_once_in_order(store: Arc<dyn Store>) {
    let from = store.revision().await.expect("revision") + 1;
    let mut watch = store.watch("k/", from).await.expect("watch");
    let writer = Arc::clone(&store);
    let writes = tokio::task::spawn(async move {
        let mut revisions = Vec::new();
        for n in 0..300_u32 {
            let key = format!("k/{}", n % 7);
            let op = if n % 5 == 4 && n > 7 {
                delete(&key)
            } else {
                put(&key, &n.to_string())
            };
            let before = writer.revision().await.expect("revision");
            let revision = write(&*writer, vec![op]).await;
            if revision > before {
                revisions.push((revision, key));
            }
        }
        revisions
    });
    let expected = writes.await.expect("the writer ends");
    let told: Vec<(u64, String)> = collect(&mut *watch, expected.len())
        .await
        .into_iter()
        .map(|change| (change.revision, change.key))
        .collect();
    assert_eq!(told, expected);
}

pub(super) async fn starts_from_a_past_revision(store: Arc<dyn Store>) {
    write(&*store, vec![put("a", "1")]).await;
    let second = write(&*store, vec![put("a", "2")]).await;
    write(&*store, vec![delete("a")]).await;
    let mut watch = store.watch("", second).await.expect("watch");
    let changes = collect(&mut *watch, 2).await;
    assert_eq!(
        changes[0].entry.as_ref().map(|entry| entry.value.clone()),
        Some(b"2".to_vec())
    );
    assert_eq!(
        changes[0].revision, second,
        "the revision asked for is included"
    );
    assert!(changes[1].entry.is_none(), "a deletion has no entry");
}

pub(super) async fn sees_only_its_prefix(store: Arc<dyn Store>) {
    let from = store.revision().await.expect("revision") + 1;
    let mut watch = store.watch("in/", from).await.expect("watch");
    write(&*store, vec![put("out/1", "x")]).await;
    write(&*store, vec![put("in/1", "x"), put("out/2", "x")]).await;
    let changes = collect(&mut *watch, 1).await;
    assert_eq!(changes[0].key, "in/1");
}

pub(super) async fn keeps_a_transaction_together(store: Arc<dyn Store>) {
    let from = store.revision().await.expect("revision") + 1;
    let mut watch = store.watch("", from).await.expect("watch");
    write(&*store, vec![put("a", "1"), put("b", "1"), put("c", "1")]).await;
    let first = tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("in time")
        .expect("changes");
    assert_eq!(first.len(), 3, "a revision is told whole");
    assert!(
        first
            .iter()
            .all(|change| change.revision == first[0].revision)
    );
}

pub(super) async fn refuses_what_is_no_longer_kept(store: Arc<dyn Store>) {
    let first = write(&*store, vec![put("k", "0")]).await;
    // A mebibyte a time: more than any implementation keeps, in few writes. At most 200 of them.
    let large = "x".repeat(1 << 20);
    for _ in 0..200 {
        write(&*store, vec![put("k", &large)]).await;
        match store.watch("k", first).await {
            Ok(_) => {}
            Err(StoreError::Compacted { wanted, oldest }) => {
                assert_eq!(wanted, first);
                assert!(
                    store.watch("k", oldest).await.is_ok(),
                    "the oldest revision named is kept"
                );
                return;
            }
            Err(other) => panic!("expected a compaction error, got {other}"),
        }
    }
    panic!("the store keeps its history without a bound");
}

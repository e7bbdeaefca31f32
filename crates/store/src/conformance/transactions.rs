//! Reads, guards and revisions.

use std::sync::Arc;

use super::{committed, delete, guarded, put, value, write};
use crate::error::StoreError;
use crate::kv::{Guard, Store, Txn, TxnOutcome};

fn refused(outcome: TxnOutcome) -> bool {
    matches!(outcome, TxnOutcome::Refused { .. })
}

pub(super) async fn reads_what_was_written(store: Arc<dyn Store>) {
    assert_eq!(
        value(&*store, "k").await,
        None,
        "a key that was never put is absent"
    );
    let first = write(&*store, vec![put("k", "1")]).await;
    let second = write(&*store, vec![put("k", "2")]).await;
    let entry = store
        .get("k")
        .await
        .expect("get")
        .expect("the key is there");
    assert_eq!((entry.create_revision, entry.mod_revision), (first, second));
    assert_eq!(entry.value, b"2");
    write(&*store, vec![delete("k")]).await;
    assert_eq!(value(&*store, "k").await, None, "a deleted key is absent");
    let again = write(&*store, vec![put("k", "3")]).await;
    let entry = store
        .get("k")
        .await
        .expect("get")
        .expect("the key is there again");
    assert_eq!(
        entry.create_revision, again,
        "a key that comes back is a new one"
    );
}

pub(super) async fn lists_by_prefix_in_key_order(store: Arc<dyn Store>) {
    let keys = ["a/2", "a/10", "b/1", "a0", "a/", "a"];
    let revision = write(&*store, keys.iter().map(|key| put(key, "x")).collect()).await;
    let listing = store.list("a/").await.expect("list");
    let found: Vec<&str> = listing
        .entries
        .iter()
        .map(|entry| entry.key.as_str())
        .collect();
    assert_eq!(found, ["a/", "a/10", "a/2"]);
    assert_eq!(listing.revision, revision);
    assert_eq!(
        store.list("").await.expect("list").entries.len(),
        keys.len()
    );
    assert!(store.list("zzz").await.expect("list").entries.is_empty());
}

pub(super) async fn guards_decide(store: Arc<dyn Store>) {
    let made = write(&*store, vec![put("k", "v")]).await;
    let cases = [
        (Guard::Exists("k".into()), true),
        (Guard::Exists("none".into()), false),
        (Guard::Absent("none".into()), true),
        (Guard::Absent("k".into()), false),
        (Guard::ModRevision("k".into(), made), true),
        (Guard::ModRevision("k".into(), made + 1), false),
        (Guard::ModRevision("none".into(), 0), true),
        (Guard::ModRevision("none".into(), made), false),
        (Guard::Value("k".into(), b"v".to_vec()), true),
        (Guard::Value("k".into(), b"w".to_vec()), false),
        (Guard::Value("none".into(), Vec::new()), false),
    ];
    for (index, (guard, holds)) in cases.into_iter().enumerate() {
        let key = format!("case/{index}");
        let outcome = guarded(&*store, guard.clone(), put(&key, "x")).await;
        assert_eq!(!refused(outcome), holds, "{guard:?}");
        assert_eq!(value(&*store, &key).await.is_some(), holds, "{guard:?}");
    }
}

pub(super) async fn none_newer_sees_creations_and_changes(store: Arc<dyn Store>) {
    let seen = write(&*store, vec![put("p/1", "x"), put("other", "x")]).await;
    let guard = |revision| Guard::NoneNewer {
        prefix: "p/".into(),
        revision,
    };
    assert!(
        !refused(guarded(&*store, guard(seen), put("out/1", "x")).await),
        "nothing happened under p/"
    );
    write(&*store, vec![put("other", "y")]).await;
    assert!(
        !refused(guarded(&*store, guard(seen), put("out/2", "x")).await),
        "other keys do not count"
    );
    let changed = write(&*store, vec![put("p/1", "y")]).await;
    assert!(
        refused(guarded(&*store, guard(seen), put("out/3", "x")).await),
        "a change counts"
    );
    let created = write(&*store, vec![put("p/2", "x")]).await;
    assert!(
        refused(guarded(&*store, guard(changed), put("out/4", "x")).await),
        "a creation counts"
    );
    write(&*store, vec![delete("p/2"), delete("p/1")]).await;
    assert!(
        !refused(guarded(&*store, guard(created), put("out/5", "x")).await),
        "deletions do not count"
    );
}

pub(super) async fn all_or_nothing(store: Arc<dyn Store>) {
    write(&*store, vec![put("a", "1")]).await;
    let txn = Txn {
        guards: vec![Guard::Exists("a".into()), Guard::Absent("a".into())],
        ops: vec![put("b", "1"), delete("a")],
    };
    assert!(
        refused(store.txn(txn).await.expect("answers")),
        "one guard that fails is enough"
    );
    assert_eq!(value(&*store, "a").await.as_deref(), Some("1"));
    assert_eq!(value(&*store, "b").await, None);
}

pub(super) async fn refuses_to_change_a_key_twice(store: Arc<dyn Store>) {
    let txn = Txn {
        guards: Vec::new(),
        ops: vec![put("a", "1"), delete("a")],
    };
    assert!(matches!(
        store.txn(txn).await,
        Err(StoreError::Invalid { .. })
    ));
}

pub(super) async fn revisions_only_grow(store: Arc<dyn Store>) {
    let mut last = store.revision().await.expect("revision");
    for n in 0..20 {
        let revision = write(&*store, vec![put("k", &n.to_string()), put("l", "x")]).await;
        assert!(revision > last, "a change has a revision of its own");
        last = revision;
        assert_eq!(store.revision().await.expect("revision"), last);
    }
    let refusal = guarded(&*store, Guard::Absent("k".into()), put("m", "x")).await;
    assert_eq!(
        refusal,
        TxnOutcome::Refused { revision: last },
        "a refusal says where the store is"
    );
    assert_eq!(
        write(&*store, vec![delete("none")]).await,
        last,
        "nothing changed, so no new revision"
    );
}

pub(super) async fn one_of_many_writers_wins(store: Arc<dyn Store>) {
    let tries = (0..64).map(|n| {
        let store = Arc::clone(&store);
        tokio::task::spawn(async move {
            let outcome = guarded(
                &*store,
                Guard::Absent("prize".into()),
                put("prize", &n.to_string()),
            )
            .await;
            (n, outcome)
        })
    });
    let mut winners = Vec::new();
    for task in tries.collect::<Vec<_>>() {
        let (n, outcome) = task.await.expect("a writer's task ends");
        if !refused(outcome) {
            committed(outcome);
            winners.push(n.to_string());
        }
    }
    assert_eq!(winners.len(), 1, "exactly one writer gets the key");
    assert_eq!(value(&*store, "prize").await.as_ref(), winners.first());
}

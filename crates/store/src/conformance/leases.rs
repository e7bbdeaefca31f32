//! Leases: keys that live as long as someone says so.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{put, put_under, value, write};
use crate::error::StoreError;
use crate::kv::{LeaseId, Store, Txn};

/// The shortest that every store can count in.
const TTL: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(30);

async fn until_gone(store: &dyn Store, key: &str) {
    let deadline = Instant::now() + PATIENCE;
    while value(store, key).await.is_some() {
        assert!(Instant::now() < deadline, "`{key}` outlives its lease");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

pub(super) async fn ending_deletes_the_keys(store: Arc<dyn Store>) {
    let lease = store.lease_grant(TTL).await.expect("grant");
    write(
        &*store,
        vec![put_under("held", "x", Some(lease)), put("free", "x")],
    )
    .await;
    until_gone(&*store, "held").await;
    assert!(value(&*store, "free").await.is_some(), "other keys stay");
    assert!(matches!(
        store.lease_keep_alive(lease).await,
        Err(StoreError::LeaseGone)
    ));
}

pub(super) async fn keeping_alive_keeps_the_keys(store: Arc<dyn Store>) {
    let lease = store.lease_grant(TTL).await.expect("grant");
    write(&*store, vec![put_under("held", "x", Some(lease))]).await;
    let until = Instant::now() + TTL * 3;
    while Instant::now() < until {
        store
            .lease_keep_alive(lease)
            .await
            .expect("the lease lives");
        tokio::time::sleep(TTL / 5).await;
    }
    assert!(value(&*store, "held").await.is_some());
    store.lease_revoke(lease).await.expect("revoke");
}

pub(super) async fn revoking_deletes_the_keys_in_one_revision(store: Arc<dyn Store>) {
    let lease = store.lease_grant(PATIENCE).await.expect("grant");
    let made = write(
        &*store,
        vec![
            put_under("a", "x", Some(lease)),
            put_under("b", "x", Some(lease)),
        ],
    )
    .await;
    let mut watch = store.watch("", made + 1).await.expect("watch");
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(value(&*store, "a").await, None);
    let changes = tokio::time::timeout(PATIENCE, watch.next())
        .await
        .expect("in time")
        .expect("changes");
    assert_eq!(changes.len(), 2);
    assert!(
        changes
            .iter()
            .all(|change| change.entry.is_none() && change.revision == made + 1)
    );
}

pub(super) async fn a_key_leaves_its_lease_when_put_without(store: Arc<dyn Store>) {
    let lease = store.lease_grant(PATIENCE).await.expect("grant");
    write(&*store, vec![put_under("k", "x", Some(lease))]).await;
    write(&*store, vec![put("k", "y")]).await;
    store.lease_revoke(lease).await.expect("revoke");
    assert_eq!(value(&*store, "k").await.as_deref(), Some("y"));
}

pub(super) async fn a_lease_that_is_gone_is_refused(store: Arc<dyn Store>) {
    let lease = store.lease_grant(PATIENCE).await.expect("grant");
    store.lease_revoke(lease).await.expect("revoke");
    for gone in [lease, LeaseId(i64::MAX)] {
        let txn = Txn {
            guards: Vec::new(),
            ops: vec![put("a", "x"), put_under("k", "x", Some(gone))],
        };
        assert!(matches!(store.txn(txn).await, Err(StoreError::LeaseGone)));
        assert!(matches!(
            store.lease_revoke(gone).await,
            Err(StoreError::LeaseGone)
        ));
    }
    assert_eq!(
        value(&*store, "a").await,
        None,
        "nothing of the transaction happened"
    );
}

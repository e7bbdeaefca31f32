//! A store that breaks: a watch that falls behind, a lease that is lost, a record that is damaged.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;

use super::*;
use crate::StoreError;
use crate::kv::{Change, Entry, LeaseId, Listing, Op, Txn, TxnOutcome, Watch};
use crate::requests::{DirectSpec, NewApiKey};

/// A store whose watches break as long as it is told so: first the running one, then each that is
/// asked for, until it says that the changes are gone.
struct Forgetful {
    store: Arc<dyn Store>,
    breaks: Arc<AtomicBool>,
    refuses_once: AtomicBool,
}

struct Breaking {
    watch: Box<dyn Watch>,
    breaks: Arc<AtomicBool>,
}

#[async_trait]
impl Watch for Breaking {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        let changes = self.watch.next().await?;
        if self.breaks.swap(false, Ordering::AcqRel) {
            // The changes are lost, as when a connection to a remote store breaks.
            return Err(StoreError::Unavailable {
                cause: "cut".into(),
            });
        }
        Ok(changes)
    }
}

#[async_trait]
impl Store for Forgetful {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        self.store.get(key).await
    }
    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        self.store.list(prefix).await
    }
    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        self.store.txn(txn).await
    }
    async fn watch(&self, prefix: &str, from: u64) -> Result<Box<dyn Watch>, StoreError> {
        if self.refuses_once.swap(false, Ordering::AcqRel) {
            return Err(StoreError::Compacted {
                wanted: from,
                oldest: from + 1,
            });
        }
        let watch = self.store.watch(prefix, from).await?;
        Ok(Box::new(Breaking {
            watch,
            breaks: Arc::clone(&self.breaks),
        }))
    }
    async fn revision(&self) -> Result<u64, StoreError> {
        self.store.revision().await
    }
    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        self.store.lease_grant(ttl).await
    }
    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.lease_keep_alive(lease).await
    }
    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.store.lease_revoke(lease).await
    }
}

#[tokio::test]
async fn a_watch_that_breaks_is_taken_up_again_even_when_changes_are_gone() {
    for gone in [false, true] {
        let forgetful = Arc::new(Forgetful {
            store: Arc::new(MemoryStore::open().expect("a thread")),
            breaks: Arc::default(),
            refuses_once: AtomicBool::new(false),
        });
        let store: Arc<dyn Store> = forgetful.clone();
        let registry = Registry::open(store, settings(), Clock::system())
            .await
            .expect("opens");
        let account = new_account(&registry, "a", None).await;
        forgetful.breaks.store(true, Ordering::Release);
        forgetful.refuses_once.store(gone, Ordering::Release);
        // The watch loses this very change; the write answers all the same, when it is seen.
        let key = registry.create_api_key(&account, NewApiKey::default());
        let key = tokio::time::timeout(Duration::from_secs(20), key)
            .await
            .expect("in time")
            .expect("made");
        assert!(
            registry
                .snapshot()
                .api_key(&account, &key.value.0.id)
                .is_some()
        );
        registry
            .create_api_key(&account, NewApiKey::default())
            .await
            .expect("goes on");
        assert_eq!(registry.snapshot().api_keys(&account).count(), 2);
    }
}

#[tokio::test]
async fn a_lost_lease_is_taken_again_and_direct_endpoints_come_back() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    let spec = DirectSpec {
        port: Some(20_001),
        upstream: "tcp://127.0.0.1:1".into(),
        ..DirectSpec::default()
    };
    let endpoint = bed
        .registry
        .bind_direct(&bed.account, spec)
        .await
        .expect("bound")
        .value;
    let lease = LeaseId(bed.registry.inner.lease.load(Ordering::Acquire));
    bed.store.lease_revoke(lease).await.expect("lost");
    let revision = bed.store.revision().await.expect("revision");
    let snapshot = bed.registry.at_revision(revision).await.expect("followed");
    assert!(
        snapshot.session_by_id(&session).is_none()
            && snapshot.endpoint_by_id(&endpoint.id).is_none()
    );
    bed.registry.keep_lease().await.expect("taken again");
    let snapshot = bed.registry.snapshot();
    let pool = snapshot.public(HOST, 20_001).expect("back");
    assert_eq!(pool.members.len(), 1);
    bed.session().await;
    bed.registry.keep_lease().await.expect("kept");
}

#[tokio::test]
async fn a_damaged_record_is_named_at_start_and_left_out_while_running() {
    let bed = Bed::new().await;
    let key = format!("account/{}", bed.account);
    let damage = Op::Put {
        key: key.clone(),
        value: b"{".to_vec(),
        lease: None,
    };
    let outcome = bed
        .store
        .txn(Txn {
            guards: Vec::new(),
            ops: vec![damage],
        })
        .await
        .expect("writes");
    let TxnOutcome::Committed { revision } = outcome else {
        panic!("no guard")
    };
    let snapshot = bed.registry.at_revision(revision).await.expect("followed");
    assert!(snapshot.account(&bed.account).is_some(), "as it was");
    let error = Registry::open(Arc::clone(&bed.store), settings(), Clock::system())
        .await
        .expect_err("damaged");
    assert_eq!(error.code, Code::StoreCorrupt);
    assert!(error.message.contains(&key), "{error}");
}

#[tokio::test]
async fn a_closed_registry_gives_up_its_sessions_and_refuses_writes() {
    let bed = Bed::new().await;
    let session = bed.session().await;
    bed.registry.close().await.expect("closes");
    bed.registry.close().await.expect("closing twice is fine");
    let left = bed
        .store
        .list(&format!("session/{}/", bed.account))
        .await
        .expect("list")
        .entries;
    assert!(left.is_empty(), "{session} is left");
    let refused = bed
        .registry
        .create_api_key(&bed.account, NewApiKey::default())
        .await;
    assert_eq!(code(refused.map(|_| ())), Code::StoreUnavailable);
}

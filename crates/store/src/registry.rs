//! The registry: every write of a resource, each one transaction whose guards are the rules.
//!
//! Owns: the snapshot, the node's lease, the sweep of rested addresses. Must never: answer a write
//! before the local snapshot shows it.

mod accounts;
mod addresses;
mod api_keys;
mod binds;
mod bootstrap;
mod claims;
mod cloud;
mod credentials;
mod directs;
mod draft;
mod endpoints;
mod follow;
mod ip_policies;
mod places;
mod presence;
mod sessions;
mod sweep;
mod takeover;
mod tls_names;

// Vaults and secrets
mod secret_uses;
mod vaults;

// TLS material and restrictions
mod certificates;
mod restrictions;

use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use portcullis_model::{Account, AccountId, Code, Error, Secret, SessionId, TunnelSession};
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::defaults;
use crate::ids::IdMaker;
use crate::kv::{LeaseId, Store, TxnOutcome};
use crate::requests::DirectSpec;
use crate::settings::Settings;
use crate::snapshot::Snapshot;
use draft::Draft;

/// What a write made, and the revision from which readers see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// The record as written.
    pub value: T,
    /// The store's revision (`Portcullis-Revision`).
    pub revision: u64,
}

/// What the first start made. The secrets are there only then.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The first account.
    pub account: Arc<Account>,
    /// The first admin API key.
    pub admin_key: Option<Secret>,
    /// The authtoken of the first credential, for the join string.
    pub authtoken: Option<Secret>,
    /// Whether this was the first start.
    pub first: bool,
}

/// A session that was opened, and those it takes the place of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenedSession {
    /// The new session.
    pub session: TunnelSession,
    /// Sessions that ended with it; their endpoints are already gone.
    pub superseded: Vec<Superseded>,
}

/// A session that another took the place of, and what its agent is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Superseded {
    /// The session.
    pub session: SessionId,
    /// `PTC_AGENT_FENCED`, or `PTC_AGENT_DUPLICATE` when the older process wins.
    pub code: Code,
}

/// The registry of one node. Cloning it is cheap; all clones are the same registry.
#[derive(Clone)]
pub struct Registry {
    inner: Arc<Inner>,
}

struct Inner {
    store: Arc<dyn Store>,
    clock: Clock,
    ids: IdMaker,
    current: Arc<ArcSwap<Snapshot>>,
    published: watch::Receiver<Arc<Snapshot>>,
    /// Writes that could lose against each other go one after the other, by account.
    queues: Vec<Semaphore>,
    /// The node's lease; replaced when it was lost.
    lease: AtomicI64,
    /// Direct endpoints, to be brought back when the lease was lost.
    directs: Mutex<Vec<(AccountId, DirectSpec)>>,
    stop: CancellationToken,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Registry")
            .field("revision", &self.snapshot().revision())
            .finish_non_exhaustive()
    }
}

impl Registry {
    /// Reads everything, removes what an earlier run of this node left, takes the node's lease, and
    /// starts to follow the store.
    ///
    /// # Errors
    /// `PTC_STORE_…` when the store fails or holds what cannot be read, `PTC_CONFIG_INVALID`.
    pub async fn open(
        store: Arc<dyn Store>,
        settings: Settings,
        clock: Clock,
    ) -> Result<Self, Error> {
        let settings = Arc::new(settings.checked()?);
        let lease = presence::take_over(&*store, &settings).await?;
        let listing = store.list("").await?;
        let first = Arc::new(Snapshot::read(Arc::clone(&settings), listing)?);
        let changes = store.watch("", first.revision() + 1).await?;
        let current = Arc::new(ArcSwap::new(Arc::clone(&first)));
        let (publisher, published) = watch::channel(first);
        let stop = CancellationToken::new();
        let follower = follow::Follower {
            store: Arc::clone(&store),
            current: Arc::clone(&current),
            publisher,
        };
        tokio::spawn(follower.run(changes, stop.clone()));
        let registry = Self {
            inner: Arc::new(Inner {
                store,
                clock,
                ids: IdMaker::default(),
                current,
                published,
                queues: (0..defaults::WRITE_QUEUES)
                    .map(|_| Semaphore::new(1))
                    .collect(),
                lease: AtomicI64::new(lease.0),
                directs: Mutex::default(),
                stop: stop.clone(),
            }),
        };
        registry.sweep().await?;
        tokio::spawn(presence::keep(
            Arc::downgrade(&registry.inner),
            stop.clone(),
            settings.lease_ttl,
        ));
        tokio::spawn(sweep::keep_sweeping(Arc::downgrade(&registry.inner), stop));
        Ok(registry)
    }

    /// Everything as of now. Never waits.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.inner.current.load_full()
    }

    /// The snapshots from now on; a slow reader sees the newest only. It tells that there is a new one: the one that
    /// it shows first may be older than [`Self::snapshot`], and than what the caller was just answered.
    pub fn watch(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.inner.published.clone()
    }

    /// The first snapshot of at least this revision (`Portcullis-Revision` of a read).
    ///
    /// # Errors
    /// `PTC_STORE_UNAVAILABLE` when the registry stops following the store meanwhile.
    ///
    /// # Cancel safety
    /// Safe. Waits without a bound for a revision that never comes; give it a deadline.
    pub async fn at_revision(&self, revision: u64) -> Result<Arc<Snapshot>, Error> {
        let now = self.snapshot();
        if now.revision() >= revision {
            return Ok(now);
        }
        let mut published = self.watch();
        let reached = published
            .wait_for(|snapshot| snapshot.revision() >= revision)
            .await;
        reached
            .map(|snapshot| Arc::clone(&snapshot))
            .map_err(|_| Error::new(Code::StoreUnavailable, "the registry has stopped"))
    }

    /// Ends what this node holds (sessions, their endpoints, direct endpoints) and stops following.
    ///
    /// # Errors
    /// `PTC_STORE_…`; the lease then ends by itself.
    pub async fn close(&self) -> Result<(), Error> {
        let lease = LeaseId(self.inner.lease.load(Ordering::Acquire));
        let revoked = self.inner.store.lease_revoke(lease).await;
        self.inner.stop.cancel();
        match revoked {
            Ok(()) | Err(crate::StoreError::LeaseGone) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Plans on the newest snapshot, commits if nothing that the plan rests on has changed, and plans
    /// anew otherwise. Answers when the local snapshot shows the write.
    async fn write<T>(
        &self,
        queue: &str,
        mut plan: impl FnMut(&mut Draft<'_>) -> Result<T, Error>,
    ) -> Result<Written<T>, Error> {
        // A queue, not a lock on data: without it writers of one account would refuse each other.
        let place = queue.bytes().fold(0_usize, |hash, byte| {
            hash.wrapping_mul(31).wrapping_add(usize::from(byte))
        });
        let queue = &self.inner.queues[place % self.inner.queues.len()];
        let stopped = || Error::new(Code::StoreUnavailable, "the registry has stopped");
        let _turn = queue.acquire().await.map_err(|_| stopped())?;
        if self.inner.stop.is_cancelled() {
            return Err(stopped());
        }
        for attempt in 0..defaults::WRITE_ATTEMPTS {
            let snapshot = self.snapshot();
            let (value, txn) = {
                let lease = LeaseId(self.inner.lease.load(Ordering::Acquire));
                let mut draft =
                    Draft::new(&snapshot, self.inner.clock.now(), lease, &self.inner.ids);
                match plan(&mut draft) {
                    Ok(value) => (value, draft.finish()),
                    // The rule may have judged by a snapshot that lags behind; then it judges again.
                    Err(error) if self.catch_up(&snapshot).await? => {
                        tracing::debug!(%error, "refused on an old snapshot; judged anew");
                        continue;
                    }
                    Err(error) => return Err(error),
                }
            };
            if txn.ops.is_empty() {
                return Ok(Written {
                    value,
                    revision: snapshot.revision(),
                });
            }
            match self.inner.store.txn(txn).await? {
                TxnOutcome::Committed { revision } => {
                    self.at_revision(revision).await?;
                    return Ok(Written { value, revision });
                }
                TxnOutcome::Refused { revision } => {
                    self.at_revision(revision).await?;
                    follow::back_off(attempt).await?;
                }
            }
        }
        Err(Error::of(Code::StoreConflict))
    }

    /// Whether the store had moved on from a snapshot; then the current one has caught up.
    async fn catch_up(&self, seen: &Snapshot) -> Result<bool, Error> {
        let latest = self.inner.store.revision().await?;
        if latest <= seen.revision() {
            return Ok(false);
        }
        self.at_revision(latest).await?;
        Ok(true)
    }
}

#[cfg(test)]
mod tests;

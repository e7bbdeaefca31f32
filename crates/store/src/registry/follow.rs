//! Following the store: every change becomes part of the next snapshot, which is then published.
//!
//! Must never: publish an older snapshot after a newer one, or stop because one record is unreadable.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use portcullis_model::Error;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::defaults;
use crate::error::StoreError;
use crate::ids;
use crate::kv::{Store, Watch};
use crate::snapshot::Snapshot;

/// Wait before a failed watch is tried again.
const RETRY: Duration = Duration::from_millis(200);

pub(super) struct Follower {
    pub(super) store: Arc<dyn Store>,
    pub(super) current: Arc<ArcSwap<Snapshot>>,
    pub(super) publisher: watch::Sender<Arc<Snapshot>>,
}

impl Follower {
    /// Runs until told to stop. Every wait is bounded by the store's next change or the stop.
    pub(super) async fn run(self, mut changes: Box<dyn Watch>, stop: CancellationToken) {
        loop {
            let next = tokio::select! {
                // Stopping comes first, so that a busy store cannot keep the task alive.
                biased;
                () = stop.cancelled() => return,
                next = changes.next() => next,
            };
            match next {
                Ok(batch) => {
                    let (snapshot, unreadable) = self.current.load().with(&batch);
                    for error in unreadable {
                        tracing::error!(%error, "a record is left as it was");
                    }
                    self.publish(snapshot);
                }
                Err(error) => {
                    tracing::warn!(%error, "the watch of the store broke; it starts again");
                    match self.again(&stop).await {
                        Some(again) => changes = again,
                        None => return,
                    }
                }
            }
        }
    }

    fn publish(&self, snapshot: Snapshot) {
        let snapshot = Arc::new(snapshot);
        self.current.store(Arc::clone(&snapshot));
        self.publisher.send_replace(snapshot);
    }

    /// Watches from where this one is; reads everything anew when that is no longer possible.
    async fn again(&self, stop: &CancellationToken) -> Option<Box<dyn Watch>> {
        loop {
            match self.resume().await {
                Ok(changes) => return Some(changes),
                Err(error) => tracing::warn!(%error, "the store cannot be followed yet"),
            }
            tokio::select! {
                biased;
                () = stop.cancelled() => return None,
                () = tokio::time::sleep(RETRY) => {}
            }
        }
    }

    async fn resume(&self) -> Result<Box<dyn Watch>, StoreError> {
        let current = self.current.load_full();
        match self.store.watch("", current.revision() + 1).await {
            Err(StoreError::Compacted { .. }) => {
                let listing = self.store.list("").await?;
                let snapshot = Snapshot::read(Arc::clone(current.settings()), listing)?;
                let changes = self.store.watch("", snapshot.revision() + 1).await?;
                self.publish(snapshot);
                Ok(changes)
            }
            other => other,
        }
    }
}

/// Waits a little, at random, so that writers who lost against each other don't meet again.
pub(super) async fn back_off(attempt: u32) -> Result<(), Error> {
    let most = defaults::WRITE_BACKOFF_MAX.min(Duration::from_millis(1 << attempt.min(10)));
    let micros = u32::try_from(most.as_micros()).unwrap_or(u32::MAX);
    tokio::time::sleep(Duration::from_micros(ids::below(micros)?.into())).await;
    Ok(())
}

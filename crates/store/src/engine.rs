//! What every embedded store shares: one thread that owns the bytes, guards, leases, group commit
//! and the history that watches read. A [`Backend`] only keeps keys and values.
//!
//! Owns: the order of revisions. Must never: answer a write before its commit, or publish a change
//! that did not commit.

mod batch;
mod handle;
mod history;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::time::{Duration, Instant};

use tokio::sync::{oneshot, watch};

use crate::defaults;
use crate::error::StoreError;
use crate::kv::{Entry, LeaseId, Listing, Txn, TxnOutcome};
pub use handle::EmbeddedStore;
use history::History;

/// Keeps keys and values, and what one commit must keep together.
pub(crate) trait Backend: Send + 'static {
    /// The revision of the last commit.
    fn revision(&mut self) -> Result<u64, StoreError>;
    /// The leases that were not revoked.
    fn leases(&mut self) -> Result<Vec<(LeaseId, Duration)>, StoreError>;
    fn get(&mut self, key: &str) -> Result<Option<Entry>, StoreError>;
    fn list(&mut self, prefix: &str) -> Result<Vec<Entry>, StoreError>;
    /// The newest `mod_revision` under a prefix, 0 when nothing is there.
    fn newest(&mut self, prefix: &str) -> Result<u64, StoreError>;
    fn lease_keys(&mut self, lease: LeaseId) -> Result<Vec<String>, StoreError>;
    fn begin(&mut self) -> Result<(), StoreError>;
    fn put(&mut self, entry: &Entry) -> Result<(), StoreError>;
    fn delete(&mut self, key: &str) -> Result<(), StoreError>;
    fn lease_put(&mut self, lease: LeaseId, ttl: Duration) -> Result<(), StoreError>;
    fn lease_delete(&mut self, lease: LeaseId) -> Result<(), StoreError>;
    fn commit(&mut self, revision: u64) -> Result<(), StoreError>;
    /// Leaves the backend as it was at `begin`; must not fail.
    fn rollback(&mut self);
}

/// What the thread is asked for.
#[derive(Debug)]
enum Command {
    Get(String),
    List(String),
    Txn(Txn),
    Grant(Duration),
    KeepAlive(LeaseId),
    Revoke(LeaseId),
}

/// What it answers.
#[derive(Debug)]
enum Answer {
    Entry(Option<Entry>),
    Listing(Listing),
    Txn(TxnOutcome),
    Lease(LeaseId),
    Done,
}

struct Request {
    command: Command,
    reply: oneshot::Sender<Result<Answer, StoreError>>,
    /// Gives the caller's place in the queue back when the request is done.
    _slot: tokio::sync::OwnedSemaphorePermit,
}

#[derive(Debug, Clone, Copy)]
struct Lease {
    ttl: Duration,
    deadline: Instant,
}

struct Engine<B> {
    backend: B,
    revision: u64,
    leases: BTreeMap<LeaseId, Lease>,
    history: Arc<Mutex<History>>,
    published: watch::Sender<u64>,
}

/// Starts the thread.
pub(crate) fn start<B: Backend>(mut backend: B, name: &str) -> Result<EmbeddedStore, StoreError> {
    let revision = backend.revision()?;
    let now = Instant::now();
    let leases = backend.leases()?;
    let leases = leases
        .into_iter()
        .map(|(id, ttl)| {
            (
                id,
                Lease {
                    ttl,
                    deadline: now + ttl,
                },
            )
        })
        .collect();
    let history = Arc::new(Mutex::new(History::starting_after(revision)));
    let (published, receiver) = watch::channel(revision);
    let (sender, requests) = mpsc::sync_channel(defaults::COMMANDS_MAX);
    let engine = Engine {
        backend,
        revision,
        leases,
        history: Arc::clone(&history),
        published,
    };
    let thread = std::thread::Builder::new()
        .name(name.to_owned())
        .spawn(move || engine.run(&requests))
        .map_err(|cause| StoreError::Unavailable {
            cause: cause.to_string(),
        })?;
    Ok(EmbeddedStore::new(sender, thread, history, receiver))
}

/// Added to a deadline before its lease ends: a thread that wakes later than this was stopped, with
/// the whole process or machine, and so could not have heard its holders.
const STOPPED_AFTER: Duration = Duration::from_secs(2);
/// Wait of a thread without leases; only there because a wait needs a bound.
const IDLE_WAIT: Duration = Duration::from_secs(3600);

impl<B: Backend> Engine<B> {
    fn run(mut self, requests: &mpsc::Receiver<Request>) {
        loop {
            let wait = self
                .next_deadline()
                .map_or(IDLE_WAIT, |at| at.saturating_duration_since(Instant::now()));
            match requests.recv_timeout(wait) {
                Ok(first) => {
                    let mut batch = vec![first];
                    batch.extend(requests.try_iter().take(defaults::BATCH_MAX - 1));
                    self.serve(batch);
                }
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => return,
            }
            self.expire(Instant::now());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.leases.values().map(|lease| lease.deadline).min()
    }

    fn expire(&mut self, now: Instant) {
        let Some(earliest) = self.next_deadline() else {
            return;
        };
        if now > earliest + STOPPED_AFTER {
            tracing::info!("the process stood still; every lease gets its time again");
            self.leases
                .values_mut()
                .for_each(|lease| lease.deadline = now + lease.ttl);
            return;
        }
        let ended: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| lease.deadline <= now)
            .map(|(id, _)| *id)
            .collect();
        for lease in ended {
            if let Err(error) = self.attempt(&[Command::Revoke(lease)]) {
                tracing::warn!(%error, "a lease that ended stays for now, for the store cannot be written");
                // Tried again after a while, not in a tight loop.
                if let Some(kept) = self.leases.get_mut(&lease) {
                    kept.deadline = now + kept.ttl.max(Duration::from_secs(1));
                }
            }
        }
    }

    fn lock_history(&self) -> std::sync::MutexGuard<'_, History> {
        // The history is consistent after every push, so a panic elsewhere does not spoil it.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;

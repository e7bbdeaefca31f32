//! The async side of the engine: hands requests to the thread, waits for answers, reads the history.

use std::sync::mpsc::SyncSender;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Semaphore, oneshot, watch};

use super::history::History;
use super::{Answer, Command, Request};
use crate::defaults;
use crate::error::StoreError;
use crate::kv::{Change, Entry, LeaseId, Listing, Store, Txn, TxnOutcome, Watch};

/// A store whose thread runs as long as this lives.
pub struct EmbeddedStore {
    sender: Option<SyncSender<Request>>,
    thread: Option<JoinHandle<()>>,
    /// As many permits as the queue has places: whoever holds one never finds the queue full.
    slots: Arc<Semaphore>,
    history: Arc<Mutex<History>>,
    published: watch::Receiver<u64>,
}

fn gone() -> StoreError {
    StoreError::Unavailable {
        cause: "its thread has ended".to_owned(),
    }
}

impl EmbeddedStore {
    pub(super) fn new(
        sender: SyncSender<Request>,
        thread: JoinHandle<()>,
        history: Arc<Mutex<History>>,
        published: watch::Receiver<u64>,
    ) -> Self {
        let slots = Arc::new(Semaphore::new(defaults::COMMANDS_MAX));
        Self {
            sender: Some(sender),
            thread: Some(thread),
            slots,
            history,
            published,
        }
    }

    async fn ask(&self, command: Command) -> Result<Answer, StoreError> {
        let slot = Arc::clone(&self.slots)
            .acquire_owned()
            .await
            .map_err(|_| gone())?;
        let (reply, answer) = oneshot::channel();
        let request = Request {
            command,
            reply,
            _slot: slot,
        };
        self.sender
            .as_ref()
            .ok_or_else(gone)?
            .try_send(request)
            .map_err(|_| gone())?;
        answer.await.map_err(|_| gone())?
    }
}

impl Drop for EmbeddedStore {
    fn drop(&mut self) {
        drop(self.sender.take());
        // The thread ends after the batch in hand, so that a reopened file has one writer. The last
        // handle may be dropped on the thread itself only if a task ran there, and none does.
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the store's thread panicked");
        }
    }
}

#[async_trait]
impl Store for EmbeddedStore {
    async fn get(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        match self.ask(Command::Get(key.to_owned())).await? {
            Answer::Entry(entry) => Ok(entry),
            _ => Err(gone()),
        }
    }

    async fn list(&self, prefix: &str) -> Result<Listing, StoreError> {
        match self.ask(Command::List(prefix.to_owned())).await? {
            Answer::Listing(listing) => Ok(listing),
            _ => Err(gone()),
        }
    }

    async fn txn(&self, txn: Txn) -> Result<TxnOutcome, StoreError> {
        match self.ask(Command::Txn(txn)).await? {
            Answer::Txn(outcome) => Ok(outcome),
            _ => Err(gone()),
        }
    }

    async fn watch(&self, prefix: &str, from_revision: u64) -> Result<Box<dyn Watch>, StoreError> {
        self.history
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .check(from_revision)?;
        Ok(Box::new(HistoryWatch {
            history: Arc::clone(&self.history),
            published: self.published.clone(),
            prefix: prefix.to_owned(),
            next: from_revision,
        }))
    }

    async fn revision(&self) -> Result<u64, StoreError> {
        Ok(*self.published.borrow())
    }

    async fn lease_grant(&self, ttl: Duration) -> Result<LeaseId, StoreError> {
        match self.ask(Command::Grant(ttl)).await? {
            Answer::Lease(lease) => Ok(lease),
            _ => Err(gone()),
        }
    }

    async fn lease_keep_alive(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Command::KeepAlive(lease)).await.map(|_| ())
    }

    async fn lease_revoke(&self, lease: LeaseId) -> Result<(), StoreError> {
        self.ask(Command::Revoke(lease)).await.map(|_| ())
    }
}

struct HistoryWatch {
    history: Arc<Mutex<History>>,
    published: watch::Receiver<u64>,
    prefix: String,
    next: u64,
}

#[async_trait]
impl Watch for HistoryWatch {
    async fn next(&mut self) -> Result<Vec<Change>, StoreError> {
        loop {
            let published = *self.published.borrow_and_update();
            if published >= self.next {
                let history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
                let (changes, next) = history.since(self.next, &self.prefix)?;
                self.next = next;
                if !changes.is_empty() {
                    return Ok(changes);
                }
                if published >= self.next {
                    continue;
                }
            }
            self.published.changed().await.map_err(|_| gone())?;
        }
    }
}

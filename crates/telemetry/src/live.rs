//! The table of live connections: what the API shows, what an operator can end, and what the byte
//! counters of the metrics are read from while connections run.
//!
//! Must never: be touched per byte; entries come at open and go at close.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::id::ConnectionId;
use portcullis_model::{AccountId, EndpointId, SessionId, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use crate::close::Ended;
use crate::entry::{Entry, Facts};

/// Locks that share the table, so that accepts on different cores do not meet.
const SHARDS: usize = 16;

/// Byte counters of a running relay. They only grow.
pub trait Traffic: Send + Sync {
    /// Bytes that the client sent and the upstream was given.
    fn bytes_in(&self) -> u64;
    /// Bytes that the upstream sent and the client was given.
    fn bytes_out(&self) -> u64;
    /// From the record's opening to the upstream's first byte, if there was one.
    fn first_byte(&self) -> Option<std::time::Duration> {
        None
    }
}

/// A live connection, as the API shows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConnectionView {
    /// `cn_…`
    pub id: ConnectionId,
    /// When it was accepted.
    pub opened_at: Timestamp,
    /// The local address it came in on.
    pub listener: SocketAddr,
    /// The other end of the socket.
    pub peer: SocketAddr,
    /// The client: `peer`, or what a trusted PROXY header said.
    pub client: SocketAddr,
    /// The owner of the endpoint; `None` until routed.
    pub account: Option<AccountId>,
    /// The endpoint that the client reached.
    pub entry: Option<EndpointId>,
    /// The endpoint that serves it.
    pub endpoint: Option<EndpointId>,
    /// Its URL.
    pub url: Option<String>,
    /// The agent's session that carries it.
    pub session: Option<SessionId>,
    /// What the bytes go to.
    pub upstream: Option<String>,
    /// Whether the upstream is open.
    pub established: bool,
    /// Bytes from the client.
    pub bytes_in: u64,
    /// Bytes to the client.
    pub bytes_out: u64,
}

/// An entry, whatever counts its bytes.
pub(crate) type AnyEntry = Entry<dyn Traffic>;

type Shard = HashMap<u64, Arc<AnyEntry>>;

/// The table. Its size is bounded by the edge's global connection limit.
#[derive(Default)]
pub struct Live {
    shards: [Mutex<Shard>; SHARDS],
    count: AtomicUsize,
    emptied: Notify,
}

impl Live {
    fn shard(&self, sequence: u64) -> MutexGuard<'_, Shard> {
        let index = usize::try_from(sequence % SHARDS as u64).unwrap_or(0);
        self.shards[index]
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, entry: Arc<AnyEntry>) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.shard(entry.sequence).insert(entry.sequence, entry);
    }

    pub(crate) fn remove(&self, sequence: u64) {
        // Dropped outside of the lock.
        let removed = self.shard(sequence).remove(&sequence);
        if removed.is_some() && self.count.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn each(&self) -> Vec<Arc<AnyEntry>> {
        self.shards
            .iter()
            .flat_map(|shard| {
                let shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
                shard.values().cloned().collect::<Vec<_>>()
            })
            .collect()
    }

    /// Connections open now.
    pub fn count(&self) -> usize {
        self.count.load(Ordering::Acquire)
    }

    /// The connections, oldest first.
    pub fn views(&self) -> Vec<ConnectionView> {
        let mut entries = self.each();
        entries.sort_by_key(|entry| entry.sequence);
        entries.iter().map(|entry| entry.view()).collect()
    }

    /// Ends one connection. Whether it was there. Looks at every connection: it is a person who asks.
    pub fn end(&self, id: &ConnectionId, why: impl Into<Ended>) -> bool {
        let entry = self.each().into_iter().find(|entry| entry.id() == *id);
        entry.map(|entry| entry.kill.kill(why)).is_some()
    }

    /// Ends every connection that a session carries, and says how many they were. Who opens on a
    /// session names it in the record first, so that nothing slips through.
    pub fn end_session(&self, session: &SessionId, why: &Ended) -> usize {
        self.end_where(why, |facts| facts.session() == Some(session))
    }

    /// Ends every connection.
    pub fn end_all(&self, why: &Ended) -> usize {
        self.end_where(why, |_| true)
    }

    fn end_where(&self, why: &Ended, wanted: impl Fn(&Facts) -> bool) -> usize {
        let found: Vec<_> = self
            .each()
            .into_iter()
            .filter(|entry| wanted(&entry.facts()))
            .collect();
        for entry in &found {
            entry.kill.kill(why.clone());
        }
        found.len()
    }

    /// Waits until no connection is open.
    ///
    /// # Cancel safety
    /// May be dropped and called again at any time.
    pub async fn empty(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.count() == 0 {
                return;
            }
            emptied.await;
        }
    }

    /// Connections that a session carries now.
    pub fn count_of_session(&self, session: &SessionId) -> usize {
        self.each()
            .into_iter()
            .filter(|entry| entry.facts().session() == Some(session))
            .count()
    }
}

//! The table of live connections: what the API shows, what an operator can end, and what the byte
//! counters of the metrics are read from while connections run.
//!
//! Must never: be touched per byte; entries come at open and go at close.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use portcullis_model::id::ConnectionId;
use portcullis_model::{AccountId, Endpoint, EndpointId, SessionId, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;

use crate::close::Ended;
use crate::entry::{Entry, Facts, SharedEndpoint};

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

/// A live connection, for whoever decides about it again.
pub struct LiveConnection(Arc<AnyEntry>);

impl LiveConnection {
    /// The endpoint that the client reached, as it was then.
    pub fn entry(&self) -> Option<SharedEndpoint> {
        self.0.facts().entry.clone()
    }

    /// The endpoint that serves it, as it was then.
    pub fn endpoint(&self) -> Option<SharedEndpoint> {
        self.0.facts().endpoint.clone()
    }

    /// The client: the other end, or what a trusted PROXY header said.
    pub fn client(&self) -> SocketAddr {
        self.0
            .facts()
            .client
            .as_deref()
            .copied()
            .unwrap_or(self.0.peer)
    }

    /// The local address it came in on.
    pub fn listener(&self) -> SocketAddr {
        self.0.listener
    }

    /// When it was accepted.
    pub fn opened_at(&self) -> Timestamp {
        self.0.opened_at
    }

    /// Ends it.
    pub fn end(&self, why: impl Into<Ended>) {
        self.0.kill.kill(why);
    }
}

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

    /// Those of which an endpoint that they reached, or that serves them, is wanted.
    pub fn routed(&self, wanted: impl Fn(&Endpoint) -> bool) -> Vec<LiveConnection> {
        let is_wanted = |endpoint: Option<&SharedEndpoint>| {
            endpoint.is_some_and(|endpoint| wanted(endpoint.as_ref()))
        };
        self.each()
            .into_iter()
            .filter(|entry| {
                let facts = entry.facts();
                is_wanted(facts.entry.as_ref()) || is_wanted(facts.endpoint.as_ref())
            })
            .map(LiveConnection)
            .collect()
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

//! The table of live connections: what the API shows, what an operator can end, and what the byte
//! counters of the metrics are read from while connections run.
//!
//! Must never: be touched per byte; entries come at open and go at close.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Instant;

use portcullis_model::id::ConnectionId;
use portcullis_model::{AccountId, EndpointId, SessionId, Timestamp};
use serde::Serialize;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use crate::close::Ended;

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

/// Ends a connection from outside, with a reason. Cheap to clone; the first reason stands.
#[derive(Debug, Clone, Default)]
pub struct KillSwitch {
    token: CancellationToken,
    why: Arc<OnceLock<Ended>>,
}

impl KillSwitch {
    /// Ends the connection. The first call's reason is the one that is recorded.
    pub fn kill(&self, why: impl Into<Ended>) {
        // A later reason loses on purpose: the connection ends only once.
        self.why.get_or_init(|| why.into());
        self.token.cancel();
    }

    /// What the waits of the connection watch.
    pub fn token(&self) -> &CancellationToken {
        &self.token
    }

    /// The reason, once killed.
    pub fn why(&self) -> Option<Ended> {
        self.why.get().cloned()
    }
}

/// What is known of a connection so far. Fields fill up as the connection goes on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts {
    /// The client's address: of the socket, or what a trusted PROXY header said.
    pub client: Option<SocketAddr>,
    /// The owner.
    pub account: Option<AccountId>,
    /// The endpoint that the client reached.
    pub entry: Option<EndpointId>,
    /// Its URL.
    pub entry_url: Option<String>,
    /// The endpoint whose upstream serves it; another than `entry` after `forward-internal`.
    pub endpoint: Option<EndpointId>,
    /// Its URL.
    pub url: Option<String>,
    /// The agent's session that carries it.
    pub session: Option<SessionId>,
    /// What the bytes go to.
    pub upstream: Option<String>,
    /// Endpoints passed by `forward-internal`.
    pub hops: u32,
    /// Members tried.
    pub attempts: u32,
    /// What the policies did, in order.
    pub policy: Vec<String>,
    /// Whether the upstream is open.
    pub established: bool,
}

/// One live connection.
pub(crate) struct Entry {
    pub(crate) id: ConnectionId,
    pub(crate) sequence: u64,
    pub(crate) opened_at: Timestamp,
    pub(crate) since: Instant,
    pub(crate) listener: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) kill: KillSwitch,
    pub(crate) facts: Mutex<Facts>,
    pub(crate) traffic: OnceLock<Arc<dyn Traffic>>,
    counted_in: AtomicU64,
    counted_out: AtomicU64,
}

impl Entry {
    pub(crate) fn new(
        id: ConnectionId,
        sequence: u64,
        opened_at: Timestamp,
        listener: SocketAddr,
        peer: SocketAddr,
    ) -> Self {
        Self {
            id,
            sequence,
            opened_at,
            since: Instant::now(),
            listener,
            peer,
            kill: KillSwitch::default(),
            facts: Mutex::new(Facts::default()),
            traffic: OnceLock::new(),
            counted_in: AtomicU64::new(0),
            counted_out: AtomicU64::new(0),
        }
    }

    pub(crate) fn facts(&self) -> std::sync::MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn bytes(&self) -> (u64, u64) {
        self.traffic
            .get()
            .map_or((0, 0), |traffic| (traffic.bytes_in(), traffic.bytes_out()))
    }

    /// Bytes since the last call: in, out. Each byte is told exactly once.
    pub(crate) fn uncounted(&self) -> (u64, u64) {
        let (bytes_in, bytes_out) = self.bytes();
        // `fetch_max` keeps two concurrent callers from telling the same byte twice.
        let before_in = self.counted_in.fetch_max(bytes_in, Ordering::Relaxed);
        let before_out = self.counted_out.fetch_max(bytes_out, Ordering::Relaxed);
        (
            bytes_in.saturating_sub(before_in),
            bytes_out.saturating_sub(before_out),
        )
    }

    fn view(&self) -> ConnectionView {
        let facts = self.facts().clone();
        let (bytes_in, bytes_out) = self.bytes();
        ConnectionView {
            id: self.id.clone(),
            opened_at: self.opened_at,
            listener: self.listener,
            peer: self.peer,
            client: facts.client.unwrap_or(self.peer),
            account: facts.account,
            entry: facts.entry,
            endpoint: facts.endpoint,
            url: facts.url,
            session: facts.session,
            upstream: facts.upstream,
            established: facts.established,
            bytes_in,
            bytes_out,
        }
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

/// The table. Its size is bounded by the edge's global connection limit.
#[derive(Default)]
pub struct Live {
    entries: Mutex<HashMap<ConnectionId, Arc<Entry>>>,
    emptied: Notify,
}

impl Live {
    fn entries(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Arc<Entry>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn insert(&self, entry: Arc<Entry>) {
        self.entries().insert(entry.id.clone(), entry);
    }

    pub(crate) fn remove(&self, id: &ConnectionId) {
        let mut entries = self.entries();
        entries.remove(id);
        if entries.is_empty() {
            self.emptied.notify_waiters();
        }
    }

    pub(crate) fn each(&self) -> Vec<Arc<Entry>> {
        self.entries().values().cloned().collect()
    }

    /// Connections open now.
    pub fn count(&self) -> usize {
        self.entries().len()
    }

    /// The connections, oldest first.
    pub fn views(&self) -> Vec<ConnectionView> {
        let mut entries = self.each();
        entries.sort_by_key(|entry| entry.sequence);
        entries.iter().map(|entry| entry.view()).collect()
    }

    /// Ends one connection. Whether it was there.
    pub fn end(&self, id: &ConnectionId, why: impl Into<Ended>) -> bool {
        let entry = self.entries().get(id).cloned();
        entry.map(|entry| entry.kill.kill(why)).is_some()
    }

    /// Ends every connection that a session carries, and says how many they were. Who opens on a
    /// session names it in the record first, so that nothing slips through.
    pub fn end_session(&self, session: &SessionId, why: &Ended) -> usize {
        self.end_where(why, |facts| facts.session.as_ref() == Some(session))
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
            .filter(|entry| entry.facts().session.as_ref() == Some(session))
            .count()
    }
}

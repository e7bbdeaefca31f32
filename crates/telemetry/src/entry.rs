//! One live connection: what is known of it, its counters and its kill switch, in one allocation. It is
//! most of what a connection costs in memory beside its sockets and its task, so a test bounds its size.
//!
//! Must never: hold text of its own that the endpoint has already.

use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use portcullis_model::endpoint::Holder;
use portcullis_model::id::{ConnectionId, ENTROPY_BYTES};
use portcullis_model::{Endpoint, SessionId, Timestamp};

use crate::kill::KillSwitch;
use crate::live::{ConnectionView, Traffic};

/// An endpoint as its owner keeps it: the record of a connection shares it.
pub type SharedEndpoint = Arc<dyn Deref<Target = Endpoint> + Send + Sync>;

/// What is known of a connection so far. Fields fill up as the connection goes on.
#[derive(Clone, Default)]
pub(crate) struct Facts {
    /// The client's address where it is not the socket's peer: what a trusted PROXY header said.
    pub(crate) client: Option<Box<SocketAddr>>,
    /// The endpoint that the client reached.
    pub(crate) entry: Option<SharedEndpoint>,
    /// The endpoint whose upstream serves it; another than `entry` after `forward-internal`.
    pub(crate) endpoint: Option<SharedEndpoint>,
    /// What carries the bytes.
    pub(crate) carrier: Carrier,
    /// What the policies did, in order, with `; ` between.
    pub(crate) policy: Option<Box<str>>,
    /// Endpoints passed by `forward-internal`; their limit is far below.
    pub(crate) hops: u8,
    /// Members tried; their limit is far below.
    pub(crate) attempts: u8,
    /// Whether the upstream is open.
    pub(crate) established: bool,
}

/// What carries the bytes of a connection.
#[derive(Debug, Clone, Default)]
pub(crate) enum Carrier {
    /// It is not decided yet.
    #[default]
    None,
    /// A dial to what the endpoint names.
    Dial,
    /// The agent's session that holds the endpoint.
    Session,
    /// Another than the endpoint says: a session and an upstream.
    Other(Box<(Option<SessionId>, String)>),
}

impl Facts {
    /// The agent's session that carries the connection.
    pub(crate) fn session(&self) -> Option<&SessionId> {
        match (&self.carrier, self.endpoint.as_ref()) {
            (Carrier::Other(other), _) => other.0.as_ref(),
            (Carrier::Session, Some(endpoint)) => match &endpoint.holder {
                Some(Holder::Session { session, .. }) => Some(session),
                Some(Holder::Direct { .. }) | None => None,
            },
            (Carrier::Session | Carrier::Dial | Carrier::None, _) => None,
        }
    }

    /// What the bytes go to.
    pub(crate) fn upstream(&self) -> Option<&str> {
        match (&self.carrier, self.endpoint.as_ref()) {
            (Carrier::Other(other), _) => Some(&other.1),
            (Carrier::Dial | Carrier::Session, Some(endpoint)) => Some(upstream_of(endpoint)),
            (Carrier::Dial | Carrier::Session | Carrier::None, _) => None,
        }
    }

    /// Notes the carrier, without a copy where the endpoint says the same.
    pub(crate) fn set_carrier(&mut self, session: Option<&SessionId>, upstream: &str) {
        let endpoint = self.endpoint.as_ref();
        let own = endpoint.is_some_and(|endpoint| upstream_of(endpoint) == upstream);
        let holder = endpoint.and_then(|endpoint| endpoint.holder.as_ref());
        self.carrier = match (session, holder) {
            (None, _) if own => Carrier::Dial,
            (Some(given), Some(Holder::Session { session, .. })) if own && given == session => {
                Carrier::Session
            }
            _ => Carrier::Other(Box::new((session.cloned(), upstream.to_owned()))),
        };
    }
}

fn upstream_of(endpoint: &Endpoint) -> &str {
    match &endpoint.holder {
        Some(Holder::Direct { upstream }) => upstream,
        Some(Holder::Session { .. }) | None => &endpoint.upstream_url,
    }
}

/// One live connection. The traffic stands last, so that the table holds entries whatever theirs is.
pub(crate) struct Entry<T: ?Sized> {
    /// Its place in the order of accepts, and in the table.
    pub(crate) sequence: u64,
    pub(crate) opened_at: Timestamp,
    pub(crate) since: Instant,
    pub(crate) listener: SocketAddr,
    pub(crate) peer: SocketAddr,
    pub(crate) kill: KillSwitch,
    facts: Mutex<Facts>,
    counted_in: AtomicU64,
    counted_out: AtomicU64,
    /// The random part of the id.
    entropy: [u8; ENTROPY_BYTES],
    /// Microseconds from the accept to the end of each [`crate::Phase`], plus one; 0 is not yet.
    phases: [AtomicU32; 3],
    pub(crate) traffic: T,
}

impl<T> Entry<T> {
    pub(crate) fn new(
        sequence: u64,
        entropy: [u8; ENTROPY_BYTES],
        listener: SocketAddr,
        peer: SocketAddr,
        traffic: T,
    ) -> Self {
        Self {
            sequence,
            opened_at: Timestamp::from(jiff::Timestamp::now()),
            since: Instant::now(),
            listener,
            peer,
            kill: KillSwitch::default(),
            facts: Mutex::new(Facts::default()),
            counted_in: AtomicU64::new(0),
            counted_out: AtomicU64::new(0),
            entropy,
            phases: Default::default(),
            traffic,
        }
    }
}

impl<T: Traffic + ?Sized> Entry<T> {
    /// The id, made when somebody asks: as text it is longer than what it is made of.
    pub(crate) fn id(&self) -> ConnectionId {
        ConnectionId::new(self.opened_at.unix_seconds(), self.entropy)
    }

    pub(crate) fn facts(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that a phase is over.
    pub(crate) fn mark(&self, phase: usize) {
        let micros = u32::try_from(self.since.elapsed().as_micros()).unwrap_or(u32::MAX - 1);
        if let Some(cell) = self.phases.get(phase) {
            cell.store(micros.saturating_add(1), Ordering::Relaxed);
        }
    }

    /// When a phase was over, from the accept.
    pub(crate) fn phase(&self, phase: usize) -> Option<Duration> {
        let micros = self.phases.get(phase)?.load(Ordering::Relaxed);
        micros
            .checked_sub(1)
            .map(|micros| Duration::from_micros(micros.into()))
    }

    pub(crate) fn bytes(&self) -> (u64, u64) {
        (self.traffic.bytes_in(), self.traffic.bytes_out())
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

    pub(crate) fn view(&self) -> ConnectionView {
        let facts = self.facts().clone();
        let (bytes_in, bytes_out) = self.bytes();
        let entry = facts.entry.as_ref();
        let endpoint = facts.endpoint.as_ref();
        ConnectionView {
            id: self.id(),
            opened_at: self.opened_at,
            listener: self.listener,
            peer: self.peer,
            client: facts.client.as_deref().copied().unwrap_or(self.peer),
            account: entry.map(|entry| entry.account.clone()),
            entry: entry.map(|entry| entry.id.clone()),
            endpoint: endpoint.map(|endpoint| endpoint.id.clone()),
            url: endpoint.map(|endpoint| endpoint.url.to_string()),
            session: facts.session().cloned(),
            upstream: facts.upstream().map(str::to_owned),
            established: facts.established,
            bytes_in,
            bytes_out,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every connection has one. With the counters of the edge (64 bytes at most) it is to stay below
    /// 400 bytes, header of the reference count and of the allocator included.
    #[test]
    fn an_entry_is_small() {
        assert!(
            size_of::<Facts>() <= 88,
            "facts are {} bytes",
            size_of::<Facts>()
        );
        let entry = size_of::<Entry<[u64; 8]>>();
        assert!(entry <= 376, "an entry is {entry} bytes");
    }
}

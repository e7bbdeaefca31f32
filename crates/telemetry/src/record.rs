//! The connection record: made when a connection is accepted, consumed exactly once when it ends.
//! That consumption is the only log line (target `access`), the metrics and the end of the live entry.
//!
//! A record that is dropped without a close counts as `aborted`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_model::id::ConnectionId;
use portcullis_model::{Endpoint, SessionId, Timestamp};
use tracing::Level;

use crate::close::{CloseReason, Ended};
use crate::live::{Entry, Facts, KillSwitch, Live, Traffic};
use crate::metrics::Metrics;

/// Makes records and holds what they end in. Cheap to clone.
#[derive(Clone, Default)]
pub struct Records {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    metrics: Metrics,
    live: Live,
    sequence: AtomicU64,
}

/// A point that a connection has passed. The log says how long after the accept that was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// The client's address is known.
    Source,
    /// Every policy has decided.
    Policy,
    /// The upstream is open.
    Open,
}

impl Records {
    /// Fresh metrics and an empty table.
    pub fn new() -> Self {
        Self::default()
    }

    /// The metrics. For reading the exposition text use [`Self::metrics_text`].
    pub fn metrics(&self) -> &Metrics {
        &self.shared.metrics
    }

    /// The table of live connections.
    pub fn live(&self) -> &Live {
        &self.shared.live
    }

    /// The exposition text, with the bytes of live connections up to now.
    pub fn metrics_text(&self) -> String {
        for entry in self.shared.live.each() {
            let (bytes_in, bytes_out) = entry.uncounted();
            self.shared.metrics.moved(bytes_in, bytes_out);
        }
        self.shared.metrics.encode().unwrap_or_default()
    }

    /// Opens the record of a connection that was just accepted on `listener` from `peer`.
    pub fn open(&self, id: ConnectionId, listener: SocketAddr, peer: SocketAddr) -> Record {
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        let opened_at = Timestamp::from(jiff::Timestamp::now());
        let entry = Arc::new(Entry::new(id, sequence, opened_at, listener, peer));
        self.shared.metrics.opened();
        self.shared.live.insert(entry.clone());
        Record {
            records: self.clone(),
            entry,
            phases: Phases::default(),
            closed: false,
        }
    }
}

#[derive(Default)]
struct Phases {
    source: Option<Duration>,
    policy: Option<Duration>,
    open: Option<Duration>,
}

/// The record of one connection.
pub struct Record {
    records: Records,
    entry: Arc<Entry>,
    phases: Phases,
    closed: bool,
}

impl Record {
    /// The connection's id.
    pub fn id(&self) -> &ConnectionId {
        &self.entry.id
    }

    /// The local address it came in on.
    pub fn listener(&self) -> SocketAddr {
        self.entry.listener
    }

    /// The other end of the socket.
    pub fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// What ends the connection from outside.
    pub fn kill(&self) -> &KillSwitch {
        &self.entry.kill
    }

    /// Notes how long after the accept a phase was over; a later note of the same phase replaces it.
    pub fn mark(&mut self, phase: Phase) {
        let elapsed = Some(self.entry.since.elapsed());
        match phase {
            Phase::Source => self.phases.source = elapsed,
            Phase::Policy => self.phases.policy = elapsed,
            Phase::Open => self.phases.open = elapsed,
        }
    }

    /// The client's address is known.
    pub fn set_client(&mut self, client: SocketAddr) {
        self.entry.facts().client = Some(client);
        self.mark(Phase::Source);
    }

    /// The client reached this endpoint.
    pub fn set_entry(&mut self, endpoint: &Endpoint) {
        let mut facts = self.entry.facts();
        facts.account = Some(endpoint.account.clone());
        facts.entry = Some(endpoint.id.clone());
        facts.entry_url = Some(endpoint.url.to_string());
        facts.attempts += 1;
    }

    /// This endpoint's upstream is going to serve it, after so many `forward-internal`.
    pub fn set_endpoint(&mut self, endpoint: &Endpoint, hops: u32) {
        let mut facts = self.entry.facts();
        facts.endpoint = Some(endpoint.id.clone());
        facts.url = Some(endpoint.url.to_string());
        facts.hops = hops;
    }

    /// A policy did something.
    pub fn add_policy(&mut self, what: impl Into<String>) {
        self.entry.facts().policy.push(what.into());
    }

    /// The carrier: an agent's session, or none for a direct dial; and what the bytes go to. Said
    /// before the carrier is used, so that a lost session finds every connection that it carries.
    pub fn set_carrier(&mut self, session: Option<&SessionId>, upstream: &str) {
        let mut facts = self.entry.facts();
        facts.session = session.cloned();
        facts.upstream = Some(upstream.to_owned());
    }

    /// The upstream is open; `traffic` counts the bytes from here on.
    pub fn established(&mut self, traffic: Arc<dyn Traffic>) {
        self.mark(Phase::Open);
        self.entry.facts().established = true;
        // Said twice, the first counters stay: they are the ones the relay writes to.
        self.entry.traffic.get_or_init(|| traffic);
        self.records
            .shared
            .metrics
            .established(self.entry.since.elapsed().as_secs_f64());
    }

    /// Ends the record: metrics, log line, live table.
    pub fn close(mut self, ended: &Ended) {
        self.finish(ended);
    }

    fn finish(&mut self, ended: &Ended) {
        if std::mem::replace(&mut self.closed, true) {
            return;
        }
        let shared = &self.records.shared;
        let total = self.entry.since.elapsed();
        let (bytes_in, bytes_out) = self.entry.uncounted();
        shared.metrics.moved(bytes_in, bytes_out);
        let facts = self.entry.facts().clone();
        log(&self.entry, &facts, &self.phases, ended, total);
        // The table before the gauge: who reads "no connection is open" finds an empty table.
        shared.live.remove(&self.entry.id);
        shared.metrics.closed(ended.reason, total.as_secs_f64());
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        if !self.closed {
            self.finish(&CloseReason::Aborted.into());
        }
    }
}

/// One line per connection. The level is the reason's; a macro per level, since tracing wants it constant.
fn log(entry: &Entry, facts: &Facts, phases: &Phases, ended: &Ended, total: Duration) {
    macro_rules! line {
        ($level:expr) => {
            tracing::event!(
                target: "access",
                $level,
                id = %entry.id,
                reason = ended.reason.label(),
                fault = ended.reason.fault().label(),
                code = ended.code().map(|code| code.as_str()),
                error = ended.error.as_ref().map(|error| error.message.as_str()),
                cause = ended.error.as_ref().and_then(|error| error.internal.as_deref()),
                listener = %entry.listener,
                client = %facts.client.unwrap_or(entry.peer),
                peer = %entry.peer,
                account = facts.account.as_ref().map(|id| id.as_str()),
                endpoint = facts.endpoint.as_ref().map(|id| id.as_str()),
                url = facts.url.as_deref(),
                entry = facts.entry.as_ref().map(|id| id.as_str()),
                entry_url = facts.entry_url.as_deref(),
                session = facts.session.as_ref().map(|id| id.as_str()),
                upstream = facts.upstream.as_deref(),
                hops = facts.hops,
                attempts = facts.attempts,
                policy = (!facts.policy.is_empty()).then(|| facts.policy.join("; ")),
                bytes_in = entry.bytes().0,
                bytes_out = entry.bytes().1,
                source_ms = millis(phases.source),
                policy_ms = millis(phases.policy),
                open_ms = millis(phases.open),
                first_byte_ms = millis(entry.traffic.get().and_then(|traffic| traffic.first_byte())),
                total_ms = millis(Some(total)),
                "connection closed"
            )
        };
    }
    match ended.reason.level() {
        Level::ERROR => line!(Level::ERROR),
        Level::WARN => line!(Level::WARN),
        Level::INFO => line!(Level::INFO),
        Level::DEBUG => line!(Level::DEBUG),
        _ => line!(Level::TRACE),
    }
}

/// Milliseconds with a microsecond's precision.
fn millis(duration: Option<Duration>) -> Option<f64> {
    duration.map(|duration| (duration.as_secs_f64() * 1_000_000.0).round() / 1_000.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[derive(Default)]
    struct Fake(AtomicU64);

    impl Traffic for Fake {
        fn bytes_in(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn bytes_out(&self) -> u64 {
            1
        }
    }

    fn open(records: &Records, seed: u8) -> Record {
        let id = ConnectionId::new(1_700_000_000, [seed; 16]);
        let listener = "127.0.0.1:20000".parse().expect("address");
        let peer = "127.0.0.2:4000".parse().expect("address");
        records.open(id, listener, peer)
    }

    #[test]
    fn opened_is_closed_plus_open_and_a_dropped_record_is_aborted() {
        let records = Records::new();
        open(&records, 1).close(&CloseReason::ClientFinished.into());
        drop(open(&records, 2));
        let held = open(&records, 3);
        let metrics = records.metrics();
        assert_eq!(
            (
                metrics.count_opened(),
                metrics.count_closed_all(),
                metrics.count_open()
            ),
            (3, 2, 1)
        );
        assert_eq!(metrics.count_closed(CloseReason::Aborted), 1);
        assert_eq!(records.live().count(), 1);
        drop(held);
        assert_eq!(records.live().count(), 0);
    }

    #[test]
    fn every_byte_is_counted_once_while_live_and_at_close() {
        let records = Records::new();
        let traffic = Arc::new(Fake::default());
        let mut record = open(&records, 1);
        record.established(traffic.clone());
        traffic.0.store(5, Ordering::Relaxed);
        assert!(
            records
                .metrics_text()
                .contains("portcullis_connection_bytes_total{direction=\"in\"} 5")
        );
        traffic.0.store(9, Ordering::Relaxed);
        record.close(&CloseReason::UpstreamFinished.into());
        let text = records.metrics_text();
        assert!(
            text.contains("portcullis_connection_bytes_total{direction=\"in\"} 9"),
            "{text}"
        );
        assert!(
            text.contains("portcullis_connection_bytes_total{direction=\"out\"} 1"),
            "{text}"
        );
    }

    #[test]
    fn the_first_reason_to_end_a_connection_stands() {
        let records = Records::new();
        let record = open(&records, 1);
        assert!(
            records
                .live()
                .end(record.id(), CloseReason::EndedByOperator)
        );
        assert_eq!(records.live().end_all(&CloseReason::Drained.into()), 1);
        assert_eq!(
            record.kill().why().map(|why| why.reason),
            Some(CloseReason::EndedByOperator)
        );
        assert!(record.kill().token().is_cancelled());
    }
}

//! The connection record: made when a connection is accepted, consumed exactly once when it ends.
//! That consumption is the only log line (target `access`), the metrics and the end of the live entry.
//!
//! A record that is dropped without a close counts as `aborted`.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use portcullis_model::SessionId;
use portcullis_model::id::{ConnectionId, ENTROPY_BYTES};
use tokio::runtime::Handle;
use tracing::Level;

use crate::close::{CloseReason, Ended};
use crate::entry::{Entry, Facts, SharedEndpoint};
use crate::kill::KillSwitch;
use crate::live::{AnyEntry, Live, Traffic};
use crate::metrics::Metrics;

/// The most that a connection's record keeps of what policies did, in bytes.
pub const POLICY_LOG_BYTES_MAX: usize = 8 * 1024;
/// Stands for what was left out.
const LEFT_OUT: &str = "…";

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

impl Phase {
    const fn index(self) -> usize {
        match self {
            Self::Source => 0,
            Self::Policy => 1,
            Self::Open => 2,
        }
    }
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

    /// Shows a runtime of the process in the metrics, under a name.
    pub fn watch_runtime(&self, name: &'static str, runtime: Handle) {
        self.shared.metrics.runtimes.watch(name, runtime);
    }

    /// The exposition text, with the bytes of live connections up to now.
    pub fn metrics_text(&self) -> String {
        for entry in self.shared.live.each() {
            let (bytes_in, bytes_out) = entry.uncounted();
            self.shared.metrics.moved(bytes_in, bytes_out);
        }
        self.shared.metrics.encode().unwrap_or_default()
    }

    /// Opens the record of a connection that was just accepted on `listener` from `peer`. Its id is
    /// made of the time and of `entropy`; `traffic` counts its bytes.
    pub fn open<T: Traffic + 'static>(
        &self,
        entropy: [u8; ENTROPY_BYTES],
        listener: SocketAddr,
        peer: SocketAddr,
        traffic: T,
    ) -> Record<T> {
        let sequence = self.shared.sequence.fetch_add(1, Ordering::Relaxed);
        let entry = Arc::new(Entry::new(sequence, entropy, listener, peer, traffic));
        self.shared.metrics.opened();
        self.shared.live.insert(Arc::clone(&entry) as Arc<AnyEntry>);
        Record {
            records: self.clone(),
            entry,
            closed: false,
        }
    }
}

/// The record of one connection.
pub struct Record<T: Traffic + 'static> {
    records: Records,
    entry: Arc<Entry<T>>,
    closed: bool,
}

impl<T: Traffic> Record<T> {
    /// The connection's id.
    pub fn id(&self) -> ConnectionId {
        self.entry.id()
    }

    /// The local address it came in on.
    pub fn listener(&self) -> SocketAddr {
        self.entry.listener
    }

    /// The other end of the socket.
    pub fn peer(&self) -> SocketAddr {
        self.entry.peer
    }

    /// What counts its bytes.
    pub fn traffic(&self) -> &T {
        &self.entry.traffic
    }

    /// What ends the connection from outside.
    pub fn kill(&self) -> &KillSwitch {
        &self.entry.kill
    }

    /// How long ago the connection was accepted.
    pub fn elapsed(&self) -> Duration {
        self.entry.since.elapsed()
    }

    /// Notes how long after the accept a phase was over; a later note of the same phase replaces it.
    pub fn mark(&self, phase: Phase) {
        self.entry.mark(phase.index());
    }

    /// The client's address is known.
    pub fn set_client(&self, client: SocketAddr) {
        if client != self.entry.peer {
            self.entry.facts().client = Some(Box::new(client));
        }
        self.mark(Phase::Source);
    }

    /// The client reached this endpoint.
    pub fn set_entry(&self, endpoint: SharedEndpoint) {
        let mut facts = self.entry.facts();
        facts.entry = Some(endpoint);
        facts.attempts = facts.attempts.saturating_add(1);
    }

    /// This endpoint's upstream is going to serve it, after so many `forward-internal`.
    pub fn set_endpoint(&self, endpoint: SharedEndpoint, hops: u32) {
        let mut facts = self.entry.facts();
        facts.endpoint = Some(endpoint);
        facts.hops = u8::try_from(hops).unwrap_or(u8::MAX);
    }

    /// A policy did something. What does not fit into [`POLICY_LOG_BYTES_MAX`] is left out, and `…` at the
    /// end says so: a policy may log what a client said. What stands there already is not said again: a
    /// connection whose open failed is decided afresh, by the same policies.
    pub fn add_policy(&self, what: impl Into<String>) {
        let (mut facts, what) = (self.entry.facts(), what.into());
        let mut all = match facts.policy.take() {
            Some(before) if says(&before, &what) => before.into(),
            Some(before) => format!("{before}; {what}"),
            None => what,
        };
        if all.len() > POLICY_LOG_BYTES_MAX {
            all.truncate(all.floor_char_boundary(POLICY_LOG_BYTES_MAX - LEFT_OUT.len()));
            all.push_str(LEFT_OUT);
        }
        facts.policy = Some(all.into_boxed_str());
    }

    /// The carrier: an agent's session, or none for a direct dial; and what the bytes go to. Said
    /// before the carrier is used, so that a lost session finds every connection that it carries.
    pub fn set_carrier(&self, session: Option<&SessionId>, upstream: &str) {
        self.entry.facts().set_carrier(session, upstream);
    }

    /// The upstream is open.
    pub fn established(&self) {
        self.mark(Phase::Open);
        self.entry.facts().established = true;
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
        log(&*self.entry, ended, total);
        // The table before the gauge: who reads "no connection is open" finds an empty table.
        shared.live.remove(self.entry.sequence);
        shared.metrics.closed(ended.reason, total.as_secs_f64());
    }
}

impl<T: Traffic> Drop for Record<T> {
    fn drop(&mut self) {
        if !self.closed {
            let reason = match std::thread::panicking() {
                true => CloseReason::Internal,
                false => CloseReason::Aborted,
            };
            self.finish(&reason.into());
        }
    }
}

macro_rules! line {
    ($level:expr, $connection:expr, $facts:expr, $ended:expr, $total:expr) => {{
        let (connection, facts, ended): (&AnyEntry, Facts, &Ended) = ($connection, $facts, $ended);
        let (entry, endpoint) = (facts.entry.as_ref(), facts.endpoint.as_ref());
        tracing::event!(
            target: "access",
            $level,
            id = %connection.id(),
            reason = ended.reason.label(),
            fault = ended.reason.fault().label(),
            code = ended.code().map(|code| code.as_str()),
            error = ended.error.as_ref().map(|error| error.message.as_str()),
            cause = ended.error.as_ref().and_then(|error| error.internal.as_deref()),
            listener = %connection.listener,
            client = %facts.client.as_deref().unwrap_or(&connection.peer),
            peer = %connection.peer,
            account = entry.map(|entry| entry.account.as_str()),
            endpoint = endpoint.map(|endpoint| endpoint.id.as_str()),
            url = endpoint.map(|endpoint| tracing::field::display(&endpoint.url)),
            entry = entry.map(|entry| entry.id.as_str()),
            entry_url = entry.map(|entry| tracing::field::display(&entry.url)),
            session = facts.session().map(|id| id.as_str()),
            upstream = facts.upstream(),
            hops = facts.hops,
            attempts = facts.attempts,
            policy = facts.policy.as_deref(),
            bytes_in = connection.bytes().0,
            bytes_out = connection.bytes().1,
            source_ms = millis(connection.phase(Phase::Source.index())),
            policy_ms = millis(connection.phase(Phase::Policy.index())),
            open_ms = millis(connection.phase(Phase::Open.index())),
            first_byte_ms = millis(connection.traffic.first_byte()),
            total_ms = millis(Some($total)),
            "connection closed"
        )
    }};
}

/// One line per connection. The level is the reason's; a macro per level, since tracing wants it constant.
/// Whether a line stands among those that are joined already.
fn says(lines: &str, line: &str) -> bool {
    lines.match_indices(line).any(|(at, _)| {
        let (before, rest) = lines.split_at(at);
        let behind = rest.get(line.len()..).unwrap_or_default();
        (before.is_empty() || before.ends_with("; "))
            && (behind.is_empty() || behind.starts_with("; "))
    })
}

fn log(entry: &AnyEntry, ended: &Ended, total: Duration) {
    macro_rules! at {
        ($level:expr) => {
            // Nothing is looked at for a line that nobody writes.
            if tracing::enabled!(target: "access", $level) {
                line!($level, entry, entry.facts().clone(), ended, total);
            }
        };
    }
    match ended.reason.level() {
        Level::ERROR => at!(Level::ERROR),
        Level::WARN => at!(Level::WARN),
        Level::INFO => at!(Level::INFO),
        Level::DEBUG => at!(Level::DEBUG),
        _ => at!(Level::TRACE),
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

    impl Traffic for Arc<Fake> {
        fn bytes_in(&self) -> u64 {
            self.0.load(Ordering::Relaxed)
        }
        fn bytes_out(&self) -> u64 {
            1
        }
    }

    fn open(records: &Records, seed: u8) -> Record<Arc<Fake>> {
        let listener = "127.0.0.1:20000".parse().expect("address");
        let peer = "127.0.0.2:4000".parse().expect("address");
        records.open([seed; 16], listener, peer, Arc::default())
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
    fn what_policies_did_is_kept_up_to_a_bound() {
        let records = Records::new();
        let record = open(&records, 1);
        for line in ["ä", "ö", "ü"] {
            record.add_policy(line.repeat(POLICY_LOG_BYTES_MAX / 3));
        }
        let kept = record.entry.facts().policy.clone().expect("something");
        assert!(kept.len() <= POLICY_LOG_BYTES_MAX && kept.ends_with(LEFT_OUT));
        record.add_policy("more");
        assert_eq!(record.entry.facts().policy.as_deref(), Some(&*kept));
        record.close(&CloseReason::PolicyDenied.into());
    }

    #[test]
    fn a_line_is_said_once() {
        let records = Records::new();
        let record = open(&records, 1);
        for line in [
            "a: deny; b",
            "a: deny",
            "deny",
            "a: deny",
            "a: deny; b",
            "b",
            "c",
        ] {
            record.add_policy(line);
        }
        let kept = record.entry.facts().policy.clone().expect("something");
        assert_eq!(&*kept, "a: deny; b; deny; c");
        record.close(&CloseReason::PolicyDenied.into());
    }

    #[test]
    fn a_record_that_a_panic_drops_is_an_internal_error() {
        let records = Records::new();
        let record = open(&records, 1);
        let panics = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _record = record;
            panic!("on purpose");
        }));
        assert!(panics.is_err());
        assert_eq!(records.metrics().count_closed(CloseReason::Internal), 1);
        assert_eq!(records.live().count(), 0);
    }

    #[tokio::test]
    async fn a_runtime_is_in_the_text_under_its_name() {
        let records = Records::new();
        records.watch_runtime("data", Handle::current());
        let text = records.metrics_text();
        for line in [
            "portcullis_runtime_threads{runtime=\"data\"} 1",
            "portcullis_runtime_busy_seconds_total{runtime=\"data\"} ",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn every_byte_is_counted_once_while_live_and_at_close() {
        let records = Records::new();
        let record = open(&records, 1);
        let traffic = Arc::clone(record.traffic());
        record.established();
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
                .end(&record.id(), CloseReason::EndedByOperator)
        );
        assert_eq!(records.live().end_all(&CloseReason::Drained.into()), 1);
        assert_eq!(
            record.kill().why().map(|why| why.reason),
            Some(CloseReason::EndedByOperator)
        );
        assert!(record.kill().is_killed());
    }
}

//! The metrics: one struct whose fields are the names of `names.rs`, and the text that a Prometheus
//! server reads.
//!
//! Must never: carry a label whose values are unbounded (addresses, ids, messages).

use std::fmt;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

use crate::close::CloseReason;
use crate::names::{self, Name};
use crate::runtimes::Runtimes;

/// The outcome of an open that worked.
const OPENED: &str = "ok";
/// What opens go over.
const OPENED_OVER: [&str; 3] = ["carrier", "channel", "direct"];

/// Labels of an ended connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClosedLabels {
    reason: &'static str,
    fault: &'static str,
}

/// One label named `direction`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct Direction {
    direction: &'static str,
}

/// One label named `code`: `ok`, or a code of the error catalogue.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct CodeLabel {
    code: &'static str,
}

/// Labels of an attempt to open an upstream.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct OpenLabels {
    carrier: &'static str,
    outcome: &'static str,
}

/// One label named `class`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ClassLabel {
    class: &'static str,
}

/// One label named `state`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct StateLabel {
    state: &'static str,
}

/// Labels of a file of places that was read.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub struct ReadLabels {
    file: &'static str,
    outcome: &'static str,
}

/// Every metric of a node.
pub struct Metrics {
    registry: Registry,
    pub(crate) runtimes: Runtimes,
    connections_opened: Counter,
    /// One per reason, in the order of [`CloseReason::ALL`]: the labels were looked up at start.
    connections_closed: Vec<Counter>,
    connections_open: Gauge,
    bytes_in: Counter,
    bytes_out: Counter,
    duration: Histogram,
    establish: Histogram,
    upstream_opens: Family<OpenLabels, Counter>,
    /// What nearly every open is, looked up at start: over a carrier or a channel, and by a dial.
    opened_over: [(&'static str, Counter); 3],
    accept_errors: Family<ClassLabel, Counter>,
    listeners: Family<StateLabel, Gauge>,
    sessions_refused: Family<CodeLabel, Counter>,
    place_file_reads: Family<ReadLabels, Counter>,
    /// Connections closed at once because the node was full.
    pub accept_shed: Counter,
    /// Agent sessions open now.
    pub sessions_open: Gauge,
    /// Agent sessions opened.
    pub sessions_opened: Counter,
    /// Connections on the agent port that have not said who they are.
    pub agent_pending: Gauge,
    /// Data channels that wait for a client connection.
    pub channels_idle: Gauge,
    /// Data channels that agents opened.
    pub channels_opened: Counter,
    /// Opens that found no idle data channel.
    pub channel_waits: Counter,
    /// Carriers that live.
    pub carriers: Gauge,
    /// Connections that moved from a carrier to a channel.
    pub promotions: Counter,
    /// Connections that moved back.
    pub returns: Counter,
    upstream_checks: Family<StateLabel, Counter>,
    upstream_turns: Family<StateLabel, Counter>,
    reevaluated: Family<StateLabel, Counter>,
    /// Endpoints whose upstream is unhealthy now.
    pub upstreams_unhealthy: Gauge,
    /// Endpoints passed over for a while.
    pub upstream_ejections: Counter,
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

impl Metrics {
    /// Fresh metrics with a registry of their own, so that several nodes in one process (tests) do
    /// not mix.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix(names::PREFIX);
        // Lifetimes of 10 ms to about 11 days, by factor 4: 1e-2 × 4^13 s.
        let duration = Histogram::new(buckets(0.01, 4.0, 14));
        // Opens of 0.25 ms to 8 s, by factor 2; the deadline is 10 s.
        let establish = Histogram::new(buckets(0.000_25, 2.0, 16));
        let runtimes = Runtimes::default();
        registry.register_collector(Box::new(runtimes.clone()));
        // Every reason exists from the start, so that a rate over it is zero and not absent.
        let by_reason: Family<ClosedLabels, Counter> = Family::default();
        let connections_closed = CloseReason::ALL
            .iter()
            .map(|reason| by_reason.get_or_create_owned(&closed(*reason)))
            .collect();
        add(&mut registry, names::CONNECTIONS_CLOSED, by_reason);
        let bytes = add(
            &mut registry,
            names::CONNECTION_BYTES,
            Family::<Direction, Counter>::default(),
        );
        let moved = |direction| bytes.get_or_create_owned(&Direction { direction });
        let upstream_opens: Family<OpenLabels, Counter> = Family::default();
        let opened_over = OPENED_OVER.map(|carrier| {
            let labels = OpenLabels {
                carrier,
                outcome: OPENED,
            };
            (carrier, upstream_opens.get_or_create_owned(&labels))
        });
        Self {
            connections_opened: add(&mut registry, names::CONNECTIONS_OPENED, Counter::default()),
            connections_closed,
            connections_open: add(&mut registry, names::CONNECTIONS_OPEN, Gauge::default()),
            bytes_in: moved("in"),
            bytes_out: moved("out"),
            duration: add(&mut registry, names::CONNECTION_DURATION, duration),
            establish: add(&mut registry, names::CONNECTION_OPEN_DURATION, establish),
            upstream_opens: add(&mut registry, names::UPSTREAM_OPENS, upstream_opens),
            opened_over,
            accept_shed: add(&mut registry, names::ACCEPT_SHED, Counter::default()),
            accept_errors: add(&mut registry, names::ACCEPT_ERRORS, Family::default()),
            listeners: add(&mut registry, names::LISTENERS, Family::default()),
            sessions_open: add(&mut registry, names::SESSIONS_OPEN, Gauge::default()),
            sessions_opened: add(&mut registry, names::SESSIONS_OPENED, Counter::default()),
            sessions_refused: add(&mut registry, names::SESSIONS_REFUSED, Family::default()),
            agent_pending: add(&mut registry, names::AGENT_PENDING, Gauge::default()),
            channels_idle: add(&mut registry, names::CHANNELS_IDLE, Gauge::default()),
            channels_opened: add(&mut registry, names::CHANNELS_OPENED, Counter::default()),
            channel_waits: add(&mut registry, names::CHANNEL_WAITS, Counter::default()),
            carriers: add(&mut registry, names::CARRIERS, Gauge::default()),
            promotions: add(&mut registry, names::PROMOTIONS, Counter::default()),
            returns: add(&mut registry, names::RETURNS, Counter::default()),
            upstream_checks: add(&mut registry, names::UPSTREAM_CHECKS, Family::default()),
            upstream_turns: add(&mut registry, names::UPSTREAM_TURNS, Family::default()),
            reevaluated: add(
                &mut registry,
                names::CONNECTIONS_REEVALUATED,
                Family::default(),
            ),
            upstreams_unhealthy: add(&mut registry, names::UPSTREAMS_UNHEALTHY, Gauge::default()),
            upstream_ejections: add(&mut registry, names::UPSTREAM_EJECTIONS, Counter::default()),
            place_file_reads: add(&mut registry, names::PLACE_FILE_READS, Family::default()),
            registry,
            runtimes,
        }
    }

    pub(crate) fn opened(&self) {
        self.connections_opened.inc();
        self.connections_open.inc();
    }

    pub(crate) fn closed(&self, reason: CloseReason, seconds: f64) {
        self.of(reason).inc();
        self.connections_open.dec();
        self.duration.observe(seconds);
    }

    pub(crate) fn established(&self, seconds: f64) {
        self.establish.observe(seconds);
    }

    pub(crate) fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes_in.inc_by(bytes_in);
        self.bytes_out.inc_by(bytes_out);
    }

    fn of(&self, reason: CloseReason) -> &Counter {
        // The enum's order is the table's, and each has its counter.
        &self.connections_closed[reason as usize]
    }

    /// An attempt to open an upstream over `carrier` (`channel`, `direct`) came out as `outcome`
    /// (`ok`, or the label of a close reason).
    pub fn upstream_open(&self, carrier: &'static str, outcome: &'static str) {
        let usual = self.opened_over.iter().find(|(name, _)| *name == carrier);
        if let (OPENED, Some((_, counter))) = (outcome, usual) {
            counter.inc();
            return;
        }
        self.upstream_opens
            .get_or_create(&OpenLabels { carrier, outcome })
            .inc();
    }

    /// A health check of this node came out well or not.
    pub fn upstream_checked(&self, good: bool) {
        let state = if good { "ok" } else { "failed" };
        self.upstream_checks
            .get_or_create(&StateLabel { state })
            .inc();
    }

    /// An upstream became healthy or unhealthy.
    pub fn upstream_turned(&self, healthy: bool) {
        let state = if healthy { "healthy" } else { "unhealthy" };
        self.upstream_turns
            .get_or_create(&StateLabel { state })
            .inc();
    }

    /// Open connections were decided again: so many stay, so many are closed.
    pub fn reevaluated(&self, kept: usize, closed: usize) {
        for (state, count) in [("kept", kept), ("closed", closed)] {
            self.reevaluated
                .get_or_create(&StateLabel { state })
                .inc_by(u64::try_from(count).unwrap_or(u64::MAX));
        }
    }

    /// accept(2) failed with an error of a class.
    pub fn accept_error(&self, class: &'static str) {
        self.accept_errors
            .get_or_create(&ClassLabel { class })
            .inc();
    }

    /// How many listening addresses are open, and how many could not be opened.
    pub fn set_listeners(&self, open: usize, failed: usize) {
        for (state, count) in [("open", open), ("failed", failed)] {
            let count = i64::try_from(count).unwrap_or(i64::MAX);
            self.listeners
                .get_or_create(&StateLabel { state })
                .set(count);
        }
    }

    /// A connection to the agent port was refused with a code.
    pub fn agent_refused(&self, code: portcullis_model::Code) {
        self.sessions_refused
            .get_or_create(&CodeLabel {
                code: code.as_str(),
            })
            .inc();
    }

    /// A file of places (`city`, `asn`, `categories`) was read, and that came out as `ok` or `failed`.
    pub fn place_file_read(&self, file: &'static str, outcome: &'static str) {
        self.place_file_reads
            .get_or_create(&ReadLabels { file, outcome })
            .inc();
    }

    /// Connections opened so far.
    pub fn count_opened(&self) -> u64 {
        self.connections_opened.get()
    }

    /// Connections open now.
    pub fn count_open(&self) -> u64 {
        u64::try_from(self.connections_open.get()).unwrap_or(0)
    }

    /// Connections ended so far for a reason.
    pub fn count_closed(&self, reason: CloseReason) -> u64 {
        self.of(reason).get()
    }

    /// Connections ended so far, all reasons together. Opened = closed + open at any quiet moment.
    pub fn count_closed_all(&self) -> u64 {
        CloseReason::ALL
            .iter()
            .map(|reason| self.count_closed(*reason))
            .sum()
    }

    /// The text of the exposition format (OpenMetrics).
    ///
    /// # Errors
    /// Never in practice: the text is written into memory.
    pub fn encode(&self) -> Result<String, fmt::Error> {
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

fn closed(reason: CloseReason) -> ClosedLabels {
    ClosedLabels {
        reason: reason.label(),
        fault: reason.fault().label(),
    }
}

fn add<M: Metric + Clone>(registry: &mut Registry, (name, help): Name, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

fn buckets(start: f64, factor: f64, count: u16) -> impl Iterator<Item = f64> {
    prometheus_client::metrics::histogram::exponential_buckets(start, factor, count)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_metric_is_in_the_text_under_its_name() {
        let metrics = Metrics::new();
        metrics.opened();
        for (place, reason) in CloseReason::ALL.iter().enumerate() {
            assert_eq!(place, *reason as usize, "{reason} has another's counter");
        }
        metrics.closed(CloseReason::PolicyDenied, 0.5);
        metrics.moved(3, 4);
        metrics.upstream_open("direct", "ok");
        metrics.upstream_open("direct", "upstream_refused");
        let text = metrics.encode().expect("memory");
        for line in [
            "portcullis_connections_opened_total 1",
            "portcullis_connections_closed_total{reason=\"policy_denied\",fault=\"policy\"} 1",
            "portcullis_connections_open 0",
            "portcullis_connection_bytes_total{direction=\"out\"} 4",
            "portcullis_upstream_opens_total{carrier=\"direct\",outcome=\"ok\"} 1",
            "portcullis_upstream_opens_total{carrier=\"direct\",outcome=\"upstream_refused\"} 1",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(
            metrics.count_opened(),
            metrics.count_closed_all() + metrics.count_open()
        );
    }
}

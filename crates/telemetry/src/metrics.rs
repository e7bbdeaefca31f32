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

/// Every metric of a node.
pub struct Metrics {
    registry: Registry,
    connections_opened: Counter,
    connections_closed: Family<ClosedLabels, Counter>,
    connections_open: Gauge,
    bytes: Family<Direction, Counter>,
    duration: Histogram,
    establish: Histogram,
    upstream_opens: Family<OpenLabels, Counter>,
    accept_errors: Family<ClassLabel, Counter>,
    listeners: Family<StateLabel, Gauge>,
    sessions_refused: Family<CodeLabel, Counter>,
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
        let made = Self {
            connections_opened: add(&mut registry, names::CONNECTIONS_OPENED, Counter::default()),
            connections_closed: add(&mut registry, names::CONNECTIONS_CLOSED, Family::default()),
            connections_open: add(&mut registry, names::CONNECTIONS_OPEN, Gauge::default()),
            bytes: add(&mut registry, names::CONNECTION_BYTES, Family::default()),
            duration: add(&mut registry, names::CONNECTION_DURATION, duration),
            establish: add(&mut registry, names::CONNECTION_OPEN_DURATION, establish),
            upstream_opens: add(&mut registry, names::UPSTREAM_OPENS, Family::default()),
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
            registry,
        };
        // Every reason exists from the start, so that a rate over it is zero and not absent.
        for reason in CloseReason::ALL {
            drop(made.connections_closed.get_or_create(&closed(*reason)));
        }
        made
    }

    pub(crate) fn opened(&self) {
        self.connections_opened.inc();
        self.connections_open.inc();
    }

    pub(crate) fn closed(&self, reason: CloseReason, seconds: f64) {
        self.connections_closed.get_or_create(&closed(reason)).inc();
        self.connections_open.dec();
        self.duration.observe(seconds);
    }

    pub(crate) fn established(&self, seconds: f64) {
        self.establish.observe(seconds);
    }

    pub(crate) fn moved(&self, bytes_in: u64, bytes_out: u64) {
        self.bytes
            .get_or_create(&Direction { direction: "in" })
            .inc_by(bytes_in);
        self.bytes
            .get_or_create(&Direction { direction: "out" })
            .inc_by(bytes_out);
    }

    /// An attempt to open an upstream over `carrier` (`channel`, `direct`) came out as `outcome`
    /// (`ok`, or the label of a close reason).
    pub fn upstream_open(&self, carrier: &'static str, outcome: &'static str) {
        self.upstream_opens
            .get_or_create(&OpenLabels { carrier, outcome })
            .inc();
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
        self.connections_closed.get_or_create(&closed(reason)).get()
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
        metrics.closed(CloseReason::PolicyDenied, 0.5);
        metrics.moved(3, 4);
        let text = metrics.encode().expect("memory");
        for line in [
            "portcullis_connections_opened_total 1",
            "portcullis_connections_closed_total{reason=\"policy_denied\",fault=\"policy\"} 1",
            "portcullis_connections_open 0",
            "portcullis_connection_bytes_total{direction=\"out\"} 4",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
        assert_eq!(
            metrics.count_opened(),
            metrics.count_closed_all() + metrics.count_open()
        );
    }
}

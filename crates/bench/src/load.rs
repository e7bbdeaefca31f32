//! The load generator: one thread of the client on bare epoll, and a backend whose echo and bulk are
//! a thread each, in processes of their own, so that neither waits for the other's tasks nor costs
//! more than what is measured.
//!
//! Sinks read with `MSG_TRUNC`: the kernel discards what arrived without copying it (tcp(7)), so bulk
//! is bounded by what lies between, not by the reader. Sources write 128 KiB at a time.
//!
//! Must never: bind before it connects. `bind` with port 0 searches for a port that is free on its
//! own, slower with every connection in TIME_WAIT; `connect` draws it by the whole four-tuple.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::usage::{Cpu, CpuUsed};

pub mod backend;
mod bulk;
mod connections;
mod exact;
mod hold;
mod round_trips;

/// Bytes of one request and of one answer in the small exchanges.
pub const MESSAGE: usize = 64;
/// Bytes of one write in bulk.
pub const CHUNK: usize = 128 * 1024;
/// First byte of a connection on which the backend sends back what it gets.
pub const ECHO: u8 = b'e';
/// First byte of a connection that the backend reads to its end and answers with a dot.
pub const SINK: u8 = b'u';
/// First byte of a connection on which the backend writes until the client ends.
pub const SOURCE: u8 = b'd';
/// First byte of a connection on which the backend tells, for each byte, what all sinks got so far.
pub const COUNT: u8 = b's';
/// Largest time that the histograms tell apart, in nanoseconds: a minute.
const LONGEST: u64 = 60_000_000_000;

/// Which way the bytes of a bulk transfer go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    /// Client to backend.
    Up,
    /// Backend to client.
    Down,
}

/// What a client does.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub enum Work {
    /// Moves bytes on `streams` connections; an operation is a byte.
    Bulk {
        /// Connections at once.
        streams: usize,
        /// Which way.
        direction: Direction,
    },
    /// Connects, exchanges one message, closes, on `at_once` connections; an operation is all three.
    Connections {
        /// Connections at once.
        at_once: usize,
    },
    /// The same in bursts: `at_once` connections at the same moment, and `pause` after the last of
    /// them is through; an operation lasts from `connect` to the first byte of the answer.
    Bursts {
        /// Connections of a burst.
        at_once: usize,
        /// Between the end of one burst and the next.
        pause: Duration,
    },
    /// Exchanges messages on `at_once` connections that stay open; an operation is one round trip.
    RoundTrips {
        /// Connections at once.
        at_once: usize,
    },
}

/// One run of a client.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Job {
    /// What it does.
    pub work: Work,
    /// Where it connects.
    pub to: SocketAddr,
    /// The backend itself, which tells how many bytes it got.
    pub backend: SocketAddr,
    /// Time before the measurement.
    pub warm: Duration,
    /// Time of the measurement.
    pub time: Duration,
    /// Processes whose CPU time is told.
    pub pids: Vec<u32>,
    /// Further processes that take part, such as the backend; all others are foreign.
    pub known: Vec<u32>,
}

/// What a run found.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Outcome {
    /// Operations (or bytes).
    pub operations: u64,
    /// Length of the measurement in seconds.
    pub seconds: f64,
    /// Median of one operation, in microseconds.
    pub p50: f64,
    /// 99th percentile, in microseconds.
    pub p99: f64,
    /// 99.9th percentile, in microseconds.
    pub p999: f64,
    /// Longest, in microseconds.
    pub max: f64,
    /// Operations that failed.
    pub errors: u64,
    /// Operations that were still under way after [`STUCK`].
    pub stuck: u64,
    /// CPU time of the measurement.
    pub cpu: CpuUsed,
}

/// An operation that takes longer than this is given up and counted. A SYN that is lost is sent again
/// after one second.
pub const STUCK: Duration = Duration::from_secs(5);

impl Outcome {
    /// Operations (or bytes) in a second.
    pub fn rate(&self) -> f64 {
        self.operations as f64 / self.seconds
    }
}

/// Does `job` to its end.
///
/// # Errors
/// When nothing can be measured at all; single failures are counted.
pub fn run(job: &Job) -> anyhow::Result<Outcome> {
    match job.work {
        Work::Bulk { streams, direction } => bulk::run(job, streams, direction),
        Work::Connections { at_once } => connections::run(job, at_once, None),
        Work::Bursts { at_once, pause } => connections::run(job, at_once, Some(pause)),
        Work::RoundTrips { at_once } => round_trips::run(job, at_once),
    }
}

pub use exact::exact;
pub use hold::hold;

/// The measured part of a run: it begins when the warm-up is over.
struct Window<'a> {
    job: &'a Job,
    start: Instant,
    begun: Option<(Instant, Cpu)>,
    times: Histogram<u64>,
    operations: u64,
    errors: u64,
}

impl<'a> Window<'a> {
    fn new(job: &'a Job) -> anyhow::Result<Self> {
        Ok(Self {
            job,
            start: Instant::now(),
            begun: None,
            times: Histogram::new_with_bounds(1_000, LONGEST, 3)?,
            operations: 0,
            errors: 0,
        })
    }

    /// When the present part ends: first the warm-up, then the measurement.
    fn deadline(&self) -> Instant {
        match &self.begun {
            None => self.start + self.job.warm,
            Some((begun, _)) => *begun + self.job.time,
        }
    }

    /// Called when a deadline has passed: begins the measurement (`true`), or says that it is over.
    fn turn(&mut self) -> bool {
        if self.begun.is_some() {
            return false;
        }
        let cpu = Cpu::now();
        self.operations = 0;
        self.errors = 0;
        self.times.clear();
        self.begun = Some((Instant::now(), cpu));
        true
    }

    /// An operation that began then is through.
    fn done(&mut self, began: Instant, now: Instant) {
        self.operations += 1;
        let nanos = u64::try_from((now - began).as_nanos()).unwrap_or(LONGEST);
        self.times.saturating_record(nanos.min(LONGEST));
    }

    /// `now` is when the last operation was counted.
    fn finish(self, now: Instant, stuck: u64) -> anyhow::Result<Outcome> {
        let (begun, cpu) = self
            .begun
            .ok_or_else(|| anyhow::anyhow!("the warm-up did not end"))?;
        let cpu = Cpu::now().since(&cpu, &self.job.pids, &self.job.known);
        let micros = |share: f64| self.times.value_at_quantile(share) as f64 / 1e3;
        Ok(Outcome {
            operations: self.operations,
            seconds: (now - begun).as_secs_f64(),
            p50: micros(0.5),
            p99: micros(0.99),
            p999: micros(0.999),
            max: micros(1.0),
            errors: self.errors,
            stuck,
            cpu,
        })
    }
}

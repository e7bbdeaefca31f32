//! How much of a session's opens may wait for their readers, and how long a round trip takes: what the
//! windows of all its carriers share.
//!
//! Must never: be locked.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use portcullis_proto::carrier::Budget;
use portcullis_proto::defaults::WINDOW_BUDGET;
use tokio::time::Instant;

use crate::defaults::ROUND_TRIP_UNKNOWN;

/// What the windows of a session share. Every session has one at either end.
#[derive(Debug)]
pub struct Flow {
    pub(super) budget: Budget,
    /// The round trip as it was last measured, in microseconds.
    round_trip: AtomicU32,
    start: Instant,
}

impl Default for Flow {
    fn default() -> Self {
        Self {
            budget: Budget::new(WINDOW_BUDGET),
            round_trip: AtomicU32::new(micros(ROUND_TRIP_UNKNOWN)),
            start: Instant::now(),
        }
    }
}

impl Flow {
    /// Notes a round trip of the session's control connection.
    pub fn note_round_trip(&self, took: Duration) {
        self.round_trip.store(micros(took), Ordering::Relaxed);
    }

    pub(super) fn round_trip(&self) -> Duration {
        Duration::from_micros(u64::from(self.round_trip.load(Ordering::Relaxed)))
    }

    /// The time as windows count it.
    pub(super) fn now(&self) -> Duration {
        self.start.elapsed()
    }
}

fn micros(took: Duration) -> u32 {
    u32::try_from(took.as_micros()).unwrap_or(u32::MAX)
}

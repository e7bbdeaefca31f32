//! When a direction on a carrier counts as bulky and its connection should have a channel, and when a
//! connection on a channel is quiet enough to give it back.
//!
//! Must never: read a clock, or move anything; the edge decides with what this says.

use std::time::Duration;

use crate::defaults::{BULK_BURST, BULK_SECOND, DEMOTE_AFTER};

/// What one direction of one connection has sent lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bulk {
    /// Bytes since the reader behind the sender last ran dry.
    burst: u64,
    /// Bytes since `since`.
    second: u64,
    since: Duration,
    last: Duration,
}

impl Bulk {
    /// A direction that begins now.
    pub const fn new(now: Duration) -> Self {
        Self {
            burst: 0,
            second: 0,
            since: now,
            last: now,
        }
    }

    /// Notes bytes that this side sends. Returns whether the direction is bulky: more than
    /// [`BULK_BURST`] without running dry, or [`BULK_SECOND`] within a second. It says so again for as
    /// long as it is true, so who found no channel may try again.
    pub fn on_bytes(&mut self, now: Duration, bytes: usize) -> bool {
        if now.saturating_sub(self.since) >= Duration::from_secs(1) {
            (self.second, self.since) = (0, now);
        }
        self.last = now;
        self.burst += bytes as u64;
        self.second += bytes as u64;
        self.burst > BULK_BURST || self.second >= BULK_SECOND
    }

    /// The reader behind the sender has nothing more for now: what it sent was no burst. The relay
    /// says so by flushing.
    pub fn on_dry(&mut self) {
        self.burst = 0;
    }

    /// Since when the direction has moved no byte.
    pub fn quiet_since(&self) -> Duration {
        self.last
    }
}

/// Whether a connection on a channel should return to a carrier: no byte in either direction for
/// [`DEMOTE_AFTER`]. Each direction is told by when it last moved one.
pub fn may_return(now: Duration, last: [Duration; 2]) -> bool {
    let [one, other] = last;
    now.saturating_sub(one.max(other)) >= DEMOTE_AFTER
}

#[cfg(test)]
mod tests {
    use super::*;

    const PIECE: usize = 16 * 1024;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_burst_is_bulky_and_requests_are_not() {
        let mut bulk = Bulk::new(Duration::ZERO);
        let sent = (0..9)
            .map(|_| bulk.on_bytes(at(1), PIECE))
            .collect::<Vec<_>>();
        assert_eq!(sent, [[false; 8].as_slice(), &[true]].concat());
        let mut bulk = Bulk::new(Duration::ZERO);
        for turn in 0..1000 {
            // 16 KiB every 20 ms are 800 KiB a second.
            assert!(!bulk.on_bytes(at(20 * turn), PIECE));
            bulk.on_dry();
        }
    }

    #[test]
    fn a_steady_stream_of_small_writes_is_bulky() {
        let mut bulk = Bulk::new(Duration::ZERO);
        let mut bulky = false;
        for turn in 0..1000 {
            bulky |= bulk.on_bytes(at(turn), 2 * 1024);
            bulk.on_dry();
        }
        assert!(bulky, "2 MiB in a second");
    }

    #[test]
    fn a_connection_returns_when_both_directions_were_quiet() {
        let after = |since: Duration| since + DEMOTE_AFTER;
        assert!(may_return(after(at(5)), [at(5), at(0)]));
        assert!(!may_return(after(at(5)), [at(0), at(6)]));
        assert!(!may_return(at(3), [at(3), at(3)]));
    }
}

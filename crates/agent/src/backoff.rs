//! Waits between attempts: exponential ceilings, each wait drawn from zero to the ceiling (full
//! jitter), so that agents that were cut off together don't come back together.
//!
//! Must never: read a clock or sleep.

use std::time::Duration;

/// The state of one series of attempts.
#[derive(Debug, Clone)]
pub(crate) struct Backoff {
    first: Duration,
    max: Duration,
    attempts: u32,
}

impl Backoff {
    pub(crate) fn new(first: Duration, max: Duration) -> Self {
        Self {
            first,
            max: max.max(first),
            attempts: 0,
        }
    }

    /// Attempts since the last success.
    pub(crate) fn attempts(&self) -> u32 {
        self.attempts
    }

    /// The next wait comes from the first ceiling again.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// The next wait, from a fresh random number.
    pub(crate) fn next(&mut self) -> Duration {
        self.next_from(rand::random())
    }

    /// The next wait: `draw` in 2^64 of the ceiling.
    fn next_from(&mut self, draw: u64) -> Duration {
        let ceiling = self
            .first
            .saturating_mul(1_u32.checked_shl(self.attempts).unwrap_or(u32::MAX))
            .min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let nanos = u128::from(draw) * ceiling.as_nanos() / u128::from(u64::MAX);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_cap_and_start_over_after_a_success() {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(30));
        let waits: Vec<u128> = (0..9)
            .map(|_| backoff.next_from(u64::MAX).as_millis())
            .collect();
        assert_eq!(
            waits,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
        assert_eq!(backoff.attempts(), 9);
        backoff.reset();
        assert_eq!(backoff.next_from(u64::MAX), Duration::from_millis(500));
    }

    #[test]
    fn jitter_covers_the_whole_range() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(1));
        assert_eq!(backoff.next_from(0), Duration::ZERO);
        assert_eq!(backoff.next_from(u64::MAX / 2).as_millis(), 499);
        for _ in 0..10_000 {
            assert!(backoff.next() <= Duration::from_secs(1));
        }
    }
}

//! How much of one open this side lets wait for its reader, and when the peer is told that it may
//! send more. A window begins small and doubles while its reader takes a whole one within two round
//! trips, so that a link with a long delay is not capped; what it has beyond the first size comes out
//! of the session's budget.
//!
//! Must never: take back what was granted. A window shrinks by not granting what was consumed.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use crate::defaults::{WINDOW_INITIAL, WINDOW_MAX, WINDOW_QUIET};

/// Bytes that the windows of one session may have beyond their first size, all together.
#[derive(Debug)]
pub struct Budget {
    left: AtomicU32,
}

impl Budget {
    /// Of so many bytes.
    pub const fn new(bytes: u32) -> Self {
        Self {
            left: AtomicU32::new(bytes),
        }
    }

    /// What nobody has taken.
    pub fn left(&self) -> u32 {
        self.left.load(Ordering::Relaxed)
    }

    /// Takes all of `bytes`, or nothing.
    fn take(&self, bytes: u32) -> bool {
        let less = |left: u32| left.checked_sub(bytes);
        let (set, fetch) = (Ordering::Relaxed, Ordering::Relaxed);
        self.left.fetch_update(set, fetch, less).is_ok()
    }

    fn give(&self, bytes: u32) {
        self.left.fetch_add(bytes, Ordering::Relaxed);
    }
}

/// The receive window of one open on a carrier.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Window {
    size: u32,
    /// Consumed and not granted again.
    pending: u32,
    /// Consumed since `since`.
    turn: u32,
    since: Duration,
    last: Duration,
    /// Whether what is consumed makes the window smaller before it is granted again.
    shrinking: bool,
}

impl Window {
    /// As both sides begin, without a CREDIT frame.
    pub const fn new(now: Duration) -> Self {
        Self {
            size: WINDOW_INITIAL,
            pending: 0,
            turn: 0,
            since: now,
            last: now,
            shrinking: false,
        }
    }

    /// Bytes that may wait here at most: what the peer may still send, what waits, and what was
    /// consumed and not granted again.
    pub fn size(&self) -> u32 {
        self.size
    }

    /// Notes that the reader took `bytes`, and returns how many the peer is to be granted now, if any:
    /// when half of the window was consumed. `rtt` is the link's round trip as it was last measured.
    pub fn consume(
        &mut self,
        now: Duration,
        bytes: u32,
        rtt: Duration,
        budget: &Budget,
    ) -> Option<u32> {
        if now.saturating_sub(self.last) > WINDOW_QUIET {
            self.shrinking = self.size > WINDOW_INITIAL;
            (self.turn, self.since) = (0, now);
        }
        self.last = now;
        self.pending += self.shrink(bytes, budget);
        self.turn = self.turn.saturating_add(bytes);
        let grown = if self.turn >= self.size {
            let fast = now.saturating_sub(self.since) <= rtt * 2;
            (self.turn, self.since) = (0, now);
            if fast { self.grow(budget) } else { 0 }
        } else {
            0
        };
        self.pending += grown;
        if self.pending < self.size / 2 {
            return None;
        }
        Some(std::mem::take(&mut self.pending))
    }

    /// The open is over: gives back what it had of the budget.
    pub fn close(&mut self, budget: &Budget) {
        budget.give(self.size.saturating_sub(WINDOW_INITIAL));
        self.size = self.size.min(WINDOW_INITIAL);
    }

    /// Keeps of `bytes` what the window is to lose, and returns the rest.
    fn shrink(&mut self, bytes: u32, budget: &Budget) -> u32 {
        if !self.shrinking {
            return bytes;
        }
        let lost = bytes.min(self.size - WINDOW_INITIAL);
        self.size -= lost;
        budget.give(lost);
        self.shrinking = self.size > WINDOW_INITIAL;
        bytes - lost
    }

    /// Doubles the window if the budget allows it; returns what it grew by.
    fn grow(&mut self, budget: &Budget) -> u32 {
        let more = self.size.min(WINDOW_MAX - self.size);
        if self.shrinking || more == 0 || !budget.take(more) {
            return 0;
        }
        self.size += more;
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RTT: Duration = Duration::from_millis(60);

    /// Consumes in pieces of 16 KiB, `every` apart; returns what was granted.
    fn read(
        window: &mut Window,
        clock: &mut Duration,
        bytes: u32,
        every: Duration,
        budget: &Budget,
    ) -> u32 {
        let mut granted = 0;
        for _ in 0..bytes / 16_384 {
            *clock += every;
            granted += window.consume(*clock, 16_384, RTT, budget).unwrap_or(0);
        }
        granted
    }

    #[test]
    fn credit_comes_with_half_of_the_window() {
        let budget = Budget::new(0);
        let mut window = Window::new(Duration::ZERO);
        let now = Duration::from_millis(1);
        assert_eq!(
            window.consume(now, WINDOW_INITIAL / 2 - 1, RTT, &budget),
            None
        );
        let granted = window.consume(now, 1, RTT, &budget);
        assert_eq!(granted, Some(WINDOW_INITIAL / 2));
    }

    #[test]
    fn a_fast_reader_on_a_long_link_gets_a_larger_window() {
        let budget = Budget::new(16 * WINDOW_MAX);
        let (mut window, mut clock) = (Window::new(Duration::ZERO), Duration::ZERO);
        // 16 KiB a millisecond: a window of 64 KiB takes 4 ms of the 120 that two round trips last.
        let granted = read(
            &mut window,
            &mut clock,
            4 * WINDOW_MAX,
            Duration::from_millis(1),
            &budget,
        );
        assert_eq!(window.size(), WINDOW_MAX);
        let grown = WINDOW_MAX - WINDOW_INITIAL;
        assert_eq!(budget.left(), 16 * WINDOW_MAX - grown);
        assert!(granted + window.pending == 4 * WINDOW_MAX + grown);
        window.close(&budget);
        assert_eq!(budget.left(), 16 * WINDOW_MAX);
    }

    #[test]
    fn a_slow_reader_keeps_its_window() {
        let budget = Budget::new(16 * WINDOW_MAX);
        let (mut window, mut clock) = (Window::new(Duration::ZERO), Duration::ZERO);
        read(
            &mut window,
            &mut clock,
            4 * WINDOW_MAX,
            Duration::from_millis(40),
            &budget,
        );
        assert_eq!(window.size(), WINDOW_INITIAL);
    }

    #[test]
    fn the_budget_bounds_all_windows_together() {
        let budget = Budget::new(WINDOW_MAX);
        let mut clock = Duration::ZERO;
        let mut windows = vec![Window::new(Duration::ZERO); 8];
        for window in &mut windows {
            read(
                window,
                &mut clock,
                4 * WINDOW_MAX,
                Duration::from_millis(1),
                &budget,
            );
        }
        let beyond: u32 = windows.iter().map(|w| w.size() - WINDOW_INITIAL).sum();
        assert_eq!(beyond + budget.left(), WINDOW_MAX);
        assert!(beyond > WINDOW_MAX / 2);
    }

    #[test]
    fn a_quiet_window_shrinks_with_the_next_bytes() {
        let budget = Budget::new(16 * WINDOW_MAX);
        let (mut window, mut clock) = (Window::new(Duration::ZERO), Duration::ZERO);
        read(
            &mut window,
            &mut clock,
            4 * WINDOW_MAX,
            Duration::from_millis(1),
            &budget,
        );
        let before = window.pending;
        clock += WINDOW_QUIET * 2;
        let granted = read(
            &mut window,
            &mut clock,
            WINDOW_MAX,
            Duration::from_millis(40),
            &budget,
        );
        assert_eq!(window.size(), WINDOW_INITIAL);
        assert_eq!(budget.left(), 16 * WINDOW_MAX);
        // What the peer may have under way is now the first window: the rest was not granted again.
        assert_eq!(
            before + WINDOW_MAX - (granted + window.pending),
            WINDOW_MAX - WINDOW_INITIAL
        );
    }
}

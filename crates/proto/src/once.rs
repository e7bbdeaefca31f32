//! Numbers that are taken once: what keeps a recorded first message of a link without TLS from
//! beginning another one.
//!
//! Must never: take a number twice, or grow with them.

/// How far below the highest number one may still come. An agent begins fewer links than this at once.
const BEHIND_MAX: u64 = 1024;
const WORDS: usize = (BEHIND_MAX / 64) as usize;

/// Which numbers were taken: the highest, and of the [`BEHIND_MAX`] below it each. What lies further
/// behind counts as taken. (The window of RFC 4303, section 3.4.3.)
#[derive(Debug, Clone, Default)]
pub struct OnceOnly {
    /// One above the highest that was taken; 0 before the first.
    above: u64,
    /// A bit for each number of the window, at its place modulo the window.
    taken: [u64; WORDS],
}

impl OnceOnly {
    /// No number was taken.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes a number. False when it was taken before, lies too far behind, or is `u64::MAX`.
    pub fn take(&mut self, number: u64) -> bool {
        if number == u64::MAX || self.above.saturating_sub(number) > BEHIND_MAX {
            return false;
        }
        // What the window moves over is new.
        if number >= self.above {
            let moved = (number - self.above + 1).min(BEHIND_MAX);
            for fresh in number + 1 - moved..=number {
                *self.word(fresh) &= !bit(fresh);
            }
            self.above = number + 1;
        }
        let word = self.word(number);
        let new = *word & bit(number) == 0;
        *word |= bit(number);
        new
    }

    fn word(&mut self, number: u64) -> &mut u64 {
        let at = usize::try_from(number % BEHIND_MAX / 64).unwrap_or(0);
        &mut self.taken[at % WORDS]
    }
}

const fn bit(number: u64) -> u64 {
    1 << (number % 64)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_number_is_taken_once_in_whatever_order() {
        let mut once = OnceOnly::new();
        for number in [3, 1, 2, 700, 5, 4, 699] {
            assert!(once.take(number), "{number}");
        }
        for number in [3, 1, 2, 700, 5, 4, 699] {
            assert!(!once.take(number), "{number}");
        }
        assert!(once.take(0), "the first of all came late");
    }

    #[test]
    fn what_lies_too_far_behind_counts_as_taken() {
        let mut once = OnceOnly::new();
        assert!(once.take(5000));
        assert!(once.take(5001 - BEHIND_MAX));
        assert!(!once.take(5000 - BEHIND_MAX));
        assert!(!once.take(u64::MAX));
        assert!(once.take(u64::MAX - 1));
        assert!(!once.take(5001), "a window away");
    }

    #[test]
    fn it_agrees_with_a_set() {
        let (mut once, mut set) = (OnceOnly::new(), HashSet::new());
        let (mut state, mut highest) = (1_u64, 0);
        for _ in 0..100_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let ahead = (state >> 33) % 1500;
            let number = (highest + 200_u64).saturating_sub(ahead);
            let near = highest < number + BEHIND_MAX;
            assert_eq!(once.take(number), near && set.insert(number), "{number}");
            highest = highest.max(number);
        }
    }
}

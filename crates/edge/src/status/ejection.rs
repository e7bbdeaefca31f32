//! Passive ejection: whether an endpoint is passed over for a while because opens of it failed.
//!
//! Owns the back-off. Must never: read a clock; whoever asks passes the time in.

use std::time::Duration;

use tokio::time::Instant;

use crate::defaults::{EJECT_FIRST, EJECT_MAX};

/// Failed opens in a row, and what followed from them. An open that works ends all of it.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(crate) struct Ejection {
    failures: u32,
    ejections: u32,
    until: Option<Instant>,
}

impl Ejection {
    /// An open failed. For how long it is ejected, if it is from now on: the first time for [`EJECT_FIRST`],
    /// twice as long each time after, [`EJECT_MAX`] at most. Opens that were on their way when it was ejected
    /// say nothing new.
    pub(crate) fn failed(&mut self, now: Instant) -> Option<Duration> {
        self.failures = self.failures.saturating_add(1);
        if self.until(now).is_some() {
            return None;
        }
        let doubled = 2_u32.saturating_pow(self.ejections);
        let rest = EJECT_FIRST.saturating_mul(doubled).min(EJECT_MAX);
        self.ejections = self.ejections.saturating_add(1);
        self.until = Some(now + rest);
        Some(rest)
    }

    /// Until when it is ejected, if it is now.
    pub(crate) fn until(&self, now: Instant) -> Option<Instant> {
        self.until.filter(|until| *until > now)
    }

    /// Failed opens in a row.
    pub(crate) fn failures(&self) -> u32 {
        self.failures
    }
}

/// Of members that are well but for their ejection, which stay ejected: at most half of them, those that have
/// longest to go. `until` has one entry for each of those members. A fault that is not theirs (of the network,
/// of a check of ours) must not leave the load to a few.
pub(crate) fn stay_ejected(until: &[Option<Instant>]) -> Vec<bool> {
    let most = until.len() / 2;
    let mut ejected: Vec<(Instant, usize)> = until
        .iter()
        .enumerate()
        .filter_map(|(at, until)| until.map(|until| (until, at)))
        .collect();
    ejected.sort_unstable_by(|a, b| b.cmp(a));
    let mut stay = vec![false; until.len()];
    for (_, at) in ejected.into_iter().take(most) {
        if let Some(stays) = stay.get_mut(at) {
            *stays = true;
        }
    }
    stay
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ejections_double_until_an_open_works() {
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        let mut rests = Vec::new();
        for _ in 0..9 {
            let rest = ejection.failed(now).expect("ejected");
            assert_eq!(
                ejection.failed(now + rest / 2),
                None,
                "it is ejected already"
            );
            assert!(ejection.until(now + rest / 2).is_some());
            now += rest;
            assert_eq!(ejection.until(now), None, "its time is over");
            rests.push(rest.as_secs());
        }
        assert_eq!(rests, [5, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert_eq!(ejection.failures(), 18);
        ejection = Ejection::default();
        assert_eq!(ejection.failed(now), Some(EJECT_FIRST));
    }

    #[test]
    fn failures_for_ever_overflow_nothing() {
        let mut now = Instant::now();
        let mut ejection = Ejection::default();
        for _ in 0..100 {
            ejection.failed(now);
            now += EJECT_MAX;
        }
        assert_eq!(ejection.failed(now), Some(EJECT_MAX));
    }

    #[test]
    fn at_most_half_of_a_pool_stays_ejected() {
        let at = |seconds| Some(Instant::now() + Duration::from_secs(seconds));
        assert_eq!(stay_ejected(&[at(1)]), [false], "one alone is it");
        assert_eq!(stay_ejected(&[at(1), None]), [true, false]);
        assert_eq!(stay_ejected(&[at(1), at(9)]), [false, true]);
        assert_eq!(stay_ejected(&[at(5), None, at(9)]), [false, false, true]);
        assert_eq!(
            stay_ejected(&[at(5), at(1), at(9), at(3)]),
            [true, false, true, false]
        );
        assert_eq!(stay_ejected(&[]), [false; 0]);
    }
}

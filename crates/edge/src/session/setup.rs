//! How long a channel takes to come, from asking the agent for it until it is there: what was measured, and
//! never less than the session's round trip allows. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::defaults::{
    CHANNEL_ROUND_TRIPS, CHANNEL_SETUP_MAX, CHANNEL_SETUP_MIN, CHANNEL_SETUP_UNKNOWN,
};

/// What is known of it.
#[derive(Debug)]
pub(crate) struct Setup {
    round_trip: Option<Duration>,
    arrival: Option<Duration>,
    /// One of the channels on their way: when it was asked for, and how many come before it.
    timed: Option<(Instant, u32)>,
}

impl Setup {
    /// The agent brings its first channels by itself, from `now` on.
    pub(crate) fn new(now: Instant) -> Self {
        Self {
            round_trip: None,
            arrival: None,
            timed: Some((now, 0)),
        }
    }

    /// More are asked for, behind those that are coming. One at a time is timed.
    pub(crate) fn asked(&mut self, now: Instant, coming: u32) {
        self.timed.get_or_insert((now, coming));
    }

    /// A channel came.
    pub(crate) fn came(&mut self, now: Instant) {
        match &mut self.timed {
            Some((since, 0)) => {
                note(&mut self.arrival, now.duration_since(*since));
                self.timed = None;
            }
            Some((_, before)) => *before -= 1,
            None => {}
        }
    }

    /// What was asked for counts as lost. Should it come after all, nobody knows which asking it answers.
    pub(crate) fn lost(&mut self) {
        self.timed = None;
    }

    /// A heartbeat was answered.
    pub(crate) fn note_round_trip(&mut self, took: Duration) {
        note(&mut self.round_trip, took);
    }

    /// The time to reckon with: the longer of what was measured and what the round trips need, and a
    /// quarter more, for neither is the same every time.
    pub(crate) fn time(&self) -> Duration {
        let trips = self.round_trip.map(|trip| trip * CHANNEL_ROUND_TRIPS);
        let longer = trips.max(self.arrival).unwrap_or(CHANNEL_SETUP_UNKNOWN);
        (longer * 5 / 4).clamp(CHANNEL_SETUP_MIN, CHANNEL_SETUP_MAX)
    }
}

/// Smooths: a new value counts for a quarter. One that is out of all bounds counts as the bound.
fn note(mean: &mut Option<Duration>, value: Duration) {
    let value = value.min(CHANNEL_SETUP_MAX);
    *mean = Some(mean.map_or(value, |mean| (mean * 3 + value) / 4));
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn it_is_the_longer_of_measured_and_round_trips_and_a_quarter_more() {
        let start = Instant::now();
        let mut setup = Setup::new(start);
        assert_eq!(setup.time(), CHANNEL_SETUP_UNKNOWN * 5 / 4);
        setup.note_round_trip(MS);
        assert_eq!(setup.time(), CHANNEL_SETUP_MIN, "of a short link");
        setup.came(start + 200 * MS);
        assert_eq!(setup.time(), 250 * MS, "of an agent that is slow");
        setup.came(start + 1_000 * MS);
        assert_eq!(setup.time(), 250 * MS, "one was timed, and it has come");
        for _ in 0..50 {
            setup.note_round_trip(100 * MS);
        }
        assert!(setup.time() > 370 * MS && setup.time() <= 375 * MS);
    }

    #[test]
    fn one_outlier_is_a_quarter_of_it_and_never_beyond_the_bound() {
        let start = Instant::now();
        let mut setup = Setup::new(start);
        setup.came(start + 100 * MS);
        setup.asked(start, 0);
        setup.came(start + 500 * MS);
        assert_eq!(setup.time(), 250 * MS);
        for _ in 0..50 {
            setup.asked(start, 0);
            setup.came(start + Duration::from_secs(3600));
            setup.note_round_trip(Duration::MAX);
        }
        assert_eq!(setup.time(), CHANNEL_SETUP_MAX);
    }

    /// Asked for behind nine that are coming, the tenth is the answer.
    #[test]
    fn what_comes_first_is_what_was_asked_for_first() {
        let start = Instant::now();
        let mut setup = Setup::new(start);
        setup.came(start + 100 * MS);
        setup.asked(start, 9);
        setup.asked(start + 50 * MS, 10);
        for _ in 0..9 {
            setup.came(start + 10 * MS);
        }
        assert_eq!(setup.time(), 125 * MS, "that was not it");
        setup.came(start + 100 * MS);
        setup.came(start + 900 * MS);
        assert_eq!(setup.time(), 125 * MS);
    }

    #[test]
    fn what_counts_as_lost_is_not_measured() {
        let start = Instant::now();
        let mut setup = Setup::new(start);
        setup.lost();
        setup.came(start + 1_900 * MS);
        assert_eq!(setup.time(), CHANNEL_SETUP_UNKNOWN * 5 / 4);
    }
}

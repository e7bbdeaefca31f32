//! How many idle channels a session should have: at least a few, and as many as were opened lately within
//! the time that a channel takes to come. What is taken is asked for at once, so with these no open waits
//! at the rate of the last seconds, nor in a burst like the last one. Pure.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

use super::setup::Setup;
use crate::defaults::{
    CHANNELS_IDLE_MAX, CHANNELS_IDLE_MIN, CHANNELS_PEAK_WINDOW, NEED_CHANNELS_AGAIN,
    NEED_CHANNELS_AGAIN_MAX,
};

/// What was opened lately, and what was asked for.
#[derive(Debug)]
pub(crate) struct Demand {
    /// The last opens, as many as may be kept idle: 1 KiB.
    opens: VecDeque<Instant>,
    setup: Setup,
    window: Instant,
    /// The most opens within one set-up time that this window has seen.
    burst: u32,
    /// The same of those before; halves with every quieter one.
    peak: u32,
    asked: u32,
    /// When channels were last asked for, or came.
    asked_at: Instant,
    /// After so long a silence what was asked for counts as lost.
    again: Duration,
}

impl Demand {
    pub(crate) fn new(now: Instant) -> Self {
        // The agent brings its first channels by itself, as `welcome` told it.
        Self {
            opens: VecDeque::new(),
            setup: Setup::new(now),
            window: now,
            burst: 0,
            peak: 0,
            asked: CHANNELS_IDLE_MIN,
            asked_at: now,
            again: NEED_CHANNELS_AGAIN,
        }
    }

    /// A client connection was opened, or waits to be.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.roll(now);
        if self.opens.len() >= CHANNELS_IDLE_MAX as usize {
            self.opens.pop_front();
        }
        self.opens.push_back(now);
        let setup = self.setup.time();
        let is_past = |at: &Instant| now.duration_since(*at) >= setup;
        let past = self.opens.partition_point(is_past);
        let burst = u32::try_from(self.opens.len() - past).unwrap_or(u32::MAX);
        self.burst = self.burst.max(burst);
    }

    /// A channel came: the agent is at work, and what else was asked for is still on its way.
    pub(crate) fn came(&mut self, now: Instant) {
        self.setup.came(now);
        self.asked = self.asked.saturating_sub(1);
        self.asked_at = now;
        self.again = NEED_CHANNELS_AGAIN;
    }

    /// A heartbeat was answered.
    pub(crate) fn note_round_trip(&mut self, took: Duration) {
        self.setup.note_round_trip(took);
    }

    /// Idle channels that there should be.
    pub(crate) fn target(&mut self, now: Instant) -> u32 {
        self.roll(now);
        let most = self.peak.max(self.burst);
        most.clamp(CHANNELS_IDLE_MIN, CHANNELS_IDLE_MAX)
    }

    /// Channels to ask the agent for now: what is missing for the target and for the opens that wait,
    /// less what is on its way. When nothing came for a while, what is missing is asked for again.
    pub(crate) fn ask(&mut self, now: Instant, idle: usize, waiting: usize) -> u32 {
        let lost = self.asked > 0
            && now.duration_since(self.asked_at) >= self.again.max(self.setup.time());
        if lost {
            self.setup.lost();
            self.asked = 0;
            // An agent that hangs will read every request when it is back, and do them all.
            self.again = (self.again * 2).min(NEED_CHANNELS_AGAIN_MAX);
        }
        let idle = u32::try_from(idle).unwrap_or(u32::MAX);
        let waiting = u32::try_from(waiting).unwrap_or(u32::MAX);
        let wanted = self.target(now).saturating_add(waiting);
        let missing = wanted.saturating_sub(idle).saturating_sub(self.asked);
        let missing = missing.min(portcullis_proto::defaults::NEED_CHANNELS_MAX);
        if missing > 0 {
            if !lost {
                self.setup.asked(now, self.asked);
            }
            self.asked += missing;
            self.asked_at = now;
        }
        missing
    }

    fn roll(&mut self, now: Instant) {
        let windows = now.duration_since(self.window).as_nanos() / CHANNELS_PEAK_WINDOW.as_nanos();
        if windows == 0 {
            return;
        }
        let quiet = u32::try_from(windows - 1).unwrap_or(u32::MAX);
        let peak = self.burst.max(self.peak / 2);
        // 32 windows without an open leave nothing of any peak.
        self.peak = peak.checked_shr(quiet).unwrap_or(0);
        self.burst = 0;
        self.window = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::defaults::CHANNEL_ROUND_TRIPS;

    #[test]
    fn a_quiet_session_keeps_the_minimum_and_asks_for_it_once() {
        let start = Instant::now();
        let mut demand = Demand::new(start);
        assert_eq!(
            demand.ask(start, 0, 0),
            0,
            "the agent brings the first by itself"
        );
        let later = start + NEED_CHANNELS_AGAIN;
        assert_eq!(demand.ask(later, 0, 0), CHANNELS_IDLE_MIN);
        assert_eq!(demand.ask(later, 0, 0), 0, "they are on their way");
        demand.came(later);
        assert_eq!(demand.ask(later, 1, 0), 0);
    }

    /// Handshakes take their time in a burst; asked for once more they would only take longer.
    #[test]
    fn what_is_coming_one_by_one_is_not_asked_for_again() {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        assert!(demand.ask(now, 0, 100) > 0);
        for waiting in (0..100).rev() {
            now += NEED_CHANNELS_AGAIN / 2;
            demand.came(now);
            assert_eq!(demand.ask(now, 0, waiting), 0, "{waiting} still wait");
        }
        now += NEED_CHANNELS_AGAIN;
        assert_eq!(demand.ask(now, 0, 0), CHANNELS_IDLE_MIN);
    }

    #[test]
    fn waiting_opens_are_asked_for_at_once() {
        let now = Instant::now();
        let mut demand = Demand::new(now);
        for _ in 0..10 {
            demand.opened(now);
        }
        assert_eq!(demand.ask(now, 0, 8), 10 + 8 - CHANNELS_IDLE_MIN);
    }

    #[test]
    fn an_agent_that_hangs_is_asked_less_and_less() {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        let mut asked = 0;
        for _ in 0..600 {
            now += Duration::from_millis(100);
            asked += u32::from(demand.ask(now, 0, 50) > 0);
        }
        assert!((5..=11).contains(&asked), "{asked} times in a minute");
        demand.came(now);
        assert_eq!(demand.ask(now, 0, 49), 0);
        now += NEED_CHANNELS_AGAIN;
        assert_eq!(demand.ask(now, 0, 49), 49 + CHANNELS_IDLE_MIN);
    }

    #[test]
    fn a_burst_beyond_one_message_is_asked_for_at_once() {
        let now = Instant::now();
        let mut demand = Demand::new(now);
        let asks = std::iter::from_fn(|| Some(demand.ask(now, 0, 900)).filter(|count| *count > 0));
        let asks: Vec<u32> = asks.collect();
        let all = CHANNELS_IDLE_MIN + 900 - CHANNELS_IDLE_MIN;
        assert_eq!(asks.iter().sum::<u32>(), all, "{asks:?}");
        assert_eq!(asks.len(), 4);
    }

    const MS: Duration = Duration::from_millis(1);

    /// A session whose agent brought its first channels in the time that its round trip allows.
    fn measured(start: Instant, round_trip: Duration) -> Demand {
        let mut demand = Demand::new(start);
        for _ in 0..CHANNELS_IDLE_MIN {
            demand.came(start + round_trip * CHANNEL_ROUND_TRIPS);
        }
        demand.note_round_trip(round_trip);
        demand
    }

    /// The target after so many opens, one every `gap`.
    fn after(demand: &mut Demand, now: &mut Instant, opens: u32, gap: Duration) -> u32 {
        for _ in 0..opens {
            *now += gap;
            demand.opened(*now);
        }
        demand.target(*now)
    }

    #[test]
    fn the_target_is_what_is_opened_while_a_channel_comes() {
        for (round_trip, gap, expected) in [
            (1, 10, 5),                    // five times the shortest time that is reckoned with
            (20, 10, 8),                   // 60 ms and a quarter
            (150, 10, 57),                 // 450 ms and a quarter
            (150, 500, CHANNELS_IDLE_MIN), // two a second need no more
            (600, 1, CHANNELS_IDLE_MAX),   // and no rate may have more
            (5_000, 1, CHANNELS_IDLE_MAX),
            (5_000, 100, 20), // a time that is not believed
        ] {
            let mut now = Instant::now();
            let mut demand = measured(now, round_trip * MS);
            let target = after(&mut demand, &mut now, 1_000, gap * MS);
            assert_eq!(target, expected, "{round_trip} ms, one every {gap} ms");
        }
    }

    #[test]
    fn an_agent_that_is_slow_on_a_short_link_has_more_ready() {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        demand.note_round_trip(MS);
        demand.came(now + 400 * MS);
        assert_eq!(after(&mut demand, &mut now, 1_000, 10 * MS), 50);
    }

    /// Asked for one at a time, and brought after so long: the target at 100 opens a second then.
    fn brought_after(wait: Duration, repeats: Option<Duration>) -> u32 {
        let mut now = Instant::now();
        let mut demand = measured(now, MS);
        for _ in 0..50 {
            now += Duration::from_secs(60);
            let mut coming = demand.ask(now, 1, 0);
            coming += repeats.map_or(0, |after| demand.ask(now + after, 1, 0));
            assert_eq!(coming, 1 + u32::from(repeats.is_some()));
            (0..coming).for_each(|_| demand.came(now + wait));
        }
        after(&mut demand, &mut now, 1_000, 10 * MS)
    }

    #[test]
    fn what_is_asked_for_is_timed_unless_it_was_asked_for_again() {
        assert_eq!(brought_after(400 * MS, None), 50);
        assert_eq!(brought_after(700 * MS, Some(NEED_CHANNELS_AGAIN)), 5);
    }

    #[test]
    fn a_link_that_grows_longer_is_seen_with_the_next_open() {
        let mut now = Instant::now();
        let mut demand = measured(now, MS);
        assert_eq!(after(&mut demand, &mut now, 1_000, 10 * MS), 5);
        for _ in 0..50 {
            demand.note_round_trip(150 * MS);
        }
        assert!(after(&mut demand, &mut now, 1, 10 * MS) > 50);
    }

    #[test]
    fn a_burst_counts_whole_on_a_short_link_and_is_forgotten() {
        let mut now = Instant::now();
        let mut demand = measured(now, MS);
        now += Duration::from_secs(60);
        assert_eq!(after(&mut demand, &mut now, 20, 2 * MS), 20);
        now += CHANNELS_PEAK_WINDOW;
        assert_eq!(demand.target(now), 20, "the next may come");
        now += 3 * CHANNELS_PEAK_WINDOW;
        assert_eq!(demand.target(now), 20 / 8);
        now += Duration::from_secs(3600);
        assert_eq!(demand.target(now), CHANNELS_IDLE_MIN);
    }

    /// Opens at these times, each with a channel that does not come back: how many of them waited once the
    /// session had run for three seconds, and the most channels that were idle.
    fn simulated(round_trip: Duration, opens: impl Iterator<Item = Duration>) -> (u32, usize) {
        let start = Instant::now();
        let takes = round_trip * CHANNEL_ROUND_TRIPS;
        let mut demand = Demand::new(start);
        demand.note_round_trip(round_trip);
        let mut coming = VecDeque::from(vec![start + takes; CHANNELS_IDLE_MIN as usize]);
        let (mut idle, mut waiting, mut waited, mut most) = (0, 0, 0, 0);
        for at in opens {
            let now = start + at;
            while let Some(came) = coming.pop_front_if(|comes| *comes <= now) {
                demand.came(came);
                match waiting {
                    0 => idle += 1,
                    _ => waiting -= 1,
                }
            }
            most = most.max(idle);
            demand.opened(now);
            if idle > 0 {
                idle -= 1;
            } else {
                waiting += 1;
                waited += u32::from(at > Duration::from_secs(3));
            }
            let asks = std::iter::from_fn(|| {
                Some(demand.ask(now, idle, waiting)).filter(|count| *count > 0)
            });
            coming.extend((0..asks.sum::<u32>()).map(|_| now + takes));
        }
        (waited, most)
    }

    #[test]
    fn at_a_steady_rate_no_open_waits_and_few_channels_are_idle() {
        for (round_trip, gap, bound) in [(1, 10, 5), (30, 10, 12), (150, 10, 57), (150, 50, 12)] {
            let opens = (1..2_000).map(|open| open * gap * MS);
            let (waited, most) = simulated(round_trip * MS, opens);
            assert_eq!(waited, 0, "{round_trip} ms, one every {gap} ms");
            assert!(most <= bound, "{most} at {round_trip} ms, {gap} ms");
        }
    }

    #[test]
    fn a_burst_like_the_last_one_opens_without_a_wait() {
        for round_trip in [1, 30, 150] {
            let opens = (1..20).flat_map(|second| {
                (0..30).map(move |open| Duration::from_secs(second) + open * MS)
            });
            let (waited, most) = simulated(round_trip * MS, opens);
            assert_eq!(waited, 0, "{round_trip} ms");
            assert!(most <= 30, "{most} at {round_trip} ms");
        }
    }

    #[test]
    fn the_target_follows_the_open_rate_up_and_down() {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        for _ in 0..20 {
            demand.opened(now);
        }
        assert_eq!(demand.target(now), 20);
        now += CHANNELS_PEAK_WINDOW;
        assert_eq!(
            demand.target(now),
            20,
            "the busy window is over, its rate still counts"
        );
        now += CHANNELS_PEAK_WINDOW;
        assert_eq!(demand.target(now), 10);
        now += Duration::from_secs(3600);
        assert_eq!(demand.target(now), CHANNELS_IDLE_MIN);
        for _ in 0..10_000 {
            demand.opened(now);
        }
        assert_eq!(demand.target(now), CHANNELS_IDLE_MAX);
    }
}

//! How many idle channels a session should have: at least a few, and as many as were opened within the
//! last window, so that a burst like the last one opens without a round trip. Pure.

use std::time::Duration;

use tokio::time::Instant;

use crate::defaults::{
    CHANNELS_IDLE_MAX, CHANNELS_IDLE_MIN, CHANNELS_RATE_WINDOW, NEED_CHANNELS_AGAIN,
    NEED_CHANNELS_AGAIN_MAX,
};

/// What was opened lately, and what was asked for.
#[derive(Debug)]
pub(crate) struct Demand {
    window: Instant,
    opens: u32,
    /// Opens of the busiest recent window; halves with every quieter one.
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
            window: now,
            opens: 0,
            peak: 0,
            asked: CHANNELS_IDLE_MIN,
            asked_at: now,
            again: NEED_CHANNELS_AGAIN,
        }
    }

    /// A client connection was opened, or waits to be.
    pub(crate) fn opened(&mut self, now: Instant) {
        self.roll(now);
        self.opens += 1;
        self.peak = self.peak.max(self.opens);
    }

    /// A channel came: the agent is at work, and what else was asked for is still on its way.
    pub(crate) fn came(&mut self, now: Instant) {
        self.asked = self.asked.saturating_sub(1);
        self.asked_at = now;
        self.again = NEED_CHANNELS_AGAIN;
    }

    /// Idle channels that there should be.
    pub(crate) fn target(&mut self, now: Instant) -> u32 {
        self.roll(now);
        self.peak.clamp(CHANNELS_IDLE_MIN, CHANNELS_IDLE_MAX)
    }

    /// Channels to ask the agent for now: what is missing for the target and for the opens that wait,
    /// less what is on its way. When nothing came for a while, what is missing is asked for again.
    pub(crate) fn ask(&mut self, now: Instant, idle: usize, waiting: usize) -> u32 {
        if self.asked > 0 && now.duration_since(self.asked_at) >= self.again {
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
            self.asked += missing;
            self.asked_at = now;
        }
        missing
    }

    fn roll(&mut self, now: Instant) {
        let windows = now.duration_since(self.window).as_nanos() / CHANNELS_RATE_WINDOW.as_nanos();
        if windows == 0 {
            return;
        }
        // 32 windows without an open leave nothing of any peak.
        self.peak = self
            .peak
            .checked_shr(u32::try_from(windows).unwrap_or(u32::MAX))
            .unwrap_or(0)
            .max(if windows == 1 { self.opens } else { 0 });
        self.opens = 0;
        self.window = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn the_target_follows_the_open_rate_up_and_down() {
        let mut now = Instant::now();
        let mut demand = Demand::new(now);
        for _ in 0..20 {
            demand.opened(now);
        }
        assert_eq!(demand.target(now), 20);
        now += CHANNELS_RATE_WINDOW;
        assert_eq!(
            demand.target(now),
            20,
            "the busy window is over, its rate still counts"
        );
        now += CHANNELS_RATE_WINDOW;
        assert_eq!(demand.target(now), 10);
        now += Duration::from_secs(3600);
        assert_eq!(demand.target(now), CHANNELS_IDLE_MIN);
        for _ in 0..10_000 {
            demand.opened(now);
        }
        assert_eq!(demand.target(now), CHANNELS_IDLE_MAX);
    }
}

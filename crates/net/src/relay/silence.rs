//! The idle timers of a relay, and the end of its life. Moving bytes only notes the time; the one timer compares when it
//! fires, and is set anew then.
//!
//! Must never: touch the timer when bytes move.

use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::Instant;

use super::direction::Direction;
use super::{RelayEnd, RelayLimits, Side};
use crate::defaults::RELAY_SETTLED_AFTER;
use crate::wheel::Timer;

/// A time: microseconds since the counters of the connection started. Half of what an `Instant` takes,
/// and an idle connection keeps four.
type Micros = u64;

/// A time that does not come.
const NEVER: Micros = Micros::MAX;

/// When a connection has lasted a while.
#[expect(clippy::cast_possible_truncation, reason = "a few seconds")]
const SETTLED_AT: Micros = RELAY_SETTLED_AFTER.as_micros() as Micros;

/// When each side was last heard, and the timer.
pub(super) struct Silence {
    last_client: Micros,
    last_upstream: Micros,
    /// When the first side ended.
    ended_at: Micros,
    /// What the timer is armed for, or will be with the next poll.
    due: Micros,
    timer: Timer,
    is_armed: bool,
    /// Whose bytes ended first, once one has.
    first_end: Side,
    client_ended: bool,
    upstream_ended: bool,
    /// What a connection that lasts gets was told of.
    is_settled: bool,
    has_settled: bool,
}

/// What a relay's silence is held against.
#[derive(Clone, Copy)]
pub(super) struct Rules<'a> {
    pub(super) limits: &'a RelayLimits,
    /// Where the times count from.
    pub(super) start: Instant,
}

impl Rules<'_> {
    fn now(&self) -> Micros {
        micros(self.start.elapsed())
    }

    /// When a time is; never, beyond what the clock can say.
    fn instant(&self, at: Micros) -> Option<Instant> {
        self.start.checked_add(Duration::from_micros(at))
    }
}

fn micros(time: Duration) -> Micros {
    Micros::try_from(time.as_micros()).unwrap_or(NEVER)
}

impl Silence {
    /// Starts now.
    pub(super) fn new(rules: Rules<'_>) -> Self {
        let now = rules.now();
        let mut silence = Self {
            last_client: now,
            last_upstream: now,
            ended_at: NEVER,
            due: NEVER,
            timer: Timer::default(),
            is_armed: false,
            first_end: Side::Client,
            client_ended: false,
            upstream_ended: false,
            is_settled: false,
            has_settled: false,
        };
        silence.due = silence.next(rules);
        silence
    }

    /// Which side's bytes ended first.
    pub(super) fn first_end(&self) -> Side {
        self.first_end
    }

    /// Notes what the directions did; ready when a limit has passed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        rules: Rules<'_>,
        up: &mut Direction,
        down: &mut Direction,
    ) -> Poll<RelayEnd> {
        let noted = self.note(rules, up, down);
        if self.due == NEVER {
            return Poll::Pending;
        }
        let now = noted.unwrap_or_else(|| rules.now());
        let mut due = self.due;
        while due <= now {
            if let Some((deadline, end)) = self.next_deadline(rules)
                && deadline <= now
            {
                return Poll::Ready(end);
            }
            if !self.is_settled && SETTLED_AT <= now {
                (self.is_settled, self.has_settled) = (true, true);
            }
            due = self.next(rules);
        }
        let Some(at) = rules.instant(due).filter(|_| due != NEVER) else {
            self.timer.disarm();
            self.due = NEVER;
            return Poll::Pending;
        };
        if self.is_armed && self.due == due {
            self.timer.keep(cx);
        } else {
            self.timer.arm(cx, at);
            (self.due, self.is_armed) = (due, true);
        }
        Poll::Pending
    }

    /// Whether the relay has lasted a while by now; told once.
    pub(super) fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.has_settled)
    }

    /// Notes what the directions did, and when, if they did anything.
    fn note(
        &mut self,
        rules: Rules<'_>,
        up: &mut Direction,
        down: &mut Direction,
    ) -> Option<Micros> {
        let (client, upstream) = (up.take_moved(), down.take_moved());
        let newly_ended =
            (up.has_ended() && !self.client_ended) || (down.has_ended() && !self.upstream_ended);
        if !(client || upstream || newly_ended) {
            return None;
        }
        let now = rules.now();
        if client {
            self.last_client = now;
        }
        if upstream {
            self.last_upstream = now;
        }
        if newly_ended {
            if self.ended_at == NEVER {
                self.ended_at = now;
                self.first_end = match up.has_ended() {
                    true => Side::Client,
                    false => Side::Upstream,
                };
            }
            self.client_ended = up.has_ended();
            self.upstream_ended = down.has_ended();
            // The half-close limit may be due before what the timer is armed for.
            let next = self.next(rules);
            if next < self.due {
                (self.due, self.is_armed) = (next, false);
            }
        }
        Some(now)
    }

    /// What to arm the timer for.
    fn next(&self, rules: Rules<'_>) -> Micros {
        let deadline = self.next_deadline(rules).map_or(NEVER, |(at, _)| at);
        match self.is_settled {
            true => deadline,
            false => deadline.min(SETTLED_AT),
        }
    }

    /// The earliest limit, as things stand. A side that has ended is not blamed for its silence.
    fn next_deadline(&self, rules: Rules<'_>) -> Option<(Micros, RelayEnd)> {
        let limits = rules.limits;
        let last = self.last_client.max(self.last_upstream);
        let due = |limit: Option<Duration>, since: Micros| {
            limit.map(|limit| since.saturating_add(micros(limit)))
        };
        let has_ended = self.ended_at != NEVER;
        let lifetime = due(limits.lifetime, 0);
        let half_close = due(limits.half_close, last.max(self.ended_at)).filter(|_| has_ended);
        let client = due(limits.client_idle, self.last_client).filter(|_| !self.client_ended);
        let server = due(limits.server_idle, self.last_upstream).filter(|_| !self.upstream_ended);
        [
            (lifetime, RelayEnd::LifetimeOver),
            (half_close, RelayEnd::HalfCloseIdle),
            (due(limits.idle, last), RelayEnd::Idle),
            (client, RelayEnd::ClientIdle),
            (server, RelayEnd::ServerIdle),
        ]
        .into_iter()
        .filter_map(|(deadline, end)| Some((deadline?, end)))
        .min_by_key(|(deadline, _)| *deadline)
    }
}

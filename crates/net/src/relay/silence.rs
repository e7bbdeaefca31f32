//! The idle timers of a relay. Moving bytes only notes the time; the one timer compares when it
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

/// When each side was last heard, and the timer.
pub(super) struct Silence<'a> {
    limits: &'a RelayLimits,
    last_client: Instant,
    last_upstream: Instant,
    /// Which side ended first, and when.
    ended: Option<(Side, Instant)>,
    client_ended: bool,
    upstream_ended: bool,
    timer: Timer,
    /// What the timer is armed for, or will be with the first poll.
    due: Option<Instant>,
    is_armed: bool,
    /// When the relay will have lasted a while.
    settles_at: Option<Instant>,
    has_settled: bool,
}

impl<'a> Silence<'a> {
    /// Starts now.
    pub(super) fn new(limits: &'a RelayLimits) -> Self {
        let now = Instant::now();
        let mut silence = Self {
            limits,
            last_client: now,
            last_upstream: now,
            ended: None,
            client_ended: false,
            upstream_ended: false,
            timer: Timer::default(),
            due: None,
            is_armed: false,
            settles_at: now.checked_add(RELAY_SETTLED_AFTER),
            has_settled: false,
        };
        silence.due = silence.next();
        silence
    }

    /// Which side's bytes ended first.
    pub(super) fn first_end(&self) -> Side {
        self.ended.map_or(Side::Client, |(side, _)| side)
    }

    /// Notes what the directions did; ready when a limit has passed.
    pub(super) fn poll(
        &mut self,
        cx: &mut Context<'_>,
        up: &mut Direction,
        down: &mut Direction,
    ) -> Poll<RelayEnd> {
        let noted = self.note(up, down);
        let Some(mut due) = self.due else {
            return Poll::Pending;
        };
        let now = noted.unwrap_or_else(Instant::now);
        while due <= now {
            if let Some((deadline, end)) = self.next_deadline()
                && deadline <= now
            {
                return Poll::Ready(end);
            }
            self.has_settled |= self.settles_at.take_if(|at| *at <= now).is_some();
            let Some(next) = self.next() else {
                self.timer.disarm();
                self.due = None;
                return Poll::Pending;
            };
            due = next;
        }
        if self.is_armed && self.due == Some(due) {
            self.timer.keep(cx);
        } else {
            self.timer.arm(cx, due);
            (self.due, self.is_armed) = (Some(due), true);
        }
        Poll::Pending
    }

    /// Whether the relay has lasted a while by now; told once.
    pub(super) fn take_settled(&mut self) -> bool {
        std::mem::take(&mut self.has_settled)
    }

    /// Notes what the directions did, and when, if they did anything.
    fn note(&mut self, up: &mut Direction, down: &mut Direction) -> Option<Instant> {
        let (client, upstream) = (up.take_moved(), down.take_moved());
        let newly_ended =
            (up.has_ended() && !self.client_ended) || (down.has_ended() && !self.upstream_ended);
        if !(client || upstream || newly_ended) {
            return None;
        }
        let now = Instant::now();
        if client {
            self.last_client = now;
        }
        if upstream {
            self.last_upstream = now;
        }
        if newly_ended {
            let first = if up.has_ended() {
                Side::Client
            } else {
                Side::Upstream
            };
            self.client_ended = up.has_ended();
            self.upstream_ended = down.has_ended();
            self.ended.get_or_insert((first, now));
            // The half-close limit may be due before what the timer is armed for.
            let next = self.next();
            if next.is_some_and(|next| self.due.is_none_or(|due| next < due)) {
                (self.due, self.is_armed) = (next, false);
            }
        }
        Some(now)
    }

    /// What to arm the timer for.
    fn next(&self) -> Option<Instant> {
        let deadline = self.next_deadline().map(|(deadline, _)| deadline);
        [deadline, self.settles_at].into_iter().flatten().min()
    }

    /// The earliest limit, as things stand. A side that has ended is not blamed for its silence.
    fn next_deadline(&self) -> Option<(Instant, RelayEnd)> {
        let last = self.last_client.max(self.last_upstream);
        let due = |limit: Option<Duration>, since: Instant| {
            limit.and_then(|limit| since.checked_add(limit))
        };
        let half_close = self
            .ended
            .and_then(|(_, at)| due(self.limits.half_close, last.max(at)));
        let client = due(self.limits.client_idle, self.last_client).filter(|_| !self.client_ended);
        let server =
            due(self.limits.server_idle, self.last_upstream).filter(|_| !self.upstream_ended);
        [
            (half_close, RelayEnd::HalfCloseIdle),
            (due(self.limits.idle, last), RelayEnd::Idle),
            (client, RelayEnd::ClientIdle),
            (server, RelayEnd::ServerIdle),
        ]
        .into_iter()
        .filter_map(|(deadline, end)| Some((deadline?, end)))
        .min_by_key(|(deadline, _)| *deadline)
    }
}

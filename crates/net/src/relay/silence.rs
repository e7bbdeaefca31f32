//! The idle timers of a relay. Moving bytes only notes the time; the one timer compares when it
//! fires, and is set anew then.
//!
//! Must never: touch the timer when bytes move.

use std::future::Future as _;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

use super::direction::Direction;
use super::{RelayEnd, RelayLimits, Side};

/// When each side was last heard, and the timer.
pub(super) struct Silence<'a> {
    limits: RelayLimits,
    last_client: Instant,
    last_upstream: Instant,
    /// Which side ended first, and when.
    ended: Option<(Side, Instant)>,
    client_ended: bool,
    upstream_ended: bool,
    armed: bool,
    timer: Pin<&'a mut Sleep>,
}

impl<'a> Silence<'a> {
    /// Starts now; `timer` is any timer, it is set as needed.
    pub(super) fn new(limits: RelayLimits, timer: Pin<&'a mut Sleep>) -> Self {
        let now = Instant::now();
        let mut silence = Self {
            limits,
            last_client: now,
            last_upstream: now,
            ended: None,
            client_ended: false,
            upstream_ended: false,
            armed: false,
            timer,
        };
        silence.arm();
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
        self.note(up, down);
        while self.armed {
            ready!(self.timer.as_mut().poll(cx));
            match self.next_deadline() {
                Some((deadline, end)) if deadline <= Instant::now() => return Poll::Ready(end),
                _ => self.arm(),
            }
        }
        Poll::Pending
    }

    fn note(&mut self, up: &mut Direction, down: &mut Direction) {
        let (client, upstream) = (up.take_moved(), down.take_moved());
        let newly_ended =
            (up.has_ended() && !self.client_ended) || (down.has_ended() && !self.upstream_ended);
        if !(client || upstream || newly_ended) {
            return;
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
            // The half-close limit may be due before what the timer is set to.
            self.arm();
        }
    }

    fn arm(&mut self) {
        let next = self.next_deadline();
        self.armed = next.is_some();
        if let Some((deadline, _)) = next {
            self.timer.as_mut().reset(deadline);
        }
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

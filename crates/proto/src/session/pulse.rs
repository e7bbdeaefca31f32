//! Heartbeats of one side: when the next is due, how long the peer took to answer, and when it
//! counts as lost. Any message is a sign of life. One heartbeat at a time is measured, so that a peer
//! slower than the interval is measured too.

use std::time::Duration;

use crate::handshake::Heartbeat;

/// What a due deadline asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Beat {
    /// Nothing is due.
    Rest,
    /// Send a heartbeat with this nonce.
    Send(u64),
    /// The peer is lost.
    Lost,
}

/// One side's heartbeats.
#[derive(Debug, Clone)]
pub(super) struct Pulse {
    settings: Heartbeat,
    next_at: Duration,
    /// The oldest heartbeat since which nothing at all has arrived.
    silent_since: Option<Duration>,
    /// Nonce of the newest heartbeat; 0 before the first.
    newest: u64,
    /// The heartbeat whose answer is to be measured: nonce and when it went out.
    measured: Option<(u64, Duration)>,
}

impl Pulse {
    pub(super) fn new(now: Duration, settings: Heartbeat) -> Self {
        Self {
            settings,
            next_at: now + settings.interval,
            silent_since: None,
            newest: 0,
            measured: None,
        }
    }

    pub(super) fn next_deadline(&self) -> Duration {
        match self.silent_since {
            Some(since) => self.next_at.min(since + self.settings.tolerance),
            None => self.next_at,
        }
    }

    /// A message arrived, whichever.
    pub(super) fn alive(&mut self) {
        self.silent_since = None;
    }

    /// An answer arrived: the round trip, when its heartbeat is the measured one. `Err` for an answer
    /// to a heartbeat that was never sent.
    pub(super) fn answered(&mut self, now: Duration, nonce: u64) -> Result<Option<Duration>, ()> {
        if nonce == 0 || nonce > self.newest {
            return Err(());
        }
        // A peer that skips answers must not keep the measurement waiting.
        let due = self.measured.take_if(|(measured, _)| *measured <= nonce);
        Ok(due
            .filter(|(measured, _)| *measured == nonce)
            .map(|(_, at)| now.saturating_sub(at)))
    }

    /// What is due at `now`. A process that slept through several intervals first asks once, and only
    /// gives the peer up when that stays without a sign of life.
    pub(super) fn due(&mut self, now: Duration) -> Beat {
        if self
            .silent_since
            .is_some_and(|since| now >= since + self.settings.tolerance)
        {
            return Beat::Lost;
        }
        if now < self.next_at {
            return Beat::Rest;
        }
        self.next_at = now + self.settings.interval;
        self.silent_since.get_or_insert(now);
        self.newest += 1;
        self.measured.get_or_insert((self.newest, now));
        Beat::Send(self.newest)
    }
}

//! How a connection moves: from a carrier to a channel when it turns bulky, and back when it is quiet.
//! The rules are `portcullis_proto::Mover`'s; here its legs are driven by them.
//!
//! Must never: read the leg that comes before the one that is left was read up to its SWITCH.

use std::io;
use std::sync::Arc;
use std::task::Context;
use std::time::Duration;

use portcullis_model::Error;
use portcullis_proto::carrier::Bulk;
use portcullis_proto::mover::{Answer, Mover, Place};
use portcullis_proto::{FrameType, Role};
use tokio::time::Instant;

use super::TunnelStream;
use super::legs::Leg;
use super::resume::Resumed;
use crate::defaults::{BULK_ASK_BYTES, BULK_NOTE_AGAIN};

/// A move that goes on.
#[derive(Debug)]
pub(super) struct Moving {
    mover: Mover,
    next: Option<Leg>,
    /// The mover was told of the peer's SWITCH.
    told: bool,
    /// The peer's END was read, or stands where reading is: nothing more comes, wherever that would be.
    peer_ended: bool,
}

impl Moving {
    fn new(leg: &Leg, role: Role) -> Self {
        let mut mover = Mover::new(role, leg.at());
        if leg.end_sent() {
            mover.end();
        }
        if leg.peer_ended() {
            mover.on_end();
        }
        Self {
            mover,
            next: None,
            told: false,
            peer_ended: leg.peer_ended(),
        }
    }

    /// The next leg, when this side writes there.
    pub(super) fn writes_next(&mut self) -> Option<&mut Leg> {
        match self.mover.writes() {
            Place::Current => None,
            Place::Next => self.next.as_mut(),
        }
    }

    pub(super) fn reads(&self) -> Option<Place> {
        self.mover.reads()
    }

    pub(super) fn next_mut(&mut self) -> Option<&mut Leg> {
        self.next.as_mut()
    }

    /// The leg that comes is not read yet; whether somebody has ended it.
    pub(super) fn watch(&self, cx: &Context<'_>) -> io::Result<()> {
        self.next.as_ref().map_or(Ok(()), |next| next.watch(cx))
    }

    pub(super) fn into_next(self) -> Option<Leg> {
        self.next
    }

    pub(super) fn peer_reason(&self) -> Option<Error> {
        self.next.as_ref().and_then(Leg::peer_reason)
    }

    pub(super) fn is_whole(&self) -> bool {
        self.mover.is_complete()
    }

    pub(super) fn has_peer_ended(&self) -> bool {
        self.peer_ended
    }

    pub(super) fn on_end(&mut self) {
        self.peer_ended = true;
        self.mover.on_end();
        if let Some(next) = &mut self.next {
            next.expect_end();
        }
    }

    pub(super) fn on_end_sent(&mut self) {
        self.mover.end();
    }
}

/// Whether a connection on a carrier has much to send.
#[derive(Debug, Default)]
pub(super) struct Bulky {
    /// Made with the first large write; most connections never have one.
    bulk: Option<Box<(Instant, Bulk)>>,
    /// Bytes until a channel is asked for again.
    wait: usize,
    /// Agent: the edge was asked.
    asked: bool,
    /// Edge: the agent has asked, and there was no channel.
    owed: bool,
    /// Edge: when there was no channel, and that was noted.
    noted: Option<Instant>,
}

/// Smaller writes are not worth a look at the clock: a connection that only makes such ones does not
/// reach a MiB in a second before its credit is used up.
const LOOK_FROM: usize = 4 * 1024;

impl Bulky {
    /// Notes bytes that were sent; whether it is time to ask for a channel.
    pub(super) fn on_bytes(&mut self, count: usize) -> bool {
        if count < LOOK_FROM && self.bulk.is_none() {
            return false;
        }
        let now = Instant::now();
        let (start, bulk) = &mut **self
            .bulk
            .get_or_insert_with(|| Box::new((now, Bulk::new(Duration::ZERO))));
        let bulky = bulk.on_bytes(now.duration_since(*start), count);
        self.wait = self.wait.saturating_sub(count);
        bulky && self.wait == 0
    }

    /// Edge: bytes that came; whether the agent, which has asked once, should be seen to now.
    pub(super) fn on_read(&mut self, count: usize) -> bool {
        if !self.owed {
            return false;
        }
        self.wait = self.wait.saturating_sub(count);
        self.wait == 0
    }

    pub(super) fn on_dry(&mut self) {
        if let Some(bulk) = &mut self.bulk {
            bulk.1.on_dry();
        }
    }
}

impl TunnelStream {
    fn role(&self) -> Role {
        self.leg.state().role()
    }

    /// This side has much to send on a carrier. The edge takes a channel, if one is idle; the agent says
    /// so. Whether writing goes on elsewhere now.
    pub(super) fn ask_for_channel(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        if !self.is_on_carrier() || self.moving.is_some() || self.bulky.wait > 0 {
            return Ok(false);
        }
        self.bulky.wait = BULK_ASK_BYTES;
        match self.role() {
            Role::Edge => self.promote(cx),
            Role::Agent => {
                if !self.bulky.asked && self.exchange.is_some() {
                    self.bulky.asked = true;
                    self.leg.put(cx, FrameType::Move, &[])?;
                }
                Ok(false)
            }
        }
    }

    /// Edge: the agent has much to send. Where there is no channel for it now, it is seen to again when
    /// more has come.
    pub(super) fn see_to_agent(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        self.bulky.owed = self.moving.is_none() && !self.promote(cx)?;
        self.bulky.wait = BULK_ASK_BYTES;
        Ok(())
    }

    /// Edge: goes on at a channel, if one is idle.
    fn promote(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let (state, from) = (self.leg.state(), self.leg.at());
        let Some(exchange) = self.exchange.as_ref().map(Arc::clone) else {
            return Ok(false);
        };
        if !state.may_switch() {
            return Ok(false);
        }
        let noted = self.bulky.noted;
        let again = noted.is_some_and(|at| at.elapsed() < BULK_NOTE_AGAIN);
        let Some(channel) = exchange.take(again) else {
            self.bulky.noted = noted.filter(|_| again).or_else(|| Some(Instant::now()));
            return Ok(false);
        };
        // One that broke meanwhile is dropped; the connection stays where it is.
        let Ok(leg) = channel.resume(cx, from) else {
            return Ok(false);
        };
        let next = Leg::Channel(Box::new(leg));
        exchange.began(next.at(), next.handle());
        self.start(cx, next)?;
        Ok(true)
    }

    /// Edge: gives a channel back that has nothing to do.
    fn demote(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let state = self.leg.state();
        let both_open = state.may_send_data() && !state.peer_ended();
        let Some(exchange) = self.exchange.as_ref().filter(|_| both_open) else {
            return Ok(());
        };
        let Some(leg) = exchange.resume(self.leg.at()) else {
            return Ok(());
        };
        self.start(cx, Leg::Carrier(leg.0))
    }

    fn start(&mut self, cx: &mut Context<'_>, next: Leg) -> io::Result<()> {
        let mut moving = Moving::new(&self.leg, Role::Edge);
        let answer = moving.mover.start(next.at());
        moving.next = Some(next);
        self.moving = Some(Box::new(moving));
        self.answer(cx, answer)?;
        self.drive(cx)
    }

    /// Says what a move asks for.
    fn answer(&mut self, cx: &mut Context<'_>, answer: Answer) -> io::Result<()> {
        match answer {
            Answer::Wait | Answer::Decline(_) => Ok(()),
            Answer::Switch { to, end } => {
                if !self.leg.put_switch(cx, to)? {
                    self.stay();
                    return Ok(());
                }
                // Whoever waits to write waits for the leg that is left.
                self.leg.wake();
                cx.waker().wake_by_ref();
                let next = self.moving.as_mut().and_then(|moving| moving.next.as_mut());
                match next {
                    Some(next) if end => next.put(cx, FrameType::End, &[]),
                    _ => Ok(()),
                }
            }
        }
    }

    /// Edge: the connection came to its end before it could move. The leg that was begun ends as well.
    fn stay(&mut self) {
        let next = self.moving.take().and_then(|moving| moving.into_next());
        let settling = next.and_then(|next| next.settle(None, false));
        if let (Some(settling), Some(exchange)) = (settling, &self.exchange) {
            Arc::clone(exchange).give_back(settling);
        }
    }

    /// Agent: a leg came that continues ours.
    fn resumed(&mut self, cx: &mut Context<'_>, resumed: Resumed) -> io::Result<()> {
        let state = self.leg.state();
        let leg = &self.leg;
        let moving = self
            .moving
            .get_or_insert_with(|| Box::new(Moving::new(leg, Role::Agent)));
        match moving.mover.on_resume(resumed.at(), &state) {
            Ok(Answer::Decline(kind)) => {
                if let (Some(settling), Some(exchange)) = (resumed.decline(kind), &self.exchange) {
                    Arc::clone(exchange).give_back(settling);
                }
                Ok(())
            }
            Ok(answer) => {
                let mut next = resumed.leg;
                if moving.mover.is_complete() || self.leg.peer_ended() {
                    next.expect_end();
                }
                moving.next = Some(next);
                self.answer(cx, answer)
            }
            Err(violation) => Err(invalid(violation)),
        }
    }

    /// Does what the legs' news ask for, until there is none.
    pub(super) fn drive(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let heard = self.leg.hear();
        if let Some(resumed) = heard.resumed {
            self.resumed(cx, *resumed)?;
        }
        if let Some(to) = heard.switched {
            self.switched(cx, to)?;
        }
        if heard.wish && self.moving.is_none() && self.role() == Role::Edge {
            match self.is_on_carrier() {
                true => self.see_to_agent(cx)?,
                false => self.demote(cx)?,
            }
        }
        self.advance(cx)
    }

    fn switched(&mut self, cx: &mut Context<'_>, to: portcullis_proto::Leg) -> io::Result<()> {
        let (state, role) = (self.leg.state(), self.role());
        let leg = &self.leg;
        let moving = self
            .moving
            .get_or_insert_with(|| Box::new(Moving::new(leg, role)));
        moving.told = true;
        let answer = moving.mover.on_switch(to, &state).map_err(invalid)?;
        self.answer(cx, answer)
    }

    /// How far the move is, and its end: the leg that is left goes, the other one takes its place.
    fn advance(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        let Some(moving) = &mut self.moving else {
            return Ok(());
        };
        // What was put on a channel that is left goes out here; nobody else flushes it any more.
        let _later = self.leg.poll_flush(cx)?;
        if moving.told && self.leg.is_through() {
            if self.leg.peer_ended() {
                moving.on_end();
            }
            moving.mover.on_read_through();
        }
        let through =
            moving.mover.writes() == Place::Next && moving.mover.reads() == Some(Place::Next);
        if !through || moving.next.is_none() {
            return Ok(());
        }
        let Some(moving) = self.moving.take() else {
            return Ok(());
        };
        let Some(next) = moving.into_next() else {
            return Ok(());
        };
        let old = std::mem::replace(&mut self.leg, next);
        old.wake();
        cx.waker().wake_by_ref();
        self.bulky = Bulky::default();
        let exchange = self.exchange.as_ref();
        exchange.inspect(|exchange| exchange.moved(old.at(), self.leg.at()));
        match (old, exchange) {
            (Leg::Channel(leg), Some(exchange)) => {
                Arc::clone(exchange).give_back(super::Settling(leg))
            }
            (old, _) => drop(old.settle(None, false)),
        }
        Ok(())
    }
}

fn invalid(violation: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, violation)
}

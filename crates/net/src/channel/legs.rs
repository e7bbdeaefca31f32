//! What an open's bytes pass over, on a carrier or on a channel: one shape for both.
//!
//! Must never: decide to move.

use std::io;
use std::task::{Context, Poll, ready};

use portcullis_model::Error;
use portcullis_proto::{FrameType, OpenState};
use tokio::io::ReadBuf;

use super::abort::AbortHandle;
use super::leg::ChannelLeg;
use super::resume::Resumed;
use super::stream::Settling;
use crate::carrier::CarrierLeg;

/// An open's end on one link.
#[derive(Debug)]
pub(crate) enum Leg {
    /// A channel of its own.
    Channel(Box<ChannelLeg>),
    /// One of many on a carrier.
    Carrier(CarrierLeg),
}

/// What a read brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Got {
    Bytes,
    End,
    /// Everything up to the peer's SWITCH was read.
    Through,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wrote {
    Bytes(usize),
    /// The link is full.
    Clogged,
    /// The open has no credit.
    Starved,
}

impl Leg {
    /// Which open on which link.
    pub(crate) fn at(&self) -> portcullis_proto::Leg {
        let (link, open) = match self {
            Self::Channel(leg) => (leg.link(), leg.open()),
            Self::Carrier(leg) => (leg.link(), leg.open()),
        };
        portcullis_proto::Leg { link, open }
    }

    pub(crate) fn handle(&self) -> AbortHandle {
        match self {
            Self::Channel(leg) => leg.abort_handle(),
            Self::Carrier(leg) => AbortHandle::of_carrier(leg.slot()),
        }
    }

    pub(crate) fn state(&self) -> OpenState {
        match self {
            Self::Channel(leg) => leg.state(),
            Self::Carrier(leg) => leg.state(),
        }
    }

    pub(crate) fn peer_reason(&self) -> Option<Error> {
        match self {
            Self::Channel(leg) => leg.peer_reason().cloned(),
            Self::Carrier(leg) => leg.peer_reason(),
        }
    }

    pub(crate) fn is_lost(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.is_lost(),
            Self::Carrier(leg) => leg.is_lost(),
        }
    }

    /// END was sent here.
    pub(crate) fn end_sent(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.end_sent(),
            Self::Carrier(leg) => leg.end_sent(),
        }
    }

    /// END was read here.
    pub(crate) fn peer_ended(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.peer_ended(),
            Self::Carrier(leg) => leg.peer_ended(),
        }
    }

    /// The peer's END was read elsewhere, and comes again here.
    pub(crate) fn expect_end(&mut self) {
        match self {
            Self::Channel(leg) => leg.expect_end(),
            Self::Carrier(leg) => leg.expect_end(),
        }
    }

    /// Something happened that concerns a move; [`Self::hear`] takes note of it.
    pub(crate) fn is_called(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.is_called(),
            Self::Carrier(leg) => leg.slot_ref().is_called(),
        }
    }

    /// What is known of moves here, taken once.
    pub(crate) fn hear(&mut self) -> Heard {
        match self {
            Self::Channel(leg) => leg.hear(),
            Self::Carrier(leg) => leg.slot_ref().hear(),
        }
    }

    /// A move waits for a frame that was begun: see [`ChannelLeg::is_put_off`].
    pub(crate) fn is_put_off(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.is_put_off(),
            Self::Carrier(_) => false,
        }
    }

    /// Whoever waits on the leg looks again if something called before there was somebody to wake.
    pub(crate) fn hear_again(&self, cx: &Context<'_>) {
        match self {
            Self::Channel(leg) => leg.hear_again(cx),
            Self::Carrier(_) => {} // its slot keeps whom to wake
        }
    }

    /// Waits for [`Self::is_called`].
    pub(crate) fn await_call(&self, cx: &Context<'_>) {
        match self {
            Self::Channel(leg) => leg.await_call(cx),
            Self::Carrier(leg) => leg.slot_ref().await_call(cx),
        }
    }

    /// While it is the one that a move leads to, and is not read yet: whether it was ended.
    pub(crate) fn watch(&self, cx: &Context<'_>) -> io::Result<()> {
        match self {
            Self::Channel(leg) => leg.watch(cx),
            Self::Carrier(leg) => leg.watch(cx),
        }
    }

    /// Whether everything up to the peer's SWITCH was read.
    pub(crate) fn is_through(&self) -> bool {
        match self {
            Self::Channel(leg) => leg.is_through(),
            Self::Carrier(leg) => leg.slot_ref().is_through(),
        }
    }

    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<Got>> {
        match self {
            Self::Channel(leg) => leg.poll_read(cx, buf),
            Self::Carrier(leg) => leg.poll_read(cx, buf),
        }
    }

    pub(crate) fn poll_write(&mut self, cx: &mut Context<'_>, buf: &[u8]) -> io::Result<Wrote> {
        match self {
            Self::Channel(leg) => leg.poll_write(cx, buf),
            Self::Carrier(leg) => leg.poll_write(cx, buf),
        }
    }

    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Channel(leg) => leg.poll_flush(cx),
            // What was taken is on its way already.
            Self::Carrier(_) => Poll::Ready(Ok(())),
        }
    }

    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Channel(leg) => leg.poll_shutdown(cx),
            Self::Carrier(leg) => Poll::Ready(leg.end()),
        }
    }

    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Channel(leg) => leg.poll_broken(cx),
            Self::Carrier(leg) => Poll::Ready(ready!(leg.poll_broken(cx))),
        }
    }

    /// Puts a frame, whole, whatever the link takes now.
    pub(crate) fn put(
        &mut self,
        cx: &mut Context<'_>,
        kind: FrameType,
        payload: &[u8],
    ) -> io::Result<()> {
        match self {
            Self::Channel(leg) => leg.put(cx, kind, payload),
            Self::Carrier(leg) => leg.say(kind, payload),
        }
    }

    /// Has whoever waits on it look again: what they wait for may be elsewhere now.
    pub(crate) fn wake(&self) {
        match self {
            Self::Channel(leg) => leg.wake(),
            Self::Carrier(leg) => leg.slot_ref().wake(),
        }
    }

    /// Puts SWITCH: this side goes on at another leg; not when nothing is left to move.
    pub(crate) fn put_switch(
        &mut self,
        cx: &mut Context<'_>,
        to: portcullis_proto::Leg,
    ) -> io::Result<bool> {
        match self {
            Self::Channel(leg) => leg.put_switch(cx, to),
            Self::Carrier(leg) => leg.put_switch(to),
        }
    }

    /// Settles it: this side's last words. What takes waiting is returned.
    pub(crate) fn settle(self, why: Option<&Error>, cut: bool) -> Option<Settling> {
        match self {
            Self::Channel(mut leg) => {
                if cut {
                    leg.reset_with(why);
                }
                Some(Settling(leg))
            }
            Self::Carrier(mut leg) => {
                leg.settle(why, cut);
                None
            }
        }
    }
}

/// What happened that concerns a move.
#[derive(Debug, Default)]
pub(crate) struct Heard {
    /// The peer's SWITCH arrived.
    pub(crate) switched: Option<portcullis_proto::Leg>,
    /// Agent: a leg that continues this one.
    pub(crate) resumed: Option<Box<Resumed>>,
    /// Edge: the agent has much to send, or the connection on its channel is quiet.
    pub(crate) wish: bool,
}

//! One client connection between edge and agent, as the relay sees it, whatever carries it now.
//!
//! Must never: hold bytes, or know a frame; its legs do.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use portcullis_model::Error;
use portcullis_proto::mover::Place;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::abort::AbortHandle;
use super::leg::ChannelLeg;
use super::legs::{Got, Leg, Wrote};
use super::moving::{Bulky, Moving};
use super::{Channel, Exchange, Finished};
use crate::carrier::CarrierLeg;
use crate::relay::{Plain, RelayIo};

/// One client connection between edge and agent.
pub struct TunnelStream {
    /// What it runs over; while it moves, what it leaves.
    pub(super) leg: Leg,
    /// The move that goes on.
    pub(super) moving: Option<Box<Moving>>,
    /// Where channels come from and go to; without it the connection stays where it is.
    pub(super) exchange: Option<Arc<dyn Exchange>>,
    pub(super) bulky: Bulky,
    /// Our end of the open is a reset, with this reason for the peer if there is one.
    reset: Option<Box<Option<Error>>>,
}

impl TunnelStream {
    fn new(leg: Leg) -> Self {
        Self {
            leg,
            moving: None,
            exchange: None,
            bulky: Bulky::default(),
            reset: None,
        }
    }

    pub(super) fn on_channel(leg: ChannelLeg) -> Self {
        Self::new(Leg::Channel(Box::new(leg)))
    }

    pub(super) fn on_carrier(leg: CarrierLeg) -> Self {
        Self::new(Leg::Carrier(leg))
    }

    /// Lets the connection move between carrier and channel.
    pub fn set_exchange(&mut self, exchange: Arc<dyn Exchange>) {
        self.exchange = Some(exchange);
    }

    /// The number of the channel or carrier in its session.
    pub fn channel(&self) -> u64 {
        self.leg.at().link
    }

    /// The number of the open on its channel or carrier.
    pub fn open(&self) -> u32 {
        self.leg.at().open
    }

    /// Whether it is on a carrier now.
    pub fn is_on_carrier(&self) -> bool {
        matches!(self.leg, Leg::Carrier(_))
    }

    /// Ends the stream from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        self.leg.handle()
    }

    /// Why the peer reset the connection, if it did and said so.
    pub fn peer_reason(&self) -> Option<Error> {
        let moved = self.moving.as_ref().and_then(|moving| moving.peer_reason());
        moved.or_else(|| self.leg.peer_reason())
    }

    /// Whether the channel or carrier itself is gone, not just the connection that it carried. Its
    /// errors are never of the kind `ConnectionReset`, so that a relay's end tells the two apart.
    pub fn is_lost(&self) -> bool {
        self.leg.is_lost()
    }

    /// Like [`RelayIo::reset`], and tells the peer why.
    pub fn reset_with(&mut self, why: &Error) {
        self.reset = Some(Box::new(Some(why.clone())));
    }

    /// After the relay, at once: settles the open with the peer, as far as that needs no waiting; what
    /// does is left in the channel that is returned. On a carrier nothing does.
    #[must_use = "a channel is to be settled"]
    pub fn settle(mut self) -> Option<Settling> {
        let reset = self.reset.take();
        let why = reset.as_ref().and_then(|why| Option::as_ref(why));
        let cut = reset.is_some() || !self.is_whole();
        let next = self.moving.take().and_then(|moving| moving.into_next());
        // What continues a leg and was not looked at any more is declined.
        let (handle, state) = (self.leg.handle(), self.leg.state());
        let late = handle.close().map(|late| (late, state));
        let late = late.and_then(|(late, state)| late.decline(state.answer_to_resume()));
        if let (Some(late), Some(exchange)) = (late, &self.exchange) {
            Arc::clone(exchange).give_back(late);
        }
        let next = next.and_then(|leg| {
            drop(leg.handle().close());
            leg.settle(why, cut)
        });
        let current = self.leg.settle(why, cut);
        next.or(current) // one is a carrier's, and leaves nothing
    }

    /// Whether both directions came to their end.
    fn is_whole(&self) -> bool {
        match &self.moving {
            Some(moving) => moving.is_whole(),
            None => self.leg.end_sent() && self.leg.peer_ended(),
        }
    }

    /// Settles the open with the peer. A reset goes out here. A clean end on a channel may take as long
    /// as the peer needs to write its last bytes (bounded by `RELEASE_TIMEOUT`), so nothing else may wait
    /// for it.
    pub async fn finish(self) -> Finished {
        match self.settle() {
            Some(settling) => settling.finish().await,
            None => Finished::Settled,
        }
    }

    /// The leg that this side writes on.
    fn writer(&mut self) -> &mut Leg {
        match self.moving.as_mut().and_then(|moving| moving.writes_next()) {
            Some(next) => next,
            None => &mut self.leg,
        }
    }

    /// The leg that this side reads from; `None`: where it goes on has not come yet.
    fn reader(&mut self) -> Option<&mut Leg> {
        match &mut self.moving {
            None => Some(&mut self.leg),
            Some(moving) => match moving.reads() {
                Some(Place::Current) => Some(&mut self.leg),
                Some(Place::Next) => moving.next_mut(),
                None => None,
            },
        }
    }

    /// What has happened to the legs, before anything is read or written.
    pub(super) fn turn(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.moving.is_some() || self.leg.is_called() {
            self.drive(cx)?;
        }
        self.moving
            .as_ref()
            .map_or(Ok(()), |moving| moving.watch(cx))
    }
}

/// A channel whose open is over, and not released yet.
#[derive(Debug)]
pub struct Settling(pub(super) Box<ChannelLeg>);

impl Settling {
    /// The number of the channel in its session.
    pub fn channel(&self) -> u64 {
        self.0.link()
    }

    /// See [`TunnelStream::finish`].
    pub async fn finish(self) -> Finished {
        self.0.finish().await
    }
}

impl From<Channel> for Finished {
    fn from(channel: Channel) -> Self {
        Self::Reusable(channel)
    }
}

impl AsyncRead for TunnelStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.turn(cx)?;
        loop {
            // It may have ended where it was left, and have nowhere to go on.
            if self
                .moving
                .as_ref()
                .is_some_and(|moving| moving.has_peer_ended())
            {
                return Poll::Ready(Ok(()));
            }
            let Some(leg) = self.reader() else {
                // The RESUME wakes whoever waits on the leg that is left.
                self.leg.await_call(cx);
                return Poll::Pending;
            };
            let before = buf.filled().len();
            let got = leg.poll_read(cx, buf);
            if got.is_pending() {
                self.leg.hear_again(cx);
            }
            match ready!(got)? {
                Got::Bytes => {
                    if self.bulky.on_read(buf.filled().len() - before) {
                        self.see_to_agent(cx)?;
                    }
                    return Poll::Ready(Ok(()));
                }
                Got::End => {
                    if let Some(moving) = &mut self.moving {
                        moving.on_end();
                    }
                    return Poll::Ready(Ok(()));
                }
                // The frame that we splice is made whole first, by whoever writes.
                Got::Through if self.leg.is_put_off() => {
                    cx.waker().wake_by_ref();
                    return Poll::Pending;
                }
                // Read up to the peer's SWITCH: it goes on elsewhere.
                Got::Through => self.drive(cx)?,
            }
        }
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.turn(cx)?;
        loop {
            match self.writer().poll_write(cx, buf)? {
                Wrote::Bytes(count) => {
                    if self.is_on_carrier() && self.bulky.on_bytes(count) {
                        self.ask_for_channel(cx)?;
                    }
                    return Poll::Ready(Ok(count));
                }
                Wrote::Clogged => {
                    self.leg.hear_again(cx);
                    return Poll::Pending;
                }
                // Without credit: what wants more than a window at once belongs on a channel.
                Wrote::Starved => {
                    if self.moving.is_some() || !self.ask_for_channel(cx)? {
                        return Poll::Pending;
                    }
                }
            }
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.bulky.on_dry();
        self.writer().poll_flush(cx)
    }

    /// Sends END; the channel or carrier stays.
    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.turn(cx)?;
        ready!(self.writer().poll_shutdown(cx))?;
        if let Some(moving) = &mut self.moving {
            moving.on_end_sent();
        }
        Poll::Ready(Ok(()))
    }
}

impl RelayIo for TunnelStream {
    fn reset(&mut self) {
        self.reset.get_or_insert_default();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        if let Err(error) = self.turn(cx) {
            return Poll::Ready(error);
        }
        let Some(leg) = self.reader() else {
            self.leg.await_call(cx);
            return Poll::Pending;
        };
        let broken = leg.poll_broken(cx);
        if broken.is_pending() {
            self.leg.hear_again(cx);
            if self.leg.is_put_off() {
                cx.waker().wake_by_ref(); // whoever writes has had its turn before this was read
            }
        }
        // Behind END this is what reads: it may have come upon the peer's SWITCH.
        if broken.is_pending() && self.leg.is_called() {
            if let Err(error) = self.drive(cx) {
                return Poll::Ready(error);
            }
            cx.waker().wake_by_ref();
        }
        broken
    }

    fn plain(&mut self) -> Option<&mut dyn Plain> {
        self.plain_leg().is_some().then_some(self)
    }
}

impl std::fmt::Debug for TunnelStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TunnelStream")
            .field("leg", &self.leg)
            .field("moving", &self.moving.is_some())
            .finish_non_exhaustive()
    }
}

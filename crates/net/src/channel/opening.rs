//! An open on its way: between OPEN and the verdict, on either end.
//!
//! Must never: report a verdict that did not come.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use portcullis_model::{Code, Error};
use portcullis_proto::FrameType;
use portcullis_proto::frame::{decode_reason, encode_reason};
use tokio::time::{Instant, timeout_at};

use super::abort::AbortHandle;
use super::leg::ChannelLeg;
use super::link::{Event, Link};
use super::{Channel, Finished, TunnelStream};
use crate::carrier::CarrierLeg;
use crate::defaults::REFUSAL_TIMEOUT;
use crate::relay::RelayIo as _;

/// What an open waits on.
#[derive(Debug)]
enum On {
    Channel(Box<ChannelLeg>),
    Carrier(CarrierLeg),
}

impl On {
    fn link(&self) -> u64 {
        match self {
            Self::Channel(leg) => leg.link(),
            Self::Carrier(leg) => leg.link(),
        }
    }

    fn open(&self) -> u32 {
        match self {
            Self::Channel(leg) => leg.open(),
            Self::Carrier(leg) => leg.open(),
        }
    }

    fn abort_handle(&self) -> AbortHandle {
        match self {
            Self::Channel(leg) => leg.abort_handle(),
            Self::Carrier(leg) => AbortHandle::of_carrier(leg.slot()),
        }
    }

    fn into_stream(self) -> TunnelStream {
        match self {
            Self::Channel(leg) => TunnelStream::on_channel(*leg),
            Self::Carrier(leg) => TunnelStream::on_carrier(leg),
        }
    }

    /// The open is given up: a reset.
    async fn abandon(self) -> Finished {
        let mut stream = self.into_stream();
        stream.reset();
        stream.finish().await
    }
}

/// Edge: an open that waits for its verdict. Dropping it drops the channel, which tells the agent; on a
/// carrier it resets the open.
#[derive(Debug)]
pub struct EdgeOpening(On);

impl EdgeOpening {
    pub(super) fn on_channel(link: Box<Link>) -> Self {
        Self(On::Channel(Box::new(ChannelLeg::new(link))))
    }

    pub(crate) fn on_carrier(leg: CarrierLeg) -> Self {
        Self(On::Carrier(leg))
    }

    /// The number of the channel or carrier in its session.
    pub fn channel(&self) -> u64 {
        self.0.link()
    }

    /// The number of the open on its channel or carrier.
    pub fn open(&self) -> u32 {
        self.0.open()
    }

    /// Whether it waits on a carrier.
    pub fn is_on_carrier(&self) -> bool {
        matches!(self.0, On::Carrier(_))
    }

    /// Ends the open from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    /// Sends what the client says before the verdict. With the first bytes in the OPEN it may be 16 KiB,
    /// so it always finds room.
    ///
    /// # Errors
    /// When the channel or carrier broke: no verdict will come. More bytes than may be sent.
    pub fn say(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<()> {
        match &mut self.0 {
            On::Channel(leg) => leg.put(cx, FrameType::Data, bytes),
            On::Carrier(leg) => leg.say_early(bytes),
        }
    }

    /// Sends the client's end before the verdict.
    ///
    /// # Errors
    /// When the channel or carrier broke: no verdict will come.
    pub fn end(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match &mut self.0 {
            On::Channel(leg) => leg.put(cx, FrameType::End, &[]),
            On::Carrier(leg) => leg.end(),
        }
    }

    /// Waits for the agent's verdict: nothing when its upstream accepted.
    ///
    /// # Errors
    /// Whether the agent refused, and how, or `PTC_AGENT_LOST_UNKNOWN`.
    pub fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotOpened>> {
        match &mut self.0 {
            On::Channel(leg) => poll_channel_verdict(leg.link_mut(), cx),
            On::Carrier(leg) => leg.poll_verdict(cx),
        }
    }

    /// The stream, after a verdict that it was opened.
    pub fn into_stream(self) -> TunnelStream {
        self.0.into_stream()
    }

    /// After a refusal: the channel, if it is free again.
    pub async fn refused(self, deadline: Instant) -> Option<Channel> {
        match self.0 {
            On::Channel(leg) => released(leg.into_link(), deadline).await,
            On::Carrier(mut leg) => {
                leg.settle(None, false);
                None
            }
        }
    }

    /// Waits for the agent's verdict.
    ///
    /// # Errors
    /// The agent's refusal, with the channel if it is free again; `PTC_UPSTREAM_TIMEOUT` at the
    /// deadline and `PTC_AGENT_LOST_UNKNOWN` when the channel broke, both without a channel.
    pub async fn verdict(
        mut self,
        deadline: Instant,
    ) -> Result<TunnelStream, (Error, Option<Channel>)> {
        match timeout_at(deadline, poll_fn(|cx| self.poll_verdict(cx))).await {
            Ok(Ok(())) => Ok(self.into_stream()),
            Ok(Err(NotOpened::Refused(why))) => Err((why, self.refused(deadline).await)),
            Ok(Err(NotOpened::Lost(why))) => Err((why, None)),
            Err(_) => Err((late(), None)),
        }
    }

    /// The client is gone: resets the open.
    pub async fn cancel(self) -> Finished {
        self.0.abandon().await
    }
}

/// How an open did not come to be.
#[derive(Debug)]
pub enum NotOpened {
    /// The agent said no: nothing of the client has reached an upstream.
    Refused(Error),
    /// No verdict will come.
    Lost(Error),
}

/// A verdict that does not come in time.
pub fn late() -> Error {
    let text = "the agent did not say in time whether its upstream can be reached";
    Error::new(Code::UpstreamTimeout, text)
}

fn poll_channel_verdict(link: &mut Link, cx: &mut Context<'_>) -> Poll<Result<(), NotOpened>> {
    let lost = |error| Poll::Ready(Err(NotOpened::Lost(error)));
    match ready!(poll_event(link, cx)) {
        Ok(Event::Opened) => Poll::Ready(Ok(())),
        Ok(Event::Refused(payload)) => {
            let why = match decode_reason(FrameType::Refused, &payload) {
                Ok(Some(why)) => why,
                Ok(None) | Err(_) => Error::of(Code::UpstreamUnreachable),
            };
            Poll::Ready(Err(NotOpened::Refused(why)))
        }
        Ok(_) => {
            let why = link.reason.take();
            lost(why.unwrap_or_else(|| Error::of(Code::AgentLostUnknown)))
        }
        Err(source) => lost(Error::of(Code::AgentLostUnknown).with_internal(source)),
    }
}

/// Agent: an open that waits for our verdict. Dropping it drops the channel; on a carrier it resets the
/// open.
#[derive(Debug)]
pub struct AgentOpening(On);

impl AgentOpening {
    pub(super) fn on_channel(link: Box<Link>) -> Self {
        Self(On::Channel(Box::new(ChannelLeg::new(link))))
    }

    pub(crate) fn on_carrier(leg: CarrierLeg) -> Self {
        Self(On::Carrier(leg))
    }

    /// The number of the channel or carrier in its session.
    pub fn channel(&self) -> u64 {
        self.0.link()
    }

    /// The number of the open on its channel or carrier.
    pub fn open(&self) -> u32 {
        self.0.open()
    }

    /// Whether it waits on a carrier.
    pub fn is_on_carrier(&self) -> bool {
        matches!(self.0, On::Carrier(_))
    }

    /// Ends the open from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        self.0.abort_handle()
    }

    /// Waits until the edge gives the open up; race it with the dial, and then [`Self::abandon`]. What the
    /// client says meanwhile is kept for the stream.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn gone(&mut self) {
        poll_fn(|cx| match &mut self.0 {
            On::Channel(leg) => leg.poll_gone(cx),
            On::Carrier(leg) => leg.poll_gone(cx),
        })
        .await;
    }

    /// The upstream accepted.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the channel or carrier broke meanwhile.
    pub async fn opened(mut self) -> Result<TunnelStream, Error> {
        let sent = match &mut self.0 {
            On::Channel(leg) => opened(leg).await,
            On::Carrier(leg) => leg.opened(),
        };
        match sent {
            Ok(()) => Ok(self.0.into_stream()),
            Err(source) => {
                Err(Error::new(Code::AgentLost, "the channel broke").with_internal(source))
            }
        }
    }

    /// The upstream cannot be reached. The channel comes back if it is free again.
    pub async fn refuse(self, why: &Error) -> Option<Channel> {
        let mut leg = match self.0 {
            On::Channel(leg) => leg,
            On::Carrier(leg) => {
                if let Err(error) = leg.refuse(why) {
                    tracing::debug!(%error, "a refusal was not told");
                }
                return None;
            }
        };
        if leg.peer_reset() {
            return reusable(On::Channel(leg).abandon().await);
        }
        let reason = encode_reason(why).ok()?;
        poll_fn(|cx| Poll::Ready(leg.put(cx, FrameType::Refused, &reason)))
            .await
            .ok()?;
        let long_enough = Instant::now() + REFUSAL_TIMEOUT;
        released(leg.into_link(), long_enough).await
    }

    /// The edge gave the open up: settles it.
    pub async fn abandon(self) -> Finished {
        self.0.abandon().await
    }
}

async fn opened(leg: &mut ChannelLeg) -> io::Result<()> {
    poll_fn(|cx| Poll::Ready(leg.put(cx, FrameType::Opened, &[]))).await?;
    // Bounded by the socket: nothing of ours is in front of these eight bytes.
    poll_fn(|cx| leg.link_mut().poll_flush(cx)).await
}

fn reusable(finished: Finished) -> Option<Channel> {
    match finished {
        Finished::Reusable(channel) => Some(channel),
        Finished::Abort { .. } | Finished::Closed | Finished::Settled => None,
    }
}

/// Flushes what waits and takes the next frame.
fn poll_event(link: &mut Link, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
    if link.door.poll(cx) {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    if let Poll::Ready(Err(error)) = link.poll_flush(cx) {
        return Poll::Ready(Err(error));
    }
    link.poll_event(cx)
}

/// After a refusal both ends only have RELEASED to say (and the edge perhaps bytes, END or RESET that
/// crossed).
async fn released(mut link: Box<Link>, deadline: Instant) -> Option<Channel> {
    let settled = poll_fn(|cx| -> Poll<io::Result<()>> {
        loop {
            if link.state.may_release() {
                link.put(cx, FrameType::Released, &[])?;
            }
            let flushed = link.poll_flush(cx)?.is_ready();
            if link.state.is_free() {
                return if flushed {
                    Poll::Ready(Ok(()))
                } else {
                    Poll::Pending
                };
            }
            match ready!(link.poll_event(cx))? {
                Event::Released | Event::Reset | Event::Data | Event::End => {}
                _ => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
        }
    });
    let until = deadline.min(Instant::now() + REFUSAL_TIMEOUT);
    let settled = timeout_at(until, settled).await;
    matches!(settled, Ok(Ok(()))).then_some(Channel { link })
}

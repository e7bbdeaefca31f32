//! An open on its way: between OPEN and the verdict, on either end.
//!
//! Must never: report a verdict that did not come.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll, ready};

use portcullis_model::{Code, Error};
use portcullis_proto::FrameType;
use portcullis_proto::frame::decode_reason;
use tokio::time::{Instant, timeout_at};

use super::abort::AbortHandle;
use super::link::{Event, Link};
use super::{Channel, Finished, TunnelStream};
use crate::defaults::REFUSAL_TIMEOUT;
use crate::relay::RelayIo as _;

/// Edge: an open that waits for its verdict. Dropping it drops the channel, which tells the agent.
#[derive(Debug)]
pub struct EdgeOpening {
    pub(super) link: Box<Link>,
}

impl EdgeOpening {
    /// The number of the channel in its session.
    pub fn channel(&self) -> u64 {
        self.link.id()
    }

    /// The number of the open on its channel.
    pub fn open(&self) -> u32 {
        self.link.open()
    }

    /// Ends the open from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(self.link.abort.clone())
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
        let event = match timeout_at(deadline, poll_fn(|cx| poll_event(&mut self.link, cx))).await {
            Ok(Ok(event)) => event,
            Ok(Err(source)) => {
                return Err((
                    Error::of(Code::AgentLostUnknown).with_internal(source),
                    None,
                ));
            }
            Err(_) => {
                let text = "the agent did not say in time whether its upstream can be reached";
                return Err((Error::new(Code::UpstreamTimeout, text), None));
            }
        };
        match event {
            Event::Opened => Ok(TunnelStream::new(self.link)),
            Event::Refused(payload) => {
                let why = match decode_reason(FrameType::Refused, &payload) {
                    Ok(Some(why)) => why,
                    Ok(None) | Err(_) => Error::of(Code::UpstreamUnreachable),
                };
                Err((why, released(self.link, deadline).await))
            }
            _ => {
                let why = self
                    .link
                    .reason
                    .take()
                    .unwrap_or_else(|| Error::of(Code::AgentLostUnknown));
                Err((why, None))
            }
        }
    }

    /// The client is gone: resets the open.
    pub async fn cancel(self) -> Finished {
        let mut stream = TunnelStream::new(self.link);
        stream.reset();
        stream.finish().await
    }
}

/// Agent: an open that waits for our verdict. Dropping it drops the channel.
#[derive(Debug)]
pub struct AgentOpening {
    pub(super) link: Box<Link>,
    pub(super) peer_reset: bool,
}

impl AgentOpening {
    /// The number of the channel in its session.
    pub fn channel(&self) -> u64 {
        self.link.id()
    }

    /// The number of the open on its channel.
    pub fn open(&self) -> u32 {
        self.link.open()
    }

    /// Ends the open from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(self.link.abort.clone())
    }

    /// Waits until the edge gives the open up; race it with the dial, and then [`Self::abandon`].
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn gone(&mut self) {
        if self.peer_reset {
            return;
        }
        // Whatever comes before our verdict, a frame or the channel's end, means that it is over.
        let event = poll_fn(|cx| poll_event(&mut self.link, cx)).await;
        if !matches!(event, Ok(Event::Reset)) {
            self.link.fail(io::ErrorKind::InvalidData.into());
        }
        self.peer_reset = true;
    }

    /// The upstream accepted.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the channel broke meanwhile.
    pub async fn opened(mut self) -> Result<TunnelStream, Error> {
        let put = poll_fn(|cx| Poll::Ready(self.link.put(cx, FrameType::Opened, &[]))).await;
        let sent = match put {
            // Bounded by the socket: nothing of ours is in front of these eight bytes.
            Ok(()) => poll_fn(|cx| self.link.poll_flush(cx)).await,
            Err(error) => Err(error),
        };
        match sent {
            Ok(()) => {
                let mut stream = TunnelStream::new(self.link);
                stream.peer_reset = self.peer_reset;
                Ok(stream)
            }
            Err(source) => {
                Err(Error::new(Code::AgentLost, "the channel broke").with_internal(source))
            }
        }
    }

    /// The upstream cannot be reached. The channel comes back if it is free again.
    pub async fn refuse(mut self, why: &Error) -> Option<Channel> {
        if self.peer_reset {
            return reusable(self.abandon().await);
        }
        poll_fn(|cx| Poll::Ready(self.link.put_reason(cx, FrameType::Refused, Some(why))))
            .await
            .ok()?;
        let long_enough = Instant::now() + REFUSAL_TIMEOUT;
        released(self.link, long_enough).await
    }

    /// The edge gave the open up: settles it.
    pub async fn abandon(self) -> Finished {
        let mut stream = TunnelStream::new(self.link);
        stream.peer_reset = self.peer_reset;
        stream.reset();
        stream.finish().await
    }
}

fn reusable(finished: Finished) -> Option<Channel> {
    match finished {
        Finished::Reusable(channel) => Some(channel),
        Finished::Abort { .. } | Finished::Closed => None,
    }
}

/// Flushes what waits and takes the next frame.
fn poll_event(link: &mut Link, cx: &mut Context<'_>) -> Poll<io::Result<Event>> {
    if link.abort.poll(cx) {
        return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
    }
    if let Poll::Ready(Err(error)) = link.poll_flush(cx) {
        return Poll::Ready(Err(error));
    }
    link.poll_event(cx)
}

/// After a refusal both ends only have RELEASED to say (and the edge perhaps a RESET that crossed).
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
                Event::Released | Event::Reset => {}
                _ => return Poll::Ready(Err(io::ErrorKind::InvalidData.into())),
            }
        }
    });
    let until = deadline.min(Instant::now() + REFUSAL_TIMEOUT);
    let settled = timeout_at(until, settled).await;
    matches!(settled, Ok(Ok(()))).then_some(Channel { link })
}

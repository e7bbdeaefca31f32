//! Data channels: TLS connections of a session that carry one client connection after another. The
//! rules are `portcullis_proto::ChannelState`'s (see its `LIFECYCLE.md`); here they meet a socket.
//!
//! Must never: let a byte of one open reach another. Whatever is unclear drops the channel.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use crate::carrier::CarrierLeg;
use bytes::Bytes;
use leg::ChannelLeg;
use portcullis_model::{Code, Error};
pub use portcullis_proto::frame::OpenHeader;
use portcullis_proto::frame::{decode_open, encode_open};
use portcullis_proto::{Leg, Role};

use self::io::LinkIo;

mod abort;
pub(crate) mod io;
mod leg;
pub(crate) mod legs;
mod link;
mod moving;
mod opening;
mod plain;
pub(crate) mod resume;
mod splice;
mod stream;

use link::{Event, Link};

pub use abort::AbortHandle;
pub use io::LinkStream;
pub use opening::{AgentOpening, EdgeOpening, NotOpened, late};
pub use resume::Resumed;
pub use stream::{Settling, TunnelStream};

/// Where a connection's channel comes from when it moves, and goes to. The edge decides; at the agent only
/// [`Self::give_back`] is asked.
pub trait Exchange: Send + Sync {
    /// Edge: an idle channel for a connection that has much to move. When there is none it notes that one
    /// was wanted; `again` when it noted this connection a moment ago.
    fn take(&self, _again: bool) -> Option<Channel> {
        None
    }

    /// Edge: an open on a carrier that continues `from`; `None` when no carrier takes it.
    fn resume(&self, _from: Leg) -> Option<OnCarrier> {
        None
    }

    /// Edge: a connection goes on at a channel that [`Self::take`] gave, and can be reached there.
    fn began(&self, _at: Leg, _handle: AbortHandle) {}

    /// A connection has left one leg for another.
    fn moved(&self, _from: Leg, _to: Leg) {}

    /// A channel whose open is over, though its connection goes on elsewhere: finish it, and keep it.
    fn give_back(self: Arc<Self>, settling: Settling);
}

/// An open on a carrier that continues another leg.
#[derive(Debug)]
pub struct OnCarrier(pub(crate) CarrierLeg);

/// What the edge began on a channel.
#[derive(Debug)]
pub enum Begun {
    /// A client connection.
    Open(OpenHeader, Bytes, AgentOpening),
    /// One that goes on here.
    Resumed(Resumed),
}

/// A channel that is free for the next open.
#[derive(Debug)]
pub struct Channel {
    link: Box<Link>,
}

/// What becomes of a channel after a connection.
#[derive(Debug)]
pub enum Finished {
    /// It is free for the next.
    Reusable(Channel),
    /// A reset could not be flushed, or the peer did not notice it: tell it `abort` on the control
    /// connection. The channel is dropped.
    Abort {
        /// The channel's number in its session.
        channel: u64,
        /// The open that was reset.
        open: u32,
    },
    /// The channel is gone; nothing is to be told.
    Closed,
    /// The open was on a carrier, where nothing is to come back.
    Settled,
}

impl Channel {
    /// The edge's end, after the `channel` message was verified. `id` is the number in that message.
    pub fn edge(id: u64, stream: impl Into<LinkStream>) -> Self {
        Self {
            link: Link::new(id, LinkIo::new(stream.into()), Role::Edge),
        }
    }

    /// The agent's end, after the `channel` message was sent.
    pub fn agent(id: u64, stream: impl Into<LinkStream>) -> Self {
        Self {
            link: Link::new(id, LinkIo::new(stream.into()), Role::Agent),
        }
    }

    /// Keeps something for as long as the channel lives, whoever has it: its place under a limit.
    pub fn keep(&mut self, place: impl Send + Sync + 'static) {
        self.link.place = Some(Box::new(place));
    }

    /// The number of the channel in its session.
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The system's, when the connection is gone.
    pub fn peer_addr(&self) -> std::io::Result<SocketAddr> {
        self.link.peer_addr()
    }

    /// Edge: whether the peer is still there, as far as the socket knows now. Ask before
    /// [`Self::open`]: it costs no system call unless something arrived.
    pub fn is_alive(&mut self) -> bool {
        self.poll_dead(&mut Context::from_waker(Waker::noop()))
            .is_pending()
    }

    /// Edge: waits until an idle channel dies, for whoever keeps a pool.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn dead(&mut self) {
        poll_fn(|cx| self.poll_dead(cx)).await;
    }

    /// Nothing may come on an idle channel, so whatever comes is its end.
    fn poll_dead(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.link.poll_event(cx).map(|_| self.link.state.close())
    }

    /// Edge: begins the next open. The first bytes, at most 16 KiB, go with it.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the channel is dead and nothing of the open was sent.
    pub async fn open(
        mut self,
        header: &OpenHeader,
        first_bytes: &[u8],
    ) -> Result<EdgeOpening, Error> {
        let payload = encode_open(header, first_bytes)?;
        if !self.is_alive() {
            return Err(Error::of(Code::AgentLost));
        }
        let sent = poll_fn(|cx| {
            let put = self.link.put_open(cx, &payload, first_bytes.len());
            // What the socket does not take at once goes out while the verdict is awaited.
            Poll::Ready(put.map(|()| drop(self.link.poll_flush(cx))))
        });
        match sent.await {
            Ok(()) => Ok(EdgeOpening::on_channel(self.link)),
            Err(source) => Err(Error::of(Code::AgentLost).with_internal(source)),
        }
    }

    /// Edge: begins the next open as the continuation of another leg.
    pub(crate) fn resume(mut self, cx: &mut Context<'_>, from: Leg) -> std::io::Result<ChannelLeg> {
        if self.poll_dead(cx).is_ready() {
            return Err(std::io::ErrorKind::NotConnected.into());
        }
        self.link.put_resume(cx, from)?;
        let _later = self.link.poll_flush(cx)?; // with what is written next
        Ok(ChannelLeg::new(self.link))
    }

    /// Agent: waits for the next open, which must be a new one.
    ///
    /// # Errors
    /// As [`Self::begun`]; RESUME is a violation here.
    pub async fn accept(self) -> Result<(OpenHeader, Bytes, AgentOpening), Error> {
        match self.begun().await? {
            Begun::Open(header, first, opening) => Ok((header, first, opening)),
            Begun::Resumed(_) => Err(Error::new(
                Code::ProtocolViolation,
                "the server sent another frame than OPEN",
            )),
        }
    }

    /// Agent: waits for what begins next.
    ///
    /// # Errors
    /// The edge's word when it refused the channel; `PTC_PROTOCOL_VIOLATION`; `PTC_AGENT_LOST` when
    /// the edge closed the channel, which it may at any time.
    pub async fn begun(mut self) -> Result<Begun, Error> {
        let event = poll_fn(|cx| self.link.poll_event(cx)).await;
        match event {
            Ok(Event::Open(payload)) => {
                let (header, first_bytes) = decode_open(&payload)?;
                let first_bytes = Bytes::copy_from_slice(first_bytes);
                self.link.renew();
                self.link.state.note_first_bytes(first_bytes.len());
                Ok(Begun::Open(
                    header,
                    first_bytes,
                    AgentOpening::on_channel(self.link),
                ))
            }
            Ok(Event::Resume(from)) => {
                self.link.renew();
                Ok(Begun::Resumed(Resumed::on_channel(
                    from,
                    ChannelLeg::new(self.link),
                )))
            }
            Ok(_) => Err(Error::new(
                Code::ProtocolViolation,
                "the server sent another frame than OPEN or RESUME",
            )),
            Err(source) => Err(self.link.reason.take().unwrap_or_else(|| {
                let code = match source.kind() {
                    std::io::ErrorKind::InvalidData => Code::ProtocolViolation,
                    _ => Code::AgentLost,
                };
                Error::new(code, "the channel was closed").with_internal(source)
            })),
        }
    }
}

#[cfg(test)]
mod moving_tests;
#[cfg(test)]
mod splice_tests;
#[cfg(test)]
mod tests;

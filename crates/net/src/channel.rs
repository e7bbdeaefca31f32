//! Data channels: TLS connections of a session that carry one client connection after another. The
//! rules are `portcullis_proto::ChannelState`'s (see its `LIFECYCLE.md`); here they meet a socket.
//!
//! Must never: let a byte of one open reach another. Whatever is unclear drops the channel.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use portcullis_model::{Code, Error};
use portcullis_proto::Role;
pub use portcullis_proto::frame::OpenHeader;
use portcullis_proto::frame::{decode_open, encode_open};

use crate::tls;

mod abort;
mod link;
mod opening;
mod stream;

use link::{Event, Link};

pub use abort::AbortHandle;
pub use opening::{AgentOpening, EdgeOpening};
pub use stream::TunnelStream;

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
}

impl Channel {
    /// The edge's end, after the `channel` message was verified. `id` is the number in that message.
    pub fn edge(id: u64, stream: tls::Stream) -> Self {
        Self {
            link: Link::new(id, stream, Role::Edge),
        }
    }

    /// The agent's end, after the `channel` message was sent.
    pub fn agent(id: u64, stream: tls::Stream) -> Self {
        Self {
            link: Link::new(id, stream, Role::Agent),
        }
    }

    /// The number of the channel in its session.
    pub fn id(&self) -> u64 {
        self.link.id()
    }

    /// The peer's address.
    ///
    /// # Errors
    /// The system's, when the connection is gone.
    pub fn peer_addr(&self) -> io::Result<SocketAddr> {
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
            let put = self.link.put_open(cx, &payload);
            // What the socket does not take at once goes out while the verdict is awaited.
            Poll::Ready(put.map(|()| drop(self.link.poll_flush(cx))))
        });
        match sent.await {
            Ok(()) => Ok(EdgeOpening { link: self.link }),
            Err(source) => Err(Error::of(Code::AgentLost).with_internal(source)),
        }
    }

    /// Agent: waits for the next open.
    ///
    /// # Errors
    /// The edge's word when it refused the channel; `PTC_PROTOCOL_VIOLATION`; `PTC_AGENT_LOST` when
    /// the edge closed the channel, which it may at any time.
    pub async fn accept(mut self) -> Result<(OpenHeader, Bytes, AgentOpening), Error> {
        let event = poll_fn(|cx| self.link.poll_event(cx)).await;
        match event {
            Ok(Event::Open(payload)) => {
                let (header, first_bytes) = decode_open(&payload)?;
                let first_bytes = Bytes::copy_from_slice(first_bytes);
                self.link.renew();
                Ok((
                    header,
                    first_bytes,
                    AgentOpening {
                        link: self.link,
                        peer_reset: false,
                    },
                ))
            }
            Ok(_) => Err(Error::new(
                Code::ProtocolViolation,
                "the server sent another frame than OPEN",
            )),
            Err(source) => Err(self.link.reason.take().unwrap_or_else(|| {
                let code = match source.kind() {
                    io::ErrorKind::InvalidData => Code::ProtocolViolation,
                    _ => Code::AgentLost,
                };
                Error::new(code, "the channel was closed").with_internal(source)
            })),
        }
    }
}

#[cfg(test)]
mod tests;

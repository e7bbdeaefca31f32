//! Data channels: TLS connections of a session that carry one client connection after another. The
//! rules are `portcullis_proto::ChannelState`'s; here they meet a socket.
//!
//! Must never: let a byte of one open reach another. Whatever is unclear drops the channel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use portcullis_model::Error;
pub use portcullis_proto::frame::OpenHeader;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::Instant;

use crate::relay::RelayIo;
use crate::tls;

/// A channel that is free for the next open.
pub struct Channel(());

impl Channel {
    /// The edge's end, after the `channel` message was verified. `id` is the number in that message.
    pub fn edge(id: u64, stream: tls::Stream) -> Self {
        let _ = (id, stream);
        Self(())
    }

    /// The agent's end, after the `channel` message was sent.
    pub fn agent(id: u64, stream: tls::Stream) -> Self {
        let _ = (id, stream);
        Self(())
    }

    /// The number of the channel in its session.
    pub fn id(&self) -> u64 {
        0
    }

    /// Whether the peer is still there, as far as the socket knows now. Ask before [`Self::open`].
    pub fn is_alive(&mut self) -> bool {
        true
    }

    /// Waits until an idle channel dies, for whoever keeps a pool.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn dead(&mut self) {}

    /// Edge: begins the next open. The first bytes, at most 16 KiB, go with it.
    ///
    /// # Errors
    /// `PTC_AGENT_LOST` when the channel is dead: the agent has seen nothing of the open for sure
    /// only if nothing was sent, so [`EdgeOpening::verdict`] distinguishes further.
    pub async fn open(self, header: &OpenHeader, first_bytes: &[u8]) -> Result<EdgeOpening, Error> {
        let _ = (header, first_bytes);
        Err(Error::internal("channel"))
    }

    /// Agent: waits for the next open.
    ///
    /// # Errors
    /// The channel's end: the edge closed it (`PTC_AGENT_LOST`), refused it, or broke the protocol.
    pub async fn accept(self) -> Result<(OpenHeader, Bytes, AgentOpening), Error> {
        Err(Error::internal("channel"))
    }
}

/// Edge: an open that waits for its verdict. Dropping it drops the channel, which tells the agent.
pub struct EdgeOpening(());

impl EdgeOpening {
    /// Waits for the agent's verdict.
    ///
    /// # Errors
    /// The agent's refusal, with the channel if it is free again; `PTC_UPSTREAM_TIMEOUT` at the
    /// deadline and `PTC_AGENT_LOST_UNKNOWN` when the channel broke, both without a channel.
    pub async fn verdict(self, deadline: Instant) -> Result<TunnelStream, (Error, Option<Channel>)> {
        let _ = deadline;
        Err((Error::internal("channel"), None))
    }

    /// The client is gone: resets the open.
    pub async fn cancel(self) -> Finished {
        Finished::Closed
    }
}

/// Agent: an open that waits for our verdict. Dropping it drops the channel.
pub struct AgentOpening(());

impl AgentOpening {
    /// Waits until the edge gives the open up; race it with the dial.
    ///
    /// # Cancel safety
    /// Nothing is lost when the future is dropped.
    pub async fn gone(&mut self) {
        std::future::pending().await
    }

    /// The upstream accepted.
    ///
    /// # Errors
    /// The channel broke, or the edge gave the open up meanwhile and the channel is dropped.
    pub async fn opened(self) -> Result<TunnelStream, Error> {
        Err(Error::internal("channel"))
    }

    /// The upstream cannot be reached. The channel comes back if it is free again.
    pub async fn refuse(self, why: &Error) -> Option<Channel> {
        let _ = why;
        None
    }
}

/// What becomes of a channel after a connection.
pub enum Finished {
    /// It is free for the next.
    Reusable(Channel),
    /// A reset could not be flushed: tell the peer `abort` on the control connection. The channel is
    /// dropped.
    Abort {
        /// The channel's number in its session.
        channel: u64,
        /// The open that was reset.
        open: u32,
    },
    /// The channel is gone; nothing is to be told.
    Closed,
}

/// One client connection over a channel.
pub struct TunnelStream(());

impl TunnelStream {
    /// The number of the channel in its session.
    pub fn channel(&self) -> u64 {
        0
    }

    /// The number of the open on its channel.
    pub fn open(&self) -> u32 {
        0
    }

    /// Ends the stream from elsewhere, when the control connection brought `abort`.
    pub fn abort_handle(&self) -> AbortHandle {
        AbortHandle(())
    }

    /// After the relay: settles the open with the peer, which may take as long as the peer needs to
    /// write its last bytes (bounded), so run it in a task.
    pub async fn finish(self) -> Finished {
        Finished::Closed
    }
}

/// Ends a [`TunnelStream`] from elsewhere.
#[derive(Clone)]
pub struct AbortHandle(());

impl AbortHandle {
    /// The peer gave the open up: the stream fails like a reset, and its channel is dropped.
    pub fn abort(&self) {}
}

impl AsyncRead for TunnelStream {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl AsyncWrite for TunnelStream {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Pending
    }
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Pending
    }
}

impl RelayIo for TunnelStream {
    fn reset(&mut self) {}
    fn poll_broken(&mut self, _: &mut Context<'_>) -> Poll<io::Error> {
        Poll::Pending
    }
}

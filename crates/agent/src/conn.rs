//! One client's connection in the hand of a program.
//!
//! Must never: let a channel go before its bytes are told apart from the next client's: the stream
//! goes back to the channel's task when the program drops it.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::{Buf as _, Bytes};
use portcullis_model::EndpointId;
use portcullis_net::channel::{OpenHeader, TunnelStream};
use portcullis_net::relay::{Counters, RelayIo as _, Side};
use portcullis_net::tls::Handshake;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;

use crate::client::Client;
use crate::defaults;
use crate::record::End;

/// A connection of a [`crate::Listener`]: `AsyncRead` and `AsyncWrite`, each direction ends by itself.
///
/// `shutdown` ends the direction to the client and leaves the other open. Dropping it ends what is
/// still open: the client sees a clean end, unless it keeps sending for more than five seconds. A
/// panic resets it: a cut stream must not look complete.
pub struct Conn {
    /// There until the drop.
    stream: Option<Client>,
    back: Option<oneshot::Sender<Returned>>,
    header: OpenHeader,
    first: Bytes,
    tls: Option<Handshake>,
    counters: Arc<Counters>,
    read_to_end: bool,
    shut: bool,
}

/// A stream that the program gave back.
pub(crate) struct Returned {
    stream: Client,
    read_to_end: bool,
    shut: bool,
    panicked: bool,
}

impl Conn {
    pub(crate) fn new(
        stream: Client,
        header: OpenHeader,
        first: Bytes,
        counters: Arc<Counters>,
    ) -> (Self, oneshot::Receiver<Returned>) {
        let (back, returned) = oneshot::channel();
        let conn = Self {
            stream: Some(stream),
            back: Some(back),
            header,
            first,
            tls: None,
            counters,
            read_to_end: false,
            shut: false,
        };
        (conn, returned)
    }

    /// The client's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.header.client
    }

    /// The public address that the client connected to.
    pub fn server_addr(&self) -> SocketAddr {
        self.header.server
    }

    /// The endpoint it came through.
    pub fn endpoint_id(&self) -> &EndpointId {
        &self.header.endpoint_id
    }

    /// The connection's id in the server's log, metrics and events.
    pub fn connection_id(&self) -> String {
        self.header.connection_id.to_string()
    }

    /// What the client's TLS handshake brought, when the endpoint terminates it.
    pub fn tls(&self) -> Option<&Handshake> {
        self.tls.as_ref()
    }

    pub(crate) fn set_tls(&mut self, handshake: Option<Handshake>) {
        self.tls = handshake;
    }

    /// Resets the connection instead of ending it: the client sees that something went wrong.
    pub fn reset(mut self) {
        if let Some(stream) = &mut self.stream {
            stream.reset();
        }
        self.shut = true;
        self.read_to_end = true;
    }

    fn stream(&mut self) -> io::Result<Pin<&mut Client>> {
        self.stream
            .as_mut()
            .map(Pin::new)
            .ok_or_else(|| io::ErrorKind::NotConnected.into())
    }
}

impl std::fmt::Debug for Conn {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Conn")
            .field("peer", &self.header.client)
            .finish_non_exhaustive()
    }
}

impl Drop for Conn {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        if let (Some(stream), Some(back)) = (self.stream.take(), self.back.take()) {
            let returned = Returned {
                stream,
                read_to_end: self.read_to_end,
                shut: self.shut,
                panicked,
            };
            // Nobody takes it when the session has ended; the stream is dropped with its channel.
            back.send(returned).ok();
        }
    }
}

impl Returned {
    /// Ends what the program left open: says END, then throws away what the client still sends until
    /// its end. A client that does not come to its end is reset.
    pub(crate) async fn settle(mut self) -> (TunnelStream, End) {
        if self.panicked {
            self.stream.reset();
            return (self.stream.into_stream(false).await, End::Aborted);
        }
        let settled = async {
            if !self.shut {
                self.stream.shutdown().await?;
            }
            let mut sink = [0_u8; 4096];
            while !self.read_to_end && self.stream.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        match tokio::time::timeout(defaults::LINGER, settled).await {
            Ok(Ok(())) => (self.stream.into_stream(true).await, End::Returned),
            Ok(Err(_)) | Err(_) => {
                self.stream.reset();
                (self.stream.into_stream(false).await, End::Cut)
            }
        }
    }
}

impl AsyncRead for Conn {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.has_remaining() {
            let taken = self.first.len().min(buf.remaining());
            buf.put_slice(&self.first.split_to(taken));
            self.counters.add(Side::Client, taken as u64);
            return Poll::Ready(Ok(()));
        }
        let before = buf.filled().len();
        let space = buf.remaining();
        let read = self.stream()?.poll_read(cx, buf);
        if read.is_pending() {
            // What TLS still holds goes out while the program waits for an answer to it.
            if let Poll::Ready(Err(error)) = self.stream()?.poll_flush(cx) {
                return Poll::Ready(Err(error));
            }
        }
        if let Poll::Ready(Ok(())) = &read {
            let taken = buf.filled().len() - before;
            self.counters.add(Side::Client, taken as u64);
            self.read_to_end |= taken == 0 && space > 0;
        }
        read
    }
}

impl AsyncWrite for Conn {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = self.stream()?.poll_write(cx, bytes);
        if let Poll::Ready(Ok(count)) = &written {
            self.counters.add(Side::Upstream, *count as u64);
        }
        written
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.stream()?.poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = self.stream()?.poll_shutdown(cx);
        self.shut |= matches!(&shut, Poll::Ready(Ok(())));
        shut
    }
}

//! A client's connection behind its handshake, as the relay sees it.
//!
//! Must never: hide a cut TLS stream as an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf};
use tokio::time::{Instant, timeout_at};
use tokio_rustls::server::TlsStream;

use crate::defaults::{RELAY_READS_PER_TURN, TLS_DISCARD_BYTES};
use crate::relay::RelayIo;
use crate::tls::wire::Wire;

/// A client's connection whose TLS is terminated here: bytes in the clear.
///
/// The client's `close_notify` ends its direction and leaves ours open, as a half-close does; ours goes out with
/// the shutdown. A connection that ends without one fails with `UnexpectedEof`.
pub struct TlsServer<IO: RelayIo> {
    inner: Box<TlsStream<Wire<Held<IO>>>>,
    /// The client's `close_notify` has been read.
    has_ended: bool,
    /// So has the end of what is under TLS.
    is_through: bool,
}

impl<IO: RelayIo> TlsServer<IO> {
    pub(super) fn new(stream: TlsStream<Wire<Held<IO>>>) -> Self {
        Self {
            inner: Box::new(stream),
            has_ended: false,
            is_through: false,
        }
    }

    /// What is under TLS.
    pub fn get_ref(&self) -> &IO {
        self.inner.get_ref().0.conn().io()
    }

    /// What is under TLS. Reading or writing there breaks TLS.
    pub fn get_mut(&mut self) -> &mut IO {
        self.wire().conn_mut().io_mut()
    }

    /// What is under TLS, with whatever TLS holds of it lost.
    pub fn into_inner(self) -> IO {
        self.inner.into_inner().0.into_conn().into_io()
    }

    /// What is under TLS, read to its end if that comes by the deadline: a client that has said `close_notify`
    /// closes the connection itself when it has seen ours. Only for after a relay that finished.
    pub async fn into_ended(mut self, deadline: Instant) -> IO {
        if self.has_ended && !self.is_through {
            let wire = self.wire();
            let mut waste = [0; TLS_DISCARD_BYTES];
            // Neither the deadline nor an error matters: what is under TLS knows whether it has ended.
            let end = async { while matches!(wire.read(&mut waste).await, Ok(1..)) {} };
            drop(timeout_at(deadline, end).await);
        }
        self.into_inner()
    }

    fn wire(&mut self) -> &mut Wire<Held<IO>> {
        self.inner.get_mut().0
    }

    /// Behind `close_notify` nothing means anything any more; but someone has to see the end come.
    fn poll_through(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        let mut waste = [0; TLS_DISCARD_BYTES];
        for _ in 0..RELAY_READS_PER_TURN {
            let mut buf = ReadBuf::new(&mut waste);
            match ready!(Pin::new(self.wire()).poll_read(cx, &mut buf)) {
                Err(error) => return Poll::Ready(error),
                Ok(()) if buf.filled().is_empty() => {
                    self.is_through = true;
                    return self.wire().poll_broken(cx);
                }
                Ok(()) => {}
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<IO: RelayIo> std::fmt::Debug for TlsServer<IO> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsServer")
            .field("has_ended", &self.has_ended)
            .finish_non_exhaustive()
    }
}

impl<IO: RelayIo> AsyncRead for TlsServer<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        if buf.filled().len() == before && buf.remaining() > 0 {
            self.has_ended = true;
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: RelayIo> AsyncWrite for TlsServer<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<IO: RelayIo> RelayIo for TlsServer<IO> {
    fn reset(&mut self) {
        self.wire().reset();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self.has_ended && !self.is_through {
            true => self.poll_through(cx),
            false => self.wire().poll_broken(cx),
        }
    }

    fn settle(&mut self) {
        self.wire().settle();
    }
}

/// Where a connection goes whose handshake is dropped.
pub(super) type Slot<IO> = Arc<Mutex<Option<IO>>>;

/// A connection during its handshake: whatever becomes of that, the connection comes back.
pub(super) struct Held<IO> {
    io: Option<IO>,
    slot: Option<Slot<IO>>,
}

impl<IO> Held<IO> {
    pub(super) fn new(io: IO, slot: Slot<IO>) -> Self {
        Self {
            io: Some(io),
            slot: Some(slot),
        }
    }

    /// The handshake is done: the connection stays.
    pub(super) fn keep(&mut self) {
        self.slot = None;
    }

    fn io(&self) -> &IO {
        match &self.io {
            Some(io) => io,
            None => unreachable!("it is taken by who owns all of this"),
        }
    }

    fn io_mut(&mut self) -> &mut IO {
        match &mut self.io {
            Some(io) => io,
            None => unreachable!("it is taken by who owns all of this"),
        }
    }

    fn into_io(mut self) -> IO {
        match self.io.take() {
            Some(io) => io,
            None => unreachable!("it is taken by who owns all of this"),
        }
    }
}

impl<IO> Drop for Held<IO> {
    fn drop(&mut self) {
        if let Some(slot) = &self.slot {
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = self.io.take();
        }
    }
}

impl<IO: RelayIo> AsyncRead for Held<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(self.io_mut()).poll_read(cx, buf)
    }
}

impl<IO: RelayIo> AsyncWrite for Held<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io_mut()).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(self.io_mut()).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io().is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io_mut()).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(self.io_mut()).poll_shutdown(cx)
    }
}

impl<IO: RelayIo> RelayIo for Held<IO> {
    fn reset(&mut self) {
        self.io_mut().reset();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io_mut().poll_broken(cx)
    }

    fn settle(&mut self) {
        self.io_mut().settle();
    }

    fn reads_two(&self) -> bool {
        self.io().reads_two()
    }

    fn poll_read_two(
        &mut self,
        cx: &mut Context<'_>,
        first: &mut [u8],
        second: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.io_mut().poll_read_two(cx, first, second)
    }
}

//! A connection to an upstream, whatever it runs over.
//!
//! Must never: hide a cut TLS stream as an end.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_rustls::client::TlsStream;

use crate::relay::{Plain, RelayIo};
use crate::socket::{TcpConn, UnixConn};
use crate::tls::Wire;

/// A connection to an upstream.
#[derive(Debug)]
pub struct UpstreamStream {
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Tcp(TcpConn),
    Tls(Box<TlsStream<Wire>>),
    Unix(UnixConn),
}

impl UpstreamStream {
    pub(super) fn tcp(conn: TcpConn) -> Self {
        Self {
            inner: Inner::Tcp(conn),
        }
    }

    pub(super) fn tls(stream: TlsStream<Wire>) -> Self {
        Self {
            inner: Inner::Tls(Box::new(stream)),
        }
    }

    pub(super) fn unix(conn: UnixConn) -> Self {
        Self {
            inner: Inner::Unix(conn),
        }
    }

    /// The TCP connection, when there is nothing else in between.
    pub fn as_tcp(&self) -> Option<&TcpConn> {
        match &self.inner {
            Inner::Tcp(conn) => Some(conn),
            Inner::Tls(_) | Inner::Unix(_) => None,
        }
    }
}

/// Runs the same on whatever is inside.
macro_rules! each {
    ($self:ident, $io:ident => $call:expr) => {
        match &mut $self.get_mut().inner {
            Inner::Tcp($io) => $call,
            Inner::Tls($io) => $call,
            Inner::Unix($io) => $call,
        }
    };
}

impl AsyncRead for UpstreamStream {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_read(cx, buf))
    }
}

impl AsyncWrite for UpstreamStream {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write(cx, buf))
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        each!(self, io => Pin::new(io).poll_write_vectored(cx, bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_flush(cx))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, io => Pin::new(io).poll_shutdown(cx))
    }
}

impl RelayIo for UpstreamStream {
    fn reset(&mut self) {
        match &mut self.inner {
            Inner::Tcp(conn) => conn.reset(),
            Inner::Tls(stream) => stream.get_mut().0.reset(),
            Inner::Unix(conn) => conn.reset(),
        }
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match &mut self.inner {
            Inner::Tcp(conn) => conn.poll_broken(cx),
            Inner::Tls(stream) => stream.get_mut().0.poll_broken(cx),
            Inner::Unix(conn) => conn.poll_broken(cx),
        }
    }

    fn drop_ends(&self) -> bool {
        match &self.inner {
            Inner::Tcp(conn) => conn.drop_ends(),
            Inner::Unix(conn) => conn.drop_ends(),
            Inner::Tls(_) => false,
        }
    }

    fn settle(&mut self) {
        match &mut self.inner {
            Inner::Tcp(conn) => conn.settle(),
            Inner::Tls(stream) => stream.get_mut().0.settle(),
            Inner::Unix(conn) => conn.settle(),
        }
    }

    fn plain(&mut self) -> Option<&mut dyn Plain> {
        match &mut self.inner {
            Inner::Tcp(conn) => conn.plain(),
            Inner::Unix(conn) => conn.plain(),
            Inner::Tls(_) => None,
        }
    }
}

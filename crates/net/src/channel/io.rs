//! What a link's frames pass through: the connection under a carrier or a channel.
//!
//! Must never: know a frame.

use std::io::{self, IoSlice};
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use super::plain::PlainIo;
use tokio::io::{AsyncBufRead as _, AsyncRead as _, AsyncWrite as _, ReadBuf};
use tokio_rustls::TlsStream;

use crate::relay::RelayIo as _;
use crate::socket::TcpConn;
use crate::tls;

/// A connection between edge and agent, after its first message.
#[derive(Debug)]
pub enum LinkStream {
    /// TLS 1.3.
    Tls(Box<tls::Stream>),
    /// Without TLS, for a network that both ends trust.
    Plain(TcpConn),
}

impl From<tls::Stream> for LinkStream {
    fn from(stream: tls::Stream) -> Self {
        Self::Tls(Box::new(stream))
    }
}

impl From<TcpConn> for LinkStream {
    fn from(stream: TcpConn) -> Self {
        Self::Plain(stream)
    }
}

/// A connection between edge and agent that takes what is written whole.
#[derive(Debug)]
pub(crate) enum LinkIo {
    /// TLS 1.3.
    Tls(Box<tls::Stream>),
    /// Without TLS.
    Plain(Box<PlainIo>),
}

impl LinkIo {
    /// Over either kind.
    pub(crate) fn new(stream: LinkStream) -> Self {
        match stream {
            LinkStream::Tls(stream) => Self::tls(*stream),
            LinkStream::Plain(stream) => Self::Plain(Box::new(PlainIo::new(stream))),
        }
    }

    /// Over TLS, after its handshake and the first message.
    pub(crate) fn tls(mut stream: tls::Stream) -> Self {
        // Who writes waits for the flush of what was written before (see `put`), so rustls's own limit
        // would only cut frames in two.
        match &mut stream {
            TlsStream::Client(client) => client.get_mut().1.set_buffer_limit(None),
            TlsStream::Server(server) => server.get_mut().1.set_buffer_limit(None),
        }
        Self::Tls(Box::new(stream))
    }

    fn conn(&self) -> &TcpConn {
        match self {
            Self::Tls(stream) => stream.get_ref().0.conn(),
            Self::Plain(stream) => stream.conn(),
        }
    }

    /// The peer's address.
    pub(crate) fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.conn().peer_addr()
    }

    /// The socket, for its options.
    pub(crate) fn socket(&self) -> &tokio::net::TcpStream {
        self.conn().socket()
    }

    /// Takes all of it, whatever the socket takes now; [`Self::poll_flush`] sends the rest. Whoever puts
    /// without flushing in between decides how much memory that is.
    pub(crate) fn put(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let stream = match self {
            Self::Tls(stream) => stream,
            Self::Plain(stream) => return stream.put(cx, parts),
        };
        let whole: usize = parts.iter().map(|part| part.len()).sum();
        match Pin::new(stream.as_mut()).poll_write_vectored(cx, parts) {
            Poll::Ready(Ok(taken)) if taken == whole => Ok(()),
            Poll::Ready(Err(error)) => Err(error),
            // TLS takes all or nothing without a limit of its buffer; anything else has cut a frame.
            Poll::Ready(Ok(_)) | Poll::Pending => Err(io::ErrorKind::WriteZero.into()),
        }
    }

    /// Waits until everything that was put has gone to the socket.
    pub(crate) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_flush(cx),
            Self::Plain(stream) => stream.poll_flush(cx),
        }
    }

    /// Says that nothing more will be written.
    pub(crate) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self {
            Self::Tls(stream) => Pin::new(stream.as_mut()).poll_shutdown(cx),
            Self::Plain(stream) => stream.poll_shutdown(cx),
        }
    }

    /// One read; the end of the connection is an error, because no frame ends there.
    pub(crate) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let read = match self {
            Self::Tls(stream) => {
                let mut buf = ReadBuf::new(space);
                ready!(Pin::new(stream.as_mut()).poll_read(cx, &mut buf))?;
                buf.filled().len()
            }
            Self::Plain(stream) => ready!(stream.poll_read(cx, space))?,
        };
        match read {
            0 => Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
            read => Poll::Ready(Ok(read)),
        }
    }

    /// Bytes that have arrived, at least one, without taking them; the end of the connection is an error.
    pub(crate) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        let there = match self {
            Self::Tls(stream) => ready!(Pin::new(stream.as_mut()).poll_fill_buf(cx))?,
            Self::Plain(stream) => ready!(stream.poll_fill(cx))?,
        };
        if there.is_empty() {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        Poll::Ready(Ok(there))
    }

    /// Takes bytes that [`Self::poll_fill`] showed.
    pub(crate) fn consume(&mut self, count: usize) {
        match self {
            Self::Tls(stream) => Pin::new(stream.as_mut()).consume(count),
            Self::Plain(stream) => stream.consume(count),
        }
    }

    /// Ready when the connection died, whether or not anyone reads.
    pub(crate) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        match self {
            Self::Tls(stream) => stream.get_mut().0.poll_broken(cx),
            Self::Plain(stream) => stream.poll_broken(cx),
        }
    }

    /// Makes the drop a reset.
    pub(crate) fn reset(&mut self) {
        match self {
            Self::Tls(stream) => stream.get_mut().0.reset(),
            Self::Plain(stream) => stream.reset(),
        }
    }
}

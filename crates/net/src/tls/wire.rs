//! What lies under TLS: a TCP connection that reads ahead. rustls asks for 4 KiB at a time, which is
//! five system calls per full record; here one call brings a burst.
//!
//! Must never: hold memory while no burst is being read.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::defaults::TLS_READ_AHEAD_BYTES;
use crate::relay::RelayIo;
use crate::socket::TcpConn;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A connection, mostly TCP, with bytes read ahead.
#[derive(Debug)]
pub struct Wire<IO = TcpConn> {
    io: IO,
    /// Bytes `from..to` are still to be taken. `None` between bursts.
    ahead: Option<Box<[u8]>>,
    from: usize,
    to: usize,
    /// The last read filled what was asked for: more is likely there.
    bulk: bool,
}

impl<IO: RelayIo> Wire<IO> {
    /// Over a connection.
    pub fn new(io: IO) -> Self {
        Self::with_ahead(io, Vec::new())
    }

    /// Over a connection some of whose bytes were read already.
    pub(crate) fn with_ahead(io: IO, ahead: Vec<u8>) -> Self {
        let to = ahead.len();
        Self {
            io,
            ahead: (to > 0).then(|| ahead.into_boxed_slice()),
            from: 0,
            to,
            bulk: false,
        }
    }

    /// The connection.
    pub fn conn(&self) -> &IO {
        &self.io
    }

    /// The connection, to be changed.
    pub(crate) fn conn_mut(&mut self) -> &mut IO {
        &mut self.io
    }

    /// The connection; bytes that were read ahead are lost.
    pub(crate) fn into_conn(self) -> IO {
        self.io
    }

    fn take_ahead(&mut self, buf: &mut ReadBuf<'_>) {
        if let Some(ahead) = &self.ahead {
            let bytes = &ahead[self.from..self.to];
            let taken = bytes.len().min(buf.remaining());
            buf.put_slice(&bytes[..taken]);
            self.from += taken;
        }
        if self.from == self.to {
            self.give_back();
        }
    }

    fn give_back(&mut self) {
        (self.from, self.to) = (0, 0);
        // What the connection came with has another size.
        if let Some(ahead) = self.ahead.take()
            && ahead.len() == TLS_READ_AHEAD_BYTES
        {
            SPARE.set(Some(ahead));
        }
    }

    /// One call for what was asked for and a burst behind it.
    fn read_burst(&mut self, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ahead = self
            .ahead
            .take()
            .or_else(|| SPARE.take())
            .unwrap_or_else(|| vec![0; TLS_READ_AHEAD_BYTES].into_boxed_slice());
        let space = buf.initialize_unfilled();
        let asked = space.len();
        let read = self.io.poll_read_two(cx, space, &mut ahead);
        self.ahead = Some(ahead);
        let Poll::Ready(Ok(read)) = read else {
            self.bulk = false;
            self.give_back();
            return read.map_ok(drop);
        };
        buf.advance(read.min(asked));
        (self.from, self.to) = (0, read.saturating_sub(asked));
        self.bulk = read >= asked;
        if self.to == 0 {
            self.give_back();
        }
        Poll::Ready(Ok(()))
    }
}

impl<IO: RelayIo> AsyncRead for Wire<IO> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.from < self.to {
            self.take_ahead(buf);
            return Poll::Ready(Ok(()));
        }
        if self.bulk && self.io.reads_two() {
            return self.read_burst(cx, buf);
        }
        let space = buf.initialize_unfilled();
        let asked = space.len();
        if asked == 0 {
            return Poll::Ready(Ok(()));
        }
        let read = ready!(self.io.poll_read_two(cx, space, &mut []))?;
        buf.advance(read);
        self.bulk = read == asked;
        Poll::Ready(Ok(()))
    }
}

impl<IO: RelayIo> AsyncWrite for Wire<IO> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.io).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}

impl<IO: RelayIo> RelayIo for Wire<IO> {
    fn reset(&mut self) {
        self.io.reset();
    }

    fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_broken(cx)
    }

    fn settle(&mut self) {
        self.io.settle();
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;
    use crate::testing::{pattern, soon, tcp_pair};

    /// Asks for 4 KiB at a time, as rustls does.
    #[tokio::test]
    async fn bursts_come_whole_and_leave_no_memory() {
        let (near, mut far) = tcp_pair().await;
        let sent = pattern(900_000, 5);
        let expected = sent.clone();
        let writer = crate::task::spawn("writer", async move {
            far.write_all(&sent).await.unwrap();
            far
        });
        let mut wire = Wire::new(TcpConn::new(near));
        let (mut got, mut chunk) = (Vec::new(), [0; 4096]);
        while got.len() < expected.len() {
            let read = soon("bytes", wire.read(&mut chunk)).await.unwrap();
            got.extend_from_slice(&chunk[..read]);
        }
        assert!(got == expected);
        let mut far = writer.await.unwrap();
        far.write_all(b"end").await.unwrap();
        assert_eq!(soon("end", wire.read(&mut chunk)).await.unwrap(), 3);
        assert!(wire.ahead.is_none());
    }
}

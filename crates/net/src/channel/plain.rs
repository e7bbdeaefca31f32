//! A link without TLS, for networks that are trusted: the same frames on the bare connection. It reads
//! ahead of the frames, so that a header and what follows come with one system call; not while payloads are
//! spliced, which must find them in the socket.
//!
//! Must never: hold memory while nothing waits.

use std::cell::Cell;
use std::io::{self, IoSlice};
use std::os::fd::BorrowedFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::AsyncWrite as _;

use crate::defaults::PLAIN_READ_AHEAD_BYTES;
use crate::relay::{Plain as _, RelayIo as _};
use crate::socket::TcpConn;

thread_local! {
    static SPARE: Cell<Option<Box<[u8]>>> = const { Cell::new(None) };
}

/// A plain connection between edge and agent.
#[derive(Debug)]
pub(crate) struct PlainIo {
    io: TcpConn,
    /// Bytes `from..to` are still to be taken. `None` when there are none.
    ahead: Option<Box<[u8]>>,
    from: usize,
    to: usize,
    /// Reads take what they are asked for: the rest is for a splice.
    exact: bool,
    /// What was put and the socket has not taken; bytes before `gone` are sent.
    out: Vec<u8>,
    gone: usize,
}

impl PlainIo {
    pub(super) fn new(io: TcpConn) -> Self {
        Self {
            io,
            ahead: None,
            from: 0,
            to: 0,
            exact: false,
            out: Vec::new(),
            gone: 0,
        }
    }

    pub(super) fn conn(&self) -> &TcpConn {
        &self.io
    }

    /// Takes all of it: what the socket doesn't take now waits for [`Self::poll_flush`].
    pub(super) fn put(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> io::Result<()> {
        let mut sent = 0;
        if self.out.is_empty()
            && let Poll::Ready(taken) = Pin::new(&mut self.io).poll_write_vectored(cx, parts)
        {
            sent = taken?;
        }
        for part in parts {
            let skipped = sent.min(part.len());
            self.out.extend_from_slice(&part[skipped..]);
            sent -= skipped;
        }
        Ok(())
    }

    pub(super) fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.gone < self.out.len() {
            let rest = &self.out[self.gone..];
            let taken = ready!(Pin::new(&mut self.io).poll_write(cx, rest))?;
            if taken == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gone += taken;
        }
        if self.gone > 0 {
            // An idle link keeps no buffer.
            (self.out, self.gone) = (Vec::new(), 0);
        }
        Poll::Ready(Ok(()))
    }

    pub(super) fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        Pin::new(&mut self.io).poll_shutdown(cx)
    }

    /// 0 at the end.
    pub(super) fn poll_read(
        &mut self,
        cx: &mut Context<'_>,
        space: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        if self.from < self.to {
            let there = self.there();
            let taken = there.len().min(space.len());
            space[..taken].copy_from_slice(&there[..taken]);
            self.consume(taken);
            return Poll::Ready(Ok(taken));
        }
        if self.exact {
            let read = self.io.poll_read_plain(cx, space);
            self.exact = read.is_ready(); // what comes next is bulk no more, until a splice asks again
            return read;
        }
        let mut ahead = spare();
        let read = match self.io.read_two(cx, space, &mut ahead) {
            Poll::Ready(Ok(read)) => read,
            other => {
                SPARE.set(Some(ahead));
                return other;
            }
        };
        (self.from, self.to) = (0, read.saturating_sub(space.len()));
        self.keep(ahead);
        Poll::Ready(Ok(read.min(space.len())))
    }

    /// What has arrived; nothing at the end.
    pub(super) fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<&[u8]>> {
        if self.from == self.to {
            let mut ahead = spare();
            let read = match self.io.poll_read_plain(cx, &mut ahead) {
                Poll::Ready(Ok(read)) => read,
                other => {
                    SPARE.set(Some(ahead));
                    return other.map_ok(|_| &[][..]);
                }
            };
            (self.from, self.to) = (0, read);
            self.keep(ahead);
        }
        Poll::Ready(Ok(self.there()))
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.from = (self.from + count).min(self.to);
        if self.from == self.to
            && let Some(ahead) = self.ahead.take()
        {
            SPARE.set(Some(ahead));
        }
    }

    /// From here on reads leave what follows to a splice, until they find nothing.
    pub(super) fn read_exactly(&mut self) {
        self.exact = true;
    }

    /// Whether bytes were read that nobody has taken: those cannot be spliced.
    pub(super) fn is_ahead(&self) -> bool {
        self.from < self.to
    }

    /// Waits until there may be bytes; `ask`: the socket itself.
    pub(super) fn poll_waiting(&mut self, cx: &mut Context<'_>, ask: bool) -> Poll<io::Result<()>> {
        match ask {
            true => self.io.poll_waiting(cx),
            false => self.io.poll_readable(cx),
        }
    }

    pub(super) fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        self.io.splice_in(cx, pipe, most)
    }

    /// Waits until everything that was put has gone, and the socket may take more.
    pub(super) fn poll_writable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_flush(cx))?;
        self.io.socket().poll_write_ready(cx)
    }

    /// Takes a frame's header, which what follows goes along with. Nothing that was put is left before it.
    pub(super) fn put_header(&mut self, cx: &mut Context<'_>, header: &[u8]) -> io::Result<()> {
        let sent = match self.io.poll_write_more(cx, header) {
            Poll::Ready(sent) => sent?,
            Poll::Pending => 0,
        };
        self.out.extend_from_slice(&header[sent..]);
        Ok(())
    }

    /// Behind everything that was put.
    pub(super) fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        ready!(self.poll_flush(cx))?;
        self.io.poll_splice_out(cx, pipe, most)
    }

    pub(super) fn poll_broken(&mut self, cx: &mut Context<'_>) -> Poll<io::Error> {
        self.io.poll_broken(cx)
    }

    pub(super) fn reset(&mut self) {
        self.io.reset();
    }

    fn there(&self) -> &[u8] {
        let ahead = self.ahead.as_deref().unwrap_or_default();
        &ahead[self.from..self.to]
    }

    fn keep(&mut self, ahead: Box<[u8]>) {
        if self.from < self.to {
            self.ahead = Some(ahead);
        } else {
            SPARE.set(Some(ahead));
        }
    }
}

fn spare() -> Box<[u8]> {
    SPARE
        .take()
        .unwrap_or_else(|| vec![0; PLAIN_READ_AHEAD_BYTES].into_boxed_slice())
}

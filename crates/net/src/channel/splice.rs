//! Bulk on a channel without TLS is spliced: the header of a data frame is written or read, its payload never
//! passes through the process.
//!
//! Must never: say anything else on the channel before a frame that was begun is whole.

use std::io;
use std::os::fd::BorrowedFd;
use std::task::{Context, Poll, Waker, ready};

use portcullis_proto::{FrameType, Header};

use super::io::LinkIo;
use super::leg::ChannelLeg;
use super::legs::Leg;
use super::link::{Link, Reading, violation};
use super::plain::PlainIo;
use super::stream::TunnelStream;
use crate::defaults::CHANNEL_DATA_BYTES_MAX;
use crate::relay::{Plain, is_impossible};

impl TunnelStream {
    /// The channel that bytes can be spliced from and to: not while they go on elsewhere.
    pub(super) fn plain_leg(&mut self) -> Option<&mut ChannelLeg> {
        match &mut self.leg {
            Leg::Channel(leg) if self.moving.is_none() && leg.is_plain() => Some(leg),
            _ => None,
        }
    }

    fn poll_spliceable(&mut self, cx: &mut Context<'_>, ask: bool) -> Poll<io::Result<()>> {
        self.turn(cx)?;
        let ready = match self.plain_leg() {
            Some(leg) => leg.poll_spliceable(cx, ask),
            None => Poll::Ready(Ok(())), // a read tells
        };
        if ready.is_pending() {
            self.leg.hear_again(cx);
        }
        ready
    }
}

impl Plain for TunnelStream {
    fn poll_readable(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_spliceable(cx, false)
    }

    fn poll_waiting(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_spliceable(cx, true)
    }

    fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        self.plain_leg()
            .map_or(Ok(0), |leg| leg.splice_in(cx, pipe, most))
    }

    fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        self.turn(cx)?;
        let moved = match self.plain_leg() {
            Some(leg) => leg.poll_splice_out(cx, pipe, most),
            None => Poll::Ready(Err(io::ErrorKind::Unsupported.into())),
        };
        if moved.is_pending() {
            self.leg.hear_again(cx);
        }
        moved
    }
}

impl Link {
    fn plain(&mut self) -> io::Result<&mut PlainIo> {
        match &mut self.io {
            LinkIo::Plain(io) => Ok(io),
            LinkIo::Tls(_) => Err(io::ErrorKind::Unsupported.into()),
        }
    }

    pub(super) fn is_plain(&self) -> bool {
        matches!(self.io, LinkIo::Plain(_))
    }

    /// Whether a frame was begun and is not whole yet.
    pub(super) fn is_mid_frame(&self) -> bool {
        self.owed > 0
    }

    /// From here on nothing is read ahead of the frames.
    pub(super) fn read_exactly(&mut self) {
        if let LinkIo::Plain(io) = &mut self.io {
            io.read_exactly();
        }
    }

    /// Data that is to be delivered, as far as it has not been read.
    fn data_left(&self) -> usize {
        match self.reading {
            Reading::Data(left) if !self.state.is_discarding() => left,
            _ => 0,
        }
    }

    /// Within the data of a frame: waits until there may be more of it; `ask`: the socket itself.
    pub(super) fn poll_data(
        &mut self,
        cx: &mut Context<'_>,
        ask: bool,
    ) -> Option<Poll<io::Result<()>>> {
        if self.data_left() == 0 {
            return None;
        }
        let io = match self.plain() {
            Ok(io) if !io.is_ahead() => io,
            _ => return Some(Poll::Ready(Ok(()))), // a read has it
        };
        Some(match io.poll_waiting(cx, ask) {
            Poll::Ready(Err(error)) => Poll::Ready(Err(self.fail(error))),
            other => other,
        })
    }

    /// Moves data of the frame that is being read to a pipe, without waiting for it.
    pub(super) fn splice_in(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> io::Result<usize> {
        let left = self.data_left();
        let io = self.plain()?;
        if left == 0 || io.is_ahead() {
            return Ok(0);
        }
        let moved = match io.splice_in(cx, pipe, left.min(most)) {
            Err(error) if !is_impossible(&error) => return Err(self.fail(error)),
            moved => moved?,
        };
        self.took_data(moved);
        Ok(moved)
    }

    /// Moves bytes from a pipe, which has so many, as a frame or the rest of one.
    pub(super) fn poll_splice_out(
        &mut self,
        cx: &mut Context<'_>,
        pipe: BorrowedFd<'_>,
        most: usize,
    ) -> Poll<io::Result<usize>> {
        if !self.is_mid_frame() {
            let length = most.min(CHANNEL_DATA_BYTES_MAX);
            ready!(self.poll_begin_data(cx, length))?;
        }
        let most = most.min(self.owed);
        let moved = match ready!(self.plain()?.poll_splice_out(cx, pipe, most)) {
            Err(error) if !is_impossible(&error) => return Poll::Ready(Err(self.fail(error))),
            moved => moved?,
        };
        self.owed -= moved.min(self.owed);
        Poll::Ready(Ok(moved))
    }

    /// Writes the header of a data frame, whose bytes follow.
    fn poll_begin_data(&mut self, cx: &mut Context<'_>, length: usize) -> Poll<io::Result<()>> {
        let header = Header::new(FrameType::Data, self.open(), length).map_err(violation)?;
        if let Err(error) = ready!(self.plain()?.poll_writable(cx)) {
            return Poll::Ready(Err(self.fail(error)));
        }
        self.state.on_send(&header).map_err(violation)?;
        self.owed = length;
        match self.plain()?.put_header(cx, &header.encode()) {
            Ok(()) => Poll::Ready(Ok(())),
            Err(error) => Poll::Ready(Err(self.fail(error))),
        }
    }

    /// Makes a frame whole whose bytes nobody takes any more. Does nothing outside of one.
    pub(super) fn fill_frame(&mut self) -> io::Result<()> {
        if !self.is_mid_frame() {
            return Ok(());
        }
        let nothing = vec![0; self.owed];
        let mut cx = Context::from_waker(Waker::noop());
        self.put_rest(&mut cx, &nothing).map(drop)
    }

    /// Goes on with a frame that a splice began: how many of the bytes belong to it.
    pub(super) fn put_rest(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> io::Result<usize> {
        let rest = &bytes[..bytes.len().min(self.owed)];
        match self.io.put(cx, &[io::IoSlice::new(rest)]) {
            Ok(()) => {
                self.owed -= rest.len();
                Ok(rest.len())
            }
            Err(error) => Err(self.fail(error)),
        }
    }
}

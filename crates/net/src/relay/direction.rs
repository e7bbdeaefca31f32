//! One direction of a relay: read, write, and pass the end on.
//!
//! Must never: read while bytes of an earlier read wait to be written.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::{Counters, RelayIo, Side, scratch};
use crate::defaults::RELAY_READS_PER_TURN;

/// A side that failed.
#[derive(Debug)]
pub(super) struct Broken {
    pub(super) side: Side,
    pub(super) source: io::Error,
}

/// How far a direction is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Copying,
    /// The reader has ended; the writer's half is being flushed and shut.
    Closing,
    Done,
}

/// The bytes of one side on their way to the other.
pub(super) struct Direction {
    from: Side,
    phase: Phase,
    /// What the last write did not take, from `sent` on. Given back when the reader runs dry.
    left: Vec<u8>,
    sent: usize,
    unflushed: bool,
    moved: bool,
}

/// What a read brought.
enum Step {
    Moved,
    Clogged,
    Dry,
    End,
}

impl Direction {
    pub(super) fn new(from: Side) -> Self {
        Self {
            from,
            phase: Phase::Copying,
            left: Vec::new(),
            sent: 0,
            unflushed: false,
            moved: false,
        }
    }

    pub(super) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// Whether the reader has come to its end.
    pub(super) fn has_ended(&self) -> bool {
        self.phase != Phase::Copying
    }

    /// Whether bytes moved since the last time that someone asked.
    pub(super) fn take_moved(&mut self) -> bool {
        std::mem::take(&mut self.moved)
    }

    /// Moves what can be moved now.
    pub(super) fn advance<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<(), Broken> {
        if self.phase == Phase::Copying {
            self.copy(cx, reader, writer, counters)?;
        }
        if self.phase == Phase::Closing {
            match Pin::new(&mut *writer).poll_shutdown(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.phase = Phase::Done,
                Poll::Ready(Err(source)) => return Err(self.writer_broke(source)),
            }
        }
        Ok(())
    }

    /// A write to the reader's side found it broken: passes on what it had said before, as far as the
    /// writer takes it at once. Never its end: the error was told to the write, so a read would say a
    /// clean one.
    pub(super) fn last_words<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) {
        if self.phase != Phase::Copying || !self.left.is_empty() {
            return;
        }
        for _ in 0..RELAY_READS_PER_TURN {
            let step = scratch::with(|buffer| self.step(cx, reader, writer, counters, buffer));
            if !matches!(step, Ok(Step::Moved)) {
                return; // what broke first is told, whatever this found
            }
        }
    }

    /// Nobody reads a side while the other is clogged, or behind its end: asks it otherwise.
    pub(super) fn watch<R: RelayIo>(
        &self,
        cx: &mut Context<'_>,
        reader: &mut R,
    ) -> Result<(), Broken> {
        if self.phase == Phase::Copying && self.left.is_empty() {
            return Ok(());
        }
        match reader.poll_broken(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(source) => Err(Broken {
                side: self.from,
                source,
            }),
        }
    }

    fn copy<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<(), Broken> {
        if !self.left.is_empty() && !self.write_left(cx, writer, counters)? {
            return Ok(());
        }
        for _ in 0..RELAY_READS_PER_TURN {
            match scratch::with(|buffer| self.step(cx, reader, writer, counters, buffer))? {
                Step::Moved => {}
                Step::Clogged => return Ok(()),
                Step::Dry => return self.flush(cx, writer),
                Step::End => {
                    self.left = Vec::new();
                    self.phase = Phase::Closing;
                    return Ok(());
                }
            }
        }
        // Both ends are fast: let others have the thread.
        cx.waker().wake_by_ref();
        Ok(())
    }

    /// One read and its writes.
    fn step<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
        buffer: &mut [u8],
    ) -> Result<Step, Broken> {
        let mut space = ReadBuf::new(buffer);
        match Pin::new(reader).poll_read(cx, &mut space) {
            Poll::Pending => return Ok(Step::Dry),
            Poll::Ready(Ok(())) => {}
            Poll::Ready(Err(source)) => {
                return Err(Broken {
                    side: self.from,
                    source,
                });
            }
        }
        let bytes = space.filled();
        if bytes.is_empty() {
            return Ok(Step::End);
        }
        self.moved = true;
        let sent = self.write(cx, writer, counters, bytes)?;
        if sent == bytes.len() {
            return Ok(Step::Moved);
        }
        self.left.clear();
        self.left.reserve_exact(bytes.len() - sent);
        self.left.extend_from_slice(&bytes[sent..]);
        self.sent = 0;
        Ok(Step::Clogged)
    }

    /// Writes what an earlier write left; whether it is all gone.
    fn write_left<W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<bool, Broken> {
        let left = std::mem::take(&mut self.left);
        let sent = self.write(cx, writer, counters, &left[self.sent..]);
        self.left = left;
        self.sent += sent?;
        let gone = self.sent == self.left.len();
        if gone {
            self.left.clear(); // keeps its memory: who clogs once, clogs again
        }
        Ok(gone)
    }

    /// Writes until all is taken or the writer is clogged; how much it took.
    fn write<W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        counters: &Counters,
        bytes: &[u8],
    ) -> Result<usize, Broken> {
        let mut sent = 0;
        while sent < bytes.len() {
            match Pin::new(&mut *writer).poll_write(cx, &bytes[sent..]) {
                Poll::Pending => break,
                Poll::Ready(Ok(0)) => {
                    return Err(self.writer_broke(io::ErrorKind::WriteZero.into()));
                }
                Poll::Ready(Ok(taken)) => sent += taken,
                Poll::Ready(Err(source)) => return Err(self.writer_broke(source)),
            }
        }
        if sent > 0 {
            self.moved = true;
            self.unflushed = true;
            counters.add(self.from, u64::try_from(sent).unwrap_or(u64::MAX));
        }
        Ok(sent)
    }

    /// The reader ran dry: what was written must go out, and memory goes back.
    fn flush<W: RelayIo>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Result<(), Broken> {
        if self.left.capacity() > 0 {
            self.left = Vec::new();
        }
        if self.unflushed {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(source)) => return Err(self.writer_broke(source)),
            }
        }
        Ok(())
    }

    fn writer_broke(&self, source: io::Error) -> Broken {
        Broken {
            side: self.from.other(),
            source,
        }
    }
}

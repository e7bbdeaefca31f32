//! One direction of a relay: read, write, and pass the end on.
//!
//! Must never: read while bytes of an earlier read wait to be written.

use std::future::Future as _;
use std::io;
use std::pin::{Pin, pin};
use std::task::{Context, Poll};

use tokio::io::ReadBuf;

use super::splice::{Drained, Filled, Splice};
use super::{Counters, RelayIo, Side, scratch};
use crate::defaults::{RELAY_BYTES_PER_TURN, RELAY_READS_PER_TURN};

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
    /// What the last write did not take. Given back when the reader runs dry: an idle one has none.
    left: Option<Box<Left>>,
    splice: Splice,
    unflushed: bool,
    moved: bool,
}

/// Bytes that a write did not take, from `sent` on.
#[derive(Default)]
struct Left {
    bytes: Vec<u8>,
    sent: usize,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.sent == self.bytes.len()
    }

    /// In the memory that it has: who clogs once, clogs again.
    fn set(&mut self, bytes: &[u8]) {
        self.bytes.clear();
        self.bytes.reserve_exact(bytes.len());
        self.bytes.extend_from_slice(bytes);
        self.sent = 0;
    }
}

/// What a read brought.
enum Step {
    Moved(usize),
    Clogged,
    Dry,
    End,
}

impl Direction {
    pub(super) fn new(from: Side) -> Self {
        Self {
            from,
            phase: Phase::Copying,
            left: None,
            splice: Splice::new(),
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

    /// Moves what can be moved now. `is_last`: the other direction is done, so that both sides go when this
    /// one is.
    pub(super) fn advance<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
        is_last: bool,
    ) -> Result<(), Broken> {
        if self.phase == Phase::Copying {
            self.copy(cx, reader, writer, counters)?;
        }
        if self.phase == Phase::Closing && is_last && writer.drop_ends() {
            self.phase = Phase::Done;
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
        if self.phase != Phase::Copying || self.is_clogged() {
            return;
        }
        for _ in 0..RELAY_READS_PER_TURN {
            let step = self.copy_step(cx, reader, writer, counters);
            if !matches!(step, Ok(Step::Moved(_))) {
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
        if self.phase == Phase::Copying && !self.is_clogged() {
            return Ok(());
        }
        match reader.poll_broken(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(source) => Err(self.reader_broke(source)),
        }
    }

    /// Whether bytes wait for the writer.
    fn is_clogged(&self) -> bool {
        self.left.as_ref().is_some_and(|left| !left.is_empty()) || self.splice.holds_bytes()
    }

    fn copy<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<(), Broken> {
        if !self.drain(cx, writer, counters)? || !self.write_left(cx, writer, counters)? {
            return Ok(());
        }
        let mut budget = RELAY_BYTES_PER_TURN;
        for _ in 0..RELAY_READS_PER_TURN {
            let step = match self.splice.is_on() {
                true => self.splice_step(cx, reader, writer, counters)?,
                false => self.copy_step(cx, reader, writer, counters)?,
            };
            match step {
                Step::Moved(bytes) if bytes < budget => budget -= bytes,
                Step::Moved(_) => break,
                Step::Clogged => return Ok(()),
                Step::Dry => return self.flush(cx, writer),
                Step::End => {
                    self.left = None;
                    self.splice.release();
                    self.phase = Phase::Closing;
                    return Ok(());
                }
            }
        }
        // Both ends are fast: let others have the thread. A plain wake of oneself would fetch another
        // thread to go on with this; the runtime's own way asks the sockets first and stays here.
        match pin!(tokio::task::yield_now()).poll(cx) {
            Poll::Pending => {}
            Poll::Ready(()) => cx.waker().wake_by_ref(),
        }
        Ok(())
    }

    /// One splice from the reader and its splices to the writer; a read where splicing brings nothing.
    fn splice_step<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<Step, Broken> {
        let bytes = match self.splice.poll_fill(cx, reader) {
            Poll::Pending => return Ok(Step::Dry),
            Poll::Ready(Ok(Filled::Bytes(bytes))) => bytes,
            Poll::Ready(Ok(Filled::Read)) => return self.copy_step(cx, reader, writer, counters),
            Poll::Ready(Err(source)) => return Err(self.reader_broke(source)),
        };
        self.moved = true;
        self.splice.note(bytes, reader, writer);
        match self.drain(cx, writer, counters)? && self.write_left(cx, writer, counters)? {
            true => Ok(Step::Moved(bytes)),
            false => Ok(Step::Clogged),
        }
    }

    /// Writes what is in the pipe; whether it is all gone from there.
    fn drain<W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<bool, Broken> {
        let mut sent = 0;
        let drained = self.splice.drain(cx, writer, |bytes| sent += bytes);
        counters.add_spliced(sent);
        self.took(counters, sent);
        match drained.map_err(|source| self.writer_broke(source))? {
            Drained::Empty => Ok(true),
            Drained::Clogged => Ok(false),
            Drained::Copy(bytes) => {
                self.left = Some(Box::new(Left { bytes, sent: 0 }));
                Ok(true)
            }
        }
    }

    /// One read into the thread's buffer and its writes.
    fn copy_step<R: RelayIo, W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<Step, Broken> {
        let step = scratch::with(|buffer| self.step(cx, reader, writer, counters, buffer))?;
        if let Step::Moved(bytes) = step {
            self.splice.note(bytes, reader, writer);
        }
        Ok(step)
    }

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
            Poll::Ready(Err(source)) => return Err(self.reader_broke(source)),
        }
        let bytes = space.filled();
        if bytes.is_empty() {
            return Ok(Step::End);
        }
        self.moved = true;
        let sent = self.write(cx, writer, counters, bytes)?;
        if sent == bytes.len() {
            return Ok(Step::Moved(sent));
        }
        self.left.get_or_insert_default().set(&bytes[sent..]);
        Ok(Step::Clogged)
    }

    /// Writes what an earlier write left; whether it is all gone.
    fn write_left<W: RelayIo>(
        &mut self,
        cx: &mut Context<'_>,
        writer: &mut W,
        counters: &Counters,
    ) -> Result<bool, Broken> {
        let Some(mut left) = self.left.take_if(|left| !left.is_empty()) else {
            return Ok(true);
        };
        let sent = self.write(cx, writer, counters, &left.bytes[left.sent..]);
        left.sent += sent.as_ref().copied().unwrap_or(0);
        let gone = left.is_empty();
        self.left = Some(left);
        sent.map(|_| gone)
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
        self.took(counters, sent);
        Ok(sent)
    }

    /// Notes what the writer took.
    fn took(&mut self, counters: &Counters, bytes: usize) {
        if bytes > 0 {
            self.moved = true;
            self.unflushed = true;
            counters.add(self.from, u64::try_from(bytes).unwrap_or(u64::MAX));
        }
    }

    /// The reader ran dry: what was written must go out, and memory goes back.
    fn flush<W: RelayIo>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Result<(), Broken> {
        self.left = None;
        self.splice.release();
        if self.unflushed {
            match Pin::new(writer).poll_flush(cx) {
                Poll::Pending => {}
                Poll::Ready(Ok(())) => self.unflushed = false,
                Poll::Ready(Err(source)) => return Err(self.writer_broke(source)),
            }
        }
        Ok(())
    }

    fn reader_broke(&self, source: io::Error) -> Broken {
        Broken {
            side: self.from,
            source,
        }
    }

    fn writer_broke(&self, source: io::Error) -> Broken {
        Broken {
            side: self.from.other(),
            source,
        }
    }
}

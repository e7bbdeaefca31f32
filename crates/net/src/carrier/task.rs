//! The task of a carrier's end: reads frames and hands them to their opens, writes what the opens have
//! queued, as much as possible with one call.
//!
//! Must never: wait for one open; everything that arrives has its place, because credit bounds it.

use std::future::poll_fn;
use std::io::{self, IoSlice};
use std::sync::Arc;
use std::task::{Context, Poll};

use portcullis_model::Error;

use super::Shared;
use super::demux::Demux;
use super::outbox::trim;
use super::table::Life;
use crate::channel::Begun;
use crate::channel::io::LinkIo;
use crate::defaults::{CARRIER_FILLS_PER_TURN, CARRIER_NOTSENT_BYTES, CARRIER_TURNS};

/// Drives one end of a carrier. Dropping it ends the carrier and everything on it.
pub struct CarrierTask {
    shared: Arc<Shared>,
    io: LinkIo,
    demux: Demux,
    /// Taken from the outbox; empty but while it is written.
    batch: Vec<u8>,
    /// Nothing of ours waits for the socket.
    flushed: bool,
    /// Others that were ready had their chance to add to the batch.
    yielded: bool,
    /// The last word is being said.
    closing: bool,
}

impl CarrierTask {
    pub(super) fn new(shared: Arc<Shared>, io: LinkIo) -> Self {
        // Bytes that wait in the kernel stand in front of every other open's.
        if let Err(error) =
            socket2::SockRef::from(io.socket()).set_tcp_notsent_lowat(CARRIER_NOTSENT_BYTES)
        {
            tracing::debug!(%error, "a carrier's socket is dead already");
        }
        Self {
            demux: Demux::new(Arc::clone(&shared)),
            shared,
            io,
            batch: Vec::new(),
            flushed: true,
            yielded: false,
            closing: false,
        }
    }

    /// Runs until the carrier ends; `accept` is handed whatever begins (the agent's end), and may not
    /// block.
    ///
    /// # Errors
    /// How the carrier broke, with the edge's word when it refused the carrier. Everything on it is lost.
    ///
    /// # Cancel safety
    /// Dropping the future ends the carrier.
    pub async fn run(mut self, mut accept: impl FnMut(Begun) + Send) -> Result<(), Error> {
        match poll_fn(|cx| self.poll(cx, &mut accept)).await {
            Ok(()) => Ok(()),
            Err(source) => Err(self.demux.why(source)),
        }
    }

    fn poll(
        &mut self,
        cx: &mut Context<'_>,
        accept: &mut impl FnMut(Begun),
    ) -> Poll<io::Result<()>> {
        self.shared.outbox.listen(cx);
        if self.closing {
            return self.io.poll_shutdown(cx);
        }
        let life = self.shared.table.life();
        if life == Life::Killed {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        self.read(cx, accept)?;
        self.write(cx)?;
        let over = life == Life::Retiring && self.shared.table.live() == 0;
        if over && self.flushed && self.shared.outbox.is_empty() {
            self.closing = true;
            return self.io.poll_shutdown(cx);
        }
        Poll::Pending
    }

    /// Everything that has arrived goes to its open.
    fn read(&mut self, cx: &mut Context<'_>, accept: &mut impl FnMut(Begun)) -> io::Result<()> {
        for _ in 0..CARRIER_FILLS_PER_TURN {
            let Poll::Ready(chunk) = self.io.poll_fill(cx)? else {
                return Ok(());
            };
            let length = chunk.len();
            self.demux.feed(chunk, accept)?;
            self.io.consume(length);
        }
        // A peer that is fast must not keep the others of this thread waiting.
        self.shared.outbox.again(cx.waker());
        Ok(())
    }

    /// What is queued goes out in batches. The first to queue something wakes this task; the others that
    /// are ready on this thread come first, so that theirs goes along.
    fn write(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !self.flushed {
            self.flushed = self.io.poll_flush(cx)?.is_ready();
        }
        if !self.flushed {
            return Ok(());
        }
        if self.shared.outbox.is_empty() {
            self.admit(cx);
            return Ok(());
        }
        if self.shared.table.live() > 1 && !std::mem::replace(&mut self.yielded, true) {
            self.shared.outbox.again(cx.waker());
            return Ok(());
        }
        self.yielded = false;
        self.shared.outbox.take(&mut self.batch);
        self.io.put(cx, &[IoSlice::new(&self.batch)])?;
        trim(&mut self.batch);
        self.flushed = self.io.poll_flush(cx)?.is_ready();
        if self.flushed {
            self.admit(cx);
        }
        Ok(())
    }

    /// There is room: those who wait for it are let in, first come first served, a few at a time.
    fn admit(&mut self, cx: &Context<'_>) {
        let mut turns = 0;
        while turns < CARRIER_TURNS {
            let Some(slot) = self.shared.outbox.next_waiting() else {
                return;
            };
            turns += usize::from(slot.give_turn());
        }
        // They may all be gone by the time they are woken: the rest must not wait for them.
        self.shared.outbox.again(cx.waker());
    }
}

impl Drop for CarrierTask {
    fn drop(&mut self) {
        self.shared.outbox.close();
        let left = self.shared.table.close();
        if !left.is_empty() {
            self.io.reset(); // a carrier that is cut must not look cleanly ended
        }
        for slot in left {
            slot.lose();
        }
    }
}

impl std::fmt::Debug for CarrierTask {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CarrierTask")
            .field("carrier", &self.shared.id)
            .finish_non_exhaustive()
    }
}

//! What the opens of a carrier have to say, on its way to the carrier's task: one buffer, so that many
//! small frames become one TLS record and one write. Bytes of DATA wait in line for room; everything
//! else is small, bounded by the number of opens, and always passes.
//!
//! Must never: be locked while a slot's lock is waited for.

use std::collections::VecDeque;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};

use futures_util::task::AtomicWaker;
use portcullis_proto::{FrameType, Header};

use super::slot::Slot;
use super::violation;
use crate::defaults::{CARRIER_OUT_BYTES_MAX, CARRIER_SPARE_BYTES};

/// The queue of one end of a carrier.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    queue: Mutex<Queue>,
    task: AtomicWaker,
}

#[derive(Debug, Default)]
struct Queue {
    /// Whole frames.
    frames: Vec<u8>,
    /// Opens that have bytes and no room, first come first served.
    waiting: VecDeque<Arc<Slot>>,
    /// The task has been woken and has not looked yet.
    woken: bool,
    /// Nobody will take what is put.
    closed: bool,
}

impl Outbox {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues a frame that needs no turn. Wakes nobody: [`Self::kick`].
    pub(super) fn put(&self, kind: FrameType, number: u32, payload: &[u8]) -> io::Result<()> {
        let header = Header::new(kind, number, payload.len()).map_err(violation)?;
        let mut queue = self.lock();
        if !queue.closed {
            queue.frames.extend_from_slice(&header.encode());
            queue.frames.extend_from_slice(payload);
        }
        Ok(())
    }

    /// Queues bytes of an open, if there is room, and nobody stands in front. Wakes the task; whether they
    /// were taken. An open that has a turn is let in in any case.
    pub(super) fn put_data(&self, number: u32, payload: &[u8], turn: bool) -> io::Result<bool> {
        let header = Header::new(FrameType::Data, number, payload.len()).map_err(violation)?;
        let mut queue = self.lock();
        let room = queue.frames.len() < CARRIER_OUT_BYTES_MAX && queue.waiting.is_empty();
        if !room && !turn {
            return Ok(false);
        }
        queue.frames.reserve(header.encode().len() + payload.len());
        queue.frames.extend_from_slice(&header.encode());
        queue.frames.extend_from_slice(payload);
        let wake = !std::mem::replace(&mut queue.woken, true);
        drop(queue);
        if wake {
            self.task.wake();
        }
        Ok(true)
    }

    /// Puts an open in the line for room.
    pub(super) fn wait(&self, slot: &Arc<Slot>) {
        let mut queue = self.lock();
        queue.waiting.push_back(Arc::clone(slot));
        let wake = !std::mem::replace(&mut queue.woken, true);
        drop(queue);
        if wake {
            self.task.wake();
        }
    }

    /// Wakes the task, unless it has been already.
    pub(super) fn kick(&self) {
        let wake = !std::mem::replace(&mut self.lock().woken, true);
        if wake {
            self.task.wake();
        }
    }

    /// The task: is to be woken by the next [`Self::kick`]. Call it before looking at anything.
    pub(super) fn listen(&self, cx: &Context<'_>) {
        self.task.register(cx.waker());
        self.lock().woken = false;
    }

    /// The task: wakes itself, behind everybody who is ready now.
    pub(super) fn again(&self, waker: &Waker) {
        self.lock().woken = true;
        waker.wake_by_ref();
    }

    /// The task: whether anything is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.lock().frames.is_empty()
    }

    /// The task: takes what is queued in exchange for an empty buffer.
    pub(super) fn take(&self, spare: &mut Vec<u8>) {
        spare.clear();
        std::mem::swap(&mut self.lock().frames, spare);
    }

    /// The task: who is next in line, as long as there is room.
    pub(super) fn next_waiting(&self) -> Option<Arc<Slot>> {
        let mut queue = self.lock();
        if queue.frames.len() >= CARRIER_OUT_BYTES_MAX {
            return None;
        }
        queue.waiting.pop_front()
    }

    /// The task: takes nothing more. Opens that wait find out by their own lock.
    pub(super) fn close(&self) {
        let mut queue = self.lock();
        queue.closed = true;
        queue.frames = Vec::new();
        queue.waiting = VecDeque::new();
    }
}

/// Gives a buffer's memory back when a burst has made it large.
pub(super) fn trim(buffer: &mut Vec<u8>) {
    if buffer.capacity() > CARRIER_SPARE_BYTES {
        *buffer = Vec::new();
    }
}

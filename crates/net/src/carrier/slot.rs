//! One open of a carrier: what has arrived for it and was not read yet, what may be sent, and who
//! waits. The connection's task and the carrier's task meet here.
//!
//! Must never: hold more than the credit that was given, or memory while nothing waits to be read.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Waker};
use std::time::Duration;

use portcullis_model::{Code, Error};
use portcullis_proto::carrier::Window;
use portcullis_proto::frame::decode_reason;
use portcullis_proto::{FrameType, Header, Incoming, Leg, OpenState};

use super::flow::Flow;
use super::outbox::Outbox;
use super::{NOTHING, lost, violation};
use crate::channel::legs::Heard;
use crate::channel::resume::{NotTaken, Resumed};
use crate::defaults::{CARRIER_INBOX_SPARE_BYTES, CREDIT_LOOK_BYTES};

/// One open.
#[derive(Debug)]
pub(crate) struct Slot {
    number: u32,
    /// Something happened that concerns a move.
    called: AtomicBool,
    inner: Mutex<Inner>,
}

/// What is known of an open.
#[derive(Debug)]
pub(super) struct Inner {
    pub(super) state: OpenState,
    /// Bytes that arrived; those before `taken` were read.
    inbox: Vec<u8>,
    taken: usize,
    /// Bytes that were read and that the window was not told of.
    consumed: u32,
    window: Window,
    /// END arrived.
    pub(super) peer_ended: bool,
    /// RESET arrived.
    pub(super) peer_reset: bool,
    /// REFUSED arrived.
    pub(super) refused: bool,
    /// END was sent.
    pub(super) end_sent: bool,
    /// The carrier is gone.
    pub(super) lost: bool,
    /// Somebody ends the open from elsewhere.
    aborted: bool,
    /// The connection's task is done with it; RELEASED goes out as soon as it may.
    pub(super) orphan: bool,
    /// What the peer's SWITCH leads to; and whether nobody was told yet.
    switched: Option<Leg>,
    fresh_switch: bool,
    /// Edge: the agent has much to send.
    wish: bool,
    /// Agent: a leg that continues this one.
    resumed: Option<Box<Resumed>>,
    /// Nothing comes that continues it.
    closed: bool,
    /// It stands in the line for room.
    pub(super) queued: bool,
    /// It has stood in line, and may write one frame.
    pub(super) turn: bool,
    /// Why the peer reset or refused it, if it said so.
    pub(super) reason: Option<Box<Error>>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

/// What is left to do of a frame of DATA.
pub(super) enum Taken {
    /// So many bytes belong to it, and go to the slot.
    Deliver(usize),
    /// So many bytes are waste.
    Discard(usize),
}

/// What a frame without bytes changed.
pub(super) struct Changed {
    /// Both sides have released the open.
    pub(super) free: bool,
}

impl Slot {
    pub(super) fn new(number: u32, state: OpenState, now: Duration) -> Self {
        let inner = Inner {
            state,
            inbox: Vec::new(),
            taken: 0,
            consumed: 0,
            window: Window::new(now),
            peer_ended: false,
            peer_reset: false,
            refused: false,
            end_sent: false,
            lost: false,
            aborted: false,
            orphan: false,
            switched: None,
            fresh_switch: false,
            wish: false,
            resumed: None,
            closed: false,
            queued: false,
            turn: false,
            reason: None,
            reader: None,
            writer: None,
        };
        Self {
            number,
            called: AtomicBool::new(false),
            inner: Mutex::new(inner),
        }
    }

    pub(crate) fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The carrier's task: a DATA frame begins, and so much of its payload is there.
    pub(super) fn on_data(&self, header: &Header, there: &[u8]) -> io::Result<Taken> {
        let length = usize::from(header.length);
        let mut inner = self.lock();
        let incoming = inner
            .state
            .on_recv(FrameType::Data, length)
            .map_err(|error| violation(error.at(self.number)))?;
        if incoming != Incoming::Deliver {
            return Ok(Taken::Discard(length));
        }
        let now = &there[..there.len().min(length)];
        inner.inbox.reserve(length);
        inner.inbox.extend_from_slice(now);
        let waker = inner.reader.take();
        drop(inner);
        wake(waker);
        Ok(Taken::Deliver(length - now.len()))
    }

    /// The carrier's task: more of the payload. What this side has cut meanwhile is waste.
    pub(super) fn deliver(&self, bytes: &[u8]) {
        let mut inner = self.lock();
        if inner.state.is_discarding() {
            return;
        }
        inner.inbox.extend_from_slice(bytes);
        let waker = inner.reader.take();
        drop(inner);
        wake(waker);
    }

    /// The carrier's task: any other frame of an open that lives.
    pub(super) fn on_control(
        &self,
        header: &Header,
        payload: &[u8],
        outbox: &Outbox,
    ) -> io::Result<Changed> {
        let mut inner = self.lock();
        let at = |error: portcullis_proto::Violation| violation(error.at(self.number));
        let incoming = inner
            .state
            .on_recv(header.kind, payload.len())
            .map_err(at)?;
        let (mut read, mut write) = (true, false);
        match incoming {
            Incoming::Opened | Incoming::Released => {}
            Incoming::Refused => {
                inner.refused = true;
                let reason = decode_reason(FrameType::Refused, payload).map_err(violation)?;
                inner.reason = reason.map(Box::new);
            }
            Incoming::End => inner.peer_ended = true,
            Incoming::Reset => {
                inner.peer_reset = true;
                let reason = decode_reason(FrameType::Reset, payload).map_err(violation)?;
                inner.reason = reason.map(Box::new);
                write = true;
            }
            Incoming::Credit => {
                inner.state.on_credit(payload).map_err(at)?;
                (read, write) = (false, true);
            }
            Incoming::Discard => read = false,
            Incoming::Switch => {
                inner.switched = Some(inner.state.on_switch(payload).map_err(at)?);
                inner.fresh_switch = true;
                self.called.store(true, Ordering::Release);
                write = true;
            }
            Incoming::Move => {
                inner.wish = true;
                self.called.store(true, Ordering::Release);
            }
            Incoming::Deliver | Incoming::Open | Incoming::Resume => {
                return Err(io::ErrorKind::InvalidData.into());
            }
        }
        if inner.orphan && inner.state.may_release() {
            let released = FrameType::Released;
            inner.state.on_send(released, 0).map_err(at)?;
            outbox.put(released, self.number, NOTHING)?;
            outbox.kick();
        }
        let free = inner.state.is_free();
        let reader = inner.reader.take_if(|_| read);
        let writer = inner.writer.take_if(|_| write);
        drop(inner);
        wake(reader);
        wake(writer);
        Ok(Changed { free })
    }

    /// The carrier's task: it is this open's turn to write. Whether anybody was there to take it.
    pub(super) fn give_turn(&self) -> bool {
        let mut inner = self.lock();
        inner.queued = false;
        inner.turn = inner.writer.is_some();
        let waker = inner.writer.take();
        let there = waker.is_some();
        drop(inner);
        wake(waker);
        there
    }

    /// Something happened that concerns a move; [`Self::hear`] takes note of it.
    pub(crate) fn is_called(&self) -> bool {
        self.called.load(Ordering::Acquire)
    }

    /// What is known of moves here, taken once.
    pub(crate) fn hear(&self) -> Heard {
        let mut inner = self.lock();
        self.called.store(false, Ordering::Release);
        let fresh = std::mem::take(&mut inner.fresh_switch);
        Heard {
            switched: inner.switched.filter(|_| fresh),
            resumed: inner.resumed.take(),
            wish: std::mem::take(&mut inner.wish),
        }
    }

    /// Waits for [`Self::is_called`], and for the end of the open.
    pub(crate) fn await_call(&self, cx: &Context<'_>) {
        let mut inner = self.lock();
        if self.is_called() || inner.failure().is_some() {
            cx.waker().wake_by_ref();
        }
        inner.await_read(cx);
    }

    /// Has whoever waits look again.
    pub(crate) fn wake(&self) {
        let mut inner = self.lock();
        let wakers = (inner.reader.take(), inner.writer.take());
        drop(inner);
        wake(wakers.0);
        wake(wakers.1);
    }

    /// Whether everything up to the peer's SWITCH was read.
    pub(crate) fn is_through(&self) -> bool {
        let inner = self.lock();
        inner.switched.is_some() && inner.is_drained()
    }

    /// Agent: a leg that continues this one has come.
    pub(crate) fn resume(&self, resumed: Box<Resumed>) -> Result<(), NotTaken> {
        let mut inner = self.lock();
        if inner.closed || inner.resumed.is_some() {
            return Err((resumed, inner.state));
        }
        inner.resumed = Some(resumed);
        self.called.store(true, Ordering::Release);
        drop(inner);
        self.wake();
        Ok(())
    }

    /// Nothing that comes from now on is taken; what has come and was not, is returned.
    pub(crate) fn close(&self) -> Option<Box<Resumed>> {
        let mut inner = self.lock();
        inner.closed = true;
        inner.resumed.take()
    }

    /// The carrier is gone: whoever waits finds out.
    pub(super) fn lose(&self) {
        self.fail(|inner| inner.lost = true);
    }

    /// Ends the open from elsewhere, like a reset.
    pub(crate) fn abort(&self) {
        self.fail(|inner| inner.aborted = true);
    }

    fn fail(&self, note: impl FnOnce(&mut Inner)) {
        let mut inner = self.lock();
        note(&mut inner);
        drop(inner);
        self.wake();
    }
}

impl Inner {
    /// Takes what has arrived, as much as there is room for; `None` when there is nothing.
    pub(super) fn take(&mut self, space: &mut tokio::io::ReadBuf<'_>) -> Option<usize> {
        let there = &self.inbox[self.taken..];
        if there.is_empty() {
            return None;
        }
        let taken = there.len().min(space.remaining());
        space.put_slice(&there[..taken]);
        self.taken += taken;
        if self.taken == self.inbox.len() {
            self.inbox.clear();
            self.taken = 0;
            if self.inbox.capacity() > CARRIER_INBOX_SPARE_BYTES {
                self.inbox = Vec::new();
            }
        }
        self.consumed += u32::try_from(taken).unwrap_or(0);
        Some(taken)
    }

    /// Whether everything that arrived was read.
    pub(super) fn is_drained(&self) -> bool {
        self.taken == self.inbox.len()
    }

    /// Credit that is due: half a window was read. It counts as given.
    pub(super) fn due(&mut self, flow: &Flow) -> Option<u32> {
        // The clock is not worth a look for every small message.
        if self.consumed < CREDIT_LOOK_BYTES || self.state.peer_ended() {
            return None;
        }
        let consumed = std::mem::take(&mut self.consumed);
        let (now, round_trip) = (flow.now(), flow.round_trip());
        let bytes = self
            .window
            .consume(now, consumed, round_trip, &flow.budget)?;
        self.state.grant(bytes).ok()?;
        Some(bytes)
    }

    /// Throws away what has arrived, and gives back what the window had beyond its first size: nobody will
    /// read it.
    pub(super) fn forget(&mut self, flow: &Flow) {
        self.inbox = Vec::new();
        self.taken = 0;
        self.window.close(&flow.budget);
    }

    /// Whether the peer's SWITCH arrived; what is in front of it may not have been read.
    pub(super) fn is_switched(&self) -> bool {
        self.switched.is_some()
    }

    /// How the open has failed, if it has: the peer's reset, or the carrier's end.
    pub(super) fn failure(&self) -> Option<io::Error> {
        if self.peer_reset || self.aborted {
            Some(io::ErrorKind::ConnectionReset.into())
        } else if self.lost {
            Some(lost())
        } else {
            None
        }
    }

    /// Why the agent refused.
    pub(super) fn refusal(&mut self) -> Error {
        match self.reason.take() {
            Some(reason) => *reason,
            None => Error::of(Code::UpstreamUnreachable),
        }
    }

    pub(super) fn await_read(&mut self, cx: &Context<'_>) {
        park(&mut self.reader, cx);
    }

    pub(super) fn await_write(&mut self, cx: &Context<'_>) {
        park(&mut self.writer, cx);
    }
}

fn park(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(waker) => waker.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}

fn wake(waker: Option<Waker>) {
    if let Some(waker) = waker {
        waker.wake();
    }
}
